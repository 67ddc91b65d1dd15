"""The dashboard `XT fleet`: hundreds or thousands of accounts, the exporters that share them, and the limits of the exchange.

A query returns a number for each exporter, egress group or reason, or for a few accounts that are worst. Nothing grows with
the number of accounts, so a browser can show the answer.
"""

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from panels import GREY, NO_THRESHOLDS, SELECTORS, ZERO_OR_ALARM, ZERO_OR_WARNING
from panels import account_links, column, dashboard, filled, query, range_text, row, same_color, stat, state_timeline, table
from panels import thresholds, time_series, value_texts
from queries import ADDRESS_USE, BUSIEST_ADDRESSES, EXPORTERS_DOWN_COUNT, KEY_PEAK, KEY_USE, SHARDS
from queries import SHARDS_WANTED, WORST_KEYS, WORST_STATES
from wallets import STATES

USE = {"unit": "percentunit", "decimals": 0, "levels": thresholds((0, "green"), (0.8, "orange"))}
# Range queries of many series: a point for every ten pixels is enough.
POINTS = 120
IS_FRESH = "xt_up{wallet} == 1 and xt_currencies{wallet}"
IS_HELD = "xt_up{wallet} == 0 and xt_currencies{wallet}"
IS_UNKNOWN = "xt_up{wallet} unless xt_currencies{wallet}"
LOW = "xt_balance_free{wallet} < xt_balance_free_threshold{wallet}"
PAGING = "xt_balance_free{wallet} < xt_balance_free_page_threshold{wallet}"
WATCHED = "xt_balance_free{wallet} and xt_balance_free_threshold{wallet}"


def second_is(levels):
    """The colours of a number's second query."""
    return "B", [DynamicConfigValue("thresholds", levels.build())]


def summary():
    paused = "xt_paused_until_timestamp_seconds{account}"
    return [
        stat(
            "Wallets",
            """Number of wallets by state. Fresh: the last poll succeeded. Held: the last poll failed, and the exporter still
            shows the last good reply. Unknown: the last good reply is too old. A wallet that two exporters watch counts twice.
            Wallets of an exporter that is down do not count.""",
            (f"count({IS_FRESH}) or 0 * count(xt_up{{wallet}})", "fresh"),
            (f"count({IS_HELD}) or 0 * count(xt_up{{wallet}})", "held"),
            (f"count({IS_UNKNOWN}) or 0 * count(xt_up{{wallet}})", "unknown"),
        ).override_by_query("A", [DynamicConfigValue("thresholds", NO_THRESHOLDS.build())]),
        stat(
            "Watched balances low",
            """Number of known balances that are below their threshold and not below their page threshold, and of those that are
            below their page threshold.""",
            (f"count({LOW} unless {PAGING}) or 0 * count({WATCHED})", "warning"),
            (f"count({PAGING}) or 0 * count({WATCHED})", "page"),
        ).override_by_query(*second_is(ZERO_OR_ALARM)),
        stat(
            "Accounts paused",
            """Number of accounts for which an exporter sends no request, because the exchange reported an exceeded rate limit.
            Polls resume by themselves.""",
            f"count({paused} != 0) or 0 * count({paused})",
        ),
        stat(
            "Limits in use",
            """Largest share of a limit that is in use: calls of an address in the running minute, and calls of a key in a
            second of the last 15 minutes. The exporter waits before it exceeds a limit. Polls are late while the share of an
            address stays near 100 %; a key may use all of its limit in a second.""",
            (f"max({ADDRESS_USE})", "address"),
            (f"max({KEY_USE})", "key"),
            levels=USE["levels"],
        )
        .unit("percentunit")
        .decimals(0)
        .override_by_query(*second_is(NO_THRESHOLDS)),
        stat(
            "Shards",
            """Number of different shards that the selected exporters watch, of the number that their flag --shard names. The
            number is red while a shard is missing: nobody watches its accounts.""",
            (f"{SHARDS} == {SHARDS_WANTED}", "of {{shards}}"),
            (f"{SHARDS} != {SHARDS_WANTED}", "of {{shards}}"),
            levels=thresholds((0, "green")),
        ).override_by_query(*second_is(thresholds((0, "red")))),
        stat(
            "Exporters down",
            "Number of exporters that Prometheus cannot scrape. All that they watch is unknown.",
            EXPORTERS_DOWN_COUNT,
            levels=ZERO_OR_ALARM,
        ),
    ]


