//! Bools of one bit each, as Arrow has them.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use super::RUN;
use crate::cells::{Bool, Value, Values};

/// Bools, one bit after the other, the lowest bit of a byte first.
#[derive(Clone, Debug)]
pub struct Bits<'a> {
    start: *const u8,
    first: usize,
    len: usize,
    memory: PhantomData<&'a [u8]>,
}

impl Bits<'_> {
    /// `len` bits from bit `first` on, counted from the byte at `start`.
    ///
    /// # Safety
    /// Their bytes are initialised, and stay readable and unchanged for the lifetime of the result. (With `len == 0`,
    /// `start` may be anything.)
    #[must_use]
    pub unsafe fn new(start: *const u8, first: usize, len: usize) -> Self {
        Self { start, first, len, memory: PhantomData }
    }

    /// Number of bools.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn read<E>(
        &self,
        window: Range<usize>,
        mut visit: impl FnMut(usize, Values<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(window.start <= window.end && window.end <= self.len, "{window:?} of {} bools", self.len);
        let mut run = [Bool::ZERO; RUN];
        for begin in window.clone().step_by(RUN) {
            let count = RUN.min(window.end - begin);
            for (cell, at) in run[..count].iter_mut().zip(self.first + begin..) {
                // SAFETY: the bit is one of those that `new` was told of, as `begin + count <= len`.
                let byte = unsafe { *self.start.add(at / 8) };
                *cell = Bool(byte >> (at % 8) & 1);
            }
            visit(begin - window.start, Values::Bool(&run[..count]))?;
        }
        Ok(())
    }
}
