//! The rows of a matrix, written column by column.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::arena::Lease;
use crate::cells::{Cell, DType, Values, with_cell};
use crate::error::{Cause, CollateError, Number};
use crate::fill::{self, Misfit};
use crate::layout::{Column, Content, Key, Layout, Matrix, Side};
use crate::plan::{Array, Output, PlannedColumn, PlannedMatrix, Row};
use crate::source::{Source, Stop};

/// One matrix of a batch, with what it is written from.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The layout of the batch.
    pub layout: &'a Layout,
    /// The matrix.
    pub matrix: &'a Matrix,
    /// Where it goes.
    pub planned: &'a PlannedMatrix,
    /// Token rows, sample by sample, key by key.
    pub sources: &'a [Option<Source<'a>>],
}

/// How often one row has one token id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Index of the matrix.
    pub matrix: usize,
    /// Which of the matrix's rows.
    pub part: usize,
    /// Index of the sample.
    pub sample: usize,
    /// The id.
    pub id: i64,
    /// How often the whole row has it.
    pub tokens: usize,
    /// How often what gets a cell has it.
    pub kept: usize,
}

/// What a column shows of a row, once it is known which of its keys are there.
#[derive(Clone, Copy)]
enum Shown<'a> {
    Ones,
    Position,
    Row,
    Segment,
    Keys(&'a [Vec<Key>]),
}

