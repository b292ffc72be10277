//! Typed slices: what sources hand over ([`Values`]) and what arrays are made of ([`Cell`]).

use crate::error::Number;

/// Arrays begin on multiples of so many bytes: on cache lines.
pub const ALIGNMENT: usize = 64;

/// A bool as torch and NumPy store it: one byte, 0 or 1. Read, any other byte counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bool(pub u8);

/// The dtype of an output array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 64-bit signed integers.
    Int64,
    /// 32-bit signed integers.
    Int32,
    /// One byte, 0 or 1.
    Bool,
    /// 32-bit floating point.
    Float32,
    /// 64-bit floating point.
    Float64,
}

impl DType {
    /// All of them, by the names that layouts use.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("int64", Self::Int64),
        ("int32", Self::Int32),
        ("bool", Self::Bool),
        ("float32", Self::Float32),
        ("float64", Self::Float64),
    ];

    /// The dtype of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype)
    }

    /// The name that layouts use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int64 => "int64",
            Self::Int32 => "int32",
            Self::Bool => "bool",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
        }
    }

    /// Bytes of one cell.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Int64 | Self::Float64 => 8,
            Self::Int32 | Self::Float32 => 4,
            Self::Bool => 1,
        }
    }

    /// Whether cells hold floating-point numbers.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float32 | Self::Float64)
    }

    /// Whether a cell can hold the number exactly (floats: within range).
    #[must_use]
    pub fn fits(self, number: Number) -> bool {
        match self {
            Self::Int64 => i64::from_number(number).is_some(),
            Self::Int32 => i32::from_number(number).is_some(),
            Self::Bool => Bool::from_number(number).is_some(),
            Self::Float32 => f32::from_number(number).is_some(),
            Self::Float64 => f64::from_number(number).is_some(),
        }
    }
}

/// Runs one generic call for the Rust type of a dtype.
macro_rules! with_cell {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::cells::DType::Int64 => {
                type $T = i64;
                $body
            }
            $crate::cells::DType::Int32 => {
                type $T = i32;
                $body
            }
            $crate::cells::DType::Bool => {
                type $T = $crate::cells::Bool;
                $body
            }
            $crate::cells::DType::Float32 => {
                type $T = f32;
                $body
            }
            $crate::cells::DType::Float64 => {
                type $T = f64;
                $body
            }
        }
    };
}
pub(crate) use with_cell;

/// The type of an output cell: plain data, any bytes of it are a value that NumPy may read.
pub trait Cell: Copy + 'static {
    /// Its dtype.
    const DTYPE: DType;
    /// The cell for an integer, if it fits.
    fn from_int(value: i64) -> Option<Self>;
    /// The cell for a floating-point number, if it fits. Integers hold none.
    fn from_float(value: f64) -> Option<Self>;

    /// The cell for a number, if it fits.
    #[must_use]
    fn from_number(number: Number) -> Option<Self> {
        match number {
            Number::Int(value) => Self::from_int(value),
            Number::Unsigned(_) => None,
            Number::Float(value) => Self::from_float(value),
        }
    }
}

impl Cell for i64 {
    const DTYPE: DType = DType::Int64;
    #[inline]
    fn from_int(value: i64) -> Option<Self> {
        Some(value)
    }
    fn from_float(_: f64) -> Option<Self> {
        None
    }
}

impl Cell for i32 {
    const DTYPE: DType = DType::Int32;
    #[inline]
    fn from_int(value: i64) -> Option<Self> {
        value.try_into().ok()
    }
    fn from_float(_: f64) -> Option<Self> {
        None
    }
}

impl Cell for Bool {
    const DTYPE: DType = DType::Bool;
    #[inline]
    fn from_int(value: i64) -> Option<Self> {
        u8::try_from(value).ok().filter(|byte| *byte <= 1).map(Self)
    }
    fn from_float(_: f64) -> Option<Self> {
        None
    }
}

impl Cell for f32 {
    const DTYPE: DType = DType::Float32;
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "an integer in a float column rounds, as in torch")]
    fn from_int(value: i64) -> Option<Self> {
        Some(value as Self)
    }
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "rounds; what would become infinite is refused")]
    fn from_float(value: f64) -> Option<Self> {
        let cell = value as Self;
        (cell.is_finite() || !value.is_finite()).then_some(cell)
    }
}

impl Cell for f64 {
    const DTYPE: DType = DType::Float64;
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "an integer in a float column rounds, as in torch")]
    fn from_int(value: i64) -> Option<Self> {
        Some(value as Self)
    }
    #[inline]
    fn from_float(value: f64) -> Option<Self> {
        Some(value)
    }
}

/// The type of the values in a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the type that it names")]
pub enum Element {
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Bool,
    Float32,
    Float64,
}

