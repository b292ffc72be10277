//! Rows end to end in one, what attention kernels are told of them, and the rest of it.

use _core::cells::DType;
use _core::error::{Cause, CollateError, Number};
use _core::layout::{Column, Content, Layout, Length, Matrix, Order, Side, Tail};
use _core::plan::{Array, Output, Request};

use crate::build::{array, column, layout, length, matrix, plan, planned};
use crate::golden::{arrays, padded_with};
use crate::naive::Sample;

/// Chosen and rejected rows with these columns, padding-free.
fn flat(tail: Tail, length: Length, columns: Vec<Column>) -> Layout {
    let rows = Matrix { flat: Some(tail), length, ..matrix(&[&[0], &[1]], columns) };
    layout(&["chosen", "rejected"], vec![rows], vec![])
}

fn rounded(multiple_of: usize, row_multiple_of: usize) -> Length {
    Length { multiple_of, row_multiple_of, ..length() }
}

/// What attention kernels are told: lengths, where rows begin and end, the longest.
fn told() -> Vec<Column> {
    let int32 = |content| Column { dtype: DType::Int32, ..column(content) };
    vec![int32(Content::Length), int32(Content::CuSeqLens), column(Content::MaxLength)]
}

/// In row order: three tokens, none, one, two.
fn samples() -> [Sample; 2] {
    [vec![Some(vec![1, 2, 3]), Some(vec![4])], vec![Some(vec![]), Some(vec![5, 6])]]
}

#[test]
fn rows_end_to_end_with_padding_and_a_tail() {
    let continues = |start| Column { continues: true, start, ..padded_with(-9, Content::Position) };
    let columns = vec![
        padded_with(9, Content::Tokens),
        column(Content::Ones),
        padded_with(-1, Content::Row),
        padded_with(7, Content::Position),
        continues(0),
        continues(1),
    ];
    #[rustfmt::skip]
    let expected = [
        // chosen 0        rejected 0   rejected 1   tail; chosen 1 has no cell
        [[1, 2, 3, 9,      4, 9,        5, 6,        9, 9]],
        [[1, 1, 1, 0,      1, 0,        1, 1,        0, 0]],
        [[0, 0, 0, -1,     2, -1,       3, 3,        -1, -1]],
        [[0, 1, 2, 7,      0, 7,        0, 1,        7, 7]],
        [[0, 1, 2, 3,      0, 1,        0, 1,        0, 1]],
        [[1, 2, 3, 4,      1, 2,        1, 2,        1, 2]],
    ];
    for tail in [Tail::Segment, Tail::Outside] {
        assert_eq!(arrays(&flat(tail, rounded(5, 2), columns.clone()), &samples()), expected);
    }
}

#[test]
fn tail_is_a_segment_or_none() {
    let told = |tail, multiple_of| arrays(&flat(tail, rounded(multiple_of, 2), told()), &samples());
    let with = [vec![vec![3, 0, 1, 2]], vec![vec![0, 4, 4, 6, 8, 10]], vec![vec![4]]];
    let without = [vec![vec![3, 0, 1, 2]], vec![vec![0, 4, 4, 6, 8]], vec![vec![4]]];
    assert_eq!(told(Tail::Segment, 5), with);
    assert_eq!(told(Tail::Outside, 5), without);
    // Of no cell there is no segment.
    assert_eq!(told(Tail::Segment, 4), without);
    // The tail may be the longest.
    let long = [vec![vec![3, 0, 1, 2]], vec![vec![0, 4, 4, 6, 8, 32]], vec![vec![24]]];
    assert_eq!(told(Tail::Segment, 32), long);
    assert_eq!(told(Tail::Outside, 32), without);
}

#[test]
fn padded_rows_are_told_by_their_tokens() {
    let columns = [vec![padded_with(9, Content::Tokens)], told()].concat();
    let rows = Matrix { length: rounded(4, 4), ..matrix(&[&[0], &[1]], columns) };
    let expected = [
        vec![vec![1, 2, 3, 9], vec![9; 4], vec![4, 9, 9, 9], vec![5, 6, 9, 9]],
        vec![vec![3, 0, 1, 2]],
        vec![vec![0, 3, 3, 4, 6]],
        vec![vec![3]],
    ];
    assert_eq!(arrays(&layout(&["chosen", "rejected"], vec![rows], vec![]), &samples()), expected);
}

