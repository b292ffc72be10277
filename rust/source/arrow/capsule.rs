//! Tables out of Python objects, by the Arrow `PyCapsule` interface.
//!
//! Source: the Arrow specification, "The Arrow `PyCapsule` Interface".
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::sync::Arc;

use pyo3::exceptions::{PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

use super::abi::{ArrowArray, ArrowArrayStream, ArrowSchema, Owned, Record, Stream, StreamError};
use super::schema::Field;
use super::{Broken, NoBatch, RecordBatch, Table};

/// Batches that are taken out of a stream before signals are looked at.
const BATCHES: usize = 256;

/// What an object is called in messages: `sample 3`, or the table.
type Place<'a> = &'a str;

/// The table of an object that has the interface.
pub fn import(object: &Bound<'_, PyAny>, place: Place<'_>) -> PyResult<Table> {
    let py = object.py();
    // A record batch has both: as an array it takes one call, as a stream three.
    if let Some(method) = object.getattr_opt(intern!(py, "__arrow_c_array__"))? {
        let given = method.call0()?;
        let capsules = given.cast::<PyTuple>().ok().filter(|capsules| capsules.len() == 2);
        let capsules = capsules.ok_or_else(|| {
            PyTypeError::new_err(format!("{place}: __arrow_c_array__ gives no tuple of a schema and an array"))
        })?;
        let schema = take::<ArrowSchema>(&capsules.get_item(0)?, c"arrow_schema", place)?;
        let array = take::<ArrowArray>(&capsules.get_item(1)?, c"arrow_array", place)?;
        let schema = read_schema(schema, place)?;
        let mut table = Table::of(&schema);
        push(array, &schema, place, &mut table)?;
        return Ok(table);
    }
    let Some(method) = object.getattr_opt(intern!(py, "__arrow_c_stream__"))? else {
        return Err(PyTypeError::new_err(format!(
            "{place} is a {}, which is no Arrow table (it has no __arrow_c_stream__): expected tables alone, or samples \
             alone",
            object.get_type().name()?
        )));
    };
    let stream = take::<ArrowArrayStream>(&method.call0()?, c"arrow_array_stream", place)?;
    // Its callbacks may wait for threads that run Python code: pyarrow's readers of files do, over fsspec.
    let (schema, mut stream) = py.detach(|| {
        let mut stream = Stream::new(stream);
        (stream.schema(), stream)
    });
    let schema = match schema {
        Ok(schema) => read_schema(schema, place),
        Err(error) => Err(failed(&error, place)),
    };
    let table = schema.and_then(|schema| read_stream(py, &mut stream, &schema, place));
    py.detach(|| drop(stream));
    table
}

fn read_stream(py: Python<'_>, stream: &mut Stream, schema: &Arc<Field>, place: Place<'_>) -> PyResult<Table> {
    let mut table = Table::of(schema);
    loop {
        let mut arrays = Vec::new();
        let ended = py.detach(|| {
            while arrays.len() < BATCHES {
                match stream.next_array()? {
                    Some(array) => arrays.push(array),
                    None => return Ok(true),
                }
            }
            Ok(false)
        });
        for array in arrays {
            push(array, schema, place, &mut table)?;
        }
        if ended.map_err(|error| failed(&error, place))? {
            return Ok(table);
        }
        py.check_signals()?;
    }
}

/// Moves a record out of its capsule.
fn take<R: Record>(capsule: &Bound<'_, PyAny>, name: &CStr, place: Place<'_>) -> PyResult<Owned<R>> {
    let shown = name.to_string_lossy();
    let Ok(capsule) = capsule.cast::<PyCapsule>() else {
        let found = capsule.get_type().name()?;
        return Err(PyTypeError::new_err(format!("{place}: expected a capsule '{shown}', got a {found}")));
    };
    let Ok(record) = capsule.pointer_checked(Some(name)) else {
        return Err(PyValueError::new_err(format!("{place}: expected a capsule '{shown}', got one of another name")));
    };
    // SAFETY: a capsule of this name holds such a record, and the GIL is held: nobody else takes it at the same time.
    let owned = unsafe { Owned::take(record.cast::<R>().as_mut()) };
    owned.ok_or_else(|| PyValueError::new_err(format!("{place}: its capsule '{shown}' has been consumed before")))
}

fn read_schema(schema: Owned<ArrowSchema>, place: Place<'_>) -> PyResult<Arc<Field>> {
    // SAFETY: it came out of a capsule of its name, or out of a stream.
    let field = unsafe { Field::read(schema.get()) };
    field.map(Arc::new).map_err(|broken| contradiction(broken, place))
}

fn push(array: Owned<ArrowArray>, schema: &Arc<Field>, place: Place<'_>, table: &mut Table) -> PyResult<()> {
    // SAFETY: it came out of a capsule of its name, or out of a stream, of this type.
    let batch = unsafe { RecordBatch::new(Arc::clone(schema), array) };
    let pushed = batch.and_then(|batch| Ok(table.push(batch)?));
    pushed.map_err(|why| match why {
        NoBatch::Broken(broken) => contradiction(broken, place),
        NoBatch::NoStruct => PyTypeError::new_err(format!(
            "{place} is an Arrow column of type {}, expected a table: transformers' Trainer takes a table apart into its \
             columns unless its TrainingArguments have remove_unused_columns=False, and a DataLoader does unless it has \
             ArrowRows(datasets.Dataset(table))",
            schema.type_name
        )),
    })
}

fn contradiction(broken: Broken, place: Place<'_>) -> PyErr {
    PyValueError::new_err(format!("{place} is an Arrow table that contradicts itself: {broken}"))
}

/// The numbers of `errno.h` that have an exception of their own here. (They are the same on every Linux.)
const ENOMEM: i32 = 12;
const EINVAL: i32 = 22;

fn failed(error: &StreamError, place: Place<'_>) -> PyErr {
    let message = format!("{place}: reading the Arrow stream failed: {error}");
    match error {
        StreamError::Failed { code: ENOMEM, .. } => PyMemoryError::new_err(message),
        StreamError::Failed { code: EINVAL, .. } | StreamError::Empty => PyValueError::new_err(message),
        StreamError::Failed { .. } => PyOSError::new_err(message),
    }
}
