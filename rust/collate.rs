//! The way of a batch, from sources on: plan → lease → fill.
//!
//! `gather` and `view` come before (they belong to `source`), `wrap` after (it belongs to the
//! boundary). Nothing here knows Python.

use std::mem::MaybeUninit;

use crate::arena::{Lease, Memory, take};
use crate::cells::{Cell, with_cell};
use crate::error::{Cause, CollateError, Number};
use crate::layout::{Key, Layout};
use crate::plan::{Array, Lengths, Plan, Request};
use crate::rows::{Count, Rows};
use crate::source::Source;
pub use crate::source::Stop;

/// The values of a batch, sample by sample, key by key in the order of [`Layout::keys`].
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Token rows; `None` where the sample lacks the key.
    pub sources: &'a [Option<Source<'a>>],
    /// Numbers of scalars; `None` likewise.
    pub numbers: &'a [Option<Number>],
}

/// A batch in memory: the arrays that `plan` names lie, complete, in the lease.
#[derive(Debug)]
pub struct Collated {
    /// Where each array lies.
    pub plan: Plan,
    /// The memory that they lie in.
    pub lease: Lease,
    /// How often each row has each id of [`Layout::counted`].
    pub counts: Vec<Count>,
}

/// What the rows of one part of a matrix take of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Index of the matrix.
    pub matrix: usize,
    /// Which of the matrix's rows.
    pub part: usize,
    /// How many rows there are.
    pub rows: usize,
    /// Cells that have a token.
    pub tokens: usize,
    /// All cells, padding with them; those of a flat matrix that belong to no row are the last part's.
    pub cells: usize,
    /// Rows of which truncation took tokens.
    pub truncated: usize,
}

impl Collated {
    /// What the rows take, part by part, of every matrix that the batch has.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        let mut found = Vec::new();
        for (matrix, planned) in self.plan.matrices.iter().enumerate() {
            let Some(planned) = planned else { continue };
            let first = found.len();
            let parts = planned.rows.last().map_or(0, |row| row.part + 1);
            found.extend((0..parts).map(|part| Taken { matrix, part, rows: 0, tokens: 0, cells: 0, truncated: 0 }));
            for row in &planned.rows {
                let taken: &mut Taken = &mut found[first + row.part];
                taken.rows += 1;
                // A matrix of no arrays may have more of them than memory: of no columns, or only of its longest row.
                taken.tokens = taken.tokens.saturating_add(row.content);
                taken.cells = taken.cells.saturating_add(row.cells);
                taken.truncated += usize::from(row.is_truncated());
            }
            if let Some(last) = found.last_mut().filter(|_| planned.flat) {
                last.cells += planned.width - planned.rows.iter().map(|row| row.cells).sum::<usize>();
            }
        }
        found
    }
}

/// Collates a batch: plans it, takes memory for it, fills that.
pub fn collate(layout: &Layout, batch: Batch<'_>, request: Request, memory: Memory) -> Result<Collated, Stop> {
    let keys = layout.keys.len();
    let lengths: Vec<Option<usize>> = batch
        .sources
        .iter()
        .zip(batch.numbers)
        .map(|(source, number)| source.as_ref().map(Source::len).or(number.map(|_| 1)))
        .collect();
    let plan = Plan::new(layout, Lengths::new(&lengths, keys), request)?;
    let lease = take(memory, plan.bytes);
    let mut lease = lease.map_err(|_| CollateError::of_batch(Cause::OutOfMemory { bytes: plan.bytes }))?;
    let mut counts = Vec::new();
    for (index, planned) in plan.matrices.iter().enumerate() {
        let Some(planned) = planned else { continue };
        let rows = Rows { layout, matrix: &layout.matrices[index], planned, sources: batch.sources };
        rows.write(&mut lease)?;
        rows.count(index, &mut counts)?;
    }
    for (scalar, array) in layout.scalars.iter().zip(&plan.scalars) {
        let Some(array) = array else { continue };
        let parts = scalar.keys.len();
        let number = |(part, sample): (usize, usize)| {
            let key = scalar.keys[part];
            (sample, key, batch.numbers[sample * keys + key].or(scalar.default))
        };
        let numbers = layout.order.entries(parts, array.rows / parts).map(number);
        write_numbers(layout, numbers, *array, &mut lease)?;
    }
    Ok(Collated { plan, lease, counts })
}

fn write_numbers(
    layout: &Layout,
    numbers: impl Iterator<Item = (usize, Key, Option<Number>)>,
    array: Array,
    lease: &mut Lease,
) -> Result<(), CollateError> {
    fn write<T: Cell>(number: Number, cell: &mut MaybeUninit<T>) -> Result<(), Cause> {
        match (T::from_number(number), number) {
            (Some(value), _) => {
                cell.write(value);
                Ok(())
            }
            (None, Number::Float(_)) if !T::DTYPE.is_float() => {
                Err(Cause::DType { found: "float", column: T::DTYPE.name() })
            }
            (None, _) => Err(Cause::Misfit { value: number, position: None, column: T::DTYPE.name() }),
        }
    }
    with_cell!(array.dtype, T => {
        for ((sample, key, number), cell) in numbers.zip(lease.cells::<T>(array.offset, array.rows)) {
            let at = |cause| CollateError::at(sample, &layout.keys[key], cause);
            write(number.ok_or(Cause::Missing).map_err(at)?, cell).map_err(at)?;
        }
        Ok(())
    })
}
