//! The oracle: what must come out, in the plainest words, on plain vectors.

use _core::cells::{Bool, DType, Element, Values};
use _core::error::Number;
use _core::layout::{Absent, Column, Content, Length, Matrix, Order, Scalar, Side, Truncation};

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
plain!(Int from i8 i16 i32 i64 u8 u16 u32 u64);
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

/// What is left of a row; nothing if it may not be that long.
pub(crate) fn cut<T: Clone>(row: &[T], length: &Length) -> Option<Vec<T>> {
    match (length.max_length, length.truncation) {
        (Some(limit), Truncation::KeepStart) if row.len() > limit => Some(row[..limit].to_vec()),
        (Some(limit), Truncation::KeepEnd) if row.len() > limit => Some(row[row.len() - limit..].to_vec()),
        (Some(limit), Truncation::Error) if row.len() > limit => None,
        _ => Some(row.to_vec()),
    }
}

/// The width for the longest row; none if no bucket holds it.
pub(crate) fn width(longest: usize, length: &Length, min_length: usize) -> Option<usize> {
    let least = longest.max(length.min_length).max(min_length);
    match length.buckets.as_slice() {
        [] => (least..least + length.multiple_of).find(|width| width % length.multiple_of == 0),
        buckets => buckets.iter().copied().filter(|bucket| *bucket >= least).min(),
    }
}

pub(crate) fn pad(row: Vec<i64>, width: usize, side: Side, pad: i64) -> Vec<i64> {
    let padding = vec![pad; width - row.len()];
    match side {
        Side::Left => [padding, row].concat(),
        Side::Right => [row, padding].concat(),
    }
}

/// The columns of a matrix by index, each row by row; nothing if the batch is wrong.
pub(crate) fn matrix(
    order: Order,
    matrix: &Matrix,
    samples: &[Sample],
    min_length: usize,
) -> Option<Vec<(usize, Vec<Vec<i64>>)>> {
    let entries = entries(order, matrix.rows.len(), samples.len());
    let tokens = |&(part, sample): &(usize, usize)| {
        let keys = matrix.rows[part].iter();
        keys.flat_map(|&key| samples[sample][key].clone().unwrap()).collect::<Vec<i64>>()
    };
    let cut: Option<Vec<Vec<i64>>> = entries.iter().map(tokens).map(|row| cut(&row, &matrix.length)).collect();
    let width = width(cut?.iter().map(Vec::len).max()?, &matrix.length, min_length)?;
    let mut columns = Vec::new();
    for (index, column) in matrix.columns.iter().enumerate() {
        let has = |keys: &Vec<Vec<usize>>| {
            samples.iter().all(|sample| keys.concat().iter().all(|&key| sample[key].is_some()))
        };
        let as_ones = match &column.content {
            Content::Parallel(keys) if !has(keys) => match column.absent {
                Absent::Error => return None,
                Absent::LeftOut => continue,
                Absent::Ones => true,
            },
            Content::Ones => true,
            _ => false,
        };
        let row = |&(part, sample): &(usize, usize)| {
            let shown = shown(matrix, column, part, &samples[sample], as_ones);
            Some(pad(cells(column, &shown, &matrix.length, as_ones)?, width, matrix.side, int(column.pad)))
        };
        columns.push((index, entries.iter().map(row).collect::<Option<_>>()?));
    }
    Some(columns)
}

/// What a column shows of one row before it is cut; `None` where the segment does not carry it.
fn shown(matrix: &Matrix, column: &Column, part: usize, sample: &Sample, as_ones: bool) -> Vec<Option<i64>> {
    let segment = |(segment, &key): (usize, &usize)| {
        let values = match &column.content {
            _ if as_ones => vec![1; sample[key].clone().unwrap().len()],
            Content::Parallel(keys) => sample[keys[part][segment]].clone().unwrap(),
            Content::Tokens | Content::Ones => sample[key].clone().unwrap(),
        };
        let on = column.on.as_ref().is_none_or(|on| on[segment]);
        values.into_iter().map(move |value| on.then_some(value))
    };
    matrix.rows[part].iter().enumerate().flat_map(segment).collect()
}

/// The cells of one row without padding; nothing if the row is against a rule of the column.
fn cells(column: &Column, shown: &[Option<i64>], length: &Length, as_ones: bool) -> Option<Vec<i64>> {
    let kept = cut(shown, length)?;
    let nothing = column.differs_from.unwrap_or(column.pad);
    let any = kept.iter().flatten().any(|value| as_ones || *value != int(nothing));
    if !any && (column.nonempty || column.scored && kept.len() < shown.len()) {
        return None;
    }
    let cell = |value: &Option<i64>| match (value, column.differs_from) {
        (None, _) => int(column.pad),
        (Some(value), None) => *value,
        (Some(value), Some(from)) => i64::from(*value != int(from)),
    };
    let cells: Vec<i64> = kept.iter().map(cell).collect();
    cells.iter().all(|&value| self::cell(value.into(), column.dtype).is_some()).then_some(cells)
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

fn int(number: Number) -> i64 {
    match number {
        Number::Int(int) => int,
        other => panic!("{other} is no integer"),
    }
}
