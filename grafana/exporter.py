"""The dashboard `XT exporter`: polls, their failures and durations, the exchange and the process."""

from grafana_foundation_sdk.builders.common import StackingConfig

from panels import SELECTORS, ZERO_OR_ALARM, ZERO_OR_WARNING
from panels import account_links, column, dashboard, heatmap, query, row, stat, state_timeline, table, thresholds
from panels import time_series, value_texts
from queries import DATA_AGE, EXPORTERS_DOWN_COUNT, FAILURE_RATIO, STATE
from wallets import DATA_AGE_LEVELS, PER_WALLET, STATES, WALLET_LABELS


def summary():
    paused = "xt_paused_until_timestamp_seconds{account}"
    return [
        stat(
            "Exporters down",
            "Number of exporters that Prometheus cannot scrape. All that they watch is unknown.",
            EXPORTERS_DOWN_COUNT,
            levels=ZERO_OR_ALARM,
        ),
        stat(
            "Wallets not fresh",
            """Number of wallets that are unknown or whose last poll failed. The value is unknown if Prometheus cannot scrape
            the exporter.""",
            f"count(({STATE}) > 0) or 0 * count(xt_up{{wallet}})",
        ),
        stat(
            "Data age",
            """Time since the last successful poll of the wallet that has waited longest. With default settings the age stays
            below 45 s, and balances become unknown at 90 s. A wallet that was never read has no age; the table below shows
            it.""",
            f"max({DATA_AGE})",
            levels=DATA_AGE_LEVELS,
        ).unit("s").decimals(0),
        stat(
            "Highest poll failure ratio",
            """Failed polls as a share of all polls in the last 15 minutes, for the wallet with the highest share. The panel
            needs the recording rules.""",
            f"max({FAILURE_RATIO})",
            levels=thresholds((0, "green"), (0.1, "orange")),
        ).unit("percentunit").decimals(0),
        stat(
            "Accounts paused",
            """Number of accounts for which the exporter sends no request, because the exchange reported an exceeded rate limit.
            Polls resume by themselves.""",
            f"count({paused} != 0) or 0 * count({paused})",
        ),
        stat(
            "Clock skew",
            """Largest difference between the clocks of an exchange host and of the exporter, in either direction. XtClockSkew
            fires above 2 s.""",
            "max(abs(xt_clock_skew_seconds{target}))",
            levels=thresholds((0, "green"), (1, "orange")),
        ).unit("s"),
        state_timeline(
            "Wallet states over time",
            """Fresh: the last poll succeeded. Held: the last poll failed, and the exporter still shows the last good reply.
            Unknown: the last good reply is too old. Prometheus did not scrape the exporter where no band is drawn.""",
            (24, 7),
            query(STATE, WALLET_LABELS),
            [STATES],
        ),
    ]


