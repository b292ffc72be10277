//! An arena: a mapping that begins with a table of its blocks.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::param::page_size;
use rustix::rand::{GetRandomFlags, getrandom};

use super::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use super::block::{Holder, State, make};
use super::census::Census;
use super::mapping::{self, Mapping};
use super::mark::KEPT;
use super::owner::Owner;
use crate::cells::ALIGNMENT;

/// Says which arena it is: no two have the same.
pub type Id = [u8; 16];

/// Most blocks of an arena.
pub(super) const BLOCKS: usize = 1 << 17;
/// Where the first block begins, in bytes: behind one page of the arena's own words, and the blocks'.
pub(super) const TABLE: usize = 8 << 20;
const HEADER: usize = 4096;

// The arena's own words.
const MAGIC: usize = 0;
const ID: usize = 1; // two words
const ATTACHED: usize = 3;
const KEEP: usize = 4;
const COUNT: usize = 5;
// Bytes of memory behind blocks that are used, and that are free. Each is changed right after the move
// that it goes with, so another process may see it a little late; one that is killed in between leaves
// it wrong, when it no longer matters: either the owner is dead then or nobody receives any more.
const USED: usize = 6;
const FREE: usize = 7;

// The words of blocks: all states, then all offsets and so on, since to take a block all states are read.
const WORDS: usize = 4;
const STATE: usize = 0;
const OFFSET: usize = 1;
const CAPACITY: usize = 2;
const BEHIND: usize = 3;
const _: () = assert!(HEADER + WORDS * BLOCKS * 8 <= TABLE);

const MADE_BY: u64 = u64::from_le_bytes(*b"dpo_col1");

/// A mapping with its table, as this process sees it.
#[derive(Debug)]
pub struct Arena {
    mapping: Mapping,
    /// The owner's file, and that of a receiver who could not map the blocks.
    file: Option<OwnedFd>,
    /// What this process is to it.
    holder: Holder,
    /// The other process that owns it, if it could be seen.
    owner: Option<Owner>,
    /// Bytes of the whole: of the table, and of all address space that blocks can have.
    len: usize,
    /// Leases that this process holds.
    held: AtomicUsize,
    /// The owner is known to be dead.
    dead: AtomicBool,
}

impl Arena {
    /// An arena over private memory: its leases never leave this process.
    pub fn private() -> io::Result<Self> {
        Ok(Self::own(Mapping::private()?, None))
    }

    /// An arena whose blocks can be sent.
    pub fn shared() -> io::Result<Self> {
        let (file, mapping) = Mapping::shared()?;
        let mut id = Id::default();
        getrandom(&mut id, GetRandomFlags::empty())?;
        mapping::commit(Some(file.as_fd()), 0..HEADER)?;
        let arena = Self::own(mapping, Some(file));
        for (index, half) in id.as_chunks().0.iter().enumerate() {
            arena.mapping.word(ID + index).store(u64::from_le_bytes(*half), Ordering::Relaxed);
        }
        arena.mapping.word(MAGIC).store(MADE_BY, Ordering::Release);
        Ok(arena)
    }

    fn own(mapping: Mapping, file: Option<OwnedFd>) -> Self {
        mapping.word(KEEP).store(KEPT, Ordering::Relaxed);
        let len = mapping.len();
        let (held, dead) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { mapping, file, holder: Holder::Owner, owner: None, len, held, dead }
    }

    /// Another process's arena; `owner` is that process. Where the blocks cannot be mapped (for want
    /// of address space, of which `room` bytes are free to use), they are read from the file. The table has to
    /// be mapped, as it has the states.
    pub fn attach(file: OwnedFd, id: Id, owner: Option<Owner>, room: usize) -> io::Result<Self> {
        let len = mapping::check(file.as_fd())?;
        let whole = if len <= room { Mapping::of(file.as_fd(), len).ok() } else { None };
        let (mapping, file) = match whole {
            Some(mapping) => (mapping, None),
            None => (Mapping::of(file.as_fd(), TABLE)?, Some(file)),
        };
        let (held, dead) = (AtomicUsize::new(0), AtomicBool::new(false));
        let arena = Self { mapping, file, holder: Holder::Receiver, owner, len, held, dead };
        if arena.mapping.word(MAGIC).load(Ordering::Acquire) != MADE_BY || arena.id() != id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not the arena that was named"));
        }
        arena.mapping.word(ATTACHED).store(1, Ordering::Release);
        Ok(arena)
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> Id {
        let mut id = Id::default();
        for (index, half) in id.as_chunks_mut().0.iter_mut().enumerate() {
            *half = self.mapping.word(ID + index).load(Ordering::Relaxed).to_le_bytes();
        }
        id
    }

