//! README.md against the program: the metrics it lists, the flags it prints and the excerpt it
//! shows are those there are.

use std::fmt::Write as _;

use crate::common::{Exporter, text_format};
use xt_balance_exporter::{
    cli,
    exchange::{Reason, Wallet},
    exposition::metrics::{FAMILIES, MetricFamily, SUBJECTS},
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

const METRICS_HEADER: &str = "| name | type | labels | meaning |\n|---|---|---|---|\n";

/// A section of README with the table of these metrics.
fn metrics_section(heading: &str, families: &[MetricFamily]) -> String {
    let mut table = format!("### {heading}\n\n{METRICS_HEADER}");
    for family in families.iter().filter(|family| !family.name.starts_with("process_")) {
        let (kind, labels) = (family.kind.type_name(), family.labels.join(", "));
        let _ = writeln!(table, "| `{}` | {kind} | {labels} | {} |", family.name, family.meaning());
    }
    if families.iter().any(|family| family.name.starts_with("process_")) {
        table += "| `process_*` | | | CPU, memory, file descriptors, threads, start time |\n";
    }
    table.trim_end().to_owned()
}

#[test]
fn the_tables_of_metrics_are_made_from_the_list_of_metrics() {
    for (heading, families) in SUBJECTS {
        let begin = format!("\n### {heading}\n\n| name | type |");
        update_readme(&metrics_section(heading, families), &begin, "|\n\n");
    }
    let section = section("## Metrics");
    for word in Reason::ALL.map(Reason::label).into_iter().chain(Wallet::ALL.map(Wallet::label)) {
        assert!(section.contains(&format!("`{word}`")), "\"## Metrics\" in README.md must name `{word}`");
    }
}

/// Asserts that README.md has `text` between the line break before `begin` and the one before `end`. Writes it there instead
/// if `INSTA_UPDATE` is `always`.
fn update_readme(text: &str, begin: &str, end: &str) {
    let readme = readme();
    let (before, rest) = readme.split_once(begin).unwrap_or_else(|| panic!("README.md has no {begin:?}"));
    let found = format!("{begin}{rest}");
    let found = &found[1..found.find(end).map_or(found.len(), |place| place + 1)];
    if found == text {
        return;
    }
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        let rest = &readme[before.len() + 1 + found.len()..];
        let updated = format!("{before}\n{text}{rest}");
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"), updated).unwrap();
    } else {
        panic!("README.md is out of date: run this test with INSTA_UPDATE=always, which writes\n{text}");
    }
}

#[test]
fn the_flags_are_what_help_prints() {
    let output = Exporter::run(&["serve", "--help"], &[("COLUMNS", "100")]);
    let help: String = output.stdout.lines().flat_map(|line| [line.trim_end(), "\n"]).collect();
    update_readme(&help, "\nPoll the accounts and serve", "\n```");
}

#[test]
fn the_table_of_commands_lists_exactly_the_commands() {
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
    assert_eq!(rows.len(), commands.len(), "README.md lists an unknown command:\n{}", rows.join("\n"));
}

