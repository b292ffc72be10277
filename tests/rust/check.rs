//! What is looked at in rows besides what a batch is refused for.

use std::collections::HashSet;

use _core::cells::{Element, Values};
use _core::check::{Checks, Digest, Fault, Found, Scored, Scratch, Vocabulary};
use _core::error::Number;
use _core::source::Source;
use proptest::prelude::*;

use crate::build::layout;
use crate::cases;
use crate::memory::{Form, Stored, repeated};

/// Prompt, chosen, rejected, and labels of both sides.
const KEYS: [&str; 5] = ["prompt", "chosen", "rejected", "chosen_labels", "rejected_labels"];

fn checks() -> Checks {
    let scored = |key| Scored { keys: vec![key], nothing: Number::Int(-100), labels: true };
    Checks {
        ids: vec![0, 1, 2],
        sides: vec![vec![0, 1], vec![0, 2]],
        may_be_equal: false,
        scored: vec![scored(3), scored(4)],
        vocabulary: None,
    }
}

type Rows<'a> = [Option<&'a [i64]>; 5];

fn look(checks: &Checks, rows: Rows<'_>, has_images: bool) -> (Vec<Found>, Option<Digest>) {
    let sources: Vec<Option<Source<'_>>> = rows.map(|row| Some(Values::Int64(row?).into())).to_vec();
    let mut found = Vec::new();
    let digest = checks.look(&sources, has_images, &mut Scratch::default(), &mut found).unwrap();
    (found, digest)
}

fn faults(checks: &Checks, rows: Rows<'_>) -> Vec<Found> {
    look(checks, rows, false).0
}

const GOOD: Rows<'_> = [Some(&[1, 2]), Some(&[3]), Some(&[4]), Some(&[-100, -100, 3]), Some(&[-100, -100, 4])];

#[test]
fn good_rows_have_no_faults() {
    assert_eq!(faults(&checks(), GOOD), []);
    let vocabulary = Some(Vocabulary { size: 5, also: Vec::new() });
    assert_eq!(faults(&Checks { vocabulary, ..checks() }, GOOD), []);
    assert_eq!(look(&Checks::default(), GOOD, false), (vec![], None));
}

#[test]
fn each_fault_and_its_sentence() {
    let layout = layout(&KEYS, vec![], vec![]);
    let said = |checks: &Checks, rows| -> Vec<String> {
        faults(checks, rows)
            .iter()
            .map(|found| format!("{}: {}", found.fault.name(), found.sentence(&layout)))
            .collect()
    };
    let [prompt, chosen, rejected, labels, others] = GOOD;
    assert_eq!(
        said(&checks(), [prompt, Some(&[]), rejected, labels, others]),
        ["empty_completion: 'chosen' has no tokens: expected a completion"]
    );
    assert_eq!(
        said(&checks(), [prompt, chosen, rejected, labels, Some(&[-100; 3])]),
        ["all_ignored: 'rejected_labels' is -100 at all of its 3 positions: nothing would be scored"]
    );
    assert_eq!(
        said(&checks(), [prompt, chosen, chosen, labels, others]),
        ["equal_sides: 'rejected' makes the same row of 3 tokens as 'chosen': there is nothing to prefer"]
    );
    let known = Checks { vocabulary: Some(Vocabulary { size: 4, also: vec![-200] }), ..checks() };
    assert_eq!(
        said(&known, [Some(&[-200, -1]), chosen, rejected, Some(&[-100, -200, 9]), others]),
        [
            "vocabulary: 'chosen_labels' holds 9 at position 2, which is not in the vocabulary of 4 ids",
            "vocabulary: 'rejected_labels' holds 4 at position 2, which is not in the vocabulary of 4 ids",
            "vocabulary: 'prompt' holds -1 at position 1, which is not in the vocabulary of 4 ids",
            "vocabulary: 'rejected' holds 4 at position 0, which is not in the vocabulary of 4 ids",
        ]
    );
}

#[test]
fn no_negative_number_is_an_id() {
    for size in [1, 1 << 63, (1 << 63) + 1, u64::MAX] {
        let known = Checks { vocabulary: Some(Vocabulary { size, also: Vec::new() }), ..checks() };
        for value in [-1, -2, i64::MIN] {
            let found = faults(&known, [Some(&[0, value]), Some(&[0]), Some(&[0, 0]), None, None]);
            assert_eq!(found, [Found { key: 0, fault: Fault::Vocabulary { value, position: 1, size } }]);
        }
    }
}

