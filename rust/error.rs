//! What can be wrong with a batch, as data: a cause and the place where it was met.
//!
//! `Display` is the sentence users read. Which built-in Python exception it becomes is said by
//! [`CollateError::kind`]; a `DataLoader` worker rebuilds an exception from its one string
//! argument, so there are no exception classes of our own.

use std::fmt;

/// A number as it was met in a sample, or as a layout gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer (or bool: 0 or 1).
    Int(i64),
    /// An unsigned integer above `i64::MAX`; fits no cell.
    Unsigned(u64),
    /// A floating-point number.
    Float(f64),
}

impl Number {
    /// Whether the two are different numbers; NaN differs from all.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_precision_loss, clippy::float_cmp, reason = "an ignore index is small and exact")]
    pub fn differs(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a != b,
            (Self::Float(a), Self::Float(b)) => a != b,
            (Self::Float(a), Self::Int(b)) | (Self::Int(b), Self::Float(a)) => a != b as f64,
            (Self::Unsigned(a), Self::Unsigned(b)) => a != b,
            (Self::Unsigned(_), _) | (_, Self::Unsigned(_)) => true,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
            Self::Float(value) => fmt::Debug::fmt(value, f),
        }
    }
}

/// The built-in exception that fits a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `KeyError`: a key is missing or unknown.
    Key,
    /// `TypeError`: a value is of the wrong kind.
    Type,
    /// `ValueError`: a value of the right kind is wrong.
    Value,
    /// `OverflowError`: a number does not fit its cell.
    Overflow,
    /// `MemoryError`: the batch is too large.
    Memory,
}

/// Why a key that the layout does not name is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It begins like a key that matters.
    Reserved,
    /// `extra_keys="error"`.
    Extra,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// There is no sample.
    EmptyBatch,
    /// The sample is no mapping.
    NoMapping {
        /// Name of the type that was met.
        found: String,
    },
    /// The sample has no key at all.
    EmptySample,
    /// The table has more rows than any batch.
    TooManyRows {
        /// How many.
        rows: usize,
        /// The limit.
        most: usize,
    },
    /// The table has no column at all.
    NoColumns,
    /// The table has two columns of one name.
    TwoColumns,
    /// A key that the layout does not name, as Python shows it.
    Unknown {
        /// The key.
        name: String,
        /// Why it is refused.
        why: Refusal,
        /// Name of the layout.
        layout: String,
        /// The keys of the layout that are most like it.
        known: Vec<String>,
    },
    /// A key that the first sample lacks, where all must have the same; as Python shows it.
    NotInFirst {
        /// The key.
        name: String,
    },
    /// A required row is None.
    IsNone,
    /// A required key is not there.
    Missing,
    /// A key that all samples or none must have is missing here, but another sample has it.
    MissingHere {
        /// The first sample that has the key.
        other: usize,
    },
    /// A key that all samples or none must have is missing here, but the sample has one that goes with it.
    MissingBeside {
        /// The key that is there.
        key: String,
    },
    /// A parallel row is not as long as its tokens.
    Length {
        /// Values in the parallel row.
        found: usize,
        /// Key of the tokens.
        tokens: String,
        /// Values in the tokens.
        expected: usize,
    },
    /// A value of a row is null.
    Null {
        /// Its position in the row.
        position: usize,
    },
    /// The column of a table is of a type that cannot be what is wanted.
    ArrowType {
        /// Its name.
        found: String,
        /// What is wanted.
        expected: &'static str,
    },
    /// A row of a table has several dimensions.
    Shape {
        /// Its sizes.
        shape: Vec<usize>,
    },
    /// Lists of lists are no array, as they are not equally long.
    Ragged,
    /// The column of a table contradicts itself.
    Inconsistent {
        /// How.
        what: &'static str,
    },
    /// The values are of a kind that the column cannot hold.
    DType {
        /// Name of the dtype that was met.
        found: &'static str,
        /// Name of the dtype of the column.
        column: &'static str,
    },
    /// A value does not fit the column.
    Misfit {
        /// The value.
        value: Number,
        /// Its position in the row; none where it is the only one.
        position: Option<usize>,
        /// Name of the dtype of the column.
        column: &'static str,
    },
    /// A position, or the number of a row or segment, does not fit the column that shows it.
    TooFar {
        /// The number.
        value: Number,
        /// Name of the dtype of the column.
        column: &'static str,
    },
    /// `truncation_mode="error"`, and the row is longer than `max_length`.
    TooLong {
        /// Tokens in the row.
        tokens: usize,
        /// The limit.
        max_length: usize,
    },
    /// The row, or the least width asked for, is longer than the largest bucket.
    NoBucket {
        /// Width that is needed.
        width: usize,
        /// The largest bucket.
        largest: usize,
    },
    /// Truncation removed all that a loss would be computed on.
    NothingToScore {
        /// Tokens before truncation.
        tokens: usize,
        /// Tokens after it.
        kept: usize,
    },
    /// A column that must not be all padding is, in this row.
    NothingKept,
    /// The sizes do not fit the address space.
    TooLarge {
        /// Width of the padded row.
        width: usize,
    },
    /// The batch is larger than `max_batch_bytes`.
    OverLimit {
        /// Width of the padded row.
        width: usize,
        /// Bytes that the token arrays of the batch need.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The allocator refused.
    OutOfMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
}

