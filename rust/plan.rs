//! Layout × lengths → which array lies where: dtypes, shapes, offsets in one block, total bytes.
//!
//! Everything that can be wrong about keys and lengths is found here, before memory is asked for
//! and before a value is read. All arithmetic on sizes is checked.

use crate::cells::{ALIGNMENT, DType};
use crate::error::{Cause, CollateError};
use crate::layout::{Absent, Column, Content, Key, Layout, Length, Matrix, Scalar, Tail, Truncation};

/// How many values each key of each sample has; `None` where the sample lacks the key.
#[derive(Clone, Copy, Debug)]
pub struct Lengths<'a> {
    values: &'a [Option<usize>],
    keys: usize,
}

impl<'a> Lengths<'a> {
    /// `values[sample * keys + key]` is the length of that key in that sample.
    ///
    /// # Panics
    /// If `values` is not a whole number of samples.
    #[must_use]
    pub fn new(values: &'a [Option<usize>], keys: usize) -> Self {
        assert!(keys > 0 && values.len().is_multiple_of(keys), "{} lengths of {keys} keys", values.len());
        Self { values, keys }
    }

    /// Number of samples.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.values.len() / self.keys
    }

    fn get(&self, sample: usize, key: Key) -> Option<usize> {
        self.values[sample * self.keys + key]
    }
}

/// Where an output array lies in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// Type of its cells.
    pub dtype: DType,
    /// Number of rows (of numbers, for a scalar).
    pub rows: usize,
    /// Cells of a row; `None` for an array of one dimension.
    pub width: Option<usize>,
    /// Where it begins, in bytes; a multiple of [`ALIGNMENT`].
    pub offset: usize,
}

/// One row: a window over the joined segments of one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index of the sample.
    pub sample: usize,
    /// Which of the matrix's rows.
    pub part: usize,
    /// First token that is kept.
    pub start: usize,
    /// One past the last token that is kept.
    pub end: usize,
    /// Tokens before truncation.
    pub tokens: usize,
    /// Tokens that get a cell.
    pub content: usize,
    /// Cells that the row takes, its padding with it.
    pub cells: usize,
}

impl Row {
    /// Tokens that truncation leaves.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.end - self.start
    }

    /// Whether truncation leaves fewer tokens than there are.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.kept() < self.tokens
    }
}

/// What a column is in the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// An array, which lies there.
    Array(Array),
    /// A number.
    Number(usize),
}

/// A column that the batch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedColumn {
    /// Index of the column in its matrix.
    pub index: usize,
    /// What it is in the batch.
    pub output: Output,
    /// No sample has its keys: it shows 1 for each token instead.
    pub as_ones: bool,
}

/// A matrix's rows and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMatrix {
    /// Its rows, in output order.
    pub rows: Vec<Row>,
    /// Its columns, in the layout's order.
    pub columns: Vec<PlannedColumn>,
    /// Width of every row; of a flat matrix, of all rows together.
    pub width: usize,
    /// Index of the longest row, the first of several.
    pub longest: usize,
    /// Whether rows lie end to end in one.
    pub flat: bool,
    /// Cells of a flat matrix that belong to no row, if attention kernels are to take them for a segment.
    pub tail: Option<usize>,
}

impl PlannedMatrix {
    /// The length of each segment, as attention kernels count: of each row what it takes of a flat
    /// matrix (else its tokens), then of the tail.
    pub fn segments(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().map(|row| if self.flat { row.cells } else { row.content }).chain(self.tail)
    }
}

/// Where everything goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One for each matrix of the layout; `None` where it is left out.
    pub matrices: Vec<Option<PlannedMatrix>>,
    /// One for each scalar of the layout; `None` where it is left out.
    pub scalars: Vec<Option<Array>>,
    /// Bytes of the block.
    pub bytes: usize,
    /// Samples of which a row is truncated, ascending, each once.
    pub truncated: Vec<usize>,
}

/// What the caller asks of one batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Least width of every matrix, besides the layout's own.
    pub min_length: usize,
    /// Most bytes of the block.
    pub max_bytes: Option<usize>,
}