/// Each alert of the shipped rules with its severities, in the order of the files.
fn shipped_alerts() -> Vec<(String, Vec<String>)> {
    let mut alerts: Vec<(String, Vec<String>)> = Vec::new();
    for file in ["xt-balance.rules.yml", "xt-withdrawals.rules.yml"] {
        let path = format!("{}/deploy/prometheus/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let rules: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let groups = rules["groups"].as_array().unwrap();
        for rule in groups.iter().flat_map(|group| group["rules"].as_array().unwrap()) {
            let Some(name) = rule["alert"].as_str() else { continue };
            let severity = rule["labels"]["severity"].as_str().unwrap().to_owned();
            match alerts.iter_mut().find(|(known, _)| known == name) {
                Some((_, severities)) => severities.push(severity),
                None => alerts.push((name.to_owned(), vec![severity])),
            }
        }
    }
    alerts
}

#[test]
fn the_table_of_alerts_lists_each_alert_with_its_severities() {
    let section = section("## Alerts");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| [`Xt")).collect();
    let expected: Vec<_> = shipped_alerts()
        .iter()
        .map(|(name, severities)| {
            format!("| [`{name}`](deploy/runbooks/{name}.md) | {} | ", severities.join(", "))
        })
        .collect();
    for begin in &expected {
        assert!(
            rows.iter().any(|row| row.starts_with(begin)),
            "the table under \"## Alerts\" in README.md needs a row that begins with {begin}"
        );
    }
    assert_eq!(rows.len(), expected.len(), "README.md lists an unknown alert:\n{}", rows.join("\n"));
}

#[test]
fn every_mentioned_flag_exists() {
    let definition = cli::definition();
    let flags: Vec<_> = definition
        .get_subcommands()
        .flat_map(clap::Command::get_arguments)
        .filter_map(clap::Arg::get_long)
        .collect();
    // Commands of other programs have flags of their own.
    let is_ours = |line: &&str| !line.starts_with("prometheus ") && !line.starts_with("alertmanager ");
    let readme: String = readme().lines().filter(is_ours).flat_map(|line| [line, "\n"]).collect();
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
            let header = format!("# HELP {name} {}\n# TYPE {name} {}\n", known.help, known.kind.type_name());
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
    let cases = std::fs::read_to_string(root.join("deploy/prometheus/xt-balance.rules.test.yml")).unwrap();
    let quoted = page.split('"').skip(1).step_by(2);
    let quoted: Vec<_> = quoted.filter(|text| text.starts_with(char::is_uppercase)).collect();
    assert!(!quoted.is_empty());
    for name in quoted {
        assert!(
            cases.contains(&format!("- name: {name}\n")),
            "the tests of the rules have no case \"{name}\""
        );
    }
}

#[test]
fn the_contents_list_every_section_in_its_order() {
    let readme = readme();
    let headings = readme.lines().filter_map(|line| line.strip_prefix("## "));
    let sections: Vec<_> = headings.filter(|heading| *heading != "Contents").map(str::to_owned).collect();
    let contents = section("## Contents");
    let links = contents.split('[').skip(1).filter_map(|rest| rest.split_once("](#"));
    let listed: Vec<_> = links.map(|(name, _)| name.to_owned()).collect();
    assert_eq!(listed, sections, "\"## Contents\" in README.md must list the sections in their order");
}

/// The text of every file below `folder`.
fn texts(folder: &std::path::Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { texts(&path) } else { std::fs::read_to_string(&path).unwrap() })
        .collect()
}

#[test]
fn runbooks_quote_log_messages_that_the_program_writes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let (runbooks, code) = (texts(&root.join("deploy/runbooks")), texts(&root.join("src")));
    let is_sentence = |text: &&str| {
        text.split(' ').count() > 2 && text.chars().all(|c| c.is_ascii_alphabetic() || " :".contains(c))
    };
    // Code blocks have backticks of their own.
    let spans = runbooks.split("```").step_by(2).flat_map(|text| text.split('`').skip(1).step_by(2));
    let messages: Vec<_> = spans.filter(is_sentence).collect();
    assert!(messages.len() > 5, "{messages:?}");
    for message in messages {
        assert!(code.contains(message), "a runbook quotes `{message}`, and nothing in src/ says that");
    }
}

#[test]
fn the_log_lines_of_readme_are_lines_of_the_daemon() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/log_outage.snap");
    let golden = std::fs::read_to_string(golden).unwrap_or_else(|error| panic!("{golden}: {error}"));
    let golden = golden.replace("http://127.0.0.1:PORT", "https://sapi.xt.com");
    let blocks = fenced(&section("## Logs"));
    let lines: Vec<_> = blocks.iter().flat_map(|block| block.lines()).collect();
    assert!(lines.len() >= 2, "{lines:?}");
    for line in lines {
        let line: Vec<_> = line
            .split(' ')
            .map(|field| match field.split_once('=') {
                Some((key, _)) if key.ends_with("_seconds") => format!("{key}=N"),
                Some((key @ ("ts" | "held_until" | "next_try"), _)) => format!("{key}=TIME"),
                _ => field.to_owned(),
            })
            .collect();
        let line = line.join(" ");
        assert!(
            golden.contains(&format!("\n{line}\n")),
            "README.md shows a line that the daemon does not write:\n{line}"
        );
    }
}

/// The files of this repository, as paths from its root.
pub fn tracked() -> Vec<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let listed = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let listed = listed.unwrap_or_else(|error| panic!("git ls-files: {error}"));
    assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.split_terminator('\0').map(str::to_owned).collect()
}

