//! Messages between an owner's arena and a receiver's, right ones and any others; then the same with anything written into
//! the table that both share. Whatever it holds: a lease lies among the blocks, and its values can be read and written.

use std::fs::File;
use std::io::Error;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use _core::arena::Lease;
use _core::arena::message::{Place, Sending};
use _core::arena::pool::Pool;
use _core::arena::table::Arena;
use arbitrary::Result;

use super::given::{Bytes, any_number, any_size};
use crate::memory::{fill, holds};

/// Where the table has what: its words, the states of blocks, and so on for as many as there can be.
const WORDS: u64 = 4096;
const BLOCKS: u64 = 1 << 17;
/// The word that says how many blocks there are.
const COUNT: u64 = 5;
/// Where the first block begins.
const TABLE: usize = 8 << 20;

/// A lease of a receiver: its arena's index, the value that its bytes have, if that is known, and their place.
struct Received {
    lease: Lease,
    offset: usize,
    bytes: usize,
    value: Option<u8>,
    place: Place,
}

/// A message in flight.
#[derive(Clone, Copy)]
struct Message {
    place: Place,
    bytes: usize,
    value: u8,
}

/// What the processes have.
struct Both {
    pool: Pool,
    training: Arc<Arena>,
    /// The file that both have mapped.
    file: File,
    taken: Vec<(Lease, u8)>,
    in_flight: Vec<Message>,
    received: Vec<Received>,
    /// All that was ever sent.
    sent: Vec<Place>,
    /// Whether anybody has written into the table.
    is_spoilt: bool,
    next: u8,
}

pub fn message(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let _ = play(&mut bytes);
}

fn play(u: &mut Bytes<'_>) -> Result<()> {
    // In address space that does not hold the blocks, their bytes are read from the file.
    let mut both = Both::new(if u.ratio(1, 4)? { 0 } else { usize::MAX });
    let spoils = u.arbitrary()?;
    for _ in 0..u.int_in_range(0..=40)? {
        both.step(u, spoils)?;
        if !both.is_spoilt {
            both.check();
        }
    }
    both.end();
    Ok(())
}

impl Both {
    fn new(room: usize) -> Self {
        let pool = Pool::new(Arena::shared().unwrap());
        let file = || pool.arena().file().unwrap().as_fd().try_clone_to_owned().unwrap();
        let training = Arc::new(Arena::attach(file(), pool.arena().id(), None, room).unwrap());
        let file = file().into();
        let (taken, in_flight, received, sent) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { pool, training, file, taken, in_flight, received, sent, is_spoilt: false, next: 0 }
    }

