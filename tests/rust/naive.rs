//! The oracle: what must come out, in the plainest words, on plain vectors. Here of numbers and scalars; of
//! matrices in `naive_matrix`.

use _core::cells::{Bool, DType, Element, Values};
use _core::error::Number;
use _core::layout::{Order, Scalar};

/// A number, seen without the crate.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Plain {
    Int(i128),
    Float(f64),
}

impl PartialEq for Plain {
    /// Exactly: -0.0 is not 0.0, and NaN is NaN.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
            _ => false,
        }
    }
}

macro_rules! plain {
    ($variant:ident from $($type:ty)*) => {$(
        impl From<$type> for Plain {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}
plain!(Int from i8 i16 i32 i64 i128 u8 u16 u32 u64);
plain!(Float from f32 f64);

impl From<Bool> for Plain {
    /// Its byte, as it is.
    fn from(value: Bool) -> Self {
        value.0.into()
    }
}

impl From<Number> for Plain {
    fn from(value: Number) -> Self {
        match value {
            Number::Int(value) => value.into(),
            Number::Unsigned(value) => value.into(),
            Number::Float(value) => value.into(),
        }
    }
}

/// The values of a run.
pub(crate) fn plain(values: Values<'_>) -> Vec<Plain> {
    fn all<T: Copy + Into<Plain>>(values: &[T]) -> Vec<Plain> {
        values.iter().map(|&value| value.into()).collect()
    }
    match values {
        Values::Int8(values) => all(values),
        Values::Int16(values) => all(values),
        Values::Int32(values) => all(values),
        Values::Int64(values) => all(values),
        Values::UInt8(values) => all(values),
        Values::UInt16(values) => all(values),
        Values::UInt32(values) => all(values),
        Values::UInt64(values) => all(values),
        Values::Bool(values) => all(values),
        Values::Float32(values) => all(values),
        Values::Float64(values) => all(values),
    }
}

/// One value out of its bytes, in this machine's order.
pub(crate) fn from_bytes(element: Element, bytes: &[u8]) -> Plain {
    match element {
        Element::Int8 => i8::from_ne_bytes(bytes.try_into().unwrap()).into(),
        Element::Int16 => i16::from_ne_bytes(bytes.try_into().unwrap()).into(),
        Element::Int32 => i32::from_ne_bytes(bytes.try_into().unwrap()).into(),
        Element::Int64 => i64::from_ne_bytes(bytes.try_into().unwrap()).into(),
        Element::UInt8 | Element::Bool => bytes[0].into(),
        Element::UInt16 => u16::from_ne_bytes(bytes.try_into().unwrap()).into(),
        Element::UInt32 => u32::from_ne_bytes(bytes.try_into().unwrap()).into(),
        Element::UInt64 => u64::from_ne_bytes(bytes.try_into().unwrap()).into(),
        Element::Float32 => f32::from_ne_bytes(bytes.try_into().unwrap()).into(),
        Element::Float64 => f64::from_ne_bytes(bytes.try_into().unwrap()).into(),
    }
}

/// What a cell holds for a value, if the value fits.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "as torch rounds")]
pub(crate) fn cell(value: Plain, dtype: DType) -> Option<Plain> {
    match (value, dtype) {
        (Plain::Int(int), DType::Int64) => i64::try_from(int).ok().map(Plain::from),
        (Plain::Int(int), DType::Int32) => i32::try_from(int).ok().map(Plain::from),
        (Plain::Int(int), DType::Bool) => (0..=1).contains(&int).then_some(value),
        (Plain::Int(int), DType::Float32) => i64::try_from(int).ok().map(|int| (int as f32).into()),
        (Plain::Int(int), DType::Float64) => i64::try_from(int).ok().map(|int| (int as f64).into()),
        (Plain::Float(_), DType::Int64 | DType::Int32 | DType::Bool) => None,
        (Plain::Float(float), DType::Float32) => {
            ((float as f32).is_infinite() == float.is_infinite()).then_some((float as f32).into())
        }
        (Plain::Float(_), DType::Float64) => Some(value),
    }
}

/// Whether the two are different numbers.
#[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "the tests' integers beside floats are small")]
pub(crate) fn differs(a: Plain, b: Plain) -> bool {
    match (a, b) {
        (Plain::Int(a), Plain::Int(b)) => a != b,
        (Plain::Float(a), Plain::Float(b)) => a != b,
        (Plain::Float(a), Plain::Int(b)) | (Plain::Int(b), Plain::Float(a)) => a != b as f64,
    }
}

/// One sample: for each key its values, if it has the key.
pub(crate) type Sample = Vec<Option<Vec<i64>>>;

/// The pairs (part, sample) in the order of rows.
pub(crate) fn entries(order: Order, parts: usize, samples: usize) -> Vec<(usize, usize)> {
    match order {
        Order::Grouped => (0..parts).flat_map(|part| (0..samples).map(move |sample| (part, sample))).collect(),
        Order::Interleaved => (0..samples).flat_map(|sample| (0..parts).map(move |part| (part, sample))).collect(),
    }
}

/// The numbers of a scalar, none if it is left out; nothing if the batch is wrong.
pub(crate) fn scalar(order: Order, scalar: &Scalar, numbers: &[Vec<Option<Number>>]) -> Option<Vec<Plain>> {
    let entries = entries(order, scalar.keys.len(), numbers.len());
    let given: Vec<Option<Number>> = entries.iter().map(|&(part, sample)| numbers[sample][scalar.keys[part]]).collect();
    if scalar.optional && scalar.default.is_none() && given.iter().all(Option::is_none) {
        return Some(Vec::new());
    }
    given.iter().map(|number| cell(number.or(scalar.default)?.into(), scalar.dtype)).collect()
}
