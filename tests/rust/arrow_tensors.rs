//! Extension types that say of rows that they are arrays: Arrow's own and those of Ray Data.

use _core::error::Cause;
use _core::source::arrow::RecordBatch;
use _core::source::arrow::cell;
use _core::source::arrow::schema::Tensor;

use crate::arrow_build::{Data, Type, batch, bits, integers, list_type, lists, narrow, wide};
use crate::arrow_naive::{read_array, read_tokens};
use crate::arrow_values::Tree;

const MISSHAPEN: Cause = Cause::Inconsistent { what: "its rows have another number of values than their shape" };

fn ints(values: &[i64]) -> Vec<Tree> {
    values.iter().map(|value| Tree::Bytes(value.to_ne_bytes().to_vec())).collect()
}

fn tensor(name: &str, metadata: &str) -> Option<Tensor> {
    list_type().extension(name, metadata).field().tensor.clone()
}

#[test]
fn metadata_say_the_shape() {
    let fixed = |shape: &[usize]| Some(Tensor::Fixed(shape.to_vec()));
    let unknown = Some(Tensor::Unknown);
    let ray = ["ray.data.arrow_tensor", "ray.data.arrow_tensor_v2"];
    for name in ray {
        assert_eq!(tensor(name, "[3, 2]"), fixed(&[3, 2]));
        assert_eq!(tensor(name, " [ 3,2 ] "), fixed(&[3, 2]));
        assert_eq!(tensor(name, "[]"), fixed(&[]));
        assert_eq!(tensor(name, "[ ]"), fixed(&[]));
        assert_eq!(tensor(name, "[0]"), fixed(&[0]));
        for wrong in
            ["", "3", "[", "[3", "3]", "[-1]", "[3.0]", "[3,]", "[,]", "[null]", "[[3], 2]", "[18446744073709551616]"]
        {
            assert_eq!(tensor(name, wrong), unknown, "{wrong}");
        }
    }
    let arrow = "arrow.fixed_shape_tensor";
    for metadata in [
        r#"{"shape":[3,2]}"#,
        r#"{ "shape" : [3, 2] }"#,
        r#"{"shape":[3,2],"permutation":null}"#,
        r#"{"shape":[3,2],"permutation":[0,1]}"#,
        r#"{"permutation": [0, 1], "shape": [3, 2]}"#,
        r#"{"dim_names":["shape","permutation"],"shape":[3,2]}"#,
    ] {
        assert_eq!(tensor(arrow, metadata), fixed(&[3, 2]), "{metadata}");
    }
    for metadata in [
        "",
        "{}",
        r#"{"shape":null}"#,
        r#"{"shape":[3,-2]}"#,
        r#"{"shape":[3,2],"permutation":[1,0]}"#,
        r#"{"shape":[3,2],"permutation":[0,0]}"#,
        r#"{"shape":[3,2],"permutation":[0.0,1.0]}"#,
        r#"{"shape":[3,2],"permutation":"?"}"#,
        r#"{"dim_names":["permutation","shape"],"shape":[3,2],"permutation":[1,0]}"#,
    ] {
        assert_eq!(tensor(arrow, metadata), unknown, "{metadata}");
    }
    assert_eq!(tensor("ray.data.arrow_variable_shaped_tensor", ""), Some(Tensor::Variable));
    assert_eq!(tensor("arrow.variable_shape_tensor", ""), Some(Tensor::Variable));
    assert_eq!(tensor("arrow.variable_shape_tensor", r#"{"permutation":[0,1,2]}"#), Some(Tensor::Variable));
    assert_eq!(tensor("arrow.variable_shape_tensor", r#"{"permutation":[2,0,1]}"#), unknown);
    assert_eq!(tensor("arrow.json", "[3, 2]"), None, "other types are as their storage is");
    assert_eq!(list_type().field().tensor, None);
}

/// What is said of an extension type that cannot be read.
const UNKNOWN: &str = ", its dimensions permuted or not understood";

/// Rows of four integers, as an extension type.
fn fixed(name: &str, metadata: &str, rows: usize) -> RecordBatch {
    let values: Vec<i64> = (0..).take(rows * 4).collect();
    let ty = Type::new("+w:4", [Type::new("l", [])]).extension(name, metadata);
    batch(&ty, &Data::new(rows, [None]).with([integers(&values)]))
}

#[test]
fn a_row_has_the_shape_of_its_type() {
    for (metadata, shape) in [("[2, 2]", vec![2, 2]), ("[4]", vec![4]), ("[1, 4, 1]", vec![1, 4, 1])] {
        let batch = fixed("ray.data.arrow_tensor", metadata, 3);
        let column = batch.column(0).unwrap();
        assert_eq!(read_array(&column, 1), Ok(Some((shape.clone(), ints(&[4, 5, 6, 7])))));
        let length = if shape.len() == 1 { Ok(Some(4)) } else { Err(Cause::Shape { shape }) };
        assert_eq!(cell::length(&column, 1, false), length);
    }
}

#[test]
fn a_shape_of_another_number_of_values_is_wrong() {
    let overflowing = format!("[{}, {}, 4]", usize::MAX, 1_usize << 62);
    for metadata in ["[]", "[0]", "[3]", "[2, 3]", "[2, 2, 0]", &overflowing] {
        let batch = fixed("ray.data.arrow_tensor_v2", metadata, 2);
        assert_eq!(read_array(&batch.column(0).unwrap(), 0), Err(MISSHAPEN), "{metadata}");
    }
}

#[test]
fn one_dimension_is_a_row_of_tokens_and_one_more_with_unbatch() {
    for (metadata, plain, unbatched) in [("[4]", true, true), ("[1, 4]", false, true), ("[4, 1]", false, false)] {
        let batch = fixed("ray.data.arrow_tensor", metadata, 2);
        let column = batch.column(0).unwrap();
        for (unbatch, allowed) in [(false, plain), (true, unbatched)] {
            let tokens = read_tokens(&column, 1, unbatch);
            if allowed {
                assert_eq!(tokens, Ok(Some(ints(&[4, 5, 6, 7]))), "{metadata}");
            } else {
                let shape = read_array(&column, 1).unwrap().unwrap().0;
                assert_eq!(tokens, Err(Cause::Shape { shape }));
            }
        }
    }
}

#[test]
fn a_tensor_that_is_not_understood_is_not_read() {
    let batch = fixed("arrow.fixed_shape_tensor", r#"{"shape":[2,2],"permutation":[1,0]}"#, 1);
    let column = batch.column(0).unwrap();
    let wrong =
        |expected| Cause::ArrowType { found: format!("fixed_size_list (arrow.fixed_shape_tensor{UNKNOWN})"), expected };
    assert_eq!(read_array(&column, 0), Err(wrong("lists of numbers, nested or not")));
    assert_eq!(cell::length(&column, 0, false), Err(wrong("lists of numbers, nested or not")));
    assert_eq!(read_tokens(&column, 0, true), Err(wrong("lists of numbers, nested or not")));
}

/// One list of these tensors.
fn list_of(tensor: Type, tensors: Data) -> RecordBatch {
    let end = i32::try_from(tensors.length).unwrap();
    batch(&Type::new("+l", [tensor]), &Data::new(1, [None, narrow(&[0, end])]).with([tensors]))
}

#[test]
fn a_list_of_tensors_has_their_dimensions_too() {
    let tensor = |metadata| Type::new("+w:4", [Type::new("l", [])]).extension("ray.data.arrow_tensor", metadata);
    let tensors = |rows| Data::new(rows, [None]).with([integers(&(0..).take(rows * 4).collect::<Vec<_>>())]);
    let read = |metadata, rows| read_array(&list_of(tensor(metadata), tensors(rows)).column(0).unwrap(), 0);
    assert_eq!(read("[2, 2]", 2), Ok(Some((vec![2, 2, 2], ints(&[0, 1, 2, 3, 4, 5, 6, 7])))));
    assert_eq!(read("[2, 2]", 0), Ok(Some((vec![0, 2, 2], vec![]))));
    assert_eq!(read("[2, 3]", 2), Err(MISSHAPEN));
    let expected = "lists of numbers, nested or not";
    assert_eq!(
        read("?", 2),
        Err(Cause::ArrowType { found: format!("list of fixed_size_list (ray.data.arrow_tensor{UNKNOWN})"), expected })
    );
    let ray = list_type().extension("ray.data.arrow_tensor", "[2, 2]");
    let none = read_array(&list_of(ray, lists(&[])).column(0).unwrap(), 0);
    assert_eq!(none, Ok(Some((vec![0, 2, 2], vec![]))), "also where lists do not say how long they are");
    let batch = list_of(tensor("[4]"), tensors(1));
    let wrong = Cause::ArrowType {
        found: "list of fixed_size_list (ray.data.arrow_tensor)".to_owned(),
        expected: "lists of integers",
    };
    assert_eq!(read_tokens(&batch.column(0).unwrap(), 0, true), Err(wrong));
}

#[test]
fn a_list_of_tensors_of_lists_is_not_read() {
    let tensor = Type::new("+w:2", [Type::new("+w:1", [Type::new("l", [])])]).extension("ray.data.arrow_tensor", "[2]");
    let tensors = Data::new(1, [None]).with([Data::new(2, [None]).with([integers(&[1, 2])])]);
    let wrong = "lists of numbers, nested or not";
    let expected =
        Err(Cause::ArrowType { found: "list of fixed_size_list (ray.data.arrow_tensor)".to_owned(), expected: wrong });
    assert_eq!(read_array(&list_of(tensor, tensors).column(0).unwrap(), 0), expected);
}

/// Arrays of any shape, as structs of values and sizes.
fn variable(name: &str, values: Data, sizes: (Type, Data)) -> RecordBatch {
    let fields = [sizes.0.named("shape"), Type::new("+L", [Type::new("l", [])]).named("data")];
    let rows = values.length;
    batch(&Type::new("+s", fields).extension(name, ""), &Data::new(rows, [None]).with([sizes.1, values]))
}

const VARIABLE: [&str; 2] = ["ray.data.arrow_variable_shaped_tensor", "arrow.variable_shape_tensor"];

#[test]
fn a_row_says_its_own_shape() {
    for name in VARIABLE {
        let values = Data::new(3, [None, wide(&[0, 6, 6, 8])]).with([integers(&[1, 2, 3, 4, 5, 6, 7, 8])]);
        let sizes = (list_type(), lists(&[&[3, 2], &[0, 7], &[2]]));
        let batch = variable(name, values, sizes);
        let column = batch.column(0).unwrap();
        assert_eq!(read_array(&column, 0), Ok(Some((vec![3, 2], ints(&[1, 2, 3, 4, 5, 6])))));
        assert_eq!(read_array(&column, 1), Ok(Some((vec![0, 7], vec![]))));
        assert_eq!(read_tokens(&column, 2, false), Ok(Some(ints(&[7, 8]))));
        assert_eq!(cell::length(&column, 2, false), Ok(Some(2)));
        assert_eq!(cell::length(&column, 0, false), Err(Cause::Shape { shape: vec![3, 2] }));
    }
}

#[test]
fn sizes_of_a_row_that_are_wrong() {
    let values = || Data::new(1, [None, wide(&[0, 4])]).with([integers(&[1, 2, 3, 4])]);
    let broken = |what| Err(Cause::Inconsistent { what });
    let of = |sizes| read_array(&variable(VARIABLE[0], values(), sizes).column(0).unwrap(), 0);
    for sizes in [&[3, 2][..], &[], &[i64::MAX, i64::MAX, 4], &[0]] {
        assert_eq!(of((list_type(), lists(&[sizes]))), Err(MISSHAPEN), "{sizes:?}");
    }
    assert_eq!(of((list_type(), lists(&[&[-2, -2]]))), broken("an array has a negative size"));
    let mut nulls = lists(&[&[2, 2]]);
    (nulls.children[0].buffers[0], nulls.children[0].nulls) = (bits(&[true, false]), 1);
    assert_eq!(of((list_type(), nulls)), broken("an array has a size that is no integer"));
    let floats = Data::new(2, [None, Some([2.0_f64.to_ne_bytes(), 2.0_f64.to_ne_bytes()].concat())]);
    let floats = Data::new(1, [None, narrow(&[0, 2])]).with([floats]);
    assert_eq!(of((Type::new("+l", [Type::new("g", [])]), floats)), broken("an array has a size that is no integer"));
    let null =
        |lists: Data| Data { nulls: 1, buffers: [vec![bits(&[false])], lists.buffers[1..].to_vec()].concat(), ..lists };
    assert_eq!(of((list_type(), null(lists(&[&[2, 2]])))), Err(Cause::Null { position: 0 }));
    let batch = variable(VARIABLE[0], null(values()), (list_type(), lists(&[&[2, 2]])));
    assert_eq!(read_array(&batch.column(0).unwrap(), 0), Err(Cause::Null { position: 0 }));
    assert_eq!(of((Type::new("l", []), integers(&[4]))), broken("an array has no list of values, or none of sizes"));
}

#[test]
fn storage_of_another_kind_is_not_read() {
    let expected = "lists of numbers, nested or not";
    let wrong = |found: &str| Cause::ArrowType { found: found.to_owned(), expected };
    let fixed = batch(&Type::new("l", []).extension("ray.data.arrow_tensor", "[1]"), &integers(&[1]));
    assert_eq!(read_array(&fixed.column(0).unwrap(), 0), Err(wrong("int64 (ray.data.arrow_tensor)")));
    let variable = batch(&list_type().extension(VARIABLE[0], ""), &lists(&[&[1]]));
    assert_eq!(read_array(&variable.column(0).unwrap(), 0), Err(wrong("list (ray.data.arrow_variable_shaped_tensor)")));
    assert_eq!(
        read_tokens(&variable.column(0).unwrap(), 0, false),
        Err(wrong("list (ray.data.arrow_variable_shaped_tensor)"))
    );
}

#[test]
fn a_null_is_no_tensor() {
    let ty = list_type().extension("ray.data.arrow_tensor", "[2]");
    let mut data = lists(&[&[1, 2], &[]]);
    (data.buffers[0], data.nulls) = (bits(&[true, false]), 1);
    let batch = batch(&ty, &data);
    let column = batch.column(0).unwrap();
    assert_eq!(read_array(&column, 0), Ok(Some((vec![2], ints(&[1, 2])))));
    assert_eq!(read_array(&column, 1), Ok(None));
    assert_eq!(read_tokens(&column, 1, false), Ok(None));
    assert_eq!(cell::length(&column, 1, false), Ok(None));
}
