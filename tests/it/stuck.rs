//! An operation that blocks forever stops no other part: file systems that hang, FIFOs instead of files, a log and an output
//! that nobody reads. Real processes, pipes and a real file system that hangs.

use std::{
    fs,
    io::{PipeReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use crate::common::golden::assert_golden;
use crate::common::messages;
use crate::common::{
    ACCESS_KEY, Answer, Exchange, Exporter, PROGRAM, SECRET_KEY, WAIT_TIMEOUT, get,
    hanging_folder::HangingFolder, replace, request, sample, until,
};
use xt_balance_exporter::simulator::{SimulatedAccount, SimulatedWallet, SimulatorConfig};

/// Accounts whose keys are in two folders, and the configuration file in a third place.
struct Setup {
    exchange: Exchange,
    folder: tempfile::TempDir,
}

const HEALTHY_POLLS: &str = "xt_polls_total{account=\"well\",wallet=\"spot\"}";
const STUCK_POLLS: &str = "xt_polls_total{account=\"stuck\",wallet=\"spot\"}";
const STUCK_UP: &str = "xt_up{account=\"stuck\",wallet=\"spot\"}";

impl Setup {
    /// The keys of the account `stuck` are in `keys`, those of `well` beside the configuration.
    fn new(keys: &Path) -> Self {
        let account = |name: &str, key: &str| {
            SimulatedAccount::new(name, &format!("{key}Key"), &format!("{key}Secret")).with_balance(
                SimulatedWallet::Spot,
                "usdt",
                "5",
                "0",
            )
        };
        let accounts = vec![account("well", "well"), account("stuck", "stuck"), account("next", "next")];
        let setup = Self {
            exchange: Exchange::new(SimulatorConfig::default(), accounts),
            folder: tempfile::tempdir().unwrap(),
        };
        Setup::write_keys(setup.folder.path(), "well", "well");
        Setup::write_keys(keys, "stuck", "stuck");
        setup.write_config(&setup.config(), keys);
        setup
    }

    fn write_keys(folder: &Path, name: &str, key: &str) {
        replace(&folder.join(format!("{name}.key")), &format!("{key}Key"));
        replace(&folder.join(format!("{name}.secret")), &format!("{key}Secret"));
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("accounts.yml")
    }

    fn write_config(&self, path: &Path, keys: &Path) {
        let line = |name: &str, folder: &Path| {
            let file = |end: &str| folder.join(format!("{name}.{end}"));
            format!(
                "- {{name: {name}, access_key_file: {}, secret_key_file: {}}}\n",
                file("key").display(),
                file("secret").display()
            )
        };
        let head =
            format!("base_urls: ['{}']\npoll_interval: 1s\npoll_timeout: 900ms\n", self.exchange.url());
        let accounts = line("well", self.folder.path()) + &line("stuck", keys);
        replace(path, &format!("{head}max_age: 1h\naccounts:\n{accounts}"));
    }
}

fn start(config: &Path, more: &[&str]) -> Exporter {
    let file = format!("--config.file={}", config.display());
    let args = ["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle", &file];
    Exporter::start(&[&args, more].concat(), &[])
}

/// Waits until each of the `series` has grown by three.
fn assert_polls_continue(exporter: &Exporter, series: &[&str]) {
    let before = exporter.metrics();
    for series in series {
        let target = sample(&before, series).unwrap() + 3.0;
        until(series, || exporter.sample(series).filter(|value| *value >= target));
    }
}

/// Sends SIGTERM and asserts that the daemon succeeds.
fn assert_clean_shutdown(exporter: Exporter) {
    exporter.signal("TERM");
    let output = exporter.wait();
    assert!(output.status.success(), "{:?}\n{}", output.status, output.stderr);
}

#[test]
fn key_files_that_hang_stop_no_poll_and_are_read_once_they_answer() {
    let hanging = HangingFolder::new();
    let setup = Setup::new(&hanging.path());
    let exporter = start(&setup.config(), &[]);
    exporter.ready();
    hanging.hang();
    exporter.stderr.wait_for(messages::KEY_FILES_UNREADABLE);
    assert_polls_continue(&exporter, &[HEALTHY_POLLS, STUCK_POLLS]);
    assert_eq!(exporter.sample(STUCK_UP), Some(1.0), "the pair in use works");
    assert_eq!(exporter.get("/-/healthy").status, 200);
    let threads = exporter.sample("process_threads");
    assert_polls_continue(&exporter, &[STUCK_POLLS]);
    assert!(exporter.sample("process_threads") <= threads, "no poll adds a thread that hangs");

    hanging.resume();
    Setup::write_keys(&hanging.path(), "stuck", "next");
    exporter.stderr.wait_for(messages::NEW_KEYS_IN_USE);
    hanging.hang();
    assert_clean_shutdown(exporter);
}

#[test]
fn a_fifo_in_the_place_of_a_file_is_refused_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path());
    let exporter = start(&setup.config(), &[]);
    exporter.ready();
    let become_fifo = |path: &Path| {
        fs::remove_file(path).unwrap();
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    become_fifo(&folder.path().join("stuck.key"));
    exporter.stderr.wait_for(messages::NOT_A_REGULAR_FILE);
    assert_polls_continue(&exporter, &[HEALTHY_POLLS, STUCK_POLLS]);

    become_fifo(&setup.config());
    let answer = request("POST", exporter.address(), "/-/reload", &[]);
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains(messages::NOT_A_REGULAR_FILE), "{}", answer.text());
    assert_clean_shutdown(exporter);

    let refused = start(&setup.config(), &[]).wait();
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains(messages::NOT_A_REGULAR_FILE), "{}", refused.stderr);
}

