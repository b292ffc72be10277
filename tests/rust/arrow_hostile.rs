//! Arrays that contradict themselves: each is refused with its sentence, and given back.

use std::ptr;

use _core::error::Cause;
use _core::source::arrow::abi::ArrowArray;
use _core::source::arrow::array::Array;
use _core::source::arrow::{Broken, NoBatch, cell};

use crate::arrow_build::{
    Data, Ledger, Type, batch, batch_of, bits, child, integers, list_type, lists, narrow, set_buffer, set_child, wide,
};
use crate::arrow_naive::{Read, read_array, read_tokens};
use crate::arrow_values::Tree;

const NEGATIVE: &str = "its length or offset is negative";
const BEYOND: &str = "it has more values than memory";
const RELEASED: &str = "an array of it was released";
const BUFFERS: &str = "it has another number of buffers than its type";
const NULL_BUFFERS: &str = "its buffers are at NULL";
const NULL_BUFFER: &str = "it has rows, but their buffer is at NULL";
const CHILDREN: &str = "it has another number of children than its type";
const NULL_CHILDREN: &str = "its children are at NULL";
const NULL_CHILD: &str = "a child is at NULL";
const NULLS: &str = "it has more nulls than rows";
const WHERE: &str = "it has nulls, but does not say where";
const SHORT: &str = "a child has fewer rows than it";
const BACKWARDS: &str = "its offsets go backwards";
const NEGATIVE_OFFSET: &str = "an offset is negative";
const PAST: &str = "its offsets go past the end of the values";

/// Looks at a column whose record was changed after it was made. All of it is given back.
fn with<T>(
    ty: &Type,
    data: &Data,
    change: impl Fn(&mut ArrowArray),
    look: impl Fn(Array<'_>) -> T,
) -> Result<T, Broken> {
    let ledger = Ledger::default();
    // A struct without rows asks for none of its column.
    let table = Data::new(0, [None]).with([data.clone()]);
    let mut record = table.export(&ledger);
    change(child(&mut record, 0));
    // The column is as long as it says, so that its rows can be asked for.
    record.length = child(&mut record, 0).length.max(0);
    let batch = batch_of(&Type::new("+s", [ty.clone()]).field(), record);
    let seen = match &batch {
        Ok(batch) => batch.column(0).map(look),
        Err(NoBatch::Broken(broken)) => Err(*broken),
        Err(NoBatch::NoStruct) => unreachable!("it is one"),
    };
    drop(batch);
    ledger.assert_settled();
    seen
}

/// What is wrong with a column that was changed.
fn refused(ty: &Type, data: &Data, change: impl Fn(&mut ArrowArray)) -> &'static str {
    with(ty, data, change, |_| ()).unwrap_err().0
}

/// A value of each type that has buffers, by its number of them.
fn all() -> Vec<(Type, Data)> {
    let item = || Type::new("l", []);
    let mut all: Vec<(Type, Data)> = ["c", "S", "i", "L", "f", "g", "e", "b"]
        .map(|format| (Type::new(format, []), Data::new(1, [None, Some(vec![0; 8])])))
        .to_vec();
    all.extend(["u", "z"].map(|format| (Type::new(format, []), Data::new(1, [None, narrow(&[0, 1]), Some(vec![65])]))));
    all.extend(["U", "Z"].map(|format| (Type::new(format, []), Data::new(1, [None, wide(&[0, 1]), Some(vec![65])]))));
    all.extend(["vu", "vz"].map(|format| (Type::new(format, []), Data::new(1, [None, Some(vec![0; 16]), wide(&[])]))));
    all.push((list_type(), lists(&[&[1]])));
    all.push((Type::new("+L", [item()]), Data::new(1, [None, wide(&[0, 1])]).with([integers(&[1])])));
    all.push((Type::new("+w:1", [item()]), Data::new(1, [None]).with([integers(&[1])])));
    all.push((Type::new("+s", [item()]), Data::new(1, [None]).with([integers(&[1])])));
    all
}

