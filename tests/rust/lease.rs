//! The lease: one block, aligned, of the size that was asked for, or an error.

use std::mem::MaybeUninit;

use _core::arena::{Lease, OutOfMemory};
use _core::cells::{Bool, Cell};

#[test]
fn block_is_aligned_and_large_enough() {
    for bytes in [1, 2, 63, 64, 65, 4095, 4096, 1 << 20] {
        let lease = Lease::new(bytes).unwrap();
        assert_eq!(lease.bytes(), bytes);
        assert!(lease.start().addr().get().is_multiple_of(64));
    }
}

#[test]
fn block_of_no_bytes_has_an_address() {
    let lease = Lease::new(0).unwrap();
    assert!((1..=64).contains(&lease.bytes()));
    assert!(lease.start().addr().get().is_multiple_of(64));
}

#[test]
fn leases_held_at_once_lie_apart() {
    let leases: Vec<Lease> = (0..20).map(|bytes| Lease::new(bytes * 50).unwrap()).collect();
    let mut ranges: Vec<(usize, usize)> =
        leases.iter().map(|lease| (lease.start().addr().get(), lease.bytes())).collect();
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
    }
}

#[test]
fn absurd_sizes_are_an_error() {
    let most = isize::MAX.cast_unsigned();
    for bytes in [usize::MAX, usize::MAX - 63, most + 1, most, most - 62, most - 63, most / 2, 1 << 50] {
        assert_eq!(Lease::new(bytes).err(), Some(OutOfMemory), "{bytes}");
    }
}

/// Writes into every cell, from the first byte to the last.
fn write_all<T: Cell + PartialEq>(value: T) {
    let mut lease = Lease::new(5 * 8).unwrap();
    let count = lease.bytes() / size_of::<T>();
    let start = lease.start().addr().get();
    let cells = lease.cells::<T>(0, count);
    assert_eq!((cells.as_ptr().addr(), cells.len()), (start, count));
    cells.fill(MaybeUninit::new(value));
    assert_eq!(lease.cells::<T>(16, 2).as_ptr().addr(), start + 16);
}

#[test]
fn cells_lie_in_the_block() {
    write_all::<i64>(-1);
    write_all::<i32>(-1);
    write_all::<Bool>(Bool(1));
    write_all::<f32>(0.5);
    write_all::<f64>(0.5);
}

#[test]
fn no_cells_may_lie_at_the_end() {
    let mut lease = Lease::new(64).unwrap();
    assert!(lease.cells::<i64>(64, 0).is_empty());
    assert!(Lease::new(0).unwrap().cells::<i64>(0, 0).is_empty());
}

#[test]
#[should_panic(expected = "9 cells of 8 bytes at 0 in a block of 64")]
fn too_many_cells_panic() {
    Lease::new(64).unwrap().cells::<i64>(0, 9);
}

#[test]
#[should_panic(expected = "1 cells of 1 bytes at 64 in a block of 64")]
fn cells_behind_the_block_panic() {
    Lease::new(64).unwrap().cells::<Bool>(64, 1);
}

#[test]
#[should_panic(expected = "0 cells of 1 bytes at 65 in a block of 64")]
fn no_cells_behind_the_block_panic() {
    Lease::new(64).unwrap().cells::<Bool>(65, 0);
}

#[test]
#[should_panic(expected = "1 cells of 8 bytes at 4 in a block of 64")]
fn misaligned_cells_panic() {
    Lease::new(64).unwrap().cells::<i64>(4, 1);
}

#[test]
#[should_panic(expected = "cells of 8 bytes at 0 in a block of 64")]
fn cells_of_more_bytes_than_there_are_panic() {
    Lease::new(64).unwrap().cells::<i64>(0, usize::MAX / 8 + 2);
}

#[test]
#[should_panic(expected = "2 cells of 1 bytes at 18446744073709551615 in a block of 64")]
#[cfg(target_pointer_width = "64")]
fn cells_around_the_end_of_memory_panic() {
    Lease::new(64).unwrap().cells::<Bool>(usize::MAX, 2);
}

#[test]
fn lease_can_be_dropped_by_another_thread() {
    let lease = Lease::new(1000).unwrap();
    std::thread::spawn(move || drop(lease)).join().unwrap();
}
