//! What types say, and schemas that contradict themselves.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::ptr;

use _core::cells::Element;
use _core::source::arrow::Broken;
use _core::source::arrow::abi::ArrowSchema;
use _core::source::arrow::schema::{Field, Kind, Offsets, Tensor};
use proptest::prelude::*;

use crate::arrow_build::{Ledger, Type, child, list_type, owned, set_child};
use crate::cases;

/// What is read of a type whose record was changed after it was made. All of it is given back.
fn read(ty: &Type, change: impl FnOnce(&mut ArrowSchema)) -> Result<Field, Broken> {
    let ledger = Ledger::default();
    let mut record = ty.export(&ledger);
    change(&mut record);
    let schema = owned(record);
    // SAFETY: `export` has made it, and what was changed can be checked.
    let field = unsafe { Field::read(schema.get()) };
    drop(schema);
    ledger.assert_settled();
    field
}

#[test]
fn formats_say_the_type() {
    use Offsets::{Narrow, Wide};
    for (format, kind, name) in [
        ("n", Kind::Null, "null"),
        ("b", Kind::Bool, "bool"),
        ("c", Kind::Number(Element::Int8), "int8"),
        ("C", Kind::Number(Element::UInt8), "uint8"),
        ("s", Kind::Number(Element::Int16), "int16"),
        ("S", Kind::Number(Element::UInt16), "uint16"),
        ("i", Kind::Number(Element::Int32), "int32"),
        ("I", Kind::Number(Element::UInt32), "uint32"),
        ("l", Kind::Number(Element::Int64), "int64"),
        ("L", Kind::Number(Element::UInt64), "uint64"),
        ("e", Kind::Half, "halffloat"),
        ("f", Kind::Number(Element::Float32), "float32"),
        ("g", Kind::Number(Element::Float64), "float64"),
        ("u", Kind::Text(Narrow, true), "string"),
        ("U", Kind::Text(Wide, true), "string"),
        ("z", Kind::Text(Narrow, false), "binary"),
        ("Z", Kind::Text(Wide, false), "binary"),
        ("vu", Kind::View(true), "string"),
        ("vz", Kind::View(false), "binary"),
        ("+s", Kind::Struct, "struct"),
        ("w:16", Kind::Other, "fixed_size_binary"),
        ("d:19,10", Kind::Other, "decimal"),
        ("d:19,10,256", Kind::Other, "decimal"),
        ("tdD", Kind::Other, "date"),
        ("ttn", Kind::Other, "time"),
        ("tsu:Europe/Berlin", Kind::Other, "timestamp"),
        ("tDs", Kind::Other, "duration"),
        ("tiM", Kind::Other, "interval"),
        ("+vl", Kind::Other, "list_view"),
        ("+vL", Kind::Other, "list_view"),
        ("+m", Kind::Other, "map"),
        ("+r", Kind::Other, "run_end_encoded"),
        ("+ud:0,1", Kind::Other, "union"),
        ("+us:0,1", Kind::Other, "union"),
        ("", Kind::Other, "unknown (format \"\")"),
        ("ll", Kind::Other, "unknown (format \"ll\")"),
        ("+x\u{7}", Kind::Other, "unknown (format \"+x\\u{7}\")"),
    ] {
        let field = read(&Type::new(format, []).named("tokens"), |_| ()).unwrap();
        assert_eq!((&*field.name, field.kind, &*field.type_name), ("tokens", kind, name), "{format}");
        assert!(!field.is_list() && field.tensor.is_none() && field.children.is_empty());
    }
}

#[test]
fn lists_have_one_child() {
    let none = Err(Broken("a list has another number of children than one"));
    for (format, kind, name) in [
        ("+l", Kind::List(Offsets::Narrow), "list"),
        ("+L", Kind::List(Offsets::Wide), "list"),
        ("+w:0", Kind::FixedSizeList(0), "fixed_size_list"),
        ("+w:18446744073709551615", Kind::FixedSizeList(usize::MAX), "fixed_size_list"),
    ] {
        let item = || Type::new("l", []);
        let field = read(&Type::new(format, [item()]), |_| ()).unwrap();
        assert_eq!((field.kind, &*field.type_name, field.children.len()), (kind, name, 1));
        assert!(field.is_list());
        assert_eq!(read(&Type::new(format, []), |_| ()), none);
        assert_eq!(read(&Type::new(format, [item(), item()]), |_| ()), none);
    }
}

#[test]
fn sizes_of_lists_are_numbers() {
    for format in ["+w:", "+w:-1", "+w:x", "+w:3.0", "+w: 3", "+w:18446744073709551616", "+w:3,4"] {
        let field = read(&Type::new(format, [Type::new("l", [])]), |_| ());
        assert_eq!(field, Err(Broken("its lists have a size that is no number")), "{format}");
    }
    let other = read(&Type::new("+w", [Type::new("l", [])]), |_| ()).unwrap();
    assert_eq!((other.kind, &*other.type_name), (Kind::Other, "unknown (format \"+w\")"));
}

