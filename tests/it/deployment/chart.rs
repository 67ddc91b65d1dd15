//! The Helm chart: its objects against the schemas of Kubernetes and of the Prometheus operator, and what they make of the
//! exporter.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{output_text, run, strings, tool, tools, yaml};
use crate::common::{Exporter, authority::Authority};

pub const CHART: &str = "deploy/kubernetes/xt-balance-exporter";
const RULES: &str = "deploy/prometheus/xt-balance.rules.yml";
pub const WITHDRAWAL_RULES: &str = "deploy/prometheus/xt-withdrawals.rules.yml";
/// Of Kubernetes: the oldest the chart says it needs, and the newest its tools know.
const VERSIONS: [&str; 2] = ["1.25", "1.35"];
/// Enough to be accepted.
const NEEDED: [&str; 4] = ["--set", "image.repository=registry.example/x", "--set", "demo=true"];

/// The objects the chart makes of `args`.
pub fn render(args: &[&str]) -> Vec<Value> {
    let text =
        run(tool("kubernetes/helm/helm").args(["template", "desk", CHART, "--namespace=trading"]).args(args));
    let documents = text.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
    documents
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .filter(|object: &Value| !object.is_null())
        .collect()
}

pub fn the<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
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
        "StatefulSet",
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

/// A list in an object; empty if there is no such list.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn the_daemon_accepts_the_configuration_as_the_pod_sees_it() {
    let objects = render(&["--values", &format!("{CHART}/ci/full-values.yaml")]);
    let file = the(&objects, "ConfigMap")["data"]["accounts.yml"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("accounts.yml", file);
    for key in ["treasury.key", "treasury.secret", "maker.key", "maker.secret"] {
        write(key, key);
    }
    let (certificate, key) = Authority::new("ca").certified(&["xt-balance-exporter"]);
    write("tls.crt", &certificate);
    write("tls.key", &key);
    write("web.yml", "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n");
    let pod = &the(&objects, "Deployment")["spec"]["template"]["spec"];
    let sources = &pod["volumes"][0]["projected"]["sources"];
    assert_eq!(
        sources,
        &json!([{"configMap": {"name": "desk-xt-balance-exporter"}}, {"secret": {"name": "xt-keys"}}])
    );
    // Each file is below a folder of the pod, and all of them are in one folder here.
    let mut args: Vec<_> = strings(&pod["containers"][0]["args"]).into_iter().map(str::to_owned).collect();
    for (volume, path) in [("accounts", "/etc/xt-balance-exporter"), ("web", "/etc/xt-web")] {
        let mounts = list(&pod["containers"][0]["volumeMounts"]);
        let mount = mounts.iter().find(|mount| mount["name"] == volume).unwrap();
        assert_eq!(mount["mountPath"], path);
        let here = folder.path().to_str().unwrap();
        args = args.into_iter().map(|arg| arg.replace(path, here)).collect();
    }
    args.push("--config.check".to_owned());
    let output = Exporter::run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    assert_eq!(output.stdout, "configuration is valid: 2 accounts\n", "{}", output.stderr);
}

#[test]
fn the_next_container_of_a_crash_loop_finds_the_state_file() {
    let pod = |args: &[&str]| the(&render(args), "Deployment")["spec"]["template"]["spec"].clone();
    let with_keys = pod(&["--values", &format!("{CHART}/ci/full-values.yaml")]);
    let container = &with_keys["containers"][0];
    let variables = list(&container["env"]);
    let variable = variables.iter().find(|variable| variable["name"] == "STATE_DIRECTORY").unwrap();
    let mounts = list(&container["volumeMounts"]);
    let mount = mounts.iter().find(|mount| mount["mountPath"] == variable["value"]).unwrap();
    assert_eq!(mount["readOnly"], Value::Null);
    let volumes = list(&with_keys["volumes"]);
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
}

