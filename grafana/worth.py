"""The worth of the accounts in USDT, in the dashboard `XT balances`.

Every worth omits currencies without a price, and a panel counts them.
"""

from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from panels import AMOUNT, GREY, NO_THRESHOLDS, NO_WORTH, WORTH
from panels import closed_row, column, log_scale, query, row, special_text, stat, table, thresholds, time_series
from queries import ACCOUNT_WORTH, EXCHANGE_TOTAL, EXPORTERS_DOWN, LEAST_WORTH, MISSING_PARTS, PRICES, PRICES_ENABLED, PRICES_OFF
from queries import TOTAL, WALLET_WORTH, WALLET_WORTH_RATIO, WORTH_MISSING
from wallets import DATA_AGE_LEVELS, PER_CURRENCY, PER_WALLET, WALLET_LABELS

PRICES_ARE_OFF = special_text("nan", "prices are off", GREY)
NO_PRICE = special_text("nan", "no price", "orange")
# Grafana scales amounts of money: 42.1M.
MONEY = "currency: "
AT_LEAST = "currency:≥ "
NO_EXCHANGE_TOTAL = "unknown, or no wallet of v4 spot"


def worth():
    price = f"ignoring (account, wallet, quote) group_left () {PRICES}"
    no_price = f"({TOTAL} > 0) * NaN and on (job, instance) {PRICES}"
    return [
        row("Worth"),
        stat(
            "Worth of selected accounts in USDT",
            """Free and frozen amounts in all wallets of the selected accounts, at the prices of the exchange. The selection of
            wallets does not apply. While a wallet is unknown or an exporter is down, the panel shows ≥ and the worth of the
            rest, and names what it leaves out. The worth omits currencies without a price. An account that two exporters watch
            counts once. The panel needs the recording rules.""",
            (
                f"""label_replace(
                    sum({ACCOUNT_WORTH} and on (account) xt_up{{account}}) unless on () {MISSING_PARTS},
                    "part", "all wallets", "", ""
                ) or {PRICES_OFF}""",
                "{{part}}",
            ),
            (LEAST_WORTH, "without {{part}}{{more}}"),
            levels=NO_THRESHOLDS,
            mappings=[PRICES_ARE_OFF],
        )
        .span(8)
        .unit(MONEY)
        .override_by_query("B", [DynamicConfigValue("unit", AT_LEAST)]),
        stat(
            "The exchange's own total in USDT",
            """The exchange's own value of the v4 spot wallets, and the worth of the same wallets as this page computes it. The
            row of details compares them for each wallet. Wallets of API v1 and of futures have no total. The worth needs prices
            and the recording rules.""",
            (
                f"""sum({EXCHANGE_TOTAL}) * on () group_left (wallets) count_values("wallets", count({EXCHANGE_TOTAL}))""",
                "exchange, v4 spot wallets: {{wallets}}",
            ),
            (
                f"""label_replace(
                    sum(account_wallet:xt_worth_usdt:sum{{wallet_only}} and on (account, wallet) xt_exchange_total_usdt{{wallet}})
                    unless on () ({EXCHANGE_TOTAL} unless on (account, wallet) account_wallet:xt_worth_usdt:sum{{wallet_only}}),
                    "part", "the same wallets here", "", ""
                )""",
                "{{part}}",
            ),
            levels=NO_THRESHOLDS,
            no_value=NO_EXCHANGE_TOTAL,
        )
        .span(8)
        .unit(MONEY),
        stat(
            "Holdings without a price",
            """Number of held currencies that have no usable market against USDT. Every worth on this page omits them. The value
            is unknown while a wallet or the prices are unknown.""",
            f"sum(xt_unpriced_currencies{{account}}) unless on () {WORTH_MISSING} or {PRICES_OFF}",
            mappings=[PRICES_ARE_OFF],
        ),
        stat(
            "Price age",
            """Time since the exporter that has waited longest read its prices. With default settings the age stays below 45 s,
            and prices become unknown at 90 s. The value is unknown if an exporter is down or has not read prices yet.""",
            f"max(time() - {PRICES_ENABLED}) unless on () ({PRICES_ENABLED} == 0 or {EXPORTERS_DOWN}) or {PRICES_OFF}",
            levels=DATA_AGE_LEVELS,
            mappings=[PRICES_ARE_OFF],
        ).unit("s").decimals(0),
        time_series(
            "Worth by account in USDT",
            """Worth of each account on a logarithmic axis. The line has a gap while a wallet or the prices are unknown or the
            exporter is down. It omits currencies without a price: a step here together with a step of their number is not
            a loss. An account that holds only such currencies has no line. The panel needs the recording rules.""",
            (10, 8),
            [query(f"{ACCOUNT_WORTH} and on (account) xt_up{{account}}", "{{account}}")],
            no_value=NO_WORTH,
        ).unit("short").scale_distribution(log_scale(1)),
        table(
            "Worth by currency in USDT",
            """Free and frozen amounts of every balance at its price in USDT. No price: the currency has no market against USDT.
            Worth and price are unknown while the prices are. An unknown wallet has no rows, and the shares of its account are
            unknown. Shares need the recording rules.""",
            (14, 8),
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
    ]


def worth_details():
    return closed_row(
        "Worth: details",
        time_series(
            "Currencies without a price",
            """Number of held currencies without a price in each wallet. The line has a gap while the wallet or the prices are
            unknown or the exporter is down.""",
            (10, 7),
            [query("xt_unpriced_currencies{wallet}", WALLET_LABELS)],
            no_value=NO_WORTH,
        ).unit("short").decimals(0).min(0),
        table(
            "Worth compared with the exchange in USDT",
            """The exchange's own value of each v4 spot wallet, and the worth on this page. They differ by currencies without a
            price, by currencies that the configuration excludes, and by the moment of the prices. A lasting difference beyond
            that means that the exchange's list leaves out a currency. Which currencies the exchange counts is not documented.
            The worth needs prices and the recording rules.""",
            (14, 7),
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
    )
