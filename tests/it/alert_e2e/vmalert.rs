//! `VictoriaMetrics` instead of Prometheus: the rules that `make rules FLAVOUR=vmalert` writes, with Debian's vmagent, vmalert
//! and victoria-metrics. All times are shortened, as in the drill.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    servers::{Exchange, Receiver, ReservedPort, send_request},
    shipped::{self, FACTOR},
    start_daemon, write_config,
};
use crate::{
    alerts::variants,
    common::{WAIT_TIMEOUT, until},
};

/// A program of `VictoriaMetrics`. Killed when dropped.
struct Server {
    address: SocketAddr,
    child: Child,
    _reserved: ReservedPort,
}

impl Server {
    fn start(program: &str, folder: &Path, options: &[&str]) -> Self {
        let reserved = ReservedPort::new();
        let log = folder.join(format!("{program}.log"));
        let mut child = Command::new(program)
            .arg(format!("-httpListenAddr={}", reserved.address))
            .args(options)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} is needed, see tests/install: {error}"));
        until(&format!("{program} listens"), || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{status}: {}", fs::read_to_string(&log).unwrap());
            }
            TcpStream::connect(reserved.address).ok()
        });
        Self { address: reserved.address, child, _reserved: reserved }
    }

    /// The summaries of the firing alerts, by name and severity.
    fn firing(&self) -> BTreeMap<(String, String), Vec<String>> {
        let body = send_request("GET", self.address, "/api/v1/alerts", "").text();
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut firing: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let alerts = answer["data"]["alerts"].as_array().into_iter().flatten();
        for alert in alerts.filter(|alert| alert["state"] == "firing") {
            let name = (text(&alert["name"]), text(&alert["labels"]["severity"]));
            firing.entry(name).or_default().push(text(&alert["annotations"]["summary"]));
        }
        firing
    }

    fn wait_for(&self, name: &str, severity: &str, summary: &str) {
        let key = (name.to_owned(), severity.to_owned());
        let deadline = Instant::now() + 2 * WAIT_TIMEOUT;
        loop {
            let firing = self.firing();
            if firing.get(&key).is_some_and(|found| found.iter().any(|found| found == summary)) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{name} {severity} {summary:?} does not fire, but {firing:#?}"
            );
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn vmalert_pages_for_a_low_balance_and_for_an_exporter_that_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let desks = Exchange::start();
    desks.set("market-maker", "usdt", "1800");
    let config = write_config(folder.path(), "main", &[("desk", &desks, "market-maker", "{usdt: 500}")]);
    let port = ReservedPort::new();
    let exporter = start_daemon(&config, port.address);
    exporter.ready();

    variants::write_to(&path("rules"), &["--flavour=vmalert"]);
    let rules = path("rules").join("xt-balance.rules.yml");
    fs::write(&rules, shipped::read_shortened(rules.to_str().unwrap(), FACTOR)).unwrap();
    let scrape = shipped::read_shortened(shipped::PROMETHEUS, FACTOR);
    // vmagent knows neither rules nor Alertmanager.
    let (global, _) = scrape.split_once("\nrule_files:").unwrap();
    let (_, jobs) = scrape.split_once("\nscrape_configs:").unwrap();
    let global = global.lines().filter(|line| !line.contains("evaluation_interval"));
    let text = format!("{}\nscrape_configs:{jobs}", global.collect::<Vec<_>>().join("\n"));
    let text = shipped::replace_address(&text, "127.0.0.1:10770", &port.address.to_string(), 1);
    fs::write(path("scrape.yml"), text).unwrap();

    let storage = Server::start(
        "victoria-metrics",
        folder.path(),
        &["-storageDataPath=data", "-search.latencyOffset=0s"],
    );
    let url = format!("http://{}", storage.address);
    let remote_write = format!("-remoteWrite.url={url}/api/v1/write");
    let agent = ["-promscrape.config=scrape.yml", "-remoteWrite.tmpDataPath=agent", &remote_write];
    let _agent = Server::start("vmagent", folder.path(), &agent);
    let receiver = Receiver::start();
    let vmalert = Server::start(
        "vmalert",
        folder.path(),
        &[
            "-rule=rules/xt-balance.rules.yml",
            "-evaluationInterval=1s",
            "-remoteWrite.flushInterval=1s",
            &format!("-datasource.url={url}"),
            &format!("-remoteRead.url={url}"),
            &format!("-remoteWrite.url={url}"),
            &format!("-notifier.url=http://{}", receiver.address),
        ],
    );
    let is_recorded = || {
        let path = "/api/v1/query?query=account_wallet_currency:xt_balance_free:min";
        send_request("GET", storage.address, path, "").text().contains("\"1800\"").then_some(())
    };
    until("vmalert records the balance", is_recorded);

    desks.set("market-maker", "usdt", "120.5");
    vmalert.wait_for("XtBalanceLow", "critical", "desk/spot: 120.5 USDT free, 24 % of 500");
    drop(exporter);
    vmalert.wait_for("XtExporterDown", "critical", "Not watched any more: desk/spot");
    let down = format!("{}: the exporter cannot be scraped", port.address);
    vmalert.wait_for("XtExporterInstanceDown", "warning", &down);
}
