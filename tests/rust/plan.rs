//! Plans: rows, windows, widths, and where arrays lie.

use _core::cells::{ALIGNMENT, DType};
use _core::error::{Cause, CollateError};
use _core::layout::{Column, Content, Layout, Length, Matrix, Order, Scalar, Truncation};
use _core::plan::{Array, Lengths, Plan, Request, Row};
use proptest::prelude::*;

use crate::build::{array, at_most, column, layout, length, matrix, plan, planned, scalar};
use crate::cases;
use crate::naive_matrix;
use crate::random::any_length;

/// One matrix of one row of 'ids', and one column.
fn one_row(length: Length) -> Layout {
    layout(&["ids"], vec![Matrix { length, ..matrix(&[&[0]], vec![column(Content::Tokens)]) }], vec![])
}

/// The width that rows of these lengths get.
fn width(length: Length, tokens: &[usize], min_length: usize) -> Result<usize, CollateError> {
    let lengths: Vec<Option<usize>> = tokens.iter().copied().map(Some).collect();
    let request = Request { min_length, ..Request::default() };
    Ok(planned(&Plan::new(&one_row(length), Lengths::new(&lengths, 1), request)?, 0).width)
}

/// The windows of rows of these lengths.
fn windows(length: Length, tokens: &[usize]) -> Result<Vec<(usize, usize)>, CollateError> {
    let lengths: Vec<Option<usize>> = tokens.iter().copied().map(Some).collect();
    let plan = Plan::new(&one_row(length), Lengths::new(&lengths, 1), Request::default())?;
    Ok(planned(&plan, 0).rows.iter().map(|row| (row.start, row.end)).collect())
}

#[test]
fn width_is_that_of_the_longest_row() {
    assert_eq!(width(length(), &[3, 7, 5], 0), Ok(7));
    assert_eq!(width(length(), &[0, 0], 0), Ok(0));
    assert_eq!(width(at_most(5, Truncation::KeepStart), &[3, 7], 0), Ok(5));
    assert_eq!(width(at_most(8, Truncation::KeepStart), &[3, 7], 0), Ok(7));
    assert_eq!(width(at_most(0, Truncation::KeepEnd), &[3, 7], 0), Ok(0));
}

#[test]
fn width_is_at_least_what_is_asked_for() {
    assert_eq!(width(Length { min_length: 9, ..length() }, &[3, 7], 0), Ok(9));
    assert_eq!(width(Length { min_length: 5, ..length() }, &[3, 7], 0), Ok(7));
    assert_eq!(width(length(), &[3, 7], 9), Ok(9));
    assert_eq!(width(Length { min_length: 9, ..length() }, &[3, 7], 11), Ok(11));
    assert_eq!(width(Length { min_length: 11, ..length() }, &[3, 7], 9), Ok(11));
    // More than `max_length`, which is about the tokens of a row.
    assert_eq!(width(at_most(5, Truncation::KeepStart), &[3, 7], 9), Ok(9));
}

#[test]
fn width_that_fits_a_multiple_stays() {
    let multiple_of = |multiple_of| Length { multiple_of, ..length() };
    assert_eq!(width(multiple_of(8), &[16], 0), Ok(16));
    assert_eq!(width(multiple_of(8), &[15], 0), Ok(16));
    assert_eq!(width(multiple_of(8), &[17], 0), Ok(24));
    assert_eq!(width(multiple_of(8), &[0], 0), Ok(0));
    assert_eq!(width(multiple_of(8), &[3], 9), Ok(16));
    assert_eq!(width(multiple_of(7), &[3], 0), Ok(7));
}

#[test]
fn width_is_the_least_bucket_that_fits() {
    let buckets = Length { buckets: vec![8, 16, 64], ..length() };
    for (tokens, bucket) in [(0, 8), (1, 8), (8, 8), (9, 16), (16, 16), (17, 64), (63, 64), (64, 64)] {
        assert_eq!(width(buckets.clone(), &[1, tokens, 0], 0), Ok(bucket), "{tokens}");
    }
    assert_eq!(width(buckets.clone(), &[3], 9), Ok(16));
    let error = CollateError::at(1, "ids", Cause::NoBucket { width: 65, largest: 64 });
    assert_eq!(width(buckets.clone(), &[3, 65, 4], 0), Err(error));
    // It is the row after truncation that has to fit.
    assert_eq!(width(Length { max_length: Some(64), ..buckets }, &[65], 0), Ok(64));
}

