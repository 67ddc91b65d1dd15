"""The dashboard `XT balances`: amounts on the exchange, thresholds, burn rate and worth."""

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from panels import AMOUNT, GREY, NO_THRESHOLDS, NO_WORTH, SELECTORS, WORTH, ZERO_IS_BEST
from panels import account_link, column, dashboard, log_scale, query, range_text, row, special_text, stat
from panels import table, thresholds, time_series, value_texts, variable
from queries import ACCOUNT_WORTH, CHANGE_PER_HOUR, DATA_AGE, DECREASE, IF_SELECTED, PART_MISSING, PRICES, PRICES_ENABLED
from queries import PRICES_OFF, RUNWAY, RUNWAY_SECONDS, STATE, TOTAL, WALLET, WALLET_WORTH, WALLET_WORTH_RATIO, WORTH_MISSING, offset
from wallets import DATA_AGE_LEVELS, PER_WALLET, STATES, WALLET_LABELS

PER_CURRENCY = [*PER_WALLET, "currency"]
CURRENCY_LABELS = f"{WALLET_LABELS} {{{{currency}}}}"
LEVEL = """(xt_balance_free{currency} >= bool xt_balance_free_threshold{currency})
    + (xt_balance_free{currency} >= bool xt_balance_free_page_threshold{currency})"""
LEVELS = value_texts({2: ("above threshold", "green"), 1: ("low", "orange"), 0: ("below page threshold", "red")})
RUNWAY_LEVELS = thresholds((0, "red"), (6 * 3600, "orange"), (24 * 3600, "green"), base="red")
PRICES_ARE_OFF = special_text("nan", "prices are off", GREY)
NO_PRICE = special_text("nan", "no price", "orange")


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
        ),
        stat(
            "Watched balances low",
            f"Number of known balances that are below their threshold. {unknown}",
            """count(xt_balance_free{currency} < xt_balance_free_threshold{currency})
            or 0 * count(xt_balance_free{currency} and xt_balance_free_threshold{currency})""",
        ),
        stat(
            "Shortest runway",
            """Time until the first falling watched balance reaches its threshold, at its pace of the last three hours. The
            panel needs the recording rules and half an hour of data.""",
            f"min(clamp_min({RUNWAY_SECONDS}, 0) {IF_SELECTED}) or min({DECREASE} {IF_SELECTED}) * NaN",
            levels=RUNWAY_LEVELS,
            mappings=[value_texts({0: ("below threshold", "red")}), special_text("nan", "none falling", "green")],
        ).unit("s"),
        stat(
            "Watched currencies missing",
            """Number of watched currencies that are missing in the exchange's list. They read 0, unless the exchange has them
            when it is asked for each alone. The balance is empty, the configuration spells the currency differently, or the
            exchange hides it. The value is unknown while every wallet is unknown.""",
            "count(xt_watch_present{currency} == 0) or 0 * count(xt_watch_present{currency})",
            levels=ZERO_IS_BEST,
        ),
        stat(
            "Exporters down",
            "Number of exporters that Prometheus cannot scrape. This page shows nothing that they watch.",
            "count(up{target} == 0) or 0 * count(up{target})",
        ),
        table(
            "Wallet states",
            """Fresh: the last poll succeeded. Held: the last poll failed, and the exporter still shows the last good reply.
            Unknown: the last good reply is too old, and no panel shows the wallet's balances. Click an account to see its
            polls.""",
            (24, 8),
            PER_WALLET,
            [
                column(STATE, "State", mappings=[STATES]),
                column(DATA_AGE, "Data age", unit="s", levels=DATA_AGE_LEVELS, decimals=0),
                column("xt_currencies{wallet}", "Currencies listed"),
            ],
            sort=("State", True),
            link=account_link("xt-exporter", "Polls of this account"),
        ),
    ]


def dashed(color):
    properties = {
        "custom.lineStyle": {"dash": [10, 10], "fill": "dash"},
        "custom.lineWidth": 1,
        "color": {"fixedColor": color, "mode": "shades"},
    }
    return [DynamicConfigValue(*item) for item in properties.items()]


