//! Operations as chains of steps, and which steps are made together.

use std::collections::HashMap;
use std::hash::Hasher;

use super::explorer::Bounds;
use super::explorer_arena::atomic::{Next, Step, Variable};
use super::explorer_arena::mapping::{FREE, USED};
use super::explorer_arena::operations::{Arenas, Operation, Side};

/// A place in an operation, by its number.
pub(super) type Place = u32;

/// Operations and where they can stand.
pub(super) struct Machine {
    pub(super) arenas: Arenas,
    kept: u64,
    places: Vec<At>,
    first: HashMap<(Side, Operation), Place>,
    /// Where a place's step leads to, by its answer.
    after: HashMap<(Place, u64), Place>,
}

pub(super) struct At {
    pub(super) side: Side,
    pub(super) operation: Operation,
    pub(super) answers: Vec<u64>,
    pub(super) next: Next,
}

impl Machine {
    pub(super) fn new(bounds: Bounds) -> Self {
        let arenas = Arenas::new(bounds.blocks, bounds.kept);
        Self { arenas, kept: bounds.kept, places: Vec::new(), first: HashMap::new(), after: HashMap::new() }
    }

    fn add(&mut self, side: Side, operation: Operation, answers: Vec<u64>) -> Place {
        let next = self.arenas.next(side, operation, answers.clone());
        self.places.push(At { side, operation, answers, next });
        Place::try_from(self.places.len() - 1).unwrap()
    }

    pub(super) fn first(&mut self, side: Side, operation: Operation) -> Place {
        if let Some(&place) = self.first.get(&(side, operation)) {
            return place;
        }
        let place = self.add(side, operation, Vec::new());
        self.first.insert((side, operation), place);
        place
    }

    pub(super) fn after(&mut self, place: Place, answer: u64) -> Place {
        if let Some(&next) = self.after.get(&(place, answer)) {
            return next;
        }
        let At { side, operation, answers, .. } = &self.places[place as usize];
        let next = self.add(*side, *operation, [&answers[..], &[answer]].concat());
        self.after.insert((place, answer), next);
        next
    }

    pub(super) fn at(&self, place: Place) -> &At {
        &self.places[place as usize]
    }

    /// Whether a step is made together with the one before it, as nothing that others do in between could make a
    /// difference to anybody.
    #[allow(clippy::match_same_arms, reason = "each has its own reason")]
    pub(super) fn joins(&self, side: Side, last: Step, answer: u64, next: Step) -> bool {
        match (last, next) {
            // What is done with the lock can as well begin with its first step, and end with its last.
            (Step::Lock, _) | (_, Step::Unlock) => true,
            // What only the holder of the lock changes, and what only this explorer knows. (Of a child that ends, and a
            // worker, it makes no difference whether it was a step of this process earlier.)
            (_, Step::Gone | Step::UnderWay | Step::Forget(_) | Step::BeginFork | Step::EndFork(_)) => true,
            (_, Step::Marked(..) | Step::See(_) | Step::Post(..) | Step::Refused | Step::OwnerIsDead) => true,
            // A move of a word is a function of what the word is: had it changed in between, the exchange would fail
            // and the move be made from the other.
            (Step::Load(before), Step::Exchange(variable, from, _)) => before == variable && from == answer,
            // The worker counts what it holds, and looks whether the owner is dead, for nothing.
            (_, Step::Load(Variable::Dead) | Step::Add(Variable::Held, _)) => side == Side::Worker,
            // Nobody else looks at a block's memory while it is owned.
            (_, Step::Commit(_)) => true,
            // Sums that nobody acts upon.
            (_, Step::Add(Variable::Word(USED), _)) => true,
            (_, Step::Add(Variable::Word(FREE), _) | Step::Load(Variable::Word(FREE))) => self.kept > 0,
            _ => false,
        }
    }
}

/// A hash of numbers, quick without optimisation.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }
}
