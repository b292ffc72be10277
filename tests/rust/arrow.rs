//! Rows of Arrow columns: numbers, text and arrays, one type after the other.

use _core::cells::Element;
use _core::error::{Cause, Number};
use _core::source::arrow::Broken;
use _core::source::arrow::array::{Array, Run};
use _core::source::arrow::{RecordBatch, cell};

use crate::arrow_build::{Data, Type, batch, bits, integers, list_type, lists, narrow, wide};
use crate::arrow_naive::{half, leaves, numbers, read_array, read_tokens};
use crate::arrow_values::{Tree, format_of};
use crate::memory::ELEMENTS;
use crate::naive::{Plain, from_bytes};

fn ints(values: &[i64]) -> Vec<Tree> {
    values.iter().map(|value| Tree::Bytes(value.to_ne_bytes().to_vec())).collect()
}

fn column(batch: &RecordBatch) -> Array<'_> {
    batch.column(0).unwrap()
}

#[test]
fn every_half_is_its_number() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let data = Data::new(65536, [None, Some(halves.iter().flat_map(|half| half.to_ne_bytes()).collect())]);
    let batch = batch(&Type::new("e", []), &Data { misaligned: true, ..data });
    for (row, &bits) in halves.iter().enumerate() {
        let number = cell::number(&column(&batch), row).unwrap().unwrap();
        assert_eq!(Plain::from(number), Plain::Float(half(bits)), "{bits:#06x}");
    }
}

#[test]
fn halves_that_are_known() {
    let known = [
        (0x0000, 0.0),
        (0x8000, -0.0),
        (0x0001, 5.960_464_477_539_063e-8),
        (0x03FF, 6.097_555_160_522_461e-5),
        (0x0400, 6.103_515_625e-5),
        (0x3555, 0.333_251_953_125),
        (0x3C00, 1.0),
        (0xC000, -2.0),
        (0x7BFF, 65504.0),
        (0x7C00, f64::INFINITY),
        (0xFC00, f64::NEG_INFINITY),
        (0x7E00, f64::NAN),
        (0xFC01, f64::NAN),
    ];
    for (bits, expected) in known {
        let data = Data::new(1, [None, Some(u16::to_ne_bytes(bits).to_vec())]);
        let batch = batch(&Type::new("e", []), &data);
        let number = cell::number(&column(&batch), 0).unwrap().unwrap();
        assert_eq!(Plain::from(number), Plain::Float(expected), "{bits:#06x}");
    }
}

#[test]
fn numbers_at_the_ends_of_their_types() {
    for element in ELEMENTS.into_iter().filter(|element| *element != Element::Bool) {
        for byte in [0x00, 0x01, 0x7F, 0x80, 0xFF] {
            let bytes = vec![byte; element.size()];
            let batch = batch(&Type::new(format_of(element), []), &Data::new(1, [None, Some(bytes.clone())]));
            let number = cell::number(&column(&batch), 0).unwrap().unwrap();
            assert_eq!(Plain::from(number), from_bytes(element, &bytes));
        }
    }
    let batch = batch(&Type::new("L", []), &Data::new(1, [None, Some(vec![0xFF; 8])]));
    assert_eq!(cell::number(&column(&batch), 0), Ok(Some(Number::Unsigned(u64::MAX))));
}

#[test]
fn values_that_are_not_read_are_no_numbers() {
    let wide = || vec![None, Some(vec![0; 16])];
    for (format, name, buffers) in [
        ("u", "string", vec![None, narrow(&[0, 1]), Some(b"7".to_vec())]),
        ("+s", "struct", vec![None]),
        ("d:10,2", "decimal", wide()),
        ("tdD", "date", wide()),
        ("?", "unknown (format \"?\")", wide()),
    ] {
        let batch = batch(&Type::new(format, []), &Data::new(1, buffers));
        let expected = Cause::ArrowType { found: name.to_owned(), expected: "numbers" };
        assert_eq!(cell::number(&column(&batch), 0), Err(expected));
    }
    assert_eq!(cell::number(&column(&batch(&Type::new("n", []), &Data::new(1, []))), 0), Ok(None));
}

