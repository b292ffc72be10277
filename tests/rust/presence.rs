//! Which keys have to be there, and what happens where they are not.

use _core::error::{Cause, CollateError, Number};
use _core::layout::{Absent, Column, Content, Layout, Matrix, Scalar};
use _core::plan::{Plan, Request};
use proptest::prelude::*;

use crate::build::{column, layout, matrix, parallel, plan, planned, scalar};
use crate::cases;

const KEYS: [&str; 5] = ["chosen_ids", "rejected_ids", "chosen_labels", "rejected_labels", "margin"];

/// Tokens, their labels with that rule, and a mask.
fn labels(absent: Absent) -> Layout {
    let labels = Column { absent, ..column(parallel(&[&[2], &[3]])) };
    let columns = vec![column(Content::Tokens), labels, column(Content::Ones)];
    layout(&KEYS, vec![matrix(&[&[0], &[1]], columns)], vec![])
}

fn margin(scalar: Scalar) -> Layout {
    layout(&KEYS, vec![], vec![scalar])
}

/// Plans samples whose rows have 5 values; `x` marks a key that is there.
fn plan_of(layout: &Layout, samples: &[&str]) -> Result<Plan, CollateError> {
    let sample = |keys: &&str| keys.chars().map(|key| (key == 'x').then_some(5)).collect::<Vec<_>>();
    let samples: Vec<Vec<Option<usize>>> = samples.iter().map(sample).collect();
    plan(layout, &samples.iter().map(Vec::as_slice).collect::<Vec<_>>(), Request::default())
}

/// The columns of the plan, by index, and whether each shows ones instead.
fn columns(plan: &Plan) -> Vec<(usize, bool)> {
    planned(plan, 0).columns.iter().map(|column| (column.index, column.as_ones)).collect()
}

fn missing(sample: usize, key: &str) -> CollateError {
    CollateError::at(sample, key, Cause::Missing)
}

/// Where a key is missing, whether or not another sample has it.
fn lacking(found: Result<Plan, CollateError>) -> (usize, String) {
    let error = found.unwrap_err();
    assert!(matches!(error.cause, Cause::Missing | Cause::MissingHere { .. } | Cause::MissingBeside { .. }), "{error}");
    (error.sample.unwrap(), error.key.unwrap())
}

fn missing_here(sample: usize, key: &str, other: usize) -> CollateError {
    CollateError::at(sample, key, Cause::MissingHere { other })
}

#[test]
fn tokens_have_to_be_there() {
    for absent in [Absent::Error, Absent::LeftOut, Absent::Ones] {
        assert_eq!(plan_of(&labels(absent), &["xxxx-", "x-xx-"]), Err(missing(1, "rejected_ids")));
        assert_eq!(plan_of(&labels(absent), &["xxxx-", "-xxx-"]), Err(missing(1, "chosen_ids")));
    }
}

#[test]
fn parallel_keys_of_all_samples() {
    for absent in [Absent::Error, Absent::LeftOut, Absent::Ones] {
        let plan = plan_of(&labels(absent), &["xxxx-", "xxxx-"]).unwrap();
        assert_eq!(columns(&plan), [(0, false), (1, false), (2, false)]);
    }
}

#[test]
fn parallel_keys_of_no_sample() {
    let plan = |absent| plan_of(&labels(absent), &["xx---", "xx---"]);
    assert_eq!(plan(Absent::Error), Err(missing(0, "chosen_labels")));
    assert_eq!(columns(&plan(Absent::LeftOut).unwrap()), [(0, false), (2, false)]);
    assert_eq!(columns(&plan(Absent::Ones).unwrap()), [(0, false), (1, true), (2, false)]);
}

