//! Sizes beyond what there is: never a panic, always an error that says which row it was.

use _core::cells::DType;
use _core::error::{Cause, CollateError, Number};
use _core::layout::{Column, Content, Layout, Length, Matrix, Tail, Truncation};
use _core::plan::{Plan, Request};
use proptest::prelude::*;

use crate::build::{at_most, collate_sources, column, first_array, layout, length, matrix, plan, planned, scalar};
use crate::cases;
use crate::memory::{ints, repeated};

/// One row, joined of two segments, and its columns.
fn joined(length: Length, dtypes: &[DType]) -> Layout {
    let columns = dtypes.iter().map(|&dtype| Column { dtype, ..column(Content::Tokens) }).collect();
    layout(&["prompt", "chosen"], vec![Matrix { length, ..matrix(&[&[0, 1]], columns) }], vec![])
}

fn plan_of(layout: &Layout, lengths: &[(usize, usize)], request: Request) -> Result<Plan, CollateError> {
    let lengths: Vec<[Option<usize>; 2]> = lengths.iter().map(|&(a, b)| [Some(a), Some(b)]).collect();
    plan(layout, &lengths.iter().map(<[_; 2]>::as_slice).collect::<Vec<_>>(), request)
}

fn too_large(sample: usize, width: usize) -> CollateError {
    CollateError::at(sample, "chosen", Cause::TooLarge { width })
}

#[test]
fn huge_rows_are_too_large() {
    let layout = joined(length(), &[DType::Int64]);
    let plan = |lengths: &[(usize, usize)]| plan_of(&layout, lengths, Request::default());
    // 2^61 bytes could be; what is more is no size that memory can have.
    assert_eq!(plan(&[(1, 1), (0, 1 << 57)]).unwrap().bytes, 2 << 60);
    assert_eq!(plan(&[(1, 1), (0, 1 << 60)]), Err(too_large(1, 1 << 60)));
    assert_eq!(plan(&[(0, 1 << 60)]), Err(too_large(0, 1 << 60)));
    assert_eq!(plan(&[(1, 1), (0, 1 << 62)]), Err(too_large(1, 1 << 62)));
    assert_eq!(plan(&[(1 << 61, 1 << 61)]), Err(too_large(0, 1 << 62)));
    assert_eq!(plan(&[(0, usize::MAX)]), Err(too_large(0, usize::MAX)));
}

#[test]
fn rows_that_cannot_be_joined_are_too_large() {
    let layout = joined(at_most(4, Truncation::KeepStart), &[DType::Int64]);
    let found = plan_of(&layout, &[(3, 3), (usize::MAX, 1)], Request::default());
    assert!(matches!(&found, Err(CollateError { sample: Some(1), cause: Cause::TooLarge { .. }, .. })), "{found:?}");
    assert_eq!(found.unwrap_err().key.as_deref(), Some("chosen"));
}

#[test]
fn arrays_that_fit_alone_may_not_fit_together() {
    let most = 1 << 62;
    assert!(plan_of(&joined(length(), &[DType::Bool]), &[(0, most)], Request::default()).is_ok());
    let found = plan_of(&joined(length(), &[DType::Bool; 2]), &[(0, most)], Request::default());
    assert_eq!(found, Err(too_large(0, most)));
}

#[test]
fn rounding_up_may_be_too_large() {
    let found = |length, tokens, min_length| {
        let request = Request { min_length, ..Request::default() };
        plan_of(&joined(length, &[DType::Bool]), &[(0, tokens)], request)
    };
    let multiple_of = |multiple_of| Length { multiple_of, ..length() };
    assert_eq!(found(multiple_of(1 << 63), (1 << 63) + 1, 0), Err(too_large(0, (1 << 63) + 1)));
    assert_eq!(found(multiple_of(usize::MAX), 1, 0), Err(too_large(0, usize::MAX)));
    assert_eq!(found(length(), 1, usize::MAX), Err(too_large(0, usize::MAX)));
    // No multiple of 0 holds a row.
    assert_eq!(found(multiple_of(0), 1, 0), Err(too_large(0, 1)));
}

#[test]
fn batch_over_the_limit_names_its_longest_row() {
    let rows = |key| matrix(&[&[key]], vec![column(Content::Tokens)]);
    let layout = layout(&["chosen", "rejected"], vec![rows(0), rows(1)], vec![scalar(&[0])]);
    let lengths: [&[_]; 3] = [&[Some(16), Some(1)], &[Some(2), Some(40)], &[Some(3), Some(40)]];
    let limit = |limit| plan(&layout, &lengths, Request { max_bytes: Some(limit), ..Request::default() });
    // 3 × 16 × 8 = 384, 3 × 40 × 8 = 960, 3 × 4 = 12
    assert_eq!(limit(384 + 960 + 12).unwrap().bytes, 1356);
    let cause = Cause::OverLimit { width: 40, bytes: 1356, limit: 1355 };
    assert_eq!(limit(1355), Err(CollateError::at(1, "rejected", cause)));
    let cause = Cause::OverLimit { width: 40, bytes: 1356, limit: 0 };
    assert_eq!(limit(0), Err(CollateError::at(1, "rejected", cause)));
}

