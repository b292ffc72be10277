//! The target `sampler`: what it does stands in `tests/rust/fuzz/target_sampler.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::sampler(data));
