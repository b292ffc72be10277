//! The oracle of a matrix: cell by cell, on plain vectors.

use _core::error::Number;
use _core::layout::{Absent, Column, Content, Key, Layout, Length, Matrix, Side, Tail, Truncation};

use crate::naive::{self, Sample};

/// The batch is to be refused.
#[derive(Debug)]
pub(crate) struct Wrong;

/// What a column must be in the batch.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Array(Vec<Vec<i128>>),
    Number(usize),
}

/// A token, by where it is: its segment of the row, and its place there.
type Token = (usize, usize);

struct Row<'a> {
    sample: &'a Sample,
    part: usize,
    /// Its index among the rows.
    index: usize,
    tokens: usize,
    kept: Vec<Token>,
    content: usize,
}

/// What is left of a row.
pub(crate) fn cut<T: Clone>(row: &[T], length: &Length) -> Result<Vec<T>, Wrong> {
    match (length.max_length, length.truncation) {
        (Some(limit), Truncation::KeepStart) if row.len() > limit => Ok(row[..limit].to_vec()),
        (Some(limit), Truncation::KeepEnd) if row.len() > limit => Ok(row[row.len() - limit..].to_vec()),
        (Some(limit), Truncation::Error) if row.len() > limit => Err(Wrong),
        _ => Ok(row.to_vec()),
    }
}

/// The width for so many cells.
pub(crate) fn width(cells: usize, length: &Length, min_length: usize) -> Result<usize, Wrong> {
    let least = cells.max(length.min_length).max(min_length);
    match length.buckets.as_slice() {
        [] => Ok(round_up(least, length.multiple_of)),
        buckets => buckets.iter().copied().filter(|bucket| *bucket >= least).min().ok_or(Wrong),
    }
}

fn round_up(least: usize, multiple_of: usize) -> usize {
    (least..least + multiple_of).find(|number| number % multiple_of == 0).unwrap()
}

fn lacks(samples: &[Sample], keys: &[Key]) -> bool {
    samples.iter().any(|sample| keys.iter().any(|&key| sample[key].is_none()))
}

fn has(samples: &[Sample], keys: &[Key]) -> bool {
    samples.iter().any(|sample| keys.iter().any(|&key| sample[key].is_some()))
}

/// Whether no sample has what an optional matrix has for itself: tokens that no other one has, if there are any.
fn is_left_out(layout: &Layout, index: usize, samples: &[Sample]) -> Result<bool, Wrong> {
    let matrix = &layout.matrices[index];
    let mut others = Vec::new();
    for (other, matrix) in layout.matrices.iter().enumerate() {
        if other != index {
            others.extend(matrix.rows.concat());
        }
    }
    let tokens = matrix.rows.concat();
    let mut own: Vec<usize> = (0..tokens.len()).filter(|&place| !others.contains(&tokens[place])).collect();
    if own.is_empty() {
        own = (0..tokens.len()).collect();
    }
    let has_own = |keys: &[Key]| own.iter().any(|&place| has(samples, &[keys[place]]));
    if !matrix.optional || has_own(&tokens) {
        return Ok(false);
    }
    for column in &matrix.columns {
        if let Content::Parallel(keys) = &column.content
            && has_own(&keys.concat())
        {
            return Err(Wrong);
        }
    }
    Ok(true)
}

/// The columns of a matrix by index; `None` where it is left out.
pub(crate) fn matrix(
    layout: &Layout,
    matrix: usize,
    samples: &[Sample],
    min_length: usize,
) -> Result<Option<Vec<(usize, Answer)>>, Wrong> {
    if is_left_out(layout, matrix, samples)? {
        return Ok(None);
    }
    let matrix = &layout.matrices[matrix];
    if lacks(samples, &matrix.rows.concat()) {
        return Err(Wrong);
    }
    let rows = rows(layout, matrix, samples)?;

    let contents: Vec<usize> = rows.iter().map(|row| row.content).collect();
    let rounded: Vec<usize> = contents.iter().map(|&cells| round_up(cells, matrix.length.row_multiple_of)).collect();
    let (taken, mut segments) = match matrix.flat {
        Some(_) => (rounded.iter().sum(), rounded.clone()),
        None => (*contents.iter().max().unwrap(), contents.clone()),
    };
    let width = width(taken, &matrix.length, min_length)?;
    let (cells, tail) = match matrix.flat {
        Some(_) => (rounded, width - taken),
        None => (vec![width; rows.len()], 0),
    };
    if matrix.flat == Some(Tail::Segment) && tail > 0 {
        segments.push(tail);
    }

    let mut columns = Vec::new();
    for (index, column) in matrix.columns.iter().enumerate() {
        let mut as_ones = false;
        if let Content::Parallel(keys) = &column.content
            && lacks(samples, &keys.concat())
        {
            match column.absent {
                Absent::LeftOut | Absent::Ones if has(samples, &keys.concat()) => return Err(Wrong),
                Absent::Error => return Err(Wrong),
                Absent::LeftOut => continue,
                Absent::Ones => as_ones = true,
            }
        }
        let wide = |numbers: &[usize]| numbers.iter().map(|&number| number as i128).collect();
        let array = match column.content {
            Content::MaxLength => {
                columns.push((index, Answer::Number(*segments.iter().max().unwrap())));
                continue;
            }
            Content::Length => vec![wide(&contents)],
            Content::CuSeqLens => {
                let ends: Vec<usize> = (0..=segments.len()).map(|end| segments[..end].iter().sum()).collect();
                vec![wide(&ends)]
            }
            _ => {
                let row = |(row, &cells): (&Row<'_>, &usize)| self::row(matrix, column, row, cells, as_ones);
                let mut array = rows.iter().zip(&cells).map(row).collect::<Result<Vec<_>, _>>()?;
                if matrix.flat.is_some() {
                    array.push(padding(column, 0, tail));
                    array = vec![array.concat()];
                }
                array
            }
        };
        if array.iter().flatten().any(|&cell| naive::cell(cell.into(), column.dtype).is_none()) {
            return Err(Wrong);
        }
        columns.push((index, Answer::Array(array)));
    }
    Ok(Some(columns))
}

/// The rows of a matrix; all their tokens have to be there.
fn rows<'a>(layout: &Layout, matrix: &Matrix, samples: &'a [Sample]) -> Result<Vec<Row<'a>>, Wrong> {
    let entries = naive::entries(layout.order, matrix.rows.len(), samples.len());
    let row = |(index, (part, sample)): (usize, (usize, usize))| {
        let sample = &samples[sample];
        let mut tokens: Vec<Token> = Vec::new();
        for (segment, &key) in matrix.rows[part].iter().enumerate() {
            tokens.extend((0..sample[key].as_ref().unwrap().len()).map(|place| (segment, place)));
        }
        let kept = cut(&tokens, &matrix.length)?;
        let content = kept.len() - matrix.drop_last.min(kept.len());
        Ok(Row { sample, part, index, tokens: tokens.len(), kept, content })
    };
    entries.into_iter().enumerate().map(row).collect()
}

