//! Numbers of samples, gathered into arrays of one dimension.

use _core::arena::Memory;
use _core::cells::{DType, Values};
use _core::collate::{Batch, Collated, collate};
use _core::error::{Cause, CollateError, Number};
use _core::layout::{Layout, Order, Scalar};
use _core::plan::Request;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::build::{layout, plain, scalar};
use crate::cases;
use crate::memory::rows;
use crate::naive::{self, Plain};

/// Collates samples that have nothing but 'chosen' and 'rejected' numbers.
fn collate_numbers(
    scalars: &[Scalar],
    order: Order,
    numbers: &[[Option<Number>; 2]],
) -> Result<Collated, CollateError> {
    let layout = Layout { order, ..layout(&["chosen", "rejected"], vec![], scalars.to_vec()) };
    let numbers = numbers.as_flattened();
    plain(collate(&layout, Batch { sources: &vec![None; numbers.len()], numbers }, Request::default(), Memory::Heap))
}

/// The array of the only scalar.
fn array(scalar: Scalar, order: Order, numbers: &[[Option<Number>; 2]]) -> Result<Vec<Plain>, CollateError> {
    let collated = collate_numbers(&[scalar], order, numbers)?;
    Ok(rows(&collated, &collated.plan.scalars[0].unwrap()).concat())
}

fn ints(numbers: &[i64]) -> Vec<Plain> {
    numbers.iter().map(|&number| number.into()).collect()
}

fn int(chosen: i64, rejected: i64) -> [Option<Number>; 2] {
    [Some(Number::Int(chosen)), Some(Number::Int(rejected))]
}

#[test]
fn two_keys_give_twice_as_many() {
    let numbers = [int(1, 2), int(3, 4), int(5, 6)];
    let both = Scalar { dtype: DType::Int64, ..scalar(&[0, 1]) };
    assert_eq!(array(both.clone(), Order::Grouped, &numbers), Ok(ints(&[1, 3, 5, 2, 4, 6])));
    assert_eq!(array(both, Order::Interleaved, &numbers), Ok(ints(&[1, 2, 3, 4, 5, 6])));
    let one = Scalar { dtype: DType::Int64, ..scalar(&[1]) };
    for order in [Order::Grouped, Order::Interleaved] {
        assert_eq!(array(one.clone(), order, &numbers), Ok(ints(&[2, 4, 6])));
    }
}

#[test]
fn number_takes_the_dtype_of_the_scalar() {
    let one = |dtype, number| array(Scalar { dtype, ..scalar(&[0]) }, Order::Grouped, &[[Some(number), None]]);
    assert_eq!(one(DType::Float32, Number::Float(0.1)), Ok(vec![Plain::Float(f64::from(0.1_f32))]));
    assert_eq!(one(DType::Float64, Number::Float(0.1)), Ok(vec![Plain::Float(0.1)]));
    assert_eq!(one(DType::Float32, Number::Int(-3)), Ok(vec![Plain::Float(-3.0)]));
    assert_eq!(one(DType::Float32, Number::Float(f64::NAN)), Ok(vec![Plain::Float(f64::NAN)]));
    assert_eq!(one(DType::Int32, Number::Int(-3)), Ok(ints(&[-3])));
    assert_eq!(one(DType::Bool, Number::Int(1)), Ok(ints(&[1])));
}

#[test]
fn number_that_does_not_fit_is_an_error() {
    let error = |dtype, number| {
        let numbers = [int(0, 0), [Some(Number::Int(0)), Some(number)]];
        array(Scalar { dtype, ..scalar(&[0, 1]) }, Order::Grouped, &numbers).unwrap_err()
    };
    let misfit = |value, column| CollateError::at(1, "rejected", Cause::Misfit { value, position: None, column });
    for (dtype, value) in [
        (DType::Int32, Number::Int(1 << 31)),
        (DType::Bool, Number::Int(2)),
        (DType::Bool, Number::Int(-1)),
        (DType::Float32, Number::Float(1e39)),
        (DType::Int64, Number::Unsigned(1 << 63)),
        (DType::Float64, Number::Unsigned(1 << 63)),
    ] {
        assert_eq!(error(dtype, value), misfit(value, dtype.name()));
    }
    for dtype in [DType::Int64, DType::Int32, DType::Bool] {
        let cause = Cause::DType { found: "float", column: dtype.name() };
        assert_eq!(error(dtype, Number::Float(1.0)), CollateError::at(1, "rejected", cause));
    }
}

