//! Two machines with the exporter, and the networks that join them: `lan`, with the exchange and everybody else, and
//! `cluster`, which only the two machines and this one use. Runs in a network namespace of the test's own, so that nothing is
//! left when the process ends. Must not know keepalived or etcd.

use std::{fmt::Write as _, fs, net::SocketAddr, process::Command, thread};

use xt_balance_exporter::simulator::{
    Effect, Fault, SimulatedAccount, SimulatedEndpoint, SimulatedWallet, SimulatorConfig,
};

use crate::{common::Exchange, systemd::Machine};

/// Addresses of this machine in the two networks. The two machines have 11 and 12 in place of 1.
pub const LAN: &str = "192.0.2.1";
pub const CLUSTER: &str = "198.51.100.1";

/// The accounts that work.
pub const WELL: [&str; 3] = ["main", "second", "third"];

/// The configuration of both machines, without accounts. The exchange pauses the account `locked` and refuses the key of
/// `refused`.
const CONFIG_HEAD: &str = "api: v1
base_urls: ['http://127.0.0.1:8470']
poll_interval: 1s
poll_timeout: 900ms
limits: {share: 1/2}
accounts:
";

/// The two machines, by their number 0 or 1, and the exchange that they ask.
pub struct Pair {
    pub exchange: Exchange,
    machines: [Option<Machine>; 2],
}

impl Pair {
    /// Boots both machines. The exporter is installed there and not started.
    pub fn boot() -> Self {
        ip("link set lo up");
        for (network, address) in [("lan", LAN), ("cluster", CLUSTER)] {
            ip(&format!("link add {network} type bridge"));
            ip(&format!("address add {address}/24 dev {network}"));
            ip(&format!("link set {network} up"));
        }
        let machines = thread::scope(|scope| {
            let booting = [0, 1].map(|number| scope.spawn(move || boot_machine(number)));
            booting.map(|machine| Some(machine.join().unwrap()))
        });
        Self { exchange: exchange(), machines }
    }

    pub fn machine(&self, number: usize) -> &Machine {
        self.machines[number].as_ref().unwrap()
    }

    /// Copies a file of the repository into a machine, with other words in it, each of which must be there.
    pub fn install(&self, number: usize, file: &str, path: &str, edits: &[(&str, &str)]) {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let edit = |text: String, (from, to): &(&str, &str)| {
            assert!(text.contains(from), "{file} has no {from}");
            text.replace(from, to)
        };
        let text = edits.iter().fold(text, edit);
        let machine = self.machine(number);
        let folder = path.rsplit_once('/').unwrap().0;
        machine.run(&["install", "-d", "-m", "755", folder]);
        machine.write(path, &text);
        let mode = if text.starts_with("#!") { "755" } else { "644" };
        machine.run(&["chmod", mode, path]);
    }

    /// Whether the exporter runs on a machine.
    pub fn is_active(&self, number: usize) -> bool {
        let machine = self.machines[number].as_ref();
        machine.is_some_and(|machine| machine.property("ActiveState") == "active")
    }

