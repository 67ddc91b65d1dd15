//! What is delivered for Docker Compose and Kubernetes, held against the real schemas by the real
//! tools: dclint, Helm, kubernetes-validate, the Prometheus operator's types. Neither an engine nor
//! a cluster runs here; that the image runs is in `image.rs`.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::common::Exporter;
use serde_json::{Value, json};

const COMPOSE: &str = "deploy/docker/compose.yml";
const CHART: &str = "deploy/kubernetes/xt-balance-exporter";
const RULES: &str = "deploy/prometheus/xt-balance.rules.yml";
const WITHDRAWAL_RULES: &str = "deploy/prometheus/xt-withdrawals.rules.yml";
/// Of Kubernetes: the oldest the chart says it needs, and the newest its tools know.
const VERSIONS: [&str; 2] = ["1.25", "1.35"];
/// Enough to be accepted.
const NEEDED: [&str; 4] = ["--set", "image.repository=registry.example/x", "--set", "demo=true"];

/// Where tests/install puts tools.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("deployment")
}

fn tool(path: &str) -> Command {
    let path = tools().join(path);
    assert!(path.exists(), "{} is missing: run tests/install", path.display());
    Command::new(path)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output_text(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every string in `value`.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(strings).collect(),
        Value::Object(values) => values.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_compose_file_keeps_to_the_specification() {
    let rules = fs::canonicalize("tests/deployment/dclint.json").unwrap();
    run(tool("node_modules/.bin/dclint").args(["--max-warnings=0", "--config"]).arg(rules).arg(COMPOSE));
}

#[test]
fn the_containers_of_compose_are_confined_pinned_and_reached_from_this_machine_alone() {
    let compose = yaml(COMPOSE);
    let folder = Path::new(COMPOSE).parent().unwrap();
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.len(), 4);
    for (name, service) in services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        for port in service["ports"].as_array().unwrap() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
        if let Some(image) = service["image"].as_str() {
            let version = image.rsplit_once(':').unwrap().1.trim_start_matches('v');
            let is_exact = version.split('.').filter(|part| part.parse::<u32>().is_ok()).count() == 3;
            assert!(is_exact, "{name}: {image} must name a version that stays what it is");
        }
        for volume in service["volumes"].as_array().unwrap() {
            let source = volume["source"].as_str().unwrap();
            match volume["type"].as_str().unwrap() {
                "bind" => {
                    assert_eq!(volume["read_only"], true, "{name}: {source}");
                    assert!(
                        folder.join(source).exists(),
                        "{name} mounts {source}, and there is no such file"
                    );
                }
                kind => {
                    assert!(kind == "volume" && compose["volumes"].get(source).is_some(), "{name}: {source}");
                }
            }
        }
    }
    let build = &services["exporter"]["build"];
    let context = folder.join(build["context"].as_str().unwrap());
    assert!(context.join(build["dockerfile"].as_str().unwrap()).exists());
    let datasource = yaml("grafana/provisioning/datasources/prometheus.yml");
    for variable in
        services["grafana"]["environment"].as_object().unwrap().keys().filter(|name| !name.starts_with("GF_"))
    {
        let used = strings(&datasource).iter().any(|text| text.contains(&format!("${{{variable}}}")));
        assert!(used, "no data source of Grafana's makes use of {variable}");
    }
}

#[test]
fn prometheus_in_compose_is_the_shipped_one_with_other_hosts() {
    let shipped = fs::read_to_string("deploy/prometheus/prometheus.yml").unwrap();
    let there =
        shipped.replace("127.0.0.1:10770", "exporter:10770").replace("127.0.0.1:9093", "alertmanager:9093");
    let there: Value = serde_saphyr::from_str(&there).unwrap();
    assert_eq!(yaml("deploy/docker/prometheus.yml"), there);
    assert!(there.to_string().contains("exporter:10770") && there.to_string().contains("alertmanager:9093"));
    let services = yaml(COMPOSE)["services"].take();
    for host in ["exporter", "alertmanager"] {
        assert!(services.get(host).is_some());
    }
}

#[test]
fn every_example_of_a_scrape_job_honors_the_labels_of_the_exporter() {
    let mut found = Vec::new();
    for file in
        ["README.md", "deploy/README.md", "deploy/prometheus/prometheus.yml", "deploy/docker/prometheus.yml"]
    {
        let text = fs::read_to_string(file).unwrap();
        for job in text.split("job_name: ").skip(1) {
            let job = job.split("\n\n").next().unwrap();
            assert!(job.contains("honor_labels: true"), "{file}: {job}");
            found.push(file);
        }
    }
    assert!(found.len() >= 4, "{found:?}");
}

