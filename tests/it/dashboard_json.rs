//! The JSON of the Grafana dashboards: it matches its source, passes the rules of Grafana's dashboard linter and matches
//! Grafana's published schema, and it names only metrics and labels that exist. Needs Python and Node.

use std::{collections::BTreeSet, error::Error, fmt::Write as _, fs, path::Path, process::Command};

use crate::common::{
    dashboards::{
        array_at, dashboards, height, override_values, panels, panels_and_rows, str_at, target_folder,
    },
    promql::{hold, vocabulary},
};
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn Error>>;

const DATASOURCES: &str = "grafana/provisioning/datasources/prometheus.yml";
const PROVIDERS: &str = "grafana/provisioning/dashboards/xt-balance.yml";
const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";

#[test]
fn json_matches_its_source() {
    let python = target_folder().join("grafana/python/bin/python");
    let run = Command::new(&python).args(["grafana/dashboards.py", "--check"]).output();
    let run = run.unwrap_or_else(|error| panic!("{}: {error}; see tests/install", python.display()));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// The Grafana units that the dashboards use.
const UNITS: [&str; 11] = [
    "currency: ",
    "currency:≥ ",
    "dateTimeAsIso",
    "decbytes",
    "locale",
    "none",
    "percentunit",
    "s",
    "short",
    "suffix: h",
    "suffix: min",
];
/// The units of axes: short texts for any value.
const AXIS_UNITS: [&str; 7] = ["decbytes", "none", "percentunit", "s", "short", "suffix: h", "suffix: min"];
/// A dashboard that is higher is not read to its end.
const MAX_HEIGHT: u64 = 2500;

/// Broken rules of a dashboard.
#[derive(Default)]
struct Findings {
    place: String,
    violations: Vec<String>,
}

impl Findings {
    fn require(&mut self, holds: bool, rule: &str) {
        if !holds {
            self.violations.push(format!("{}{rule}", self.place));
        }
    }
}

/// Broken rules: those of grafana/dashboard-linter, by name, and our own.
fn lint(dashboard: &Value) -> Vec<String> {
    let mut found = Findings::default();
    found.require((8..=40).contains(&str_at(dashboard, "/uid").len()), "uid has 8 to 40 characters");
    found.require(dashboard["id"].is_null(), "id is null");
    found.require(dashboard["editable"] == json!(false), "is not editable");
    found.require(
        dashboard.get("__inputs").is_none(),
        "has no __inputs, because provisioning does not fill them",
    );
    for (pointer, value) in [("/timezone", "browser"), ("/refresh", "30s"), ("/time/to", "now")] {
        found.require(str_at(dashboard, pointer) == value, &format!("{pointer} is {value}"));
    }
    for pointer in ["/title", "/description", "/tags/0", "/time/from"] {
        found.require(!str_at(dashboard, pointer).is_empty(), &format!("{pointer} is given"));
    }
    found.require(dashboard["version"].is_u64() && dashboard["schemaVersion"].is_u64(), "versions are given");
    let link = &dashboard["links"][0];
    let leads_on =
        link["tags"] == dashboard["tags"] && link["includeVars"] == true && link["keepTime"] == true;
    found.require(leads_on, "a link to the other dashboards, with variables and time");
    found.require(height(dashboard) < MAX_HEIGHT, "is lower than 2500 pixels");
    lint_variables(array_at(dashboard, "/templating/list"), &mut found);

    let (mut titles, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels_and_rows(dashboard) {
        let title = str_at(panel, "/title");
        found.place = format!("panel {title:?}: ");
        found.require(titles.insert(title), "title is unique");
        found.require(ids.insert(panel["id"].as_u64()), "panel id is unique");
        if str_at(panel, "/type") != "row" {
            lint_panel(panel, &mut found);
            lint_unknown_values(panel, &mut found);
            lint_lines(panel, &mut found);
        }
    }
    found.violations
}

fn lint_variables(variables: &[Value], found: &mut Findings) {
    let named = |name: &str| variables.iter().find(|variable| variable["name"] == *name);
    let source = named("datasource").cloned().unwrap_or_default();
    found.require(
        source["type"] == "datasource" && source["query"] == "prometheus",
        "template-datasource-rule: a variable `datasource`",
    );
    found.require(source["label"] == "Data source", "template-datasource-rule: its label");
    for name in ["job", "instance"] {
        found.require(named(name).is_some(), &format!("template-{name}-rule: a variable `{name}`"));
    }
    for variable in variables.iter().filter(|variable| variable["name"] != "datasource") {
        let name = str_at(variable, "/name");
        found.place = format!("variable {name}: ");
        found.require(
            str_at(variable, "/datasource/uid") == "${datasource}",
            "template-job-rule: uses the selected data source",
        );
        found.require(variable["type"] == "query", "template-job-rule: a query");
        found.require(
            str_at(variable, "/label").to_lowercase() == name,
            "template-job-rule: the label is its name",
        );
        found.require(variable["multi"] == true, "template-job-rule: multi");
        found.require(variable["includeAll"] == true, "`All` can be selected");
        found.require(str_at(variable, "/allValue") == ".+", "template-job-rule: allValue");
        found.require(variable["refresh"] == 2, "template-on-time-change-reload-rule: refresh");
        found.require(str_at(variable, "/query").starts_with("label_values("), "template-label-promql-rule");
    }
}

fn lint_panel(panel: &Value, found: &mut Findings) {
    let description = str_at(panel, "/description");
    found.require(
        !str_at(panel, "/title").is_empty() && !description.is_empty(),
        "panel-title-description-rule",
    );
    found.require(description.ends_with('.'), "description ends with a full stop");
    found.require(str_at(panel, "/datasource/uid") == "${datasource}", "panel-datasource-rule");
    let mut units = override_values(panel, "unit")
        .map(|unit| unit.as_str().unwrap_or_default())
        .chain([str_at(panel, "/fieldConfig/defaults/unit")]);
    found.require(units.all(|unit| UNITS.contains(&unit)), "panel-units-rule");
    found.require(!array_at(panel, "/targets").is_empty(), "panel-no-targets-rule");
    for target in array_at(panel, "/targets") {
        let expression = str_at(target, "/expr");
        found.require(str_at(target, "/datasource/uid") == "${datasource}", "panel-datasource-rule");
        let selectors = selectors(expression);
        // Series of recording rules have no target labels: a metric of the selected exporters is joined to them.
        found.require(!selectors.is_empty(), "target-job-rule");
        for selector in selectors {
            found.require(selector.contains(r#"job=~"$job""#), "target-job-rule");
            found.require(selector.contains(r#"instance=~"$instance""#), "target-instance-rule");
        }
        found.require(counters_are_under_rate(expression), "target-counter-agg-rule");
        found.require(rates_use_the_interval(expression), "target-rate-interval-rule");
    }
}

/// The texts of panels without data.
const NO_VALUES: [&str; 5] = [
    "unknown",
    "none known",
    "unknown, or prices are off",
    "unknown, or no wallet of v4 spot",
    "none known, or futures_risk is off",
];

/// A colour means one thing: lines have none of the colours of judgements, unless they are limits.
fn lint_lines(panel: &Value, found: &mut Findings) {
    if str_at(panel, "/type") != "timeseries" {
        return;
    }
    let unit = str_at(panel, "/fieldConfig/defaults/unit");
    found.require(AXIS_UNITS.contains(&unit), "an axis has short texts");
    // A query can be a judgement by itself: a limit, or the number of unknown wallets.
    let of_names = array_at(panel, "/fieldConfig/overrides")
        .iter()
        .filter(|over| str_at(over, "/matcher/id") != "byFrameRefID")
        .flat_map(|over| array_at(over, "/properties"))
        .filter(|property| property["id"] == "color")
        .map(|property| &property["value"]);
    for color in of_names.chain([&panel["fieldConfig"]["defaults"]["color"]]) {
        let plain = color["mode"] == "shades" && has_no_judgement(str_at(color, "/fixedColor"));
        found.require(plain, "green, orange, red and grey are judgements, not lines");
    }
}

/// Whether the hue of `#rrggbb` is olive, or from teal to magenta.
fn has_no_judgement(color: &str) -> bool {
    let part = |from: usize| {
        color.get(from..from + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(f64::from)
    };
    let (Some(red), Some(green), Some(blue)) = (part(1), part(3), part(5)) else { return false };
    let most = red.max(green).max(blue);
    let spread = most - red.min(green).min(blue);
    if spread < 64.0 {
        return false;
    }
    let hue = if red >= most {
        (green - blue) / spread
    } else if green >= most {
        2.0 + (blue - red) / spread
    } else {
        4.0 + (red - green) / spread
    };
    let degrees = (hue * 60.0).rem_euclid(360.0);
    (55.0..65.0).contains(&degrees) || (165.0..320.0).contains(&degrees)
}

/// An unknown value must look unknown.
fn lint_unknown_values(panel: &Value, found: &mut Findings) {
    let kind = str_at(panel, "/type");
    let no_value = str_at(panel, "/fieldConfig/defaults/noValue");
    found.require(NO_VALUES.contains(&no_value), "a missing value is shown as `unknown`");
    let calcs = array_at(panel, "/options/reduceOptions/calcs");
    found.require(calcs.iter().all(|calc| calc == "last"), "a number is never the last known one");
    found.require(array_at(panel, "/options/legend/calcs").is_empty(), "a legend has no last value");
    let breaks = panel.pointer("/fieldConfig/defaults/custom/spanNulls") == Some(&json!(false));
    found.require(kind != "timeseries" || breaks, "lines have gaps where values are unknown");
    let of_null = |mappings: &Value| {
        array_at(mappings, "").iter().any(|mapping| {
            str_at(mapping, "/options/match") == "null"
                && str_at(mapping, "/options/result/text") == "unknown"
        })
    };
    let defaults = &panel["fieldConfig"]["defaults"]["mappings"];
    found.require(kind != "stat" || of_null(defaults), "a missing value is grey");
    let in_every_column = override_values(panel, "mappings").all(of_null);
    found.require(kind != "table" || in_every_column, "a missing value is grey in every column");
    let at_once = ["stat", "table"].contains(&kind);
    for target in array_at(panel, "/targets") {
        let now = target["instant"] == at_once && target["range"] == !at_once;
        found.require(now, "panels that show the present send instant queries");
        found.require(!str_at(target, "/expr").contains("vector("), "a count of unknown things is not 0");
    }
}

/// Label matchers of each metric in an expression; empty for a metric without braces. Recorded metrics are omitted.
fn selectors(expression: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) =
        ["xt_", "up{", "process_", "scrape_", "ALERTS"].iter().filter_map(|name| rest.find(name)).min()
    {
        let tail = rest.get(start..).unwrap_or_default();
        let after = tail.trim_start_matches(is_word);
        let inside = after.strip_prefix('{').and_then(|inside| inside.split('}').next());
        if !rest.get(..start).unwrap_or_default().ends_with(':') {
            found.push(inside.unwrap_or_default());
        }
        rest = after.get(inside.map_or(0, str::len)..).unwrap_or_default();
    }
    found
}

/// Whether `rate` or `increase` is applied to each `_total`.
fn counters_are_under_rate(expression: &str) -> bool {
    let mut before = "";
    expression.split_inclusive('}').all(|part| {
        let end = format!("{before}{part}");
        before = part;
        let Some(start) = end.rfind("_total{") else { return true };
        let name =
            end.get(..start).unwrap_or_default().rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let function = end.get(..=name.unwrap_or(0)).unwrap_or_default();
        function.ends_with("rate(") || function.ends_with("increase(")
    })
}

/// Whether each `rate` has the range `$__rate_interval`.
fn rates_use_the_interval(expression: &str) -> bool {
    let ranges =
        expression.split("rate(").skip(1).filter_map(|rest| rest.split('[').nth(1)?.split(']').next());
    ranges.into_iter().all(|range| range == "$__rate_interval")
}

#[test]
fn dashboards_pass_the_lint_rules() -> Outcome {
    let dashboards = dashboards()?;
    for (name, dashboard) in &dashboards {
        assert_eq!(str_at(dashboard, "/uid"), name, "uid is the file name");
        let wrong = lint(dashboard);
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
    let titles: BTreeSet<_> = dashboards.values().map(|dashboard| str_at(dashboard, "/title")).collect();
    assert_eq!(titles.len(), dashboards.len());
    Ok(())
}

/// Changes of the dashboard that break a lint rule: a pointer, the wrong value, and a part of the lint message. The
/// arguments are the indexes of a stat panel, a table, a panel with a rate and one with a total.
fn lint_mistakes([stat, table, rate, total]: [usize; 4]) -> Vec<(String, Value, &'static str)> {
    vec![
        ("/editable".to_owned(), json!(true), "is not editable"),
        ("/id".to_owned(), json!(7), "id is null"),
        ("/uid".to_owned(), json!("xt"), "uid"),
        ("/timezone".to_owned(), json!("utc"), "/timezone"),
        ("/links/0/includeVars".to_owned(), json!(false), "a link"),
        ("/templating/list/0/label".to_owned(), json!("Datasource"), "template-datasource-rule"),
        ("/templating/list/1/name".to_owned(), json!("jobs"), "template-job-rule"),
        ("/templating/list/2/allValue".to_owned(), json!(".*"), "template-job-rule: allValue"),
        ("/templating/list/2/multi".to_owned(), json!(false), "template-job-rule: multi"),
        ("/templating/list/2/refresh".to_owned(), json!(1), "template-on-time-change-reload-rule"),
        ("/templating/list/2/datasource/uid".to_owned(), json!("abc"), "uses the selected data source"),
        ("/templating/list/2/query".to_owned(), json!("up"), "template-label-promql-rule"),
        (format!("/panels/{rate}/gridPos/y"), json!(70), "2500 pixels"),
        (format!("/panels/{rate}/fieldConfig/defaults/unit"), json!("locale"), "an axis has short texts"),
        (format!("/panels/{rate}/fieldConfig/defaults/color/fixedColor"), json!("#E02F44"), "are judgements"),
        (
            format!("/panels/{rate}/fieldConfig/defaults/color/mode"),
            json!("palette-classic"),
            "are judgements",
        ),
        (format!("/panels/{stat}/id"), json!(1), "panel id is unique"),
        (format!("/panels/{stat}/title"), json!("CPU"), "title is unique"),
        (format!("/panels/{stat}/description"), json!(""), "panel-title-description-rule"),
        (format!("/panels/{stat}/datasource/uid"), json!("abc"), "panel-datasource-rule"),
        (format!("/panels/{stat}/fieldConfig/defaults/unit"), json!("seconds"), "panel-units-rule"),
        (format!("/panels/{stat}/fieldConfig/defaults/noValue"), json!("0"), "`unknown`"),
        (format!("/panels/{stat}/fieldConfig/defaults/mappings"), json!([]), "a missing value is grey"),
        (format!("/panels/{stat}/targets"), json!([]), "panel-no-targets-rule"),
        (format!("/panels/{stat}/targets/0/instant"), json!(false), "instant queries"),
        (
            format!("/panels/{stat}/options/reduceOptions/calcs/0"),
            json!("lastNotNull"),
            "never the last known",
        ),
        (format!("/panels/{table}/fieldConfig/overrides/0/properties/1/value"), json!([]), "every column"),
        (
            format!("/panels/{rate}/options/legend/calcs"),
            json!(["lastNotNull"]),
            "a legend has no last value",
        ),
        (format!("/panels/{rate}/fieldConfig/defaults/custom/spanNulls"), json!(true), "lines have gaps"),
        (format!("/panels/{rate}/targets/0/expr"), json!("rate(xt_polls_total[5m])"), "target-job-rule"),
        (
            format!("/panels/{rate}/targets/0/expr"),
            json!(r#"rate(xt_polls_total{job=~"$job"}[5m])"#),
            "target-instance-rule",
        ),
        (
            format!("/panels/{rate}/targets/0/expr"),
            json!(r#"rate(xt_polls_total{job=~"$job",instance=~"$instance"}[5m])"#),
            "target-rate-interval-rule",
        ),
        (
            format!("/panels/{total}/targets/0/expr"),
            json!(
                r#"up{job=~"$job",instance=~"$instance"} * xt_polls_total{job=~"$job",instance=~"$instance"}"#
            ),
            "target-counter-agg-rule",
        ),
        (format!("/panels/{stat}/targets/0/expr"), json!("count(xt_up) or vector(0)"), "is not 0"),
    ]
}

#[test]
fn each_lint_rule_finds_its_mistake() -> Outcome {
    let dashboards = dashboards()?;
    let dashboard = dashboards.get("xt-exporter").ok_or("no xt-exporter")?;
    let find_panel = |title: &str| {
        let panels = array_at(dashboard, "/panels");
        panels
            .iter()
            .position(|panel| str_at(panel, "/title") == title)
            .ok_or_else(|| format!("no panel {title}"))
    };
    let (stat, table) = (find_panel("Data age")?, find_panel("Accounts")?);
    let (rate, total) = (find_panel("CPU")?, find_panel("Suspect replies and rejected rows")?);
    for (pointer, value, rule) in lint_mistakes([stat, table, rate, total]) {
        let mut wrong = dashboard.clone();
        match wrong.pointer_mut(&pointer) {
            Some(old) => *old = value,
            None => wrong[pointer.trim_start_matches('/')] = value,
        }
        let messages = lint(&wrong);
        assert!(
            messages.iter().any(|message| message.contains(rule)),
            "{pointer}: {rule} is not among {messages:?}"
        );
    }
    Ok(())
}

#[test]
fn dashboards_name_only_what_is_exported() -> Outcome {
    let mut known = vocabulary()?;
    let of_alerts =
        ["alertname", "alertstate", "job", "instance", "account", "wallet", "currency", "severity"];
    known.insert("ALERTS".to_owned(), of_alerts.map(str::to_owned).into());
    let all: BTreeSet<_> = known.values().flatten().cloned().collect();
    for (name, dashboard) in dashboards()? {
        let mut expressions: Vec<&str> = Vec::new();
        for target in panels(&dashboard).flat_map(|panel| array_at(panel, "/targets")) {
            expressions.push(str_at(target, "/expr"));
            // A query can make labels of its own: it names them in quotes.
            let is_known = |label: &str| {
                all.contains(label) || str_at(target, "/expr").contains(&format!("\"{label}\""))
            };
            assert!(labels_in(str_at(target, "/legendFormat")).all(is_known), "{name}: {target}");
        }
        for annotation in array_at(&dashboard, "/annotations/list") {
            expressions.push(str_at(annotation, "/target/expr"));
            let formats = [str_at(annotation, "/titleFormat"), str_at(annotation, "/textFormat")];
            assert!(formats.iter().flat_map(|format| labels_in(format)).all(|label| all.contains(label)));
        }
        for variable in
            array_at(&dashboard, "/templating/list").iter().filter(|variable| variable["type"] == "query")
        {
            let inside = str_at(variable, "/query").trim_start_matches("label_values(").trim_end_matches(')');
            let (series, label) = inside.rsplit_once(", ").ok_or("no label")?;
            assert!(all.contains(label), "{name}: {inside}");
            // A selector of several metrics: its first matcher holds their names.
            match series.strip_prefix(r#"{__name__=~""#).and_then(|rest| rest.split_once("\",")) {
                Some((names, rest)) => names
                    .split('|')
                    .try_for_each(|metric| hold(&format!("{metric}{{{rest}"), &known))
                    .map_err(|wrong| format!("{name}: {wrong}"))?,
                None => expressions.push(series),
            }
        }
        for expression in expressions {
            let plain = ["$__rate_interval", "$__range", "$__interval"]
                .iter()
                .fold(expression.to_owned(), |plain, name| plain.replace(name, "1m"));
            hold(&plain, &known).map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        // Each column of a table belongs to a label or a query.
        for panel in panels(&dashboard) {
            let targets = array_at(panel, "/targets");
            for (column, _) in panel
                .pointer("/transformations/1/options/renameByName")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                let is_value = column == "Value"
                    || targets.iter().any(|target| *column == format!("Value #{}", str_at(target, "/refId")));
                assert!(is_value || all.contains(column) || column == "exporter", "{name}: {column}");
            }
        }
    }
    Ok(())
}

/// Label names in the double braces of a legend or text.
fn labels_in(format: &str) -> impl Iterator<Item = &str> {
    format.split("{{").skip(1).filter_map(|rest| rest.split("}}").next())
}

#[test]
fn provisioning_finds_prometheus_and_the_dashboards() -> Outcome {
    let yaml = |path: &str| -> Result<Value, Box<dyn Error>> {
        Ok(serde_saphyr::from_str(&fs::read_to_string(path)?)?)
    };
    let datasources = yaml(DATASOURCES)?;
    let prometheus = &datasources["datasources"][0];
    assert_eq!((&datasources["apiVersion"], &prometheus["type"]), (&json!(1), &json!("prometheus")));
    // Without the variable the host is empty, and Go connects to this machine.
    assert_eq!(prometheus["url"], "http://${PROMETHEUS_HOST}:9090");
    assert_eq!(prometheus["editable"], json!(false));
    let interval = yaml(PROMETHEUS)?["global"]["scrape_interval"].clone();
    assert_eq!(prometheus["jsonData"]["timeInterval"], interval, "Grafana derives $__rate_interval from it");
    let providers = yaml(PROVIDERS)?;
    let provider = &providers["providers"][0];
    assert_eq!((&providers["apiVersion"], &provider["type"]), (&json!(1), &json!("file")));
    assert_eq!(provider["allowUiUpdates"], json!(false));
    let folder = str_at(provider, "/options/path");
    assert!(Path::new(folder).is_absolute());
    assert!(fs::read_to_string("grafana/README.md")?.contains(folder));
    Ok(())
}

/// The TypeScript compiler's errors on a module that uses the type `Dashboard`.
fn compiler_errors(module: &str) -> Result<String, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let packages = target_folder().join("grafana/node_modules");
    assert!(packages.is_dir(), "{} does not exist; see tests/install", packages.display());
    std::os::unix::fs::symlink(&packages, folder.path().join("node_modules"))?;
    fs::copy("tests/dashboards/schema.ts", folder.path().join("schema.ts"))?;
    fs::write(
        folder.path().join("dashboards.ts"),
        format!("import type {{ Dashboard }} from './schema';\n{module}"),
    )?;
    let run = Command::new("node")
        .arg(packages.join("typescript/bin/tsc"))
        .args([
            "--noEmit",
            "--strict",
            "--exactOptionalPropertyTypes",
            "--skipLibCheck",
            "--target",
            "es2022",
        ])
        .args(["--module", "preserve", "--moduleResolution", "bundler", "dashboards.ts"])
        .current_dir(folder.path())
        .output()?;
    let errors = String::from_utf8(run.stdout)?;
    assert_eq!(run.status.success(), errors.is_empty(), "{errors}{}", String::from_utf8_lossy(&run.stderr));
    Ok(errors)
}

#[test]
fn json_matches_the_published_schema() -> Outcome {
    let dashboards = dashboards()?;
    let mut module = String::new();
    for (number, dashboard) in dashboards.values().enumerate() {
        writeln!(module, "export const d{number}: Dashboard = {dashboard:#};")?;
    }
    assert_eq!(compiler_errors(&module)?, "");

    // The schema is strict: the compiler rejects each of these mistakes.
    let dashboard = dashboards.get("xt-exporter").ok_or("no xt-exporter")?;
    let find_panel = |title: &str| {
        let panels = array_at(dashboard, "/panels");
        panels
            .iter()
            .position(|panel| str_at(panel, "/title") == title)
            .ok_or_else(|| format!("no panel {title}"))
    };
    let (stat, table, heat) =
        (find_panel("Data age")?, find_panel("Accounts")?, find_panel("Polls by duration")?);
    let (lines, bands) = (find_panel("CPU")?, find_panel("Wallet states over time")?);
    let wrong = [
        ("", "colour".to_owned(), json!("red")),
        ("", "graphTooltip".to_owned(), json!(7)),
        ("/templating/list/1", "refresh".to_owned(), json!(9)),
        ("/links/0", "type".to_owned(), json!("dashboard")),
        ("/annotations/list/0", "expr".to_owned(), json!("up")),
    ]
    .map(|(pointer, key, value)| (pointer.to_owned(), key, value))
    .into_iter()
    .chain(
        [
            (stat, "options", "colorMode", json!("loud")),
            (stat, "fieldConfig/defaults/mappings/0/options", "match", json!("nil")),
            (stat, "fieldConfig/defaults", "units", json!("s")),
            (table, "fieldConfig/defaults/custom", "align", json!("middle")),
            (table, "fieldConfig/overrides/0/properties/0", "id", json!("units")),
            (table, "transformations/1/options", "rename", json!({})),
            (lines, "fieldConfig/defaults/custom", "drawStyle", json!("curve")),
            (lines, "fieldConfig/defaults/custom", "spanNull", json!(false)),
            (heat, "options/color", "mode", json!("rainbow")),
            (bands, "options", "mergeValue", json!(true)),
            (bands, "gridPos", "w", json!("24")),
        ]
        .map(|(panel, within, key, value)| (format!("/panels/{panel}/{within}"), key.to_owned(), value)),
    );
    let mut module = String::new();
    for (number, (pointer, key, value)) in wrong.enumerate() {
        let mut wrong = dashboard.clone();
        let of = wrong.pointer_mut(&pointer).and_then(Value::as_object_mut);
        of.ok_or_else(|| format!("no {pointer}"))?.insert(key, value);
        // The compiler reports this comment if the next line has no error.
        writeln!(module, "// @ts-expect-error {pointer}\nexport const d{number}: Dashboard = {wrong};")?;
    }
    assert_eq!(compiler_errors(&module)?, "");
    Ok(())
}
