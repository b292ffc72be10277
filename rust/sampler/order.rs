//! Pairs of like lengths side by side, in as many matrices as there are.
//!
//! The pairs are halved again and again (a k-d tree), each time by their widths in the matrix where, if they were one
//! batch, most cells would be padding. In a small window, where few batches are left, each matrix is tried, and the longest
//! row of all matrices as well, and what leaves least padding is done. Two batches' worth of pairs are sorted.
//!
//! The second half of a half is gone through in the opposite direction of all other matrices, as a ploughman turns at
//! the end of the field: pairs at both sides of a boundary are alike as well.
//!
//! Ties are broken by rank, of which each pair has its own: so what comes out does not depend on how sorting is done.

use super::random::Random;

/// A pair, as far as its place matters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<const K: usize> {
    /// Its width in each matrix.
    pub(super) widths: [u32; K],
    /// Which part of a batch it takes: of `Room::batch`.
    pub(super) share: u32,
    /// Its place before.
    pub(super) rank: u32,
}

/// What a batch has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room<const K: usize> {
    /// Shares of pairs.
    pub(super) batch: u64,
    /// Rows that a pair has in each matrix.
    pub(super) rows: [u32; K],
}

/// What pairs are sorted by.
#[derive(Clone, Copy, Debug)]
enum By {
    /// Their width in this matrix.
    Matrix(usize),
    /// The width of their longest row.
    Longest,
}

/// For each matrix, and for the longest row, whether what is sorted by it goes from the longest to the shortest.
#[derive(Clone, Copy, Debug)]
struct Turns<const K: usize> {
    matrices: [bool; K],
    longest: bool,
}

/// As soon as so many batches are left, everything is tried.
const FEW: u64 = 64;

/// With more batches in a window there is little to gain by it, and it takes as long again.
const MANY: u64 = 1024;

impl<const K: usize> Item<K> {
    fn key(&self, by: By, down: bool) -> u64 {
        let width = match by {
            By::Matrix(matrix) => self.widths[matrix],
            By::Longest => self.widths.iter().copied().max().unwrap_or_default(),
        };
        u64::from(if down { !width } else { width }) << 32 | u64::from(self.rank)
    }
}

impl<const K: usize> Turns<K> {
    fn down(&self, by: By) -> bool {
        match by {
            By::Matrix(matrix) => self.matrices[matrix],
            By::Longest => self.longest,
        }
    }

    /// Those of a second half.
    fn turned(&self, by: By) -> Self {
        match by {
            By::Matrix(halved) => Self {
                matrices: std::array::from_fn(|matrix| self.matrices[matrix] != (matrix != halved)),
                longest: !self.longest,
            },
            By::Longest => Self { matrices: self.matrices.map(|down| !down), longest: self.longest },
        }
    }
}

/// Puts pairs of like lengths side by side.
pub(super) fn arrange<const K: usize>(items: &mut [Item<K>], room: Room<K>, random: &mut Random) {
    if K == 1 {
        items.sort_unstable_by_key(|item| item.key(By::Matrix(0), false));
    } else {
        let batches = survey(items, room).1.div_ceil(room.batch);
        let few = if batches > MANY { 0 } else { FEW };
        halve(items, room, few, Turns { matrices: [false; K], longest: false }, random);
    }
}

fn halve<const K: usize>(items: &mut [Item<K>], room: Room<K>, few: u64, turns: Turns<K>, random: &mut Random) {
    if items.len() <= 1 {
        return;
    }
    let (worst, shares) = survey(items, room);
    let batches = shares.div_ceil(room.batch).max(2);
    // Not always in the middle, so that the boundaries of another epoch are others.
    let play = batches / 16;
    let first = batches / 2 - play / 2 + random.below(usize::try_from(play).unwrap_or_default() + 1) as u64;
    let middle = u128::from(first * room.batch) * items.len() as u128 / u128::from(shares.max(1));
    let middle = usize::try_from(middle).unwrap_or(usize::MAX).clamp(1, items.len() - 1);
    let by = if batches > few { worst } else { best(items, room, middle) };
    let down = turns.down(by);
    if batches == 2 {
        items.sort_unstable_by_key(|item| item.key(by, down));
        return;
    }
    items.select_nth_unstable_by_key(middle, |item| item.key(by, down));
    let (before, behind) = items.split_at_mut(middle);
    halve(before, room, few, turns, random);
    halve(behind, room, few, turns.turned(by), random);
}

/// The matrix that has most padding if these pairs are one batch, and the sum of their shares.
fn survey<const K: usize>(items: &[Item<K>], room: Room<K>) -> (By, u64) {
    let (mut sums, mut shares) = ([0_u64; K], 0_u64);
    for item in items {
        for (sum, &width) in sums.iter_mut().zip(&item.widths) {
            *sum += u64::from(width);
        }
        shares += u64::from(item.share);
    }
    let most = most(items);
    let padding = |matrix: usize| {
        let cells = u128::from(most[matrix]) * items.len() as u128;
        (cells - u128::from(sums[matrix])) * u128::from(room.rows[matrix])
    };
    let worst = (0..K).rev().max_by_key(|&matrix| padding(matrix));
    (By::Matrix(worst.unwrap_or_default()), shares)
}

/// What leaves least padding if so many are one batch and the others another one.
fn best<const K: usize>(items: &mut [Item<K>], room: Room<K>, middle: usize) -> By {
    let mut cells = |by: By| {
        items.select_nth_unstable_by_key(middle, |item| item.key(by, false));
        let (one, other) = items.split_at(middle);
        batch(one, room) + batch(other, room)
    };
    let (mut best, mut least) = (By::Longest, cells(By::Longest));
    for matrix in 0..K {
        let these = cells(By::Matrix(matrix));
        if these < least {
            (best, least) = (By::Matrix(matrix), these);
        }
    }
    best
}

/// The cells of a batch.
fn batch<const K: usize>(items: &[Item<K>], room: Room<K>) -> u128 {
    let widths = most(items).into_iter().zip(room.rows).map(|(width, rows)| u128::from(width) * u128::from(rows));
    widths.sum::<u128>() * items.len() as u128
}

/// The width of each matrix, if these pairs are in it.
fn most<const K: usize>(items: &[Item<K>]) -> [u32; K] {
    let mut most = [0; K];
    for item in items {
        for (most, &width) in most.iter_mut().zip(&item.widths) {
            *most = width.max(*most);
        }
    }
    most
}
