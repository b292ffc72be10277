//! Batches from process to process, as far as the core has a hand in it.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use numpy::npyffi::npy_intp;
use numpy::{PyArrayDescr, PyArrayDescrMethods};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::guarded;
use super::wrap::{self, Block};
use crate::arena::census::Census;
use crate::arena::message::{Place, Sending};
use crate::arena::owner::Owner;
use crate::arena::table::{Arena as Table, Id};
use crate::arena::{Memory, fork, process};

impl<'py> FromPyObject<'_, 'py> for Memory {
    type Error = PyErr;

    fn extract(name: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match name.extract::<&str>()? {
            "heap" => Ok(Self::Heap),
            "private" => Ok(Self::Private),
            "delivered" => Ok(Self::Delivered),
            other => Err(PyValueError::new_err(format!("memory={other:?}: expected 'heap', 'private' or 'delivered'"))),
        }
    }
}

/// Another process's arena, attached.
#[pyclass(frozen, module = "dpo_collate._core")]
pub(super) struct Arena(Arc<Table>);

/// Whether there is nothing for `collate()` to do before it takes memory: `set_open` was called, and where
/// batches are sent, a receiver has attached the arena.
#[pyfunction]
pub(super) fn is_open() -> PyResult<bool> {
    guarded(|| Ok(process::is_open()))
}

/// Says that all that this process does once has been done.
#[pyfunction]
pub(super) fn set_open() -> PyResult<()> {
    guarded(|| {
        process::open();
        Ok(())
    })
}

/// Gives this process a pool whose blocks can be sent: the arena's id, and its descriptor.
#[pyfunction]
pub(super) fn open_shared(py: Python<'_>) -> PyResult<(Bound<'_, PyBytes>, RawFd)> {
    guarded(|| {
        let (id, descriptor) = process::open_shared()?;
        Ok((PyBytes::new(py, &id), descriptor))
    })
}

/// Counts that batches are not delivered through an arena, and why; takes back what `open_shared` gave.
#[pyfunction]
pub(super) fn fall_back(reason: String) -> PyResult<()> {
    guarded(|| {
        process::fall_back(reason);
        Ok(())
    })
}

/// Counts a message that is sent.
#[pyfunction]
pub(super) fn count_sent() -> PyResult<()> {
    guarded(|| {
        process::count_sent();
        Ok(())
    })
}

/// Cells from the first to the last that a tensor reaches, by shape and strides; 0 where it has none.
fn reach(shape: &[isize], strides: &[isize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let last = shape.iter().zip(strides).try_fold(0_isize, |last, (&size, &stride)| {
        // A negative stride would reach before the first cell; torch has none.
        let far = (size.checked_sub(1)?).checked_mul(stride).filter(|&far| far >= 0)?;
        last.checked_add(far)
    });
    last?.checked_add(1).map(isize::cast_unsigned)
}

/// Puts a message in flight for a tensor at `address`: (block, generation, offset). A tensor of fewer
/// bytes than `small` is to be sent by value: an empty tuple. None: its memory is not the arena's.
#[pyfunction]
pub(super) fn send(
    py: Python<'_>,
    address: usize,
    itemsize: usize,
    shape: Vec<isize>,
    strides: Vec<isize>,
    small: usize,
) -> PyResult<Bound<'_, PyAny>> {
    guarded(|| {
        let bytes = reach(&shape, &strides).and_then(|cells| cells.checked_mul(itemsize));
        Ok(match bytes.map_or(Sending::Foreign, |bytes| process::send(address, bytes, small)) {
            Sending::Foreign => py.None().into_bound(py),
            Sending::Small => ().into_pyobject(py)?.into_any(),
            Sending::Place(Place { block, generation, offset }) => {
                (block, generation, offset).into_pyobject(py)?.into_any()
            }
        })
    })
}

/// The arena of that id, if this process has attached it. Counts a message that is received.
#[pyfunction]
pub(super) fn attached(identity: Id) -> PyResult<Option<Arena>> {
    guarded(|| Ok(process::attached(identity).map(Arena)))
}