/// Text that numbers of 32 bits stand for.
fn dictionary(numbers: &[i32], values: Option<Data>) -> RecordBatch {
    let ty = Type { dictionary: Some(Box::new(Type::new("u", []))), ..Type::new("i", []) };
    let data = Data { dictionary: values.map(Box::new), ..Data::new(numbers.len(), [None, narrow(numbers)]) };
    batch(&ty, &data)
}

fn texts() -> Data {
    Data { offset: 1, ..Data::new(2, [None, narrow(&[0, 3, 4, 6]), Some(b"...abb".to_vec())]) }
}

#[test]
fn a_number_of_a_dictionary_is_no_number() {
    let expected = Cause::ArrowType { found: "dictionary".to_owned(), expected: "numbers" };
    assert_eq!(cell::number(&column(&dictionary(&[0], Some(texts()))), 0), Err(expected));
}

#[test]
fn a_row_of_a_dictionary_stands_for_a_value() {
    let batch = dictionary(&[1, 0, 1], Some(texts()));
    let text = |row| {
        let (values, at) = column(&batch).looked_up(row).unwrap();
        values.text(at).unwrap().to_vec()
    };
    assert_eq!([text(0), text(1), text(2)], [b"bb".to_vec(), b"a".to_vec(), b"bb".to_vec()]);
}

#[test]
fn a_row_that_stands_for_nothing_is_broken() {
    for number in [2, -1, i32::MAX, i32::MIN] {
        let broken = column(&dictionary(&[number], Some(texts()))).looked_up(0).unwrap_err();
        assert_eq!(broken, Broken("a row stands for what is not in the dictionary"));
    }
    assert_eq!(column(&dictionary(&[0], None)).looked_up(0).unwrap_err(), Broken("it has no dictionary"));
}

#[test]
fn the_size_of_a_value_is_that_of_a_list_or_text() {
    assert_eq!(cell::size(&column(&batch(&list_type(), &lists(&[&[1, 2], &[]]))), 0), Ok(Some(2)));
    assert_eq!(cell::size(&column(&batch(&list_type(), &lists(&[&[1, 2], &[]]))), 1), Ok(Some(0)));
    assert_eq!(cell::size(&column(&batch(&Type::new("u", []), &texts())), 1), Ok(Some(2)));
    assert_eq!(cell::size(&column(&batch(&Type::new("l", []), &integers(&[5]))), 0), Ok(Some(1)));
    assert_eq!(cell::size(&column(&batch(&Type::new("n", []), &Data::new(1, []))), 0), Ok(None));
}

#[test]
fn rows_of_tokens_begin_where_offsets_say() {
    let batch = batch(&list_type(), &lists(&[&[1, 2], &[], &[3]]));
    let tokens = |row| read_tokens(&column(&batch), row, false);
    assert_eq!(tokens(0), Ok(Some(ints(&[1, 2]))));
    assert_eq!(tokens(1), Ok(Some(vec![])));
    assert_eq!(tokens(2), Ok(Some(ints(&[3]))));
}

#[test]
fn a_batch_of_one_row_is_that_row_with_unbatch() {
    let ty = Type::new("+L", [list_type()]);
    let data = Data::new(2, [None, wide(&[0, 1, 3])]).with([lists(&[&[1, 2, 3], &[4], &[5]])]);
    let batch = batch(&ty, &data);
    let column = column(&batch);
    assert_eq!(read_tokens(&column, 0, true), Ok(Some(ints(&[1, 2, 3]))));
    assert_eq!(read_tokens(&column, 0, false), Err(Cause::Shape { shape: vec![1, 3] }));
    assert_eq!(read_tokens(&column, 1, true), Err(Cause::Shape { shape: vec![2, 1] }));
    assert_eq!(cell::length(&column, 0, true), Ok(Some(3)));
    assert_eq!(cell::length(&column, 0, false), Err(Cause::Shape { shape: vec![1, 3] }));
}

