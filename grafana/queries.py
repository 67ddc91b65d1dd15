"""PromQL expressions that several panels share, and the label matchers that the dashboard variables fill in.

Knows metric names and PromQL. Must not know how Grafana shows an answer.

An unknown value must look unknown. So: a count is 0 only if Prometheus knows the counted series; otherwise the query
returns nothing. A sum is empty while a part of it is missing.
"""

import re

# In a query, `{wallet}` after a metric stands for the matchers of the selected wallets, and so on. The series of recording
# rules have no target labels: they take the matchers that end in `_only`, and an `and on` joins them with a metric of the
# selected exporters.
TARGET = 'job=~"$job",instance=~"$instance"'
ACCOUNT = TARGET + ',account=~"$account"'
WALLET = ACCOUNT + ',wallet=~"$wallet"'
CURRENCY = WALLET + ',currency=~"$currency"'
ACCOUNT_ONLY = 'account=~"$account"'
WALLET_ONLY = ACCOUNT_ONLY + ',wallet=~"$wallet"'
CURRENCY_ONLY = WALLET_ONLY + ',currency=~"$currency"'
MATCHERS = {
    "target": TARGET,
    "account": ACCOUNT,
    "wallet": WALLET,
    "currency": CURRENCY,
    "account_only": ACCOUNT_ONLY,
    "wallet_only": WALLET_ONLY,
    "currency_only": CURRENCY_ONLY,
}


def expand(expr):
    """The query on one line, with the matchers in place of their names."""
    for name, matchers in MATCHERS.items():
        expr = expr.replace("{%s}" % name, "{%s}" % matchers).replace("{%s," % name, "{%s," % matchers)
    return " ".join(expr.split())


def offset(duration, expr):
    """The same expression, `duration` earlier."""
    selector = r"\{(%s)(,[^}]*)?\}(\[[^]]*\])?" % "|".join(MATCHERS)
    return re.sub(selector, rf"\g<0> offset {duration}", expr)


# Joins with a metric of the selected exporters on its left. The label `exporter` names the instance, if there are several.
EXPORTER = """
    * on (job, instance) group_left (exporter) (
        label_replace(group by (job, instance) (xt_up{target}), "exporter", "$1", "instance", "(.+)")
        and on () (count(group by (job, instance) (xt_up{target})) > 1)
        or on (job, instance)
        group by (job, instance) (xt_up{target})
    )
"""
# Targets of other jobs can be down too. An exporter has shown its build within the last day, or its job has the usual name.
EXPORTERS_DOWN = """(
    (up{target} == 0) and on (job, instance) last_over_time(xt_exporter_build_info{target}[1d])
    or up{target,job="xt-balance-exporter"} == 0
)"""
EXPORTERS_DOWN_COUNT = f"count({EXPORTERS_DOWN}) or 0 * count(xt_up{{target}})"

# 0 fresh, 1 held, 2 unknown.
STATE = """
    ((1 - xt_up{wallet}) and xt_currencies{wallet})
    or
    (2 + 0 * xt_up{wallet} unless xt_currencies{wallet})
"""
DATA_AGE = "time() - (xt_last_success_timestamp_seconds{wallet} > 0)"
TOTAL = "(xt_balance_free{currency} + xt_balance_frozen{currency})"
# Returns a series while a selected wallet is unknown or an exporter is down: a sum over wallets would be too small.
PART_MISSING = f"((xt_up{{wallet}} unless xt_currencies{{wallet}}) or {EXPORTERS_DOWN})"
# Joins a recorded series of a balance with the selected exporters: one series for each exporter, or one for all of them.
FOR_EACH_EXPORTER = "0 * xt_balance_free_threshold{currency} + on (account, wallet, currency) group_left ()"
IF_SELECTED = "and on (account, wallet, currency) xt_balance_free_threshold{currency}"
RUNWAY_SECONDS = "account_wallet_currency:xt_balance_free:runway_seconds{currency_only}"
DECREASE = "account_wallet_currency:xt_balance_free:fall30m{currency_only}"
# NaN: the balance is known and does not fall. The panels show NaN as a text.
RUNWAY = f"{FOR_EACH_EXPORTER} ({RUNWAY_SECONDS} or {DECREASE} * NaN) and xt_balance_free{{currency}}"
CHANGE_PER_HOUR = f"""
    {FOR_EACH_EXPORTER} (0 - 2 * quantile_over_time(0.5, {DECREASE}[3h]))
    and xt_balance_free{{currency}}
"""
FAILURE_RATIO = "account_wallet:xt_poll_failures:ratio_rate15m{wallet_only} and on (account, wallet) xt_up{wallet}"
ACCOUNT_WORTH = "account:xt_worth_usdt:sum{account_only}"
# Joins with a metric of the selected exporters on its left.
WALLET_WORTH = "on (account, wallet) group_left () account_wallet:xt_worth_usdt:sum{wallet_only}"
# The worth of a wallet as a share of the exchange's own value.
WALLET_WORTH_RATIO = f"""
    (0 * xt_exchange_total_usdt{{wallet}} + {WALLET_WORTH}) / (xt_exchange_total_usdt{{wallet}} > 0)
"""
# Exists if the configuration asks for prices, even while the prices are unknown.
PRICES_ENABLED = "xt_price_last_success_timestamp_seconds{target}"
PRICES = 'xt_price{target,quote="usdt"}'
# NaN if no exporter asks for prices. The panels show NaN as a text.
PRICES_OFF = f"(sum(xt_up{{account}}) * NaN unless on () ({PRICES_ENABLED} or {EXPORTERS_DOWN}))"
# Returns a series while the worth of a selected account is incomplete: a wallet or the prices are unknown.
WORTH_MISSING = f"((xt_up{{account}} unless xt_unpriced_currencies{{account}}) or {EXPORTERS_DOWN})"
# The label `part` names what the worth leaves out: wallets that no exporter knows, and exporters that are down.
MISSING_PARTS = f"""
    group by (part) (
        label_join(
            group by (account, wallet) (xt_up{{account}})
            unless group by (account, wallet) (xt_unpriced_currencies{{account}}),
            "part", "/", "account", "wallet"
        )
        or label_replace({EXPORTERS_DOWN}, "part", "exporter $1", "instance", "(.+)")
    )
"""
# The label `more` is empty if one part is missing, and ` and 2 more` if three are.
MORE_PARTS = f"""
    label_replace(
        label_replace(count_values("more", count({MISSING_PARTS}) - 1), "more", " and $1 more", "more", "(.+)"),
        "more", "", "more", " and 0 more"
    )
"""
KNOWN_WORTH = "sum(account_wallet:xt_worth_usdt:sum{account_only} and on (account, wallet) xt_up{account})"
# The worth of what is known, while a part is missing.
LEAST_WORTH = f"""
    topk(1, {MISSING_PARTS}) * on () group_left (more) {MORE_PARTS} * on () group_left () {KNOWN_WORTH}
"""
EXCHANGE_TOTAL = "max by (account, wallet) (xt_exchange_total_usdt{wallet})"