#[test]
fn what_is_wrong_with_any_type() {
    let mut types = all();
    types.push((Type::new("n", []), Data { nulls: 1, ..Data::new(1, []) }));
    types.push((Type::new("w:4", []), Data::new(1, [None, Some(vec![0; 4])])));
    for (ty, data) in &types {
        let refused = |change: &dyn Fn(&mut ArrowArray)| refused(ty, data, change);
        assert!(with(ty, data, |_| (), |_| ()).is_ok(), "{ty:?}");
        for number in [-1, i64::MIN] {
            assert_eq!(refused(&|array| array.offset = number), NEGATIVE);
            assert_eq!(refused(&|array| array.n_children = number), CHILDREN);
        }
        assert_eq!(refused(&|array| array.offset = i64::MAX), BEYOND, "{ty:?}");
        assert_eq!(refused(&|array| array.release = None), RELEASED);
        assert_eq!(refused(&|array| array.n_children += 1), CHILDREN);
        for nulls in [2, -2, i64::MAX, i64::MIN] {
            assert_eq!(refused(&|array| array.null_count = nulls), NULLS);
        }
        assert!(with(ty, data, |array| array.null_count = -1, |_| ()).is_ok(), "it is not known");
    }
}

#[test]
fn lengths_that_are_negative() {
    for length in [-1, i64::MIN] {
        for (ty, data) in all() {
            assert_eq!(refused(&ty, &data, |array| array.length = length), SHORT, "its table has no rows, {ty:?}");
        }
        let ledger = Ledger::default();
        let mut table = Data::new(1, [None]).export(&ledger);
        table.length = length;
        assert_eq!(batch_of(&Type::new("+s", []).field(), table).unwrap_err(), NoBatch::Broken(Broken(NEGATIVE)));
        ledger.assert_settled();
        let wrong = |array: &mut ArrowArray| child(array, 0).length = length;
        let empty = Type::new("+w:0", [Type::new("l", [])]);
        assert_eq!(refused(&empty, &Data::new(1, [None]).with([integers(&[])]), wrong), SHORT);
        let items = with(&list_type(), &lists(&[&[1]]), wrong, |array| array.child(0).map(|_| ()));
        assert_eq!(items, Ok(Err(Broken(NEGATIVE))));
    }
}

#[test]
fn what_is_wrong_with_buffers() {
    for (ty, data) in &all() {
        let refused = |change: &dyn Fn(&mut ArrowArray)| refused(ty, data, change);
        let is_view = ty.format.starts_with('v');
        for number in [-1, 0, i64::MIN, i64::try_from(data.buffers.len()).unwrap() - 1] {
            assert_eq!(refused(&|array| array.n_buffers = number), BUFFERS, "{ty:?}");
        }
        if !is_view {
            assert_eq!(refused(&|array| array.n_buffers += 1), BUFFERS, "{ty:?}");
            assert_eq!(refused(&|array| array.n_buffers = i64::MAX), BUFFERS, "{ty:?}");
        }
        assert_eq!(refused(&|array| array.buffers = ptr::null_mut()), NULL_BUFFERS);
        assert_eq!(refused(&|array| array.null_count = 1), WHERE);
        if data.buffers.len() > 1 {
            let gone = |array: &mut ArrowArray| set_buffer(array, 1, ptr::null());
            assert_eq!(refused(&gone), NULL_BUFFER);
            let none = |array: &mut ArrowArray| {
                gone(array);
                array.length = 0;
            };
            assert!(with(ty, data, none, |_| ()).is_ok(), "no row needs no buffer");
        }
    }
}

#[test]
fn more_values_than_memory() {
    let length = |length: i64| move |array: &mut ArrowArray| array.length = length;
    for (format, size) in [("s", 2), ("e", 2), ("I", 4), ("f", 4), ("L", 8), ("vu", 16)] {
        let buffers =
            if format == "vu" { vec![None, Some(vec![0; 16]), wide(&[])] } else { vec![None, Some(vec![0; 8])] };
        let (ty, data) = (Type::new(format, []), Data::new(0, buffers));
        assert_eq!(refused(&ty, &data, length(i64::MAX / size + 1)), BEYOND, "{format}");
        assert_eq!(refused(&ty, &data, length(i64::MAX)), BEYOND, "{format}");
        assert!(with(&ty, &data, length(i64::MAX / size), |_| ()).is_ok(), "{format}: nobody can say that it lies");
    }
    for (format, size) in [("u", 4), ("U", 8)] {
        let data = Data::new(0, [None, Some(vec![0; 8]), None]);
        assert_eq!(refused(&Type::new(format, []), &data, length(i64::MAX / size)), BEYOND, "{format}");
        assert_eq!(refused(&Type::new(format, []), &data, length(i64::MAX)), BEYOND, "{format}");
    }
    for size in [2, 1 << 62, usize::MAX] {
        let ty = Type::new(&format!("+w:{size}"), [Type::new("l", [])]);
        let data = Data::new(0, [None]).with([integers(&[1])]);
        assert_eq!(refused(&ty, &data, length(i64::MAX)), BEYOND, "{size}");
        assert!(with(&ty, &data, |_| (), |_| ()).is_ok(), "no row needs no values");
        assert_eq!(refused(&ty, &data, length(1)), if size == usize::MAX { BEYOND } else { SHORT }, "{size}");
    }
}

