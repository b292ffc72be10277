//! Small batches whole: literal matrices, a comment for each row.

use _core::cells::DType;
use _core::error::Number;
use _core::layout::{Absent, Column, Content, Layout, Length, Matrix, Order, Side, Truncation};
use _core::plan::{Output, PlannedColumn};

use crate::build::{at_most, collate_samples, column, layout, length, matrix, parallel};
use crate::memory::ints;
use crate::naive::Sample;

/// The arrays of a batch, in order; a number is one cell.
pub(crate) fn arrays(layout: &Layout, samples: &[Sample]) -> Vec<Vec<Vec<i64>>> {
    let collated = collate_samples(layout, samples).unwrap();
    let columns = collated.plan.matrices.iter().flatten().flat_map(|matrix| &matrix.columns);
    let cells = |column: &PlannedColumn| match column.output {
        Output::Array(array) => ints(&collated, &array),
        Output::Number(number) => vec![vec![number.try_into().unwrap()]],
    };
    columns.map(cells).collect()
}

pub(crate) fn padded_with(pad: i64, content: Content) -> Column {
    Column { pad: Number::Int(pad), ..column(content) }
}

/// The layout of TRL's `DataCollatorForPreference`: rows of prompt and completion, chosen first.
fn concatenated() -> Layout {
    let completion = Column { on: Some(vec![false, true]), scored: true, ..column(Content::Ones) };
    let columns = vec![column(Content::Tokens), column(Content::Ones), completion];
    layout(&["prompt_ids", "chosen_ids", "rejected_ids"], vec![matrix(&[&[0, 1], &[0, 2]], columns)], vec![])
}

fn prompts() -> Vec<Sample> {
    vec![
        vec![Some(vec![1, 2, 3]), Some(vec![4, 5]), Some(vec![6])],
        vec![Some(vec![7, 8]), Some(vec![9, 10]), Some(vec![11, 12, 13])],
    ]
}

#[test]
fn prompt_and_completion_joined() {
    let expected = [
        [
            [1, 2, 3, 4, 5],    // prompt + chosen, sample 0
            [7, 8, 9, 10, 0],   // prompt + chosen, sample 1
            [1, 2, 3, 6, 0],    // prompt + rejected, sample 0
            [7, 8, 11, 12, 13], // prompt + rejected, sample 1
        ],
        [
            [1, 1, 1, 1, 1], // attention mask
            [1, 1, 1, 1, 0],
            [1, 1, 1, 1, 0],
            [1, 1, 1, 1, 1],
        ],
        [
            [0, 0, 0, 1, 1], // completion mask
            [0, 0, 1, 1, 0],
            [0, 0, 0, 1, 0],
            [0, 0, 1, 1, 1],
        ],
    ];
    assert_eq!(arrays(&concatenated(), &prompts()), expected);
}

#[test]
fn prompt_and_completion_interleaved() {
    let layout = Layout { order: Order::Interleaved, ..concatenated() };
    let expected = [
        [1, 2, 3, 4, 5],    // chosen, sample 0
        [1, 2, 3, 6, 0],    // rejected, sample 0
        [7, 8, 9, 10, 0],   // chosen, sample 1
        [7, 8, 11, 12, 13], // rejected, sample 1
    ];
    assert_eq!(arrays(&layout, &prompts())[0], expected);
}

#[test]
fn joined_rows_are_cut_across_segments() {
    let mut layout = concatenated();
    layout.matrices[0].length = at_most(3, Truncation::KeepEnd);
    let expected = [
        [
            [3, 4, 5],    // one token of the prompt is left
            [8, 9, 10],   //
            [2, 3, 6],    // two are
            [11, 12, 13], // none is
        ],
        [[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]],
        [[0, 1, 1], [0, 1, 1], [0, 0, 1], [1, 1, 1]],
    ];
    assert_eq!(arrays(&layout, &prompts()), expected);
}

