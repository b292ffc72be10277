//! Pairs that were there.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use crate::check::Digest;

/// Pairs that were there: for each digest the first row that has it.
#[pyclass(module = "dpo_collate._core")]
#[derive(Default)]
pub(super) struct Seen {
    first: HashMap<Digest, usize, BuildHasherDefault<AsItIs>>,
}

#[pymethods]
impl Seen {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The row before that had this digest; None: there is none. `keep`: later rows may be the same as this one.
    fn first(&mut self, digest: (u64, u64), row: usize, keep: bool) -> PyResult<Option<usize>> {
        self.look_up(digest.into(), row, keep)
    }

    fn __len__(&self) -> usize {
        self.first.len()
    }
}

impl Seen {
    /// The row before that had this digest; none: there is none. `keep`: later rows may be the same as this one.
    pub(super) fn look_up(&mut self, digest: Digest, row: usize, keep: bool) -> PyResult<Option<usize>> {
        if !keep {
            return Ok(self.first.get(&digest).copied().filter(|&first| first != row));
        }
        self.first.try_reserve(1).map_err(|_| {
            PyMemoryError::new_err("there is no memory to remember pairs by: duplicates=False does not look for them")
        })?;
        let first = *self.first.entry(digest).or_insert(row);
        Ok((first != row).then_some(first))
    }
}

/// A hasher of what is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Once for the length of the digest, once for each word: the last one counts.
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = u64::from_ne_bytes(word);
        }
    }
}