/// What is missing, or no ids, is what a batch is refused for.
#[test]
fn what_cannot_be_read_is_passed_over() {
    let known = Checks { vocabulary: Some(Vocabulary { size: 1, also: Vec::new() }), ..checks() };
    assert_eq!(look(&known, [None; 5], false), (vec![], None));
    let floats: Vec<Option<Source<'_>>> = vec![Some(Values::Float32(&[0.5, 7.0]).into()); 5];
    let mut found = Vec::new();
    assert_eq!(known.look(&floats, false, &mut Scratch::default(), &mut found), Ok(None));
    assert_eq!(found, [], "labels that are floats may be scored");
    let beyond: Vec<Option<Source<'_>>> = vec![Some(Values::UInt64(&[u64::MAX]).into()); 5];
    assert_eq!(known.look(&beyond, false, &mut Scratch::default(), &mut found), Ok(None));
    assert_eq!(found, []);
    // Of one value, which is all that there is in memory.
    let endless: Vec<Option<Source<'_>>> = vec![Some(repeated(&7, 1 << 60)); 5];
    assert_eq!(known.look(&endless, false, &mut Scratch::default(), &mut found), Ok(None));
    assert_eq!(found, []);
    // The other side may still be looked at.
    let [prompt, _, _, labels, _] = GOOD;
    let found = faults(&checks(), [prompt, Some(&[]), None, labels, None]);
    assert_eq!(found, [Found { key: 1, fault: Fault::EmptyCompletion }]);
    // An empty row has no type.
    let empty: Vec<Option<Source<'_>>> = vec![Some(Values::Float32(&[]).into()); 5];
    let mut found = Vec::new();
    assert!(known.look(&empty, false, &mut Scratch::default(), &mut found).unwrap().is_some());
    assert_eq!(found.len(), 2, "two empty completions, and no labels that are all ignored");
}

#[test]
fn sides_are_joined_rows() {
    let equal = |rows: [&[i64]; 4]| {
        let checks = Checks { ids: vec![0, 1, 2, 3], sides: vec![vec![0, 1], vec![2, 3]], ..Checks::default() };
        let [a, b, c, d] = rows.map(Some);
        let found = faults(&checks, [a, b, c, d, None]);
        found.iter().any(|found| matches!(found.fault, Fault::EqualSides { .. }))
    };
    assert!(equal([&[1, 2], &[3], &[1], &[2, 3]]));
    assert!(!equal([&[1, 2], &[3], &[1], &[2, 4]]));
    assert!(!equal([&[1, 2], &[3], &[1], &[2]]));
    assert!(equal([&[1], &[], &[], &[1]]));
    assert!(!equal([&[1], &[], &[1], &[]]), "two empty completions are said already");
    let three = Checks { sides: vec![vec![1], vec![1], vec![1]], ..checks() };
    assert_eq!(faults(&three, GOOD), []);
    let mine = Checks { may_be_equal: true, ..checks() };
    let [prompt, chosen, ..] = GOOD;
    let rows = [prompt, chosen, chosen, None, None];
    assert_eq!(look(&mine, rows, true).0, []);
    assert_eq!(look(&mine, rows, false).0.len(), 1);
}

fn digest(rows: [&[i64]; 3]) -> Digest {
    let [a, b, c] = rows.map(Some);
    look(&checks(), [a, b, c, None, None], false).1.unwrap()
}

/// Rows that differ as little as rows can have digests that differ in each word.
#[test]
fn digests_of_like_rows_differ() {
    let mut seen: [HashSet<u64>; 2] = [HashSet::new(), HashSet::new()];
    let mut number = 0;
    let mut add = |rows: [&[i64]; 3]| {
        number += 1;
        let digest = digest(rows);
        seen[0].insert(digest[0]);
        seen[1].insert(digest[1]);
        assert_eq!((seen[0].len(), seen[1].len()), (number, number), "{rows:?}");
    };
    for len in 0..12 {
        for cut in 0..=len {
            let zeros = vec![0; len];
            add([&zeros[..cut], &zeros[cut..], &[]]);
            if cut < len {
                add([&zeros[..cut], &[], &zeros[cut..]]);
            }
        }
    }
    for at in 0..40 {
        for id in [1, 2, 3, -1, 1 << 20, 1 << 40, i64::MIN, i64::MAX] {
            let mut row = [0; 40];
            row[at] = id;
            add([&[], &row, &[]]);
        }
        for (one, other) in [(1, 2), (2, 1), (1, 1), (7, 7)] {
            let mut row = [0; 41];
            (row[at], row[at + 1]) = (one, other);
            add([&row, &[], &[]]);
        }
    }
    for a in 0..64 {
        for b in 0..64 {
            add([&[a, 5, 5, 5, b], &[1], &[2]]);
        }
    }
}

