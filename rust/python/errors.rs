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
    let mut message = error.to_string();
    if let (Cause::Missing, Some(sample)) = (&error.cause, error.sample.and_then(|index| gathered.sample(index))) {
        // What the sample has instead is mostly what the user wants to know.
        let none = |dict: &Bound<'_, PyDict>| {
            let value = error.key.as_ref().and_then(|key| dict.get_item(key).ok().flatten());
            value.is_some_and(|value| value.is_none())
        };
        if let Ok(dict) = sample.cast_exact::<PyDict>() {
            if none(dict) {
                message.push_str(": it is None");
                return PyKeyError::new_err(message);
            }
            let names: Vec<String> = dict
                .keys()
                .iter()
                .take(KEYS_SHOWN)
                .filter_map(|key| key.repr().ok().map(|key| key.to_string()))
                .collect();
            let more = if dict.len() > KEYS_SHOWN { ", …" } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(message, " (its keys: {}{more})", names.join(", "));
            if error.sample.is_some_and(|index| gathered.has_lost_rows(index, dict.len(), keys)) {
                let _ = write!(message, ": {REMOVED_COLUMNS}");
            }
        }
    }
    exception(error.kind(), message)
}

fn exception(kind: Kind, message: String) -> PyErr {
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
