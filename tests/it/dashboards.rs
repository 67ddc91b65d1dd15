//! The Grafana dashboards as they are delivered: that the JSON is what its source gives, keeps the
//! rules of Grafana's dashboard linter and matches Grafana's published schema, names only what is
//! exported, and that every query finds something in a real Prometheus, and nothing where nothing is
//! known. Needs Prometheus, promtool, Python and Node.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::common::{
    get,
    promql::{RULES, hold, vocabulary},
    until,
};
use serde_json::{Value, json};

type Outcome = Result<(), Box<dyn Error>>;

const FOLDER: &str = "grafana";
const DATASOURCES: &str = "grafana/provisioning/datasources/prometheus.yml";
const PROVIDERS: &str = "grafana/provisioning/dashboards/xt-balance.yml";
const PROMETHEUS: &str = "deploy/prometheus/prometheus.yml";

/// The dashboards by the names of their files.
fn dashboards() -> Result<BTreeMap<String, Value>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(FOLDER)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.insert(name, serde_json::from_str(&fs::read_to_string(&path)?)?);
        }
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), ["xt-balances", "xt-exporter"]);
    Ok(found)
}

fn list<'a>(of: &'a Value, pointer: &str) -> &'a [Value] {
    of.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(of: &'a Value, pointer: &str) -> &'a str {
    of.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The panels that show something.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "/panels").iter().filter(|panel| text(panel, "/type") != "row")
}

