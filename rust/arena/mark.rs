//! How much free memory is worth keeping.

/// Free memory that an arena keeps in any case, in bytes: small batches never go back to the system.
pub const KEPT: u64 = 4 << 20;

/// What was needed again fades by this part with each block that is taken: half of it in 2,800.
const FADING: u64 = 4096;

/// The size of the largest block fades faster: half of it in 177. What is taken again is remembered anyway.
const FADING_LARGEST: u64 = 256;

/// How much free memory is kept: the most that was free and then needed again, lately, and at least two
/// of the largest blocks.
///
/// Memory in use goes up and down. That it was high once is no reason to keep as much: twenty
/// batches that somebody collected and then dropped may never come again. That it fell and
/// *recovered* is: the batches between two optimiser steps, taken one by one and dropped together,
/// come again and again, and to give their memory back each time costs more page faults than
/// copying them. (A constant bound was tried and costs such a trainer twelve times as much; a fading
/// maximum of what was in use keeps the twenty batches. Without the two blocks a loader that is
/// started gives back what it needs two batches later: 17 ms of the training process for 135 MB.)
#[derive(Clone, Copy, Debug, Default)]
pub struct Mark {
    /// The most in use, and the least since then.
    peak: u64,
    trough: u64,
    again: u64,
    largest: u64,
}

impl Mark {
    /// A block is taken: so many bytes were in use before, and are now.
    pub fn taken(&mut self, before: u64, now: u64) {
        self.trough = self.trough.min(before);
        let recovered = now.min(self.peak).saturating_sub(self.trough);
        self.again = faded(self.again, recovered, FADING);
        self.largest = faded(self.largest, now.saturating_sub(before), FADING_LARGEST);
        self.peak = faded(self.peak, now, FADING);
        if now >= self.peak {
            self.trough = now;
        }
    }

    /// Bytes of free memory to keep: an eighth more than that, as it fades from one peak to the next (and
    /// between the large blocks of two batches, while small ones are taken), and no two peaks are the same.
    #[must_use]
    pub fn kept(&self) -> u64 {
        let kept = self.again.max(self.largest.saturating_mul(2));
        kept.saturating_add(kept / 8).saturating_add(KEPT)
    }
}

/// What was the most, a little nearer to what is now, and not less.
fn faded(most: u64, now: u64, part: u64) -> u64 {
    now.max(most - most.saturating_sub(now).div_ceil(part))
}