#[test]
fn lengths_and_offsets_that_are_too_much_together() {
    for (length, offset) in [(1, i64::MAX), (i64::MAX, 1), (i64::MAX, i64::MAX)] {
        for ty in [Type::new("+s", []), Type::new("n", []), Type::new("c", []), Type::new("tdD", [])] {
            let buffers = match &*ty.format {
                "+s" => vec![None],
                "n" => vec![],
                _ => vec![None, Some(vec![0; 8])],
            };
            let change = |array: &mut ArrowArray| (array.length, array.offset) = (length, offset);
            assert_eq!(refused(&ty, &Data::new(0, buffers), change), BEYOND, "{ty:?}");
        }
    }
}

#[test]
fn what_is_wrong_with_children() {
    let fixed = || (Type::new("+w:2", [Type::new("l", [])]), Data::new(2, [None]).with([integers(&[1, 2, 3, 4])]));
    let fields = || (Type::new("+s", [Type::new("l", [])]), Data::new(2, [None]).with([integers(&[1, 2])]));
    for (ty, data) in [fixed(), fields(), (list_type(), lists(&[&[1]]))] {
        assert_eq!(refused(&ty, &data, |array| array.children = ptr::null_mut()), NULL_CHILDREN);
        let gone = |array: &mut ArrowArray| set_child(array, 0, ptr::null_mut());
        match with(&ty, &data, gone, |array| array.items(0).map(|_| ())) {
            Ok(read) => assert_eq!((&*ty.format, read), ("+l", Err(Broken(NULL_CHILD)))),
            Err(broken) => assert_eq!(broken, Broken(NULL_CHILD)),
        }
        let released = with(&ty, &data, |array| child(array, 0).release = None, |array| array.child(0).map(|_| ()));
        assert_eq!(released, Ok(Err(Broken(RELEASED))));
    }
    for (ty, data) in [fixed(), fields()] {
        assert_eq!(refused(&ty, &data, |array| child(array, 0).length -= 1), SHORT);
        assert_eq!(refused(&ty, &data, |array| array.offset = 1), SHORT);
        assert_eq!(refused(&ty, &data, |array| array.length += 1), SHORT);
    }
}

/// What reading a row says, as tokens, as an array, and of its length.
fn row(ty: &Type, data: &Data, row: usize) -> (Read<Vec<Tree>>, Read<usize>) {
    let batch = batch(ty, data);
    let column = batch.column(0).unwrap();
    let array = read_array(&column, row).map(|array| array.map(|(_, values)| values));
    let tokens = read_tokens(&column, row, false);
    assert_eq!(array, tokens);
    (tokens, cell::length(&column, row, false))
}

