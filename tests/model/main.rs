//! The protocol of leases under loom: `make loom`.
//!
//! The files of `rust/arena` are compiled with loom's atomics and lock, and a mapping whose blocks are loom's cells.
//! Loom then runs each scenario in every order of its threads' steps (up to so many changes from a thread that could
//! have gone on), with every value that the orders of memory allow a load to see, and finds accesses of a block's
//! memory that nothing puts in order.
//!
//! One thread is the worker, the owner of the arena; the others are threads of the training process. What a process has
//! of its own lies in `current`, which is another here, as is `mapping`. Pipes are real ones. `tests/rust/explorer.rs`
//! kills processes, which loom cannot.
#![cfg(loom)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // clippy.toml allows them in tests, but not in their helpers

use _core::cells;

mod arena;
