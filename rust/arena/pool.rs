//! The owner's side of an arena: which block a batch gets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::param::page_size;

use super::block::State;
use super::lease::Lease;
use super::mapping;
use super::mark::Mark;
use super::table::{Arena, TABLE};

/// Hands out the blocks of an arena.
///
/// A block's address space is the power of four that its first batch needed, so that it can grow; what
/// is behind it is never more than twice what is in it. (With powers of two, and blocks for batches of the
/// same power alone, a quarter of the memory of batches with one to twelve tiles each was new.)
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
        while let Some(begin) = self.arena.pop() {
            self.end = begin; // else every batch would look at all blocks that there ever were
        }
        let used = self.arena.used();
        let block = loop {
            match self.best(bytes) {
                // The word decides, not what was seen: the block may be being emptied by now.
                Some(block) if !self.arena.take(block) => {}
                Some(block) => break block,
                None => break self.add(bytes)?,
            }
        };
        // From here on the lease gives the block back if anything fails.
        let lease = Lease::of_block(Arc::clone(&self.arena), block, bytes);
        self.recycled += u64::from(self.arena.committed(block) > 0);
        self.arena.commit(block, bytes)?;
        self.mark.taken(used, used + self.arena.committed(block) as u64);
        self.arena.set_kept(self.mark.kept());
        if self.arena.has_excess() {
            self.empty_one();
        }
        Ok(lease)
    }

    /// Of the free blocks that are large enough, and not too large, the one that lacks the least memory.
    fn best(&self, bytes: usize) -> Option<usize> {
        let most = bytes.saturating_mul(2).max(page_size());
        let fitting = self.free().filter_map(|block| {
            let (capacity, committed) = (self.arena.capacity(block), self.arena.committed(block));
            (capacity >= bytes && committed <= most).then(|| (bytes.saturating_sub(committed), capacity, block))
        });
        fitting.min().map(|(_, _, block)| block)
    }

    fn free(&self) -> impl Iterator<Item = usize> {
        (0..self.arena.count()).filter(|&block| State::of(self.arena.state(block).load(Ordering::Relaxed)).is_free())
    }

    /// A new block, taken.
    fn add(&mut self, bytes: usize) -> io::Result<usize> {
        mapping::ask(bytes)?; // refused, it takes no address space
        let capacity = bytes.max(page_size()).checked_next_power_of_two().ok_or_else(no_address_space)?;
        let capacity = capacity << (capacity.trailing_zeros() % 2);
        let begin = self.end.checked_next_multiple_of(capacity).ok_or_else(no_address_space)?;
        let end = begin.checked_add(capacity).filter(|&end| end <= self.arena.mapping().len());
        let end = end.ok_or_else(no_address_space)?;
        let block = self.arena.push(begin, capacity)?;
        self.end = end;
        if self.arena.take(block) { Ok(block) } else { Err(no_address_space()) }
    }

    /// Gives back the memory of the largest free block: one a take, as to free 135 MB takes long.
    fn empty_one(&self) {
        if let Some(block) = self.free().max_by_key(|&block| self.arena.committed(block)) {
            self.arena.empty(block);
        }
    }
}

fn no_address_space() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "the arena has no address space left")
}
