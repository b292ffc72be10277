//! Tables in Arrow's memory: pyarrow, polars, `DuckDB`, Hugging Face data sets, Ray Data and others hand them over by
//! the Arrow C data interface.
//!
//! `abi` has the records and who owns them, `schema` what a type says, `array` what may be read, `cell` what the row
//! of a column is: a row of tokens, a number, an array. None of these knows Python. `capsule` takes records out of
//! Python objects, `objects` makes Python objects of values that the core hands on.
#![allow(unsafe_code)]

pub mod abi;
pub mod array;
#[cfg(feature = "python")]
pub mod capsule;
pub mod cell;
#[cfg(feature = "python")]
pub mod objects;
pub mod schema;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use abi::{ArrowArray, Owned};
use array::Array;
use schema::{Field, Kind};

/// What is wrong with records that contradict themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Some rows of a table: a struct array, each field of which is a column.
#[derive(Debug)]
pub struct RecordBatch {
    schema: Arc<Field>,
    array: Owned<ArrowArray>,
    /// What the record says, once it has been checked.
    offset: usize,
    rows: usize,
}

/// Why there is no batch of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBatch {
    /// It is no struct, so that it has no columns.
    NoStruct,
    /// It contradicts itself.
    Broken(Broken),
}

impl From<Broken> for NoBatch {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl RecordBatch {
    /// A batch of a record, of a type that `schema` says.
    ///
    /// # Safety
    /// The producer has made the record as the specification demands: buffers are as long as its lengths and offsets
    /// say, which it does not say itself, and nobody writes to them.
    pub unsafe fn new(schema: Arc<Field>, array: Owned<ArrowArray>) -> Result<Self, NoBatch> {
        if schema.kind != Kind::Struct || schema.tensor.is_some() {
            return Err(NoBatch::NoStruct);
        }
        let (offset, rows) = Array::new(&schema, array.get())?.extent();
        Ok(Self { schema, array, offset, rows })
    }

    /// The names and types of its columns, in order.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.schema.children
    }

    /// The type of the whole, the same for all batches of a stream.
    #[must_use]
    pub fn schema(&self) -> &Arc<Field> {
        &self.schema
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The record as an array, which has been looked at before: of a data set's table that is for every row.
    fn whole(&self) -> Array<'_> {
        Array::known(&self.schema, self.array.get(), self.offset, self.rows)
    }

    /// A column, checked.
    pub fn column(&self, index: usize) -> Result<Array<'_>, Broken> {
        self.whole().column(index)
    }

    /// The first of some rows that is null as a whole, which no row of a table is, counted from the first of them.
    #[must_use]
    pub fn first_null(&self, rows: Range<usize>) -> Option<usize> {
        self.whole().first_null(rows)
    }
}

/// Rows of one or several batches, in any order.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The type of the first one, be it without rows.
    schema: Option<Arc<Field>>,
    /// Shared by all tables that are rows of one: those of a data set are many.
    batches: Arc<Vec<Arc<RecordBatch>>>,
    parts: Vec<Part>,
    /// How many rows there are before each part.
    before: Vec<usize>,
    rows: usize,
}

/// Rows of one batch that follow one another.
#[derive(Clone, Copy, Debug)]
struct Part {
    batch: usize,
    begin: usize,
    rows: usize,
}

impl Table {
    /// A table that has no rows yet, of batches of this type.
    #[must_use]
    pub fn of(schema: &Arc<Field>) -> Self {
        Self { schema: Some(Arc::clone(schema)), ..Self::default() }
    }

    /// Adds all rows of a batch.
    pub fn push(&mut self, batch: RecordBatch) -> Result<(), Broken> {
        let rows = batch.rows;
        self.schema.get_or_insert_with(|| Arc::clone(&batch.schema));
        Arc::make_mut(&mut self.batches).push(Arc::new(batch));
        self.add(Part { batch: self.batches.len() - 1, begin: 0, rows })
    }

    /// Adds all rows of another table.
    pub fn append(&mut self, other: &Self) -> Result<(), Broken> {
        self.schema = self.schema.take().or_else(|| other.schema.clone());
        for part in &other.parts {
            let batch = &other.batches[part.batch];
            if !self.batches.last().is_some_and(|last| Arc::ptr_eq(last, batch)) {
                Arc::make_mut(&mut self.batches).push(Arc::clone(batch));
            }
            self.add(Part { batch: self.batches.len() - 1, ..*part })?;
        }
        Ok(())
    }

    fn add(&mut self, part: Part) -> Result<(), Broken> {
        if part.rows > 0 {
            let rows = self.rows.checked_add(part.rows).ok_or(Broken("it has more rows than can be counted"))?;
            self.before.push(self.rows);
            self.parts.push(part);
            self.rows = rows;
        }
        Ok(())
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The names and types of the columns of the first batch, be it without rows.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        self.schema.as_ref().map(|schema| &*schema.children).unwrap_or_default()
    }

    /// The batches, of each the rows that are taken, and how many rows there are before these.
    pub fn parts(&self) -> impl Iterator<Item = (&RecordBatch, Range<usize>, usize)> {
        self.parts
            .iter()
            .zip(&self.before)
            .map(|(part, &before)| (&*self.batches[part.batch], part.begin..part.begin + part.rows, before))
    }

    /// Where a row is: its batch, and its number there.
    #[must_use]
    pub fn find(&self, row: usize) -> Option<(&RecordBatch, usize)> {
        let (part, row) = self.place(row)?;
        Some((&self.batches[part.batch], part.begin + row))
    }

    fn place(&self, row: usize) -> Option<(Part, usize)> {
        if row >= self.rows {
            return None;
        }
        let at = self.before.partition_point(|&before| before <= row) - 1;
        Some((self.parts[at], row - self.before[at]))
    }

    /// Its first rows.
    #[must_use]
    pub fn head(&self, rows: usize) -> Self {
        let (schema, batches) = (self.schema.clone(), Arc::clone(&self.batches));
        let mut head = Self { schema, batches, ..Self::default() };
        for part in &self.parts {
            // There are fewer of them than of the whole, which could be counted.
            let _ = head.add(Part { rows: part.rows.min(rows - head.rows.min(rows)), ..*part });
        }
        head
    }

    /// The rows from `begin` on, at most so many.
    #[must_use]
    pub fn slice(&self, begin: usize, rows: usize) -> Self {
        let (schema, batches) = (self.schema.clone(), Arc::clone(&self.batches));
        let mut slice = Self { schema, batches, ..Self::default() };
        let end = begin.saturating_add(rows).min(self.rows);
        let first = self.before.partition_point(|&before| before <= begin).saturating_sub(1);
        for (part, &before) in self.parts.iter().zip(&self.before).skip(first).take_while(|(_, before)| **before < end)
        {
            let skipped = begin.saturating_sub(before).min(part.rows);
            let taken = (end - before).min(part.rows) - skipped;
            // There are fewer of them than of the whole, which could be counted.
            let _ = slice.add(Part { begin: part.begin + skipped, rows: taken, ..*part });
        }
        slice
    }

    /// Some of its rows, in this order; none of them if there is no such row.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Option<Self> {
        let mut parts = Vec::with_capacity(rows.len());
        for &row in rows {
            let (part, row) = self.place(row)?;
            parts.push(Part { begin: part.begin + row, rows: 1, ..part });
        }
        let (schema, batches) = (self.schema.clone(), Arc::clone(&self.batches));
        Some(Self { schema, batches, parts, before: (0..rows.len()).collect(), rows: rows.len() })
    }
}
