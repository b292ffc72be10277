//! Plans of epochs: every pair once, within the limits, and dealt out evenly, whatever the lengths and rules.

use std::collections::BTreeMap;

use _core::layout::{Length, Truncation};
use _core::sampler::grid::{Grid, Refusal};
use _core::sampler::{Limits, Pairs, Plan, Rules, plan};
use proptest::prelude::*;

use crate::cases;

pub(crate) const NO_LIMITS: Limits = Limits { batch_size: u64::MAX, max_tokens: u64::MAX, max_tiles: u64::MAX };

pub(crate) const RULES: Rules = Rules {
    limits: NO_LIMITS,
    multiple_of: 1,
    shuffle: true,
    window: None,
    drop_last: false,
    world_size: 1,
    steps: None,
};

pub(crate) fn length() -> Length {
    Length {
        max_length: None,
        truncation: Truncation::KeepStart,
        min_length: 0,
        multiple_of: 1,
        buckets: Vec::new(),
        row_multiple_of: 1,
    }
}

pub(crate) fn grid(rows: &[usize]) -> Grid {
    Grid { rows: rows.to_vec(), length: length(), flat: false, drop_last: 0 }
}

pub(crate) fn separate() -> Vec<Grid> {
    vec![grid(&[0]), grid(&[1])]
}

/// The batches of a plan.
pub(crate) fn batches(plan: &Plan) -> Vec<Vec<u32>> {
    plan.bounds.windows(2).map(|bounds| plan.order[bounds[0]..bounds[1]].to_vec()).collect()
}

/// Lengths, tiles and what is made of them.
#[derive(Clone, Debug)]
struct Case {
    rows: usize,
    lengths: Vec<u32>,
    tiles: Vec<u32>,
    grids: Vec<Grid>,
    rules: Rules,
}

impl Case {
    fn pairs(&self) -> Pairs {
        Pairs::new(&self.lengths, self.rows, self.tiles.clone(), self.grids.clone(), self.rules.limits)
    }

    fn count(&self) -> u32 {
        u32::try_from(self.lengths.len() / self.rows).unwrap()
    }

    /// The padded tokens of a batch, said plainly; None where a collator refuses it.
    fn cost(&self, batch: &[u32]) -> Option<u64> {
        let mut cells = 0;
        for grid in &self.grids {
            let Length { max_length, truncation, min_length, multiple_of, ref buckets, row_multiple_of } = grid.length;
            let mut rows = Vec::new();
            for &pair in batch {
                for &row in &grid.rows {
                    let tokens = self.lengths[pair as usize * self.rows + row] as usize;
                    let kept = tokens.min(max_length.unwrap_or(usize::MAX));
                    if kept < tokens && truncation == Truncation::Error {
                        return None;
                    }
                    rows.push(kept.max(grid.drop_last) - grid.drop_last);
                }
            }
            let up =
                |cells: usize, multiple: usize| (cells..cells + multiple).find(|cells| cells % multiple == 0).unwrap();
            let taken = if grid.flat {
                rows.iter().map(|&row| up(row, row_multiple_of)).sum()
            } else {
                *rows.iter().max().unwrap()
            };
            let least = taken.max(min_length);
            let width = if buckets.is_empty() {
                up(least, multiple_of)
            } else {
                *buckets.iter().filter(|&&bucket| bucket >= least).min()?
            };
            cells += width * if grid.flat { 1 } else { rows.len() };
        }
        Some(cells as u64)
    }

    fn tiles(&self, batch: &[u32]) -> u64 {
        batch.iter().map(|&pair| self.tiles.get(pair as usize).map_or(0, |&tiles| u64::from(tiles))).sum()
    }

    fn fits(&self, batch: &[u32]) -> bool {
        let Limits { batch_size, max_tokens, max_tiles } = self.rules.limits;
        batch.len() as u64 <= batch_size
            && self.cost(batch).is_some_and(|cost| cost <= max_tokens)
            && self.tiles(batch) <= max_tiles
    }
}

