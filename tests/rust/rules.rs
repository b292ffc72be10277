//! What a batch is refused for while it is filled: values that do not fit, rows with nothing in them.

use _core::cells::{DType, Element, Values};
use _core::collate::Collated;
use _core::error::{Cause, CollateError, Number};
use _core::layout::{Absent, Column, Content, Layout, Matrix, Truncation};
use _core::source::Source;

use crate::build::{at_most, collate_samples, collate_sources, column, first_array, layout, length, matrix, parallel};
use crate::memory::{Form, Stored, ints, repeated, rows};
use crate::naive::{Plain, Sample};

/// 'ids' and their 'labels'.
fn labelled(column: Column, max_length: Option<(usize, Truncation)>) -> Layout {
    let length = max_length.map_or_else(length, |(most, truncation)| at_most(most, truncation));
    layout(&["ids", "labels"], vec![Matrix { length, ..matrix(&[&[0]], vec![column]) }], vec![])
}

fn labels() -> Column {
    Column { pad: Number::Int(-100), ..column(parallel(&[&[1]])) }
}

/// Samples whose tokens are as many as their labels.
fn samples(labels: &[&[i64]]) -> Vec<Sample> {
    labels.iter().map(|labels| vec![Some((0..).take(labels.len()).collect()), Some(labels.to_vec())]).collect()
}

fn first_column(collated: &Collated) -> Vec<Vec<Plain>> {
    rows(collated, &first_array(&collated.plan))
}

fn err(result: Result<Collated, CollateError>) -> CollateError {
    result.map(|collated| collated.plan).unwrap_err()
}

const END: Option<(usize, Truncation)> = Some((2, Truncation::KeepEnd));
const START: Option<(usize, Truncation)> = Some((2, Truncation::KeepStart));

#[test]
fn value_that_does_not_fit_is_named() {
    let narrow = Column { dtype: DType::Int32, ..labels() };
    let misfit = |position| Cause::Misfit { value: Number::Int(1 << 31), position: Some(position), column: "int32" };
    let error = |max, labels: &[&[i64]]| err(collate_samples(&labelled(narrow.clone(), max), &samples(labels)));
    assert_eq!(error(None, &[&[1], &[5, 1 << 31, 1 << 31]]), CollateError::at(1, "labels", misfit(1)));
    // The position is that in the sample, also where the row is cut.
    assert_eq!(error(END, &[&[5, 5, 5, 1 << 31]]), CollateError::at(0, "labels", misfit(3)));
    // What is cut away is not looked at.
    let cut = collate_samples(&labelled(narrow, START), &samples(&[&[5, 6, 1 << 31]])).unwrap();
    assert_eq!(ints(&cut, &first_array(&cut.plan)), [[5, 6]]);
}

#[test]
fn misfit_in_a_later_run_or_segment_is_named() {
    let narrow = Column { dtype: DType::Int32, ..column(Content::Tokens) };
    let rows = Matrix { length: at_most(600, Truncation::KeepEnd), ..matrix(&[&[0, 1]], vec![narrow]) };
    let layout = layout(&["prompt", "chosen"], vec![rows], vec![]);
    // Apart in memory, so read in runs. The row of 10 + 700 loses its first 110 tokens.
    let form = Form { stride: 16, ..Form::plain(Element::Int64) };
    for place in [100, 101, 355, 356, 357, 611, 612, 613, 699] {
        let mut chosen = vec![0; 700];
        chosen[place] = i64::MIN;
        let (prompt, chosen) = (Stored::of(&[i64::MAX; 10], form), Stored::of(&chosen, form));
        let sources = [&prompt, &chosen].map(|stored| Some(stored.strided().into_source()));
        let cause = Cause::Misfit { value: Number::Int(i64::MIN), position: Some(place), column: "int32" };
        assert_eq!(err(collate_sources(&layout, &sources)), CollateError::at(0, "chosen", cause));
    }
}

#[test]
fn unsigned_value_beyond_int64_is_named() {
    let ids: Source<'_> = Values::UInt64(&[1, u64::MAX]).into();
    let cause = Cause::Misfit { value: Number::Unsigned(u64::MAX), position: Some(1), column: "int64" };
    let found = collate_sources(&labelled(column(Content::Tokens), None), &[Some(ids), None]);
    assert_eq!(err(found), CollateError::at(0, "ids", cause));
}

