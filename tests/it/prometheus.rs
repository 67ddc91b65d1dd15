//! The daemon under a real Prometheus server: what the exchange holds is what a query answers, and
//! what is too old to be known is no answer at all.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use crate::common::{Exchange, Exporter, Lines, authority::Authority, get, until};
use serde_json::Value;
use xt_balance_exporter::simulator::{Effect, Fault, SimulatedWallet};

/// A Prometheus server that scrapes one target every second. Killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(target: SocketAddr) -> Self {
        Self::with_job(&format!("static_configs: [{{targets: [\"{target}\"]}}]"))
    }

    /// With a job of these settings.
    fn with_job(job: &str) -> Self {
        until("prometheus has started on a port that was free", || Self::start(job))
    }

    /// Prometheus takes no port 0, so it is given one that was free a moment ago. `None` if it has
    /// been taken since.
    fn start(job: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
             - {{job_name: xt-balance-exporter, {job}}}\n"
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus is needed, the Debian package: {error}"));
        let log = Lines::read_from(child.stderr.take().unwrap());
        let mut server = Self { child, address, _folder: folder };
        until("prometheus is ready, or has given up", || {
            if server.child.try_wait().unwrap().is_some() {
                let log_text = log.all();
                assert!(log_text.contains("address already in use"), "{log_text}");
                return Some(false);
            }
            let listens = TcpStream::connect(server.address).is_ok();
            (listens && get(server.address, "/-/ready", &[]).status == 200).then_some(true)
        })
        .then_some(server)
    }

    /// The series that `query` finds now, as labels and the text of the value.
    fn query(&self, query: &str) -> Vec<(Value, String)> {
        let answer = get(self.address, &format!("/api/v1/query?query={}", percent(query)), &[]).text();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(answer["status"], "success", "{answer}");
        let found = answer["data"]["result"].as_array().unwrap().iter();
        found
            .map(|series| (series["metric"].clone(), series["value"][1].as_str().unwrap().to_owned()))
            .collect()
    }

    /// The value of the one series that `query` finds, if it does.
    fn value(&self, query: &str) -> Option<String> {
        let mut found = self.query(query);
        assert!(found.len() <= 1, "{query}: {found:?}");
        found.pop().map(|(_, value)| value)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"))
}

#[test]
fn prometheus_answers_what_the_exchange_holds_and_nothing_once_it_is_unknown() {
    let exchange = Exchange::documented();
    exchange.simulator.set_balance("main", SimulatedWallet::Spot, "odd\"\\币", "0.00000001", "0").unwrap();
    let flags = ["--poll.interval=1s", "--poll.timeout=900ms", "--poll.max-age=3s"];
    let exporter = Exporter::serve(&exchange.url(), &[&flags[..], &["--balance.watch=usdt=500"]].concat());
    exporter.ready();
    let prometheus = Prometheus::scraping(exporter.address());

    // A scrape that came too late on a busy machine leaves a gap, so every answer is waited for.
    let soon = |query: &str| until(query, || prometheus.value(query));
    let usdt = r#"xt_balance_free{currency="usdt"}"#;
    assert_eq!(soon(usdt), "3867.43650012");
    assert_eq!(soon(r#"xt_balance_frozen{currency="usdt"}"#), "3062.17437341");
    assert_eq!(soon(r#"xt_balance_free{currency="odd\"\\币"}"#), "1e-08");
    let (labels, up) = until("xt_up", || prometheus.query("xt_up").pop());
    let address = exporter.address().to_string();
    let expected = serde_json::json!({
        "__name__": "xt_up", "account": "main", "wallet": "spot", "job": "xt-balance-exporter", "instance": address,
    });
    assert_eq!((labels, &*up), (expected, "1"));
    let low = "xt_balance_free < xt_balance_free_threshold";
    assert_eq!(prometheus.value(low), None);
    exchange.simulator.set_balance("main", SimulatedWallet::Spot, "usdt", "499.99", "0").unwrap();
    assert_eq!(soon(low), "499.99", "the labels of both match");

    exchange.simulator.inject_fault(Fault::new(Effect::Maintenance));
    until("only the balance is unknown, and the daemon itself is well", || {
        let of_the_answer = r#"count({__name__=~"xt_balance_fr(ee|ozen)|xt_currencies|xt_watch_present"})"#;
        let results =
            ["up", "xt_up", "xt_balance_free_threshold", of_the_answer].map(|query| prometheus.value(query));
        (results.each_ref().map(Option::as_deref) == [Some("1"), Some("0"), Some("500"), None]).then_some(())
    });

    exchange.simulator.clear_faults();
    assert_eq!(soon(usdt), "499.99", "known again");
}

/// As README.md has it, but for the cost of the hash, which is of `hunter2`, by Python's bcrypt.
#[test]
fn prometheus_scrapes_with_a_certificate_and_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let authority = Authority::new("all");
    fs::write(path("ca.crt"), &authority.pem).unwrap();
    for name in ["exporter", "prometheus"] {
        let (certificate, key) = authority.certified(&[&*format!("{name}.example")]);
        fs::write(path(&format!("{name}.crt")), certificate).unwrap();
        fs::write(path(&format!("{name}.key")), key).unwrap();
    }
    let gate = "tls_server_config:
  cert_file: exporter.crt
  key_file: exporter.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
basic_auth_users:
  prometheus: $2b$04$zcJ9CRqi.V8swiImsw8DYeRhPRTQXbenYWojITkx4vLNdL4Al0c0O
";
    fs::write(path("web.yml"), gate).unwrap();
    fs::write(path("password"), "hunter2").unwrap();
    let exchange = Exchange::documented();
    let exporter = Exporter::serve(&exchange.url(), &[&format!("--web.config.file={}", path("web.yml"))]);
    let prometheus = Prometheus::with_job(&format!(
        "scheme: https, tls_config: {{ca_file: {}, cert_file: {}, key_file: {}, server_name: exporter.example}}, \
         basic_auth: {{username: prometheus, password_file: {}}}, static_configs: [{{targets: [\"{}\"]}}]",
        path("ca.crt"),
        path("prometheus.crt"),
        path("prometheus.key"),
        path("password"),
        exporter.address()
    ));
    let usdt = r#"xt_balance_free{currency="usdt"}"#;
    assert_eq!(until(usdt, || prometheus.value(usdt)), "3867.43650012");
    fs::write(path("password"), "hunter3").unwrap();
    until("a wrong password is a target that is down", || (prometheus.value("up")? == "0").then_some(()));
}
