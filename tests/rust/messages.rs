//! Messages: a lease arrives once, where it was sent from, or is refused and changes nothing.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use _core::arena::Lease;
use _core::arena::block::MOST_LEASES;
use _core::arena::message::{Place, Sending};
use _core::arena::pool::Pool;
use _core::arena::table::Arena;
use proptest::prelude::*;

use crate::memory::{fill, holds};

/// An owner, and a receiver: a second mapping of the same file.
fn both() -> (Pool, Arc<Arena>) {
    with_room(usize::MAX)
}

/// Likewise, with so much address space for the receiver.
fn with_room(room: usize) -> (Pool, Arc<Arena>) {
    let pool = Pool::new(Arena::shared().unwrap());
    let file = pool.arena().file().unwrap().as_fd().try_clone_to_owned().unwrap();
    assert!(!pool.arena().is_attached());
    let training = Arena::attach(file, pool.arena().id(), None, room).unwrap();
    assert!(pool.arena().is_attached());
    (pool, Arc::new(training))
}

pub(crate) fn taken(pool: &mut Pool, bytes: usize, value: u8) -> Lease {
    let mut lease = pool.take(bytes).unwrap();
    fill(&mut lease, value);
    lease
}

pub(crate) fn sent(pool: &Pool, lease: &Lease, offset: usize, bytes: usize) -> Place {
    match pool.arena().send(lease.start().addr().get() + offset, bytes, 0) {
        Sending::Place(place) => place,
        other => panic!("{other:?}"),
    }
}

fn refused(training: &Arc<Arena>, place: Place, bytes: usize) -> String {
    let before = training.census();
    let error = training.receive(place, bytes).unwrap_err().to_string();
    assert_eq!(training.census(), before);
    error
}

const STALE: &str = "the message was received before, or its block was given to another batch";
const NOT_THERE: &str = "the message names memory that is not there";

#[test]
fn values_arrive_and_the_block_is_free_when_both_are_done() {
    let (mut pool, training) = both();
    let lease = taken(&mut pool, 10_000, 5);
    let place = sent(&pool, &lease, 100, 9_000);
    assert_eq!(place.offset, 100);
    drop(lease);
    let other = taken(&mut pool, 10_000, 6);
    let (received, offset) = training.receive(place, 9_000).unwrap();
    assert!(holds(&received, offset, 9_000, 5));
    drop(other);
    let other = taken(&mut pool, 10_000, 7);
    assert!(holds(&received, offset, 9_000, 5));
    assert_eq!(training.census().used.blocks, 2);
    drop(received);
    drop(other);
    assert_eq!(pool.arena().census().used.blocks, 0);
}

#[test]
fn a_message_is_received_once() {
    let (mut pool, training) = both();
    let lease = taken(&mut pool, 10_000, 5);
    let place = sent(&pool, &lease, 0, 10_000);
    drop(lease);
    let received = training.receive(place, 10_000).unwrap();
    assert_eq!(refused(&training, place, 10_000), STALE);
    drop(received);
    assert_eq!(refused(&training, place, 10_000), STALE);
    // Another batch has the block, and another message of it is in flight.
    let lease = taken(&mut pool, 10_000, 6);
    let other = sent(&pool, &lease, 0, 10_000);
    assert_eq!((other.block, other.generation), (place.block, place.generation + 1));
    assert_eq!(refused(&training, place, 10_000), STALE);
    assert!(training.receive(other, 10_000).is_ok());
}

/// Writes a word of the table: of the first block the state, the offset, the capacity, or the bytes behind it.
fn spoil(pool: &Pool, word: u64, value: u64) {
    let file = std::fs::File::from(pool.arena().file().unwrap().try_clone_to_owned().unwrap());
    file.write_all_at(&value.to_ne_bytes(), 4096 + (word << 17) * 8).unwrap();
}

/// Whoever receives must not end, nor read anything else, because of what another process has written.
#[test]
fn a_table_that_was_spoilt_is_refused() {
    let len = pool_len();
    for offset in [0, 4096, (8 << 20) - 64, (8 << 20) + 8, len - 8, len, len + 4096, u64::MAX, u64::MAX - 4095] {
        for room in [0, usize::MAX] {
            for bytes in [0, 100] {
                let (mut pool, training) = with_room(room);
                let lease = taken(&mut pool, 10_000, 5);
                let places = [sent(&pool, &lease, 0, bytes), sent(&pool, &lease, 0, bytes)];
                let received = training.receive(places[0], bytes).unwrap();
                spoil(&pool, 1, offset);
                spoil(&pool, 2, u64::MAX);
                spoil(&pool, 3, u64::MAX);
                assert_eq!(refused(&training, places[1], bytes), NOT_THERE, "{offset} {room}");
                drop(lease);
                spoil(&pool, 0, 1 << 37);
                drop(received);
                training.empty_all();
                let again = pool.take(10_000).map(|lease| lease.start().addr().get());
                assert!(again.is_ok_and(|start| pool.arena().blocks().unwrap().contains(&start)));
            }
        }
    }
}

