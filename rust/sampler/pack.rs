//! Pairs become batches: windows, an order in each, and where the order is cut.

use super::bins::{capacity, fill};
use super::order::{Item, Room, arrange};
use super::pairs::{Pairs, Tally};
use super::random::Random;
use super::{Batches, Rules};

/// Of pairs that stay in their order.
pub(super) fn in_order(pairs: &Pairs, rules: &Rules, order: Vec<u32>) -> Batches {
    let ends = cut(pairs, rules, &order);
    Batches { order, ends }
}

/// Of pairs in random order: in each window those of like lengths are put together.
pub(super) fn by_length(pairs: &Pairs, rules: &Rules, mut order: Vec<u32>, random: &mut Random) -> Batches {
    let window = rules.window(order.len());
    let shares = Shares::new(pairs, rules, &order);
    // Where the number of pairs is all that is limited, batches as they come are of about one size; filled up to the
    // largest bucket, they would be of all sizes, and most of them rounded up by much.
    let filled = rules.multiple_of == 1 && !rules.limits.only_batch_size();
    let capacity = capacity(&pairs.grids, rules.limits).filter(|_| filled);
    let mut ends = Vec::new();
    let (mut begin, mut end) = (0, 0);
    // Where windows begin differs from epoch to epoch.
    let step = rules.step();
    let mut size = if window < order.len() { step * (1 + random.below(window / step)) } else { window };
    let count = order.len();
    while end < count {
        end = end.saturating_add(size).min(count);
        let these = &mut order[begin..end];
        let mut cuts = if let Some(capacity) = capacity {
            fill(pairs, rules.limits, capacity, these)
        } else {
            shares.sort(pairs, these, random);
            cut(pairs, rules, these)
        };
        // A batch that has room left is made anew with the next window.
        let last = cuts.len().checked_sub(2).map_or(0, |before| cuts[before]);
        if end < count && shares.leave_room(&these[last..]) {
            cuts.pop();
        }
        ends.extend(cuts.iter().map(|cut| begin + cut));
        begin = ends.last().copied().unwrap_or_default();
        // What is made anew has at least as many pairs with it, so that no pair is sorted again and again.
        let again = (end - begin).div_ceil(step).saturating_mul(step);
        size = window.max(again);
    }
    Batches { order, ends }
}

/// Where batches end, if each has as many pairs as fit.
fn cut(pairs: &Pairs, rules: &Rules, order: &[u32]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut tally = Tally::new(pairs);
    let mut at = 0;
    while at < order.len() {
        tally.clear();
        let begin = at;
        while at < order.len() && tally.fits(order[at], rules.limits) {
            tally.add(order[at]);
            at += 1;
        }
        // Whoever made `pairs` has seen to it that each fits alone; none is lost if not.
        at = at.max(begin + 1);
        let count = at - begin;
        if count > rules.multiple_of {
            at -= count % rules.multiple_of;
        }
        ends.push(at);
    }
    ends
}

/// Which part of a batch each pair takes, and what the pairs are sorted by.
struct Shares {
    /// Of `batch`, by pair.
    of: Vec<u32>,
    batch: u64,
    /// The matrices that are padded, by index.
    padded: Vec<usize>,
    rows: Vec<u32>,
}

impl Shares {
    fn new(pairs: &Pairs, rules: &Rules, order: &[u32]) -> Self {
        let padded: Vec<usize> = (0..pairs.grids.len()).filter(|&grid| !pairs.grids[grid].flat).collect();
        let rows = padded.iter().map(|&grid| u32::try_from(pairs.grids[grid].rows.len()).unwrap_or(u32::MAX)).collect();
        let limits = rules.limits;
        // So that a batch of nothing but the smallest share is one, and shares are exact where only pairs count.
        let most = limits.batch_size.min(order.len().max(1) as u64);
        let batch = most << (24_u32.saturating_sub(u64::BITS - most.leading_zeros()));
        let mut of = vec![0; pairs.count()];
        let mut tally = Tally::new(pairs);
        for &pair in order {
            tally.clear();
            tally.add(pair);
            // So many of its kind would fit.
            let fit = limits.max_tokens / tally.cost().max(1);
            let fit = fit.min(limits.max_tiles / u64::from(pairs.tiles(pair)).max(1)).clamp(1, most);
            of[pair as usize] = u32::try_from(batch / fit).unwrap_or(u32::MAX);
        }
        Self { of, batch, padded, rows }
    }

    /// Whether a batch of these has room for a fourth of it.
    fn leave_room(&self, these: &[u32]) -> bool {
        these.iter().map(|&pair| u64::from(self.of[pair as usize])).sum::<u64>() <= self.batch / 4 * 3
    }

    /// Puts pairs of like lengths side by side.
    fn sort(&self, pairs: &Pairs, these: &mut [u32], random: &mut Random) {
        match self.padded.len() {
            0 => {}
            1 => self.sort_by::<1>(pairs, these, random),
            2 => self.sort_by::<2>(pairs, these, random),
            3 => self.sort_by::<3>(pairs, these, random),
            // More are no layout's that is known: they cost what they cost.
            _ => self.sort_by::<4>(pairs, these, random),
        }
    }

    fn sort_by<const K: usize>(&self, pairs: &Pairs, these: &mut [u32], random: &mut Random) {
        let item = |(rank, &pair): (u32, &u32)| {
            let loads = pairs.loads(pair);
            Item { widths: std::array::from_fn(|key| loads[self.padded[key]]), share: self.of[pair as usize], rank }
        };
        let mut items: Vec<Item<K>> = (0..).zip(these.iter()).map(item).collect();
        let room = Room { batch: self.batch, rows: std::array::from_fn(|key| self.rows[key]) };
        arrange(&mut items, room, random);
        let before = these.to_vec();
        for (place, item) in these.iter_mut().zip(&items) {
            *place = before[item.rank as usize];
        }
    }
}
