//! A state of all processes: what the words say, and what is true.

use super::explorer::Bounds;
use super::explorer_arena::atomic::{Step, Variable};
use super::explorer_arena::block::State as Word;
use super::explorer_arena::mapping::{FREE, MOST, USED, behind, state};
use super::explorer_arena::operations::{Operation, Side};
use super::explorer_machine::Place;

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) takes: u8,
    pub(super) sends: u8,
    pub(super) forks: [u8; 2],
    pub(super) copies: u8,
    pub(super) losses: u8,
}

/// What happens to a block, and what is true of it whatever its word says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Block {
    pub(super) word: u64,
    /// Bytes of memory by the table, and in truth.
    pub(super) behind: u64,
    pub(super) memory: u64,
    /// The generation whose batch is written there.
    pub(super) content: u64,
    /// Tensors of each side.
    pub(super) seen: [u8; 2],
    /// Messages that are to come, and that were lost.
    pub(super) coming: u8,
    pub(super) lost: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) is_dead: bool,
    pub(super) locked: bool,
    pub(super) held: u64,
    pub(super) found_dead: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Child {
    #[default]
    Unborn,
    Alive,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fork {
    pub(super) parent: Side,
    pub(super) is_over: bool,
    pub(super) child: Child,
    /// Blocks that the child sees: a bit each.
    pub(super) sees: u64,
    /// How often the parent has marked each block for it.
    pub(super) marks: [u8; MOST],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) blocks: [Block; MOST],
    pub(super) used: u64,
    pub(super) free: u64,
    pub(super) processes: [Process; 2],
    /// Operations under way, in order, as threads of a process are all the same.
    pub(super) running: Vec<Place>,
    /// Messages: block, generation.
    pub(super) queue: Vec<(usize, u64)>,
    pub(super) forks: Vec<Fork>,
    pub(super) left: Left,
}

pub(super) const SIDES: [Side; 2] = [Side::Worker, Side::Training];

impl State {
    pub(super) fn new(bounds: Bounds) -> Self {
        let Bounds { takes, sends, forks, copies, losses, .. } = bounds;
        Self {
            blocks: Default::default(),
            used: 0,
            free: 0,
            processes: Default::default(),
            running: Vec::new(),
            queue: Vec::new(),
            forks: Vec::new(),
            left: Left { takes, sends, forks, copies, losses },
        }
    }

    pub(super) fn is_dead(&self, side: Side) -> bool {
        self.processes[side as usize].is_dead
    }

    pub(super) fn word(&self, block: usize) -> Word {
        Word::of(self.blocks[block].word)
    }

    /// Who sees a block or will, of those who are alive.
    fn is_seen(&self, block: usize) -> bool {
        let Block { seen, coming, .. } = self.blocks[block];
        let by_children = self.forks.iter().any(|fork| fork.child == Child::Alive && fork.sees >> block & 1 != 0);
        // What a dead worker has sent may be taken to be lost.
        seen != [0, 0] || by_children || (coming > 0 && !self.is_dead(Side::Worker))
    }

    /// What must not be, in this state.
    pub(super) fn wrong(&self, bounds: Bounds) -> Option<String> {
        if !self.running.is_empty() || self.is_dead(Side::Training) {
            return None;
        }
        let is_orphan = self.is_dead(Side::Worker);
        if is_orphan && self.processes[1].found_dead == 0 {
            return None;
        }
        let mut bytes = [0; 2];
        for block in 0..bounds.blocks {
            let (word, Block { behind, memory, seen, coming, lost, .. }) = (self.word(block), self.blocks[block]);
            let marks = |side| self.forks.iter().filter(move |fork| fork.parent == side).map(|fork| fork.marks[block]);
            let [workers, trainings] = SIDES.map(|side| marks(side).map(u64::from).sum::<u64>());
            let is_unseen = word.leases() == 0 && word.forks() == 0;
            let what = if word.leases() != u64::from(seen[1]) {
                "leases of receivers are not counted"
            } else if is_orphan && bounds.forks[0] == 0 && word.forks() != trainings {
                "forks are not counted"
            } else if is_orphan && is_unseen && !word.is_free() {
                "nobody sees it, and it is not free"
            } else if is_orphan && is_unseen && memory > 0 {
                "nobody sees it, and its memory was not given back"
            } else if is_orphan {
                continue;
            } else if word.is_owned() != (seen[0] > 0) {
                "the owner's lease is not counted"
            } else if word.in_flight() != u64::from(coming) + u64::from(lost) {
                "messages are not counted"
            } else if word.forks() != workers + trainings {
                "forks are not counted"
            } else if word.is_emptying() {
                "it is being emptied by nobody"
            } else if memory != behind {
                "the table does not know its memory"
            } else {
                bytes[0] += if word.is_used() { behind } else { 0 };
                bytes[1] += if word.is_free() { behind } else { 0 };
                continue;
            };
            return Some(format!("block {block}: {what}"));
        }
        let held = |side: usize| self.blocks.iter().map(|block| u64::from(block.seen[side])).sum::<u64>();
        if self.processes[1].held != held(1) || (!is_orphan && self.processes[0].held != held(0)) {
            return Some("a process does not know how many leases it holds".to_owned());
        }
        (!is_orphan && bytes != [self.used, self.free]).then(|| format!("bytes used and free are {bytes:?}"))
    }

