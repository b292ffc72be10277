//! What can happen next in a state.

use super::explorer::Bounds;
use super::explorer_arena::atomic::{Next, Step};
use super::explorer_arena::operations::{Operation, Side};
use super::explorer_machine::{At, Machine, Place};
use super::explorer_state::{Child, Process, SIDES, State};

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "what it says is printed")]
pub(super) enum Event {
    Begin,
    /// An operation comes to this place.
    Steps(Place),
    Killed(Side),
    ChildGone(usize),
    Lost(usize, u64),
    Copied(usize, u64),
}

/// ... and what comes of it, or what is wrong with it.
pub(super) type Successors = Vec<(Event, Result<State, String>)>;

impl State {
    /// All that can happen next; None if nothing is wrong with that itself.
    pub(super) fn successors(&self, machine: &mut Machine, bounds: Bounds, all: &mut Successors) -> Option<String> {
        if self.is_dead(Side::Worker) && self.is_dead(Side::Training) {
            return None;
        }
        let mut goes_on = self.running.is_empty();
        for (index, &place) in self.running.iter().enumerate() {
            if index > 0 && self.running[index - 1] == place {
                continue; // the same thread by another name
            }
            let mut next = self.clone();
            next.running.remove(index);
            goes_on |= next.run(machine, place, all);
        }
        if self.running.len() < bounds.threads {
            self.starts(machine, bounds, all);
        }
        self.fates(machine, all);
        (!goes_on).then(|| "nothing can go on".to_owned())
    }

    /// Goes on with an operation from a place, to where it makes a difference what others do; whether it can.
    fn run(mut self, machine: &mut Machine, mut place: Place, all: &mut Successors) -> bool {
        let mut last = None;
        loop {
            let &At { side, operation, next, .. } = machine.at(place);
            let step = match next {
                Next::Step(step) if last.is_none_or(|(last, answer)| machine.joins(side, last, answer, step)) => step,
                Next::Step(_) => {
                    let at = self.running.partition_point(|other| *other < place);
                    self.running.insert(at, place);
                    break;
                }
                Next::Panic => {
                    all.push((Event::Steps(place), Err("a panic".to_owned())));
                    return true;
                }
                Next::Done => break,
            };
            if step == Step::Lock && self.processes[side as usize].locked {
                return false;
            }
            match self.step(side, operation, step) {
                Ok(answer) => {
                    last = Some((step, answer));
                    place = machine.after(place, answer);
                }
                Err(what) => {
                    all.push((Event::Steps(place), Err(format!("{what} by {step:?}"))));
                    return true;
                }
            }
        }
        all.push((Event::Steps(place), Ok(self)));
        true
    }

    /// Operations that may begin.
    fn starts(&self, machine: &mut Machine, bounds: Bounds, all: &mut Successors) {
        let mut start = |side: Side, operation, change: &dyn Fn(&mut Self)| {
            if !self.is_dead(side) {
                let mut next = self.clone();
                change(&mut next);
                let first = machine.first(side, operation);
                next.run(machine, first, all);
            }
        };
        for block in 0..bounds.blocks {
            if self.left.takes > 0 {
                start(Side::Worker, Operation::Take(block), &|next| next.left.takes -= 1);
            }
            // Who sends a tensor has it until it is sent.
            if self.left.sends > 0 && self.blocks[block].seen[0] == 1 {
                start(Side::Worker, Operation::Send(block), &|next| {
                    next.left.sends -= 1;
                    next.blocks[block].seen[0] += 1;
                });
            }
            for side in SIDES {
                let seen = self.blocks[block].seen[side as usize];
                if seen > 0 && !(side == Side::Worker && seen > 1) {
                    start(side, Operation::Drop(block), &|next| next.blocks[block].seen[side as usize] -= 1);
                }
            }
        }
        for (index, &(block, generation)) in self.queue.iter().enumerate() {
            if index == 0 || self.queue[index - 1] != (block, generation) {
                start(Side::Training, Operation::Receive(block, generation), &|next| {
                    next.queue.remove(index);
                });
            }
        }
        for side in SIDES {
            if self.left.forks[side as usize] > 0 {
                start(side, Operation::Fork, &|next| next.left.forks[side as usize] -= 1);
            }
            if bounds.trims {
                start(side, Operation::Trim, &|_| {});
            }
        }
    }

    /// What befalls processes and messages.
    fn fates(&self, machine: &Machine, all: &mut Successors) {
        let mut befall = |event, change: &dyn Fn(&mut Self)| {
            let mut next = self.clone();
            change(&mut next);
            all.push((event, Ok(next)));
        };
        for side in SIDES.into_iter().filter(|&side| !self.is_dead(side)) {
            befall(Event::Killed(side), &|next| {
                next.processes[side as usize] = Process { is_dead: true, ..Process::default() };
                next.running.retain(|place| machine.at(*place).side != side);
                next.blocks.iter_mut().for_each(|block| block.seen[side as usize] = 0);
                if side == Side::Training {
                    next.queue.clear();
                    next.blocks.iter_mut().for_each(|block| block.coming = 0);
                }
            });
        }
        for (index, _) in self.forks.iter().enumerate().filter(|(_, fork)| fork.child == Child::Alive) {
            befall(Event::ChildGone(index), &|next| next.forks[index].child = Child::Gone);
        }
        for (index, &(block, generation)) in self.queue.iter().enumerate() {
            if index > 0 && self.queue[index - 1] == (block, generation) {
                continue;
            }
            if self.left.losses > 0 && self.blocks[block].coming > 0 {
                befall(Event::Lost(block, generation), &|next| {
                    next.left.losses -= 1;
                    next.queue.remove(index);
                    if next.word(block).generation() == generation {
                        next.blocks[block].coming -= 1;
                        next.blocks[block].lost += 1;
                    }
                });
            }
            if self.left.copies > 0 {
                befall(Event::Copied(block, generation), &|next| {
                    next.left.copies -= 1;
                    next.queue.insert(index, (block, generation));
                });
            }
        }
    }
}
