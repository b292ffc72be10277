//! Random batches: layouts of every shape, and samples whose values lie in memory in every form.

use _core::cells::{DType, Element};
use _core::error::Number;
use _core::layout::{Absent, Column, Content, Key, Layout, Length, Matrix, Order, Side, Truncation};
use _core::plan::Request;
use _core::source::Source;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::build;
use crate::memory::{Form, Stored};
use crate::naive::Sample;

/// Three keys of tokens, each with a parallel key of either family behind it.
const KEYS: [&str; 9] = [
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "prompt_labels",
    "chosen_labels",
    "rejected_labels",
    "prompt_weights",
    "chosen_weights",
    "rejected_weights",
];

/// The rows of a matrix: one side, both, and both behind the prompt.
const ROWS: [&[&[Key]]; 5] = [&[&[1]], &[&[1], &[2]], &[&[0, 1]], &[&[0, 1], &[0, 2]], &[&[2], &[1], &[0]]];

/// A batch to be collated.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) layout: Layout,
    pub(crate) request: Request,
    pub(crate) samples: Vec<Sample>,
    /// The values of the samples in memory, and whether the array is made the fastest source.
    stored: Vec<Option<(Stored, bool)>>,
}

impl Case {
    pub(crate) fn sources(&self) -> Vec<Option<Source<'_>>> {
        fn source((stored, fast): &(Stored, bool)) -> Source<'_> {
            let strided = stored.strided();
            if *fast { strided.into_source() } else { Source::Strided(strided) }
        }
        self.stored.iter().map(|stored| stored.as_ref().map(source)).collect()
    }
}

/// The values that a batch may hold.
#[derive(Clone, Copy, Debug)]
enum Alphabet {
    Bits,
    Labels,
    Bytes,
}

impl Alphabet {
    fn values(self) -> BoxedStrategy<i64> {
        match self {
            Self::Bits => (0_i64..=1).boxed(),
            Self::Labels => prop_oneof![2 => Just(-100), 1 => 0_i64..100].boxed(),
            Self::Bytes => (-128_i64..=127).boxed(),
        }
    }

    /// The types that hold all of them.
    fn elements(self) -> &'static [Element] {
        use Element::{Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
        match self {
            Self::Bits => &[Int64, Int8, Int16, Int32, UInt8, UInt16, UInt32, UInt64, Bool],
            Self::Labels | Self::Bytes => &[Int64, Int8, Int16, Int32],
        }
    }
}

/// Now and then true.
fn seldom() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

fn any_order() -> impl Strategy<Value = Order> {
    select(vec![Order::Grouped, Order::Interleaved])
}

pub(crate) fn any_length() -> impl Strategy<Value = Length> {
    let max_length = option::of(prop_oneof![4 => 0_usize..16, 1 => 250_usize..520]);
    let truncation = prop_oneof![
        5 => Just(Truncation::KeepStart),
        5 => Just(Truncation::KeepEnd),
        1 => Just(Truncation::Error),
    ];
    let buckets = btree_set(prop_oneof![1 => 0_usize..30, 4 => Just(2000)], 1..5).prop_map(|b| b.into_iter().collect());
    let buckets = prop_oneof![3 => Just(vec![]), 1 => buckets];
    (max_length, truncation, 0_usize..12, 1_usize..9, buckets).prop_map(
        |(max_length, truncation, min_length, multiple_of, buckets)| Length {
            max_length,
            truncation,
            min_length,
            multiple_of,
            buckets,
        },
    )
}

/// A column for any rows; its content is filled in by `content`.
fn any_column() -> impl Strategy<Value = (usize, Column)> {
    (
        0_usize..4,
        select(DType::NAMES.to_vec()),
        select(vec![0_i64, 1, -100, 7]),
        option::of(any::<[bool; 2]>()),
        option::of(select(vec![-100_i64, 0, 1])),
        select(vec![Absent::Error, Absent::LeftOut, Absent::LeftOut, Absent::Ones, Absent::Ones]),
        (seldom(), seldom()),
    )
        .prop_map(|(content, (_, dtype), pad, on, differs_from, absent, (nonempty, scored))| {
            let pad = Number::Int(if dtype == DType::Bool { pad.clamp(0, 1) } else { pad });
            let differs_from = differs_from.map(Number::Int);
            let on = on.map(Vec::from);
            let plain = build::column(Content::Tokens);
            (content, Column { dtype, pad, on, differs_from, absent, nonempty, scored, ..plain })
        })
}

fn content(which: usize, rows: &[Vec<Key>]) -> Content {
    let family = |first: Key| rows.iter().map(|row| row.iter().map(|key| key + first).collect()).collect();
    match which {
        0 => Content::Tokens,
        1 => Content::Ones,
        2 => Content::Parallel(family(3)),
        _ => Content::Parallel(family(6)),
    }
}

fn any_matrix() -> impl Strategy<Value = Matrix> {
    (select(ROWS.to_vec()), vec(any_column(), 0..5), select(vec![Side::Left, Side::Right]), any_length()).prop_map(
        |(rows, columns, side, length)| {
            let plain = build::matrix(rows, Vec::new());
            let columns =
                columns.into_iter().map(|(which, column)| Column { content: content(which, &plain.rows), ..column });
            Matrix { columns: columns.collect(), side, length, ..plain }
        },
    )
}

/// The rows of one sample: a parallel row is as long as its tokens, or not there.
fn any_sample(alphabet: Alphabet, labels: bool, weights: bool) -> impl Strategy<Value = Sample> {
    let len = || prop_oneof![12 => 0_usize..12, 1 => 250_usize..260, 1 => 500_usize..520];
    (len(), len(), len()).prop_flat_map(move |(prompt, chosen, rejected)| {
        let row = |there: bool, len| {
            if there { vec(alphabet.values(), len).prop_map(Some).boxed() } else { Just(None).boxed() }
        };
        let rows = [true, labels, weights].map(|there| [prompt, chosen, rejected].map(|len| row(there, len)));
        rows.concat()
    })
}

fn any_form(alphabet: Alphabet) -> impl Strategy<Value = Form> {
    let plain = select(alphabet.elements()).prop_map(Form::plain);
    let apart = (plain.clone(), 0_isize..9, any::<bool>(), 0_usize..8, any::<bool>());
    let any = apart.prop_map(|(plain, gap, backwards, misaligned, swapped)| {
        let stride = if backwards { -plain.stride - gap } else { plain.stride + gap };
        Form { stride, misaligned, swapped, ..plain }
    });
    prop_oneof![plain, any]
}

pub(crate) fn any_case() -> impl Strategy<Value = Case> {
    let layout = (vec(any_matrix(), 1..4), any_order())
        .prop_map(|(matrices, order)| Layout { order, ..build::layout(&KEYS, matrices, Vec::new()) });
    let samples = (
        select(vec![Alphabet::Bits, Alphabet::Labels, Alphabet::Bytes]),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.8),
        1_usize..6,
    )
        .prop_flat_map(|(alphabet, labels, weights, count)| {
            let forms = vec((any_form(alphabet), any::<bool>()), count * KEYS.len());
            (vec(any_sample(alphabet, labels, weights), count), forms)
        });
    (layout, samples, prop_oneof![2 => Just(0), 1 => 0_usize..20]).prop_map(|(layout, (samples, forms), min_length)| {
        let row = |(row, (form, fast)): (&Option<Vec<i64>>, _)| row.as_ref().map(|row| (Stored::of(row, form), fast));
        let stored = samples.iter().flatten().zip(forms).map(row).collect();
        Case { layout, request: Request { min_length, max_bytes: None }, samples, stored }
    })
}