impl Plan {
    /// Plans a batch.
    pub fn new(layout: &Layout, lengths: Lengths<'_>, request: Request) -> Result<Self, CollateError> {
        if lengths.samples() == 0 {
            return Err(CollateError::of_batch(Cause::EmptyBatch));
        }
        let mut planner = Planner { layout, lengths, request, bytes: 0, longest: None };
        let matrices = layout.matrices.iter().map(|matrix| planner.matrix(matrix)).collect::<Result<Vec<_>, _>>()?;
        let scalars = layout.scalars.iter().map(|scalar| planner.scalar(scalar)).collect::<Result<_, _>>()?;
        planner.check_limit()?;
        let mut truncated: Vec<usize> = matrices
            .iter()
            .flatten()
            .flat_map(|matrix| &matrix.rows)
            .filter(|row| row.is_truncated())
            .map(|row| row.sample)
            .collect();
        truncated.sort_unstable();
        truncated.dedup();
        Ok(Self { matrices, scalars, bytes: planner.bytes, truncated })
    }
}

struct Planner<'a> {
    layout: &'a Layout,
    lengths: Lengths<'a>,
    request: Request,
    bytes: usize,
    /// The longest row of the batch: (width of its matrix, sample, key).
    longest: Option<(usize, usize, Key)>,
}

