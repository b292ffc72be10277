//! Address space with memory behind those parts of it that are used.
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU64;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, ftruncate};
use rustix::fs::{fstat, memfd_create};
use rustix::io::retry_on_intr;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::process::{Resource, getrlimit};

/// Address space that is asked for first, and what is still enough. (A process has some 128 TiB.)
const MOST: usize = 1 << 38;
const LEAST: usize = 1 << 28;
/// Where the process has a limit on address space, an arena takes this part of it.
const SHARE_OF_LIMIT: u64 = 8;
/// ... and all arenas of other processes together this part.
const SHARE_OF_OTHERS: u64 = 4;

/// From so many bytes on it is asked whether they can be had.
const ASKED: usize = 64 << 20;

/// So many bytes at once get memory: a signal undoes what was done, and with a timer that is faster than that it
/// would never come to an end.
const STEP: usize = 4 << 20;

/// The file must not lose or gain pages: a read beyond its end would be a signal (SIGBUS).
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Pages in the address space of this process; of a file in memory, or private.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    shared: bool,
}

// SAFETY: a mapping owns its pages; nothing in it is bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives away atomic words and addresses; to read or write at those is the business
// (and the unsafe block) of whoever does it.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private memory, as much address space as there is for it.
    pub(super) fn private() -> io::Result<Self> {
        // There all address space counts as memory, used or not.
        if std::fs::read("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.starts_with(b"2")) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "vm.overcommit_memory is 2"));
        }
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: an anonymous mapping at an address that the kernel chooses.
        largest(|len| Self::new(unsafe { mmap_anonymous(null_mut(), len, PAGES, flags) }, len, false))
    }

    /// A new file in memory, and its mapping. The file has no name and no limit but that of memory
    /// (so not that of /dev/shm); it goes with its last descriptor and mapping.
    pub(super) fn shared() -> io::Result<(OwnedFd, Self)> {
        let file = memfd_create("dpo_collate", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mapping = largest(|len| {
            ftruncate(&file, len as u64)?;
            Self::of(file.as_fd(), len)
        })?;
        fcntl_add_seals(&file, SEALS)?;
        Ok((file, mapping))
    }

    /// The first `len` bytes of another process's file.
    pub(super) fn of(file: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: at an address that the kernel chooses; the file is shared memory, and nothing but
        // atomic words and blocks that are leased is read or written in it.
        Self::new(unsafe { mmap(null_mut(), len, PAGES, flags, file, 0) }, len, true)
    }

    fn new(start: rustix::io::Result<*mut core::ffi::c_void>, len: usize, shared: bool) -> io::Result<Self> {
        let start = NonNull::new(start?.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Self { start, len, shared };
        // A core dump would otherwise walk over all of it. What it says is advice: a kernel may not know it.
        let _ = mapping.advise(0..len, Advice::LinuxDontDump);
        Ok(mapping)
    }

    /// Bytes of address space.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where the byte at `offset` lies.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.len, "{offset} in a mapping of {}", self.len);
        // SAFETY: within the mapping.
        unsafe { self.start.add(offset) }
    }

    /// The offset of an address, if it lies here.
    pub(super) fn offset(&self, address: usize) -> Option<usize> {
        address.checked_sub(self.start.addr().get()).filter(|&offset| offset < self.len)
    }

    /// The word of that index.
    ///
    /// # Panics
    /// If it is not there.
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        let word = self.at(index * size_of::<AtomicU64>()).cast();
        // SAFETY: it lies in the mapping (whose end is a multiple of 8), aligned, and is accessed as an
        // atomic by every process: blocks begin behind the last word.
        unsafe { AtomicU64::from_ptr(word.as_ptr()) }
    }

    /// Gives the memory behind a range back to the system, for all processes. It reads as zeros then.
    pub(super) fn release(&self, range: Range<usize>) -> io::Result<()> {
        self.advise(range, if self.shared { Advice::LinuxRemove } else { Advice::LinuxDontNeed })
    }

    fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        assert!(range.end <= self.len, "{range:?} in a mapping of {}", self.len);
        // SAFETY: the range lies in the mapping. Its content changes only by `release`, whose callers
        // have claimed the block: nobody sees it.
        unsafe { madvise(self.start.as_ptr().add(range.start).cast(), range.len(), advice)? };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's, and nothing sees it any more: whoever does holds it.
        // It cannot fail on a whole mapping; were it to, the address space would stay taken.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

const PAGES: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

fn part_of_limit(share: u64) -> usize {
    let limit = getrlimit(Resource::As).current.map(|limit| limit / share);
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Address space for arenas of other processes, of which so many bytes are mapped already.
pub(super) fn room(mapped: usize) -> usize {
    part_of_limit(SHARE_OF_OTHERS).saturating_sub(mapped)
}

/// The largest mapping that can be had, by halves.
fn largest(map: impl Fn(usize) -> io::Result<Mapping>) -> io::Result<Mapping> {
    let limit = part_of_limit(SHARE_OF_LIMIT);
    let mut len = MOST;
    loop {
        let refused = if len <= limit {
            match map(len) {
                Ok(mapping) => return Ok(mapping),
                Err(error) => error,
            }
        } else {
            io::Error::new(io::ErrorKind::OutOfMemory, "the limit on address space (RLIMIT_AS) is too small")
        };
        if len == LEAST {
            return Err(refused);
        }
        len /= 2;
    }
}

/// Asks whether so many bytes can be had, as `malloc` asks: more than the machine can ever have is
/// refused. The address space and the file, which are made for more, know no such limit.
pub(super) fn ask(bytes: usize) -> io::Result<()> {
    if bytes >= ASKED {
        // SAFETY: an anonymous mapping at an address that the kernel chooses.
        let asked = unsafe { mmap_anonymous(null_mut(), bytes, PAGES, MapFlags::PRIVATE) };
        drop(Mapping::new(asked, bytes, false)?);
    }
    Ok(())
}

/// Puts memory behind a range of a file, so that to write there cannot fail. Private memory comes when it
/// is written to, as that of `malloc` does.
pub(super) fn commit(file: Option<BorrowedFd<'_>>, range: Range<usize>) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    for begin in range.clone().step_by(STEP) {
        let len = STEP.min(range.end - begin);
        retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, begin as u64, len as u64))?;
    }
    Ok(())
}

/// Gives the memory behind a range of a file back, where the range is not mapped.
pub(super) fn punch(file: BorrowedFd<'_>, range: Range<usize>) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(fallocate(file, flags, range.start as u64, range.len() as u64)?)
}

/// Whether a file that came from another process is what this module makes; its size.
pub(super) fn check(file: BorrowedFd<'_>) -> io::Result<usize> {
    let sealed = fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SEALS));
    let len = usize::try_from(fstat(file)?.st_size).unwrap_or_default();
    if sealed && len.is_multiple_of(LEAST) && len > 0 {
        return Ok(len);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "not the memory of an arena"))
}