#[test]
fn windows_keep_the_start_or_the_end() {
    assert_eq!(windows(at_most(4, Truncation::KeepStart), &[3, 4, 5, 9]), Ok(vec![(0, 3), (0, 4), (0, 4), (0, 4)]));
    assert_eq!(windows(at_most(4, Truncation::KeepEnd), &[3, 4, 5, 9]), Ok(vec![(0, 3), (0, 4), (1, 5), (5, 9)]));
    assert_eq!(windows(at_most(4, Truncation::Error), &[3, 4]), Ok(vec![(0, 3), (0, 4)]));
    let error = CollateError::at(1, "ids", Cause::TooLong { tokens: 5, max_length: 4 });
    assert_eq!(windows(at_most(4, Truncation::Error), &[4, 5, 6]), Err(error));
}

#[test]
fn joined_rows_are_named_by_their_last_key() {
    let length = at_most(4, Truncation::Error);
    let rows = Matrix { length, ..matrix(&[&[0, 1], &[0, 2]], vec![]) };
    let layout = layout(&["prompt", "chosen", "rejected"], vec![rows], vec![]);
    let found = plan(&layout, &[&[Some(2), Some(2), Some(2)], &[Some(2), Some(1), Some(3)]], Request::default());
    assert_eq!(found, Err(CollateError::at(1, "rejected", Cause::TooLong { tokens: 5, max_length: 4 })));
}

#[test]
fn rows_come_in_the_order_of_the_layout() {
    // Padded, so that every row takes the width of the longest.
    let row = |sample, part, tokens| Row { sample, part, start: 0, end: tokens, tokens, content: tokens, cells: 4 };
    let lengths: [&[_]; 2] = [&[Some(1), Some(2)], &[Some(3), Some(4)]];
    let mut layout = layout(&["chosen", "rejected"], vec![matrix(&[&[0], &[1]], vec![])], vec![]);
    let grouped = plan(&layout, &lengths, Request::default()).unwrap();
    assert_eq!(planned(&grouped, 0).rows, [row(0, 0, 1), row(1, 0, 3), row(0, 1, 2), row(1, 1, 4)]);
    layout.order = Order::Interleaved;
    let interleaved = plan(&layout, &lengths, Request::default()).unwrap();
    assert_eq!(planned(&interleaved, 0).rows, [row(0, 0, 1), row(0, 1, 2), row(1, 0, 3), row(1, 1, 4)]);
}

#[test]
fn entries_of_no_sample_or_no_part() {
    for order in [Order::Grouped, Order::Interleaved] {
        assert_eq!(order.entries(2, 0).count(), 0);
        assert_eq!(order.entries(0, 2).count(), 0);
    }
}

#[test]
fn arrays_lie_on_cache_lines() {
    let masks = || column(Content::Ones);
    let columns = vec![Column { dtype: DType::Bool, ..masks() }, Column { dtype: DType::Int32, ..masks() }, masks()];
    let layout = layout(
        &["chosen", "rejected", "margin"],
        vec![matrix(&[&[0]], columns.clone()), matrix(&[&[1]], columns)],
        vec![scalar(&[2]), scalar(&[2, 2])],
    );
    let plan =
        plan(&layout, &[&[Some(3), Some(8), Some(1)], &[Some(9), Some(2), Some(1)]], Request::default()).unwrap();
    let place = |dtype, width, offset| Array { dtype, rows: 2, width, offset };
    let arrays: Vec<Array> =
        plan.matrices.iter().flatten().flat_map(|matrix| matrix.columns.iter().map(array)).collect();
    let expected = [
        place(DType::Bool, Some(9), 0),    // 18 bytes
        place(DType::Int32, Some(9), 64),  // 72
        place(DType::Int64, Some(9), 192), // 144
        place(DType::Bool, Some(8), 384),  // 16
        place(DType::Int32, Some(8), 448), // 64
        place(DType::Int64, Some(8), 512), // 128
    ];
    assert_eq!(arrays, expected);
    let four = Array { rows: 4, ..place(DType::Float32, None, 704) };
    assert_eq!(plan.scalars, [Some(place(DType::Float32, None, 640)), Some(four)]);
    assert_eq!(plan.bytes, 704 + 16);
    assert_eq!(ALIGNMENT, 64);
}

#[test]
fn truncated_samples_are_listed_once() {
    let length = at_most(4, Truncation::KeepEnd);
    let rows = |rows: &[&[_]]| Matrix { length: length.clone(), ..matrix(rows, vec![]) };
    let layout = layout(&["chosen", "rejected"], vec![rows(&[&[1]]), rows(&[&[0], &[1]])], vec![]);
    let lengths: [&[_]; 5] =
        [&[Some(4), Some(5)], &[Some(4), Some(4)], &[Some(9), Some(9)], &[Some(0), Some(0)], &[Some(5), Some(0)]];
    assert_eq!(plan(&layout, &lengths, Request::default()).unwrap().truncated, [0, 2, 4]);
}

