//! Tables in Arrow's memory, as the Python layer has them.

use std::fmt::Display;
use std::sync::Arc;

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::exceptions::{PyIndexError, PyKeyError, PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::errors::guarded;
use crate::error::{Cause, CollateError};
use crate::source::Failure;
use crate::source::arrow::array::Array;
use crate::source::arrow::capsule::import;
use crate::source::arrow::objects::{Objects, Shared};
use crate::source::arrow::schema::Field;
use crate::source::arrow::{Broken, RecordBatch, Table, cell};

/// The rows of one or several tables.
#[pyclass(frozen, module = "dpo_collate._core")]
pub(super) struct ArrowTable(Shared);

impl ArrowTable {
    fn new(table: Table) -> Self {
        Self(Shared::new(Arc::new(table)))
    }

    pub(super) fn table(&self) -> &Arc<Table> {
        self.0.get()
    }
}

#[pymethods]
impl ArrowTable {
    /// Takes over what the objects give by `__arrow_c_array__` or `__arrow_c_stream__`, or are, one after the other.
    /// `several`: each is called a sample in messages.
    #[new]
    #[pyo3(signature = (tables, *, several = false))]
    fn of(tables: Vec<Bound<'_, PyAny>>, several: bool) -> PyResult<Self> {
        guarded(|| {
            let mut table = Table::default();
            for (index, object) in tables.iter().enumerate() {
                let place = if several { format!("sample {index}") } else { "the table".to_owned() };
                let appended = match object.cast::<Self>() {
                    Ok(other) => table.append(other.get().table()),
                    Err(_) => table.append(&import(object, &place)?),
                };
                appended.map_err(|Broken(what)| PyValueError::new_err(format!("{place}: {what}")))?;
            }
            Ok(Self::new(table))
        })
    }

    fn __len__(&self) -> usize {
        self.table().rows()
    }

    /// The names of the columns.
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        guarded(|| names(py, self.table().fields()))
    }

    /// The number of rows before each part, and the names of its columns, where these may be others than before.
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<Vec<(usize, Bound<'py, PyTuple>)>> {
        guarded(|| {
            let mut parts = Vec::new();
            let mut known: Option<&Arc<Field>> = None;
            for (batch, _, first) in self.table().parts() {
                if known.is_none_or(|schema| !Arc::ptr_eq(schema, batch.schema())) {
                    parts.push((first, names(py, batch.fields())?));
                }
                known = Some(batch.schema());
            }
            Ok(parts)
        })
    }

    /// The first rows.
    fn head(&self, rows: usize) -> PyResult<Self> {
        guarded(|| Ok(Self::new(self.table().head(rows))))
    }

    /// The rows from `begin` on, at most so many.
    fn slice(&self, begin: usize, rows: usize) -> PyResult<Self> {
        guarded(|| Ok(Self::new(self.table().slice(begin, rows))))
    }

    /// The rows of these numbers, in this order.
    fn take(&self, rows: Vec<usize>) -> PyResult<Self> {
        guarded(|| {
            let taken = self.table().take(&rows).map(Self::new);
            taken.ok_or_else(|| {
                let beyond = rows.iter().find(|&&row| row >= self.table().rows());
                no_row(beyond.copied().unwrap_or_default(), self.table())
            })
        })
    }

    /// The lengths of the lists of a column, int64: from offsets alone. `rows`: of these rows alone, in this order.
    /// `unbatch`: a list of one list is as long as that.
    #[pyo3(signature = (key, *, rows = None, unbatch = false))]
    fn lengths<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        rows: Option<PyReadonlyArray1<'py, i64>>,
        unbatch: bool,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        guarded(|| {
            let table = self.table();
            if !table.fields().iter().any(|field| field.name == key) {
                return Err(no_column(table.fields(), key));
            }
            let count = rows.as_ref().map_or(table.rows(), |rows| rows.as_array().len());
            let mut lengths = Vec::new();
            let refused = |_| PyMemoryError::new_err(format!("there is no memory for {count} lengths"));
            lengths.try_reserve_exact(count).map_err(refused)?;
            let mut push = |column: &Array<'_>, row, place| -> PyResult<()> {
                if place % ROWS_BETWEEN_SIGNALS == 0 {
                    py.check_signals()?;
                }
                let length = cell::length(column, row, unbatch).and_then(|length| length.ok_or(Cause::IsNone));
                let length = length.map_err(|cause| Failure::from(CollateError::at(place, key, cause)))?;
                lengths.push(i64::try_from(length).unwrap_or(i64::MAX));
                Ok(())
            };
            let Some(wanted) = &rows else {
                for (batch, rows, first) in table.parts() {
                    let column = column(batch, first, key)?;
                    rows.zip(first..).try_for_each(|(row, place)| push(&column, row, place))?;
                }
                return Ok(PyArray1::from_vec(py, lengths));
            };
            // The batch of the row before, which is mostly that of the next one.
            let mut known: Option<(&RecordBatch, Array<'_>)> = None;
            for (place, &row) in wanted.as_array().iter().enumerate() {
                let found = usize::try_from(row).ok().and_then(|row| table.find(row));
                let (batch, at) = found.ok_or_else(|| no_row(row, table))?;
                let column = match known {
                    Some((same, column)) if std::ptr::eq(same, batch) => column,
                    _ => column(batch, place, key)?,
                };
                known = Some((batch, column));
                push(&column, at, place)?;
            }
            Ok(PyArray1::from_vec(py, lengths))
        })
    }

    /// How many items a value has, if it is a list or text, else 1. None: it is null, or there is no such column.
    fn size(&self, row: usize, key: &str) -> PyResult<Option<usize>> {
        guarded(|| {
            let Some((column, at)) = self.cell(row, key)? else { return Ok(None) };
            let size = cell::size(&column, at);
            Ok(size.map_err(|broken| Failure::from(CollateError::at(row, key, broken.into())))?)
        })
    }

    /// One value, as a Python object. None: it is null, or there is no such column.
    fn value<'py>(&self, py: Python<'py>, row: usize, key: &str) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let Some((column, at)) = self.cell(row, key)? else { return Ok(py.None().into_bound(py)) };
            let value = Objects::of(py, self.table())?.value(&column, at);
            Ok(value.map_err(|refused| refused.at(row, key))?)
        })
    }
}

