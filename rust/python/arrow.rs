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
use crate::source::arrow::python::{Objects, import};
use crate::source::arrow::schema::Field;
use crate::source::arrow::{Broken, RecordBatch, Table, cell};

/// The rows of one or several tables.
#[pyclass(frozen, module = "dpo_collate._core")]
pub(super) struct ArrowTable(Arc<Table>);

impl ArrowTable {
    pub(super) fn table(&self) -> &Arc<Table> {
        &self.0
    }
}

#[pymethods]
impl ArrowTable {
    /// Takes over what the objects give by `__arrow_c_array__` or `__arrow_c_stream__`, or are, one after the other.
    /// `several`: each is called a sample in messages.
    #[new]
    #[pyo3(signature = (tables, *, several = false))]
    fn new(tables: Vec<Bound<'_, PyAny>>, several: bool) -> PyResult<Self> {
        guarded(|| {
            let mut table = Table::default();
            for (index, object) in tables.iter().enumerate() {
                if let Ok(other) = object.cast::<Self>() {
                    table.append(other.get().table()).map_err(|Broken(what)| PyValueError::new_err(what))?;
                    continue;
                }
                let place = if several { format!("sample {index}") } else { "the table".to_owned() };
                import(object, &place, &mut table)?;
            }
            Ok(Self(Arc::new(table)))
        })
    }

    fn __len__(&self) -> usize {
        self.0.rows()
    }

    /// The names of the columns.
    #[getter]
    fn names<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        guarded(|| names(py, self.0.fields()))
    }

    /// The number of rows before each part, and the names of its columns, where these may be others than before.
    fn parts<'py>(&self, py: Python<'py>) -> PyResult<Vec<(usize, Bound<'py, PyTuple>)>> {
        guarded(|| {
            let mut parts = Vec::new();
            let mut known: Option<&Arc<Field>> = None;
            for (batch, _, first) in self.0.parts() {
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
        guarded(|| Ok(Self(Arc::new(self.0.head(rows)))))
    }

    /// The rows of these numbers, in this order.
    fn take(&self, rows: Vec<usize>) -> PyResult<Self> {
        guarded(|| {
            let taken = self.0.take(&rows).map(|table| Self(Arc::new(table)));
            taken.ok_or_else(|| {
                let row = rows.iter().find(|row| **row >= self.0.rows()).copied().unwrap_or_default();
                PyIndexError::new_err(format!("no row {row}: there are {}", self.0.rows()))
            })
        })
    }

    /// The lengths of the rows of a column, int64: from offsets alone. `unbatch`: a list of one list is as long as that.
    #[pyo3(signature = (key, *, unbatch = false))]
    fn lengths<'py>(&self, py: Python<'py>, key: &str, unbatch: bool) -> PyResult<Bound<'py, PyArray1<i64>>> {
        guarded(|| {
            let mut lengths = Vec::new();
            let refused = |_| PyMemoryError::new_err(format!("there is no memory for {} lengths", self.0.rows()));
            lengths.try_reserve_exact(self.0.rows()).map_err(refused)?;
            for (batch, rows, first) in self.0.parts() {
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
            let found = self.0.find(row);
            let (batch, at) = found.ok_or_else(|| PyIndexError::new_err(format!("no row {row}")))?;
            if !batch.fields().iter().any(|field| field.name == key) {
                return Ok(py.None().into_bound(py));
            }
            let value = Objects::of(py, &self.0)?.value(&column(batch, row, key)?, at);
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
        let names: Vec<_> = batch.fields().iter().map(|field| format!("'{}'", field.name)).collect();
        return Err(PyKeyError::new_err(format!("no column '{key}' (there are: {})", names.join(", "))));
    };
    let column = batch.column(index);
    Ok(column.map_err(|broken| Failure::from(CollateError::at(first, key, broken.into())))?)
}
