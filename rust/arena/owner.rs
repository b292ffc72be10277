//! The other process that an arena belongs to, as its receiver watches it.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{Stat, fstat, stat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process that was seen to have an arena's file open.
#[derive(Debug)]
pub struct Owner {
    process: Pid,
    descriptor: i32,
    /// Device and inode.
    file: (u64, u64),
    pidfd: OnceLock<OwnedFd>,
}

impl Owner {
    /// The process that has `file` open as descriptor `descriptor`.
    ///
    /// None where that cannot be seen (another process id namespace, no right to look): then the owner is taken to live
    /// for ever.
    #[must_use]
    pub fn of(file: &OwnedFd, process: i32, descriptor: i32) -> Option<Self> {
        let (process, file) = (Pid::from_raw(process)?, identity(fstat(file).ok()?));
        let owner = Self { process, descriptor, file, pidfd: OnceLock::new() };
        let pidfd = owner.open();
        // Looked at after the pidfd is there: so the process that it stands for has the file open.
        let seen = owner.has_file();
        if let Ok(pidfd) = pidfd {
            owner.pidfd.get_or_init(|| pidfd);
        }
        seen.then_some(owner)
    }

    /// Can be read when the process has ended (a zombie has). None where no descriptor was left for it as yet.
    pub(super) fn pidfd(&self) -> Option<&OwnedFd> {
        self.pidfd.get()
    }

    /// Asks for the pidfd again where there is none; whether the process turns out to be gone.
    pub(super) fn is_missing(&self) -> bool {
        if self.pidfd.get().is_some() {
            return false;
        }
        match self.open() {
            Ok(pidfd) if self.has_file() => {
                self.pidfd.get_or_init(|| pidfd);
                false
            }
            // No process has this id, which was the owner's.
            Err(error) => error == Errno::SRCH,
            // The id was given to another process, or the owner has closed the file.
            Ok(_) => false,
        }
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        pidfd_open(self.process, PidfdFlags::empty())
    }

    fn has_file(&self) -> bool {
        let path = path(self.process.as_raw_nonzero().get(), self.descriptor);
        stat(path).is_ok_and(|theirs| identity(theirs) == self.file)
    }
}

fn identity(stat: Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Where a process's descriptor can be opened by others that have the right to.
#[must_use]
pub fn path(process: i32, descriptor: i32) -> String {
    format!("/proc/{process}/fd/{descriptor}")
}