prop_compose! {
    fn any_grid(rows: usize)(
        which in prop::collection::vec(0..rows, 1..4),
        max_length in prop::option::weighted(0.3, 5_usize..30),
        truncation in prop::sample::select(vec![Truncation::KeepStart, Truncation::KeepEnd, Truncation::Error]),
        min_length in prop::sample::select(vec![0, 0, 7]),
        (multiple_of, buckets) in prop::sample::select(vec![
            (1, vec![]), (1, vec![]), (4, vec![]), (1, vec![8, 20, 64]), (1, vec![8, 16, 2000]),
        ]),
        row_multiple_of in prop::sample::select(vec![1, 1, 4]),
        flat in any::<bool>(),
        drop_last in prop::sample::select(vec![0, 0, 2]),
    ) -> Grid {
        let length = Length { max_length, truncation, min_length, multiple_of, buckets, row_multiple_of };
        Grid { rows: which, length, flat, drop_last }
    }
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let size = prop_oneof![1_u64..13, Just(u64::MAX)];
    let tokens = prop_oneof![Just(u64::MAX), 60_u64..600];
    let tiles = prop_oneof![Just(u64::MAX), Just(u64::MAX), 4_u64..12];
    (size, tokens, tiles).prop_map(|(batch_size, max_tokens, max_tiles)| Limits { batch_size, max_tokens, max_tiles })
}