/// The objects the chart makes of `args`.
fn render(args: &[&str]) -> Vec<Value> {
    let text =
        run(tool("kubernetes/helm/helm").args(["template", "desk", CHART, "--namespace=trading"]).args(args));
    let documents = text.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
    documents
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .filter(|object: &Value| !object.is_null())
        .collect()
}

fn refusal(args: &[&str]) -> String {
    let output = tool("kubernetes/helm/helm").args(["template", "desk", CHART]).args(args).output().unwrap();
    assert!(!output.status.success(), "{args:?}");
    output_text(&output)
}

fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("there is no {kind}"))
}

/// The values that the chart is to be tested with.
fn cases() -> Vec<PathBuf> {
    let files = fs::read_dir(Path::new(CHART).join("ci")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 2);
    files
}

#[test]
fn the_chart_is_clean_and_kubernetes_knows_every_field_of_what_it_makes() {
    let mut kinds = BTreeSet::new();
    for case in cases() {
        let case = case.to_str().unwrap();
        run(tool("kubernetes/helm/helm").args(["lint", "--strict", CHART, "--values", case]));
        let objects = render(&["--values", case]);
        let folder = tempfile::tempdir().unwrap();
        let mut types = String::new();
        for (place, object) in objects.iter().enumerate() {
            let kind = object["kind"].as_str().unwrap();
            kinds.insert(kind.to_owned());
            if object["apiVersion"] == "monitoring.coreos.com/v1" {
                let module =
                    format!("@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/{kind}");
                let _ = writeln!(types, "import type {{ I{kind} }} from {module:?};");
                let _ = writeln!(types, "export const object{place}: I{kind} = {object};");
                continue;
            }
            let file = folder.path().join(format!("{place}.json"));
            fs::write(&file, object.to_string()).unwrap();
            for version in VERSIONS {
                let known =
                    run(tool("python/bin/kubernetes-validate").args(["--strict", "-k", version]).arg(&file));
                assert!(known.contains("passed"), "{version} does not know {kind}: {known}");
            }
        }
        // An object that is written down must have the fields of its type, and no others.
        let file = tools().join(format!("objects-{}.ts", std::process::id()));
        fs::write(&file, types).unwrap();
        let checks = [
            "--noEmit",
            "--strict",
            "--skipLibCheck",
            "--module",
            "nodenext",
            "--moduleResolution",
            "nodenext",
        ];
        let output = tool("node_modules/.bin/tsc").args(checks).arg(&file).output().unwrap();
        fs::remove_file(&file).unwrap();
        assert!(output.status.success(), "{}", output_text(&output));
    }
    let all = [
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PodMonitor",
        "PrometheusRule",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
}

#[test]
fn the_pod_is_alone_and_as_restricted_as_kubernetes_can_ask_for() {
    let objects = render(&NEEDED);
    let deployment = the(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}));
    let container = &pod["containers"][0];
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(container["securityContext"], expected);
    // The image's own user, so that it runs the same everywhere.
    let dockerfile = fs::read_to_string("deploy/docker/Dockerfile").unwrap();
    let user = &pod["securityContext"]["runAsUser"];
    assert!(dockerfile.contains(&format!("\nUSER {user}:{user}\n")), "{user}");
    for probe in ["livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"], json!({"path": "/-/healthy", "port": "http"}));
    }
    assert_eq!(the(&objects, "Service")["spec"]["publishNotReadyAddresses"], true);
}

#[test]
fn the_network_policy_allows_the_named_sources_only() {
    let policy = |args: &[&str]| the(&render(&[&NEEDED[..], args].concat()), "NetworkPolicy")["spec"].clone();
    let from = json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]);
    assert_eq!(
        policy(&[])["ingress"],
        json!([{"from": from, "ports": [{"port": "http", "protocol": "TCP"}]}])
    );
    assert_eq!(policy(&["--set-json", "networkPolicy.from=[]"])["ingress"], json!([]));
}

