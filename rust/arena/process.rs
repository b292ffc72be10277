//! What this process has of arenas: its pools, those of others, what it counts.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::census::Census;
use super::current::{try_with, with};
use super::fork::Forks;
use super::lease::{Lease, OutOfMemory};
use super::mapping;
use super::message::Sending;
use super::owner::Owner;
use super::pool::Pool;
use super::table::{Arena, Id, ready};

/// The state of a process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Whether all that is done once has been done.
    opened: bool,
    private: Private,
    pub(super) shared: Option<Pool>,
    /// Arenas of other processes.
    pub(super) attached: Vec<Arc<Arena>>,
    pub(super) forks: Forks,
    pub(super) counts: Counts,
}

/// The pool over private memory: made when it is first used.
#[derive(Debug, Default)]
enum Private {
    #[default]
    Unopened,
    Refused,
    Pool(Pool),
}

/// What a process counts.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Messages with at least one block that it sent.
    pub sent: u64,
    /// Messages that it received.
    pub received: u64,
    /// Why memory did not come from a pool, or batches could not be delivered, and how often.
    pub fallbacks: Vec<(String, u64)>,
}

impl Counts {
    fn fell_back(&mut self, reason: String) {
        match self.fallbacks.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, times)) => *times += 1,
            None => self.fallbacks.push((reason, 1)),
        }
    }
}

/// Where the memory of a batch comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// The allocator.
    Heap,
    /// The pool of this process over private memory, if it has one.
    Private,
    /// The pool whose blocks can be sent, if this process has one; else the private one.
    Delivered,
}

/// Takes memory of that many bytes.
pub fn take(memory: Memory, bytes: usize) -> Result<Lease, OutOfMemory> {
    let taken = if memory == Memory::Heap { None } else { with(|process| process.take(memory, bytes)) };
    taken.map_or_else(|| Lease::new(bytes), Ok)
}

impl Process {
    fn take(&mut self, memory: Memory, bytes: usize) -> Option<Lease> {
        if !self.attached.is_empty() || self.forks.are_watched() {
            self.sweep();
        }
        let pool = match (memory, &mut self.shared) {
            (Memory::Delivered, Some(shared)) => shared,
            _ => self.private.pool(&mut self.counts)?,
        };
        let refused = |error: &io::Error| self.counts.fell_back(format!("no memory in the arena: {error}"));
        let lease = pool.take(bytes).inspect_err(refused).ok()?;
        if let Some((arena, block)) = lease.place() {
            self.forks.note(arena, block);
        }
        Some(lease)
    }

    fn pools(&self) -> impl Iterator<Item = &Pool> {
        let private = if let Private::Pool(pool) = &self.private { Some(pool) } else { None };
        private.into_iter().chain(&self.shared)
    }

    /// Every arena that it has: its own and those of others.
    fn arenas(&self) -> impl Iterator<Item = &Arc<Arena>> {
        self.pools().map(Pool::arena).chain(&self.attached)
    }
}

impl Private {
    fn pool(&mut self, counts: &mut Counts) -> Option<&mut Pool> {
        if matches!(self, Self::Unopened) {
            let arena = Arena::private().inspect_err(|error| counts.fell_back(format!("no pool of memory: {error}")));
            *self = arena.map_or(Self::Refused, |arena| Self::Pool(Pool::new(arena)));
        }
        if let Self::Pool(pool) = self { Some(pool) } else { None }
    }
}

/// Says that all that this process does once has been done.
pub fn open() {
    with(|process| process.opened = true);
}

/// Gives this process a pool whose blocks can be sent: which arena it is, and its descriptor.
pub fn open_shared() -> io::Result<(Id, RawFd)> {
    // Receivers have to know when this process ends, or they would keep its memory for ever.
    drop(pidfd_open(getpid(), PidfdFlags::empty())?);
    let arena = Arena::shared()?;
    let descriptor = arena.file().map_or(-1, |file| file.as_raw_fd());
    let id = arena.id();
    with(|process| process.shared = Some(Pool::new(arena)));
    Ok((id, descriptor))
}

