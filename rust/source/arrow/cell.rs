//! What the row of a column is to a batch: a row of tokens, a number, or an array.
#![allow(unsafe_code)]

use std::ops::Range;

use super::Broken;
use super::array::{Array, Run, first};
use super::schema::{Kind, Tensor};
use crate::cells::Element;
use crate::error::{Cause, Number};

/// The values of an array, side by side, and its shape.
#[derive(Clone, Debug)]
pub struct Dense<'a> {
    /// The array that has them.
    pub values: Array<'a>,
    /// Its rows that are they.
    pub rows: Range<usize>,
    /// Sizes; their product is the number of rows.
    pub shape: Vec<usize>,
}

impl From<Broken> for Cause {
    fn from(Broken(what): Broken) -> Self {
        Self::Inconsistent { what }
    }
}

/// The values of a row of tokens, or of values parallel to them. None: it is null.
///
/// A list of one list is as long as that one with `unbatch`.
pub fn tokens<'a>(column: &Array<'a>, row: usize, unbatch: bool) -> Result<Option<(Array<'a>, Range<usize>)>, Cause> {
    let Some((values, rows)) = place(column, row, unbatch)? else { return Ok(None) };
    let nulls = values.field.kind == Kind::Null && !rows.is_empty();
    match values.first_null(rows.clone()).or(nulls.then_some(0)) {
        Some(position) => Err(Cause::Null { position }),
        None => Ok(Some((values, rows))),
    }
}

/// How many values a row of tokens has, by its offsets alone. None: it is null.
pub fn length(column: &Array<'_>, row: usize, unbatch: bool) -> Result<Option<usize>, Cause> {
    Ok(place(column, row, unbatch)?.map(|(_, rows)| rows.len()))
}

/// How many items a list or a text has; of other values 1. None: it is null.
pub fn size(column: &Array<'_>, row: usize) -> Result<Option<usize>, Broken> {
    if column.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match column.field.kind {
        Kind::List(_) | Kind::FixedSizeList(_) => column.items(row)?.len(),
        Kind::Text(..) | Kind::View(_) => column.text(row)?.len(),
        _ => 1,
    }))
}

/// Where the values of a row of tokens are; any of them may be null.
fn place<'a>(column: &Array<'a>, row: usize, unbatch: bool) -> Result<Option<(Array<'a>, Range<usize>)>, Cause> {
    if column.is_null(row) {
        return Ok(None);
    }
    let (values, rows) = match &column.field.tensor {
        None if column.field.is_list() => list(column, row, unbatch)?,
        Some(_) => {
            let Some(Dense { values, rows, shape }) = array(column, row)? else { return Ok(None) };
            if !(matches!(shape[..], [_]) || unbatch && matches!(shape[..], [1, _])) {
                return Err(Cause::Shape { shape });
            }
            (values, rows)
        }
        None => return Err(wrong(column, ROW)),
    };
    match values.field.kind {
        Kind::Number(_) | Kind::Bool | Kind::Half | Kind::Null => Ok(Some((values, rows))),
        _ => Err(wrong(column, ROW)),
    }
}

fn list<'a>(column: &Array<'a>, row: usize, unbatch: bool) -> Result<(Array<'a>, Range<usize>), Cause> {
    let (inner, items) = (column.child(0)?, column.items(row)?);
    if !inner.field.is_list() {
        return Ok((inner, items));
    }
    if inner.field.tensor.is_some() {
        return Err(wrong(column, ROW));
    }
    if !unbatch || items.len() != 1 {
        return Err(Cause::Shape { shape: sizes(&inner, &items)? });
    }
    if inner.is_null(items.start) {
        return Err(Cause::Null { position: 0 });
    }
    Ok((inner.child(0)?, inner.items(items.start)?))
}

/// The sizes of a list of lists, by its first one.
fn sizes(inner: &Array<'_>, items: &Range<usize>) -> Result<Vec<usize>, Broken> {
    let first = match inner.field.kind {
        Kind::FixedSizeList(size) => size,
        _ if items.is_empty() || inner.is_null(items.start) => 0,
        _ => inner.items(items.start)?.len(),
    };
    Ok(vec![items.len(), first])
}

/// The values of a row of tokens, to be read; none where they are of a type that has to be converted first.
#[must_use]
pub fn run(values: &Array<'_>, rows: &Range<usize>) -> Option<Run> {
    if values.field.kind == Kind::Null || rows.is_empty() && values.field.kind == Kind::Half {
        return Some(Run::Values { start: std::ptr::null(), len: 0, element: Element::Int64 });
    }
    values.run(rows.clone())
}

/// A number. None: it is null.
pub fn number(column: &Array<'_>, row: usize) -> Result<Option<Number>, Cause> {
    if column.is_null(row) {
        return Ok(None);
    }
    if column.field.kind == Kind::Half {
        let at = column.halves(&(row..row + 1)).cast::<[u8; 2]>();
        // SAFETY: a value is there.
        return Ok(Some(Number::Float(half(u16::from_ne_bytes(unsafe { at.read() })))));
    }
    let run = column.run(row..row + 1).ok_or_else(|| wrong(column, NUMBER))?;
    // SAFETY: the array is alive.
    Ok(first(&unsafe { run.source() }))
}

