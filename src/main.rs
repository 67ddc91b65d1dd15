//! The process edge: parse, log, run, exit code.

fn main() {}
