//! The unit under a real systemd: judged by its tools, then started in a machine made of namespaces
//! (see `machine`): credentials, reloads, socket, hardening, watchdog, restarts. Needs root and systemd.

use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use crate::common::{messages, until};

const UNIT: &str = "deploy/systemd/xt-balance-exporter.service";
const SOCKET: &str = "deploy/systemd/xt-balance-exporter.socket";
const SERVICE: &str = "xt-balance-exporter";
const FOLDER: &str = "/etc/xt-balance-exporter";

/// Name, access key and secret key of an account.
pub type KeyPair = (String, String, String);

/// Requests the metrics ten times a second until the file /tmp/enough exists, and prints the first line of each response.
const SCRAPER: &str = "
    while [ ! -e /tmp/enough ]; do
        (exec 3<>/dev/tcp/127.0.0.1/10770 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3) || echo failed
        sleep 0.1
    done";

/// A machine that runs systemd. Switched off when dropped.
pub struct Machine {
    power: Child,
    /// The process that is the first one in there.
    pub init: String,
}

impl Machine {
    /// Boots this machine's system with the exporter and its units.
    pub fn boot() -> Self {
        let mut command = as_root("tests/machine");
        command.args([env!("CARGO_BIN_EXE_xt-balance-exporter"), UNIT, SOCKET]);
        Self::start(command)
    }

    /// The same with the files of another system, the one in the folder `root`. The exporter is not in it.
    pub fn boot_in(root: &Path) -> Self {
        let mut command = as_root("tests/machine");
        command.arg("--root").arg(root);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let power = command.stdin(Stdio::piped()).spawn().unwrap();
        let child = |of: &str, what: &str| {
            until(what, || {
                let found = Command::new("pgrep").args(["-P", of, "unshare|systemd"]).output().unwrap();
                let found = String::from_utf8(found.stdout).unwrap();
                found.lines().next().map(str::to_owned)
            })
        };
        let namespaces = child(&power.id().to_string(), "there are namespaces");
        let init = child(&namespaces, "systemd has been started in them");
        let machine = Self { power, init };
        until("the machine is up", || {
            (machine.run_unchecked(&["systemctl", "is-system-running"]).trim() == "running").then_some(())
        });
        machine
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = as_root("nsenter");
        command.args(["--all", "--target", &self.init, "--"]).args(words);
        command
    }

    /// Runs a command in the machine and returns its output, even if it fails.
    pub fn run_unchecked(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Runs a command in the machine, which must succeed.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {text}{error}{}", self.log());
        text
    }

    /// Writes a file that only root may read.
    pub fn write(&self, path: &str, text: &str) {
        let script = "umask 077; mkdir -p \"$(dirname \"$0\")\"; cat > \"$0\"";
        let mut child = self.command(&["sh", "-c", script, path]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Copies a file into a folder in there.
    pub fn copy(&self, file: &Path, folder: &str) {
        let path = format!("{folder}/{}", file.file_name().unwrap().display());
        let mut command = self.command(&["sh", "-c", "cat > \"$0\"", &path]);
        assert!(command.stdin(std::fs::File::open(file).unwrap()).status().unwrap().success(), "{path}");
    }

    /// Changes the unit as `systemctl edit` does.
    fn edit(&self, text: &str) {
        self.write(
            &format!("/etc/systemd/system/{SERVICE}.service.d/override.conf"),
            &format!("[Service]\n{text}"),
        );
        self.run(&["systemctl", "daemon-reload"]);
    }

    /// Waits until the status of the service is `text`.
    fn wait_for_status(&self, text: &str) {
        until(text, || (self.property("StatusText") == text).then_some(()));
    }

    /// Writes the configuration with the accounts `names`.
    fn write_accounts(&self, names: &[&str]) {
        let account = |name: &&str| {
            format!(
                "- {{name: {name}, access_key_file: keys/{name}.key, secret_key_file: keys/{name}.secret}}\n"
            )
        };
        let accounts: String = names.iter().map(account).collect();
        self.write(&format!("{FOLDER}/accounts.yml"), &format!("{CONFIG_HEAD}{accounts}"));
    }

    /// Writes the key files of the account `name`.
    fn write_keys(&self, name: &str, (_, access, secret): &KeyPair) {
        self.write(&format!("{FOLDER}/keys/{name}.key"), access);
        self.write(&format!("{FOLDER}/keys/{name}.secret"), secret);
    }

    /// A property of the exporter's unit.
    pub fn property(&self, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, SERVICE]).trim().to_owned()
    }

    fn log(&self) -> String {
        self.run_unchecked(&["journalctl", "--no-pager", "--output=cat", "--unit", SERVICE])
    }

    /// Asks the exporter, from inside: it listens on the machine's own loopback.
    pub fn get(&self, path: &str) -> String {
        let script =
            "exec 3<>/dev/tcp/127.0.0.1/10770 && printf 'GET %s HTTP/1.0\\r\\n\\r\\n' \"$0\" >&3 && cat <&3";
        self.run_unchecked(&["bash", "-c", script, path])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.power.stdin.take());
        let _ = self.power.wait();
    }
}