/// So many lengths are read before signals are looked at.
const ROWS_BETWEEN_SIGNALS: usize = 1 << 20;

impl ArrowTable {
    /// The column of a key, and the row in it; none where there is no such column.
    fn cell(&self, row: usize, key: &str) -> PyResult<Option<(Array<'_>, usize)>> {
        let (batch, at) = self.table().find(row).ok_or_else(|| no_row(row, self.table()))?;
        if !batch.fields().iter().any(|field| field.name == key) {
            return Ok(None);
        }
        Ok(Some((column(batch, row, key)?, at)))
    }
}

fn no_row(row: impl Display, table: &Table) -> PyErr {
    PyIndexError::new_err(format!("no row {row}: there are {}", table.rows()))
}

fn names<'py>(py: Python<'py>, fields: &[Field]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, fields.iter().map(|field| &field.name))
}

/// The column of that name; `first` is the sample that messages name.
fn column<'a>(batch: &'a RecordBatch, first: usize, key: &str) -> PyResult<Array<'a>> {
    let Some(index) = batch.fields().iter().position(|field| field.name == key) else {
        return Err(no_column(batch.fields(), key));
    };
    let column = batch.column(index);
    Ok(column.map_err(|broken| Failure::from(CollateError::at(first, key, broken.into())))?)
}

fn no_column(fields: &[Field], key: &str) -> PyErr {
    let names: Vec<_> = fields.iter().map(|field| format!("'{}'", field.name)).collect();
    let there = if names.is_empty() { "there are none".to_owned() } else { format!("there are: {}", names.join(", ")) };
    PyKeyError::new_err(format!("no column '{key}' ({there})"))
}