#[test]
fn a_row_without_tokens_is_a_run_of_nothing() {
    for (format, buffers) in [("n", vec![]), ("e", vec![None, None]), ("l", vec![None, None]), ("b", vec![None, None])]
    {
        let items = Data::new(0, buffers);
        let batch =
            batch(&Type::new("+l", [Type::new(format, [])]), &Data::new(1, [None, narrow(&[0, 0])]).with([items]));
        let (values, rows) = cell::tokens(&column(&batch), 0, false).unwrap().unwrap();
        let run = cell::run(&values, &rows).unwrap();
        assert!(matches!(run, Run::Values { len: 0, .. } | Run::Bits { len: 0, .. }), "{format}: {run:?}");
        assert_eq!(numbers(run), []);
    }
}

#[test]
fn a_null_among_tokens_is_counted_from_the_row() {
    let mut items = integers(&[1, 2, 3, 4]);
    (items.buffers[0], items.nulls) = (bits(&[true, true, true, false]), 1);
    let batch = batch(&list_type(), &Data::new(2, [None, narrow(&[0, 2, 4])]).with([items]));
    assert_eq!(read_tokens(&column(&batch), 0, false), Ok(Some(ints(&[1, 2]))));
    assert_eq!(read_tokens(&column(&batch), 1, false), Err(Cause::Null { position: 1 }));
    assert_eq!(cell::length(&column(&batch), 1, false), Ok(Some(2)));
}

/// A list of lists of integers.
fn rows_of_rows(rows: &[&[i64]], outer: &[i32]) -> RecordBatch {
    let data = Data::new(outer.len() - 1, [None, narrow(outer)]).with([lists(rows)]);
    batch(&Type::new("+l", [list_type()]), &data)
}

#[test]
fn lists_of_equal_lengths_are_an_array() {
    let batch = rows_of_rows(&[&[9], &[1, 2], &[3, 4], &[5, 6], &[7]], &[1, 4, 4]);
    assert_eq!(read_array(&column(&batch), 0), Ok(Some((vec![3, 2], ints(&[1, 2, 3, 4, 5, 6])))));
    assert_eq!(read_array(&column(&batch), 1), Ok(Some((vec![0, 0], vec![]))));
}

#[test]
fn lists_of_unequal_lengths_are_none() {
    for rows in [[&[1, 2][..], &[3]], [&[1], &[2, 3]], [&[], &[1]], [&[1], &[]]] {
        let batch = rows_of_rows(&rows, &[0, 2]);
        assert_eq!(read_array(&column(&batch), 0), Err(Cause::Ragged));
    }
    let batch = rows_of_rows(&[&[1], &[2, 3], &[4]], &[0, 3]);
    assert_eq!(read_array(&column(&batch), 0), Err(Cause::Ragged), "also in the middle");
}

#[test]
fn lists_of_a_fixed_size_say_it_where_there_is_none() {
    let ty = Type::new("+l", [Type::new("+w:3", [Type::new("+w:2", [Type::new("l", [])])])]);
    let inner = Data::new(0, [None]).with([Data::new(0, [None]).with([integers(&[])])]);
    let batch = batch(&ty, &Data::new(1, [None, narrow(&[0, 0])]).with([inner]));
    assert_eq!(read_array(&column(&batch), 0), Ok(Some((vec![0, 3, 2], vec![]))));
    assert_eq!(read_tokens(&column(&batch), 0, true), Err(Cause::Shape { shape: vec![0, 3] }));
}

#[test]
fn more_lists_without_items_than_could_be_looked_at_are_an_array() {
    let many = 1_usize << 62;
    let ty = Type::new(&format!("+w:{many}"), [Type::new("+w:0", [Type::new("l", [])])]);
    let data = Data::new(1, [None]).with([Data::new(many, [None]).with([integers(&[])])]);
    let batch = batch(&ty, &data);
    assert_eq!(read_array(&column(&batch), 0), Ok(Some((vec![many, 0], vec![]))));
    assert_eq!(read_tokens(&column(&batch), 0, true), Err(Cause::Shape { shape: vec![many, 0] }));
    assert_eq!(cell::length(&column(&batch), 0, false), Err(Cause::Shape { shape: vec![many, 0] }));
}