#[test]
fn a_configuration_that_hangs_stops_neither_polls_nor_scrapes_nor_the_end() {
    let hanging = HangingFolder::new();
    let keys = tempfile::tempdir().unwrap();
    let setup = Setup::new(keys.path());
    let config = hanging.path().join("accounts.yml");
    setup.write_config(&config, keys.path());
    let exporter = start(&config, &[]);
    exporter.ready();
    hanging.hang();
    let address = exporter.address();
    let request_thread = thread::spawn(move || request("POST", address, "/-/reload", &[]));
    assert_polls_continue(&exporter, &[HEALTHY_POLLS, STUCK_POLLS]);
    let answer: Answer = request_thread.join().unwrap();
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert_golden("reload_hangs", &answer.text());
    assert_eq!(exporter.sample("xt_exporter_config_last_reload_successful"), Some(0.0));
    assert_polls_continue(&exporter, &[HEALTHY_POLLS]);

    hanging.resume();
    let reloaded = || (request("POST", address, "/-/reload", &[]).status == 200).then_some(());
    until("it can be read again", reloaded);
    // A reload that waits does not hold up the end.
    hanging.hang();
    let waiting = thread::spawn(move || request("POST", address, "/-/reload", &[]).status);
    let reader = |name: &str| {
        let tasks = fs::read_dir(format!("/proc/{}/task", exporter.pid())).unwrap();
        let names = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|comm| comm.trim() == name).count() > 0
    };
    until("the reload reads", || reader("configuration").then_some(()));
    assert_clean_shutdown(exporter);
    assert_eq!(waiting.join().unwrap(), 503, "its end is answered, and not after the drain");
}

#[test]
fn a_signal_ends_a_start_that_waits_for_files() {
    let hanging = HangingFolder::new();
    let setup = Setup::new(&hanging.path());
    hanging.hang();
    // The shell that runs the tests may have told its children to ignore SIGHUP.
    let mut minding = Command::new("/usr/bin/env");
    minding.args(["--default-signal=HUP", PROGRAM]);
    let file = format!("--config.file={}", setup.config().display());
    let args = [&*file, "--web.listen-address=127.0.0.1:0"];
    let exporter = Exporter::start_by(minding, &args, &[]);
    let status = format!("/proc/{}/status", exporter.pid());
    let catches_hangup = || {
        let status = fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 1 == 1
    };
    until("it listens for SIGHUP", || catches_hangup().then_some(()));
    exporter.signal("HUP");
    hanging.resume();
    exporter.stderr.wait_for(messages::RELOADED);
    exporter.ready();
    assert_clean_shutdown(exporter);

    hanging.hang();
    let waiting = start(&setup.config(), &[]);
    let status = format!("/proc/{}/status", waiting.pid());
    let catches_term = || {
        let status = fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() >> 14 & 1 == 1
    };
    until("it listens for SIGTERM", || catches_term().then_some(()));
    assert_clean_shutdown(waiting);
}

