//! Tables: rows of several batches, against plain vectors of them.

use std::sync::Arc;

use _core::source::arrow::abi::ArrowArray;
use _core::source::arrow::{Broken, NoBatch, Table};
use proptest::prelude::*;

use crate::arrow_build::{Data, Ledger, Type, batch_of, bits, integers};
use crate::arrow_naive::leaves;
use crate::arrow_values::Tree;
use crate::cases;

/// The type of a table of one column of integers, of this name.
fn table_type(name: &str) -> Type {
    Type::new("+s", [Type::new("l", []).named(name)])
}

/// A batch of them, of which only some rows are taken.
fn rows(values: &[i64], offset: usize) -> Data {
    let whole = [vec![-1; offset], values.to_vec()].concat();
    Data { offset, ..Data::new(values.len(), [None]).with([integers(&whole)]) }
}

/// What a table is, in plain words: its rows, and its batches' names of the column.
#[derive(Clone, Debug, Default)]
struct Naive {
    rows: Vec<i64>,
    first: Option<String>,
}

fn value(tree: &Tree) -> i64 {
    i64::from_ne_bytes(tree.bytes().try_into().unwrap())
}

/// All that a table says is what the naive one says.
fn assert_same(table: &Table, naive: &Naive) {
    assert_eq!(table.rows(), naive.rows.len());
    assert_eq!(table.fields().first().map(|field| field.name.clone()), naive.first);
    let found: Vec<i64> = (0..table.rows())
        .map(|row| {
            let (batch, at) = table.find(row).unwrap();
            value(&leaves(&batch.column(0).unwrap(), at..at + 1)[0])
        })
        .collect();
    assert_eq!(found, naive.rows);
    for beyond in [table.rows(), table.rows() + 1, usize::MAX] {
        assert!(table.find(beyond).is_none());
        assert!(table.take(&[beyond]).is_none());
    }
    let mut by_parts = Vec::new();
    for (batch, rows, before) in table.parts() {
        assert_eq!(before, by_parts.len());
        assert!(!rows.is_empty());
        by_parts.extend(leaves(&batch.column(0).unwrap(), rows).iter().map(value));
    }
    assert_eq!(by_parts, naive.rows);
}

#[derive(Clone, Debug)]
enum Step {
    Push(u8, usize),
    AppendItself,
    AppendToNone,
    AppendHead(prop::sample::Index),
    Head(prop::sample::Index),
    HeadBeyond(usize),
    Slice(prop::sample::Index, usize),
    Take(Vec<prop::sample::Index>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..5, 0_usize..4).prop_map(|(rows, offset)| Step::Push(rows, offset)),
        1 => Just(Step::AppendItself),
        1 => Just(Step::AppendToNone),
        1 => any::<prop::sample::Index>().prop_map(Step::AppendHead),
        1 => any::<prop::sample::Index>().prop_map(Step::Head),
        1 => (0_usize..3).prop_map(Step::HeadBeyond),
        2 => (any::<prop::sample::Index>(), 0_usize..9).prop_map(|(begin, rows)| Step::Slice(begin, rows)),
        2 => prop::collection::vec(any::<prop::sample::Index>(), 0..6).prop_map(Step::Take),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn tables_match_naive(steps in prop::collection::vec(step(), 0..9)) {
        let ledger = Ledger::default();
        let (mut table, mut naive, mut next) = (Table::default(), Naive::default(), 0_i64);
        assert_same(&table, &naive);
        for (number, step) in steps.into_iter().enumerate() {
            let count = naive.rows.len();
            match step {
                Step::Push(added, offset) => {
                    let values: Vec<i64> = (next..).take(added.into()).collect();
                    next += i64::from(added);
                    let name = format!("of step {number}");
                    table.push(batch_of(&table_type(&name).field(), rows(&values, offset).export(&ledger)).unwrap()).unwrap();
                    naive.rows.extend(values);
                    naive.first.get_or_insert(name);
                }
                Step::AppendItself => {
                    table.append(&table.clone()).unwrap();
                    naive.rows.extend_from_within(..);
                }
                Step::AppendToNone => {
                    let mut other = Table::default();
                    other.append(&table).unwrap();
                    table = other;
                }
                Step::AppendHead(index) => {
                    let head = index.index(count + 1);
                    table.append(&table.head(head)).unwrap();
                    naive.rows.extend_from_within(..head);
                }
                Step::Head(index) => {
                    let head = index.index(count + 1);
                    table = table.head(head);
                    naive.rows.truncate(head);
                }
                Step::HeadBeyond(more) => table = table.head(count + more),
                Step::Slice(begin, rows) => {
                    let begin = begin.index(count + 2); // also behind the last row
                    table = table.slice(begin, rows);
                    naive.rows = naive.rows.into_iter().skip(begin).take(rows).collect();
                }
                Step::Take(indices) if count > 0 => {
                    let rows: Vec<usize> = indices.iter().map(|index| index.index(count)).collect();
                    table = table.take(&rows).unwrap();
                    naive.rows = rows.iter().map(|&row| naive.rows[row]).collect();
                }
                Step::Take(_) => table = table.take(&[]).unwrap(),
            }
            assert_same(&table, &naive);
        }
        drop(table);
        ledger.assert_settled();
    }
}

