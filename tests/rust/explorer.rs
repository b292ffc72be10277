//! Every state that the protocol of leases can reach, within bounds.
//!
//! The processes are a worker, the training process, and a child that either may fork. They take steps one at a time,
//! each a single atomic operation (or system call) of the real code in `rust/arena/table.rs` and `block.rs`, in every
//! order; at every step any of them may be killed, a message may be lost or come twice. States are visited breadth
//! first, so that what is printed of a state that must not be is a shortest way to it.
//!
//! What a state must hold:
//! - a block that anybody sees, or will see by a message that can still come, is not taken, nor its memory given back;
//! - who receives a message sees what was sent, and a message of another generation is refused;
//! - where no operation is under way, the counts are those of who sees blocks: so what nobody sees is free, and what
//!   only a forked process may see is retired, until it ends; where the worker is dead and that was found out,
//!   memory that nobody sees has been given back;
//! - some operation can always go on.
//!
//! Abstract are: the pool (it takes any block that there is at any time), the locks of processes (nobody else is inside
//! until it is left), pipes and pidfds (they say the truth at one moment), the system's memory (none or a page a
//! block), and the mapping of a dead worker's arena (it stays, though the training process unmaps it when it holds no
//! lease). Orders of memory are loom's business: here each step is seen by all at once. When the training process is
//! dead, nothing is asked for but that no block is taken that is seen: its workers end then.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use super::explorer_arena::atomic::{Next, Step, Variable};
use super::explorer_arena::block::State as Word;
use super::explorer_arena::mapping::{FREE, MOST, USED, behind, state};
use super::explorer_arena::operations::{Arenas, Operation, Side};

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    blocks: usize,
    /// Free memory that is kept.
    kept: u64,
    /// Operations that are under way at one time.
    threads: usize,
    takes: u8,
    sends: u8,
    /// Forks of each side.
    forks: [u8; 2],
    /// Messages that come twice.
    copies: u8,
    /// Messages that are lost.
    losses: u8,
}

/// What may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Left {
    takes: u8,
    sends: u8,
    forks: [u8; 2],
    copies: u8,
    losses: u8,
}