#[test]
fn a_monitor_gives_the_pod_the_job_of_the_rules_and_an_instance_that_stays() {
    let one = json!({"targetLabel": "instance", "replacement": "desk-xt-balance-exporter.trading"});
    let by_name = json!({
        "sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance", "replacement": "$1.trading",
    });
    for (case, workload, kind, endpoints, instance) in [
        ("full", "Deployment", "ServiceMonitor", "endpoints", one),
        ("shards", "StatefulSet", "PodMonitor", "podMetricsEndpoints", by_name),
    ] {
        let objects = render(&["--values", &format!("{CHART}/ci/{case}-values.yaml")]);
        let endpoint = &the(&objects, kind)["spec"][endpoints][0];
        // The labels of the target are the same before and after the pod is replaced, and hide none of the exporter's.
        let relabelings = json!([
            {"targetLabel": "job", "replacement": "xt-balance-exporter"},
            instance,
            {"action": "labeldrop", "regex": "pod"},
        ]);
        assert_eq!(Value::from(&list(&endpoint["relabelings"])[..3]), relabelings, "{kind}");
        assert_eq!(endpoint["honorLabels"], true, "{kind}");
        let selector = &the(&objects, kind)["spec"]["selector"]["matchLabels"];
        let labels = &the(&objects, workload)["spec"]["template"]["metadata"]["labels"];
        for (name, value) in selector.as_object().unwrap() {
            assert_eq!(&labels[name], value, "{kind}");
        }
    }
}

#[test]
fn each_shard_is_one_pod_with_its_part_of_the_accounts_and_of_the_limits() {
    let objects = render(&["--values", &format!("{CHART}/ci/shards-values.yaml")]);
    assert!(
        objects.iter().all(|object| object["kind"] != "Deployment"),
        "a Deployment would poll all accounts too"
    );
    let set = &the(&objects, "StatefulSet")["spec"];
    assert_eq!(set["replicas"], 2);
    assert_eq!(set["podManagementPolicy"], "Parallel");
    assert_eq!(set["serviceName"], the(&objects, "Service")["metadata"]["name"]);
    let variables = list(&set["template"]["spec"]["containers"][0]["env"]);
    let variable = |name: &str| variables.iter().find(|variable| variable["name"] == name).unwrap();
    assert_eq!(variable("POD_NAME")["valueFrom"], json!({"fieldRef": {"fieldPath": "metadata.name"}}));
    let (shard, limits) =
        (variable("XT_SHARD")["value"].as_str().unwrap(), &variable("XT_LIMITS_SHARE")["value"]);
    assert_eq!(limits, "1/2");

    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("accounts.yml", the(&objects, "ConfigMap")["data"]["accounts.yml"].as_str().unwrap());
    for key in ["treasury.key", "treasury.secret", "maker.key", "maker.secret"] {
        write(key, key);
    }
    let config = format!("--config.file={}", folder.path().join("accounts.yml").display());
    let accounts = |ordinal: u32| {
        let pod = format!("{}-{ordinal}", set["serviceName"].as_str().unwrap());
        let variables =
            [("POD_NAME", &*pod), ("XT_SHARD", shard), ("XT_LIMITS_SHARE", limits.as_str().unwrap())];
        let output = Exporter::run(&[&config, "--config.check"], &variables);
        let count =
            output.stdout.strip_prefix("configuration is valid: ").and_then(|rest| rest.split(' ').next());
        count
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| panic!("{}{}", output.stdout, output.stderr))
    };
    let counts: [u32; 2] = [accounts(0), accounts(1)];
    assert_eq!(counts.iter().sum::<u32>(), 2, "{counts:?}");
}

#[test]
fn common_labels_are_on_the_pod_and_on_every_object_of_the_chart() {
    let objects = render(&["--values", &format!("{CHART}/ci/full-values.yaml")]);
    let is_extra = |object: &Value| {
        let name = &object["metadata"]["name"];
        name == "desk-text" || name == "desk-yaml"
    };
    let objects: Vec<_> = objects.iter().filter(|object| !is_extra(object)).collect();
    assert!(objects.len() >= 7, "{objects:?}");
    let pod = &objects.iter().find(|object| object["kind"] == "Deployment").unwrap()["spec"]["template"];
    for object in objects.iter().copied().chain([pod]) {
        assert_eq!(object["metadata"]["labels"]["team"], "treasury", "{object}");
    }
}

#[test]
fn the_chart_is_of_this_version() {
    assert_eq!(yaml(&format!("{CHART}/Chart.yaml"))["appVersion"], env!("CARGO_PKG_VERSION"));
}
