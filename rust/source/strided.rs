//! Array memory of any stride, alignment and byte order.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use super::{NotPlain, RUN, Source};
use crate::cells::{Bool, Element, Value, Values};

/// Values at a fixed distance from one another.
#[derive(Clone, Debug)]
pub struct Strided<'a> {
    start: *const u8,
    len: usize,
    /// Bytes from one value to the next; 0 and negative distances are as good as any.
    stride: isize,
    element: Element,
    swapped: bool,
    memory: PhantomData<&'a [u8]>,
}

impl<'a> Strided<'a> {
    /// Describes array memory. `swapped`: the bytes of each value are in the other order.
    ///
    /// # Safety
    /// For each `i < len`, the `element.size()` bytes at `start + i * stride` are initialised, and
    /// stay readable and unchanged for `'a`. (With `len == 0`, `start` may be anything.)
    #[must_use]
    pub unsafe fn new(start: *const u8, len: usize, stride: isize, element: Element, swapped: bool) -> Self {
        Self { start, len, stride, element, swapped, memory: PhantomData }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn element(&self) -> Element {
        self.element
    }

    /// The same values as the fastest source that can read them.
    #[must_use]
    pub fn into_source(self) -> Source<'a> {
        let size = self.element.size();
        let side_by_side = self.len <= 1 || usize::try_from(self.stride) == Ok(size);
        let aligned = self.start.addr().is_multiple_of(size);
        if self.swapped && size > 1 || !side_by_side || !aligned || self.start.is_null() {
            return Source::Strided(self);
        }
        Source::Contiguous(match self.element {
            Element::Int8 => Values::Int8(self.slice()),
            Element::Int16 => Values::Int16(self.slice()),
            Element::Int32 => Values::Int32(self.slice()),
            Element::Int64 => Values::Int64(self.slice()),
            Element::UInt8 => Values::UInt8(self.slice()),
            Element::UInt16 => Values::UInt16(self.slice()),
            Element::UInt32 => Values::UInt32(self.slice()),
            Element::UInt64 => Values::UInt64(self.slice()),
            Element::Bool => Values::Bool(self.slice()),
            Element::Float32 => Values::Float32(self.slice()),
            Element::Float64 => Values::Float64(self.slice()),
        })
    }

    /// Private, and called by [`Self::into_source`] only: there `T` is the element's type, and the
    /// values are side by side, aligned, and not at NULL.
    fn slice<T: Value>(&self) -> &'a [T] {
        debug_assert_eq!(T::ELEMENT, self.element);
        // SAFETY: by the contract of `new`, that many values are initialised there and stay
        // unchanged for `'a`; `into_source` has checked distance, alignment and NULL.
        unsafe { std::slice::from_raw_parts(self.start.cast::<T>(), self.len) }
    }

    pub(super) fn read<E: From<NotPlain>>(
        &self,
        window: Range<usize>,
        visit: impl FnMut(usize, Values<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.element {
            Element::Int8 => self.runs::<i8, E>(window, visit),
            Element::Int16 => self.runs::<i16, E>(window, visit),
            Element::Int32 => self.runs::<i32, E>(window, visit),
            Element::Int64 => self.runs::<i64, E>(window, visit),
            Element::UInt8 => self.runs::<u8, E>(window, visit),
            Element::UInt16 => self.runs::<u16, E>(window, visit),
            Element::UInt32 => self.runs::<u32, E>(window, visit),
            Element::UInt64 => self.runs::<u64, E>(window, visit),
            Element::Bool => self.runs::<Bool, E>(window, visit),
            Element::Float32 => self.runs::<f32, E>(window, visit),
            Element::Float64 => self.runs::<f64, E>(window, visit),
        }
    }

    /// Copies the values, run by run, to where they lie side by side.
    fn runs<T: Value, E>(
        &self,
        window: Range<usize>,
        mut visit: impl FnMut(usize, Values<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(window.start <= window.end && window.end <= self.len, "{window:?} of {} values", self.len);
        debug_assert_eq!(T::ELEMENT, self.element);
        let mut run = [T::ZERO; RUN];
        for begin in window.clone().step_by(RUN) {
            let count = RUN.min(window.end - begin);
            for (index, cell) in (begin..).zip(&mut run[..count]) {
                // SAFETY: `index < len` (asserted above), so by the contract of `new` a value of
                // this size is initialised there; it is read unaligned. `index` fits `isize`, and
                // the product is the distance of an element that exists, so neither wraps.
                let value = unsafe {
                    self.start.offset(self.stride.wrapping_mul(index.cast_signed())).cast::<T>().read_unaligned()
                };
                *cell = if self.swapped { value.swap_bytes() } else { value };
            }
            visit(begin - window.start, T::values(&run[..count]))?;
        }
        Ok(())
    }
}
