//! Batches become steps: in each, every rank gets one, and all cost nearly the same.

use std::collections::BinaryHeap;

use super::pairs::{Pairs, Tally};
use super::random::Random;
use super::{Batches, Plan, Rules};

/// A batch: a part of the order of pairs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Batch {
    cost: u64,
    begin: usize,
    end: usize,
}

/// Deals the batches of an epoch out.
pub(super) fn deal(pairs: &Pairs, rules: &Rules, batches: &Batches, random: &mut Random) -> Plan {
    let Batches { order, ends } = batches;
    let begins = std::iter::once(0).chain(ends.iter().copied());
    let mut dealt: Vec<Batch> =
        begins.zip(ends).map(|(begin, &end)| Batch { cost: pairs.cost(&order[begin..end]), begin, end }).collect();
    let ranks = rules.world_size;
    let full = if rules.drop_last { dealt.len() / ranks } else { dealt.len().div_ceil(ranks) };
    // Each batch of so many steps can have a pair.
    let steps = rules.steps.map_or(full, |steps| steps.min(order.len() / ranks));
    let lacking = (steps * ranks).checked_sub(dealt.len()).filter(|&more| more > 0);
    let found = lacking.and_then(|more| {
        let split = |multiple_of| split(pairs, multiple_of, order, &dealt, more);
        // Rather than that an epoch has fewer steps than others, or no rank gets anything, no multiple is kept to.
        let must = rules.steps.is_some() || dealt.len() < ranks;
        split(rules.multiple_of).or_else(|| if must { split(1) } else { None })
    });
    if let Some(found) = found {
        dealt = found;
    }
    if rules.shuffle {
        random.shuffle(&mut dealt);
    }
    let steps = steps.min(dealt.len() / ranks);
    dealt.truncate(steps * ranks);
    if rules.shuffle && ranks > 1 {
        // Stable: of those that cost the same, the order is as random as it was.
        dealt.sort_by_key(|batch| batch.cost);
        let mut steps: Vec<&mut [Batch]> = dealt.chunks_exact_mut(ranks).collect();
        for step in &mut steps {
            random.shuffle(step);
        }
        random.shuffle(&mut steps);
        dealt = steps.iter().flat_map(|step| step.iter().copied()).collect();
    }
    let mut plan = Plan { order: Vec::with_capacity(order.len()), bounds: vec![0], costs: Vec::new() };
    for Batch { cost, begin, end } in dealt {
        plan.order.extend_from_slice(&order[begin..end]);
        plan.bounds.push(plan.order.len());
        plan.costs.push(cost);
    }
    plan
}

/// Makes so many more batches: each time of the costliest that can be split, two that cost nearly the same.
fn split(pairs: &Pairs, multiple_of: usize, order: &[u32], batches: &[Batch], more: usize) -> Option<Vec<Batch>> {
    let least = multiple_of.saturating_mul(2);
    let (whole, mut rest): (Vec<Batch>, Vec<Batch>) =
        batches.iter().partition(|batch| batch.end - batch.begin >= least);
    let mut whole = BinaryHeap::from(whole);
    for _ in 0..more {
        let Batch { begin, end, .. } = whole.pop()?;
        let middle = begin + halves(pairs, multiple_of, &order[begin..end]);
        for (begin, end) in [(begin, middle), (middle, end)] {
            let half = Batch { cost: pairs.cost(&order[begin..end]), begin, end };
            if end - begin >= least { whole.push(half) } else { rest.push(half) }
        }
    }
    rest.extend(whole);
    rest.sort_unstable_by_key(|batch| batch.begin);
    Some(rest)
}

/// Where to split a batch, so that the costlier half costs least: a multiple.
fn halves(pairs: &Pairs, multiple_of: usize, batch: &[u32]) -> usize {
    let mut tally = Tally::new(pairs);
    // The cost of what is behind each place.
    let mut behind: Vec<u64> = batch
        .iter()
        .rev()
        .map(|&pair| {
            tally.add(pair);
            tally.cost()
        })
        .collect();
    behind.reverse();
    tally.clear();
    let mut best = (u64::MAX, multiple_of);
    for (place, &pair) in (0..).zip(batch) {
        if place > 0 && place % multiple_of == 0 {
            best = best.min((tally.cost().max(behind[place]), place));
        }
        tally.add(pair);
    }
    best.1
}
