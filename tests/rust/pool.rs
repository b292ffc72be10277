//! Pools: blocks apart from each other, used again, not too large, given back.

use std::os::fd::AsFd;

use _core::arena::Lease;
use _core::arena::mark::KEPT;
use _core::arena::pool::Pool;
use _core::arena::table::Arena;
use proptest::prelude::*;

use crate::memory::{fill, holds};

const MIB: usize = 1 << 20;

fn private() -> Pool {
    Pool::new(Arena::private().unwrap())
}

fn shared() -> Pool {
    Pool::new(Arena::shared().unwrap())
}

/// Bytes that are kept free.
fn free(pool: &Pool) -> usize {
    usize::try_from(pool.arena().census().free.bytes).unwrap()
}

/// Bytes that the file of a shared arena really has.
fn real_bytes(pool: &Pool) -> usize {
    let file = pool.arena().file().unwrap().as_fd().try_clone_to_owned().unwrap();
    let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::File::from(file).metadata().unwrap());
    usize::try_from(blocks).unwrap() * 512
}

#[derive(Clone, Debug)]
enum Step {
    Take(usize),
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![
        0..100_usize,
        4000..9000_usize,
        (0..18_u32, 0..3_usize).prop_map(|(power, more)| (1 << power) + more - 1),
    ];
    let step = prop_oneof![size.prop_map(Step::Take), (0..100_usize).prop_map(Step::Drop)];
    proptest::collection::vec(step, 0..60)
}

fn check(mut pool: Pool, steps: Vec<Step>) {
    let mut held: Vec<(Lease, u8)> = Vec::new();
    for (step, value) in steps.into_iter().zip(1_u8..) {
        match step {
            Step::Take(bytes) => {
                let mut lease = pool.take(bytes).unwrap();
                assert_eq!(lease.bytes(), bytes.max(1));
                assert!(lease.start().addr().get().is_multiple_of(64));
                fill(&mut lease, value);
                held.push((lease, value));
            }
            Step::Drop(index) if !held.is_empty() => drop(held.swap_remove(index % held.len())),
            Step::Drop(_) => {}
        }
        assert!(held.iter().all(|(lease, value)| holds(lease, 0, lease.bytes(), *value)));
        let used = pool.arena().census().used;
        assert_eq!(used.blocks, held.len() as u64);
        let least: usize = held.iter().map(|(lease, _)| lease.bytes()).sum();
        let most: usize = held.iter().map(|(lease, _)| (2 * lease.bytes()).next_multiple_of(4096)).sum();
        assert!((least as u64..=most as u64).contains(&used.bytes), "{used:?}: {least} to {most}");
    }
    held.clear();
    assert_eq!(pool.arena().census().used.blocks, 0);
}

proptest! {
    #![proptest_config(crate::cases())]

    #[test]
    fn private_blocks_keep_their_values_and_fit(steps in steps()) {
        check(private(), steps);
    }

    #[test]
    fn shared_blocks_keep_their_values_and_fit(steps in steps()) {
        check(shared(), steps);
    }
}

#[test]
fn block_is_used_again() {
    for mut pool in [private(), shared()] {
        let first = pool.take(100_000).unwrap();
        let start = first.start();
        let second = pool.take(100_000).unwrap();
        assert_ne!(second.start(), start);
        drop(first);
        assert_eq!(pool.take(80_000).unwrap().start(), start);
        assert_eq!(pool.take(131_072).unwrap().start(), start);
        assert_ne!(pool.take(60_000).unwrap().start(), start, "a block of twice the size would be wasted");
        assert_eq!(pool.recycled(), 2);
    }
}

#[test]
fn absurd_sizes_are_an_error() {
    for mut pool in [private(), shared()] {
        for bytes in [usize::MAX, usize::MAX / 2 + 2, 1 << 62, 1 << 45] {
            assert!(pool.take(bytes).is_err(), "{bytes}");
        }
        // There is room for it, but no machine has so much memory. Refused, it leaves nothing behind.
        assert!(pool.take(1 << 39).is_err());
        assert_eq!(pool.arena().census().used.blocks, 0);
        drop(pool.take(1000).unwrap());
    }
}

#[test]
fn what_was_collected_once_is_given_back_as_it_is_dropped() {
    let mut pool = shared();
    let mut next = || {
        let mut lease = pool.take(20 * MIB).unwrap();
        fill(&mut lease, 1);
        lease
    };
    let mut last = next();
    for _ in 0..5 {
        last = next();
    }
    let collected: Vec<Lease> = (0..20).map(|_| next()).collect();
    assert!(real_bytes(&pool) >= 21 * 20 * MIB);
    drop(collected);
    let (kept, real) = (usize::try_from(KEPT).unwrap(), real_bytes(&pool));
    assert!(real <= 20 * MIB + 45 * MIB + kept + MIB, "one in use and two free: {real}");
    drop(last);
    assert!(free(&pool) <= 45 * MIB + kept);
}

#[test]
fn windows_are_not_given_back() {
    let mut pool = private();
    for window in 0..5 {
        let leases: Vec<Lease> = (0..16).map(|_| pool.take(3 * MIB).unwrap()).collect();
        drop(leases);
        let free_bytes = free(&pool);
        assert!(
            if window == 0 { free_bytes <= 10 * MIB } else { free_bytes == 48 * MIB },
            "window {window}: {free_bytes}"
        );
    }
    assert_eq!(pool.recycled(), 3 + 16 * 3, "in the first two windows it is not yet known");
}

