//! Pairs of like lengths side by side, in as many matrices as there are.
//!
//! The pairs are halved again and again (a k-d tree), each time in the matrix where, if they were one batch, most cells
//! would be padding, until two batches' worth of them are left; these are sorted. The second half of a half is gone
//! through in the opposite direction of all other matrices, as a ploughman turns at the end of the field: pairs at
//! both sides of a boundary are alike as well.
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

impl<const K: usize> Item<K> {
    /// What is sorted by: ascending, or with `flip` all ones descending.
    fn key(&self, matrix: usize, flip: u32) -> u64 {
        u64::from(self.widths[matrix] ^ flip) << 32 | u64::from(self.rank)
    }
}

/// Puts pairs of like lengths side by side.
pub(super) fn arrange<const K: usize>(items: &mut [Item<K>], room: Room<K>, random: &mut Random) {
    if K == 1 {
        items.sort_unstable_by_key(|item| item.key(0, 0));
    } else {
        halve(items, room, [0; K], random);
    }
}

fn halve<const K: usize>(items: &mut [Item<K>], room: Room<K>, flips: [u32; K], random: &mut Random) {
    let (matrix, shares) = survey(items, room);
    let batches = shares.div_ceil(room.batch);
    if batches <= 2 || items.len() <= 2 {
        items.sort_unstable_by_key(|item| item.key(matrix, flips[matrix]));
        return;
    }
    // Not always in the middle, so that the boundaries of another epoch are others.
    let play = batches / 16;
    let first = batches / 2 - play / 2 + random.below(usize::try_from(play).unwrap_or_default() + 1) as u64;
    let middle = select(items, matrix, flips[matrix], first * room.batch);
    let (before, behind) = items.split_at_mut(middle);
    halve(before, room, flips, random);
    let turned = std::array::from_fn(|other| if other == matrix { flips[other] } else { !flips[other] });
    halve(behind, room, turned, random);
}

/// The matrix that has most padding if these pairs are one batch, and the sum of their shares.
fn survey<const K: usize>(items: &[Item<K>], room: Room<K>) -> (usize, u64) {
    let (mut sums, mut most, mut shares) = ([0_u64; K], [0_u32; K], 0_u64);
    for item in items {
        for matrix in 0..K {
            sums[matrix] += u64::from(item.widths[matrix]);
            most[matrix] = most[matrix].max(item.widths[matrix]);
        }
        shares += u64::from(item.share);
    }
    let padding = |matrix: usize| {
        let cells = u128::from(most[matrix]) * items.len() as u128;
        (cells - u128::from(sums[matrix])) * u128::from(room.rows[matrix])
    };
    let worst = (0..K).rev().max_by_key(|&matrix| padding(matrix));
    (worst.unwrap_or_default(), shares)
}

/// Puts the smallest in front, as many as have at most so large a share together: how many these are, at least one and
/// not all.
fn select<const K: usize>(items: &mut [Item<K>], matrix: usize, flip: u32, mut share: u64) -> usize {
    let (mut low, mut high) = (0, items.len());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        items[low..high].select_nth_unstable_by_key(middle - low, |item| item.key(matrix, flip));
        let these = items[low..middle].iter().map(|item| u64::from(item.share)).sum();
        match share.checked_sub(these) {
            Some(left) => (share, low) = (left, middle),
            None => high = middle,
        }
    }
    low.clamp(1, items.len() - 1)
}
