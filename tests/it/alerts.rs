//! The alerts as they are delivered: rules, their tests, Alertmanager's routes and mutes, and the
//! runbooks. What the rules and runbooks name must be what the exporter exports.
//! `versions` holds the versions that deploy/README.md names, and `variants` tests the copies that `make rules` writes.
//! Needs promtool, amtool, prometheus-alertmanager and Python.

pub mod variants;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::common::{
    Lines, WAIT_TIMEOUT, answer, get,
    promql::{MORE_RULES, RULES, hold, read, rules, vocabulary},
    until,
};
use serde::Deserialize;
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn Error>>;

const TESTS: [&str; 2] =
    ["deploy/prometheus/xt-balance.rules.test.yml", "deploy/prometheus/xt-withdrawals.rules.test.yml"];
const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";
const ALERTMANAGER: &str = "deploy/alertmanager/alertmanager.yml";
const RUNBOOKS: &str = "deploy/runbooks";
/// Where `runbook_url` leads.
const RUNBOOKS_URL: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/deploy/runbooks");

#[derive(Deserialize)]
struct TestFile {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    alert_rule_test: Vec<Expectation>,
}

#[derive(Deserialize)]
struct Expectation {
    alertname: String,
    exp_alerts: Vec<ExpectedAlert>,
}

#[derive(Deserialize)]
struct ExpectedAlert {
    exp_labels: BTreeMap<String, String>,
    exp_annotations: BTreeMap<String, String>,
}

fn alerts() -> Result<BTreeSet<String>, Box<dyn Error>> {
    Ok(rules()?.into_iter().filter_map(|rule| rule.alert).collect())
}

/// Runs a program that must succeed, and returns what it printed.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see tests/install"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}:\n{text}");
    text
}

#[test]
fn prometheus_accepts_the_configuration_and_the_rules_without_a_remark() {
    run("promtool", &["check", "rules", "--lint=all", "--lint-fatal", RULES, MORE_RULES]);
    run("promtool", &["check", "config", "--lint=all", "--lint-fatal", PROMETHEUS]);
}

#[test]
fn every_alert_fires_when_it_should_and_only_then() {
    let [tests, more] = TESTS;
    run("promtool", &["test", "rules", tests, more]);
}

#[test]
fn the_tests_of_the_rules_notice_every_change_of_a_rule() {
    let counts = run("tests/mutate-rules", &[]);
    assert!(counts.contains("mutants, "), "{counts}");
}

#[test]
fn every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> Outcome {
    let mut cases = Vec::new();
    for path in TESTS {
        cases.extend(read::<TestFile>(path)?.tests);
    }
    let expectations: Vec<_> = cases.iter().flat_map(|case| &case.alert_rule_test).collect();
    for rule in rules()?.iter().filter(|rule| rule.alert.is_some()) {
        let name = rule.alert.as_deref().unwrap_or_default();
        let mine: Vec<_> = expectations.iter().filter(|expectation| expectation.alertname == name).collect();
        let severity = rule.labels.get("severity");
        assert!(
            mine.iter()
                .flat_map(|expectation| &expectation.exp_alerts)
                .any(|alert| { alert.exp_labels.get("severity") == severity }),
            "{name} {severity:?} never fires"
        );
        assert!(mine.iter().any(|expectation| expectation.exp_alerts.is_empty()), "{name} is never silent");
    }
    let known = alerts()?;
    for case in &cases {
        assert!(case.name.contains(' '), "a name is a sentence: {}", case.name);
        for expectation in &case.alert_rule_test {
            assert!(known.contains(&expectation.alertname), "{} in {}", expectation.alertname, case.name);
        }
    }
    Ok(())
}

