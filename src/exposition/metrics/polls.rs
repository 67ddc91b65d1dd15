//! The metrics of the polls of wallets, and of the state that the wallets of an account share.

use super::family::{
    ACCOUNT_LABELS, MetricFamily, MetricKind, MetricSource, WALLET_LABELS, timestamp_or_zero, wallet_labels,
};
use crate::{exchange::Reason, exposition::text::count_to_float, snapshot::wallet::DurationHistogram};

/// Sorted by name.
pub(super) const FAMILIES: &[MetricFamily] = &[
    MetricFamily {
        name: "xt_account_info",
        kind: MetricKind::Gauge,
        labels: ACCOUNT_LABELS,
        help: "Always 1; carries the labels configured for the account.",
        details: "`labels` of an account in the file of `--config.file`.",
        source: MetricSource::Account(|account, out| {
            out.sample_with(&[&account.name], &account.labels, 1.0);
        }),
    },
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
        name: "xt_up",
        kind: MetricKind::Gauge,
        labels: WALLET_LABELS,
        help: "1 if the last poll succeeded and its answer is not suspect, otherwise 0.",
        details: "Before the first poll, it is 0.",
        source: MetricSource::Poll(|snapshot, out| {
            out.sample(&wallet_labels(snapshot), f64::from(u8::from(snapshot.is_up())));
        }),
    },
];
