//! The log as an operator reads it: a normal day, an outage and a locked account, written by the real daemon. Each line tells
//! the account, what happened, until when, and what to do.

use std::{fmt::Write as _, path::Path, time::Duration};

use serde_json::json;
use xt_balance_exporter::simulator::{Effect, Fault, SimulatedAccount, SimulatedWallet, SimulatorConfig};

use crate::common::{Exchange, Exporter, golden::assert_log, messages, replace, until};

const TIMING: &str = "poll_interval: 2s\npoll_timeout: 1900ms\n";

/// An exchange with two accounts and a second key pair for each, and the files of a daemon that watches the two.
struct Desk {
    folder: tempfile::TempDir,
    exchange: Exchange,
}

impl Desk {
    fn new() -> Self {
        let account = |name: &str, key: &str, usdt: &str| {
            SimulatedAccount::new(name, &format!("{key}Key"), &format!("{key}Secret"))
                .with_balance(SimulatedWallet::Spot, "usdt", usdt, "0")
                .with_balance(SimulatedWallet::Spot, "btc", "0.5", "0")
        };
        let accounts = vec![
            account("treasury", "treasury", "400"),
            account("market-maker", "maker", "5000"),
            account("treasury-again", "treasuryNew", "400"),
            account("market-maker-again", "makerNew", "5000"),
        ];
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
            exchange: Exchange::new(SimulatorConfig::default(), accounts),
        };
        desk.exchange.simulator.set_price("btc_usdt", "60000");
        desk.write_keys("treasury", "treasury");
        desk.write_keys("maker", "maker");
        desk.write_config("{usdt: 500, btc: 0.1, eht: ~}");
        std::fs::create_dir(desk.path().join("state")).unwrap();
        desk
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces the files `NAME.key` and `NAME.secret` by the pair `key`.
    fn write_keys(&self, name: &str, key: &str) {
        replace(&self.path().join(format!("{name}.secret")), &format!("{key}Secret"));
        replace(&self.path().join(format!("{name}.key")), &format!("{key}Key"));
    }

    fn write_config(&self, watch: &str) {
        let text = format!(
            "base_urls: ['{}']\nprices: usdt\n{TIMING}accounts:\n\
             - {{name: treasury, access_key_file: treasury.key, secret_key_file: treasury.secret, watch: {watch}}}\n\
             - {{name: market-maker, access_key_file: maker.key, secret_key_file: maker.secret, watch: {{usdt: 500}}}}\n",
            self.exchange.url()
        );
        replace(&self.path().join("accounts.yml"), &text);
    }

    fn start(&self) -> Exporter {
        let config = format!("--config.file={}", self.path().join("accounts.yml").display());
        let state = self.path().join("state");
        Exporter::start(
            &["--web.listen-address=127.0.0.1:0", &config],
            &[("STATE_DIRECTORY", state.to_str().unwrap())],
        )
    }

    fn inject(&self, effect: Effect) {
        self.exchange.simulator.inject_fault(Fault::new(effect));
    }
}

/// A log in chapters. The order of accounts within a chapter is a matter of luck, so its lines are sorted by account.
#[derive(Default)]
struct Story {
    text: String,
    /// Lines of the running daemon that are told already.
    told: usize,
}

impl Story {
    /// Waits until the new lines contain each text as often as it says, and tells them. Returns the line with the first text.
    fn tell(&mut self, chapter: &str, exporter: &Exporter, ends: &[(&str, usize)]) -> String {
        let told = self.told;
        let text = until(chapter, || {
            let text = exporter.stderr.text();
            let count = |part: &str| text.lines().skip(told).filter(|line| line.contains(part)).count();
            ends.iter().all(|(part, wanted)| count(part) >= *wanted).then_some(text)
        });
        self.add(chapter, &text);
        let mut new = text.lines().skip(told);
        new.find(|line| line.contains(ends[0].0)).unwrap_or_default().to_owned()
    }

    /// Ends the daemon and tells its last lines.
    fn end(&mut self, exporter: Exporter) {
        exporter.signal("TERM");
        let output = exporter.wait();
        self.add("the daemon ends", &output.stderr);
        self.told = 0;
    }

    fn add(&mut self, chapter: &str, text: &str) {
        let mut lines: Vec<_> = text.lines().skip(self.told).collect();
        self.told += lines.len();
        lines.sort_by_key(|line| {
            line.split_once(" account=").map(|(_, rest)| rest.split(' ').next().map(str::to_owned))
        });
        let _ = write!(self.text, "# {chapter}\n{}\n\n", lines.join("\n"));
    }
}

