//! Random numbers are what they always were, and each is as likely as any other.

use _core::sampler::random::Random;
use _core::sampler::{Limits, Pairs, Rules, plan};

use crate::sampler::{NO_LIMITS, RULES, batches, grid, separate};

#[test]
fn bits_are_those_of_splitmix64() {
    // The generator as its authors state it, from the state that seed and epoch make.
    let mix = |bits: u64| {
        let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    };
    let golden = 0x9e37_79b9_7f4a_7c15_u64;
    // The first number of SplitMix64 with seed 0, as published.
    assert_eq!(mix(golden), 0xe220_a839_7b1d_cdaf);
    for (seed, epoch) in [(0, 0), (1, 0), (0, 1), (u64::MAX, u64::MAX)] {
        let mut random = Random::new(seed, epoch);
        let mut state = mix(mix(seed.wrapping_add(golden)) ^ epoch.wrapping_mul(golden));
        for _ in 0..4 {
            state = state.wrapping_add(golden);
            assert_eq!(random.bits(), mix(state));
        }
    }
}

#[test]
fn bounded_numbers_are_uniform() {
    let mut random = Random::new(1, 2);
    assert_eq!((random.below(0), random.below(1)), (0, 0));
    let mut counts = [0_u32; 6];
    (0..60_000).for_each(|_| counts[random.below(6)] += 1);
    assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
    // Of this bound, a third of all numbers is drawn again; else the first of each three would come twice as often.
    let mut counts = [0_u32; 3];
    let bound = 3 << (usize::BITS - 2);
    (0..30_000).for_each(|_| counts[random.below(bound) % 3] += 1);
    assert!(counts.iter().all(|count| count.abs_diff(10_000) < 500), "{counts:?}");
}

#[test]
fn shuffles_are_uniform() {
    let mut random = Random::new(5, 0);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..24_000 {
        let mut values = [0, 1, 2, 3];
        random.shuffle(&mut values);
        *counts.entry(values).or_insert(0_u32) += 1;
    }
    assert_eq!(counts.len(), 24);
    assert!(counts.values().all(|count| count.abs_diff(1000) < 160), "{counts:?}");
}

/// A number that stands for all of a plan (FNV-1a).
fn digest(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn plans_are_what_they_always_were() {
    let mut random = Random::new(7, 7);
    let lengths: Vec<u32> =
        (0..6000).map(|_| u32::try_from(random.below(900) * random.below(900) / 900).unwrap()).collect();
    let tokens = Limits { max_tokens: 9000, ..NO_LIMITS };
    let size = Limits { batch_size: 8, ..NO_LIMITS };
    let flat = _core::sampler::grid::Grid { flat: true, ..grid(&[0, 1]) };
    let mut found = Vec::new();
    for (grids, rules) in [
        (separate(), Rules { limits: size, ..RULES }),
        (separate(), Rules { limits: tokens, world_size: 3, ..RULES }),
        (vec![grid(&[0, 1])], Rules { limits: tokens, window: Some(500), ..RULES }),
        (vec![flat], Rules { limits: tokens, ..RULES }),
        (vec![grid(&[0]), grid(&[1]), grid(&[0, 1])], Rules { limits: tokens, multiple_of: 2, ..RULES }),
        (separate(), Rules { limits: tokens, shuffle: false, ..RULES }),
    ] {
        let pairs = Pairs::new(&lengths, 2, Vec::new(), grids, rules.limits);
        let plan = plan(&pairs, &rules, 1, 2);
        let bounds = plan.bounds.iter().map(|&bound| bound as u64);
        found.push(digest(plan.order.iter().map(|&pair| u64::from(pair)).chain(bounds).chain(plan.costs)));
    }
    // A change of these breaks what users have saved: the version of plans in `sampler.py` must change with them.
    assert_eq!(found, GOLDEN);
}

const GOLDEN: [u64; 6] = [
    0x20f4_b4fe_a05f_9733,
    0x1326_0699_0ad3_2081,
    0xd72d_a820_7be1_7ae6,
    0xfbed_6ac4_ff3c_3126,
    0xb472_88bf_74bd_093c,
    0xef2c_f6cf_3aea_9898,
];

#[test]
fn epochs_differ() {
    let lengths: Vec<u32> = (0..800).map(|at| at * at % 371).collect();
    let limits = Limits { batch_size: 4, ..NO_LIMITS };
    let pairs = Pairs::new(&lengths, 2, Vec::new(), separate(), limits);
    // With one window fewer sets of pairs are new, but not none.
    for (window, most) in [(None, 10), (Some(40), 10), (Some(400), 80)] {
        let rules = Rules { limits, window, ..RULES };
        let sets = |seed, epoch| {
            let mut sets = batches(&plan(&pairs, &rules, seed, epoch));
            for batch in &mut sets {
                batch.sort_unstable();
            }
            sets.sort_unstable();
            sets
        };
        assert_eq!(sets(0, 1), sets(0, 1));
        let first = sets(0, 0);
        for other in [sets(0, 1), sets(1, 0), sets(0, 2)] {
            let same = other.iter().filter(|batch| first.contains(batch)).count();
            assert!(same <= most, "{same} of {} batches are those of another epoch", first.len());
        }
    }
}
