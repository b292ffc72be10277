//! The core of `dpo_collate`: preference pairs of unequal lengths become one batch.
//!
//! # The way of a batch
//!
//! ```text
//! samples ─gather─▶ objects ─view─▶ sources ─plan─▶ plan ─lease─▶ memory ─fill─▶ arrays ─wrap─▶ tensors
//!         ─deliver─▶ training loop
//! ```
//!
//! 1. **gather** (`source::gather`; Python code may run): every value that is used is taken as a
//!    strong reference. What cannot be read directly becomes a plain array here. Of a table in Arrow's
//!    memory ([`source::arrow`]) rows stay where they are.
//! 2. **view** (`source`; from here to fill no Python code runs): each value becomes a
//!    [`source::Source`], a pointer and a length.
//! 3. **plan** ([`plan`]): layout × lengths → dtypes, shapes and offsets in one block.
//! 4. **lease** ([`arena`]): one block for all token arrays of the batch.
//! 5. **fill** ([`rows`], with the kernels of [`fill`]): each row is written once, values, then padding.
//! 6. **wrap** (`python::wrap`): NumPy arrays over the block, whose base object is the lease.
//! 7. **deliver** ([`arena::message`], `python::delivery`): from a `DataLoader` worker a tensor goes as the
//!    place of its memory, which the training process sees as well.
//!
//! Which samples come together is decided before: [`sampler`] plans the batches of an epoch by their lengths. [`check`]
//! looks at the rows of a data set without making batches of them.
//!
//! Feature `python` adds what has to do with Python objects; without it the crate mentions no Python, and
//! its kernels are tested and run under valgrind on their own.

pub mod arena;
pub mod cells;
pub mod check;
pub mod collate;
pub mod error;
pub mod fill;
pub mod layout;
pub mod plan;
#[cfg(feature = "python")]
mod python;
pub mod rows;
pub mod sampler;
pub mod source;
