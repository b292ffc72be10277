//! Every cause: its whole sentence, and the exception that it becomes.

use _core::collate::Stop;
use _core::error::{Cause, CollateError, Kind, Number, Refusal};
use _core::source::NotPlain;

/// A cause met in sample 3 at `chosen_labels`.
fn sentence(cause: Cause) -> (String, Kind) {
    let error = CollateError::at(3, "chosen_labels", cause);
    assert_eq!((error.sample, error.key.as_deref()), (Some(3), Some("chosen_labels")));
    (error.to_string(), error.kind())
}

fn of_batch(cause: Cause) -> (String, Kind) {
    let error = CollateError::of_batch(cause);
    assert_eq!((error.sample, error.key.as_deref()), (None, None));
    (error.to_string(), error.kind())
}

fn assert_says(found: (String, Kind), kind: Kind, sentence: &str) {
    assert_eq!(found, (sentence.to_owned(), kind));
}

#[test]
fn empty_batch() {
    assert_says(of_batch(Cause::EmptyBatch), Kind::Value, "the batch is empty: expected at least one sample");
}

#[test]
fn missing() {
    assert_says(sentence(Cause::Missing), Kind::Key, "sample 3: no 'chosen_labels'");
    assert_says(
        sentence(Cause::IsNone),
        Kind::Type,
        "sample 3: 'chosen_labels' is None, expected a 1-D tensor, array or list of integers",
    );
}

#[test]
fn keys() {
    let of_sample = |cause| {
        let error = CollateError { sample: Some(2), key: None, cause };
        (error.to_string(), error.kind())
    };
    assert_says(
        of_sample(Cause::NoMapping { found: "tuple".to_owned() }),
        Kind::Type,
        "sample 2: expected a mapping such as a dict, got tuple",
    );
    assert_says(
        of_sample(Cause::EmptySample),
        Kind::Key,
        "sample 2: an empty dict: transformers' Trainer removes the columns that the model's forward does not name; \
         pass remove_unused_columns=False in its TrainingArguments",
    );
    assert_says(
        of_sample(Cause::NotInFirst { name: "'id'".to_owned() }),
        Kind::Key,
        "sample 2: the key 'id' is not in sample 0: expected in all samples or in none",
    );
    let unknown = |why| Cause::Unknown {
        name: "'ref_logp'".to_owned(),
        why,
        layout: "mine".to_owned(),
        known: vec!["ids".to_owned(), "labels".to_owned()],
    };
    assert_says(
        of_sample(unknown(Refusal::Reserved)),
        Kind::Key,
        "sample 2: unknown key 'ref_logp': it begins like a key that matters, but is none here: rename or remove \
         it, or choose the layout or the option that takes it (layout 'mine' takes 'ids', 'labels')",
    );
    assert_says(
        of_sample(unknown(Refusal::Extra)),
        Kind::Key,
        "sample 2: unknown key 'ref_logp': extra_keys=\"error\" allows none (layout 'mine' takes 'ids', 'labels')",
    );
}

#[test]
fn missing_here() {
    assert_says(
        sentence(Cause::MissingHere { other: 0 }),
        Kind::Key,
        "sample 3: no 'chosen_labels', but sample 0 has it: expected in all samples or in none",
    );
}

#[test]
fn missing_beside() {
    assert_says(
        sentence(Cause::MissingBeside { key: "rejected_labels".to_owned() }),
        Kind::Key,
        "sample 3: no 'chosen_labels', but it has 'rejected_labels': expected both or none",
    );
}

#[test]
fn length() {
    assert_says(
        sentence(Cause::Length { found: 511, tokens: "chosen_input_ids".to_owned(), expected: 512 }),
        Kind::Value,
        "sample 3: 'chosen_labels' has 511 tokens, but 'chosen_input_ids' has 512",
    );
}

#[test]
fn dtype() {
    assert_says(
        sentence(Cause::DType { found: "float32", column: "int64" }),
        Kind::Type,
        "sample 3: 'chosen_labels' has dtype float32, expected integers",
    );
    assert_says(
        sentence(Cause::DType { found: "complex64", column: "float32" }),
        Kind::Type,
        "sample 3: 'chosen_labels' has dtype complex64, expected numbers",
    );
}

#[test]
fn misfit() {
    for (value, shown) in [
        (Number::Int(-5), "-5"),
        (Number::Unsigned(u64::MAX), "18446744073709551615"),
        (Number::Float(1.0), "1.0"),
        (Number::Float(1e39), "1e39"),
        (Number::Float(f64::NAN), "NaN"),
    ] {
        assert_says(
            sentence(Cause::Misfit { value, position: Some(7), column: "int32" }),
            Kind::Overflow,
            &format!("sample 3: 'chosen_labels' holds {shown} at position 7, which does not fit int32"),
        );
    }
}

#[test]
fn too_far() {
    for (value, shown) in [(Number::Int(1 << 31), "2147483648"), (Number::Unsigned(1 << 63), "9223372036854775808")] {
        assert_says(
            sentence(Cause::TooFar { value, column: "int32" }),
            Kind::Overflow,
            &format!("sample 3: to count the tokens of 'chosen_labels' needs {shown}, which does not fit int32"),
        );
    }
}

#[test]
fn too_long() {
    assert_says(
        sentence(Cause::TooLong { tokens: 600, max_length: 512 }),
        Kind::Value,
        "sample 3: 'chosen_labels' has 600 tokens, more than max_length=512",
    );
}

#[test]
fn no_bucket() {
    assert_says(
        sentence(Cause::NoBucket { width: 600, largest: 512 }),
        Kind::Value,
        "sample 3: 'chosen_labels', the longest row, makes a width of 600, more than the largest bucket 512",
    );
}

#[test]
fn nothing_to_score() {
    assert_says(
        sentence(Cause::NothingToScore { tokens: 600, kept: 512 }),
        Kind::Value,
        "sample 3: truncation from 600 to 512 tokens leaves nothing to score in 'chosen_labels'",
    );
}

#[test]
fn nothing_kept() {
    assert_says(
        sentence(Cause::NothingKept),
        Kind::Value,
        "sample 3: 'chosen_labels' is all padding: expected at least one value",
    );
}

#[test]
fn too_large() {
    assert_says(
        sentence(Cause::TooLarge { width: 1 << 62 }),
        Kind::Memory,
        "sample 3: 'chosen_labels', padded to a width of 4611686018427387904, makes a batch larger than the address space",
    );
}

#[test]
fn over_limit() {
    assert_says(
        sentence(Cause::OverLimit { width: 512, bytes: 16384, limit: 16000 }),
        Kind::Memory,
        "sample 3: 'chosen_labels', padded to a width of 512, makes a batch of 16384 bytes, more than max_batch_bytes=16000",
    );
}

#[test]
fn out_of_memory() {
    assert_says(
        of_batch(Cause::OutOfMemory { bytes: 1 << 50 }),
        Kind::Memory,
        "cannot allocate 1125899906842624 bytes for the batch",
    );
}

#[test]
fn collate_error_is_an_error() {
    let error: Box<dyn std::error::Error + Send + Sync> = Box::new(CollateError::of_batch(Cause::EmptyBatch));
    assert!(error.source().is_none());
}

#[test]
fn a_stop_is_one_or_the_other() {
    let error = CollateError::of_batch(Cause::EmptyBatch);
    assert_eq!(Stop::from(error.clone()), Stop::Error(error));
    assert_eq!(Stop::from(NotPlain), Stop::NotPlain);
}
