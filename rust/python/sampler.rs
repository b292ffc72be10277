//! Plans of epochs, as the Python layer has them.

use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::errors::guarded;
use super::table::{LengthTable, length};
use crate::sampler::grid::Grid;
use crate::sampler::{Limits, Pairs, Plan, Rules, plan};

#[derive(FromPyObject)]
struct GridTable {
    rows: Vec<usize>,
    length: LengthTable,
    flat: bool,
    drop_last: usize,
}

/// The lengths of all pairs and the rules by which they become batches.
#[pyclass(frozen, module = "dpo_collate._core")]
pub(super) struct PairPlanner {
    pairs: Pairs,
    rules: Rules,
}

/// What a plan is to Python: the order of pairs, the bounds of batches in it, their costs.
type Arrays<'py> = (Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

#[pymethods]
impl PairPlanner {
    /// `lengths` `[n, rows]` and `tiles` `[n]` are numbers from 0 to 2**32 - 1; None is no limit.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "most are keywords")]
    #[pyo3(signature = (
        lengths, tiles, grids, *, batch_size, max_tokens, max_tiles, multiple_of, shuffle, window, drop_last, world_size
    ))]
    fn new(
        py: Python<'_>,
        lengths: PyReadonlyArray2<'_, i64>,
        tiles: Option<PyReadonlyArray1<'_, i64>>,
        grids: Vec<GridTable>,
        batch_size: Option<u64>,
        max_tokens: Option<u64>,
        max_tiles: Option<u64>,
        multiple_of: usize,
        shuffle: bool,
        window: Option<usize>,
        drop_last: bool,
        world_size: usize,
    ) -> PyResult<Self> {
        guarded(|| {
            let rows = lengths.as_array().ncols();
            let lengths = numbers("lengths", lengths.as_array().iter())?;
            let tiles = tiles.map_or(Ok(Vec::new()), |tiles| numbers("tiles", tiles.as_array().iter()))?;
            let grid = |table: &GridTable| {
                let GridTable { ref rows, flat, drop_last, .. } = *table;
                Ok(Grid { rows: rows.clone(), length: length(&table.length)?, flat, drop_last })
            };
            let grids = grids.iter().map(grid).collect::<PyResult<Vec<_>>>()?;
            let most = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
            let limits =
                Limits { batch_size: most(batch_size), max_tokens: most(max_tokens), max_tiles: most(max_tiles) };
            let pairs = py.detach(|| Pairs::new(&lengths, rows, tiles, grids, limits));
            Ok(Self {
                pairs,
                rules: Rules { limits, multiple_of, shuffle, window, drop_last, world_size, steps: None },
            })
        })
    }

    /// The pairs that can be in no batch, ascending.
    #[getter]
    fn refused<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        PyArray1::from_iter(py, self.pairs.refused().iter().map(|&(pair, _)| i64::from(pair)))
    }

    /// Why the first of them cannot.
    #[getter]
    fn why(&self) -> Option<String> {
        self.pairs.refused().first().map(|(_, why)| why.to_string())
    }

    /// The batches of an epoch, those of a step side by side: the order of pairs, the bounds of batches in it, their costs.
    #[pyo3(signature = (seed, epoch, steps=None))]
    fn plan<'py>(&self, py: Python<'py>, seed: u64, epoch: u64, steps: Option<usize>) -> PyResult<Arrays<'py>> {
        guarded(|| {
            let Plan { order, bounds, costs } =
                py.detach(|| plan(&self.pairs, &Rules { steps, ..self.rules }, seed, epoch));
            let bounds = bounds.iter().map(|&bound| i64::try_from(bound).unwrap_or(i64::MAX));
            let costs = costs.iter().map(|&cost| i64::try_from(cost).unwrap_or(i64::MAX));
            Ok((PyArray1::from_vec(py, order), PyArray1::from_iter(py, bounds), PyArray1::from_iter(py, costs)))
        })
    }
}

fn numbers<'a>(name: &str, values: impl Iterator<Item = &'a i64>) -> PyResult<Vec<u32>> {
    let number = |&value: &i64| {
        u32::try_from(value).map_err(|_| PyValueError::new_err(format!("{name} has {value}: expected 0 to 2**32 - 1")))
    };
    values.map(number).collect()
}
