//! The values of the Helm chart: each one changes the object that it names, and each wrong one is an error that names it.

use std::{collections::BTreeSet, fs, path::Path, thread};

use serde_json::{Value, json};
use xt_balance_exporter::{clock::UnixTime, config::Config, exchange::Share};

use super::{
    chart::{CHART, WITHDRAWAL_RULES, render},
    output_text, tool, yaml,
};
use crate::common::golden::Transcript;

/// Accounts, and no other value.
const ACCOUNT: &str = "image: {repository: registry.example/x}
existingSecret: xt-keys
config: {accounts: [{name: treasury, access_key_file: treasury.key, secret_key_file: treasury.secret}]}
";
const POD: &str = "/spec/template/spec";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// A value, the object that it changes, and what is at a place in that object then.
struct Case {
    /// Values without which the value has no effect.
    with: String,
    set: String,
    kind: &'static str,
    pointer: String,
    /// `null` if there is no such object or place.
    expected: Value,
}

fn case(set: &str, kind: &'static str, pointer: &str, expected: Value) -> Case {
    Case { with: String::new(), set: set.to_owned(), kind, pointer: pointer.to_owned(), expected }
}

fn in_pod(set: &str, pointer: &str, expected: Value) -> Case {
    case(set, "Deployment", &format!("{POD}{pointer}"), expected)
}

fn in_container(set: &str, pointer: &str, expected: Value) -> Case {
    case(set, "Deployment", &format!("{CONTAINER}{pointer}"), expected)
}

fn cases_of_the_image() -> Vec<Case> {
    let digest = format!("sha256:{}", "a".repeat(64));
    let version = env!("CARGO_PKG_VERSION");
    vec![
        in_container("image: {repository: a.example/y}", "/image", json!(format!("a.example/y:{version}"))),
        in_container("image: {tag: nightly}", "/image", json!("registry.example/x:nightly")),
        in_container(
            &format!("image: {{digest: '{digest}', tag: nightly}}"),
            "/image",
            json!(format!("registry.example/x@{digest}")),
        ),
        in_container("image: {pullPolicy: Always}", "/imagePullPolicy", json!("Always")),
        in_pod("imagePullSecrets: [{name: registry}]", "/imagePullSecrets", json!([{"name": "registry"}])),
    ]
}

fn cases_of_the_exporter() -> Vec<Case> {
    let config = "accounts:\n- access_key_file: treasury.key\n  name: treasury\n  secret_key_file: treasury.secret\n\
                  poll_interval: 1m\n";
    let limits = json!({"name": "desk"});
    vec![
        in_container("demo: true\nconfig: ~\nexistingSecret: ''", "/args", json!(["demo"])),
        case("config: {poll_interval: 1m}", "ConfigMap", "/data/accounts.yml", json!(config)),
        in_pod("existingSecret: other", "/volumes/0/projected/sources/1/secret/name", json!("other")),
        case(
            "shards: 2\nconfig: {accounts: [{name: a}, {name: b}]}",
            "StatefulSet",
            "/spec/replicas",
            json!(2),
        ),
        in_container("limitsShare: 1/4", "/env/1", json!({"name": "XT_LIMITS_SHARE", "value": "1/4"})),
        in_container("extraArgs: [--log.format=json]", "/args/1", json!("--log.format=json")),
        in_container("extraEnvs: [{name: A, value: b}]", "/env/2", json!({"name": "A", "value": "b"})),
        in_pod("extraVolumes: [{name: a, emptyDir: {}}]", "/volumes/2", json!({"name": "a", "emptyDir": {}})),
        in_container(
            "extraVolumeMounts: [{name: a, mountPath: /a}]",
            "/volumeMounts/2",
            json!({"name": "a", "mountPath": "/a"}),
        ),
        case(
            "extraObjects: [{apiVersion: v1, kind: LimitRange, metadata: {name: '{{ .Release.Name }}'}}]",
            "LimitRange",
            "/metadata",
            limits,
        ),
    ]
}

