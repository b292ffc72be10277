//! Takes every value of every sample as a strong reference, and looks at them.
//!
//! Taking may run any Python code: a mapping is asked, a key's `__eq__` is called. Whatever that
//! code does to the samples, what has been taken stays alive. Looking ([`Gathered::view`]) runs
//! none; where it finds a value that cannot be read directly, that value is turned into a plain
//! array ([`Gathered::convert`], Python code again) and everything is looked at anew.
#![allow(unsafe_code)]

use std::fmt;

use ::numpy::PyUntypedArray;
use pyo3::exceptions::{PyKeyError, PyOverflowError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};

use super::dlpack::{self, Exchange};
use super::list::List;
use super::{Source, numpy};
use crate::error::Number;

/// What a key's values are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A row of tokens or of values parallel to them. None is an error if it is required.
    Row {
        /// Whether every sample must have it.
        required: bool,
    },
    /// A number.
    Number,
    /// A tensor or array, combined by the tensor library.
    Media,
    /// Known, and not used.
    Ignored,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Row { .. } => "a row",
            Self::Number => "a number",
            Self::Media => "media",
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
    /// The first sample's are reported to the caller; all samples must have the same.
    Report,
}

/// The keys of a layout, as Python strings.
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
}

/// The values of a batch: strong references.
#[derive(Debug)]
pub struct Gathered<'py> {
    exchange: Option<&'py Exchange>,
    samples: Vec<Bound<'py, PyAny>>,
    values: Vec<Option<Bound<'py, PyAny>>>,
    /// Numbers of scalars, where `values` has an object for a key with [`Role::Number`].
    pub numbers: Vec<Option<Number>>,
    /// Keys of the first sample that the layout does not name, if they are to be reported.
    pub unknown: Vec<Bound<'py, PyAny>>,
}

/// Indices of values that cannot be read directly.
#[derive(Debug)]
pub struct Slow(Vec<usize>);

/// Turns a value into a plain array or number, or raises: `convert.row`, `convert.number`.
pub type Converter = Py<PyAny>;

impl<'py> Gathered<'py> {
    /// Takes all that the keys name.
    pub fn take(samples: &Bound<'py, PyAny>, keys: &Keys, number: &Converter) -> PyResult<Self> {
        let py = samples.py();
        let samples = list_of(samples)?;
        let count = keys.names.len();
        let mut gathered = Self {
            values: Vec::with_capacity(samples.len() * count),
            numbers: Vec::new(),
            unknown: Vec::new(),
            exchange: dlpack::exchange(py),
            samples,
        };
        // Samples of one batch have the same keys, mostly. What the first one lacks is looked up in
        // another only if that has a key which has not been accounted for: a missing look-up costs
        // as much as a successful one, and a layout knows twice the keys that a sample has.
        let mut expected = vec![true; count];
        for index in 0..gathered.samples.len() {
            let sample = as_dict(index, &gathered.samples[index])?;
            if sample.is_empty() {
                return Err(PyKeyError::new_err(format!(
                    "sample {index}: an empty dict: transformers' Trainer removes the columns that the model's forward \
                     does not name; pass remove_unused_columns=False in its TrainingArguments"
                )));
            }
            let begin = gathered.values.len();
            let mut found = 0;
            for (name, &expected) in keys.names.iter().zip(&expected) {
                let value = if expected { sample.get_item(name.bind(py))? } else { None };
                found += usize::from(value.is_some());
                gathered.values.push(value);
            }
            if found != sample.len() {
                for (key, name) in keys.names.iter().enumerate() {
                    if !expected[key] {
                        gathered.values[begin + key] = sample.get_item(name.bind(py))?;
                        found += usize::from(gathered.values[begin + key].is_some());
                    }
                }
                if found != sample.len() {
                    gathered.look_at_unknown(index, &sample, keys)?;
                }
            }
            if index == 0 {
                expected = gathered.values.iter().map(Option::is_some).collect();
            }
        }
        gathered.settle(keys, number)?;
        Ok(gathered)
    }

