//! Lets the fuzzer be the client of the web server.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| xt_balance_exporter_fuzz::http::run(input));
