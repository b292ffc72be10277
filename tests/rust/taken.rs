//! What the rows of a batch take: tokens, cells, what is truncated.

use _core::collate::Taken;
use _core::layout::{Column, Content, Layout, Length, Matrix, Order, Tail, Truncation};
use proptest::prelude::*;

use crate::build::{at_most, collate_samples, column, layout, length, matrix};
use crate::cases;
use crate::golden::arrays;
use crate::naive::Sample;

fn tokens() -> Vec<Column> {
    vec![column(Content::Tokens)]
}

/// Prompt and completion of two samples.
fn samples() -> [Sample; 2] {
    [[vec![1, 2], vec![3, 4, 5]].map(Some).to_vec(), [vec![6], vec![]].map(Some).to_vec()]
}

fn taken(layout: &Layout) -> Vec<(usize, usize, usize, usize, usize, usize)> {
    let plain = |t: &Taken| (t.matrix, t.part, t.rows, t.tokens, t.cells, t.truncated);
    collate_samples(layout, &samples()).unwrap().taken().iter().map(plain).collect()
}

#[test]
fn padded_rows_take_the_width() {
    let joined = Matrix { length: at_most(4, Truncation::KeepEnd), ..matrix(&[&[0, 1]], tokens()) };
    let apart = Matrix { drop_last: 1, ..matrix(&[&[0], &[1]], tokens()) };
    for order in [Order::Grouped, Order::Interleaved] {
        let layout = Layout { order, ..layout(&["prompt", "answer"], vec![joined.clone(), apart.clone()], vec![]) };
        assert_eq!(taken(&layout), [(0, 0, 2, 5, 8, 1), (1, 0, 2, 1, 4, 0), (1, 1, 2, 2, 4, 0)]);
    }
}

#[test]
fn flat_rows_take_what_they_need_and_the_last_the_rest() {
    for tail in [Tail::Segment, Tail::Outside] {
        let rounded = Length { multiple_of: 5, row_multiple_of: 2, ..length() };
        let flat = Matrix { flat: Some(tail), length: rounded, ..matrix(&[&[0], &[1]], tokens()) };
        // 1 2 | 6 . | 3 4 5 . | . .
        assert_eq!(taken(&layout(&["prompt", "answer"], vec![flat], vec![])), [(0, 0, 2, 3, 4, 0), (0, 1, 2, 3, 6, 0)]);
    }
}

#[test]
fn what_is_left_out_takes_nothing() {
    let optional = Matrix { optional: true, ..matrix(&[&[2]], tokens()) };
    let layout = layout(&["prompt", "answer", "other"], vec![optional, matrix(&[&[1]], tokens())], vec![]);
    let samples = samples().map(|mut sample| {
        sample.push(None);
        sample
    });
    let taken = collate_samples(&layout, &samples).unwrap().taken();
    assert_eq!(taken, [Taken { matrix: 1, part: 0, rows: 2, tokens: 3, cells: 6, truncated: 0 }]);
}

#[test]
fn rows_without_arrays_may_have_more_cells_than_memory() {
    let longest = column(Content::MaxLength);
    let wide = Length { min_length: usize::MAX, ..length() };
    let matrix = Matrix { length: wide, ..matrix(&[&[0]], vec![longest]) };
    assert_eq!(taken(&layout(&["prompt", "answer"], vec![matrix], vec![])), [(0, 0, 2, 3, usize::MAX, 0)]);
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn tokens_are_those_that_a_column_of_ones_shows(
        lengths in prop::collection::vec((0_usize..7, 0_usize..7), 1..5),
        most in 1_usize..9,
        multiple_of in 1_usize..5,
        flat in prop::option::of(prop_oneof![Just(Tail::Segment), Just(Tail::Outside)]),
        interleaved: bool,
    ) {
        let samples: Vec<Sample> =
            lengths.iter().map(|&(a, b)| vec![Some(vec![1; a]), Some(vec![1; b])]).collect();
        let limits = Length { multiple_of, ..at_most(most, Truncation::KeepStart) };
        let rows = Matrix { flat, length: limits, ..matrix(&[&[0], &[1], &[0, 1]], vec![column(Content::Ones)]) };
        let order = if interleaved { Order::Interleaved } else { Order::Grouped };
        let layout = Layout { order, ..layout(&["chosen", "rejected"], vec![rows], vec![]) };
        let cells: Vec<i64> = arrays(&layout, &samples).concat().concat();
        let taken = collate_samples(&layout, &samples).unwrap().taken();
        let sum = |field: fn(&Taken) -> usize| taken.iter().map(field).sum::<usize>();
        prop_assert_eq!(sum(|part| part.cells), cells.len());
        prop_assert_eq!(sum(|part| part.tokens), cells.iter().filter(|&&cell| cell == 1).count());
        let long = |&(a, b): &(usize, usize)| [a, b, a + b].iter().filter(|&&row| row > most).count();
        prop_assert_eq!(sum(|part| part.truncated), lengths.iter().map(long).sum::<usize>());
        prop_assert_eq!(sum(|part| part.rows), 3 * lengths.len());
    }
}
