//! How good plans are: beside the best of all partitions of a few pairs, and beside what many pairs take at least.

use _core::sampler::grid::Grid;
use _core::sampler::random::Random;
use _core::sampler::{Limits, Pairs, Plan, Rules, plan};

use crate::sampler::{NO_LIMITS, RULES, grid, separate};

/// The fewest batches that there can be, and the least cost of so many.
fn optimum(pairs: &Pairs, limits: Limits) -> (usize, u64) {
    let count = pairs.usable().len();
    let members =
        |set: usize| (0..count).filter(|&at| set >> at & 1 == 1).map(|at| pairs.usable()[at]).collect::<Vec<_>>();
    let costs: Vec<Option<u64>> = (0..1_usize << count)
        .map(|set| {
            let cost = pairs.cost(&members(set));
            (cost <= limits.max_tokens && u64::from(set.count_ones()) <= limits.batch_size).then_some(cost)
        })
        .collect();
    let mut best = vec![(0, 0)];
    for set in 1_usize..1 << count {
        let lowest = 1 << set.trailing_zeros();
        let mut part = set;
        let mut found = (usize::MAX, u64::MAX);
        while part > 0 {
            if let (true, Some(cost)) = (part & lowest > 0, costs[part]) {
                let (batches, rest): (usize, u64) = best[set ^ part];
                found = found.min((batches + 1, rest + cost));
            }
            part = (part - 1) & set;
        }
        best.push(found);
    }
    best.pop().unwrap()
}

fn cost(plan: &Plan) -> u64 {
    plan.costs.iter().sum()
}

/// Lengths of pairs of two rows: most are short, some are long.
fn lengths(count: usize, random: &mut Random) -> Vec<u32> {
    let mut draw =
        || u32::try_from(1 + random.below(2000) * random.below(1000) * random.below(1000) / 1_000_000).unwrap();
    (0..2 * count).map(|_| draw()).collect()
}

/// For each of some small sets of pairs, how many batches there are and could be, and what they cost and could cost.
fn beside_optimum(grids: &[Grid], sizes: impl Fn(u64) -> Limits) -> Vec<((usize, u64), (usize, u64))> {
    let mut random = Random::new(3, 0);
    let mut found = Vec::new();
    for seed in 0..120 {
        let count = 6 + random.below(3);
        let limits = sizes(seed);
        let pairs = Pairs::new(&lengths(count, &mut random), 2, Vec::new(), grids.to_vec(), limits);
        let plan = plan(&pairs, &Rules { limits, window: Some(count), ..RULES }, seed, 0);
        found.push(((plan.costs.len(), cost(&plan)), optimum(&pairs, limits)));
    }
    found
}

fn tokens(seed: u64) -> Limits {
    Limits { max_tokens: 2000 + seed * 40, ..NO_LIMITS }
}

#[test]
fn of_one_matrix_batches_are_as_few_as_can_be() {
    for (found, wanted) in beside_optimum(&[grid(&[0, 1])], tokens) {
        assert_eq!(found.0, wanted.0);
    }
    // And of equally large batches none can cost less.
    let limits = Limits { batch_size: 2, ..NO_LIMITS };
    let mut random = Random::new(4, 0);
    for seed in 0..40 {
        let pairs = Pairs::new(&lengths(8, &mut random), 2, Vec::new(), vec![grid(&[0, 1])], limits);
        let plan = plan(&pairs, &Rules { limits, window: Some(8), ..RULES }, seed, 0);
        assert_eq!((plan.costs.len(), cost(&plan)), optimum(&pairs, limits));
    }
}

#[test]
fn of_two_matrices_batches_are_nearly_as_few_as_can_be() {
    let found = beside_optimum(&separate(), tokens);
    // Never more than one batch too many, and rarely that.
    let more: Vec<usize> = found.iter().map(|(found, wanted)| found.0 - wanted.0).collect();
    assert!(more.iter().all(|&more| more <= 1) && more.iter().sum::<usize>() <= 10, "{more:?}");
    let found = beside_optimum(&separate(), |seed| Limits { batch_size: 2 + seed % 3, ..NO_LIMITS });
    let parts: Vec<u64> = found.iter().map(|(found, wanted)| found.1 * 1000 / wanted.1).collect();
    assert!(found.iter().all(|(found, wanted)| found.0 == wanted.0));
    assert!(parts.iter().all(|&part| part <= 1600) && parts.iter().sum::<u64>() <= 1050 * 120, "{parts:?}");
}

#[test]
fn flat_batches_are_nearly_as_few_as_can_be() {
    let flat = Grid { flat: true, ..grid(&[0, 1]) };
    let found = beside_optimum(&[flat], tokens);
    let more: Vec<usize> = found.iter().map(|(found, wanted)| found.0 - wanted.0).collect();
    assert!(more.iter().all(|&more| more <= 1) && more.iter().sum::<usize>() <= 2, "{more:?}");
}

#[test]
fn flat_batches_are_filled_with_tiles_too() {
    // Tokens leave room in batches that are full of tiles.
    let count = 1000;
    let lengths = lengths(count, &mut Random::new(5, 0));
    let flat = Grid { flat: true, ..grid(&[0, 1]) };
    let limits = Limits { max_tokens: 100_000, max_tiles: 5, ..NO_LIMITS };
    for (tiles, wanted) in [(vec![1; count], 200), (vec![2; count], 500), ([1, 2, 0, 1].repeat(count / 4), 200)] {
        let pairs = Pairs::new(&lengths, 2, tiles, vec![flat.clone()], limits);
        let found = plan(&pairs, &Rules { limits, window: Some(count), ..RULES }, 0, 0).costs.len();
        assert!((wanted..=wanted * 101 / 100).contains(&found), "{found} of {wanted}");
    }
}

#[test]
fn of_many_pairs_little_is_padding() {
    let mut random = Random::new(11, 0);
    let count = 20_000;
    let lengths = lengths(count, &mut random);
    let all: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
    let make = |grids: Vec<Grid>, limits: Limits| {
        let pairs = Pairs::new(&lengths, 2, Vec::new(), grids, limits);
        let plan = plan(&pairs, &Rules { limits, ..RULES }, 0, 0);
        assert_eq!(plan.order.len(), count);
        (plan.costs.len() as u64, cost(&plan))
    };
    let padding = |cost: u64| (cost - all) * 1000 / cost;
    let by_size = make(separate(), Limits { batch_size: 8, ..NO_LIMITS }).1;
    let limits = Limits { max_tokens: 16384, ..NO_LIMITS };
    let by_tokens = make(separate(), limits);
    let flat = make(vec![Grid { flat: true, ..grid(&[0, 1]) }], limits);
    // A pair of so many tokens shares a batch with at most so many like it.
    let least: u64 = lengths.chunks(2).map(|pair| 1_000_000 / u64::from(16384 / (pair[0] + pair[1]))).sum();
    // Sorted by the longer side, which most samplers do.
    let mut pairs: Vec<&[u32]> = lengths.chunks(2).collect();
    pairs.sort_by_key(|pair| pair.iter().max());
    let sorted: u64 = pairs
        .chunks(8)
        .map(|batch| 8 * (0..2).map(|row| u64::from(batch.iter().map(|pair| pair[row]).max().unwrap())).sum::<u64>())
        .sum();
    assert!(padding(by_size) < 80 && padding(sorted) > 350, "{} {}", padding(by_size), padding(sorted));
    assert!(by_tokens.0 * 1_000_000 < least / 100 * 121, "{} {least}", by_tokens.0);
    assert!(flat.0 <= all.div_ceil(16384) + 1, "{} {all}", flat.0);
}
