//! The crate through its public API, without Python.
//!
//! `naive` and `naive_matrix` say in the plainest words what must come out; tests named `…_matches_naive` compare with
//! it on random input. `build` and `memory` make layouts and arrays for the other files.
#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in tests, but not in their helpers

use proptest::prelude::ProptestConfig;

mod arrow;
mod arrow_any;
mod arrow_build;
mod arrow_fuzz;
mod arrow_hostile;
mod arrow_naive;
mod arrow_random;
mod arrow_schema;
mod arrow_stream;
mod arrow_table;
mod arrow_tensors;
mod arrow_values;
mod bits;
mod block;
mod build;
mod cells;
mod check;
mod collate;
mod compare;
mod count;
mod error;
mod explorer;
mod explorer_arena;
mod explorer_fates;
mod explorer_machine;
mod explorer_state;
mod fill;
mod flat;
mod fuzz;
mod fuzz_replay;
mod golden;
mod lease;
mod limits;
mod mark;
mod memory;
mod messages;
mod naive;
mod naive_matrix;
mod plan;
mod pool;
mod presence;
mod processes;
mod random;
mod rules;
mod sampler;
mod sampler_packing;
mod sampler_random;
mod scalars;
mod strided;
mod taken;
mod window;

/// As many cases as `PROPTEST_CASES` says, 256 if it is not set; what failed is printed, not kept in a file.
fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}
