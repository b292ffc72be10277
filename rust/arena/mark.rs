//! How much free memory is worth keeping.

/// Free memory that an arena keeps in any case, in bytes: small batches never go back to the system.
pub const KEPT: u64 = 4 << 20;

/// What was needed again fades by this part with each block that is taken: half of it in 2,800.
const FADING: u64 = 4096;

/// The most memory that was free and then needed again, lately: so much free memory is kept.
///
/// Memory in use goes up and down. That it was high once is no reason to keep as much: twenty
/// batches that somebody collected and then dropped may never come again. That it fell and
/// *recovered* is: the batches between two optimiser steps, taken one by one and dropped together,
/// come again and again, and to give their memory back each time costs more page faults than
/// copying them. (A constant bound was tried and costs such a trainer twelve times as much; a fading
/// maximum of what was in use keeps the twenty batches.)
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// The most in use, and the least since then.
    peak: u64,
    trough: u64,
    again: u64,
}

impl Mark {
    /// A block is taken: so many bytes were in use before, and are now.
    pub fn taken(&mut self, before: u64, now: u64) {
        self.trough = self.trough.min(before);
        let recovered = now.min(self.peak).saturating_sub(self.trough);
        self.again = (self.again - self.again.div_ceil(FADING)).max(recovered);
        if now >= self.peak {
            (self.peak, self.trough) = (now, now);
        } else {
            // An old peak is forgotten in the same way.
            self.peak -= (self.peak - now).div_ceil(FADING);
        }
    }

    /// Bytes of free memory to keep: an eighth more than what was needed again, as that fades between
    /// two peaks, and no two are the same.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.again.saturating_add(self.again / 8).saturating_add(KEPT)
    }
}
