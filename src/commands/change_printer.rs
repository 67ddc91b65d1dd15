//! Prints a line to standard output for each change of the balances that the exporter shows: a watched balance crosses a
//! threshold, or the balances of a wallet are held, unknown or fresh again. For the demo, where nobody has to know logfmt.
//! Reads the store and knows no exchange.

use std::{collections::BTreeMap, future, sync::mpsc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::outcome::print;
use crate::{
    blocking,
    clock::{Clock, Timestamp},
    exchange::Wallet,
    snapshot::{
        store::Store,
        wallet::{Freshness, HoldingState, Thresholds, WalletSnapshot},
    },
};

/// Time from one look at the store to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of lines that wait for a slow reader of standard output; further lines are dropped.
const BUFFERED_LINES_MAX: usize = 256;
/// Maximum time to write these lines at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// Which changes to print.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangePrinter {
    /// Time from the start to the last line; `None` prints forever.
    pub(super) stop_after: Option<Duration>,
}

/// Prints the changes of the store until `stop_after`. Without a `printer` it prints nothing and waits forever.
pub(super) async fn print_changes(printer: Option<ChangePrinter>, store: &Store, clock: Clock) {
    let Some(printer) = printer else { return future::pending().await };
    // Nobody may read standard output, so another thread writes it.
    let (lines, received) = mpsc::sync_channel(BUFFERED_LINES_MAX);
    let writer = blocking::spawn("changes", move || received.iter().for_each(|line: String| print(&line)));
    let start = Instant::now();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut wallets = BTreeMap::<(Box<str>, Wallet), PrintedWallet>::new();
    loop {
        ticks.tick().await;
        let elapsed = start.elapsed();
        for change in find_changes(store, clock.now(), &mut wallets) {
            let _ = lines.try_send(format!("{} {change}\n", format_time(elapsed)));
        }
        if printer.stop_after.is_some_and(|end| elapsed >= end) {
            let _ = lines.try_send(format!("{} The story is over.\n", format_time(elapsed)));
            break;
        }
    }
    drop(lines);
    if let Ok(written) = writer {
        let _ = timeout(FLUSH_DEADLINE, written).await;
    }
}

/// A text for each change of the store since the last call, which `wallets` remembers.
fn find_changes(
    store: &Store,
    now: Timestamp,
    wallets: &mut BTreeMap<(Box<str>, Wallet), PrintedWallet>,
) -> Vec<String> {
    let mut texts = Vec::new();
    for account in store.accounts() {
        let name = &account.state.name;
        for snapshot in account.wallets.iter().map(|wallet| &wallet.snapshot) {
            let wallet = snapshot.config.wallet;
            let changes = wallets.entry((name.clone(), wallet)).or_default().update(snapshot, now);
            texts.extend(changes.iter().map(|change| format!("{name}/{}: {change}", wallet.label())));
        }
    }
    texts
}

/// The state of a wallet as of its last printed change.
#[derive(Default)]
struct PrintedWallet {
    /// `None` before the first poll.
    freshness: Option<Freshness>,
    /// By watched currency. Keeps the level of a balance while it is unknown.
    levels: BTreeMap<Box<str>, Level>,
}

/// A balance compared with its thresholds, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    /// Below the page threshold.
    Page,
    /// Below the threshold.
    Warn,
    /// Not below any threshold.
    Enough,
}

impl PrintedWallet {
    /// Compares a wallet's snapshot with the last printed state. Returns a text for each change, and remembers it.
    fn update(&mut self, snapshot: &WalletSnapshot, now: Timestamp) -> Vec<String> {
        if snapshot.counters.polls == 0 {
            return Vec::new();
        }
        let mut changes = Vec::new();
        let freshness = snapshot.freshness(now);
        let previous = self.freshness.replace(freshness);
        // The first good poll changes nothing that was shown before.
        if previous != Some(freshness) && (previous.is_some() || freshness != Freshness::Fresh) {
            changes.push(describe_freshness(snapshot, freshness));
        }
        let Some(good) = snapshot.visible(now).filter(|_| freshness == Freshness::Fresh) else {
            return changes;
        };
        for watch in &snapshot.config.watch {
            let amounts = good.find_state(&watch.currency).and_then(HoldingState::amounts);
            let (Some(thresholds), Some((free, _))) = (watch.thresholds, amounts) else { continue };
            let level = Level::new(free, thresholds);
            let previous = self.levels.insert(watch.currency.as_str().into(), level);
            let change = describe_level(previous, level, thresholds);
            let currency = watch.currency.to_uppercase();
            changes.extend(change.map(|change| format!("{currency} {} {change}", free.floor())));
        }
        changes
    }
}

impl Level {
    fn new(free: f64, thresholds: Thresholds) -> Self {
        match free {
            free if free < thresholds.page => Self::Page,
            free if free < thresholds.warn => Self::Warn,
            _ => Self::Enough,
        }
    }
}

/// The change from the `previous` level, if any, to `level`; `None` if there is nothing to tell.
fn describe_level(previous: Option<Level>, level: Level, thresholds: Thresholds) -> Option<String> {
    let verb = match previous {
        Some(previous) if previous == level => return None,
        None if level == Level::Enough => return None,
        None => "is below",
        Some(previous) if previous < level => "rose above",
        Some(_) => "fell below",
    };
    let is_page_threshold = match level {
        Level::Page => true,
        Level::Warn => previous == Some(Level::Page),
        Level::Enough => false,
    };
    Some(if is_page_threshold {
        format!("{verb} {}, the page threshold", thresholds.page)
    } else {
        format!("{verb} {}", thresholds.warn)
    })
}

