//! What becomes of a block: one atomic word, and the moves that are allowed on it.

use super::atomic::{AtomicU64, Ordering};

/// The state of a block.
///
/// | bits | what |
/// |---|---|
/// | 0–13 | leases of receivers: tensors that see the block, in all processes but the owner's |
/// | 14–27 | messages in flight: tensors that were sent and have not arrived |
/// | 28–34 | forks: how many forks made processes that may see the block without a lease |
/// | 35 | being emptied by the owner: it is giving its memory back to the system |
/// | 36 | being emptied by a receiver |
/// | 37 | owned: the owner's lease, of which there is one |
/// | 38–63 | generation: how many times it was taken |
///
/// Each move says on which states it is allowed, and what comes of it; None is a refusal. The
/// argument why the moves are enough stands in the module's documentation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct State(u64);

const COUNT: u64 = (1 << 14) - 1;
const LEASE: u64 = 1;
const IN_FLIGHT: u32 = 14;
const FORKS: u32 = 28;
const MOST_FORKS: u64 = (1 << 7) - 1;
const OWNER_EMPTIES: u64 = 1 << 35;
const RECEIVER_EMPTIES: u64 = 1 << 36;
const OWNED: u64 = 1 << 37;
const GENERATION: u32 = 38;

/// Who holds a lease, or empties a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The process that takes the arena's blocks.
    Owner,
    /// A process that received a message.
    Receiver,
}

impl Holder {
    /// The bit that says that it empties the block.
    fn empties(self) -> u64 {
        match self {
            Self::Owner => OWNER_EMPTIES,
            Self::Receiver => RECEIVER_EMPTIES,
        }
    }
}

/// Most leases of receivers and messages that a block can have together.
pub const MOST_LEASES: u64 = COUNT;

impl State {
    /// The state that a word of shared memory says.
    #[must_use]
    pub fn of(word: u64) -> Self {
        Self(word)
    }

    /// The word that says it.
    #[must_use]
    pub fn word(self) -> u64 {
        self.0
    }

    /// Whether the owner has its lease.
    #[must_use]
    pub fn is_owned(self) -> bool {
        self.0 & OWNED != 0
    }

    /// Leases of receivers.
    #[must_use]
    pub fn leases(self) -> u64 {
        self.0 & COUNT
    }

    /// Messages in flight.
    #[must_use]
    pub fn in_flight(self) -> u64 {
        self.0 >> IN_FLIGHT & COUNT
    }

    /// Forks whose processes may see the block.
    #[must_use]
    pub fn forks(self) -> u64 {
        self.0 >> FORKS & MOST_FORKS
    }

    /// Whether somebody is giving its memory back.
    #[must_use]
    pub fn is_emptying(self) -> bool {
        self.0 & (OWNER_EMPTIES | RECEIVER_EMPTIES) != 0
    }

    /// How many times it was taken.
    #[must_use]
    pub fn generation(self) -> u64 {
        self.0 >> GENERATION
    }

    /// Whether a tensor sees it or will.
    #[must_use]
    pub fn is_used(self) -> bool {
        self.is_owned() || self.leases() + self.in_flight() > 0
    }

    /// Whether nobody sees it, so that it may be taken or emptied.
    #[must_use]
    pub fn is_free(self) -> bool {
        !self.is_used() && self.forks() == 0 && !self.is_emptying()
    }

    /// Whether no tensor sees it, but a forked process may.
    #[must_use]
    pub fn is_retired(self) -> bool {
        !self.is_used() && self.forks() > 0
    }

    fn has_lease(self, holder: Holder) -> bool {
        match holder {
            Holder::Owner => self.is_owned(),
            Holder::Receiver => self.leases() > 0,
        }
    }

    /// The owner takes it: a new generation.
    #[must_use]
    pub fn taken(self) -> Option<Self> {
        // The generation wraps at the top of the word.
        self.is_free().then(|| Self(self.0.wrapping_add(1 << GENERATION) | OWNED))
    }

    /// The owner sends a tensor that sees it.
    #[must_use]
    pub fn sent(self) -> Option<Self> {
        let room = self.leases() + self.in_flight() < MOST_LEASES;
        (self.is_owned() && room).then(|| Self(self.0 + (1 << IN_FLIGHT)))
    }

    /// A tensor that was sent arrives: its message becomes a lease.
    #[must_use]
    pub fn received(self, generation: u64) -> Option<Self> {
        let expected = self.generation() == generation && self.in_flight() > 0;
        expected.then(|| Self(self.0 - (1 << IN_FLIGHT) + LEASE))
    }

    /// A lease is dropped.
    #[must_use]
    pub fn dropped(self, holder: Holder) -> Option<Self> {
        let one = if holder == Holder::Owner { OWNED } else { LEASE };
        self.has_lease(holder).then(|| Self(self.0 - one))
    }

    /// A process that holds a lease is about to fork.
    #[must_use]
    pub fn forked(self, holder: Holder) -> Option<Self> {
        // At the most it stays there: more forks than can be counted are never taken back.
        let one = if self.forks() < MOST_FORKS { 1 << FORKS } else { 0 };
        self.has_lease(holder).then(|| Self(self.0 + one))
    }

    /// The processes that one of the forks made are gone.
    #[must_use]
    pub fn unforked(self) -> Option<Self> {
        (1..MOST_FORKS).contains(&self.forks()).then(|| Self(self.0 - (1 << FORKS)))
    }

    /// Somebody begins to give its memory back.
    #[must_use]
    pub fn emptying(self, by: Holder) -> Option<Self> {
        self.is_free().then_some(Self(self.0 | by.empties()))
    }

    /// Its memory has been given back.
    #[must_use]
    pub fn emptied(self, by: Holder) -> Option<Self> {
        (self.0 & by.empties() != 0).then_some(Self(self.0 & !by.empties()))
    }

    /// The owner is dead: its lease is void, messages in flight are taken to be lost, and if it was emptying the
    /// block, nobody is. A message that arrives after all is of another generation.
    #[must_use]
    pub fn abandoned(self) -> Option<Self> {
        let unseen = self.leases() == 0 && self.forks() == 0 && self.0 & RECEIVER_EMPTIES == 0;
        let void = OWNED | COUNT << IN_FLIGHT | OWNER_EMPTIES;
        unseen.then(|| Self((self.0 & !void).wrapping_add(1 << GENERATION)))
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("generation", &self.generation())
            .field("owned", &self.is_owned())
            .field("leases", &self.leases())
            .field("in_flight", &self.in_flight())
            .field("forks", &self.forks())
            .field("emptying", &self.is_emptying())
            .finish()
    }
}

/// Makes a move on the word, if it is allowed; what the state is then.
///
/// Whoever sees the new state also sees everything that was written before it by those who made
/// the moves up to it.
pub fn make(word: &AtomicU64, step: impl Fn(State) -> Option<State>) -> Option<State> {
    let mut now = word.load(Ordering::Acquire);
    loop {
        let next = step(State(now))?;
        match word.compare_exchange_weak(now, next.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Some(next),
            Err(other) => now = other,
        }
    }
}
