//! Sizes beyond what there is: never a panic, always an error that says which row it was.

use _core::cells::DType;
use _core::error::{Cause, CollateError, Number};
use _core::layout::{Column, Content, Layout, Length, Matrix, Truncation};
use _core::plan::{Plan, Request};
use proptest::prelude::*;

use crate::build::{at_most, collate_sources, column, layout, length, matrix, plan, scalar};
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
        assert_eq!(ints(&collated, &collated.plan.matrices[0].columns[0].array), [[7, 7, 7]]);
        assert_eq!(collated.plan.matrices[0].rows[0].tokens, 1 << 63);
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
        let length = Length { max_length, truncation, min_length, multiple_of, buckets };
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