#[test]
fn floats_are_no_tokens() {
    let float = |dtype, values| {
        let column = Column { dtype, ..column(Content::Tokens) };
        collate_sources(&labelled(column, None), &[Some(Source::Contiguous(values)), None])
    };
    let error = |found, column| CollateError::at(0, "ids", Cause::DType { found, column });
    assert_eq!(err(float(DType::Int64, Values::Float32(&[1.0]))), error("float32", "int64"));
    assert_eq!(err(float(DType::Bool, Values::Float64(&[1.0]))), error("float64", "bool"));
    // `torch.tensor([])` is float32, but holds nothing that could be misread.
    assert_eq!(first_column(&float(DType::Int64, Values::Float32(&[])).unwrap()), [[]]);
    let weights = float(DType::Float32, Values::Float64(&[0.5, f64::NAN])).unwrap();
    assert_eq!(first_column(&weights), [[Plain::Float(0.5), Plain::Float(f64::NAN)]]);
    let cause = Cause::Misfit { value: Number::Float(1e39), position: Some(0), column: "float32" };
    assert_eq!(err(float(DType::Float32, Values::Float64(&[1e39]))), CollateError::at(0, "ids", cause));
}

#[test]
fn mask_can_be_made_out_of_floats() {
    let mask = Column { differs_from: Some(Number::Int(-100)), dtype: DType::Bool, ..labels() };
    let (ids, scores) = (Values::Int64(&[1, 2, 3]), Values::Float32(&[-100.0, 0.0, f32::NAN]));
    let mask = Column { pad: Number::Int(0), ..mask };
    let collated = collate_sources(&labelled(mask, None), &[Some(ids.into()), Some(scores.into())]).unwrap();
    assert_eq!(ints(&collated, &first_array(&collated.plan)), [[0, 1, 1]]);
}

