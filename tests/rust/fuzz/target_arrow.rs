//! Tables in Arrow's memory. Good ones are what the naive reader says; of any others, whose buffers are as long as their
//! own numbers demand, it is asked that nothing panics, nothing else is read, and each record is given back once.
#![allow(unsafe_code)]

use std::sync::Arc;

use _core::cells::Element;
use _core::source::arrow::schema::{Field, Kind};
use _core::source::arrow::{RecordBatch, Table, cell};
use arbitrary::Result;

use super::arrow_node::{Node, any_schema};
use super::given::{Bytes, any, any_size, several};
use crate::arrow_build::{Data, Ledger, batch_of, owned};
use crate::arrow_naive::{self as naive, read, read_all, read_array, read_tokens};
use crate::arrow_values::{Form, Of, Tree, encode};
use crate::memory::ELEMENTS;
use crate::naive::Plain;

pub fn arrow(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let _ = match bytes.int_in_range(0..=3_u8) {
        Ok(0) => good(&mut bytes),
        Ok(1) => schemas(&mut bytes),
        _ => records(&mut bytes),
    };
}

/// A column of values, as a producer could give it.
fn good(u: &mut Bytes<'_>) -> Result<()> {
    let of = any_of(u, 4)?;
    let nulls = u.arbitrary()?;
    let values = several(u, 0..=8, |u| any_tree(u, &of, nulls))?;
    let forms = several(u, 5..=5, any_form)?;
    let whole = Of::Struct(vec![of.clone()]);
    let rows: Vec<Tree> = values.iter().map(|value| Tree::Items(vec![value.clone()])).collect();
    let ledger = Ledger::default();
    let batch = batch_of(&whole.schema().field(), encode(&whole, &rows, &forms).export(&ledger)).unwrap();
    let column = batch.column(0).unwrap();
    assert_eq!((batch.rows(), column.rows()), (values.len(), values.len()));
    assert_eq!(column.first_null(0..values.len()).is_some(), has_null(&of, &values));
    for (row, value) in values.iter().enumerate() {
        assert_eq!(read(&column, row), *value);
        for unbatch in [false, true] {
            assert_eq!(read_tokens(&column, row, unbatch), naive::tokens(&of, value, unbatch));
            assert_eq!(cell::length(&column, row, unbatch), naive::length(&of, value, unbatch));
        }
        assert_eq!(read_array(&column, row), naive::array(&of, value));
        let number = cell::number(&column, row).map(|number| number.map(Plain::from));
        assert_eq!(number, naive::number(&of, value));
    }
    drop(batch);
    ledger.assert_settled();
    Ok(())
}

/// Whether bits say that a row is null: those of nothing but nulls have none.
fn has_null(of: &Of, values: &[Tree]) -> bool {
    !matches!(of, Of::Null) && values.contains(&Tree::Null)
}

/// Types alone, which need not have an array.
fn schemas(u: &mut Bytes<'_>) -> Result<()> {
    let (ty, change) = any_schema(u)?;
    let ledger = Ledger::default();
    let mut record = ty.export(&ledger);
    let whole = record.release;
    change.apply(&mut record);
    record.release = whole; // without it nobody could give it back
    let schema = owned(record);
    // SAFETY: `export` has made it, and what was changed can be checked.
    if let Ok(field) = unsafe { Field::read(schema.get()) } {
        look(&field);
    }
    drop(schema);
    ledger.assert_settled();
    Ok(())
}

fn look(field: &Field) {
    assert!(!field.type_name.is_empty());
    let _ = (field.takes_memory(), field.is_list());
    field.children.iter().for_each(look);
    if let Some(values) = &field.dictionary {
        look(values);
    }
}

/// Tables of any batches.
fn records(u: &mut Bytes<'_>) -> Result<()> {
    let node = Node::of_struct(u)?;
    let schema = node.ty().export(&Ledger::default());
    let schema = owned(schema);
    // SAFETY: `export` has made it.
    let Ok(field) = (unsafe { Field::read(schema.get()) }) else { return Ok(()) };
    let field = Arc::new(field);
    let ledger = Ledger::default();
    let mut table = Table::of(&field);
    for _ in 0..u.int_in_range(1..=2)? {
        let (data, changes) = node.any_data(u)?;
        if let Some(batch) = batch(&field, &data, &ledger, |record| changes.apply(record)) {
            let _ = table.push(batch);
        }
    }
    for (batch, rows, _) in table.parts() {
        for index in 0..batch.fields().len() {
            if let Ok(column) = batch.column(index) {
                assert_eq!(column.rows(), batch.rows());
                read_all(&column);
            }
        }
        let _ = batch.first_null(rows);
    }
    parts(u, &table)?;
    drop(table);
    ledger.assert_settled();
    Ok(())
}

