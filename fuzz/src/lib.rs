//! What the fuzz targets run. It stands in `tests/rust`, as `cargo test` runs it as well: over the corpus.
#![allow(dead_code, clippy::unwrap_used)] // only some of what is made for all tests is used here

#[path = "../../tests/rust/arrow_build.rs"]
mod arrow_build;
#[path = "../../tests/rust/arrow_naive.rs"]
mod arrow_naive;
#[path = "../../tests/rust/arrow_values.rs"]
mod arrow_values;
#[path = "../../tests/rust/build.rs"]
mod build;
#[path = "../../tests/rust/compare.rs"]
mod compare;
#[path = "../../tests/rust/fuzz/mod.rs"]
mod fuzz;
#[path = "../../tests/rust/memory.rs"]
mod memory;
#[path = "../../tests/rust/naive.rs"]
mod naive;
#[path = "../../tests/rust/naive_matrix.rs"]
mod naive_matrix;

pub use fuzz::{arrow, check, collate, message, sampler};
