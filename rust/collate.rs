//! The way of a batch, from sources on: plan → lease → fill.
//!
//! `gather` and `view` come before (they belong to `source`), `wrap` after (it belongs to the
//! boundary). Nothing here knows Python.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::arena::{Lease, Memory, take};
use crate::cells::{Bool, Cell, DType};
use crate::error::{Cause, CollateError, Number};
use crate::fill::{self, Misfit};
use crate::layout::{Column, Content, Key, Layout, Matrix, Side};
use crate::plan::{Array, Lengths, Plan, PlannedColumn, PlannedMatrix, Request, Row};
use crate::source::{NotPlain, Source};

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
}

/// Why there is no batch.
#[derive(Debug, PartialEq)]
pub enum Stop {
    /// A source cannot be read while no Python code may run.
    NotPlain,
    /// The batch is wrong.
    Error(CollateError),
}

impl From<NotPlain> for Stop {
    fn from(_: NotPlain) -> Self {
        Self::NotPlain
    }
}

impl From<CollateError> for Stop {
    fn from(error: CollateError) -> Self {
        Self::Error(error)
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
    for (matrix, planned) in layout.matrices.iter().zip(&plan.matrices) {
        let filler = Filler { layout, matrix, planned, sources: batch.sources };
        filler.check_unread()?;
        for column in &planned.columns {
            filler.column(column, &mut lease)?;
        }
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
    Ok(Collated { plan, lease })
}

/// Runs one generic call for the Rust type of a dtype.
macro_rules! with_cell {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            DType::Int64 => {
                type $T = i64;
                $body
            }
            DType::Int32 => {
                type $T = i32;
                $body
            }
            DType::Bool => {
                type $T = Bool;
                $body
            }
            DType::Float32 => {
                type $T = f32;
                $body
            }
            DType::Float64 => {
                type $T = f64;
                $body
            }
        }
    };
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

struct Filler<'a> {
    layout: &'a Layout,
    matrix: &'a Matrix,
    planned: &'a PlannedMatrix,
    sources: &'a [Option<Source<'a>>],
}

/// What a column shows, once it is known which of its keys are there.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Ones,
    Keys(&'a [Vec<Key>]),
}

