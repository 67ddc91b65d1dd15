"""States and data age of a wallet, as the dashboards show them."""

from panels import GREY, thresholds, value_texts

WALLET_LABELS = "{{account}} {{wallet}}"
CURRENCY_LABELS = f"{WALLET_LABELS} {{{{currency}}}}"
PER_WALLET = ["exporter", "account", "wallet"]
PER_CURRENCY = [*PER_WALLET, "currency"]
# The values of queries.STATE.
STATES = value_texts({0: ("fresh", "green"), 1: ("held", "orange"), 2: ("unknown", GREY)})
# With default settings the age stays below a minute, and balances become unknown at 90 s.
DATA_AGE_LEVELS = thresholds((0, "green"), (60, "orange"), (90, "red"))
