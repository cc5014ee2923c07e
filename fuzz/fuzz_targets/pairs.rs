//! `cargo +nightly fuzz run pairs --features libfuzzer`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::pairs(data));
