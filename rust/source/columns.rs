//! Takes the values of a batch out of a table: rows stay where they are, all else becomes Python objects.

use std::ops::Range;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::arrow::array::Array;
use super::arrow::objects::{NoObject, Objects};
use super::arrow::schema::Field;
use super::arrow::{RecordBatch, Table, cell};
use super::gather::{Extra, Gathered, Samples, Value};
use super::keys::{Keys, Role, Unknown};
use super::{Failure, dlpack};
use crate::error::{Cause, CollateError};

/// So many rows a batch may have. Tables of nothing but nulls have any number of rows, and take no memory.
const MOST_ROWS: usize = 1 << 20;

/// What a column of a batch is taken for.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// The value of a key.
    Key(usize),
    /// That of an extra key, by its index.
    Extra(usize),
}

/// What is taken of the batches of one schema.
struct Uses {
    /// Columns, and what for.
    columns: Vec<(usize, Use)>,
    /// Whether all keys are there that every sample must have.
    complete: bool,
}

impl<'py> Gathered<'py> {
    /// Takes all that the keys name, of the rows of a table.
    pub fn take_table(py: Python<'py>, table: &Arc<Table>, keys: &Keys) -> Result<Self, Failure> {
        Self::take_rows_of(py, table, keys, None)
    }

    /// Likewise; with `refused`, what is wrong with single values goes there, and these are taken for absent.
    pub fn take_rows_of(
        py: Python<'py>,
        table: &Arc<Table>,
        keys: &Keys,
        mut refused: Option<&mut Vec<CollateError>>,
    ) -> Result<Self, Failure> {
        let rows = table.rows();
        if rows > MOST_ROWS {
            return Err(CollateError::of_batch(Cause::TooManyRows { rows, most: MOST_ROWS }).into());
        }
        let mut gathered = Self {
            exchange: dlpack::exchange(py),
            samples: Samples::Rows(Arc::clone(table)),
            values: Vec::new(),
            numbers: Vec::new(),
            extras: Vec::new(),
        };
        let objects = Objects::of(py, table)?;
        let mut known: Option<(&Arc<Field>, Uses)> = None;
        for (batch, rows, first) in table.parts() {
            // Batches of one stream have one schema, and tables of one data set equal ones: it is looked at once.
            let uses = match known.take() {
                Some((schema, uses)) if schema == batch.schema() => uses, // quick where it is the very same
                _ => gathered.uses(py, batch, first, keys)?,
            };
            gathered.take_rows(&objects, batch, (rows, first), (&uses, keys), refused.as_deref_mut())?;
            if !uses.complete {
                break; // Whatever comes, there is no batch: the plan says what this sample lacks.
            }
            known = Some((batch.schema(), uses));
        }
        Ok(gathered)
    }

    /// Takes the rows of one batch, of which the first is sample `first`.
    fn take_rows(
        &mut self,
        objects: &Objects<'py>,
        batch: &RecordBatch,
        (rows, first): (Range<usize>, usize),
        (uses, keys): (&Uses, &Keys),
        mut refused: Option<&mut Vec<CollateError>>,
    ) -> Result<(), Failure> {
        let nulls = batch.first_null(rows.clone());
        let null = |sample| no_mapping(sample, "null".to_owned());
        if let Some(row) = nulls
            && refused.is_none()
        {
            return Err(null(first + row).into());
        }
        let mut columns = Vec::with_capacity(uses.columns.len());
        for &(index, what) in &uses.columns {
            let name = &batch.fields()[index].name;
            let column = batch.column(index).map_err(|broken| CollateError::at(first, name, broken.into()))?;
            columns.push((column, name, what));
        }
        // Sample by sample, as lists are: memory is asked for as there are samples.
        let wanted = if uses.complete { rows.len() } else { 1 };
        for (row, sample) in rows.zip(first..).take(wanted) {
            let cells = self.values.len() + keys.names.len();
            self.values.resize_with(cells, || None);
            self.numbers.resize(cells, None);
            if let Some(refused) = &mut refused
                && nulls.is_some()
                && batch.first_null(row..row + 1).is_some()
            {
                refused.push(null(sample));
                continue;
            }
            for (column, name, what) in &columns {
                let taken = match *what {
                    Use::Key(key) => self.take_cell(objects, column, (row, sample), key, keys),
                    Use::Extra(extra) => objects.value(column, row).map(|value| self.extras[extra].values.push(value)),
                };
                match (taken.map_err(|refused| refused.at(sample, name)), &mut refused) {
                    (Err(Failure::Batch(error)), Some(refused)) if !matches!(error.cause, Cause::ArrowType { .. }) => {
                        refused.push(error);
                    }
                    (taken, _) => taken?,
                }
            }
        }
        Ok(())
    }

