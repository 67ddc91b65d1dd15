//! The table of all metrics: name, type, labels, help and the source of each value.
//! The table is the contract with dashboards and rules. README's table is generated from it.

use super::text::{self, Samples, count_to_float};
use crate::{
    clock::UnixTime,
    exchange::{Amount, BalanceAmounts, Position, PriceTable, QUOTE, Reason},
    snapshot::positions::{CurrencyRisk, LastGoodPositions, PositionsConfig, PositionsSnapshot},
    snapshot::prices::{PriceFilter, PriceSnapshot},
    snapshot::store::AccountState,
    snapshot::wallet::{
        DurationHistogram, Holding, HoldingState, LastGood, Thresholds, WalletConfig, WalletSnapshot,
    },
};

/// A metric family.
#[derive(Debug)]
pub struct MetricFamily {
    /// In `[a-z0-9_]`, base units, counters ending in `_total`.
    pub name: &'static str,
    /// The type in the `# TYPE` line.
    pub kind: MetricKind,
    /// Label names in the order in which they are written.
    pub labels: &'static [&'static str],
    /// One sentence of at most 120 characters, for the `# HELP` line.
    pub help: &'static str,
    /// Further sentences, for `--metrics` and README; can be empty.
    pub details: &'static str,
    /// The data that its samples are rendered from.
    pub source: MetricSource,
}

impl MetricFamily {
    /// The `# HELP` and `# TYPE` lines. No help text needs escaping, as a test of the table checks.
    #[must_use]
    pub fn header(&self) -> String {
        text::header(self.name, self.help, self.kind.type_name())
    }

    /// Help and details.
    #[must_use]
    pub fn meaning(&self) -> String {
        format!("{} {}", self.help, self.details).trim_end().to_owned()
    }