/// The anchor that a heading of Markdown has.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in
        tracked().iter().map(|path| root.join(path)).filter(|path| path.extension() == Some("md".as_ref()))
    {
        let text = std::fs::read_to_string(&page).unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}: no such file", page.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let is_there = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
                assert!(is_there, "{}: {link}: no such heading", page.display());
            }
        }
    }
}

#[test]
fn every_source_file_that_a_text_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    // How docs/HOW-BALANCES-LIE.md explains its citations.
    let placeholders = ["src/file.rs", "tests/it/file.rs"];
    // Other projects have files of their own.
    for path in tracked().into_iter().filter(|path| path != "THIRD-PARTY-NOTICES") {
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else { continue };
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_/.-".contains(c))) {
            let is_source = ["src/", "tests/it/"].iter().any(|folder| word.starts_with(folder))
                && std::path::Path::new(word).extension() == Some("rs".as_ref());
            if is_source && !placeholders.contains(&word) {
                assert!(root.join(word).exists(), "{path} names {word}, and there is no such file");
            }
        }
    }
}

/// Words and phrases that no text uses, because a reader stumbles over them. `…` stands for one word.
const UNUSED_WORDS: [&str; 14] = [
    "whoever",
    "shall",
    "anew",
    "strung",
    "thereof",
    "leave to",
    "sign of life",
    "at the most",
    "is none",
    "are none",
    "no … is known",
    "as it was written",
    "taken apart",
    "goes on as before",
];

/// Paths that may use these words: a folder ends in `/`. Each with the reason.
const EXEMPT: &[(&str, &str)] = &[
    (file!(), "holds the list"),
    ("LICENSE", "text of its authors"),
    ("THIRD-PARTY-NOTICES", "texts of their authors"),
    ("tests/fuzz/corpus/", "inputs of the fuzzer, not prose"),
    ("tests/fuzz/keys/", "key files that the fuzzer reads, not prose"),
];

/// The place of a phrase in lower-case `text`, between words.
fn find_phrase(text: &str, phrase: &str) -> Option<usize> {
    let is_letter = |c: char| c.is_alphabetic();
    let (head, tail) = phrase.split_once(" … ").map_or((phrase, None), |(head, tail)| (head, Some(tail)));
    text.match_indices(head).map(|(start, _)| start).find(|start| {
        let after = &text[start + head.len()..];
        let rest = match tail {
            None => Some(after),
            Some(tail) => after
                .strip_prefix(' ')
                .and_then(|after| after.split_once(' '))
                .and_then(|(_, after)| after.strip_prefix(tail)),
        };
        !text[..*start].ends_with(is_letter) && rest.is_some_and(|rest| !rest.starts_with(is_letter))
    })
}

/// A line in lower case, without indentation and comment marks. Python's `None` is not the word `none`.
fn prose(line: &str) -> String {
    let line = line.trim().trim_start_matches(['/', '!', '#', '*', '>']).trim_start();
    line.replace("None", "(none)").to_lowercase()
}

#[test]
fn no_text_uses_a_forbidden_word() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_exempt = |path: &str| {
        EXEMPT
            .iter()
            .any(|(exempt, _)| path == *exempt || (exempt.ends_with('/') && path.starts_with(exempt)))
    };
    let mut found = Vec::new();
    for path in tracked().iter().filter(|path| !is_exempt(path)) {
        // Pictures are no text, and a file that was removed is not committed yet.
        let Some(text) = std::fs::read(root.join(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok())
        else {
            continue;
        };
        let lines: Vec<_> = text.lines().map(prose).collect();
        for (place, line) in lines.iter().enumerate() {
            // A phrase may continue on the next line.
            let next = lines.get(place + 1).map_or("", String::as_str);
            let text = format!("{line} {next}");
            for word in UNUSED_WORDS {
                if find_phrase(&text, word).is_some_and(|start| start < line.len()) {
                    found.push(format!("{path}:{}: {word}", place + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "use a plainer word:\n{}", found.join("\n"));
}

#[test]
fn a_phrase_is_found_between_words_only() {
    for (text, phrase, place) in [
        ("whoever reads", "whoever", Some(0)),
        ("a_test_that_shall_pass", "shall", Some(12)),
        ("shallow", "shall", None),
        ("so no wallet is known yet", "no … is known", Some(3)),
        ("no wallet here is known", "no … is known", None),
        ("this nonexistent", "is none", None),
    ] {
        assert_eq!(find_phrase(text, phrase), place, "{phrase:?} in {text:?}");
    }
}
