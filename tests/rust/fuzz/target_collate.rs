//! Plans and batches: any layout, any lengths, any values. What the oracle understands is compared with it; of the rest
//! it is asked that arrays lie apart in the block, that every cell is written, and that what is wrong is an error.

use std::mem::MaybeUninit;

use _core::arena::{Memory, take};
use _core::cells::{Bool, DType, Element};
use _core::collate::Collated;
use _core::error::{CollateError, Number};
use _core::layout::{Absent, Column, Content, Key, Layout, Matrix, Order, Scalar, Side, Tail};
use _core::plan::{Array, Lengths, Output, Plan, PlannedMatrix, Request};
use _core::source::Source;
use arbitrary::Result;

use super::given::{Bytes, any, any_form, any_length, any_number, any_size, any_stored, maybe, seldom, several};
use crate::build;
use crate::compare::Given;
use crate::memory::{Stored, rows};
use crate::naive::{Plain, Sample};

/// Three keys of tokens, each with a parallel key of either family behind it; two keys of numbers.
const KEYS: [&str; 11] = ["p", "c", "r", "p_labels", "c_labels", "r_labels", "p_x", "c_x", "r_x", "m", "n"];
const TOKENS: usize = 9;

/// The rows of a matrix: one side, both, and both behind the prompt.
const ROWS: [&[&[Key]]; 5] = [&[&[1]], &[&[1], &[2]], &[&[0, 1]], &[&[0, 1], &[0, 2]], &[&[2], &[1], &[0]]];

pub fn collate(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let _ = match bytes.int_in_range(0..=2) {
        Ok(0) => against_the_oracle(&mut bytes),
        Ok(1) => any_lengths(&mut bytes),
        _ => any_values(&mut bytes),
    };
}

/// Integers that fit the types that hold them, and numbers of a layout that can be counted on fingers.
fn against_the_oracle(u: &mut Bytes<'_>) -> Result<()> {
    let small = |u: &mut Bytes<'_>| u.int_in_range(0..=24);
    let layout = any_layout(u, &small)?;
    let (least, elements): (i64, &[Element]) = *u.choose(&[
        (0, &[Element::Int64, Element::Int32, Element::UInt8, Element::UInt64][..]),
        (-100, &[Element::Int64, Element::Int32, Element::Int8, Element::Int16]),
    ])?;
    let shared = (u.ratio(7, 8)?, u.ratio(7, 8)?);
    let mut samples: Vec<Sample> = Vec::new();
    let mut stored = Vec::new();
    for _ in 0..u.int_in_range(1..=4)? {
        let lens = [any_len(u)?, any_len(u)?, any_len(u)?];
        let mut sample = Sample::new();
        for key in 0..KEYS.len() {
            let there = match key {
                0..3 => !u.ratio(1, 32)?,
                3..6 => shared.0 && !u.ratio(1, 32)?,
                6..TOKENS => shared.1 && !u.ratio(1, 32)?,
                _ => false,
            };
            let len = lens[key % 3] + usize::from(key >= 3 && u.ratio(1, 64)?);
            let salt = u.arbitrary::<u8>()?;
            let value = |place: i64| least + (place * 7 + i64::from(salt)) % 120;
            let row: Option<Vec<i64>> = there.then(|| (0..).take(len).map(value).collect());
            let form = any_form(u, elements)?;
            let fast = u.arbitrary()?;
            stored.push(row.as_ref().map(|row| (Stored::of(row, form), fast)));
            sample.push(row);
        }
        samples.push(sample);
    }
    // The oracle takes lengths of parallel rows for right.
    let fits = |sample: &Sample| {
        (3..TOKENS).all(|key| match (&sample[key], &sample[key % 3]) {
            (Some(row), Some(tokens)) => row.len() == tokens.len(),
            _ => true,
        })
    };
    let right = samples.iter().all(fits);
    let numbers = any_numbers(u, samples.len())?;
    let request = Request { min_length: seldom(u, 0, small)?, max_bytes: None };
    let sources: Vec<_> = stored.iter().map(|stored| stored.as_ref().map(source)).collect();
    let given = Given { layout: &layout, request, samples: &samples, sources: &sources, numbers: &numbers };
    if right {
        given.matches_naive();
    } else {
        let _ = given.collate(Memory::Heap).map_err(|error| speak(&error));
    }
    Ok(())
}