def polls():
    return [
        row("Polls"),
        table(
            "Wallets",
            "State of each wallet, and its polls in the last 15 minutes.",
            (14, 7),
            PER_WALLET,
            [
                column(STATE, "State", mappings=[STATES]),
                column(DATA_AGE, "Data age", unit="s", levels=DATA_AGE_LEVELS, decimals=0),
                column("increase(xt_polls_total{wallet}[15m]) and xt_up{wallet}", "Polls", decimals=0),
                column(
                    "sum without (reason) (increase(xt_poll_failures_total{wallet}[15m])) and xt_up{wallet}",
                    "Failed",
                    levels=ZERO_OR_WARNING,
                    decimals=0,
                ),
            ],
            sort=("State", True),
            links=account_links("xt-balances"),
        ),
        table(
            "Failed polls by reason",
            """Failed polls in the last 15 minutes. The table is empty if no poll failed or Prometheus cannot scrape the exporter.
            The reasons auth and signature need a person (XtAuthFailing). Other reasons pass by themselves, or XtPollFailing
            fires.""",
            (10, 7),
            ["account", "wallet", "reason"],
            [column("increase(xt_poll_failures_total{wallet}[15m]) > 0.5", "Failed", levels=ZERO_OR_WARNING, decimals=0)],
            sort=("Failed", True),
            no_value="none known",
        ),
        time_series(
            "Poll failure ratio",
            """Failed polls as a share of all polls in the preceding 15 minutes. XtPollFailing fires above 50 %. The panel needs
            the recording rules.""",
            (8, 7),
            [query(FAILURE_RATIO, WALLET_LABELS)],
            levels=thresholds((0.5, "orange"), base="transparent"),
        ).unit("percentunit").min(0).max(1),
        time_series(
            "Failed polls over time",
            "Failed polls of all selected wallets in each interval, by reason. A reason without failures has no bars.",
            (8, 7),
            [query("sum by (reason) (increase(xt_poll_failures_total{wallet}[$__rate_interval])) > 0", "{{reason}}")],
            no_value="none known",
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .draw_style("bars")
        .fill_opacity(80)
        .line_width(0)
        .stacking(StackingConfig().group("A").mode("normal")),
        time_series(
            "Polls per minute",
            """Finished polls, successful or failed. The default interval of 30 s gives 2 per minute. A lower value means that the
            account is paused, that the exporter rarely tries a rejected key, or that a poller is stuck.""",
            (8, 7),
            [query("60 * rate(xt_polls_total{wallet}[$__rate_interval])", WALLET_LABELS)],
        ).min(0),
        heatmap(
            "Polls by duration",
            "Number of polls of all selected wallets, by duration. Failover and second reads are included.",
            (12, 7),
            "sum by (le) (increase(xt_poll_duration_seconds_bucket{wallet}[$__rate_interval]))",
        ),
        time_series(
            "Poll duration, 90th percentile",
            """Nine of ten polls of the wallet were at least this fast; Prometheus estimates it from the buckets. Polls start to
            fail near the poll timeout, 10 s by default.""",
            (12, 7),
            [
                query(
                    """histogram_quantile(0.9,
                    sum by (instance, account, wallet, le) (rate(xt_poll_duration_seconds_bucket{wallet}[$__rate_interval])))""",
                    WALLET_LABELS,
                )
            ],
        ).unit("s").min(0),
    ]


def exchange():
    return [
        row("Exchange"),
        table(
            "Accounts",
            """The end of an account's pause after a rate-limit reply, and the time at which the exporter read the current key
            pair: at its start or at the last successful key rotation.""",
            (12, 6),
            ["exporter", "account"],
            [
                column(
                    "1000 * xt_paused_until_timestamp_seconds{account}",
                    "Paused until",
                    unit="dateTimeAsIso",
                    mappings=[value_texts({0: ("not paused", "green")})],
                    levels=thresholds((1, "orange")),
                ),
                column("1000 * xt_credentials_loaded_timestamp_seconds{account}", "Key read at", unit="dateTimeAsIso"),
            ],
            sort=("Paused until", True),
        ),
        time_series(
            "Remaining pause",
            """Time until the exporter ends a pause after a rate-limit reply; 0 without a pause. If a new pause starts before the
            old one ends, another program uses the same key.""",
            (12, 6),
            [query("clamp_min(xt_paused_until_timestamp_seconds{account} - time(), 0) / 60", "{{account}}")],
        ).unit("suffix: min").min(0),
        time_series(
            "Clock skew by host",
            """Above 0 the exchange's clock is ahead. XtClockSkew fires beyond 2 s in either direction. A line ends when the exporter
            stops sending requests to the host.""",
            (8, 6),
            [query("xt_clock_skew_seconds{target}", "{{host}}")],
            levels=thresholds((-2, "transparent"), (2, "orange"), base="orange"),
        ).unit("s").axis_soft_min(-2.5).axis_soft_max(2.5),
        time_series(
            "Suspect replies and rejected rows",
            """Sum over all selected wallets in the preceding hour. A suspect reply is empty, has only zeros or omits a watched
            balance; the exporter accepts it only if a second reply confirms it. XtSuspectSnapshots fires from 3 suspect replies
            of one wallet on.""",
            (8, 6),
            [
                query("sum(increase(xt_suspect_snapshots_total{wallet}[1h]))", "suspect replies"),
                query("sum(increase(xt_rows_rejected_total{wallet}[1h]))", "rejected rows", "B"),
            ],
        ).unit("short").decimals(0).min(0),
        time_series(
            "Currencies per reply",
            """Number of rows in the last good reply for each wallet, before the exporter applies a filter. The line has a gap while
            the wallet is unknown.""",
            (8, 6),
            [query("xt_currencies{wallet}", WALLET_LABELS)],
        ).unit("short").decimals(0).min(0),
    ]


def process():
    build = "xt_exporter_build_info{target} * on (job, instance) group_left () "
    last_reload = value_texts({0: ("last reload failed", "orange"), 1: ("up to date", "green")})
    return [
        row("Process"),
        table(
            "Builds",
            """Version and start time of each exporter, and the time at which it loaded the active configuration.
            XtConfigReloadFailed fires 5 minutes after a reload that failed.""",
            (24, 4),
            ["exporter", "version", "revision", "rustversion"],
            [
                column(build + "(1000 * process_start_time_seconds{target})", "Started", unit="dateTimeAsIso"),
                column(
                    build + "(1000 * xt_exporter_config_last_reload_success_timestamp_seconds{target})",
                    "Configuration loaded",
                    unit="dateTimeAsIso",
                ),
                column(build + "xt_exporter_config_last_reload_successful{target}", "Configuration", mappings=[last_reload]),
            ],
            sort=("Started", True),
        ),
        per_instance(
            "Memory",
            "Resident memory. It grows with the number of accounts and currencies, and then stays constant.",
            "process_resident_memory_bytes{target}",
            "decbytes",
        ),
        per_instance(
            "CPU",
            "CPU time as a share of one core.",
            "rate(process_cpu_seconds_total{target}[$__rate_interval])",
            "percentunit",
        ).axis_soft_max(0.1),
        per_instance(
            "File descriptors in use",
            "Open file descriptors as a share of the process limit. Scrapes that never end raise this value.",
            "process_open_fds{target} / process_max_fds{target}",
            "percentunit",
        ).axis_soft_max(0.1),
        per_instance(
            "Scrape duration",
            """Time that Prometheus measured. A scrape sends no request to the exchange, so the duration depends on the network and
            on the size of the page.""",
            "scrape_duration_seconds{target}",
            "s",
        ),
    ]


def per_instance(title, description, expr, unit):
    return time_series(title, description, (6, 6), [query(expr, "{{instance}}")]).unit(unit).min(0)


def exporter():
    return dashboard(
        "xt-exporter",
        "XT exporter",
        "Polls, their failures and durations, clock skew, pauses after rate limits, and the exporter's process.",
        3,
        SELECTORS,
        [*summary(), *polls(), *exchange(), *process()],
    )
