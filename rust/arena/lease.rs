//! A lease: one block of memory, held until the lease is dropped.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use super::table::{Arena, ready};
use super::{current, process};
use crate::cells::{ALIGNMENT, Cell};

/// The allocator refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;

/// A block of memory, its content whatever was there before.
///
/// The block is handed out only through `&mut self` while it is filled; afterwards the arrays made
/// from it are its only users.
#[derive(Debug)]
pub struct Lease {
    start: NonNull<u8>,
    bytes: usize,
    home: Home,
}

/// Where a block goes back to.
#[derive(Debug)]
enum Home {
    /// The allocator.
    Heap(Layout),
    /// An arena: one of the leases that its table counts, by the process that took it.
    Arena { arena: Arc<Arena>, block: usize, process: u64 },
}

// SAFETY: a lease owns its block, or one of the leases that are counted of it; nothing in it is bound
// to a thread.
unsafe impl Send for Lease {}
// SAFETY: `&Lease` gives away an address and a size only; reading or writing there is the business
// (and the unsafe block) of whoever does it.
unsafe impl Sync for Lease {}

impl Lease {
    /// Takes a block of that many bytes from the allocator. Refusal is an error, never an abort.
    pub fn new(bytes: usize) -> Result<Self, OutOfMemory> {
        // One byte at least: the allocator takes no empty request, and every batch gets an address.
        let layout = Layout::from_size_align(bytes.max(1), ALIGNMENT).map_err(|_| OutOfMemory)?;
        // SAFETY: the layout's size is not zero.
        let start = NonNull::new(unsafe { alloc(layout) }).ok_or(OutOfMemory)?;
        Ok(Self { start, bytes: layout.size(), home: Home::Heap(layout) })
    }

    /// The lease of a block whose word counts it already, and which lies there: see [`Arena::place`].
    pub(super) fn of_block(arena: Arc<Arena>, block: usize, range: Range<usize>) -> Self {
        arena.hold();
        let start = arena.mapping().at(range.start);
        Self { start, bytes: range.len(), home: Home::Arena { arena, block, process: current::token() } }
    }

    /// Where the block begins; a multiple of [`ALIGNMENT`].
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Bytes of the block.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The block, where it is an arena's.
    pub(super) fn place(&self) -> Option<(&Arc<Arena>, usize)> {
        match &self.home {
            Home::Heap(_) => None,
            Home::Arena { arena, block, .. } => Some((arena, *block)),
        }
    }

    /// `count` cells from `offset` bytes on, to be written.
    ///
    /// # Panics
    /// If they do not lie in the block, or not on a multiple of their size.
    pub fn cells<T: Cell>(&mut self, offset: usize, count: usize) -> &mut [MaybeUninit<T>] {
        let end = count.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(offset));
        assert!(
            end.is_some_and(|end| end <= self.bytes()) && offset.is_multiple_of(align_of::<T>()),
            "{count} cells of {} bytes at {offset} in a block of {}",
            size_of::<T>(),
            self.bytes()
        );
        // SAFETY: checked above: the range lies in the block and, the block beginning on a multiple
        // of 64, is aligned. `&mut self` makes it the only view; uninitialised cells are `MaybeUninit`.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().add(offset).cast(), count) }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match &self.home {
            // SAFETY: `start` came from `alloc` with this layout, and is freed nowhere else.
            Home::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), *layout) },
            // A process that was forked has copies of its parent's leases, which the parent counts.
            Home::Arena { process, .. } if *process != current::token() => {}
            Home::Arena { arena, block, .. } => {
                if arena.drop_lease(*block) && ready([arena.owner()]) == [true] {
                    process::bury(arena);
                }
            }
        }
    }
}
