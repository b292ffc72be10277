//! Errors and panics become built-in Python exceptions of one string argument.

use std::any::Any;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::{PyKeyError, PyMemoryError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError};
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
    exception(error.kind(), sentence(error, gathered, keys))
}

/// The sentence for it.
pub(super) fn sentence(error: &CollateError, gathered: &Gathered<'_>, keys: &Keys) -> String {
    let mut message = error.to_string();
    if let (Cause::Missing, Some(sample)) = (&error.cause, error.sample) {
        // What the sample has instead is mostly what the user wants to know.
        let (names, is_none) = if let Some(table) = gathered.table() {
            let columns = table.find(sample).map(|(batch, _)| batch.fields()).unwrap_or_default();
            let is_none = columns.iter().any(|column| Some(&column.name) == error.key.as_ref());
            (columns.iter().map(|column| format!("'{}'", column.name)).collect(), is_none)
        } else if let Some(dict) = gathered.sample(sample).and_then(|sample| sample.cast_exact::<PyDict>().ok()) {
            let value = error.key.as_ref().and_then(|key| dict.get_item(key).ok().flatten());
            let name = |key: Bound<'_, PyAny>| key.repr().ok().map(|key| key.to_string());
            let names: Vec<String> = dict.keys().iter().filter_map(name).collect();
            (names, value.is_some_and(|value| value.is_none()))
        } else {
            return message;
        };
        if is_none {
            message.push_str(": it is None");
            return message;
        }
        let more = if names.len() > KEYS_SHOWN { ", …" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(message, " (its keys: {}{more})", names[..names.len().min(KEYS_SHOWN)].join(", "));
        if gathered.has_lost_rows(sample, names.len(), keys) {
            let _ = write!(message, ": {REMOVED_COLUMNS}");
        }
    }
    message
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
