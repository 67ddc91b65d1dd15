//! A poller that panics is started again, counted, and told of by `/-/healthy` and the watchdog if it goes on; the others
//! run on. The panic comes from where any task may meet one, a log line that cannot be written, so the daemon runs inside
//! this process with a log of the test's own. It is a process of its own, for its environment names the service manager.

use std::{
    env, fmt,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    panic,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use crate::common::messages;
use crate::common::notify_socket::Ear;
use crate::common::{Exchange, get, run_alone, sample, until};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use xt_balance_exporter::{
    cli, commands,
    simulator::{SimulatedAccount, SimulatedWallet, SimulatorConfig},
};

/// Keeps every line, and panics at the lines of accounts that are to die.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    address: Option<SocketAddr>,
    doomed: Vec<&'static str>,
}

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let Ok(mut kept) = self.0.lock() else { return };
        if line.text.contains("message=listening") {
            kept.address = line.address.as_deref().and_then(|address| address.parse().ok());
        }
        kept.lines.push(line.text);
        let dies = line.account.is_some_and(|account| kept.doomed.contains(&&*account))
            || line.is_of_prices && kept.doomed.contains(&PRICES);
        drop(kept);
        // The death itself is written elsewhere than in the task that dies.
        assert!(!dies || *event.metadata().level() == tracing::Level::ERROR, "this line cannot be written");
    }
}

#[derive(Default)]
struct Line {
    text: String,
    account: Option<String>,
    address: Option<String>,
    is_of_prices: bool,
}

impl Visit for Line {
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
const SUPERVISED: &str = "XT_TEST_SUPERVISED";

#[test]
fn a_poller_that_panics_is_started_again_and_told_of_while_the_others_run_on() {
    if env::var_os(SUPERVISED).is_some() {
        return the_daemon_outlives_panics();
    }
    let mut ear = Ear::new();
    let me = "a_poller_that_panics_is_started_again_and_told_of_while_the_others_run_on";
    let mut again = run_alone(module_path!(), me);
    let again = again.env(SUPERVISED, "1");
    let again = again.env("NOTIFY_SOCKET", &ear.path).env("WATCHDOG_USEC", "150000");
    let again = again.env_remove("WATCHDOG_PID").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut again = again.spawn().unwrap();
    ear.until("WATCHDOG=1");
    again.stdin.take().unwrap().write_all(b"now one may die\n").unwrap();
    ear.until(messages::STATUS_ONE_STUCK);
    // Once it has begun again.
    ear.until("WATCHDOG=1");
    let output = again.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn the_daemon_outlives_panics() {
    let log = Log::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log.clone())).unwrap();
    let panics = Log::default();
    let texts = panics.clone();
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panic| match thread::current().name() {
        Some("polls") => texts.0.lock().unwrap().lines.push(panic.to_string()),
        _ => usual(panic),
    }));

    let names = ["dies", "lives"];
    let theirs = names.map(|name| {
        SimulatedAccount::new(name, &format!("{name}-canary-key"), &format!("{name}-canary-secret"))
            .with_balance(SimulatedWallet::Spot, "usdt", "5", "0")
    });
    let exchange = Exchange::new(SimulatorConfig::default(), theirs.to_vec());
    let folder = tempfile::tempdir().unwrap();
    let mut file = format!(
        "base_urls: ['{}']\nprices: usdt\npoll_interval: 1s\npoll_timeout: 900ms\nmax_age: 1h\naccounts:\n",
        exchange.url()
    );
    for name in names {
        for half in ["key", "secret"] {
            let path = folder.path().join(format!("{name}.{half}"));
            fs::write(&path, format!("{name}-canary-{half}")).unwrap();
            // Others may not read it, or there is a line about it before there is a poller.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let keys = format!("access_key_file: {name}.key, secret_key_file: {name}.secret");
        let _ = writeln!(file, "- {{name: {name}, {keys}}}");
    }
    let path = folder.path().join("accounts.yml");
    fs::write(&path, file).unwrap();

    let words = ["xt-balance-exporter", "--web.listen-address=127.0.0.1:0", "--config.file"];
    let words = words.iter().map(Into::into).chain([path.into_os_string()]);
    let daemon = cli::parse(words).unwrap();
    let daemon = thread::spawn(move || format!("{:?}", commands::run(daemon)));

    let address = until("it listens", || log.0.lock().unwrap().address);
    // The service manager has heard that all are alive.
    io::stdin().read_line(&mut String::new()).unwrap();
    log.0.lock().unwrap().doomed = vec!["dies", PRICES];
    let sick = until("it says that both are sick", || {
        let health = get(address, "/-/healthy", &[]);
        Some(health).filter(|answer| answer.status == 503 && answer.text().lines().count() == 2)
    });
    assert!(sick.text().contains("'dies'"), "{}", sick.text());
    assert!(sick.text().lines().any(|line| line.contains("prices")), "{}", sick.text());
    assert!(!sick.text().contains("lives"), "{}", sick.text());
    let polls =
        || sample(&get(address, "/metrics", &[]).text(), "xt_polls_total{account=\"lives\",wallet=\"spot\"}");
    let before = polls();
    until("the other has polled again", || (polls() > before).then_some(()));
    let metrics = get(address, "/metrics", &[]).text();
    let page = get(address, "/", &[]).text();
    let restarts = |series: &str| sample(&metrics, series).unwrap();
    assert!(restarts("xt_poller_restarts_total{account=\"dies\"}") >= 2.0, "{metrics}");
    assert!(restarts("xt_price_poller_restarts_total") >= 2.0, "{metrics}");
    assert!(restarts("xt_poller_restarts_total{account=\"lives\"}").abs() < 0.5, "{metrics}");

    // Nor does the daemon end when all of them panic, and each goes on once it can.
    log.0.lock().unwrap().doomed = vec!["dies", "lives", PRICES];
    until("the last one panics too", || {
        let metrics = get(address, "/metrics", &[]).text();
        sample(&metrics, "xt_poller_restarts_total{account=\"lives\"}").filter(|restarts| *restarts >= 1.0)
    });
    log.0.lock().unwrap().doomed = vec![];
    until("all are well", || (get(address, "/-/healthy", &[]).status == 200).then_some(()));
    let dies =
        || sample(&get(address, "/metrics", &[]).text(), "xt_polls_total{account=\"dies\",wallet=\"spot\"}");
    let before = dies();
    until("the first has polled again", || (dies() > before).then_some(()));
    let ended = Command::new("kill").arg(std::process::id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(daemon.join().unwrap(), format!("{:?}", std::process::ExitCode::SUCCESS));
    let log = log.0.lock().unwrap().lines.join("\n");
    let panics = panics.0.lock().unwrap().lines.join("\n");
    for said in [messages::POLLER_PANICKED, messages::PRICE_POLLER_PANICKED] {
        assert!(log.contains(said), "no {said:?} in\n{log}");
    }
    assert!(panics.contains("this line cannot be written"), "{panics}");
    for text in [&log, &panics, &metrics, &page, &sick.text()] {
        assert!(!text.contains("canary"), "{text}");
    }
}
