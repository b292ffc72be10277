//! Records that were right, and then changed at random wherever a change can be found out: whatever is read of them,
//! nothing panics (so that nothing overflows), and all is given back. Valgrind says whether nothing else is read.

use std::ptr;

use _core::source::arrow::abi::ArrowArray;
use proptest::prelude::*;

use crate::arrow_any::{column, forms};
use crate::arrow_build::{Data, Ledger, batch_of, child, set_buffer, set_child};
use crate::arrow_naive::read_all;
use crate::arrow_values::{Of, encode};
use crate::cases;

/// A change of some record of a tree.
#[derive(Clone, Debug)]
enum Change {
    Length(i64),
    Offset(i64),
    NullCount(i64),
    Buffers(i64),
    Children(i64),
    NoBuffers,
    NoBuffer(prop::sample::Index),
    NoChildren,
    NoChild,
    Released,
}

/// A number of any size, mostly one that could nearly be right.
fn number() -> impl Strategy<Value = i64> {
    const MOST: [i64; 7] = [i64::MAX, i64::MAX - 1, i64::MAX / 2, i64::MIN, i64::MIN + 1, 1 << 32, (1 << 62) - 1];
    prop_oneof![4 => -3_i64..8, 2 => prop::sample::select(&MOST[..]), 1 => any::<i64>()]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => number().prop_map(Change::Length),
        4 => number().prop_map(Change::Offset),
        2 => number().prop_map(Change::NullCount),
        1 => number().prop_map(Change::Buffers),
        1 => number().prop_map(Change::Children),
        1 => Just(Change::NoBuffers),
        2 => any::<prop::sample::Index>().prop_map(Change::NoBuffer),
        1 => Just(Change::NoChildren),
        1 => Just(Change::NoChild),
        1 => Just(Change::Released),
    ]
}

/// Changes a record, unless nobody could find out that buffers are shorter than it says.
fn apply(change: &Change, of: &Of, record: &mut ArrowArray) {
    let checked = is_checked(of);
    match change {
        Change::Length(length) if checked || *length <= record.length => record.length = *length,
        Change::Offset(offset) if checked || *offset <= record.offset => record.offset = *offset,
        Change::NullCount(count) => record.null_count = *count,
        Change::Buffers(count) if !matches!(of, Of::View) || *count < 3 => record.n_buffers = *count,
        Change::Length(_) | Change::Offset(_) | Change::Buffers(_) => {}
        Change::Children(count) => record.n_children = *count,
        Change::NoBuffers => record.buffers = ptr::null_mut(),
        Change::NoBuffer(index) => {
            if record.n_buffers > 0 && !record.buffers.is_null() {
                set_buffer(record, index.index(buffers(of)), ptr::null());
            }
        }
        Change::NoChildren => record.children = ptr::null_mut(),
        Change::NoChild => {
            if !children(of).is_empty() && !record.children.is_null() {
                set_child(record, 0, ptr::null_mut());
            }
        }
        Change::Released => record.release = None,
    }
}

/// Whether it is found out that it has fewer rows than it says: by the length of its children, unless these say more
/// than they have as well.
fn is_checked(of: &Of) -> bool {
    let has_items = !matches!(of, Of::List(..) | Of::Fixed(0, _));
    has_items && !children(of).is_empty() && !children(of).into_iter().any(is_checked)
}

/// How many buffers `encode` makes.
fn buffers(of: &Of) -> usize {
    match of {
        Of::Null => 0,
        Of::Struct(_) | Of::Fixed(..) => 1,
        Of::Bool | Of::Number(_) | Of::Half | Of::List(..) => 2,
        Of::Text(_) => 3,
        Of::View => 5,
    }
}

fn children(of: &Of) -> Vec<&Of> {
    match of {
        Of::List(_, inner) | Of::Fixed(_, inner) => vec![inner],
        Of::Struct(fields) => fields.iter().collect(),
        _ => Vec::new(),
    }
}

/// Changes records, those of children first; each record takes the next of the changes.
fn change_all(changes: &mut impl Iterator<Item = Option<Change>>, of: &Of, record: &mut ArrowArray) {
    for (index, of) in children(of).into_iter().enumerate() {
        change_all(changes, of, child(record, index));
    }
    if let Some(change) = changes.next().flatten() {
        apply(&change, of, record);
    }
}

/// Writes numbers over offsets and the records of views, as far as they can be found out.
fn overwrite(values: &mut impl Iterator<Item = Option<(prop::sample::Index, i64)>>, of: &Of, data: &mut Data) {
    let most = data.buffers.get(2).and_then(Option::as_ref).map_or(0, Vec::len);
    if let Some((place, value)) = values.next().flatten() {
        let wide = matches!(of, Of::List(true, _) | Of::Text(true));
        let value = match of {
            // Nobody knows how long the text is, but what its last offset says.
            Of::Text(_) => value.min(i64::try_from(most).unwrap()),
            _ => value,
        };
        if let (Of::List(..) | Of::Text(_) | Of::View, Some(bytes)) =
            (of, data.buffers.get_mut(1).and_then(Option::as_mut))
        {
            let size = if wide { 8 } else { 4 };
            if bytes.len() >= size {
                let at = place.index(bytes.len() / size) * size;
                if wide {
                    bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
                } else {
                    #[expect(clippy::cast_possible_truncation, reason = "it is clamped")]
                    let narrow = value.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
                    bytes[at..at + 4].copy_from_slice(&narrow.to_ne_bytes());
                }
            }
        }
    }
    for (of, child) in children(of).into_iter().zip(&mut data.children) {
        overwrite(values, of, child);
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_record_is_too_strange(
        (of, values) in column(),
        forms in forms(),
        changes in prop::collection::vec(prop::option::weighted(0.4, change()), 0..6),
        numbers in prop::collection::vec(prop::option::weighted(0.5, (any::<prop::sample::Index>(), number())), 0..6),
    ) {
        let ledger = Ledger::default();
        let mut column = encode(&of, &values, &forms);
        overwrite(&mut numbers.into_iter(), &of, &mut column);
        let table = Of::Struct(vec![of]);
        let rows = column.length;
        let mut record = Data::new(rows, [None]).with([column]).export(&ledger);
        let whole = record.release;
        change_all(&mut changes.into_iter(), &table, &mut record);
        record.release = whole; // without it nobody could give it back
        if let Ok(batch) = batch_of(&table.schema().field(), record) {
            for index in 0..batch.fields().len() {
                let _ = batch.column(index).map(|column| read_all(&column));
            }
            let _ = batch.first_null(0..batch.rows());
        }
        ledger.assert_settled();
    }
}