#[test]
fn parallel_keys_of_some_samples() {
    let plan = |absent, samples: &[&str]| plan_of(&labels(absent), samples);
    for absent in [Absent::LeftOut, Absent::Ones] {
        // The first sample that lacks a key, its first such key, and the first sample that has one.
        assert_eq!(plan(absent, &["xxxx-", "xxx--"]), Err(missing_here(1, "rejected_labels", 0)));
        assert_eq!(plan(absent, &["xx---", "xxxx-", "xxxx-"]), Err(missing_here(0, "chosen_labels", 1)));
        assert_eq!(plan(absent, &["xx---", "xx---", "xxxx-"]), Err(missing_here(0, "chosen_labels", 2)));
    }
    assert_eq!(plan(Absent::Error, &["xxxx-", "xxx--"]), Err(missing(1, "rejected_labels")));
    assert_eq!(plan(Absent::Error, &["xx---", "xxxx-"]), Err(missing(0, "chosen_labels")));
}

#[test]
fn one_of_two_parallel_keys() {
    for absent in [Absent::Error, Absent::LeftOut, Absent::Ones] {
        assert_eq!(lacking(plan_of(&labels(absent), &["xx-x-"])), (0, "chosen_labels".to_owned()));
        assert_eq!(lacking(plan_of(&labels(absent), &["xxx--", "xxx--"])), (0, "rejected_labels".to_owned()));
    }
}

#[test]
fn parallel_rows_are_as_long_as_their_tokens() {
    for absent in [Absent::Error, Absent::LeftOut, Absent::Ones] {
        let good = [Some(5), Some(6), Some(5), Some(6), None];
        let bad = [Some(5), Some(6), Some(5), Some(7), None];
        let found = plan(&labels(absent), &[&good, &bad], Request::default());
        let cause = Cause::Length { found: 7, tokens: "rejected_ids".to_owned(), expected: 6 };
        assert_eq!(found, Err(CollateError::at(1, "rejected_labels", cause)));
    }
}

#[test]
fn segments_are_as_long_as_their_own_tokens() {
    let keys = ["prompt", "chosen", "prompt_mask", "chosen_mask"];
    let masks = column(parallel(&[&[2, 3]]));
    let layout = layout(&keys, vec![matrix(&[&[0, 1]], vec![masks])], vec![]);
    assert!(plan(&layout, &[&[Some(3), Some(4), Some(3), Some(4)]], Request::default()).is_ok());
    // 7 values beside 7 tokens, but they are cut elsewhere.
    let found = plan(&layout, &[&[Some(3), Some(4), Some(4), Some(3)]], Request::default());
    let cause = Cause::Length { found: 4, tokens: "prompt".to_owned(), expected: 3 };
    assert_eq!(found, Err(CollateError::at(0, "prompt_mask", cause)));
}

#[test]
fn scalars_have_to_be_there() {
    let plan = |samples: &[&str]| plan_of(&margin(scalar(&[4])), samples);
    assert!(plan(&["----x", "----x"]).unwrap().scalars[0].is_some());
    assert_eq!(plan(&["----x", "-----", "-----"]), Err(missing(1, "margin")));
    assert_eq!(plan(&["-----", "----x"]), Err(missing(0, "margin")));
    assert_eq!(plan(&["-----"]), Err(missing(0, "margin")));
}

#[test]
fn optional_scalars_are_there_or_not() {
    let plan = |samples: &[&str]| plan_of(&margin(Scalar { optional: true, ..scalar(&[4]) }), samples);
    assert!(plan(&["----x", "----x"]).unwrap().scalars[0].is_some());
    let without = plan(&["-----", "-----"]).unwrap();
    assert_eq!((without.scalars, without.bytes), (vec![None], 0));
    assert_eq!(plan(&["----x", "-----"]), Err(missing_here(1, "margin", 0)));
    assert_eq!(plan(&["-----", "----x", "----x"]), Err(missing_here(0, "margin", 1)));
}

#[test]
fn both_keys_of_an_optional_scalar() {
    let plan = |samples: &[&str]| plan_of(&margin(Scalar { optional: true, ..scalar(&[2, 3]) }), samples);
    assert_eq!(plan(&["--xx-", "--xx-"]).unwrap().scalars[0].unwrap().rows, 4);
    assert_eq!(plan(&["-----", "--xx-"]), Err(missing_here(0, "chosen_labels", 1)));
    assert_eq!(lacking(plan(&["--x--", "--xx-"])), (0, "rejected_labels".to_owned()));
    assert_eq!(lacking(plan(&["-----", "---x-"])), (0, "chosen_labels".to_owned()));
}

