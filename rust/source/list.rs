//! Lists and tuples of Python ints, read without running any Python code.
//!
//! Only exact ints and bools are read here (another subclass has its own `__index__`). Token ids have one digit of
//! CPython's representation, base 2³⁰; those are read directly from the object, which takes 0.7–0.9
//! ns an int where a call of `PyLong_AsLongLong` takes 2.6–3.1. The representation differs between
//! versions and builds, so the reader is tried on known numbers when the module is imported, and
//! given up for the C API's own if it errs (`check_layout`).
//!
//! Tried without gain: writing straight into the array instead of by runs on the stack (8–25 %
//! slower), a separate loop for ints of one digit, unrolling, prefetching 64 items ahead (up to 30 %
//! slower where the ints are in the cache, nothing where they are not).
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};
use pyo3::{Borrowed, ffi};

use super::{NotPlain, RUN};
use crate::cells::Values;

/// The items of a list or tuple, which are kept alive and unchanged for `'a`.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    items: &'a [*mut ffi::PyObject],
}

impl<'a> List<'a> {
    /// Looks into an exact list or tuple; `None` for anything else.
    ///
    /// # Safety
    /// For `'a` no Python code runs, and the GIL is held.
    pub(super) unsafe fn view(object: &'a Bound<'_, PyAny>) -> Option<Self> {
        let pointer = object.as_ptr();
        // SAFETY: the type is checked exactly, so each record is of the type that it is read as; a
        // list that has no items may have NULL for them.
        let (items, len) = unsafe {
            if object.is_exact_instance_of::<PyList>() {
                ((*pointer.cast::<ffi::PyListObject>()).ob_item, ffi::PyList_GET_SIZE(pointer))
            } else if object.is_exact_instance_of::<PyTuple>() {
                let items = (&raw mut (*pointer.cast::<ffi::PyTupleObject>()).ob_item).cast();
                (items, ffi::PyTuple_GET_SIZE(pointer))
            } else {
                return None;
            }
        };
        let len = usize::try_from(len).unwrap_or_default();
        if len == 0 || items.is_null() {
            return Some(Self { items: &[] });
        }
        // SAFETY: a list or tuple of `len` items has them side by side there; the caller guarantees
        // that it stays as it is.
        Some(Self { items: unsafe { std::slice::from_raw_parts(items, len) } })
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether it has one item that is no int.
    pub(super) fn is_nested(&self) -> bool {
        // SAFETY: `view`'s contract: the list is as it was, and so are its items.
        matches!(self.items, &[item] if unsafe { int(item, false) }.is_none())
    }

    pub(super) fn read<E: From<NotPlain>>(
        &self,
        window: Range<usize>,
        mut visit: impl FnMut(usize, Values<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let direct = DIRECT.load(Ordering::Relaxed);
        let mut run = [0; RUN];
        let mut begin = 0;
        for items in self.items[window].chunks(RUN) {
            for (cell, &item) in run.iter_mut().zip(items) {
                // SAFETY: `view`'s contract: the list is as it was, and so are its items.
                *cell = unsafe { int(item, direct) }.ok_or(NotPlain)?;
            }
            visit(begin, Values::Int64(&run[..items.len()]))?;
            begin += items.len();
        }
        Ok(())
    }
}

/// Whether ints of one digit are read directly.
static DIRECT: AtomicBool = AtomicBool::new(false);

/// The beginning of `struct _longobject` up to 3.11: the sign of the size is the sign of the int.
#[cfg(not(Py_3_12))]
#[repr(C)]
struct Int {
    base: ffi::PyObject,
    size: ffi::Py_ssize_t,
    digit: u32,
}

/// The beginning of `struct _longobject` since 3.12: the tag holds the number of digits above three
/// bits, the lowest two of which are 1 − sign.
#[cfg(Py_3_12)]
#[repr(C)]
struct Int {
    base: ffi::PyObject,
    tag: usize,
    digit: u32,
}

impl Int {
    /// The value, if it has one digit or is 0.
    #[cfg(not(Py_3_12))]
    #[inline]
    fn one_digit(&self) -> Option<i64> {
        if self.size == 1 {
            return Some(i64::from(self.digit)); // nearly every token id; a branch that is always right
        }
        ((-1..=1).contains(&self.size)).then(|| self.size as i64 * i64::from(self.digit))
    }

    /// The value, if it has one digit or is 0.
    #[cfg(Py_3_12)]
    #[inline]
    fn one_digit(&self) -> Option<i64> {
        if self.tag == 1 << 3 {
            return Some(i64::from(self.digit)); // nearly every token id; a branch that is always right
        }
        let sign = 1 - (self.tag & 3).cast_signed() as i64;
        (self.tag < 2 << 3).then(|| sign * i64::from(self.digit))
    }
}

/// The value of an exact int of at most 64 bits.
///
/// # Safety
/// `item` is a living object or NULL (in a tuple that is still being made), and the GIL is held.
#[inline]
unsafe fn int(item: *mut ffi::PyObject, direct: bool) -> Option<i64> {
    // SAFETY: `item` is an object, and its type is looked at before it is read as an int; with
    // `direct`, `check_layout` has found that ints of this interpreter look like `Int`.
    unsafe {
        if item.is_null() || ffi::PyLong_CheckExact(item) == 0 {
            return boolean(item);
        }
        if direct && let Some(value) = (*item.cast::<Int>()).one_digit() {
            return Some(value);
        }
    }
    // SAFETY: `item` is an exact int, for which no Python code runs and no exception is set.
    unsafe { long(item) }
}

/// The value of True or False. (Masks are lists of them; by the slow way all lists of a batch would go,
/// fifty times slower.)
#[cold]
fn boolean(item: *mut ffi::PyObject) -> Option<i64> {
    // SAFETY: both live as long as the interpreter, and only their addresses are looked at.
    let (yes, no) = unsafe { (ffi::Py_True(), ffi::Py_False()) };
    if item == yes {
        return Some(1);
    }
    (item == no).then_some(0)
}

/// # Safety
/// `item` is a living exact int, and the GIL is held.
#[cold]
unsafe fn long(item: *mut ffi::PyObject) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: by contract.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(item, &raw mut overflow) };
    (overflow == 0).then_some(value)
}

/// Tries the direct reader on known ints, and turns it on if it reads all of them.
pub(crate) fn check_layout(py: Python<'_>) -> PyResult<()> {
    if cfg!(any(Py_GIL_DISABLED, PyPy, GraalPy)) {
        return Ok(()); // Objects begin otherwise there.
    }
    let digit = 1_i64 << 30;
    let small =
        [0, 1, -1, 5, 255, 256, 257, 151_643, -100, 1 << 15, (1 << 15) - 1, 1 - (1 << 15), digit - 1, 1 - digit];
    let large = [digit, -digit, digit + 1, 1 << 31, -(1 << 45), i64::MAX, i64::MIN];
    let reads = |value: i64| -> PyResult<Option<i64>> {
        let object = value.into_pyobject(py)?;
        let object: Borrowed<'_, '_, PyAny> = object.as_any().as_borrowed();
        // SAFETY: an exact int. All of its fields that are looked at lie within it, whatever they
        // mean: the smallest int object has room for a size or tag and one digit.
        Ok(unsafe { (*object.as_ptr().cast::<Int>()).one_digit() })
    };
    for value in small {
        if reads(value)? != Some(value) {
            return Ok(());
        }
    }
    for value in large {
        if reads(value)?.is_some() {
            return Ok(());
        }
    }
    DIRECT.store(true, Ordering::Relaxed);
    Ok(())
}
