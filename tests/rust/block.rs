//! The state of a block: the moves on the word, against the same moves on plain numbers.

use std::sync::atomic::AtomicU64;

use _core::arena::block::{Holder, MOST_LEASES, State, make};
use proptest::prelude::*;

const MOST_FORKS: u64 = 127;

/// What the word says, in plain numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Plain {
    generation: u64,
    owned: bool,
    leases: u64,
    in_flight: u64,
    forks: u64,
    emptying: Option<Holder>,
}

impl Plain {
    fn of(state: State) -> Self {
        Self {
            generation: state.generation(),
            owned: state.is_owned(),
            leases: state.leases(),
            in_flight: state.in_flight(),
            forks: state.forks(),
            emptying: [Holder::Owner, Holder::Receiver].into_iter().find(|&by| state.emptied(by).is_some()),
        }
    }

    fn is_used(self) -> bool {
        self.owned || self.leases > 0 || self.in_flight > 0
    }

    fn has(self, holder: Holder) -> bool {
        if holder == Holder::Owner { self.owned } else { self.leases > 0 }
    }

    fn is_free(self) -> bool {
        !self.owned && self.leases == 0 && self.in_flight == 0 && self.forks == 0 && self.emptying.is_none()
    }
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Taken,
    Sent,
    Received { behind: u64 },
    Dropped(Holder),
    Forked(Holder),
    Unforked,
    Emptying(Holder),
    Emptied(Holder),
    Abandoned,
}

fn on_word(state: State, step: Move) -> Option<State> {
    match step {
        Move::Taken => state.taken(),
        Move::Sent => state.sent(),
        Move::Received { behind } => state.received(state.generation().wrapping_sub(behind)),
        Move::Dropped(holder) => state.dropped(holder),
        Move::Forked(holder) => state.forked(holder),
        Move::Unforked => state.unforked(),
        Move::Emptying(by) => state.emptying(by),
        Move::Emptied(by) => state.emptied(by),
        Move::Abandoned => state.abandoned(),
    }
}

fn on_numbers(mut plain: Plain, step: Move) -> Option<Plain> {
    let allowed = match step {
        Move::Taken | Move::Emptying(_) => plain.is_free(),
        Move::Sent => plain.owned && plain.leases + plain.in_flight < MOST_LEASES,
        Move::Received { behind } => behind == 0 && plain.in_flight > 0,
        Move::Dropped(holder) | Move::Forked(holder) => plain.has(holder),
        Move::Unforked => plain.forks > 0 && plain.forks < MOST_FORKS,
        Move::Emptied(by) => plain.emptying == Some(by),
        Move::Abandoned => plain.leases == 0 && plain.forks == 0 && plain.emptying != Some(Holder::Receiver),
    };
    match step {
        _ if !allowed => return None,
        Move::Taken => (plain.generation, plain.owned) = (plain.generation + 1, true),
        Move::Sent => plain.in_flight += 1,
        Move::Received { .. } => (plain.in_flight, plain.leases) = (plain.in_flight - 1, plain.leases + 1),
        Move::Dropped(Holder::Owner) => plain.owned = false,
        Move::Dropped(Holder::Receiver) => plain.leases -= 1,
        Move::Forked(_) => plain.forks = MOST_FORKS.min(plain.forks + 1),
        Move::Unforked => plain.forks -= 1,
        Move::Emptying(by) => plain.emptying = Some(by),
        Move::Emptied(_) => plain.emptying = None,
        Move::Abandoned => {
            plain = Plain { generation: plain.generation + 1, owned: false, in_flight: 0, emptying: None, ..plain };
        }
    }
    Some(plain)
}

