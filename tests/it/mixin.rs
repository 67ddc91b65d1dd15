//! The mixin in deploy/mixin: without settings it yields the shipped rules and dashboards, and with settings the rules that
//! `make rules` writes. Needs Debian's jsonnet, and Python.

use std::{fs, path::Path, process::Command};

use serde_json::{Map, Value, json};

use crate::{alerts::variants, common::promql};

/// The rules as JSON, which the mixin imports.
const RULES_JSON: &str = "deploy/mixin/rules.json";

/// Evaluates `field` of the mixin with these settings.
fn evaluate(field: &str, settings: &str) -> Value {
    let program = format!("((import 'deploy/mixin/mixin.libsonnet') + {{ _config+:: {settings} }}).{field}");
    let output = Command::new("jsonnet").args(["--exec", &program]).output();
    let output = output.unwrap_or_else(|error| panic!("jsonnet: {error}; see tests/install"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The groups of these files of rules in `folder`.
fn groups(folder: &Path, paths: &[&str]) -> Vec<Value> {
    let names = paths.iter().map(|path| Path::new(path).file_name().unwrap());
    let files = names.map(|name| read_yaml(&folder.join(name)));
    files.flat_map(|file| file["groups"].as_array().cloned().unwrap()).collect()
}

fn read_yaml(path: &Path) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The same JSON with all numbers as texts of twelve digits: jsonnet writes 1 for 1.0, and serde rounds.
fn with_texts(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().map(|number| format!("{number:.12e}"))),
        Value::Array(items) => items.iter().map(with_texts).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), with_texts(value))).collect(),
        other => other.clone(),
    }
}

/// Writes the file instead if `INSTA_UPDATE` is `always`.
#[test]
fn the_rules_of_the_mixin_are_the_shipped_rules_as_json() {
    let files: Map<_, _> = [promql::RULES, promql::MORE_RULES]
        .into_iter()
        .map(|path| {
            let name = Path::new(path).file_name().unwrap().to_str().unwrap();
            (name.strip_suffix(".rules.yml").unwrap().to_owned(), read_yaml(Path::new(path)))
        })
        .collect();
    let text = serde_json::to_string_pretty(&Value::Object(files)).unwrap() + "\n";
    if fs::read_to_string(RULES_JSON).unwrap() == text {
        return;
    }
    assert!(
        std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always"),
        "{RULES_JSON} differs from the rules: run this test with INSTA_UPDATE=always"
    );
    fs::write(RULES_JSON, text).unwrap();
}

#[test]
fn without_settings_it_yields_what_is_shipped() {
    let rules = evaluate("prometheusAlerts", "{}");
    let shipped = |paths| json!({"groups": groups(Path::new("deploy/prometheus"), paths)});
    assert!(rules == shipped(&[promql::RULES]), "the rules differ");
    let rules = evaluate("prometheusAlerts", "{ withdrawals: true }");
    assert!(rules == shipped(&[promql::RULES, promql::MORE_RULES]), "the rules with withdrawals differ");
    assert_eq!(evaluate("prometheusRules", "{}"), json!({"groups": []}));

    let dashboards = evaluate("grafanaDashboards", "{}");
    let mut shipped = 0;
    for entry in fs::read_dir("grafana").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_equal = with_texts(&dashboards[name]) == with_texts(&read_json(&path));
            assert!(is_equal, "{name} differs, or is missing in mixin.libsonnet");
            shipped += 1;
        }
    }
    assert_eq!(dashboards.as_object().map(Map::len), Some(shipped));
}

#[test]
fn with_settings_it_yields_the_rules_that_make_rules_writes() {
    for (settings, options) in [
        ("{ job: 'desk' }", &["--job=desk"][..]),
        ("{ teamLabel: 'team' }", &["--team-label=team"]),
        ("{ keepFiringFor: false }", &["--flavour=vmalert"]),
        (
            "{ runbooks: 'https://wiki.example.com/xt', dashboards: 'https://grafana.example.com', severities+: { critical: 'page' } }",
            &[
                "--runbooks=https://wiki.example.com/xt",
                "--dashboards=https://grafana.example.com",
                "--severity=critical=page",
            ],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        variants::write_to(folder.path(), options);
        let expected = json!({"groups": groups(folder.path(), &[promql::RULES, promql::MORE_RULES])});
        let with_withdrawals =
            |settings| evaluate("prometheusAlerts", &format!("{settings} + {{ withdrawals: true }}"));
        assert!(with_withdrawals(settings) == expected, "{settings}");
        assert!(with_withdrawals("{}") != expected, "{settings} changes nothing");
    }
}

#[test]
fn settings_of_the_dashboards_reach_every_dashboard_and_its_links() {
    let settings = "{ dashboardTags: ['desk'], dashboardRefresh: '1m', dashboardTimezone: 'utc' }";
    let dashboards = evaluate("grafanaDashboards", settings);
    for (name, dashboard) in dashboards.as_object().unwrap() {
        assert_eq!(dashboard["tags"], json!(["desk"]), "{name}");
        assert_eq!((&dashboard["refresh"], &dashboard["timezone"]), (&json!("1m"), &json!("utc")), "{name}");
        let links = dashboard["links"].as_array().unwrap();
        assert!(!links.is_empty() && links.iter().all(|link| link["tags"] == json!(["desk"])), "{name}");
    }
}

/// README's program, with the repository as the folder `xt-balance-exporter` of a vendor folder.
#[test]
fn the_program_in_its_readme_writes_rules_that_prometheus_accepts() {
    let readme = fs::read_to_string("deploy/mixin/README.md").unwrap();
    let block = |language: &str| {
        let rest = readme.split_once(&format!("\n```{language}\n")).unwrap().1;
        rest.split_once("\n```").unwrap().0.to_owned()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("vendor")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), path("vendor/xt-balance-exporter")).unwrap();
    fs::create_dir(path("out")).unwrap();
    fs::write(path("xt.jsonnet"), block("jsonnet")).unwrap();
    let output = Command::new("sh").args(["-c", &block("sh")]).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rules = path("out/xt-balance.rules.json").display().to_string();
    let check = Command::new("promtool").args(["check", "rules", &rules]).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let [written, shipped] = [path("out/xt-balances.json"), "grafana/xt-balances.json".into()];
    assert!(with_texts(&read_json(&written)) == with_texts(&read_json(&shipped)));
}
