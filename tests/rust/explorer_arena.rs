//! The files of `rust/arena` that the protocol stands in, compiled with atomics and a mapping that stop before each
//! step.
#![allow(dead_code, unreachable_pub, reason = "files of the crate, of which not all is explored")]

#[path = "explorer_atomic.rs"]
pub mod atomic;
#[path = "../../rust/arena/block.rs"]
pub mod block;
#[path = "../../rust/arena/census.rs"]
mod census;
#[path = "explorer_mapping.rs"]
pub mod mapping;
#[path = "../../rust/arena/mark.rs"]
mod mark;
#[path = "explorer_operations.rs"]
pub mod operations;
#[path = "../../rust/arena/owner.rs"]
mod owner;
#[path = "../../rust/arena/table.rs"]
mod table;
