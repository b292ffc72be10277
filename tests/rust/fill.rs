//! The kernels, for every type of value and every type of cell.

use std::convert::Infallible;
use std::fmt::Debug;
use std::mem::MaybeUninit;

use _core::cells::{Bool, Cell, Element, Value, Values};
use _core::error::Number;
use _core::fill::{self, Misfit};
use proptest::collection::vec;
use proptest::num;
use proptest::prelude::*;

use crate::cases;
use crate::memory::written;
use crate::naive::{self, Plain};

/// A type of value: what tests need of it besides.
trait Sample: Value + Into<Plain> + Debug {
    /// Runs that fit a small cell, and runs of anything.
    fn run() -> BoxedStrategy<Vec<Self>>;

    /// The number that it is: of a bool, any byte but 0 is 1.
    fn plain(self) -> Plain {
        match (Self::ELEMENT, self.into()) {
            (Element::Bool, Plain::Int(byte)) => Plain::Int((byte != 0).into()),
            (_, number) => number,
        }
    }
}

macro_rules! sample {
    ($($type:ty: $small:expr, $any:expr, [$($edge:expr),*];)*) => {$(
        impl Sample for $type {
            fn run() -> BoxedStrategy<Vec<Self>> {
                let edges = proptest::sample::select(vec![$($edge),*]);
                let small = proptest::sample::select($small.to_vec());
                prop_oneof![
                    vec(small.clone(), 0..=130),
                    vec(prop_oneof![20 => small, 1 => edges.clone()], 0..=40),
                    vec(prop_oneof![$any, edges], 0..=40),
                ]
                .boxed()
            }
        }
    )*};
}

/// Rounded to f64 first, it becomes another f32. (valgrind does just that, so no test names the result.)
const TWICE: i64 = (1 << 54) + (1 << 30) + 1;

/// Halfway from the largest f32 to the next that there would be, so it becomes infinite.
const JUST_INFINITE: f64 = 3.402_823_567_797_336_6e38;

sample! {
    i8: [0, 1], any::<i8>(), [i8::MIN, i8::MAX];
    i16: [0, 1], any::<i16>(), [i16::MIN, i16::MAX];
    i32: [0, 1], any::<i32>(), [i32::MIN, i32::MAX];
    i64: [0, 1], any::<i64>(), [i64::MIN, i64::MAX, i64::from(i32::MIN) - 1, i64::from(i32::MAX) + 1, 2, -1, TWICE];
    u8: [0, 1], any::<u8>(), [2, u8::MAX];
    u16: [0, 1], any::<u16>(), [2, u16::MAX];
    u32: [0, 1], any::<u32>(), [2, u32::MAX, 1 << 31];
    u64: [0, 1], any::<u64>(), [2, u64::MAX, 1 << 31, 1 << 63, (1 << 63) - 1];
    Bool: [Bool(0), Bool(1)], any::<u8>().prop_map(Bool), [Bool(2), Bool(255)];
    f32: [0.0, 1.0], num::f32::ANY, [-0.0, f32::MAX, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE];
    f64: [0.0, 1.0], num::f64::ANY, [-0.0, f64::MAX, f64::NEG_INFINITY, f64::NAN, 1e39, 0.1, JUST_INFINITE];
}

/// What `copy` writes, or the value that did not fit.
fn copied<S: Sample, T: Cell + Into<Plain>>(values: &[S]) -> Result<Vec<Plain>, Misfit> {
    written::<T, Misfit>(values.len(), |cells| fill::copy(S::values(values), cells))
}

fn copy_matches_naive<S: Sample, T: Cell + Into<Plain>>(values: &[S]) {
    let cell = |(index, value): (usize, &S)| naive::cell(value.plain(), T::DTYPE).ok_or((index, value.plain()));
    let expected: Result<Vec<Plain>, _> = values.iter().enumerate().map(cell).collect();
    let found = copied::<S, T>(values).map_err(|misfit| (misfit.index, Plain::from(misfit.value)));
    assert_eq!(found, expected, "{:?} -> {:?}", S::ELEMENT, T::DTYPE);
}

