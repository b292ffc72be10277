//! The atomics that the protocol is made of.
//!
//! Here, so that tests can put others in their place: `tests/rust/explorer.rs` and `tests/model` compile the files of
//! this folder with atomics that stop before each step.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(super) use std::thread::ThreadId;

/// The thread that asks.
pub(super) fn this_thread() -> ThreadId {
    std::thread::current().id()
}