    /// Decides what None means, and reads the numbers.
    fn settle(&mut self, keys: &Keys, number: &Converter) -> PyResult<()> {
        let count = keys.names.len();
        self.numbers = vec![None; self.values.len()];
        for (at, slot) in self.values.iter_mut().enumerate() {
            let Some(value) = slot else { continue };
            match keys.roles[at % count] {
                Role::Row { required: true } if value.is_none() => {
                    let place = place(at / count, &keys.names[at % count]);
                    let wanted = "expected a 1-D tensor, array or list of integers";
                    return Err(PyTypeError::new_err(format!("{place} is None, {wanted}")));
                }
                Role::Ignored => *slot = None,
                _ if value.is_none() => *slot = None,
                Role::Number => {
                    self.numbers[at] = Some(read_number(value, at / count, &keys.names[at % count], number)?);
                }
                Role::Row { .. } | Role::Media => {}
            }
        }
        Ok(())
    }

    /// Deals with the keys of a sample that the layout does not name.
    fn look_at_unknown(&mut self, index: usize, sample: &Bound<'py, PyDict>, keys: &Keys) -> PyResult<()> {
        let py = sample.py();
        // Strings are compared as such; anything else is asked, which may run Python code.
        let known = |key: &Bound<'py, PyAny>| -> PyResult<bool> {
            if let Ok(key) = key.cast_exact::<PyString>() {
                // A string with lone surrogates has no UTF-8, and is no key of a layout.
                let Ok(key) = key.to_cow() else { return Ok(false) };
                return Ok(keys.names.iter().any(|name| name.bind(py).to_cow().is_ok_and(|name| name == key)));
            }
            for name in &keys.names {
                if key.eq(name.bind(py))? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        // A copy: `eq` may run Python code, which may change the sample.
        for key in sample.keys() {
            if known(&key)? {
                continue;
            }
            let name = key.cast::<PyString>().ok().and_then(|name| name.to_str().ok()).unwrap_or_default();
            let reserved = keys.reserved.iter().any(|prefix| name.starts_with(prefix));
            let why = match keys.unknown {
                _ if reserved => "it begins like a key that matters, but is none",
                Unknown::Error => "extra_keys=\"error\" allows none",
                Unknown::Drop => continue,
                Unknown::Report if index == 0 => {
                    self.unknown.push(key);
                    continue;
                }
                Unknown::Report => {
                    let mut also = false;
                    for first in &self.unknown {
                        also = also || first.eq(&key)?;
                    }
                    if also {
                        continue;
                    }
                    let key = key.repr()?;
                    return Err(PyKeyError::new_err(format!(
                        "sample {index}: the key {key} is not in sample 0: expected in all samples or in none"
                    )));
                }
            };
            let names: Vec<String> = keys.names.iter().map(|name| format!("'{name}'")).collect();
            return Err(PyKeyError::new_err(format!(
                "sample {index}: unknown key {}: {why} (the keys of layout '{}': {})",
                key.repr()?,
                keys.layout,
                names.join(", ")
            )));
        }
        Ok(())
    }

    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// A sample, as it was given.
    #[must_use]
    pub fn sample(&self, index: usize) -> Option<&Bound<'py, PyAny>> {
        self.samples.get(index)
    }

    /// One value, as it was given.
    #[must_use]
    pub fn value(&self, at: usize) -> Option<&Bound<'py, PyAny>> {
        self.values.get(at)?.as_ref()
    }

    /// Looks at every row. Fails with the indices of those that have to be converted first; what was
    /// viewed until then is not read.
    ///
    /// # Safety
    /// While the sources are in use no Python code may run, and the GIL is held.
    pub unsafe fn view(&self, keys: &Keys) -> Result<Vec<Option<Source<'_>>>, Slow> {
        let mut slow = Vec::new();
        let mut sources = Vec::with_capacity(self.values.len());
        for (at, value) in self.values.iter().enumerate() {
            let (Some(value), Role::Row { .. }) = (value, keys.roles[at % keys.roles.len()]) else {
                sources.push(None);
                continue;
            };
            // SAFETY: by contract.
            let source = unsafe { view(value, self.exchange) };
            if source.is_none() {
                slow.push(at);
            }
            sources.push(source);
        }
        if slow.is_empty() { Ok(sources) } else { Err(Slow(slow)) }
    }

    /// All lists and tuples: one of them holds something that is not an exact int.
    #[must_use]
    pub fn lists(&self, keys: &Keys) -> Slow {
        let list = |value: &Bound<'_, PyAny>| {
            value.is_exact_instance_of::<PyList>() || value.is_exact_instance_of::<PyTuple>()
        };
        let row = |at: usize| matches!(keys.roles[at % keys.roles.len()], Role::Row { .. });
        let at = |at: &usize| row(*at) && self.values[*at].as_ref().is_some_and(list);
        Slow((0..self.values.len()).filter(at).collect())
    }

    /// Turns values into plain arrays.
    pub fn convert(&mut self, slow: &Slow, keys: &Keys, row: &Converter) -> PyResult<()> {
        let count = keys.names.len();
        for &at in &slow.0 {
            let Some(value) = &self.values[at] else { continue };
            let place = place(at / count, &keys.names[at % count]);
            let plain = row.bind(value.py()).call1((value, place))?;
            // SAFETY: the view is dropped at once.
            if !plain.is_exact_instance_of::<PyUntypedArray>() || unsafe { view(&plain, None) }.is_none() {
                return Err(PyRuntimeError::new_err(
                    "a converted row is not a plain array; this is a bug in dpo_collate",
                ));
            }
            self.values[at] = Some(plain);
        }
        Ok(())
    }
}

