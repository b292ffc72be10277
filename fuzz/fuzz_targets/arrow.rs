//! The target `arrow`: what it does stands in `tests/rust/fuzz/target_arrow.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::arrow(data));
