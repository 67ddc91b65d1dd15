//! The record of a drill: what was done, which messages were expected, and which arrived.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{
    PATIENCE, QUIET, SETTLED, say,
    servers::{Alertmanager, Message, Prometheus, Receiver},
    shipped::{self, FACTOR},
};

/// What has been done, what was expected of it, and what has arrived.
pub struct Drill {
    pub prometheus: Prometheus,
    pub alertmanager: Alertmanager,
    pub receiver: Receiver,
    acts: Vec<Act>,
    /// How many messages have been looked at.
    known: usize,
}

struct Act {
    what: String,
    at: Instant,
    expected: Vec<Expected>,
}

/// A message, and what its alert says of itself; of one that is over that is no matter.
struct Expected {
    told: String,
    description: Option<String>,
}

impl Drill {
    pub const fn new(prometheus: Prometheus, alertmanager: Alertmanager, receiver: Receiver) -> Self {
        Self { prometheus, alertmanager, receiver, acts: Vec::new(), known: 0 }
    }

    /// Waits until all is well: the rules are loaded as they are meant to be, every balance is
    /// known, so many in all, and nothing fires or is about to.
    pub fn begin(&mut self, balances: usize) {
        self.until("the rules are loaded", |drill| !drill.prometheus.rules().is_empty());
        let shipped = shipped::alerts();
        let longer = |seconds: f64| seconds * f64::from(FACTOR);
        for (alert, (waits, kept)) in self.prometheus.rules() {
            let as_shipped = (longer(waits), longer(kept));
            assert_eq!(Some(&as_shipped), shipped.get(&alert), "{alert:?}: as loaded, and as shipped");
        }
        assert_eq!(self.prometheus.rules().len(), shipped.len(), "alerts that are loaded, and shipped");
        self.until("every balance is known, well, and has been for a while", |drill| {
            let known = drill.prometheus.count("xt_balance_free and xt_balance_free_threshold") == balances;
            known && drill.prometheus.evaluations() >= SETTLED && drill.prometheus.alerts().is_empty()
        });
    }

    /// Does something, and takes the time from when it is done.
    pub fn act(&mut self, what: &str, does: impl FnOnce()) {
        say(&format!("  {what}"));
        does();
        self.acts.push(Act { what: what.to_owned(), at: Instant::now(), expected: Vec::new() });
    }

    /// The last act will make this message arrive at the receiver of pages, once.
    pub fn pages(&mut self, alert: &str, description: &str) {
        self.expect(format!("page: {alert} firing"), Some(description));
    }

    /// The same, at the receiver of tickets.
    pub fn tickets(&mut self, alert: &str, description: &str) {
        self.expect(format!("ticket: {alert} firing"), Some(description));
    }

    /// The last act will make this message arrive, once: something is over.
    pub fn resolves(&mut self, told: &str) {
        self.expect(told.to_owned(), None);
    }

    fn expect(&mut self, told: String, description: Option<&str>) {
        let description = description.map(str::to_owned);
        self.acts.last_mut().unwrap().expected.push(Expected { told, description });
    }

    /// Waits until every message that is expected has arrived.
    pub fn wait_for_messages(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let missing = self.look();
            if missing.is_empty() {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "has not arrived: {missing:#?}\n{}", self.situation());
            self.receiver.wait_for_more_than(self.known, left);
        }
    }

    /// Looks at what is new, and returns what is still missing. A message that nobody expects, or
    /// that comes twice, ends the drill.
    pub fn look(&mut self) -> BTreeSet<String> {
        let messages = self.receiver.messages();
        let expected =
            self.acts.iter().flat_map(|act| act.expected.iter().map(move |expected| (act, expected)));
        let expected: Vec<_> = expected.collect();
        for message in &messages[self.known..] {
            let Some((act, expected)) = expected.iter().find(|(_, expected)| expected.told == message.told)
            else {
                panic!("nobody expected {}\n{}", message.told, self.situation());
            };
            if let Some(description) = &expected.description {
                assert_eq!(message.descriptions, [description.as_str()], "{}", message.told);
            }
            let after = message.at.saturating_duration_since(act.at);
            say(&format!("{:7.1} s  {}", after.as_secs_f64(), message.told));
        }
        let mut missing: BTreeSet<_> = expected.iter().map(|(_, expected)| expected.told.clone()).collect();
        for message in &messages {
            assert!(missing.remove(&message.told), "{} came twice\n{}", message.told, self.situation());
        }
        self.known = messages.len();
        missing
    }

    /// Asks again and again until it is so; a message that is not expected ends the drill.
    pub fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}\n{}", self.situation());
            self.look();
            self.receiver.wait_for_more_than(self.known, Duration::from_millis(200));
        }
        self.look();
    }

    /// Waits until Alertmanager holds an alert back because of another.
    pub fn wait_until_muted(&mut self, muted: &str, by: &str) {
        self.until(&format!("{muted} is muted by {by}"), |drill| {
            let is_by = |mutes: &[String]| mutes.iter().any(|name| name == by);
            drill.alertmanager.alerts().iter().any(|(name, mutes)| name == muted && is_by(mutes))
        });
        say(&format!("   muted   {muted}, by {by}"));
    }

    /// Waits until nothing fires or is about to, and whatever was to be sent has been.
    pub fn wait_for_quiet(&mut self) {
        self.until("no alert is left", |drill| drill.prometheus.alerts().is_empty());
        let now = self.prometheus.evaluations();
        self.until("the rules have been evaluated often", |drill| {
            drill.prometheus.evaluations() >= now + QUIET
        });
        assert_eq!(self.look(), BTreeSet::new());
        assert_eq!(self.prometheus.alerts(), Vec::<String>::new());
        assert_eq!(self.alertmanager.alerts(), Vec::new());
    }

    /// What was done, what arrived, after how long, and how long that is with the times as shipped.
    pub fn table(&self) -> String {
        let messages = self.receiver.messages();
        let mut table = format!("\n   after  {:>12}  what arrived\n", format!("times {FACTOR}"));
        for act in &self.acts {
            let _ = writeln!(table, "\n{}", act.what);
            if act.expected.is_empty() {
                let _ = writeln!(table, "{:24}nothing", "");
            }
            let is_of_it =
                |message: &&Message| act.expected.iter().any(|expected| expected.told == message.told);
            for message in messages.iter().filter(is_of_it) {
                let after = message.at.saturating_duration_since(act.at);
                let shipped = (after * FACTOR).as_secs();
                let shipped = format!("{} min {:2} s", shipped / 60, shipped % 60);
                let _ = writeln!(table, "{:6.1} s  {shipped:>12}  {}", after.as_secs_f64(), message.told);
                if message.told.ends_with("firing") {
                    let _ = writeln!(table, "{:24}{}", "", message.descriptions.join(" "));
                }
            }
        }
        table
    }

    /// What there is to know when the drill ends before its time.
    pub fn situation(&self) -> String {
        let messages: Vec<_> = self.receiver.messages().into_iter().map(|message| message.told).collect();
        format!(
            "messages: {messages:#?}\nPrometheus: {:#?}\nAlertmanager, each with what mutes it: {:#?}",
            self.prometheus.alerts(),
            self.alertmanager.alerts()
        )
    }
}
