//! Every metric there is: name, type, labels, help, and where its value comes from.
//! This table is the contract with dashboards and rules; README's is held against it.

use std::time::Duration;

use super::text::{self, Samples};
use crate::{
    exchange::{Amount, PriceTable, QUOTE, Reason},
    snapshot::prices::{PriceFilter, PriceSnapshot},
    snapshot::store::AccountFacts,
    snapshot::wallet::{DurationHistogram, HoldingState, LastGood, WalletConfig, WalletSnapshot},
};

/// A metric family.
#[derive(Debug)]
pub struct MetricFamily {
    /// In `[a-z0-9_]`, base units, counters ending in `_total`.
    pub name: &'static str,
    /// What a scraper may do with it.
    pub kind: MetricKind,
    /// Label names in the order they are written.
    pub labels: &'static [&'static str],
    /// What it means, and the endpoint and field it comes from.
    pub help: &'static str,
    /// Where its samples come from.
    pub source: MetricSource,
}

impl MetricFamily {
    /// The two comment lines that open it. No help text holds anything to escape: a test of the
    /// table sees to it.
    #[must_use]
    pub fn header(&self) -> String {
        text::header(self.name, self.help, self.kind.type_name())
    }

    /// A writer of its samples, into `out`, which is emptied.
    #[must_use]
    pub fn samples(&self, out: String) -> Samples {
        Samples::of(self.name, self.labels, out)
    }
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up and down.
    Gauge,
    /// Only goes up, from 0 at the start.
    Counter,
    /// Cumulative buckets.
    Histogram,
}

