//! Atomics that stop: what a process does becomes a chain of single steps.
//!
//! An operation of the real code is run on the answers that its steps have had so far. At the first step that has no
//! answer it is left by unwinding, and that step is what it would do next. So the code is its own model: what it does
//! next depends on nothing but what it is, and the answers.

#![allow(clippy::unused_self, reason = "as the standard library's are asked")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(super) use std::sync::atomic::Ordering;

/// A variable that processes or threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    /// A word of the mapping, by its place in [`super::mapping`].
    Word(usize),
    /// Of the process itself: leases that it holds.
    Held,
    /// Of the process itself: whether it found the owner dead.
    Dead,
}

/// One step, and what its answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The value.
    Load(Variable),
    /// No answer.
    Store(Variable, u64),
    /// The value before.
    Swap(Variable, u64),
    /// The value before.
    Add(Variable, u64),
    /// From, to; the value before: it was changed if that is the first.
    Exchange(Variable, u64, u64),
    /// Memory is put behind a block: no answer.
    Commit(usize),
    /// So many bytes of memory behind a block are given back: no answer.
    Release(usize, usize),
    /// The lock of the process is taken: no answer, but it may have to wait.
    Lock,
    /// ... and left.
    Unlock,
    /// Whether the owner's process has ended.
    OwnerIsDead,
    /// The block is seen from now on by whoever did the operation; its generation.
    See(usize),
    /// A message of that block and generation is on its way.
    Post(usize, u64),
    /// The message was refused.
    Refused,
    /// A fork is about to be made: its number.
    BeginFork,
    /// One of its blocks is marked: fork, block.
    Marked(usize, usize),
    /// The system call: fork.
    Fork(usize),
    /// It is over in the parent: fork.
    EndFork(usize),
    /// Forks of this process that are begun and not over: a bit each.
    UnderWay,
    /// Forks of this process whose child is gone: a bit each.
    Gone,
    /// How often each block was marked for a fork, a byte each. It is forgotten with this.
    Forget(usize),
}

/// What comes next in an operation.
#[derive(Clone, Copy, Debug)]
pub enum Next {
    /// A step that waits for its answer.
    Step(Step),
    /// Nothing.
    Done,
    /// The code itself found something wrong.
    Panic,
}

#[derive(Default)]
struct Run {
    answers: Vec<u64>,
    at: usize,
    next: Option<Step>,
}

thread_local! {
    static RUN: RefCell<Option<Run>> = const { RefCell::new(None) };
    /// The variables while no operation is run: what is there from the beginning.
    static BEFORE: RefCell<HashMap<Variable, u64>> = RefCell::default();
}

/// A step of the operation that is run: its answer.
pub fn ask(step: Step) -> u64 {
    let answer = RUN.with_borrow_mut(|run| {
        let Some(run) = run else { return Some(at_once(step)) };
        let answer = run.answers.get(run.at).copied();
        run.at += 1;
        if answer.is_none() {
            run.next = Some(step);
        }
        answer
    });
    answer.unwrap_or_else(|| resume_unwind(Box::new(())))
}

fn at_once(step: Step) -> u64 {
    BEFORE.with_borrow_mut(|variables| match step {
        Step::Load(variable) => variables.get(&variable).copied().unwrap_or_default(),
        Step::Store(variable, value) => variables.insert(variable, value).unwrap_or_default(),
        Step::Commit(_) => 0,
        other => unreachable!("{other:?} while nothing is run"),
    })
}

/// Another arena: nothing has been written yet.
pub fn reset() {
    BEFORE.with_borrow_mut(HashMap::clear);
}

/// The value of a variable that no operation changes.
pub fn constant(variable: Variable) -> u64 {
    at_once(Step::Load(variable))
}

/// What the operation does after its steps so far had these answers.
pub fn next(answers: Vec<u64>, operation: impl FnOnce()) -> Next {
    RUN.set(Some(Run { answers, ..Run::default() }));
    let ended = catch_unwind(AssertUnwindSafe(operation));
    let next = RUN.take().and_then(|run| run.next);
    match (ended, next) {
        (Ok(()), _) => Next::Done,
        (Err(_), Some(step)) => Next::Step(step),
        (Err(_), None) => Next::Panic, // it has printed why
    }
}

/// A word of the mapping.
#[derive(Debug)]
pub struct AtomicU64(Variable);

impl AtomicU64 {
    pub(super) fn of(place: usize) -> Self {
        Self(Variable::Word(place))
    }

    pub fn load(&self, _: Ordering) -> u64 {
        let Variable::Word(place) = self.0 else { return 0 };
        if super::mapping::is_constant(place) { constant(self.0) } else { ask(Step::Load(self.0)) }
    }

    pub fn store(&self, value: u64, _: Ordering) {
        ask(Step::Store(self.0, value));
    }

    pub fn fetch_add(&self, value: u64, _: Ordering) -> u64 {
        ask(Step::Add(self.0, value))
    }

    pub fn compare_exchange_weak(&self, from: u64, to: u64, _: Ordering, _: Ordering) -> Result<u64, u64> {
        let found = ask(Step::Exchange(self.0, from, to));
        if found == from { Ok(found) } else { Err(found) }
    }
}

/// Of a process's own variables there is one number, ...
#[derive(Debug)]
pub struct AtomicUsize;

impl AtomicUsize {
    pub fn new(_: usize) -> Self {
        Self
    }

    pub fn load(&self, _: Ordering) -> usize {
        small(ask(Step::Load(Variable::Held)))
    }

    pub fn fetch_add(&self, value: usize, _: Ordering) -> usize {
        small(ask(Step::Add(Variable::Held, value as u64)))
    }

    pub fn fetch_sub(&self, value: usize, _: Ordering) -> usize {
        small(ask(Step::Add(Variable::Held, (value as u64).wrapping_neg())))
    }
}

fn small(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

/// ... and one flag.
#[derive(Debug)]
pub struct AtomicBool;

impl AtomicBool {
    pub fn new(_: bool) -> Self {
        Self
    }

    pub fn load(&self, _: Ordering) -> bool {
        ask(Step::Load(Variable::Dead)) != 0
    }

    pub fn swap(&self, value: bool, _: Ordering) -> bool {
        ask(Step::Swap(Variable::Dead, value.into())) != 0
    }
}

/// Steps are made one after the other here: what else a fence does is loom's business.
pub(super) fn fence(_: Ordering) {}