def low_balances():
    return [
        row("Low balances"),
        table(
            "Watched balances",
            """Every balance with a threshold, the lowest first. A balance below its threshold is a warning, and one below its
            page threshold is critical. Runway is the time until the balance reaches its threshold at the pace of the last
            three hours, which is the median of the changes per half hour. Level, free amount and runway are unknown while the
            wallet is. Runway and change need the recording rules.""",
            (24, 9),
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
                    mappings=[special_text("nan", "not falling", "green"), range_text(None, 0, "below threshold", "red")],
                    levels=RUNWAY_LEVELS,
                ),
                column(CHANGE_PER_HOUR, "Change per hour", **AMOUNT),
            ],
            sort=("Of threshold", False),
            always="Threshold",
        ),
        time_series(
            "Free balance as share of threshold",
            """The warning alert starts below 100 %. While a balance is below 100 %, a dashed line shows its page threshold,
            below which the critical alert starts. A line has a gap while the balance is unknown.""",
            (24, 9),
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
            legend_at="right",
        )
        .unit("percentunit")
        .min(0)
        .override_by_query("B", dashed("red")),
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
        .unit("locale")
        .decimals(8)
        .scale_distribution(log_scale(0.01))
        .override_by_query("B", dashed("orange"))
        .override_by_query("C", dashed("red"))
        .repeat("watched")
        .repeat_direction("h")
        .max_per_row(2),
    ]


def burn_rate():
    return [
        row("Burn rate"),
        time_series(
            "Runway of each watched balance",
            """Time until the balance reaches its threshold at the pace of the last three hours; 0 below the threshold, at most
            48 hours. A balance that does not fall, or is unknown, has no line. XtBalanceDraining fires below 6 hours. The panel
            needs the recording rules.""",
            (12, 9),
            [query(f"clamp({RUNWAY_SECONDS} / 3600, 0, 48) {IF_SELECTED}", CURRENCY_LABELS)],
            levels=thresholds((0, "red"), (6, "transparent"), base="transparent"),
            style="line+area",
        ).unit("suffix:h").min(0).max(48),
        time_series(
            "Decrease in 30 minutes as share of threshold",
            """The amount that each watched balance lost in the preceding half hour. Below 0 the balance grew; a top-up leaves
            the visible range for half an hour. The panel needs the recording rules.""",
            (12, 9),
            [
                query(
                    f"{DECREASE} / account_wallet_currency:xt_balance_free_threshold:max{{currency_only}} {IF_SELECTED}",
                    CURRENCY_LABELS,
                )
            ],
        ).unit("percentunit").min(-0.5),
    ]


def frozen_balances():
    return [
        row("Frozen balances"),
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
    ]


def holdings():
    return [
        row("Holdings"),
        table(
            "Balances by wallet",
            """Every balance that is not zero. An unknown wallet has no rows. Changes are those of free and frozen together, so
            that an order does not change them. A change is unknown if the balance was unknown then.""",
            (24, 12),
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
        ).unit("percentunit"),
    ]