#[test]
fn as_many_lists_without_items_are_rows() {
    let many = 1_usize << 62;
    let batch = batch(&Type::new("+w:0", [Type::new("l", [])]), &Data::new(many, [None]).with([integers(&[])]));
    assert_eq!(batch.rows(), many);
    assert_eq!(read_tokens(&column(&batch), many - 1, false), Ok(Some(vec![])));
    assert_eq!(read_array(&column(&batch), many - 1), Ok(Some((vec![0], vec![]))));
}

#[test]
fn nulls_of_any_number_are_null_at_the_first() {
    let many = 1_usize << 62;
    let ty = Type::new(&format!("+w:{many}"), [Type::new("n", [])]);
    let nulls = Data { nulls: i64::try_from(many).unwrap(), ..Data::new(many, []) };
    let batch = batch(&ty, &Data::new(1, [None]).with([nulls]));
    assert_eq!(read_array(&column(&batch), 0), Err(Cause::Null { position: 0 }));
    assert_eq!(read_tokens(&column(&batch), 0, false), Err(Cause::Null { position: 0 }));
}

#[test]
fn older_producers_give_nulls_a_buffer() {
    let batch = batch(&Type::new("n", []), &Data { nulls: 3, ..Data::new(3, [None]) });
    assert!((0..3).all(|row| column(&batch).is_null(row)));
    assert_eq!(read_array(&column(&batch), 0), Ok(None));
}

#[test]
fn text_lies_in_its_record_up_to_12_bytes() {
    let text = b"0123456789abcdefghijklmnop";
    for length in 0..=text.len() {
        let length_bytes = i32::try_from(length).unwrap().to_ne_bytes();
        let (record, buffers) = if length <= 12 {
            ([&length_bytes, &text[..length], &vec![0; 12 - length]].concat(), vec![])
        } else {
            // In the second of two buffers, one byte after its beginning.
            let place = [1_i32.to_ne_bytes(), 1_i32.to_ne_bytes()].concat();
            let buffer = [b"-", &text[..length]].concat();
            ([&length_bytes, &text[..4], &place].concat(), vec![Some(vec![]), Some(buffer)])
        };
        let sizes = wide(&[0, 1 + i64::try_from(length).unwrap()][..buffers.len()]);
        let data = Data::new(1, [vec![None, Some(record)], buffers, vec![sizes]].concat());
        for format in ["vu", "vz"] {
            for misaligned in [false, true] {
                let batch = batch(&Type::new(format, []), &Data { misaligned, ..data.clone() });
                assert_eq!(column(&batch).text(0), Ok(&text[..length]), "{length} bytes");
            }
        }
    }
}

#[test]
fn text_of_any_offsets() {
    for (formats, offsets) in [(["u", "z"], narrow(&[2, 2, 5, 6])), (["U", "Z"], wide(&[2, 2, 5, 6]))] {
        let data = Data::new(3, [None, offsets, Some(b"--abcd".to_vec())]);
        for format in formats {
            let batch = batch(&Type::new(format, []), &data);
            let text: Vec<_> = (0..3).map(|row| column(&batch).text(row).unwrap()).collect();
            assert_eq!(text, [&b""[..], b"abc", b"d"]);
        }
    }
}

#[test]
fn bools_are_a_run_of_bits() {
    let items =
        Data { offset: 3, ..Data::new(6, [None, bits(&[true, true, true, false, true, false, false, true, true])]) };
    let ty = Type::new("+l", [Type::new("b", [])]);
    let batch = batch(&ty, &Data::new(1, [None, narrow(&[1, 6])]).with([items]));
    let (values, rows) = cell::tokens(&column(&batch), 0, false).unwrap().unwrap();
    assert_eq!(numbers(cell::run(&values, &rows).unwrap()), [1, 0, 0, 1, 1].map(Plain::Int));
    assert_eq!(leaves(&values, rows).len(), 5);
}
