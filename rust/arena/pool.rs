//! The owner's side of an arena: which block a batch gets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::block::{State, make};
use super::lease::Lease;
use super::mapping::{self, PAGE};
use super::mark::Mark;
use super::table::{Arena, TABLE};

/// Hands out the blocks of an arena.
///
/// A block's address space is the power of two that its first batch needed; so a block is never
/// twice as large as what lies in it, and blocks of one size lie anywhere among the others.
#[derive(Debug)]
pub struct Pool {
    arena: Arc<Arena>,
    mark: Mark,
    end: usize,
    recycled: u64,
}

impl Pool {
    /// A pool over an arena that this process has made.
    #[must_use]
    pub fn new(arena: Arena) -> Self {
        Self { arena: Arc::new(arena), mark: Mark::default(), end: TABLE, recycled: 0 }
    }

    /// The arena.
    #[must_use]
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Times that a batch got memory which an earlier one had had.
    #[must_use]
    pub fn recycled(&self) -> u64 {
        self.recycled
    }

    /// A block of at least so many bytes.
    pub fn take(&mut self, bytes: usize) -> io::Result<Lease> {
        let bytes = bytes.max(1); // every batch gets an address
        let capacity = bytes.max(PAGE).checked_next_power_of_two().ok_or_else(no_address_space)?;
        let arena = &*self.arena;
        let (mut used, mut free) = (0, 0);
        let mut best = None;
        for block in 0..arena.count() {
            let state = State::of(arena.state(block).load(Ordering::Relaxed));
            let committed = arena.committed(block);
            if state.is_used() {
                used += committed as u64;
            } else if state.is_free() {
                free += committed as u64;
                if arena.capacity(block) == capacity && best.is_none_or(|(_, most)| committed > most) {
                    best = Some((block, committed));
                }
            }
        }
        // The word decides, not what was seen above: the block may be being emptied by now.
        let found = best.filter(|&(block, _)| make(arena.state(block), State::taken).is_some());
        let block = if let Some((block, _)) = found {
            block
        } else {
            mapping::ask(bytes)?; // refused, it takes no address space
            self.add(capacity)?
        };
        // From here on the lease gives the block back if anything fails.
        let lease = Lease::of_block(Arc::clone(&self.arena), block, bytes);
        let committed = self.arena.committed(block);
        self.arena.commit(block, bytes)?;
        let now = self.arena.committed(block) as u64;
        self.recycled += u64::from(committed > 0);
        self.mark.taken(used, used + now);
        self.arena.set_kept(self.mark.kept());
        if free.saturating_sub(committed as u64) > self.mark.kept() {
            self.empty_one();
        }
        Ok(lease)
    }

    /// A new block, taken.
    fn add(&mut self, capacity: usize) -> io::Result<usize> {
        let begin = self.end.next_multiple_of(capacity);
        let end = begin.checked_add(capacity).filter(|&end| end <= self.arena.mapping().len());
        let end = end.ok_or_else(no_address_space)?;
        let block = self.arena.push(begin, capacity)?;
        self.end = end;
        make(self.arena.state(block), State::taken).ok_or_else(no_address_space)?;
        Ok(block)
    }

    /// Gives back the memory of the largest free block: one a take, as to free 135 MB takes long.
    fn empty_one(&self) {
        let arena = &self.arena;
        let free = (0..arena.count()).filter(|&block| State::of(arena.state(block).load(Ordering::Relaxed)).is_free());
        if let Some(block) = free.max_by_key(|&block| arena.committed(block)) {
            arena.empty(block);
        }
    }
}

fn no_address_space() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "the arena has no address space left")
}