#[test]
fn the_daemon_accepts_the_configuration_as_the_pod_sees_it() {
    let objects = render(&["--values", &format!("{CHART}/ci/full-values.yaml")]);
    let file = the(&objects, "ConfigMap")["data"]["accounts.yml"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("accounts.yml"), file).unwrap();
    for key in ["treasury.key", "treasury.secret", "maker.key", "maker.secret"] {
        fs::write(folder.path().join(key), key).unwrap();
    }
    let pod = &the(&objects, "Deployment")["spec"]["template"]["spec"];
    let mount = &pod["containers"][0]["volumeMounts"][0];
    assert_eq!([&mount["name"], &mount["mountPath"]], ["accounts", "/etc/xt-balance-exporter"]);
    let sources = &pod["volumes"][0]["projected"]["sources"];
    assert_eq!(
        sources,
        &json!([{"configMap": {"name": "desk-xt-balance-exporter"}}, {"secret": {"name": "xt-keys"}}])
    );
    let here = folder.path().to_str().unwrap();
    let args = strings(&pod["containers"][0]["args"])
        .into_iter()
        .map(|arg| arg.replace("/etc/xt-balance-exporter", here));
    let args: Vec<_> = args.chain(["--config.check".to_owned()]).collect();
    let output = Exporter::run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    assert_eq!(output.stdout, "configuration is valid: 2 accounts\n", "{}", output.stderr);
}

#[test]
fn the_next_container_of_a_crash_loop_finds_the_state_file() {
    let pod = |args: &[&str]| the(&render(args), "Deployment")["spec"]["template"]["spec"].clone();
    let with_keys = pod(&["--values", &format!("{CHART}/ci/full-values.yaml")]);
    let entries = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let container = &with_keys["containers"][0];
    let variables = entries(&container["env"]);
    let variable = variables.iter().find(|variable| variable["name"] == "STATE_DIRECTORY").unwrap();
    let mounts = entries(&container["volumeMounts"]);
    let mount = mounts.iter().find(|mount| mount["mountPath"] == variable["value"]).unwrap();
    assert_eq!(mount["readOnly"], Value::Null);
    let volumes = entries(&with_keys["volumes"]);
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    // An empty directory lives as long as the pod, longer than its containers.
    assert_eq!(volume["emptyDir"], json!({"sizeLimit": "32Mi"}));
    let demo = pod(&NEEDED);
    for list in ["volumes", "containers"] {
        assert!(!demo[list].to_string().contains("state"), "{}", demo[list]);
    }
}

#[test]
fn the_chart_ships_the_rules_that_are_tested_under_the_job_they_ask_for() {
    let objects = render(&["--values", &format!("{CHART}/ci/full-values.yaml")]);
    let mut groups = the(&objects, "PrometheusRule")["spec"]["groups"].as_array().unwrap().clone();
    let mine = groups.pop().unwrap();
    assert_eq!(mine["rules"][0]["expr"], "up{namespace=\"trading\"} == 0");
    let withdrawals = groups.pop().unwrap();
    assert_eq!(Value::from(groups), yaml(RULES)["groups"]);
    assert_eq!(json!([withdrawals]), yaml(WITHDRAWAL_RULES)["groups"]);
    for (kind, endpoints) in [("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")] {
        let endpoint = &the(&objects, kind)["spec"][endpoints][0];
        // The labels of the target are the same before and after the pod is replaced, and hide none of the exporter's.
        let relabelings = json!([
            {"targetLabel": "job", "replacement": "xt-balance-exporter"},
            {"targetLabel": "instance", "replacement": "desk-xt-balance-exporter.trading"},
            {"action": "labeldrop", "regex": "pod"},
        ]);
        let all = endpoint["relabelings"].as_array().unwrap();
        assert_eq!(Value::from(&all[..3]), relabelings, "{kind}");
        assert_eq!(endpoint["honorLabels"], true, "{kind}");
        let selector = &the(&objects, kind)["spec"]["selector"]["matchLabels"];
        let labels = &the(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
        for (name, value) in selector.as_object().unwrap() {
            assert_eq!(&labels[name], value, "{kind}");
        }
    }
}

#[test]
fn the_chart_names_the_missing_value() {
    for (args, sentence) in [
        (&[][..], "config must name the accounts and existingSecret the Secret"),
        (&["--set", "demo=true"], "image.repository must name the image"),
        (&["--set", "demo=true", "--set", "existingSecret=a"], "Remove demo, or remove config"),
        (&["--set", "existingSecret=a"], "config must name the accounts"),
    ] {
        let error = refusal(args);
        assert!(error.contains(sentence), "{args:?}: {error}");
    }
}

#[test]
fn the_chart_is_of_this_version() {
    assert_eq!(yaml(&format!("{CHART}/Chart.yaml"))["appVersion"], env!("CARGO_PKG_VERSION"));
}
