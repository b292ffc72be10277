//! Kernels against the plainest loop that does the same, and against memcpy.
//!
//! `cargo bench --bench kernels`; with `-- --test` once, as a smoke test. Every
//! bench checks its answer before it is timed.

use std::mem::MaybeUninit;

use _core::cells::Values;
use _core::error::Number;
use _core::fill;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};

/// Tokens in a row.
const LENGTHS: [usize; 3] = [64, 1024, 16384];

fn main() {
    divan::main();
}

fn ids(length: usize) -> Vec<i64> {
    (0..length).map(|index| i64::try_from(index * 7919 % 151_936).unwrap_or(0)).collect()
}

fn fresh(length: usize) -> Vec<MaybeUninit<i64>> {
    vec![MaybeUninit::new(-1); length]
}

fn read(cells: &[MaybeUninit<i64>]) -> Vec<i64> {
    let value = |cell: &MaybeUninit<i64>| {
        #[expect(unsafe_code, reason = "`fresh` has initialised every cell")]
        // SAFETY: `fresh` has initialised every cell.
        unsafe {
            cell.assume_init()
        }
    };
    cells.iter().map(value).collect()
}

/// Times `kernel` on a row of that length, after checking that it writes `expected`.
fn row(bencher: Bencher<'_, '_>, expected: &[i64], kernel: impl Fn(&mut [MaybeUninit<i64>]) + Sync) {
    let mut cells = fresh(expected.len());
    kernel(&mut cells);
    assert_eq!(read(&cells), expected);
    bencher.counter(BytesCount::of_slice(expected)).bench_local(|| kernel(black_box(&mut cells)));
}

#[divan::bench(args = LENGTHS)]
fn memcpy(bencher: Bencher<'_, '_>, length: usize) {
    let ids = ids(length);
    row(bencher, &ids, |cells| {
        cells.write_copy_of_slice(black_box(&ids));
    });
}

#[divan::bench(args = LENGTHS)]
fn copy_int64(bencher: Bencher<'_, '_>, length: usize) {
    let ids = ids(length);
    row(bencher, &ids, |cells| {
        assert_eq!(fill::copy(Values::Int64(black_box(&ids)), cells), Ok(()));
    });
}

#[divan::bench(args = LENGTHS)]
fn copy_int32(bencher: Bencher<'_, '_>, length: usize) {
    let ids = ids(length);
    let narrow: Vec<i32> = ids.iter().map(|&id| i32::try_from(id).unwrap_or(0)).collect();
    row(bencher, &ids, |cells| {
        assert_eq!(fill::copy(Values::Int32(black_box(&narrow)), cells), Ok(()));
    });
}

#[divan::bench(args = LENGTHS)]
fn differs_int64(bencher: Bencher<'_, '_>, length: usize) {
    let ids = ids(length);
    let mask: Vec<i64> = ids.iter().map(|&id| i64::from(id != 0)).collect();
    row(bencher, &mask, |cells| fill::differs(Values::Int64(black_box(&ids)), Number::Int(0), cells));
}

#[divan::bench(args = LENGTHS)]
fn repeat_int64(bencher: Bencher<'_, '_>, length: usize) {
    row(bencher, &vec![-100; length], |cells| fill::repeat(black_box(-100), cells));
}

#[divan::bench(args = LENGTHS)]
fn count_int64(bencher: Bencher<'_, '_>, length: usize) {
    let positions: Vec<i64> = (1..).take(length).collect();
    row(bencher, &positions, |cells| assert_eq!(fill::count(black_box(1), cells), Ok(())));
}

#[divan::bench(args = LENGTHS)]
fn occurrences_int64(bencher: Bencher<'_, '_>, length: usize) {
    let ids: Vec<i64> = ids(length).iter().map(|id| id % 5).collect();
    let count = ids.iter().filter(|id| **id == 3).count();
    let occurrences = || fill::occurrences(Values::Int64(black_box(&ids)), Number::Int(black_box(3)));
    assert_eq!(occurrences(), count);
    bencher.counter(BytesCount::of_slice(&ids)).bench_local(occurrences);
}

/// What `copy_int64` is compared with besides memcpy: one value after the other, each looked at.
#[divan::bench(args = LENGTHS)]
fn naive_copy(bencher: Bencher<'_, '_>, length: usize) {
    let ids = ids(length);
    row(bencher, &ids, |cells| {
        for (index, cell) in cells.iter_mut().enumerate() {
            cell.write(black_box(ids[index]));
        }
    });
}
