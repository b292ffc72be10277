//! A mapping of blocks of a page each, whose words are loom's atomics, and whose memory is loom's cells.
#![allow(unsafe_code)]
#![allow(clippy::unnecessary_wraps, reason = "as the crate's can fail")]

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use loom::cell::UnsafeCell;

use super::atomic::AtomicU64;
use super::table::{BLOCKS, TABLE};

const MOST: usize = 3;
const PAGE: usize = 4096;
/// The arena's own words come first, then four for each block.
const OWN: usize = 8;
const HEADER: usize = 4096 / 8;
/// Addresses are numbers here.
const BEGIN: usize = 1 << 40;

/// What the worker and the training process both map.
#[derive(Debug)]
struct Memory {
    words: Vec<AtomicU64>,
    pages: Vec<UnsafeCell<u64>>,
}

#[derive(Debug)]
pub(super) struct Mapping(Arc<Memory>);

// SAFETY: its cells are loom's, which finds accesses that are not in order.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

thread_local! {
    /// What was made last, and has still to be attached.
    static MADE: RefCell<Option<Arc<Memory>>> = const { RefCell::new(None) };
}

impl Mapping {
    pub(super) fn private() -> io::Result<Self> {
        let words = (0..OWN + 4 * MOST).map(|_| AtomicU64::new(0)).collect();
        Ok(Self(Arc::new(Memory { words, pages: (0..MOST).map(|_| UnsafeCell::new(0)).collect() })))
    }

    pub(super) fn shared() -> io::Result<(OwnedFd, Self)> {
        let mapping = Self::private()?;
        MADE.set(Some(Arc::clone(&mapping.0)));
        Ok((std::fs::File::open("/dev/null")?.into(), mapping))
    }

    pub(super) fn of(_: BorrowedFd<'_>, _: usize) -> io::Result<Self> {
        MADE.take().map(Self).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn len(&self) -> usize {
        TABLE + MOST * PAGE
    }

    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        NonNull::new(std::ptr::without_provenance_mut(BEGIN + offset)).unwrap()
    }

    pub(super) fn offset(&self, address: usize) -> Option<usize> {
        address.checked_sub(BEGIN).filter(|&offset| offset < self.len())
    }

    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        let Some(index) = index.checked_sub(HEADER) else { return &self.0.words[index] };
        &self.0.words[OWN + index / BLOCKS * MOST + index % BLOCKS]
    }

    /// The memory of the block that begins at an offset.
    pub(super) fn page(&self, offset: usize) -> &UnsafeCell<u64> {
        &self.0.pages[(offset - TABLE) / PAGE]
    }

    pub(super) fn release(&self, range: Range<usize>) -> io::Result<()> {
        if !range.is_empty() {
            // SAFETY: loom finds whoever accesses it at the same time.
            self.page(range.start).with_mut(|page| unsafe { *page = 0 });
        }
        Ok(())
    }
}

pub(super) fn room(_: usize) -> usize {
    usize::MAX
}

pub(super) fn ask(_: usize) -> io::Result<()> {
    Ok(())
}

pub(super) fn commit(_: Option<BorrowedFd<'_>>, _: Range<usize>) -> io::Result<()> {
    Ok(())
}

pub(super) fn punch(_: BorrowedFd<'_>, _: Range<usize>) -> io::Result<()> {
    Ok(())
}

pub(super) fn check(_: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(TABLE + MOST * PAGE)
}