#[test]
fn limit_counts_padding() {
    let layout = joined(Length { multiple_of: 64, ..length() }, &[DType::Int32]);
    let limit = |limit| plan_of(&layout, &[(1, 2), (0, 1)], Request { max_bytes: Some(limit), ..Request::default() });
    assert!(limit(2 * 64 * 4).is_ok());
    let cause = Cause::OverLimit { width: 64, bytes: 512, limit: 511 };
    assert_eq!(limit(511), Err(CollateError::at(0, "chosen", cause)));
}

#[test]
fn refused_memory_is_an_error() {
    // 2^51 bytes: more than an address can name on any machine of today.
    let (layout, value) = (joined(length(), &[DType::Int64]), 7);
    let row = |len| Some(repeated(&value, len));
    let found = collate_sources(&layout, &[row(0), row(1 << 48)]);
    assert_eq!(found.unwrap_err(), CollateError::of_batch(Cause::OutOfMemory { bytes: 1 << 51 }));
    let found = collate_sources(&layout, &[row(1), row(1 << 62)]);
    assert_eq!(found.unwrap_err(), too_large(0, (1 << 62) + 1));
}

#[test]
fn huge_rows_can_be_truncated() {
    let value = 7;
    let row = |len| Some(repeated(&value, len));
    for truncation in [Truncation::KeepStart, Truncation::KeepEnd] {
        let layout = joined(at_most(3, truncation), &[DType::Int64]);
        let collated = collate_sources(&layout, &[row(1 << 62), row(1 << 62)]).unwrap();
        assert_eq!(ints(&collated, &first_array(&collated.plan)), [[7, 7, 7]]);
        assert_eq!(planned(&collated.plan, 0).rows[0].tokens, 1 << 63);
    }
}

#[test]
fn pad_that_does_not_fit_is_an_error() {
    let pad = Number::Int(2);
    let columns = vec![Column { dtype: DType::Bool, pad, ..column(Content::Ones) }];
    let layout = layout(&["ids"], vec![matrix(&[&[0]], columns)], vec![]);
    let error = collate_sources(&layout, &[Some(repeated(&1, 3))]).unwrap_err();
    assert_eq!(error.cause, Cause::Misfit { value: pad, position: None, column: "bool" });
}

/// A row of two segments, one column of int32, at the end of what int32 holds.
fn narrow(column: Column) -> Layout {
    layout(&["prompt", "chosen"], vec![matrix(&[&[0, 1]], vec![Column { dtype: DType::Int32, ..column }])], vec![])
}

const LAST: i64 = i32::MAX as i64;

fn too_far(sample: usize, value: i64) -> CollateError {
    CollateError::at(sample, "chosen", Cause::TooFar { value: Number::Int(value), column: "int32" })
}

/// The array of two samples, of so many tokens each.
fn counted(layout: &Layout, tokens: [[usize; 2]; 2]) -> Result<Vec<Vec<i64>>, CollateError> {
    let sources = tokens.as_flattened().iter().map(|&tokens| Some(repeated(&7, tokens))).collect::<Vec<_>>();
    let collated = collate_sources(layout, &sources)?;
    Ok(ints(&collated, &first_array(&collated.plan)))
}

#[test]
fn positions_end_where_the_dtype_does() {
    let position = Column { start: LAST - 2, ..column(Content::Position) };
    let layout = narrow(position.clone());
    assert_eq!(counted(&layout, [[2, 1], [0, 1]]), Ok(vec![vec![LAST - 2, LAST - 1, LAST], vec![LAST - 2, 0, 0]]));
    assert_eq!(counted(&layout, [[2, 0], [2, 2]]), Err(too_far(1, LAST + 1)));
    assert_eq!(counted(&layout, [[9, 0], [0, 0]]), Err(too_far(0, LAST + 1)));
    // Padding that goes on may not go further either, nor may the tail.
    let continues = Column { continues: true, ..position };
    let mut layout = narrow(continues);
    assert!(counted(&layout, [[2, 1], [0, 1]]).is_ok());
    layout.matrices[0].length.min_length = 4;
    assert_eq!(counted(&layout, [[2, 1], [0, 1]]), Err(too_far(0, LAST + 1)));
    layout.matrices[0].flat = Some(Tail::Outside);
    assert!(counted(&layout, [[0, 1], [0, 0]]).is_ok());
    layout.matrices[0].length.min_length = 5;
    assert_eq!(counted(&layout, [[0, 1], [0, 0]]), Err(too_far(1, LAST + 1)));
}