#[test]
fn while_the_web_configuration_hangs_the_last_one_stays_in_force() {
    let hanging = HangingFolder::new();
    let keys = tempfile::tempdir().unwrap();
    let setup = Setup::new(keys.path());
    let web = hanging.path().join("web.yml");
    replace(&web, "http_server_config: {headers: {X-Frame-Options: deny}}\n");
    let exporter = start(&setup.config(), &[&format!("--web.config.file={}", web.display())]);
    exporter.ready();
    hanging.hang();
    let answer = exporter.get("/metrics");
    assert_eq!((answer.status, answer.header("x-frame-options")), (200, Some("deny")));
    exporter.stderr.wait_for(messages::WEB_CONFIG_UNSEEN);
    assert_polls_continue(&exporter, &[HEALTHY_POLLS]);
    hanging.resume();
    replace(&web, "http_server_config: {headers: {X-Frame-Options: sameorigin}}\n");
    until("the new one is in force", || {
        (exporter.get("/metrics").header("x-frame-options") == Some("sameorigin")).then_some(())
    });
    hanging.hang();
    assert_clean_shutdown(exporter);
}

/// The program with a standard error or output that nobody reads and that is full.
struct Unread {
    child: Child,
    pipe: PipeReader,
}

impl Unread {
    fn start(mut command: Command, hush: impl Fn(&mut Command, std::io::PipeWriter)) -> Self {
        let (pipe, mut writer) = std::io::pipe().unwrap();
        // As much as a pipe takes.
        writer.write_all(&vec![b'x'; 64 * 1024]).unwrap();
        hush(&mut command, writer);
        let child = command.spawn().unwrap();
        // It holds the writer.
        drop(command);
        Self { child, pipe }
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it has not ended");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn terminate(&self) {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of this process's own, for a program that cannot say on which one it listens.
fn own_address() -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, 71, high, low.clamp(1, 254)), 10_770).into()
}

#[test]
fn a_log_that_nobody_reads_blocks_nothing_and_dropped_lines_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path());
    let address = own_address();
    let mut command = Command::new(PROGRAM);
    command.arg(format!("--config.file={}", setup.config().display()));
    command.arg(format!("--web.listen-address={address}")).arg("--log.level=debug");
    let mut exporter = Unread::start(command, |command, full| {
        command.stderr(full);
    });
    until("it listens", || TcpStream::connect(address).ok());
    let metrics = || get(address, "/metrics", &[]).text();
    let target = sample(&metrics(), HEALTHY_POLLS).unwrap() + 3.0;
    until("it polls", || sample(&metrics(), HEALTHY_POLLS).filter(|polls| *polls >= target));
    let dropped = || sample(&metrics(), "xt_log_lines_dropped_total").unwrap();
    assert!(dropped().abs() < 0.5, "some lines can wait");
    // Each connection that ends in the middle of a request is a line.
    until("lines are dropped", || {
        for _ in 0..500 {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost");
        }
        Some(dropped()).filter(|lines| *lines > 0.0)
    });
    let target = sample(&metrics(), HEALTHY_POLLS).unwrap() + 1.0;
    until("it polls on", || sample(&metrics(), HEALTHY_POLLS).filter(|polls| *polls >= target));
    exporter.terminate();
    assert!(exporter.wait().success());

    // What waited comes out once somebody reads.
    let mut command = Command::new(PROGRAM);
    command.arg(format!("--config.file={}", setup.config().display()));
    command.arg(format!("--web.listen-address={address}"));
    let exporter = Unread::start(command, |command, full| {
        command.stderr(full);
    });
    until("it listens", || TcpStream::connect(address).ok());
    let log = crate::common::Lines::read_from(exporter.pipe.try_clone().unwrap());
    log.wait_for(messages::LISTENING);
    exporter.terminate();
    log.wait_for(messages::SHUTTING_DOWN);
}

#[test]
fn an_output_that_nobody_reads_does_not_delay_the_shutdown() {
    let exchange = Exchange::documented();
    let mut command = Command::new(PROGRAM);
    command.arg("once").arg(format!("--xt.base-url={}", exchange.url()));
    command.env("XT_ACCESS_KEY", ACCESS_KEY).env("XT_SECRET_KEY", SECRET_KEY);
    let mut once = Unread::start(command, |command, full| {
        command.stdout(full);
    });
    let blocked = |pid| {
        let stack = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        stack.contains("pipe")
    };
    until("it waits for a reader", || blocked(once.child.id()).then_some(()));
    once.terminate();
    assert_eq!(once.wait().code(), Some(1));
}
