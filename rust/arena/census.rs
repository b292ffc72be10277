//! What the memory of arenas is used for.

/// Bytes of memory by what they are used for, and the number of their blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes of memory behind them.
    pub bytes: u64,
}

impl Held {
    pub(super) fn add(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes += bytes;
    }
}

impl std::ops::AddAssign for Census {
    fn add_assign(&mut self, other: Self) {
        self.used += other.used;
        self.free += other.free;
        self.retired += other.retired;
    }
}

impl std::ops::AddAssign for Held {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
    }
}

/// What an arena holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Blocks that a tensor sees or will see.
    pub used: Held,
    /// Blocks that nobody sees and that have memory.
    pub free: Held,
    /// Blocks that no tensor sees, but a forked process may.
    pub retired: Held,
}
