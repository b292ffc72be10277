//! What a batch costs: the cells that the layout's matrices make of the lengths of its pairs.

use std::fmt;

use crate::layout::{Length, Truncation};

/// What one matrix of token ids makes of lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Which of a pair's lengths are those of its rows.
    pub rows: Vec<usize>,
    /// How long rows are.
    pub length: Length,
    /// Rows lie end to end in one.
    pub flat: bool,
    /// So many tokens at the end of each row get no cell.
    pub drop_last: usize,
}

/// Why a pair can be in no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Truncation is an error.
    TooLong {
        /// Tokens of the row.
        tokens: usize,
        /// The limit.
        max_length: usize,
    },
    /// No bucket is that large.
    NoBucket {
        /// Width that is needed.
        width: usize,
        /// The largest bucket.
        largest: usize,
    },
    /// No width is that large.
    TooWide,
    /// It alone has more padded tokens than a batch may have.
    Tokens {
        /// Its padded tokens.
        tokens: u64,
        /// The limit.
        max_tokens: u64,
    },
    /// It alone has more tiles than a batch may have.
    Tiles {
        /// Its tiles.
        tiles: u32,
        /// The limit.
        max_tiles: u64,
    },
}

impl Grid {
    /// What a pair brings into the matrix: the width of its longest row, rounded up, or the cells of all of its rows if
    /// they lie end to end.
    ///
    /// # Panics
    /// If a row has no length.
    pub fn load(&self, lengths: &[u32]) -> Result<u32, Refusal> {
        let (mut longest, mut together) = (0, 0_usize);
        for &row in &self.rows {
            let tokens = lengths[row] as usize;
            let kept = self.length.kept(tokens);
            if kept < tokens && self.length.truncation == Truncation::Error {
                return Err(Refusal::TooLong { tokens, max_length: kept });
            }
            let content = kept.saturating_sub(self.drop_last);
            longest = longest.max(content);
            if self.flat {
                together =
                    self.length.row(content).and_then(|cells| together.checked_add(cells)).ok_or(Refusal::TooWide)?;
            }
        }
        let cells = if self.flat { together } else { longest };
        let width = self.length.width(cells).ok_or_else(|| match self.length.buckets.last() {
            Some(&largest) => Refusal::NoBucket { width: cells.max(self.length.min_length), largest },
            None => Refusal::TooWide,
        })?;
        // A flat matrix is rounded up once, when all pairs are in it.
        u32::try_from(if self.flat { cells } else { width }).map_err(|_| Refusal::TooWide)
    }

    /// What a batch brings into it, of which one part and the other bring so much.
    #[must_use]
    pub fn join(&self, one: u64, other: u64) -> u64 {
        if self.flat { one.saturating_add(other) } else { one.max(other) }
    }

    /// The cells for so many pairs that bring so much together, if there is a width for it.
    #[must_use]
    pub fn cells(&self, pairs: u64, load: u64) -> Option<u64> {
        if self.flat {
            self.length.width(usize::try_from(load).ok()?).map(|width| width as u64)
        } else {
            Some(load.saturating_mul(pairs).saturating_mul(self.rows.len() as u64))
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLong { tokens, max_length } => {
                write!(f, "a row of {tokens} tokens, more than max_length={max_length}")
            }
            Self::NoBucket { width, largest } => {
                write!(f, "a width of {width}, more than the largest bucket {largest}")
            }
            Self::TooWide => write!(f, "a width of 2**32 or more"),
            Self::Tokens { tokens, max_tokens } => {
                write!(f, "{tokens} padded tokens, more than max_tokens={max_tokens}")
            }
            Self::Tiles { tiles, max_tiles } => write!(f, "{tiles} tiles, more than max_tiles={max_tiles}"),
        }
    }
}