fn cases_of_the_pod() -> Vec<Case> {
    let spread = json!([{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {
            "app.kubernetes.io/name": "xt-balance-exporter", "app.kubernetes.io/instance": "desk",
        }},
    }]);
    let own_selector = json!([{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}},
    }]);
    let constraint = "maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule";
    vec![
        case("annotations: {a: b}", "Deployment", "/metadata/annotations", json!({"a": "b"})),
        case("podAnnotations: {a: b}", "Deployment", "/spec/template/metadata/annotations/a", json!("b")),
        case("podLabels: {a: b}", "Deployment", "/spec/template/metadata/labels/a", json!("b")),
        in_pod("nodeSelector: {a: b}", "/nodeSelector", json!({"a": "b"})),
        in_pod("tolerations: [{operator: Exists}]", "/tolerations", json!([{"operator": "Exists"}])),
        in_pod("affinity: {podAffinity: {}}", "/affinity", json!({"podAffinity": {}})),
        in_pod(
            &format!("topologySpreadConstraints: [{{{constraint}}}]"),
            "/topologySpreadConstraints",
            spread,
        ),
        in_pod(
            &format!(
                "topologySpreadConstraints: [{{{constraint}, labelSelector: {{matchLabels: {{a: b}}}}}}]"
            ),
            "/topologySpreadConstraints",
            own_selector,
        ),
        in_pod("priorityClassName: high", "/priorityClassName", json!("high")),
        in_container(
            "resources: {limits: {memory: 64Mi}}",
            "/resources",
            json!({"limits": {"memory": "64Mi"}}),
        ),
        in_pod("terminationGracePeriodSeconds: 30", "/terminationGracePeriodSeconds", json!(30)),
        in_pod("serviceAccount: {create: false}", "/serviceAccountName", json!("default")),
        in_pod("serviceAccount: {name: a}", "/serviceAccountName", json!("a")),
        case(
            "serviceAccount: {annotations: {a: b}}",
            "ServiceAccount",
            "/metadata/annotations",
            json!({"a": "b"}),
        ),
        in_pod(
            "podSecurityContext: {runAsNonRoot: false, runAsUser: 1, runAsGroup: 2, fsGroup: 3, \
             seccompProfile: {type: Unconfined}}",
            "/securityContext",
            json!({"runAsNonRoot": false, "runAsUser": 1, "runAsGroup": 2, "fsGroup": 3,
                "seccompProfile": {"type": "Unconfined"}}),
        ),
        in_container(
            "securityContext: {allowPrivilegeEscalation: true, readOnlyRootFilesystem: false, capabilities: {drop: []}}",
            "/securityContext",
            json!({"allowPrivilegeEscalation": true, "readOnlyRootFilesystem": false, "capabilities": {"drop": []}}),
        ),
        in_container(
            "livenessProbe: {httpGet: {path: /a, port: 1}, periodSeconds: 2, timeoutSeconds: 3, failureThreshold: 4}",
            "/livenessProbe",
            json!({"httpGet": {"path": "/a", "port": 1}, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 4}),
        ),
        in_container(
            "readinessProbe: {httpGet: {path: /a, port: 1}, periodSeconds: 2, timeoutSeconds: 3}",
            "/readinessProbe",
            json!({"httpGet": {"path": "/a", "port": 1}, "periodSeconds": 2, "timeoutSeconds": 3}),
        ),
        in_container(
            "livenessProbe: {httpGet: ~, tcpSocket: {port: http}}",
            "/livenessProbe",
            json!({"tcpSocket": {"port": "http"}, "periodSeconds": 30, "timeoutSeconds": 5, "failureThreshold": 3}),
        ),
    ]
}

