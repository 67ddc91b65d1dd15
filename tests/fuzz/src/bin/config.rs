//! Lets the fuzzer write the configuration file.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xt_balance_exporter_fuzz::config::run(input));