impl Rows<'_> {
    /// Writes all columns.
    pub fn write(&self, lease: &mut Lease) -> Result<(), Stop> {
        self.check_unread()?;
        for planned in &self.planned.columns {
            let Output::Array(array) = planned.output else { continue };
            let column = &self.matrix.columns[planned.index];
            with_cell!(column.dtype, T => self.column::<T>(column, planned, lease.cells(array.offset, cells(&array)))?);
        }
        Ok(())
    }

    /// Counts in each row the ids that the layout wants counted.
    pub fn count(&self, matrix: usize, counts: &mut Vec<Count>) -> Result<(), Stop> {
        for &id in &self.layout.counted {
            for row in &self.planned.rows {
                let mut count = Count { matrix, part: row.part, sample: row.sample, id, tokens: 0, kept: 0 };
                let mut begin = 0;
                for &key in &self.matrix.rows[row.part] {
                    let source = self.source(row.sample, key)?;
                    let end = begin + source.len();
                    let last = row.start + row.content;
                    let window = row.start.clamp(begin, end) - begin..last.clamp(begin, end) - begin;
                    begin = end;
                    let (before, behind) = (0..window.start, window.end..source.len());
                    for (window, kept) in [(before, false), (window, true), (behind, false)] {
                        source.read(window, |_, values| {
                            let found = fill::occurrences(values, Number::Int(id));
                            count.tokens += found;
                            count.kept += if kept { found } else { 0 };
                            Ok::<(), Stop>(())
                        })?;
                    }
                }
                counts.push(count);
            }
        }
        Ok(())
    }

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

    /// Writes the array of one column.
    fn column<T: Cell>(
        &self,
        column: &Column,
        planned: &PlannedColumn,
        cells: &mut [MaybeUninit<T>],
    ) -> Result<(), Stop> {
        let shown = match &column.content {
            Content::Tokens => Shown::Keys(&self.matrix.rows),
            Content::Parallel(keys) if !planned.as_ones => Shown::Keys(keys),
            Content::Ones | Content::Parallel(_) => Shown::Ones,
            Content::Position => Shown::Position,
            Content::Row => Shown::Row,
            Content::Segment => Shown::Segment,
            Content::Length => return self.numbers(self.planned.rows.iter().map(|row| row.content), cells),
            Content::CuSeqLens => {
                let ends = self.planned.segments().scan(0, |end, length| {
                    *end = usize::saturating_add(*end, length); // too many for any column
                    Some(*end)
                });
                return self.numbers(std::iter::once(0).chain(ends), cells);
            }
            Content::MaxLength => return Ok(()),
        };
        self.rows(column, shown, cells)
    }

    /// Writes numbers that say something of all rows.
    fn numbers<T: Cell>(&self, numbers: impl Iterator<Item = usize>, cells: &mut [MaybeUninit<T>]) -> Result<(), Stop> {
        for (number, cell) in numbers.zip(cells) {
            let number = i64::try_from(number).map_or(Number::Unsigned(number as u64), Number::Int);
            cell.write(T::from_number(number).ok_or_else(|| self.too_many::<T>(number))?);
        }
        Ok(())
    }

    /// Writes a column row by row, then the tail.
    fn rows<T: Cell>(&self, column: &Column, shown: Shown<'_>, mut cells: &mut [MaybeUninit<T>]) -> Result<(), Stop> {
        let misfit = Cause::Misfit { value: column.pad, position: None, column: T::DTYPE.name() };
        let pad = T::from_number(column.pad).ok_or_else(|| CollateError::of_batch(misfit))?;
        let rows = &self.planned.rows;
        for (index, row) in rows.iter().enumerate() {
            let (these, rest) = cells.split_at_mut(row.cells);
            cells = rest;
            let (padding, content) = split(these, row.content, self.matrix.side);
            self.row(column, shown, (index, row), pad, content)?;
            if column.continues && !padding.is_empty() {
                self.count_from(self.number::<T>(column, row.content, row)?, padding, row)?;
            } else {
                fill::repeat(pad, padding);
            }
        }
        match rows.last() {
            Some(last) if column.continues => self.count_from(column.start, cells, last)?,
            _ => fill::repeat(pad, cells),
        }
        Ok(())
    }

    /// Writes the content of one row: of each segment what lies in the row's window.
    fn row<T: Cell>(
        &self,
        column: &Column,
        shown: Shown<'_>,
        (index, row): (usize, &Row),
        pad: T,
        cells: &mut [MaybeUninit<T>],
    ) -> Result<(), Stop> {
        // Of the cells the first ones are skipped, and the last ones are beyond the last token; the
        // others show the tokens of `window`.
        let first = column.skip.min(cells.len());
        let last = row.kept().saturating_sub(column.shift).clamp(first, cells.len());
        let (skipped, cells) = cells.split_at_mut(first);
        let (mut cells, beyond) = cells.split_at_mut(last - first);
        fill::repeat(pad, skipped);
        fill::repeat(pad, beyond);
        let first = row.start.saturating_add(column.shift).saturating_add(first);
        let window = first..first + cells.len();

        let must_keep = column.nonempty || column.scored && row.is_truncated();
        let mut kept = !must_keep;
        let tokens_are_kept = column.on.is_some() && column.content == Content::Tokens && column.differs_from.is_none();
        let mut begin = 0;
        for (segment, &tokens) in self.matrix.rows[row.part].iter().enumerate() {
            let end = begin + self.source(row.sample, tokens)?.len();
            let window = window.start.clamp(begin, end) - begin..window.end.clamp(begin, end) - begin;
            let (these, rest) = cells.split_at_mut(window.len());
            cells = rest;
            let off = column.on.as_ref().is_some_and(|on| !on[segment]);
            let number = |behind| self.number::<T>(column, behind, row);
            kept |= !matches!(shown, Shown::Keys(_)) && !off && !these.is_empty();
            match shown {
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
                        // Of tokens any may be the pad id; where segments are chosen, these are what is scored.
                        kept |= tokens_are_kept && !these.is_empty();
                        kept |= self.values(column, source, (row.sample, key), window, these, !kept)?;
                    }
                }
                _ if off || these.is_empty() => fill::repeat(pad, these),
                Shown::Ones => {
                    let shown = column.differs_from.is_none_or(|from| Number::Int(1).differs(from));
                    let shown = T::from_int(shown.into()).unwrap_or(pad);
                    fill::repeat(shown, these);
                }
                Shown::Position => self.count_from(number(begin + window.start - row.start)?, these, row)?,
                Shown::Row => self.repeat(number(index)?, these, row)?,
                Shown::Segment => self.repeat(number(segment)?, these, row)?,
            }
            begin = end;
        }
        if kept || !column.nonempty && !self.was_scored(column, shown, row, tokens_are_kept)? {
            return Ok(());
        }
        let key = match shown {
            Shown::Keys(keys) => keys[row.part].last(),
            _ => self.matrix.rows[row.part].last(),
        };
        let cause = if row.is_truncated() {
            Cause::NothingToScore { tokens: row.tokens, kept: row.kept() }
        } else {
            Cause::NothingKept
        };
        Err(self.at(row.sample, key.copied().unwrap_or_default(), cause).into())
    }

    /// Whether something of the row was scored before it was truncated.
    #[cold]
    fn was_scored(&self, column: &Column, shown: Shown<'_>, row: &Row, tokens_are_kept: bool) -> Result<bool, Stop> {
        let mut scored = false;
        for (segment, &tokens) in self.matrix.rows[row.part].iter().enumerate() {
            if column.on.as_ref().is_some_and(|on| !on[segment]) {
                continue;
            }
            match shown {
                Shown::Keys(keys) if !tokens_are_kept => {
                    let source = self.source(row.sample, keys[row.part][segment])?;
                    let nothing = column.differs_from.unwrap_or(column.pad);
                    source.read(0..source.len(), |_, values| {
                        scored |= fill::any_differs(values, nothing);
                        Ok::<(), Stop>(())
                    })?;
                }
                _ => scored |= !self.source(row.sample, tokens)?.is_empty(),
            }
        }
        Ok(scored)
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
        source.read(window, |begin, values: Values<'_>| {
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

    /// The number that is so many behind the column's first.
    fn number<T: Cell>(&self, column: &Column, behind: usize, row: &Row) -> Result<i64, CollateError> {
        let beyond = || Number::Unsigned(column.start.cast_unsigned() + behind as u64);
        let number = column.start.checked_add_unsigned(behind as u64);
        number.ok_or_else(|| self.too_far::<T>(beyond(), row))
    }

    /// Writes numbers that go up by one.
    fn count_from<T: Cell>(&self, from: i64, cells: &mut [MaybeUninit<T>], row: &Row) -> Result<(), CollateError> {
        fill::count(from, cells).map_err(|misfit| self.too_far::<T>(misfit.value, row))
    }

    /// Writes the same number into all cells.
    fn repeat<T: Cell>(&self, number: i64, cells: &mut [MaybeUninit<T>], row: &Row) -> Result<(), CollateError> {
        let number = T::from_int(number).ok_or_else(|| self.too_far::<T>(Number::Int(number), row))?;
        fill::repeat(number, cells);
        Ok(())
    }

    /// A position, or the number of a row or segment, does not fit the column.
    #[cold]
    fn too_far<T: Cell>(&self, value: Number, row: &Row) -> CollateError {
        let key = self.matrix.rows[row.part].last().copied().unwrap_or_default();
        self.at(row.sample, key, Cause::TooFar { value, column: T::DTYPE.name() })
    }

    /// A number that says something of all rows does not fit the column. The longest row is named.
    #[cold]
    fn too_many<T: Cell>(&self, value: Number) -> CollateError {
        self.too_far::<T>(value, &self.planned.rows[self.planned.longest])
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

/// Number of cells of an array.
fn cells(array: &Array) -> usize {
    array.rows * array.width.unwrap_or(1)
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