impl Filler<'_> {
    /// Looks at tokens that no column shows, and that only give a row its length.
    fn check_unread(&self) -> Result<(), Stop> {
        let mut columns = self.planned.columns.iter().map(|planned| &self.matrix.columns[planned.index]);
        if columns.any(|column| column.content == Content::Tokens) {
            return Ok(());
        }
        for row in &self.planned.rows {
            for &key in &self.matrix.rows[row.part] {
                let source = self.source(row.sample, key)?;
                self.check_type(source, DType::Int64, row.sample, key)?;
                source.check_outside(&(0..0))?;
            }
        }
        Ok(())
    }

    /// Fills the array of one column, row by row.
    fn column(&self, planned: &PlannedColumn, lease: &mut Lease) -> Result<(), Stop> {
        let column = &self.matrix.columns[planned.index];
        let shown = match &column.content {
            Content::Tokens => Shown::Keys(&self.matrix.rows),
            Content::Parallel(keys) if !planned.as_ones => Shown::Keys(keys),
            Content::Ones | Content::Parallel(_) => Shown::Ones,
        };
        with_cell!(column.dtype, T => self.rows::<T>(column, shown, planned.array, lease))
    }

    fn rows<T: Cell>(&self, column: &Column, shown: Shown<'_>, array: Array, lease: &mut Lease) -> Result<(), Stop> {
        let misfit = Cause::Misfit { value: column.pad, position: None, column: T::DTYPE.name() };
        let pad = T::from_number(column.pad).ok_or_else(|| CollateError::of_batch(misfit))?;
        let width = self.planned.width;
        let mut cells = lease.cells::<T>(array.offset, array.rows * width);
        for row in &self.planned.rows {
            let (this, rest) = cells.split_at_mut(width);
            cells = rest;
            let (padding, content) = split(this, row.end - row.start, self.matrix.side);
            self.row(column, shown, row, pad, content)?;
            fill::repeat(pad, padding);
        }
        Ok(())
    }

    /// Writes the content of one row: of each segment what lies in the row's window.
    fn row<T: Cell>(
        &self,
        column: &Column,
        shown: Shown<'_>,
        row: &Row,
        pad: T,
        mut cells: &mut [MaybeUninit<T>],
    ) -> Result<(), Stop> {
        let must_keep = column.nonempty || column.scored && row.end - row.start < row.tokens;
        let mut kept = !must_keep;
        let mut begin = 0;
        for (segment, &tokens) in self.matrix.rows[row.part].iter().enumerate() {
            let end = begin + self.source(row.sample, tokens)?.len();
            let window = row.start.clamp(begin, end) - begin..row.end.clamp(begin, end) - begin;
            begin = end;
            let (these, rest) = cells.split_at_mut(window.len());
            cells = rest;
            let off = column.on.as_ref().is_some_and(|on| !on[segment]);
            match shown {
                Shown::Ones if off => fill::repeat(pad, these),
                Shown::Ones => {
                    kept |= !these.is_empty();
                    let shown = column.differs_from.is_none_or(|from| Number::Int(1).differs(from));
                    let shown = T::from_int(shown.into()).unwrap_or(pad);
                    fill::repeat(shown, these);
                }
                Shown::Keys(keys) => {
                    // Whether a value is an error must not depend on its neighbours: what is cut off, or
                    // not shown in this segment, is looked at as well.
                    let key = keys[row.part][segment];
                    let source = self.checked(column, row.sample, key)?;
                    if off {
                        source.check_outside(&(0..0))?;
                        fill::repeat(pad, these);
                    } else {
                        source.check_outside(&window)?;
                        kept |= self.values(column, source, (row.sample, key), window, these, !kept)?;
                    }
                }
            }
        }
        if kept {
            return Ok(());
        }
        let key = match shown {
            Shown::Keys(keys) => keys[row.part].last(),
            Shown::Ones => self.matrix.rows[row.part].last(),
        };
        let cause = if row.end - row.start < row.tokens {
            Cause::NothingToScore { tokens: row.tokens, kept: row.end - row.start }
        } else {
            Cause::NothingKept
        };
        Err(self.at(row.sample, key.copied().unwrap_or_default(), cause).into())
    }

    /// Writes the values of one key; says whether any is not the pad, if asked to look.
    fn values<T: Cell>(
        &self,
        column: &Column,
        source: &Source<'_>,
        (sample, key): (usize, Key),
        window: Range<usize>,
        cells: &mut [MaybeUninit<T>],
        look: bool,
    ) -> Result<bool, Stop> {
        let mut kept = false;
        let position = window.start;
        source.read(window, |begin, values| {
            let cells = &mut cells[begin..begin + values.len()];
            if let Some(from) = column.differs_from {
                fill::differs(values, from, cells);
                kept = kept || look && fill::any_differs(values, from);
                return Ok(());
            }
            kept = kept || look && fill::any_differs(values, column.pad);
            fill::copy(values, cells).map_err(|Misfit { index, value }| {
                let position = Some(position + begin + index);
                let cause = Cause::Misfit { value, position, column: T::DTYPE.name() };
                Stop::Error(self.at(sample, key, cause))
            })
        })?;
        Ok(kept)
    }

    /// The source of a key, if the column can show values of its type.
    fn checked(&self, column: &Column, sample: usize, key: Key) -> Result<&Source<'_>, CollateError> {
        let source = self.source(sample, key)?;
        // A column that compares can show floats as well, but tokens are integers.
        let compares = column.differs_from.is_some() && column.content != Content::Tokens;
        if !compares {
            self.check_type(source, column.dtype, sample, key)?;
        }
        Ok(source)
    }

    /// Floats are refused where integers are wanted.
    fn check_type(&self, source: &Source<'_>, wanted: DType, sample: usize, key: Key) -> Result<(), CollateError> {
        let element = source.element();
        // An empty row has no value that could be misread: `torch.tensor([])` is float32.
        if element.is_float() && !wanted.is_float() && !source.is_empty() {
            let cause = Cause::DType { found: element.name(), column: wanted.name() };
            return Err(self.at(sample, key, cause));
        }
        Ok(())
    }

    fn source(&self, sample: usize, key: Key) -> Result<&Source<'_>, CollateError> {
        let source = &self.sources[sample * self.layout.keys.len() + key];
        source.as_ref().ok_or_else(|| self.at(sample, key, Cause::Missing))
    }

    fn at(&self, sample: usize, key: Key, cause: Cause) -> CollateError {
        CollateError::at(sample, &self.layout.keys[key], cause)
    }
}

/// Splits the cells of a row into the padding and the content: `(padding, content)`.
fn split<T>(cells: &mut [T], content: usize, side: Side) -> (&mut [T], &mut [T]) {
    match side {
        Side::Left => {
            let padding = cells.len() - content;
            cells.split_at_mut(padding)
        }
        Side::Right => {
            let (content, padding) = cells.split_at_mut(content);
            (padding, content)
        }
    }
}
