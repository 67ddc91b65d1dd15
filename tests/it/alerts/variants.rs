//! The copies of the rules that `make rules` writes: what changes, and that nothing else does.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use xt_balance_exporter::exposition::metrics::FAMILIES;

use super::{ALERTMANAGER, RUNBOOKS_URL, TESTS, run};
use crate::common::promql::{MORE_RULES, RULES};

const SCRIPT: &str = "deploy/prometheus/write_rules.py";

/// Writes a variant, and returns its files by name.
fn write(options: &[&str]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    write_to(folder.path(), options);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
        .collect()
}

pub fn write_to(folder: &Path, options: &[&str]) {
    let output = folder.display().to_string();
    run("python3", &[&[SCRIPT, "--output", &output], options].concat());
}

/// Runs the shipped tests on a variant with this job.
fn check_with_tests(options: &[&str], job: &str) {
    let folder = tempfile::tempdir().unwrap();
    write_to(folder.path(), options);
    let path =
        |shipped: &str| folder.path().join(Path::new(shipped).file_name().unwrap()).display().to_string();
    run("promtool", &["check", "rules", "--lint=all", "--lint-fatal", &path(RULES), &path(MORE_RULES)]);
    for tests in TESTS {
        let text = fs::read_to_string(tests).unwrap();
        let text = ["job=\"", "job: ", "Job ", "var-job="].into_iter().fold(text, |text, before| {
            text.replace(&format!("{before}xt-balance-exporter"), &format!("{before}{job}"))
        });
        fs::write(path(tests), text).unwrap();
        run("promtool", &["test", "rules", &path(tests)]);
    }
}

#[test]
fn without_options_the_rules_are_the_shipped_ones() {
    let files = write(&[]);
    for path in [RULES, MORE_RULES] {
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        assert!(files[name] == fs::read_to_string(path).unwrap(), "{name} differs");
    }
    assert_eq!(files.len(), 2);
}

#[test]
fn every_given_name_replaces_the_shipped_one_everywhere() {
    let files = write(&[
        "--runbooks=https://wiki.example.com/xt",
        "--dashboards=https://grafana.example.com",
        "--job=desk",
        "--severity=critical=page",
        "--severity=info=note",
    ]);
    for (name, text) in &files {
        for gone in [
            RUNBOOKS_URL,
            "job=\"xt-balance-exporter",
            "\"critical\"",
            "severity: critical",
            "severity: info",
        ] {
            assert!(!text.contains(gone), "{name} still has {gone}");
        }
    }
    let shipped = fs::read_to_string(RULES).unwrap();
    let rules = &files["xt-balance.rules.yml"];
    for (new, old) in [
        ("runbook_url: https://wiki.example.com/xt/Xt", format!("runbook_url: {RUNBOOKS_URL}/Xt")),
        ("dashboard_url: https://grafana.example.com/d/xt-", "dashboard_url: /d/xt-".to_owned()),
        ("job=\"desk\"", "job=\"xt-balance-exporter\"".to_owned()),
        ("severity: page\n", "severity: critical\n".to_owned()),
        ("severity: warning\n", "severity: warning\n".to_owned()),
    ] {
        assert_eq!(rules.matches(new).count(), shipped.matches(&old).count(), "{new}");
        assert!(rules.contains(new), "{new}");
    }
    assert_eq!(rules.lines().count(), shipped.lines().count());
    let folder = tempfile::tempdir().unwrap();
    let routes = folder.path().join("alertmanager.yml");
    fs::write(&routes, &files["alertmanager.yml"]).unwrap();
    let file = format!("--config.file={}", routes.display());
    for (severity, receiver) in [("page", "page"), ("warning", "ticket"), ("note", "note")] {
        let receiver = format!("--verify.receivers={receiver}");
        run("amtool", &["config", "routes", "test", &file, &receiver, &format!("severity={severity}")]);
    }
    let shipped = fs::read_to_string(ALERTMANAGER).unwrap();
    assert_eq!(
        files["alertmanager.yml"].matches("\"page\"").count(),
        shipped.matches("\"critical\"").count()
    );
}

#[test]
fn the_tests_of_the_rules_hold_with_another_job_and_with_teams_that_no_account_has() {
    check_with_tests(&["--job=desk"], "desk");
    check_with_tests(&["--team-label=team"], "xt-balance-exporter");
}