fn batch(
    field: &Arc<Field>,
    data: &Data,
    ledger: &Ledger,
    change: impl FnOnce(&mut _core::source::arrow::abi::ArrowArray),
) -> Option<RecordBatch> {
    let mut record = data.export(ledger);
    let whole = record.release;
    change(&mut record);
    record.release = whole;
    let batch = batch_of(field, record).ok()?;
    assert!(batch.schema().kind == Kind::Struct);
    Some(batch)
}

/// Rows of a table, and rows of these.
fn parts(u: &mut Bytes<'_>, table: &Table) -> Result<()> {
    let rows = table.rows();
    let (begin, count) = (any_size(u)?, any_size(u)?);
    let slice = table.slice(begin, count);
    assert_eq!(slice.rows(), count.min(rows.saturating_sub(begin)));
    assert_eq!(table.head(count).rows(), count.min(rows));
    let wanted = several(u, 0..=3, any_size)?;
    assert_eq!(table.take(&wanted).is_some(), wanted.iter().all(|&row| row < rows));
    if slice.rows() > 0 {
        let at = any_size(u)? % slice.rows();
        let place = |(batch, row): (&RecordBatch, usize)| (std::ptr::from_ref(batch), row);
        assert_eq!(slice.find(at).map(place), table.find(begin + at).map(place));
    }
    let mut twice = table.clone();
    assert_eq!(twice.append(table).is_ok(), rows.checked_mul(2).is_some());
    Ok(())
}

fn any_form(u: &mut Bytes<'_>) -> Result<Form> {
    let [misaligned, bits, counted]: [bool; 3] = u.arbitrary()?;
    Ok(Form { before: u.int_in_range(0..=9)?, behind: u.int_in_range(0..=9)?, misaligned, bits, counted })
}

fn any_of(u: &mut Bytes<'_>, depth: usize) -> Result<Of> {
    Ok(match u.int_in_range(0..=if depth == 0 { 5_u8 } else { 10 })? {
        0 => Of::Null,
        1 => Of::Half,
        2 => Of::Text(u.arbitrary()?),
        3 => Of::View,
        4 | 5 => match *u.choose(&ELEMENTS)? {
            Element::Bool => Of::Bool,
            element => Of::Number(element),
        },
        6..=8 => Of::List(u.arbitrary()?, Box::new(any_of(u, depth - 1)?)),
        9 => Of::Fixed(u.int_in_range(0..=3)?, Box::new(any_of(u, depth - 1)?)),
        _ => Of::Struct(several(u, 0..=2, |u| any_of(u, depth - 1))?),
    })
}

fn any_tree(u: &mut Bytes<'_>, of: &Of, nulls: bool) -> Result<Tree> {
    if matches!(of, Of::Null) || nulls && u.ratio(1, 8)? {
        return Ok(Tree::Null);
    }
    let bytes = |u: &mut Bytes<'_>, size| several(u, size..=size, any).map(Tree::Bytes);
    match of {
        Of::Null => Ok(Tree::Null),
        Of::Bool => Ok(Tree::Bytes(vec![u.arbitrary::<bool>()?.into()])),
        Of::Number(element) => bytes(u, element.size()),
        Of::Half => bytes(u, 2),
        Of::List(_, inner) => several(u, 0..=3, |u| any_tree(u, inner, nulls)).map(Tree::Items),
        Of::Fixed(size, inner) => several(u, *size..=*size, |u| any_tree(u, inner, nulls)).map(Tree::Items),
        Of::Struct(fields) => {
            let fields = fields.iter().map(|field| any_tree(u, field, nulls));
            fields.collect::<Result<_>>().map(Tree::Items)
        }
        Of::Text(_) | Of::View => {
            let size = u.int_in_range(0..=20)?;
            bytes(u, size)
        }
    }
}
