//! Values of tables as Python objects, over the table's memory where that is possible.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use numpy::npyffi::{self, NPY_ARRAY_ALIGNED, NpyTypes, PY_ARRAY_API, npy_intp};
use numpy::{PyArray1, PyArrayDescr, dtype};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PyString};
use pyo3::{ffi, intern};

use super::array::{Array, Run};
use super::cell::{self, Dense};
use super::schema::Kind;
use super::{Broken, Table};
use crate::cells::{Element, Values};
use crate::error::{Cause, CollateError, Number};
use crate::source::{Failure, NotPlain};

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
    ///
    /// Lists of float64 are Python's floats, which nobody chose the width of: float32, as torch makes of them.
    pub fn array(&self, column: &Array<'_>, row: usize) -> Result<Option<Bound<'py, PyAny>>, NoObject> {
        let Some(dense) = cell::array(column, row)? else { return Ok(None) };
        if !column.field.is_extension && dense.values.field.kind == Kind::Number(Element::Float64) {
            return Ok(Some(self.narrowed(&dense)?));
        }
        Ok(Some(self.over(&dense)?))
    }

    /// Some values as an array of one dimension, likewise.
    pub fn flat(&self, values: Array<'_>, rows: &Range<usize>) -> PyResult<Bound<'py, PyAny>> {
        self.over(&Dense { values, rows: rows.clone(), shape: vec![rows.len()] })
    }

    fn narrowed(&self, dense: &Dense<'_>) -> PyResult<Bound<'py, PyAny>> {
        let mut floats = Vec::with_capacity(dense.rows.len());
        read(dense, |values| {
            if let Values::Float64(values) = values {
                #[expect(clippy::cast_possible_truncation, reason = "rounds, as torch does")]
                floats.extend(values.iter().map(|&value| value as f32));
            }
        });
        let py = self.keeper.py();
        PyArray1::from_vec(py, floats).call_method1(intern!(py, "reshape"), (dense.shape.clone(),))
    }

    fn over(&self, dense: &Dense<'_>) -> PyResult<Bound<'py, PyAny>> {
        let py = self.keeper.py();
        let (start, descr) = match dense.values.run(dense.rows.clone()) {
            Some(Run::Bits { .. }) => {
                let mut bools = Vec::with_capacity(dense.rows.len());
                read(dense, |values| {
                    if let Values::Bool(values) = values {
                        bools.extend(values.iter().map(|value| value.0 != 0));
                    }
                });
                return PyArray1::from_vec(py, bools).call_method1(intern!(py, "reshape"), (dense.shape.clone(),));
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
            // A copy: who keeps it does not keep the table.
            let array = self.array(column, row)?.ok_or(Cause::IsNone)?;
            return Ok(array.call_method0(intern!(py, "copy"))?);
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
            Kind::Dictionary(_) => {
                let (values, at) = column.looked_up(row)?;
                self.value(&values, at)?
            }
            Kind::Null | Kind::Other => return Err(cell::wrong(column, VALUE).into()),
        })
    }
}

/// So many items that take no memory a list may have: no real one has, and there may be any number.
const MOST_OF_NOTHING: usize = 1 << 20;

const VALUE: &str = "numbers, text, bytes, or lists or structs of them";

const C_AND_F_CONTIGUOUS: i32 = npyffi::NPY_ARRAY_C_CONTIGUOUS | npyffi::NPY_ARRAY_F_CONTIGUOUS;

/// Hands numbers or bools to `visit`, run by run.
fn read(dense: &Dense<'_>, mut visit: impl FnMut(Values<'_>)) {
    let Some(run) = dense.values.run(dense.rows.clone()) else { return };
    // SAFETY: the array has made it, and is alive.
    let source = unsafe { run.source() };
    let read = source.read(0..source.len(), |_, values| {
        visit(values);
        Ok::<(), NotPlain>(())
    });
    debug_assert_eq!(read, Ok(()), "what Arrow has is plain");
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
