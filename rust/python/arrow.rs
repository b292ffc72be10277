//! Tables in Arrow's memory, as the Python layer has them.

use std::sync::Arc;

use numpy::PyArray1;
use pyo3::exceptions::{PyIndexError, PyKeyError, PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::errors::guarded;
use crate::error::{Cause, CollateError};
use crate::source::Failure;
use crate::source::arrow::array::Array;
use crate::source::arrow::python::{Objects, Shared, import};
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

    /// The rows of these numbers, in this order.
    fn take(&self, rows: Vec<usize>) -> PyResult<Self> {
        guarded(|| {
            let taken = self.table().take(&rows).map(Self::new);
            taken.ok_or_else(|| {
                let row = rows.iter().find(|row| **row >= self.table().rows()).copied().unwrap_or_default();
                PyIndexError::new_err(format!("no row {row}: there are {}", self.table().rows()))
            })
        })
    }

    /// The lengths of the rows of a column, int64: from offsets alone. `unbatch`: a list of one list is as long as that.
    #[pyo3(signature = (key, *, unbatch = false))]
    fn lengths<'py>(&self, py: Python<'py>, key: &str, unbatch: bool) -> PyResult<Bound<'py, PyArray1<i64>>> {
        guarded(|| {
            if !self.table().fields().iter().any(|field| field.name == key) {
                return Err(no_column(self.table().fields(), key));
            }
            let mut lengths = Vec::new();
            let refused = |_| PyMemoryError::new_err(format!("there is no memory for {} lengths", self.table().rows()));
            lengths.try_reserve_exact(self.table().rows()).map_err(refused)?;
            for (batch, rows, first) in self.table().parts() {
                let column = column(batch, first, key)?;
                for (row, sample) in rows.zip(first..) {
                    let length = cell::length(&column, row, unbatch).and_then(|length| length.ok_or(Cause::IsNone));
                    let length = length.map_err(|cause| Failure::from(CollateError::at(sample, key, cause)))?;
                    lengths.push(i64::try_from(length).unwrap_or(i64::MAX));
                }
            }
            Ok(PyArray1::from_vec(py, lengths))
        })
    }

    /// One value, as a Python object. None: it is null, or there is no such column.
    fn value<'py>(&self, py: Python<'py>, row: usize, key: &str) -> PyResult<Bound<'py, PyAny>> {
        guarded(|| {
            let found = self.table().find(row);
            let (batch, at) = found.ok_or_else(|| PyIndexError::new_err(format!("no row {row}")))?;
            if !batch.fields().iter().any(|field| field.name == key) {
                return Ok(py.None().into_bound(py));
            }
            let value = Objects::of(py, self.table())?.value(&column(batch, row, key)?, at);
            Ok(value.map_err(|refused| refused.at(row, key))?)
        })
    }
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
