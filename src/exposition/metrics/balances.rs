//! The metrics of balances, their thresholds and the rows of answers.

use super::family::{CURRENCY_LABELS, MetricFamily, MetricKind, MetricSource, WALLET_LABELS};
use crate::{
    exchange::{Amount, BalanceAmounts},
    exposition::text::{Samples, count_to_float},
    snapshot::wallet::{Holding, HoldingState, Thresholds, WalletConfig},
};

/// Sorted by name.
pub(super) const FAMILIES: &[MetricFamily] = &[
    MetricFamily {
        name: "xt_balance_free",
        kind: MetricKind::Gauge,
        labels: CURRENCY_LABELS,
        help: "Amount that can be traded or withdrawn, in units of the currency; absent while unknown.",
        details: "`available` of v1, `availableAmount` of v4, `availableBalance` of futures or, where that is missing, `walletBalance` minus the frozen amount. Always 0 of the wallet `earn`, whose money must be redeemed first. 0 for a watched currency that confirmed answers leave out.",
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
        help: "Amount locked in orders, withdrawals, positions or products, in units of the currency; absent while unknown.",
        details: "`freeze` of v1, `frozenAmount` of v4, the sum of the margins of futures (`openOrderMarginFrozen`, `isolatedMargin`, `crossedMargin`), `amount` of earn.",
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

fn threshold_rows(wallet_config: &WalletConfig, out: &mut Samples, pick: fn(Thresholds) -> f64) {
    for watch in &wallet_config.watch {
        if let Some(thresholds) = watch.thresholds {
            let labels = [&*wallet_config.account, &watch.currency, wallet_config.wallet.label()];
            out.sample(&labels, pick(thresholds));
        }
    }
}
