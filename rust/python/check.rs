//! Rows of a data set, each looked at alone: as a batch of one, and by the checks of `crate::check`.

use std::sync::Arc;

use pyo3::exceptions::{PyKeyError, PyMemoryError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::Collator;
use super::arrow::ArrowTable;
use super::errors::{exception, guarded, sentence, to_python};
use super::seen::Seen;
use super::table::Table;
use crate::arena::Memory;
use crate::check::{Checks, Digest, Found, Scored, Scratch, Vocabulary, differences, presence};
use crate::collate::{Batch, Stop, collate};
use crate::error::{Cause, CollateError, Number};
use crate::layout::Key;
use crate::plan::Request;
use crate::source::gather::Gathered;
use crate::source::{Failure, NotPlain, Source, arrow};

/// What is wrong with a row: its number, the short name of the fault, the key, the sentence.
type Problem = (usize, &'static str, Option<String>, String);

/// What was found in some rows.
#[derive(Default)]
#[pyclass(frozen, get_all, module = "dpo_collate._core")]
pub(super) struct Findings {
    problems: Vec<Problem>,
    /// Rows whose pair was there before, each with the first row that had it.
    duplicates: Vec<(usize, usize)>,
    /// Of the rows that were set apart, the digests of their pairs.
    apart: Vec<(usize, (u64, u64))>,
    /// Rows that have an id which is counted.
    counted: Vec<usize>,
    /// Rows that a batch is refused for, ascending.
    refused: Vec<usize>,
    /// Of these, samples of which no value was looked at.
    not_taken: Vec<usize>,
}

/// Looks at rows, each alone.
#[pyclass(module = "dpo_collate._core")]
pub(super) struct RowCheck {
    collator: Py<Collator>,
    checks: Checks,
    /// The first good row, and which of the optional parts of the layout it has.
    expected: Option<(usize, Vec<bool>)>,
}

/// What was found in a row while no Python code could run.
#[derive(Default)]
struct Looked {
    error: Option<CollateError>,
    presence: Option<Vec<bool>>,
    found: Vec<Found>,
    digest: Option<Digest>,
    counted: bool,
}

#[pymethods]
impl RowCheck {
    /// `ids` and `sides` are keys of the collator's layout, `scored` keys, what is not scored, and whether the rest are
    /// token ids. `image_tokens` are ids that are no others' business.
    #[new]
    #[pyo3(signature = (collator, *, ids, sides, may_be_equal, scored, vocab_size, image_tokens))]
    fn new(
        collator: Py<Collator>,
        ids: Vec<String>,
        sides: Vec<Vec<String>>,
        may_be_equal: bool,
        scored: Vec<(Vec<String>, f64, bool)>,
        vocab_size: Option<u64>,
        image_tokens: Vec<i64>,
    ) -> PyResult<Self> {
        guarded(|| {
            let table = &collator.get().table;
            let key = |name: &String| {
                let index = table.layout.keys.iter().position(|key| key == name);
                index.ok_or_else(|| PyKeyError::new_err(format!("the layout has no key '{name}'")))
            };
            let keys = |names: &Vec<String>| names.iter().map(key).collect::<PyResult<Vec<Key>>>();
            let checks = Checks {
                ids: keys(&ids)?,
                sides: sides.iter().map(keys).collect::<PyResult<_>>()?,
                may_be_equal,
                scored: scored
                    .iter()
                    .map(|(names, nothing, labels)| {
                        Ok(Scored { keys: keys(names)?, nothing: number(*nothing), labels: *labels })
                    })
                    .collect::<PyResult<_>>()?,
                vocabulary: vocab_size.map(|size| Vocabulary { size, also: image_tokens }),
            };
            Ok(Self { collator, checks, expected: None })
        })
    }

    /// Looks at some samples, the first of which is row `first`. `apart`: rows (ascending) whose pairs are not looked up
    /// in `seen`, as there is more to them than tokens.
    #[pyo3(signature = (samples, first, apart, seen))]
    fn look(
        &mut self,
        samples: &Bound<'_, PyAny>,
        first: usize,
        apart: Vec<usize>,
        seen: Option<&mut Seen>,
    ) -> PyResult<Findings> {
        guarded(|| {
            let py = samples.py();
            let mut looking = Looking { apart, seen, found: Findings::default(), scratch: Scratch::default() };
            let collator = self.collator.clone_ref(py);
            let collator = collator.get();
            if let Ok(table) = samples.cast::<ArrowTable>() {
                self.look_at_table(py, collator, table.get().table(), first, &mut looking)?;
            } else {
                for (index, sample) in samples.cast::<PyList>()?.iter().enumerate() {
                    self.look_at_sample(collator, &sample, first + index, &mut looking)?;
                }
            }
            looking.found.problems.sort_by_key(|problem| problem.0);
            looking.found.refused.sort_unstable();
            looking.found.refused.dedup();
            Ok(looking.found)
        })
    }
}

/// Numbers come as floats: an id beyond 2^53 that nothing is scored for is none.
#[expect(clippy::cast_possible_truncation, clippy::float_cmp, clippy::cast_precision_loss, reason = "it is compared")]
fn number(value: f64) -> Number {
    if (value as i64) as f64 == value { Number::Int(value as i64) } else { Number::Float(value) }
}

/// What goes along while rows are looked at.
struct Looking<'s> {
    apart: Vec<usize>,
    seen: Option<&'s mut Seen>,
    found: Findings,
    scratch: Scratch,
}

impl RowCheck {
    fn look_at_table(
        &mut self,
        py: Python<'_>,
        collator: &Collator,
        table: &Arc<arrow::Table>,
        first: usize,
        looking: &mut Looking<'_>,
    ) -> PyResult<()> {
        let mut refused = Vec::new();
        let gathered = Gathered::take_rows_of(py, table, &collator.table.keys, Some(&mut refused));
        let mut gathered = gathered.map_err(|failure| of_table(failure, first))?;
        let mut broken: Vec<usize> = Vec::new();
        for error in refused {
            broken.extend(error.sample);
            looking.push(error, first, &gathered, collator)?;
        }
        self.look_at_gathered(py, collator, &mut gathered, (first, &mut broken), looking)
    }

    fn look_at_sample(
        &mut self,
        collator: &Collator,
        sample: &Bound<'_, PyAny>,
        row: usize,
        looking: &mut Looking<'_>,
    ) -> PyResult<()> {
        let samples = PyList::new(sample.py(), [sample])?;
        match Gathered::take(&samples, &collator.table.keys, &collator.number) {
            Ok(mut gathered) => {
                self.look_at_gathered(sample.py(), collator, &mut gathered, (row, &mut Vec::new()), looking)
            }
            Err(Failure::Batch(error)) => {
                let message = renamed(&error.to_string(), row);
                looking.found.problems.push((row, name_of(&error), key_of(&error), message));
                looking.found.refused.push(row);
                looking.found.not_taken.push(row);
                Ok(())
            }
            Err(Failure::Raised(error)) => {
                looking.found.not_taken.push(row);
                looking.push_raised(sample.py(), error, row)
            }
        }
    }

    /// View → collate, sample by sample: the quiet phase, and its repetition after what could not be read in it has
    /// been converted, or taken out. Every value is either at most once, so this ends.
    fn look_at_gathered(
        &mut self,
        py: Python<'_>,
        collator: &Collator,
        gathered: &mut Gathered<'_>,
        (first, broken): (usize, &mut Vec<usize>),
        looking: &mut Looking<'_>,
    ) -> PyResult<()> {
        let Table { layout, keys, .. } = &collator.table;
        let looked = loop {
            #[expect(unsafe_code, reason = "the beginning of the quiet phase")]
            // SAFETY: until `sources` is gone nothing below runs Python code: `look` knows none.
            let slow = match unsafe { gathered.view(keys) } {
                Err(slow) => slow,
                Ok(sources) => match self.quiet(collator, (&sources, &gathered.numbers), first, broken, looking) {
                    Ok(looked) => break looked,
                    Err(NotPlain) => gathered.lists(keys),
                },
            };
            for (at, error) in gathered.convert_all(&slow, keys, &collator.row) {
                let sample = at / keys.names.len();
                broken.push(sample);
                looking.push_raised(py, error, first + sample)?;
            }
        };
        for (sample, looked) in looked.into_iter().enumerate() {
            let row = first + sample;
            // A good row is no duplicate of a bad one: of those that come twice a good one is to be left.
            let good = looked.error.is_none() && looked.found.is_empty() && !broken.contains(&sample);
            if let Some(error) = looked.error {
                let error = CollateError { sample: Some(sample), ..error };
                if gathered.table().is_some_and(|table| lacks_column(table, &error)) {
                    let error = to_python(&error, gathered, keys);
                    return Err(renamed_exception(py, error, sample, row));
                }
                looking.push(error, first, gathered, collator)?;
            }
            for found in looked.found {
                let message = format!("row {row}: {}", found.sentence(layout));
                let key = Some(layout.keys[found.key].clone());
                looking.found.problems.push((row, found.fault.name(), key, message));
            }
            if let Some(presence) = looked.presence {
                let (other, expected) = self.expected.get_or_insert_with(|| (row, presence.clone()));
                for (key, message) in differences(layout, (row, &presence), (*other, expected)) {
                    looking.found.problems.push((row, "not_in_all", Some(key), message));
                }
            }
            if looked.counted {
                looking.found.counted.push(row);
            }
            if let (Some(digest), Some(seen)) = (looked.digest, &mut looking.seen) {
                if looking.apart.binary_search(&row).is_ok() {
                    looking.found.apart.push((row, digest.into()));
                } else if let Some(first) = seen.look_up(digest, row, good)? {
                    looking.found.duplicates.push((row, first));
                }
            }
        }
        Ok(())
    }

    /// Looks at each sample. No Python code runs.
    fn quiet(
        &self,
        collator: &Collator,
        (sources, numbers): (&[Option<Source<'_>>], &[Option<Number>]),
        first: usize,
        broken: &[usize],
        looking: &mut Looking<'_>,
    ) -> Result<Vec<Looked>, NotPlain> {
        let layout = &collator.table.layout;
        let keys = layout.keys.len();
        let request = Request { min_length: 0, max_bytes: collator.max_bytes };
        let mut rows = Vec::with_capacity(sources.len() / keys);
        for (sample, (sources, numbers)) in sources.chunks_exact(keys).zip(numbers.chunks_exact(keys)).enumerate() {
            let mut looked = Looked::default();
            // A list that holds no numbers is that, whatever its length is to others: as in a table.
            sources.iter().flatten().try_for_each(|source| source.check_outside(&(0..0)))?;
            // Where a value could not be taken there is no more to be said of the whole.
            if !broken.contains(&sample) {
                match collate(layout, Batch { sources, numbers }, request, Memory::Heap) {
                    Ok(collated) => {
                        looked.counted = collated.counts.iter().any(|count| count.tokens > 0);
                        looked.presence = Some(presence(layout, &collated.plan));
                    }
                    Err(Stop::NotPlain) => return Err(NotPlain),
                    Err(Stop::Error(error)) => looked.error = Some(error),
                }
            }
            let pictured = looking.apart.binary_search(&(first + sample)).is_ok();
            looked.digest = self.checks.look(sources, pictured, &mut looking.scratch, &mut looked.found)?;
            rows.push(looked);
        }
        Ok(rows)
    }
}

impl Looking<'_> {
    fn push(
        &mut self,
        error: CollateError,
        first: usize,
        gathered: &Gathered<'_>,
        collator: &Collator,
    ) -> PyResult<()> {
        let sample = error.sample.unwrap_or_default();
        let row = first + sample;
        let message = sentence(&error, gathered, &collator.table.keys)?;
        let message = message.strip_prefix(&format!("sample {sample}: ")).unwrap_or(&message);
        self.found.problems.push((row, name_of(&error), key_of(&error), format!("row {row}: {message}")));
        self.found.refused.push(row);
        Ok(())
    }

    /// An exception of the layer that converts values is a problem of the row; any other is raised.
    fn push_raised(&mut self, py: Python<'_>, error: PyErr, row: usize) -> PyResult<()> {
        // (Its `__str__` is not asked: it may be the user's.)
        let message = exception_text(py, &error);
        let rest = message.as_deref().and_then(|message| message.strip_prefix("sample "));
        let Some((_, rest)) = rest.and_then(|rest| rest.split_once(": ")) else {
            return Err(error);
        };
        let kinds: [(&'static str, bool); 5] = [
            ("missing", error.is_instance_of::<PyKeyError>(py)),
            ("overflow", error.is_instance_of::<PyOverflowError>(py)),
            ("type", error.is_instance_of::<PyTypeError>(py)),
            ("shape", error.is_instance_of::<PyValueError>(py)),
            ("too_large", error.is_instance_of::<PyMemoryError>(py)),
        ];
        let null = rest.contains("' holds None at position ").then_some(("null", true));
        let Some((kind, _)) = null.into_iter().chain(kinds).find(|(_, is)| *is) else { return Err(error) };
        let key = rest.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(key, _)| key.to_owned());
        self.found.problems.push((row, kind, key, format!("row {row}: {rest}")));
        self.found.refused.push(row);
        Ok(())
    }
}

/// The one string of an exception: that of a `KeyError` is shown in quotes otherwise.
fn exception_text(py: Python<'_>, error: &PyErr) -> Option<String> {
    error.value(py).getattr("args").ok()?.get_item(0).ok()?.extract().ok()
}

/// What cannot be taken of any row of a table is an error of the table.
fn of_table(failure: Failure, first: usize) -> PyErr {
    match failure {
        Failure::Raised(error) => error,
        Failure::Batch(error) => {
            let row = first + error.sample.unwrap_or_default();
            exception(error.kind(), renamed(&error.to_string(), row))
        }
    }
}

fn renamed_exception(py: Python<'_>, error: PyErr, sample: usize, row: usize) -> PyErr {
    let Some(message) = exception_text(py, &error) else { return error };
    let message = message.strip_prefix(&format!("sample {sample}: ")).unwrap_or(&message).to_owned();
    PyKeyError::new_err(format!("row {row}: {message}"))
}

/// `sample 3: …` as `row 17: …`.
fn renamed(message: &str, row: usize) -> String {
    match message.strip_prefix("sample ").and_then(|rest| rest.split_once(": ")) {
        Some((_, rest)) => format!("row {row}: {rest}"),
        None => message.to_owned(),
    }
}

/// Whether the table has no column at all for what the row lacks.
fn lacks_column(table: &arrow::Table, error: &CollateError) -> bool {
    let missing = matches!(error.cause, Cause::Missing | Cause::MissingBeside { .. } | Cause::MissingHere { .. });
    let (Some(sample), Some(key), true) = (error.sample, &error.key, missing) else { return false };
    table.find(sample).is_some_and(|(batch, _)| !batch.fields().iter().any(|field| field.name == *key))
}

fn name_of(error: &CollateError) -> &'static str {
    match &error.cause {
        Cause::NoMapping { found } if found == "null" => "null",
        cause => cause.name(),
    }
}

/// The key that it is about.
fn key_of(error: &CollateError) -> Option<String> {
    match &error.cause {
        Cause::Unknown { name, .. } => Some(name.trim_matches('\'').to_owned()),
        _ => error.key.clone(),
    }
}
