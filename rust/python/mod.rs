//! The `PyO3` boundary: convert, call, map errors; nothing else.

mod arrow;
mod check;
mod delivery;
mod errors;
mod sampler;
mod seen;
mod table;
mod wrap;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use crate::arena::Memory;
use crate::collate::{Batch, Collated, Stop, Taken, collate};
use crate::plan::{Output, Request};
use crate::rows::Count;
use crate::source::gather::{Converter, Extra, Gathered};
use crate::source::keys::{Keys, is_mapping};
use arrow::ArrowTable;
use errors::{guarded, to_python};
use table::{Gather, Symbols, Table};
use wrap::Block;

/// The core of `dpo_collate`. The public interface is `dpo_collate`; this module may change at any time.
///
/// It relies on the GIL (see SECURITY.md), and says so until the free-threaded build is audited.
#[pymodule(gil_used = true)]
mod _core {
    #[pymodule_export]
    use super::arrow::ArrowTable;
    #[pymodule_export]
    use super::check::{Findings, RowCheck};
    #[pymodule_export]
    use super::delivery::{
        Arena, after_fork_in_child, after_fork_in_parent, attach, attached, before_fork, close, count_sent, fall_back,
        is_open, open_shared, receive, send, set_open, stats, trim,
    };
    #[pymodule_export]
    use super::sampler::PairPlanner;
    #[pymodule_export]
    use super::seen::Seen;
    #[pymodule_export]
    use super::{Collator, Rest, empty};

    /// The version of the package.
    #[pymodule_export]
    #[expect(non_upper_case_globals, reason = "Python's name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// Arrays begin on multiples of so many bytes.
    #[pymodule_export]
    const ALIGNMENT: usize = crate::cells::ALIGNMENT;

    /// Whether the extension was built without optimisation, and is some thirty times slower.
    #[pymodule_export]
    const DEBUG_BUILD: bool = cfg!(debug_assertions);

    use numpy::PyArrayDescrMethods;
    use pyo3::PyTypeInfo;

    #[pymodule_init]
    fn init(module: &super::Bound<'_, super::PyModule>) -> super::PyResult<()> {
        super::guarded(|| {
            let py = module.py();
            py.import("numpy")?; // else what follows panics where NumPy is missing
            // NumPy's C interface is looked for by Python code, and its version cell is filled with the
            // GIL released: neither may happen for the first time in the quiet phase.
            let _ = numpy::PyUntypedArray::type_object(py);
            let _ = numpy::dtype::<i64>(py).itemsize();
            crate::source::list::check_layout(py)
        })
    }
}

/// A layout with its options, resolved once and used for every batch.
#[pyclass(frozen, module = "dpo_collate._core")]
struct Collator {
    table: Table,
    /// Keys of the batch: of each matrix's columns, and of the scalars.
    columns: Vec<Vec<Py<PyString>>>,
    scalars: Vec<Py<PyString>>,
    row: Converter,
    number: Converter,
    wrap: Option<Py<PyAny>>,
    max_bytes: Option<usize>,
    memory: Memory,
}

/// What the core leaves to the Python layer to finish.
#[pyclass(frozen, get_all, module = "dpo_collate._core")]
struct Rest {
    /// By the name of each medium, or list of values, that some sample has, what there is in row order:
    /// (sample, key, value).
    media: Py<PyDict>,
    /// By the key of each extra that is wanted, the values of all samples.
    extras: Py<PyDict>,
    /// Samples of which a row was truncated.
    truncated: Vec<usize>,
    /// For each row and each id that is counted: (matrix, part, sample, id, in the row, in what is kept of it).
    counts: Vec<(usize, usize, usize, i64, usize, usize)>,
    /// Bytes of the token arrays.
    nbytes: usize,
}

#[pymethods]
impl Collator {
    /// Resolves `layout`. `row(value, place, floats)` and `number(value, place)` turn a value that cannot
    /// be read directly into a plain array or number; `wrap(array)` makes a tensor of an array. `memory`
    /// says where batches lie: "heap", "private" or "delivered". `counted` are token ids whose number in
    /// each row is wanted.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "all but the first are keywords")]
    #[pyo3(signature = (layout, *, pad_token_id, label_pad_token_id, row, number, wrap, max_batch_bytes, memory, counted))]
    fn new(
        layout: &Bound<'_, PyAny>,
        pad_token_id: i64,
        label_pad_token_id: i64,
        row: Converter,
        number: Converter,
        wrap: Option<Py<PyAny>>,
        max_batch_bytes: Option<usize>,
        memory: Memory,
        counted: Vec<i64>,
    ) -> PyResult<Self> {
        guarded(|| {
            let py = layout.py();
            let table = Table::read(layout, Symbols { pad_token_id, label_pad_token_id }, counted)?;
            let intern = |name: &String| PyString::intern(py, name).unbind();
            Ok(Self {
                columns: table
                    .layout
                    .matrices
                    .iter()
                    .map(|matrix| matrix.columns.iter().map(|column| intern(&column.name)).collect())
                    .collect(),
                scalars: table.layout.scalars.iter().map(|scalar| intern(&scalar.name)).collect(),
                table,
                row,
                number,
                wrap,
                max_bytes: max_batch_bytes,
                memory,
            })
        })
    }