#[test]
fn every_alert_has_a_severity_texts_a_runbook_and_a_dashboard() -> Outcome {
    for rule in rules()?.iter().filter(|rule| rule.alert.is_some()) {
        let name = rule.alert.as_deref().unwrap_or_default();
        assert!(rule.waits.is_some(), "{name} waits for nothing");
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(matches!(severity, Some("critical" | "warning" | "info")), "{name}: {severity:?}");
        assert_eq!(rule.labels.len(), 1, "{name}: a label that changes would restart the wait");
        let annotation = |key: &str| rule.annotations.get(key).map(String::as_str).unwrap_or_default();
        let summary = annotation("summary");
        let is_specific = summary.contains("{{ $labels.") || summary.contains(" query ");
        assert!(is_specific, "{name} does not say of what it speaks");
        if summary.contains("$labels.wallet") {
            let place = "{{ $labels.account }}/{{ $labels.wallet }}: ";
            assert!(summary.starts_with(place), "{name} must begin with {place}");
        }
        let description = annotation("description");
        // Why it matters, and what to do next.
        assert!(
            description.matches(". ").count() >= 1 && description.ends_with(['.', '}']),
            "{name}: {description}"
        );
        assert_eq!(annotation("runbook_url"), format!("{RUNBOOKS_URL}/{name}.md"));
        assert!(annotation("dashboard_url").starts_with("/d/xt-"), "{name}");
    }
    for path in [RULES, MORE_RULES] {
        let text = fs::read_to_string(path)?;
        let head = format!("\n# runbooks: {RUNBOOKS_URL}\n# dashboards:\n");
        assert_eq!(text.matches(&head).count(), 1, "{path} names the addresses once, at its top");
    }
    Ok(())
}

/// A telephone shows about two lines of a notification.
#[test]
fn a_summary_is_short_and_names_the_account_and_the_wallet() -> Outcome {
    let mut summaries = 0;
    for path in TESTS {
        for case in read::<TestFile>(path)?.tests {
            for alert in case.alert_rule_test.into_iter().flat_map(|expectation| expectation.exp_alerts) {
                let summary = alert.exp_annotations.get("summary").cloned().unwrap_or_default();
                assert!((20..=100).contains(&summary.chars().count()), "{summary}");
                assert!(!summary.ends_with('.') && !summary.contains("<no value>"), "{summary}");
                for name in ["account", "wallet", "instance"] {
                    let is_named = alert.exp_labels.get(name).is_none_or(|value| summary.contains(value));
                    assert!(is_named, "{summary} does not name its {name}");
                }
                summaries += 1;
            }
        }
    }
    assert!(summaries > 100, "{summaries}");
    Ok(())
}

/// The one command that a person runs first.
#[test]
fn every_runbook_begins_with_one_command() -> Outcome {
    for entry in fs::read_dir(RUNBOOKS)? {
        let path = entry?.path();
        let (text, place) = (fs::read_to_string(&path)?, path.display());
        let begin = text.split_once("\n## ").map_or("", |(begin, _)| begin);
        let (_, rest) =
            begin.split_once("\n\nRun this first:\n\n```sh\n").ok_or(format!("{place}: {begin}"))?;
        let command = rest.strip_suffix("\n```\n").ok_or(format!("{place} says more: {rest}"))?;
        assert!(!command.is_empty() && !command.contains('\n'), "{place}: {command}");
        // A shell that only reads the command.
        run("sh", &["-nc", command]);
    }
    Ok(())
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() -> Outcome {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(RUNBOOKS)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        let headings: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
        let title = format!("# {name}");
        assert_eq!(headings, [&*title, "## Meaning", "## Impact", "## Diagnosis", "## Mitigation"], "{name}");
        for section in text.split("\n## ").skip(1) {
            assert!(section.lines().skip(1).any(|line| !line.is_empty()), "{name}: nothing under {section}");
        }
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            // `documents` checks the heading.
            let file = target.split('#').next().unwrap_or_default();
            assert!(Path::new(RUNBOOKS).join(file).exists(), "{name} points to {target}");
        }
        found.insert(name);
    }
    assert_eq!(found, alerts()?);
    Ok(())
}

#[test]
fn the_check_of_names_finds_what_is_wrong() -> Outcome {
    let known = vocabulary()?;
    let wrong = [
        "xt_balance_fre < 500",
        "xt_up{currency=\"usdt\"} == 0",
        "xt_up unless on (account, purse) xt_currencies",
        "sum without (raison) (increase(xt_poll_failures_total[5m]))",
        "sum(rate(xt_poll_duration_seconds[5m]))",
        "vector(1)",
    ];
    for expression in wrong {
        assert!(hold(expression, &known).is_err(), "{expression}");
    }
    Ok(())
}