#[test]
fn default_stands_in_for_a_scalar() {
    for optional in [false, true] {
        let scalar = Scalar { optional, default: Some(Number::Float(0.0)), ..scalar(&[4]) };
        for samples in [["-----", "-----"], ["----x", "-----"], ["----x", "----x"]] {
            assert_eq!(plan_of(&margin(scalar.clone()), &samples).unwrap().scalars[0].unwrap().rows, 2);
        }
    }
}

#[test]
fn missing_here_names_a_sample_that_has_the_key() {
    let labels = labels(Absent::LeftOut);
    let (without, with): ([Option<usize>; 5], [Option<usize>; 5]) =
        ([Some(5), Some(5), None, Some(5), None], [Some(5), Some(5), Some(5), Some(5), None]);
    let found = plan(&labels, &[&without, &with], Request::default());
    assert_eq!(found, Err(CollateError::at(0, "chosen_labels", Cause::MissingHere { other: 1 })));
    // None has it, but this one has it for its other side.
    let found = plan(&labels, &[&without], Request::default());
    let cause = Cause::MissingBeside { key: "rejected_labels".to_owned() };
    assert_eq!(found, Err(CollateError::at(0, "chosen_labels", cause)));
}

/// Rows of both sides in a matrix that may be left out, with labels of that rule, beside one that may not.
fn optional(absent: Absent) -> Layout {
    let mut layout = labels(absent);
    layout.matrices[0].optional = true;
    layout.matrices.push(matrix(&[&[4]], vec![column(Content::Tokens)]));
    layout
}

#[test]
fn optional_matrix_of_no_sample_is_left_out() {
    for absent in [Absent::Error, Absent::LeftOut, Absent::Ones] {
        let plan = plan_of(&optional(absent), &["----x", "----x"]).unwrap();
        assert_eq!((plan.matrices[0].is_none(), planned(&plan, 1).rows.len()), (true, 2));
        // It takes no memory: 2 × 5 × 8.
        assert_eq!(plan.bytes, 80);
    }
}

#[test]
fn optional_matrix_of_all_samples_is_as_any() {
    for absent in [Absent::Error, Absent::LeftOut, Absent::Ones] {
        let plan = plan_of(&optional(absent), &["xxxxx", "xxxxx"]).unwrap();
        assert_eq!(columns(&plan), [(0, false), (1, false), (2, false)]);
    }
    assert_eq!(columns(&plan_of(&optional(Absent::Ones), &["xx--x"]).unwrap()), [(0, false), (1, true), (2, false)]);
    assert_eq!(plan_of(&optional(Absent::Error), &["xx--x"]), Err(missing(0, "chosen_labels")));
}

#[test]
fn optional_matrix_of_some_samples_is_an_error() {
    let plan = |samples: &[&str]| plan_of(&optional(Absent::Ones), samples);
    assert_eq!(plan(&["xx--x", "----x"]), Err(missing_here(1, "chosen_ids", 0)));
    assert_eq!(plan(&["----x", "----x", "xx--x"]), Err(missing_here(0, "chosen_ids", 2)));
    assert_eq!(plan(&["xx--x", "x---x"]), Err(missing_here(1, "rejected_ids", 0)));
    // No sample has it, but some have the other side.
    let cause = Cause::MissingBeside { key: "chosen_ids".to_owned() };
    assert_eq!(plan(&["x---x", "x---x"]), Err(CollateError::at(0, "rejected_ids", cause)));
    assert_eq!(plan(&["----x", "-x--x"]), Err(missing(0, "chosen_ids")));
}

#[test]
fn what_is_parallel_to_no_tokens_is_an_error() {
    for absent in [Absent::Error, Absent::LeftOut, Absent::Ones] {
        assert_eq!(plan_of(&optional(absent), &["--xxx", "--xxx"]), Err(missing(0, "chosen_ids")));
        assert_eq!(plan_of(&optional(absent), &["----x", "---xx"]), Err(missing(1, "rejected_ids")));
    }
}