def states():
    return [
        filled(
            time_series(
                "Wallets not fresh",
                """Number of wallets that are held or unknown. The areas have a gap while Prometheus scrapes no exporter; wallets
                of an exporter that is down do not count.""",
                (12, 8),
                [
                    query(f"count({IS_UNKNOWN}) or 0 * count(xt_up{{wallet}})", "unknown"),
                    query(f"count({IS_HELD}) or 0 * count(xt_up{{wallet}})", "held", "B"),
                ],
                colors=[],
            )
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .axis_soft_max(5)
        .max_data_points(POINTS)
        .override_by_query("A", [same_color(GREY)])
        .override_by_query("B", [same_color("orange")]),
        state_timeline(
            "Wallets not fresh by exporter",
            """Share of the exporter's wallets that are held or unknown. Prometheus did not scrape the exporter where no band is
            drawn.""",
            (12, 8),
            query(
                f"""1 - (count by (instance) ({IS_FRESH}) or 0 * count by (instance) (xt_up{{wallet}}))
                / count by (instance) (xt_up{{wallet}})""",
                "{{instance}}",
            ),
            [
                value_texts({0: ("all fresh", "green")}),
                range_text(0, 0.1, "up to 10 % not fresh", "light-orange"),
                range_text(0.1, 0.5, "up to half", "orange"),
                range_text(0.5, 1, "more than half", "dark-orange"),
            ],
        ).max_data_points(POINTS),
        state_timeline(
            "Accounts that were not fresh",
            """The 30 accounts that were held or unknown for the longest part of the shown time, each with the state of its worst
            wallet. If several exporters watch a wallet, its best state counts. Click a band to see the account's polls or
            balances.""",
            (24, 14),
            query(WORST_STATES, "{{account}}"),
            [STATES],
            no_value="none known",
        )
        .max_data_points(POINTS)
        .data_links(account_links("xt-balances", "xt-exporter", account="${__field.labels.account}")),
    ]


def limits():
    return [
        row("Limits"),
        time_series(
            "Address limit in use",
            """Calls of the running minute as a share of what the exporter allows itself, for each exporter and egress group. The
            panel shows the 20 that are highest at the end of the shown time. The group default has the accounts without
            `egress`.""",
            (12, 8),
            [
                query(
                    f"max by (instance, egress) ({ADDRESS_USE}) and on (instance, egress) {BUSIEST_ADDRESSES}",
                    "{{instance}} {{egress}}",
                )
            ],
            levels=thresholds((1, "orange"), base="transparent"),
        )
        .unit("percentunit")
        .min(0)
        .axis_soft_max(1)
        .max_data_points(POINTS),
        table(
            "Keys closest to their limit",
            """The 20 accounts whose keys used the largest share of their limit in a second of the last 15 minutes. Click an
            account to see its polls.""",
            (12, 8),
            ["account"],
            [
                column(f"max by (account) ({KEY_USE}) and on (account) {WORST_KEYS}", "Of limit", unit="percentunit", decimals=0),
                column(f"max by (account) ({KEY_PEAK}) and on (account) {WORST_KEYS}", "Calls in a second"),
                column(
                    f"""max by (account) (xt_rate_limit_capacity{{account,scope="key"}}) and on (account) {WORST_KEYS}""",
                    "Limit",
                ),
            ],
            sort=("Of limit", True),
            links=account_links("xt-exporter", "xt-balances"),
        ),
    ]


def exporters():
    each = "xt_shard_info{target} * on (job, instance) group_left () "
    return [
        row("Shards and egress groups"),
        table(
            "Exporters",
            """Every exporter with its shard. Each shard needs one exporter; if two watch the same shard, their calls add up and
            exceed the limits of its keys. Processes: how many watch this shard. Prometheus cannot scrape an exporter that has no row.""",
            (14, 8),
            ["instance", "shard", "shards"],
            [
                column(each + "count by (job, instance) (xt_up{wallet})", "Wallets"),
                column(
                    each + f"""(count by (job, instance) ({IS_HELD} or {IS_UNKNOWN})
                    or 0 * count by (job, instance) (xt_up{{wallet}}))""",
                    "Not fresh",
                    levels=ZERO_OR_WARNING,
                ),
                column(each + f"max by (job, instance) ({ADDRESS_USE})", "Of address limit", **USE),
                column(
                    """xt_shard_info{target} * on (shard, shards) group_left ()
                    count by (shard, shards) (xt_shard_info{target})""",
                    "Processes",
                    levels=thresholds((1, "green"), (2, "orange")),
                ),
                column(each + "scrape_duration_seconds{target}", "Scrape", unit="s"),
                column(each + "process_resident_memory_bytes{target}", "Memory", unit="decbytes", decimals=0),
            ],
            sort=("Shard", False),
        ),
        table(
            "Egress groups",
            """Calls of the running minute and the limit of each egress group, over all exporters. An exporter has an address of
            its own in each group. The group default has the accounts without `egress`.""",
            (10, 8),
            ["egress"],
            [
                column('count by (egress) (xt_rate_limit_capacity{target,scope="address"})', "Exporters"),
                column('sum by (egress) (xt_rate_limit_calls{target,scope="address"})', "Calls in a minute"),
                column('sum by (egress) (xt_rate_limit_capacity{target,scope="address"})', "Limit"),
                column(f"max by (egress) ({ADDRESS_USE})", "Highest use", **USE),
            ],
            sort=("Highest use", True),
        ),
    ]


def polls():
    return [
        row("Polls"),
        time_series(
            "Polls per second",
            "Finished polls of all selected wallets, successful or failed, for each exporter.",
            (8, 7),
            [query("sum by (instance) (rate(xt_polls_total{wallet}[$__rate_interval]))", "{{instance}}")],
        )
        .min(0)
        .max_data_points(POINTS),
        time_series(
            "Failed polls per minute",
            "Failed polls of all selected wallets, by reason. A reason without failures has no line.",
            (8, 7),
            [query("60 * sum by (reason) (rate(xt_poll_failures_total{wallet}[$__rate_interval])) > 0", "{{reason}}")],
            no_value="none known",
        )
        .min(0)
        .max_data_points(POINTS),
        time_series(
            "Duration of polls",
            """Half of all polls, and nine of ten, were at least this fast; Prometheus estimates it from the buckets.""",
            (8, 7),
            [
                query(
                    f"""histogram_quantile({quantile},
                    sum by (le) (rate(xt_poll_duration_seconds_bucket{{wallet}}[$__rate_interval])))""",
                    legend,
                    ref_id,
                )
                for quantile, legend, ref_id in ((0.9, "nine of ten", "A"), (0.5, "half", "B"))
            ],
        )
        .unit("s")
        .min(0)
        .max_data_points(POINTS),
    ]


def fleet():
    return dashboard(
        "xt-fleet",
        "XT fleet",
        """Many accounts at a glance: states, limits of the exchange, shards and egress groups. The panels stay small with
        thousands of accounts: they show sums, and the accounts that are worst.""",
        3,
        SELECTORS,
        [*summary(), *states(), *limits(), *exporters(), *polls()],
    )