#[test]
fn rows_and_segments_end_where_the_dtype_does() {
    let rows = narrow(Column { start: LAST, ..column(Content::Row) });
    assert_eq!(counted(&rows, [[1, 1], [1, 0]]), Err(too_far(1, LAST + 1)));
    let segments = Column { start: LAST, ..column(Content::Segment) };
    assert_eq!(counted(&narrow(segments.clone()), [[1, 0], [1, 1]]), Err(too_far(1, LAST + 1)));
    // Only what is shown has to fit.
    assert_eq!(counted(&rows, [[1, 0], [0, 0]]), Ok(vec![vec![LAST], vec![0]]));
    assert_eq!(counted(&narrow(segments.clone()), [[1, 0], [1, 0]]), Ok(vec![vec![LAST]; 2]));
    let off = Column { on: Some(vec![true, false]), ..segments };
    assert_eq!(counted(&narrow(off), [[1, 1], [1, 1]]), Ok(vec![vec![LAST, 0]; 2]));
    let before = narrow(Column { start: -LAST - 2, ..column(Content::Row) });
    assert_eq!(counted(&before, [[1, 0], [1, 0]]), Err(too_far(0, -LAST - 2)));
}

#[test]
fn numbers_end_where_int64_does() {
    let layout = |column: Column| {
        let column = Column { start: i64::MAX, ..column };
        layout(&["prompt", "chosen"], vec![matrix(&[&[0, 1]], vec![column])], vec![])
    };
    let value = Number::Unsigned(1 << 63);
    let error = |sample| CollateError::at(sample, "chosen", Cause::TooFar { value, column: "int64" });
    for (content, sample) in [(Content::Position, 0), (Content::Segment, 0), (Content::Row, 1)] {
        let layout = layout(column(content));
        assert_eq!(counted(&layout, [[1, 1], [1, 0]]), Err(error(sample)));
        assert_eq!(counted(&layout, [[1, 0], [0, 0]]), Ok(vec![vec![i64::MAX], vec![0]]));
    }
    let continues = layout(Column { continues: true, ..column(Content::Position) });
    assert_eq!(counted(&continues, [[1, 0], [1, 0]]), Ok(vec![vec![i64::MAX]; 2]));
    assert_eq!(counted(&continues, [[0, 1], [1, 1]]), Err(error(0)));
}

#[test]
fn lengths_end_where_the_dtype_does() {
    let most = i32::MAX as usize;
    let lengths = narrow(column(Content::Length));
    assert_eq!(counted(&lengths, [[most, 0], [0, 1]]), Ok(vec![vec![LAST, 1]]));
    assert_eq!(counted(&lengths, [[0, 1], [most, 1]]), Err(too_far(1, LAST + 1)));
    let ends = narrow(column(Content::CuSeqLens));
    assert_eq!(counted(&ends, [[most - 1, 0], [0, 1]]), Ok(vec![vec![0, LAST - 1, LAST]]));
    // The sum; the longest row is named.
    assert_eq!(counted(&ends, [[most - 1, 0], [0, 2]]), Err(too_far(0, LAST + 1)));
    let wide = layout(&["prompt", "chosen"], vec![matrix(&[&[0, 1]], vec![column(Content::CuSeqLens)])], vec![]);
    assert_eq!(counted(&wide, [[most, 0], [most, 0]]), Ok(vec![vec![0, LAST, 2 * LAST]]));
    // Of rows that are equally long, the first.
    assert_eq!(counted(&ends, [[most, 0], [most, 0]]), Err(too_far(0, 2 * LAST)));
}

#[test]
fn lengths_beyond_int64_are_named() {
    let most = isize::MAX.cast_unsigned();
    let error = |sample, value| {
        let value = Number::Unsigned(value);
        Err(CollateError::at(sample, "chosen", Cause::TooFar { value, column: "int64" }))
    };
    let found = |content, tokens| {
        let rows = matrix(&[&[0, 1]], vec![column(content)]);
        counted(&layout(&["prompt", "chosen"], vec![rows], vec![]), tokens)
    };
    assert_eq!(found(Content::Length, [[most, 0], [0, 0]]), Ok(vec![vec![i64::MAX, 0]]));
    assert_eq!(found(Content::Length, [[most, 1], [0, 0]]), error(0, 1 << 63));
    assert_eq!(found(Content::CuSeqLens, [[most, 0], [1, 0]]), error(0, 1 << 63));
    assert_eq!(found(Content::CuSeqLens, [[most, 0], [most, 0]]), error(0, u64::MAX - 1));
    // A sum that is beyond any number is said to be the last one.
    assert_eq!(found(Content::CuSeqLens, [[2, 0], [most, most]]), error(1, u64::MAX));
}