impl Element {
    /// Bytes of one value.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Int8 | Self::UInt8 | Self::Bool => 1,
            Self::Int16 | Self::UInt16 => 2,
            Self::Int32 | Self::UInt32 | Self::Float32 => 4,
            Self::Int64 | Self::UInt64 | Self::Float64 => 8,
        }
    }

    /// Whether the values are floating-point numbers.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float32 | Self::Float64)
    }

    /// Its name, as NumPy and torch have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int64",
            Self::UInt8 => "uint8",
            Self::UInt16 => "uint16",
            Self::UInt32 => "uint32",
            Self::UInt64 => "uint64",
            Self::Bool => "bool",
            Self::Float32 => "float32",
            Self::Float64 => "float64",
        }
    }

    /// The type of that size, by the letter NumPy has for its kind: `i`, `u`, `b` or `f`.
    #[must_use]
    pub fn of_kind(kind: u8, size: usize) -> Option<Self> {
        Some(match (kind, size) {
            (b'i', 1) => Self::Int8,
            (b'i', 2) => Self::Int16,
            (b'i', 4) => Self::Int32,
            (b'i', 8) => Self::Int64,
            (b'u', 1) => Self::UInt8,
            (b'u', 2) => Self::UInt16,
            (b'u', 4) => Self::UInt32,
            (b'u', 8) => Self::UInt64,
            (b'b', 1) => Self::Bool,
            (b'f', 4) => Self::Float32,
            (b'f', 8) => Self::Float64,
            _ => return None,
        })
    }
}

/// A Rust type that values in a source have.
pub trait Value: Copy {
    /// Its name at run time.
    const ELEMENT: Element;
    /// Zero.
    const ZERO: Self;
    /// A run of it.
    fn values(run: &[Self]) -> Values<'_>;
    /// Its bytes in the other order.
    #[must_use]
    fn swap_bytes(self) -> Self;
    /// The number that it is.
    fn number(self) -> Number;

    /// The cell for it, if it fits.
    #[inline]
    fn cell<T: Cell>(self) -> Option<T> {
        T::from_number(self.number())
    }
}

macro_rules! value {
    ($type:ty, $element:ident, $zero:expr, $swap:expr, $number:expr) => {
        impl Value for $type {
            const ELEMENT: Element = Element::$element;
            const ZERO: Self = $zero;
            fn values(run: &[Self]) -> Values<'_> {
                Values::$element(run)
            }
            #[inline]
            fn swap_bytes(self) -> Self {
                ($swap)(self)
            }
            #[inline]
            fn number(self) -> Number {
                ($number)(self)
            }
        }
    };
}
value!(i8, Int8, 0, i8::swap_bytes, |v: i8| Number::Int(v.into()));
value!(i16, Int16, 0, i16::swap_bytes, |v: i16| Number::Int(v.into()));
value!(i32, Int32, 0, i32::swap_bytes, |v: i32| Number::Int(v.into()));
value!(i64, Int64, 0, i64::swap_bytes, Number::Int);
value!(u8, UInt8, 0, u8::swap_bytes, |v: u8| Number::Int(v.into()));
value!(u16, UInt16, 0, u16::swap_bytes, |v: u16| Number::Int(v.into()));
value!(u32, UInt32, 0, u32::swap_bytes, |v: u32| Number::Int(v.into()));
value!(u64, UInt64, 0, u64::swap_bytes, |v: u64| i64::try_from(v).map_or(Number::Unsigned(v), Number::Int));
value!(Bool, Bool, Self(0), |v| v, |v: Bool| Number::Int((v.0 != 0).into()));
value!(f32, Float32, 0.0, |v: f32| f32::from_bits(v.to_bits().swap_bytes()), |v: f32| Number::Float(v.into()));
value!(f64, Float64, 0.0, |v: f64| f64::from_bits(v.to_bits().swap_bytes()), Number::Float);

/// A run of values that lie side by side in memory.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each variant is the type that it holds")]
pub enum Values<'a> {
    Int8(&'a [i8]),
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    UInt8(&'a [u8]),
    UInt16(&'a [u16]),
    UInt32(&'a [u32]),
    UInt64(&'a [u64]),
    Bool(&'a [Bool]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
}

/// Runs one expression for whichever type the values have.
macro_rules! with_values {
    ($values:expr, $slice:ident => $body:expr) => {
        match $values {
            $crate::cells::Values::Int8($slice) => $body,
            $crate::cells::Values::Int16($slice) => $body,
            $crate::cells::Values::Int32($slice) => $body,
            $crate::cells::Values::Int64($slice) => $body,
            $crate::cells::Values::UInt8($slice) => $body,
            $crate::cells::Values::UInt16($slice) => $body,
            $crate::cells::Values::UInt32($slice) => $body,
            $crate::cells::Values::UInt64($slice) => $body,
            $crate::cells::Values::Bool($slice) => $body,
            $crate::cells::Values::Float32($slice) => $body,
            $crate::cells::Values::Float64($slice) => $body,
        }
    };
}
pub(crate) use with_values;

impl Values<'_> {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        with_values!(self, values => values.len())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