#[test]
fn dictionaries_are_not_read() {
    let ty = Type { dictionary: Some(Box::new(Type::new("u", []))), ..Type::new("+w:x", []) };
    let field = read(&ty, |_| ()).unwrap();
    assert_eq!((field.kind, &*field.type_name), (Kind::Other, "dictionary"));
}

#[test]
fn extension_types_are_called_by_their_name_too() {
    let field = read(&Type::new("u", []).extension("arrow.json", ""), |_| ()).unwrap();
    assert_eq!((&*field.type_name, field.tensor), ("string (arrow.json)", None));
}

#[test]
fn pointers_of_schemas_that_are_null() {
    let ty = Type::new("+s", [list_type()]);
    assert_eq!(read(&ty, |schema| schema.format = ptr::null()), Err(Broken("it has no format")));
    assert_eq!(read(&ty, |schema| schema.name = ptr::null()).unwrap().name, "");
    assert_eq!(read(&ty, |schema| schema.children = ptr::null_mut()), Err(Broken("its children are at NULL")));
    let null_child = |schema: &mut ArrowSchema| set_child(schema, 0, ptr::null_mut());
    assert_eq!(read(&ty, null_child), Err(Broken("a child is at NULL")));
}

#[test]
fn numbers_of_children_that_are_negative() {
    for count in [-1, i64::MIN] {
        let field = read(&list_type(), |schema| schema.n_children = count);
        assert_eq!(field, Err(Broken("it has a negative number of children")));
    }
}

#[test]
fn schemas_that_were_released() {
    let inner = |schema: &mut ArrowSchema| child(schema, 0).release = None;
    assert_eq!(read(&list_type(), inner), Err(Broken("a schema of it was released")));
}

#[test]
fn types_that_are_nested_too_deep() {
    let nested = |levels| (0..levels).fold(Type::new("l", []), |inner, _| Type::new("+l", [inner]));
    assert!(read(&nested(32), |_| ()).is_ok());
    for levels in [33, 1000] {
        assert_eq!(read(&nested(levels), |_| ()), Err(Broken("its type is nested too deep")));
    }
}

/// Metadata, part by part: numbers, and the text between them.
fn read_metadata(parts: &[(i32, &str)]) -> Result<Field, Broken> {
    let metadata: Vec<u8> =
        parts.iter().flat_map(|(number, text)| [&number.to_ne_bytes()[..], text.as_bytes()].concat()).collect();
    read(&list_type(), |schema| schema.metadata = metadata.as_ptr().cast::<c_char>())
}

#[test]
fn metadata_with_negative_lengths() {
    let negative = Err(Broken("its metadata have a negative length"));
    assert_eq!(read_metadata(&[(-1, "")]), negative);
    assert_eq!(read_metadata(&[(i32::MIN, "")]), negative);
    assert_eq!(read_metadata(&[(1, ""), (-1, "")]), negative);
    assert_eq!(read_metadata(&[(1, ""), (1, "k"), (-2, "")]), negative);
}

#[test]
fn metadata_of_any_address() {
    assert_eq!(read_metadata(&[(0, "")]).unwrap().tensor, None);
    let named = |key: &str, rest: &[(i32, &str)]| {
        read_metadata(&[&[(1, ""), (i32::try_from(key.len()).unwrap(), key)], rest].concat()).unwrap().tensor
    };
    // Keys and values of odd lengths before the ones that count.
    assert_eq!(named("ARROW:extension:name", &[(21, "ray.data.arrow_tensor")]), Some(Tensor::Unknown));
    assert_eq!(named("ARROW:extension:nam", &[(21, "ray.data.arrow_tensor")]), None);
    assert_eq!(named("ARROW:extension:metadata", &[(3, "[2]")]), None, "without a name");
    let both = [(2, ""), (24, "ARROW:extension:metadata"), (3, "[2]"), (20, "ARROW:extension:name")];
    let tensor = read_metadata(&[&both[..], &[(21, "ray.data.arrow_tensor")]].concat()).unwrap().tensor;
    assert_eq!(tensor, Some(Tensor::Fixed(vec![2])));
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_metadata_are_too_strange(
        name in prop::sample::select(vec![
            "ray.data.arrow_tensor", "arrow.fixed_shape_tensor", "arrow.variable_shape_tensor", "é",
        ]),
        text in prop_oneof![
            ".*",
            "([\\[\\]{}:,é -]|\"shape\"|\"permutation\"|null|[0-9]{1,22}){0,12}",
        ],
    ) {
        let text = text.replace('\0', "");
        let field = read(&list_type().extension(name, &text), |_| ()).unwrap();
        prop_assert_eq!(field.tensor.is_some(), name != "é");
    }

    #[test]
    fn no_format_is_too_strange(format in prop_oneof![".*", "[+wlLsudvtz:0-9-]{0,5}"]) {
        let format = format.replace('\0', "");
        let one = read(&Type::new(&format, [Type::new("l", [])]), |_| ());
        if let Err(broken) = one {
            prop_assert!(format.starts_with("+w:"));
            prop_assert_eq!(broken, Broken("its lists have a size that is no number"));
        }
    }
}
