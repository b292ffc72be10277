//! Random batches: layouts of every shape, and samples whose values lie in memory in every form.

use _core::cells::{DType, Element};
use _core::error::Number;
use _core::layout::{Absent, Column, Content, Key, Layout, Length, Matrix, Order, Side, Tail, Truncation};
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
    let row_multiple_of = prop_oneof![Just(1), 1_usize..9];
    (max_length, truncation, 0_usize..12, 1_usize..9, buckets, row_multiple_of).prop_map(
        |(max_length, truncation, min_length, multiple_of, buckets, row_multiple_of)| Length {
            max_length,
            truncation,
            min_length,
            multiple_of,
            buckets,
            row_multiple_of,
        },
    )
}

/// The first number of what is counted: seldom one that soon does not fit.
fn any_start() -> impl Strategy<Value = i64> {
    prop_oneof![
        12 => select(vec![0_i64, 1, -1, -100]),
        1 => select(vec![i64::from(i32::MAX) - 4, i64::from(i32::MIN) - 2, i64::MIN, i64::MAX - 4, i64::MAX]),
    ]
}

/// Where the content of a column begins, and which of its cells are padding.
fn any_place() -> impl Strategy<Value = (i64, usize, usize, bool)> {
    let few = || prop_oneof![4 => Just(0_usize), 2 => 1_usize..4, 1 => select(vec![260, usize::MAX])];
    (any_start(), few(), few(), any::<bool>())
}

/// A column for any rows; its content is filled in by `content`.
fn any_column() -> impl Strategy<Value = (usize, Column)> {
    (
        0_usize..10,
        select(DType::NAMES.to_vec()),
        select(vec![0_i64, 1, -100, 7]),
        option::of(any::<[bool; 2]>()),
        option::of(select(vec![-100_i64, 0, 1])),
        select(vec![Absent::Error, Absent::LeftOut, Absent::LeftOut, Absent::Ones, Absent::Ones]),
        (seldom(), seldom()),
        any_place(),
    )
        .prop_map(|(content, (_, dtype), pad, on, differs_from, absent, (nonempty, scored), place)| {
            let (start, skip, shift, continues) = place;
            let dtype = if content >= COUNTED && dtype == DType::Bool { DType::Int32 } else { dtype };
            // To go on behind tokens that no cell shows has no meaning.
            let continues = continues && content == POSITION && shift == 0;
            let differs_from = differs_from.filter(|_| content < COUNTED);
            let pad = Number::Int(if dtype == DType::Bool { pad.clamp(0, 1) } else { pad });
            let differs_from = differs_from.map(Number::Int);
            let on = on.map(Vec::from);
            let plain = build::column(Content::Tokens);
            let column = Column { dtype, pad, on, differs_from, absent, nonempty, scored, ..plain };
            (content, Column { start, skip, shift, continues, ..column })
        })
}

/// Contents from this one on are not values but what is counted.
const COUNTED: usize = 4;
const POSITION: usize = 4;

fn content(which: usize, rows: &[Vec<Key>]) -> Content {
    let family = |first: Key| rows.iter().map(|row| row.iter().map(|key| key + first).collect()).collect();
    match which {
        0 => Content::Tokens,
        1 => Content::Ones,
        2 => Content::Parallel(family(3)),
        3 => Content::Parallel(family(6)),
        POSITION => Content::Position,
        5 => Content::Row,
        6 => Content::Segment,
        7 => Content::Length,
        8 => Content::CuSeqLens,
        _ => Content::MaxLength,
    }
}

fn any_matrix() -> impl Strategy<Value = Matrix> {
    let sides = select(vec![Side::Left, Side::Right]);
    let flat = select(vec![None, None, Some(Tail::Segment), Some(Tail::Outside)]);
    let drop_last = prop_oneof![4 => Just(0_usize), 2 => 1_usize..4, 1 => Just(usize::MAX)];
    let whole = (flat, drop_last, any::<bool>());
    (select(ROWS.to_vec()), vec(any_column(), 0..5), sides, any_length(), whole).prop_map(
        |(rows, columns, side, length, (flat, drop_last, optional))| {
            let plain = build::matrix(rows, Vec::new());
            let columns =
                columns.into_iter().map(|(which, column)| Column { content: content(which, &plain.rows), ..column });
            Matrix { columns: columns.collect(), side, length, flat, drop_last, optional, ..plain }
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

/// What samples lack: some of the keys of tokens, and, if that is said, what is parallel to them; in all of the
/// samples, or in the first alone.
type Gap = ([bool; 3], bool, bool);

fn any_gap() -> impl Strategy<Value = Gap> {
    (any::<[bool; 3]>(), prop::bool::weighted(0.6), prop::bool::weighted(0.8))
}

fn without(mut samples: Vec<Sample>, (lacking, parallel, all): Gap) -> Vec<Sample> {
    let count = if all { samples.len() } else { 1 };
    for sample in &mut samples[..count] {
        for key in 0..if parallel { KEYS.len() } else { lacking.len() } {
            if lacking[key % lacking.len()] {
                sample[key] = None;
            }
        }
    }
    samples
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
    let counted = prop_oneof![Just(vec![]), vec(-1_i64..3, 1..3)];
    let layout = (vec(any_matrix(), 1..4), any_order(), counted).prop_map(|(matrices, order, counted)| Layout {
        order,
        counted,
        ..build::layout(&KEYS, matrices, Vec::new())
    });
    let samples = (
        select(vec![Alphabet::Bits, Alphabet::Labels, Alphabet::Bytes]),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.8),
        1_usize..6,
    )
        .prop_flat_map(|(alphabet, labels, weights, count)| {
            let forms = vec((any_form(alphabet), any::<bool>()), count * KEYS.len());
            let samples = (vec(any_sample(alphabet, labels, weights), count), option::weighted(0.2, any_gap()));
            (samples.prop_map(|(samples, gap)| gap.into_iter().fold(samples, without)), forms)
        });
    (layout, samples, prop_oneof![2 => Just(0), 1 => 0_usize..20]).prop_map(|(layout, (samples, forms), min_length)| {
        let row = |(row, (form, fast)): (&Option<Vec<i64>>, _)| row.as_ref().map(|row| (Stored::of(row, form), fast));
        let stored = samples.iter().flatten().zip(forms).map(row).collect();
        Case { layout, request: Request { min_length, max_bytes: None }, samples, stored }
    })
}
