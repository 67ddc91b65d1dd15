//! Every metric there is: name, type, labels, help, and where its value comes from.
//! This table is the contract with dashboards and rules; README's is held against it.

use std::time::Duration;

use super::text::{self, Samples};
use crate::{
    exchange::{Amount, Prices, QUOTE, Reason},
    quotation::{Choice, Quotation},
    standing::{Durations, Good, Row, Standing, Subject},
};

/// A metric family.
#[derive(Debug)]
pub struct Family {
    /// In `[a-z0-9_]`, base units, counters ending in `_total`.
    pub name: &'static str,
    /// What a scraper may do with it.
    pub kind: Kind,
    /// Label names in the order they are written.
    pub labels: &'static [&'static str],
    /// What it means, and the endpoint and field it comes from.
    pub help: &'static str,
    /// Where its samples come from.
    pub source: Source,
}

impl Family {
    /// The two comment lines that open it. No help text holds anything to escape: a test of the
    /// table sees to it.
    #[must_use]
    pub fn header(&self) -> String {
        text::header(self.name, self.help, self.kind.word())
    }

    /// A writer of its samples, into `out`, which is emptied.
    #[must_use]
    pub fn samples(&self, out: String) -> Samples {
        Samples::of(self.name, self.labels, out)
    }
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, from 0 at the start.
    Counter,
    /// Cumulative buckets.
    Histogram,
}

impl Kind {
    /// The word in the `# TYPE` line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// Where the samples of a family come from, and with that, when they have to be written anew.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The configuration of a wallet: never changes.
    Wish(fn(&Subject, &mut Samples)),
    /// The last good answer: changes with it, and is left out once it is too old.
    Answer(fn(&Subject, &Good, &mut Samples)),
    /// The course of a wallet's polls: changes with every one.
    Poll(fn(&Standing, &mut Samples)),
    /// What is known of an account whatever the wallet.
    Account(fn(&AccountFacts, &mut Samples)),
    /// The last good answer of the ticker: changes with it, and is left out once it is too old.
    Price(fn(&Choice, &Prices, &mut Samples)),
    /// The course of the ticker's readings: changes with every one.
    Ticker(fn(&Quotation, &mut Samples)),
    /// How much of a wallet has no price: changes with the last good answer and with the ticker's, and
    /// is left out once either is too old.
    Unpriced(fn(&Subject, u64, &mut Samples)),
    /// The exporter itself: read at the scrape.
    Own,
}

/// What is known of an account whatever the wallet.
#[derive(Clone, Debug, PartialEq)]
pub struct AccountFacts {
    /// The `account` label.
    pub name: Box<str>,
    /// Unix time at which a pause ends; `None` if not paused.
    pub paused_until: Option<Duration>,
    /// Unix time at which the key pair in use was read.
    pub credentials_loaded: Duration,
    /// How often its poller was started again after a panic.
    pub poller_restarts: u64,
}

const ACCOUNT: &[&str] = &["account"];
const WALLET: &[&str] = &["account", "wallet"];
const CURRENCY: &[&str] = &["account", "currency", "wallet"];