/// A command that runs a program as root.
pub fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; see tests/install"));
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_unit_is_less_exposed_than_one_and_a_half() {
    let text = output("systemd-analyze", &["security", "--offline=true", "--no-pager", UNIT]);
    let exposure = text.lines().find_map(|line| line.split("Overall exposure level for ").nth(1));
    let exposure =
        exposure.and_then(|line| line.split(' ').nth(1)).and_then(|level| level.parse::<f64>().ok());
    assert!(exposure.is_some_and(|level| level <= 1.5), "{text}");
}

#[test]
fn systemd_runs_the_shipped_unit() {
    let machine = Machine::boot();
    assert_eq!(machine.run_unchecked(&["systemd-analyze", "verify", "xt-balance-exporter.service"]), "");

    // The simulated exchange runs in the machine too.
    machine.write(
        "/etc/systemd/system/exchange.service",
        "[Service]\nExecStart=/usr/local/bin/xt-balance-exporter simulate\n",
    );
    machine.run(&["systemctl", "daemon-reload"]);
    machine.run(&["systemctl", "start", "exchange"]);
    let pairs = until("the exchange prints its key pairs", || {
        let text = machine.run_unchecked(&["journalctl", "--no-pager", "--output=cat", "--unit=exchange"]);
        Some(key_pairs(&text)).filter(|pairs| pairs.len() >= 3)
    });

    // Without its files the unit fails, and systemd tries again.
    assert!(!machine.command(&["systemctl", "start", SERVICE]).output().unwrap().status.success());
    assert_eq!(machine.property("ActiveState"), "activating");

    check_one_account(&machine, &pairs[0]);
    check_confinement(&machine);
    check_reload(&machine, &pairs[1], &pairs[2]);
    check_restart(&machine);
    check_state(&machine, &pairs[2]);
    let drop_in = check_instructions(&machine);
    check_watchdog(&machine, &drop_in);
    check_repeated_failures(&machine);

    machine.run(&["systemctl", "stop", SERVICE]);
    assert_eq!([machine.property("ActiveState"), machine.property("Result")], ["inactive", "success"]);
}

/// The configuration without accounts.
const CONFIG_HEAD: &str =
    "base_urls: ['http://127.0.0.1:8470']\npoll_interval: 1s\npoll_timeout: 900ms\naccounts:\n";
const BOTH: [&str; 2] = ["main", "market-maker"];
const BOTH_POLLED: &str = "2 accounts; all last polls succeeded";

/// Runs the unit with one account: it polls, reports its status, and logs neither a warning nor a key.
fn check_one_account(machine: &Machine, pair: &KeyPair) {
    machine.write_accounts(&["main"]);
    machine.write_keys("main", pair);
    machine.run(&["systemctl", "restart", SERVICE]);
    assert_eq!(machine.property("ActiveState"), "active");
    until("the account is polled", || {
        machine.get("/metrics").contains("\nxt_up{account=\"main\",wallet=\"spot\"} 1").then_some(())
    });
    machine.wait_for_status("1 account; all last polls succeeded");
    let metrics = machine.get("/metrics");
    assert!(
        metrics.contains("\nprocess_resident_memory_bytes ") && metrics.contains("\nprocess_open_fds "),
        "{metrics}"
    );
    let log = machine.log();
    assert!(!log.contains("level=warn"), "credentials of systemd cause no warning: {log}");
    for key in [&*pair.1, &*pair.2] {
        assert!(!log.contains(key), "{log}");
    }
    assert!(machine.get("/-/healthy").contains("all pollers are running"));
}

/// Checks that the process has a dynamic user and no capabilities.
fn check_confinement(machine: &Machine) {
    let process = machine.property("MainPID");
    let facts = machine.run(&["cat", &format!("/proc/{process}/status")]);
    for fact in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(facts.contains(fact), "{fact} in {facts}");
    }
    let user =
        facts.lines().find_map(|line| line.strip_prefix("Uid:\t")?.split('\t').next()?.parse::<u32>().ok());
    assert!(user.is_some_and(|user| (61_184..=65_519).contains(&user)), "{facts}");
}