#[test]
fn window_may_lie_at_the_end_of_all_numbers() {
    // Rows that are cut from the end of more tokens than memory has, and shifted beyond what is left.
    let shifted = |skip, shift| Column { skip, shift, ..column(Content::Tokens) };
    let columns = vec![shifted(1, 1), shifted(usize::MAX, usize::MAX), shifted(0, usize::MAX)];
    let length = at_most(3, Truncation::KeepEnd);
    let layout = layout(&["prompt", "chosen"], vec![Matrix { length, ..matrix(&[&[0, 1]], columns) }], vec![]);
    let most = isize::MAX.cast_unsigned();
    assert_eq!(counted(&layout, [[most, most], [most, 0]]), Ok(vec![vec![0, 7, 0]; 2]));
}

/// Any size, and those at which something overflows.
fn any_size() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => 0_usize..100,
        1 => any::<usize>(),
        2 => (0_u32..64, -2_isize..=2).prop_map(|(bit, more)| (1_usize << bit).saturating_add_signed(more)),
        1 => usize::MAX - 2..=usize::MAX,
        1 => (1_usize << 63) - 5000..(1 << 63) - 4000,
    ]
}

/// The bytes of the block, or none if they are more than an allocation can have.
fn naive_bytes(length: &Length, dtypes: &[DType], tokens: &[(usize, usize)], request: Request) -> Option<u128> {
    let wide = |size: usize| size as u128;
    let joined: Vec<u128> = tokens.iter().map(|&(a, b)| wide(a) + wide(b)).collect();
    if joined.iter().any(|&tokens| tokens > wide(usize::MAX)) {
        return None;
    }
    let kept = joined.iter().map(|&tokens| tokens.min(length.max_length.map_or(u128::MAX, wide))).max()?;
    let least = kept.max(wide(length.min_length)).max(wide(request.min_length));
    let width = match length.buckets.as_slice() {
        [] => least.div_ceil(wide(length.multiple_of)) * wide(length.multiple_of),
        buckets => buckets.iter().map(|&bucket| wide(bucket)).find(|&bucket| bucket >= least)?,
    };
    let mut bytes = 0;
    for dtype in dtypes {
        bytes = u128::next_multiple_of(bytes, 64) + wide(tokens.len()) * width * wide(dtype.size());
    }
    // Python's layer hands widths on even where there is no column.
    (bytes < (1 << 63) - 1 - 4096 && width <= wide(usize::MAX)).then_some(bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * cases().cases, ..cases() })]

    #[test]
    fn sizes_match_naive(
        tokens in prop::collection::vec((any_size(), any_size()), 1..4),
        max_length in prop::option::of(any_size()),
        keep_end: bool,
        min_length in prop_oneof![3 => Just(0), 1 => any_size()],
        multiple_of in prop_oneof![2 => Just(1), 1 => any_size().prop_map(|size| size.max(1))],
        mut buckets in prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(any_size(), 1..4)],
        dtypes in prop::collection::vec(prop::sample::select(DType::NAMES.map(|(_, dtype)| dtype).to_vec()), 0..4),
        least in prop_oneof![3 => Just(0), 1 => any_size()],
        max_bytes in prop::option::of(any_size()),
    ) {
        buckets.sort_unstable();
        let truncation = if keep_end { Truncation::KeepEnd } else { Truncation::KeepStart };
        let length = Length { max_length, truncation, min_length, multiple_of, buckets, row_multiple_of: 1 };
        let request = Request { min_length: least, max_bytes };
        let bytes = naive_bytes(&length, &dtypes, &tokens, request);
        match (plan_of(&joined(length, &dtypes), &tokens, request), bytes) {
            (Ok(plan), bytes) => {
                prop_assert_eq!(Some(plan.bytes as u128), bytes);
                prop_assert!(max_bytes.is_none_or(|limit| plan.bytes <= limit));
            }
            (Err(error), None) => {
                prop_assert!(matches!(error.cause, Cause::TooLarge { .. } | Cause::NoBucket { .. }), "{}", error);
            }
            (Err(error), Some(needed)) => {
                let Cause::OverLimit { bytes, limit, .. } = error.cause else { panic!("{error}, for {needed} bytes") };
                prop_assert!(bytes as u128 == needed && Some(limit) == max_bytes && bytes > limit);
            }
        }
    }
}