/// The seconds from the time of a line to the time in one of its fields.
fn seconds_until(line: &str, key: &str) -> u64 {
    let time = |key: &str| {
        let value = line.split(' ').find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
        humantime::parse_rfc3339(value.unwrap_or_else(|| panic!("no {key} in {line}"))).unwrap()
    };
    time(key).duration_since(time("ts")).unwrap_or_default().as_secs()
}

fn start(desk: &Desk, story: &mut Story) -> Exporter {
    let exporter = desk.start();
    story.tell(
        "the daemon starts",
        &exporter,
        &[(messages::FIRST_POLL_GOOD, 2), ("first prices read", 1), (messages::WATCH_PROBLEMS, 1)],
    );
    exporter
}

#[test]
fn a_normal_day() {
    let (desk, mut story) = (Desk::new(), Story::default());
    let exporter = start(&desk, &mut story);

    replace(&desk.path().join("treasury.key"), "");
    story.tell("a key file is empty", &exporter, &[(messages::KEY_FILES_NOT_USED, 1)]);
    desk.write_keys("treasury", "treasuryNew");
    story.tell("a new key pair", &exporter, &[(messages::NEW_KEYS_IN_USE, 1)]);

    desk.write_config("{usdt: 300, btc: 0.1}");
    exporter.signal("HUP");
    story.tell("a reload", &exporter, &[(messages::RELOADED, 1)]);
    desk.write_config("{usdt: five}");
    exporter.signal("HUP");
    story.tell("a reload of an invalid file", &exporter, &[(messages::RELOAD_FAILED, 1)]);

    let row = Effect::Row { currency: "eth".to_owned(), value: json!({"availableAmount": "NaN"}) };
    desk.exchange.simulator.inject_fault(Fault::new(row).for_account("market-maker"));
    story.tell(
        "a row of the exchange is unusable",
        &exporter,
        &[("some rows of the answer are unusable", 1)],
    );
    story.end(exporter);
    assert_log("log_normal_day", &story.text);
}

#[test]
fn an_outage() {
    let (desk, mut story) = (Desk::new(), Story::default());
    let exporter = start(&desk, &mut story);

    desk.inject(Effect::Maintenance);
    let failed = [(messages::POLL_FAILED, 2), (messages::PRICES_FAILED, 1)];
    story.tell("the exchange is in maintenance", &exporter, &failed);
    story.tell(
        "max_age is over",
        &exporter,
        &[(messages::BALANCES_UNKNOWN, 2), (messages::PRICES_UNKNOWN, 1)],
    );

    desk.exchange.simulator.clear_faults();
    desk.inject(Effect::Silence);
    story.tell("the exchange does not answer", &exporter, &failed);
    desk.exchange.simulator.clear_faults();
    let good = [("polls succeed again", 2), (messages::PRICES_GOOD_AGAIN, 1)];
    story.tell("the exchange answers again", &exporter, &good);

    let empty = Fault::new(Effect::EmptyData).for_account("market-maker");
    desk.exchange.simulator.inject_fault(empty.for_calls(1).for_duration(Duration::from_mins(1)));
    let resolved = [("suspect answer: ", 1), ("suspect answer resolved", 1)];
    story.tell("one answer of the exchange is empty", &exporter, &resolved);
    story.end(exporter);
    assert_log("log_outage", &story.text);
}

#[test]
fn a_locked_account() {
    let (desk, mut story) = (Desk::new(), Story::default());
    let exporter = start(&desk, &mut story);

    let simulator = &desk.exchange.simulator;
    simulator.inject_fault(Fault::new(Effect::from_status(429)).for_account("treasury"));
    let line = story.tell("the exchange locks an account", &exporter, &[(messages::POLL_FAILED, 1)]);
    assert!((500..=605).contains(&seconds_until(&line, "next_try")), "a pause takes ten minutes: {line}");
    simulator.inject_fault(Fault::new(Effect::Revoked).for_account("market-maker"));
    let line = story.tell("the exchange refuses a key", &exporter, &[(messages::POLL_FAILED, 1)]);
    assert!(
        (200..=305).contains(&seconds_until(&line, "next_try")),
        "a refused key rests five minutes: {line}"
    );
    story.end(exporter);

    let exporter = desk.start();
    let line = story.tell(
        "the daemon starts again",
        &exporter,
        &[(messages::PAUSED, 1), (messages::RESTORED, 1), ("first prices read", 1)],
    );
    assert!((500..=605).contains(&seconds_until(&line, "paused_until")), "{line}");
    desk.write_keys("maker", "makerNew");
    story.tell(
        "a new key pair",
        &exporter,
        &[(messages::NEW_KEYS_IN_USE, 1), (messages::FIRST_POLL_GOOD, 1)],
    );
    story.end(exporter);
    assert_log("log_locked_account", &story.text);
}