impl MetricKind {
    /// The word in the `# TYPE` line.
    #[must_use]
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// Where the samples of a family come from, and with that, when they have to be written anew.
#[derive(Clone, Copy, Debug)]
pub enum MetricSource {
    /// The configuration of a wallet: never changes.
    Wish(fn(&WalletConfig, &mut Samples)),
    /// The last good answer: changes with it, and is left out once it is too old.
    Answer(fn(&WalletConfig, &LastGood, &mut Samples)),
    /// The course of a wallet's polls: changes with every one.
    Poll(fn(&WalletSnapshot, &mut Samples)),
    /// What is known of an account whatever the wallet.
    Account(fn(&AccountFacts, &mut Samples)),
    /// The last good answer of the ticker: changes with it, and is left out once it is too old.
    Price(fn(&PriceFilter, &PriceTable, &mut Samples)),
    /// The course of the ticker's readings: changes with every one.
    Ticker(fn(&PriceSnapshot, &mut Samples)),
    /// How much of a wallet has no price: changes with the last good answer and with the ticker's, and
    /// is left out once either is too old.
    Unpriced(fn(&WalletConfig, u64, &mut Samples)),
    /// The exporter itself: read at the scrape.
    Own,
}

const ACCOUNT_LABELS: &[&str] = &["account"];
const WALLET_LABELS: &[&str] = &["account", "wallet"];
const CURRENCY_LABELS: &[&str] = &["account", "currency", "wallet"];

/// Every family, sorted by name: the order of the exposition.
pub static FAMILIES: [MetricFamily; 32] = [
    exporter_family(
        "process_cpu_seconds_total",
        MetricKind::Counter,
        &[],
        "Total user and system CPU time spent in seconds.",
    ),
    exporter_family("process_max_fds", MetricKind::Gauge, &[], "Maximum number of open file descriptors."),
    exporter_family("process_open_fds", MetricKind::Gauge, &[], "Number of open file descriptors."),
    exporter_family(
        "process_resident_memory_bytes",
        MetricKind::Gauge,
        &[],
        "Resident memory size in bytes.",
    ),
    exporter_family(
        "process_start_time_seconds",
        MetricKind::Gauge,
        &[],
        "Start time of the process since unix epoch in seconds.",
    ),
    exporter_family("process_threads", MetricKind::Gauge, &[], "Number of OS threads in the process."),
    exporter_family("process_virtual_memory_bytes", MetricKind::Gauge, &[], "Virtual memory size in bytes."),
    exporter_family(
        "process_virtual_memory_max_bytes",
        MetricKind::Gauge,
        &[],
        "Maximum amount of virtual memory available in bytes, -1 if unlimited.",
    ),
    MetricFamily {
        name: "xt_balance_free",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Amount free to trade or withdraw, in the currency itself, rounded to float64; a sum over currencies means nothing. \
               Field available of /trade/api/v1/getBalance (wallet spot) and getFunds (wallet, fiat), availableAmount of /v4/balances (spot), \
               availableBalance of /future/user/v1/balance/list (futures_usdt, futures_coin) or, where that is not sent, walletBalance less what is frozen. \
               Read every poll interval, not at the scrape. \
               Absent while unknown; 0 for a watched currency that a good answer left out.",
        source: MetricSource::Answer(|wallet_config, good, out| {
            balance_rows(wallet_config, good, out, |free, _| free);
        }),
    },
    MetricFamily {
        name: "xt_balance_free_threshold",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Configured low-water mark for xt_balance_free, in the currency itself. From the configuration, exported also while the balance is unknown.",
        source: MetricSource::Wish(|wallet_config, out| {
            for watch in &wallet_config.watch {
                if let Some(threshold) = watch.threshold {
                    out.sample(
                        &[&wallet_config.account, &watch.currency, wallet_config.wallet.label()],
                        threshold,
                    );
                }
            }
        }),
    },
    MetricFamily {
        name: "xt_balance_frozen",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Amount locked in orders, withdrawals or positions, in the currency itself, rounded to float64; a sum over currencies means nothing. \
               Field freeze of /trade/api/v1/getBalance (wallet spot) and getFunds (wallet, fiat), frozenAmount of /v4/balances (spot), \
               openOrderMarginFrozen + isolatedMargin + crossedMargin of /future/user/v1/balance/list (futures_usdt, futures_coin). \
               Read every poll interval, not at the scrape. \
               Absent while unknown; 0 for a watched currency that a good answer left out.",
        source: MetricSource::Answer(|wallet_config, good, out| {
            balance_rows(wallet_config, good, out, |_, frozen| frozen);
        }),
    },
    exporter_family(
        "xt_clock_skew_seconds",
        MetricKind::Gauge,
        &["host"],
        "Clock of an exchange host minus this machine's, at the scrape. Absent for a host that polls no longer use.",
    ),
    MetricFamily {
        name: "xt_credentials_loaded_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: ACCOUNT_LABELS,
        help: "Unix time at which the key pair in use was read from its files or the environment.",
        source: MetricSource::Account(|account, out| {
            out.sample(&[&account.name], account.credentials_loaded.as_secs_f64());
        }),
    },
    MetricFamily {
        name: "xt_currencies",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Rows in the last good answer, usable or not, before any filter. Absent while unknown.",
        source: MetricSource::Answer(|wallet_config, good, out| {
            out.sample(
                &[&wallet_config.account, wallet_config.wallet.label()],
                count_to_float(good.currencies),
            );
        }),
    },
    exporter_family(
        "xt_exporter_build_info",
        MetricKind::Gauge,
        &["revision", "rustversion", "version"],
        "Always 1; the labels say which build this is.",
    ),
    exporter_family(
        "xt_exporter_config_last_reload_success_timestamp_seconds",
        MetricKind::Gauge,
        &[],
        "Unix time at which the configuration in force was read: at the start, or at the last reload that could use it.",
    ),
    exporter_family(
        "xt_exporter_config_last_reload_successful",
        MetricKind::Gauge,
        &[],
        "1 if the configuration could be used when it was last read, 0 if that failed and the one before is still in force.",
    ),
    MetricFamily {
        name: "xt_last_success_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Unix time at which the request of the last good answer was sent, 0 if there was none since the start.",
        source: MetricSource::Poll(|snapshot, out| {
            let at = snapshot.last_good.as_ref().map_or(Duration::ZERO, |good| good.at.unix);
            out.sample(&wallet_labels(snapshot), at.as_secs_f64());
        }),
    },
    exporter_family(
        "xt_log_lines_dropped_total",
        MetricKind::Counter,
        &[],
        "Log lines dropped because nobody read standard error fast enough.",
    ),
    MetricFamily {
        name: "xt_paused_until_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: ACCOUNT_LABELS,
        help: "Unix time until which nothing is sent for this account, because the exchange said that a limit was passed; 0 if not paused.",
        source: MetricSource::Account(|account, out| {
            out.sample(&[&account.name], account.paused_until.unwrap_or_default().as_secs_f64());
        }),
    },
    MetricFamily {
        name: "xt_poll_duration_seconds",
        kind: MetricKind::Histogram,
        labels: WALLET_LABELS,
        help: "Time a poll took, from the first byte sent to the answer decoded, failover and confirmation included.",
        source: MetricSource::Poll(|snapshot, out| {
            let durations = &snapshot.counters.durations;
            out.histogram(
                &wallet_labels(snapshot),
                &DurationHistogram::BOUNDS,
                &durations.counts,
                snapshot.counters.polls,
                durations.sum,
            );
        }),
    },
    MetricFamily {
        name: "xt_poll_failures_total",
        kind: MetricKind::Counter,
        labels: &["account", "reason", "wallet"],
        help: "Polls failed, by reason: auth (key unknown, inactive or not allowed), signature, clock (nonce or timestamp outside the window), rate_limited, unavailable (5xx, maintenance), \
               http (any other status), timeout, dns, connect, tls, body (cut short or too large), decode (not the documented JSON), cached (answered by a cache or proxy, not by the exchange), api (any other error code).",
        source: MetricSource::Poll(|snapshot, out| {
            let [account, wallet] = wallet_labels(snapshot);
            for (reason, count) in Reason::ALL.iter().zip(snapshot.counters.failures) {
                out.sample(&[account, reason.label(), wallet], count_to_float(count));
            }
        }),
    },
    MetricFamily {
        name: "xt_poller_restarts_total",
        kind: MetricKind::Counter,
        labels: ACCOUNT_LABELS,
        help: "Restarts of the account's poller after a panic, which is a bug.",
        source: MetricSource::Account(|account, out| {
            out.sample(&[&account.name], count_to_float(account.poller_restarts));
        }),
    },
    MetricFamily {
        name: "xt_polls_total",
        kind: MetricKind::Counter,
        labels: WALLET_LABELS,
        help: "Polls ended, good or failed.",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), count_to_float(snapshot.counters.polls));
        }),
    },
    MetricFamily {
        name: "xt_price",
        kind: MetricKind::Gauge,
        labels: &["currency", "quote"],
        help: "Last price of one unit of the currency, in units of the quote, rounded to float64. \
               Field price of /data/api/v1/getTickers or p of /v4/public/ticker/price, of the market currency_quote. \
               Read every poll interval, not at the scrape. \
               The quote itself is 1, as the unit the others are measured in; every other stablecoin has its market price. \
               Absent for a currency without a market or with a price that is unusable or not above 0; all absent while unknown, and if prices are not asked for.",
        source: MetricSource::Price(|choice, prices, out| {
            for (currency, price) in prices.iter().filter(|(currency, _)| choice.shows(currency)) {
                out.sample(&[currency, QUOTE], price);
            }
        }),
    },
    MetricFamily {
        name: "xt_price_last_success_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Unix time at which the request of the last good answer with prices was sent, 0 if none. Absent without prices.",
        source: MetricSource::Ticker(|price_snapshot, out| {
            let at = price_snapshot.last_good.as_ref().map_or(Duration::ZERO, |good| good.at.unix);
            out.sample(&[], at.as_secs_f64());
        }),
    },
    exporter_family(
        "xt_price_poller_restarts_total",
        MetricKind::Counter,
        &[],
        "Restarts of the poller of prices after a panic, which is a bug. Absent if prices are not asked for.",
    ),
    MetricFamily {
        name: "xt_rows_rejected_total",
        kind: MetricKind::Counter,
        labels: WALLET_LABELS,
        help: "Rows of good answers whose name or amounts were unusable; the other rows were published.",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), count_to_float(snapshot.counters.rows_rejected));
        }),
    },
    MetricFamily {
        name: "xt_suspect_snapshots_total",
        kind: MetricKind::Counter,
        labels: WALLET_LABELS,
        help: "Polls with an answer that had to be confirmed (nothing in it, or a watched balance lost), whether it was or not.",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), count_to_float(snapshot.counters.suspect_snapshots));
        }),
    },
    MetricFamily {
        name: "xt_unpriced_currencies",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Currencies of the last good answer, as shown, that hold something free or frozen and have no xt_price, or whose row is unreadable: what they are worth is not known, and in no sum. \
               A balance of zero is worth zero at any price and is not counted. \
               Absent while the balances or the prices are unknown, and if prices are not asked for.",
        source: MetricSource::Unpriced(|wallet_config, unpriced, out| {
            out.sample(&[&wallet_config.account, wallet_config.wallet.label()], count_to_float(unpriced));
        }),
    },
    MetricFamily {
        name: "xt_up",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "1 if the last poll succeeded, 0 if it failed, its answer is not confirmed yet, or no poll has ended.",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), f64::from(u8::from(snapshot.is_up())));
        }),
    },
    MetricFamily {
        name: "xt_watch_present",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "1 if the last good answer had a row for the watched currency, 0 if it had none (confirmed). Absent while unknown.",
        source: MetricSource::Answer(|wallet_config, good, out| {
            for holding in
                good.holdings.iter().filter(|holding| wallet_config.find_watch(&holding.currency).is_some())
            {
                let labels = [&*wallet_config.account, &holding.currency, wallet_config.wallet.label()];
                if let Some(is_present) = holding.state.is_present() {
                    out.sample(&labels, f64::from(u8::from(is_present)));
                }
            }
        }),
    },
];

