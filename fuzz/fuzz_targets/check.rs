//! The target `check`: what it does stands in `tests/rust/fuzz/target_check.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::check(data));
