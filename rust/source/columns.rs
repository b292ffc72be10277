//! Takes the values of a batch out of a table: rows stay where they are, all else becomes Python objects.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::arrow::array::Array;
use super::arrow::python::{NoObject, Objects};
use super::arrow::schema::Field;
use super::arrow::{RecordBatch, Table, cell};
use super::gather::{Extra, Gathered, Samples, Value};
use super::keys::{Keys, Role, Unknown};
use super::{Failure, dlpack};
use crate::error::{Cause, CollateError};

/// What a column of a batch is taken for.
#[derive(Clone, Copy)]
enum Use {
    /// The value of a key.
    Key(usize),
    /// That of an extra key, by its index.
    Extra(usize),
    /// Nothing.
    Unused,
}

impl<'py> Gathered<'py> {
    /// Takes all that the keys name, of the rows of a table.
    pub fn take_table(py: Python<'py>, table: &Arc<Table>, keys: &Keys) -> Result<Self, Failure> {
        let mut gathered = Self {
            exchange: dlpack::exchange(py),
            samples: Samples::Rows(Arc::clone(table)),
            values: Vec::new(),
            numbers: Vec::new(),
            extras: Vec::new(),
        };
        // A table of nothing but nulls has any number of rows without any memory.
        let cells = table.rows().saturating_mul(keys.names.len());
        let reserved =
            gathered.values.try_reserve_exact(cells).is_ok() && gathered.numbers.try_reserve_exact(cells).is_ok();
        if !reserved {
            return Err(CollateError::of_batch(Cause::OutOfMemory { bytes: cells }).into());
        }
        gathered.values.resize_with(cells, || None);
        gathered.numbers.resize(cells, None);
        let objects = Objects::of(py, table)?;
        let mut known: Option<(&Arc<Field>, Vec<Use>)> = None;
        for (batch, rows, first) in table.parts() {
            // Batches of one stream have one schema: it is looked at once.
            let uses = match known.take() {
                Some((schema, uses)) if Arc::ptr_eq(schema, batch.schema()) => uses,
                _ => gathered.uses(py, batch, first, keys)?,
            };
            let null = batch.first_null(rows.clone()).map_err(|broken| of_sample(first, broken.into()))?;
            if let Some(row) = null {
                return Err(of_sample(first + row, Cause::NoMapping { found: "null".to_owned() }));
            }
            for (index, &used) in uses.iter().enumerate() {
                if matches!(used, Use::Unused) {
                    continue;
                }
                let name = &batch.fields()[index].name;
                let column = batch.column(index).map_err(|broken| CollateError::at(first, name, broken.into()))?;
                for (row, sample) in rows.clone().zip(first..) {
                    let taken = match used {
                        Use::Unused => Ok(()),
                        Use::Key(key) => gathered.take_cell(&objects, &column, (row, sample), key, keys),
                        Use::Extra(extra) => {
                            objects.value(&column, row).map(|value| gathered.extras[extra].values.push(value))
                        }
                    };
                    taken.map_err(|refused| refused.at(sample, name))?;
                }
            }
            known = Some((batch.schema(), uses));
        }
        Ok(gathered)
    }

    /// What each column is taken for. All batches must have the same ones.
    fn uses(&mut self, py: Python<'py>, batch: &RecordBatch, first: usize, keys: &Keys) -> Result<Vec<Use>, Failure> {
        let mut uses: Vec<Use> = Vec::with_capacity(batch.fields().len());
        if batch.fields().is_empty() {
            return Err(of_sample(first, Cause::NoColumns));
        }
        for (index, field) in batch.fields().iter().enumerate() {
            let name = PyString::new(py, &field.name).into_any();
            let what = match keys.index(&name)? {
                Some(key) if keys.roles[key] == Role::Ignored => Use::Unused,
                Some(key) => Use::Key(key),
                None => {
                    keys.check_unknown(first, &name)?;
                    self.extra(name, first, keys)?
                }
            };
            let twice = || batch.fields()[..index].iter().any(|other| other.name == field.name);
            if !matches!(what, Use::Unused) && twice() {
                return Err(CollateError::at(first, &field.name, Cause::TwoColumns).into());
            }
            uses.push(what);
        }
        let has = |extra| uses.iter().any(|used| matches!(used, Use::Extra(index) if *index == extra));
        if let Some(lacking) = (0..self.extras.len()).find(|&extra| !has(extra)) {
            let key = self.extras[lacking].key.str()?.to_string();
            return Err(CollateError::at(first, &key, Cause::MissingHere { other: 0 }).into());
        }
        Ok(uses)
    }

    /// What a column is that the layout does not name.
    fn extra(&mut self, key: Bound<'py, PyAny>, first: usize, keys: &Keys) -> Result<Use, Failure> {
        if keys.unknown != Unknown::Take {
            return Ok(Use::Unused);
        }
        for (index, extra) in self.extras.iter().enumerate() {
            if extra.key.eq(&key)? {
                return Ok(Use::Extra(index));
            }
        }
        if first > 0 {
            let cause = Cause::NotInFirst { name: key.repr()?.to_string() };
            return Err(CollateError { sample: Some(first), key: None, cause }.into());
        }
        self.extras.push(Extra { key, values: Vec::new() });
        Ok(Use::Extra(self.extras.len() - 1))
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
            Role::Ignored => None,
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

fn of_sample(sample: usize, cause: Cause) -> Failure {
    CollateError { sample: Some(sample), key: None, cause }.into()
}
