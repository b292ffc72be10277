//! The target `message`: what it does stands in `tests/rust/fuzz/target_message.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::message(data));
