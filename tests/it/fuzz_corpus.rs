//! Every input that ever told the fuzzer something new is tried again here, in the same way.

use std::{fs, panic::catch_unwind, path::Path};

#[path = "../fuzz/src/lib.rs"]
pub mod fuzz;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let files = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
    let mut paths: Vec<_> = files.flatten().map(|file| file.path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", corpus.display());
    paths.retain(|path| {
        let input = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        catch_unwind(|| run(&input)).is_err()
    });
    assert!(paths.is_empty(), "promises are broken by {paths:#?}");
}

#[test]
fn the_decoder_accepts_every_input_of_the_corpus() {
    replay("decoder", fuzz::decoder::run);
}

#[test]
fn the_configuration_parser_accepts_every_input_of_the_corpus() {
    replay("config", fuzz::config::run);
}

#[test]
fn the_web_server_accepts_every_input_of_the_corpus() {
    replay("http", fuzz::http::run);
}