#[test]
fn head_of_any_number_is_all() {
    let mut table = Table::default();
    table.push(batch_of(&table_type("a").field(), rows(&[1, 2], 1).export(&Ledger::default())).unwrap()).unwrap();
    let all = Naive { rows: vec![1, 2], first: Some("a".to_owned()) };
    assert_same(&table.head(usize::MAX), &all);
    assert_same(&table.head(2), &all);
    assert_same(&table.slice(0, usize::MAX), &all);
    assert_same(&table.slice(1, usize::MAX), &Naive { rows: vec![2], ..all });
}

#[test]
fn rows_that_are_taken_keep_their_memory() {
    let ledger = Ledger::default();
    let mut table = Table::default();
    table.push(batch_of(&table_type("a").field(), rows(&[1, 2], 0).export(&ledger)).unwrap()).unwrap();
    let parts = [table.take(&[1, 0, 1]).unwrap(), table.head(1), table.clone()];
    drop(table);
    assert_eq!(ledger.back(), 0);
    assert_same(&parts[0], &Naive { rows: vec![2, 1, 2], first: Some("a".to_owned()) });
    drop(parts);
    ledger.assert_settled();
}

#[test]
fn batches_of_a_stream_share_their_type() {
    let field = table_type("a").field();
    let mut table = Table::default();
    for _ in 0..2 {
        table.push(batch_of(&field, rows(&[1], 0).export(&Ledger::default())).unwrap()).unwrap();
    }
    assert!(table.parts().all(|(batch, _, _)| Arc::ptr_eq(batch.schema(), &field)));
}

#[test]
fn more_rows_than_can_be_counted() {
    let field = Type::new("+s", []).field();
    let most = || -> ArrowArray { Data::new(isize::MAX.cast_unsigned(), [None]).export(&Ledger::default()) };
    let mut table = Table::default();
    table.push(batch_of(&field, most()).unwrap()).unwrap();
    table.push(batch_of(&field, most()).unwrap()).unwrap();
    let too_many = Err(Broken("it has more rows than can be counted"));
    assert_eq!(table.push(batch_of(&field, most()).unwrap()), too_many);
    assert_eq!(table.append(&table.clone()), too_many);
    assert_eq!(table.rows(), usize::MAX - 1);
    assert_eq!(table.parts().count(), 2);
    assert_eq!(table.find(usize::MAX - 2).unwrap().1, isize::MAX.cast_unsigned() - 1);
    assert_eq!(table.head(usize::MAX - 2).rows(), usize::MAX - 2);
    assert_eq!(table.slice(isize::MAX.cast_unsigned() - 1, 3).parts().count(), 2);
}

#[test]
fn a_row_that_is_null_is_counted_from_the_first_of_them() {
    let mut data = rows(&[1, 2, 3, 4, 5], 1);
    (data.buffers[0], data.nulls) = (bits(&[false, true, true, true, false, true]), 1);
    let batch = batch_of(&table_type("a").field(), data.export(&Ledger::default())).unwrap();
    assert_eq!(batch.first_null(0..5), Some(3));
    assert_eq!(batch.first_null(2..4), Some(1));
    assert_eq!(batch.first_null(4..5), None);
}

#[test]
fn a_column_alone_is_no_table() {
    let ledger = Ledger::default();
    let no_batch = |ty: &Type, data: &Data| batch_of(&ty.field(), data.export(&ledger)).unwrap_err();
    assert_eq!(no_batch(&Type::new("l", []), &integers(&[1])), NoBatch::NoStruct);
    let tensor = table_type("data").extension("ray.data.arrow_variable_shaped_tensor", "");
    assert_eq!(no_batch(&tensor, &rows(&[1], 0)), NoBatch::NoStruct, "each row of it is an array");
    ledger.assert_settled();
}
