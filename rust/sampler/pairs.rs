//! What is known of all pairs, what a batch may have, and what a batch has.

use super::grid::{Grid, Refusal};

/// The lengths of all pairs, as the matrices of a batch see them.
#[derive(Debug)]
pub struct Pairs {
    /// The matrices.
    pub(super) grids: Vec<Grid>,
    /// For each pair, what it brings into each matrix.
    loads: Vec<u32>,
    /// The tiles of each pair; empty if none have any.
    tiles: Vec<u32>,
    /// The pairs that may be in a batch, ascending.
    pub(super) usable: Vec<u32>,
    /// The others, ascending.
    pub(super) refused: Vec<(u32, Refusal)>,
}

/// The most that a batch may have of something; `u64::MAX` where there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pairs.
    pub batch_size: u64,
    /// Padded tokens of all matrices together.
    pub max_tokens: u64,
    /// Tiles.
    pub max_tiles: u64,
}

impl Limits {
    /// Whether the number of pairs is all that is limited.
    #[must_use]
    pub fn only_batch_size(&self) -> bool {
        self.max_tokens == u64::MAX && self.max_tiles == u64::MAX
    }
}

impl Pairs {
    /// Takes the lengths of the rows of all pairs, `rows` of each, and finds out which pairs alone are too large.
    ///
    /// # Panics
    /// If lengths and tiles are not those of equally many pairs.
    #[must_use]
    pub fn new(lengths: &[u32], rows: usize, tiles: Vec<u32>, grids: Vec<Grid>, limits: Limits) -> Self {
        assert!(rows > 0 && lengths.len().is_multiple_of(rows), "{} lengths of {rows} rows", lengths.len());
        let count = lengths.len() / rows;
        assert!(tiles.is_empty() || tiles.len() == count, "tiles of {} pairs, lengths of {count}", tiles.len());
        let loads = Vec::with_capacity(count * grids.len());
        let mut pairs = Self { grids, loads, tiles, usable: Vec::with_capacity(count), refused: Vec::new() };
        for (pair, lengths) in (0..).zip(lengths.chunks_exact(rows)) {
            match pairs.take(pair, lengths, limits) {
                Ok(()) => pairs.usable.push(pair),
                Err(why) => pairs.refused.push((pair, why)),
            }
        }
        pairs
    }

    fn take(&mut self, pair: u32, lengths: &[u32], limits: Limits) -> Result<(), Refusal> {
        let mut found = Ok(());
        for grid in &self.grids {
            let load = grid.load(lengths);
            self.loads.push(load.unwrap_or(0));
            found = found.and(load.map(drop));
        }
        found?;
        let tokens = self.cost(&[pair]);
        if tokens > limits.max_tokens {
            return Err(Refusal::Tokens { tokens, max_tokens: limits.max_tokens });
        }
        let tiles = self.tiles(pair);
        if u64::from(tiles) > limits.max_tiles {
            return Err(Refusal::Tiles { tiles, max_tiles: limits.max_tiles });
        }
        Ok(())
    }

    /// The number of all pairs.
    pub(super) fn count(&self) -> usize {
        self.usable.len() + self.refused.len()
    }

    /// Pairs that may be in a batch.
    #[must_use]
    pub fn usable(&self) -> &[u32] {
        &self.usable
    }

    /// Those that may not, and why.
    #[must_use]
    pub fn refused(&self) -> &[(u32, Refusal)] {
        &self.refused
    }

    /// What a pair brings into each matrix.
    pub(super) fn loads(&self, pair: u32) -> &[u32] {
        let grids = self.grids.len();
        &self.loads[pair as usize * grids..][..grids]
    }

    pub(super) fn tiles(&self, pair: u32) -> u32 {
        self.tiles.get(pair as usize).copied().unwrap_or_default()
    }

    /// The padded tokens of a batch.
    #[must_use]
    pub fn cost(&self, batch: &[u32]) -> u64 {
        let mut tally = Tally::new(self);
        for &pair in batch {
            tally.add(pair);
        }
        tally.cost()
    }
}

/// What a batch has so far.
#[derive(Clone)]
pub(super) struct Tally<'a> {
    pairs: &'a Pairs,
    count: u64,
    tiles: u64,
    loads: Vec<u64>,
}

impl<'a> Tally<'a> {
    /// Of an empty batch.
    pub(super) fn new(pairs: &'a Pairs) -> Self {
        Self { pairs, count: 0, tiles: 0, loads: vec![0; pairs.grids.len()] }
    }

    pub(super) fn clear(&mut self) {
        (self.count, self.tiles) = (0, 0);
        self.loads.fill(0);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn add(&mut self, pair: u32) {
        self.count += 1;
        self.tiles += u64::from(self.pairs.tiles(pair));
        for ((grid, have), &more) in self.pairs.grids.iter().zip(&mut self.loads).zip(self.pairs.loads(pair)) {
            *have = grid.join(*have, u64::from(more));
        }
    }

    /// The padded tokens.
    pub(super) fn cost(&self) -> u64 {
        if self.count == 0 {
            return 0;
        }
        let cells = self.pairs.grids.iter().zip(&self.loads).map(|(grid, &load)| grid.cells(self.count, load));
        cells.fold(0, |sum, cells| sum.saturating_add(cells.unwrap_or(u64::MAX)))
    }

    /// Whether the batch may have this pair as well.
    pub(super) fn fits(&self, pair: u32, limits: Limits) -> bool {
        let count = self.count + 1;
        if count > limits.batch_size || self.tiles + u64::from(self.pairs.tiles(pair)) > limits.max_tiles {
            return false;
        }
        let mut cost = 0_u64;
        for ((grid, &have), &more) in self.pairs.grids.iter().zip(&self.loads).zip(self.pairs.loads(pair)) {
            match grid.cells(count, grid.join(have, u64::from(more))) {
                Some(cells) => cost = cost.saturating_add(cells),
                None => return false,
            }
        }
        cost <= limits.max_tokens
    }
}