/// Why a sample may have lost its keys.
pub const REMOVED_COLUMNS: &str = "transformers' Trainer removes the columns that the model's forward does not name; \
                                   pass remove_unused_columns=False in its TrainingArguments";

const ALL_OR_NONE: &str = "expected in all samples or in none";

/// A batch could not be made: the cause, and where it was met.
#[derive(Clone, Debug, PartialEq)]
pub struct CollateError {
    /// Index of the sample in the batch.
    pub sample: Option<usize>,
    /// Key in the sample.
    pub key: Option<String>,
    /// What is wrong there.
    pub cause: Cause,
}

impl CollateError {
    /// An error of the whole batch.
    #[must_use]
    pub fn of_batch(cause: Cause) -> Self {
        Self { sample: None, key: None, cause }
    }

    /// An error of one value of one sample.
    #[must_use]
    pub fn at(sample: usize, key: &str, cause: Cause) -> Self {
        Self { sample: Some(sample), key: Some(key.to_owned()), cause }
    }

    /// Which built-in exception it becomes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.cause {
            Cause::EmptySample
            | Cause::NoColumns
            | Cause::Unknown { .. }
            | Cause::NotInFirst { .. }
            | Cause::Missing
            | Cause::MissingHere { .. }
            | Cause::MissingBeside { .. } => Kind::Key,
            Cause::NoMapping { .. }
            | Cause::IsNone
            | Cause::Null { .. }
            | Cause::ArrowType { .. }
            | Cause::DType { .. } => Kind::Type,
            Cause::EmptyBatch
            | Cause::TooManyRows { .. }
            | Cause::TwoColumns
            | Cause::Shape { .. }
            | Cause::Ragged
            | Cause::Inconsistent { .. }
            | Cause::Length { .. }
            | Cause::TooLong { .. }
            | Cause::NoBucket { .. }
            | Cause::NothingToScore { .. }
            | Cause::NothingKept => Kind::Value,
            Cause::Misfit { .. } | Cause::TooFar { .. } => Kind::Overflow,
            Cause::TooLarge { .. } | Cause::OverLimit { .. } | Cause::OutOfMemory { .. } => Kind::Memory,
        }
    }
}

impl Cause {
    /// The short name of what is wrong, for those who count it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::EmptyBatch | Self::TooManyRows { .. } | Self::NoColumns | Self::TwoColumns => "table",
            Self::EmptySample
            | Self::NotInFirst { .. }
            | Self::Missing
            | Self::MissingHere { .. }
            | Self::MissingBeside { .. } => "missing",
            Self::Unknown { .. } => "unknown_key",
            Self::IsNone | Self::Null { .. } => "null",
            Self::NoMapping { .. } | Self::ArrowType { .. } | Self::DType { .. } => "type",
            Self::Shape { .. } | Self::Ragged | Self::Inconsistent { .. } => "shape",
            Self::Length { .. } => "length_mismatch",
            Self::Misfit { .. } | Self::TooFar { .. } => "overflow",
            Self::TooLong { .. } | Self::NoBucket { .. } => "too_long",
            Self::NothingToScore { .. } => "nothing_scored",
            Self::NothingKept => "all_ignored",
            Self::TooLarge { .. } | Self::OverLimit { .. } | Self::OutOfMemory { .. } => "too_large",
        }
    }
}

