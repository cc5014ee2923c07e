//! `cargo +nightly fuzz run modules --features libfuzzer`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::modules(data));