    /// Makes a step: its answer, or what is wrong with it.
    pub(super) fn step(&mut self, side: Side, operation: Operation, step: Step) -> Result<u64, String> {
        let of = side as usize;
        Ok(match step {
            Step::Load(variable) => *self.variable(side, variable),
            Step::Store(variable, value) | Step::Swap(variable, value) => {
                std::mem::replace(self.variable(side, variable), value)
            }
            Step::Add(variable, value) => {
                let variable = self.variable(side, variable);
                let before = *variable;
                *variable = before.wrapping_add(value);
                before
            }
            Step::Exchange(variable, from, to) => {
                let variable = self.variable(side, variable);
                let before = *variable;
                if before == from {
                    *variable = to;
                    if let Operation::Take(block) = operation {
                        self.is_taken(block, Word::of(from), Word::of(to))?;
                    }
                }
                before
            }
            Step::Commit(block) => std::mem::replace(&mut self.blocks[block].memory, 4096),
            Step::Release(block, bytes) => {
                if self.is_seen(block) {
                    return Err(format!("memory of block {block} is given back, which somebody sees"));
                }
                if bytes > 0 {
                    (self.blocks[block].memory, self.blocks[block].content) = (0, 0);
                }
                0
            }
            Step::Lock | Step::Unlock => {
                u64::from(std::mem::replace(&mut self.processes[of].locked, step == Step::Lock))
            }
            Step::OwnerIsDead => self.is_dead(Side::Worker).into(),
            Step::See(block) => self.sees(side, block, operation)?,
            Step::Post(block, generation) => {
                self.blocks[block].coming += 1;
                self.blocks[block].seen[of] -= 1; // what `starts` has added
                let at = self.queue.partition_point(|other| *other < (block, generation));
                self.queue.insert(at, (block, generation));
                0
            }
            Step::Refused if self.is_dead(Side::Worker) || self.left.copies == 0 => 0,
            Step::Refused => return Err("a message is refused that was in flight".to_owned()),
            Step::BeginFork => {
                let begun = Fork { parent: side, is_over: false, child: Child::Unborn, sees: 0, marks: [0; MOST] };
                self.forks.push(begun);
                self.forks.len() as u64 - 1
            }
            Step::Marked(fork, block) => {
                self.forks[fork].marks[block] += 1;
                0
            }
            Step::Fork(fork) => {
                let sees = |block: usize| u64::from(self.blocks[block].seen[of] > 0) << block;
                (self.forks[fork].sees, self.forks[fork].child) = ((0..MOST).map(sees).sum(), Child::Alive);
                0
            }
            Step::EndFork(fork) => u64::from(std::mem::replace(&mut self.forks[fork].is_over, true)),
            Step::UnderWay => self.forks_of(side, |fork| !fork.is_over),
            Step::Gone => {
                self.forks_of(side, |fork| fork.is_over && fork.child == Child::Gone && fork.marks != [0; MOST])
            }
            Step::Forget(fork) => u16::from_le_bytes(std::mem::take(&mut self.forks[fork].marks)).into(),
        })
    }

    fn forks_of(&self, side: Side, which: impl Fn(&Fork) -> bool) -> u64 {
        let forks = self.forks.iter().enumerate().filter(|(_, fork)| fork.parent == side && which(fork));
        forks.map(|(index, _)| 1 << index).sum()
    }

    fn variable(&mut self, side: Side, variable: Variable) -> &mut u64 {
        let process = &mut self.processes[side as usize];
        match variable {
            Variable::Held => &mut process.held,
            Variable::Dead => &mut process.found_dead,
            Variable::Word(USED) => &mut self.used,
            Variable::Word(FREE) => &mut self.free,
            Variable::Word(place) => {
                let block = (0..MOST).find(|&block| [state(block), behind(block)].contains(&place)).unwrap();
                let is_state = place == state(block);
                let block = &mut self.blocks[block];
                if is_state { &mut block.word } else { &mut block.behind }
            }
        }
    }

    /// The worker's word for it that a block is its own now.
    fn is_taken(&self, block: usize, before: Word, now: Word) -> Result<(), String> {
        let takes = now.is_owned() && !before.is_owned();
        if takes && self.is_seen(block) {
            return Err(format!("block {block} is taken, which somebody sees"));
        }
        if takes && now.generation() == before.generation() {
            return Err(format!("block {block} is taken, and its generation is the same"));
        }
        Ok(())
    }

    fn sees(&mut self, side: Side, index: usize, operation: Operation) -> Result<u64, String> {
        let generation = self.word(index).generation();
        let block = &mut self.blocks[index];
        block.seen[side as usize] += 1;
        let Operation::Receive(_, of) = operation else {
            block.content = generation; // the batch is written
            return if block.memory > 0 { Ok(0) } else { Err(format!("block {index} has no memory")) };
        };
        if block.coming > 0 {
            block.coming -= 1;
        } else if block.lost > 0 {
            block.lost -= 1; // what was lost came after all: its copy
        } else {
            return Err(format!("a message of block {index} is received twice"));
        }
        if (block.content, generation) != (of, of) {
            return Err(format!("a message of block {index} is received, which has another batch's values"));
        }
        Ok(0)
    }
}
