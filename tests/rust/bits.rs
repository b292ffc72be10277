//! Bools of one bit each, in any window.
#![allow(unsafe_code)]

use std::ops::Range;

use _core::cells::{Bool, Element, Values};
use _core::source::{Bits, NotPlain, Source};
use proptest::prelude::*;

use crate::cases;

/// Some of the bits of these bytes.
fn bits(bytes: &[u8], bits: Range<usize>) -> Bits<'_> {
    assert!(bits.end <= bytes.len() * 8);
    // SAFETY: their bytes are there, and the borrow keeps them as they are.
    unsafe { Bits::new(bytes.as_ptr(), bits.start, bits.len()) }
}

/// The bits, one by one.
fn naive(bytes: &[u8], bits: Range<usize>) -> Vec<Bool> {
    let text: Vec<char> =
        bytes.iter().flat_map(|byte| format!("{byte:08b}").chars().rev().collect::<Vec<_>>()).collect();
    text[bits].iter().map(|bit| Bool(u8::from(*bit == '1'))).collect()
}

/// Reads a window; runs have to come one behind the other.
fn read(source: &Source<'_>, window: Range<usize>) -> Vec<Bool> {
    let mut all = Vec::new();
    let read = source.read::<NotPlain>(window, |begin, values| {
        let Values::Bool(values) = values else { panic!("expected bools") };
        assert_eq!(begin, all.len(), "a run begins where the last one ended");
        all.extend_from_slice(values);
        Ok(())
    });
    assert_eq!(read, Ok(()));
    all
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn bits_match_naive(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        places: [prop::sample::Index; 4],
    ) {
        let mut places = places.map(|place| place.index(bytes.len() * 8 + 1));
        places.sort_unstable();
        let [first, start, end, last] = places;
        let source = Source::Bits(bits(&bytes, first..last));
        let all = naive(&bytes, first..last);
        prop_assert_eq!((source.len(), source.element()), (all.len(), Element::Bool));
        prop_assert_eq!(read(&source, 0..all.len()), &all[..]);
        prop_assert_eq!(read(&source, start - first..end - first), &all[start - first..end - first]);
        prop_assert_eq!(source.check_outside(&(start - first..end - first)), Ok(()));
    }
}

#[test]
fn every_window_of_a_few_bytes() {
    let bytes = [0b0110_1001, 0b1100_0101, 0b0011_1010];
    for last in 0..=24 {
        for first in 0..=last {
            let source = Source::Bits(bits(&bytes, first..last));
            for end in 0..=last - first {
                for start in 0..=end {
                    assert_eq!(read(&source, start..end), naive(&bytes, first + start..first + end));
                }
            }
        }
    }
}

#[test]
fn every_cut_around_the_size_of_a_run() {
    let bytes: Vec<u8> = (0..50).map(|place: u8| place.wrapping_mul(89)).collect();
    for first in [0, 1, 7] {
        let source = Source::Bits(bits(&bytes, first..400));
        for end in [127, 128, 129, 255, 256, 257, 393] {
            for start in [0, 1, 126, 127, 128, 129, 255, 256, 257].into_iter().filter(|start| *start <= end) {
                assert_eq!(read(&source, start..end), naive(&bytes, first + start..first + end));
            }
        }
    }
}

#[test]
fn no_bit_may_be_anywhere() {
    for (address, first) in [(0, 0), (1, 7), (usize::MAX, usize::MAX)] {
        // SAFETY: there is no bit.
        let none = unsafe { Bits::new(std::ptr::without_provenance(address), first, 0) };
        assert!(none.is_empty());
        let source = Source::Bits(none);
        assert!(source.is_empty());
        assert_eq!(read(&source, 0..0), []);
    }
}

#[test]
fn an_error_ends_the_reading_of_bits() {
    #[derive(Debug, PartialEq)]
    struct Enough;
    impl From<NotPlain> for Enough {
        fn from(_: NotPlain) -> Self {
            unreachable!("bits are plain")
        }
    }
    let bytes = [0; 100];
    let mut runs = 0;
    let read = Source::Bits(bits(&bytes, 0..800)).read(0..800, |begin, _| {
        runs += 1;
        if begin > 0 { Err(Enough) } else { Ok(()) }
    });
    assert_eq!((runs, read), (2, Err(Enough)));
}

#[test]
#[should_panic(expected = "1..4 of 3 bools")]
fn window_of_bits_beyond_the_end_panics() {
    read(&Source::Bits(bits(&[0], 0..3)), 1..4);
}

#[test]
#[should_panic(expected = "of 3 bools")]
#[expect(clippy::reversed_empty_ranges, reason = "that is what panics")]
fn window_of_bits_that_ends_before_it_begins_panics() {
    read(&Source::Bits(bits(&[0], 0..3)), 2..1);
}
