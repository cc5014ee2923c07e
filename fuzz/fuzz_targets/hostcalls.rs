//! `cargo +nightly fuzz run hostcalls --features libfuzzer`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate_fuzz::hostcalls(data));
