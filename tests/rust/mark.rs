//! How much free memory is kept, for the ways in which batches are used.

use _core::arena::mark::{KEPT, Mark};

const BATCH: u64 = 100 << 20;

/// A trainer that takes batches of one size and drops them; what is kept free in the end.
#[derive(Default)]
struct Trainer {
    mark: Mark,
    used: u64,
}

impl Trainer {
    fn take(&mut self, bytes: u64) {
        self.mark.taken(self.used, self.used + bytes);
        self.used += bytes;
    }

    fn batches(&self) -> u64 {
        (self.mark.kept() - KEPT) / BATCH
    }
}

#[test]
fn in_the_beginning_little_is_kept() {
    assert_eq!(Mark::default().kept(), KEPT);
}

#[test]
fn one_by_one_keeps_two() {
    let mut trainer = Trainer::default();
    for _ in 0..1000 {
        trainer.take(BATCH);
        trainer.used = BATCH; // the last one is dropped when the next is there
        assert_eq!(trainer.batches(), 2);
    }
}

#[test]
fn windows_that_come_again_are_kept() {
    let mut trainer = Trainer::default();
    for window in 0..20 {
        for _ in 0..16 {
            trainer.take(BATCH);
        }
        assert_eq!(trainer.batches(), if window == 0 { 2 } else { 17 }, "window {window}");
        trainer.used = 0;
    }
}

#[test]
fn windows_of_batches_with_images_are_kept() {
    let mut trainer = Trainer::default();
    for _ in 0..20 {
        for _ in 0..16 {
            for bytes in [500_000, BATCH, 4096] {
                trainer.take(bytes);
            }
        }
        trainer.used = 0;
    }
    assert!(trainer.mark.kept() >= 16 * (BATCH + 504_096));
}

#[test]
fn two_batches_are_kept_whatever_lies_between_their_images() {
    let mut trainer = Trainer::default();
    for _ in 0..1000 {
        for bytes in [500_000, BATCH, 4096, 4096, 80_000] {
            trainer.take(bytes);
            assert!(trainer.mark.kept() >= 2 * BATCH || trainer.used < BATCH);
        }
        trainer.used = BATCH;
    }
}

#[test]
fn what_was_collected_once_is_not_kept() {
    let mut trainer = Trainer { used: 3 * BATCH, ..Trainer::default() };
    for _ in 0..100 {
        trainer.take(BATCH);
        trainer.used -= BATCH;
    }
    for _ in 0..20 {
        trainer.take(BATCH);
    }
    assert_eq!(trainer.batches(), 2);
}

#[test]
fn what_is_not_needed_again_fades() {
    let mut trainer = Trainer::default();
    for _ in 0..3 {
        for _ in 0..16 {
            trainer.take(BATCH);
        }
        trainer.used = 0;
    }
    let mut takes = 0;
    while trainer.batches() > 2 {
        trainer.take(BATCH);
        trainer.used = BATCH;
        takes += 1;
        assert!(takes < 20_000);
    }
    assert!(takes > 1000, "{takes}: between two steps of accumulation it must not fade");
}

#[test]
fn any_numbers_are_borne() {
    let mut mark = Mark::default();
    for (before, now) in [(0, u64::MAX), (u64::MAX, u64::MAX), (0, 0), (0, u64::MAX), (5, 3)] {
        mark.taken(before, now);
        assert!(mark.kept() >= KEPT);
    }
}
