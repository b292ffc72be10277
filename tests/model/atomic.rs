//! Loom's atomics.

pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(super) use loom::thread::ThreadId;

/// The thread that asks.
pub(super) fn this_thread() -> ThreadId {
    loom::thread::current().id()
}
