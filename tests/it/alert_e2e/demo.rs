//! README's commands under "Run the demo", with the shipped files unchanged: the demo, Prometheus, Alertmanager and a
//! receiver, in a network of their own where README's ports are free (needs root). Takes four minutes, mostly waiting.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::Deserialize;
use xt_balance_exporter::simulator::market;

use super::shipped;
use crate::common::{Exporter, Lines, PROGRAM, WAIT_TIMEOUT, messages};

/// The page of the account that stays low.
const PAGE: &str = "page, firing: XtBalanceLow. arbitrage/spot: ";

/// A network with a loopback device only. Dropping it ends the process that keeps it.
struct Network(Child);

impl Network {
    fn new() -> Self {
        let script = "ip link set lo up && echo up && exec sleep infinity";
        let mut keeper = Command::new("unshare");
        keeper.args(["--net", "sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().unwrap();
        Lines::read_from(keeper.stdout.take().unwrap()).wait_for("up");
        Self(keeper)
    }

    /// Starts a shell command in this network.
    fn start(&self, command: &str) -> Exporter {
        let mut inside = Command::new("nsenter");
        inside.args([&format!("--net=/proc/{}/ns/net", self.0.id()), "sh", "-c"]);
        let folder = std::path::Path::new(PROGRAM).parent().unwrap().display();
        let path = format!("{folder}:/usr/sbin:/usr/bin:/sbin:/bin");
        Exporter::start_by(inside, &[&format!("exec {command}")], &[("PATH", &path)])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// README's commands, which write below `folder`.
fn commands(folder: &str) -> Vec<String> {
    let readme = fs::read_to_string("README.md").unwrap();
    let section = readme.split("\n## Run the demo\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("\n```sh\n").skip(1).map(|block| block.split("\n```").next().unwrap());
    let commands = blocks.flat_map(str::lines).map(|line| line.replace("/tmp/xt-demo", folder));
    // Its name in Debian, as README says.
    commands.map(|line| line.replacen("alertmanager ", "prometheus-alertmanager ", 1)).collect()
}

#[test]
fn readmes_commands_page_before_the_story_of_the_demo_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let commands = commands(folder.path().to_str().unwrap());
    let [demo, prometheus, alertmanager, receiver] = &commands[..] else { panic!("{commands:?}") };
    let network = Network::new();
    let receiver = network.start(receiver);
    let _alertmanager = network.start(alertmanager);
    let _prometheus = network.start(prometheus);
    let demo = network.start(&format!("{demo} --once-through"));
    demo.stdout.wait_for(messages::DEMO_LOW);
    demo.stdout.wait_for(messages::DEMO_REFUSED);
    let page = receiver.stdout.wait_for_within(PAGE, market::STORY + WAIT_TIMEOUT);
    assert!(page.contains(" % of 30000"), "{page}");
    demo.stdout.wait_for_within(messages::DEMO_END, market::STORY);
    let output = demo.wait();
    assert!(output.status.success(), "{}: {}", output.status, output.stderr);
    println!("{}{}", output.stdout, receiver.stdout.text());
}

/// The times of the shipped files add up to less than four minutes, with half a minute to start the programs by hand.
#[test]
fn the_shipped_times_page_within_four_minutes() {
    #[derive(Deserialize)]
    struct Prometheus {
        global: Global,
    }
    #[derive(Deserialize)]
    struct Global {
        scrape_interval: String,
        evaluation_interval: String,
    }
    #[derive(Deserialize)]
    struct Alertmanager {
        route: Route,
    }
    #[derive(Deserialize)]
    struct Route {
        routes: Vec<ChildRoute>,
    }
    #[derive(Deserialize)]
    struct ChildRoute {
        receiver: String,
        group_wait: Option<String>,
    }
    let read = |path| fs::read_to_string(path).unwrap();
    let Prometheus { global } = serde_saphyr::from_str(&read(shipped::PROMETHEUS)).unwrap();
    let Alertmanager { route } = serde_saphyr::from_str(&read(shipped::ALERTMANAGER)).unwrap();
    let route = route.routes.into_iter().find(|route| route.receiver == "page").unwrap();
    let times = [global.scrape_interval, global.evaluation_interval, route.group_wait.unwrap()];
    let times: Duration = times.iter().map(|time| humantime::parse_duration(time).unwrap()).sum();
    let (pending_seconds, _) = shipped::alerts()[&("XtBalanceLow".to_owned(), "critical".to_owned())];
    let first_poll = Duration::from_secs(5);
    let page = first_poll + times + Duration::from_secs_f64(pending_seconds);
    assert!(page <= Duration::from_secs(210), "{page:?}");
}
