//! The target `collate`: what it does stands in `tests/rust/fuzz/target_collate.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::collate(data));