impl fmt::Display for CollateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sample) = self.sample {
            write!(f, "sample {sample}: ")?;
        }
        let key = self.key.as_deref().unwrap_or_default();
        match &self.cause {
            Cause::EmptyBatch => write!(f, "the batch is empty: expected at least one sample"),
            Cause::NoMapping { found } => write!(f, "expected a mapping such as a dict, got {found}"),
            Cause::EmptySample => write!(f, "an empty dict: {REMOVED_COLUMNS}"),
            Cause::TooManyRows { rows, most } => {
                write!(f, "the table has {rows} rows: expected those of a batch, {most} at most")
            }
            Cause::NoColumns => write!(f, "the table has no columns: {REMOVED_COLUMNS}"),
            Cause::TwoColumns => write!(f, "the table has two columns '{key}'"),
            Cause::Unknown { name, why, layout, known } => {
                let why = match why {
                    Refusal::Reserved => {
                        "it begins like a key that matters, but is none here: rename or remove it, or choose the layout \
                         or the option that takes it"
                    }
                    Refusal::Extra => "extra_keys=\"error\" allows none",
                };
                write!(f, "unknown key {name}: {why} (layout '{layout}' takes ")?;
                for (index, known) in known.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}'{known}'")?;
                }
                f.write_str(")")
            }
            Cause::NotInFirst { name } => write!(f, "the key {name} is not in sample 0: {ALL_OR_NONE}"),
            Cause::IsNone => write!(f, "'{key}' is None, expected a 1-D tensor, array or list of integers"),
            Cause::Missing => write!(f, "no '{key}'"),
            Cause::MissingHere { other } => write!(f, "no '{key}', but sample {other} has it: {ALL_OR_NONE}"),
            Cause::MissingBeside { key: other } => write!(f, "no '{key}', but it has '{other}': expected both or none"),
            Cause::Length { found, tokens, expected } => {
                write!(f, "'{key}' has {found} tokens, but '{tokens}' has {expected}")
            }
            Cause::Null { position } => write!(f, "'{key}' holds null at position {position}, expected a number"),
            Cause::ArrowType { found, expected } => {
                write!(f, "'{key}' is an Arrow column of type {found}, expected {expected}")
            }
            Cause::Shape { shape } => write!(f, "'{key}' has shape {shape:?}, expected one dimension"),
            Cause::Ragged => write!(f, "'{key}' holds lists of unequal lengths, expected an array"),
            Cause::Inconsistent { what } => write!(f, "'{key}' is an Arrow column that contradicts itself: {what}"),
            Cause::DType { found, column } => {
                let wanted = if column.starts_with("float") { "numbers" } else { "integers" };
                write!(f, "'{key}' has dtype {found}, expected {wanted}")
            }
            Cause::Misfit { value, position: Some(position), column } => {
                write!(f, "'{key}' holds {value} at position {position}, which does not fit {column}")
            }
            Cause::Misfit { value, position: None, column } => {
                write!(f, "'{key}' is {value}, which does not fit {column}")
            }
            Cause::TooFar { value, column } => {
                write!(f, "to count the tokens of '{key}' needs {value}, which does not fit {column}")
            }
            Cause::TooLong { tokens, max_length } => {
                write!(f, "'{key}' has {tokens} tokens, more than max_length={max_length}")
            }
            Cause::NoBucket { width, largest } => {
                write!(f, "'{key}', the longest row, makes a width of {width}, more than the largest bucket {largest}")
            }
            Cause::NothingToScore { tokens, kept } => {
                write!(f, "truncation from {tokens} to {kept} tokens leaves nothing to score in '{key}'")
            }
            Cause::NothingKept => write!(f, "'{key}' is all padding: expected at least one value"),
            Cause::TooLarge { width } => {
                write!(f, "'{key}', padded to a width of {width}, makes a batch larger than the address space")
            }
            Cause::OverLimit { width, bytes, limit } => write!(
                f,
                "'{key}', padded to a width of {width}, makes a batch of {bytes} bytes, more than max_batch_bytes={limit}"
            ),
            Cause::OutOfMemory { bytes } => write!(f, "cannot allocate {bytes} bytes for the batch"),
        }
    }
}

impl std::error::Error for CollateError {}