/// Every bit is set in about half of the digests.
#[test]
fn digests_are_well_distributed() {
    let digests: Vec<Digest> = (0..4096).map(|id| digest([&[id], &[1], &[2]])).collect();
    for word in 0..2 {
        for bit in 0..64 {
            let set = digests.iter().filter(|digest| digest[word] >> bit & 1 == 1).count();
            assert!((1800..2300).contains(&set), "bit {bit} of word {word}: {set}");
        }
    }
}

/// A row as it is said above, plainly.
fn naive(rows: &[Vec<i64>; 5], size: i64) -> HashSet<(usize, &'static str)> {
    let mut found = HashSet::new();
    for key in [1, 2] {
        if rows[key].is_empty() {
            found.insert((key, "empty_completion"));
        }
    }
    if rows[1] == rows[2] && !rows[1].is_empty() {
        found.insert((2, "equal_sides"));
    }
    for (key, row) in rows.iter().enumerate() {
        let ignored = |value: &i64| key > 2 && *value == -100;
        if key > 2 && !row.is_empty() && row.iter().all(ignored) {
            found.insert((key, "all_ignored"));
        }
        if row.iter().any(|value| !(0..size).contains(value) && !ignored(value)) {
            found.insert((key, "vocabulary"));
        }
    }
    found
}

fn any_row() -> impl Strategy<Value = Vec<i64>> {
    let any = prop_oneof![Just(-100_i64), Just(0), Just(-1), 0..100_i64];
    let like = prop_oneof![Just(-100_i64), 0..2_i64];
    prop_oneof![prop::collection::vec(any, 0..140), prop::collection::vec(like, 0..3)]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn look_matches_naive(rows in prop::array::uniform5(any_row()), equal: bool, forms in prop::array::uniform5(0..4_usize)) {
        let mut rows = rows;
        if equal {
            rows[2] = rows[1].clone();
        }
        let size = 60_i64;
        let forms = forms.map(|form| match form {
            0 => Form::plain(Element::Int64),
            1 => Form { stride: -8, ..Form::plain(Element::Int64) },
            2 => Form { swapped: true, ..Form::plain(Element::Int32) },
            _ => Form { misaligned: 1, ..Form::plain(Element::Int16) },
        });
        let stored: Vec<Stored> = rows.iter().zip(forms).map(|(row, form)| Stored::of(row, form)).collect();
        let sources: Vec<_> = stored.iter().map(|stored| Some(stored.strided().into_source())).collect();
        let vocabulary = Some(Vocabulary { size: size.unsigned_abs(), also: Vec::new() });
        let checks = Checks { vocabulary, ..checks() };
        let mut found = Vec::new();
        let mut scratch = Scratch::default();
        let read = checks.look(&sources, false, &mut scratch, &mut found).unwrap();
        let named: HashSet<_> = found.iter().map(|found| (found.key, found.fault.name())).collect();
        prop_assert_eq!(named.len(), found.len());
        prop_assert_eq!(named, naive(&rows, size));
        prop_assert_eq!(read, Some(digest([&rows[0], &rows[1], &rows[2]])), "whatever form they are in");
        for found in &found {
            if let Fault::Vocabulary { value, position, .. } = found.fault {
                let first = rows[found.key].iter().position(|id| !(0..size).contains(id) && (found.key < 3 || *id != -100));
                prop_assert_eq!((Some(position), value), (first, rows[found.key][position]));
            }
        }
        // Memory that was used for another row says nothing of it.
        let mut again = Vec::new();
        prop_assert_eq!(checks.look(&sources, false, &mut scratch, &mut again).unwrap(), read);
        prop_assert_eq!(again, found);
    }
}