    fn step(&mut self, u: &mut Bytes<'_>, spoils: bool) -> Result<()> {
        match u.int_in_range(0..=if spoils { 13_u8 } else { 11 })? {
            0 | 1 => self.take(u)?,
            2..=4 => self.send(u)?,
            5 | 6 if !self.in_flight.is_empty() => {
                let at = index(u, self.in_flight.len())?;
                let Message { place, bytes, value } = self.in_flight.remove(at);
                let found = self.receive(place, bytes, Some(value));
                assert!(self.is_spoilt || found.is_ok(), "{place:?} {found:?}");
            }
            7 => self.receive_any(u)?,
            8 if !self.taken.is_empty() => {
                let at = index(u, self.taken.len())?;
                self.taken.swap_remove(at);
            }
            9 if !self.received.is_empty() => {
                let at = index(u, self.received.len())?;
                self.received.swap_remove(at);
            }
            10 => self.pool.arena().empty_all(),
            11 => self.training.empty_all(),
            12.. => self.spoil(u)?,
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, u: &mut Bytes<'_>) -> Result<()> {
        let bytes = *u.choose(&[1, 100, 4096, 4097, 10_000, 16_384, 70_000])?;
        self.next = self.next.wrapping_add(1);
        match self.pool.take(bytes) {
            Ok(mut lease) => {
                Self::is_among_blocks(self.pool.arena(), &lease);
                assert_eq!(lease.bytes(), bytes);
                fill(&mut lease, self.next);
                self.taken.push((lease, self.next));
            }
            Err(error) => assert!(self.is_spoilt, "{error}"),
        }
        Ok(())
    }

    fn send(&mut self, u: &mut Bytes<'_>) -> Result<()> {
        if self.taken.is_empty() {
            return Ok(());
        }
        let (lease, value) = &self.taken[index(u, self.taken.len())?];
        let (start, room) = (lease.start().addr().get(), lease.bytes());
        let is_right = !u.ratio(1, 8)?;
        let (address, bytes) = if is_right {
            let from = u.int_in_range(0..=room)?;
            (start + from, u.int_in_range(0..=room - from)?)
        } else {
            (start.wrapping_add(any_size(u)?), any_size(u)?)
        };
        let small = *u.choose(&[0, 0, 0, 4096])?;
        match self.pool.arena().send(address, bytes, small) {
            Sending::Place(place) => {
                self.sent.push(place);
                let inside = address >= start && bytes <= room && address - start <= room - bytes;
                if inside {
                    self.in_flight.push(Message { place, bytes, value: *value });
                } else if self.receive(place, bytes, None).is_err() {
                    assert!(self.is_spoilt, "what was sent is there");
                }
            }
            Sending::Small => assert!(bytes < small),
            Sending::Foreign => assert!(self.is_spoilt || !is_right || address == start + room || room == 0),
        }
        Ok(())
    }

    /// A message that is stale, or that nobody has sent.
    fn receive_any(&mut self, u: &mut Bytes<'_>) -> Result<()> {
        let mut place = Place { block: any_size(u)?, generation: u.int_in_range(0..=3)?, offset: any_size(u)? };
        if !self.sent.is_empty() && !u.ratio(1, 4)? {
            place = self.sent[index(u, self.sent.len())?];
            match u.int_in_range(0..=5_u8)? {
                0 => place.generation = place.generation.wrapping_add_signed(any_number(u)?),
                1 => place.offset = any_size(u)?,
                2 => place.block = any_size(u)?,
                _ => {}
            }
        }
        let bytes = any_size(u)?;
        let expected = self
            .in_flight
            .iter()
            .position(|message| (message.place.block, message.place.generation) == (place.block, place.generation));
        let before = self.training.census();
        match (self.receive(place, bytes, None), expected) {
            // Nobody knows of two tensors of a block which has come: the other one does not come, then.
            (Ok(()), Some(message)) => drop(self.in_flight.swap_remove(message)),
            (Ok(()), None) => assert!(self.is_spoilt, "nobody has sent {place:?}"),
            (Err(_), _) => assert!(self.is_spoilt || self.training.census() == before, "an error changes nothing"),
        }
        Ok(())
    }

    fn receive(&mut self, place: Place, bytes: usize, value: Option<u8>) -> std::result::Result<(), Error> {
        // A table that says so has gigabytes to be copied.
        let copies = self.is_spoilt && self.training.blocks().is_none();
        let bytes = if copies { bytes.min(1 << 20) } else { bytes };
        let (lease, offset) = self.training.receive(place, bytes)?;
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= lease.bytes()), "{offset} {bytes}");
        Self::is_among_blocks(&self.training, &lease);
        if !self.is_spoilt {
            assert!(value.is_none_or(|value| holds(&lease, offset, bytes, value)), "{place:?}");
        }
        self.received.push(Received { lease, offset, bytes, value, place });
        Ok(())
    }

    /// A lease is in the mapping, and not where the table is.
    fn is_among_blocks(arena: &Arena, lease: &Lease) {
        if let Some(range) = arena.blocks() {
            let start = lease.start().addr().get();
            assert!(start >= range.start && lease.bytes() <= range.end - start, "{lease:?} in {range:?}");
        }
    }

    /// Writes into the table.
    fn spoil(&mut self, u: &mut Bytes<'_>) -> Result<()> {
        self.is_spoilt = true;
        let len = self.file.metadata().unwrap().len();
        let word = match u.int_in_range(0..=5_u8)? {
            0 => 3 + u.int_in_range(0..=4_u64)?,
            which => WORDS / 8 + (u64::from(which) - 1).min(3) * BLOCKS + u.int_in_range(0..=5_u64)?,
        };
        let value = match u.int_in_range(0..=5_u8)? {
            0 => any_number(u)?.cast_unsigned(),
            1 => u.int_in_range(0..=6)? * 4096,
            2 => len.wrapping_add_signed(i64::from(u.int_in_range(-2..=2_i8)?) * 2048),
            3 => TABLE as u64 + u.int_in_range(0..=20_u64)? * 2048,
            // Of a state: leases, messages in flight, forks, emptying, owned.
            4 => {
                u.int_in_range(0..=3_u64)?
                    | u.int_in_range(0..=3_u64)? << 14
                    | u.int_in_range(0..=3_u64)? << 28
                    | u.int_in_range(0..=7_u64)? << 35
            }
            _ => u.arbitrary()?,
        };
        // To look at all blocks that there can be takes long.
        let value = if word == COUNT && !u.ratio(1, 64)? { value % 600 } else { value };
        self.file.write_all_at(&value.to_ne_bytes(), word * 8).unwrap();
        Ok(())
    }

    /// What is counted is what there is.
    fn check(&self) {
        let census = self.pool.arena().census();
        let mut blocks: Vec<usize> = self.in_flight.iter().map(|message| message.place.block).collect();
        if self.training.blocks().is_some() {
            blocks.extend(self.received.iter().map(|received| received.place.block));
        }
        blocks.extend(self.taken.iter().map(|(lease, _)| self.block(lease)));
        blocks.sort_unstable();
        blocks.dedup();
        assert_eq!((census.used.blocks, census.retired.blocks), (blocks.len() as u64, 0));
        assert_eq!(self.training.census(), census);
        for (lease, value) in &self.taken {
            assert!(holds(lease, 0, lease.bytes(), *value));
        }
        for Received { lease, offset, bytes, value, place } in &self.received {
            assert!(value.is_none_or(|value| holds(lease, *offset, *bytes, value)), "{place:?}");
        }
    }

    /// The block of a lease of the owner's.
    fn block(&self, lease: &Lease) -> usize {
        match self.pool.arena().send(lease.start().addr().get(), 1, 0) {
            Sending::Place(place) => {
                // The message is received at once, and its lease dropped: nothing has changed.
                self.training.receive(place, 1).unwrap();
                place.block
            }
            other => panic!("{other:?}"),
        }
    }

    /// All is dropped: what was in flight is received, and nothing is left.
    fn end(mut self) {
        for Message { place, bytes, value } in std::mem::take(&mut self.in_flight) {
            let found = self.receive(place, bytes, Some(value));
            assert!(self.is_spoilt || found.is_ok(), "{place:?} {found:?}");
        }
        self.received.clear();
        self.taken.clear();
        if !self.is_spoilt {
            self.pool.arena().empty_all();
            let census = self.pool.arena().census();
            assert_eq!((census.used.blocks, census.free.blocks, census.retired.blocks), (0, 0, 0));
        }
    }
}

fn index(u: &mut Bytes<'_>, len: usize) -> Result<usize> {
    u.int_in_range(0..=len - 1)
}