#[test]
fn rows_without_tokens_take_no_cell() {
    let columns = || [vec![padded_with(9, Content::Tokens)], told()].concat();
    let nothing: Sample = vec![Some(vec![]), Some(vec![])];
    let found = arrays(&flat(Tail::Segment, rounded(8, 4), columns()), std::slice::from_ref(&nothing));
    assert_eq!(found, [vec![vec![]], vec![vec![0, 0]], vec![vec![0, 0, 0]], vec![vec![0]]]);
    // All that there is is tail.
    let length = Length { min_length: 3, ..rounded(1, 4) };
    let found = arrays(&flat(Tail::Segment, length.clone(), columns()), std::slice::from_ref(&nothing));
    assert_eq!(found, [vec![vec![9, 9, 9]], vec![vec![0, 0]], vec![vec![0, 0, 0, 3]], vec![vec![3]]]);
    let found = arrays(&flat(Tail::Outside, length, columns()), &[nothing]);
    assert_eq!(found, [vec![vec![9, 9, 9]], vec![vec![0, 0]], vec![vec![0, 0, 0]], vec![vec![0]]]);
}

#[test]
fn rows_are_rounded_by_what_of_them_gets_a_cell() {
    // Four tokens without the last one are three.
    let columns = [vec![padded_with(9, Content::Tokens)], told()].concat();
    let mut layout = flat(Tail::Segment, rounded(1, 3), columns);
    layout.matrices[0].drop_last = 1;
    let found = arrays(&layout, &[vec![Some(vec![1, 2, 3, 4]), Some(vec![5, 6])]]);
    let expected = [vec![vec![1, 2, 3, 5, 9, 9]], vec![vec![3, 1]], vec![vec![0, 3, 6]], vec![vec![3]]];
    assert_eq!(found, expected);
}

#[test]
fn padding_of_a_row_is_on_its_side_and_the_tail_behind_all() {
    let mut layout = flat(Tail::Segment, rounded(10, 2), vec![padded_with(9, Content::Tokens)]);
    layout.matrices[0].side = Side::Left;
    assert_eq!(arrays(&layout, &samples()), [[[9, 1, 2, 3, 9, 4, 5, 6, 9, 9]]]);
}

#[test]
fn segments_of_rows_end_to_end() {
    let segment = |start, pad| Column { start, ..padded_with(pad, Content::Segment) };
    let completion = Column { on: Some(vec![false, true]), ..segment(1, -1) };
    let columns = vec![segment(0, -1), segment(1, 0), completion];
    let rows = Matrix { flat: Some(Tail::Segment), length: rounded(9, 1), ..matrix(&[&[0, 1], &[0, 2]], columns) };
    let layout = Layout { order: Order::Interleaved, ..layout(&["prompt", "chosen", "rejected"], vec![rows], vec![]) };
    #[rustfmt::skip]
    let expected = [
        // prompt, chosen    prompt, rejected  tail
        [[0, 0, 1, 1,        0, 0, 1,          -1, -1]],
        [[1, 1, 2, 2,        1, 1, 2,          0, 0]],
        [[-1, -1, 2, 2,      -1, -1, 2,        -1, -1]],
    ];
    assert_eq!(arrays(&layout, &[[vec![1, 2], vec![3, 4], vec![5]].map(Some).to_vec()]), expected);
}

#[test]
fn padded_positions_go_on() {
    let continues = |start| Column { continues: true, start, ..column(Content::Position) };
    let rows = matrix(&[&[0], &[1]], vec![continues(0), continues(2)]);
    let expected = [[[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]], [[2, 3, 4], [2, 3, 4], [2, 3, 4], [2, 3, 4]]];
    assert_eq!(arrays(&layout(&["chosen", "rejected"], vec![rows], vec![]), &samples()), expected);
}

