//! Random types, values and ways to lay them out in memory: what is read equals what was written.

use _core::source::arrow::cell;
use proptest::prelude::*;

use crate::arrow_any::{column, form, forms};
use crate::arrow_build::{Data, Ledger, Type, batch, batch_of};
use crate::arrow_naive::{self as naive, read, read_array, read_tokens};
use crate::arrow_values::{Form, Of, Tree, encode};
use crate::cases;
use crate::naive::Plain;

/// A table of this column, whose struct has an offset of its own, and the number of records in it.
fn sliced(of: &Of, values: &[Tree], forms: &[Form]) -> (Type, Data) {
    let whole = Of::Struct(vec![of.clone()]);
    let rows: Vec<Tree> = values.iter().map(|value| Tree::Items(vec![value.clone()])).collect();
    (whole.schema(), encode(&whole, &rows, forms))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_value_is_read((of, values) in column(), forms in forms()) {
        let ledger = Ledger::default();
        let (ty, data) = sliced(&of, &values, &forms);
        let batch = batch_of(&ty.field(), data.export(&ledger)).unwrap();
        prop_assert_eq!(batch.rows(), values.len());
        let column = batch.column(0).unwrap();
        prop_assert_eq!(column.rows(), values.len());
        let seen: Vec<Tree> = (0..values.len()).map(|row| read(&column, row)).collect();
        prop_assert_eq!(&seen, &values);
        drop(batch);
        ledger.assert_settled();
    }

    #[test]
    fn the_first_null_of_any_rows_is_found(
        valid in prop::collection::vec(prop::bool::weighted(0.97), 0..300),
        form in form(),
        cuts: (prop::sample::Index, prop::sample::Index),
    ) {
        let values: Vec<Tree> =
            valid.iter().map(|&valid| if valid { Tree::Bytes(vec![1]) } else { Tree::Null }).collect();
        let batch = batch(&Of::Bool.schema(), &encode(&Of::Bool, &values, &[form]));
        let column = batch.column(0).unwrap();
        let (a, b) = (cuts.0.index(valid.len() + 1), cuts.1.index(valid.len() + 1));
        let rows = a.min(b)..a.max(b);
        prop_assert_eq!(column.first_null(rows.clone()), valid[rows].iter().position(|valid| !valid));
        for (row, valid) in valid.iter().enumerate() {
            prop_assert_eq!(column.is_null(row), !valid);
        }
    }

    #[test]
    fn rows_of_tokens_match_naive((of, values) in column(), forms in forms()) {
        let (ty, data) = sliced(&of, &values, &forms);
        let batch = batch_of(&ty.field(), data.export(&Ledger::default())).unwrap();
        let column = batch.column(0).unwrap();
        for (row, value) in values.iter().enumerate() {
            for unbatch in [false, true] {
                prop_assert_eq!(read_tokens(&column, row, unbatch), naive::tokens(&of, value, unbatch), "{}", unbatch);
                prop_assert_eq!(cell::length(&column, row, unbatch), naive::length(&of, value, unbatch));
            }
        }
    }

    #[test]
    fn arrays_match_naive((of, values) in column(), forms in forms()) {
        let (ty, data) = sliced(&of, &values, &forms);
        let batch = batch_of(&ty.field(), data.export(&Ledger::default())).unwrap();
        let column = batch.column(0).unwrap();
        for (row, value) in values.iter().enumerate() {
            prop_assert_eq!(read_array(&column, row), naive::array(&of, value));
        }
    }

    #[test]
    fn numbers_match_naive((of, values) in column(), forms in forms()) {
        let (ty, data) = sliced(&of, &values, &forms);
        let batch = batch_of(&ty.field(), data.export(&Ledger::default())).unwrap();
        let column = batch.column(0).unwrap();
        for (row, value) in values.iter().enumerate() {
            let number = cell::number(&column, row).map(|number| number.map(Plain::from));
            prop_assert_eq!(number, naive::number(&of, value));
        }
    }
}
