//! Which process this is, and the state that it has.
#![allow(unsafe_code)]

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::param::page_size;

use super::process::Process;

/// The token of this process: a page that the kernel clears in a process that is forked, however it
/// is forked. (A process id would not do: it may be the same in another namespace, or used again.)
fn page() -> &'static AtomicU64 {
    static WITHOUT: AtomicU64 = AtomicU64::new(0);
    static WORD: OnceLock<&'static AtomicU64> = OnceLock::new();
    WORD.get_or_init(|| {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new page at an address that the kernel chooses, which stays for good.
        let Ok(page) = (unsafe { mmap_anonymous(null_mut(), page_size(), flags, MapFlags::PRIVATE) }) else {
            return &WITHOUT;
        };
        // SAFETY: the page is ours alone. A kernel that does not know the advice leaves it to `fork::after_in_child`.
        let _ = unsafe { madvise(page, page_size(), Advice::LinuxWipeOnFork) };
        // SAFETY: the page is aligned, readable, writable, zeroed and never unmapped.
        unsafe { AtomicU64::from_ptr(page.cast()) }
    })
}

/// Says which process this is: never what its parent's was.
pub(super) fn token() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let page = page();
    match page.load(Ordering::Relaxed) {
        0 => {
            let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            page.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|other| other, |_| new)
        }
        token => token,
    }
}

/// The state of the process that made it last, and that process's token.
static CURRENT: AtomicPtr<(u64, Mutex<Process>)> = AtomicPtr::new(null_mut());

/// The state of this process, by its token. That of its parent is left as it is, its lock included.
fn state() -> &'static Mutex<Process> {
    loop {
        let current = CURRENT.load(Ordering::Acquire);
        let token = token();
        // SAFETY: what is stored there is never freed.
        if let Some((of, state)) = unsafe { current.as_ref() }
            && *of == token
        {
            return state;
        }
        let new = Box::into_raw(Box::new((token, Mutex::default())));
        if CURRENT.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: another thread was faster; nobody has seen this one.
            drop(unsafe { Box::from_raw(new) });
        }
    }
}

/// With the state of this process. `work` runs no Python code, waits for nothing, and drops no lease
/// of another process's arena.
pub(super) fn with<T>(work: impl FnOnce(&mut Process) -> T) -> T {
    work(&mut state().lock().unwrap_or_else(PoisonError::into_inner))
}

/// With the state of this process, unless some thread is at it.
pub(super) fn try_with(work: impl FnOnce(&mut Process)) {
    if let Ok(mut process) = state().try_lock() {
        work(&mut process);
    }
}

/// In a process that was forked: what the state of its parent was, if no thread was at it.
pub(super) fn inherit() -> Option<Process> {
    page().store(0, Ordering::Relaxed); // for kernels that have not done it
    // SAFETY: what is stored there is never freed.
    let (_, state) = unsafe { CURRENT.load(Ordering::Acquire).as_ref() }?;
    state.try_lock().ok().map(|mut process| std::mem::take(&mut *process))
}