/// A row as an array: a list, lists of lists of equal lengths, or what an extension type says. None: it is null.
pub fn array<'a>(column: &Array<'a>, row: usize) -> Result<Option<Dense<'a>>, Cause> {
    if column.is_null(row) {
        return Ok(None);
    }
    let dense = match &column.field.tensor {
        None if column.field.is_list() => nested(column, row)?,
        Some(Tensor::Fixed(shape)) if column.field.is_list() => {
            let mut dense = nested(column, row)?;
            if dense.shape.len() != 1 || product(shape) != dense.shape.first().copied() {
                return Err(MISSHAPEN.into());
            }
            dense.shape.clone_from(shape);
            dense
        }
        Some(Tensor::Variable) if column.field.kind == Kind::Struct => variable(column, row)?,
        _ => return Err(wrong(column, ARRAY)),
    };
    if !matches!(dense.values.field.kind, Kind::Number(_) | Kind::Bool | Kind::Half | Kind::Null) {
        return Err(wrong(column, ARRAY));
    }
    let nulls = dense.values.field.kind == Kind::Null && !dense.rows.is_empty();
    match dense.values.first_null(dense.rows.clone()).or(nulls.then_some(0)) {
        Some(position) => Err(Cause::Null { position }),
        None => Ok(Some(dense)),
    }
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size))
}

/// Lists of lists, as deep as they go: those of one level are of one length, and lie end to end.
fn nested<'a>(column: &Array<'a>, row: usize) -> Result<Dense<'a>, Cause> {
    let (mut values, mut rows) = (column.child(0)?, column.items(row)?);
    let mut shape = vec![rows.len()];
    while values.field.is_list() {
        if let Some(position) = values.first_null(rows.clone()) {
            return Err(Cause::Null { position });
        }
        let (size, items) = even(&values, &rows)?;
        let inner = values.child(0)?;
        match &values.field.tensor {
            None => shape.push(size),
            Some(Tensor::Fixed(sizes)) if !inner.field.is_list() => {
                if !rows.is_empty() && product(sizes) != Some(size) {
                    return Err(MISSHAPEN.into());
                }
                shape.extend(sizes);
            }
            Some(_) => return Err(wrong(column, ARRAY)),
        }
        (values, rows) = (inner, items);
    }
    Ok(Dense { values, rows, shape })
}

/// The length of lists that are all equally long, and their items.
fn even(lists: &Array<'_>, rows: &Range<usize>) -> Result<(usize, Range<usize>), Cause> {
    let fixed = if let Kind::FixedSizeList(size) = lists.field.kind { Some(size) } else { None };
    if rows.is_empty() {
        return Ok((fixed.unwrap_or(0), 0..0));
    }
    let (first, last) = (lists.items(rows.start)?, lists.items(rows.end - 1)?);
    // Lists without items may be more than could be looked at, as they take no memory.
    if fixed.is_none() {
        for row in rows.clone() {
            if lists.items(row)?.len() != first.len() {
                return Err(Cause::Ragged);
            }
        }
    }
    Ok((first.len(), first.start..last.end))
}

/// A struct of values and sizes.
fn variable<'a>(column: &Array<'a>, row: usize) -> Result<Dense<'a>, Cause> {
    let part = |name: &str| {
        let index = column.field.children.iter().position(|field| field.name == name && field.is_list());
        column.column(index.ok_or(Broken("an array has no list of values, or none of sizes"))?)
    };
    let (data, sizes) = (part("data")?, part("shape")?);
    if data.is_null(row) || sizes.is_null(row) {
        return Err(Cause::Null { position: 0 });
    }
    let mut dense = nested(&data, row)?;
    let (numbers, items) = (sizes.child(0)?, sizes.items(row)?);
    let size = |item| match number(&numbers, item)? {
        Some(Number::Int(size)) => usize::try_from(size).map_err(|_| Broken("an array has a negative size").into()),
        _ => Err(Cause::from(Broken("an array has a size that is no integer"))),
    };
    let shape = items.map(size).collect::<Result<Vec<_>, _>>()?;
    if dense.shape.len() != 1 || product(&shape) != dense.shape.first().copied() {
        return Err(MISSHAPEN.into());
    }
    dense.shape = shape;
    Ok(dense)
}

const MISSHAPEN: Broken = Broken("its rows have another number of values than their shape");

const ROW: &str = "lists of integers";
const NUMBER: &str = "numbers";
const ARRAY: &str = "lists of numbers, nested or not";

/// The column is of a type that cannot be what is wanted.
#[must_use]
pub fn wrong(column: &Array<'_>, expected: &'static str) -> Cause {
    let mut found = String::new();
    let mut field = column.field;
    while field.is_list() && field.tensor.is_none() {
        found.push_str("list of ");
        field = &field.children[0];
    }
    found.push_str(&field.type_name);
    Cause::ArrowType { found, expected }
}

/// A number of 16 bits: a sign, 5 bits of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}