#[test]
fn rules_name_only_what_is_exported() -> Outcome {
    let known = vocabulary()?;
    let all: BTreeSet<_> = known.values().flatten().map(String::as_str).collect();
    for rule in rules()? {
        let name = rule.alert.or(rule.record).unwrap_or_default();
        hold(&rule.expr, &known).map_err(|wrong| format!("{name}: {wrong}"))?;
        for text in rule.annotations.values() {
            // A query stands in a text as a string with %q for the values of labels.
            let printed = text.split("printf \"").skip(1).filter_map(|rest| rest.split("\" $labels").next());
            let plain = text.split("query \"").skip(1).filter_map(|rest| rest.split('"').next());
            for query in printed.chain(plain).filter(|query| query.contains("xt_")) {
                hold(&query.replace("%q", "\"\""), &known).map_err(|wrong| format!("{name}: {wrong}"))?;
            }
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            for label in text.split("$labels.").skip(1).filter_map(|rest| rest.split(|c| !is_word(c)).next())
            {
                assert!(all.contains(label), "{name} speaks of the label {label}");
            }
        }
    }
    Ok(())
}

#[test]
fn runbooks_name_only_what_is_exported_and_their_queries_are_valid() -> Outcome {
    let known = vocabulary()?;
    let mut file = "groups:\n  - name: runbooks\n    rules:\n".to_owned();
    for entry in fs::read_dir(RUNBOOKS)? {
        let path = entry?.path();
        let place = path.display().to_string();
        let text = fs::read_to_string(&path)?;
        for query in text.split("```promql\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            for line in query.lines() {
                hold(line, &known).map_err(|wrong| format!("{place}: {wrong}"))?;
                writeln!(file, "      - {{record: 'query:{}', expr: '{line}'}}", file.len())?;
            }
        }
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "_:".contains(c))) {
            if word.starts_with("xt_") {
                assert!(known.contains_key(word), "{place} names {word}");
            }
        }
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("runbooks.yml");
    fs::write(&path, file)?;
    run("promtool", &["check", "rules", &path.display().to_string()]);
    Ok(())
}

#[test]
fn alertmanager_accepts_its_configuration_and_each_severity_goes_where_it_should() {
    run("amtool", &["check-config", ALERTMANAGER]);
    let file = format!("--config.file={ALERTMANAGER}");
    for (severity, team, receiver) in [
        ("critical", "", "page"),
        ("warning", "", "ticket"),
        ("info", "", "note"),
        ("unheard-of", "", "page"),
        ("critical", "desk-a", "page-desk-a"),
        ("warning", "desk-a", "ticket-desk-a"),
        ("info", "desk-a", "note"),
        ("critical", "desk-b", "page"),
        ("warning", "desk-b", "ticket"),
    ] {
        let receiver = format!("--verify.receivers={receiver}");
        let (severity, team) = (format!("severity={severity}"), format!("team={team}"));
        run("amtool", &["config", "routes", "test", &file, &receiver, &severity, &team]);
    }
}

/// Alertmanager with the delivered configuration, on a free port. Killed when dropped.
struct Alertmanager {
    child: Child,
    address: SocketAddr,
    _storage: tempfile::TempDir,
}

impl Alertmanager {
    fn start() -> Result<Self, Box<dyn Error>> {
        let storage = tempfile::tempdir()?;
        let mut child = Command::new("prometheus-alertmanager")
            .args([&format!("--config.file={ALERTMANAGER}"), "--web.listen-address=127.0.0.1:0"])
            .args(["--cluster.listen-address=", &format!("--storage.path={}", storage.path().display())])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = Lines::read_from(child.stderr.take().ok_or("its log is not piped")?);
        let line = log.wait_for("Listening on");
        let address = line.split("address=").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.ok_or(line.clone())?.parse()?;
        Ok(Self { child, address, _storage: storage })
    }

    fn post(&self, alerts: &Value) -> Outcome {
        let body = alerts.to_string();
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(WAIT_TIMEOUT))?;
        let head = format!(
            "POST /api/v2/alerts HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw)?;
        let answer = answer(&raw);
        assert_eq!(answer.status, 200, "{}", answer.text());
        Ok(())
    }