/// Two completions of one prompt; the second may be left out.
fn shared_prompt() -> Layout {
    let mask = Column { absent: Absent::LeftOut, ..column(parallel(&[&[3, 4]])) };
    let may = matrix(&[&[0, 2]], vec![column(Content::Tokens), mask]);
    let must = matrix(&[&[0, 1]], vec![column(Content::Tokens)]);
    let keys = ["prompt", "chosen", "rejected", "prompt_mask", "rejected_mask"];
    layout(&keys, vec![must, Matrix { optional: true, ..may }], vec![])
}

#[test]
fn prompt_that_another_matrix_joins_asks_for_nothing() {
    let plan = |samples: &[&str]| plan_of(&shared_prompt(), samples);
    let is_there = |samples: &[&str]| plan(samples).unwrap().matrices[1].is_some();
    assert!(is_there(&["xxx--", "xxx--"]));
    assert!(!is_there(&["xx---", "xx---"]));
    // What is parallel to the prompt is the prompt's.
    assert!(!is_there(&["xx-x-", "xx-x-"]));
    assert_eq!(plan(&["xx--x"]), Err(missing(0, "rejected")));
    assert_eq!(plan(&["xx---", "xxx--"]), Err(missing_here(0, "rejected", 1)));
}

#[test]
fn tokens_that_two_matrices_share_are_those_of_both() {
    let may = Matrix { optional: true, ..matrix(&[&[0]], vec![column(Content::Tokens)]) };
    let layout = layout(&KEYS, vec![may.clone(), may], vec![]);
    assert_eq!(plan_of(&layout, &["-----"]).unwrap().matrices, [None, None]);
    assert!(plan_of(&layout, &["x----"]).unwrap().matrices.iter().all(Option::is_some));
    assert_eq!(plan_of(&layout, &["x----", "-----"]), Err(missing_here(1, "chosen_ids", 0)));
}

#[test]
fn batch_of_no_matrix_is_empty() {
    let mut optional = optional(Absent::Error);
    optional.matrices.pop();
    let plan = plan_of(&optional, &["-----", "-----"]).unwrap();
    assert_eq!((plan.matrices, plan.bytes, plan.truncated), (vec![None], 0, vec![]));
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn presence_matches_naive(
        has in prop::collection::vec((prop::bool::weighted(0.8), prop::bool::weighted(0.8)), 1..4),
        absent in prop::sample::select(vec![Absent::Error, Absent::LeftOut, Absent::Ones]),
    ) {
        let labels = labels(absent);
        let samples: Vec<[Option<usize>; 5]> =
            has.iter().map(|&(a, b)| [Some(5), Some(5), a.then_some(5), b.then_some(5), None]).collect();
        let samples: Vec<&[Option<usize>]> = samples.iter().map(<[_; 5]>::as_slice).collect();
        let found = plan(&labels, &samples, Request::default());
        let each: Vec<(usize, &str, bool)> = has.iter().enumerate()
            .flat_map(|(sample, &(a, b))| [(sample, "chosen_labels", a), (sample, "rejected_labels", b)])
            .collect();
        let lacks = each.iter().find(|(.., there)| !there);
        let has = each.iter().find(|(.., there)| *there);
        match (lacks, has, absent) {
            (None, ..) => prop_assert_eq!(columns(&found.unwrap()), [(0, false), (1, false), (2, false)]),
            (Some((sample, key, _)), _, Absent::Error) => prop_assert_eq!(found, Err(missing(*sample, key))),
            (Some((sample, key, _)), Some(_), _) => prop_assert_eq!(lacking(found), (*sample, (*key).to_owned())),
            (Some(_), None, Absent::LeftOut) => prop_assert_eq!(columns(&found.unwrap()), [(0, false), (2, false)]),
            (Some(_), None, Absent::Ones) => {
                prop_assert_eq!(columns(&found.unwrap()), [(0, false), (1, true), (2, false)]);
            }
        }
    }
}
