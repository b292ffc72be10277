//! Token ids that are counted, in whole rows and in what is kept of them.

use _core::cells::Element;
use _core::error::Number;
use _core::layout::{Column, Content, Layout, Matrix, Order, Truncation};

use crate::build::{at_most, collate_samples, collate_sources, column, layout, matrix, parallel};
use crate::compare::found_counts;
use crate::memory::{Form, Stored};
use crate::naive::Sample;

/// Rows of prompt and completion, in which 7 and 9 are counted.
fn counted(most: usize, truncation: Truncation) -> Layout {
    let matrix = matrix(&[&[0, 1], &[0, 2]], vec![column(Content::Tokens)]);
    let matrices = vec![Matrix { length: at_most(most, truncation), ..matrix }];
    Layout { counted: vec![7, 9], ..layout(&["prompt", "chosen", "rejected"], matrices, vec![]) }
}

fn samples() -> [Sample; 2] {
    [[vec![7, 7, 1], vec![7, 9], vec![9, 9, 7]].map(Some).to_vec(), [vec![1], vec![7], vec![]].map(Some).to_vec()]
}

#[test]
fn ids_are_counted_in_what_is_kept_of_the_start() {
    let collated = collate_samples(&counted(4, Truncation::KeepStart), &samples()).unwrap();
    let expected = [
        (0, 0, 0, 7, 3, 3), // 7 7 1 7 | 9
        (0, 0, 1, 7, 1, 1), // 1 7
        (0, 1, 0, 7, 3, 2), // 7 7 1 9 | 9 7
        (0, 1, 1, 7, 0, 0), // 1
        (0, 0, 0, 9, 1, 0),
        (0, 0, 1, 9, 0, 0),
        (0, 1, 0, 9, 2, 1),
        (0, 1, 1, 9, 0, 0),
    ];
    assert_eq!(found_counts(&collated), expected);
}

#[test]
fn ids_are_counted_in_what_is_kept_of_the_end() {
    let layout = Layout { order: Order::Interleaved, ..counted(3, Truncation::KeepEnd) };
    let collated = collate_samples(&layout, &samples()).unwrap();
    let expected = [
        (0, 0, 0, 7, 3, 1), // 7 7 | 1 7 9
        (0, 1, 0, 7, 3, 1), // 7 7 1 | 9 9 7
        (0, 0, 1, 7, 1, 1), // 1 7
        (0, 1, 1, 7, 0, 0), // 1
        (0, 0, 0, 9, 1, 1),
        (0, 1, 0, 9, 2, 2),
        (0, 0, 1, 9, 0, 0),
        (0, 1, 1, 9, 0, 0),
    ];
    assert_eq!(found_counts(&collated), expected);
}

#[test]
fn what_no_cell_shows_is_counted_and_what_is_padding_is_not() {
    // What is dropped at the end gets no cell, so it is not kept; a pad is no token.
    let pads = Column { pad: Number::Int(7), skip: 1, ..column(Content::Tokens) };
    let mut layout = counted(9, Truncation::Error);
    layout.matrices[0] = Matrix { drop_last: 2, ..matrix(&[&[0, 1]], vec![pads]) };
    let collated = collate_samples(&layout, &samples()).unwrap();
    assert_eq!(
        found_counts(&collated),
        [(0, 0, 0, 7, 3, 2), (0, 0, 1, 7, 1, 0), (0, 0, 0, 9, 1, 0), (0, 0, 1, 9, 0, 0)]
    );
}

#[test]
fn ids_are_counted_in_each_matrix_that_is_there() {
    // Tokens alone are counted, also where no column shows them; labels are not.
    let labels = matrix(&[&[1]], vec![column(parallel(&[&[2]]))]);
    let absent = Matrix { optional: true, ..matrix(&[&[3]], vec![column(Content::Tokens)]) };
    let matrices = vec![matrix(&[&[0]], vec![]), absent, labels];
    let layout = Layout { counted: vec![7], ..layout(&["prompt", "chosen", "labels", "none"], matrices, vec![]) };
    let sample = vec![Some(vec![7, 7]), Some(vec![7, 1]), Some(vec![7, 7]), None];
    let collated = collate_samples(&layout, &[sample]).unwrap();
    assert_eq!(found_counts(&collated), [(0, 0, 0, 7, 2, 2), (2, 0, 0, 7, 1, 1)]);
}

#[test]
fn ids_are_counted_in_every_run() {
    let mut row = vec![1; 700];
    for place in [0, 99, 100, 255, 256, 355, 356, 511, 512, 699] {
        row[place] = 7;
    }
    let stored = Stored::of(&row, Form { stride: -16, ..Form::plain(Element::Int64) });
    let rows = Matrix { length: at_most(600, Truncation::KeepEnd), ..matrix(&[&[0]], vec![column(Content::Tokens)]) };
    let layout = Layout { counted: vec![7], ..layout(&["ids"], vec![rows], vec![]) };
    let collated = collate_sources(&layout, &[Some(stored.strided().into_source())]).unwrap();
    assert_eq!(found_counts(&collated), [(0, 0, 0, 7, 10, 8)]);
}
