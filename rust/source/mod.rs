//! Where token rows come from: one value of one sample, ready to be read.
//!
//! A [`Source`] is a pointer and a length; it owns nothing. Sources over Python objects are made in
//! the *quiet* phase of a batch and must be gone before any Python code runs again: the borrow that
//! each carries is of the gathered objects, which keeps them alive, but only the absence of Python
//! code keeps a list from being emptied or an array from being resized.
//!
//! An enum rather than a trait: it needs no generic parameter in every function between the boundary
//! and the kernels, and its one `match` a row is not measurable.

pub mod arrow;
mod bits;
#[cfg(feature = "python")]
mod columns;
#[cfg(feature = "python")]
pub mod dlpack;
#[cfg(feature = "python")]
pub mod gather;
#[cfg(feature = "python")]
pub mod keys;
#[cfg(feature = "python")]
pub mod list;
#[cfg(feature = "python")]
pub mod numpy;
mod strided;

use std::ops::Range;

pub use bits::Bits;
pub use strided::Strided;

use crate::cells::{Element, Value, Values, with_values};
use crate::error::CollateError;

/// One row of values.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// Side by side in memory, aligned, in this machine's byte order.
    Contiguous(Values<'a>),
    /// Anything else that an array can be.
    Strided(Strided<'a>),
    /// Bools of one bit each.
    Bits(Bits<'a>),
    /// A Python list or tuple of ints.
    #[cfg(feature = "python")]
    List(list::List<'a>),
}

/// The source cannot be read while no Python code may run: an element of a list is not an exact
/// int, or is one beyond 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPlain;

/// Why values could not be read, or why there is no batch.
#[derive(Debug, PartialEq)]
pub enum Stop {
    /// A source cannot be read while no Python code may run.
    NotPlain,
    /// The batch is wrong.
    Error(CollateError),
}

impl From<NotPlain> for Stop {
    fn from(_: NotPlain) -> Self {
        Self::NotPlain
    }
}

impl From<CollateError> for Stop {
    fn from(error: CollateError) -> Self {
        Self::Error(error)
    }
}

/// Values that are not side by side are handed on in runs of at most this many, through the stack.
/// (256 is 2 % slower, 512 more.)
pub(crate) const RUN: usize = 128;

/// Why values could not be taken.
#[cfg(feature = "python")]
#[derive(Debug)]
pub enum Failure {
    /// An exception: mostly one that Python code raised.
    Raised(pyo3::PyErr),
    /// The batch is wrong.
    Batch(CollateError),
}

#[cfg(feature = "python")]
impl From<pyo3::PyErr> for Failure {
    fn from(error: pyo3::PyErr) -> Self {
        Self::Raised(error)
    }
}

#[cfg(feature = "python")]
impl From<CollateError> for Failure {
    fn from(error: CollateError) -> Self {
        Self::Batch(error)
    }
}

impl Source<'_> {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Contiguous(values) => values.len(),
            Self::Strided(strided) => strided.len(),
            Self::Bits(bits) => bits.len(),
            #[cfg(feature = "python")]
            Self::List(list) => list.len(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the values.
    #[must_use]
    pub fn element(&self) -> Element {
        fn element<T: Value>(_: &[T]) -> Element {
            T::ELEMENT
        }
        match self {
            Self::Contiguous(values) => with_values!(values, values => element(values)),
            Self::Strided(strided) => strided.element(),
            Self::Bits(_) => Element::Bool,
            #[cfg(feature = "python")]
            Self::List(_) => Element::Int64,
        }
    }

    /// Looks at the values outside of `window`, which nobody reads: a list may hold anything there. (An
    /// array holds numbers; whether those that nobody reads fit a column is not asked.)
    #[cfg_attr(not(feature = "python"), expect(unused_variables, reason = "only lists can hold anything"))]
    pub fn check_outside(&self, window: &Range<usize>) -> Result<(), NotPlain> {
        match self {
            Self::Contiguous(_) | Self::Strided(_) | Self::Bits(_) => Ok(()),
            #[cfg(feature = "python")]
            Self::List(list) => {
                list.read(0..window.start, |_, _| Ok::<(), NotPlain>(()))?;
                list.read(window.end..list.len(), |_, _| Ok(()))
            }
        }
    }

    /// Hands the values of `window` to `visit`, in order, run by run; each run comes with the index
    /// of its first value, counted from the beginning of the window.
    pub fn read<E: From<NotPlain>>(
        &self,
        window: Range<usize>,
        mut visit: impl FnMut(usize, Values<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Contiguous(values) => visit(0, slice(*values, window)),
            Self::Strided(strided) => strided.read(window, visit),
            Self::Bits(bits) => bits.read(window, visit),
            #[cfg(feature = "python")]
            Self::List(list) => list.read(window, visit),
        }
    }
}

fn slice(values: Values<'_>, window: Range<usize>) -> Values<'_> {
    match values {
        Values::Int8(values) => Values::Int8(&values[window]),
        Values::Int16(values) => Values::Int16(&values[window]),
        Values::Int32(values) => Values::Int32(&values[window]),
        Values::Int64(values) => Values::Int64(&values[window]),
        Values::UInt8(values) => Values::UInt8(&values[window]),
        Values::UInt16(values) => Values::UInt16(&values[window]),
        Values::UInt32(values) => Values::UInt32(&values[window]),
        Values::UInt64(values) => Values::UInt64(&values[window]),
        Values::Bool(values) => Values::Bool(&values[window]),
        Values::Float32(values) => Values::Float32(&values[window]),
        Values::Float64(values) => Values::Float64(&values[window]),
    }
}

impl<'a> From<Values<'a>> for Source<'a> {
    fn from(values: Values<'a>) -> Self {
        Self::Contiguous(values)
    }
}
