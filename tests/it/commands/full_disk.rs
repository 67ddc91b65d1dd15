//! Standard output that cannot be written: an error if its disk is full, and silence if its reader closed it.

use std::{
    fs::OpenOptions,
    process::{Command, Stdio},
};

use super::KEYS;
use crate::common::PROGRAM;

fn run_with_stdout(args: &str, stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    command.args(args.split(' ')).env_clear().envs(KEYS).stdin(Stdio::null()).stdout(stdout);
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_full_disk_is_a_failure_and_a_closed_pipe_is_not() {
    for (args, code) in [
        ("--help", 0),
        ("help", 0),
        ("serve --help", 0),
        ("--version", 0),
        ("version", 0),
        ("man", 0),
        ("completions bash", 0),
        ("--metrics", 0),
        ("--config.check", 0),
        // The exchange does not answer.
        ("check --xt.base-url http://127.0.0.1:1", 1),
    ] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (full_code, text) = run_with_stdout(args, full);
        assert_eq!(full_code, Some(1), "{args}: {text}");
        assert!(text.contains("cannot write to standard output: No space left on device"), "{args}: {text}");

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (closed_code, text) = run_with_stdout(args, writer);
        assert_eq!(closed_code, Some(code), "{args}: {text}");
        assert!(!text.contains("standard output"), "{args}: {text}");
    }
}
