//! What is looked at in a data set besides what a batch of it would be refused for: one row at a time.
//!
//! A collator takes all that can be made a batch. Whether that is worth training on is another question: a completion
//! without tokens, labels that leave nothing to score, two sides that are the same, ids that the model does not know.

use crate::cells::{Value, with_values};
use crate::error::Number;
use crate::fill;
use crate::layout::{Content, Key, Layout};
use crate::plan::Plan;
use crate::source::{NotPlain, Source};

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checks {
    /// Keys of token ids, each once. A pair is the same as another if these are.
    pub ids: Vec<Key>,
    /// Rows that end in a completion: the keys of their segments.
    pub sides: Vec<Vec<Key>>,
    /// Whether two sides of a row with images may hold the same tokens: each has images of its own.
    pub may_be_equal: bool,
    /// Rows that say what is scored.
    pub scored: Vec<Scored>,
    /// What ids and labels may be.
    pub vocabulary: Option<Vocabulary>,
}

/// Values that say what of a row is scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The keys of its segments that say so.
    pub keys: Vec<Key>,
    /// What is not scored has this value.
    pub nothing: Number,
    /// Whether the other values are token ids.
    pub labels: bool,
}

/// The ids that a model knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// They are 0 to `size` − 1.
    pub size: u64,
    /// These as well: they stand for images.
    pub also: Vec<i64>,
}

/// What was found in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The key.
    pub key: Key,
    /// What about it.
    pub fault: Fault,
}

/// What a row can have that no batch is refused for.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// A completion has no tokens.
    EmptyCompletion,
    /// Nothing would be scored, whether the row is truncated or not.
    AllIgnored {
        /// Values that say so.
        values: usize,
        /// What they all are.
        nothing: Number,
    },
    /// Both sides hold the same tokens.
    EqualSides {
        /// The last key of the other side.
        other: Key,
        /// Tokens of each.
        tokens: usize,
    },
    /// A token that the model does not know.
    Vocabulary {
        /// Its id.
        value: i64,
        /// Its position in the row.
        position: usize,
        /// Ids that there are.
        size: u64,
    },
}

impl Fault {
    /// Its short name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::EmptyCompletion => "empty_completion",
            Self::AllIgnored { .. } => "all_ignored",
            Self::EqualSides { .. } => "equal_sides",
            Self::Vocabulary { .. } => "vocabulary",
        }
    }
}

impl Found {
    /// The sentence users read, but for the place where it was met.
    #[must_use]
    pub fn sentence(&self, layout: &Layout) -> String {
        let key = &layout.keys[self.key];
        match &self.fault {
            Fault::EmptyCompletion => format!("'{key}' has no tokens: expected a completion"),
            Fault::AllIgnored { values, nothing } => {
                format!("'{key}' is {nothing} at all of its {values} positions: nothing would be scored")
            }
            Fault::EqualSides { other, tokens } => {
                let other = &layout.keys[*other];
                format!("'{key}' makes the same row of {tokens} tokens as '{other}': there is nothing to prefer")
            }
            Fault::Vocabulary { value, position, size } => {
                format!("'{key}' holds {value} at position {position}, which is not in the vocabulary of {size} ids")
            }
        }
    }
}

/// 128 bits that pairs of the same tokens have in common, and others do not.
pub type Digest = [u64; 2];

/// The ids of a row, read; memory that is used again for the next row.
#[derive(Debug, Default)]
pub struct Scratch {
    /// By the index in [`Checks::ids`].
    rows: Vec<Vec<i64>>,
    known: Vec<bool>,
}

