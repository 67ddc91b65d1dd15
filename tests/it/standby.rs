//! The recipes of deploy/standby: two machines, and the exporter on one of them. Each machine is a real systemd in namespaces
//! of its own, joined by a network that can be cut. The drills print how long the balances were not fresh, and check that
//! nobody is paged for a take-over, that no limit is passed, and what is remembered.
//! Needs root, systemd, keepalived, etcd, Prometheus and Alertmanager.

mod observer;
mod pair;

use std::{
    env, fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    alert_e2e::{
        servers::{Alertmanager, Prometheus, Receiver},
        shipped,
    },
    common::{Lines, test_process_command, until},
    deployment::chart::{render, the},
    documents::tracked,
    systemd::as_root,
};
use serde_json::json;

use observer::{Observer, check_calls, now};
use pair::{CLUSTER, LAN, Pair};

/// Divides all times of the rules and of Alertmanager. `XtExporterDown` then waits for a minute, as long as a drill waits for
/// anything, so a slow machine causes no page.
const FACTOR: u32 = 5;
/// Maximum wait for the page after both machines are gone.
const PAGE_TIMEOUT: Duration = Duration::from_mins(3);

/// The address that moves between the machines with keepalived.
const SHARED_ADDRESS: &str = "192.0.2.10";
const PORT: u16 = 10770;

/// Set for the process that has a network of its own.
const HAS_NETWORK: &str = "XT_TEST_STANDBY";

#[test]
fn with_keepalived_the_exporter_runs_on_the_machine_that_has_the_address() {
    if env::var_os(HAS_NETWORK).is_none() {
        return run_in_own_network("with_keepalived_the_exporter_runs_on_the_machine_that_has_the_address");
    }
    let mut drill = Drill::start(Pair::boot(), &[SHARED_ADDRESS]);
    let install = |pair: &mut Pair| [0, 1].iter().for_each(|number| install_keepalived(pair, *number));
    let first = drill.kill_the_process(install);
    let second = 1 - first;
    let is_first = move |pair: &Pair| pair.active() == Some(first);
    drill.take_over("keepalived is killed", |pair| pair.kill(second, "keepalived"), is_first);
    drill.take_over(
        "the network between them is cut",
        |_| pair::cut_lan(),
        |pair| pair.is_active(first) && pair.is_active(second),
    );
    drill.wait_until_both_call();
    drill.take_over("the network is healed", |_| pair::heal_lan(), |pair| pair.active().is_some());
    let unplugged = drill.pair.active().unwrap();
    let last = 1 - unplugged;
    let is_last = move |pair: &Pair| pair.active() == Some(last);
    drill.take_over("the cable is pulled", |_| pair::unplug(unplugged), is_last);
    drill.take_over("the cable is plugged in", |_| pair::plug_in(unplugged), is_last);
    drill.take_over(
        "the machine is killed",
        |pair| pair.kill_machine(last),
        move |pair| pair.active() == Some(1 - last),
    );
    drill.check_no_page();
    drill.pair.kill_machine(1 - last);
    drill.check_one_page();
}

#[test]
fn with_a_lock_in_etcd_the_exporter_runs_on_the_machine_that_has_the_lock() {
    if env::var_os(HAS_NETWORK).is_none() {
        return run_in_own_network("with_a_lock_in_etcd_the_exporter_runs_on_the_machine_that_has_the_lock");
    }
    let pair = Pair::boot();
    let folder = tempfile::tempdir().unwrap();
    let _witness = Etcd::start_witness(folder.path());
    let addresses = [format!("{LAN}1"), format!("{LAN}2")];
    let mut drill = Drill::start(pair, &addresses.each_ref().map(String::as_str));
    let install = |pair: &mut Pair| [0, 1].iter().for_each(|number| install_etcd(pair, *number));
    let first = drill.kill_the_process(install);
    let second = 1 - first;
    let is_first = move |pair: &Pair| pair.active() == Some(first);
    let is_second = move |pair: &Pair| pair.active() == Some(second);
    wait_for_candidate(&drill.pair, first);
    drill.take_over("the network of the lock is cut", |_| pair::cut_cluster(second), is_first);
    drill.take_over("the network is healed", |_| pair::heal_cluster(second), is_first);
    wait_for_candidate(&drill.pair, second);
    drill.take_over("the machine is killed", |pair| pair.kill_machine(first), is_second);
    drill.check_no_page();
}