/// Looks at one value.
///
/// # Safety
/// For `'a` no Python code runs and the GIL is held.
unsafe fn view<'a>(value: &'a Bound<'_, PyAny>, exchange: Option<&Exchange>) -> Option<Source<'a>> {
    // SAFETY: by contract; each branch checks the exact type first.
    unsafe {
        if let Some(exchange) = exchange
            && exchange.is_tensor(value)
        {
            return exchange.view(value);
        }
        if let Some(list) = List::view(value) {
            return Some(Source::List(list));
        }
        if value.get_type().is(value.py().get_type::<PyUntypedArray>()) {
            return numpy::view(value.cast_unchecked::<PyUntypedArray>());
        }
    }
    None
}

/// The samples, as strong references.
fn list_of<'py>(samples: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
    if let Ok(list) = samples.cast::<PyList>() {
        return Ok(list.iter().collect());
    }
    if samples.is_instance_of::<PyMapping>() || samples.is_instance_of::<PyString>() || samples.is_none() {
        let found = samples.get_type().name()?;
        return Err(PyTypeError::new_err(format!("expected a list of samples, got {found}")));
    }
    let Ok(iterator) = samples.try_iter() else {
        let found = samples.get_type().name()?;
        return Err(PyTypeError::new_err(format!("expected a list of samples, got {found}")));
    };
    iterator.collect()
}

/// The sample as an exact dict: itself, or a copy of what a subclass or another mapping holds.
fn as_dict<'py>(index: usize, sample: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    if let Ok(dict) = sample.cast_exact::<PyDict>() {
        return Ok(dict.clone());
    }
    let Ok(mapping) = sample.cast::<PyMapping>() else {
        let found = sample.get_type().name()?;
        return Err(PyTypeError::new_err(format!("sample {index}: expected a mapping such as a dict, got {found}")));
    };
    let copy = PyDict::new(sample.py());
    // Key by key: `dict.update` would pass over what a subclass of dict has for `__getitem__`. A key
    // that the mapping itself names is there: nothing grows, as a defaultdict would if it were asked.
    for key in mapping.keys()? {
        copy.set_item(&key, mapping.get_item(&key)?)?;
    }
    Ok(copy)
}

fn read_number(value: &Bound<'_, PyAny>, sample: usize, key: &Py<PyString>, number: &Converter) -> PyResult<Number> {
    let mut value = value.clone();
    let plain = |value: &Bound<'_, PyAny>| {
        value.is_exact_instance_of::<PyFloat>()
            || value.is_exact_instance_of::<PyInt>()
            || value.is_exact_instance_of::<PyBool>()
    };
    if !plain(&value) {
        value = number.bind(value.py()).call1((value, place(sample, key)))?;
    }
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        return Ok(Number::Float(float.value()));
    }
    if let Ok(int) = value.extract::<i64>() {
        return Ok(Number::Int(int));
    }
    let beyond = |_| PyOverflowError::new_err(format!("{} is an integer beyond 64 bits", place(sample, key)));
    value.extract::<u64>().map(Number::Unsigned).map_err(beyond)
}

/// How messages begin: `sample 3: 'chosen_labels'`.
fn place(sample: usize, key: &Py<PyString>) -> String {
    format!("sample {sample}: '{key}'")
}
