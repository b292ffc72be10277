//! Tables out of Python objects, by the Arrow `PyCapsule` interface, and values of tables as Python objects.
//!
//! Source: the Arrow specification, "The Arrow `PyCapsule` Interface".
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use numpy::npyffi::{self, NPY_ARRAY_ALIGNED, NpyTypes, PY_ARRAY_API, npy_intp};
use numpy::{PyArray1, PyArrayDescr, dtype};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyCapsule, PyDict, PyFloat, PyList, PyString, PyTuple};
use pyo3::{ffi, intern};

use super::abi::{ArrowArray, ArrowArrayStream, ArrowSchema, Owned, Record, Stream, StreamError};
use super::array::{Array, Run};
use super::cell::{self, Dense};
use super::schema::{Field, Kind};
use super::{Broken, NoBatch, RecordBatch, Table};
use crate::cells::{Element, Values};
use crate::error::{Cause, CollateError, Number};
use crate::source::{Failure, NotPlain};

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
            "{place} is a {}, which is no Arrow table (it has no __arrow_c_stream__)",
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
            "{place} is an Arrow column of type {}, expected a table: if transformers' Trainer has taken a table apart \
             into its columns, pass remove_unused_columns=False in its TrainingArguments",
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

/// The table of a Python object. Python drops objects also while an exception is on its way, and the table's memory
/// may be given back by Python code, which must not find that.
#[derive(Debug)]
pub struct Shared(Arc<Table>);

impl Shared {
    /// Shares a table.
    #[must_use]
    pub fn new(table: Arc<Table>) -> Self {
        Self(table)
    }

    /// The table.
    #[must_use]
    pub fn get(&self) -> &Arc<Table> {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let table = std::mem::take(&mut self.0);
        let (mut kind, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: Python drops its objects with the GIL held; what is fetched, be it nothing, is restored.
        unsafe {
            ffi::PyErr_Fetch(&raw mut kind, &raw mut value, &raw mut traceback);
            drop(table);
            ffi::PyErr_Restore(kind, value, traceback);
        }
    }
}

/// Keeps a table alive for the arrays over its memory.
#[pyclass(frozen, module = "dpo_collate._core")]
struct Keeper {
    _table: Shared,
}

/// Makes Python objects of the values of a table.
#[derive(Debug)]
pub struct Objects<'py> {
    keeper: Bound<'py, PyAny>,
}

/// Why there is no object of a value.
#[derive(Debug)]
pub enum NoObject {
    /// The value is wrong.
    Cause(Cause),
    /// An exception.
    Raised(PyErr),
}

impl From<PyErr> for NoObject {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<Cause> for NoObject {
    fn from(cause: Cause) -> Self {
        Self::Cause(cause)
    }
}

impl From<Broken> for NoObject {
    fn from(broken: Broken) -> Self {
        Self::Cause(broken.into())
    }
}

impl NoObject {
    /// The same, with the place where it was met.
    #[must_use]
    pub fn at(self, sample: usize, key: &str) -> Failure {
        match self {
            Self::Cause(cause) => CollateError::at(sample, key, cause).into(),
            Self::Raised(error) => error.into(),
        }
    }
}

impl<'py> Objects<'py> {
    /// Objects of the values of this table.
    pub fn of(py: Python<'py>, table: &Arc<Table>) -> PyResult<Self> {
        Ok(Self { keeper: Bound::new(py, Keeper { _table: Shared::new(Arc::clone(table)) })?.into_any() })
    }