# ---- Futures

# The distance from the mark price to the liquidation price, as a part of the mark price. Negative if the mark price is beyond
# the liquidation price.
DISTANCE = """(
    1 - xt_position_liquidation_price{wallet,side="long"} / xt_position_mark_price{wallet}
    or xt_position_liquidation_price{wallet,side="short"} / xt_position_mark_price{wallet} - 1
)"""
# NaN for a position that the exchange never liquidates. The panels show NaN as a text.
NEVER_LIQUIDATED = "(xt_position_mark_price{wallet} unless xt_position_liquidation_price{wallet}) * NaN"
FUTURES_ENABLED = "xt_positions_up{wallet}"
# NaN if no selected wallet has its positions read.
FUTURES_OFF = f"(sum(xt_up{{wallet}}) * NaN unless on () ({FUTURES_ENABLED} or {EXPORTERS_DOWN}))"
POSITIONS_MISSING = f"(({FUTURES_ENABLED} unless xt_positions{{wallet}}) or {EXPORTERS_DOWN})"

# ---- The fleet

# 0 for a wallet that was fresh in all of the shown time, 1 if it was held, 2 if it was unknown, and between them if both.
# Functions of ranges cost less than a state at each step.
SHOWN = "{wallet}[$__range] @ end()"
TROUBLE = f"""
    2 - avg_over_time(xt_up{SHOWN})
    - (count_over_time(xt_currencies{SHOWN}) or 0 * count_over_time(xt_up{SHOWN})) / count_over_time(xt_up{SHOWN})
"""
WORST_ACCOUNTS = f"topk(30, max by (account) (min by (account, wallet) ({TROUBLE})) > 0)"
# The state of the account's worst wallet. A wallet has its best state if several exporters watch it.
WORST_UP = f"(xt_up{{wallet}} and on (account) {WORST_ACCOUNTS})"
WORST_STATES = f"""
    max by (account) (min by (account, wallet) (((1 - {WORST_UP}) and xt_currencies{{wallet}}) or 2 + 0 * {WORST_UP}))
"""
ADDRESS_USE = 'xt_rate_limit_calls{target,scope="address"} / xt_rate_limit_capacity{target,scope="address"}'
BUSIEST_ADDRESSES = f"topk(20, max by (instance, egress) ({ADDRESS_USE.replace('}', '} @ end()')}))"
# A second passes between two scrapes many times, so only the peak of a while says how close a key came to its limit.
KEY_PEAK = 'max_over_time(xt_rate_limit_calls{account,scope="key"}[15m])'
KEY_USE = f'{KEY_PEAK} / xt_rate_limit_capacity{{account,scope="key"}}'
WORST_KEYS = f"topk(20, max by (account) ({KEY_USE}))"
# The number of shards with an exporter, and the label `shards`: the number that there should be.
SHARDS = "count by (shards) (group by (shard, shards) (xt_shard_info{target}))"
SHARDS_WANTED = "on () group_left () max(xt_shards{target})"