#[test]
fn tokens_are_integers_whatever_is_shown_of_them() {
    let error = CollateError::at(0, "ids", Cause::DType { found: "float32", column: "int64" });
    let compared = Column { differs_from: Some(Number::Int(0)), ..column(Content::Tokens) };
    for shown in [compared, column(Content::Ones), Column { differs_from: Some(Number::Int(0)), ..labels() }] {
        let ids: [Source<'_>; 2] = [Values::Float32(&[1.0]).into(), Values::Float32(&[]).into()];
        let labels: [Source<'_>; 2] = [Values::Int64(&[1]).into(), Values::Int64(&[]).into()];
        let collate = |row: usize| {
            collate_sources(&labelled(shown.clone(), None), &[Some(ids[row].clone()), Some(labels[row].clone())])
        };
        assert_eq!(err(collate(0)), error, "{shown:?}");
        assert!(collate(1).is_ok(), "an empty row holds no floats: {shown:?}");
    }
}

#[test]
fn truncation_may_not_remove_all_that_is_scored() {
    let scored = Column { scored: true, ..labels() };
    let found = |max, labels: &[&[i64]]| collate_samples(&labelled(scored.clone(), max), &samples(labels));
    let error = |sample, tokens, kept| CollateError::at(sample, "labels", Cause::NothingToScore { tokens, kept });
    assert_eq!(err(found(START, &[&[1], &[-100, -100, 7]])), error(1, 3, 2));
    assert_eq!(err(found(END, &[&[7, -100, -100, -100]])), error(0, 4, 2));
    assert_eq!(err(found(Some((0, Truncation::KeepEnd)), &[&[7]])), error(0, 1, 0));
    // One label is left, at either edge of the window.
    assert!(found(START, &[&[-100, 7, 8]]).is_ok());
    assert!(found(START, &[&[7, -100, 8]]).is_ok());
    assert!(found(END, &[&[7, 8, -100]]).is_ok());
    // No row of these is cut: what they hold is the sample's business.
    assert!(found(START, &[&[-100, -100], &[]]).is_ok());
    assert!(found(None, &[&[-100, -100, -100]]).is_ok());
}

#[test]
fn truncation_may_not_remove_a_whole_completion() {
    let completion = Column { on: Some(vec![false, true]), scored: true, ..column(Content::Ones) };
    let layout = |most| {
        let length = at_most(most, Truncation::KeepStart);
        layout(&["prompt", "chosen"], vec![Matrix { length, ..matrix(&[&[0, 1]], vec![completion.clone()]) }], vec![])
    };
    let sample = vec![Some(vec![1, 2, 3]), Some(vec![4, 5])];
    let kept = collate_samples(&layout(4), std::slice::from_ref(&sample)).unwrap();
    assert_eq!(ints(&kept, &first_array(&kept.plan)), [[0, 0, 0, 1]]);
    let error = CollateError::at(0, "chosen", Cause::NothingToScore { tokens: 5, kept: 3 });
    assert_eq!(err(collate_samples(&layout(3), std::slice::from_ref(&sample))), error);
    // No row is cut here: an empty completion is the sample's business.
    let empty = [vec![Some(vec![1, 2, 3]), Some(vec![])]];
    assert!(collate_samples(&layout(3), &empty).is_ok());
}

#[test]
fn of_a_completion_any_token_is_scored() {
    // 0 is the pad, and a token like any other: it is what truncation leaves of the completion.
    let completion = Column { on: Some(vec![false, true]), scored: true, ..column(Content::Tokens) };
    let length = at_most(3, Truncation::KeepStart);
    let layout = layout(&["prompt", "chosen"], vec![Matrix { length, ..matrix(&[&[0, 1]], vec![completion]) }], vec![]);
    let kept = collate_samples(&layout, &[vec![Some(vec![1, 2]), Some(vec![0, 5])]]).unwrap();
    assert_eq!(ints(&kept, &first_array(&kept.plan)), [[0, 0, 0]]);
    assert!(collate_samples(&layout, &[vec![Some(vec![1, 2, 3]), Some(vec![0, 5])]]).is_err());
}

#[test]
fn truncation_is_not_to_blame_where_nothing_was_scored() {
    let scored = Column { scored: true, ..labels() };
    let found = |labels: &[&[i64]]| collate_samples(&labelled(scored.clone(), START), &samples(labels));
    assert!(found(&[&[-100, -100, -100]]).is_ok());
    assert!(found(&[&[-100, -100, 7]]).is_err());
}

#[test]
fn row_that_must_hold_something_may_not_be_all_padding() {
    let nonempty = Column { nonempty: true, ..labels() };
    let found = |max, labels: &[&[i64]]| collate_samples(&labelled(nonempty.clone(), max), &samples(labels));
    let error = |sample, cause| CollateError::at(sample, "labels", cause);
    assert_eq!(err(found(None, &[&[-100, 7], &[-100]])), error(1, Cause::NothingKept));
    assert_eq!(err(found(None, &[&[-100, 7], &[]])), error(1, Cause::NothingKept));
    assert_eq!(err(found(END, &[&[7, -100, -100]])), error(0, Cause::NothingToScore { tokens: 3, kept: 2 }));
    assert!(found(END, &[&[-100, 7, -100], &[7]]).is_ok());
}

#[test]
fn mask_that_must_hold_something_may_not_be_all_zeros() {
    let mask = Column { nonempty: true, pad: Number::Int(0), differs_from: Some(Number::Int(-100)), ..labels() };
    let found = |labels: &[&[i64]]| collate_samples(&labelled(mask.clone(), None), &samples(labels));
    assert!(found(&[&[-100, 0], &[5]]).is_ok());
    assert_eq!(err(found(&[&[5], &[-100, -100]])), CollateError::at(1, "labels", Cause::NothingKept));
}

#[test]
fn ones_that_must_be_there() {
    for absent in [Absent::Error, Absent::Ones] {
        let content = if absent == Absent::Ones { parallel(&[&[1]]) } else { Content::Ones };
        let ones = Column { nonempty: true, pad: Number::Int(1), absent, ..column(content) };
        let sample = |tokens| vec![Some(vec![7; tokens]), None];
        assert!(collate_samples(&labelled(ones.clone(), None), &[sample(1), sample(3)]).is_ok());
        let error = CollateError::at(1, "ids", Cause::NothingKept);
        assert_eq!(err(collate_samples(&labelled(ones, None), &[sample(1), sample(0)])), error);
    }
}

#[test]
fn what_is_kept_may_lie_in_any_run() {
    let plain = Column { nonempty: true, ..labels() };
    let mask = Column { pad: Number::Int(0), differs_from: Some(Number::Int(-100)), ..plain.clone() };
    let form = Form { stride: -8, ..Form::plain(Element::Int64) };
    for layout in [plain, mask].map(|column| labelled(column, None)) {
        for place in [0, 255, 256, 511, 512, 699] {
            let mut row = vec![-100; 700];
            let ids = repeated(&1, 700);
            let nothing = Stored::of(&row, form);
            let error = CollateError::at(0, "labels", Cause::NothingKept);
            let sources = [Some(ids.clone()), Some(nothing.strided().into_source())];
            assert_eq!(err(collate_sources(&layout, &sources)), error);
            row[place] = 1;
            let something = Stored::of(&row, form);
            let sources = [Some(ids), Some(something.strided().into_source())];
            assert!(collate_sources(&layout, &sources).is_ok(), "{place}");
        }
    }
}

#[test]
fn empty_batch_is_an_error() {
    let found = collate_samples(&labelled(labels(), None), &[]);
    assert_eq!(err(found), CollateError::of_batch(Cause::EmptyBatch));
}