    /// The number of the one machine on which the exporter runs; `None` if it runs on both or on none.
    pub fn active(&self) -> Option<usize> {
        match [0, 1].map(|number| self.is_active(number)) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// Kills the processes of a unit.
    pub fn kill(&self, number: usize, unit: &str) {
        self.machine(number).run(&["systemctl", "kill", "--signal=KILL", unit]);
    }

    /// Takes its configuration away from the exporter and kills it, so that it cannot start again.
    pub fn break_exporter(&self, number: usize) {
        let machine = self.machine(number);
        machine.run(&["mv", "/etc/xt-balance-exporter/accounts.yml", "/etc/accounts.yml"]);
        self.kill(number, "xt-balance-exporter");
    }

    pub fn repair_exporter(&self, number: usize) {
        self.machine(number).run(&["mv", "/etc/accounts.yml", "/etc/xt-balance-exporter/accounts.yml"]);
    }

    /// Switches a machine off, as a power cut does.
    pub fn kill_machine(&mut self, number: usize) {
        drop(self.machines[number].take());
    }
}

/// Cuts the machines off from each other in `lan`. Everybody else still reaches both.
pub fn cut_lan() {
    for number in [0, 1] {
        ip(&format!("link set dev lan{number} type bridge_slave isolated on"));
    }
}

pub fn heal_lan() {
    for number in [0, 1] {
        ip(&format!("link set dev lan{number} type bridge_slave isolated off"));
    }
}

/// Pulls the cable of a machine in `lan`: its device loses the carrier.
pub fn unplug(number: usize) {
    ip(&format!("link set dev lan{number} down"));
}

pub fn plug_in(number: usize) {
    ip(&format!("link set dev lan{number} up"));
}

/// Cuts a machine off from `cluster`, without any sign of it on the machine. `lan` still works.
pub fn cut_cluster(number: usize) {
    ip(&format!("link set dev cluster{number} nomaster"));
}

pub fn heal_cluster(number: usize) {
    ip(&format!("link set dev cluster{number} master cluster"));
}

fn boot_machine(number: usize) -> Machine {
    let machine = Machine::boot();
    for (network, device, address) in [("lan", "eth0", LAN), ("cluster", "eth1", CLUSTER)] {
        let port = format!("{network}{number}");
        ip(&format!("link add {port} type veth peer name {device} netns {}", machine.init));
        ip(&format!("link set {port} master {network} up"));
        machine.run(&["ip", "address", "add", &format!("{address}{}/24", number + 1), "dev", device]);
        machine.run(&["ip", "link", "set", device, "up"]);
    }
    machine.run(&["ip", "link", "set", "lo", "up"]);
    // The exporter sends keys without TLS to this machine only.
    machine.write("/etc/systemd/system/exchange.socket", "[Socket]\nListenStream=127.0.0.1:8470\n");
    let forwarder = format!("[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd {LAN}:8470\n");
    machine.write("/etc/systemd/system/exchange.service", &forwarder);
    let mut config = CONFIG_HEAD.to_owned();
    for name in WELL.into_iter().chain(["locked", "refused"]) {
        let watch = if WELL.contains(&name) { ", watch: {usdt: 1}" } else { "" };
        let _ = writeln!(
            config,
            "- {{name: {name}, access_key_file: keys/{name}.key, secret_key_file: keys/{name}.secret{watch}}}"
        );
        machine.write(&format!("/etc/xt-balance-exporter/keys/{name}.key"), &format!("{name}Key"));
        let secret = if name == "refused" { "wrong" } else { "Secret" };
        machine.write(&format!("/etc/xt-balance-exporter/keys/{name}.secret"), &format!("{name}{secret}"));
    }
    machine.write("/etc/xt-balance-exporter/accounts.yml", &config);
    machine.run(&["systemctl", "daemon-reload"]);
    machine.run(&["systemctl", "start", "exchange.socket"]);
    machine
}

fn exchange() -> Exchange {
    let account = |name: &str| {
        let account = SimulatedAccount::new(name, &format!("{name}Key"), &format!("{name}Secret"));
        account.with_balance(SimulatedWallet::Spot, "usdt", "5", "0")
    };
    let accounts = WELL.into_iter().chain(["locked", "refused"]).map(account).collect();
    let address = SocketAddr::new(LAN.parse().unwrap(), 8470);
    let exchange = Exchange::new_at(address, SimulatorConfig::default(), accounts);
    let limit_reply = Fault::new(Effect::from_status(429)).for_account("locked");
    exchange.simulator.inject_fault(limit_reply.for_endpoint(SimulatedEndpoint::GetBalance));
    exchange
}

/// Runs `ip` with these words.
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("ip: {error}; see tests/install"));
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