/// So many cells of padding, the first of which is that far from the first token.
fn padding(column: &Column, from: usize, cells: usize) -> Vec<i128> {
    let cell = |place: usize| {
        if column.continues { i128::from(column.start) + (from + place) as i128 } else { int(column.pad) }
    };
    (0..cells).map(cell).collect()
}

/// All cells of one row.
fn row(matrix: &Matrix, column: &Column, row: &Row<'_>, cells: usize, as_ones: bool) -> Result<Vec<i128>, Wrong> {
    let mut any = false;
    let cell = |cell: usize| {
        let place = cell.saturating_add(column.shift);
        let (Some(&(segment, index)), true) = (row.kept.get(place), cell >= column.skip) else {
            return int(column.pad);
        };
        if column.on.as_ref().is_some_and(|on| !on[segment]) {
            return int(column.pad);
        }
        let value = |key: Key| i128::from(row.sample[key].as_ref().unwrap()[index]);
        let counted = |number: usize| i128::from(column.start) + number as i128;
        let nothing = int(column.differs_from.unwrap_or(column.pad));
        let shown = match &column.content {
            Content::Parallel(_) if as_ones => 1,
            Content::Ones => 1,
            Content::Tokens => value(matrix.rows[row.part][segment]),
            Content::Parallel(keys) => value(keys[row.part][segment]),
            Content::Position => counted(place),
            Content::Row => counted(row.index),
            Content::Segment => counted(segment),
            Content::Length | Content::CuSeqLens | Content::MaxLength => unreachable!("no cells"),
        };
        // What is there of itself is something, whatever number it has.
        any |= !is_value(column, as_ones) || shown != nothing;
        column.differs_from.map_or(shown, |from| (shown != int(from)).into())
    };
    let content: Vec<i128> = (0..row.content).map(cell).collect();
    let truncated = row.kept.len() < row.tokens;
    if !any && (column.nonempty || column.scored && truncated && was_scored(matrix, column, row, as_ones)) {
        return Err(Wrong);
    }
    let padding = padding(column, row.content, cells - row.content);
    Ok(match matrix.side {
        Side::Left => [padding, content].concat(),
        Side::Right => [content, padding].concat(),
    })
}

/// Whether it matters which values the column shows. Of tokens in chosen segments any is something.
fn is_value(column: &Column, as_ones: bool) -> bool {
    match &column.content {
        Content::Tokens => column.on.is_none() || column.differs_from.is_some(),
        Content::Parallel(_) => !as_ones,
        _ => false,
    }
}

/// Whether the whole row, before truncation, has something that the column shows.
fn was_scored(matrix: &Matrix, column: &Column, row: &Row<'_>, as_ones: bool) -> bool {
    let nothing = int(column.differs_from.unwrap_or(column.pad));
    let keys = match &column.content {
        Content::Parallel(keys) if !as_ones => &keys[row.part],
        _ => &matrix.rows[row.part],
    };
    keys.iter().enumerate().filter(|(segment, _)| column.on.as_ref().is_none_or(|on| on[*segment])).any(|(_, &key)| {
        let values = row.sample[key].as_ref().unwrap();
        values.iter().any(|&value| !is_value(column, as_ones) || i128::from(value) != nothing)
    })
}

/// How often a row has an id: (matrix, part, sample, id, in the whole row, in what is kept of it).
pub(crate) type Count = (usize, usize, usize, i64, usize, usize);

/// The counts of a matrix that is not left out.
pub(crate) fn counts(layout: &Layout, matrix: usize, samples: &[Sample]) -> Vec<Count> {
    let rows = naive::entries(layout.order, layout.matrices[matrix].rows.len(), samples.len());
    let mut counts = Vec::new();
    for &id in &layout.counted {
        for &(part, sample) in &rows {
            let keys = &layout.matrices[matrix].rows[part];
            let row: Vec<i64> = keys.iter().flat_map(|&key| samples[sample][key].clone().unwrap()).collect();
            let mut kept = cut(&row, &layout.matrices[matrix].length).unwrap();
            kept.truncate(kept.len().saturating_sub(layout.matrices[matrix].drop_last));
            let count = |row: &[i64]| row.iter().filter(|token| **token == id).count();
            counts.push((matrix, part, sample, id, count(&row), count(&kept)));
        }
    }
    counts
}

fn int(number: Number) -> i128 {
    match number {
        Number::Int(int) => int.into(),
        other => panic!("{other} is no integer"),
    }
}