fn cases_of_the_network() -> Vec<Case> {
    vec![
        case("nameOverride: a", "Service", "/spec/selector/app.kubernetes.io~1name", json!("a")),
        case("fullnameOverride: a", "Service", "/metadata/name", json!("a")),
        case("commonLabels: {a: b}", "Service", "/metadata/labels/a", json!("b")),
        case("service: {type: NodePort}", "Service", "/spec/type", json!("NodePort")),
        case("service: {port: 80}", "Service", "/spec/ports/0/port", json!(80)),
        case("service: {annotations: {a: b}}", "Service", "/metadata/annotations", json!({"a": "b"})),
        case("service: {labels: {a: b}}", "Service", "/metadata/labels/a", json!("b")),
        case("networkPolicy: {enabled: false}", "NetworkPolicy", "/kind", Value::Null),
        case(
            "networkPolicy: {from: [{podSelector: {}}]}",
            "NetworkPolicy",
            "/spec/ingress/0/from",
            json!([{"podSelector": {}}]),
        ),
        case("networkPolicy: {egress: [{}]}", "NetworkPolicy", "/spec/egress", json!([{}])),
    ]
}

/// The same values of both monitors.
fn cases_of_a_monitor(name: &str, kind: &'static str, endpoints: &str) -> Vec<Case> {
    let mut cases = vec![case(&format!("{name}: {{enabled: true}}"), kind, "/kind", json!(kind))];
    let endpoint = format!("/spec/{endpoints}/0");
    for (value, pointer, expected) in [
        ("namespace: a", "/metadata/namespace", json!("a")),
        ("additionalLabels: {a: b}", "/metadata/labels/a", json!("b")),
        ("interval: 5s", &format!("{endpoint}/interval"), json!("5s")),
        ("scrapeTimeout: 4s", &format!("{endpoint}/scrapeTimeout"), json!("4s")),
        ("scheme: https", &format!("{endpoint}/scheme"), json!("https")),
        (
            "scheme: https, tlsConfig: {serverName: a}",
            &format!("{endpoint}/tlsConfig"),
            json!({"serverName": "a"}),
        ),
        (
            "basicAuth: {username: {name: a, key: b}, password: {name: a, key: c}}",
            &format!("{endpoint}/basicAuth"),
            json!({"username": {"name": "a", "key": "b"}, "password": {"name": "a", "key": "c"}}),
        ),
        (
            "relabelings: [{targetLabel: a, replacement: b}]",
            &format!("{endpoint}/relabelings/3"),
            json!({"targetLabel": "a", "replacement": "b"}),
        ),
        (
            "metricRelabelings: [{action: labeldrop, regex: a}]",
            &format!("{endpoint}/metricRelabelings"),
            json!([{"action": "labeldrop", "regex": "a"}]),
        ),
    ] {
        let value = case(&format!("{name}: {{{value}}}"), kind, pointer, expected);
        cases.push(Case { with: format!("{name}: {{enabled: true}}"), ..value });
    }
    cases
}

fn cases_of_the_rules() -> Vec<Case> {
    let kind = "PrometheusRule";
    let own = json!([{"name": "desk-xt-balance-exporter", "rules": [{"alert": "Mine", "expr": "up == 0"}]}]);
    let rules = "rules: [{alert: Mine, expr: up == 0}]";
    let mut cases = vec![case("prometheusRule: {enabled: true}", kind, "/kind", json!(kind))];
    for (with, value, pointer, expected) in [
        ("", "namespace: a", "/metadata/namespace", json!("a")),
        ("", "additionalLabels: {a: b}", "/metadata/labels/a", json!("b")),
        (rules, "shipped: false", "/spec/groups", own.clone()),
        (
            &format!("shipped: false, {rules}"),
            "withdrawals: true",
            "/spec/groups/0",
            yaml(WITHDRAWAL_RULES)["groups"][0].clone(),
        ),
        ("shipped: false, withdrawals: true", rules, "/spec/groups/1", own[0].clone()),
    ] {
        let value = case(&format!("prometheusRule: {{{value}}}"), kind, pointer, expected);
        let with = if with.is_empty() { String::new() } else { format!(", {with}") };
        cases.push(Case { with: format!("prometheusRule: {{enabled: true{with}}}"), ..value });
    }
    cases
}