#[test]
fn default_stands_in() {
    let with = |default, numbers: &[_]| {
        array(Scalar { default, dtype: DType::Int64, ..scalar(&[0, 1]) }, Order::Interleaved, numbers)
    };
    let numbers = [[None, Some(Number::Int(2))], [Some(Number::Int(3)), None], [None, None]];
    assert_eq!(with(Some(Number::Int(9)), &numbers), Ok(ints(&[9, 2, 3, 9, 9, 9])));
    assert_eq!(with(None, &numbers), Err(CollateError::at(0, "chosen", Cause::Missing)));
}

#[test]
fn optional_number_of_no_sample_is_left_out() {
    let scalars = [Scalar { optional: true, ..scalar(&[1]) }, scalar(&[0])];
    let chosen = |number| [Some(Number::Float(number)), None];
    let collated = collate_numbers(&scalars, Order::Grouped, &[chosen(0.5), chosen(1.5)]).unwrap();
    assert_eq!(collated.plan.scalars[0], None);
    let array = collated.plan.scalars[1].unwrap();
    assert_eq!(rows(&collated, &array), [[Plain::Float(0.5), Plain::Float(1.5)]]);
    let some = collate_numbers(&scalars, Order::Grouped, &[int(1, 1), chosen(1.5)]).map(|collated| collated.plan);
    assert_eq!(some, Err(CollateError::at(1, "rejected", Cause::MissingHere { other: 0 })));
}

#[test]
fn row_is_no_number() {
    // A key that is a row for a matrix has values, but no number.
    let layout = layout(&["ids"], vec![], vec![scalar(&[0])]);
    let source = Some(Values::Int64(&[1]).into());
    let found =
        plain(collate(&layout, Batch { sources: &[source], numbers: &[None] }, Request::default(), Memory::Heap));
    assert_eq!(found.map(|collated| collated.plan), Err(CollateError::at(0, "ids", Cause::Missing)));
}

fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        6 => (0_i64..=1).prop_map(Number::Int),
        1 => any::<i64>().prop_map(Number::Int),
        2 => (-1e9..1e9).prop_map(Number::Float),
        1 => select(vec![Number::Unsigned(1 << 63), Number::Float(1e39), Number::Float(f64::INFINITY)]),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn scalars_match_naive(
        numbers in vec(vec(prop::option::weighted(0.9, any_number()), 2), 1..5),
        given: bool,
        keys in select(vec![&[0_usize][..], &[1], &[0, 1], &[1, 0], &[0, 0]]),
        dtype in select(DType::NAMES.to_vec()),
        default in prop::option::of(any_number()),
        optional: bool,
        order in select(vec![Order::Grouped, Order::Interleaved]),
    ) {
        let numbers: Vec<Vec<Option<Number>>> = if given { numbers } else { vec![vec![None; 2]; numbers.len()] };
        let scalar = Scalar { dtype: dtype.1, default, optional, ..scalar(keys) };
        let expected = naive::scalar(order, &scalar, &numbers);
        let numbers: Vec<[Option<Number>; 2]> = numbers.iter().map(|pair| [pair[0], pair[1]]).collect();
        let found = collate_numbers(&[scalar], order, &numbers).ok();
        let array = |collated: Collated| {
            collated.plan.scalars[0].map_or(vec![], |array| rows(&collated, &array).concat())
        };
        prop_assert_eq!(found.map(array), expected);
    }
}
