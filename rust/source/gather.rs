//! Takes every value of a sample that is used as a strong reference, and looks at it.
//!
//! Taking may run any Python code: a mapping is asked, a key's `__eq__` is called. Whatever that
//! code does to the samples, what has been taken stays alive. Looking ([`Gathered::view`]) runs
//! none; where it finds a value that cannot be read directly, that value is turned into a plain
//! array ([`Gathered::convert`], Python code again) and everything is looked at anew.
//!
//! Of a table in Arrow's memory `columns` takes the values, which are where they are then.
#![allow(unsafe_code)]

use std::sync::Arc;

use ::numpy::PyUntypedArray;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::arrow::Table;
use super::arrow::array::Run;
use super::dlpack::{self, Exchange};
use super::keys::{Keys, Role, Unknown};
use super::list::List;
use super::{Failure, Source, numpy};
use crate::error::{Cause, CollateError, Number};

/// A key that the layout does not name, with the value of every sample.
#[derive(Debug)]
pub struct Extra<'py> {
    /// The key.
    pub key: Bound<'py, PyAny>,
    /// Its values, sample by sample.
    pub values: Vec<Bound<'py, PyAny>>,
}

/// One value of one sample.
#[derive(Debug)]
pub(super) enum Value<'py> {
    /// A strong reference.
    Object(Bound<'py, PyAny>),
    /// A row of the table that the batch is made of.
    Run(Run),
}

/// What samples are.
#[derive(Debug)]
pub(super) enum Samples<'py> {
    /// Objects, as they were given.
    Objects(Vec<Bound<'py, PyAny>>),
    /// The rows of a table.
    Rows(Arc<Table>),
}

/// The values of a batch, and what keeps them alive.
#[derive(Debug)]
pub struct Gathered<'py> {
    pub(super) exchange: Option<&'py Exchange>,
    pub(super) samples: Samples<'py>,
    pub(super) values: Vec<Option<Value<'py>>>,
    /// Numbers of scalars, where `values` has an object for a key with [`Role::Number`].
    pub numbers: Vec<Option<Number>>,
    /// Keys of the first sample that the layout does not name, if their values are taken.
    pub extras: Vec<Extra<'py>>,
}

/// Indices of values that cannot be read directly.
#[derive(Debug)]
pub struct Slow(Vec<usize>);

/// Turns a value into a plain array or number, or raises: `_convert.row`, `_convert.number`.
pub type Converter = Py<PyAny>;

impl<'py> Gathered<'py> {
    /// Takes all that the keys name.
    pub fn take(samples: &Bound<'py, PyList>, keys: &Keys, number: &Converter) -> Result<Self, Failure> {
        let py = samples.py();
        let count = keys.names.len();
        let samples: Vec<_> = samples.iter().collect();
        let mut gathered = Self {
            values: Vec::with_capacity(samples.len() * count),
            numbers: Vec::new(),
            extras: Vec::new(),
            exchange: dlpack::exchange(py),
            samples: Samples::Objects(Vec::new()),
        };
        // Samples of one batch have the same keys, mostly. What the first one lacks is looked up in
        // another only if that has a key which has not been accounted for: a missing look-up costs
        // as much as a successful one, and a layout knows twice the keys that a sample has.
        let mut expected = vec![true; count];
        for (index, sample) in samples.iter().enumerate() {
            let sample = keys.dict_of(index, sample)?;
            if sample.is_empty() {
                return Err(CollateError { sample: Some(index), key: None, cause: Cause::EmptySample }.into());
            }
            let begin = gathered.values.len();
            let mut found = 0;
            for (name, &expected) in keys.names.iter().zip(&expected) {
                let value = if expected { sample.get_item(name.bind(py))? } else { None };
                found += usize::from(value.is_some());
                gathered.values.push(value.map(Value::Object));
            }
            if found != sample.len() {
                for (key, name) in keys.names.iter().enumerate() {
                    if !expected[key] {
                        gathered.values[begin + key] = sample.get_item(name.bind(py))?.map(Value::Object);
                        found += usize::from(gathered.values[begin + key].is_some());
                    }
                }
            }
            if found != sample.len() || !gathered.extras.is_empty() {
                gathered.take_extras(index, &sample, found, keys)?;
            }
            if index == 0 {
                expected = gathered.values.iter().map(Option::is_some).collect();
            }
        }
        gathered.samples = Samples::Objects(samples);
        gathered.settle(keys, number)?;
        Ok(gathered)
    }

    /// Decides what None means, and reads the numbers.
    fn settle(&mut self, keys: &Keys, number: &Converter) -> Result<(), Failure> {
        let count = keys.names.len();
        self.numbers = vec![None; self.values.len()];
        for (at, slot) in self.values.iter_mut().enumerate() {
            let Some(Value::Object(value)) = slot else { continue };
            match keys.roles[at % count] {
                Role::Row { required: true, .. } if value.is_none() => {
                    let key = keys.names[at % count].to_string();
                    return Err(CollateError::at(at / count, &key, Cause::IsNone).into());
                }
                Role::Ignored => *slot = None,
                _ if value.is_none() => *slot = None,
                Role::Number => {
                    self.numbers[at] = Some(read_number(value, at / count, &keys.names[at % count], number)?);
                }
                Role::Row { .. } | Role::Media | Role::Value => {}
            }
        }
        Ok(())
    }