const fn exporter_family(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> MetricFamily {
    MetricFamily { name, kind, labels, help, source: MetricSource::Own }
}

fn balance_rows(
    wallet_config: &WalletConfig,
    good: &LastGood,
    out: &mut Samples,
    pick: for<'a> fn(&'a Amount, &'a Amount) -> &'a Amount,
) {
    let mut rows = out.rows(&[Some(&wallet_config.account), None, Some(wallet_config.wallet.label())]);
    for holding in &*good.holdings {
        match &holding.state {
            HoldingState::Read { free, frozen } => rows.amount(&holding.currency, pick(free, frozen).text()),
            HoldingState::Missing => rows.sample(&holding.currency, 0.0),
            HoldingState::Unreadable | HoldingState::Unnamed | HoldingState::Unconfirmed => {}
        }
    }
}

fn wallet_labels(snapshot: &WalletSnapshot) -> [&str; 2] {
    [&snapshot.config.account, snapshot.config.wallet.label()]
}

/// Counts stay far below 2^53, where an f64 would begin to round them.
#[expect(clippy::cast_precision_loss)]
fn count_to_float(count: u64) -> f64 {
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
            assert_eq!(
                family.name.ends_with("_total"),
                family.kind == MetricKind::Counter,
                "{}",
                family.name
            );
            assert!(
                family.labels.is_sorted() && family.labels.iter().all(|name| plain(name)),
                "{}",
                family.name
            );
            assert!(family.help.ends_with('.') && !family.help.contains(['\\', '\n']), "{}", family.name);
        }
    }
}
