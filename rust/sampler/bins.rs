//! Batches that hold no padding: what is left free of them is all there is to save.

use std::collections::BTreeSet;

use super::grid::Grid;
use super::pairs::{Limits, Pairs, Tally};

/// So many batches that have room enough are tried before a new one is begun, and so many of the newest: in other respects
/// they may be full.
const TRIES: usize = 8;

/// How many cells a batch may have, if all of its matrices are flat and there is a limit.
pub(super) fn capacity(grids: &[Grid], limits: Limits) -> Option<u64> {
    let [grid] = grids else {
        return (grids.iter().all(|grid| grid.flat) && limits.max_tokens < u64::MAX).then_some(limits.max_tokens);
    };
    if !grid.flat {
        return None;
    }
    let length = &grid.length;
    if length.buckets.is_empty() {
        let multiple_of = length.multiple_of as u64;
        (limits.max_tokens < u64::MAX).then_some(limits.max_tokens / multiple_of * multiple_of)
    } else {
        length.buckets.iter().rev().map(|&bucket| bucket as u64).find(|&bucket| bucket <= limits.max_tokens)
    }
}

/// Best fit: each pair, the largest first, goes where it leaves least room. `order` becomes that of the batches, of which
/// the one with most room is the last; where they end is returned.
pub(super) fn fill(pairs: &Pairs, limits: Limits, capacity: u64, order: &mut [u32]) -> Vec<usize> {
    let size = |pair: u32| pairs.loads(pair).iter().map(|&load| u64::from(load)).sum::<u64>();
    order.sort_by_key(|&pair| std::cmp::Reverse(size(pair)));
    let mut batches: Vec<(Tally<'_>, u64)> = Vec::new();
    let mut open: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut places = Vec::with_capacity(order.len());
    for &pair in &*order {
        let taken = size(pair);
        let roomy = open.range((taken, 0)..).take(TRIES);
        // Those with least room may all be full of tiles, whatever room they have; not so the newest.
        let newest = batches.len().saturating_sub(TRIES)..batches.len();
        let found = roomy.map(|&(_, batch)| batch).chain(newest).find(|&batch| batches[batch].0.fits(pair, limits));
        let batch = found.unwrap_or(batches.len());
        if found.is_none() {
            batches.push((Tally::new(pairs), capacity));
        }
        let (tally, room) = &mut batches[batch];
        open.remove(&(*room, batch));
        tally.add(pair);
        *room = room.saturating_sub(taken);
        if tally.count() < limits.batch_size {
            open.insert((*room, batch));
        }
        places.push(batch);
    }
    // What is last is what a window hands on to the next.
    let Some(emptiest) = (0..batches.len()).max_by_key(|&batch| batches[batch].1) else { return Vec::new() };
    let last = batches.len() - 1;
    let moved = |batch: usize| {
        if batch == emptiest {
            last
        } else if batch == last {
            emptiest
        } else {
            batch
        }
    };
    let mut next = vec![0; batches.len()];
    for &batch in &places {
        next[moved(batch)] += 1;
    }
    let mut begin = 0;
    for place in &mut next {
        (*place, begin) = (begin, begin + *place);
    }
    let by_size = order.to_vec();
    for (&pair, &batch) in by_size.iter().zip(&places) {
        let place = &mut next[moved(batch)];
        order[*place] = pair;
        *place += 1;
    }
    next
}