    /// Deals with the keys of a sample that the layout does not name; `found` are those that it names.
    fn take_extras(
        &mut self,
        index: usize,
        sample: &Bound<'py, PyDict>,
        found: usize,
        keys: &Keys,
    ) -> Result<(), Failure> {
        if index > 0 {
            for extra in &mut self.extras {
                let Some(value) = sample.get_item(&extra.key)? else {
                    let key = extra.key.str()?.to_string();
                    return Err(CollateError::at(index, &key, Cause::MissingHere { other: 0 }).into());
                };
                extra.values.push(value);
            }
            if found + self.extras.len() == sample.len() {
                return Ok(());
            }
        }
        // A copy: a key's `__eq__` may run Python code, which may change the sample.
        for key in sample.keys() {
            if keys.role(&key)?.is_some() {
                continue;
            }
            keys.check_unknown(index, &key)?;
            if keys.unknown != Unknown::Take {
                continue;
            }
            if index == 0 {
                let value = sample.get_item(&key)?.ok_or_else(|| changed(index))?;
                self.extras.push(Extra { key, values: vec![value] });
                continue;
            }
            let mut also = false;
            for extra in &self.extras {
                also = also || extra.key.eq(&key)?;
            }
            if !also {
                let cause = Cause::NotInFirst { name: key.repr()?.to_string() };
                return Err(CollateError { sample: Some(index), key: None, cause }.into());
            }
        }
        Ok(())
    }

    /// Whether the sample has no row at all, and of its `len` keys none that the layout does not name.
    #[must_use]
    pub fn has_lost_rows(&self, sample: usize, len: usize, keys: &Keys) -> bool {
        let begin = sample * keys.roles.len();
        let has = |key: &usize| self.values[begin + key].is_some() || self.numbers[begin + key].is_some();
        let mut found = (0..keys.roles.len()).filter(has).map(|key| keys.roles[key]);
        found.clone().count() == len && !found.any(|role| matches!(role, Role::Row { .. }))
    }

    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        match &self.samples {
            Samples::Objects(samples) => samples.len(),
            Samples::Rows(table) => table.rows(),
        }
    }

    /// The table whose rows are the samples, if they are.
    #[must_use]
    pub fn table(&self) -> Option<&Table> {
        match &self.samples {
            Samples::Objects(_) => None,
            Samples::Rows(table) => Some(table),
        }
    }

    /// A sample, as it was given; none of a table.
    #[must_use]
    pub fn sample(&self, index: usize) -> Option<&Bound<'py, PyAny>> {
        match &self.samples {
            Samples::Objects(samples) => samples.get(index),
            Samples::Rows(_) => None,
        }
    }

    /// One value, as it was given; none of a row of a table.
    #[must_use]
    pub fn value(&self, at: usize) -> Option<&Bound<'py, PyAny>> {
        match self.values.get(at)? {
            Some(Value::Object(value)) => Some(value),
            _ => None,
        }
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
            // SAFETY: by contract; the table is alive, as it is held here.
            let source = unsafe {
                match value {
                    Value::Object(value) => view(value, self.exchange, keys.unbatch),
                    Value::Run(run) => Some(run.source()),
                }
            };
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
        let at = |at: &usize| row(*at) && self.value(*at).is_some_and(list);
        Slow((0..self.values.len()).filter(at).collect())
    }

    /// Turns values into plain arrays.
    pub fn convert(&mut self, slow: &Slow, keys: &Keys, row: &Converter) -> PyResult<()> {
        slow.0.iter().try_for_each(|&at| self.convert_one(at, keys, row))
    }

    /// Likewise; what cannot be turned into one is taken out: its index, and why.
    pub fn convert_all(&mut self, slow: &Slow, keys: &Keys, row: &Converter) -> Vec<(usize, PyErr)> {
        let mut refused = Vec::new();
        for &at in &slow.0 {
            if let Err(error) = self.convert_one(at, keys, row) {
                self.values[at] = None;
                refused.push((at, error));
            }
        }
        refused
    }

    fn convert_one(&mut self, at: usize, keys: &Keys, row: &Converter) -> PyResult<()> {
        let count = keys.names.len();
        if let Some(value) = self.value(at) {
            let floats = matches!(keys.roles[at % count], Role::Row { floats: true, .. });
            let place = place(at / count, &keys.names[at % count]);
            let plain = row.bind(value.py()).call1((value, place, floats))?;
            // SAFETY: the view is dropped at once.
            if !plain.is_exact_instance_of::<PyUntypedArray>() || unsafe { view(&plain, None, false) }.is_none() {
                return Err(PyRuntimeError::new_err(
                    "a converted row is not a plain array; this is a bug in dpo_collate",
                ));
            }
            self.values[at] = Some(Value::Object(plain));
        }
        Ok(())
    }
}

/// Looks at one value. With `unbatch`, a first dimension of one is none.
///
/// # Safety
/// For `'a` no Python code runs and the GIL is held.
unsafe fn view<'a>(value: &'a Bound<'_, PyAny>, exchange: Option<&Exchange>, unbatch: bool) -> Option<Source<'a>> {
    // SAFETY: by contract; each branch checks the exact type first.
    unsafe {
        if let Some(exchange) = exchange
            && exchange.is_tensor(value)
        {
            return exchange.view(value, unbatch);
        }
        if let Some(list) = List::view(value) {
            // A list of one list is as long as that one.
            return (!(unbatch && list.is_nested())).then_some(Source::List(list));
        }
        if value.get_type().is(value.py().get_type::<PyUntypedArray>()) {
            return numpy::view(value.cast_unchecked::<PyUntypedArray>(), unbatch);
        }
    }
    None
}

/// A key that was there is gone: a key's `__eq__` has taken it out.
fn changed(sample: usize) -> PyErr {
    PyRuntimeError::new_err(format!("sample {sample} changed while it was read"))
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
