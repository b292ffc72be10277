//! What threads of two processes do at the same time.
#![allow(unsafe_code)]

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread;
use rustix::pipe::pipe;

use super::current::elsewhere;
use super::lease::Lease;
use super::message::{Place, Sending};
use super::pool::Pool;
use super::table::Arena;
use super::{fork, process};

const BYTES: usize = 4096;

/// Runs a scenario in all orders; says how many there were.
#[allow(clippy::print_stdout, reason = "the figures of a run")]
fn explore(name: &str, scenario: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(std::env::var("DPO_COLLATE_PREEMPTIONS").map_or(2, |most| most.parse().unwrap()));
    builder.max_branches = 10_000;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{name}: {executions} executions");
    if let Some(folder) = std::env::var_os("DPO_COLLATE_FIGURES") {
        let path = std::path::Path::new(&folder).join("model.jsonl");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{{\"scenarios\": 1, \"executions\": {executions}}}").unwrap();
    }
}

/// A worker's pool, and its arena in the training process. The worker lives as long as the descriptor is open.
fn both() -> (Pool, Arc<Arena>, OwnedFd) {
    let pool = Pool::new(Arena::shared().unwrap());
    let (pidfd, worker) = pipe().unwrap();
    let file = pool.arena().file().unwrap().try_clone_to_owned().unwrap();
    let training = process::attach(file, pool.arena().id(), Some(pidfd)).unwrap();
    (pool, training, worker)
}

/// A batch whose values are all this one.
fn taken(pool: &mut Pool, value: u64) -> Lease {
    let lease = pool.take(BYTES).unwrap();
    let (arena, block) = lease.place().unwrap();
    // SAFETY: loom finds whoever accesses it at the same time.
    arena.mapping().page(arena.offset(block)).with_mut(|page| unsafe { *page = value });
    lease
}

fn read(arena: &Arena, block: usize) -> u64 {
    // SAFETY: loom finds whoever writes at the same time.
    arena.mapping().page(arena.offset(block)).with(|page| unsafe { *page })
}

fn value(lease: &Lease) -> u64 {
    let (arena, block) = lease.place().unwrap();
    read(arena, block)
}

fn sent(pool: &Pool, lease: &Lease) -> Place {
    match pool.arena().send(lease.start().addr().get(), BYTES, 0) {
        Sending::Place(place) => place,
        other => panic!("{other:?}"),
    }
}

fn received(training: &Arc<Arena>, place: Place) -> Lease {
    training.receive(place, BYTES).unwrap().0
}

/// Nobody has anything: all counts are zero, and what is free is what has memory.
fn nothing_is_used(arena: &Arena) {
    let census = arena.census();
    assert_eq!((census.used.blocks, census.retired.blocks, arena.used()), (0, 0, 0));
    arena.set_kept(0);
    assert_eq!(arena.excess(0), census.free.bytes);
}

#[test]
fn a_batch_is_received_and_dropped_while_the_worker_takes_the_next() {
    explore("drop and take", || {
        let (mut pool, training, _worker) = both();
        let lease = taken(&mut pool, 7);
        let place = sent(&pool, &lease);
        let there = Arc::clone(&training);
        let thread = thread::spawn(move || {
            let lease = received(&there, place);
            assert_eq!(value(&lease), 7);
        });
        drop(lease);
        let next = taken(&mut pool, 8);
        assert_eq!(value(&next), 8);
        thread.join().unwrap();
        // The first message once more, while another is in flight, of the same block or not.
        let again = sent(&pool, &next);
        assert!(training.receive(place, BYTES).is_err());
        drop((received(&training, again), next));
        nothing_is_used(&training);
    });
}

#[test]
fn a_message_arrives_while_the_worker_gives_memory_back() {
    explore("receive and trim", || {
        let (mut pool, training, _worker) = both();
        let lease = taken(&mut pool, 7);
        let place = sent(&pool, &lease);
        let there = Arc::clone(&training);
        let thread = thread::spawn(move || {
            let lease = received(&there, place);
            assert_eq!(value(&lease), 7);
            there.set_kept(0); // so its memory is given back here
        });
        drop(lease);
        pool.arena().empty_all();
        thread.join().unwrap();
        assert_eq!(training.committed(place.block), 0);
        nothing_is_used(&training);
    });
}

#[test]
fn a_message_comes_twice() {
    explore("twice", || {
        let (mut pool, training, _worker) = both();
        let lease = taken(&mut pool, 7);
        let place = sent(&pool, &lease);
        drop(lease);
        let receive = move |training: Arc<Arena>| {
            let lease = training.receive(place, BYTES).ok();
            lease.map(|(lease, _)| value(&lease))
        };
        let there = Arc::clone(&training);
        let thread = thread::spawn(move || receive(there));
        let mut values = [receive(Arc::clone(&training)), thread.join().unwrap()];
        values.sort_unstable();
        assert_eq!(values, [None, Some(7)]);
        nothing_is_used(&training);
    });
}

#[test]
fn two_threads_drop_the_last_leases() {
    explore("two drops", || {
        let (mut pool, training, _worker) = both();
        let lease = taken(&mut pool, 7);
        let leases = [sent(&pool, &lease), sent(&pool, &lease)].map(|place| received(&training, place));
        drop(lease);
        training.set_kept(0);
        let threads = leases.map(|lease| thread::spawn(move || assert_eq!(value(&lease), 7)));
        let next = taken(&mut pool, 8);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(value(&next), 8);
        drop(next);
        nothing_is_used(&training);
    });
}

#[test]
fn a_process_forks_while_the_worker_takes_the_next_block() {
    explore("fork and take", || {
        let (mut pool, training, _worker) = both();
        let lease = taken(&mut pool, 7);
        let lease = {
            let place = sent(&pool, &lease);
            drop(lease);
            received(&training, place)
        };
        let there = Arc::clone(&training);
        let thread = thread::spawn(move || {
            let block = lease.place().unwrap().1;
            fork::before();
            drop(lease);
            assert_eq!(read(&there, block), 7, "what the child sees");
            fork::after_in_parent(); // there was no fork: the child is gone with this
            let _ = process::stats();
        });
        drop(taken(&mut pool, 8));
        thread.join().unwrap();
        nothing_is_used(&training);
    });
}

#[test]
fn a_message_arrives_while_another_thread_forks() {
    explore("fork and receive", || {
        let (mut pool, training, _worker) = both();
        let lease = taken(&mut pool, 7);
        let place = sent(&pool, &lease);
        drop(lease);
        let there = Arc::clone(&training);
        let forks = thread::spawn(|| {
            fork::before();
            fork::after_in_parent();
            let _ = process::stats();
        });
        let receives = thread::spawn(move || assert_eq!(value(&received(&there, place)), 7));
        forks.join().unwrap();
        receives.join().unwrap();
        let _ = process::stats();
        nothing_is_used(&training);
        assert_eq!(value(&taken(&mut pool, 8)), 8);
    });
}

#[test]
fn a_fork_is_over_while_the_last_lease_is_dropped_and_the_worker_takes_blocks() {
    explore("retired and taken", || {
        let (mut pool, training, _worker) = both();
        let lease = taken(&mut pool, 7);
        let place = sent(&pool, &lease);
        drop(lease);
        let lease = received(&training, place);
        fork::before();
        fork::after_in_parent();
        let sweeps = thread::spawn(|| drop(process::stats()));
        let drops = thread::spawn(move || assert_eq!(value(&lease), 7));
        drop(taken(&mut pool, 8));
        sweeps.join().unwrap();
        drops.join().unwrap();
        nothing_is_used(&training);
    });
}

#[test]
fn the_worker_is_found_dead_while_leases_are_dropped() {
    explore("dead worker", || {
        let (mut pool, training, worker) = both();
        let leases = [7, 8].map(|number| {
            let lease = taken(&mut pool, number);
            let place = sent(&pool, &lease);
            elsewhere(|| drop(lease)); // it is killed with it
            received(&training, place)
        });
        drop(worker);
        let finds = thread::spawn(|| drop(process::stats()));
        let [one, other] = leases;
        let drops = thread::spawn(move || drop(one));
        drop(other);
        finds.join().unwrap();
        drops.join().unwrap();
        let _ = process::stats();
        for block in 0..2 {
            assert_eq!((training.committed(block), read(&training, block)), (0, 0));
        }
        assert_eq!(training.census().used.blocks, 0);
    });
}

#[test]
fn the_worker_is_found_dead_while_a_message_arrives() {
    explore("dead worker's message", || {
        let (mut pool, training, worker) = both();
        let lease = taken(&mut pool, 7);
        let place = sent(&pool, &lease);
        elsewhere(|| drop(lease));
        drop(worker);
        let finds = thread::spawn(|| drop(process::stats()));
        if let Ok((lease, _)) = training.receive(place, BYTES) {
            assert_eq!(value(&lease), 7);
        }
        finds.join().unwrap();
        let _ = process::stats();
        assert_eq!((training.committed(0), training.census().used.blocks), (0, 0));
    });
}
