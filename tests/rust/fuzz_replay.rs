//! The fuzz targets without a fuzzer: over the corpus, and over inputs that are made of it at random.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use crate::fuzz;

/// Changes of each input of the corpus.
const CHANGED: usize = 12;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    // A source distribution has no corpus: then the inputs are made of nothing.
    let files = fs::read_dir(&folder).into_iter().flatten().map(|file| file.unwrap().path());
    let mut inputs: Vec<(String, Vec<u8>)> =
        files.map(|file| (file.display().to_string(), fs::read(file).unwrap())).collect();
    inputs.sort();
    inputs.push(("nothing".to_owned(), vec![0; 256]));
    let mut random = Random(7);
    for (file, input) in &inputs {
        run(target, input, file);
        for _ in 0..CHANGED {
            let other = &inputs[random.below(inputs.len())].1;
            run(target, &random.changed(input, other), &format!("{file}, changed"));
        }
    }
    note(inputs.len() * (1 + CHANGED));
}

/// Writes down how many inputs were run, as the tests in Python do: see `tests/figures.py`.
fn note(replayed: usize) {
    if let Some(folder) = std::env::var_os("DPO_COLLATE_FIGURES") {
        let file = Path::new(&folder).join("fuzz.jsonl");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        file.write_all(format!("{{\"replayed\": {replayed}}}\n").as_bytes()).unwrap();
    }
}

/// Says which input it was, if the target panics.
fn run(target: fn(&[u8]), input: &[u8], file: &str) {
    struct Named<'a>(&'a [u8], &'a str);
    impl Drop for Named<'_> {
        #[expect(clippy::print_stderr, reason = "beside the message of a panic")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input was {}: {:?}", self.1, self.0);
            }
        }
    }
    let _named = Named(input, file);
    target(input);
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }

    /// The beginning of one input and the end of another, with some bytes changed.
    fn changed(&mut self, one: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = [&one[..self.below(one.len() + 1)], &other[self.below(other.len() + 1)..]].concat();
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte = self.below(256).to_le_bytes()[0];
            }
        }
        bytes
    }
}

#[test]
fn collate() {
    replay("collate", fuzz::collate);
}

#[test]
fn arrow() {
    replay("arrow", fuzz::arrow);
}

#[test]
fn message() {
    replay("message", fuzz::message);
}

#[test]
fn sampler() {
    replay("sampler", fuzz::sampler);
}

#[test]
fn check() {
    replay("check", fuzz::check);
}