fn pool_len() -> u64 {
    std::fs::File::from(both().0.arena().file().unwrap().try_clone_to_owned().unwrap()).metadata().unwrap().len()
}

proptest! {
    #![proptest_config(crate::cases())]

    #[test]
    fn messages_that_do_not_fit_are_refused(
        block in prop_oneof![0..4_usize, Just(usize::MAX), Just(1 << 17)],
        offset in prop_oneof![0..20_000_usize, Just(usize::MAX)],
        bytes in prop_oneof![0..20_000_usize, Just(usize::MAX), Just(usize::MAX / 2)],
    ) {
        let (mut pool, training) = both();
        let leases = [taken(&mut pool, 10_000, 5), taken(&mut pool, 100, 5)];
        let places = leases.each_ref().map(|lease| sent(&pool, lease, 0, 1));
        let generation = places[0].generation;
        let fits = offset.checked_add(bytes).is_some_and(|end| end <= [16_384, 4096].get(block).copied().unwrap_or(0));
        let place = Place { block, generation, offset };
        if fits && block < 2 {
            prop_assert!(training.receive(place, bytes).is_ok());
        } else {
            prop_assert_eq!(refused(&training, place, bytes), NOT_THERE);
        }
    }
}

#[test]
fn small_tensors_and_those_of_other_memory_are_not_sent() {
    let (mut pool, _training) = both();
    let lease = taken(&mut pool, 10_000, 5);
    let start = lease.start().addr().get();
    let send = |address, bytes| pool.arena().send(address, bytes, 4096);
    assert_eq!(send(start, 4095), Sending::Small);
    assert!(matches!(send(start + 5000, 4096), Sending::Place(_)));
    for (address, bytes) in [
        (start - 1, 4096),
        (start, 16_385),
        (start + 16_384, 1),
        (start + 16_383, 2),
        (0, 4096),
        (usize::MAX, 4096),
        (start, usize::MAX),
        ((&raw const start).addr(), 8),
    ] {
        assert_eq!(send(address, bytes), Sending::Foreign, "{address:x} {bytes}");
    }
    drop(lease);
    assert_eq!(send(start + 5000, 4096), Sending::Foreign, "nobody has a lease");
}

#[test]
fn of_many_blocks_the_right_one_is_found() {
    let (mut pool, training) = both();
    let leases: Vec<Lease> = (1..40).map(|value| taken(&mut pool, 3000 * usize::from(value), value)).collect();
    for (lease, value) in leases.iter().zip(1_u8..) {
        let bytes = lease.bytes() - 10;
        let place = sent(&pool, lease, 10, bytes);
        let (received, offset) = training.receive(place, bytes).unwrap();
        assert!(holds(&received, offset, bytes, value));
    }
}

#[test]
fn more_messages_than_can_be_counted_are_not_sent() {
    let (mut pool, _training) = both();
    let lease = taken(&mut pool, 10_000, 5);
    for _ in 0..MOST_LEASES {
        sent(&pool, &lease, 0, 10_000);
    }
    assert_eq!(pool.arena().send(lease.start().addr().get(), 10_000, 0), Sending::Foreign);
}

#[test]
fn another_file_or_another_name_is_refused() {
    let attach = |file, id| Arena::attach(file, id, None, usize::MAX).unwrap_err().to_string();
    let file = |pool: &Pool| pool.arena().file().unwrap().try_clone_to_owned().unwrap();
    let (one, other) = (Pool::new(Arena::shared().unwrap()), Pool::new(Arena::shared().unwrap()));
    assert_eq!(attach(file(&one), other.arena().id()), "not the arena that was named");
    assert!(!one.arena().is_attached());
    let null = std::fs::File::open("/dev/zero").unwrap();
    assert_eq!(attach(null.into(), one.arena().id()), "not the memory of an arena");
    let binary = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(attach(binary.into(), one.arena().id()), "not the memory of an arena");
}

#[test]
fn receiver_and_owner_may_both_give_memory_back() {
    let (mut pool, training) = both();
    let lease = taken(&mut pool, 10_000, 5);
    let place = sent(&pool, &lease, 0, 10_000);
    drop(lease);
    for arena in [&training, pool.arena()] {
        arena.empty_all();
        assert_eq!(pool.arena().census().used.blocks, 1, "a message is in flight");
    }
    let (received, _) = training.receive(place, 10_000).unwrap();
    training.empty_all();
    assert!(holds(&received, 0, 10_000, 5));
    drop(received);
    assert_eq!(pool.arena().census().free.blocks, 1);
    training.empty_all();
    assert_eq!(pool.arena().census().free.blocks, 0);
    assert_eq!(taken(&mut pool, 10_000, 9).bytes(), 10_000);
}
