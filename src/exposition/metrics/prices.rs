//! The metrics of prices and of the list of markets.

use super::family::{
    MetricFamily, MetricKind, MetricSource, WALLET_LABELS, exporter_family, timestamp_or_zero,
};
use crate::{exchange::QUOTE, exposition::text::count_to_float};

/// Sorted by name.
pub(super) const FAMILIES: &[MetricFamily] = &[
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
        name: "xt_unpriced_currencies",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "Currencies with a balance but without a price; absent while balances or prices are unknown.",
        details: "A currency with an unreadable row counts too. The worth of these currencies is unknown and in no sum. Exists only with `--xt.prices`.",
        source: MetricSource::Unpriced(|wallet_config, unpriced, out| {
            out.sample(&[&wallet_config.account, wallet_config.wallet.label()], count_to_float(unpriced));
        }),
    },
];