/// Every family, sorted by name: the order of the exposition.
pub static FAMILIES: [Family; 32] = [
    own("process_cpu_seconds_total", Kind::Counter, &[], "Total user and system CPU time spent in seconds."),
    own("process_max_fds", Kind::Gauge, &[], "Maximum number of open file descriptors."),
    own("process_open_fds", Kind::Gauge, &[], "Number of open file descriptors."),
    own("process_resident_memory_bytes", Kind::Gauge, &[], "Resident memory size in bytes."),
    own(
        "process_start_time_seconds",
        Kind::Gauge,
        &[],
        "Start time of the process since unix epoch in seconds.",
    ),
    own("process_threads", Kind::Gauge, &[], "Number of OS threads in the process."),
    own("process_virtual_memory_bytes", Kind::Gauge, &[], "Virtual memory size in bytes."),
    own(
        "process_virtual_memory_max_bytes",
        Kind::Gauge,
        &[],
        "Maximum amount of virtual memory available in bytes, -1 if unlimited.",
    ),
    Family {
        name: "xt_balance_free",
        kind: Kind::Gauge,
        labels: CURRENCY,
        help: "Amount free to trade or withdraw, in the currency itself, rounded to float64; a sum over currencies means nothing. \
               Field available of /trade/api/v1/getBalance (wallet spot) and getFunds (wallet, fiat), availableAmount of /v4/balances (spot), \
               availableBalance of /future/user/v1/balance/list (futures_usdt, futures_coin) or, where that is not sent, walletBalance less what is frozen. \
               Read every poll interval, not at the scrape. \
               Absent while unknown; 0 for a watched currency that a good answer left out.",
        source: Source::Answer(|subject, good, out| balances(subject, good, out, |free, _| free)),
    },
    Family {
        name: "xt_balance_free_threshold",
        kind: Kind::Gauge,
        labels: CURRENCY,
        help: "Configured low-water mark for xt_balance_free, in the currency itself. From the configuration, exported also while the balance is unknown.",
        source: Source::Wish(|subject, out| {
            for watch in &subject.watch {
                if let Some(threshold) = watch.threshold {
                    out.sample(&[&subject.account, &watch.currency, subject.wallet.label()], threshold);
                }
            }
        }),
    },
    Family {
        name: "xt_balance_frozen",
        kind: Kind::Gauge,
        labels: CURRENCY,
        help: "Amount locked in orders, withdrawals or positions, in the currency itself, rounded to float64; a sum over currencies means nothing. \
               Field freeze of /trade/api/v1/getBalance (wallet spot) and getFunds (wallet, fiat), frozenAmount of /v4/balances (spot), \
               openOrderMarginFrozen + isolatedMargin + crossedMargin of /future/user/v1/balance/list (futures_usdt, futures_coin). \
               Read every poll interval, not at the scrape. \
               Absent while unknown; 0 for a watched currency that a good answer left out.",
        source: Source::Answer(|subject, good, out| balances(subject, good, out, |_, frozen| frozen)),
    },
    own(
        "xt_clock_skew_seconds",
        Kind::Gauge,
        &["host"],
        "Clock of an exchange host minus this machine's, at the scrape. Absent for a host that polls no longer use.",
    ),
    Family {
        name: "xt_credentials_loaded_timestamp_seconds",
        kind: Kind::Gauge,
        labels: ACCOUNT,
        help: "Unix time at which the key pair in use was read from its files or the environment.",
        source: Source::Account(|account, out| {
            out.sample(&[&account.name], account.credentials_loaded.as_secs_f64());
        }),
    },
    Family {
        name: "xt_currencies",
        kind: Kind::Gauge,
        labels: WALLET,
        help: "Rows in the last good answer, usable or not, before any filter. Absent while unknown.",
        source: Source::Answer(|subject, good, out| {
            out.sample(&[&subject.account, subject.wallet.label()], float(good.currencies));
        }),
    },
    own(
        "xt_exporter_build_info",
        Kind::Gauge,
        &["revision", "rustversion", "version"],
        "Always 1; the labels say which build this is.",
    ),
    own(
        "xt_exporter_config_last_reload_success_timestamp_seconds",
        Kind::Gauge,
        &[],
        "Unix time at which the configuration in force was read: at the start, or at the last reload that could use it.",
    ),
    own(
        "xt_exporter_config_last_reload_successful",
        Kind::Gauge,
        &[],
        "1 if the configuration could be used when it was last read, 0 if that failed and the one before is still in force.",
    ),
    Family {
        name: "xt_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: WALLET,
        help: "Unix time at which the request of the last good answer was sent, 0 if there was none since the start.",
        source: Source::Poll(|standing, out| {
            let at = standing.good.as_ref().map_or(Duration::ZERO, |good| good.at.unix);
            out.sample(&wallet(standing), at.as_secs_f64());
        }),
    },
    own(
        "xt_log_lines_dropped_total",
        Kind::Counter,
        &[],
        "Log lines dropped because nobody read standard error fast enough.",
    ),
    Family {
        name: "xt_paused_until_timestamp_seconds",
        kind: Kind::Gauge,
        labels: ACCOUNT,
        help: "Unix time until which nothing is sent for this account, because the exchange said that a limit was passed; 0 if not paused.",
        source: Source::Account(|account, out| {
            out.sample(&[&account.name], account.paused_until.unwrap_or_default().as_secs_f64());
        }),
    },
    Family {
        name: "xt_poll_duration_seconds",
        kind: Kind::Histogram,
        labels: WALLET,
        help: "Time a poll took, from the first byte sent to the answer decoded, failover and confirmation included.",
        source: Source::Poll(|standing, out| {
            let durations = &standing.tally.durations;
            out.histogram(
                &wallet(standing),
                &Durations::BOUNDS,
                &durations.counts,
                standing.tally.polls,
                durations.sum,
            );
        }),
    },
    Family {
        name: "xt_poll_failures_total",
        kind: Kind::Counter,
        labels: &["account", "reason", "wallet"],
        help: "Polls failed, by reason: auth (key unknown, inactive or not allowed), signature, clock (nonce or timestamp outside the window), rate_limited, unavailable (5xx, maintenance), \
               http (any other status), timeout, dns, connect, tls, body (cut short or too large), decode (not the documented JSON), cached (answered by a cache or proxy, not by the exchange), api (any other error code).",
        source: Source::Poll(|standing, out| {
            let [account, wallet] = wallet(standing);
            for (reason, count) in Reason::ALL.iter().zip(standing.tally.failures) {
                out.sample(&[account, reason.label(), wallet], float(count));
            }
        }),
    },
    Family {
        name: "xt_poller_restarts_total",
        kind: Kind::Counter,
        labels: ACCOUNT,
        help: "Restarts of the account's poller after a panic, which is a bug.",
        source: Source::Account(|account, out| {
            out.sample(&[&account.name], float(account.poller_restarts));
        }),
    },
    Family {
        name: "xt_polls_total",
        kind: Kind::Counter,
        labels: WALLET,
        help: "Polls ended, good or failed.",
        source: Source::Poll(|standing, out| out.sample(&wallet(standing), float(standing.tally.polls))),
    },
    Family {
        name: "xt_price",
        kind: Kind::Gauge,
        labels: &["currency", "quote"],
        help: "Last price of one unit of the currency, in units of the quote, rounded to float64. \
               Field price of /data/api/v1/getTickers or p of /v4/public/ticker/price, of the market currency_quote. \
               Read every poll interval, not at the scrape. \
               The quote itself is 1, as the unit the others are measured in; every other stablecoin has its market price. \
               Absent for a currency without a market or with a price that is unusable or not above 0; all absent while unknown, and if prices are not asked for.",
        source: Source::Price(|choice, prices, out| {
            for (currency, price) in prices.iter().filter(|(currency, _)| choice.shows(currency)) {
                out.sample(&[currency, QUOTE], price);
            }
        }),
    },
    Family {
        name: "xt_price_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Unix time at which the request of the last good answer with prices was sent, 0 if none. Absent without prices.",
        source: Source::Ticker(|quotation, out| {
            let at = quotation.good.as_ref().map_or(Duration::ZERO, |good| good.at.unix);
            out.sample(&[], at.as_secs_f64());
        }),
    },
    own(
        "xt_price_poller_restarts_total",
        Kind::Counter,
        &[],
        "Restarts of the poller of prices after a panic, which is a bug. Absent if prices are not asked for.",
    ),
    Family {
        name: "xt_rows_rejected_total",
        kind: Kind::Counter,
        labels: WALLET,
        help: "Rows of good answers whose name or amounts were unusable; the other rows were published.",
        source: Source::Poll(|standing, out| {
            out.sample(&wallet(standing), float(standing.tally.rows_rejected));
        }),
    },
    Family {
        name: "xt_suspect_snapshots_total",
        kind: Kind::Counter,
        labels: WALLET,
        help: "Polls with an answer that had to be confirmed (nothing in it, or a watched balance lost), whether it was or not.",
        source: Source::Poll(|standing, out| {
            out.sample(&wallet(standing), float(standing.tally.suspect_snapshots));
        }),
    },
    Family {
        name: "xt_unpriced_currencies",
        kind: Kind::Gauge,
        labels: WALLET,
        help: "Currencies of the last good answer, as shown, that hold something free or frozen and have no xt_price, or whose row is unreadable: what they are worth is not known, and in no sum. \
               A balance of zero is worth zero at any price and is not counted. \
               Absent while the balances or the prices are unknown, and if prices are not asked for.",
        source: Source::Unpriced(|subject, unpriced, out| {
            out.sample(&[&subject.account, subject.wallet.label()], float(unpriced));
        }),
    },
    Family {
        name: "xt_up",
        kind: Kind::Gauge,
        labels: WALLET,
        help: "1 if the last poll succeeded, 0 if it failed, its answer is not confirmed yet, or no poll has ended.",
        source: Source::Poll(|standing, out| {
            out.sample(&wallet(standing), f64::from(u8::from(standing.up())));
        }),
    },
    Family {
        name: "xt_watch_present",
        kind: Kind::Gauge,
        labels: CURRENCY,
        help: "1 if the last good answer had a row for the watched currency, 0 if it had none (confirmed). Absent while unknown.",
        source: Source::Answer(|subject, good, out| {
            for holding in good.holdings.iter().filter(|holding| subject.watched(&holding.currency).is_some())
            {
                let labels = [&*subject.account, &holding.currency, subject.wallet.label()];
                if let Some(is_present) = holding.row.is_present() {
                    out.sample(&labels, f64::from(u8::from(is_present)));
                }
            }
        }),
    },
];