/// Plans alone: nothing is too long for them.
fn any_lengths(u: &mut Bytes<'_>) -> Result<()> {
    let layout = any_layout(u, &any_size)?;
    let samples = u.int_in_range(1..=4)?;
    let shared = u.ratio(3, 4)?;
    let mut lengths = Vec::new();
    for _ in 0..samples {
        let tokens = [any_size(u)?, any_size(u)?, any_size(u)?];
        for key in 0..KEYS.len() {
            let length = if shared { tokens[key % 3] } else { any_size(u)? };
            lengths.push(if u.ratio(1, 16)? { None } else { Some(length) });
        }
    }
    let request = any_request(u)?;
    match Plan::new(&layout, Lengths::new(&lengths, KEYS.len()), request) {
        Ok(plan) => check_plan(&layout, &plan, request, samples),
        Err(error) => speak(&error),
    }
    Ok(())
}

/// Whole batches of any values, in memory that holds other values each time.
fn any_values(u: &mut Bytes<'_>) -> Result<()> {
    let layout = any_layout(u, &any_size)?;
    let samples = u.int_in_range(1..=4)?;
    let mut stored = Vec::new();
    for _ in 0..samples {
        let lens = [any_len(u)?, any_len(u)?, any_len(u)?];
        for key in 0..KEYS.len() {
            let there = key < TOKENS && !u.ratio(1, 16)?;
            stored.push(if there { Some(any_stored(u, lens[key % 3])?) } else { None });
        }
    }
    let sources: Vec<_> = stored.iter().map(|stored| stored.as_ref().map(source)).collect();
    let numbers = any_numbers(u, samples)?;
    let request = any_request(u)?;
    // What is wrong is found before memory is asked for; to fill gigabytes takes too long.
    let request = Request { max_bytes: Some(request.max_bytes.unwrap_or(usize::MAX).min(1 << 16)), ..request };
    let given = Given { layout: &layout, request, samples: &[], sources: &sources, numbers: &numbers };
    let found = [0, 0xFF].map(|value| {
        dirty(value);
        given.collate(Memory::Private)
    });
    match found {
        [Ok(one), Ok(other)] => {
            check_plan(&layout, &one.plan, request, samples);
            assert_eq!(one.plan, other.plan);
            assert_eq!((arrays(&one), &one.counts), (arrays(&other), &other.counts), "every cell is written");
            let taken: usize = one.taken().iter().map(|taken| taken.rows).sum();
            assert_eq!(taken, one.plan.matrices.iter().flatten().map(|matrix| matrix.rows.len()).sum::<usize>());
        }
        [Err(one), Err(other)] => {
            speak(&one);
            assert_eq!(one.to_string(), other.to_string()); // NaN is not NaN
        }
        [one, other] => panic!("{one:?} and then {other:?}"),
    }
    Ok(())
}

/// Leaves memory in the pool of this process, full of this value, which the next batch gets.
fn dirty(value: u8) {
    let mut lease = take(Memory::Private, 1 << 16).unwrap();
    let bytes = lease.bytes();
    lease.cells::<Bool>(0, bytes).fill(MaybeUninit::new(Bool(value)));
}

fn source((stored, fast): &(Stored, bool)) -> Source<'_> {
    let strided = stored.strided();
    if *fast { strided.into_source() } else { Source::Strided(strided) }
}

fn speak(error: &CollateError) {
    assert!(!error.to_string().is_empty());
    let _ = error.kind();
}

