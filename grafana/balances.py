"""The dashboard `XT balances`: amounts on the exchange, thresholds, burn rate and worth."""

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from colors import BY_CURRENCY
from futures import futures
from panels import AMOUNT, SELECTORS, ZERO_OR_ALARM
from panels import account_links, closed_row, column, dashboard, dashed, log_scale, query, range_text, row, special_text, stat
from panels import table, thresholds, time_series, value_texts, variable
from queries import CHANGE_PER_HOUR, DATA_AGE, DECREASE, EXPORTERS_DOWN_COUNT, IF_SELECTED, PART_MISSING, RUNWAY
from queries import RUNWAY_SECONDS, STATE, TOTAL, WALLET, offset
from wallets import CURRENCY_LABELS, DATA_AGE_LEVELS, PER_CURRENCY, PER_WALLET, STATES, WALLET_LABELS
from worth import worth, worth_details

WATCHED = "xt_balance_free{currency} and xt_balance_free_threshold{currency}"
LOW = "xt_balance_free{currency} < xt_balance_free_threshold{currency}"
LEVEL = """(xt_balance_free{currency} >= bool xt_balance_free_threshold{currency})
    + (xt_balance_free{currency} >= bool xt_balance_free_page_threshold{currency})"""
LEVELS = value_texts({2: ("above threshold", "green"), 1: ("low", "orange"), 0: ("below page threshold", "red")})
RUNWAY_LEVELS = thresholds((6 * 3600, "green"), base="orange")


def summary():
    unknown = "The value is unknown if Prometheus cannot scrape the exporter."
    return [
        stat(
            "Data age",
            f"""Age of the oldest data on this page: the time since the last successful poll of the wallet that has waited
            longest. With default settings the age stays below 45 s, and balances become unknown at 90 s. A wallet that was
            never read has no age; the table of wallet states shows it. {unknown}""",
            f"max({DATA_AGE})",
            levels=DATA_AGE_LEVELS,
        ).unit("s").decimals(0),
        stat(
            "Watched balances unknown",
            f"Number of balances with a threshold whose amount is unknown now. They may have run out. {unknown}",
            """count(xt_balance_free_threshold{currency} unless xt_balance_free{currency})
            or 0 * count(xt_balance_free_threshold{currency})""",
            levels=ZERO_OR_ALARM,
        ),
        stat(
            "Watched balances low",
            """Number of known balances that are below their threshold and not below their page threshold, and of those that are
            below their page threshold. The value is unknown if Prometheus cannot scrape the exporter.""",
            (
                f"""count({LOW} unless xt_balance_free{{currency}} < xt_balance_free_page_threshold{{currency}})
                or 0 * count({WATCHED})""",
                "warning",
            ),
            (
                f"""count(xt_balance_free{{currency}} < xt_balance_free_page_threshold{{currency}})
                or 0 * count({WATCHED})""",
                "page",
            ),
        ).override_by_query("B", [DynamicConfigValue("thresholds", ZERO_OR_ALARM.build())]),
        stat(
            "Shortest runway",
            """Time until the first falling watched balance reaches its threshold, at its pace of the last three hours. The
            panel needs the recording rules and half an hour of data.""",
            f"min(clamp_min({RUNWAY_SECONDS}, 0) {IF_SELECTED}) or min({DECREASE} {IF_SELECTED}) * NaN",
            levels=RUNWAY_LEVELS,
            mappings=[value_texts({0: ("below threshold", "orange")}), special_text("nan", "none falling", "green")],
        ).unit("s"),
        stat(
            "Watched currencies missing",
            """Number of watched currencies that are missing in the exchange's list. They read 0, unless the exchange has them
            when it is asked for each alone. The balance is empty, the configuration spells the currency differently, or the
            exchange hides it. The value is unknown while every wallet is unknown.""",
            "count(xt_watch_present{currency} == 0) or 0 * count(xt_watch_present{currency})",
        ),
        stat(
            "Exporters down",
            "Number of exporters that Prometheus cannot scrape. This page shows nothing that they watch.",
            EXPORTERS_DOWN_COUNT,
            levels=ZERO_OR_ALARM,
        ),
    ]


def wallets():
    return [
        table(
            "Wallet states",
            """Fresh: the last poll succeeded. Held: the last poll failed, and the exporter still shows the last good reply.
            Unknown: the last good reply is too old, and no panel shows the wallet's balances. Click an account to see its
            polls.""",
            (7, 8),
            PER_WALLET,
            [
                column(STATE, "State", mappings=[STATES]),
                column(DATA_AGE, "Data age", unit="s", levels=DATA_AGE_LEVELS, decimals=0),
            ],
            sort=("State", True),
            links=account_links("xt-exporter"),
        ),
    ]