#[test]
fn the_json_is_what_its_source_gives() {
    let run = Command::new("python3").args(["grafana/dashboards.py", "--check"]).output();
    let run = run.unwrap_or_else(|error| panic!("python3: {error}; see tests/install"));
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Units of Grafana that are in use here.
const UNITS: [&str; 9] =
    ["bytes", "cpm", "dateTimeAsIso", "locale", "none", "percentunit", "s", "short", "string"];

/// What is wrong with a dashboard.
#[derive(Default)]
struct Findings {
    place: String,
    wrong: Vec<String>,
}

impl Findings {
    fn must(&mut self, holds: bool, what: &str) {
        if !holds {
            self.wrong.push(format!("{}{what}", self.place));
        }
    }
}

/// What the rules of grafana/dashboard-linter, which are named, and some of our own find wrong.
fn lint(dashboard: &Value) -> Vec<String> {
    let mut found = Findings::default();
    found.must((8..=40).contains(&text(dashboard, "/uid").len()), "uid has 8 to 40 characters");
    found.must(dashboard["id"].is_null(), "id is null");
    found.must(dashboard["editable"] == json!(false), "uneditable");
    found.must(dashboard.get("__inputs").is_none(), "no __inputs, which provisioning leaves unfilled");
    for (pointer, value) in [("/timezone", "browser"), ("/refresh", "30s"), ("/time/to", "now")] {
        found.must(text(dashboard, pointer) == value, &format!("{pointer} is {value}"));
    }
    for pointer in ["/title", "/description", "/tags/0", "/time/from"] {
        found.must(!text(dashboard, pointer).is_empty(), &format!("{pointer} is given"));
    }
    found.must(dashboard["version"].is_u64() && dashboard["schemaVersion"].is_u64(), "versions are given");
    let link = &dashboard["links"][0];
    let leads_on =
        link["tags"] == dashboard["tags"] && link["includeVars"] == true && link["keepTime"] == true;
    found.must(leads_on, "a link to the other dashboards, with variables and time");
    lint_variables(list(dashboard, "/templating/list"), &mut found);

    let (mut titles, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in list(dashboard, "/panels") {
        let title = text(panel, "/title");
        found.place = format!("panel {title:?}: ");
        found.must(titles.insert(title), "a title for the second time");
        found.must(ids.insert(panel["id"].as_u64()), "a panel id for the second time");
        if text(panel, "/type") != "row" {
            lint_panel(panel, &mut found);
            lint_unknown(panel, &mut found);
        }
    }
    found.wrong
}

fn lint_variables(variables: &[Value], found: &mut Findings) {
    let named = |name: &str| variables.iter().find(|variable| variable["name"] == *name);
    let source = named("datasource").cloned().unwrap_or_default();
    found.must(
        source["type"] == "datasource" && source["query"] == "prometheus",
        "template-datasource-rule: a variable `datasource`",
    );
    found.must(source["label"] == "Data source", "template-datasource-rule: its label");
    for name in ["job", "instance"] {
        found.must(named(name).is_some(), &format!("template-{name}-rule: a variable `{name}`"));
    }
    for variable in variables.iter().filter(|variable| variable["name"] != "datasource") {
        let name = text(variable, "/name");
        found.place = format!("variable {name}: ");
        found.must(
            text(variable, "/datasource/uid") == "${datasource}",
            "template-job-rule: the chosen data source",
        );
        found.must(variable["type"] == "query", "template-job-rule: a query");
        found.must(
            text(variable, "/label").to_lowercase() == name,
            "template-job-rule: the label is its name",
        );
        found.must(variable["multi"] == true, "template-job-rule: multi");
        found.must(variable["includeAll"] == true, "all of them can be chosen");
        found.must(text(variable, "/allValue") == ".+", "template-job-rule: allValue");
        found.must(variable["refresh"] == 2, "template-on-time-change-reload-rule: refresh");
        found.must(text(variable, "/query").starts_with("label_values("), "template-label-promql-rule");
    }
}

fn lint_panel(panel: &Value, found: &mut Findings) {
    let description = text(panel, "/description");
    found.must(!text(panel, "/title").is_empty() && !description.is_empty(), "panel-title-description-rule");
    found.must(description.ends_with('.'), "a description is made of sentences");
    found.must(text(panel, "/datasource/uid") == "${datasource}", "panel-datasource-rule");
    let mut units = properties(panel, "unit")
        .map(|unit| unit.as_str().unwrap_or_default())
        .chain([text(panel, "/fieldConfig/defaults/unit")]);
    found.must(units.all(|unit| UNITS.contains(&unit)), "panel-units-rule");
    found.must(!list(panel, "/targets").is_empty(), "panel-no-targets-rule");
    for target in list(panel, "/targets") {
        let expression = text(target, "/expr");
        found.must(text(target, "/datasource/uid") == "${datasource}", "panel-datasource-rule");
        let selectors = selectors(expression);
        // Recorded metrics have no target labels: a metric of the chosen exporters stands beside them.
        found.must(!selectors.is_empty(), "target-job-rule");
        for selector in selectors {
            found.must(selector.contains(r#"job=~"$job""#), "target-job-rule");
            found.must(selector.contains(r#"instance=~"$instance""#), "target-instance-rule");
        }
        found.must(counters_are_rates(expression), "target-counter-agg-rule");
        found.must(rates_have_the_interval(expression), "target-rate-interval-rule");
    }
}

/// What is not known must look unknown.
fn lint_unknown(panel: &Value, found: &mut Findings) {
    let kind = text(panel, "/type");
    let no_value = text(panel, "/fieldConfig/defaults/noValue");
    let unknown = ["unknown", "none known", "unknown, or prices are off"];
    found.must(unknown.contains(&no_value), "no value is shown as `unknown`");
    let calcs = list(panel, "/options/reduceOptions/calcs");
    found.must(calcs.iter().all(|calc| calc == "last"), "a number is never the last that was known");
    found.must(list(panel, "/options/legend/calcs").is_empty(), "nor is one in a legend");
    let breaks = panel.pointer("/fieldConfig/defaults/custom/spanNulls") == Some(&json!(false));
    found.must(kind != "timeseries" || breaks, "lines break where nothing is known");
    let of_null = |mappings: &Value| {
        list(mappings, "").iter().any(|mapping| {
            text(mapping, "/options/match") == "null" && text(mapping, "/options/result/text") == "unknown"
        })
    };
    let defaults = &panel["fieldConfig"]["defaults"]["mappings"];
    found.must(kind != "stat" || of_null(defaults), "no value is grey");
    let in_every_column = properties(panel, "mappings").all(of_null);
    found.must(kind != "table" || in_every_column, "no value is grey in every column");
    let at_once = ["stat", "table"].contains(&kind);
    for target in list(panel, "/targets") {
        let now = target["instant"] == at_once && target["range"] == !at_once;
        found.must(now, "what is true now is asked for now");
        found.must(!text(target, "/expr").contains("vector("), "a count of nothing known is not 0");
    }
}

/// The values of a property in the overrides of a panel.
fn properties<'a>(panel: &'a Value, id: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = list(panel, "/fieldConfig/overrides").iter().flat_map(|over| list(over, "/properties"));
    all.filter(move |property| property["id"] == *id).map(|property| &property["value"])
}

/// What stands in braces after each metric of an expression; nothing for a metric without braces. Recorded metrics are left
/// out.
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

/// Whether each `_total` stands in a range under `rate` or `increase`.
fn counters_are_rates(expression: &str) -> bool {
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

/// Whether each `rate` is over `$__rate_interval`.
fn rates_have_the_interval(expression: &str) -> bool {
    let ranges =
        expression.split("rate(").skip(1).filter_map(|rest| rest.split('[').nth(1)?.split(']').next());
    ranges.into_iter().all(|range| range == "$__rate_interval")
}

#[test]
fn dashboards_keep_the_rules_of_the_linter() -> Outcome {
    let dashboards = dashboards()?;
    for (name, dashboard) in &dashboards {
        assert_eq!(text(dashboard, "/uid"), name, "the uid is the name of the file");
        let wrong = lint(dashboard);
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
    let titles: BTreeSet<_> = dashboards.values().map(|dashboard| text(dashboard, "/title")).collect();
    assert_eq!(titles.len(), dashboards.len());
    Ok(())
}

#[test]
fn the_linter_finds_each_mistake() -> Outcome {
    let dashboards = dashboards()?;
    let dashboard = dashboards.get("xt-exporter").ok_or("no xt-exporter")?;
    let place = |title: &str| {
        let all = list(dashboard, "/panels");
        all.iter().position(|panel| text(panel, "/title") == title).ok_or_else(|| format!("no panel {title}"))
    };
    let (stat, table) = (place("Data age")?, place("Accounts")?);
    let (rate, total) = (place("CPU")?, place("How often is an answer doubted?")?);
    let mistakes = [
        ("/editable".to_owned(), json!(true), "uneditable"),
        ("/id".to_owned(), json!(7), "id is null"),
        ("/uid".to_owned(), json!("xt"), "uid"),
        ("/timezone".to_owned(), json!("utc"), "/timezone"),
        ("/links/0/includeVars".to_owned(), json!(false), "a link"),
        ("/templating/list/0/label".to_owned(), json!("Datasource"), "template-datasource-rule"),
        ("/templating/list/1/name".to_owned(), json!("jobs"), "template-job-rule"),
        ("/templating/list/2/allValue".to_owned(), json!(".*"), "template-job-rule: allValue"),
        ("/templating/list/2/multi".to_owned(), json!(false), "template-job-rule: multi"),
        ("/templating/list/2/refresh".to_owned(), json!(1), "template-on-time-change-reload-rule"),
        ("/templating/list/2/datasource/uid".to_owned(), json!("abc"), "the chosen data source"),
        ("/templating/list/2/query".to_owned(), json!("up"), "template-label-promql-rule"),
        (format!("/panels/{stat}/id"), json!(1), "a panel id"),
        (format!("/panels/{stat}/title"), json!("CPU"), "a title"),
        (format!("/panels/{stat}/description"), json!(""), "panel-title-description-rule"),
        (format!("/panels/{stat}/datasource/uid"), json!("abc"), "panel-datasource-rule"),
        (format!("/panels/{stat}/fieldConfig/defaults/unit"), json!("seconds"), "panel-units-rule"),
        (format!("/panels/{stat}/fieldConfig/defaults/noValue"), json!("0"), "`unknown`"),
        (format!("/panels/{stat}/fieldConfig/defaults/mappings"), json!([]), "no value is grey"),
        (format!("/panels/{stat}/targets"), json!([]), "panel-no-targets-rule"),
        (format!("/panels/{stat}/targets/0/instant"), json!(false), "asked for now"),
        (format!("/panels/{stat}/options/reduceOptions/calcs/0"), json!("lastNotNull"), "never the last"),
        (format!("/panels/{table}/fieldConfig/overrides/0/properties/1/value"), json!([]), "every column"),
        (format!("/panels/{rate}/options/legend/calcs"), json!(["lastNotNull"]), "nor is one"),
        (format!("/panels/{rate}/fieldConfig/defaults/custom/spanNulls"), json!(true), "lines break"),
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
    ];
    for (pointer, value, rule) in mistakes {
        let mut wrong = dashboard.clone();
        *wrong.pointer_mut(&pointer).ok_or_else(|| format!("no {pointer}"))? = value;
        let found = lint(&wrong);
        assert!(found.iter().any(|what| what.contains(rule)), "{pointer}: {rule} is not among {found:?}");
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
        for target in panels(&dashboard).flat_map(|panel| list(panel, "/targets")) {
            expressions.push(text(target, "/expr"));
            assert!(
                labels_of(text(target, "/legendFormat")).all(|label| all.contains(label)),
                "{name}: {target}"
            );
        }
        for annotation in list(&dashboard, "/annotations/list") {
            expressions.push(text(annotation, "/target/expr"));
            let formats = [text(annotation, "/titleFormat"), text(annotation, "/textFormat")];
            assert!(formats.iter().flat_map(|format| labels_of(format)).all(|label| all.contains(label)));
        }
        for variable in
            list(&dashboard, "/templating/list").iter().filter(|variable| variable["type"] == "query")
        {
            let inside = text(variable, "/query").trim_start_matches("label_values(").trim_end_matches(')');
            let (series, label) = inside.rsplit_once(", ").ok_or("no label")?;
            assert!(all.contains(label), "{name}: {inside}");
            // A selector of several names, which are in the string that stands first in it.
            match series.strip_prefix(r#"{__name__=~""#).and_then(|rest| rest.split_once("\",")) {
                Some((names, rest)) => names
                    .split('|')
                    .try_for_each(|metric| hold(&format!("{metric}{{{rest}"), &known))
                    .map_err(|wrong| format!("{name}: {wrong}"))?,
                None => expressions.push(series),
            }
        }
        for expression in expressions {
            let plain = expression.replace("$__rate_interval", "1m");
            hold(&plain, &known).map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        // The columns of a table are named by the labels and queries they come from.
        for panel in panels(&dashboard) {
            let targets = list(panel, "/targets");
            for (column, _) in panel
                .pointer("/transformations/1/options/renameByName")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                let is_value = column == "Value"
                    || targets.iter().any(|target| *column == format!("Value #{}", text(target, "/refId")));
                assert!(is_value || all.contains(column), "{name}: {column}");
            }
        }
    }
    Ok(())
}

/// The labels that a legend or a text names in double braces.
fn labels_of(format: &str) -> impl Iterator<Item = &str> {
    format.split("{{").skip(1).filter_map(|rest| rest.split("}}").next())
}

#[test]
fn provisioning_leads_to_prometheus_and_to_the_dashboards() -> Outcome {
    let yaml = |path: &str| -> Result<Value, Box<dyn Error>> {
        Ok(serde_saphyr::from_str(&fs::read_to_string(path)?)?)
    };
    let datasources = yaml(DATASOURCES)?;
    let prometheus = &datasources["datasources"][0];
    assert_eq!((&datasources["apiVersion"], &prometheus["type"]), (&json!(1), &json!("prometheus")));
    // Without the variable the host is empty, which Go's dialler takes for this machine.
    assert_eq!(prometheus["url"], "http://${PROMETHEUS_HOST}:9090");
    assert_eq!(prometheus["editable"], json!(false));
    let interval = yaml(PROMETHEUS)?["global"]["scrape_interval"].clone();
    assert_eq!(prometheus["jsonData"]["timeInterval"], interval, "$__rate_interval is made from it");
    let providers = yaml(PROVIDERS)?;
    let provider = &providers["providers"][0];
    assert_eq!((&providers["apiVersion"], &provider["type"]), (&json!(1), &json!("file")));
    assert_eq!(provider["allowUiUpdates"], json!(false));
    let folder = text(provider, "/options/path");
    assert!(Path::new(folder).is_absolute());
    assert!(fs::read_to_string(format!("{FOLDER}/README.md"))?.contains(folder));
    Ok(())
}

/// Cargo's target folder, in which tests/install puts Grafana's packages.
fn target_folder() -> &'static Path {
    let inside = Path::new(env!("CARGO_TARGET_TMPDIR"));
    inside.parent().unwrap_or(inside)
}

/// The compiler's remarks on a TypeScript module that stands beside the type of a dashboard.
fn judged(module: &str) -> Result<String, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let packages = target_folder().join("grafana/node_modules");
    assert!(packages.is_dir(), "{} is not there; see tests/install", packages.display());
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
    let said = String::from_utf8(run.stdout)?;
    assert_eq!(run.status.success(), said.is_empty(), "{said}{}", String::from_utf8_lossy(&run.stderr));
    Ok(said)
}

#[test]
fn the_json_matches_grafanas_published_schema() -> Outcome {
    let dashboards = dashboards()?;
    let mut module = String::new();
    for (number, dashboard) in dashboards.values().enumerate() {
        writeln!(module, "export const d{number}: Dashboard = {dashboard:#};")?;
    }
    assert_eq!(judged(&module)?, "");

    // The schema is strict: each of these is refused.
    let dashboard = dashboards.get("xt-exporter").ok_or("no xt-exporter")?;
    let place = |title: &str| {
        let all = list(dashboard, "/panels");
        all.iter().position(|panel| text(panel, "/title") == title).ok_or_else(|| format!("no panel {title}"))
    };
    let (stat, table, heat) = (place("Data age")?, place("Accounts")?, place("Polls by duration")?);
    let (lines, bands) = (place("CPU")?, place("How did each wallet stand?")?);
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
        // The compiler remarks on this comment if it has nothing to say against the line after it.
        writeln!(module, "// @ts-expect-error {pointer}\nexport const d{number}: Dashboard = {wrong};")?;
    }
    assert_eq!(judged(&module)?, "");
    Ok(())
}

/// Labels as `PromQL` writes them, from `name=value,name=value`.
fn braces(short: &str) -> String {
    let pairs = short.split(',').filter_map(|label| label.split_once('='));
    let pairs: Vec<_> = pairs.map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    format!("{{{}}}", pairs.join(","))
}

/// Holds promtool's answers to queries of a dashboard against what they should be, where `series`,
/// each `metric labels value`, are all there is beside what the rules record from them. An answer is
/// `labels value; labels value`; the value `words` stands for NaN, which the dashboards show in words.
fn promtool_finds(series: &[String], expected: &[(&Value, &str)]) -> Outcome {
    let input = series.iter().map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap_or_default();
        let (metric, labels) = series.split_once(' ').unwrap_or_default();
        json!({"series": format!("{metric}{}", braces(labels)), "values": format!("{value}x9")})
    });
    let queries = expected.iter().map(|(target, answer)| {
        let chosen = ["job", "instance", "account", "wallet", "currency"];
        let all = |query: String, name: &&str| query.replace(&format!("${name}\""), ".+\"");
        let query = chosen.iter().fold(text(target, "/expr").to_owned(), all);
        // promtool compares no NaN, which alone is not what it is itself: it becomes -1.
        let query = format!("0 + (({query}) == ({query})) or 0 * (({query}) != bool ({query})) - 1");
        let samples = answer.split("; ").filter_map(|sample| sample.rsplit_once(' ')).map(|(labels, value)| {
            json!({"labels": braces(labels), "value": value.parse::<f64>().unwrap_or(-1.0)})
        });
        json!({"expr": query, "eval_time": "5m", "exp_samples": samples.collect::<Vec<_>>()})
    });
    let test = json!({
        "interval": "1m",
        "input_series": input.collect::<Vec<_>>(),
        "promql_expr_test": queries.collect::<Vec<_>>(),
    });
    let rules = fs::canonicalize(RULES)?;
    let file = json!({"rule_files": [rules], "evaluation_interval": "1m", "tests": [test]});
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("test.yml");
    fs::write(&path, file.to_string())?;
    let run = Command::new("promtool").args(["test", "rules"]).arg(&path).output()?;
    let said = [run.stdout, run.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(run.status.success(), "{series:#?}\n{}", said.concat());
    Ok(())
}

/// The numbers about worth, on top of its row.
const OF_WORTH: [&str; 3] =
    ["Worth of the chosen accounts in USDT", "Holdings without a price", "Age of the prices"];

fn titled<'a>(dashboard: &'a Value, title: &str) -> &'a Value {
    panels(dashboard).find(|panel| text(panel, "/title") == title).unwrap_or_else(|| panic!("no {title}"))
}

#[test]
fn the_row_of_worth_has_words_for_prices_that_are_off() -> Outcome {
    let dashboards = dashboards()?;
    let balances = dashboards.get("xt-balances").ok_or("no xt-balances")?;
    let off = json!({"text": "prices are off", "color": "#8e8e8e"});
    for title in OF_WORTH {
        let mappings = list(titled(balances, title), "/fieldConfig/defaults/mappings");
        let in_words =
            |mapping: &Value| text(mapping, "/options/match") == "nan" && mapping["options"]["result"] == off;
        assert!(mappings.iter().any(in_words), "{title}");
    }
    for title in
        ["What is each account worth?", "How many currencies had no price?", "What is each currency worth?"]
    {
        let words = text(titled(balances, title), "/fieldConfig/defaults/noValue");
        assert_eq!(words, "unknown, or prices are off", "{title}");
    }
    Ok(())
}

/// A day of made-up accounts cannot show it: there no configuration is changed.
#[test]
fn builds_tell_a_configuration_that_is_not_the_last_one() -> Outcome {
    let dashboards = dashboards()?;
    let builds = titled(dashboards.get("xt-exporter").ok_or("no xt-exporter")?, "Builds");
    let mut series = Vec::new();
    for (exporter, configured) in [("good", Some((70, 1))), ("bad", Some((60, 0))), ("demo", None)] {
        let labels = format!("job=xt-balance-exporter,instance={exporter}");
        series.push(format!("xt_exporter_build_info {labels},revision=r,rustversion=1,version=2 1"));
        series.push(format!("process_start_time_seconds {labels} 50"));
        if let Some((at, is_good)) = configured {
            series.push(format!("xt_exporter_config_last_reload_success_timestamp_seconds {labels} {at}"));
            series.push(format!("xt_exporter_config_last_reload_successful {labels} {is_good}"));
        }
    }
    let row = |exporter: &str, value: &str| {
        format!("instance={exporter},revision=r,rustversion=1,version=2 {value}")
    };
    let rows = [
        [row("good", "50000"), row("bad", "50000"), row("demo", "50000")].join("; "),
        [row("good", "70000"), row("bad", "60000")].join("; "),
        [row("good", "1"), row("bad", "0")].join("; "),
    ];
    let targets = list(builds, "/targets");
    assert_eq!(targets.len(), rows.len());
    promtool_finds(&series, &targets.iter().zip(rows.iter().map(String::as_str)).collect::<Vec<_>>())?;

    let words = properties(builds, "mappings").find_map(|mappings| {
        let of_values = list(mappings, "").iter().find(|mapping| mapping["type"] == "value")?;
        Some(["0", "1"].map(|value| text(of_values, &format!("/options/{value}/color")).to_owned()))
    });
    assert_eq!(words, Some(["red", "green"].map(str::to_owned)));
    Ok(())
}

/// A day of made-up accounts cannot show it: what an exporter says of its prices there never changes.
#[test]
fn a_worth_is_whole_or_unknown_and_tells_when_prices_are_off() -> Outcome {
    let dashboards = dashboards()?;
    let balances = dashboards.get("xt-balances").ok_or("no xt-balances")?;
    let target = |title: &str, place: usize| &titled(balances, title)["targets"][place];
    let [worth, unpriced, age] = OF_WORTH.map(|title| target(title, 0));
    let line = target("What is each account worth?", 0);
    let [each, share, price, amount] =
        [0, 1, 2, 3].map(|place| target("What is each currency worth?", place));

    let exporter = |instance: &str| {
        [
            "up  1",
            "xt_up account=desk,wallet=spot 1",
            "xt_currencies account=desk,wallet=spot 3",
            "xt_balance_free account=desk,wallet=spot,currency=usdt 750",
            "xt_balance_frozen account=desk,wallet=spot,currency=usdt 0",
            "xt_balance_free account=desk,wallet=spot,currency=btc 0.001",
            "xt_balance_frozen account=desk,wallet=spot,currency=btc 0.004",
            "xt_balance_free account=desk,wallet=spot,currency=odd 5",
            "xt_balance_frozen account=desk,wallet=spot,currency=odd 0",
            "xt_balance_free account=desk,wallet=spot,currency=eth 0",
            "xt_balance_frozen account=desk,wallet=spot,currency=eth 0",
        ]
        .map(|line| line.replacen(' ', &format!(" job=j,instance={instance},"), 1))
    };
    let asked = |instance: &str, at: u32| {
        [format!("xt_price_last_success_timestamp_seconds job=j,instance={instance} {at}")]
    };
    let prices = |instance: &str, btc: u32| {
        [
            format!("xt_price job=j,instance={instance},currency=usdt,quote=usdt 1"),
            format!("xt_price job=j,instance={instance},currency=btc,quote=usdt {btc}"),
            format!("xt_price job=j,instance={instance},currency=eth,quote=usdt 2000"),
            format!("xt_unpriced_currencies job=j,instance={instance},account=desk,wallet=spot 1"),
        ]
    };
    let with = |parts: &[&[String]]| parts.concat();
    let known = with(&[&exporter("a"), &asked("a", 290), &prices("a", 50_000)]);
    let line_of_a = "account=desk 1000";
    // A row of the table of currencies, of all of which there is one exporter, account and wallet.
    let rows = |of: &[(&str, &str)]| {
        let row = |(currency, value): &(&str, &str)| {
            format!("instance=a,account=desk,wallet=spot,currency={currency} {value}")
        };
        of.iter().map(row).collect::<Vec<_>>().join("; ")
    };
    let amounts = &*rows(&[("usdt", "750"), ("btc", "0.005"), ("odd", "5")]);
    let each_of_a = &*rows(&[("usdt", "750"), ("btc", "250"), ("odd", "words")]);
    promtool_finds(
        &known,
        &[
            (worth, " 1000"),
            (unpriced, " 1"),
            (age, " 10"),
            (line, line_of_a),
            (each, each_of_a),
            (share, &rows(&[("usdt", "0.75"), ("btc", "0.25")])),
            (price, &rows(&[("usdt", "1"), ("btc", "50000"), ("odd", "words")])),
            (amount, amounts),
        ],
    )?;

    // Two exporters, each at its own prices: the account counts once.
    let both = with(&[&known, &exporter("b"), &asked("b", 280), &prices("b", 450_000)]);
    let line_of_both = "account=desk 3000";
    promtool_finds(&both, &[(worth, " 3000"), (unpriced, " 2"), (age, " 20"), (line, line_of_both)])?;

    let down = ["up job=j,instance=b 0".to_owned()];
    let unread = ["xt_up job=j,instance=a,account=desk,wallet=fiat 0".to_owned()];
    for (series, of_stats, of_age, of_line, of_each) in [
        // Prices are off; and then another exporter is down, of which that is not known.
        (with(&[&exporter("a")]), " words", " words", "", ""),
        (with(&[&exporter("a"), &down]), "", "", "", ""),
        // They were never read, or are too old.
        (with(&[&exporter("a"), &asked("a", 0)]), "", "", "", ""),
        (with(&[&exporter("a"), &asked("a", 100)]), "", " 200", "", ""),
        // Another exporter is down; a wallet is unknown.
        (with(&[&known, &down]), "", "", line_of_a, each_of_a),
        (with(&[&known, &unread]), "", " 10", "", each_of_a),
    ] {
        // What is held has a row wherever prices are asked for.
        let of_amount = if series.iter().any(|line| line.contains("last_success")) { amounts } else { "" };
        let expected = [
            (worth, of_stats),
            (unpriced, of_stats),
            (age, of_age),
            (line, of_line),
            (each, of_each),
            (amount, of_amount),
        ];
        promtool_finds(&series, &expected)?;
    }
    promtool_finds(&with(&[&known, &unread]), &[(share, "")])?;
    // Another exporter has them off: what its account is worth is not known.
    let mixed = with(&[&known, &exporter("b")]);
    promtool_finds(&mixed, &[(worth, ""), (unpriced, ""), (age, " 10"), (line, line_of_a)])
}

/// A day of made-up accounts and the Prometheus that knows it: see `grafana/rehearse.py`. Ends when
/// dropped.
struct Rehearsal {
    child: Child,
    address: SocketAddr,
    exporter: u64,
}

/// What the variables of a dashboard are set to; all that are not named, to all.
type Choice<'a> = &'a [(&'a str, &'a str)];

impl Rehearsal {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new("python3")
            .args(["grafana/rehearse.py", env!("CARGO_BIN_EXE_xt-balance-exporter"), "24"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("not piped")?).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line)?;
        let address = text(&said, "/prometheus").trim_start_matches("http://").parse()?;
        Ok(Self { child, address, exporter: said["exporter"].as_u64().ok_or("no process")? })
    }

    /// What Prometheus answers a query of a panel: at one moment, or over the last six hours.
    fn ask(&self, target: &Value, choice: Choice) -> Vec<Value> {
        let mut expression = text(target, "/expr").replace("$__rate_interval", "1m");
        for name in ["job", "instance", "account", "wallet", "currency", "watched"] {
            let chosen =
                choice.iter().find(|(variable, _)| *variable == name).map_or(".+", |(_, value)| value);
            expression = expression.replace(&format!("${name}\""), &format!("{chosen}\""));
        }
        assert!(!expression.contains('$'), "{expression}");
        let query: String =
            expression.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"));
        let path = if target["instant"] == true {
            format!("/api/v1/query?query={query}")
        } else {
            let now = std::time::UNIX_EPOCH.elapsed().map(|since| since.as_secs()).unwrap_or_default();
            format!("/api/v1/query_range?query={query}&start={}&end={now}&step=30", now - 6 * 3600)
        };
        let answer = get(self.address, &path, &[]).text();
        let answer = answer.find('{').zip(answer.rfind('}')).and_then(|(from, to)| answer.get(from..=to));
        let answer: Value = serde_json::from_str(answer.unwrap_or_default()).unwrap_or_default();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        list(&answer, "/data/result").to_vec()
    }

    /// The value of the one series that a query of a moment finds.
    fn number(&self, target: &Value, choice: Choice) -> Option<String> {
        match &*self.ask(target, choice) {
            [] => None,
            [one] => Some(text(one, "/value/1").to_owned()),
            more => panic!("{target}: {more:?}"),
        }
    }

    /// Waits for that value: on a busy machine a poll may come late, and is good the next time.
    fn shows(&self, target: &Value, choice: Choice, value: Option<&str>) {
        until(&format!("{value:?} of {choice:?} is what {target} finds"), || {
            (self.number(target, choice).as_deref() == value).then_some(())
        });
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn every_query_finds_what_there_is_and_nothing_that_is_not_known() -> Outcome {
    let dashboards = dashboards()?;
    let all: Vec<_> = dashboards
        .values()
        .flat_map(|dashboard| panels(dashboard).map(move |panel| (text(dashboard, "/uid"), panel)))
        .flat_map(|(uid, panel)| {
            list(panel, "/targets").iter().map(move |target| (uid, text(panel, "/title"), target))
        })
        .collect();
    let target = |uid: &str, title: &str, refid: &str| {
        let mut all = all.iter();
        let found = all.find(|each| each.0 == uid && each.1 == title && text(each.2, "/refId") == refid);
        found.map(|each| each.2).ok_or_else(|| format!("no {title} in {uid}"))
    };
    let rehearsal = Rehearsal::start()?;

    // One account is unknown, so what sums over all is not known; all the others are.
    let known: Choice = &[("account", "(treasury|treasury-fiat|market-maker|arbitrage|cold-storage)")];
    let summed =
        ["Held in all wallets together", "Worth of the chosen accounts in USDT", "Holdings without a price"];
    for (uid, title, target) in &all {
        let found = rehearsal.ask(target, &[]);
        if summed.contains(title) {
            assert!(found.is_empty(), "{uid}, {title}: a sum of which a part is unknown: {found:?}");
            assert!(!rehearsal.ask(target, known).is_empty(), "{uid}, {title} is empty: {target}");
        } else {
            assert!(!found.is_empty(), "{uid}, {title} is empty: {target}");
        }
        // Nothing is chosen that exists: every query minds the variables, and makes no number up.
        for nothing in [[("job", "none")], [("instance", "none")]] {
            assert!(rehearsal.ask(target, &nothing).is_empty(), "{uid}, {title} of {nothing:?}: {target}");
        }
    }
    for annotation in dashboards.values().flat_map(|dashboard| list(dashboard, "/annotations/list")) {
        rehearsal.ask(&annotation["target"], &[]);
    }

    // The numbers on top, and a few others, are those of the rehearsed day.
    for (uid, title, value) in [
        ("xt-balances", "Watched, unknown", "1"),
        ("xt-balances", "Watched, low", "1"),
        ("xt-balances", "Watched, no row", "1"),
        ("xt-balances", "Exporters down", "0"),
        ("xt-exporter", "Exporters down", "0"),
        ("xt-exporter", "Wallets not fresh", "1"),
        ("xt-exporter", "Accounts paused", "1"),
    ] {
        rehearsal.shows(target(uid, title, "A")?, &[], Some(value));
    }
    let of = |account: &'static str, currency: &'static str| [("account", account), ("currency", currency)];
    for (title, refid, choice, value) in [
        ("Which numbers can be trusted?", "A", of("grid-bot", "usdt"), Some("2")),
        ("Which numbers can be trusted?", "A", of("treasury", "usdt"), Some("0")),
        ("Watched balances", "B", of("treasury-fiat", "usd"), Some("481203.5")),
        ("Watched balances", "C", of("grid-bot", "usdt"), Some("300")),
        ("Watched balances", "B", of("grid-bot", "usdt"), None),
        ("Watched balances", "D", of("grid-bot", "usdt"), None),
        ("Watched balances", "D", of("cold-storage", "btc"), Some("NaN")),
        ("Frozen now", "C", of("treasury", "usdt"), Some("1")),
        ("Frozen now", "C", of("market-maker", "usdt"), Some("0")),
        ("Holdings", "A", of("grid-bot", "usdt"), None),
        ("What is each currency worth?", "C", of("treasury", "usdt"), Some("1")),
        ("What is each currency worth?", "A", of("treasury-fiat", "usd"), Some("NaN")),
        ("What is each currency worth?", "C", of("treasury-fiat", "usd"), Some("NaN")),
        ("What is each currency worth?", "D", of("treasury-fiat", "usd"), Some("481203.5")),
        ("What is each currency worth?", "A", of("grid-bot", "usdt"), None),
        ("Holdings without a price", "A", of("cold-storage", "btc"), Some("0")),
        ("Holdings without a price", "A", of("treasury-fiat", "usd"), Some("2")),
        // Nothing in it has a price, which is not 0.
        ("Worth of the chosen accounts in USDT", "A", of("treasury-fiat", "usd"), None),
    ] {
        rehearsal.shows(target("xt-balances", title, refid)?, &choice, value);
    }
    for account in rehearsal.ask(target("xt-balances", "What is each account worth?", "A")?, &[]) {
        let mut values = list(&account, "/values").iter().map(|value| text(value, "/1"));
        assert!(values.all(|value| value != "0"), "it always held something: {account}");
    }
    grafana_shows_what_is_not_known_as_unknown(&rehearsal)?;

    // Once the exporter is gone, nothing that is asked for now is known, except that it is gone.
    let killed = Command::new("kill").args(["-KILL", &rehearsal.exporter.to_string()]).status()?;
    assert!(killed.success());
    let down = target("xt-balances", "Exporters down", "A")?;
    until("Prometheus has noticed", || (rehearsal.number(down, &[])? == "1").then_some(()));
    for (uid, title, target) in
        all.iter().filter(|each| each.2["instant"] == true && each.1 != "Exporters down")
    {
        // Failures of the last quarter of an hour stay what they were.
        if ["Why did polls fail?", "Worst share of failed polls"].contains(title) {
            continue;
        }
        // A rule that was evaluated just before the scrape failed is so once more.
        until(&format!("{uid}, {title} is unknown: {target}"), || {
            rehearsal.ask(target, &[]).is_empty().then_some(())
        });
    }
    Ok(())
}

/// The texts are those that Grafana's own code makes of the answers.
fn grafana_shows_what_is_not_known_as_unknown(rehearsal: &Rehearsal) -> Outcome {
    let folder = tempfile::tempdir()?;
    let run = Command::new("node")
        .args(["grafana/render.mjs", &format!("http://{}", rehearsal.address), "--pages"])
        .arg(format!("--folder={}", folder.path().display()))
        .env("CARGO_TARGET_DIR", target_folder())
        .output()?;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let page = fs::read_to_string(folder.path().join("xt-balances-dark-desktop.html"))?;
    let panel = |title: &str| {
        let section = page.split("<section").find(|section| section.contains(&format!(">{title}</h3>")));
        section.unwrap_or_else(|| panic!("no panel {title}"))
    };
    // A row as words: the texts of its cells.
    let row = |title: &str, account: &str| {
        let row =
            panel(title).split("<tr>").find(|row| row.contains(&format!(">{account}<"))).unwrap_or_default();
        let cells = row.split("</td>").filter_map(|cell| cell.rsplit('>').next());
        cells.filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
    };
    let unknown = row("Watched balances", "grid-bot");
    let expected = ["grid-bot", "spot", "usdt", "unknown", "unknown", "300", "unknown", "unknown"];
    assert_eq!(unknown.get(..8), Some(&expected[..]));
    let still = row("Watched balances", "cold-storage");
    let expected = ["cold-storage", "spot", "btc", "415%", "41.5", "10", "not falling", "0"];
    assert_eq!(still.get(..8), Some(&expected[..]));
    assert_eq!(row("Which numbers can be trusted?", "grid-bot").get(2), Some(&"unknown"));
    assert!(row("Holdings", "grid-bot").is_empty());
    assert!(row("What is each currency worth?", "grid-bot").is_empty());
    let unpriced = row("What is each currency worth?", "usd");
    let expected = ["treasury-fiat", "fiat", "usd", "no price", "unknown", "no price", "481,203.5"];
    assert_eq!(unpriced.get(..7), Some(&expected[..]));
    assert!(panel("Held in all wallets together").contains("unknown"));
    assert!(panel("Watched, unknown").contains(">1<"));
    assert!(panel("Shortest runway").contains(">below threshold<"));
    Ok(())
}