fn any_len(u: &mut Bytes<'_>) -> Result<usize> {
    if u.ratio(1, 16)? { u.int_in_range(100..=400) } else { u.int_in_range(0..=9) }
}

fn any_request(u: &mut Bytes<'_>) -> Result<Request> {
    let max_bytes = if u.ratio(1, 4)? { Some(any_size(u)?) } else { None };
    Ok(Request { min_length: seldom(u, 0, any_size)?, max_bytes })
}

fn any_numbers(u: &mut Bytes<'_>, samples: usize) -> Result<Vec<Option<Number>>> {
    let mut numbers = vec![None; samples * KEYS.len()];
    for sample in 0..samples {
        for key in TOKENS..KEYS.len() {
            if !u.ratio(1, 8)? {
                numbers[sample * KEYS.len() + key] = Some(any_scalar(u)?);
            }
        }
    }
    Ok(numbers)
}

fn any_scalar(u: &mut Bytes<'_>) -> Result<Number> {
    Ok(match u.int_in_range(0..=3_u8)? {
        0 | 1 => Number::Int(any_number(u)?),
        2 => Number::Float(u.arbitrary()?),
        _ => Number::Unsigned(u.arbitrary::<u64>()? | 1 << 63),
    })
}

fn any_layout(u: &mut Bytes<'_>, size: &impl Fn(&mut Bytes<'_>) -> Result<usize>) -> Result<Layout> {
    let matrices = several(u, 0..=3, |u| any_matrix(u, size))?;
    let scalar = |u: &mut Bytes<'_>| {
        let keys: &[Key] = u.choose(&[&[9][..], &[10], &[9, 10]])?;
        let dtype = any_dtype(u)?;
        let default = maybe(u, any_scalar)?.filter(|number| dtype.fits(*number));
        Ok(Scalar { dtype, default, optional: u.arbitrary()?, ..build::scalar(keys) })
    };
    let scalars = several(u, 0..=2, scalar)?;
    let counted = several(u, 0..=2, any_number)?;
    let order = *u.choose(&[Order::Grouped, Order::Interleaved])?;
    Ok(Layout { order, counted, ..build::layout(&KEYS, matrices, scalars) })
}

fn any_dtype(u: &mut Bytes<'_>) -> Result<DType> {
    Ok(u.choose(&DType::NAMES)?.1)
}

fn any_matrix(u: &mut Bytes<'_>, size: &impl Fn(&mut Bytes<'_>) -> Result<usize>) -> Result<Matrix> {
    let rows: &[&[Key]] = u.choose(&ROWS)?;
    let plain = build::matrix(rows, Vec::new());
    Ok(Matrix {
        columns: several(u, 0..=4, |u| any_column(u, &plain.rows))?,
        side: *u.choose(&[Side::Right, Side::Left])?,
        flat: *u.choose(&[None, Some(Tail::Segment), Some(Tail::Outside)])?,
        drop_last: seldom(u, 0, any_size)?,
        optional: u.arbitrary()?,
        length: any_length(u, size)?,
        ..plain
    })
}