fn differs_matches_naive<S: Sample, T: Cell + Into<Plain>>(values: &[S], from: Number) {
    let differs = |value: &S| naive::differs(value.plain(), from.into());
    let one = |value| naive::cell(i64::from(differs(value)).into(), T::DTYPE).unwrap();
    let found = written::<T, Infallible>(values.len(), |cells| {
        fill::differs(S::values(values), from, cells);
        Ok(())
    });
    assert_eq!(found.unwrap(), values.iter().map(one).collect::<Vec<_>>(), "{:?} from {from}", S::ELEMENT);
    assert_eq!(fill::any_differs(S::values(values), from), values.iter().any(differs));
    let same = values.iter().filter(|value| !differs(value)).count();
    assert_eq!(fill::occurrences(S::values(values), from), same, "{from} in {:?}", S::ELEMENT);
}

fn repeated<T: Cell + Into<Plain>>(value: T, len: usize) -> Vec<Plain> {
    let written = written::<T, Infallible>(len, |cells| {
        fill::repeat(value, cells);
        Ok(())
    });
    written.unwrap()
}

/// So many cells, counted from a number on.
fn counted<T: Cell + Into<Plain>>(from: i64, len: usize) -> Result<Vec<Plain>, Misfit> {
    written::<T, Misfit>(len, |cells| fill::count(from, cells))
}

fn count_matches_naive<T: Cell + Into<Plain>>(from: i64, len: usize) {
    let number = |index: usize| i128::from(from) + index as i128;
    let cell = |index| naive::cell(number(index).into(), T::DTYPE).ok_or((index, number(index).into()));
    let expected: Result<Vec<Plain>, _> = (0..len).map(cell).collect();
    let found = counted::<T>(from, len).map_err(|misfit| (misfit.index, Plain::from(misfit.value)));
    assert_eq!(found, expected, "{len} {:?} from {from}", T::DTYPE);
}

fn any_from() -> impl Strategy<Value = Number> {
    prop_oneof![
        (-2_i64..3).prop_map(Number::Int),
        any::<i64>().prop_map(Number::Int),
        ((1 << 63)..=u64::MAX).prop_map(Number::Unsigned),
        proptest::sample::select(vec![0.0, 1.0, -0.0, 0.5, f64::NAN, f64::INFINITY]).prop_map(Number::Float),
    ]
}

/// A run, and a number that now and then is one of its values.
fn run_and_from<S: Sample>() -> impl Strategy<Value = (Vec<S>, Number)> {
    (S::run(), any_from(), any::<prop::sample::Index>(), any::<bool>()).prop_map(|(values, from, index, own)| {
        let from = if own && !values.is_empty() { index.get(&values).number() } else { from };
        (values, from)
    })
}

