//! Two real processes: an owner and a receiver, and what stays when one of them is killed.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use _core::arena::Lease;
use _core::arena::message::Place;
use _core::arena::owner::{Owner, path};
use _core::arena::pool::Pool;
use _core::arena::process;
use _core::arena::table::{Arena, Id};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use crate::memory::holds;
use crate::messages::{sent, taken};

/// What the other process is to be; this test does nothing where it is not set.
const ROLE: &str = "DPO_COLLATE_TEST_ROLE";

/// A process that runs `other_process` below.
struct Other {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Other {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::other_process", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    /// The next line that is meant for us: the test harness prints others.
    fn hear(&mut self) -> Vec<u64> {
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the other process has ended");
            if let Some((_, said)) = line.split_once("said: ") {
                return numbers(said);
            }
        }
    }

    /// Kills it. It stays a zombie, as nobody takes note of its end: dead all the same.
    fn kill(mut self) {
        self.child.kill().unwrap();
        let child = Pid::from_child(&self.child);
        waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    }
}

fn numbers(line: &str) -> Vec<u64> {
    line.split_whitespace().map(|number| number.parse().unwrap()).collect()
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn name(arena: &Arena) -> String {
    let mut said = format!("{} {}", std::process::id(), arena.file().unwrap().as_raw_fd());
    for byte in arena.id() {
        write!(said, " {byte}").unwrap();
    }
    said
}

fn attach(name: &[u64]) -> Arc<Arena> {
    let [process, descriptor] = [name[0], name[1]].map(|number| i32::try_from(number).unwrap());
    let mut id = Id::default();
    for (byte, &number) in id.iter_mut().zip(&name[2..]) {
        *byte = number.try_into().unwrap();
    }
    let open = std::fs::File::options().read(true).write(true).open(path(process, descriptor)).unwrap();
    let file: OwnedFd = open.into();
    let owner = Owner::of(&file, process, descriptor);
    assert!(owner.is_some());
    process::attach(file, id, owner).unwrap()
}

fn place(numbers: &[u64]) -> (Place, usize, u8) {
    let place = Place { block: size(numbers[0]), generation: numbers[1], offset: size(numbers[2]) };
    (place, size(numbers[3]), numbers[4].try_into().unwrap())
}

/// Not a test: what the other process does.
#[test]
fn other_process() {
    match std::env::var(ROLE).as_deref() {
        Ok("receiver") => receiver(),
        Ok("owner") => its_owner(),
        _ => {}
    }
}

#[expect(clippy::print_stdout, reason = "to the process that started this one")]
fn say(line: &str) {
    println!("said: {line}");
}

/// Receives what it is told of, checks it at once and again when it drops it, some messages later.
fn receiver() {
    let mut lines = std::io::stdin().lines().map(Result::unwrap);
    let arena = attach(&numbers(&lines.next().unwrap()));
    let mut held: VecDeque<(Lease, usize, usize, u8)> = VecDeque::new();
    for line in lines {
        let (place, bytes, value) = place(&numbers(&line));
        let (lease, offset) = arena.receive(place, bytes).unwrap();
        assert!(holds(&lease, offset, bytes, value), "when it came");
        held.push_back((lease, offset, bytes, value));
        if held.len() > usize::from(value) % 12 {
            let index = usize::from(value) % held.len();
            let (lease, offset, bytes, value) = held.remove(index).unwrap();
            assert!(holds(&lease, offset, bytes, value), "when it went");
        }
        say(&held.len().to_string());
    }
    assert!(held.iter().all(|(lease, offset, bytes, value)| holds(lease, *offset, *bytes, *value)));
    say("1000");
}

/// Sends two messages of 30 MiB, and waits to be killed.
fn its_owner() {
    let mut pool = Pool::new(Arena::shared().unwrap());
    say(&name(pool.arena()));
    for value in [1, 2, 3] {
        let lease = taken(&mut pool, 30 << 20, value);
        let Place { block, generation, offset } = sent(&pool, &lease, 0, 30 << 20);
        say(&format!("{block} {generation} {offset} {} {value}", 30 << 20));
    }
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn values_are_right_while_blocks_are_used_again() {
    let mut pool = Pool::new(Arena::shared().unwrap());
    let mut other = Other::start("receiver");
    other.say(&name(pool.arena()));
    let (messages, mut waiting, mut random) = (5000, 0, 1_u64);
    for turn in 0..messages {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (bytes, value) = (1 + size(random >> 40) % 60_000, (random >> 33).to_le_bytes()[0]);
        let lease = taken(&mut pool, bytes, value);
        let from = size(random >> 50) % bytes;
        let Place { block, generation, offset } = sent(&pool, &lease, from, bytes - from);
        drop(lease);
        other.say(&format!("{block} {generation} {offset} {} {value}", bytes - from));
        waiting += 1;
        while waiting > turn % 5 {
            assert!(other.hear()[0] <= 12);
            waiting -= 1;
        }
    }
    while waiting > 0 {
        other.hear();
        waiting -= 1;
    }
    assert!(pool.recycled() > messages / 2, "{}", pool.recycled());
    assert!(pool.arena().census().used.blocks <= 12);
    drop(other.to);
    let rest: Vec<String> = other.from.lines().map(Result::unwrap).collect();
    assert!(rest.iter().any(|line| line.contains("said: 1000")), "{rest:?}");
    assert!(other.child.wait().unwrap().success());
    assert_eq!(pool.arena().census().used.blocks, 0);
}

#[test]
fn what_a_killed_receiver_held_is_not_used_again() {
    let mut pool = Pool::new(Arena::shared().unwrap());
    let mut other = Other::start("receiver");
    other.say(&name(pool.arena()));
    for value in [11, 11, 11] {
        let lease = taken(&mut pool, 10_000, value);
        let Place { block, generation, offset } = sent(&pool, &lease, 0, 10_000);
        other.say(&format!("{block} {generation} {offset} 10000 {value}"));
    }
    while other.hear() != [3] {}
    other.kill();
    assert_eq!(pool.arena().census().used.blocks, 3);
    let lease = taken(&mut pool, 10_000, 1);
    assert_eq!(sent(&pool, &lease, 0, 10_000).block, 3);
}

/// In one test, as it is about the state of this process.
#[test]
fn what_a_killed_owner_sent_stays_until_it_is_dropped() {
    let mut other = Other::start("owner");
    let name = other.hear();
    let arena = attach(&name);
    let id = arena.id();
    let messages: Vec<_> = (0..3).map(|_| place(&other.hear())).collect();
    let receive = |(place, bytes, _): (Place, usize, u8)| arena.receive(place, bytes).unwrap().0;
    let leases = [receive(messages[0]), receive(messages[1])];
    other.kill();
    assert!(process::attached(id).is_some(), "while it is seen, a fork has to find it");
    for (lease, (_, bytes, value)) in leases.iter().zip(&messages) {
        assert!(holds(lease, 0, *bytes, *value));
    }
    drop(leases);
    let census = arena.census();
    assert_eq!((census.used.blocks, census.free.blocks, census.retired.blocks), (0, 0, 0));
    assert!(arena.receive(messages[2].0, messages[2].1).is_err(), "what has not arrived is given back as well");
    drop(arena);
    assert!(process::attached(id).is_none());
}