def low_balances():
    return [
        table(
            "Watched balances",
            """Every balance with a threshold, the lowest first. A balance below its threshold is a warning, and one below its
            page threshold is critical. Runway is the time until the balance reaches its threshold at the pace of the last
            three hours, which is the median of the changes per half hour. Level, free amount and runway are unknown while the
            wallet is. Runway and change need the recording rules.""",
            (24, 8),
            PER_CURRENCY,
            [
                column(LEVEL, "Level", mappings=[LEVELS]),
                column(
                    "xt_balance_free{currency} / xt_balance_free_threshold{currency}",
                    "Of threshold",
                    unit="percentunit",
                    levels=thresholds((0, "orange"), (1, "green")),
                    bar_max=3,
                    decimals=0,
                ),
                column("xt_balance_free{currency} and xt_balance_free_threshold{currency}", "Free", **AMOUNT),
                column("xt_balance_free_threshold{currency}", "Threshold", **AMOUNT),
                column("xt_balance_free_page_threshold{currency}", "Page threshold", **AMOUNT),
                column(
                    RUNWAY,
                    "Runway",
                    unit="s",
                    mappings=[special_text("nan", "not falling", "green"), range_text(None, 0, "below threshold", "orange")],
                    levels=RUNWAY_LEVELS,
                ),
                column(CHANGE_PER_HOUR, "Change per hour", **AMOUNT),
            ],
            sort=("Of threshold", False),
            first="Level",
            always="Threshold",
        ),
        time_series(
            "Free balance as share of threshold",
            """The warning alert starts below 100 %. While a balance is below 100 %, a dashed line shows its page threshold,
            below which the critical alert starts. A line has a gap while the balance is unknown.""",
            (12, 8),
            [
                query("xt_balance_free{currency} / xt_balance_free_threshold{currency}", CURRENCY_LABELS),
                query(
                    """xt_balance_free_page_threshold{currency} / xt_balance_free_threshold{currency}
                    and xt_balance_free{currency} < xt_balance_free_threshold{currency}""",
                    f"{CURRENCY_LABELS} page threshold",
                    "B",
                ),
            ],
            levels=thresholds((0, "orange"), (1, "transparent"), base="transparent"),
            style="line+area",
            colors=BY_CURRENCY,
        )
        .unit("percentunit")
        .min(0)
        .override_by_query("B", dashed("red")),
        time_series(
            "Runway of each watched balance",
            """Time until the balance reaches its threshold at the pace of the last three hours; 0 below the threshold, at most
            48 hours. A balance that does not fall, or is unknown, has no line. XtBalanceDraining fires below 6 hours. The panel
            needs the recording rules.""",
            (12, 8),
            [query(f"clamp({RUNWAY_SECONDS} / 3600, 0, 48) {IF_SELECTED}", CURRENCY_LABELS)],
            levels=thresholds((0, "orange"), (6, "transparent"), base="transparent"),
            style="line+area",
            colors=BY_CURRENCY,
        ).unit("suffix: h").min(0).max(48),
    ]


def watched_amounts():
    return closed_row(
        "Amounts of watched currencies",
        time_series(
            "Free $watched and its threshold",
            """Amounts in the currency itself, on a logarithmic axis. Dashed lines are thresholds: orange for the warning, red for
            the page. A line has a gap while the balance is unknown; the thresholds are always known.""",
            (12, 8),
            [
                query('xt_balance_free{currency,currency=~"$watched"} and xt_balance_free_threshold{currency}', WALLET_LABELS),
                query('xt_balance_free_threshold{currency,currency=~"$watched"}', f"{WALLET_LABELS} threshold", "B"),
                query(
                    'xt_balance_free_page_threshold{currency,currency=~"$watched"}', f"{WALLET_LABELS} page threshold", "C"
                ),
            ],
        )
        .unit("short")
        .scale_distribution(log_scale(0.01))
        .override_by_query("B", dashed("orange"))
        .override_by_query("C", dashed("red"))
        .repeat("watched")
        .repeat_direction("h")
        .max_per_row(2),
        time_series(
            "Decrease in 30 minutes as share of threshold",
            """The amount that each watched balance lost in the preceding half hour. Below 0 the balance grew; a top-up leaves
            the visible range for half an hour. The panel needs the recording rules.""",
            (24, 8),
            [
                query(
                    f"{DECREASE} / account_wallet_currency:xt_balance_free_threshold:max{{currency_only}} {IF_SELECTED}",
                    CURRENCY_LABELS,
                )
            ],
            colors=BY_CURRENCY,
        ).unit("percentunit").min(-0.5),
    )


