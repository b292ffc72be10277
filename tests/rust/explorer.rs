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
use std::hash::BuildHasherDefault;
use std::io::Write as _;
use std::rc::Rc;

use super::explorer_arena::atomic::Next;
use super::explorer_fates::Event;
use super::explorer_machine::{At, Hashed, Machine};
use super::explorer_state::State;

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bounds {
    pub(super) blocks: usize,
    /// Free memory that is kept.
    pub(super) kept: u64,
    /// Operations that are under way at one time.
    pub(super) threads: usize,
    pub(super) takes: u8,
    pub(super) sends: u8,
    /// Forks of each side.
    pub(super) forks: [u8; 2],
    /// Messages that come twice.
    pub(super) copies: u8,
    /// Messages that are lost.
    pub(super) losses: u8,
    /// Whether either side gives all free memory back at any time.
    pub(super) trims: bool,
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
/// Explores, and says what was found.
#[allow(clippy::print_stdout, reason = "the figures of a run")]
fn explored(name: &str, bounds: Bounds) {
    let Found { states, transitions, quiet } = explore(bounds);
    println!("{name}: {states} states, {quiet} of them quiet, {transitions} transitions");
    if let Some(folder) = std::env::var_os("DPO_COLLATE_FIGURES") {
        let path = std::path::Path::new(&folder).join("model.jsonl");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        let line = format!("{{\"states\": {states}, \"quiet_states\": {quiet}, \"transitions\": {transitions}}}\n");
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// One batch, sent once, two threads; free memory is given back at once.
const SMALL: Bounds =
    Bounds { blocks: 1, kept: 0, threads: 2, takes: 1, sends: 1, forks: [0, 0], copies: 0, losses: 0, trims: true };
const KEPT: u64 = 1 << 20;

#[test]
fn every_state_of_a_batch() {
    explored("a batch", SMALL);
}

#[test]
fn every_state_of_two_batches() {
    explored("two batches", Bounds { takes: 2, trims: false, ..SMALL });
}

#[test]
fn every_state_with_a_message_that_comes_twice_or_not_at_all() {
    let bounds = Bounds { threads: 1, takes: 2, sends: 2, copies: 1, trims: false, ..SMALL };
    explored("messages of two batches", bounds);
    explored("messages", Bounds { takes: 2, copies: 1, losses: 1, trims: false, ..SMALL });
}

#[test]
fn every_state_with_a_worker_that_forks() {
    explored("a worker forks", Bounds { kept: KEPT, forks: [1, 0], sends: 0, takes: 2, ..SMALL });
}

#[test]
fn every_state_with_a_training_process_that_forks() {
    explored("the training process forks", Bounds { forks: [0, 1], trims: false, ..SMALL });
}

#[test]
fn every_state_of_more() {
    // Some minutes with optimisation, and 2 GB of memory.
    if std::env::var_os("DPO_COLLATE_EXPLORE").is_some() {
        explored("two batches, nothing kept", Bounds { takes: 2, ..SMALL });
        explored("two batches, messages", Bounds { takes: 2, copies: 1, losses: 1, ..SMALL });
        explored("two messages", Bounds { sends: 2, ..SMALL });
        explored("two blocks", Bounds { takes: 2, blocks: 2, ..SMALL });
        explored("a worker forks and sends", Bounds { takes: 2, forks: [1, 0], ..SMALL });
        explored("the training process forks", Bounds { forks: [0, 1], ..SMALL });
        explored("three threads", Bounds { threads: 3, ..SMALL });
        explored(
            "all, one by one",
            Bounds { threads: 1, takes: 2, sends: 2, forks: [1, 1], copies: 1, losses: 1, ..SMALL },
        );
    }
}