fn cases() -> Vec<Case> {
    let mut cases = cases_of_the_image();
    cases.extend(cases_of_the_exporter());
    cases.extend(cases_of_the_pod());
    cases.extend(cases_of_the_network());
    cases.extend(cases_of_a_monitor("serviceMonitor", "ServiceMonitor", "endpoints"));
    cases.extend(cases_of_a_monitor("podMonitor", "PodMonitor", "podMetricsEndpoints"));
    cases.extend(cases_of_the_rules());
    cases
}

/// The paths of `value`, such as `image.tag`. A list has the path of its key.
fn paths(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(values) if !values.is_empty() => {
            for (name, value) in values {
                let dot = if prefix.is_empty() { "" } else { "." };
                paths(value, &format!("{prefix}{dot}{name}"), found);
            }
        }
        _ => {
            found.insert(prefix.to_owned());
        }
    }
}

fn parse(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Writes each text into a file and passes it as values, the last one with the highest rank.
fn with_values<T>(texts: &[&str], run: impl FnOnce(&[&str]) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let mut args = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let file = folder.path().join(format!("{place}.yaml"));
        fs::write(&file, text).unwrap();
        args.extend(["--values".to_owned(), file.to_str().unwrap().to_owned()]);
    }
    run(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Calls `check` with every item, on a few threads, because most of the time goes into starting Helm.
fn for_each<T: Sync>(items: &[T], check: impl Fn(&T) + Sync) {
    thread::scope(|scope| {
        for chunk in items.chunks(items.len().div_ceil(4).max(1)) {
            let check = &check;
            scope.spawn(move || chunk.iter().for_each(check));
        }
    });
}

#[test]
fn each_value_changes_the_object_that_it_names() {
    let place = |texts: &[&str], case: &Case| {
        let objects = with_values(texts, render);
        let object = objects.iter().find(|object| object["kind"] == case.kind);
        object.and_then(|object| object.pointer(&case.pointer)).cloned().unwrap_or_default()
    };
    for_each(&cases(), |case| {
        let before = place(&[ACCOUNT, &case.with], case);
        assert_ne!(before, case.expected, "{}: the chart does so without it", case.set);
        assert_eq!(place(&[ACCOUNT, &case.with, &case.set], case), case.expected, "{}", case.set);
    });
}

#[test]
fn no_value_is_without_a_case() {
    let mut documented = BTreeSet::new();
    paths(&yaml(&format!("{CHART}/values.yaml")), "", &mut documented);
    let mut set = BTreeSet::new();
    for case in cases() {
        paths(&parse(&case.set), "", &mut set);
    }
    let is_set = |path: &str| set.iter().any(|set| set == path || set.starts_with(&format!("{path}.")));
    let missing: Vec<_> = documented.iter().filter(|path| !is_set(path)).collect();
    assert!(missing.is_empty(), "add a case for each of these values: {missing:?}");
}

/// A schema behind its `$ref`.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// The paths that the schema knows, each with a value of a wrong type.
fn wrong_types(root: &Value, schema: &Value, prefix: &str, found: &mut Vec<(String, Value)>) {
    let schema = resolve(root, schema);
    if !prefix.is_empty() {
        let types = schema["type"].to_string();
        let is_text = types.contains("string") || schema.get("enum").is_some();
        found.push((prefix.to_owned(), if is_text { json!(5) } else { json!("five") }));
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let dot = if prefix.is_empty() { "" } else { "." };
        wrong_types(root, schema, &format!("{prefix}{dot}{name}"), found);
    }
}

/// The error of a chart with these values.
fn refusal(texts: &[&str]) -> String {
    with_values(texts, |args| {
        let output =
            tool("kubernetes/helm/helm").args(["template", "desk", CHART]).args(args).output().unwrap();
        assert!(!output.status.success(), "the chart accepts {texts:?}");
        let lines = output_text(&output);
        let lines = lines.lines().filter(|line| !line.starts_with("level=INFO") && !line.contains("--debug"));
        lines.flat_map(|line| [line, "\n"]).collect()
    })
}

/// Properties of the schema that are no values: of a chart that contains this one, and a former name.
const NO_VALUES: [&str; 2] = ["global", "extraManifests"];

#[test]
fn the_schema_knows_each_value_and_rejects_a_wrong_type() {
    let schema = yaml(&format!("{CHART}/values.schema.json"));
    let mut known = Vec::new();
    wrong_types(&schema, &schema, "", &mut known);
    known.retain(|(path, _)| !NO_VALUES.contains(&&**path));
    let mut documented = BTreeSet::new();
    paths(&yaml(&format!("{CHART}/values.yaml")), "", &mut documented);
    for path in &documented {
        let is_known = known.iter().any(|(known, _)| path == known || path.starts_with(&format!("{known}.")));
        assert!(is_known, "values.schema.json does not know {path}");
    }
    for (path, _) in known.iter().filter(|(path, _)| !path.contains("Auth.")) {
        let is_documented =
            documented.iter().any(|known| known == path || known.starts_with(&format!("{path}.")));
        assert!(is_documented, "values.yaml does not have {path}");
    }
    for_each(&known, |(path, wrong)| {
        let value = path.rsplit('.').fold(wrong.clone(), |value, name| json!({ name: value }));
        let error = refusal(&[ACCOUNT, &value.to_string()]);
        assert!(error.contains(&format!("at '/{}'", path.replace('.', "/"))), "{path}: {error}");
    });
}

#[test]
fn the_chart_accepts_the_values_that_the_documentation_shows() {
    let text = fs::read_to_string("deploy/README.md").unwrap();
    let section = text.split_once("\n## Kubernetes\n").unwrap().1.split("\n## ").next().unwrap();
    let blocks: Vec<_> =
        section.split("\n```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect();
    assert!(blocks.len() >= 2, "{section}");
    for block in blocks {
        with_values(&[ACCOUNT, block], render);
    }
}

#[test]
fn no_error_repeats_a_key_that_was_pasted_into_the_values() {
    let key = "Jx4PASTEDkey7Q";
    for values in [
        format!("existingSecret: {key}"),
        format!("config: {{accounts: [{{name: a, access_key: {key}}}]}}"),
        format!("config: {{accounts: [{{name: a, secret_key: {key}}}]}}"),
        format!("config: {{access_key: {key}}}"),
        format!("config: {{{key}: a}}"),
        format!("config: {{limits.share: {key}}}"),
        format!("config: {{limits: {key}}}"),
        format!("config: {{accounts: {key}}}"),
        format!("config: {{accounts: [{key}]}}"),
        format!("config: {{accounts: [{{name: a, accesskey: {key}}}]}}"),
        format!("config: {{accounts: [{{wallets: [{{key: {key}}}]}}]}}"),
        format!("config: {{accounts: [{{watch: {{usdt: {{key: {key}}}}}}}]}}"),
        format!("config: {{accounts: [{{labels: {{team: {{key: {key}}}}}}}]}}"),
        format!("config: {{egress: [{{key: {key}}}]}}"),
    ] {
        let error = refusal(&[ACCOUNT, &values]);
        assert!(!error.contains(key), "{error}");
    }
}

#[test]
fn a_wrong_value_is_an_error_that_names_it() {
    let mut transcript = Transcript::default();
    for values in [
        "image: {repository: ''}",
        "config: ~",
        "config: {accounts: []}",
        "existingSecret: ''",
        "demo: true",
        "demo: yes please",
        "replicaCount: 2",
        "shards: 0",
        "shards: 2",
        "demo: true\nconfig: ~\nexistingSecret: ''\nshards: 2",
        "limitsShare: half",
        "limitsShare: 1/21",
        "config: {limits: {share: 7/3}}",
        "limitsShare: 1/2\nconfig: {limits: {share: 1/2}}",
        "shards: 21",
        "extraManifests: [{kind: Secret}]",
        "image: {tag: 1.0}",
        "image: {digest: sha256:abc}",
        "image: {pullPolicy: Sometimes}",
        "commonLabels: {generation: 2}",
        "existingSecret: XT Keys",
        "config: {accounts: [{name: a, access_key: b}]}",
        "config: {access_key: b}",
        "config: {egress: [{name: a, key: b}]}",
        "config: {accounts: [{name: 1f2e3d4c-5b6a-7980-8192-a3b4c5d6e7f8}]}",
        "config: {limits: half}",
        "config: {poll_interval: {a: b}}",
        "config: {accounts: b}",
        "service: {port: 107700}",
        "terminationGracePeriodSeconds: 1",
        "topologySpreadConstraints: [{topologyKey: zone}]",
        "livenessProbe: {tcpSocket: {port: http}}",
        "serviceMonitor: {enabled: true}\npodMonitor: {enabled: true}",
        "serviceMonitor: {enabled: true, interval: 15 seconds}",
        "serviceMonitor: {enabled: true, tlsConfig: {serverName: a}}",
        "serviceMonitor: {enabled: true, basicAuth: {username: {name: xt-scrape, key: username}}}",
        "prometheusRule: {enabled: true, shipped: false}",
    ] {
        transcript.add(values, &refusal(&[ACCOUNT, values]));
    }
    transcript.assert("chart_mistakes");
}

/// The keys at a place of the configuration file, from the error about an unknown one.
fn keys_of_the_file(text: &str) -> BTreeSet<String> {
    let config = Config::from_yaml(text, Path::new("/"), &|_| None, UnixTime::EPOCH);
    let error = config.err().map(|error| error.to_string()).unwrap_or_default();
    let keys = error.split_once("the keys here are ").map(|(_, keys)| keys).unwrap_or_default();
    keys.split(", ").map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()).collect()
}

#[test]
fn the_chart_knows_the_keys_of_the_configuration_file() {
    let template = fs::read_to_string(format!("{CHART}/templates/_config.tpl")).unwrap();
    let keys = template.split_once("configKeys\" -}}\n").unwrap().1.split("\n{{- end }}").next().unwrap();
    for (parent, text) in [
        ("", "zzzzzz: 1"),
        ("accounts[].", "accounts: [{zzzzzz: 1}]"),
        ("egress[].", "egress: [{zzzzzz: 1}]"),
        ("accounts[].currencies.", "accounts: [{currencies: {zzzzzz: 1}}]"),
        ("accounts[].liquidation_distance.", "accounts: [{liquidation_distance: {zzzzzz: 1}}]"),
        ("accounts[].watch.*.", "accounts: [{watch: {usdt: {zzzzzz: 1}}}]"),
        ("limits.", "limits: {zzzzzz: 1}"),
    ] {
        let in_chart = keys.lines().filter_map(|path| path.strip_prefix(parent));
        let in_chart: BTreeSet<_> =
            in_chart.filter(|key| !key.contains(['.', '[', '*'])).map(str::to_owned).collect();
        assert!(!in_chart.is_empty(), "{parent}");
        assert_eq!(in_chart, keys_of_the_file(text), "{parent}");
    }
}

#[test]
fn the_chart_accepts_the_shares_that_the_exporter_accepts() {
    for_each(
        &["1", "1/1", "1/20", "2/3", "50/1000", "1/21", "3/2", "7/3", "1/100", "1001/1001", "0/1"],
        |share| {
            let values =
                [format!("limitsShare: '{share}'"), format!("config: {{limits: {{share: '{share}'}}}}")];
            let is_share = share.parse::<Share>().is_ok();
            for values in &values {
                if is_share {
                    with_values(&[ACCOUNT, values], render);
                } else {
                    assert!(refusal(&[ACCOUNT, values]).contains("from 1/20 to 1"), "{values}");
                }
            }
        },
    );
}
