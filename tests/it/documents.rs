//! README.md against the program: the metrics it lists, the flags it prints and the excerpt it
//! shows are those there are.

use crate::common::{Exporter, text_format};
use xt_balance_exporter::{
    cli,
    exchange::{Reason, Wallet},
    exposition::families::FAMILIES,
};

fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The section under `heading`, up to the next one of its rank.
fn section(heading: &str) -> String {
    let readme = readme();
    let after = readme.split_once(&format!("\n{heading}\n"));
    let (_, after) = after.unwrap_or_else(|| panic!("README.md has no section \"{heading}\""));
    after.split("\n## ").next().unwrap().to_owned()
}

/// What stands between ```` ```text ```` and the closing fence, of every such block in `text`.
fn fenced(text: &str) -> Vec<String> {
    let blocks = text.split("\n```text\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned() + "\n").collect()
}

/// A row of the table of metrics: name, type, labels.
fn row(name: &str, kind: &str, labels: &str) -> String {
    format!("| `{name}` | {kind} | {labels} |")
}

#[test]
fn the_table_of_metrics_lists_every_family_there_is_and_no_other() {
    let section = section("## Metrics");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let mut expected = Vec::new();
    for family in FAMILIES.iter().filter(|family| !family.name.starts_with("process_")) {
        let wanted = row(family.name, family.kind.word(), &family.labels.join(", "));
        let found = rows.iter().find(|row| row.starts_with(&wanted));
        let found = found.unwrap_or_else(|| {
            panic!("the table under \"## Metrics\" in README.md needs this row:\n{wanted} {} |", family.help)
        });
        let meaning = found.strip_prefix(&wanted).unwrap().trim_matches(['|', ' ']);
        assert!(!meaning.is_empty(), "README.md must say what {} means:\n{found}", family.name);
        expected.push(*found);
    }
    let (own, others): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|row| row.starts_with("| `process_*` |"));
    assert_eq!(own.len(), 1, "the table under \"## Metrics\" in README.md needs one row for `process_*`");
    assert_eq!(
        others, expected,
        "the table under \"## Metrics\" in README.md must hold the rows on the right, in this order, and no other"
    );
    for word in Reason::ALL.map(Reason::label).into_iter().chain(Wallet::ALL.map(Wallet::label)) {
        assert!(section.contains(&format!("`{word}`")), "\"## Metrics\" in README.md must name `{word}`");
    }
}

#[test]
fn the_flags_are_what_help_prints() {
    let output = Exporter::run(&["serve", "--help"], &[("COLUMNS", "100")]);
    let help: String = output.stdout.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    let shown = fenced(&section("## Flags"));
    assert!(
        shown.contains(&help),
        "the ```text block under \"## Flags\" in README.md must be what `serve --help` prints. Paste this:\n{help}"
    );
}

#[test]
fn the_commands_in_the_table_are_those_there_are() {
    let section = section("## Commands");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let definition = cli::definition();
    let commands: Vec<_> = definition.get_subcommands().map(clap::Command::get_name).collect();
    for command in &commands {
        let cell = if *command == "serve" { "[serve]" } else { command };
        let wanted = format!("| `xt-balance-exporter {cell}` | ");
        assert!(
            rows.iter().any(|row| row.starts_with(&wanted)),
            "the table under \"## Commands\" in README.md needs a row that begins with {wanted}"
        );
    }
    assert_eq!(rows.len(), commands.len(), "README.md lists a command that is none:\n{}", rows.join("\n"));
}

#[test]
fn every_flag_that_is_mentioned_is_one() {
    let definition = cli::definition();
    let flags: Vec<_> = definition
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(clap::Arg::get_long)
        .collect();
    let readme = readme();
    let mentioned = readme.split("--").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || ".-".contains(c))).unwrap_or(rest.len());
        rest.split_at(end).0.trim_end_matches('.')
    });
    // Only this program's flags have a point in them; cargo's and others' have none.
    let mut ours = mentioned.filter(|flag| flag.contains('.')).peekable();
    assert!(ours.peek().is_some());
    for flag in ours {
        assert!(flags.contains(&flag), "README.md speaks of --{flag}, and no command has such a flag");
    }
}

#[test]
fn the_excerpt_is_what_a_scrape_gets_in_part() {
    let blocks = fenced(&readme());
    let excerpts: Vec<_> = blocks.iter().filter(|block| block.starts_with("# HELP ")).collect();
    assert!(
        !excerpts.is_empty(),
        "README.md must show a ```text block of a scrape, from `# HELP xt_balance_free` on"
    );
    for excerpt in excerpts {
        let families =
            text_format::read(excerpt).unwrap_or_else(|why| panic!("README.md shows no exposition: {why}"));
        for (name, family) in families {
            let known = FAMILIES.iter().find(|known| known.name == name);
            let known =
                known.unwrap_or_else(|| panic!("README.md shows {name}, and no such family is exported"));
            let header = format!("# HELP {name} {}\n# TYPE {name} {}\n", known.help, known.kind.word());
            assert!(excerpt.contains(&header), "README.md must show {name} under these lines:\n{header}");
            for sample in &family.samples {
                let labels: Vec<_> = sample.labels.keys().filter(|label| *label != "le").collect();
                assert_eq!(labels, known.labels, "the labels of {name} in the excerpt in README.md");
            }
        }
    }
}

#[test]
fn every_test_and_type_that_a_page_cites_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/HOW-BALANCES-LIE.md")).unwrap();
    let spans = page.split('`').skip(1).step_by(2);
    let cited: Vec<_> = spans.filter_map(|span| span.split_once(".rs: ")).collect();
    assert!(cited.len() > 100, "{cited:?}");
    for (file, name) in cited.into_iter().filter(|(file, _)| *file != "tests/it/file" && *file != "src/file")
    {
        let code = std::fs::read_to_string(root.join(format!("{file}.rs")));
        let code = code.unwrap_or_else(|error| panic!("{file}.rs: {error}"));
        let is_there = ["fn", "struct", "enum", "static"].iter().any(|kind| {
            code.contains(&format!("{kind} {name}("))
                || code.contains(&format!("{kind} {name} "))
                || code.contains(&format!("{kind} {name}:"))
                || code.contains(&format!("{kind} {name}<"))
        });
        assert!(is_there, "{file}.rs has no {name}");
    }
}