fn holders() -> impl Strategy<Value = Holder> {
    prop_oneof![Just(Holder::Owner), Just(Holder::Receiver)]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        3 => Just(Move::Taken),
        4 => Just(Move::Sent),
        3 => prop_oneof![4 => Just(0_u64), 1 => 1..3_u64].prop_map(|behind| Move::Received { behind }),
        2 => Just(Move::Dropped(Holder::Owner)),
        3 => Just(Move::Dropped(Holder::Receiver)),
        1 => holders().prop_map(Move::Forked),
        1 => Just(Move::Unforked),
        2 => holders().prop_map(Move::Emptying),
        3 => holders().prop_map(Move::Emptied),
        1 => Just(Move::Abandoned),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    #![proptest_config(crate::cases())]

    #[test]
    fn moves_match_naive(moves in moves()) {
        let word = AtomicU64::new(0);
        let mut plain = Plain::default();
        for step in moves {
            let expected = on_numbers(plain, step);
            let found = make(&word, |state| on_word(state, step));
            prop_assert_eq!(found.map(Plain::of), expected, "{:?} on {:?}", step, plain);
            plain = expected.unwrap_or(plain);
            let state = State::of(word.load(std::sync::atomic::Ordering::Relaxed));
            prop_assert_eq!(Plain::of(state), plain);
            prop_assert_eq!(state.is_free(), plain.is_free());
            prop_assert_eq!(state.is_used(), plain.is_used());
            prop_assert_eq!(state.is_retired(), !plain.is_used() && plain.forks > 0);
            prop_assert_eq!(State::of(state.word()), state);
        }
    }
}

fn after(steps: impl IntoIterator<Item = Move>) -> Option<State> {
    steps.into_iter().try_fold(State::of(0), on_word)
}

#[test]
fn leases_and_messages_are_counted_up_to_their_most() {
    let mut state = after([Move::Taken]).unwrap();
    for _ in 0..MOST_LEASES {
        state = state.sent().unwrap();
    }
    assert_eq!((state.leases(), state.in_flight()), (0, MOST_LEASES));
    assert_eq!(state.sent(), None);
    while let Some(next) = state.received(1) {
        state = next;
    }
    assert_eq!((state.leases(), state.in_flight(), state.generation()), (MOST_LEASES, 0, 1));
    assert_eq!(state.sent(), None);
    while let Some(next) = state.dropped(Holder::Receiver) {
        state = next;
    }
    assert!(state.is_owned() && !state.is_free());
    assert!(state.dropped(Holder::Owner).unwrap().is_free());
}

#[test]
fn more_forks_than_can_be_counted_are_for_ever() {
    let mut state = after([Move::Taken]).unwrap();
    for _ in 0..200 {
        state = state.forked(Holder::Owner).unwrap();
    }
    state = state.dropped(Holder::Owner).unwrap();
    assert!(state.is_retired());
    assert_eq!(state.unforked(), None);
    assert_eq!((state.taken(), state.emptying(Holder::Owner), state.abandoned()), (None, None, None));
}

#[test]
fn what_a_dead_owner_was_emptying_is_free_and_what_a_receiver_is_emptying_is_not() {
    let state = after([Move::Taken, Move::Dropped(Holder::Owner), Move::Emptying(Holder::Owner)]).unwrap();
    assert_eq!((state.taken(), state.emptied(Holder::Receiver)), (None, None));
    assert!(state.abandoned().unwrap().is_free());
    let state = after([Move::Emptying(Holder::Receiver)]).unwrap();
    assert_eq!((state.taken(), state.emptied(Holder::Owner), state.abandoned()), (None, None, None));
}

#[test]
fn generation_wraps_and_touches_nothing_else() {
    let last = State::of(u64::MAX << 38);
    let wrapped = last.taken().unwrap();
    assert_eq!((wrapped.generation(), wrapped.leases(), wrapped.in_flight(), wrapped.forks()), (0, 0, 0, 0));
    assert!(wrapped.is_owned() && !wrapped.is_emptying());
}

#[test]
fn of_threads_that_take_one_block_only_one_gets_it() {
    let word = AtomicU64::new(0);
    for generation in 1..200 {
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| usize::from(make(&word, State::taken).is_some()))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 1);
        assert_eq!(make(&word, |state| state.dropped(Holder::Owner)).map(State::generation), Some(generation));
    }
}