/// What happens to a block, and what is true of it whatever its word says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Block {
    word: u64,
    /// Bytes of memory by the table, and in truth.
    behind: u64,
    memory: u64,
    /// The generation whose batch is written there.
    content: u64,
    /// Tensors of each side.
    seen: [u8; 2],
    /// Messages that are to come, and that were lost.
    coming: u8,
    lost: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Process {
    is_dead: bool,
    locked: bool,
    held: u64,
    found_dead: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Child {
    #[default]
    Unborn,
    Alive,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fork {
    parent: Side,
    is_over: bool,
    child: Child,
    /// Blocks that the child sees: a bit each.
    sees: u64,
    /// How often the parent has marked each block for it.
    marks: [u8; MOST],
}

/// A place in an operation, by its number.
type Place = u32;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    blocks: [Block; MOST],
    used: u64,
    free: u64,
    processes: [Process; 2],
    /// Operations under way, in order, as threads of a process are all the same.
    running: Vec<Place>,
    /// Messages: block, generation.
    queue: Vec<(usize, u64)>,
    forks: Vec<Fork>,
    left: Left,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    /// An operation comes to this place.
    Steps(Place),
    Killed(Side),
    ChildGone(usize),
    Lost(usize, u64),
    Copied(usize, u64),
}

/// Operations and where they can stand.
struct Machine {
    arenas: Arenas,
    kept: u64,
    places: Vec<At>,
    first: HashMap<(Side, Operation), Place>,
    /// Where a place's step leads to, by its answer.
    after: HashMap<(Place, u64), Place>,
}

struct At {
    side: Side,
    operation: Operation,
    answers: Vec<u64>,
    next: Next,
}

impl Machine {
    fn new(bounds: Bounds) -> Self {
        let arenas = Arenas::new(bounds.blocks, bounds.kept);
        Self { arenas, kept: bounds.kept, places: Vec::new(), first: HashMap::new(), after: HashMap::new() }
    }

    fn add(&mut self, side: Side, operation: Operation, answers: Vec<u64>) -> Place {
        let next = self.arenas.next(side, operation, answers.clone());
        self.places.push(At { side, operation, answers, next });
        Place::try_from(self.places.len() - 1).unwrap()
    }

    fn first(&mut self, side: Side, operation: Operation) -> Place {
        if let Some(&place) = self.first.get(&(side, operation)) {
            return place;
        }
        let place = self.add(side, operation, Vec::new());
        self.first.insert((side, operation), place);
        place
    }

    fn after(&mut self, place: Place, answer: u64) -> Place {
        if let Some(&next) = self.after.get(&(place, answer)) {
            return next;
        }
        let At { side, operation, answers, .. } = &self.places[place as usize];
        let next = self.add(*side, *operation, [&answers[..], &[answer]].concat());
        self.after.insert((place, answer), next);
        next
    }

    fn at(&self, place: Place) -> &At {
        &self.places[place as usize]
    }

    /// Whether a step is made together with the one before it, as nothing that others do in between could make a
    /// difference to anybody.
    fn joins(&self, side: Side, last: Step, answer: u64, next: Step) -> bool {
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
struct Hashed(u64);

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

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    states: u64,
    transitions: u64,
    /// States in which no operation is under way.
    quiet: u64,
}

fn explore(bounds: Bounds) -> Found {
    let mut machine = Machine::new(bounds);
    let first = Rc::new(State::new(bounds));
    let mut known: HashMap<Rc<State>, usize, BuildHasherDefault<Hashed>> = HashMap::default();
    known.insert(Rc::clone(&first), 0);
    let mut ways = vec![(Rc::clone(&first), 0_usize, Event::Begin)];
    let mut waiting = VecDeque::from([0_usize]);
    let mut found = Found::default();
    while let Some(number) = waiting.pop_front() {
        let state = Rc::clone(&ways[number].0);
        found.states += 1;
        found.quiet += u64::from(state.running.is_empty());
        let mut successors = Vec::new();
        let stuck = state.successors(&mut machine, bounds, &mut successors);
        let mut wrong = state.wrong(bounds).or(stuck).map(|what| (what, None));
        for (event, successor) in successors {
            found.transitions += 1;
            match successor {
                Err(what) => wrong = wrong.or(Some((what, Some(event)))),
                Ok(next) => {
                    let next = Rc::new(next);
                    if !known.contains_key(&next) {
                        known.insert(Rc::clone(&next), ways.len());
                        waiting.push_back(ways.len());
                        ways.push((next, number, event));
                    }
                }
            }
        }
        if let Some((what, event)) = wrong {
            panic!("{what}\n{}in {state:#?}", way(&machine, &ways, number, event));
        }
    }
    found
}

/// The steps that lead to a state, and to what is wrong in the next.
fn way(machine: &Machine, ways: &[(Rc<State>, usize, Event)], mut number: usize, last: Option<Event>) -> String {
    let mut events = Vec::from_iter(last);
    while number != 0 {
        events.push(ways[number].2);
        number = ways[number].1;
    }
    let mut text = String::new();
    for event in events.iter().rev() {
        let Event::Steps(place) = *event else {
            let _ = writeln!(text, "  {event:?}");
            continue;
        };
        let At { side, operation, answers, next } = machine.at(place);
        let _ = write!(text, "  {side:?} {operation:?}:");
        for (done, answer) in answers.iter().enumerate() {
            if let Next::Step(step) = machine.arenas.next(*side, *operation, answers[..done].to_vec()) {
                let _ = write!(text, " {step:?}={answer:x}");
            }
        }
        let _ = writeln!(text, " then {next:?}");
    }
    text
}

const SIDES: [Side; 2] = [Side::Worker, Side::Training];

impl State {
    fn new(bounds: Bounds) -> Self {
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

    fn is_dead(&self, side: Side) -> bool {
        self.processes[side as usize].is_dead
    }

    fn word(&self, block: usize) -> Word {
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
    fn wrong(&self, bounds: Bounds) -> Option<String> {
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

    /// All that can happen next; None if nothing is wrong with that itself.
    fn successors(&self, machine: &mut Machine, bounds: Bounds, all: &mut Successors) -> Option<String> {
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
            start(side, Operation::Trim, &|_| {});
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

    /// Makes a step: its answer, or what is wrong with it.
    fn step(&mut self, side: Side, operation: Operation, step: Step) -> Result<u64, String> {
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

type Successors = Vec<(Event, Result<State, String>)>;

/// Explores, and says what was found.
fn explored(name: &str, bounds: Bounds) -> Found {
    let begun = std::time::Instant::now();
    let found = explore(bounds);
    println!("{name}: {found:?} in {:?}", begun.elapsed());
    found
}

const SMALL: Bounds =
    Bounds { blocks: 1, kept: 1 << 20, threads: 2, takes: 2, sends: 1, forks: [0, 0], copies: 0, losses: 0 };

#[test]
fn small() {
    explored("small", SMALL);
    explored("small, nothing kept", Bounds { kept: 0, ..SMALL });
    explored("forks", Bounds { forks: [0, 1], takes: 1, ..SMALL });
    explored("forks2", Bounds { forks: [1, 0], takes: 1, ..SMALL });
    explored("forks kept", Bounds { kept: 0, forks: [0, 1], takes: 1, ..SMALL });
    explored("forks2 kept", Bounds { kept: 0, forks: [1, 0], takes: 1, ..SMALL });
    explored("losses", Bounds { losses: 1, takes: 1, copies: 1, ..SMALL });
    explored("copies", Bounds { copies: 1, ..SMALL });
    explored("two blocks", Bounds { blocks: 2, ..SMALL });
}