/// Counts that batches go another way, and why; takes the pool back that `open_shared` gave.
pub fn fall_back(reason: String) {
    with(|process| {
        process.counts.fell_back(reason);
        process.shared = None;
    });
}

/// Counts a message that is sent.
pub fn count_sent() {
    with(|process| process.counts.sent += 1);
}

/// Whether it was said, and no receiver has still to attach this process's arena.
#[must_use]
pub fn is_open() -> bool {
    with(|process| process.opened && process.shared.as_ref().is_none_or(|pool| pool.arena().is_attached()))
}

/// This process ends: gives back all memory that is free, and has its receiver give back the rest as it is dropped.
pub fn close() {
    with(|process| {
        for arena in process.pools().map(Pool::arena) {
            arena.set_kept(0);
            arena.empty_all();
        }
    });
}

/// Puts a message in flight for a tensor of this process; see [`Arena::send`].
#[must_use]
pub fn send(address: usize, bytes: usize, small: usize) -> Sending {
    with(|process| process.shared.as_ref().map_or(Sending::Foreign, |pool| pool.arena().send(address, bytes, small)))
}

/// The arena of that name, if this process has attached it; counts a message that is received.
#[must_use]
pub fn attached(id: Id) -> Option<Arc<Arena>> {
    with(|process| {
        process.counts.received += 1;
        process.sweep();
        process.attached.iter().find(|arena| arena.id() == id).map(Arc::clone)
    })
}

/// Attaches the arena of another process, `owner`.
pub fn attach(file: OwnedFd, id: Id, owner: Option<Owner>) -> io::Result<Arc<Arena>> {
    with(|process| {
        let mapped = process.attached.iter().map(|arena| arena.mapping().len()).sum();
        let arena = Arc::new(Arena::attach(file, id, owner, mapping::room(mapped))?);
        process.attached.push(Arc::clone(&arena));
        Ok(arena)
    })
}

/// The last lease of an arena whose owner is dead is gone.
pub(super) fn bury(arena: &Arc<Arena>) {
    arena.bury();
    // Somebody else may hold the lock; then the next message finds that the owner is dead.
    // A fork may still have to do with it; then the sweep after that takes it away.
    try_with(|process| {
        process.attached.retain(|other| !Arc::ptr_eq(arena, other) || Arc::strong_count(other) > 2);
    });
}

impl Process {
    /// Buries arenas whose owner is dead; forgets those of them that nothing here sees, and forks whose processes are.
    fn sweep(&mut self) {
        self.forks.sweep();
        let is_orphan = ready(self.attached.iter().map(|arena| arena.owner()));
        let mut is_orphan = is_orphan.into_iter();
        self.attached.retain(|arena| {
            let dead = is_orphan.next().unwrap_or(false) || arena.misses_owner();
            if dead {
                arena.bury();
            }
            // While tensors see it, it stays: a fork has to find it. The last of them takes it away. And while a
            // process that was forked may see it, it is counted.
            !dead || arena.is_held() || Arc::strong_count(arena) > 1
        });
    }
}

/// What this process has and counts.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Arenas: its own and those of others.
    pub arenas: usize,
    /// Memory, by use.
    pub census: Census,
    /// Times that a batch got memory which an earlier one had had.
    pub recycled: u64,
    /// What is counted.
    pub counts: Counts,
}

/// What this process has and counts.
#[must_use]
pub fn stats() -> Stats {
    with(|process| {
        process.sweep();
        let mut stats = Stats { counts: process.counts.clone(), ..Stats::default() };
        stats.recycled = process.pools().map(Pool::recycled).sum();
        for arena in process.arenas() {
            stats.arenas += 1;
            stats.census += arena.census();
        }
        stats
    })
}

/// Gives back all memory that is free.
pub fn trim() {
    with(|process| {
        process.sweep();
        for arena in process.arenas() {
            arena.empty_all();
        }
    });
}
