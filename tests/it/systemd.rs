//! The unit under a real systemd: judged by its tools, then started in a machine made of namespaces
//! (see `machine`): credentials, hardening, watchdog, restarts. Needs root and systemd.

use std::{
    io::Write as _,
    process::{Child, Command, Stdio},
};

use crate::common::until;

const UNIT: &str = "deploy/systemd/xt-balance-exporter.service";
const SERVICE: &str = "xt-balance-exporter";
const FOLDER: &str = "/etc/xt-balance-exporter";

/// A machine that runs systemd. Switched off when dropped.
struct Machine {
    power: Child,
    /// The process that is the first one in there.
    init: String,
}

impl Machine {
    fn boot() -> Self {
        let mut command = as_root("tests/machine");
        let power = command.args([env!("CARGO_BIN_EXE_xt-balance-exporter"), UNIT]).stdin(Stdio::piped());
        let power = power.spawn().unwrap();
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
            (machine.say(&["systemctl", "is-system-running"]).trim() == "running").then_some(())
        });
        machine
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = as_root("nsenter");
        command.args(["--all", "--target", &self.init, "--"]).args(words);
        command
    }

    /// What a command prints in there, however it ends.
    fn say(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// Runs a command in there that must succeed.
    fn run(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {text}{error}{}", self.log());
        text
    }

    /// Writes a file that only root may read.
    fn write(&self, path: &str, text: &str) {
        let script = "umask 077; mkdir -p \"$(dirname \"$0\")\"; cat > \"$0\"";
        let mut child = self.command(&["sh", "-c", script, path]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Changes the unit as `systemctl edit` does.
    fn edit(&self, text: &str) {
        self.write(
            &format!("/etc/systemd/system/{SERVICE}.service.d/override.conf"),
            &format!("[Service]\n{text}"),
        );
        self.run(&["systemctl", "daemon-reload"]);
    }

    fn property(&self, name: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", name, SERVICE]).trim().to_owned()
    }

    fn log(&self) -> String {
        self.say(&["journalctl", "--no-pager", "--output=cat", "--unit", SERVICE])
    }

    /// Asks the exporter, from inside: it listens on the machine's own loopback.
    fn get(&self, path: &str) -> String {
        let script =
            "exec 3<>/dev/tcp/127.0.0.1/10770 && printf 'GET %s HTTP/1.0\\r\\n\\r\\n' \"$0\" >&3 && cat <&3";
        self.say(&["bash", "-c", script, path])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.power.stdin.take());
        let _ = self.power.wait();
    }
}

fn as_root(program: &str) -> Command {
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
    assert_eq!(machine.say(&["systemd-analyze", "verify", "xt-balance-exporter.service"]), "");

    // The simulated exchange runs in the machine too.
    machine.write(
        "/etc/systemd/system/exchange.service",
        "[Service]\nExecStart=/usr/local/bin/xt-balance-exporter simulate\n",
    );
    machine.run(&["systemctl", "daemon-reload"]);
    machine.run(&["systemctl", "start", "exchange"]);
    let pairs = until("the exchange prints its key pairs", || {
        let text = machine.say(&["journalctl", "--no-pager", "--output=cat", "--unit=exchange"]);
        Some(key_pairs(&text)).filter(|pairs| pairs.len() >= 2)
    });

    // Without its files the unit fails, and systemd tries again.
    assert!(!machine.command(&["systemctl", "start", SERVICE]).output().unwrap().status.success());
    assert_eq!(machine.property("ActiveState"), "activating");

    let (_, key, secret) = &pairs[0];
    check_one_account(&machine, [key, secret]);
    check_confinement(&machine);
    let (_, key, secret) = &pairs[1];
    let drop_in = check_two_accounts(&machine, [key, secret]);
    check_watchdog(&machine, &drop_in);
    check_repeated_failures(&machine);

    machine.run(&["systemctl", "stop", SERVICE]);
    assert_eq!([machine.property("ActiveState"), machine.property("Result")], ["inactive", "success"]);
}

/// The configuration without accounts, and the lines of two accounts.
const CONFIG_HEAD: &str =
    "base_urls: ['http://127.0.0.1:8470']\npoll_interval: 1s\npoll_timeout: 900ms\naccounts:\n";
const FIRST_ACCOUNT: &str = "- {name: main, access_key_file: main.key, secret_key_file: main.secret}\n";
const SECOND_ACCOUNT: &str =
    "- {name: market-maker, access_key_file: market-maker.key, secret_key_file: market-maker.secret}\n";

/// Runs the unit with one account: it polls, reports its status, and logs neither a warning nor a key.
fn check_one_account(machine: &Machine, [key, secret]: [&str; 2]) {
    machine.write(&format!("{FOLDER}/accounts.yml"), &format!("{CONFIG_HEAD}{FIRST_ACCOUNT}"));
    machine.write(&format!("{FOLDER}/main.key"), key);
    machine.write(&format!("{FOLDER}/main.secret"), secret);
    machine.run(&["systemctl", "restart", SERVICE]);
    assert_eq!(machine.property("ActiveState"), "active");
    until("the account is polled", || {
        machine.get("/metrics").contains("\nxt_up{account=\"main\",wallet=\"spot\"} 1").then_some(())
    });
    until("the status says so", || {
        (machine.property("StatusText") == "1 account; all last polls succeeded").then_some(())
    });
    let metrics = machine.get("/metrics");
    assert!(
        metrics.contains("\nprocess_resident_memory_bytes ") && metrics.contains("\nprocess_open_fds "),
        "{metrics}"
    );
    let log = machine.log();
    assert!(!log.contains("level=warn"), "credentials of systemd cause no warning: {log}");
    for key in [key, secret] {
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

/// Adds an account according to the instructions at the top of the unit. Returns the drop-in file.
fn check_two_accounts(machine: &Machine, [key, secret]: [&str; 2]) -> String {
    machine
        .write(&format!("{FOLDER}/accounts.yml"), &format!("{CONFIG_HEAD}{FIRST_ACCOUNT}{SECOND_ACCOUNT}"));
    machine.write(&format!("{FOLDER}/market-maker.key"), key);
    machine.write(&format!("{FOLDER}/market-maker.secret"), secret);
    let instructions = std::fs::read_to_string(UNIT).unwrap();
    let drop_in =
        instructions.lines().filter_map(|line| line.strip_prefix("#   ")).filter(|line| *line != "[Service]");
    let drop_in: String = drop_in.flat_map(|line| [line, "\n"]).collect();
    let drop_in = drop_in.replace("10.0.0.5", "127.0.0.1");
    machine.edit(&drop_in);
    machine.run(&["systemctl", "restart", SERVICE]);
    until("both accounts are polled", || {
        (machine.property("StatusText") == "2 accounts; all last polls succeeded").then_some(())
    });
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

/// Lets the start fail many times: systemd tries again beyond its default limit of five times in ten seconds.
fn check_repeated_failures(machine: &Machine) {
    machine.write(&format!("{FOLDER}/accounts.yml"), "accounts: []\n");
    machine.run(&["kill", "-KILL", &machine.property("MainPID")]);
    until("the start has failed many times", || {
        machine.property("NRestarts").parse::<u32>().ok().filter(|n| *n >= 8)
    });
    machine
        .write(&format!("{FOLDER}/accounts.yml"), &format!("{CONFIG_HEAD}{FIRST_ACCOUNT}{SECOND_ACCOUNT}"));
    until("the daemon runs again", || (machine.property("ActiveState") == "active").then_some(()));
}

/// Name, access key and secret key of each account that the simulated exchange tells of.
fn key_pairs(text: &str) -> Vec<(String, String, String)> {
    let pair = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [name, key, secret] if key.starts_with("de30") => Some((name.into(), key.into(), secret.into())),
        _ => None,
    };
    text.lines().filter_map(pair).collect()
}