    /// A row as an array: read-only, over the table's memory where that is possible. None: it is null.
    pub fn array(&self, column: &Array<'_>, row: usize) -> Result<Option<Bound<'py, PyAny>>, NoObject> {
        let Some(dense) = cell::array(column, row)? else { return Ok(None) };
        Ok(Some(self.over(&dense)?))
    }

    /// Some values as an array of one dimension, likewise.
    pub fn flat(&self, values: Array<'_>, rows: &Range<usize>) -> PyResult<Bound<'py, PyAny>> {
        self.over(&Dense { values, rows: rows.clone(), shape: vec![rows.len()] })
    }

    fn over(&self, dense: &Dense<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.keeper.py();
        let (start, descr) = match dense.values.run(dense.rows.clone()) {
            Some(Run::Bits { .. }) => {
                return PyArray1::from_vec(py, bools(&dense.values, &dense.rows))
                    .call_method1(intern!(py, "reshape"), (dense.shape.clone(),));
            }
            Some(Run::Values { start, element, .. }) => (start, descr_of(py, element)),
            None if dense.values.field.kind == Kind::Half => {
                (dense.values.halves(&dense.rows), PyArrayDescr::new(py, "float16")?)
            }
            None => (ptr::null(), dtype::<i64>(py)), // of nulls, of which there is none
        };
        if dense.rows.is_empty() {
            let numpy = py.import(intern!(py, "numpy"))?;
            return numpy.call_method1(intern!(py, "empty"), (dense.shape.clone(), descr));
        }
        // What there is fits the address space, and so do its sizes.
        let shape: Vec<npy_intp> = dense.shape.iter().map(|&size| size.cast_signed()).collect();
        let ndim = i32::try_from(shape.len()).unwrap_or(i32::MAX); // more than NumPy takes is its error
        // SAFETY: as many values lie there, and the array's base keeps them; it cannot be written to, as it has no
        // such flag. `NewFromDescr` steals the reference to the dtype, `SetBaseObject` that to the keeper, both also
        // where they fail.
        unsafe {
            let array = PY_ARRAY_API.PyArray_NewFromDescr(
                py,
                npyffi::get_type_object(py, NpyTypes::PyArray_Type),
                descr.into_ptr().cast(),
                ndim,
                shape.as_ptr().cast_mut(),
                ptr::null_mut(),
                start.cast_mut().cast(),
                0,
                ptr::null_mut(),
            );
            let array = Bound::from_owned_ptr_or_err(py, array)?;
            let raw = array.as_ptr().cast::<npyffi::PyArrayObject>();
            if PY_ARRAY_API.PyArray_SetBaseObject(py, raw, self.keeper.clone().into_ptr()) < 0 {
                return Err(PyErr::fetch(py));
            }
            // Not at every address that Arrow has values at.
            PY_ARRAY_API.PyArray_UpdateFlags(py, raw, NPY_ARRAY_ALIGNED | C_AND_F_CONTIGUOUS);
            Ok(array)
        }
    }

    /// A value, as a list of them would hold it. (An array is one.)
    pub fn value(&self, column: &Array<'_>, row: usize) -> Result<Bound<'py, PyAny>, NoObject> {
        let py = self.keeper.py();
        if column.is_null(row) {
            return Ok(py.None().into_bound(py));
        }
        if column.field.tensor.is_some() {
            return self.array(column, row)?.ok_or_else(|| Cause::IsNone.into());
        }
        Ok(match column.field.kind {
            Kind::Bool | Kind::Number(_) | Kind::Half => {
                let number = cell::number(column, row)?.unwrap_or(Number::Int(0));
                match number {
                    Number::Int(flag) if column.field.kind == Kind::Bool => {
                        PyBool::new(py, flag != 0).to_owned().into_any()
                    }
                    Number::Int(int) => int.into_pyobject(py).map_err(PyErr::from)?.into_any(),
                    Number::Unsigned(int) => int.into_pyobject(py).map_err(PyErr::from)?.into_any(),
                    Number::Float(float) => PyFloat::new(py, float).into_any(),
                }
            }
            Kind::Text(_, true) | Kind::View(true) => {
                let text = std::str::from_utf8(column.text(row)?).map_err(|_| Broken("its text is not UTF-8"))?;
                PyString::new(py, text).into_any()
            }
            Kind::Text(_, false) | Kind::View(false) => PyBytes::new(py, column.text(row)?).into_any(),
            Kind::List(_) | Kind::FixedSizeList(_) => {
                let (inner, rows) = (column.child(0)?, column.items(row)?);
                if rows.len() > MOST_OF_NOTHING && !inner.field.takes_memory() {
                    return Err(Broken("a list has more items than memory, as they take none").into());
                }
                let items = PyList::empty(py);
                for item in rows {
                    items.append(self.value(&inner, item)?)?;
                }
                items.into_any()
            }
            Kind::Struct => {
                let dict = PyDict::new(py);
                for (index, field) in column.field.children.iter().enumerate() {
                    dict.set_item(&field.name, self.value(&column.column(index)?, row)?)?;
                }
                dict.into_any()
            }
            Kind::Null | Kind::Other => return Err(cell::wrong(column, VALUE).into()),
        })
    }
}

/// So many items that take no memory a list may have: no real one has, and there may be any number.
const MOST_OF_NOTHING: usize = 1 << 20;

const VALUE: &str = "numbers, text, bytes, or lists or structs of them";

const C_AND_F_CONTIGUOUS: i32 = npyffi::NPY_ARRAY_C_CONTIGUOUS | npyffi::NPY_ARRAY_F_CONTIGUOUS;

fn bools(values: &Array<'_>, rows: &Range<usize>) -> Vec<bool> {
    let mut bools = Vec::with_capacity(rows.len());
    if let Some(run) = values.run(rows.clone()) {
        // SAFETY: the table is alive.
        let source = unsafe { run.source() };
        let read = source.read(0..source.len(), |_, values| {
            if let Values::Bool(values) = values {
                bools.extend(values.iter().map(|value| value.0 != 0));
            }
            Ok::<(), NotPlain>(())
        });
        debug_assert_eq!(read, Ok(()), "bits are plain");
    }
    bools
}

fn descr_of(py: Python<'_>, element: Element) -> Bound<'_, PyArrayDescr> {
    match element {
        Element::Int8 => dtype::<i8>(py),
        Element::Int16 => dtype::<i16>(py),
        Element::Int32 => dtype::<i32>(py),
        Element::Int64 => dtype::<i64>(py),
        Element::UInt8 => dtype::<u8>(py),
        Element::UInt16 => dtype::<u16>(py),
        Element::UInt32 => dtype::<u32>(py),
        Element::UInt64 => dtype::<u64>(py),
        Element::Bool => dtype::<bool>(py),
        Element::Float32 => dtype::<f32>(py),
        Element::Float64 => dtype::<f64>(py),
    }
}
