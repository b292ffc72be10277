//! What is looked at in rows: any values, any keys; each fault is really there, and none is passed over.

use std::collections::BTreeSet;

use _core::cells::Element;
use _core::check::{Checks, Digest, Fault, Found, Scored, Scratch, Vocabulary};
use _core::error::Number;
use _core::source::Source;
use arbitrary::Result;

use super::given::{Bytes, any_number, any_stored, maybe, several};
use crate::build::layout;
use crate::memory::Stored;
use crate::naive::{Plain, differs};

const KEYS: [&str; 5] = ["prompt", "chosen", "rejected", "chosen_labels", "rejected_labels"];

/// The ids of a row, key by key.
type Ids = Vec<Vec<i128>>;

pub fn check(data: &[u8]) {
    let _ = rows(&mut Bytes::new(data));
}

fn rows(u: &mut Bytes<'_>) -> Result<()> {
    let checks = any_checks(u)?;
    let mut scratch = Scratch::default();
    let mut seen: Vec<(Option<Ids>, Option<Digest>)> = Vec::new();
    for _ in 0..u.int_in_range(1..=3)? {
        let stored = several(u, KEYS.len()..=KEYS.len(), |u| {
            let len = if u.ratio(1, 8)? { u.int_in_range(120..=300)? } else { u.int_in_range(0..=5)? };
            if u.ratio(1, 16)? { Ok(None) } else { any_stored(u, len).map(Some) }
        })?;
        let sources: Vec<Option<Source<'_>>> = stored.iter().map(|stored| stored.as_ref().map(source)).collect();
        let has_images = u.arbitrary()?;
        let mut found = Vec::new();
        let digest = checks.look(&sources, has_images, &mut scratch, &mut found).unwrap();
        let rows: Vec<Option<Vec<Plain>>> = stored.iter().map(|stored| stored.as_ref().map(values)).collect();
        compare(&checks, &rows, has_images, &found);
        let ids: Option<Ids> = checks.ids.iter().map(|&key| ids(rows[key].as_ref()?)).collect();
        let ids = ids.filter(|ids| !ids.is_empty());
        assert_eq!(digest.is_some(), ids.is_some());
        for (others, other) in &seen {
            assert_eq!(*others == ids, *other == digest, "a digest is that of its ids");
        }
        seen.push((ids, digest));
    }
    Ok(())
}

fn source((stored, fast): &(Stored, bool)) -> Source<'_> {
    let strided = stored.strided();
    if *fast { strided.into_source() } else { Source::Strided(strided) }
}

/// The values; of bools, any byte but 0 is 1.
fn values(stored: &(Stored, bool)) -> Vec<Plain> {
    let is_bool = source(stored).element() == Element::Bool;
    let value = |value| match value {
        Plain::Int(byte) if is_bool => Plain::Int(byte.min(1)),
        other => other,
    };
    stored.0.naive().into_iter().map(value).collect()
}

/// The values, if all of them are ids.
fn ids(row: &[Plain]) -> Option<Vec<i128>> {
    row.iter()
        .map(|value| if let Plain::Int(id) = value { i64::try_from(*id).ok().map(i128::from) } else { None })
        .collect()
}

fn any_checks(u: &mut Bytes<'_>) -> Result<Checks> {
    let any_nothing = |u: &mut Bytes<'_>| {
        Ok(if u.ratio(1, 8)? { Number::Float(u.arbitrary()?) } else { Number::Int(*u.choose(&[-100, 0, -1, 1])?) })
    };
    let scored = |u: &mut Bytes<'_>| {
        let keys = u.choose(&[vec![3], vec![4], vec![3, 4], vec![1]])?.clone();
        Ok(Scored { keys, nothing: any_nothing(u)?, labels: u.arbitrary()? })
    };
    let vocabulary = |u: &mut Bytes<'_>| {
        let size = if u.arbitrary()? { u.int_in_range(0..=200)? } else { u.arbitrary()? };
        Ok(Vocabulary { size, also: several(u, 0..=2, any_number)? })
    };
    Ok(Checks {
        ids: u.choose(&[vec![0, 1, 2], vec![1, 2], vec![0], vec![]])?.clone(),
        sides: u.choose(&[vec![vec![0, 1], vec![0, 2]], vec![vec![1], vec![2]], vec![vec![1]], vec![]])?.clone(),
        may_be_equal: u.arbitrary()?,
        scored: several(u, 0..=2, scored)?,
        vocabulary: maybe(u, vocabulary)?,
    })
}

/// What is found is what a slow look finds.
fn compare(checks: &Checks, rows: &[Option<Vec<Plain>>], has_images: bool, found: &[Found]) {
    let names = |found: &Found| (found.key, found.fault.name());
    let mut expected = BTreeSet::new();
    let known = |key: usize| checks.ids.contains(&key).then(|| ids(rows[key].as_ref()?)).flatten();
    let is_empty = |side: &Vec<usize>| side.last().is_some_and(|&last| known(last).is_some_and(|row| row.is_empty()));
    expected.extend(
        checks.sides.iter().filter(|side| is_empty(side)).map(|side| (side[side.len() - 1], "empty_completion")),
    );
    if let [one, other] = &checks.sides[..] {
        let joined =
            |side: &[usize]| side.iter().map(|&key| known(key)).collect::<Option<Vec<_>>>().map(|rows| rows.concat());
        let both_empty = is_empty(one) && is_empty(other);
        let is_asked = !(both_empty || checks.may_be_equal && has_images);
        if is_asked && joined(one).is_some() && joined(one) == joined(other) {
            expected.insert((other[other.len() - 1], "equal_sides"));
        }
    }
    for Scored { keys, nothing, labels } in &checks.scored {
        let parts: Option<Vec<&Vec<Plain>>> = keys.iter().map(|&key| rows[key].as_ref()).collect();
        let Some(parts) = parts else { continue };
        let mut values = parts.iter().copied().flatten().peekable();
        if values.peek().is_some() && values.all(|&value| !differs(value, Plain::from(*nothing))) {
            expected.insert((keys[keys.len() - 1], "all_ignored"));
        }
        for &key in keys.iter().filter(|_| *labels) {
            let row = rows[key].as_ref().and_then(|row| ids(row));
            expected.extend(row.filter(|row| has_unknown(checks, row, Some(*nothing))).map(|_| (key, "vocabulary")));
        }
    }
    for &key in &checks.ids {
        let row = rows[key].as_ref().and_then(|row| ids(row));
        expected.extend(row.filter(|row| has_unknown(checks, row, None)).map(|_| (key, "vocabulary")));
    }
    assert_eq!(found.iter().map(names).collect::<BTreeSet<_>>(), expected);
    let layout = layout(&KEYS, vec![], vec![]);
    for found in found {
        assert!(found.sentence(&layout).contains(KEYS[found.key]));
        if let Fault::Vocabulary { value, position, .. } = found.fault {
            let row = ids(rows[found.key].as_ref().unwrap()).unwrap();
            assert_eq!(row[position], i128::from(value));
        }
    }
}

fn has_unknown(checks: &Checks, row: &[i128], nothing: Option<Number>) -> bool {
    let Some(vocabulary) = &checks.vocabulary else { return false };
    let is_known = |&id: &i128| {
        (0..i128::from(vocabulary.size)).contains(&id)
            || vocabulary.also.iter().any(|&also| i128::from(also) == id)
            || nothing.is_some_and(|nothing| !differs(Plain::Int(id), nothing.into()))
    };
    !row.iter().all(is_known)
}
