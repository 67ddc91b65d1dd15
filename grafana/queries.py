"""PromQL expressions that several panels share, and the label matchers that the dashboard variables fill in.

Knows metric names and PromQL. Must not know how Grafana shows an answer.

An unknown value must look unknown. So: a count is 0 only if Prometheus knows the counted series; otherwise the query
returns nothing. A sum is empty while a part of it is missing.
"""

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
    """The same expression of gauges, `duration` earlier."""
    for name in MATCHERS:
        expr = expr.replace("{%s}" % name, "{%s} offset %s" % (name, duration))
    return expr


# 0 fresh, 1 held, 2 unknown.
STATE = """
    ((1 - xt_up{wallet}) and xt_currencies{wallet})
    or
    (2 + 0 * xt_up{wallet} unless xt_currencies{wallet})
"""
DATA_AGE = "time() - (xt_last_success_timestamp_seconds{wallet} > 0)"
TOTAL = "(xt_balance_free{currency} + xt_balance_frozen{currency})"
# Returns a series while a selected wallet is unknown or an exporter is down: a sum over wallets would be too small.
PART_MISSING = "((xt_up{wallet} unless xt_currencies{wallet}) or up{target} == 0)"
# Joins a recorded series of a balance with the selected exporters: one series for each exporter, or one for all of them.
FOR_EACH_EXPORTER = "0 * xt_balance_free_threshold{currency} + on (account, wallet, currency) group_left ()"
IF_SELECTED = "and on (account, wallet, currency) xt_balance_free_threshold{currency}"
RUNWAY_SECONDS = "account_wallet_currency:xt_balance_free:runway_seconds{currency_only}"
DECREASE = "account_wallet_currency:xt_balance_free:fall30m{currency_only}"
# NaN: the balance is known and does not fall. The panels show NaN as a text.
RUNWAY = f"{FOR_EACH_EXPORTER} ({RUNWAY_SECONDS} or {DECREASE} * NaN)"
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
PRICES_OFF = f"(sum(xt_up{{account}}) * NaN unless on () ({PRICES_ENABLED} or up{{target}} == 0))"
# Returns a series while the worth of a selected account is incomplete: a wallet or the prices are unknown.
WORTH_MISSING = "((xt_up{account} unless xt_unpriced_currencies{account}) or up{target} == 0)"
