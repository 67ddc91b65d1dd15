//! Lets the fuzzer answer in the exchange's place.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xt_balance_exporter_fuzz::decoder::run(input));