macro_rules! properties {
    ($($name:ident: $type:ty),*) => {$(
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(cases())]

                #[test]
                fn copy_matches_naive(values in <$type>::run()) {
                    super::copy_matches_naive::<$type, i64>(&values);
                    super::copy_matches_naive::<$type, i32>(&values);
                    super::copy_matches_naive::<$type, Bool>(&values);
                    super::copy_matches_naive::<$type, f32>(&values);
                    super::copy_matches_naive::<$type, f64>(&values);
                }

                #[test]
                fn differs_matches_naive((values, from) in run_and_from::<$type>()) {
                    super::differs_matches_naive::<$type, i64>(&values, from);
                    super::differs_matches_naive::<$type, i32>(&values, from);
                    super::differs_matches_naive::<$type, Bool>(&values, from);
                    super::differs_matches_naive::<$type, f32>(&values, from);
                    super::differs_matches_naive::<$type, f64>(&values, from);
                }
            }
        }
    )*};
}
properties! {
    int8: i8, int16: i16, int32: i32, int64: i64, uint8: u8, uint16: u16, uint32: u32, uint64: u64, bool: Bool,
    float32: f32, float64: f64
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn repeat_matches_naive(
        value: i64,
        narrow: i32,
        byte in 0_u8..2,
        single in num::f32::ANY,
        double in num::f64::ANY,
        len in 0_usize..100,
    ) {
        prop_assert_eq!(repeated(value, len), vec![value.into(); len]);
        prop_assert_eq!(repeated(narrow, len), vec![narrow.into(); len]);
        prop_assert_eq!(repeated(Bool(byte), len), vec![byte.into(); len]);
        prop_assert_eq!(repeated(single, len), vec![single.into(); len]);
        prop_assert_eq!(repeated(double, len), vec![double.into(); len]);
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn count_matches_naive_for_every_dtype(
        from in prop_oneof![
            2 => -2_i64..3,
            1 => any::<i64>(),
            4 => (
                proptest::sample::select(vec![i32::MIN.into(), i32::MAX.into(), i64::MIN + 50, i64::MAX - 50]),
                -50_i64..=50,
            ).prop_map(|(edge, more)| edge + more),
        ],
        len in 0_usize..100,
    ) {
        count_matches_naive::<i64>(from, len);
        count_matches_naive::<i32>(from, len);
        count_matches_naive::<Bool>(from, len);
        count_matches_naive::<f32>(from, len);
        count_matches_naive::<f64>(from, len);
    }
}

#[test]
fn counting_ends_where_the_type_does() {
    let ints = |values: &[i64]| Ok(values.iter().map(|&value| value.into()).collect());
    let misfit = |index, value| Err(Misfit { index, value });
    assert_eq!(counted::<i64>(i64::MAX - 1, 2), ints(&[i64::MAX - 1, i64::MAX]));
    assert_eq!(counted::<i64>(i64::MAX, 1), ints(&[i64::MAX]));
    assert_eq!(counted::<i64>(i64::MAX, 2), misfit(1, Number::Unsigned(1 << 63)));
    assert_eq!(counted::<i64>(i64::MAX - 1, 9), misfit(2, Number::Unsigned(1 << 63)));
    assert_eq!(counted::<i64>(i64::MIN, 2), ints(&[i64::MIN, i64::MIN + 1]));
    let (first, last) = (i64::from(i32::MIN), i64::from(i32::MAX));
    assert_eq!(counted::<i32>(last - 1, 2), ints(&[last - 1, last]));
    assert_eq!(counted::<i32>(last - 1, 3), misfit(2, Number::Int(last + 1)));
    assert_eq!(counted::<i32>(last + 1, 1), misfit(0, Number::Int(last + 1)));
    assert_eq!(counted::<i32>(first, 2), ints(&[first, first + 1]));
    assert_eq!(counted::<i32>(first - 1, 9), misfit(0, Number::Int(first - 1)));
    assert_eq!(counted::<i32>(i64::MAX, 9), misfit(0, Number::Int(i64::MAX)));
    assert_eq!(counted::<Bool>(0, 2), ints(&[0, 1]));
    assert_eq!(counted::<Bool>(1, 2), misfit(1, Number::Int(2)));
    assert_eq!(counted::<Bool>(-1, 2), misfit(0, Number::Int(-1)));
    // No cell, no number.
    assert_eq!(counted::<Bool>(9, 0), ints(&[]));
    assert_eq!(counted::<i32>(i64::MIN, 0), ints(&[]));
    let long: Vec<i64> = (-3..1000).collect();
    assert_eq!(counted::<i32>(-3, 1003), ints(&long));
}

#[test]
fn occurrences_are_found_wherever_they_are() {
    for len in LENGTHS {
        assert_eq!(fill::occurrences(Values::Int64(&vec![7; len]), Number::Int(7)), len);
        for index in (0..len).step_by(1 + len / 40).chain([len - 1]) {
            let mut values = vec![5_i32; len];
            values[index] = 7;
            assert_eq!(fill::occurrences(Values::Int32(&values), Number::Int(7)), 1, "{index} of {len}");
        }
    }
    assert_eq!(fill::occurrences(Values::Int64(&[]), Number::Int(0)), 0);
    assert_eq!(fill::occurrences(Values::Float32(&[7.0, f32::NAN, 7.5]), Number::Int(7)), 1);
    assert_eq!(fill::occurrences(Values::UInt64(&[u64::MAX, 1]), Number::Int(-1)), 0);
    assert_eq!(fill::occurrences(Values::Bool(&[Bool(0), Bool(7)]), Number::Int(1)), 1);
}

/// Every length at which copying what was written begins, doubles, or reaches its most.
#[test]
fn repeat_matches_naive_at_every_step() {
    for step in [128_usize, 256, 512, 1024, 2048, 4096, 6144, 8192] {
        for len in step - 2..=step + 2 {
            assert_eq!(repeated(-100_i64, len), vec![Plain::from(-100_i64); len], "{len} of int64");
            assert_eq!(repeated(Bool(1), len), vec![Plain::from(Bool(1)); len], "{len} of bool");
        }
    }
}

/// Runs around the lengths at which a vector loop, or one over blocks, changes its step.
const LENGTHS: [usize; 16] = [1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 255, 256, 257, 512, 1025];

/// Puts `misfit` at each place of a run, then a second one behind it: the first is named.
fn misfit_is_named<S: Sample, T: Cell + Into<Plain>>(misfit: S, value: Number) {
    for len in LENGTHS {
        for index in (0..len).step_by(1 + len / 40).chain([len - 1]) {
            let mut values = vec![S::ZERO; len];
            values[index] = misfit;
            assert_eq!(copied::<S, T>(&values), Err(Misfit { index, value }), "of {len}");
            values[len - 1] = misfit;
            assert_eq!(copied::<S, T>(&values), Err(Misfit { index, value }), "of {len}");
        }
    }
}

#[test]
fn first_misfit_is_named_wherever_it_is() {
    misfit_is_named::<i64, i32>(1 << 31, Number::Int(1 << 31));
    misfit_is_named::<i64, i32>(-(1 << 31) - 1, Number::Int(-(1 << 31) - 1));
    misfit_is_named::<i64, i32>(1 << 32, Number::Int(1 << 32));
    misfit_is_named::<i64, Bool>(-1, Number::Int(-1));
    misfit_is_named::<i64, Bool>(256, Number::Int(256));
    misfit_is_named::<i32, Bool>(2, Number::Int(2));
    misfit_is_named::<u8, Bool>(2, Number::Int(2));
    misfit_is_named::<i8, Bool>(-1, Number::Int(-1));
    misfit_is_named::<u32, i32>(1 << 31, Number::Int(1 << 31));
    misfit_is_named::<u64, i64>(1 << 63, Number::Unsigned(1 << 63));
    misfit_is_named::<u64, i64>(u64::MAX, Number::Unsigned(u64::MAX));
    misfit_is_named::<u64, i32>((1 << 63) - 1, Number::Int(i64::MAX));
    misfit_is_named::<u64, f64>(1 << 63, Number::Unsigned(1 << 63));
    misfit_is_named::<f64, f32>(1e39, Number::Float(1e39));
    misfit_is_named::<f64, f32>(f64::MIN, Number::Float(f64::MIN));
}

#[test]
fn floats_fit_no_integer() {
    assert_eq!(copied::<f64, i64>(&[0.0]), Err(Misfit { index: 0, value: Number::Float(0.0) }));
    assert_eq!(copied::<f32, i32>(&[1.0]), Err(Misfit { index: 0, value: Number::Float(1.0) }));
    assert_eq!(copied::<f32, Bool>(&[1.0]), Err(Misfit { index: 0, value: Number::Float(1.0) }));
    assert_eq!(copied::<f64, i64>(&[]), Ok(vec![]));
}

#[test]
fn limits_are_kept() {
    let ints = |values: &[i64]| Ok(values.iter().map(|&value| value.into()).collect());
    let floats = |values: &[f64]| Ok(values.iter().map(|&value| value.into()).collect());
    assert_eq!(copied::<i64, i64>(&[i64::MIN, -1, 0, i64::MAX]), ints(&[i64::MIN, -1, 0, i64::MAX]));
    assert_eq!(copied::<u64, i64>(&[(1 << 63) - 1]), ints(&[i64::MAX]));
    assert_eq!(copied::<i64, i32>(&[-(1 << 31), (1 << 31) - 1]), ints(&[-(1 << 31), (1 << 31) - 1]));
    assert_eq!(copied::<u8, i32>(&[255]), ints(&[255]));
    assert_eq!(copied::<i8, i64>(&[-128]), ints(&[-128]));
    // Whatever byte a bool is stored as, the cell is 0 or 1.
    assert_eq!(copied::<Bool, Bool>(&[Bool(0), Bool(1), Bool(2), Bool(255)]), ints(&[0, 1, 1, 1]));
    assert_eq!(copied::<Bool, i64>(&[Bool(0), Bool(1), Bool(2), Bool(255)]), ints(&[0, 1, 1, 1]));
    // Integers round to the nearest float, once.
    assert_eq!(
        copied::<i64, f64>(&[i64::MIN, i64::MAX]),
        floats(&[-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0])
    );
    assert_eq!(copied::<i64, f32>(&[(1 << 24) + 1, (1 << 24) + 3]), floats(&[16_777_216.0, 16_777_220.0]));
    // Floats round, too, and only what would become infinite is refused.
    assert_eq!(copied::<f64, f32>(&[0.1, 1e-50, -0.0]), floats(&[f64::from(0.1_f32), 0.0, -0.0]));
    assert_eq!(copied::<f64, f32>(&[JUST_INFINITE.next_down()]), floats(&[f64::from(f32::MAX)]));
    assert_eq!(copied::<f64, f32>(&[JUST_INFINITE]), Err(Misfit { index: 0, value: Number::Float(JUST_INFINITE) }));
    assert_eq!(copied::<f64, f32>(&[f64::INFINITY, f64::NEG_INFINITY]), floats(&[f64::INFINITY, f64::NEG_INFINITY]));
    assert_eq!(copied::<f32, f64>(&[f32::NAN]), floats(&[f64::NAN]));
}

#[test]
fn any_differs_finds_the_one_wherever_it_is() {
    for len in LENGTHS {
        assert!(!fill::any_differs(Values::Int64(&vec![-100; len]), Number::Int(-100)));
        for index in (0..len).step_by(1 + len / 40).chain([len - 1]) {
            let mut values = vec![-100_i64; len];
            values[index] = 5;
            assert!(fill::any_differs(Values::Int64(&values), Number::Int(-100)), "{index} of {len}");
        }
    }
    assert!(!fill::any_differs(Values::Int64(&[]), Number::Int(0)));
}

#[test]
fn numbers_of_two_kinds_are_compared_as_numbers() {
    assert!(!fill::any_differs(Values::Float32(&[-100.0]), Number::Int(-100)));
    assert!(!fill::any_differs(Values::Int32(&[-100]), Number::Float(-100.0)));
    assert!(!fill::any_differs(Values::Float64(&[-0.0]), Number::Float(0.0)));
    assert!(!fill::any_differs(Values::UInt64(&[u64::MAX]), Number::Unsigned(u64::MAX)));
    assert!(fill::any_differs(Values::UInt64(&[u64::MAX]), Number::Int(-1)));
    assert!(fill::any_differs(Values::Float64(&[f64::NAN]), Number::Float(f64::NAN)));
    assert!(!fill::any_differs(Values::Bool(&[Bool(7)]), Number::Int(1)));
}

#[test]
#[should_panic(expected = "a run of values is as long as its cells")]
fn copy_of_unequal_lengths_panics() {
    let _ = fill::copy(Values::Int64(&[1]), &mut [MaybeUninit::<i64>::uninit(); 2]);
}

#[test]
#[should_panic(expected = "a run of values is as long as its cells")]
fn differs_of_unequal_lengths_panics() {
    fill::differs(Values::Int64(&[1, 2]), Number::Int(0), &mut [MaybeUninit::<i64>::uninit(); 1]);
}
