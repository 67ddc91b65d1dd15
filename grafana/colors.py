"""Colours of lines: an account, and a currency, has the same colour in every panel of every dashboard.

A colour comes from the name, because Grafana's palettes give every panel its own order and contain red. Lines of the same
colour differ in their shade. Knows the order of words in legends. Must not know a query.
"""

import string

# Green, orange, red and grey are judgements: no line has them. tests/it/dashboard_json.rs checks the hues.
BLUE = "#3274D9"
LINE_COLORS = [BLUE, "#0E9C94", "#A352CC", "#8F8F2E", "#33B5E5", "#C644A4", "#6F63E0"]
CURRENCY_COLORS = {
    "usdt": BLUE,
    "btc": "#8F8F2E",
    "eth": "#A352CC",
    "usdc": "#33B5E5",
    "sol": "#0E9C94",
    "xrp": "#C644A4",
    "usd": "#6F63E0",
}


def share(characters, place):
    """The characters that share the colour at a place of LINE_COLORS."""
    return characters[place :: len(LINE_COLORS)]


# The letters in an order that gives frequent first letters different colours.
LETTERS = "stmcapbdhrefgliwnouvkjyqxz"
# For legends that begin with an account, an instance or another name. The digit at the end of the name decides (desk-7,
# 10.0.0.7:9744), or else its first letter. A name of other characters has the colour of the panel.
BY_FIRST_WORD = [
    (rf"/^([^\s:]*[{share(string.digits, place)}]|[{share(LETTERS, place)}]([^\s:]*[^\s\d:])?)(:\d+)?(\s|$)/i", color)
    for place, color in enumerate(LINE_COLORS)
]
# For legends that end with the currency. The last matching rule wins.
BY_CURRENCY = [
    *((rf"/[{share(string.digits + LETTERS, place)}]$/i", color) for place, color in enumerate(LINE_COLORS)),
    *((rf"/(^|\s){currency}$/i", color) for currency, color in CURRENCY_COLORS.items()),
]