    /// Whether some process has attached it.
    pub fn is_attached(&self) -> bool {
        self.mapping.word(ATTACHED).load(Ordering::Acquire) != 0
    }

    /// The file of a shared arena, if this process has it open.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The addresses of this process where blocks can lie; none where they are not mapped.
    #[must_use]
    pub fn blocks(&self) -> Option<Range<usize>> {
        let start = self.mapping.at(0).addr().get();
        self.is_whole().then(|| start + TABLE..start + self.mapping.len())
    }

    pub(super) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Whether blocks are mapped; else they are read from the file.
    pub(super) fn is_whole(&self) -> bool {
        self.mapping.len() == self.len
    }

    /// Number of blocks in the table.
    pub(super) fn count(&self) -> usize {
        usize::try_from(self.mapping.word(COUNT).load(Ordering::Acquire)).map_or(BLOCKS, |count| count.min(BLOCKS))
    }

    fn word_of(&self, block: usize, word: usize) -> &AtomicU64 {
        debug_assert!(block < BLOCKS, "block {block}");
        self.mapping.word(HEADER / 8 + word * BLOCKS + block)
    }

    fn value(&self, block: usize, word: usize) -> usize {
        // The relaxed order will do: offset and capacity are written before the block can be seen.
        usize::try_from(self.word_of(block, word).load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// Bytes of memory that are used, or free.
    fn bytes(&self, word: usize) -> u64 {
        // Less than nothing for a moment, where a move was seen before the one that it followed.
        self.mapping.word(word).load(Ordering::Relaxed).cast_signed().max(0).cast_unsigned()
    }

    fn count_bytes(&self, word: usize, before: usize, now: usize) {
        self.mapping.word(word).fetch_add((now as u64).wrapping_sub(before as u64), Ordering::Relaxed);
    }

    /// Bytes of memory that somebody sees or will see.
    pub(super) fn used(&self) -> u64 {
        self.bytes(USED)
    }

    pub(super) fn state(&self, block: usize) -> &AtomicU64 {
        self.word_of(block, STATE)
    }

    /// Where a block begins, in bytes.
    pub(super) fn offset(&self, block: usize) -> usize {
        self.value(block, OFFSET)
    }

    /// The address space of a block, in bytes.
    pub(super) fn capacity(&self, block: usize) -> usize {
        self.value(block, CAPACITY).min(self.len)
    }

    /// Bytes of the block that have memory behind them.
    pub(super) fn committed(&self, block: usize) -> usize {
        self.value(block, BEHIND).min(self.len)
    }

    /// Where so many bytes of a block lie, if it is a place for a block: behind the table, aligned, not past the end.
    /// It always is, unless another process has written what it must not into the table.
    pub(super) fn place(&self, block: usize, bytes: usize) -> Option<Range<usize>> {
        let begin = self.offset(block);
        let end = begin.checked_add(bytes).filter(|&end| end <= self.len)?;
        (begin >= TABLE && begin < self.len && begin.is_multiple_of(ALIGNMENT)).then_some(begin..end)
    }

    /// Adds a block to the table. The owner's business.
    pub(super) fn push(&self, offset: usize, capacity: usize) -> io::Result<usize> {
        let block = self.count();
        if block == BLOCKS {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the arena has as many blocks as it can have"));
        }
        if block.is_multiple_of(HEADER / 8) {
            for word in 0..WORDS {
                let begin = HEADER + (word * BLOCKS + block) * 8;
                mapping::commit(self.file(), begin..begin + HEADER)?;
            }
        }
        // The state stays what it was: were the block there before, its generations go on.
        self.word_of(block, OFFSET).store(offset as u64, Ordering::Relaxed);
        self.word_of(block, CAPACITY).store(capacity as u64, Ordering::Relaxed);
        self.mapping.word(COUNT).store(block as u64 + 1, Ordering::Release);
        Ok(block)
    }

    /// Removes the last block, if it is free and has no memory; where it began. The owner's business.
    pub(super) fn pop(&self) -> Option<usize> {
        let last = self.count().checked_sub(1)?;
        let state = State::of(self.state(last).load(Ordering::Acquire));
        (state.is_free() && self.committed(last) == 0).then(|| {
            self.mapping.word(COUNT).store(last as u64, Ordering::Release);
            self.offset(last)
        })
    }

    /// The owner takes a block, if it is free.
    pub(super) fn take(&self, block: usize) -> bool {
        make(self.state(block), State::taken).is_some() && {
            let committed = self.committed(block);
            self.count_bytes(FREE, committed, 0);
            self.count_bytes(USED, 0, committed);
            true
        }
    }

    /// The owner, who has a lease, puts a message in flight; of which generation.
    pub(super) fn put_in_flight(&self, block: usize) -> Option<u64> {
        make(self.state(block), State::sent).map(State::generation)
    }

    /// A message of that generation arrives, if it is in flight: it is a lease now.
    pub(super) fn arrive(&self, block: usize, generation: u64) -> bool {
        make(self.state(block), |state| state.received(generation)).is_some()
    }

    /// Puts memory behind the first bytes of a block that the caller has taken.
    pub(super) fn commit(&self, block: usize, bytes: usize) -> io::Result<()> {
        let already = self.committed(block);
        let wanted = bytes.next_multiple_of(page_size());
        if wanted > already {
            let whole = self.place(block, wanted).ok_or_else(spoilt)?;
            let range = whole.start + already..whole.end;
            mapping::commit(self.file(), range.clone()).inspect_err(|_| {
                let _ = self.mapping.release(range); // some of it may have been had
            })?;
            self.word_of(block, BEHIND).store(wanted as u64, Ordering::Relaxed);
            self.count_bytes(USED, already, wanted);
        }
        Ok(())
    }

    /// Gives the memory of a block back, if nobody sees the block.
    pub(super) fn empty(&self, block: usize) -> bool {
        make(self.state(block), |state| state.emptying(self.holder)).is_some() && {
            let committed = self.committed(block);
            // An owner that was killed may have had more than it could write down.
            let bytes = if self.dead.load(Ordering::Relaxed) { self.capacity(block) } else { committed };
            // Refused, the memory stays, and is used again by the next who takes the block.
            if self.place(block, bytes).is_some_and(|range| self.release(range).is_ok()) {
                self.word_of(block, BEHIND).store(0, Ordering::Relaxed);
                self.count_bytes(FREE, committed, 0);
            }
            make(self.state(block), |state| state.emptied(self.holder)).is_some()
        }
    }

    fn release(&self, range: Range<usize>) -> io::Result<()> {
        match self.file() {
            Some(file) if !self.is_whole() => mapping::punch(file, range),
            _ => self.mapping.release(range),
        }
    }

    /// Bytes of free memory that the owner wants to keep.
    pub(super) fn set_kept(&self, bytes: u64) {
        self.mapping.word(KEEP).store(bytes, Ordering::Relaxed);
    }

    /// Free memory beyond what the owner wants to keep, were there so many bytes more of it.
    pub(super) fn excess(&self, more: u64) -> u64 {
        self.bytes(FREE).saturating_add(more).saturating_sub(self.mapping.word(KEEP).load(Ordering::Relaxed))
    }

    /// Counts blocks and bytes by what they are used for.
    pub fn census(&self) -> Census {
        let mut census = Census::default();
        for block in 0..self.count() {
            let state = State::of(self.state(block).load(Ordering::Relaxed));
            let committed = self.committed(block) as u64;
            if state.is_used() {
                census.used.add(committed);
            } else if state.is_retired() {
                census.retired.add(committed);
            } else if committed > 0 {
                census.free.add(committed);
            }
        }
        census
    }

    /// This process has one lease more. To be called before anybody can drop it.
    pub(super) fn hold(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops a lease; whether this process has none left.
    pub(super) fn drop_lease(&self, block: usize) -> bool {
        let committed = self.committed(block); // before anybody else can take it
        // Refused where another process has written into the word: this one does not end for that.
        let left = make(self.state(block), |state| state.dropped(self.holder));
        if self.is_dead() {
            self.bury_one(block);
        } else if let Some(left) = left.filter(|left| !left.is_used()) {
            self.count_bytes(USED, committed, 0);
            self.freed(block, left, committed);
        }
        self.held.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// A block may have become free by a move.
    fn freed(&self, block: usize, state: State, committed: usize) {
        if state.is_free() {
            self.count_bytes(FREE, 0, committed);
            if self.excess(0) > 0 {
                self.empty(block);
            }
        }
    }

    /// Whether this process has leases.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire) > 0
    }

    /// Can be read when the other process that owns it has ended (a zombie has).
    pub(super) fn owner(&self) -> Option<&OwnedFd> {
        self.owner.as_ref().and_then(Owner::pidfd)
    }

    /// Whether the other process that owns it is found to be gone, where there is no pidfd; asks for one again.
    pub(super) fn misses_owner(&self) -> bool {
        self.owner.as_ref().is_some_and(Owner::is_missing)
    }

    /// This process is about to fork: marks the block if it has a lease of it.
    pub(super) fn mark_forked(&self, block: usize) -> bool {
        make(self.state(block), |state| state.forked(self.holder)).is_some()
    }

    /// The processes of a fork are gone that may have seen the block.
    pub(super) fn unmark_forked(&self, block: usize) {
        let committed = self.committed(block);
        if let Some(left) = make(self.state(block), State::unforked) {
            self.freed(block, left, committed);
        }
        if self.is_dead() {
            self.bury_one(block);
        }
    }

    /// Whether the owner was found dead. Either this or `bury` sees what the other did before: the block that a
    /// lease was dropped of, or the flag.
    fn is_dead(&self) -> bool {
        fence(Ordering::SeqCst);
        self.dead.load(Ordering::Relaxed)
    }

    /// Gives back all memory that nobody sees.
    pub fn empty_all(&self) {
        for block in 0..self.count() {
            if self.committed(block) > 0 {
                self.empty(block);
            }
        }
    }

    /// The owner is dead: gives back all memory that nobody sees or will, and from now on each block when it
    /// is seen no more. It would not be enough to unmap it, as processes that were forked from this one may
    /// have the mapping as well.
    pub(super) fn bury(&self) {
        if self.dead.swap(true, Ordering::Relaxed) {
            return;
        }
        fence(Ordering::SeqCst);
        for block in 0..self.count() {
            self.bury_one(block);
        }
    }

    fn bury_one(&self, block: usize) {
        make(self.state(block), State::abandoned);
        self.empty(block);
    }
}

/// Another process has written into the table what it must not.
pub(super) fn spoilt() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the arena's table names memory that is not there")
}

/// Which of the descriptors can be read, or are closed at their other end.
pub(super) fn ready<'a>(descriptors: impl IntoIterator<Item = Option<&'a OwnedFd>>) -> Vec<bool> {
    let descriptors: Vec<_> = descriptors.into_iter().collect();
    let mut polled: Vec<_> = descriptors.iter().flatten().map(|file| PollFd::new(*file, PollFlags::IN)).collect();
    if !polled.is_empty() && poll(&mut polled, Some(&Timespec::default())).is_err() {
        return vec![false; descriptors.len()];
    }
    let mut polled = polled.iter();
    // Not POLLNVAL: somebody has closed what is not his.
    let ended = PollFlags::IN | PollFlags::HUP;
    let is_ready =
        |file: &Option<_>| file.is_some() && polled.next().is_some_and(|file| file.revents().intersects(ended));
    descriptors.iter().map(is_ready).collect()
}