fn any_column(u: &mut Bytes<'_>, rows: &[Vec<Key>]) -> Result<Column> {
    let family = |first: Key| rows.iter().map(|row| row.iter().map(|key| key + first).collect()).collect();
    let content = match u.int_in_range(0..=9_u8)? {
        0 => Content::Tokens,
        1 => Content::Ones,
        2 => Content::Parallel(family(3)),
        3 => Content::Parallel(family(6)),
        4 => Content::Position,
        5 => Content::Row,
        6 => Content::Segment,
        7 => Content::Length,
        8 => Content::CuSeqLens,
        _ => Content::MaxLength,
    };
    let is_value = matches!(content, Content::Tokens | Content::Ones | Content::Parallel(_));
    let dtype = any_dtype(u)?;
    let pad = Some(any_number(u)?).filter(|pad| dtype.fits(Number::Int(*pad))).unwrap_or(0);
    let (skip, shift) = (seldom(u, 0, any_size)?, seldom(u, 0, any_size)?);
    Ok(Column {
        dtype,
        pad: Number::Int(pad),
        // To go on behind tokens that no cell shows has no meaning; nor that what is counted differs.
        continues: content == Content::Position && shift == 0 && u.arbitrary()?,
        start: seldom(u, 0, any_number)?,
        skip,
        shift,
        on: maybe(u, any::<[bool; 2]>)?.map(Vec::from),
        differs_from: maybe(u, any_number)?.filter(|_| is_value).map(Number::Int),
        absent: *u.choose(&[Absent::Error, Absent::LeftOut, Absent::Ones])?,
        nonempty: u.ratio(1, 8)?,
        scored: u.ratio(1, 8)?,
        ..build::column(content)
    })
}

/// The arrays of a batch, read back.
fn arrays(collated: &Collated) -> Vec<Vec<Vec<Plain>>> {
    placed(&collated.plan).iter().map(|array| rows(collated, array)).collect()
}

fn placed(plan: &Plan) -> Vec<Array> {
    let columns = plan.matrices.iter().flatten().flat_map(|matrix| &matrix.columns);
    let arrays = columns.filter_map(|column| match column.output {
        Output::Array(array) => Some(array),
        Output::Number(_) => None,
    });
    arrays.chain(plan.scalars.iter().copied().flatten()).collect()
}

/// What holds of every plan.
fn check_plan(layout: &Layout, plan: &Plan, request: Request, samples: usize) {
    let mut end = 0;
    for array in placed(plan) {
        assert!(array.offset >= end && array.offset.is_multiple_of(64), "{array:?} after {end}");
        end = array.offset + array.rows * array.width.unwrap_or(1) * array.dtype.size();
    }
    assert!(end == plan.bytes && isize::try_from(end).is_ok());
    if plan.matrices.iter().any(Option::is_some) {
        assert!(request.max_bytes.is_none_or(|most| plan.bytes <= most));
    }
    assert!(plan.truncated.is_sorted_by(|a, b| a < b) && plan.truncated.iter().all(|&sample| sample < samples));
    for (matrix, planned) in layout.matrices.iter().zip(&plan.matrices) {
        match planned {
            Some(planned) => check_matrix(matrix, planned, plan, request, samples),
            None => assert!(matrix.optional),
        }
    }
}

fn check_matrix(matrix: &Matrix, planned: &PlannedMatrix, plan: &Plan, request: Request, samples: usize) {
    let length = &matrix.length;
    assert_eq!(planned.rows.len(), matrix.rows.len() * samples);
    assert!(planned.width >= length.min_length.max(request.min_length));
    if length.buckets.is_empty() {
        assert!(planned.width.is_multiple_of(length.multiple_of));
    } else {
        assert!(length.buckets.contains(&planned.width));
    }
    for row in &planned.rows {
        assert!(row.start <= row.end && row.end <= row.tokens && row.kept() == length.kept(row.tokens), "{row:?}");
        assert!(row.content == row.kept().saturating_sub(matrix.drop_last) && row.content <= row.cells, "{row:?}");
        assert!(row.content <= planned.rows[planned.longest].content);
        assert!(plan.truncated.contains(&row.sample) || !row.is_truncated());
    }
    let cells = planned.rows.iter().try_fold(0_usize, |sum, row| sum.checked_add(row.cells));
    if planned.flat {
        let tail = planned.width - cells.unwrap();
        assert_eq!(planned.tail, Some(tail).filter(|&tail| tail > 0 && matrix.flat == Some(Tail::Segment)));
        assert!(planned.rows.iter().all(|row| row.cells.is_multiple_of(length.row_multiple_of)));
    } else {
        assert!(planned.tail.is_none() && planned.rows.iter().all(|row| row.cells == planned.width));
    }
}