prop_compose! {
    fn any_case()(
        rows in 1_usize..4,
        flat in prop::option::weighted(0.6, any::<bool>()),
    )(
        lengths in prop::collection::vec(prop_oneof![0_u32..40, 0_u32..40, 0_u32..90], 0..90 * rows),
        tiles in prop::collection::vec(0_u32..6, 90),
        has_tiles in any::<bool>(),
        // Mostly of one kind, as layouts are.
        grids in prop::collection::vec(any_grid(rows), 1..6).prop_map(move |mut grids| {
            for grid in &mut grids {
                grid.flat = flat.unwrap_or(grid.flat);
            }
            grids
        }),
        limits in any_limits(),
        multiple_of in prop::sample::select(vec![1, 1, 2, 3]),
        shuffle in prop::bool::weighted(0.8),
        window in prop::option::of(1_usize..60),
        drop_last in prop::bool::weighted(0.2),
        world_size in prop::sample::select(vec![1, 1, 2, 3, 8]),
        rows in Just(rows),
    ) -> Case {
        let (count, mut lengths) = (lengths.len() / rows, lengths);
        lengths.truncate(count * rows);
        let tiles = if has_tiles { tiles[..count].to_vec() } else { Vec::new() };
        // As the Python layer has it.
        let batch_size = limits.batch_size.saturating_mul(multiple_of as u64);
        let limits = Limits { batch_size, ..limits };
        let rules = Rules { limits, multiple_of, shuffle, window, drop_last, world_size, steps: None };
        Case { rows, lengths, tiles, grids, rules }
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_plan_keeps_the_rules(case in any_case(), seed in any::<u64>(), epoch in 0_u64..4) {
        let pairs = case.pairs();
        let usable: Vec<u32> = (0..case.count()).filter(|&pair| case.fits(&[pair])).collect();
        prop_assert_eq!(pairs.usable(), &usable);
        let refused: Vec<u32> = (0..case.count()).filter(|&pair| !case.fits(&[pair])).collect();
        prop_assert_eq!(pairs.refused().iter().map(|&(pair, _)| pair).collect::<Vec<_>>(), refused);

        let Rules { multiple_of, shuffle, drop_last, world_size, limits, .. } = case.rules;
        let plan = plan(&pairs, &case.rules, seed, epoch);
        let batches = batches(&plan);
        prop_assert_eq!(plan.bounds.last().copied(), Some(plan.order.len()));
        prop_assert!(batches.len().is_multiple_of(world_size));
        let mut times = BTreeMap::new();
        for (batch, &cost) in batches.iter().zip(&plan.costs) {
            prop_assert!(!batch.is_empty());
            prop_assert!(case.fits(batch), "{batch:?}");
            prop_assert_eq!(case.cost(batch), Some(cost));
            for &pair in batch {
                *times.entry(pair).or_insert(0) += 1;
            }
        }
        prop_assert!(times.iter().all(|(pair, &times)| times == 1 && usable.contains(pair)));
        let left_out = usable.len() - times.len();

        // Each rank has the same number, and a step's costs lie side by side among those of all.
        if shuffle && world_size > 1 {
            let spread = |costs: &[u64]| costs.iter().max().unwrap_or(&0) - costs.iter().min().unwrap_or(&0);
            let within: u64 = plan.costs.chunks(world_size).map(spread).sum();
            prop_assert!(within <= spread(&plan.costs));
        }
        if drop_last {
            if limits.only_batch_size() && world_size == 1 && case.grids.iter().all(|grid| !grid.flat) {
                prop_assert!(batches.iter().all(|batch| batch.len() as u64 == limits.batch_size) || limits.batch_size == u64::MAX);
            }
        } else if left_out > 0 && usable.len() >= world_size {
            // Not enough batches could be split: fewer lack than a step has, and none is left that could be.
            prop_assert!(world_size > 1 && !batches.is_empty());
            let splittable = batches.iter().filter(|batch| batch.len() >= 2 * multiple_of).count();
            prop_assert!(splittable < world_size, "{splittable} of {}", batches.len());
        }
    }

    #[test]
    fn an_epoch_of_so_many_steps(case in any_case(), seed in any::<u64>(), steps in 0_usize..30) {
        let pairs = case.pairs();
        let before = batches(&plan(&pairs, &case.rules, seed, 0));
        let found = plan(&pairs, &Rules { steps: Some(steps), ..case.rules }, seed, 0);
        let after = batches(&found);
        let wanted = steps * case.rules.world_size;
        if after.len() == before.len() {
            prop_assert_eq!(&after, &before);
        }
        // Rather than that there are fewer, no multiple is kept to, and a batch has one pair.
        let Rules { drop_last, world_size, limits, .. } = case.rules;
        let mut count = pairs.usable().len();
        if drop_last && limits.only_batch_size() && limits.batch_size < u64::MAX {
            count -= count % usize::try_from(limits.batch_size).unwrap();
        }
        prop_assert_eq!(after.len(), wanted.min(count / world_size * world_size));
        if wanted >= before.len() {
            prop_assert!(found.order.len() >= before.iter().map(Vec::len).sum());
        }
        let mut order = found.order.clone();
        order.sort_unstable();
        order.dedup();
        prop_assert_eq!(order.len(), found.order.len());
        prop_assert!(after.iter().all(|batch| case.fits(batch)));
    }

    #[test]
    fn batches_of_a_size_are_as_few_as_can_be(
        lengths in prop::collection::vec(0_u32..100, 0..400),
        batch_size in 1_u64..9,
        window in prop::option::of(1_usize..300),
        shuffle in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let limits = Limits { batch_size, ..NO_LIMITS };
        let lengths = &lengths[..lengths.len() / 2 * 2];
        let pairs = Pairs::new(lengths, 2, Vec::new(), separate(), limits);
        let plan = plan(&pairs, &Rules { limits, window, shuffle, ..RULES }, seed, 0);
        prop_assert_eq!(plan.costs.len() as u64, (lengths.len() as u64 / 2).div_ceil(batch_size));
    }

    #[test]
    fn batches_in_order_are_as_large_as_can_be(case in any_case(), seed in any::<u64>()) {
        let rules = Rules { shuffle: false, drop_last: false, world_size: 1, multiple_of: 1, ..case.rules };
        let pairs = case.pairs();
        let plan = plan(&pairs, &rules, seed, 0);
        prop_assert_eq!(&plan.order, pairs.usable());
        for batches in batches(&plan).windows(2) {
            let mut more = batches[0].clone();
            more.push(batches[1][0]);
            prop_assert!(!case.fits(&more));
        }
    }
}

#[test]
fn multiples_are_kept_where_as_many_are_left() {
    let lengths: Vec<u32> = (0..200).map(|at| at * 7 % 50 + 1).collect();
    for (flat, multiple_of) in [(false, 2), (false, 3), (true, 4)] {
        let grids = vec![Grid { flat, ..grid(&[0, 1]) }];
        let limits = Limits { max_tokens: 400, ..NO_LIMITS };
        let pairs = Pairs::new(&lengths, 2, Vec::new(), grids, limits);
        for window in [None, Some(1), Some(100)] {
            let found = plan(&pairs, &Rules { limits, multiple_of, window, ..RULES }, 3, 1);
            let odd: Vec<usize> = batches(&found).iter().map(Vec::len).filter(|size| size % multiple_of != 0).collect();
            assert!(odd.iter().all(|&size| size < multiple_of) && odd.len() <= 1, "{odd:?}");
            assert_eq!(found.order.len(), 100);
        }
    }
}

#[test]
fn ranks_that_would_get_nothing_do_without_multiples() {
    let limits = Limits { batch_size: 4, ..NO_LIMITS };
    let pairs = Pairs::new(&[5; 10], 2, Vec::new(), separate(), limits);
    let found = plan(&pairs, &Rules { limits, multiple_of: 2, world_size: 4, ..RULES }, 0, 0);
    assert_eq!((found.costs.len(), found.order.len()), (4, 5));
    // With enough batches for a step, those that cannot be split are left out: other pairs in other epochs.
    let limits = Limits { batch_size: 1, ..NO_LIMITS };
    let pairs = Pairs::new(&[5; 10], 2, Vec::new(), separate(), limits);
    let rules = Rules { limits, world_size: 4, ..RULES };
    let mut seen: Vec<u32> = (0..20).flat_map(|epoch| plan(&pairs, &rules, 0, epoch).order).collect();
    assert_eq!(seen.len(), 20 * 4);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 5);
}

