//! What the program prints about itself: help, version, metrics, completions and man page.

use std::{fs, os::unix::fs::symlink, process::Command};

use super::{assert_exit, run};
use crate::common::{
    Exporter, PROGRAM,
    golden::{Transcript, assert_golden},
};
use xt_balance_exporter::cli;

const COMMANDS: [&str; 9] =
    ["serve", "demo", "simulate", "once", "check", "healthcheck", "completions", "man", "version"];

#[test]
fn help_names_every_command_and_the_flags_of_the_default_one() {
    let mut transcript = Transcript::default();
    let whole = Exporter::run(&["--help"], &[]);
    assert_exit(&whole, 0, &COMMANDS);
    for heading in ["Options", "Exchange", "Balances", "Polling", "Web", "Logging"] {
        assert!(whole.stdout.contains(&format!("\n{heading}:\n")), "{heading}: {}", whole.stdout);
    }
    assert_eq!(whole.stderr, "");
    transcript.add_output("--help", &whole);
    for same in [&["-h"][..], &["help"], &["--poll.interval", "5s", "--help"]] {
        assert_eq!(Exporter::run(same, &[]).stdout, whole.stdout, "{same:?}");
    }
    for command in COMMANDS {
        let output = Exporter::run(&[command, "--help"], &[]);
        assert_exit(&output, 0, &[&format!("Usage: xt-balance-exporter {command}")]);
        assert_eq!(Exporter::run(&["help", command], &[]).stdout, output.stdout);
        transcript.add_output(&format!("{command} --help"), &output);
    }
    transcript.assert("help");
}

#[test]
fn help_fits_the_terminal_and_has_colours_only_there() {
    for columns in ["80", "200"] {
        let output = Exporter::run(&["--help"], &[("COLUMNS", columns)]);
        let width = output.stdout.lines().map(|line| line.chars().count()).max();
        assert!(width <= Some(columns.parse::<usize>().unwrap().min(100)), "{}", output.stdout);
        assert!(!output.stdout.contains('\u{1b}'), "{}", output.stdout);
    }
    // `script` gives it a terminal.
    let on_terminal = |environment: &str| {
        let command = format!("env -i TERM=xterm {environment} '{PROGRAM}' --help");
        let output = Command::new("script").args(["--quiet", "--command", &command, "/dev/null"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(on_terminal("").contains("\u{1b}[1m"), "{}", on_terminal(""));
    assert!(!on_terminal("NO_COLOR=1").contains("\u{1b}["));
}

#[test]
fn the_version_tells_which_build_this_is_in_the_form_of_prometheus() {
    let output = Exporter::run(&["--version"], &[]);
    let version = format!("xt-balance-exporter, version {} (", env!("CARGO_PKG_VERSION"));
    assert_exit(
        &output,
        0,
        &[&version, "revision: ", "\n  rustc version:    1.", "\n  platform:         linux/"],
    );
    for same in [&["-V"][..], &["version"], &["serve", "--version"], &["--log.level=debug", "-V"]] {
        assert_eq!(Exporter::run(same, &[]).stdout, output.stdout, "{same:?}");
    }
}

#[test]
fn the_list_of_metrics_is_printed() {
    let output = Exporter::run(&["--metrics"], &[]);
    assert_exit(&output, 0, &["xt_up (gauge)", "labels: account, wallet"]);
    assert_golden("metrics_list", &output.stdout);
    assert_eq!(Exporter::run(&["serve", "--metrics"], &[]).stdout, output.stdout);
}

/// The words that bash offers for `line`.
fn complete_in_bash(script: &str, line: &str) -> Vec<String> {
    let args = line.split(' ').map(|word| format!("'{word}'")).collect::<Vec<_>>();
    let script = format!(
        "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}\n\
         _xt__balance__exporter xt-balance-exporter '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        args.join(" "),
        args.len() - 1,
        line.rsplit(' ').next().unwrap(),
        line.rsplit(' ').nth(1).unwrap()
    );
    let output = Command::new("bash").args(["--norc", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn each_shell_accepts_its_completions_and_bash_offers_flags() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = Exporter::run(&["completions", shell], &[]);
        assert_exit(&output, 0, &["healthcheck", "web.listen-address"]);
        let file = folder.path().join(shell);
        fs::write(&file, &output.stdout).unwrap();
        let checked = Command::new(shell).arg("-n").arg(&file).output();
        let checked = checked.unwrap_or_else(|error| panic!("{shell}: {error}; see tests/install"));
        let errors = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && errors.is_empty(), "{shell}: {errors}");
    }
    let script = fs::read_to_string(folder.path().join("bash")).unwrap();
    let offered = complete_in_bash(&script, "xt-balance-exporter ch");
    assert_eq!(offered, ["check"]);
    for line in ["xt-balance-exporter --poll.i", "xt-balance-exporter serve --poll.i"] {
        assert_eq!(complete_in_bash(&script, line), ["--poll.interval"], "{line}");
    }
    let levels = complete_in_bash(&script, "xt-balance-exporter check --log.format ");
    assert_eq!(levels, ["logfmt", "json"]);
    let wallets = complete_in_bash(&script, "xt-balance-exporter once --xt.wallet futures");
    assert_eq!(wallets, ["futures_usdt", "futures_coin"]);
    // bash splits the last word at the equals sign.
    let levels = complete_in_bash(&script, "xt-balance-exporter serve --log.level = d");
    assert_eq!(levels, ["debug"]);
    assert_exit(&Exporter::run(&["completions", "tcsh"], &[]), 2, &["bash, zsh, fish"]);
}

#[test]
fn errors_call_the_program_by_its_name_whatever_its_file_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("renamed");
    symlink(PROGRAM, &link).unwrap();
    for args in [&["--bogus"][..], &["completions"], &["healthcheck", "--tls.cert-file", "x"], &["help"]] {
        let output = Exporter::start_by(Command::new(&link), args, &[]).wait();
        let text = format!("{}{}", output.stdout, output.stderr);
        assert!(
            text.contains("Usage: xt-balance-exporter ") && !text.contains("renamed"),
            "{args:?}: {text}"
        );
    }
}

#[test]
fn the_man_page_has_every_flag_and_no_mistake() {
    let output = run("man");
    assert_exit(&output, 0, &[]);
    let page = output.stdout;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("xt-balance-exporter.1");
    fs::write(&file, &page).unwrap();
    let check = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).arg(&file).env("MANWIDTH", "100").output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see tests/install"));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned(), errors)
    };
    let (is_valid, text, warnings) = check("man", &["--warnings", "--encoding=UTF-8", "--local-file"]);
    assert!(is_valid && warnings.is_empty(), "{warnings}");
    let (_, findings, _) = check("mandoc", &["-T", "lint", "-W", "warning"]);
    let findings: Vec<_> = findings.lines().filter(|finding| !finding.contains("missing date")).collect();
    assert!(findings.is_empty(), "{findings:?}");
    // groff hyphenates at the end of lines.
    let text: String = text.replace('\u{2010}', "-").split_whitespace().collect::<Vec<_>>().join("");
    for flag in cli::definition().get_subcommands().flat_map(clap::Command::get_arguments) {
        let long = format!("--{}", flag.get_long().unwrap_or_default());
        assert!(text.contains(&long), "{long}: {text}");
    }
    assert!(text.contains("XT_POLL_INTERVAL") && text.contains("EXITSTATUS"), "{text}");
}
