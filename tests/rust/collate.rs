//! Whole batches against the oracle: every cell of every array.

use _core::arena::Memory;
use _core::cells::{DType, Element};
use _core::collate::{Batch, Collated, collate};
use _core::error::{CollateError, Number};
use _core::layout::{Column, Content, Length, Matrix, Side, Truncation};
use _core::plan::Output;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::build::{array, at_most, collate_sources, column, first_array, layout, matrix, parallel, plain, planned};
use crate::cases;
use crate::count::found_counts;
use crate::memory::{Form, Stored, ints, rows};
use crate::naive::{self, Plain, Sample};
use crate::naive_matrix::{self, Answer, Wrong};
use crate::random::{Case, any_case};

fn collate_case(case: &Case) -> Result<Collated, CollateError> {
    let sources = case.sources();
    let numbers = vec![None; sources.len()];
    plain(collate(&case.layout, Batch { sources: &sources, numbers: &numbers }, case.request, Memory::Heap))
}

/// The cells as a column of that type holds them.
fn in_dtype(cells: &[Vec<i128>], dtype: DType) -> Vec<Vec<Plain>> {
    let cell = |&value: &i128| naive::cell(value.into(), dtype).unwrap();
    cells.iter().map(|row| row.iter().map(cell).collect()).collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn collate_matches_naive(case in any_case()) {
        let Case { layout, samples, request, .. } = &case;
        let naive = |matrix| naive_matrix::matrix(layout, matrix, samples, request.min_length);
        let expected: Result<Vec<_>, _> = (0..layout.matrices.len()).map(naive).collect();
        let (collated, expected) = match (collate_case(&case), expected) {
            (Ok(collated), Ok(expected)) => (collated, expected),
            (Err(_), Err(Wrong)) => return Ok(()),
            (Ok(_), Err(Wrong)) => panic!("no error"),
            (Err(error), Ok(_)) => panic!("{error}"),
        };
        prop_assert_eq!(collated.plan.matrices.len(), expected.len());
        let mut counts = Vec::new();
        for (matrix, (planned, expected)) in collated.plan.matrices.iter().zip(expected).enumerate() {
            prop_assert_eq!(planned.is_some(), expected.is_some());
            let (Some(planned), Some(columns)) = (planned, expected) else { continue };
            prop_assert_eq!(planned.columns.len(), columns.len());
            for (planned, (index, answer)) in planned.columns.iter().zip(columns) {
                prop_assert_eq!(planned.index, index);
                let column = &layout.matrices[matrix].columns[index];
                match (planned.output, answer) {
                    (Output::Array(array), Answer::Array(cells)) => {
                        prop_assert_eq!(rows(&collated, &array), in_dtype(&cells, column.dtype), "{:?}", column);
                    }
                    (Output::Number(number), Answer::Number(expected)) => prop_assert_eq!(number, expected),
                    (found, expected) => panic!("{found:?} is not {expected:?}"),
                }
            }
            counts.extend(naive_matrix::counts(layout, matrix, samples));
        }
        prop_assert_eq!(found_counts(&collated), counts);
    }
}

/// Most random batches have to be good ones, or the property above says little.
#[test]
fn random_batches_are_mostly_good() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let case = any_case();
    let good = (0..100).filter(|_| collate_case(&case.new_tree(&mut runner).unwrap().current()).is_ok()).count();
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