    /// What is taken of a batch.
    fn uses(&mut self, py: Python<'py>, batch: &RecordBatch, first: usize, keys: &Keys) -> Result<Uses, Failure> {
        let mut columns: Vec<(usize, Use)> = Vec::new();
        if batch.fields().is_empty() {
            return Err(of_sample(first, Cause::NoColumns));
        }
        for (index, field) in batch.fields().iter().enumerate() {
            let name = PyString::new(py, &field.name).into_any();
            let what = match keys.index(&name)? {
                Some(key) if keys.roles[key] == Role::Ignored => continue,
                Some(key) => Use::Key(key),
                None if field.name.starts_with(PANDAS_INDEX) => continue,
                None => {
                    keys.check_unknown(first, &name)?;
                    let Some(extra) = self.extra(name, first, keys)? else { continue };
                    Use::Extra(extra)
                }
            };
            if columns.iter().any(|&(_, other)| other == what) {
                return Err(CollateError::at(first, &field.name, Cause::TwoColumns).into());
            }
            columns.push((index, what));
        }
        let has = |what| columns.iter().any(|&(_, used)| used == what);
        if let Some(lacking) = (0..self.extras.len()).find(|&extra| !has(Use::Extra(extra))) {
            let key = self.extras[lacking].key.str()?.to_string();
            return Err(CollateError::at(first, &key, Cause::MissingHere { other: 0 }).into());
        }
        let complete = keys
            .roles
            .iter()
            .enumerate()
            .all(|(key, role)| !matches!(role, Role::Row { required: true, .. }) || has(Use::Key(key)));
        Ok(Uses { columns, complete })
    }

    /// The index of a column that the layout does not name among the extra keys, if these are taken.
    fn extra(&mut self, key: Bound<'py, PyAny>, first: usize, keys: &Keys) -> Result<Option<usize>, Failure> {
        if keys.unknown != Unknown::Take {
            return Ok(None);
        }
        for (index, extra) in self.extras.iter().enumerate() {
            if extra.key.eq(&key)? {
                return Ok(Some(index));
            }
        }
        if first > 0 {
            let cause = Cause::NotInFirst { name: key.repr()?.to_string() };
            return Err(CollateError { sample: Some(first), key: None, cause }.into());
        }
        self.extras.push(Extra { key, values: Vec::new() });
        Ok(Some(self.extras.len() - 1))
    }

    /// Takes the value of a key from one row, which is `row` of its batch and `sample` of all.
    fn take_cell(
        &mut self,
        objects: &Objects<'py>,
        column: &Array<'_>,
        (row, sample): (usize, usize),
        key: usize,
        keys: &Keys,
    ) -> Result<(), NoObject> {
        let at = sample * keys.names.len() + key;
        self.values[at] = match keys.roles[key] {
            Role::Ignored => None, // `uses` passes over it
            Role::Number => {
                self.numbers[at] = cell::number(column, row)?;
                None
            }
            Role::Media => objects.array(column, row)?.map(Value::Object),
            Role::Value if column.is_null(row) => None,
            Role::Value => Some(Value::Object(objects.value(column, row)?)),
            Role::Row { required, .. } => match cell::tokens(column, row, keys.unbatch)? {
                None if required => return Err(Cause::IsNone.into()),
                None => None,
                Some((values, rows)) => Some(match cell::run(&values, &rows) {
                    Some(run) => Value::Run(run),
                    None => Value::Object(objects.flat(values, &rows)?),
                }),
            },
        };
        Ok(())
    }
}

/// How pandas calls an index that has no name, which it hands over as a column.
const PANDAS_INDEX: &str = "__index_level_";

fn no_mapping(sample: usize, found: String) -> CollateError {
    CollateError { sample: Some(sample), key: None, cause: Cause::NoMapping { found } }
}

fn of_sample(sample: usize, cause: Cause) -> Failure {
    CollateError { sample: Some(sample), key: None, cause }.into()
}
