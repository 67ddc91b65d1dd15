//! What is delivered for Docker Compose and Kubernetes, held against the real schemas by the real
//! tools: dclint, Helm, kubernetes-validate, the Prometheus operator's types. Neither an engine nor
//! a cluster runs here; that the image runs is in `image.rs`.

pub mod chart;
mod chart_values;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

const COMPOSE: &str = "deploy/docker/compose.yml";

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
    for file in [
        "README.md",
        "deploy/README.md",
        "deploy/standby/README.md",
        "deploy/prometheus/prometheus.yml",
        "deploy/docker/prometheus.yml",
    ] {
        let text = fs::read_to_string(file).unwrap();
        for job in text.split("job_name: ").skip(1) {
            let job = job.split("\n\n").next().unwrap();
            assert!(job.contains("honor_labels: true"), "{file}: {job}");
            found.push(file);
        }
    }
    assert!(found.len() >= 6, "{found:?}");
}
