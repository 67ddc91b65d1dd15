"""The row `Futures` of the dashboard `XT balances`: open positions and their distance to liquidation.

Reads raw series, as the other panels do: the recorded distance has no label of an exporter.
"""

from colors import BY_CURRENCY
from panels import AMOUNT, GREY, NO_THRESHOLDS
from panels import column, query, row, special_text, stat, table, thresholds, time_series, value_texts
from queries import DISTANCE, FUTURES_OFF, NEVER_LIQUIDATED, POSITIONS_MISSING
from wallets import CURRENCY_LABELS, DATA_AGE_LEVELS, PER_WALLET

ARE_OFF = special_text("nan", "futures_risk is off", GREY)
NO_VALUE = "none known, or futures_risk is off"
NOT_LIQUIDATED = special_text("nan", "never liquidated", "green")
LEVEL = " + ".join(
    f"({DISTANCE} >= bool ignoring (symbol, side) group_left () {threshold}{{wallet}})"
    for threshold in ("xt_position_liquidation_distance_threshold", "xt_position_liquidation_distance_page_threshold")
)
LEVELS = value_texts({2: ("above threshold", "green"), 1: ("near", "orange"), 0: ("below page threshold", "red")})
# The default thresholds. The column `Level` knows the configured ones.
DISTANCES = thresholds((0, "red"), (0.1, "orange"), (0.2, "green"), base="red")


def futures():
    return [
        row("Futures"),
        stat(
            "Nearest to liquidation",
            """Smallest distance from the mark price to the liquidation price, as a part of the mark price. The colours are those
            of the default thresholds, 20 % and 10 %. The value is unknown while the positions of a selected wallet are.""",
            f"""min({DISTANCE}) unless on () {POSITIONS_MISSING}
            or (sum(xt_up{{wallet}}) * NaN unless on () ({POSITIONS_MISSING} or {DISTANCE}))""",
            levels=DISTANCES,
            mappings=[special_text("nan", "none", GREY)],
        )
        .span(6)
        .unit("percentunit")
        .decimals(1),
        stat(
            "Open positions",
            "Number of open positions, hidden ones included. The value is unknown while the positions of a selected wallet are.",
            f"sum(xt_positions{{wallet}}) unless on () {POSITIONS_MISSING} or {FUTURES_OFF}",
            levels=NO_THRESHOLDS,
            mappings=[ARE_OFF],
        ).span(6),
        stat(
            "Positions hidden",
            """Open positions without series, because of max_positions or because their rows are unusable. The value is unknown
            while the positions of a selected wallet are.""",
            f"sum(xt_positions_hidden{{wallet}}) unless on () {POSITIONS_MISSING} or {FUTURES_OFF}",
            mappings=[ARE_OFF],
        ).span(6),
        stat(
            "Age of positions",
            """Time since the last successful read of the wallet whose positions have waited longest. With default settings the
            age stays below 45 s, and positions become unknown at 90 s.""",
            f"""max(time() - (xt_positions_last_success_timestamp_seconds{{wallet}} > 0)) or {FUTURES_OFF}""",
            levels=DATA_AGE_LEVELS,
            mappings=[ARE_OFF],
        )
        .span(6)
        .unit("s")
        .decimals(0),
        table(
            "Positions",
            """Every open position that the exporter shows, the nearest to liquidation first. Below the warning threshold
            XtLiquidationNear warns, and below the page threshold it pages. The exchange sends no liquidation price for a
            position that it never liquidates. A wallet whose positions are unknown has no rows.""",
            (24, 6),
            [*PER_WALLET, "symbol", "side"],
            [
                column(f"{LEVEL} or {NEVER_LIQUIDATED}", "Level", mappings=[NOT_LIQUIDATED, LEVELS]),
                column(
                    f"{DISTANCE} or {NEVER_LIQUIDATED}",
                    "Distance",
                    unit="percentunit",
                    decimals=1,
                    mappings=[special_text("nan", "none", GREY)],
                ),
                column("xt_position_size_contracts{wallet}", "Contracts", **AMOUNT),
                column("xt_position_entry_price{wallet}", "Entry price", **AMOUNT),
                column("xt_position_mark_price{wallet}", "Mark price", **AMOUNT),
                column(
                    f"xt_position_liquidation_price{{wallet}} or {NEVER_LIQUIDATED}",
                    "Liquidation price",
                    mappings=[special_text("nan", "none", GREY)],
                    **AMOUNT,
                ),
                column("xt_position_leverage{wallet}", "Leverage"),
            ],
            sort=("Distance", False),
            first="Level",
            always="Mark price",
            no_value=NO_VALUE,
        ),
        time_series(
            "Distance to liquidation",
            """Distance of each position to its liquidation price, as a part of the mark price. Dashed lines are the default
            thresholds, 20 % and 10 %. A line has a gap while the position is unknown.""",
            (8, 7),
            [query(DISTANCE, "{{account}} {{symbol}} {{side}}")],
            levels=thresholds((0.1, "orange"), (0.2, "transparent"), base="red"),
            style="dashed",
            no_value=NO_VALUE,
        )
        .unit("percentunit")
        .min(0),
        time_series(
            "Futures equity",
            """Wallet balance plus unrealised profit, in units of the currency. The line has a gap while the balance or the
            positions are unknown.""",
            (8, 7),
            [query("xt_futures_equity{currency} != 0", CURRENCY_LABELS)],
            colors=BY_CURRENCY,
            no_value=NO_VALUE,
        ).unit("short"),
        time_series(
            "Unrealised profit",
            """Profit or loss of open positions at their mark prices, in units of the currency. The line has a gap while the
            positions are unknown.""",
            (8, 7),
            [query("xt_futures_unrealised_pnl{currency} and xt_futures_equity{currency} != 0", CURRENCY_LABELS)],
            colors=BY_CURRENCY,
            no_value=NO_VALUE,
        ).unit("short"),
    ]