/// Attaches an arena. Takes `file` over; `pid` has it open as `descriptor`.
#[pyfunction]
pub(super) fn attach(identity: Id, file: RawFd, pid: i32, descriptor: RawFd) -> PyResult<Arena> {
    guarded(|| {
        #[expect(unsafe_code, reason = "a descriptor comes as a number")]
        // SAFETY: the caller has just received it and gives it away.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        let owner = Owner::of(&file, pid, descriptor);
        Ok(Arena(process::attach(file, identity, owner)?))
    })
}

/// The array of a tensor that was sent, from its `place` (block, generation, offset): `shape` and `strides` (None: dense) in cells of that dtype.
#[pyfunction]
#[pyo3(signature = (arena, place, dtype, shape, strides))]
pub(super) fn receive<'py>(
    py: Python<'py>,
    arena: &Bound<'py, Arena>,
    place: (usize, u64, usize),
    dtype: Bound<'py, PyArrayDescr>,
    shape: Vec<npy_intp>,
    strides: Option<Vec<npy_intp>>,
) -> PyResult<Bound<'py, PyAny>> {
    guarded(|| {
        let wrong = || PyValueError::new_err("a message that no tensor makes");
        if shape.iter().any(|&size| size < 0) || dtype.has_object() {
            return Err(wrong());
        }
        let itemsize = dtype.itemsize();
        let cells = match &strides {
            None => shape.iter().try_fold(1_usize, |cells, &size| cells.checked_mul(size.cast_unsigned())),
            Some(strides) if strides.len() == shape.len() => reach(&shape, strides),
            Some(_) => None,
        };
        let bytes = cells.and_then(|cells| cells.checked_mul(itemsize)).ok_or_else(wrong)?;
        let (block, generation, offset) = place;
        let received = arena.get().0.receive(Place { block, generation, offset }, bytes);
        let (lease, begin) = received.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let block = Block::new(py, lease)?;
        // Where there is one cell or none, any stride will do; the others do not overflow, as what they reach was checked.
        let in_bytes = |(stride, &size)| if size > 1 { stride * itemsize.cast_signed() } else { 0 };
        let strides = strides.map(|strides| strides.into_iter().zip(&shape).map(in_bytes).collect::<Vec<npy_intp>>());
        #[expect(unsafe_code, reason = "an array over the block")]
        // SAFETY: `receive` has checked that so many bytes lie in the block, and they were written before they were sent.
        unsafe {
            wrap::over(&block, dtype, begin, &shape, strides.as_deref())
        }
    })
}

/// Before a fork, and after it: see `arena::fork`.
#[pyfunction]
pub(super) fn before_fork() -> PyResult<()> {
    guarded(|| {
        fork::before();
        Ok(())
    })
}

/// In the parent.
#[pyfunction]
pub(super) fn after_fork_in_parent() -> PyResult<()> {
    guarded(|| {
        fork::after_in_parent();
        Ok(())
    })
}

/// In the child.
#[pyfunction]
pub(super) fn after_fork_in_child() -> PyResult<()> {
    guarded(|| {
        fork::after_in_child();
        Ok(())
    })
}

/// What this process has and counts, by name; `used`, `free` and `retired` are (blocks, bytes).
#[pyfunction]
pub(super) fn stats() -> PyResult<Stats> {
    guarded(|| {
        let process::Stats { arenas, census: Census { used, free, retired }, recycled, counts } = process::stats();
        let [used, free, retired] = [used, free, retired].map(|held| (held.blocks, held.bytes));
        Ok((arenas, used, free, retired, recycled, counts.sent, counts.received, counts.fallbacks))
    })
}

type Stats = (usize, (u64, u64), (u64, u64), (u64, u64), u64, u64, u64, Vec<(String, u64)>);

/// This process ends: gives back what is free, and has its receiver give back the rest as it is dropped.
#[pyfunction]
pub(super) fn close() -> PyResult<()> {
    guarded(|| {
        process::close();
        Ok(())
    })
}

/// Gives back all memory that is free.
#[pyfunction]
pub(super) fn trim() -> PyResult<()> {
    guarded(|| {
        process::trim();
        Ok(())
    })
}
