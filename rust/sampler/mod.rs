//! Which pairs come together: batches of pairs of like lengths, each epoch others.
//!
//! # The way of a plan
//!
//! ```text
//! lengths ─load─▶ pairs ─shuffle─▶ order ─sort─▶ windows ─cut─▶ batches ─deal─▶ steps of all ranks
//! ```
//!
//! 1. **load** ([`grid`]), once: what each pair brings into each matrix of a batch. Those that alone are too large are
//!    left out, and are known.
//! 2. **shuffle** ([`random`]): all pairs, anew in each epoch.
//! 3. **sort** (`order`): the order is cut into windows, and in each, pairs of like lengths are put side by side.
//! 4. **cut** (`pack`): a batch has as many pairs as fit. Where no matrix is padded there is nothing to sort, and
//!    batches are filled as well as can be (`bins`).
//! 5. **deal** (`deal`): each rank gets a batch of each step. Those of a step cost nearly the same; steps are shuffled.
//!
//! A plan depends on the seed, the epoch, the lengths and the rules alone: all arithmetic is that of integers, ties are
//! broken by random order, and no hash or address is looked at. So what was interrupted can be resumed anywhere.

mod bins;
mod deal;
pub mod grid;
mod order;
mod pack;
mod pairs;
pub mod random;

pub use pairs::{Limits, Pairs};
use random::Random;

/// What batches are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The most that a batch may have.
    pub limits: Limits,
    /// The number of pairs of a batch is a multiple of it, if as many fit.
    pub multiple_of: usize,
    /// Pairs come in another order in each epoch, those of like lengths together; else in that of the data.
    pub shuffle: bool,
    /// Pairs of a window; None: a fourth of all, but not too few and not too many.
    pub window: Option<usize>,
    /// Batches that lack pairs, and steps that lack batches, are left out.
    pub drop_last: bool,
    /// Number of ranks.
    pub world_size: usize,
    /// An epoch has so many steps: batches are split, as far as they can be, and those that are too many are left out.
    pub steps: Option<usize>,
}

/// Least and most pairs of a window, if nothing else is said.
const WINDOW: (usize, usize) = (64, 204_800);

/// The batches of an epoch, those of a step side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Pairs, batch by batch.
    pub order: Vec<u32>,
    /// Batch i has the pairs from `bounds[i]` to `bounds[i + 1]`.
    pub bounds: Vec<usize>,
    /// The padded tokens of each batch.
    pub costs: Vec<u64>,
}

/// Batches that are not yet dealt out.
struct Batches {
    order: Vec<u32>,
    /// Where each ends, and the next one begins.
    ends: Vec<usize>,
}

impl Rules {
    /// Pairs of a window: all, or a multiple of the step.
    fn window(&self, pairs: usize) -> usize {
        let window = self.window.unwrap_or_else(|| (pairs / 4).clamp(WINDOW.0, WINDOW.1));
        let step = self.step();
        if window < pairs { (window / step * step).max(step) } else { window }
    }

    /// What windows are multiples of, so that every batch can be full.
    fn step(&self) -> usize {
        usize::try_from(self.limits.batch_size).ok().filter(|_| self.limits.batch_size < u64::MAX).unwrap_or(1)
    }
}

/// Plans an epoch.
///
/// # Panics
/// If a number of the rules is 0.
#[must_use]
pub fn plan(pairs: &Pairs, rules: &Rules, seed: u64, epoch: u64) -> Plan {
    assert!(rules.world_size > 0 && rules.multiple_of > 0 && rules.step() > 0, "{rules:?}");
    let mut random = Random::new(seed, epoch);
    let mut order = pairs.usable().to_vec();
    if rules.shuffle {
        random.shuffle(&mut order);
    }
    if rules.drop_last && rules.limits.only_batch_size() {
        order.truncate(order.len() / rules.step() * rules.step());
    }
    let batches = if rules.shuffle {
        pack::by_length(pairs, rules, order, &mut random)
    } else {
        pack::in_order(pairs, rules, order)
    };
    deal::deal(pairs, rules, &batches, &mut random)
}
