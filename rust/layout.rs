//! What a batch looks like: data only.
//!
//! The Python dataclasses of `dpo_collate.layout` are resolved into these once, when a collator is
//! made: names are filled in, and every key of a sample that matters gets its index in
//! [`Layout::keys`]. The meaning of each field is the meaning of the field of the same name there.

use crate::cells::DType;
use crate::error::Number;

/// Index into [`Layout::keys`].
pub type Key = usize;

/// Order of the rows of a matrix, and of the numbers of a scalar, that come from two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All of the first key, then all of the second: chosen 0, chosen 1, …, rejected 0, rejected 1, …
    Grouped,
    /// Chosen 0, rejected 0, chosen 1, rejected 1, …
    Interleaved,
}

/// The side on which a row is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The row begins with padding.
    Left,
    /// The row ends with padding.
    Right,
}

/// What happens to a row that is longer than `max_length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truncation {
    /// Its first tokens are kept.
    KeepStart,
    /// Its last tokens are kept.
    KeepEnd,
    /// An error.
    Error,
}

/// How long the rows of a matrix are: width = longest row after truncation (flat: all rows), rounded up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Length {
    /// Most tokens of a joined row.
    pub max_length: Option<usize>,
    /// What happens to a longer one.
    pub truncation: Truncation,
    /// Least width.
    pub min_length: usize,
    /// The width is a multiple of it.
    pub multiple_of: usize,
    /// If there are any, the width is the least of these that fits. Ascending.
    pub buckets: Vec<usize>,
    /// Of a flat matrix: every row takes a multiple of so many cells.
    pub row_multiple_of: usize,
}

impl Length {
    /// How many tokens of a joined row truncation leaves.
    #[must_use]
    pub fn kept(&self, tokens: usize) -> usize {
        self.max_length.map_or(tokens, |most| tokens.min(most))
    }

    /// The cells that so many tokens take of a flat matrix, if there is such a number.
    #[must_use]
    pub fn row(&self, tokens: usize) -> Option<usize> {
        tokens.checked_next_multiple_of(self.row_multiple_of)
    }

    /// The width for so many cells, if there is a bucket (or a number) for it.
    #[must_use]
    pub fn width(&self, cells: usize) -> Option<usize> {
        let width = cells.max(self.min_length);
        if self.buckets.is_empty() {
            width.checked_next_multiple_of(self.multiple_of)
        } else {
            self.buckets.iter().copied().find(|&bucket| bucket >= width)
        }
    }
}

/// What a flat matrix makes of the cells behind its last row, which are there where its width was
/// rounded up. They are never part of that row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// A segment of its own, for attention kernels: the last one of `cu_seq_lens`.
    Segment,
    /// No segment.
    Outside,
}

/// What the cells of a column show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The tokens.
    Tokens,
    /// 1 for each token.
    Ones,
    /// The index of each token in its row, as far as the row is kept.
    Position,
    /// The index of the token's row among the rows of the matrix.
    Row,
    /// The index of the token's segment in its row.
    Segment,
    /// Values parallel to the tokens: for each row the keys of its segments.
    Parallel(Vec<Vec<Key>>),
    /// Not cells but one number for each row: how many tokens are kept.
    Length,
    /// Not cells but where each row begins, and where the last one ends.
    CuSeqLens,
    /// Not an array but a number: that of the longest row.
    MaxLength,
}

/// What a column does if its parallel keys are in no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// An error.
    Error,
    /// The column is left out.
    LeftOut,
    /// The column shows 1 for each token.
    Ones,
}

/// One output array: a property of every token of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Key of the array in the batch.
    pub name: String,
    /// What its cells show.
    pub content: Content,
    /// What padding cells hold; fits `dtype`.
    pub pad: Number,
    /// Padding goes on counting from the row's last position instead of holding `pad`.
    pub continues: bool,
    /// Type of its cells.
    pub dtype: DType,
    /// The first position, row or segment.
    pub start: i64,
    /// So many leading cells of each row are padding.
    pub skip: usize,
    /// Cell i shows token i + shift.
    pub shift: usize,
    /// For each segment of a row, whether it carries the content; elsewhere the column is padding.
    pub on: Option<Vec<bool>>,
    /// If given, cells are 1 where the content is not this, else 0.
    pub differs_from: Option<Number>,
    /// What happens if the parallel keys are in no sample.
    pub absent: Absent,
    /// A row that is all padding is an error.
    pub nonempty: bool,
    /// The column says what is scored: truncation that leaves nothing of it is an error.
    pub scored: bool,
}

/// Rows of tokens, padded to one width, and the columns that describe them.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// For each row that a sample gives, the keys of the tokens that it joins.
    pub rows: Vec<Vec<Key>>,
    /// The output arrays.
    pub columns: Vec<Column>,
    /// Where the padding goes.
    pub side: Side,
    /// Rows lie end to end in one, `[1, T]`, and this is what the rest of it is.
    pub flat: Option<Tail>,
    /// So many tokens at the end of each row get no cell.
    pub drop_last: usize,
    /// If no sample has the tokens, the matrix is left out.
    pub optional: bool,
    /// How long rows are.
    pub length: Length,
}

/// Numbers of each sample, gathered into an array of one dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// Key of the array in the batch.
    pub name: String,
    /// Keys in the sample; two give twice as many numbers.
    pub keys: Vec<Key>,
    /// Type of the array.
    pub dtype: DType,
    /// Stands in where a sample has no number.
    pub default: Option<Number>,
    /// In no sample: left out.
    pub optional: bool,
}

/// A batch: its matrices and scalars. (Media are gathered here and combined by the tensor library.)
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The keys of a sample that matter, by index.
    pub keys: Vec<String>,
    /// Token arrays.
    pub matrices: Vec<Matrix>,
    /// Numbers.
    pub scalars: Vec<Scalar>,
    /// Order of rows and numbers.
    pub order: Order,
    /// Token ids of which it is counted how often they are in each row.
    pub counted: Vec<i64>,
}

impl Order {
    /// The pair (part, sample) of each entry: `parts` of each of `samples`.
    pub fn entries(self, parts: usize, samples: usize) -> impl Iterator<Item = (usize, usize)> {
        (0..parts * samples).map(move |entry| match self {
            Self::Grouped => (entry / samples, entry % samples),
            Self::Interleaved => (entry % parts, entry / parts),
        })
    }
}
