//! The record of a drill: its steps, the expected messages, and the messages that arrived.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    time::{Duration, Instant},
};

use super::{
    MESSAGE_TIMEOUT, QUIET_EVALUATIONS, SETTLED_EVALUATIONS, report,
    servers::{Alertmanager, Message, Prometheus, Receiver},
    shipped::{self, FACTOR},
};

/// The steps so far, their expected messages, and the servers.
pub struct Drill {
    pub prometheus: Prometheus,
    pub alertmanager: Alertmanager,
    pub receiver: Receiver,
    steps: Vec<Step>,
    /// Number of messages that were checked.
    seen_count: usize,
}

struct Step {
    description: String,
    at: Instant,
    expected: Vec<ExpectedMessage>,
}

/// A message and the `summary` of its alert; `None` for a resolved alert.
struct ExpectedMessage {
    summary: String,
    alert_summary: Option<String>,
}

impl Drill {
    pub const fn new(prometheus: Prometheus, alertmanager: Alertmanager, receiver: Receiver) -> Self {
        Self { prometheus, alertmanager, receiver, steps: Vec::new(), seen_count: 0 }
    }

    /// Waits until the rules are loaded as shipped, all `balances` are known, and no alert is pending or firing.
    pub fn wait_until_healthy(&mut self, balances: usize) {
        self.wait_until("the rules are loaded", |drill| !drill.prometheus.rules().is_empty());
        let shipped = shipped::alerts();
        let longer = |seconds: f64| seconds * f64::from(FACTOR);
        for (alert, (waits, kept)) in self.prometheus.rules() {
            let as_shipped = (longer(waits), longer(kept));
            assert_eq!(Some(&as_shipped), shipped.get(&alert), "{alert:?}: as loaded, and as shipped");
        }
        assert_eq!(self.prometheus.rules().len(), shipped.len(), "alerts that are loaded, and shipped");
        self.wait_until("every balance is known, well, and has been for a while", |drill| {
            let known = drill.prometheus.count("xt_balance_free and xt_balance_free_threshold") == balances;
            known
                && drill.prometheus.evaluations() >= SETTLED_EVALUATIONS
                && drill.prometheus.alerts().is_empty()
        });
    }

    /// Runs an action and records the time of its end.
    pub fn run_step(&mut self, description: &str, action: impl FnOnce()) {
        report(&format!("  {description}"));
        action();
        self.steps.push(Step {
            description: description.to_owned(),
            at: Instant::now(),
            expected: Vec::new(),
        });
    }

    /// The last step must send this message to the receiver of pages, once.
    pub fn expect_page(&mut self, alert: &str, summary: &str) {
        self.expect(format!("page: {alert} firing"), Some(summary));
    }

    /// The last step must send this message to the receiver of tickets, once.
    pub fn expect_ticket(&mut self, alert: &str, summary: &str) {
        self.expect(format!("ticket: {alert} firing"), Some(summary));
    }

    /// The last step must send this message about a resolved alert, once.
    pub fn expect_resolved(&mut self, summary: &str) {
        self.expect(summary.to_owned(), None);
    }

    fn expect(&mut self, summary: String, alert_summary: Option<&str>) {
        let alert_summary = alert_summary.map(str::to_owned);
        self.steps.last_mut().unwrap().expected.push(ExpectedMessage { summary, alert_summary });
    }

    /// Waits until every expected message has arrived.
    pub fn wait_for_messages(&mut self) {
        let deadline = Instant::now() + MESSAGE_TIMEOUT;
        loop {
            let missing = self.check_new_messages();
            if missing.is_empty() {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "has not arrived: {missing:#?}\n{}", self.format_state());
            self.receiver.wait_for_more_than(self.seen_count, left);
        }
    }