const fn own(name: &'static str, kind: Kind, labels: &'static [&'static str], help: &'static str) -> Family {
    Family { name, kind, labels, help, source: Source::Own }
}

fn balances(
    subject: &Subject,
    good: &Good,
    out: &mut Samples,
    pick: for<'a> fn(&'a Amount, &'a Amount) -> &'a Amount,
) {
    let mut rows = out.rows(&[Some(&subject.account), None, Some(subject.wallet.label())]);
    for holding in &*good.holdings {
        match &holding.row {
            Row::Read { free, frozen } => rows.amount(&holding.currency, pick(free, frozen).text()),
            Row::Missing => rows.sample(&holding.currency, 0.0),
            Row::Unreadable | Row::Unnamed | Row::Unconfirmed => {}
        }
    }
}

fn wallet(standing: &Standing) -> [&str; 2] {
    [&standing.subject.account, standing.subject.wallet.label()]
}

/// Counts stay far below 2^53, where an f64 would begin to round them.
#[expect(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_row_follows_the_rules_for_names() {
        assert!(FAMILIES.is_sorted_by(|a, b| a.name < b.name));
        for family in &FAMILIES {
            let plain = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            assert!(plain(family.name), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(
                family.labels.is_sorted() && family.labels.iter().all(|name| plain(name)),
                "{}",
                family.name
            );
            assert!(family.help.ends_with('.') && !family.help.contains(['\\', '\n']), "{}", family.name);
        }
    }
}
