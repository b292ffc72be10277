//! What a process does with an arena: the real code of the table, put together as `pool`, `message`, `lease`, `fork`
//! and `process` do. (Their own code, which has lists and pipes, is explored by `tests/model`.)

use super::atomic::{Next, Step, Variable, ask, next, reset};
use super::mapping::{self, PAGE};
use super::table::{Arena, TABLE};

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The owner of the arena.
    Worker,
    /// The receiver of its batches.
    Training,
}

/// Something that a thread does, from begin to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `process::take`: a block for a batch. The pool chooses; here it may be any.
    Take(usize),
    /// `Arena::send`.
    Send(usize),
    /// `process::attached` and `Arena::receive`: block, generation.
    Receive(usize, u64),
    /// `Lease::drop`.
    Drop(usize),
    /// `fork::before`, the fork, `fork::after_in_parent`.
    Fork,
    /// `process::trim`.
    Trim,
}

/// Both sides of an arena.
pub struct Arenas {
    worker: Arena,
    training: Arena,
}

impl Arenas {
    /// With so many blocks, of whose memory so much is kept when it is free.
    pub fn new(blocks: usize, kept: u64) -> Self {
        reset();
        let worker = Arena::shared().unwrap();
        for block in 0..blocks {
            worker.push(TABLE + block * PAGE, PAGE).unwrap();
        }
        let file = worker.file().unwrap().try_clone_to_owned().unwrap();
        let training = Arena::attach(file, worker.id(), None, usize::MAX).unwrap();
        ask(Step::Store(Variable::Word(mapping::keep()), kept));
        Self { worker, training }
    }

    /// What an operation does after its steps so far had these answers.
    pub fn next(&self, side: Side, operation: Operation, answers: Vec<u64>) -> Next {
        let arena = if side == Side::Worker { &self.worker } else { &self.training };
        next(answers, || run(arena, side, operation))
    }
}

fn run(arena: &Arena, side: Side, operation: Operation) {
    match operation {
        Operation::Take(block) => locked(|| {
            sweep_forks(arena);
            if arena.take(block) {
                arena.hold();
                arena.commit(block, PAGE).unwrap();
                note(arena, block);
                ask(Step::See(block));
            }
        }),
        Operation::Send(block) => locked(|| {
            if let Some(generation) = arena.put_in_flight(block) {
                ask(Step::Post(block, generation));
            }
        }),
        Operation::Receive(block, generation) => {
            locked(|| sweep(arena, side));
            if arena.arrive(block, generation) {
                arena.hold();
                locked(|| note(arena, block));
                ask(Step::See(block));
            } else {
                ask(Step::Refused);
            }
        }
        Operation::Drop(block) => {
            if arena.drop_lease(block) && side == Side::Training && ask(Step::OwnerIsDead) != 0 {
                arena.bury();
            }
        }
        Operation::Fork => {
            let fork = locked(|| {
                sweep_forks(arena);
                let fork = index(ask(Step::BeginFork));
                for block in (0..arena.count()).filter(|&block| arena.mark_forked(block)) {
                    ask(Step::Marked(fork, block));
                }
                fork
            });
            ask(Step::Fork(fork));
            locked(|| ask(Step::EndFork(fork)));
        }
        Operation::Trim => locked(|| {
            sweep(arena, side);
            arena.empty_all();
        }),
    }
}

fn locked<T>(work: impl FnOnce() -> T) -> T {
    ask(Step::Lock);
    let done = work();
    ask(Step::Unlock);
    done
}

/// `Forks::note`
fn note(arena: &Arena, block: usize) {
    for fork in bits(ask(Step::UnderWay)) {
        if arena.mark_forked(block) {
            ask(Step::Marked(fork, block));
        }
    }
}

/// `Process::sweep`
fn sweep(arena: &Arena, side: Side) {
    sweep_forks(arena);
    if side == Side::Training && ask(Step::OwnerIsDead) != 0 {
        arena.bury();
    }
}

/// `Forks::sweep`
fn sweep_forks(arena: &Arena) {
    for fork in bits(ask(Step::Gone)) {
        for (block, times) in ask(Step::Forget(fork)).to_le_bytes().into_iter().enumerate() {
            (0..times).for_each(|_| arena.unmark_forked(block));
        }
    }
}

fn bits(mask: u64) -> impl Iterator<Item = usize> {
    (0..64).filter(move |bit| mask >> bit & 1 != 0)
}

fn index(answer: u64) -> usize {
    usize::try_from(answer).unwrap()
}
