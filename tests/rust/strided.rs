//! Sources: arrays of any stride, alignment and byte order, read in any window.

use std::ops::Range;

use _core::cells::{Element, Values};
use _core::source::{NotPlain, Source};
use proptest::prelude::*;

use crate::cases;
use crate::memory::{ELEMENTS, Form, Stored, empty, repeated};
use crate::naive::{Plain, plain};

/// Reads a window; runs have to come one behind the other.
fn read(source: &Source<'_>, window: Range<usize>) -> Vec<Plain> {
    let mut all = Vec::new();
    let read = source.read::<NotPlain>(window, |begin, values| {
        assert_eq!(begin, all.len(), "a run begins where the last one ended");
        all.extend(plain(values));
        Ok(())
    });
    assert_eq!(read, Ok(()));
    all
}

/// Reads a window of an array both as it is and as the fastest source.
fn assert_reads(stored: &Stored, window: Range<usize>) {
    let expected = &stored.naive()[window.clone()];
    assert_eq!(read(&Source::Strided(stored.strided()), window.clone()), expected, "{stored:?}");
    assert_eq!(read(&stored.strided().into_source(), window), expected, "{stored:?}");
}

/// Bytes that differ from place to place.
fn byte(place: usize) -> u8 {
    u8::try_from(place * 89 % 251).unwrap()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn read_matches_naive(
        element in prop::sample::select(&ELEMENTS[..]),
        stride in prop_oneof![-20_isize..=20, prop::sample::select(vec![1, 2, 4, 8])],
        misaligned in 0_usize..8,
        swapped: bool,
        len in prop_oneof![3 => 0_usize..40, 1 => 250_usize..520],
        bytes in prop::collection::vec(any::<u8>(), 97),
        cuts: (prop::sample::Index, prop::sample::Index),
    ) {
        let stored = Stored::new(len, Form { element, stride, misaligned, swapped }, |place| bytes[place % 97]);
        let (a, b) = (cuts.0.index(len + 1), cuts.1.index(len + 1));
        assert_reads(&stored, a.min(b)..a.max(b));
        assert_reads(&stored, 0..len);
    }
}

#[test]
fn every_window_of_every_form() {
    for element in ELEMENTS {
        let size = element.size().cast_signed();
        for stride in [0, 1, 3, size, size + 1, 2 * size, 5 * size, -1, -3, -size, -2 * size - 1] {
            for (misaligned, swapped) in [(0, false), (1, false), (0, true), (5, true)] {
                let stored = Stored::new(6, Form { element, stride, misaligned, swapped }, byte);
                for end in 0..=6 {
                    (0..=end).for_each(|start| assert_reads(&stored, start..end));
                }
            }
        }
    }
}

#[test]
fn every_cut_around_the_size_of_a_run() {
    const CUTS: [usize; 13] = [0, 1, 127, 254, 255, 256, 257, 258, 511, 512, 513, 514, 700];
    for form in [
        Form { stride: -8, ..Form::plain(Element::Int64) },
        Form { swapped: true, ..Form::plain(Element::Int16) },
        Form { misaligned: 3, ..Form::plain(Element::Float32) },
    ] {
        for len in [255, 256, 257, 511, 512, 513, 700] {
            let stored = Stored::new(len, form, byte);
            let source = Source::Strided(stored.strided());
            let expected = stored.naive();
            for end in CUTS.into_iter().filter(|end| *end <= len) {
                for start in CUTS.into_iter().filter(|start| *start <= end) {
                    assert_eq!(read(&source, start..end), expected[start..end], "{start}..{end} of {len}");
                }
            }
        }
    }
}

#[test]
fn stored_values_come_back() {
    for element in ELEMENTS {
        for swapped in [false, true] {
            let form = Form { swapped, stride: -9, misaligned: 2, element };
            let stored = Stored::of(&[1, 0, 100], form);
            let number = |number: i8| if element.is_float() { f32::from(number).into() } else { Plain::from(number) };
            assert_eq!(read(&Source::Strided(stored.strided()), 0..3), [1, 0, 100].map(number), "{element:?}");
        }
    }
}

#[test]
fn into_source_is_contiguous_exactly_where_allowed() {
    for element in ELEMENTS {
        let size = element.size();
        for stride in [0, size.cast_signed(), 2 * size.cast_signed(), -size.cast_signed(), 1, 16] {
            for misaligned in 0..8 {
                for swapped in [false, true] {
                    for len in 0..4 {
                        let stored = Stored::new(len, Form { element, stride, misaligned, swapped }, byte);
                        let side_by_side = len <= 1 || stride == size.cast_signed();
                        let allowed = side_by_side && misaligned % size == 0 && (!swapped || size == 1);
                        let source = stored.strided().into_source();
                        assert_eq!(matches!(source, Source::Contiguous(_)), allowed, "{stored:?}");
                        assert_eq!(read(&source, 0..len), stored.naive(), "{stored:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn sources_say_their_length_and_element() {
    for element in ELEMENTS {
        for len in [0, 1, 3] {
            let stored = Stored::new(len, Form::plain(element), byte);
            let strided = stored.strided();
            assert_eq!((strided.len(), strided.is_empty()), (len, len == 0));
            for source in [Source::Strided(strided.clone()), strided.into_source()] {
                assert_eq!((source.len(), source.is_empty(), source.element()), (len, len == 0, element));
            }
        }
    }
}

#[test]
fn no_value_may_be_anywhere() {
    for element in ELEMENTS {
        for address in [0, 1, 8, usize::MAX] {
            for stride in [0, 8, isize::MIN, isize::MAX] {
                let source = empty(address, stride, element, false).into_source();
                assert_eq!(read(&source, 0..0), []);
                // A Rust slice, even an empty one, is not at NULL and is aligned.
                let contiguous = address != 0 && address % element.size() == 0;
                assert_eq!(matches!(source, Source::Contiguous(_)), contiguous, "{element:?} at {address}");
            }
        }
    }
}

#[test]
fn far_end_of_a_repeated_value() {
    let len = isize::MAX.cast_unsigned();
    let source = repeated(&7, len);
    assert_eq!(source.len(), len);
    assert_eq!(read(&source, len - 2..len), [Plain::Int(7), Plain::Int(7)]);
}

#[test]
fn an_error_ends_the_reading() {
    #[derive(Debug, PartialEq)]
    struct Enough(usize);
    impl From<NotPlain> for Enough {
        fn from(_: NotPlain) -> Self {
            unreachable!("an array is plain")
        }
    }
    let mut runs = 0;
    let read = repeated(&7, 10_000).read(0..10_000, |begin, _| {
        runs += 1;
        if begin > 0 { Err(Enough(begin)) } else { Ok(()) }
    });
    assert_eq!(runs, 2);
    assert!(matches!(read, Err(Enough(begin)) if begin < 10_000));
}

#[test]
#[should_panic(expected = "1..4 of 3 values")]
fn window_beyond_the_end_panics() {
    read(&Source::Strided(Stored::new(3, Form::plain(Element::Int64), byte).strided()), 1..4);
}

#[test]
#[should_panic(expected = "of 3 values")]
#[expect(clippy::reversed_empty_ranges, reason = "that is what panics")]
fn window_that_ends_before_it_begins_panics() {
    read(&Source::Strided(Stored::new(3, Form::plain(Element::Int64), byte).strided()), 2..1);
}

#[test]
#[should_panic(expected = "out of range")]
fn window_beyond_the_end_of_a_slice_panics() {
    read(&Values::Int64(&[1, 2, 3]).into(), 1..4);
}
