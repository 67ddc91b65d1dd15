//! The metrics of open positions, equity and profit of futures wallets.

use super::family::{
    CURRENCY_LABELS, MetricFamily, MetricKind, MetricSource, POSITION_LABELS, WALLET_LABELS,
    timestamp_or_zero,
};
use crate::{
    exchange::{Amount, Position, Reason},
    exposition::text::{Samples, count_to_float},
    snapshot::positions::{CurrencyRisk, LastGoodPositions, PositionsConfig},
};

/// Sorted by name.
pub(super) const FAMILIES: &[MetricFamily] = &[
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
];

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
