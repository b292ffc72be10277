//! Which tokens of a row get a cell, and which cells of it are padding.

use _core::cells::DType;
use _core::collate::Collated;
use _core::error::{Cause, CollateError, Number};
use _core::layout::{Column, Content, Layout, Length, Matrix, Side, Truncation};

use crate::build::{at_most, collate_samples, column, layout, length, matrix, parallel};
use crate::golden::{arrays, padded_with};
use crate::naive::Sample;

/// Megatron's: tokens without the last, and beside each of them the next one's label.
fn next_token(length: Length) -> Layout {
    let labels = Column { shift: 1, ..padded_with(-100, parallel(&[&[1]])) };
    let columns = vec![padded_with(9, Content::Tokens), labels, column(Content::Position), column(Content::Length)];
    layout(&["ids", "labels"], vec![Matrix { drop_last: 1, length, ..matrix(&[&[0]], columns) }], vec![])
}

/// Samples of ids, and of labels that are their negatives.
fn samples(rows: &[&[i64]]) -> Vec<Sample> {
    rows.iter().map(|row| vec![Some(row.to_vec()), Some(row.iter().map(|id| -id).collect())]).collect()
}

fn err(result: Result<Collated, CollateError>) -> CollateError {
    result.map(|collated| collated.plan).unwrap_err()
}

#[test]
fn each_cell_shows_the_next_token() {
    let expected = [
        vec![vec![1, 2, 3], vec![5, 9, 9], vec![9, 9, 9], vec![9, 9, 9]],
        vec![vec![-2, -3, -4], vec![-6, -100, -100], vec![-100; 3], vec![-100; 3]],
        vec![vec![0, 1, 2], vec![0, 0, 0], vec![0, 0, 0], vec![0, 0, 0]],
        vec![vec![3, 1, 0, 0]],
    ];
    assert_eq!(arrays(&next_token(length()), &samples(&[&[1, 2, 3, 4], &[5, 6], &[7], &[]])), expected);
}

#[test]
fn next_token_is_one_that_truncation_keeps() {
    let next = |truncation| arrays(&next_token(at_most(3, truncation)), &samples(&[&[1, 2, 3, 4, 5], &[6, 7, 8]]));
    assert_eq!(next(Truncation::KeepStart)[..2], [[[1, 2], [6, 7]], [[-2, -3], [-7, -8]]]);
    assert_eq!(next(Truncation::KeepEnd)[..2], [[[3, 4], [6, 7]], [[-4, -5], [-7, -8]]]);
    let nothing = arrays(&next_token(at_most(1, Truncation::KeepEnd)), &samples(&[&[1, 2, 3]]));
    assert_eq!(nothing, [[vec![]], [vec![]], [vec![]], [vec![0]]]);
}

#[test]
fn cells_beyond_the_last_token_are_padding() {
    let shifted = |shift| Column { shift, ..padded_with(-100, Content::Tokens) };
    let columns = vec![shifted(0), shifted(1), shifted(2), shifted(usize::MAX)];
    let mut layout = layout(&["ids"], vec![matrix(&[&[0]], columns)], vec![]);
    let rows = || [vec![Some(vec![1, 2, 3])], vec![Some(vec![4])]];
    let right = [
        [[1, 2, 3], [4, -100, -100]],
        [[2, 3, -100], [-100, -100, -100]],
        [[3, -100, -100], [-100, -100, -100]],
        [[-100, -100, -100], [-100, -100, -100]],
    ];
    assert_eq!(arrays(&layout, &rows()), right);
    // What is cut away is beyond it.
    layout.matrices[0].length = at_most(2, Truncation::KeepStart);
    assert_eq!(arrays(&layout, &rows())[..2], [[[1, 2], [4, -100]], [[2, -100], [-100, -100]]]);
    layout.matrices[0].length = length();
    layout.matrices[0].side = Side::Left;
    let left = [
        [[1, 2, 3], [-100, -100, 4]],
        [[2, 3, -100], [-100, -100, -100]],
        [[3, -100, -100], [-100, -100, -100]],
        [[-100, -100, -100], [-100, -100, -100]],
    ];
    assert_eq!(arrays(&layout, &rows()), left);
}

#[test]
fn leading_cells_are_skipped() {
    let skipping = |skip, shift| Column { skip, shift, ..padded_with(-100, Content::Tokens) };
    let columns = vec![skipping(1, 0), skipping(2, 0), skipping(1, 1), skipping(usize::MAX, 0)];
    let mut layout = layout(&["ids"], vec![matrix(&[&[0]], columns)], vec![]);
    let rows = || [vec![Some(vec![1, 2, 3])], vec![Some(vec![4, 5])]];
    let right = [
        [[-100, 2, 3], [-100, 5, -100]],
        [[-100, -100, 3], [-100, -100, -100]],
        [[-100, 3, -100], [-100, -100, -100]], // the cell is skipped, not the token
        [[-100, -100, -100], [-100, -100, -100]],
    ];
    assert_eq!(arrays(&layout, &rows()), right);
    // Behind padding, it is the row's own cells that are skipped; truncation comes before.
    layout.matrices[0].side = Side::Left;
    assert_eq!(arrays(&layout, &rows())[0], [[-100, 2, 3], [-100, -100, 5]]);
    layout.matrices[0].length = at_most(2, Truncation::KeepEnd);
    assert_eq!(arrays(&layout, &rows())[0], [[-100, 3], [-100, 5]]);
}

