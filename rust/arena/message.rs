//! From one process to another: a tensor is sent as the place of its memory.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;

use super::current::with;
use super::lease::Lease;
use super::table::Arena;
use crate::cells::Bool;

/// What a message says of a tensor's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The block.
    pub block: usize,
    /// Its generation.
    pub generation: u64,
    /// Where the tensor begins in it, in bytes.
    pub offset: usize,
}

/// What to do with a tensor that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// Its memory is not the arena's.
    Foreign,
    /// It is small: its values are to be sent.
    Small,
    /// A message is in flight, to be received once.
    Place(Place),
}

impl Arena {
    /// Puts a message in flight for a tensor of `bytes` bytes at `address`, which must hold a lease.
    /// One of fewer bytes than `small` is to be sent by value.
    #[must_use]
    pub fn send(&self, address: usize, bytes: usize, small: usize) -> Sending {
        let Some((block, offset)) = self.find(address, bytes) else { return Sending::Foreign };
        if bytes < small {
            return Sending::Small;
        }
        self.put_in_flight(block)
            .map_or(Sending::Foreign, |generation| Sending::Place(Place { block, generation, offset }))
    }

    /// The block in which a range of addresses lies, and its offset there.
    fn find(&self, address: usize, bytes: usize) -> Option<(usize, usize)> {
        let offset = self.mapping().offset(address)?;
        // Blocks lie in the order of the table.
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.offset(middle) <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let block = low.checked_sub(1)?;
        let begin = offset - self.offset(block);
        (begin.checked_add(bytes)? <= self.capacity(block)).then_some((block, begin))
    }

    /// Makes a lease of a message in flight: of `bytes` bytes from its place on, which begin at the
    /// offset that comes with the lease.
    pub fn receive(self: &Arc<Self>, place: Place, bytes: usize) -> io::Result<(Lease, usize)> {
        let Place { block, generation, offset } = place;
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let end = offset.checked_add(bytes).filter(|&end| block < self.count() && end <= self.capacity(block));
        let range = end.and_then(|end| self.place(block, end));
        let range = range.ok_or_else(|| invalid("the message names memory that is not there"))?;
        if !self.arrive(block, generation) {
            return Err(invalid("the message was received before, or its block was given to another batch"));
        }
        if !self.is_whole() {
            self.hold();
            let copy = self.read(range.start + offset, bytes);
            self.drop_lease(block);
            return Ok((copy?, 0));
        }
        let lease = Lease::of_block(Arc::clone(self), block, range);
        with(|process| process.forks.note(self, block));
        Ok((lease, offset))
    }

    /// Copies from the file into memory of the allocator.
    fn read(&self, offset: usize, bytes: usize) -> io::Result<Lease> {
        let file = self.file().ok_or(io::ErrorKind::NotConnected)?;
        let mut lease = Lease::new(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut done = 0;
        while done < bytes {
            let left = lease.cells::<Bool>(done, bytes - done);
            // SAFETY: `Bool` is a transparent byte, and nothing is said of what is not yet written.
            let left = unsafe { &mut *(std::ptr::from_mut(left) as *mut [MaybeUninit<u8>]) };
            let (read, _) = rustix::io::pread(file, left, (offset + done) as u64)?;
            if read.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += read.len();
        }
        Ok(lease)
    }
}