    /// A writer of its samples.
    #[must_use]
    pub fn samples(&self) -> Samples {
        Samples::new(self.name, self.labels)
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

/// The data that the samples of a family are rendered from. It decides when they must be rendered again.
#[derive(Clone, Copy, Debug)]
pub enum MetricSource {
    /// The settings of a wallet, which never change.
    Config(fn(&WalletConfig, &mut Samples)),
    /// The rows of the last good answer of a wallet. Hidden when it is too old.
    Holdings(fn(&WalletConfig, &[Holding], &mut Samples)),
    /// The last good answer of a wallet apart from its rows: a few samples, which may change while the rows stay the same.
    /// Hidden when it is too old.
    Answer(fn(&WalletConfig, &LastGood, &mut Samples)),
    /// The polls of a wallet: changes with every poll.
    Poll(fn(&WalletSnapshot, &mut Samples)),
    /// The state that all wallets of an account share.
    Account(fn(&AccountState, &mut Samples)),
    /// The last good answer with prices. Hidden when it is too old.
    Price(fn(&PriceFilter, &PriceTable, &mut Samples)),
    /// The polls of prices: changes with every poll.
    PricePoll(fn(&PriceSnapshot, &mut Samples)),
    /// The number of a wallet's currencies without a price: changes with the last good answer of the wallet and of prices.
    /// Hidden when one of them is too old.
    Unpriced(fn(&WalletConfig, u64, &mut Samples)),
    /// The last good answer with positions of a wallet. Hidden when it is too old.
    Positions(fn(&PositionsConfig, &LastGoodPositions, &mut Samples)),
    /// The polls of a wallet's positions: changes with every poll.
    PositionPoll(fn(&PositionsSnapshot, &mut Samples)),
    /// The exporter itself: rendered at the scrape.
    Exporter,
}

const ACCOUNT_LABELS: &[&str] = &["account"];
const WALLET_LABELS: &[&str] = &["account", "wallet"];
const CURRENCY_LABELS: &[&str] = &["account", "currency", "wallet"];
const POSITION_LABELS: &[&str] = &["account", "side", "symbol", "wallet"];

/// Every family, sorted by name, in the order of the exposition.
pub static FAMILIES: [MetricFamily; 52] = [
    exporter_family(
        "process_cpu_seconds_total",
        MetricKind::Counter,
        &[],
        "Total user and system CPU time spent in seconds.",
        "",
    ),
    exporter_family(
        "process_max_fds",
        MetricKind::Gauge,
        &[],
        "Maximum number of open file descriptors.",
        "",
    ),
    exporter_family("process_open_fds", MetricKind::Gauge, &[], "Number of open file descriptors.", ""),
    exporter_family(
        "process_resident_memory_bytes",
        MetricKind::Gauge,
        &[],
        "Resident memory size in bytes.",
        "",
    ),
    exporter_family(
        "process_start_time_seconds",
        MetricKind::Gauge,
        &[],
        "Start time of the process since unix epoch in seconds.",
        "",
    ),
    exporter_family("process_threads", MetricKind::Gauge, &[], "Number of OS threads in the process.", ""),
    exporter_family(
        "process_virtual_memory_bytes",
        MetricKind::Gauge,
        &[],
        "Virtual memory size in bytes.",
        "",
    ),
    exporter_family(
        "process_virtual_memory_max_bytes",
        MetricKind::Gauge,
        &[],
        "Maximum amount of virtual memory available in bytes, -1 if unlimited.",
        "",
    ),
    MetricFamily {
        name: "xt_balance_free",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Amount that can be traded or withdrawn, in units of the currency; absent while unknown.",
        details: "`available` of v1, `availableAmount` of v4, `availableBalance` of futures or, where that is missing, `walletBalance` minus the frozen amount. 0 for a watched currency that confirmed answers leave out.",
        source: MetricSource::Holdings(|wallet_config, holdings, out| {
            balance_rows(wallet_config, holdings, out, |amounts| &amounts.free);
        }),
    },
    MetricFamily {
        name: "xt_balance_free_page_threshold",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Configured free amount below which the alerts page, in units of the currency.",
        details: "By default half of the threshold. Present also while the balance is unknown.",
        source: MetricSource::Config(|wallet_config, out| {
            threshold_rows(wallet_config, out, |thresholds| thresholds.page);
        }),
    },
    MetricFamily {
        name: "xt_balance_free_threshold",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Configured free amount below which the alerts warn, in units of the currency.",
        details: "Present also while the balance is unknown.",
        source: MetricSource::Config(|wallet_config, out| {
            threshold_rows(wallet_config, out, |thresholds| thresholds.warn);
        }),
    },
    MetricFamily {
        name: "xt_balance_frozen",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Amount locked in orders, withdrawals or positions, in units of the currency; absent while unknown.",
        details: "`freeze` of v1, `frozenAmount` of v4, the sum of the margins of futures (`openOrderMarginFrozen`, `isolatedMargin`, `crossedMargin`).",
        source: MetricSource::Holdings(|wallet_config, holdings, out| {
            balance_rows(wallet_config, holdings, out, |amounts| &amounts.frozen);
        }),
    },
    MetricFamily {
        name: "xt_balance_frozen_part",
        kind: MetricKind::Gauge,
        labels: &["account", "currency", "reason", "wallet"],
        help: "Part of the frozen amount by reason, in units of the currency; absent while unknown and if it was not sent.",
        details: "Only of v4, for watched currencies, and for others while anything of them is frozen.",
        source: MetricSource::Holdings(|wallet_config, holdings, out| {
            for holding in holdings {
                let Some(amounts) = holding.state.written() else { continue };
                for part in amounts.frozen_parts.iter() {
                    let (account, wallet) = (&wallet_config.account, wallet_config.wallet.label());
                    out.sample(
                        &[account, &holding.currency, part.reason.label(), wallet],
                        part.amount.value(),
                    );
                }
            }
        }),
    },
    exporter_family(
        "xt_clock_skew_seconds",
        MetricKind::Gauge,
        &["host"],
        "Clock of the exchange host minus the clock of this machine, in seconds.",
        "Absent for a host that polls no longer use.",
    ),
    MetricFamily {
        name: "xt_credentials_loaded_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: ACCOUNT_LABELS,
        help: "Unix time at which the key pair in use was loaded.",
        details: "",
        source: MetricSource::Account(|account, out| {
            out.sample(&[&account.name], account.credentials_loaded.as_secs_f64());
        }),
    },
    MetricFamily {
        name: "xt_currencies",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Rows in the last good answer before any filter; absent while unknown.",
        details: "Unusable rows count too.",
        source: MetricSource::Answer(|wallet_config, good, out| {
            out.sample(
                &[&wallet_config.account, wallet_config.wallet.label()],
                count_to_float(good.currencies),
            );
        }),
    },
    MetricFamily {
        name: "xt_exchange_total_usdt",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Value of the wallet in USDT as the exchange computes it; absent while unknown and if it was not sent.",
        details: "`totalUsdtAmount` of v4. Which currencies it counts is not documented.",
        source: MetricSource::Answer(|wallet_config, good, out| {
            if let Some(total) = &good.exchange_total {
                out.sample(&[&wallet_config.account, wallet_config.wallet.label()], total.value());
            }
        }),
    },
    exporter_family(
        "xt_exporter_build_info",
        MetricKind::Gauge,
        &["revision", "rustversion", "version"],
        "A metric with the constant value 1, labeled by revision, Rust version and version.",
        "",
    ),
    exporter_family(
        "xt_exporter_config_last_reload_success_timestamp_seconds",
        MetricKind::Gauge,
        &[],
        "Unix time of the last successful configuration reload, or of the start.",
        "",
    ),
    exporter_family(
        "xt_exporter_config_last_reload_successful",
        MetricKind::Gauge,
        &[],
        "1 if the last configuration reload succeeded, 0 if the previous configuration stays active.",
        "",
    ),
    MetricFamily {
        name: "xt_futures_equity",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Wallet balance plus unrealised profit of open positions, in units of the currency; absent while unknown.",
        details: "`walletBalance` of the balances plus `xt_futures_unrealised_pnl`, both read in the same poll; a trade between the two calls can shift it until the next poll. Bonuses are included.",
        source: MetricSource::Positions(|config, good, out| {
            currency_risk_rows(config, good, out, |risk| risk.equity.as_ref());
        }),
    },
    MetricFamily {
        name: "xt_futures_unrealised_pnl",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Profit or loss of open positions at their mark prices, in units of the currency; absent while unknown.",
        details: "The sum of `floatingPL` over all open positions that settle in the currency. Absent if that of one position is unknown.",
        source: MetricSource::Positions(|config, good, out| {
            currency_risk_rows(config, good, out, |risk| risk.unrealised_pnl.as_ref());
        }),
    },
    MetricFamily {
        name: "xt_last_success_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Unix time at which the request of the last good answer was sent; 0 before the first.",
        details: "",
        source: MetricSource::Poll(|snapshot, out| {
            let at = snapshot.last_good.as_ref().map(|good| good.at.unix);
            out.sample(&wallet_labels(snapshot), timestamp_or_zero(at));
        }),
    },
    exporter_family(
        "xt_log_lines_dropped_total",
        MetricKind::Counter,
        &[],
        "Log lines dropped because standard error was not read fast enough.",
        "",
    ),
    MetricFamily {
        name: "xt_market_list_last_success_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Unix time at which the request of the last good list of markets was sent; 0 before the first.",
        details: "The exporter reads the list once an hour (v4 `/v4/public/symbol`, v1 `getMarketConfig`). While it cannot be read, the last list counts, and before the first list prices are not checked. Exists only with `--xt.prices`.",
        source: MetricSource::PricePoll(|price_snapshot, out| {
            let at = price_snapshot.market_list.last_success.map(|sent| sent.unix);
            out.sample(&[], timestamp_or_zero(at));
        }),
    },
    MetricFamily {
        name: "xt_markets_closed",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Markets against USDT that are closed or not listed, whose last prices are not used; absent while unknown.",
        details: "Their currencies have no price, because a closed market keeps its last price. Absent also before the first list of markets. Exists only with `--xt.prices`.",
        source: MetricSource::Price(|_, prices, out| {
            if let Some(closed) = prices.closed() {
                out.sample(&[], count_to_float(closed as u64));
            }
        }),
    },
    MetricFamily {
        name: "xt_paused_until_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: ACCOUNT_LABELS,
        help: "Unix time until which no request is sent after a rate-limit reply; 0 if not paused.",
        details: "",
        source: MetricSource::Account(|account, out| {
            out.sample(&[&account.name], timestamp_or_zero(account.paused_until));
        }),
    },
    MetricFamily {
        name: "xt_poll_duration_seconds",
        kind: MetricKind::Histogram,
        labels: WALLET_LABELS,
        help: "Duration of polls in seconds, failover and confirmation included.",
        details: "Measured from the first byte sent to the decoded answer.",
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
        help: "Failed polls by reason.",
        details: "Every reason starts at 0.",
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
        help: "Restarts of the poller after a panic, which is a bug.",
        details: "",
        source: MetricSource::Account(|account, out| {
            out.sample(&[&account.name], count_to_float(account.poller_restarts));
        }),
    },
    MetricFamily {
        name: "xt_polls_total",
        kind: MetricKind::Counter,
        labels: WALLET_LABELS,
        help: "Finished polls, successful or failed.",
        details: "",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), count_to_float(snapshot.counters.polls));
        }),
    },
    MetricFamily {
        name: "xt_position_entry_price",
        kind: MetricKind::Gauge,
        labels: POSITION_LABELS,
        help: "Mean entry price of the open position, in the quote currency; absent while unknown.",
        details: "`entryPrice`.",
        source: MetricSource::Positions(|config, good, out| {
            position_rows(config, good, out, |position| position.entry_price.as_ref());
        }),
    },
    MetricFamily {
        name: "xt_position_info",
        kind: MetricKind::Gauge,
        labels: &["account", "margin_mode", "side", "symbol", "wallet"],
        help: "Open position, with its margin mode, isolated or crossed, as a label; always 1, absent while unknown.",
        details: "`positionType`. `side` is `long` or `short`.",
        source: MetricSource::Positions(|config, good, out| {
            for position in &*good.positions {
                let [account, side, symbol, wallet] = position_labels(config, position);
                if let Some(mode) = position.margin_mode {
                    out.sample(&[account, mode.label(), side, symbol, wallet], 1.0);
                }
            }
        }),
    },
    MetricFamily {
        name: "xt_position_leverage",
        kind: MetricKind::Gauge,
        labels: POSITION_LABELS,
        help: "Leverage of the open position; absent while unknown.",
        details: "`leverage`.",
        source: MetricSource::Positions(|config, good, out| {
            position_rows(config, good, out, |position| position.leverage.as_ref());
        }),
    },
    MetricFamily {
        name: "xt_position_liquidation_distance_page_threshold",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Configured distance to liquidation below which the alerts page, as a part of the mark price.",
        details: "0.1 is 10 %, the default.",
        source: MetricSource::PositionPoll(|snapshot, out| {
            out.sample(&positions_labels(&snapshot.config), snapshot.config.risk.page_distance);
        }),
    },
    MetricFamily {
        name: "xt_position_liquidation_distance_threshold",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Configured distance to liquidation below which the alerts warn, as a part of the mark price.",
        details: "0.2 is 20 %, the default.",
        source: MetricSource::PositionPoll(|snapshot, out| {
            out.sample(&positions_labels(&snapshot.config), snapshot.config.risk.warn_distance);
        }),
    },
    MetricFamily {
        name: "xt_position_liquidation_price",
        kind: MetricKind::Gauge,
        labels: POSITION_LABELS,
        help: "Mark price at which the exchange liquidates the position; absent without such a price and while unknown.",
        details: "`breakPrice`. 0 means that there is no such price.",
        source: MetricSource::Positions(|config, good, out| {
            position_rows(config, good, out, |position| position.liquidation_price.as_ref());
        }),
    },
    MetricFamily {
        name: "xt_position_mark_price",
        kind: MetricKind::Gauge,
        labels: POSITION_LABELS,
        help: "Mark price of the open position's symbol, in the quote currency; absent while unknown.",
        details: "`calMarkPrice`, which triggers liquidation.",
        source: MetricSource::Positions(|config, good, out| {
            position_rows(config, good, out, |position| position.mark_price.as_ref());
        }),
    },
    MetricFamily {
        name: "xt_position_size_contracts",
        kind: MetricKind::Gauge,
        labels: POSITION_LABELS,
        help: "Size of the open position in contracts, above 0 on both sides; absent while unknown.",
        details: "`positionSize`.",
        source: MetricSource::Positions(|config, good, out| {
            position_rows(config, good, out, |position| Some(&position.size));
        }),
    },
    MetricFamily {
        name: "xt_positions",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Open positions in the last good answer, hidden ones included; absent while unknown.",
        details: "0 if nothing is open.",
        source: MetricSource::Positions(|config, good, out| {
            out.sample(&positions_labels(config), count_to_float(good.open()));
        }),
    },
    MetricFamily {
        name: "xt_positions_failures_total",
        kind: MetricKind::Counter,
        labels: &["account", "reason", "wallet"],
        help: "Failed reads of open positions by reason.",
        details: "Every [reason](#failure-reasons) starts at 0.",
        source: MetricSource::PositionPoll(|snapshot, out| {
            let [account, wallet] = positions_labels(&snapshot.config);
            for (reason, count) in Reason::ALL.iter().zip(snapshot.failures) {
                out.sample(&[account, reason.label(), wallet], count_to_float(count));
            }
        }),
    },
    MetricFamily {
        name: "xt_positions_hidden",
        kind: MetricKind::Gauge,
        labels: &["account", "reason", "wallet"],
        help: "Open positions without series, because of max_positions or because their rows are unusable; absent while unknown.",
        details: "Shown are those that are nearest to liquidation.",
        source: MetricSource::Positions(|config, good, out| {
            let [account, wallet] = positions_labels(config);
            out.sample(&[account, "max_positions", wallet], count_to_float(good.over_limit));
            out.sample(&[account, "unusable", wallet], count_to_float(good.unusable));
        }),
    },
    MetricFamily {
        name: "xt_positions_last_success_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Unix time at which the request of the last good answer with positions was sent; 0 before the first.",
        details: "",
        source: MetricSource::PositionPoll(|snapshot, out| {
            let at = snapshot.last_good.as_ref().map(|good| good.at.unix);
            out.sample(&positions_labels(&snapshot.config), timestamp_or_zero(at));
        }),
    },
    MetricFamily {
        name: "xt_positions_up",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "1 if the last poll read the open positions, otherwise 0.",
        details: "Also 0 before the first poll.",
        source: MetricSource::PositionPoll(|snapshot, out| {
            out.sample(&positions_labels(&snapshot.config), f64::from(u8::from(snapshot.is_up())));
        }),
    },
    MetricFamily {
        name: "xt_price",
        kind: MetricKind::Gauge,
        labels: &["currency", "quote"],
        help: "Last price of one unit of the currency, in units of the quote currency; absent while unknown.",
        details: "`price` of v1, `p` of v4, of the market `currency_usdt`. usdt itself is 1, every other stablecoin has its market price. Absent without a market or a price above 0. Exists only with `--xt.prices`.",
        source: MetricSource::Price(|filter, prices, out| {
            for (currency, price) in prices.iter().filter(|(currency, _)| filter.is_visible(currency)) {
                out.sample(&[currency, QUOTE], price);
            }
        }),
    },
    MetricFamily {
        name: "xt_price_last_success_timestamp_seconds",
        kind: MetricKind::Gauge,
        labels: &[],
        help: "Unix time at which the request of the last good price answer was sent; 0 before the first.",
        details: "Exists only with `--xt.prices`.",
        source: MetricSource::PricePoll(|price_snapshot, out| {
            let at = price_snapshot.last_good.as_ref().map(|good| good.at.unix);
            out.sample(&[], timestamp_or_zero(at));
        }),
    },
    exporter_family(
        "xt_price_poller_restarts_total",
        MetricKind::Counter,
        &[],
        "Restarts of the price poller after a panic, which is a bug.",
        "Exists only with `--xt.prices`.",
    ),
    MetricFamily {
        name: "xt_rows_rejected_total",
        kind: MetricKind::Counter,
        labels: WALLET_LABELS,
        help: "Rows of good answers that were rejected because their name or amounts were unusable.",
        details: "The other rows were published.",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), count_to_float(snapshot.counters.rows_rejected));
        }),
    },
    MetricFamily {
        name: "xt_suspect_snapshots_total",
        kind: MetricKind::Counter,
        labels: WALLET_LABELS,
        help: "Polls with a suspect answer, which another answer must confirm.",
        details: "A suspect answer is empty or lacks a watched balance. It counts also if another answer confirms it.",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), count_to_float(snapshot.counters.suspect_snapshots));
        }),
    },
    MetricFamily {
        name: "xt_unpriced_currencies",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Currencies with a balance but without a price; absent while balances or prices are unknown.",
        details: "A currency with an unreadable row counts too. The worth of these currencies is unknown and in no sum. Exists only with `--xt.prices`.",
        source: MetricSource::Unpriced(|wallet_config, unpriced, out| {
            out.sample(&[&wallet_config.account, wallet_config.wallet.label()], count_to_float(unpriced));
        }),
    },
    MetricFamily {
        name: "xt_up",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "1 if the last poll succeeded and its answer is not suspect, otherwise 0.",
        details: "Before the first poll, it is 0.",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), f64::from(u8::from(snapshot.is_up())));
        }),
    },
    MetricFamily {
        name: "xt_watch_present",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "1 if the last good answer had a row for the watched currency, 0 if not; absent while unknown.",
        details: "If it is 0, another answer confirmed it. Then the balance is 0, or the exchange hides the currency from its list and gave its balance alone.",
        source: MetricSource::Holdings(|wallet_config, holdings, out| {
            for holding in
                holdings.iter().filter(|holding| wallet_config.find_watch(&holding.currency).is_some())
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
    details: &'static str,
) -> MetricFamily {
    MetricFamily { name, kind, labels, help, details, source: MetricSource::Exporter }
}

fn balance_rows(
    wallet_config: &WalletConfig,
    holdings: &[Holding],
    out: &mut Samples,
    pick: fn(&BalanceAmounts) -> &Amount,
) {
    for holding in holdings {
        let value = match &holding.state {
            HoldingState::Missing => 0.0,
            state => match state.written() {
                Some(amounts) => pick(amounts).value(),
                None => continue,
            },
        };
        out.sample(&[&wallet_config.account, &holding.currency, wallet_config.wallet.label()], value);
    }
}

/// The value of a metric that is 0 without a time.
fn timestamp_or_zero(time: Option<UnixTime>) -> f64 {
    time.map_or(0.0, UnixTime::as_secs_f64)
}

fn threshold_rows(wallet_config: &WalletConfig, out: &mut Samples, pick: fn(Thresholds) -> f64) {
    for watch in &wallet_config.watch {
        if let Some(thresholds) = watch.thresholds {
            let labels = [&*wallet_config.account, &watch.currency, wallet_config.wallet.label()];
            out.sample(&labels, pick(thresholds));
        }
    }
}

fn position_rows(
    config: &PositionsConfig,
    good: &LastGoodPositions,
    out: &mut Samples,
    pick: fn(&Position) -> Option<&Amount>,
) {
    for position in &*good.positions {
        if let Some(amount) = pick(position) {
            out.sample(&position_labels(config, position), amount.value());
        }
    }
}

fn currency_risk_rows(
    config: &PositionsConfig,
    good: &LastGoodPositions,
    out: &mut Samples,
    pick: fn(&CurrencyRisk) -> Option<&Amount>,
) {
    for risk in good.currencies.iter().filter(|risk| config.shows(risk)) {
        if let Some(amount) = pick(risk) {
            out.sample(&[&config.account, &risk.currency, config.wallet.label()], amount.value());
        }
    }
}

fn position_labels<'a>(config: &'a PositionsConfig, position: &'a Position) -> [&'a str; 4] {
    [&config.account, position.side.label(), &position.symbol, config.wallet.label()]
}

fn positions_labels(config: &PositionsConfig) -> [&str; 2] {
    [&config.account, config.wallet.label()]
}

fn wallet_labels(snapshot: &WalletSnapshot) -> [&str; 2] {
    [&snapshot.config.account, snapshot.config.wallet.label()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_and_help_texts_follow_the_rules() {
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
            assert!(family.help.len() <= 120 && !family.help.contains(". "), "{}", family.name);
            let details = family.details;
            assert!(details.is_empty() || details.ends_with('.'), "{}", family.name);
            assert!(!details.contains(['|', '\n', '\\']), "{}: README shows it in a table", family.name);
        }
    }
}
