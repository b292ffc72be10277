//! The state of the one process that has one here: the training process.

use std::sync::atomic::{AtomicU64, Ordering};

use loom::sync::Mutex;

use super::process::Process;

loom::lazy_static! {
    static ref STATE: Mutex<Process> = Mutex::new(Process::default());
}

static TOKEN: AtomicU64 = AtomicU64::new(1);

pub(super) fn token() -> u64 {
    TOKEN.load(Ordering::Relaxed)
}

/// Does something as another process, which counts nothing down.
pub(super) fn elsewhere(work: impl FnOnce()) {
    TOKEN.store(2, Ordering::Relaxed);
    work();
    TOKEN.store(1, Ordering::Relaxed);
}

pub(super) fn with<T>(work: impl FnOnce(&mut Process) -> T) -> T {
    work(&mut STATE.lock().unwrap())
}

pub(super) fn try_with(work: impl FnOnce(&mut Process)) {
    if let Ok(mut process) = STATE.try_lock() {
        work(&mut process);
    }
}

/// No process is forked in truth.
pub(super) fn inherit() -> Option<Process> {
    None
}