    /// The alerts it knows, each with whether another mutes it.
    fn alerts(&self) -> Vec<(BTreeMap<String, String>, bool)> {
        let text = get(self.address, "/api/v2/alerts", &[("Accept", "application/json")]).text();
        // The body may come in chunks; the list is what stands between the outermost brackets.
        let list = text.find('[').zip(text.rfind(']')).and_then(|(from, to)| text.get(from..=to));
        let list = list.map(|list| list.replace("\r\n", "")).unwrap_or_default();
        let Ok(Value::Array(alerts)) = serde_json::from_str(&list) else { panic!("{text}") };
        let alert = |alert: Value| {
            let labels = alert.get("labels").cloned().and_then(|labels| serde_json::from_value(labels).ok());
            let by = alert.pointer("/status/inhibitedBy").and_then(Value::as_array);
            (labels.unwrap_or_default(), by.is_some_and(|by| !by.is_empty()))
        };
        alerts.into_iter().map(alert).collect()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The labels of an alert, which stands in short: its name, perhaps with `:` and what is different about it.
fn labels(short: &str, place: usize) -> BTreeMap<String, String> {
    let (name, rest) = short.split_once(':').unwrap_or((short, ""));
    let severity = match name {
        "XtBalanceLow"
        | "XtBalanceUnknown"
        | "XtAuthFailing"
        | "XtExporterDown"
        | "XtLiquidationNear"
        | "XtPositionsUnknown"
        | "XtShardMissing"
        | "XtTextfileStale"
        | "XtWithdrawalPending" => "critical",
        "XtFundsStuckFrozen" => "info",
        _ => "warning",
    };
    let reach: &[_] = match name {
        "XtExporterDown" => &[],
        "XtExporterInstanceDown" | "XtPricesUnknown" | "XtTextfileStale" => {
            &[("job", "xt-balance-exporter"), ("instance", "a:10770")]
        }
        "XtShardMissing" => &[("job", "xt-balance-exporter")],
        "XtShardDuplicated" => &[("job", "xt-balance-exporter"), ("shard", "2")],
        "XtAccountPaused" => &[("account", "desk")],
        "XtPollFailing" | "XtAuthFailing" | "XtPositionsUnknown" => {
            &[("account", "desk"), ("wallet", "spot")]
        }
        "XtLiquidationNear" => {
            &[("account", "desk"), ("wallet", "spot"), ("symbol", "btc_usdt"), ("side", "long")]
        }
        _ => &[("account", "desk"), ("wallet", "spot"), ("currency", "usdt")],
    };
    let mut labels: BTreeMap<_, _> =
        reach.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    labels.extend(
        [("alertname", name), ("severity", severity)]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    labels.extend(
        rest.split(',')
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    // Each case has accounts of its own, so that none disturbs another.
    if let Some(account) = labels.get_mut("account") {
        *account = format!("{account}-{place}");
    }
    labels
}

const LOW_WARNING: &str = "XtBalanceLow:severity=warning";

/// A cause, another alert with the same labels or those after the colon, and whether the cause mutes it.
const MUTING_CASES: &[(&str, &str, bool)] = &[
    ("XtExporterDown", "XtExporterInstanceDown", true),
    ("XtExporterInstanceDown", "XtExporterDown", false),
    ("XtExporterInstanceDown", "XtPollFailing", false),
    ("XtExporterDown", "XtBalanceUnknown", false),
    ("XtExporterDown", "XtPollFailing", false),
    ("XtExporterDown", "XtBalanceLow", false),
    ("XtExporterDown", "XtPricesUnknown", false),
    ("XtExporterDown", "XtTextfileStale", false),
    ("XtExporterDown", "XtShardMissing", true),
    ("XtExporterDown", "XtShardDuplicated", false),
    ("XtTextfileStale", "XtBalanceLow", false),
    ("XtAuthFailing", "XtBalanceUnknown", true),
    ("XtAuthFailing", "XtPollFailing", true),
    ("XtAuthFailing", "XtPollFailing:wallet=fiat", false),
    ("XtAuthFailing", "XtBalanceUnknown:account=other", false),
    ("XtAuthFailing", "XtBalanceLow", false),
    ("XtAccountPaused", "XtPollFailing", true),
    ("XtAccountPaused", "XtPollFailing:account=other", false),
    ("XtAccountPaused", "XtBalanceUnknown", false),
    ("XtAccountPaused", "XtAuthFailing", false),
    ("XtBalanceUnknown", "XtPollFailing", true),
    ("XtBalanceUnknown", "XtPollFailing:wallet=fiat", false),
    ("XtBalanceUnknown", "XtBalanceLow", true),
    ("XtBalanceUnknown", LOW_WARNING, true),
    ("XtBalanceUnknown", "XtBalanceDraining", true),
    ("XtBalanceUnknown", "XtBalanceLow:currency=btc", false),
    ("XtBalanceUnknown", "XtBalanceLow:account=other", false),
    ("XtBalanceUnknown", "XtBalanceLow:wallet=fiat", false),
    ("XtLabelsRenamed", "XtBalanceLow", false),
    ("XtBalanceUnknown", "XtAuthFailing", false),
    ("XtBalanceUnknown", "XtAccountPaused", false),
    ("XtBalanceLow", LOW_WARNING, true),
    ("XtBalanceLow", "XtWatchedCurrencyMissing", true),
    ("XtBalanceLow", "XtBalanceDraining", true),
    ("XtBalanceLow", "XtBalanceLow:severity=warning,currency=btc", false),
    ("XtBalanceLow", "XtBalanceLow:severity=warning,account=other", false),
    ("XtBalanceLow", "XtBalanceLow:severity=warning,wallet=fiat", false),
    ("XtBalanceLow", "XtBalanceUnknown", false),
    ("XtBalanceLow", "XtPollFailing", false),
    ("XtBalanceLow", "XtFundsStuckFrozen", false),
    (LOW_WARNING, "XtBalanceLow", false),
    (LOW_WARNING, "XtBalanceDraining", true),
    (LOW_WARNING, "XtWatchedCurrencyMissing", false),
    ("XtPollFailing", "XtBalanceUnknown", false),
    ("XtBalanceDraining", LOW_WARNING, false),
    ("XtPricesUnknown", "XtPollFailing", false),
    ("XtBalanceUnknown", "XtPricesUnknown", false),
    ("XtPollFailing", "XtPricesUnknown", false),
    ("XtBalanceUnknown", "XtWithdrawalPending", false),
    ("XtAuthFailing", "XtPositionsUnknown", true),
    ("XtAuthFailing", "XtPositionsUnknown:wallet=fiat", false),
    ("XtAuthFailing", "XtLiquidationNear", false),
    ("XtLiquidationNear", "XtLiquidationNear:severity=warning", true),
    ("XtLiquidationNear", "XtLiquidationNear:severity=warning,side=short", false),
    ("XtLiquidationNear", "XtLiquidationNear:severity=warning,symbol=eth_usdt", false),
    ("XtPositionsUnknown", "XtLiquidationNear", false),
    ("XtWithdrawalPending", "XtBalanceLow", false),
    ("XtWithdrawalPending", "XtFundsStuckFrozen", false),
];

#[test]
fn a_cause_mutes_its_effects_and_no_other_alert() -> Outcome {
    let alert_names = alerts()?;
    let mut posted = Vec::new();
    let mut expected = Vec::new();
    for (place, &(cause, effect, muted)) in MUTING_CASES.iter().enumerate() {
        let (cause, effect) = (labels(cause, place), labels(effect, place));
        for alert in [&cause, &effect] {
            assert!(alert_names.contains(&alert["alertname"]), "there is no alert {alert:?}");
            posted.push(json!({"labels": alert}));
        }
        expected.push((place, cause, effect, muted));
    }
    // Alertmanager lists an alert before it has looked at what the alert mutes, but looks at them in their order: once
    // the last cause mutes, every cause before it does.
    let last = [labels("XtAuthFailing", posted.len()), labels("XtPollFailing", posted.len())];
    posted.extend(last.iter().map(|alert| json!({"labels": alert})));
    let alertmanager = Alertmanager::start()?;
    alertmanager.post(&Value::Array(posted))?;
    until("the last cause mutes what follows from it", || {
        let [_, effect] = &last;
        alertmanager.alerts().contains(&(effect.clone(), true)).then_some(())
    });
    let shown = alertmanager.alerts();
    for (place, cause, effect, muted) in expected {
        let (_, is_muted) = shown
            .iter()
            .find(|(labels, _)| *labels == effect)
            .ok_or_else(|| format!("{place}: {effect:?} is gone"))?;
        assert_eq!(*is_muted, muted, "{cause:?}\nand {effect:?}");
    }
    Ok(())
}