impl Checks {
    /// Looks at one row, whose values are `sources` by key; says what was found, and the digest of its ids if all of
    /// them can be read. What cannot be read is passed over: a batch is refused for it. So is a row of more than
    /// [`MOST_VALUES`], or for which there is no memory: of an array that repeats one value there may be any number.
    pub fn look(
        &self,
        sources: &[Option<Source<'_>>],
        has_images: bool,
        scratch: &mut Scratch,
        found: &mut Vec<Found>,
    ) -> Result<Option<Digest>, NotPlain> {
        if sources.iter().flatten().any(|source| source.len() > MOST_VALUES) {
            return Ok(None);
        }
        scratch.rows.resize_with(self.ids.len(), Vec::new);
        scratch.known.clear();
        for (&key, row) in self.ids.iter().zip(&mut scratch.rows) {
            scratch.known.push(match &sources[key] {
                Some(source) => read(source, row)?,
                None => false,
            });
        }
        let ids: Vec<Option<&[i64]>> =
            scratch.rows.iter().zip(&scratch.known).map(|(row, &known)| known.then_some(&row[..])).collect();
        self.look_at_sides(&ids, has_images, found);
        for scored in &self.scored {
            self.look_at_scored(scored, sources, found)?;
        }
        if let Some(vocabulary) = &self.vocabulary {
            for (&key, row) in self.ids.iter().zip(&ids) {
                if let Some(fault) = row.and_then(|row| vocabulary.first_unknown(row, None)) {
                    found.push(Found { key, fault });
                }
            }
        }
        Ok(ids.into_iter().collect::<Option<Vec<_>>>().filter(|ids| !ids.is_empty()).map(|ids| digest(&ids)))
    }

    fn look_at_sides(&self, ids: &[Option<&[i64]>], has_images: bool, found: &mut Vec<Found>) {
        let row = |key: Key| self.ids.iter().position(|&id| id == key).and_then(|at| ids[at]);
        let empty = |side: &&Vec<Key>| side.last().is_some_and(|&last| row(last).is_some_and(<[i64]>::is_empty));
        for side in self.sides.iter().filter(empty) {
            found.push(Found { key: side[side.len() - 1], fault: Fault::EmptyCompletion });
        }
        let [one, other] = &self.sides[..] else { return };
        if self.may_be_equal && has_images || empty(&one) && empty(&other) {
            return;
        }
        let joined = |side: &[Key]| side.iter().map(|&key| row(key)).collect::<Option<Vec<_>>>();
        let (Some(first), Some(second)) = (joined(one), joined(other)) else { return };
        let count = |side: &[&[i64]]| side.iter().map(|row| row.len()).sum::<usize>();
        let tokens = count(&first);
        if tokens == count(&second) && first.into_iter().flatten().eq(second.into_iter().flatten()) {
            let (Some(&key), Some(&other)) = (other.last(), one.last()) else { return };
            found.push(Found { key, fault: Fault::EqualSides { other, tokens } });
        }
    }

    fn look_at_scored(
        &self,
        scored: &Scored,
        sources: &[Option<Source<'_>>],
        found: &mut Vec<Found>,
    ) -> Result<(), NotPlain> {
        let (mut values, mut any) = (0, false);
        for &key in &scored.keys {
            let Some(source) = &sources[key] else { return Ok(()) };
            values += source.len();
            source.read(0..source.len(), |_, values| {
                any = any || fill::any_differs(values, scored.nothing);
                Ok::<(), NotPlain>(())
            })?;
        }
        if values > 0 && !any {
            let key = scored.keys[scored.keys.len() - 1];
            found.push(Found { key, fault: Fault::AllIgnored { values, nothing: scored.nothing } });
        }
        let (Some(vocabulary), true) = (&self.vocabulary, scored.labels) else { return Ok(()) };
        let mut row = Vec::new();
        for &key in &scored.keys {
            if let Some(source) = &sources[key]
                && read(source, &mut row)?
                && let Some(fault) = vocabulary.first_unknown(&row, Some(scored.nothing))
            {
                found.push(Found { key, fault });
            }
        }
        Ok(())
    }
}

impl Vocabulary {
    /// The first value that is no id, nor `nothing`.
    fn first_unknown(&self, row: &[i64], nothing: Option<Number>) -> Option<Fault> {
        let size = self.size.min(1 << 63); // no negative number is an id, whatever the size
        let beyond = |value: i64| value.cast_unsigned() >= size;
        // A loop without a way out, mostly the only one: it is a vector loop.
        if !row.iter().fold(false, |any, &value| any | beyond(value)) {
            return None;
        }
        let allowed = |value: i64| {
            self.also.contains(&value) || nothing.is_some_and(|nothing| !nothing.differs(Number::Int(value)))
        };
        let position = row.iter().position(|&value| beyond(value) && !allowed(value))?;
        Some(Fault::Vocabulary { value: row[position], position, size: self.size })
    }
}

/// Which of the optional parts of the layout a batch has: matrices, each with its columns, then scalars.
#[must_use]
pub fn presence(layout: &Layout, plan: &Plan) -> Vec<bool> {
    let mut there = Vec::new();
    for (matrix, planned) in layout.matrices.iter().zip(&plan.matrices) {
        there.push(planned.is_some());
        for (index, column) in matrix.columns.iter().enumerate() {
            if matches!(column.content, Content::Parallel(_)) {
                let mut columns = planned.iter().flat_map(|planned| &planned.columns);
                there.push(columns.any(|planned| planned.index == index && !planned.as_ones));
            }
        }
    }
    there.extend(plan.scalars.iter().map(Option::is_some));
    there
}

/// The parts that one row has and another has not, which are in no batch together: of each the key, and the sentence.
#[must_use]
pub fn differences(
    layout: &Layout,
    (row, presence): (usize, &[bool]),
    (other, expected): (usize, &[bool]),
) -> Vec<(String, String)> {
    if presence == expected {
        return Vec::new();
    }
    let mut keys: Vec<Key> = Vec::new();
    for matrix in &layout.matrices {
        keys.push(matrix.rows[0][0]);
        for column in &matrix.columns {
            if let Content::Parallel(parallel) = &column.content {
                keys.push(parallel[0][0]);
            }
        }
    }
    keys.extend(layout.scalars.iter().map(|scalar| scalar.keys.first().copied().unwrap_or_default()));
    let parts = keys.into_iter().zip(presence.iter().zip(expected)).filter(|(_, (has, expected))| has != expected);
    parts
        .map(|(key, (&has, _))| {
            let key = &layout.keys[key];
            let what = if has {
                format!("'{key}' is there, but row {other} has none")
            } else {
                format!("no '{key}', but row {other} has it")
            };
            (key.clone(), format!("row {row}: {what}: expected in all rows or in none"))
        })
        .collect()
}

/// Rows of more values are not looked at: they take 128 MiB as ids. No real row has as many.
pub const MOST_VALUES: usize = 1 << 24;

/// Reads token ids; false where they are no ids.
fn read(source: &Source<'_>, row: &mut Vec<i64>) -> Result<bool, NotPlain> {
    row.clear();
    if source.element().is_float() && !source.is_empty() || row.try_reserve(source.len()).is_err() {
        return Ok(false);
    }
    let mut fits = true;
    source.read(0..source.len(), |_, values| {
        let mut id = |number| {
            fits &= matches!(number, Number::Int(_));
            if let Number::Int(id) = number { id } else { 0 }
        };
        with_values!(values, values => row.extend(values.iter().map(|value| id(value.number()))));
        Ok::<(), NotPlain>(())
    })?;
    Ok(fits)
}

/// The digest of rows of ids: of their lengths, and of all ids in order.
///
/// Each lane is a chain of steps that can be undone, so that rows which differ in one id of a lane never agree in it;
/// that others agree in both words of the digest is as likely as that two random numbers of 128 bits do.
fn digest(rows: &[&[i64]]) -> Digest {
    let mut lanes = SEEDS;
    for row in rows {
        lanes[0] = step(lanes[0], row.len() as u64);
        // Four chains side by side: a step waits for the one before it.
        let mut chunks = row.chunks_exact(lanes.len());
        for chunk in &mut chunks {
            for (lane, &id) in lanes.iter_mut().zip(chunk) {
                *lane = step(*lane, id.cast_unsigned());
            }
        }
        for (lane, &id) in lanes.iter_mut().zip(chunks.remainder()) {
            *lane = step(*lane, id.cast_unsigned());
        }
    }
    let [a, b, c, d] = lanes.map(stir);
    [stir(a ^ b.rotate_left(32)) ^ stir(c.wrapping_add(d)), stir(b.wrapping_add(c)) ^ stir(a ^ d.rotate_left(32))]
}

/// Odd numbers whose bits follow no pattern: the golden ratio, and the square roots of 2, 3 and 5.
const SEEDS: [u64; 4] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b];

fn step(lane: u64, value: u64) -> u64 {
    (lane.rotate_left(29) ^ value).wrapping_mul(SEEDS[0])
}

/// Every bit of the result depends on every bit of the number.
fn stir(number: u64) -> u64 {
    let number = (number ^ number >> 32).wrapping_mul(SEEDS[1]);
    let number = (number ^ number >> 29).wrapping_mul(SEEDS[2]);
    number ^ number >> 32
}
