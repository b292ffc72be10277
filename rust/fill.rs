//! The kernels: they write one run of cells from one run of values, on plain slices.
//!
//! Every kernel writes all the cells it is handed or says which value did not fit, so that a row is
//! written once: first its values, then its padding, never zeros that are overwritten afterwards.
//!
//! Tried without gain: one pass for ids and labels together, and non-temporal stores (slower for
//! text: they evict the block that the training loop reads next).

use std::mem::MaybeUninit;

use crate::cells::{Cell, Value, Values, with_values};
use crate::error::Number;

/// A value that does not fit its cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Misfit {
    /// Index of the value in the run.
    pub index: usize,
    /// The value.
    pub value: Number,
}

/// Writes `values` into `cells`, converted to their type.
///
/// # Panics
/// If the two are not equally long.
pub fn copy<T: Cell>(values: Values<'_>, cells: &mut [MaybeUninit<T>]) -> Result<(), Misfit> {
    with_values!(values, values => {
        assert_eq!(values.len(), cells.len(), "a run of values is as long as its cells");
        for (cell, value) in cells.iter_mut().zip(values) {
            // Where every value fits (i64 to i64, i32 to i64, …) the branch is gone and the loop is
            // a memcpy or a widening vector loop. It must not count: a checked counter ends that
            // (measured: a sixth of the speed).
            let Some(fitting) = value.cell() else { return Err(misfit::<_, T>(values)) };
            cell.write(fitting);
        }
        Ok(())
    })
}

/// The first value that does not fit.
#[cold]
fn misfit<S: Value, T: Cell>(values: &[S]) -> Misfit {
    let index = values.iter().position(|value| value.cell::<T>().is_none()).unwrap_or_default();
    Misfit { index, value: values[index].number() }
}

/// Writes 1 where a value differs from `from`, else 0.
///
/// # Panics
/// If the two are not equally long.
pub fn differs<T: Cell>(values: Values<'_>, from: Number, cells: &mut [MaybeUninit<T>]) {
    let (Some(zero), Some(one)) = (T::from_int(0), T::from_int(1)) else { unreachable!("every dtype holds 0 and 1") };
    with_values!(values, values => {
        assert_eq!(values.len(), cells.len(), "a run of values is as long as its cells");
        for (cell, value) in cells.iter_mut().zip(values) {
            cell.write(if value.number().differs(from) { one } else { zero });
        }
    });
}

/// Whether any value differs from `from`.
#[must_use]
pub fn any_differs(values: Values<'_>, from: Number) -> bool {
    with_values!(values, values => values.iter().any(|value| value.number().differs(from)))
}

/// How many values are this number.
#[must_use]
pub fn occurrences(values: Values<'_>, number: Number) -> usize {
    with_values!(values, values => values.iter().filter(|value| !value.number().differs(number)).count())
}

/// Writes the same value into all cells.
pub fn repeat<T: Cell>(value: T, cells: &mut [MaybeUninit<T>]) {
    // The first cells one by one, the others as copies of those before them, twice as many each time: a
    // loop of stores writes 16 bytes at a time on any x86-64, the C library's memcpy as many as the
    // processor can, and a few long copies cost less than many short ones (measured: a fifth).
    let mut written = cells.len().min(ONE_BY_ONE);
    for cell in &mut cells[..written] {
        cell.write(value);
    }
    while written < cells.len() {
        let (before, after) = cells.split_at_mut(written);
        let count = written.min(AT_ONCE).min(after.len());
        after[..count].copy_from_slice(&before[..count]);
        written += count;
    }
}

/// Writes `from`, `from` + 1, and so on.
pub fn count<T: Cell>(from: i64, cells: &mut [MaybeUninit<T>]) -> Result<(), Misfit> {
    let Some(last) = cells.len().checked_sub(1) else { return Ok(()) };
    // Only of both ends it is asked whether they fit: to ask of every number ends vectors of i32.
    let end = i64::try_from(last).ok().and_then(|last| from.checked_add(last));
    let (Some(first), Some(_)) = (T::from_int(from), end.and_then(T::from_int)) else {
        let fits = |index: usize| from.checked_add_unsigned(index as u64).and_then(T::from_int).is_some();
        let index = (0..last).find(|&index| !fits(index)).unwrap_or(last);
        let beyond = || Number::Unsigned(from.cast_unsigned() + index as u64);
        return Err(Misfit { index, value: from.checked_add_unsigned(index as u64).map_or_else(beyond, Number::Int) });
    };
    let mut number = from;
    for cell in cells {
        cell.write(T::from_int(number).unwrap_or(first));
        number = number.wrapping_add(1);
    }
    Ok(())
}

/// Cells that are written one by one before copying begins. (With 32, rows of 60 take a fifth longer.)
const ONE_BY_ONE: usize = 128;

/// Cells that are copied at once, at most: 16 KiB, which are still in the first-level cache.
const AT_ONCE: usize = 2048;