fn describe_freshness(snapshot: &WalletSnapshot, freshness: Freshness) -> String {
    let reason = snapshot.last_failure.as_ref().map(|last| last.failure.reason);
    let why = match reason {
        Some(reason) if reason.is_key_fault() => format!("the exchange refuses the key ({reason})"),
        Some(reason) => format!("polls fail ({reason})"),
        None => "the last answer is suspect".to_owned(),
    };
    match freshness {
        Freshness::Fresh => "polls succeed, balances are fresh again".to_owned(),
        Freshness::Held => format!("{why}, the last balances are held"),
        Freshness::Unknown => format!("{why}, balances are unknown"),
    }
}

/// Minutes and seconds, such as `00:40`.
fn format_time(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        clock::simulated::at,
        exchange::{Failure, Reason},
        snapshot::wallet::{
            CurrencyFilter, PollOutcome, PollResult, WalletConfig, WatchedCurrency, tests::answer,
        },
    };

    /// A wallet that is polled every ten seconds, and its printed changes.
    struct Wallet {
        snapshot: WalletSnapshot,
        printed: PrintedWallet,
        seconds: u64,
    }

    impl Wallet {
        fn new() -> Self {
            let usdt = WatchedCurrency {
                currency: "usdt".into(),
                thresholds: Some(Thresholds { warn: 500.0, page: 300.0 }),
            };
            let config = WalletConfig {
                account: "main".into(),
                wallet: super::Wallet::Spot,
                watch: vec![usdt],
                filter: CurrencyFilter::default(),
                max_age: Duration::from_secs(15),
            };
            let snapshot = WalletSnapshot::new(Arc::new(config));
            Self { snapshot, printed: PrintedWallet::default(), seconds: 0 }
        }

        /// The changes after a poll that returns an amount of USDT or fails.
        fn poll(&mut self, usdt: Result<&str, Reason>) -> Vec<String> {
            self.seconds += 10;
            let now = at(self.seconds);
            let read = usdt.map(|usdt| Some(answer(&[("usdt", usdt, "0")])));
            let read = read.map_err(|reason| Failure::new(reason, "expected by this test"));
            let outcome = PollOutcome::new(now, read);
            let result = PollResult { at: now, took: Duration::ZERO, is_suspect: false, outcome };
            self.snapshot = self.snapshot.apply(result);
            self.printed.update(&self.snapshot, now)
        }
    }

    #[test]
    fn each_crossing_of_a_threshold_is_printed_once() {
        let mut wallet = Wallet::new();
        assert!(wallet.printed.update(&wallet.snapshot, at(0)).is_empty(), "before the first poll");
        for (usdt, expected) in [
            ("1800", [].as_slice()),
            ("471.9", &["USDT 471 fell below 500"]),
            ("471.9", &[]),
            ("300", &[]),
            ("299.99", &["USDT 299 fell below 300, the page threshold"]),
            ("400", &["USDT 400 rose above 300, the page threshold"]),
            ("500", &["USDT 500 rose above 500"]),
            ("0", &["USDT 0 fell below 300, the page threshold"]),
            ("1800", &["USDT 1800 rose above 500"]),
        ] {
            assert_eq!(wallet.poll(Ok(usdt)), expected, "{usdt}");
        }
        assert_eq!(Wallet::new().poll(Ok("5")), ["USDT 5 is below 300, the page threshold"]);
        assert_eq!(Wallet::new().poll(Ok("305")), ["USDT 305 is below 500"]);
    }

    #[test]
    fn an_outage_is_printed_when_balances_are_held_then_unknown_then_fresh() {
        let mut wallet = Wallet::new();
        wallet.poll(Ok("400"));
        let unavailable = Err(Reason::Unavailable);
        assert_eq!(wallet.poll(unavailable), ["polls fail (unavailable), the last balances are held"]);
        assert_eq!(wallet.printed.update(&wallet.snapshot, at(24)), Vec::<String>::new());
        let unknown = ["polls fail (unavailable), balances are unknown"];
        assert_eq!(wallet.printed.update(&wallet.snapshot, at(25)), unknown, "without another poll");
        assert_eq!(wallet.poll(unavailable), Vec::<String>::new());
        assert_eq!(wallet.poll(Ok("400")), ["polls succeed, balances are fresh again"]);
        wallet.poll(unavailable);
        let back = ["polls succeed, balances are fresh again", "USDT 600 rose above 500"];
        assert_eq!(wallet.poll(Ok("600")), back);
    }

    #[test]
    fn a_key_that_never_worked_is_printed_once() {
        let mut wallet = Wallet::new();
        let refused = ["the exchange refuses the key (auth), balances are unknown"];
        assert_eq!(wallet.poll(Err(Reason::Auth)), refused);
        assert_eq!(wallet.poll(Err(Reason::Auth)), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn the_printer_ends_after_its_time_and_without_one_never() {
        let (store, clock) = (Store::new(Vec::new()), Clock::start());
        let start = Instant::now();
        let end = Duration::from_mins(4);
        let printer = ChangePrinter { stop_after: Some(end) };
        print_changes(Some(printer), &store, clock).await;
        // The paused clock may advance while the printer waits for its thread.
        let flushed = end..=end + FLUSH_DEADLINE;
        assert!(flushed.contains(&start.elapsed()), "{:?}", start.elapsed());
        for forever in [None, Some(ChangePrinter { stop_after: None })] {
            let hour = Duration::from_hours(1);
            assert!(timeout(hour, print_changes(forever, &store, clock)).await.is_err(), "{forever:?}");
        }
    }
}
