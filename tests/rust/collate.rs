//! Whole batches against the oracle.

use _core::cells::Element;
use _core::error::Number;
use _core::layout::{Column, Content, Length, Matrix, Side, Truncation};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::build::{array, at_most, collate_sources, column, first_array, layout, matrix, parallel, planned};
use crate::cases;
use crate::compare::Given;
use crate::memory::{Form, Stored, ints};
use crate::naive::Sample;
use crate::random::{Case, any_case};

fn matches_naive(case: &Case) -> bool {
    let (sources, numbers) = (case.sources(), vec![None; case.samples.len() * case.layout.keys.len()]);
    let Case { layout, request, samples, .. } = case;
    Given { layout, request: *request, samples, sources: &sources, numbers: &numbers }.matches_naive()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn collate_matches_naive(case in any_case()) {
        matches_naive(&case);
    }
}

/// Most random batches have to be good ones, or the property above says little.
#[test]
fn random_batches_are_mostly_good() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let case = any_case();
    let good = (0..100).filter(|_| matches_naive(&case.new_tree(&mut runner).unwrap().current())).count();
    assert!(good >= 50, "{good} of 100");
}

/// Every cut of a row of three segments, one of them empty, in every form of memory.
#[test]
fn every_truncation_of_a_joined_row() {
    let sample: Sample = [vec![1, 2, 3], vec![], vec![4, 5], vec![-1, -2, -3], vec![], vec![-4, -5]].map(Some).to_vec();
    for form in [
        Form::plain(Element::Int64),
        Form { stride: -8, ..Form::plain(Element::Int64) },
        Form { swapped: true, ..Form::plain(Element::Int16) },
        Form { misaligned: 1, ..Form::plain(Element::Int32) },
    ] {
        let stored: Vec<Stored> = sample.iter().flatten().map(|row| Stored::of(row, form)).collect();
        let sources: Vec<_> = stored.iter().map(|stored| Some(stored.strided().into_source())).collect();
        for max_length in 0..=6 {
            for truncation in [Truncation::KeepStart, Truncation::KeepEnd] {
                let columns = vec![column(Content::Tokens), column(parallel(&[&[3, 4, 5]])), column(Content::Ones)];
                let mut matrix = matrix(&[&[0, 1, 2]], columns);
                matrix.length = at_most(max_length, truncation);
                let layout = layout(&["a", "b", "c", "a_", "b_", "c_"], vec![matrix], vec![]);
                let collated = collate_sources(&layout, &sources).unwrap();
                let kept = max_length.min(5);
                let ids = match truncation {
                    Truncation::KeepStart => [1_i64, 2, 3, 4, 5][..kept].to_vec(),
                    _ => [1, 2, 3, 4, 5][5 - kept..].to_vec(),
                };
                let expected = [ids.clone(), ids.iter().map(|id| -id).collect(), vec![1; kept]];
                for (column, expected) in planned(&collated.plan, 0).columns.iter().zip(expected) {
                    assert_eq!(ints(&collated, &array(column)), [expected]);
                }
                assert_eq!(collated.plan.truncated.is_empty(), max_length >= 5);
            }
        }
    }
}

/// A row that is read in three runs, behind padding.
#[test]
fn long_row_is_written_run_by_run() {
    let ids: Vec<i64> = (0..700).collect();
    let stored = Stored::of(&ids, Form { stride: -12, ..Form::plain(Element::Int64) });
    let length = Length { min_length: 610, ..at_most(600, Truncation::KeepEnd) };
    let pad = Column { pad: Number::Int(-1), ..column(Content::Tokens) };
    let matrix = Matrix { length, side: Side::Left, ..matrix(&[&[0]], vec![pad]) };
    let layout = layout(&["ids"], vec![matrix], vec![]);
    let collated = collate_sources(&layout, &[Some(stored.strided().into_source())]).unwrap();
    let expected = [vec![-1; 10], ids[100..].to_vec()].concat();
    assert_eq!(ints(&collated, &first_array(&collated.plan)), [expected]);
}
