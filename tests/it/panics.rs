//! A poller that panics is restarted and counted, and the others continue. If it panics repeatedly, `/-/healthy` and the
//! watchdog report it. The panic comes from a log line that cannot be written, which can happen in every task. So the
//! daemon runs inside the test's process, with the test's own log. The test starts a separate process, because the
//! environment names the service manager.

use std::{
    env, fmt,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    panic,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use crate::common::messages;
use crate::common::notify_socket::NotifySocket;
use crate::common::{Exchange, get, sample, test_process_command, until};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use xt_balance_exporter::{
    cli, commands,
    simulator::{SimulatedAccount, SimulatedWallet, SimulatorConfig},
};

/// Records every line, and panics at the lines of the accounts in `doomed`.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<RecordedLog>>);

#[derive(Default)]
struct RecordedLog {
    lines: Vec<String>,
    address: Option<SocketAddr>,
    doomed: Vec<&'static str>,
}

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = LogLine::default();
        event.record(&mut line);
        let Ok(mut recorded) = self.0.lock() else { return };
        if line.text.contains("message=listening") {
            recorded.address = line.address.as_deref().and_then(|address| address.parse().ok());
        }
        recorded.lines.push(line.text);
        let dies = line.account.is_some_and(|account| recorded.doomed.contains(&&*account))
            || line.is_of_prices && recorded.doomed.contains(&PRICES);
        drop(recorded);
        // The death itself is written elsewhere than in the task that dies.
        assert!(!dies || *event.metadata().level() == tracing::Level::ERROR, "this line cannot be written");
    }
}

#[derive(Default)]
struct LogLine {
    text: String,
    account: Option<String>,
    address: Option<String>,
    is_of_prices: bool,
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "account" => self.account = Some(value.clone()),
            "currencies" => self.is_of_prices = true,
            "address" => self.address = Some(value.clone()),
            _ => {}
        }
        let _ = write!(self.text, "{}={value} ", field.name());
    }
}

/// Stands for the poller of prices among accounts.
const PRICES: &str = "prices";

/// Set for the process that runs the daemon.
const RUNS_DAEMON: &str = "XT_TEST_SUPERVISED";

