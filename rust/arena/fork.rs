//! Forks of a process that holds leases: the processes they make see its blocks, uncounted.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::pipe::{PipeFlags, pipe_with};

use super::atomic::{ThreadId, this_thread};
use super::current::{inherit, with};
use super::pool::Pool;
use super::table::{Arena, ready};

/// The forks of a process.
#[derive(Debug, Default)]
pub(super) struct Forks {
    under_way: Vec<UnderWay>,
    made: Vec<Fork>,
}

/// A fork, and the blocks that the processes which it made may see.
#[derive(Debug)]
struct Fork {
    /// One end of a pipe whose other end those processes hold, and only they. None where there was no
    /// pipe to be had: then it is never known that they are gone.
    alive: Option<OwnedFd>,
    blocks: Vec<(Arc<Arena>, usize)>,
}

/// A fork that some thread is about to make.
#[derive(Debug)]
struct UnderWay {
    thread: ThreadId,
    fork: Fork,
    /// The end of the pipe that is for the child.
    childs: Option<OwnedFd>,
}

impl Forks {
    /// A lease is made. While some thread forks, its child may see the block.
    pub(super) fn note(&mut self, arena: &Arc<Arena>, block: usize) {
        for under_way in &mut self.under_way {
            if arena.mark_forked(block) {
                under_way.fork.blocks.push((Arc::clone(arena), block));
            }
        }
    }

    /// Whether any is remembered.
    pub(super) fn are_watched(&self) -> bool {
        !self.made.is_empty()
    }

    /// Forgets forks whose processes are gone.
    pub(super) fn sweep(&mut self) {
        let mut is_gone = ready(self.made.iter().map(|fork| fork.alive.as_ref())).into_iter();
        self.made.retain(|fork| {
            let gone = is_gone.next().unwrap_or(false);
            for (arena, block) in fork.blocks.iter().filter(|_| gone) {
                arena.unmark_forked(*block);
            }
            !gone
        });
    }
}

/// Before this thread forks: marks every block of which this process has a lease. (Or another receiver
/// has: there is mostly none.) Private memory is safe under a fork by itself.
pub fn before() {
    with(|process| {
        process.forks.sweep();
        let mut blocks = Vec::new();
        for arena in process.shared.iter().map(Pool::arena).chain(&process.attached) {
            let marked = (0..arena.count()).filter(|&block| arena.mark_forked(block));
            blocks.extend(marked.map(|block| (Arc::clone(arena), block)));
        }
        let (alive, childs) = pipe_with(PipeFlags::CLOEXEC).ok().unzip();
        let fork = Fork { alive, blocks };
        process.forks.under_way.push(UnderWay { thread: this_thread(), fork, childs });
    });
}

/// After this thread forked (or failed to), in the parent.
pub fn after_in_parent() {
    with(|process| {
        let forks = &mut process.forks;
        if let Some(index) = forks.under_way.iter().rposition(|under_way| under_way.thread == this_thread()) {
            let UnderWay { fork, childs, .. } = forks.under_way.remove(index);
            drop(childs);
            if !fork.blocks.is_empty() {
                forks.made.push(fork);
            }
        }
    });
}

/// In the process that was forked: it has no arena, and counts nothing down. What of its parent's
/// arenas it has no tensor of, it unmaps.
pub fn after_in_child() {
    for under_way in inherit().map(|process| process.forks.under_way).into_iter().flatten() {
        // Open as long as this process lives: so the parent knows that it does.
        std::mem::forget(under_way.childs);
    }
}
