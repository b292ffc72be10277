//! The owner's side of an arena: which block a batch gets.

use std::io;
use std::sync::Arc;

use rustix::param::page_size;

use super::atomic::Ordering;
use super::block::State;
use super::lease::Lease;
use super::mapping;
use super::mark::Mark;
use super::table::{Arena, TABLE, spoilt};

/// Hands out the blocks of an arena.
///
/// A block's address space is the power of four that its first batch needed, so that it can grow; what
/// is behind it is never more than twice what is in it. (With powers of two, and blocks for batches of the
/// same power alone, a quarter of the memory of batches with one to twelve tiles each was new.)
#[derive(Debug)]
pub struct Pool {
    arena: Arc<Arena>,
    mark: Mark,
    /// Where the next block can begin.
    end: usize,
    /// Blocks that were not free when it was last looked.
    seen_used: usize,
    recycled: u64,
}

/// With fewer blocks it is not worth while to forget any.
const FEW_BLOCKS: usize = 64;

impl Pool {
    /// A pool over an arena that this process has made.
    #[must_use]
    pub fn new(arena: Arena) -> Self {
        Self { arena: Arc::new(arena), mark: Mark::default(), end: TABLE, seen_used: 0, recycled: 0 }
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
        self.forget_blocks();
        let used = self.arena.used();
        // The word decides, not what was seen: a block may be being emptied by now.
        let (block, range) = loop {
            let block = if let Some(block) = self.best(bytes) { block } else { self.add(bytes)? };
            let range = self.arena.place(block, bytes).ok_or_else(spoilt)?;
            if self.arena.take(block) {
                break (block, range);
            }
        };
        // From here on the lease gives the block back if anything fails.
        let lease = Lease::of_block(Arc::clone(&self.arena), block, range);
        let is_new = self.arena.committed(block) == 0;
        self.recycled += u64::from(!is_new);
        self.arena.commit(block, bytes)?;
        let committed = self.arena.committed(block) as u64;
        self.mark.taken(used, used + committed);
        self.arena.set_kept(self.mark.kept());
        // Memory that nothing fits any more makes room for what is new: else that would be given back each time that
        // it is dropped, until the mark has faded (after batches of 1.5 MB, 1,500 batches of 0.7 MB in new memory).
        match self.arena.excess(if is_new { committed } else { 0 }) {
            0 => {}
            excess => self.empty_one(excess),
        }
        Ok(lease)
    }

    /// Removes free blocks from the table's end: else every batch would look at all blocks that there ever were.
    /// Those without memory go at once; where most are not used, one with memory goes as well.
    fn forget_blocks(&mut self) {
        let count = self.arena.count();
        if count > FEW_BLOCKS && count > 2 * self.seen_used {
            self.arena.empty(count - 1);
        }
        while let Some(begin) = self.arena.pop() {
            self.end = begin.max(TABLE);
        }
    }

    /// Of the free blocks that are large enough, and not too large, the one that lacks the least memory.
    fn best(&mut self, bytes: usize) -> Option<usize> {
        let (most, new) = (bytes.saturating_mul(2).max(page_size()), capacity(bytes)?);
        self.seen_used = self.arena.count();
        let fitting = self.free().inspect(|_| self.seen_used -= 1).filter_map(|block| {
            let (capacity, committed) = (self.arena.capacity(block), self.arena.committed(block));
            // One without memory is address space: no more than a new one would take.
            let fits = if committed == 0 { capacity == new } else { capacity >= bytes && committed <= most };
            fits.then(|| (bytes.saturating_sub(committed), capacity, block))
        });
        fitting.min().map(|(_, _, block)| block)
    }

    fn free(&self) -> impl Iterator<Item = usize> + use<> {
        let arena = Arc::clone(&self.arena);
        let is_free = move |&block: &usize| State::of(arena.state(block).load(Ordering::Relaxed)).is_free();
        (0..self.arena.count()).filter(is_free)
    }

    /// A new block.
    fn add(&mut self, bytes: usize) -> io::Result<usize> {
        mapping::ask(bytes)?; // refused, it takes no address space
        let capacity = capacity(bytes).ok_or_else(no_address_space)?;
        let begin = self.end.checked_next_multiple_of(capacity).ok_or_else(no_address_space)?;
        let end = begin.checked_add(capacity).filter(|&end| end <= self.arena.mapping().len());
        let end = end.ok_or_else(no_address_space)?;
        let block = self.arena.push(begin, capacity)?;
        self.end = end;
        Ok(block)
    }

    /// Gives back the memory of the smallest free block that has so much, else of the largest: one a take, as to free
    /// 135 MB takes long.
    fn empty_one(&self, excess: u64) {
        let committed = |block: &usize| self.arena.committed(*block) as u64;
        let enough = self.free().filter(|block| committed(block) >= excess).min_by_key(committed);
        if let Some(block) = enough.or_else(|| self.free().max_by_key(committed)) {
            self.arena.empty(block);
        }
    }
}

/// The address space of a block for so many bytes: the next power of four.
fn capacity(bytes: usize) -> Option<usize> {
    let capacity = bytes.max(page_size()).checked_next_power_of_two()?;
    Some(capacity << (capacity.trailing_zeros() % 2))
}

fn no_address_space() -> io::Error {
    io::Error::new(io::ErrorKind::OutOfMemory, "the arena has no address space left")
}