impl Planner<'_> {
    fn matrix(&mut self, matrix: &Matrix) -> Result<Option<PlannedMatrix>, CollateError> {
        if matrix.optional && self.is_absent(matrix)? {
            return Ok(None);
        }
        let samples = self.lengths.samples();
        let mut rows = Vec::with_capacity(matrix.rows.len() * samples);
        for (part, sample) in self.layout.order.entries(matrix.rows.len(), samples) {
            rows.push(self.row(matrix, part, sample)?);
        }
        let Some(longest) = (0..rows.len()).reduce(|a, b| if rows[b].content > rows[a].content { b } else { a }) else {
            return Err(CollateError::of_batch(Cause::EmptyBatch));
        };
        let Row { sample, part, content, .. } = rows[longest];
        let key = matrix.rows[part].last().copied().unwrap_or_default();
        let at = |planner: &Self, cause| planner.at(sample, key, cause);
        let flat = matrix.flat.is_some();
        let taken = if flat { lay_end_to_end(&mut rows, &matrix.length) } else { Ok(content) };
        let taken = taken.map_err(|width| at(self, Cause::TooLarge { width }))?;
        let width = self.width(&matrix.length, taken).map_err(|cause| at(self, cause))?;
        if !flat {
            for row in &mut rows {
                row.cells = width;
            }
        }
        if self.longest.is_none_or(|(widest, ..)| width > widest) {
            self.longest = Some((width, sample, key));
        }
        let tail = (flat && matrix.flat == Some(Tail::Segment) && width > taken).then(|| width - taken);
        let mut planned = PlannedMatrix { rows, columns: Vec::new(), width, longest, flat, tail };
        planned.columns.reserve_exact(matrix.columns.len());
        for (index, column) in matrix.columns.iter().enumerate() {
            let as_ones = match self.presence(matrix, column)? {
                Presence::Present => false,
                Presence::Absent if column.absent == Absent::Ones => true,
                Presence::Absent => continue,
            };
            let output = self.output(column, &planned).map_err(|cause| at(self, cause))?;
            planned.columns.push(PlannedColumn { index, output, as_ones });
        }
        Ok(Some(planned))
    }

    /// What a column is in the batch, and where it goes.
    fn output(&mut self, column: &Column, matrix: &PlannedMatrix) -> Result<Output, Cause> {
        let rows = matrix.rows.len();
        let (rows, width) = match column.content {
            Content::MaxLength => return Ok(Output::Number(matrix.segments().max().unwrap_or_default())),
            Content::CuSeqLens => (matrix.segments().count() + 1, None),
            Content::Length => (rows, None),
            _ if matrix.flat => (1, Some(matrix.width)),
            _ => (rows, Some(matrix.width)),
        };
        self.place(column.dtype, rows, width).map(Output::Array)
    }

    /// Whether no sample has tokens for the matrix, a prompt that others join as well not counted. Then
    /// none may have what is parallel to them.
    fn is_absent(&self, matrix: &Matrix) -> Result<bool, CollateError> {
        let samples = 0..self.lengths.samples();
        let has = |key: Key| samples.clone().find(|&sample| self.lengths.get(sample, key).is_some());
        let others = self.layout.matrices.iter().filter(|&other| !std::ptr::eq(other, matrix));
        let shared = |key: Key| others.clone().any(|other| other.rows.iter().flatten().any(|&theirs| theirs == key));
        let keys = || matrix.rows.iter().flatten().copied();
        let all_shared = keys().all(shared);
        let counts = |key: Key| all_shared || !shared(key);
        if keys().any(|key| counts(key) && has(key).is_some()) {
            return Ok(false);
        }
        for column in &matrix.columns {
            let Content::Parallel(parallel) = &column.content else { continue };
            for (key, tokens) in parallel.iter().flatten().zip(matrix.rows.iter().flatten()) {
                if counts(*tokens)
                    && let Some(sample) = has(*key)
                {
                    return Err(self.at(sample, *tokens, Cause::Missing));
                }
            }
        }
        Ok(true)
    }

    /// Joins the segments of one row, and truncates it.
    fn row(&self, matrix: &Matrix, part: usize, sample: usize) -> Result<Row, CollateError> {
        let mut tokens = 0_usize;
        let mut last = 0;
        for &key in &matrix.rows[part] {
            let segment = self.lengths.get(sample, key).ok_or_else(|| {
                if matrix.optional {
                    self.missing_here(sample, key, &matrix.rows)
                } else {
                    self.at(sample, key, Cause::Missing)
                }
            })?;
            tokens =
                tokens.checked_add(segment).ok_or_else(|| self.at(sample, key, Cause::TooLarge { width: segment }))?;
            last = key;
        }
        let kept = matrix.length.kept(tokens);
        let (start, end) = match matrix.length.truncation {
            Truncation::Error if kept < tokens => {
                return Err(self.at(sample, last, Cause::TooLong { tokens, max_length: kept }));
            }
            Truncation::KeepStart | Truncation::Error => (0, kept),
            Truncation::KeepEnd => (tokens - kept, tokens),
        };
        let content = kept.saturating_sub(matrix.drop_last);
        Ok(Row { sample, part, start, end, tokens, content, cells: content })
    }

    /// The width for so many cells, rounded up.
    fn width(&self, length: &Length, cells: usize) -> Result<usize, Cause> {
        let cells = cells.max(self.request.min_length);
        let width = cells.max(length.min_length);
        length.width(cells).ok_or_else(|| match length.buckets.last() {
            Some(&largest) => Cause::NoBucket { width, largest },
            None => Cause::TooLarge { width },
        })
    }

    /// Whether the column's own keys are there; their lengths are checked against the tokens'.
    fn presence(&self, matrix: &Matrix, column: &Column) -> Result<Presence, CollateError> {
        let Content::Parallel(parallel) = &column.content else { return Ok(Presence::Present) };
        let samples = self.lengths.samples();
        let (mut lacking, mut having) = (None, false);
        for sample in 0..samples {
            for (keys, tokens) in parallel.iter().zip(&matrix.rows) {
                for (&key, &tokens) in keys.iter().zip(tokens) {
                    match (self.lengths.get(sample, key), self.lengths.get(sample, tokens)) {
                        (Some(found), Some(expected)) if found != expected => {
                            let tokens = self.layout.keys[tokens].clone();
                            return Err(self.at(sample, key, Cause::Length { found, tokens, expected }));
                        }
                        (Some(_), _) => having = true,
                        (None, _) => lacking = lacking.or(Some((sample, key))),
                    }
                }
            }
        }
        match lacking {
            None => Ok(Presence::Present),
            Some((sample, key)) if column.absent == Absent::Error => Err(self.at(sample, key, Cause::Missing)),
            Some((sample, key)) if having => Err(self.missing_here(sample, key, parallel)),
            Some(_) => Ok(Presence::Absent),
        }
    }

    /// An optional key is not there, while others of its kind are: mostly in another sample, else in
    /// this one, which has it for its other side alone.
    fn missing_here(&self, sample: usize, key: Key, kind: &[Vec<Key>]) -> CollateError {
        let has = |sample: usize, key: Key| self.lengths.get(sample, key).is_some();
        let other = (0..self.lengths.samples()).find(|&other| has(other, key));
        let beside = kind.iter().flatten().find(|&&beside| has(sample, beside));
        let cause = match (other, beside) {
            (Some(other), _) => Cause::MissingHere { other },
            (None, Some(&beside)) => Cause::MissingBeside { key: self.layout.keys[beside].clone() },
            (None, None) => Cause::Missing,
        };
        self.at(sample, key, cause)
    }

    fn scalar(&mut self, scalar: &Scalar) -> Result<Option<Array>, CollateError> {
        let samples = self.lengths.samples();
        if scalar.default.is_none() {
            let each = || (0..samples).flat_map(|sample| scalar.keys.iter().map(move |&key| (sample, key)));
            let has = |&(sample, key): &(usize, Key)| self.lengths.get(sample, key).is_some();
            if let Some((sample, key)) = each().find(|at| !has(at)) {
                return match scalar.optional {
                    true if !each().any(|at| has(&at)) => Ok(None),
                    true => Err(self.missing_here(sample, key, std::slice::from_ref(&scalar.keys))),
                    false => Err(self.at(sample, key, Cause::Missing)),
                };
            }
        }
        let key = scalar.keys.first().copied().unwrap_or_default();
        let array = self.place(scalar.dtype, scalar.keys.len() * samples, None);
        array.map(Some).map_err(|cause| self.at(0, key, cause))
    }

    /// Takes room for an array behind those placed so far.
    fn place(&mut self, dtype: DType, rows: usize, width: Option<usize>) -> Result<Array, Cause> {
        let cells = width.unwrap_or(1);
        let too_large = Cause::TooLarge { width: cells };
        let offset = self.bytes.checked_next_multiple_of(ALIGNMENT);
        let size = rows.checked_mul(cells).and_then(|cells| cells.checked_mul(dtype.size()));
        let (Some(offset), Some(size)) = (offset, size) else { return Err(too_large) };
        // `isize::MAX` is what an allocation, a slice and a NumPy array can have at most.
        let end = offset.checked_add(size).filter(|&end| isize::try_from(end).is_ok_and(|end| end < isize::MAX - 4096));
        let Some(bytes) = end else { return Err(too_large) };
        self.bytes = bytes;
        Ok(Array { dtype, rows, width, offset })
    }

    /// Names the longest row: it makes the batch as large as it is.
    fn check_limit(&self) -> Result<(), CollateError> {
        let bytes = self.bytes;
        match (self.request.max_bytes.filter(|&limit| bytes > limit), self.longest) {
            (Some(limit), Some((width, sample, key))) => {
                Err(self.at(sample, key, Cause::OverLimit { width, bytes, limit }))
            }
            _ => Ok(()),
        }
    }

    fn at(&self, sample: usize, key: Key, cause: Cause) -> CollateError {
        CollateError::at(sample, &self.layout.keys[key], cause)
    }
}

/// Gives each row as many cells as it needs, rounded up: how many that are together, or, if they are too
/// many, how many the first have that are.
fn lay_end_to_end(rows: &mut [Row], length: &Length) -> Result<usize, usize> {
    let mut taken = 0_usize;
    for row in rows {
        row.cells = length.row(row.content).ok_or(row.content)?;
        taken = taken.checked_add(row.cells).ok_or(usize::MAX)?;
    }
    Ok(taken)
}

enum Presence {
    Present,
    Absent,
}
