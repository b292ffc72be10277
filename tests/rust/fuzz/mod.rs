//! What the fuzz targets of `fuzz/` run, one function each: it makes something of any bytes, and panics where the crate
//! does what it must not. `fuzz_replay` runs them over the corpus.
#![allow(unreachable_pub)] // the package in `fuzz/` hands them on

mod arrow_node;
mod given;
mod target_arrow;
mod target_check;
mod target_collate;
mod target_message;
mod target_sampler;

pub use target_arrow::arrow;
pub use target_check::check;
pub use target_collate::collate;
pub use target_message::message;
pub use target_sampler::sampler;
