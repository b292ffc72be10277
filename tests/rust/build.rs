//! Layouts in few words: what a test does not name has the plainest value.

use _core::arena::Memory;
use _core::cells::{DType, Values};
use _core::collate::{Batch, Collated, Stop, collate};
use _core::error::{CollateError, Number};
use _core::layout::{Absent, Column, Content, Key, Layout, Length, Matrix, Order, Scalar, Side, Truncation};
use _core::plan::{Array, Lengths, Output, Plan, PlannedColumn, PlannedMatrix, Request};
use _core::source::Source;

use crate::naive::Sample;

pub(crate) fn length() -> Length {
    Length {
        max_length: None,
        truncation: Truncation::KeepStart,
        min_length: 0,
        multiple_of: 1,
        buckets: Vec::new(),
        row_multiple_of: 1,
    }
}

pub(crate) fn at_most(max_length: usize, truncation: Truncation) -> Length {
    Length { max_length: Some(max_length), truncation, ..length() }
}

pub(crate) fn column(content: Content) -> Column {
    Column {
        name: "column".to_owned(),
        content,
        pad: Number::Int(0),
        continues: false,
        dtype: DType::Int64,
        start: 0,
        skip: 0,
        shift: 0,
        on: None,
        differs_from: None,
        absent: Absent::Error,
        nonempty: false,
        scored: false,
    }
}

pub(crate) fn parallel(rows: &[&[Key]]) -> Content {
    Content::Parallel(rows.iter().map(|row| row.to_vec()).collect())
}

pub(crate) fn matrix(rows: &[&[Key]], columns: Vec<Column>) -> Matrix {
    Matrix {
        rows: rows.iter().map(|row| row.to_vec()).collect(),
        columns,
        side: Side::Right,
        flat: None,
        drop_last: 0,
        optional: false,
        length: length(),
    }
}

pub(crate) fn scalar(keys: &[Key]) -> Scalar {
    Scalar { name: "scalar".to_owned(), keys: keys.to_vec(), dtype: DType::Float32, default: None, optional: false }
}

pub(crate) fn layout(keys: &[&str], matrices: Vec<Matrix>, scalars: Vec<Scalar>) -> Layout {
    Layout {
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        matrices,
        scalars,
        order: Order::Grouped,
        counted: Vec::new(),
    }
}

/// Plans a batch of `lengths[sample][key]`.
pub(crate) fn plan(layout: &Layout, lengths: &[&[Option<usize>]], request: Request) -> Result<Plan, CollateError> {
    Plan::new(layout, Lengths::new(&lengths.concat(), layout.keys.len()), request)
}

/// A matrix of the plan; it must not be left out.
pub(crate) fn planned(plan: &Plan, matrix: usize) -> &PlannedMatrix {
    plan.matrices[matrix].as_ref().unwrap()
}

/// Where a column lies; it must be no number.
pub(crate) fn array(column: &PlannedColumn) -> Array {
    match column.output {
        Output::Array(array) => array,
        Output::Number(number) => panic!("{number} is no array"),
    }
}

/// Where the first column of the first matrix lies.
pub(crate) fn first_array(plan: &Plan) -> Array {
    array(&planned(plan, 0).columns[0])
}

/// Collates a batch of `sources[sample][key]`, without numbers.
pub(crate) fn collate_sources(layout: &Layout, sources: &[Option<Source<'_>>]) -> Result<Collated, CollateError> {
    let numbers = vec![None; sources.len()];
    plain(collate(layout, Batch { sources, numbers: &numbers }, Request::default(), Memory::Heap))
}

/// Collates plain samples, their values lying side by side as int64.
pub(crate) fn collate_samples(layout: &Layout, samples: &[Sample]) -> Result<Collated, CollateError> {
    let rows = samples.iter().flatten().map(Option::as_deref);
    let sources: Vec<Option<Source<'_>>> = rows.map(|row| Some(Values::Int64(row?).into())).collect();
    collate_sources(layout, &sources)
}

/// The error, if there is one: sources that are not Python lists are always plain.
pub(crate) fn plain<T>(result: Result<T, Stop>) -> Result<T, CollateError> {
    result.map_err(|stop| match stop {
        Stop::Error(error) => error,
        Stop::NotPlain => panic!("an array is plain"),
    })
}