def frozen_balances():
    return closed_row(
        "Frozen balances",
        time_series(
            "Frozen share of each watched balance",
            """Amount frozen in orders or withdrawals, as a share of free and frozen together. The line has a gap while the
            balance is unknown or zero.""",
            (12, 9),
            [
                query(
                    f"(xt_balance_frozen{{currency}} and xt_balance_free_threshold{{currency}}) / ({TOTAL} > 0)",
                    CURRENCY_LABELS,
                )
            ],
            colors=BY_CURRENCY,
        ).unit("percentunit").min(0).max(1),
        table(
            "Frozen amounts",
            """Every balance with a frozen amount. Stuck: the frozen amount has not changed for 6 hours; an order may be
            resting, or a withdrawal may hang. The value is unknown if the amount was unknown 6 hours ago.""",
            (12, 9),
            PER_CURRENCY,
            [
                column("xt_balance_frozen{currency} > 0", "Frozen", **AMOUNT),
                column(f"(xt_balance_frozen{{currency}} > 0) / {TOTAL}", "Share", unit="percentunit", decimals=0),
                column(
                    """((changes(xt_balance_frozen{currency}[6h]) == bool 0) and xt_balance_frozen{currency} > 0)
                    and xt_balance_frozen{currency} offset 6h""",
                    "Stuck",
                    mappings=[value_texts({0: ("no", "green"), 1: ("6 h", "orange")})],
                ),
            ],
            sort=("Share", True),
        ),
        table(
            "Frozen amounts by reason",
            """Why amounts of v4 are frozen, as the exchange sends it. Orders: trade, order margin and order fee. Withdrawals:
            withdraw. Products of the exchange: lock and copy trade. Frozen by the exchange: freeze. Other: the rest, for none
            of the reasons shown. Amounts of v1, and amounts of which the exchange sends no parts, have no rows.""",
            (24, 9),
            [*PER_CURRENCY, "reason"],
            [
                column("xt_balance_frozen_part{currency} != 0", "Amount", **AMOUNT),
                column(
                    """(xt_balance_frozen_part{currency} != 0)
                    / ignoring (reason) group_left () (xt_balance_frozen{currency} > 0)""",
                    "Of frozen",
                    unit="percentunit",
                    decimals=0,
                ),
                column(
                    """((changes(xt_balance_frozen_part{currency}[6h]) == bool 0) and xt_balance_frozen_part{currency} != 0)
                    and xt_balance_frozen_part{currency} offset 6h""",
                    "Stuck",
                    mappings=[value_texts({0: ("no", "green"), 1: ("6 h", "orange")})],
                ),
            ],
            sort=("Of frozen", True),
        ),
    )


def holdings():
    return [
        row("Holdings"),
        table(
            "Balances by wallet",
            """Every balance that is not zero. An unknown wallet has no rows. Changes are those of free and frozen together, so
            that an order does not change them. A change is unknown if the balance was unknown then.""",
            (17, 8),
            PER_CURRENCY,
            [
                column(f"{TOTAL} > 0", "Total", **AMOUNT),
                column(f"xt_balance_free{{currency}} and {TOTAL} > 0", "Free", **AMOUNT),
                column(f"xt_balance_frozen{{currency}} and {TOTAL} > 0", "Frozen", **AMOUNT),
                column(f"({TOTAL} - {offset('1h', TOTAL)}) and {TOTAL} > 0", "Change in 1 h", **AMOUNT),
                column(f"({TOTAL} - {offset('1d', TOTAL)}) and {TOTAL} > 0", "Change in 24 h", **AMOUNT),
            ],
            sort=("Account", False),
        ),
        *wallets(),
    ]


def sums():
    return closed_row(
        "Sums over wallets",
        table(
            "Balances by currency",
            """Sums over the selected wallets. The table is empty while a selected wallet is unknown or an exporter is down,
            because a sum would be too small.""",
            (12, 9),
            ["currency"],
            [
                column(f"sum by (currency) ({TOTAL}) > 0 unless on () {PART_MISSING}", "Total", **AMOUNT),
                column(
                    f"sum by (currency) (xt_balance_frozen{{currency}} and {TOTAL} > 0) unless on () {PART_MISSING}",
                    "Frozen",
                    **AMOUNT,
                ),
                column(f"count by (currency) ({TOTAL} > 0) unless on () {PART_MISSING}", "Wallets"),
            ],
            sort=("Wallets", True),
        ),
        time_series(
            "Change in 24 hours",
            """Free and frozen amounts of all selected wallets, compared with the day before, for every currency that has a
            threshold. The line has a gap if a wallet was unknown or an exporter was down at either time.""",
            (12, 9),
            [
                query(
                    f"""(sum by (currency) ({TOTAL}) / (sum by (currency) ({offset("1d", TOTAL)}) > 0) - 1
                    and on (currency) xt_balance_free_threshold{{currency}})
                    unless on () {PART_MISSING}
                    unless on () {offset("1d", PART_MISSING)}""",
                    "{{currency}}",
                )
            ],
            colors=BY_CURRENCY,
        ).unit("percentunit"),
    )


def balances():
    return dashboard(
        "xt-balances",
        "XT balances",
        """Amounts on the exchange, low and frozen balances, burn rate, worth and futures. Every number was read from the exchange. A
        value that the exporter does not know is shown as unknown.""",
        6,
        [
            *SELECTORS,
            variable("currency", '{__name__=~"xt_balance_free|xt_balance_free_threshold",%s}' % WALLET),
            variable("watched", "xt_balance_free_threshold{currency}", label="currency", hidden=True),
        ],
        [
            *summary(),
            *low_balances(),
            *worth(),
            *futures(),
            *holdings(),
            watched_amounts(),
            frozen_balances(),
            sums(),
            worth_details(),
        ],
    )
