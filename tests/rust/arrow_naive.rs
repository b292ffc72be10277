//! What rows of Arrow columns are to a batch, in the plainest words, on trees; and what the crate reads.
#![allow(unsafe_code)]

use std::ops::Range;

use _core::cells::Element;
use _core::error::Cause;
use _core::source::NotPlain;
use _core::source::arrow::array::{Array, Run};
use _core::source::arrow::cell;
use _core::source::arrow::schema::Kind;

use crate::arrow_values::{Of, Tree};
use crate::naive::{Plain, from_bytes, plain};

/// What is read, if it is not null.
pub(crate) type Read<T> = Result<Option<T>, Cause>;

/// A row as the crate has it, read down to its leaves.
pub(crate) fn read(array: &Array<'_>, row: usize) -> Tree {
    if array.is_null(row) {
        return Tree::Null;
    }
    match array.field().kind {
        Kind::Bool | Kind::Number(_) | Kind::Half => leaf(array, row),
        Kind::List(_) | Kind::FixedSizeList(_) => {
            let inner = array.child(0).unwrap();
            Tree::Items(array.items(row).unwrap().map(|item| read(&inner, item)).collect())
        }
        Kind::Struct => {
            let fields = array.field().children.len();
            Tree::Items((0..fields).map(|index| read(&array.column(index).unwrap(), row)).collect())
        }
        Kind::Text(..) | Kind::View(_) => Tree::Bytes(array.text(row).unwrap().to_vec()),
        Kind::Null | Kind::Other | Kind::Dictionary(_) => unreachable!("trees have no such value"),
    }
}

fn leaf(array: &Array<'_>, row: usize) -> Tree {
    let (start, size) = match array.run(row..row + 1) {
        Some(Run::Values { start, len, element }) => {
            assert_eq!(len, 1);
            (start, element.size())
        }
        Some(run @ Run::Bits { .. }) => {
            let Plain::Int(bit) = numbers(run)[0] else { unreachable!("a bool") };
            return Tree::Bytes(vec![u8::try_from(bit).unwrap()]);
        }
        None => (array.halves(&(row..row + 1)), 2),
    };
    // SAFETY: a value of this size is there.
    Tree::Bytes(unsafe { std::slice::from_raw_parts(start, size) }.to_vec())
}

/// The values of a run.
pub(crate) fn numbers(run: Run) -> Vec<Plain> {
    let mut all = Vec::new();
    // SAFETY: the callers have the batch.
    let source = unsafe { run.source() };
    let read = source.read::<NotPlain>(0..source.len(), |begin, values| {
        assert_eq!(begin, all.len(), "a run begins where the last one ended");
        all.extend(plain(values));
        Ok(())
    });
    assert_eq!(read, Ok(()));
    all
}

/// Some rows of an array of numbers as the crate has them.
pub(crate) fn leaves(array: &Array<'_>, rows: Range<usize>) -> Vec<Tree> {
    rows.map(|row| read(array, row)).collect()
}

/// The number that a leaf is.
pub(crate) fn number(of: &Of, leaf: &Tree) -> Read<Plain> {
    match (leaf, of) {
        (Tree::Null, _) => Ok(None),
        (Tree::Bytes(bytes), Of::Number(element)) => Ok(Some(from_bytes(*element, bytes))),
        (Tree::Bytes(bytes), Of::Bool) => Ok(Some(from_bytes(Element::Bool, bytes))),
        (Tree::Bytes(bytes), Of::Half) => Ok(Some(Plain::Float(half(u16::from_ne_bytes([bytes[0], bytes[1]]))))),
        _ => Err(wrong(of, "numbers")),
    }
}

/// A number of 16 bits, by the value of each of its bits.
pub(crate) fn half(bits: u16) -> f64 {
    let bit = |index: u32| bits >> index & 1;
    let exponent: i32 = (10..15).map(|index| i32::from(bit(index)) << (index - 10)).sum();
    let fraction: f64 = (0..10).map(|index| f64::from(bit(index)) / f64::from(1 << (10 - index))).sum();
    let size = match exponent {
        31 if fraction > 0.0 => f64::NAN,
        31 => f64::INFINITY,
        0 => fraction / 16384.0,
        _ => (1.0 + fraction) * f64::from(exponent - 15).exp2(),
    };
    if bit(15) == 1 { -size } else { size }
}

fn list(of: &Of) -> Option<&Of> {
    if let Of::List(_, inner) | Of::Fixed(_, inner) = of { Some(inner) } else { None }
}

fn is_number(of: &Of) -> bool {
    matches!(of, Of::Null | Of::Bool | Of::Number(_) | Of::Half)
}

fn name(of: &Of) -> String {
    match of {
        Of::Null => "null".to_owned(),
        Of::Bool => "bool".to_owned(),
        Of::Number(element) => element.name().to_owned(),
        Of::Half => "halffloat".to_owned(),
        Of::List(_, inner) | Of::Fixed(_, inner) => format!("list of {}", name(inner)),
        Of::Struct(_) => "struct".to_owned(),
        Of::Text(false) | Of::View => "string".to_owned(),
        Of::Text(true) => "binary".to_owned(),
    }
}

pub(crate) fn wrong(of: &Of, expected: &'static str) -> Cause {
    Cause::ArrowType { found: name(of), expected }
}