#[test]
fn batch_of_no_sample_is_an_error() {
    let numbers = layout(&["margin"], vec![], vec![Scalar { optional: true, ..scalar(&[0]) }]);
    for layout in [one_row(length()), numbers] {
        let found = plan(&layout, &[], Request::default());
        assert_eq!(found, Err(CollateError::of_batch(Cause::EmptyBatch)));
    }
}

#[test]
#[should_panic(expected = "3 lengths of 2 keys")]
fn lengths_of_half_a_sample_panic() {
    let _ = Lengths::new(&[None; 3], 2);
}

#[test]
fn lengths_know_their_samples() {
    assert_eq!(Lengths::new(&[None; 6], 2).samples(), 3);
    assert_eq!(Lengths::new(&[], 2).samples(), 0);
}

fn any_dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::NAMES.map(|(_, dtype)| dtype).to_vec())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn width_matches_naive(
        length in any_length(),
        tokens in prop::collection::vec(0_usize..50, 1..6),
        min_length in 0_usize..30,
    ) {
        let rows: Result<Vec<Vec<()>>, _> =
            tokens.iter().map(|&tokens| naive_matrix::cut(&vec![(); tokens], &length)).collect();
        let longest = rows.map(|rows| rows.iter().map(Vec::len).max().unwrap());
        let expected = longest.and_then(|longest| naive_matrix::width(longest, &length, min_length));
        prop_assert_eq!(width(length, &tokens, min_length).ok(), expected.ok());
    }

    #[test]
    fn windows_match_naive(length in any_length(), tokens in prop::collection::vec(0_usize..50, 1..6)) {
        let length = Length { buckets: vec![], ..length };
        let cut = |&tokens: &usize| naive_matrix::cut(&(0..tokens).collect::<Vec<_>>(), &length);
        let expected: Result<Vec<Vec<usize>>, _> = tokens.iter().map(cut).collect();
        let windows = windows(length.clone(), &tokens).ok();
        prop_assert_eq!(windows.map(|w| w.into_iter().map(|(start, end)| (start..end).collect()).collect()), expected.ok());
    }

    #[test]
    fn arrays_lie_apart_inside_the_block(
        matrices in prop::collection::vec((1_usize..3, prop::collection::vec(any_dtype(), 0..4)), 0..4),
        scalars in prop::collection::vec((any_dtype(), 1_usize..3), 0..3),
        tokens in prop::collection::vec((0_usize..40, 0_usize..40), 1..6),
    ) {
        let columns = |dtypes: &Vec<_>| dtypes.iter().map(|&dtype| Column { dtype, ..column(Content::Ones) }).collect();
        let rows = |parts| [&[0_usize][..], &[1]][..parts].to_vec();
        let layout = layout(
            &["chosen", "rejected"],
            matrices.iter().map(|(parts, dtypes)| matrix(&rows(*parts), columns(dtypes))).collect(),
            scalars.iter().map(|&(dtype, parts)| Scalar { dtype, ..scalar(&[0, 1][..parts]) }).collect(),
        );
        let lengths: Vec<_> = tokens.iter().flat_map(|&(a, b)| [Some(a), Some(b)]).collect();
        let plan = Plan::new(&layout, Lengths::new(&lengths, 2), Request::default()).unwrap();
        let mut arrays: Vec<Array> = plan.scalars.iter().copied().flatten().collect();
        arrays.extend(plan.matrices.iter().flatten().flat_map(|matrix| matrix.columns.iter().map(array)));
        prop_assert_eq!(arrays.len(), scalars.len() + matrices.iter().map(|(_, dtypes)| dtypes.len()).sum::<usize>());
        let bytes = |array: &Array| array.rows * array.width.unwrap_or(1) * array.dtype.size();
        arrays.sort_unstable_by_key(|array| (array.offset, bytes(array)));
        let mut end = 0;
        for array in arrays {
            // Nothing overlaps, and less than a cache line lies between one array and the next.
            prop_assert!((end..end + 64).contains(&array.offset), "{:?} after {}", array, end);
            prop_assert_eq!(array.offset % 64, 0);
            end = array.offset + bytes(&array);
        }
        prop_assert_eq!(plan.bytes, end);
    }
}
