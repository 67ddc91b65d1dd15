//! The servers of the drill besides the exporter: the simulated exchange as a process of its own, a real Prometheus, a real
//! Alertmanager, and the receiver of pages. Must not know what the drill does.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Bytes, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::{
    alert_e2e::shipped,
    common::{Answer, Exporter, Lines, WAIT_TIMEOUT, answer, until},
};

/// `xt-balance-exporter simulate` on a free port. Killed when dropped.
pub struct Exchange {
    pub address: SocketAddr,
    _process: Exporter,
}

impl Exchange {
    pub fn start() -> Self {
        let process = Exporter::start(&["simulate", "--web.listen-address=127.0.0.1:0"], &[]);
        let line = process.stdout.wait_for("listens on http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        // The last of its made-up accounts: then the list is whole.
        process.stdout.wait_for("grid-bot");
        Self { address, _process: process }
    }

    /// The key pair of one of its accounts.
    pub fn key_pair(&self, account: &str) -> (String, String) {
        let help = send_request("GET", self.address, "/simulator/", "").text();
        let words = help.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let pair = words.into_iter().find_map(|words| match words[..] {
            [name, key, secret] if name == account => Some((key.to_owned(), secret.to_owned())),
            _ => None,
        });
        pair.unwrap_or_else(|| panic!("no account {account} in:\n{help}"))
    }

    /// Sets the free amount of a currency in an account's spot wallet.
    pub fn set(&self, account: &str, currency: &str, available: &str) {
        self.set_row(account, currency, &json!({"available": available, "freeze": "0"}));
    }

    /// Sets the amounts of a currency in an account's spot wallet, and why they are frozen.
    pub fn set_row(&self, account: &str, currency: &str, row: &Value) {
        self.control("PUT", &format!("accounts/{account}/spot/{currency}"), &row.to_string());
    }

    /// Removes the row of a currency from an account's spot wallet.
    pub fn remove(&self, account: &str, currency: &str) {
        self.control("DELETE", &format!("accounts/{account}/spot/{currency}"), "");
    }

    pub fn inject(&self, fault: &Value) {
        self.control("POST", "faults", &fault.to_string());
    }

    pub fn clear_faults(&self) {
        self.control("DELETE", "faults", "");
    }

    fn control(&self, method: &str, path: &str, body: &str) {
        let answer = send_request(method, self.address, &format!("/simulator/{path}"), body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    }
}

/// A real Prometheus. Killed when dropped.
pub struct Prometheus {
    address: SocketAddr,
    child: Child,
    _reserved: ReservedPort,
}

impl Prometheus {
    /// Starts it in `folder` with the shipped configuration and rules.
    pub fn start(folder: &Path, alertmanager: SocketAddr, exporters: &[SocketAddr]) -> Self {
        Self::start_edited(folder, alertmanager, exporters, |config| config)
    }

    /// Like [`Self::start`], with another edit of the configuration.
    pub fn start_edited(
        folder: &Path,
        alertmanager: SocketAddr,
        exporters: &[SocketAddr],
        edit: impl Fn(String) -> String,
    ) -> Self {
        Self::start_shortened(folder, alertmanager, exporters, shipped::FACTOR, edit)
    }

    /// Like [`Self::start_edited`], with every time divided by `factor`.
    pub fn start_shortened(
        folder: &Path,
        alertmanager: SocketAddr,
        exporters: &[SocketAddr],
        factor: u32,
        edit: impl Fn(String) -> String,
    ) -> Self {
        let config = edit(shipped::read_shortened(shipped::PROMETHEUS, factor));
        let exporters: Vec<_> = exporters.iter().map(|address| format!("\"{address}\"")).collect();
        let config = shipped::replace_address(&config, "\"127.0.0.1:10770\"", &exporters.join(", "), 1);
        let config = shipped::replace_address(&config, "127.0.0.1:9093", &alertmanager.to_string(), 1);
        let file = folder.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let rules = Path::new(shipped::RULES).file_name().unwrap();
        fs::write(folder.join(rules), shipped::read_shortened(shipped::RULES, factor)).unwrap();

        // Prometheus' defaults are shortened too.
        let resend = shipped::shorten_duration(Duration::from_mins(1), factor).as_millis();
        let lookback = shipped::shorten_duration(Duration::from_mins(5), factor).as_millis();
        let reserved = ReservedPort::new();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
            .arg(format!("--web.listen-address={}", reserved.address))
            .arg(format!("--rules.alert.resend-delay={resend}ms"))
            .arg(format!("--query.lookback-delta={lookback}ms"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("prometheus.log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus is needed, see tests/install: {error}"));
        let mut server = Self { address: reserved.address, child, _reserved: reserved };
        until("prometheus is ready", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("{status}: {}", fs::read_to_string(folder.join("prometheus.log")).unwrap());
            }
            let listens = TcpStream::connect(server.address).is_ok();
            (listens && send_request("GET", server.address, "/-/ready", "").status == 200).then_some(())
        });
        server
    }

    /// Its alerting rules by name and severity: `for` and `keep_firing_for` in seconds.
    pub fn rules(&self) -> BTreeMap<(String, String), (f64, f64)> {
        let groups = self.api("rules?type=alert")["groups"].take();
        let rules = groups.as_array().into_iter().flatten().filter_map(|group| group["rules"].as_array());
        let seconds = |value: &Value| value.as_f64().unwrap_or(0.0);
        let rule = |rule: &Value| {
            let name = (text(&rule["name"]), text(&rule["labels"]["severity"]));
            (name, (seconds(&rule["duration"]), seconds(&rule["keepFiringFor"])))
        };
        rules.flatten().map(rule).collect()
    }

    /// The alerts that are pending or firing, with their state.
    pub fn alerts(&self) -> Vec<String> {
        let alerts = self.api("alerts")["alerts"].take();
        let summary = |alert: &Value| format!("{} {}", format_alert(&alert["labels"]), text(&alert["state"]));
        alerts.as_array().into_iter().flatten().map(summary).collect()
    }

    /// The number of series that `query` finds.
    pub fn count(&self, query: &str) -> usize {
        self.api(&format!("query?query={}", percent_encode(query)))["result"].as_array().map_or(0, Vec::len)
    }

    /// The number of evaluations of the rules so far.
    pub fn evaluations(&self) -> u64 {
        let metrics = send_request("GET", self.address, "/metrics", "").text();
        let line = metrics.lines().find(|line| line.starts_with("prometheus_rule_group_iterations_total{"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }

    fn api(&self, path: &str) -> Value {
        let text = send_request("GET", self.address, &format!("/api/v1/{path}"), "").text();
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(answer["status"], "success", "{path}: {text}");
        answer["data"].take()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A real Alertmanager. Killed when dropped.
pub struct Alertmanager {
    pub address: SocketAddr,
    child: Child,
}

impl Alertmanager {
    /// Starts it in `folder` with the shipped configuration, which then sends to `receiver`.
    pub fn start(folder: &Path, receiver: SocketAddr) -> Self {
        Self::start_shortened(folder, receiver, shipped::FACTOR)
    }

    /// Like [`Self::start`], with every time divided by `factor`.
    pub fn start_shortened(folder: &Path, receiver: SocketAddr, factor: u32) -> Self {
        let config = shipped::read_shortened(shipped::ALERTMANAGER, factor);
        let receiver = format!("http://{receiver}/");
        let config = shipped::replace_address(&config, "http://127.0.0.1:9099/", &receiver, 5);
        let file = folder.join("alertmanager.yml");
        fs::write(&file, config).unwrap();
        let mut child = Command::new("prometheus-alertmanager")
            .args([&format!("--config.file={}", file.display()), "--web.listen-address=127.0.0.1:0"])
            .arg("--cluster.listen-address=")
            .arg(format!("--storage.path={}", folder.join("alertmanager").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("prometheus-alertmanager is needed, see tests/install: {error}"));
        let log = Lines::read_from(child.stderr.take().unwrap());
        let line = log.wait_for("Listening on");
        let address = line.split("address=").nth(1).and_then(|rest| rest.split(' ').next());
        let address = address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        Self { address, child }
    }

    /// The active alerts, and for each the names of the alerts that mute it.
    pub fn alerts(&self) -> Vec<(String, Vec<String>)> {
        let text_of_all = send_request("GET", self.address, "/api/v2/alerts", "").text();
        let all: Vec<Value> =
            serde_json::from_str(&text_of_all).unwrap_or_else(|error| panic!("{error}: {text_of_all}"));
        let by_mark: BTreeMap<_, _> =
            all.iter().map(|alert| (text(&alert["fingerprint"]), format_alert(&alert["labels"]))).collect();
        let mutes = |alert: &Value| {
            let marks = alert["status"]["inhibitedBy"].as_array().into_iter().flatten();
            marks.map(|mark| by_mark.get(&text(mark)).cloned().unwrap_or_default()).collect()
        };
        all.iter().map(|alert| (format_alert(&alert["labels"]), mutes(alert))).collect()
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The receiver of pages: records each message that Alertmanager posts.
#[derive(Clone)]
pub struct Receiver {
    pub address: SocketAddr,
    messages: Arc<(Mutex<Vec<Message>>, Condvar)>,
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Message {
    pub at: Instant,
    /// Receiver, alerts and their states: `page: XtBalanceLow critical of main/usdt firing`.
    pub summary: String,
    /// The `summary` of each alert in it.
    pub alert_summaries: Vec<String>,
}

impl Receiver {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let receiver = Self { address: listener.local_addr().unwrap(), messages: Arc::default() };
        let server = receiver.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    let receiver = server.clone();
                    tokio::spawn(async move {
                        let service = service_fn(|request| receiver.receive(request));
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            });
        });
        receiver
    }

    async fn receive(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let at = Instant::now();
        let place = request.uri().path().trim_start_matches('/').to_owned();
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let body = body.ok().and_then(|body| serde_json::from_slice::<Value>(&body).ok());
        let Some(body) = body else {
            // Alertmanager sends it again.
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = hyper::StatusCode::BAD_REQUEST;
            return Ok(answer);
        };
        let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
        let mut each: Vec<_> = alerts
            .iter()
            .map(|alert| format!("{} {}", format_alert(&alert["labels"]), text(&alert["status"])))
            .collect();
        each.sort_unstable();
        let summary = format!("{place}: {}", each.join(" and "));
        let alert_summaries = alerts.iter().map(|alert| text(&alert["annotations"]["summary"])).collect();
        self.messages.0.lock().unwrap().push(Message { at, summary, alert_summaries });
        self.messages.1.notify_all();
        Ok(Response::new(Full::default()))
    }

    /// Everything that has arrived so far.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.0.lock().unwrap().clone()
    }

    /// Waits until there are more than `known` messages, or for so long.
    pub fn wait_for_more_than(&self, known: usize, most: Duration) {
        let messages = self.messages.0.lock().unwrap();
        drop(self.messages.1.wait_timeout_while(messages, most, |messages| messages.len() <= known).unwrap());
    }
}

/// A port that no other process gets as long as this lives. A server that knows the port can listen on it.
pub struct ReservedPort {
    pub address: SocketAddr,
    _socket: TcpSocket,
}

impl ReservedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { address: socket.local_addr().unwrap(), _socket: socket }
    }
}

/// The textfile collector of a `node_exporter`: serves a file as metrics, and nothing if there is no file.
pub struct NodeExporter {
    pub address: SocketAddr,
}

impl NodeExporter {
    pub fn start(file: PathBuf) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // The request is read to its empty line, or closing the connection would reset it.
                let request = BufReader::new(&stream).lines().map_while(Result::ok);
                request.take_while(|line| !line.is_empty()).for_each(drop);
                let body = fs::read_to_string(&file).unwrap_or_default();
                let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n";
                let _ = stream.write_all((head.to_owned() + &body).as_bytes());
            }
        });
        Self { address }
    }
}

/// Formats the labels of an alert: `XtBalanceLow critical of main/usdt`.
fn format_alert(labels: &Value) -> String {
    let (name, severity) = (text(&labels["alertname"]), text(&labels["severity"]));
    let of = match (labels["account"].as_str(), labels["currency"].as_str()) {
        (Some(account), Some(currency)) => Some(format!("{account}/{currency}")),
        (Some(account), None) => Some(account.to_owned()),
        (None, _) => labels["instance"].as_str().or(labels["job"].as_str()).map(str::to_owned),
    };
    of.map_or_else(|| format!("{name} {severity}"), |of| format!("{name} {severity} of {of}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |escaped, byte| format!("{escaped}%{byte:02X}"))
}

/// Sends one request. It is HTTP/1.0, so that the answer is not chunked.
pub fn send_request(method: &str, address: SocketAddr, path: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json, text/plain\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).unwrap();
    answer(&raw)
}