    /// Checks the new messages and returns the missing ones. An unexpected or repeated message ends the drill.
    pub fn check_new_messages(&mut self) -> BTreeSet<String> {
        let messages = self.receiver.messages();
        let expected =
            self.steps.iter().flat_map(|step| step.expected.iter().map(move |expected| (step, expected)));
        let expected: Vec<_> = expected.collect();
        for message in &messages[self.seen_count..] {
            let Some((step, expected)) =
                expected.iter().find(|(_, expected)| expected.summary == message.summary)
            else {
                panic!("nobody expected {}\n{}", message.summary, self.format_state());
            };
            if let Some(summary) = &expected.alert_summary {
                assert_eq!(message.alert_summaries, [summary.as_str()], "{}", message.summary);
            }
            let after = message.at.saturating_duration_since(step.at);
            report(&format!("{:7.1} s  {}", after.as_secs_f64(), message.summary));
        }
        let mut missing: BTreeSet<_> =
            expected.iter().map(|(_, expected)| expected.summary.clone()).collect();
        for message in &messages {
            assert!(
                missing.remove(&message.summary),
                "{} came twice\n{}",
                message.summary,
                self.format_state()
            );
        }
        self.seen_count = messages.len();
        missing
    }

    /// Polls until the condition holds. An unexpected message ends the drill.
    pub fn wait_until(&mut self, description: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + MESSAGE_TIMEOUT;
        while !condition(self) {
            assert!(Instant::now() < deadline, "waited in vain until {description}\n{}", self.format_state());
            self.check_new_messages();
            self.receiver.wait_for_more_than(self.seen_count, Duration::from_millis(200));
        }
        self.check_new_messages();
    }

    /// Waits until Alertmanager mutes an alert because of another.
    pub fn wait_until_muted(&mut self, muted: &str, by: &str) {
        self.wait_until(&format!("{muted} is muted by {by}"), |drill| {
            let is_by = |mutes: &[String]| mutes.iter().any(|name| name == by);
            drill.alertmanager.alerts().iter().any(|(name, mutes)| name == muted && is_by(mutes))
        });
        report(&format!("   muted   {muted}, by {by}"));
    }

    /// Waits until no alert is pending or firing and Alertmanager has sent all messages.
    pub fn wait_for_quiet(&mut self) {
        self.wait_until("no alert is left", |drill| drill.prometheus.alerts().is_empty());
        let now = self.prometheus.evaluations();
        self.wait_until("the rules have been evaluated often", |drill| {
            drill.prometheus.evaluations() >= now + QUIET_EVALUATIONS
        });
        assert_eq!(self.check_new_messages(), BTreeSet::new());
        assert_eq!(self.prometheus.alerts(), Vec::<String>::new());
        assert_eq!(self.alertmanager.alerts(), Vec::new());
    }

    /// The steps and their messages, with the measured times and the same times as shipped.
    pub fn format_table(&self) -> String {
        let messages = self.receiver.messages();
        let mut format_table = format!("\n   after  {:>12}  what arrived\n", format!("times {FACTOR}"));
        for step in &self.steps {
            let _ = writeln!(format_table, "\n{}", step.description);
            if step.expected.is_empty() {
                let _ = writeln!(format_table, "{:24}nothing", "");
            }
            let belongs_to_step =
                |message: &&Message| step.expected.iter().any(|expected| expected.summary == message.summary);
            for message in messages.iter().filter(belongs_to_step) {
                let after = message.at.saturating_duration_since(step.at);
                let shipped = (after * FACTOR).as_secs();
                let shipped = format!("{} min {:2} s", shipped / 60, shipped % 60);
                let _ = writeln!(
                    format_table,
                    "{:6.1} s  {shipped:>12}  {}",
                    after.as_secs_f64(),
                    message.summary
                );
                if message.summary.ends_with("firing") {
                    let _ = writeln!(format_table, "{:24}{}", "", message.alert_summaries.join(" "));
                }
            }
        }
        format_table
    }

    /// The state to print when the drill fails.
    pub fn format_state(&self) -> String {
        let messages: Vec<_> = self.receiver.messages().into_iter().map(|message| message.summary).collect();
        format!(
            "messages: {messages:#?}\nPrometheus: {:#?}\nAlertmanager, each with what mutes it: {:#?}",
            self.prometheus.alerts(),
            self.alertmanager.alerts()
        )
    }
}
