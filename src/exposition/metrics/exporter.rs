//! The metrics of the exporter and its process. `exposition::process_metrics` renders them at the scrape.

use super::family::{MetricFamily, MetricKind, exporter_family};

const RATE_LIMIT_LABELS: &[&str] = &["account", "egress", "scope"];

/// Sorted by name.
pub(super) const FAMILIES: &[MetricFamily] = &[
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
    exporter_family(
        "xt_clock_skew_seconds",
        MetricKind::Gauge,
        &["host"],
        "Clock of the exchange host minus the clock of this machine, in seconds.",
        "Absent for a host that polls no longer use.",
    ),
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
    exporter_family(
        "xt_log_lines_dropped_total",
        MetricKind::Counter,
        &[],
        "Log lines dropped because standard error was not read fast enough.",
        "",
    ),
    exporter_family(
        "xt_rate_limit_calls",
        MetricKind::Gauge,
        RATE_LIMIT_LABELS,
        "Calls in the current window of a rate limit, per address or per key.",
        "Published once a second. `scope` is `address`, with the `egress` group that uses it, or `key`, with the `account`; accounts with the same key show the same calls. The window is a minute for an address and a second for a key, and longer with a small share.",
    ),
    exporter_family(
        "xt_rate_limit_capacity",
        MetricKind::Gauge,
        RATE_LIMIT_LABELS,
        "Calls that the exporter makes at most in a window of a rate limit.",
        "With the whole share 900 in a minute of an address and 2 in a second of a key.",
    ),
    exporter_family(
        "xt_shard_info",
        MetricKind::Gauge,
        &["shard", "shards"],
        "Always 1; carries the shard of this process and the number of shards.",
        "Without --shard both are 1.",
    ),
    exporter_family(
        "xt_shards",
        MetricKind::Gauge,
        &[],
        "Number of shards that the accounts are divided into.",
        "The label shards of xt_shard_info as a value, for rules.",
    ),
];