#[test]
fn an_alert_has_the_team_of_its_account_and_fires_without_one() {
    let folder = tempfile::tempdir().unwrap();
    write_to(folder.path(), &["--team-label=team"]);
    let tests = folder.path().join("teams.test.yml");
    fs::copy("tests/it/alerts/teams.test.yml", &tests).unwrap();
    run("promtool", &["test", "rules", &tests.display().to_string()]);
}

/// The test of the drill runs them. The shipped ones have a key that vmalert of `VictoriaMetrics` 1.79 does not know.
#[test]
fn vmalert_loads_its_flavour_of_the_rules_and_not_the_shipped_ones() {
    let folder = tempfile::tempdir().unwrap();
    for options in [&["--flavour=vmalert"][..], &["--flavour=vmalert", "--team-label=team"]] {
        write_to(folder.path(), options);
        run("vmalert", &["-dryRun", &format!("-rule={}/*.rules.yml", folder.path().display())]);
        for name in ["xt-balance.rules.yml", "xt-withdrawals.rules.yml"] {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert!(!text.contains("keep_firing_for"), "{name}");
        }
    }
    let shipped =
        Command::new("vmalert").args(["-dryRun", "-rule=deploy/prometheus/xt-*.rules.yml"]).output();
    let error = String::from_utf8_lossy(&shipped.unwrap().stderr).into_owned();
    assert!(error.contains("unknown fields in rule: keep_firing_for"), "{error}");
}

#[test]
fn a_wrong_option_is_refused_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("rules");
    for option in [
        "--runbooks=wiki.example.com",
        "--runbooks=https://wiki.example.com/",
        "--dashboards=https://a b",
        "--job=a\"b",
        "--team-label=my-team",
        "--severity=page=critical",
        "--team-label=account",
        "--team-label=alertname",
        "--team-label=severity",
        "--team-label=__name__",
        "--team-label=exported_team",
        "--severity=critical=-",
        "--severity=critical=warning",
        "--flavour=thanos",
        "--output=deploy/prometheus",
    ] {
        let mut command = Command::new("python3");
        let output = command.args([SCRIPT, "--output", output.to_str().unwrap(), option]).output().unwrap();
        assert!(!output.status.success(), "{option}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!error.contains("Traceback"), "{option}: {error}");
    }
    assert!(!output.exists());
}

#[test]
fn the_labels_of_the_exporter_are_no_labels_of_teams() {
    for label in FAMILIES.iter().flat_map(|family| family.labels) {
        let output =
            Command::new("python3").args([SCRIPT, "--output=/", "--team-label", label]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(&format!("--team-label {label} is a label of Prometheus")), "{error}");
    }
}

#[test]
fn a_severity_that_yaml_would_read_as_something_else_is_quoted() {
    for severity in ["1", "yes", "Null", "0x1F"] {
        let files = write(&[&format!("--severity=critical={severity}")]);
        let quoted = format!("severity: \"{severity}\"\n");
        assert!(files["xt-balance.rules.yml"].contains(&quoted), "{severity}");
    }
}

#[test]
fn make_rules_passes_each_variable() {
    let folder = tempfile::tempdir().unwrap();
    let (made, direct) = (folder.path().join("made"), folder.path().join("direct"));
    run(
        "make",
        &[
            "rules",
            &format!("OUTPUT={}", made.display()),
            "RUNBOOKS=https://wiki.example.com/xt",
            "DASHBOARDS=https://grafana.example.com",
            "JOB=desk",
            "TEAMS=team",
            "SEVERITIES=critical=page info=note",
            "FLAVOUR=vmalert",
        ],
    );
    let options = "--runbooks=https://wiki.example.com/xt --dashboards=https://grafana.example.com --job=desk \
                   --team-label=team --severity=critical=page --severity=info=note --flavour=vmalert";
    write_to(&direct, &options.split_whitespace().collect::<Vec<_>>());
    run("diff", &["-r", &made.display().to_string(), &direct.display().to_string()]);
    let rules = fs::read_to_string(made.join("xt-balance.rules.yml")).unwrap();
    assert!(!rules.contains("keep_firing_for") && rules.contains("group_left (team)"));
}