#[test]
fn chosen_and_rejected_apart() {
    // InternVL: each side as wide as its own longest row; a token that equals the pad is no padding.
    let side = |ids, labels: &[_]| {
        let mask = Column { dtype: DType::Bool, ..column(Content::Ones) };
        matrix(&[&[ids]], vec![column(Content::Tokens), padded_with(-100, parallel(&[labels])), mask])
    };
    let keys = ["chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"];
    let layout = layout(&keys, vec![side(0, &[1]), side(2, &[3])], vec![]);
    let samples: [Sample; 2] = [
        [vec![5, 0, 6], vec![-100, 0, 6], vec![5, 7], vec![-100, 7]].map(Some).to_vec(),
        [vec![8], vec![8], vec![9], vec![9]].map(Some).to_vec(),
    ];
    let expected = [
        vec![vec![5, 0, 6], vec![8, 0, 0]],          // chosen_input_ids
        vec![vec![-100, 0, 6], vec![8, -100, -100]], // chosen_labels
        vec![vec![1, 1, 1], vec![1, 0, 0]],          // chosen_attention_mask
        vec![vec![5, 7], vec![9, 0]],                // rejected_input_ids
        vec![vec![-100, 7], vec![9, -100]],          // rejected_labels
        vec![vec![1, 1], vec![1, 0]],                // rejected_attention_mask
    ];
    assert_eq!(arrays(&layout, &samples), expected);
}

#[test]
fn prompt_on_the_left() {
    // TRL 0.14 to 0.28: prompts end where completions begin.
    let prompt = matrix(&[&[0]], vec![padded_with(9, Content::Tokens), column(Content::Ones)]);
    let prompt = Matrix { side: Side::Left, length: Length { multiple_of: 4, ..length() }, ..prompt };
    let chosen = matrix(&[&[1]], vec![padded_with(9, Content::Tokens)]);
    let layout = layout(&["prompt_ids", "chosen_ids", "rejected_ids"], vec![prompt, chosen], vec![]);
    let expected = [
        vec![vec![9, 1, 2, 3], vec![9, 9, 7, 8]], // prompt_input_ids
        vec![vec![0, 1, 1, 1], vec![0, 0, 1, 1]], // prompt_attention_mask
        vec![vec![4, 5], vec![9, 10]],            // chosen_input_ids
    ];
    assert_eq!(arrays(&layout, &prompts()), expected);
}

#[test]
fn mask_out_of_labels() {
    let mask = Column { differs_from: Some(Number::Int(-100)), dtype: DType::Bool, ..column(parallel(&[&[1]])) };
    let layout = layout(&["ids", "labels"], vec![matrix(&[&[0]], vec![mask])], vec![]);
    let samples = [
        vec![Some(vec![1, 2, 3]), Some(vec![-100, 0, 3])],
        vec![Some(vec![1]), Some(vec![-100])],
        vec![Some(vec![]), Some(vec![])],
    ];
    assert_eq!(arrays(&layout, &samples), [[[0, 1, 1], [0, 0, 0], [0, 0, 0]]]);
}

#[test]
fn ones_that_differ_from_a_number() {
    for absent in [Absent::Error, Absent::Ones] {
        let content = || if absent == Absent::Ones { parallel(&[&[1]]) } else { Content::Ones };
        let from = |from| Column { differs_from: Some(Number::Int(from)), absent, ..padded_with(9, content()) };
        let layout = layout(&["ids", "mask"], vec![matrix(&[&[0]], vec![from(0), from(1)])], vec![]);
        let samples = [vec![Some(vec![5, 6]), None], vec![Some(vec![7]), None]];
        let expected = [
            [[1, 1], [1, 9]], // 1 is not 0
            [[0, 0], [0, 9]], // but it is 1
        ];
        assert_eq!(arrays(&layout, &samples), expected);
    }
}

#[test]
fn rows_without_tokens() {
    let layout = layout(&["ids"], vec![matrix(&[&[0]], vec![padded_with(9, Content::Tokens)])], vec![]);
    assert_eq!(arrays(&layout, &[vec![Some(vec![])], vec![Some(vec![])]]), [[[0_i64; 0], []]]);
    assert_eq!(arrays(&layout, &[vec![Some(vec![])], vec![Some(vec![1, 2])]]), [[[9, 9], [1, 2]]]);
}

#[test]
fn one_bucket_for_all() {
    let buckets = Length { buckets: vec![2, 4], ..length() };
    let matrix = Matrix { length: buckets, ..matrix(&[&[0]], vec![padded_with(9, Content::Tokens)]) };
    let layout = layout(&["ids"], vec![matrix], vec![]);
    let row = |row: &[i64]| vec![Some(row.to_vec())];
    assert_eq!(arrays(&layout, &[row(&[1]), row(&[2])]), [[[1, 9], [2, 9]]]);
    assert_eq!(arrays(&layout, &[row(&[1]), row(&[2, 3, 4])]), [[[1, 9, 9, 9], [2, 3, 4, 9]]]);
}