#[test]
fn a_poller_that_panics_is_restarted_and_reported_and_the_others_continue() {
    if env::var_os(RUNS_DAEMON).is_some() {
        return run_daemon_with_panicking_pollers();
    }
    let mut notify_socket = NotifySocket::new();
    let name = "a_poller_that_panics_is_restarted_and_reported_and_the_others_continue";
    let mut daemon = test_process_command(module_path!(), name);
    let daemon = daemon.env(RUNS_DAEMON, "1");
    let daemon = daemon.env("NOTIFY_SOCKET", &notify_socket.path).env("WATCHDOG_USEC", "150000");
    let daemon = daemon.env_remove("WATCHDOG_PID").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut daemon = daemon.spawn().unwrap();
    notify_socket.wait_for("WATCHDOG=1");
    daemon.stdin.take().unwrap().write_all(b"panic now\n").unwrap();
    notify_socket.wait_for(messages::STATUS_ONE_STUCK);
    // The poller was restarted.
    notify_socket.wait_for("WATCHDOG=1");
    let output = daemon.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn run_daemon_with_panicking_pollers() {
    let (log, panics) = record_log_and_panics();
    let folder = tempfile::tempdir().unwrap();
    let (_exchange, path) = serve_two_accounts(folder.path());
    let args = ["xt-balance-exporter", "--web.listen-address=127.0.0.1:0", "--config.file"];
    let args = args.iter().map(Into::into).chain([path.into_os_string()]);
    let daemon = cli::parse(args).unwrap();
    let daemon = thread::spawn(move || format!("{:?}", commands::run(daemon)));

    let address = until("the daemon listens", || log.0.lock().unwrap().address);
    // The parent process has received the first watchdog message.
    io::stdin().read_line(&mut String::new()).unwrap();
    log.0.lock().unwrap().doomed = vec!["dies", PRICES];
    let unhealthy = until("both panicking pollers are reported", || {
        let health = get(address, "/-/healthy", &[]);
        Some(health).filter(|answer| answer.status == 503 && answer.text().lines().count() == 2)
    });
    assert!(unhealthy.text().contains("'dies'"), "{}", unhealthy.text());
    assert!(unhealthy.text().lines().any(|line| line.contains("prices")), "{}", unhealthy.text());
    assert!(!unhealthy.text().contains("lives"), "{}", unhealthy.text());
    wait_for_poll(address, "lives");
    let metrics = get(address, "/metrics", &[]).text();
    let page = get(address, "/", &[]).text();
    let restarts = |series: &str| sample(&metrics, series).unwrap();
    assert!(restarts("xt_poller_restarts_total{account=\"dies\"}") >= 2.0, "{metrics}");
    assert!(restarts("xt_price_poller_restarts_total") >= 2.0, "{metrics}");
    assert!(restarts("xt_poller_restarts_total{account=\"lives\"}").abs() < 0.5, "{metrics}");

    // The daemon survives even if all pollers panic, and each continues when it no longer panics.
    log.0.lock().unwrap().doomed = vec!["dies", "lives", PRICES];
    until("the last poller panics too", || {
        let metrics = get(address, "/metrics", &[]).text();
        sample(&metrics, "xt_poller_restarts_total{account=\"lives\"}").filter(|restarts| *restarts >= 1.0)
    });
    log.0.lock().unwrap().doomed = vec![];
    until("all pollers are healthy", || (get(address, "/-/healthy", &[]).status == 200).then_some(()));
    wait_for_poll(address, "dies");
    let ended = Command::new("kill").arg(std::process::id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(daemon.join().unwrap(), format!("{:?}", std::process::ExitCode::SUCCESS));
    let log = log.0.lock().unwrap().lines.join("\n");
    let panics = panics.0.lock().unwrap().lines.join("\n");
    for message in [messages::POLLER_PANICKED, messages::PRICE_POLLER_PANICKED] {
        assert!(log.contains(message), "no {message:?} in\n{log}");
    }
    assert!(panics.contains("this line cannot be written"), "{panics}");
    for text in [&log, &panics, &metrics, &page, &unhealthy.text()] {
        assert!(!text.contains("canary"), "{text}");
    }
}

/// Records what the program logs, and the panics of the polling thread.
fn record_log_and_panics() -> (Log, Log) {
    let log = Log::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log.clone())).unwrap();
    let panics = Log::default();
    let recorded = panics.clone();
    let default_hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match thread::current().name() {
        Some("polls") => recorded.0.lock().unwrap().lines.push(panic.to_string()),
        _ => default_hook(panic),
    }));
    (log, panics)
}

/// Starts an exchange with the accounts `dies` and `lives`, and writes a configuration for them to `folder`.
fn serve_two_accounts(folder: &Path) -> (Exchange, PathBuf) {
    let names = ["dies", "lives"];
    let accounts = names.map(|name| {
        SimulatedAccount::new(name, &format!("{name}-canary-key"), &format!("{name}-canary-secret"))
            .with_balance(SimulatedWallet::Spot, "usdt", "5", "0")
    });
    let exchange = Exchange::new(SimulatorConfig::default(), accounts.to_vec());
    let mut file = format!(
        "api: v1\nbase_urls: ['{}']\nprices: usdt\npoll_interval: 1s\npoll_timeout: 900ms\nmax_age: 1h\naccounts:\n",
        exchange.url()
    );
    for name in names {
        for half in ["key", "secret"] {
            let path = folder.join(format!("{name}.{half}"));
            fs::write(&path, format!("{name}-canary-{half}")).unwrap();
            // Without this, a warning about the file would be logged before a poller exists.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let keys = format!("access_key_file: {name}.key, secret_key_file: {name}.secret");
        let _ = writeln!(file, "- {{name: {name}, {keys}}}");
    }
    let path = folder.join("accounts.yml");
    fs::write(&path, file).unwrap();
    (exchange, path)
}

/// Waits until `account` is polled again.
fn wait_for_poll(address: SocketAddr, account: &str) {
    let series = format!("xt_polls_total{{account=\"{account}\",wallet=\"spot\"}}");
    let polls = || sample(&get(address, "/metrics", &[]).text(), &series);
    let before = polls();
    until("the account is polled again", || (polls() > before).then_some(()));
}
