//! A batch against the oracle: every cell of every array.

use _core::arena::Memory;
use _core::cells::DType;
use _core::collate::{Batch, Collated, collate};
use _core::error::{CollateError, Number};
use _core::layout::Layout;
use _core::plan::{Output, Request};
use _core::source::Source;

use crate::build::plain;
use crate::memory::rows;
use crate::naive::{self, Plain, Sample};
use crate::naive_matrix::{self, Answer, Count, Wrong};

/// A batch to be collated: `samples` are the values that `sources` have.
#[derive(Debug)]
pub(crate) struct Given<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) request: Request,
    pub(crate) samples: &'a [Sample],
    pub(crate) sources: &'a [Option<Source<'a>>],
    /// By sample and key, as the sources.
    pub(crate) numbers: &'a [Option<Number>],
}

impl Given<'_> {
    pub(crate) fn collate(&self, memory: Memory) -> Result<Collated, CollateError> {
        let batch = Batch { sources: self.sources, numbers: self.numbers };
        plain(collate(self.layout, batch, self.request, memory))
    }

    /// Collates it; says whether it is a good one. What comes out is what the oracle says.
    pub(crate) fn matches_naive(&self) -> bool {
        let Self { layout, samples, .. } = self;
        let naive = |matrix| naive_matrix::matrix(layout, matrix, samples, self.request.min_length);
        let matrices: Result<Vec<_>, _> = (0..layout.matrices.len()).map(naive).collect();
        let numbers: Vec<_> = self.numbers.chunks(layout.keys.len()).map(<[_]>::to_vec).collect();
        let scalars = layout.scalars.iter().map(|scalar| naive::scalar(layout.order, scalar, &numbers).ok_or(Wrong));
        let scalars: Result<Vec<_>, _> = scalars.collect();
        let (collated, matrices, scalars) = match (self.collate(Memory::Heap), matrices, scalars) {
            (Ok(collated), Ok(matrices), Ok(scalars)) => (collated, matrices, scalars),
            (Err(_), Err(Wrong), _) | (Err(_), _, Err(Wrong)) => return false,
            (Ok(_), ..) => panic!("no error"),
            (Err(error), ..) => panic!("{error}"),
        };
        assert_eq!(collated.plan.matrices.len(), matrices.len());
        let mut counts = Vec::new();
        for (matrix, (planned, expected)) in collated.plan.matrices.iter().zip(matrices).enumerate() {
            assert_eq!(planned.is_some(), expected.is_some());
            let (Some(planned), Some(columns)) = (planned, expected) else { continue };
            assert_eq!(planned.columns.len(), columns.len());
            for (planned, (index, answer)) in planned.columns.iter().zip(columns) {
                assert_eq!(planned.index, index);
                let column = &layout.matrices[matrix].columns[index];
                match (planned.output, answer) {
                    (Output::Array(array), Answer::Array(cells)) => {
                        assert_eq!(rows(&collated, &array), in_dtype(&cells, column.dtype), "{column:?}");
                    }
                    (Output::Number(number), Answer::Number(expected)) => assert_eq!(number, expected),
                    (found, expected) => panic!("{found:?} is not {expected:?}"),
                }
            }
            counts.extend(naive_matrix::counts(layout, matrix, samples));
        }
        assert_eq!(found_counts(&collated), counts);
        let found =
            collated.plan.scalars.iter().map(|array| array.map_or(vec![], |array| rows(&collated, &array).concat()));
        assert_eq!(found.collect::<Vec<_>>(), scalars);
        true
    }
}

/// The cells as a column of that type holds them.
fn in_dtype(cells: &[Vec<i128>], dtype: DType) -> Vec<Vec<Plain>> {
    let cell = |&value: &i128| naive::cell(value.into(), dtype).unwrap();
    cells.iter().map(|row| row.iter().map(cell).collect()).collect()
}

/// The counts of a batch, as plain numbers.
pub(crate) fn found_counts(collated: &Collated) -> Vec<Count> {
    let plain =
        |count: &_core::rows::Count| (count.matrix, count.part, count.sample, count.id, count.tokens, count.kept);
    collated.counts.iter().map(plain).collect()
}