#[test]
fn plan_of_rows_end_to_end() {
    let columns = [vec![Column { dtype: DType::Bool, ..column(Content::Ones) }], told()].concat();
    let lengths: [&[_]; 2] = [&[Some(3), Some(1)], &[Some(0), Some(2)]];
    for (tail, segments) in [(Tail::Segment, 6), (Tail::Outside, 5)] {
        let plan = plan(&flat(tail, rounded(5, 2), columns.clone()), &lengths, Request::default()).unwrap();
        let matrix = planned(&plan, 0);
        assert_eq!((matrix.width, matrix.tail), (10, (tail == Tail::Segment).then_some(2)));
        let rows: Vec<_> = matrix.rows.iter().map(|row| (row.content, row.cells)).collect();
        assert_eq!(rows, [(3, 4), (0, 0), (1, 2), (2, 2)]);
        let place = |dtype, rows, width, offset| Array { dtype, rows, width, offset };
        assert_eq!(array(&matrix.columns[0]), place(DType::Bool, 1, Some(10), 0));
        assert_eq!(array(&matrix.columns[1]), place(DType::Int32, 4, None, 64));
        assert_eq!(array(&matrix.columns[2]), place(DType::Int32, segments, None, 128));
        assert_eq!(matrix.columns[3].output, Output::Number(4));
        assert_eq!(plan.bytes, 128 + 4 * segments);
    }
}

#[test]
fn width_is_that_of_all_rows_together() {
    let width = |length, min_length| {
        let request = Request { min_length, ..Request::default() };
        let found = plan(&flat(Tail::Segment, length, vec![]), &[&[Some(3), Some(1)], &[Some(0), Some(2)]], request);
        found.map(|plan| planned(&plan, 0).width)
    };
    assert_eq!(width(length(), 0), Ok(6));
    assert_eq!(width(length(), 7), Ok(7));
    assert_eq!(width(Length { min_length: 9, ..length() }, 7), Ok(9));
    assert_eq!(width(Length { max_length: Some(2), ..length() }, 0), Ok(5));
    assert_eq!(width(Length { max_length: Some(2), ..rounded(4, 1) }, 0), Ok(8));
    let buckets = |row_multiple_of| Length { buckets: vec![3, 6, 8], row_multiple_of, ..length() };
    assert_eq!(width(buckets(1), 0), Ok(6));
    assert_eq!(width(buckets(2), 0), Ok(8));
    let error = CollateError::at(0, "chosen", Cause::NoBucket { width: 9, largest: 8 });
    assert_eq!(width(buckets(3), 0), Err(error));
}

#[test]
fn rows_too_large_together_name_the_longest() {
    let found = |lengths: [usize; 4], row_multiple_of| {
        let [a, b, c, d] = lengths.map(Some);
        plan(&flat(Tail::Segment, rounded(1, row_multiple_of), told()), &[&[a, b], &[c, d]], Request::default())
    };
    let half = 1 << 63;
    let error = |result: Result<_, CollateError>| {
        let error = result.unwrap_err();
        assert!(matches!(error.cause, Cause::TooLarge { .. }), "{error}");
        (error.sample.unwrap(), error.key.unwrap())
    };
    assert_eq!(error(found([1, half, half + 1, 2], 1)), (1, "chosen".to_owned()));
    assert_eq!(error(found([1, 1, 1, usize::MAX], 2)), (1, "rejected".to_owned()));
    // No multiple of 0 holds a row.
    assert_eq!(error(found([1, 1, 2, 1], 0)), (1, "chosen".to_owned()));
}

#[test]
fn limit_counts_all_rows_together() {
    let layout = flat(Tail::Segment, rounded(16, 1), vec![padded_with(0, Content::Tokens)]);
    let lengths: [&[_]; 2] = [&[Some(3), Some(9)], &[Some(8), Some(5)]];
    let limit = |limit| plan(&layout, &lengths, Request { max_bytes: Some(limit), ..Request::default() });
    assert_eq!(limit(256).unwrap().bytes, 256);
    let cause = Cause::OverLimit { width: 32, bytes: 256, limit: 255 };
    assert_eq!(limit(255), Err(CollateError::at(0, "rejected", cause)));
}

#[test]
fn numbers_of_float_columns_are_floats() {
    let columns = vec![Column { dtype: DType::Float32, pad: Number::Float(0.5), ..column(Content::Position) }];
    let collated = crate::build::collate_samples(&flat(Tail::Outside, rounded(8, 1), columns), &samples()).unwrap();
    let expected = [0.0, 1.0, 2.0, 0.0, 0.0, 1.0, 0.5, 0.5].map(crate::naive::Plain::Float);
    assert_eq!(crate::memory::rows(&collated, &crate::build::first_array(&collated.plan)), [expected]);
}
