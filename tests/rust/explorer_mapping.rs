//! A mapping of two blocks of a page each, whose words are variables and whose memory is steps.
#![allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "as the crate's can fail")]

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use super::atomic::{AtomicU64, Step, ask};
use super::table::{BLOCKS, TABLE};

/// Blocks that have words.
pub const MOST: usize = 2;
/// Bytes of each.
pub const PAGE: usize = 4096;

/// The arena's own words come first, then four for each block.
const OWN: usize = 8;
const HEADER: usize = 4096 / 8;

const KEEP: usize = 4;
/// Bytes used, a word of the arena's.
pub const USED: usize = 6;
/// Bytes free, a word of the arena's.
pub const FREE: usize = 7;

/// The state of a block.
pub const fn state(block: usize) -> usize {
    OWN + block
}

/// Bytes of memory behind it, as the table has it.
pub const fn behind(block: usize) -> usize {
    OWN + 3 * MOST + block
}

/// What no operation changes here: which arena it is, how many blocks there are and where, what is kept.
pub fn is_constant(place: usize) -> bool {
    !(place == USED || place == FREE || (OWN..OWN + MOST).contains(&place) || place >= OWN + 3 * MOST)
}

#[derive(Debug)]
pub(super) struct Mapping(Vec<AtomicU64>);

impl Mapping {
    pub(super) fn private() -> io::Result<Self> {
        Ok(Self((0..OWN + 4 * MOST).map(AtomicU64::of).collect()))
    }

    pub(super) fn shared() -> io::Result<(OwnedFd, Self)> {
        Ok((std::fs::File::open("/dev/null")?.into(), Self::private()?))
    }

    pub(super) fn of(_: BorrowedFd<'_>, _: usize) -> io::Result<Self> {
        Self::private()
    }

    #[allow(clippy::len_without_is_empty, reason = "as the crate's has none")]
    pub(super) fn len(&self) -> usize {
        TABLE + MOST * PAGE
    }

    /// Nothing is read from there.
    pub(super) fn at(&self, _: usize) -> NonNull<u8> {
        NonNull::dangling()
    }

    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        let Some(index) = index.checked_sub(HEADER) else { return &self.0[index] };
        &self.0[OWN + index / BLOCKS * MOST + index % BLOCKS]
    }

    pub(super) fn release(&self, range: Range<usize>) -> io::Result<()> {
        ask(Step::Release(block(range.start), range.len()));
        Ok(())
    }
}

fn block(offset: usize) -> usize {
    (offset - TABLE) / PAGE
}

pub(super) fn commit(_: Option<BorrowedFd<'_>>, range: Range<usize>) -> io::Result<()> {
    if range.start >= TABLE {
        ask(Step::Commit(block(range.start)));
    }
    Ok(())
}

pub(super) fn punch(_: BorrowedFd<'_>, range: Range<usize>) -> io::Result<()> {
    ask(Step::Release(block(range.start), range.len()));
    Ok(())
}

pub(super) fn check(_: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(TABLE + MOST * PAGE)
}

/// The word that says how much free memory is kept.
pub const fn keep() -> usize {
    KEEP
}