def worth():
    price = f"ignoring (account, wallet, quote) group_left () {PRICES}"
    no_price = f"({TOTAL} > 0) * NaN and on (job, instance) {PRICES}"
    return [
        row("Worth"),
        stat(
            "Worth of selected accounts in USDT",
            """Free and frozen amounts in all wallets of the selected accounts, at the prices of the exchange. The selection of
            wallets does not apply. The value is unknown while a wallet or the prices are unknown or an exporter is down,
            because the sum would be too small. It omits currencies without a price. An account that two exporters watch
            counts once. The panel needs the recording rules.""",
            f"sum({ACCOUNT_WORTH} and on (account) xt_up{{account}}) unless on () {WORTH_MISSING} or {PRICES_OFF}",
            levels=NO_THRESHOLDS,
            mappings=[PRICES_ARE_OFF],
        ).span(8).unit("locale").decimals(2),
        stat(
            "Holdings without a price",
            """Number of held currencies that have no usable market against USDT. Every worth on this page omits them. The value
            is unknown while a wallet or the prices are unknown.""",
            f"sum(xt_unpriced_currencies{{account}}) unless on () {WORTH_MISSING} or {PRICES_OFF}",
            levels=ZERO_IS_BEST,
            mappings=[PRICES_ARE_OFF],
        ).span(8),
        stat(
            "Price age",
            """Time since the exporter that has waited longest read its prices. With default settings the age stays below 45 s,
            and prices become unknown at 90 s. The value is unknown if an exporter is down or has not read prices yet.""",
            f"max(time() - {PRICES_ENABLED}) unless on () ({PRICES_ENABLED} == 0 or up{{target}} == 0) or {PRICES_OFF}",
            levels=DATA_AGE_LEVELS,
            mappings=[PRICES_ARE_OFF],
        ).span(8).unit("s").decimals(0),
        time_series(
            "Worth by account in USDT",
            """Worth of each account on a logarithmic axis. The line has a gap while a wallet or the prices are unknown or the
            exporter is down. It omits currencies without a price: a step here together with a step in the next panel is not a
            loss. An account that holds only such currencies has no line. The panel needs the recording rules.""",
            (16, 9),
            [query(f"{ACCOUNT_WORTH} and on (account) xt_up{{account}}", "{{account}}")],
            no_value=NO_WORTH,
        ).unit("locale").decimals(0).scale_distribution(log_scale(1)),
        time_series(
            "Currencies without a price",
            """Number of held currencies without a price in each wallet. The line has a gap while the wallet or the prices are
            unknown or the exporter is down.""",
            (8, 9),
            [query("xt_unpriced_currencies{wallet}", WALLET_LABELS)],
            no_value=NO_WORTH,
        ).unit("short").decimals(0).min(0),
        table(
            "Worth by currency in USDT",
            """Free and frozen amounts of every balance at its price in USDT. No price: the currency has no market against USDT.
            Worth and price are unknown while the prices are. An unknown wallet has no rows, and the shares of its account are
            unknown. Shares need the recording rules.""",
            (24, 12),
            PER_CURRENCY,
            [
                column(f"{TOTAL} * {price} > 0 or {no_price}", "Worth", mappings=[NO_PRICE], **WORTH),
                column(
                    f"({TOTAL} * {price} > 0) / on (account) group_left () {ACCOUNT_WORTH}",
                    "Of account",
                    unit="percentunit",
                    levels=thresholds((0, "blue")),
                    bar_max=1,
                    decimals=0,
                ),
                column(f"0 * ({TOTAL} > 0) + {price} or {no_price}", "Price", mappings=[NO_PRICE], **AMOUNT),
                column(f"{TOTAL} > 0 and on (job, instance) {PRICES_ENABLED}", "Amount", **AMOUNT),
            ],
            sort=("Worth", True),
            always="Amount",
            no_value=NO_WORTH,
        ),
        table(
            "Worth compared with the exchange in USDT",
            """The exchange's own value of each v4 spot wallet, and the worth on this page. They differ by currencies without a
            price, by currencies that the configuration excludes, and by the moment of the prices. A lasting difference beyond
            that means that the exchange's list leaves out a currency. Which currencies the exchange counts is not documented.
            The worth needs prices and the recording rules.""",
            (24, 7),
            PER_WALLET,
            [
                column("xt_exchange_total_usdt{wallet}", "Exchange", **WORTH),
                column(f"0 * xt_exchange_total_usdt{{wallet}} + {WALLET_WORTH}", "Worth", **WORTH),
                column(
                    f"1 - {WALLET_WORTH_RATIO}",
                    "Difference",
                    unit="percentunit",
                    decimals=1,
                ),
            ],
            sort=("Difference", True),
        ),
    ]


def balances():
    return dashboard(
        "xt-balances",
        "XT balances",
        """Amounts on the exchange, low and frozen balances, burn rate and worth. Every number was read from the exchange. A
        value that the exporter does not know is shown as unknown.""",
        6,
        [
            *SELECTORS,
            variable("currency", '{__name__=~"xt_balance_free|xt_balance_free_threshold",%s}' % WALLET),
            variable("watched", "xt_balance_free_threshold{currency}", label="currency", hidden=True),
        ],
        [*summary(), *low_balances(), *burn_rate(), *frozen_balances(), *holdings(), *worth()],
    )
