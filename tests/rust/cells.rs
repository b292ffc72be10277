//! Types of cells and values: names, sizes, what fits.

/// What the files of `rust/arena` that `explorer_arena.rs` compiles once more find under this name.
pub(crate) use _core::cells::ALIGNMENT;
use _core::cells::{DType, Element};
use _core::error::Number;

use crate::memory::ELEMENTS;

#[test]
fn dtypes_have_names_and_sizes() {
    let expected = [
        (DType::Int64, "int64", 8, false),
        (DType::Int32, "int32", 4, false),
        (DType::Bool, "bool", 1, false),
        (DType::Float32, "float32", 4, true),
        (DType::Float64, "float64", 8, true),
    ];
    for (dtype, name, size, float) in expected {
        assert_eq!((dtype.name(), dtype.size(), dtype.is_float()), (name, size, float));
        assert_eq!(DType::by_name(name), Some(dtype));
    }
    assert_eq!(DType::NAMES.map(|(name, dtype)| (dtype, name)), expected.map(|(dtype, name, ..)| (dtype, name)));
    for unknown in ["", "int8", "Int64", "int64 ", "float"] {
        assert_eq!(DType::by_name(unknown), None, "{unknown:?}");
    }
}

#[test]
fn elements_have_names_sizes_and_kinds() {
    let expected = [
        ("int8", b'i', 1),
        ("int16", b'i', 2),
        ("int32", b'i', 4),
        ("int64", b'i', 8),
        ("uint8", b'u', 1),
        ("uint16", b'u', 2),
        ("uint32", b'u', 4),
        ("uint64", b'u', 8),
        ("bool", b'b', 1),
        ("float32", b'f', 4),
        ("float64", b'f', 8),
    ];
    for (element, (name, kind, size)) in ELEMENTS.into_iter().zip(expected) {
        assert_eq!((element.name(), element.size(), element.is_float()), (name, size, kind == b'f'));
        assert_eq!(Element::of_kind(kind, size), Some(element));
    }
}

#[test]
fn no_element_has_another_kind_or_size() {
    let known = |kind: u8, size: usize| match kind {
        b'i' | b'u' => [1, 2, 4, 8].contains(&size),
        b'b' => size == 1,
        b'f' => [4, 8].contains(&size),
        _ => false,
    };
    for kind in 0..=u8::MAX {
        for size in 0..=32 {
            assert_eq!(Element::of_kind(kind, size).is_some(), known(kind, size), "{} {size}", char::from(kind));
        }
    }
}

#[test]
fn numbers_fit_or_not() {
    use DType::{Bool, Float32, Float64, Int32, Int64};
    let expected: [(Number, &[DType]); 13] = [
        (Number::Int(0), &[Int64, Int32, Bool, Float32, Float64]),
        (Number::Int(1), &[Int64, Int32, Bool, Float32, Float64]),
        (Number::Int(2), &[Int64, Int32, Float32, Float64]),
        (Number::Int(-1), &[Int64, Int32, Float32, Float64]),
        (Number::Int(256), &[Int64, Int32, Float32, Float64]),
        (Number::Int(i32::MAX.into()), &[Int64, Int32, Float32, Float64]),
        (Number::Int(i64::from(i32::MAX) + 1), &[Int64, Float32, Float64]),
        (Number::Int(i64::MIN), &[Int64, Float32, Float64]),
        (Number::Unsigned(u64::MAX), &[]),
        (Number::Float(0.5), &[Float32, Float64]),
        (Number::Float(f64::NAN), &[Float32, Float64]),
        (Number::Float(f64::INFINITY), &[Float32, Float64]),
        (Number::Float(1e39), &[Float64]),
    ];
    for (number, fitting) in expected {
        let found: Vec<DType> = DType::NAMES.map(|(_, dtype)| dtype).into_iter().filter(|d| d.fits(number)).collect();
        assert_eq!(found, fitting, "{number}");
    }
}
