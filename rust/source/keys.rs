//! The keys of a layout as Python strings: what each is taken for, and what happens to all others.
//!
//! Deciding may run Python code: a key that is no exact string is asked by its `__eq__`.

use std::fmt;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyString, PyType};

use super::Failure;
use crate::error::{Cause, CollateError, Refusal};

/// What a key's values are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A row of tokens or of values parallel to them. None is an error if it is required.
    Row {
        /// Whether every sample must have it.
        required: bool,
        /// Whether every column of it can show floating-point values.
        floats: bool,
    },
    /// A number.
    Number,
    /// A tensor or array, combined by the tensor library.
    Media,
    /// Anything, handed on as it is.
    Value,
    /// Known, and not used.
    Ignored,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Row { .. } => "a row",
            Self::Number => "a number",
            Self::Media => "media",
            Self::Value => "a value",
            Self::Ignored => "ignored",
        })
    }
}

/// What happens to keys that the layout does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// They are left out.
    Drop,
    /// They are an error.
    Error,
    /// Their values are taken too; all samples must have those of the first.
    Take,
}

/// The keys of a layout.
#[derive(Debug)]
pub struct Keys {
    /// Name of the layout, for messages.
    pub layout: String,
    /// The keys, by index.
    pub names: Vec<Py<PyString>>,
    /// What each is taken for.
    pub roles: Vec<Role>,
    /// What happens to other keys.
    pub unknown: Unknown,
    /// An unknown key that begins with one of these is always an error: it is most likely misspelt.
    pub reserved: Vec<String>,
    /// Rows may have a first dimension of one.
    pub unbatch: bool,
}

impl Keys {
    /// What the key is taken for, if the layout names it.
    pub(super) fn role(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<Role>> {
        Ok(self.index(key)?.map(|index| self.roles[index]))
    }

    /// The index of the key, if the layout names it.
    pub(super) fn index(&self, key: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        let py = key.py();
        // Strings are compared as such; anything else is asked, which may run Python code.
        Ok(if let Ok(key) = key.cast_exact::<PyString>() {
            // A string with lone surrogates has no UTF-8, and is no key of a layout.
            let Ok(key) = key.to_cow() else { return Ok(None) };
            self.names.iter().position(|name| name.bind(py).to_cow().is_ok_and(|name| name == key))
        } else {
            let mut found = None;
            for (index, name) in self.names.iter().enumerate() {
                if key.eq(name.bind(py))? {
                    found = Some(index);
                    break;
                }
            }
            found
        })
    }

    /// Refuses a key that the layout does not name, if that is what happens to it.
    pub(super) fn check_unknown(&self, sample: usize, key: &Bound<'_, PyAny>) -> Result<(), Failure> {
        let name = key.cast::<PyString>().ok();
        let name = name.as_ref().map(|name| name.to_string_lossy()).unwrap_or_default();
        let prefix = self.reserved.iter().find(|prefix| name.starts_with(prefix.as_str()));
        let why = if prefix.is_some() {
            Refusal::Reserved
        } else if self.unknown == Unknown::Error {
            Refusal::Extra
        } else {
            return Ok(());
        };
        let cause = Cause::Unknown {
            name: key.repr()?.to_string(),
            why,
            layout: self.layout.clone(),
            known: self.like(prefix),
        };
        Err(CollateError { sample: Some(sample), key: None, cause }.into())
    }

    /// The keys that a misspelt one may have been meant for: those that begin alike, else the rows.
    fn like(&self, prefix: Option<&String>) -> Vec<String> {
        let names = || self.names.iter().map(Py::to_string);
        let alike: Vec<String> = names().filter(|name| prefix.is_some_and(|prefix| name.starts_with(prefix))).collect();
        if !alike.is_empty() {
            return alike;
        }
        let rows = names().zip(&self.roles).filter(|(_, role)| matches!(role, Role::Row { .. }));
        rows.map(|(name, _)| name).collect()
    }

    /// The sample as an exact dict: itself, or a copy of what a subclass or another mapping holds.
    pub(super) fn dict_of<'py>(&self, index: usize, sample: &Bound<'py, PyAny>) -> Result<Bound<'py, PyDict>, Failure> {
        if let Ok(dict) = sample.cast_exact::<PyDict>() {
            return Ok(dict.clone());
        }
        if !is_mapping(sample)? {
            let cause = Cause::NoMapping { found: sample.get_type().name()?.to_string() };
            return Err(CollateError { sample: Some(index), key: None, cause }.into());
        }
        let copy = PyDict::new(sample.py());
        // Key by key: `dict.update` would pass over what a subclass of dict has for `__getitem__`. A key
        // that the mapping itself names is there: nothing grows, as a defaultdict would if it were asked.
        // In a list of Python's, which can be refused memory: there may be any number of keys.
        let keys = sample.call_method0(intern!(sample.py(), "keys"))?;
        for key in sample.py().get_type::<PyList>().call1((keys,))?.try_iter()? {
            let key = key?;
            let used = match self.role(&key)? {
                Some(role) => role != Role::Ignored,
                None => self.unknown == Unknown::Take,
            };
            // What is not used is not asked for: a lazy row may have to decode it first.
            let value = if used { sample.get_item(&key)? } else { sample.py().None().into_bound(sample.py()) };
            copy.set_item(&key, value)?;
        }
        Ok(copy)
    }
}

/// Whether it is a `collections.abc.Mapping`. That asks its class: what this raises comes through, which pyo3's own cast
/// would lose.
pub(crate) fn is_mapping(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    static MAPPING: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    Ok(object.is_instance_of::<PyDict>()
        || object.is_instance(MAPPING.import(object.py(), "collections.abc", "Mapping")?)?)
}