#[test]
fn a_multiple_beyond_all_numbers_is_kept_by_no_batch() {
    let limits = Limits { batch_size: u64::MAX, ..NO_LIMITS };
    let pairs = Pairs::new(&[5; 10], 2, Vec::new(), separate(), limits);
    let found = plan(&pairs, &Rules { limits, multiple_of: usize::MAX, world_size: 2, ..RULES }, 0, 0);
    assert_eq!((found.costs.len(), found.order.len()), (2, 5));
}

#[test]
fn why_pairs_are_refused() {
    let refusal = |grid: Grid, limits: Limits, tiles: Vec<u32>| {
        let pairs = Pairs::new(&[3, 9], 1, tiles, vec![grid], limits);
        let [(1, why)] = pairs.refused()[..] else { panic!("{:?}", pairs.refused()) };
        assert_eq!(pairs.usable(), [0]);
        why
    };
    let with = |length: Length| Grid { length, ..grid(&[0]) };
    let too_long = with(Length { max_length: Some(8), truncation: Truncation::Error, ..length() });
    let no_bucket = with(Length { buckets: vec![4, 8], ..length() });
    let too_wide = with(Length { multiple_of: 3 << 62, ..length() });
    let also_too_wide = Grid { flat: true, ..with(Length { row_multiple_of: 3 << 62, ..length() }) };
    let wider_than_that = with(Length { buckets: vec![4, 1 << 32], ..length() });
    let tokens = Limits { max_tokens: 8, ..NO_LIMITS };
    let tiles = Limits { max_tiles: 8, ..NO_LIMITS };
    for (grid, limits, tiles, wanted, sentence) in [
        (
            too_long,
            NO_LIMITS,
            vec![],
            Refusal::TooLong { tokens: 9, max_length: 8 },
            "a row of 9 tokens, more than max_length=8",
        ),
        (
            no_bucket,
            NO_LIMITS,
            vec![],
            Refusal::NoBucket { width: 9, largest: 8 },
            "a width of 9, more than the largest bucket 8",
        ),
        (wider_than_that, NO_LIMITS, vec![], Refusal::TooWide, "a width of 2**32 or more"),
        (
            grid(&[0]),
            tokens,
            vec![],
            Refusal::Tokens { tokens: 9, max_tokens: 8 },
            "9 padded tokens, more than max_tokens=8",
        ),
        (grid(&[0]), tiles, vec![8, 9], Refusal::Tiles { tiles: 9, max_tiles: 8 }, "9 tiles, more than max_tiles=8"),
    ] {
        let why = refusal(grid, limits, tiles);
        assert_eq!((why, why.to_string().as_str()), (wanted, sentence));
    }
    for grid in [too_wide, also_too_wide] {
        let pairs = Pairs::new(&[3, 0], 1, Vec::new(), vec![grid], NO_LIMITS);
        assert_eq!(pairs.refused(), [(0, Refusal::TooWide)]);
    }
}
