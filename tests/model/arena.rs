//! `rust/arena`, on loom.
#![allow(dead_code, unreachable_pub, reason = "files of the crate, of which not all is explored")]
#![allow(missing_docs, reason = "they are the crate's")]

#[path = "atomic.rs"]
mod atomic;
#[path = "../../rust/arena/block.rs"]
pub mod block;
#[path = "../../rust/arena/census.rs"]
mod census;
#[path = "current.rs"]
mod current;
#[path = "../../rust/arena/fork.rs"]
mod fork;
#[path = "../../rust/arena/lease.rs"]
mod lease;
#[path = "mapping.rs"]
mod mapping;
#[path = "../../rust/arena/mark.rs"]
mod mark;
#[path = "../../rust/arena/message.rs"]
mod message;
#[path = "../../rust/arena/pool.rs"]
mod pool;
#[path = "../../rust/arena/process.rs"]
mod process;
#[path = "scenarios.rs"]
mod scenarios;
#[path = "../../rust/arena/table.rs"]
mod table;