#[test]
fn cells_are_shifted_across_segments() {
    let shifted = |content| Column { shift: 1, on: Some(vec![false, true]), ..padded_with(-100, content) };
    let columns = vec![column(Content::Tokens), shifted(Content::Tokens), shifted(Content::Segment)];
    let rows = Matrix { drop_last: 1, ..matrix(&[&[0, 1]], columns) };
    let layout = layout(&["prompt", "chosen"], vec![rows], vec![]);
    let sample = [vec![1, 2], vec![3, 4]].map(Some).to_vec();
    // The last token of the prompt is beside the first of the completion.
    assert_eq!(arrays(&layout, &[sample]), [[[1, 2, 3]], [[-100, 3, 4]], [[-100, 1, 1]]]);
}

#[test]
fn positions_are_those_of_what_is_kept() {
    let position = |shift, skip, start| Column { shift, skip, start, ..padded_with(9, Content::Position) };
    let off = Column { on: Some(vec![true, false, true]), ..position(0, 0, 0) };
    let columns = vec![position(0, 0, 0), position(1, 0, 0), position(0, 2, 0), position(0, 0, -1), off];
    let rows = Matrix { length: at_most(4, Truncation::KeepEnd), ..matrix(&[&[0, 1, 2]], columns) };
    let layout = layout(&["a", "b", "c"], vec![rows], vec![]);
    // Of the first segment nothing is left, and of the second one token.
    let sample = [vec![1, 2], vec![3, 4], vec![5, 6, 7]].map(Some).to_vec();
    let expected = [
        [[0, 1, 2, 3]],
        [[1, 2, 3, 9]],
        [[9, 9, 2, 3]],
        [[-1, 0, 1, 2]],
        [[9, 1, 2, 3]], // what is off is counted as well
    ];
    assert_eq!(arrays(&layout, &[sample]), expected);
}

#[test]
fn more_may_be_dropped_than_there_is() {
    let columns = vec![column(Content::Tokens), column(Content::Length)];
    let rows = Matrix { drop_last: usize::MAX, ..matrix(&[&[0]], columns) };
    let found = arrays(&layout(&["ids"], vec![rows], vec![]), &[vec![Some(vec![1, 2])], vec![Some(vec![])]]);
    assert_eq!(found, [vec![vec![], vec![]], vec![vec![0, 0]]]);
}

#[test]
fn what_gets_no_cell_is_not_scored() {
    let nonempty = |skip, shift| Column { skip, shift, nonempty: true, ..padded_with(-100, parallel(&[&[1]])) };
    let found = |column, drop_last, most: usize, labels: &[i64]| {
        let length = at_most(most, Truncation::KeepStart);
        let rows = Matrix { drop_last, length, ..matrix(&[&[0]], vec![column]) };
        let sample = vec![Some(vec![1; labels.len()]), Some(labels.to_vec())];
        collate_samples(&layout(&["ids", "labels"], vec![rows], vec![]), &[sample])
    };
    let error = |cause| CollateError::at(0, "labels", cause);
    for (column, drop_last, labels) in [
        (nonempty(1, 0), 0, &[5, -100, -100]),
        (nonempty(0, 1), 0, &[5, -100, -100]),
        (nonempty(0, 0), 1, &[-100, -100, 5]),
        (nonempty(1, 1), 0, &[-100, 5, -100]),
    ] {
        assert_eq!(err(found(column, drop_last, 9, labels)), error(Cause::NothingKept), "{labels:?}");
    }
    assert!(found(nonempty(1, 0), 0, 9, &[-100, 5]).is_ok());
    assert!(found(nonempty(0, 1), 1, 9, &[-100, 5]).is_ok());
    // Only truncation is the collator's doing: `scored` asks nothing of a row that has its length.
    let scored = |skip| Column { nonempty: false, scored: true, ..nonempty(skip, 0) };
    assert!(found(scored(1), 0, 2, &[5, -100]).is_ok());
    let cause = Cause::NothingToScore { tokens: 3, kept: 2 };
    assert_eq!(err(found(scored(1), 0, 2, &[5, -100, 5])), error(cause));
}

#[test]
fn counted_rows_hold_something_if_they_hold_a_token() {
    // Also where the number is that of the padding.
    for content in [Content::Position, Content::Row, Content::Segment] {
        let kept = Column { nonempty: true, scored: true, ..column(content) };
        let rows = Matrix { length: at_most(1, Truncation::KeepStart), ..matrix(&[&[0]], vec![kept]) };
        let layout = layout(&["ids"], vec![rows], vec![]);
        assert!(collate_samples(&layout, &[vec![Some(vec![1, 2])]]).is_ok());
        let error = CollateError::at(1, "ids", Cause::NothingKept);
        assert_eq!(err(collate_samples(&layout, &[vec![Some(vec![1])], vec![Some(vec![])]])), error);
    }
}

#[test]
fn misfit_of_a_shifted_row_is_named_by_its_place_in_the_sample() {
    let narrow = Column { dtype: DType::Int32, shift: 1, ..padded_with(0, parallel(&[&[1]])) };
    let layout = layout(&["ids", "labels"], vec![matrix(&[&[0]], vec![narrow])], vec![]);
    let collate = |labels: &[i64]| collate_samples(&layout, &[vec![Some(vec![1; 3]), Some(labels.to_vec())]]);
    let cause = Cause::Misfit { value: Number::Int(1 << 31), position: Some(2), column: "int32" };
    assert_eq!(err(collate(&[1, 2, 1 << 31])), CollateError::at(0, "labels", cause));
    // What no cell shows is not looked at.
    assert!(collate(&[1 << 31, 2, 3]).is_ok());
}
