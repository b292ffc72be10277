//! Errors and panics become built-in Python exceptions of one string argument.

use std::any::Any;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{
    PyException, PyKeyError, PyMemoryError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyDictMethods};

use crate::error::{Cause, CollateError, Kind, REMOVED_COLUMNS};
use crate::source::Failure;
use crate::source::gather::Gathered;
use crate::source::keys::Keys;

/// Most keys of a sample that a message lists.
const KEYS_SHOWN: usize = 16;

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Raised(error) => error,
            Failure::Batch(error) => exception(error.kind(), error.to_string()),
        }
    }
}

/// The exception for an error of a batch whose samples have been gathered.
pub(super) fn to_python(error: &CollateError, gathered: &Gathered<'_>, keys: &Keys) -> PyErr {
    sentence(error, gathered, keys).map_or_else(|raised| raised, |sentence| exception(error.kind(), sentence))
}

/// The sentence for it. Fails if the user's code, which is asked for the names of keys, is interrupted.
pub(super) fn sentence(error: &CollateError, gathered: &Gathered<'_>, keys: &Keys) -> PyResult<String> {
    let mut message = error.to_string();
    if let (Cause::Missing, Some(sample)) = (&error.cause, error.sample) {
        // What the sample has instead is mostly what the user wants to know.
        let (names, is_none) = if let Some(table) = gathered.table() {
            let columns = table.find(sample).map(|(batch, _)| batch.fields()).unwrap_or_default();
            let is_none = columns.iter().any(|column| Some(&column.name) == error.key.as_ref());
            (columns.iter().map(|column| format!("'{}'", column.name)).collect(), is_none)
        } else if let Some(dict) = gathered.sample(sample).and_then(|sample| sample.cast_exact::<PyDict>().ok()) {
            let py = dict.py();
            let value = match &error.key {
                Some(key) => unless_it_fails(py, dict.get_item(key))?.flatten(),
                None => None,
            };
            let mut names = Vec::new();
            for key in dict.keys() {
                names.extend(unless_it_fails(py, key.repr())?.map(|name| name.to_string()));
            }
            (names, value.is_some_and(|value| value.is_none()))
        } else {
            return Ok(message);
        };
        if is_none {
            message.push_str(": it is None");
            return Ok(message);
        }
        let more = if names.len() > KEYS_SHOWN { ", …" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(message, " (its keys: {}{more})", names[..names.len().min(KEYS_SHOWN)].join(", "));
        if gathered.has_lost_rows(sample, names.len(), keys) {
            let _ = write!(message, ": {REMOVED_COLUMNS}");
        }
    }
    Ok(message)
}

/// What the user's code gives for a message. An error there does not hide the one that is told, but no interrupt is lost.
fn unless_it_fails<T>(py: Python<'_>, given: PyResult<T>) -> PyResult<Option<T>> {
    match given {
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        given => given.map(Some),
    }
}

pub(super) fn exception(kind: Kind, message: String) -> PyErr {
    match kind {
        Kind::Key => PyKeyError::new_err(message),
        Kind::Type => PyTypeError::new_err(message),
        Kind::Value => PyValueError::new_err(message),
        Kind::Overflow => PyOverflowError::new_err(message),
        Kind::Memory => PyMemoryError::new_err(message),
    }
}

/// Runs an entry point; a panic becomes a `RuntimeError`. (pyo3 would make a `PanicException` of it,
/// which is no `Exception`: a DataLoader worker does not catch it, and dies without a word.)
pub(super) fn guarded<T>(entry: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(entry)).unwrap_or_else(|panic| Err(bug(&*panic)))
}

fn bug(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic");
    PyRuntimeError::new_err(format!("{text}; this is a bug in dpo_collate"))
}
