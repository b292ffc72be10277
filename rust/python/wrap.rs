//! NumPy arrays over a lease.
#![allow(unsafe_code)]

use numpy::npyffi::{self, NPY_ARRAY_CARRAY, NpyTypes, PY_ARRAY_API, npy_intp};
use numpy::{PyArrayDescr, dtype};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use crate::arena::{Lease, Memory, take};
use crate::cells::DType;
use crate::plan::Array;

/// Keeps a batch's memory: the base object of its arrays, and so alive as long as any of them or a
/// view of one.
#[pyclass(frozen, module = "dpo_collate._core")]
pub(super) struct Block {
    lease: Lease,
}

impl Block {
    pub(super) fn new(py: Python<'_>, lease: Lease) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Self { lease })
    }
}

/// The array that was planned there.
///
/// # Safety
/// The array lies in the block, every cell of it has been written, and no other array that
/// overlaps it is made.
pub(super) unsafe fn array<'py>(block: &Bound<'py, Block>, array: &Array) -> PyResult<Bound<'py, PyAny>> {
    let py = block.py();
    let descr = match array.dtype {
        DType::Int64 => dtype::<i64>(py),
        DType::Int32 => dtype::<i32>(py),
        DType::Bool => dtype::<bool>(py),
        DType::Float32 => dtype::<f32>(py),
        DType::Float64 => dtype::<f64>(py),
    };
    // A block has fewer than `isize::MAX` bytes, or there would be no lease.
    let shape = [array.rows.cast_signed(), array.width.unwrap_or(1).cast_signed()];
    let ndim = if array.width.is_some() { 2 } else { 1 };
    // SAFETY: by contract.
    unsafe { over(block, descr, array.offset, &shape[..ndim], None) }
}

/// Memory of that many bytes, its content whatever was there before, as an array of uint8:
/// `numpy.empty`, over a lease.
pub(super) fn empty(py: Python<'_>, bytes: usize, memory: Memory) -> PyResult<Bound<'_, PyAny>> {
    let refused = |_| PyMemoryError::new_err(format!("cannot allocate {bytes} bytes for the batch"));
    let block = Block::new(py, take(memory, bytes).map_err(refused)?)?;
    // SAFETY: the lease has that many bytes and this is its only array. They are for the caller to
    // write, like those of `numpy.empty`, and any byte is a uint8.
    unsafe { over(&block, dtype::<u8>(py), 0, &[bytes.cast_signed()], None) }
}

/// An array over the block, from `offset` on; strides in bytes, None: dense.
///
/// # Safety
/// What the array reaches lies in the block, and holds values of that dtype (or is written before it is read).
pub(super) unsafe fn over<'py>(
    block: &Bound<'py, Block>,
    descr: Bound<'py, PyArrayDescr>,
    offset: usize,
    shape: &[npy_intp],
    strides: Option<&[npy_intp]>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = block.py();
    let ndim = i32::try_from(shape.len()).unwrap_or(i32::MAX); // more than NumPy takes is its error
    // SAFETY: the range lies in the block, which is aligned for every dtype, and NumPy does not
    // free memory that it is handed: the block does, which the array is given as its base object.
    // `NewFromDescr` steals the reference to the dtype, `SetBaseObject` that to the block, both
    // also where they fail.
    unsafe {
        let start = block.get().lease.start().as_ptr().add(offset);
        let array = PY_ARRAY_API.PyArray_NewFromDescr(
            py,
            npyffi::get_type_object(py, NpyTypes::PyArray_Type),
            descr.into_ptr().cast(),
            ndim,
            shape.as_ptr().cast_mut(), // it is only read
            strides.map_or(std::ptr::null_mut(), |strides| strides.as_ptr().cast_mut()),
            start.cast(),
            NPY_ARRAY_CARRAY,
            std::ptr::null_mut(),
        );
        let array = Bound::from_owned_ptr_or_err(py, array)?;
        let base = block.clone().into_ptr();
        if PY_ARRAY_API.PyArray_SetBaseObject(py, array.as_ptr().cast::<npyffi::PyArrayObject>(), base) < 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(array)
    }
}