/// Why the exporter is not the command of `etcdctl lock`: with a new version of etcd that ends the command, it could be.
#[test]
fn etcdctl_keeps_a_command_running_without_the_lock_and_ends_itself_if_it_has_no_command() {
    if env::var_os(HAS_NETWORK).is_none() {
        return run_in_own_network(
            "etcdctl_keeps_a_command_running_without_the_lock_and_ends_itself_if_it_has_no_command",
        );
    }
    pair::ip("link set lo up");
    let folder = tempfile::tempdir().unwrap();
    let _etcd = Etcd::start_alone(folder.path());
    let lock = |command: &[&str]| {
        let mut etcdctl = etcdctl(&["lock", "--ttl=2", "name"]);
        let mut child = etcdctl.args(command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = Lines::read_from(child.stdout.take().unwrap());
        (child, output)
    };
    let script = "echo runs; for second in $(seq 60); do sleep 1; done; echo ends";
    let (mut with_command, command_output) = lock(&["--", "sh", "-c", script]);
    command_output.wait_for("runs");
    let (mut without_command, output) = lock(&[]);
    revoke_first_lease();
    // The second one has the lock, and the command of the first one still runs.
    output.wait_for("name/");
    assert!(with_command.try_wait().unwrap().is_none());
    assert!(!command_output.text().contains("ends"));
    revoke_first_lease();
    assert!(!without_command.wait().unwrap().success());
    with_command.kill().unwrap();
    with_command.wait().unwrap();
}

fn etcdctl(words: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    command.args(words);
    command
}

/// Ends the lease of the client that has the lock `name`.
fn revoke_first_lease() {
    let words = ["get", "--prefix", "name/", "--sort-by=CREATE", "--limit=1", "--keys-only"];
    let keys = String::from_utf8(etcdctl(&words).output().unwrap().stdout).unwrap();
    let lease = keys.trim().strip_prefix("name/").unwrap_or_else(|| panic!("nobody has the lock: {keys}"));
    let revoked = etcdctl(&["lease", "revoke", lease]).stdout(Stdio::null()).status().unwrap();
    assert!(revoked.success());
}

/// The values of the documentation give the pod the times that the documentation names.
#[test]
fn the_values_for_kubernetes_shorten_what_they_say() {
    let keys = "existingSecret=keys,image.repository=example.com/xt";
    let accounts = "config.accounts[0].name=main,config.accounts[0].access_key_file=a,config.accounts[0].secret_key_file=s";
    let objects =
        render(&["--values=deploy/standby/kubernetes-values.yaml", "--set", keys, "--set", accounts]);
    let deployment = &the(&objects, "Deployment")["spec"];
    assert_eq!(deployment["strategy"]["type"], "Recreate");
    let pod = &deployment["template"]["spec"];
    let tolerations = pod["tolerations"].as_array().unwrap();
    let times: Vec<_> = tolerations.iter().map(|one| one["tolerationSeconds"].as_u64()).collect();
    assert_eq!(times, [Some(10), Some(10)]);
    let container = &pod["containers"][0];
    assert!(
        container["env"].as_array().unwrap().contains(&json!({"name": "XT_LIMITS_SHARE", "value": "1/2"}))
    );
    let probe = &container["livenessProbe"];
    let until_killed = probe["periodSeconds"].as_u64().unwrap() * probe["failureThreshold"].as_u64().unwrap();
    assert_eq!((until_killed, &probe["httpGet"]["path"]), (15, &"/-/healthy".into()));
}

/// Runs one test of this file again, in a process with a network and process numbers of its own. When it ends, so does
/// everything that it has started.
fn run_in_own_network(name: &str) {
    let again = test_process_command(module_path!(), name);
    let mut command = as_root("unshare");
    command.args(["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "env"]);
    command.arg(format!("{HAS_NETWORK}=1")).arg(again.get_program()).args(again.get_args());
    let output = command.arg("--nocapture").stderr(Stdio::inherit()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    report(&text);
}

fn report(text: &str) {
    println!("{text}");
}

fn install_keepalived(pair: &Pair, number: usize) {
    let own = format!("unicast_src_ip {LAN}{}", number + 1);
    let peer = format!("unicast_peer {{\n        {LAN}{}", 2 - number);
    let edits =
        [("unicast_src_ip 192.0.2.11", own.as_str()), ("unicast_peer {\n        192.0.2.12", peer.as_str())];
    follow_readme(pair, number, "keepalived", ("deploy/standby/keepalived/keepalived.conf", &edits));
}

fn install_etcd(pair: &Pair, number: usize) {
    let name = if number == 0 { "ETCD_NAME=a" } else { "ETCD_NAME=b" };
    let own = format!("PEER_URLS=http://{CLUSTER}{}:", number + 1);
    let edits = [
        ("ETCD_NAME=a", name),
        ("192.0.2.13", CLUSTER),
        ("192.0.2.1", CLUSTER),
        ("PEER_URLS=http://198.51.100.11:", own.as_str()),
    ];
    follow_readme(pair, number, "etcd", ("deploy/standby/etcd/etcd.default", &edits));
    let verified =
        pair.machine(number).run_unchecked(&["systemd-analyze", "verify", "xt-balance-lock.service"]);
    assert_eq!(verified, "");
}

/// Runs the commands of deploy/standby/README.md for a recipe on a machine, in a copy of the recipes with the edits of one
/// file.
fn follow_readme(pair: &Pair, number: usize, recipe: &str, (edited, edits): (&str, &[(&str, &str)])) {
    for file in tracked().iter().filter(|file| file.starts_with("deploy/standby/")) {
        let edits = if file == edited { edits } else { &[] };
        pair.install(number, file, &format!("/root/checkout/{file}"), edits);
    }
    let machine = pair.machine(number);
    // tests/install masks the units of Debian's packages.
    machine.run(&[
        "rm",
        "--force",
        "/etc/systemd/system/keepalived.service",
        "/etc/systemd/system/etcd.service",
    ]);
    let commands = commands("On both machines") + &commands(recipe);
    machine.run(&["sh", "-ec", &format!("cd /root/checkout\n{commands}")]);
    for unit in ["xt-balance-exporter.service", "xt-balance-exporter.socket"] {
        assert_eq!(machine.run_unchecked(&["systemd-analyze", "verify", unit]), "");
    }
}

/// The commands of a section of deploy/standby/README.md. The packages are installed already.
fn commands(section: &str) -> String {
    let readme = fs::read_to_string("deploy/standby/README.md").unwrap();
    let section = readme.split(&format!("\n## {section}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines).filter(|line| !line.starts_with("apt-get install "));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Waits until a machine waits for the lock.
fn wait_for_candidate(pair: &Pair, number: usize) {
    until("two machines want the lock", || {
        let words = ["etcdctl", "get", "--prefix", "--keys-only", "xt-balance-exporter/"];
        let keys = pair.machine(number).run_unchecked(&words);
        (keys.lines().filter(|line| line.starts_with("xt-balance-exporter/")).count() == 2).then_some(())
    });
}

/// An etcd on this machine. Killed when dropped.
struct Etcd(Child);

impl Etcd {
    /// Starts one without peers that keeps its data in `folder`.
    fn start_alone(folder: &Path) -> Self {
        let etcd = Self::start(&mut Command::new("etcd"), folder);
        until("etcd answers", || {
            let health = etcdctl(&["endpoint", "health"]).stderr(Stdio::null()).output().unwrap();
            health.status.success().then_some(())
        });
        etcd
    }

    /// Starts the member that only votes.
    fn start_witness(folder: &Path) -> Self {
        let text = fs::read_to_string("deploy/standby/etcd/etcd.default").unwrap();
        let text = text.replace("ETCD_NAME=a", "ETCD_NAME=witness").replace("192.0.2.13", CLUSTER);
        let text = text.replace("192.0.2.1", CLUSTER);
        let text =
            text.replace(&format!("PEER_URLS=http://{CLUSTER}1:"), &format!("PEER_URLS=http://{CLUSTER}:"));
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        Self::start(Command::new("etcd").envs(settings.filter_map(|line| line.split_once('='))), folder)
    }

    fn start(command: &mut Command, folder: &Path) -> Self {
        command.env("ETCD_DATA_DIR", folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap_or_else(|error| panic!("etcd: {error}; see tests/install")))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pair, and those who watch it.
struct Drill {
    pair: Pair,
    observer: Observer,
    receiver: Receiver,
    prometheus: Prometheus,
    _alertmanager: Alertmanager,
    _folder: tempfile::TempDir,
}

impl Drill {
    /// Starts an observer, a Prometheus and an Alertmanager, which scrape the exporters at these addresses.
    fn start(pair: Pair, exporters: &[&str]) -> Self {
        let exporters = exporters.iter().map(|address| SocketAddr::new(address.parse().unwrap(), PORT));
        let exporters: Vec<_> = exporters.collect();
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start();
        let alertmanager = Alertmanager::start_shortened(folder.path(), receiver.address, FACTOR);
        let rename = |config: String| {
            // As deploy/standby/README.md says for targets of which one is always down.
            let job = if exporters.len() > 1 { "xt-balance-standby" } else { "xt-balance-exporter" };
            shipped::replace_address(&config, "job_name: xt-balance-exporter", &format!("job_name: {job}"), 1)
        };
        let prometheus =
            Prometheus::start_shortened(folder.path(), alertmanager.address, &exporters, FACTOR, rename);
        let observer = Observer::start(exporters);
        Self { pair, observer, receiver, prometheus, _alertmanager: alertmanager, _folder: folder }
    }

    /// Sets both machines up, kills the exporter, and then keeps it from starting on the machine that it ran on. Returns this
    /// machine, repaired, while the exporter runs on the other one.
    fn kill_the_process(&mut self, install: impl FnOnce(&mut Pair)) -> usize {
        self.take_over("both machines are set up", install, |pair| pair.active().is_some());
        let first = self.pair.active().unwrap();
        let is_first = move |pair: &Pair| pair.active() == Some(first);
        let is_second = move |pair: &Pair| pair.active() == Some(1 - first);
        let has_restarted =
            move |pair: &Pair| is_first(pair) && pair.machine(first).property("NRestarts") == "1";
        self.take_over(
            "the process is killed",
            |pair| pair.kill(first, "xt-balance-exporter"),
            has_restarted,
        );
        self.take_over("the exporter cannot start again", |pair| pair.break_exporter(first), is_second);
        self.pair.repair_exporter(first);
        first
    }

    /// Does something to the pair, waits until it has the right state and its balances are fresh, and prints for how long
    /// they were not.
    fn take_over(&mut self, what: &str, action: impl FnOnce(&mut Pair), is_done: impl Fn(&Pair) -> bool) {
        let begin = now();
        action(&mut self.pair);
        until(what, || is_done(&self.pair).then_some(()));
        let done = now();
        until(what, || self.observer.has_seen_all_turns_after(done).then_some(()));
        let gap = self.observer.longest_gap_after(begin);
        report(&format!("{what}: {gap:.1} s without fresh balances"));
    }

    /// Waits until both machines have called the exchange some times.
    fn wait_until_both_call(&self) {
        let calls = || {
            let log = self.pair.exchange.simulator.call_log();
            [1, 2].map(|number| log.call_times_from(format!("{LAN}{number}").parse().unwrap()).len())
        };
        let before = calls();
        until("both machines call the exchange", || {
            let now = calls();
            (now[0] > before[0] + 20 && now[1] > before[1] + 20).then_some(())
        });
    }

    /// The messages about the accounts that work and about the exporter.
    fn messages(&self) -> Vec<String> {
        let messages = self.receiver.messages().into_iter().map(|message| message.summary);
        messages.filter(|text| !text.contains(" of locked") && !text.contains(" of refused")).collect()
    }

    /// Checks that nobody was told of the take-overs, that no limit was passed, and that each machine called for the locked
    /// account and with the refused key once.
    fn check_no_page(&self) {
        let log = self.pair.exchange.simulator.call_log();
        report(&format!("calls:\n{}", check_calls(&log)));
        for account in ["locked", "refused"] {
            assert_eq!(log.asset_call_times(account).len(), 2, "calls of {account}, one of each machine");
        }
        assert_eq!(self.messages(), [""; 0]);
        // Nor is anybody about to be: a target that is always down would send a ticket after this test.
        until("no target that is down is an alert", || {
            let alerts = self.prometheus.alerts();
            (!alerts.iter().any(|alert| alert.contains("Down "))).then_some(())
        });
        report("no page and no ticket about the exporter or an account that works");
    }

    /// Waits for the page that no exporter is left, and checks that it is the only one.
    fn check_one_page(&self) {
        let begin = std::time::Instant::now();
        while self.messages().is_empty() {
            assert!(begin.elapsed() < PAGE_TIMEOUT, "nobody was paged");
            self.receiver.wait_for_more_than(self.receiver.messages().len(), Duration::from_secs(1));
        }
        assert_eq!(self.messages(), ["page: XtExporterDown critical firing"]);
        let after = begin.elapsed().as_secs_f64() * f64::from(FACTOR);
        report(&format!("both machines are gone: one page, {:.1} min after", after / 60.0));
    }
}