/// Adds an account and replaces a key by reloads of one process. A reload with an invalid file fails and changes nothing.
fn check_reload(machine: &Machine, second: &KeyPair, third: &KeyPair) {
    let process = machine.property("MainPID");
    machine.write_accounts(&BOTH);
    machine.write_keys("market-maker", second);
    machine.run(&["systemctl", "reload", SERVICE]);
    machine.wait_for_status(BOTH_POLLED);
    machine.write_keys("main", third);
    machine.run(&["systemctl", "reload", SERVICE]);
    until("the new key is used", || machine.log().contains(messages::NEW_KEYS_IN_USE).then_some(()));

    machine.write(&format!("{FOLDER}/accounts.yml"), "accounts: []\n");
    assert!(!machine.command(&["systemctl", "reload", SERVICE]).output().unwrap().status.success());
    let reloads = machine.log().matches(messages::RELOADED).count();
    machine.run(&["kill", "-HUP", &process]);
    until("the previous files are reloaded", || {
        (machine.log().matches(messages::RELOADED).count() > reloads).then_some(())
    });
    assert!(!machine.log().contains(messages::RELOAD_FAILED), "{}", machine.log());
    let copies = machine.run(&["sh", "-c", "ls -d /run/xt-balance-exporter/copy.*"]);
    assert_eq!(copies.lines().count(), 1, "older copies of the keys are deleted: {copies}");
    assert_eq!([machine.property("ActiveState"), machine.property("MainPID")], ["active", &process]);
    machine.write_accounts(&BOTH);
}

/// Restarts the service while a client scrapes it: every scrape is answered.
fn check_restart(machine: &Machine) {
    let client = machine.command(&["bash", "-c", SCRAPER]).stdout(Stdio::piped()).spawn().unwrap();
    for _ in 0..3 {
        machine.run(&["systemctl", "restart", SERVICE]);
        machine.wait_for_status(BOTH_POLLED);
    }
    machine.write("/tmp/enough", "");
    let scrapes = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
    assert!(scrapes.lines().count() > 3 && scrapes.lines().all(|line| line.contains(" 200 ")), "{scrapes}");
}

/// Lets the exchange refuse a key: the next process remembers it, and `reload` with the right key ends it.
fn check_state(machine: &Machine, pair: &KeyPair) {
    let (name, access, _) = pair.clone();
    machine.write_keys("main", &(name, access, "wrong".to_owned()));
    machine.run(&["systemctl", "restart", SERVICE]);
    until("the refusal is saved", || {
        let saved = machine.run_unchecked(&["cat", "/var/lib/xt-balance-exporter/limits.json"]);
        saved.contains("\"refused_keys\":[{").then_some(())
    });
    machine.run(&["systemctl", "restart", SERVICE]);
    assert!(machine.log().contains(messages::ONE_REFUSED_KEY), "{}", machine.log());
    machine.write_keys("main", pair);
    machine.run(&["systemctl", "reload", SERVICE]);
    machine.wait_for_status(BOTH_POLLED);
}

/// Adds a flag and its file according to the instructions at the top of the unit. Returns the drop-in file.
fn check_instructions(machine: &Machine) -> String {
    let instructions = std::fs::read_to_string(UNIT).unwrap();
    let drop_in =
        instructions.lines().filter_map(|line| line.strip_prefix("#   ")).filter(|line| *line != "[Service]");
    let drop_in: String = drop_in.flat_map(|line| [line, "\n"]).collect();
    let web_config = "http_server_config: {headers: {X-Frame-Options: deny}}\n";
    machine.write(&format!("{FOLDER}/web.yml"), web_config);
    machine.edit(&drop_in);
    machine.run(&["systemctl", "restart", SERVICE]);
    assert!(machine.get("/metrics").to_lowercase().contains("x-frame-options: deny"));
    drop_in
}

/// Stops the process with SIGSTOP: the watchdog ends it, and systemd starts it again. The times of the unit are longer.
fn check_watchdog(machine: &Machine, drop_in: &str) {
    machine.edit(&format!("{drop_in}WatchdogSec=1s\nRestartSec=100ms\n"));
    machine.run(&["systemctl", "restart", SERVICE]);
    let process = machine.property("MainPID");
    machine.run(&["kill", "-STOP", &process]);
    until("the watchdog ends the process", || machine.log().contains("Watchdog timeout").then_some(()));
    until("the daemon runs again", || {
        (machine.property("NRestarts") == "1" && machine.property("ActiveState") == "active").then_some(())
    });
    assert_ne!(machine.property("MainPID"), process);
}

/// Lets the start fail many times: systemd tries again beyond its default limit of five times in ten seconds. A client that
/// connects meanwhile waits, and does not stop the socket.
fn check_repeated_failures(machine: &Machine) {
    let has_failed = |times: u32| machine.property("NRestarts").parse().ok().filter(|n: &u32| *n >= times);
    machine.write(&format!("{FOLDER}/accounts.yml"), "accounts: []\n");
    machine.run(&["kill", "-KILL", &machine.property("MainPID")]);
    until("the start has failed", || has_failed(3));
    let response = thread::scope(|scope| {
        let client = scope.spawn(|| machine.get("/-/healthy"));
        until("the start has failed many times", || has_failed(12));
        machine.write_accounts(&BOTH);
        client.join().unwrap()
    });
    assert!(response.contains("all pollers are running"), "{response}");
}

/// Name, access key and secret key of each account that the simulated exchange tells of.
pub fn key_pairs(text: &str) -> Vec<KeyPair> {
    let pair = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [name, key, secret] if key.starts_with("de30") => Some((name.into(), key.into(), secret.into())),
        _ => None,
    };
    text.lines().filter_map(pair).collect()
}