#[test]
fn offsets_of_lists_that_are_wrong() {
    for (offsets, what) in [
        ([0, 3, 2], BACKWARDS),
        ([0, 0, -1], NEGATIVE_OFFSET),
        ([0, -1, 2], NEGATIVE_OFFSET),
        ([0, i64::MIN, i64::MIN], NEGATIVE_OFFSET),
        ([0, 0, 4], PAST),
        ([0, 4, 4], PAST),
        ([0, 0, i64::MAX], PAST),
        ([0, i64::MAX, i64::MAX], PAST),
    ] {
        let broken = (Err(Cause::Inconsistent { what }), Err(Cause::Inconsistent { what }));
        let items = || integers(&[1, 2, 3]);
        let data = Data::new(2, [None, wide(&offsets)]).with([items()]);
        assert_eq!(row(&Type::new("+L", [Type::new("l", [])]), &data, 1), broken, "{offsets:?}");
        #[expect(clippy::cast_possible_truncation, reason = "-1 is the last offset of i64::MAX, and 0 of i64::MIN")]
        let short = offsets.map(|offset| offset.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
        let data = Data::new(2, [None, narrow(&short)]).with([items()]);
        assert_eq!(row(&list_type(), &data, 1), broken, "{short:?}");
    }
}

#[test]
fn offsets_of_text_that_are_wrong() {
    for (offsets, what) in [
        ([0, 3, 2], BACKWARDS),
        ([0, -1, 2], NEGATIVE_OFFSET),
        ([0, 0, -1], NEGATIVE_OFFSET),
        ([-1, 0, 0], NEGATIVE_OFFSET),
    ] {
        for (format, buffer) in [("u", narrow(&offsets)), ("Z", wide(&offsets.map(i64::from)))] {
            let batch = batch(&Type::new(format, []), &Data::new(2, [None, buffer, Some(b"ab".to_vec())]));
            let column = batch.column(0).unwrap();
            let read: Vec<_> = (0..2).filter_map(|row| column.text(row).err()).collect();
            assert!(!read.is_empty() && read.iter().all(|broken| *broken == Broken(what)), "{offsets:?}: {read:?}");
        }
    }
}

#[test]
fn text_is_as_long_as_its_last_offset_says() {
    for (format, offsets) in [("z", narrow(&[0, i32::MAX, 2, 2])), ("Z", wide(&[0, i64::MAX, 2, 2]))] {
        let batch = batch(&Type::new(format, []), &Data::new(3, [None, offsets, Some(b"ab".to_vec())]));
        let text: Vec<_> = (0..3).map(|row| batch.column(0).unwrap().text(row)).collect();
        assert_eq!(text, [Err(Broken(BACKWARDS)), Err(Broken(BACKWARDS)), Ok(&b""[..])]);
    }
}

/// A column may have more rows than its table: the last of its own offsets counts.
#[test]
fn text_of_a_column_that_is_longer_than_its_table() {
    let column = Data::new(4, [None, narrow(&[0, 1, 1000, 2, 2]), Some(b"ab".to_vec())]);
    let table = Data::new(2, [None]).with([column]);
    let batch = batch_of(&Type::new("+s", [Type::new("u", [])]).field(), table.export(&Ledger::default())).unwrap();
    let text = [0, 1].map(|row| batch.column(0).unwrap().text(row).map(<[u8]>::len));
    assert_eq!(text, [Ok(1), Err(Broken(BACKWARDS))]);
}

#[test]
fn text_without_a_buffer() {
    let batch = batch(&Type::new("u", []), &Data::new(3, [None, narrow(&[0, 0, 1, 1]), None]));
    let text: Vec<_> = (0..3).map(|row| batch.column(0).unwrap().text(row)).collect();
    assert_eq!(text, [Ok(&b""[..]), Err(Broken("it has text, but its buffer is at NULL")), Ok(b"")]);
}

#[test]
fn records_of_views_that_are_wrong() {
    let buffer = || Some(vec![b'a'; 20]);
    let read = |[length, buffer_index, begin]: [i32; 3], buffers: Vec<Option<Vec<u8>>>, sizes| {
        let record = narrow(&[length, 0, buffer_index, begin]);
        let data = Data::new(1, [vec![None, record], buffers, vec![sizes]].concat());
        batch(&Type::new("vu", []), &data).column(0).unwrap().text(0).map(<[u8]>::len)
    };
    let one = |record| read(record, vec![buffer()], wide(&[20]));
    assert_eq!(one([13, 0, 7]), Ok(13));
    assert_eq!(one([20, 0, 0]), Ok(20));
    assert_eq!(one([12, i32::MAX, i32::MIN]), Ok(12), "short text has no place");
    for length in [-1, i32::MIN] {
        assert_eq!(one([length, 0, 0]), Err(Broken("a text has a negative length")));
    }
    for (buffer, begin) in [(-1, 0), (0, -1), (i32::MIN, i32::MIN)] {
        assert_eq!(one([13, buffer, begin]), Err(Broken("a text begins before its buffer")));
    }
    for buffer in [1, 2, i32::MAX] {
        assert_eq!(one([13, buffer, 0]), Err(Broken("a text is in a buffer that is not there")));
    }
    for (length, begin) in [(13, 8), (21, 0), (i32::MAX, i32::MAX), (13, 20)] {
        assert_eq!(one([length, 0, begin]), Err(Broken("a text ends behind its buffer")));
    }
    for size in [-1, i64::MIN, 12] {
        assert_eq!(read([13, 0, 0], vec![buffer()], wide(&[size])), Err(Broken("a text ends behind its buffer")));
    }
    assert_eq!(read([13, 0, 0], vec![None], wide(&[20])), Err(Broken("it has text, but its buffer is at NULL")));
    assert_eq!(read([13, 0, 0], vec![buffer()], None), Err(Broken("its buffers of text have no lengths")));
    assert_eq!(read([13, 0, 0], vec![], wide(&[])), Err(Broken("a text is in a buffer that is not there")));
    assert_eq!(read([13, 0, 0], vec![], None), Err(Broken("its buffers of text have no lengths")));
    let last = read([13, 1, 20], vec![Some(vec![]), Some(vec![b'a'; 33])], wide(&[0, 33]));
    assert_eq!(last, Ok(13));
}

#[test]
fn lists_in_lists_that_are_wrong() {
    let ty = Type::new("+l", [list_type()]);
    for (offsets, what) in [([0, 2, 1], BACKWARDS), ([0, -1, -2], NEGATIVE_OFFSET), ([0, 2, 9], PAST)] {
        let inner = Data::new(2, [None, narrow(&offsets)]).with([integers(&[1, 2, 3])]);
        let batch = batch(&ty, &Data::new(2, [None, narrow(&[0, 2, 2])]).with([inner]));
        let column = batch.column(0).unwrap();
        assert_eq!(read_array(&column, 0), Err(Cause::Inconsistent { what }), "{offsets:?}");
        assert_eq!(read_array(&column, 1), Ok(Some((vec![0, 0], vec![]))), "another row is none the worse");
    }
    let released = |array: &mut ArrowArray| child(child(array, 0), 0).release = None;
    let data = Data::new(1, [None, narrow(&[0, 1])]).with([lists(&[&[1]])]);
    let expected = Cause::Inconsistent { what: RELEASED };
    let (array, tokens) =
        with(&ty, &data, released, |column| (read_array(&column, 0), read_tokens(&column, 0, true))).unwrap();
    assert_eq!((array, tokens), (Err(expected.clone()), Err(expected)));
}

#[test]
fn nulls_that_are_not_counted_are_seen() {
    for nulls in [0, -1, 2] {
        let data = Data { nulls, ..Data::new(2, [bits(&[true, false]), wide(&[1, 2])]) };
        let batch = batch(&Type::new("l", []), &data);
        let column = batch.column(0).unwrap();
        assert_eq!([column.is_null(0), column.is_null(1)], [false, true], "{nulls}");
        assert_eq!(cell::number(&column, 1), Ok(None));
    }
}

#[test]
#[should_panic(expected = "row 2 of 2")]
fn a_list_beyond_the_end_panics() {
    let batch = batch(&list_type(), &lists(&[&[1], &[2]]));
    let _ = batch.column(0).unwrap().items(2);
}

#[test]
#[should_panic(expected = "1..3 of 2 rows")]
fn values_beyond_the_end_panic() {
    let batch = batch(&Type::new("l", []), &integers(&[1, 2]));
    let _ = batch.column(0).unwrap().run(1..3);
}

#[test]
#[should_panic(expected = "1..3 of 2 halves")]
fn halves_beyond_the_end_panic() {
    let batch = batch(&Type::new("e", []), &Data::new(2, [None, Some(vec![0; 4])]));
    let _ = batch.column(0).unwrap().halves(&(1..3));
}

#[test]
#[should_panic(expected = "2..3 of 2 rows")]
fn a_null_beyond_the_end_panics() {
    let batch = batch(&Type::new("l", []), &integers(&[1, 2]));
    let _ = batch.column(0).unwrap().is_null(2);
}
