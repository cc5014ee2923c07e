//! `cargo +nightly fuzz run properties --features libfuzzer`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::properties(data));