fn null(items: &[Tree]) -> Result<(), Cause> {
    match items.iter().position(|item| *item == Tree::Null) {
        Some(position) => Err(Cause::Null { position }),
        None => Ok(()),
    }
}

/// The items of a list of a type with a size, or with none.
fn size(of: &Of, items: &[Tree]) -> usize {
    match of {
        Of::Fixed(size, _) => *size,
        _ => items.first().map_or(0, |first| first.items().len()),
    }
}

/// The values of a row of tokens.
pub(crate) fn tokens(of: &Of, row: &Tree, unbatch: bool) -> Read<Vec<Tree>> {
    let Some(values) = place(of, row, unbatch)? else { return Ok(None) };
    null(&values)?;
    Ok(Some(values))
}

/// How many values a row of tokens has.
pub(crate) fn length(of: &Of, row: &Tree, unbatch: bool) -> Read<usize> {
    Ok(place(of, row, unbatch)?.map(|values| values.len()))
}

/// The values of a row of tokens, nulls as well.
fn place(of: &Of, row: &Tree, unbatch: bool) -> Read<Vec<Tree>> {
    let Tree::Items(items) = row else {
        return if *row == Tree::Null { Ok(None) } else { Err(wrong(of, "lists of integers")) };
    };
    let Some(mut inner) = list(of) else { return Err(wrong(of, "lists of integers")) };
    let mut values = items;
    if let Some(innermost) = list(inner) {
        match &items[..] {
            [Tree::Null] if unbatch => return Err(Cause::Null { position: 0 }),
            [Tree::Items(only)] if unbatch => values = only,
            _ => return Err(Cause::Shape { shape: vec![items.len(), size(inner, items)] }),
        }
        inner = innermost;
    }
    if is_number(inner) { Ok(Some(values.clone())) } else { Err(wrong(of, "lists of integers")) }
}

/// The shape and the values of an array.
pub(crate) fn array(of: &Of, row: &Tree) -> Read<(Vec<usize>, Vec<Tree>)> {
    const EXPECTED: &str = "lists of numbers, nested or not";
    let Tree::Items(items) = row else {
        return if *row == Tree::Null { Ok(None) } else { Err(wrong(of, EXPECTED)) };
    };
    let Some(mut inner) = list(of) else { return Err(wrong(of, EXPECTED)) };
    let (mut shape, mut values) = (vec![items.len()], items.clone());
    while let Some(innermost) = list(inner) {
        null(&values)?;
        let size = size(inner, &values);
        if values.iter().any(|list| list.items().len() != size) {
            return Err(Cause::Ragged);
        }
        shape.push(size);
        values = values.iter().flat_map(|list| list.items().to_vec()).collect();
        inner = innermost;
    }
    if !is_number(inner) {
        return Err(wrong(of, EXPECTED));
    }
    null(&values)?;
    Ok(Some((shape, values)))
}

/// What the crate says of a row, in the same words.
pub(crate) fn read_tokens(column: &Array<'_>, row: usize, unbatch: bool) -> Read<Vec<Tree>> {
    Ok(cell::tokens(column, row, unbatch)?.map(|(values, rows)| {
        if let Some(run) = cell::run(&values, &rows) {
            let expected: Vec<Plain> =
                rows.clone().map(|row| cell::number(&values, row).unwrap().unwrap().into()).collect();
            assert_eq!(numbers(run), expected, "a run is the numbers of its rows");
        } else {
            assert_eq!(values.field().kind, Kind::Half);
        }
        leaves(&values, rows)
    }))
}

/// What the crate says of a row, in the same words.
pub(crate) fn read_array(column: &Array<'_>, row: usize) -> Read<(Vec<usize>, Vec<Tree>)> {
    let dense = cell::array(column, row)?;
    Ok(dense.map(|dense| {
        assert_eq!(dense.shape.iter().product::<usize>(), dense.rows.len());
        (dense.shape, leaves(&dense.values, dense.rows))
    }))
}

/// Reads the first and the last rows in every way there is.
pub(crate) fn read_all(array: &Array<'_>) {
    let rows = array.rows();
    for row in (0..rows.min(8)).chain(rows.saturating_sub(4)..rows) {
        let _ = array.is_null(row);
        let _ = array.first_null(row..rows);
        for unbatch in [false, true] {
            if let Ok(Some((values, rows))) = cell::tokens(array, row, unbatch) {
                let _ = cell::run(&values, &rows).map(numbers);
            }
        }
        let _ = (cell::length(array, row, false), cell::number(array, row), cell::size(array, row));
        if let Ok(Some(dense)) = cell::array(array, row) {
            let _ = dense.values.run(dense.rows).map(numbers);
        }
        match array.field().kind {
            Kind::Text(..) | Kind::View(_) => {
                let _ = array.text(row).map(<[u8]>::to_vec);
            }
            Kind::List(_) | Kind::FixedSizeList(_) => {
                let _ = array.items(row);
            }
            Kind::Dictionary(_) => {
                if let Ok((values, at)) = array.looked_up(row) {
                    let _ = cell::size(&values, at);
                    read_all(&values);
                }
            }
            _ => {}
        }
    }
    for index in 0..array.field().children.len() {
        if array.field().kind == Kind::Struct {
            let _ = array.column(index).map(|column| read_all(&column));
        }
        let _ = array.child(index).map(|child| read_all(&child));
    }
}