    /// Makes a batch of a list of samples, or of an `ArrowTable`. With the batch, which lacks media and extra keys, comes what
    /// is left to do, if anything is. To `taken`, if it is there, is appended what the rows of each part of each matrix
    /// take: (matrix, part, rows, tokens, cells, truncated rows).
    #[pyo3(signature = (samples, min_length, taken))]
    fn collate<'py>(
        &self,
        samples: &Bound<'py, PyAny>,
        min_length: usize,
        taken: Option<&Bound<'py, PyList>>,
    ) -> PyResult<(Bound<'py, PyDict>, Option<Rest>)> {
        guarded(|| {
            let mut gathered = if let Ok(list) = samples.cast::<PyList>() {
                Gathered::take(list, &self.table.keys, &self.number)?
            } else if let Ok(table) = samples.cast::<ArrowTable>() {
                Gathered::take_table(samples.py(), table.get().table(), &self.table.keys)?
            } else {
                let found = samples.get_type().name()?;
                let hint = if is_mapping(samples)? {
                    ": put a single sample into a list, and columns into a table (for Ray Data, use \
                     dpo_collate.ray.collate_fn)"
                } else {
                    ""
                };
                return Err(PyTypeError::new_err(format!("expected a list of samples or a table, got {found}{hint}")));
            };
            let collated = self.view_and_fill(&mut gathered, min_length)?;
            if let Some(list) = taken {
                for Taken { matrix, part, rows, tokens, cells, truncated } in collated.taken() {
                    list.append((matrix, part, rows, tokens, cells, truncated))?;
                }
            }
            self.wrap(samples.py(), &gathered, collated)
        })
    }
}

impl Collator {
    /// View → plan → lease → fill: the quiet phase, and its repetition after what could not be read
    /// in it has been converted. Every value is converted at most once, so this ends.
    fn view_and_fill(&self, gathered: &mut Gathered<'_>, min_length: usize) -> PyResult<Collated> {
        let request = Request { min_length, max_bytes: self.max_bytes };
        let keys: &Keys = &self.table.keys;
        loop {
            #[expect(unsafe_code, reason = "the beginning of the quiet phase")]
            // SAFETY: until `sources` is gone nothing below runs Python code: `collate` knows none.
            let slow = match unsafe { gathered.view(keys) } {
                Err(slow) => slow,
                Ok(sources) => {
                    let batch = Batch { sources: &sources, numbers: &gathered.numbers };
                    match collate(&self.table.layout, batch, request, self.memory) {
                        Ok(collated) => return Ok(collated),
                        Err(Stop::NotPlain) => gathered.lists(keys),
                        Err(Stop::Error(error)) => {
                            drop(sources);
                            return Err(to_python(&error, gathered, keys));
                        }
                    }
                }
            };
            gathered.convert(&slow, keys, &self.row)?;
        }
    }

    /// Makes arrays of the block and the batch of the arrays.
    fn wrap<'py>(
        &self,
        py: Python<'py>,
        gathered: &Gathered<'py>,
        collated: Collated,
    ) -> PyResult<(Bound<'py, PyDict>, Option<Rest>)> {
        let Collated { plan, lease, counts } = collated;
        let block = Block::new(py, lease)?;
        let batch = PyDict::new(py);
        let put = |name: &Py<PyString>, array| {
            #[expect(unsafe_code, reason = "arrays over the block")]
            // SAFETY: `collate` has written all arrays of its plan; they do not overlap, and each is
            // made once.
            let array = unsafe { wrap::array(&block, &array) }?;
            match &self.wrap {
                Some(wrap) => batch.set_item(name, wrap.bind(py).call1((array,))?),
                None => batch.set_item(name, array),
            }
        };
        for (names, matrix) in self.columns.iter().zip(&plan.matrices) {
            for column in matrix.iter().flat_map(|matrix| &matrix.columns) {
                match column.output {
                    Output::Array(array) => put(&names[column.index], array)?,
                    Output::Number(number) => batch.set_item(&names[column.index], number)?,
                }
            }
        }
        for (name, array) in self.scalars.iter().zip(&plan.scalars) {
            if let Some(array) = array {
                put(name, *array)?;
            }
        }
        let media = self.media(py, gathered)?;
        if media.is_empty() && gathered.extras.is_empty() && self.max_bytes.is_none() && counts.is_empty() {
            return Ok((batch, None));
        }
        let extras = PyDict::new(py);
        for Extra { key, values } in &gathered.extras {
            extras.set_item(key, PyList::new(py, values)?)?;
        }
        let (media, extras) = (media.unbind(), extras.unbind());
        let count = |count: &Count| (count.matrix, count.part, count.sample, count.id, count.tokens, count.kept);
        let counts = counts.iter().map(count).collect();
        Ok((batch, Some(Rest { media, extras, truncated: plan.truncated, counts, nbytes: plan.bytes })))
    }

    /// The gathered values of every medium that some sample has, in row order.
    fn media<'py>(&self, py: Python<'py>, gathered: &Gathered<'py>) -> PyResult<Bound<'py, PyDict>> {
        let Table { layout, media, .. } = &self.table;
        let found = PyDict::new(py);
        for Gather { name, keys } in media {
            let mut values = Vec::new();
            for (part, sample) in layout.order.entries(keys.len(), gathered.samples()) {
                let key = keys[part];
                if let Some(value) = gathered.value(sample * layout.keys.len() + key) {
                    values.push((sample, self.table.keys.names[key].bind(py), value));
                }
            }
            if !values.is_empty() {
                found.set_item(name, PyList::new(py, values)?)?;
            }
        }
        Ok(found)
    }
}

/// Memory of that many bytes, its content whatever was there before, as an array of uint8.
#[pyfunction]
fn empty(py: Python<'_>, nbytes: usize, memory: Memory) -> PyResult<Bound<'_, PyAny>> {
    guarded(|| wrap::empty(py, nbytes, memory))
}