#[test]
fn sizes_that_vary_a_thousandfold_are_not_hoarded() {
    let mut pool = shared();
    let mut last = None;
    let mut size = 7_u64;
    for _ in 0..2000 {
        size = size.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bytes = 16_384 << (size >> 60).min(10);
        last = Some(pool.take(bytes).unwrap());
        let free_bytes = free(&pool);
        assert!(free_bytes <= 40 * MIB, "of 16 MiB at most, one at a time: {free_bytes}");
    }
    drop(last);
    pool.arena().empty_all();
    assert_eq!(pool.arena().census().free.blocks, 0);
    assert!(real_bytes(&pool) < 128 * 1024, "the table alone: {}", real_bytes(&pool));
}

#[test]
fn sizes_that_vary_a_little_are_mostly_used_again() {
    let mut pool = private();
    let (mut taken, mut random) = (0_u64, 3_u64);
    let mut last = None;
    let mut fresh = 0;
    for turn in 0..2000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // A batch of 8 pairs with 1 to 12 tiles each.
        let tiles: u64 = (0..8).map(|pair| 1 + (random >> (24 + 5 * pair)) % 12).sum();
        let bytes = tiles * 200_000;
        let before = pool.arena().census();
        let lease = pool.take(usize::try_from(bytes).unwrap()).unwrap();
        let after = pool.arena().census();
        if turn > 100 {
            taken += bytes;
            fresh += (after.used.bytes + after.free.bytes).saturating_sub(before.used.bytes + before.free.bytes);
        }
        last = Some(lease);
    }
    drop(last);
    assert!(fresh < taken / 50, "{fresh} of {taken}");
}

#[test]
fn the_table_forgets_blocks_that_are_needed_no_more() {
    let mut pool = shared();
    let mut leases: Vec<Lease> = (0..3000).map(|_| pool.take(10_000).unwrap()).collect();
    let first = leases[0].start();
    // The last ones are dropped first, and keep their memory: it is they that are taken again.
    while leases.pop().is_some() {}
    let mut last = pool.take(10_000).unwrap();
    assert!(last.start().addr().get() - first.addr().get() > 2000 * 16_384);
    for _ in 0..1000 {
        last = pool.take(10_000).unwrap();
    }
    assert!(last.start().addr().get() - first.addr().get() < 100 * 16_384);
    drop(last);
    pool.arena().empty_all();
    // No block was so large before: it can be the first only if all others are forgotten.
    let large = pool.take(100_000).unwrap();
    let place = crate::messages::sent(&pool, &large, 0, 100_000);
    assert_eq!(place.block, 0);
    assert!(place.generation > 1, "its generations go on");
}

#[test]
fn small_batches_take_no_large_address_space() {
    let mut pool = private();
    let mut last = None;
    let mut kept = Vec::new();
    for _ in 0..4000 {
        last = Some(pool.take(50 * MIB).unwrap());
        kept.push(pool.take(20_000).unwrap());
        pool.arena().empty_all();
    }
    drop(last);
    assert_eq!(pool.arena().census().used.blocks, 4000);
}

#[test]
fn one_large_batch_is_forgotten() {
    let mut pool = private();
    drop(pool.take(400 * MIB).unwrap());
    for _ in 0..500 {
        drop(pool.take(2 * MIB).unwrap());
    }
    assert!(free(&pool) < 20 * MIB, "{}", free(&pool));
}

#[test]
fn memory_that_was_given_back_is_zeros_and_works() {
    for mut pool in [private(), shared()] {
        let mut lease = pool.take(MIB).unwrap();
        fill(&mut lease, 7);
        let start = lease.start();
        drop(lease);
        pool.arena().empty_all();
        let mut lease = pool.take(MIB).unwrap();
        assert_eq!(lease.start(), start);
        assert!(holds(&lease, 0, MIB, 0));
        fill(&mut lease, 8);
        assert!(holds(&lease, 0, MIB, 8));
    }
}

#[test]
fn memory_is_there_before_it_is_written_to() {
    // Else the lack of it would not be an error, but a signal.
    let mut pool = shared();
    let _lease = pool.take(20 * MIB).unwrap();
    assert!(real_bytes(&pool) >= 20 * MIB);
}

#[test]
fn leases_outlive_their_pool() {
    let mut pool = shared();
    let mut lease = pool.take(MIB).unwrap();
    drop(pool);
    fill(&mut lease, 3);
    assert!(holds(&lease, 0, MIB, 3));
}

#[test]
fn a_table_has_room_for_many_small_blocks() {
    let mut pool = private();
    let leases: Vec<Lease> = (0..5_000).map(|_| pool.take(1).unwrap()).collect();
    assert_eq!(pool.arena().census().used.blocks, 5_000);
    drop(leases);
    assert_eq!(pool.arena().census().used.blocks, 0);
}

/// Found by a bench of batches of several sizes, one after the other: while the mark fades there is a time in which
/// the large blocks are just what may be kept.
#[test]
fn memory_that_nothing_fits_any_more_makes_room() {
    let mut pool = private();
    for _ in 0..4 {
        let batches: Vec<_> = (0..4).map(|_| pool.take(1_500_000).unwrap()).collect();
        drop(batches);
    }
    let before = pool.recycled();
    for _ in 0..10_000 {
        drop(pool.take(700_000).unwrap());
    }
    assert!(pool.recycled() - before > 9990, "{} of 10,000", pool.recycled() - before);
}
