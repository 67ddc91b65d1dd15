#!/usr/bin/env python3
"""The source of the two Grafana dashboards: what they ask, in which order, and how it is shown.

    grafana/dashboards.py            writes xt-balances.json and xt-exporter.json
    grafana/dashboards.py --check    fails if they are not what this file says

Knows PromQL and Grafana's classic dashboard JSON, and nothing else: it asks no server. A new panel is one call in
`balances` or `exporter`; widths and heights are given, places are not.

Whatever is not known must look unknown. So: what is true now is asked at one moment (an instant query), never taken from
the last point of a line; gaps in a line stay gaps; no value is shown as a grey `unknown`, never as 0; a count of nothing
is 0 only where the things counted are known; and no sum is shown while a part of it is missing.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "xt-balance-exporter"

# What the variables choose. In a query, {wallet} after a metric stands for the matchers of a wallet, and so on. Recorded
# metrics have no target labels: they take {of_wallet}, and an `and on` with a metric of the chosen exporters.
TARGET = 'job=~"$job",instance=~"$instance"'
ACCOUNT = TARGET + ',account=~"$account"'
WALLET = ACCOUNT + ',wallet=~"$wallet"'
CURRENCY = WALLET + ',currency=~"$currency"'
OF_ACCOUNT = 'account=~"$account"'
OF_WALLET = OF_ACCOUNT + ',wallet=~"$wallet"'
OF_CURRENCY = OF_WALLET + ',currency=~"$currency"'
SCOPES = {
    "target": TARGET,
    "account": ACCOUNT,
    "wallet": WALLET,
    "currency": CURRENCY,
    "of_account": OF_ACCOUNT,
    "of_wallet": OF_WALLET,
    "of_currency": OF_CURRENCY,
}

UNKNOWN = {"text": "unknown", "color": "#8e8e8e"}


def promql(text):
    """A query with its scopes spelt out, on one line."""
    for name, matchers in SCOPES.items():
        text = text.replace("{%s}" % name, "{%s}" % matchers).replace("{%s," % name, "{%s," % matchers)
    return " ".join(text.split())


# ---- What is asked in more than one place

# 0 fresh, 1 held, 2 unknown.
STATE = """
    ((1 - xt_up{wallet}) and xt_currencies{wallet})
    or
    (2 + 0 * xt_up{wallet} unless xt_currencies{wallet})
"""
AGE = "time() - (xt_last_success_timestamp_seconds{wallet} > 0)"
TOTAL = "(xt_balance_free{currency} + xt_balance_frozen{currency})"
# True while a wallet that was chosen is unknown or an exporter is down: then a sum over wallets is not known.
PART_MISSING = "((xt_up{wallet} unless xt_currencies{wallet}) or up{target} == 0)"
# Joins a recorded metric of a balance with the chosen exporters: a series for each exporter, and one for all of them.
EACH_EXPORTER = "0 * xt_balance_free_threshold{currency} + on (account, wallet, currency) group_left ()"
OF_CHOSEN = "and on (account, wallet, currency) xt_balance_free_threshold{currency}"
RUNWAY_SECONDS = "account_wallet_currency:xt_balance_free:runway_seconds{of_currency}"
FALL = "account_wallet_currency:xt_balance_free:fall30m{of_currency}"
# NaN, shown in words: the balance is known, and it is not falling.
RUNWAY = f"{EACH_EXPORTER} ({RUNWAY_SECONDS} or {FALL} * NaN)"
PACE = f"""
    {EACH_EXPORTER} (0 - 2 * quantile_over_time(0.5, {FALL}[3h]))
    and xt_balance_free{{currency}}
"""
FAILING = "account_wallet:xt_poll_failures:ratio_rate15m{of_wallet} and on (account, wallet) xt_up{wallet}"
WORTH_OF_ACCOUNT = "account:xt_worth_usdt:sum{of_account}"
# There wherever the configuration asks for prices, also while there are none.
PRICES_ASKED = "xt_price_last_success_timestamp_seconds{target}"
PRICES = 'xt_price{target,quote="usdt"}'
# NaN, shown in words, where none of the exporters asks for prices.
PRICES_OFF = f"(sum(xt_up{{account}}) * NaN unless on () ({PRICES_ASKED} or up{{target}} == 0))"
# True while what an account that was chosen holds cannot be valued whole: a wallet, or the prices, are unknown.
WORTH_MISSING = "((xt_up{account} unless xt_unpriced_currencies{account}) or up{target} == 0)"

# ---- How a value is shown


def values(**texts):
    """Mappings of whole numbers: values(_0=("fresh", "green"))."""
    options = {
        key[1:]: {"text": text, "color": color, "index": place}
        for place, (key, (text, color)) in enumerate(texts.items())
    }
    return {"type": "value", "options": options}


def special(match, text, color):
    return {"type": "special", "options": {"match": match, "result": {"text": text, "color": color}}}


def between(low, high, text, color):
    return {"type": "range", "options": {"from": low, "to": high, "result": {"text": text, "color": color}}}


NO_VALUE = special("null", **UNKNOWN)
STATES = values(_0=("fresh", "green"), _1=("held", "orange"), _2=("unknown", "#8e8e8e"))
NOT_FALLING = special("nan", "not falling", "green")
BELOW = between(None, 0, "below threshold", "red")
NO_PRICE = special("nan", "no price", "orange")
NOT_ASKED = special("nan", "prices are off", UNKNOWN["color"])


def steps(*above, base="text"):
    """Colours from values upward. What is below the first, and what has no value, gets `base`."""
    return {
        "mode": "absolute",
        "steps": [{"color": base, "value": None}] + [{"color": color, "value": value} for value, color in above],
    }


# No more than a minute is what the exporter's defaults give; from 90 s on it calls a balance unknown.
AGES = steps((0, "green"), (60, "orange"), (90, "red"))
NONE_IS_GOOD = steps((0, "green"), (1, "red"))
RUNWAYS = steps((0, "red"), (21600, "orange"), (86400, "green"), base="red")
PLAIN = steps()

AMOUNT = {"unit": "locale", "decimals": 8}
WORTH = {"unit": "locale", "decimals": 2}
# For a panel that has no words of its own for it.
NO_WORTH = "unknown, or prices are off"

# ---- Panels


def query(expr, legend="", ref="A", *, instant=False, form="time_series"):
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": promql(expr),
        "legendFormat": legend,
        "instant": instant,
        "range": not instant,
        "format": form,
    }


def panel(kind, title, description, size, targets, *, defaults, options, overrides=(), **more):
    width, height = size
    defaults = {"mappings": [], "thresholds": PLAIN, **defaults}
    return {
        "type": kind,
        "title": title,
        "description": " ".join(description.split()),
        "datasource": DATASOURCE,
        "gridPos": {"h": height, "w": width, "x": 0, "y": 0},
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": targets,
        **more,
    }


def stat(
    title, description, expr, *, size=(4, 4), unit="none", thresholds=NONE_IS_GOOD, mappings=(), decimals=None
):
    """One number, as it is now."""
    defaults = {
        "unit": unit,
        "noValue": UNKNOWN["text"],
        "mappings": [NO_VALUE, *mappings],
        "thresholds": thresholds,
        "color": {"mode": "thresholds"},
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "colorMode": "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "percentChangeColorMode": "standard",
        "reduceOptions": {"calcs": ["last"], "fields": "", "values": False},
        "showPercentChange": False,
        "textMode": "value",
        "wideLayout": True,
    }
    return panel("stat", title, description, size, [query(expr, instant=True)], defaults=defaults, options=options)


def column(expr, name, *, unit="none", mappings=(), thresholds=None, decimals=None, bar=None):
    """A column of a table: a query that keeps the labels of the rows. `bar` is the end of a bar."""
    properties = [{"id": "unit", "value": unit}]
    if decimals is not None:
        properties.append({"id": "decimals", "value": decimals})
    properties.append({"id": "mappings", "value": [NO_VALUE, *mappings]})
    properties.append({"id": "noValue", "value": UNKNOWN["text"]})
    if thresholds:
        properties.append({"id": "thresholds", "value": thresholds})
        properties.append({"id": "color", "value": {"mode": "thresholds"}})
    if bar:
        cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "color"}
        properties += [{"id": "custom.cellOptions", "value": cell}, {"id": "min", "value": 0}, {"id": "max", "value": bar}]
    elif thresholds or mappings:
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    return {"expr": expr, "override": {"matcher": {"id": "byName", "options": name}, "properties": properties}}


def table(title, description, size, labels, columns, *, sort, link=None, always=None, no_value=UNKNOWN["text"]):
    """A row for each set of `labels`, a column for each query, all asked for the same moment. `always` names the
    column, if not the first, that has a value wherever there is a row. `no_value` stands there when there is no row."""
    references = "ABCDEFGHIJ"
    by = ", ".join(labels)
    targets, names, overrides = [], {}, []
    for ref, col in zip(references, columns):
        targets.append(query(f"max by ({by}) ({col['expr']})", ref=ref, instant=True, form="table"))
        names[f"Value #{ref}"] = col["override"]["matcher"]["options"]
        overrides.append(col["override"])
    # Grafana leaves out the letter if only one query finds something: then it is this one.
    names["Value"] = always or columns[0]["override"]["matcher"]["options"]
    # What tells exporters apart comes last: a phone shows the first columns only.
    order = [label for label in labels if label != "instance"]
    order += [*names, *(label for label in labels if label == "instance")]
    names = {**{label: label.capitalize() for label in labels}, **names}
    if link:
        on = {"matcher": {"id": "byName", "options": "Account"}, "properties": [{"id": "links", "value": [link]}]}
        overrides.append(on)
    organize = {
        "excludeByName": {"Time": True},
        "includeByName": {},
        "indexByName": {name: place for place, name in enumerate(["Time", *order])},
        "renameByName": names,
    }
    defaults = {
        "unit": "none",
        "noValue": no_value,
        "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False},
    }
    options = {"cellHeight": "sm", "frameIndex": 0, "showHeader": True, "sortBy": [sort]}
    transformations = [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}]
    return panel(
        "table",
        title,
        description,
        size,
        targets,
        defaults=defaults,
        options=options,
        overrides=overrides,
        transformations=transformations,
    )


def lines(
    title, description, size, targets, *, unit, limits=None, style="dashed", draw=None, overrides=(), right=True, **more
):
    """Lines over time. They break where nothing was known, and the legend names no last value, which may be long past."""
    custom = {
        "drawStyle": "line",
        "fillOpacity": 0,
        "insertNulls": False,
        "lineInterpolation": "stepAfter",
        "lineWidth": 2,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "none"},
        "thresholdsStyle": {"mode": style if limits else "off"},
        **(draw or {}),
    }
    defaults = {
        "unit": unit,
        "noValue": more.pop("no_value", UNKNOWN["text"]),
        "color": {"mode": "palette-classic"},
        "custom": custom,
    }
    if limits:
        defaults["thresholds"] = limits
    for key in ("min", "max", "decimals"):
        if key in more:
            defaults[key] = more.pop(key)
    options = {
        "legend": {
            "calcs": [],
            "displayMode": "list",
            "placement": "right" if right else "bottom",
            "showLegend": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel(
        "timeseries", title, description, size, targets, defaults=defaults, options=options, overrides=overrides, **more
    )


BARS = {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0}


def heatmap(title, description, expr, size):
    """How often which bucket of a histogram was hit, over time."""
    scheme = {"exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "reverse": False, "scale": "exponential"}
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {**scheme, "scheme": "Oranges", "steps": 64},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": "s"},
    }
    defaults = {"unit": "short", "noValue": UNKNOWN["text"]}
    targets = [query(expr, "{{le}}", form="heatmap")]
    return panel("heatmap", title, description, size, targets, defaults=defaults, options=options)


def lines_of_state():
    """The state of each wallet over time, as bands."""
    defaults = {
        "unit": "none",
        "noValue": UNKNOWN["text"],
        "mappings": [STATES],
        "color": {"mode": "thresholds"},
        "custom": {"fillOpacity": 75, "lineWidth": 0},
    }
    options = {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "never",
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel(
        "state-timeline",
        "How did each wallet stand?",
        """Fresh: the last poll was good. Held: it failed, and the last good answer is shown while it is young enough. Unknown: too
        old to be shown. Nothing drawn: the exporter was not scraped.""",
        (24, 9),
        [query(STATE, TWO)],
        defaults=defaults,
        options=options,
    )


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "gridPos": {"h": 1, "w": 24, "x": 0, "y": 0}, "panels": []}


def laid_out(panels):
    """Gives each panel its id and its place: from left to right, and below when a line is full."""
    x = y = height = 0
    for number, each in enumerate(panels, start=1):
        place = each["gridPos"]
        if x + place["w"] > 24 or each["type"] == "row":
            x, y, height = 0, y + height, 0
        place["x"], place["y"] = x, y
        x, height = x + place["w"], max(height, place["h"])
        each["id"] = number
    return panels


# ---- Variables and what stands around the panels


def variable(name, label_values, *, hidden=False):
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": f"label_values({promql(label_values)}, {'currency' if name == 'watched' else name})",
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 2 if hidden else 0,
        "options": [],
        "regex": "",
    }


def dashboard(uid, title, description, hours, variables, panels):
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {"selected": False, "text": "default", "value": "default"},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }
    alerts = {
        "name": "Firing alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "target": {
            "refId": "Alerts",
            "expr": promql('ALERTS{alertname=~"Xt.+",alertstate="firing",account=~"|$account"}'),
            "interval": "60s",
        },
        "titleFormat": "{{alertname}}",
        "textFormat": "{{account}} {{wallet}} {{currency}}",
        "tagKeys": "severity",
    }
    links = {
        "title": "XT dashboards",
        "type": "dashboards",
        "tags": [TAG],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "The same accounts and time in the other dashboard",
        "url": "",
    }
    return {
        "id": None,
        "uid": uid,
        "title": title,
        "description": " ".join(description.split()),
        "tags": [TAG],
        "version": 1,
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": f"now-{hours}h", "to": "now"},
        "timepicker": {"refresh_intervals": ["15s", "30s", "1m", "5m", "15m"]},
        "refresh": "30s",
        "links": [links],
        "annotations": {"list": [alerts]},
        "templating": {"list": [source, *variables]},
        "panels": laid_out(panels),
    }


CHOICE = [
    variable("job", "xt_up"),
    variable("instance", 'xt_up{job=~"$job"}'),
    variable("account", "xt_up{target}"),
    variable("wallet", "xt_up{account}"),
]


def other(dashboard, title):
    """From a row of a table to the same account in another dashboard."""
    variables = "${datasource:queryparam}&${job:queryparam}&${instance:queryparam}&var-account=${__data.fields.Account}"
    return {"title": title, "url": f"/d/{dashboard}?{variables}&${{__url_time_range}}"}


# ---- The dashboards

THREE = "{{account}} {{wallet}} {{currency}}"
TWO = "{{account}} {{wallet}}"
ROW_OF_WALLET = ["instance", "account", "wallet"]
ROW_OF_CURRENCY = [*ROW_OF_WALLET, "currency"]


def balances():
    known = "Unknown if the exporter cannot be scraped."
    top = [
        stat(
            "Data age",
            f"""Age of the oldest data on this page: the time since the last good poll of the wallet that has waited
            longest. By default up to 45 s is normal and from 90 s on its balances are unknown. A wallet that was never
            read has no age: the table of wallets shows it. {known}""",
            f"max({AGE})",
            unit="s",
            thresholds=AGES,
            decimals=0,
        ),
        stat(
            "Watched, unknown",
            f"Balances with a threshold whose amount is not known now. They may have run out. {known}",
            """count(xt_balance_free_threshold{currency} unless xt_balance_free{currency})
            or 0 * count(xt_balance_free_threshold{currency})""",
        ),
        stat(
            "Watched, low",
            f"""Balances below their threshold, among those that are known. {known}""",
            """count(xt_balance_free{currency} < xt_balance_free_threshold{currency})
            or 0 * count(xt_balance_free{currency} and xt_balance_free_threshold{currency})""",
        ),
        stat(
            "Shortest runway",
            """Time until the first watched balance is at its threshold, at its pace of the last three hours, counting those that
            are falling. Needs the recording rules, and half an hour of data.""",
            f"min(clamp_min({RUNWAY_SECONDS}, 0) {OF_CHOSEN}) or min({FALL} {OF_CHOSEN}) * NaN",
            unit="s",
            thresholds=RUNWAYS,
            mappings=[values(_0=("below threshold", "red")), special("nan", "none falling", "green")],
        ),
        stat(
            "Watched, no row",
            """Watched currencies that the exchange's last good answer left out, so that they read 0: empty, or not spelt as
            the exchange spells them. Unknown while no wallet is known.""",
            "count(xt_watch_present{currency} == 0) or 0 * count(xt_watch_present{currency})",
            thresholds=steps((0, "green"), (1, "orange")),
        ),
        stat(
            "Exporters down",
            "Exporters that Prometheus cannot scrape. Nothing that they watch is on this page.",
            "count(up{target} == 0) or 0 * count(up{target})",
        ),
        table(
            "Which numbers can be trusted?",
            """Each wallet: fresh (the last poll was good), held (the last poll failed, the last good answer is young enough to
            be shown) or unknown (too old, its balances are not shown anywhere), and when it was read. Click an account for
            its polls.""",
            (24, 8),
            ROW_OF_WALLET,
            [
                column(STATE, "State", mappings=[STATES]),
                column(AGE, "Data age", unit="s", thresholds=AGES, decimals=0),
                column("xt_currencies{wallet}", "Currencies listed"),
            ],
            sort={"displayName": "State", "desc": True},
            link=other("xt-exporter", "Polls of this account"),
        ),
    ]
    low = [
        row("What is low?"),
        table(
            "Watched balances",
            """Every balance with a threshold, the worst first. Free and runway are unknown while the wallet is. The runway is
            the time until the threshold at the pace of the last three hours, the pace the median of the half-hourly changes:
            both need the recording rules.""",
            (24, 9),
            ROW_OF_CURRENCY,
            [
                column("xt_balance_free{currency} / xt_balance_free_threshold{currency}", "Of threshold", unit="percentunit",
                       thresholds=steps((0, "red"), (1, "green")), bar=3, decimals=0),
                column("xt_balance_free{currency} and xt_balance_free_threshold{currency}", "Free", **AMOUNT),
                column("xt_balance_free_threshold{currency}", "Threshold", **AMOUNT),
                column(RUNWAY, "Runway", unit="s", mappings=[NOT_FALLING, BELOW], thresholds=RUNWAYS),
                column(PACE, "Change an hour", **AMOUNT),
            ],
            sort={"displayName": "Of threshold", "desc": False},
            always="Threshold",
        ),
        lines(
            "How far is each watched balance from its threshold?",
            """Free amount as a share of its threshold. At 100 % the warning begins, at 50 % the page. A gap is time in which the
            balance was unknown.""",
            (24, 9),
            [query("xt_balance_free{currency} / xt_balance_free_threshold{currency}", THREE)],
            unit="percentunit",
            limits=steps((0, "red"), (0.5, "orange"), (1, "transparent"), base="transparent"),
            style="line+area",
            min=0,
        ),
        lines(
            "Free $watched, with its threshold",
            """Amounts in the currency itself, each step of the axis ten times the one below, with the thresholds dashed. A gap is time
            in which the balance was unknown, while its threshold is always known.""",
            (12, 8),
            [
                query('xt_balance_free{currency,currency=~"$watched"} and xt_balance_free_threshold{currency}', TWO),
                query('xt_balance_free_threshold{currency,currency=~"$watched"}', f"{TWO} threshold", "B"),
            ],
            **AMOUNT,
            # Like a logarithm, but with a place for 0.
            draw={"scaleDistribution": {"type": "symlog", "log": 10, "linearThreshold": 0.01}},
            overrides=[
                {
                    "matcher": {"id": "byFrameRefID", "options": "B"},
                    "properties": [
                        {"id": "custom.lineStyle", "value": {"dash": [10, 10], "fill": "dash"}},
                        {"id": "custom.lineWidth", "value": 1},
                        {"id": "color", "value": {"fixedColor": "red", "mode": "shades"}},
                    ],
                }
            ],
            right=False,
            repeat="watched",
            repeatDirection="h",
            maxPerRow=2,
        ),
    ]
    burn = [
        row("How fast does it burn?"),
        lines(
            "When is each watched balance at its threshold?",
            """Runway at the pace of the last three hours; 0 from the threshold down, 2 days if it is longer. A balance that is not
            falling, or is unknown, has no line. XtBalanceDraining fires under 6 hours. Needs the recording rules.""",
            (12, 9),
            [query(f"clamp({RUNWAY_SECONDS}, 0, 172800) {OF_CHOSEN}", THREE)],
            unit="s",
            limits=steps((0, "red"), (21600, "transparent"), base="transparent"),
            style="line+area",
            min=0,
            max=172800,
            right=False,
        ),
        lines(
            "What did the last half hour cost?",
            """What each watched balance lost in the half hour before, as a share of its threshold; below 0 it grew, and a top-up
            leaves the panel at the bottom for half an hour. Needs the recording rules.""",
            (12, 9),
            [
                query(
                    f"{FALL} / account_wallet_currency:xt_balance_free_threshold:max{{of_currency}} {OF_CHOSEN}",
                    THREE,
                )
            ],
            unit="percentunit",
            min=-0.5,
            right=False,
        ),
    ]
    frozen = [
        row("What is frozen?"),
        lines(
            "How much of each watched balance is frozen?",
            """Frozen in orders or withdrawals, as a share of free and frozen together. A gap: unknown, or nothing held.""",
            (12, 9),
            [query(f"(xt_balance_frozen{{currency}} and xt_balance_free_threshold{{currency}}) / ({TOTAL} > 0)", THREE)],
            unit="percentunit",
            min=0,
            max=1,
            right=False,
        ),
        table(
            "Frozen now",
            """Everything of which something is frozen. Stuck: to the last digit the same for 6 hours, which an order that rests,
            or a withdrawal that hangs, looks like; unknown for what was not known 6 hours ago.""",
            (12, 9),
            ROW_OF_CURRENCY,
            [
                column("xt_balance_frozen{currency} > 0", "Frozen", **AMOUNT),
                column(f"(xt_balance_frozen{{currency}} > 0) / {TOTAL}", "Share", unit="percentunit", decimals=0),
                column(
                    """((changes(xt_balance_frozen{currency}[6h]) == bool 0) and xt_balance_frozen{currency} > 0)
                    and xt_balance_frozen{currency} offset 6h""",
                    "Stuck",
                    mappings=[values(_0=("no", "green"), _1=("6 h", "orange"))],
                ),
            ],
            sort={"displayName": "Share", "desc": True},
        ),
    ]
    held = [
        row("What do we hold?"),
        table(
            "Holdings",
            """Every balance that is not zero. A wallet that is unknown has no rows here. Changes are of free and frozen together,
            so that placing an order changes nothing; unknown for what was not known then.""",
            (24, 12),
            ROW_OF_CURRENCY,
            [
                column(f"{TOTAL} > 0", "Total", **AMOUNT),
                column(f"xt_balance_free{{currency}} and {TOTAL} > 0", "Free", **AMOUNT),
                column(f"xt_balance_frozen{{currency}} and {TOTAL} > 0", "Frozen", **AMOUNT),
                column(f"({TOTAL} - {earlier('1h', TOTAL)}) and {TOTAL} > 0", "Change in 1 h", **AMOUNT),
                column(f"({TOTAL} - {earlier('1d', TOTAL)}) and {TOTAL} > 0", "Change in 24 h", **AMOUNT),
            ],
            sort={"displayName": "Account", "desc": False},
        ),
        table(
            "Held in all wallets together",
            """Sums over the chosen wallets, by currency. No sum is shown while one of them is unknown or an exporter is down: it
            would be too small.""",
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
            sort={"displayName": "Wallets", "desc": True},
        ),
        lines(
            "What did we gain or lose in a day?",
            """Free and frozen of all chosen wallets together, against the same a day earlier, for currencies that have a threshold in
            one of them. A gap: one of the wallets was unknown, or an exporter down, then or a day before.""",
            (12, 9),
            [
                query(
                    f"""(sum by (currency) ({TOTAL}) / (sum by (currency) ({earlier("1d", TOTAL)}) > 0) - 1
                    and on (currency) xt_balance_free_threshold{{currency}})
                    unless on () {PART_MISSING}
                    unless on () {earlier("1d", PART_MISSING)}""",
                    "{{currency}}",
                )
            ],
            unit="percentunit",
            right=False,
        ),
    ]
    price_of = f"ignoring (account, wallet, quote) group_left () {PRICES}"
    no_price = f"({TOTAL} > 0) * NaN and on (job, instance) {PRICES}"
    worth = [
        row("What is it worth?"),
        stat(
            "Worth of the chosen accounts in USDT",
            """Free and frozen in all wallets of these accounts, whichever are chosen above, at the prices of the exchange. Unknown
            while one of the wallets or the prices are, or an exporter is down: it would be too small. What has no price is left
            out. An account that two exporters watch counts once. Needs the recording rules.""",
            f"sum({WORTH_OF_ACCOUNT} and on (account) xt_up{{account}}) unless on () {WORTH_MISSING} or {PRICES_OFF}",
            size=(8, 4),
            thresholds=PLAIN,
            mappings=[NOT_ASKED],
            **WORTH,
        ),
        stat(
            "Holdings without a price",
            """Currencies of these wallets that have no market against USDT, or whose row is unusable: they are in no worth on this
            page. Unknown while one of the wallets or the prices are.""",
            f"sum(xt_unpriced_currencies{{account}}) unless on () {WORTH_MISSING} or {PRICES_OFF}",
            size=(8, 4),
            thresholds=steps((0, "green"), (1, "orange")),
            mappings=[NOT_ASKED],
        ),
        stat(
            "Age of the prices",
            """Time since prices were read, of the exporter that has waited longest. By default up to 45 s is normal and from 90 s
            on the prices are unknown. Unknown if one of the exporters has read none yet, or is down.""",
            f"max(time() - {PRICES_ASKED}) unless on () ({PRICES_ASKED} == 0 or up{{target}} == 0) or {PRICES_OFF}",
            size=(8, 4),
            unit="s",
            thresholds=AGES,
            mappings=[NOT_ASKED],
            decimals=0,
        ),
        lines(
            "What is each account worth?",
            """In USDT, each step of the axis ten times the one below. A gap: one of its wallets or the prices were unknown, or the
            exporter down. What has no price is left out: a step down beside a step up in the next panel is no loss. An account that
            holds nothing else has no line. Needs the recording rules.""",
            (16, 9),
            [query(f"{WORTH_OF_ACCOUNT} and on (account) xt_up{{account}}", "{{account}}")],
            unit="locale",
            decimals=0,
            no_value=NO_WORTH,
            draw={"scaleDistribution": {"type": "symlog", "log": 10, "linearThreshold": 1}},
            right=False,
        ),
        lines(
            "How many currencies had no price?",
            "In each wallet. A gap: the wallet or the prices were unknown, or the exporter down.",
            (8, 9),
            [query("xt_unpriced_currencies{wallet}", TWO)],
            unit="short",
            min=0,
            no_value=NO_WORTH,
            right=False,
        ),
        table(
            "What is each currency worth?",
            """Everything that is held, free and frozen together, at its price in USDT. No price: there is no market against USDT. Worth
            and price are unknown while the prices are. A wallet that is unknown has no rows here, and while it is, no share of
            its account is known; shares need the recording rules.""",
            (24, 12),
            ROW_OF_CURRENCY,
            [
                column(f"{TOTAL} * {price_of} > 0 or {no_price}", "Worth", mappings=[NO_PRICE], **WORTH),
                column(
                    f"({TOTAL} * {price_of} > 0) / on (account) group_left () {WORTH_OF_ACCOUNT}",
                    "Of account",
                    unit="percentunit",
                    thresholds=steps((0, "blue")),
                    bar=1,
                    decimals=0,
                ),
                column(f"0 * ({TOTAL} > 0) + {price_of} or {no_price}", "Price", mappings=[NO_PRICE], **AMOUNT),
                column(f"{TOTAL} > 0 and on (job, instance) {PRICES_ASKED}", "Amount", **AMOUNT),
            ],
            sort={"displayName": "Worth", "desc": True},
            always="Amount",
            no_value=NO_WORTH,
        ),
    ]
    return dashboard(
        "xt-balances",
        "XT balances",
        """What is held on the exchange, what is low, how fast it burns, what is frozen and what it is worth. Every number was
        read from the exchange; what is not known is shown as unknown.""",
        6,
        [
            *CHOICE,
            variable("currency", '{__name__=~"xt_balance_free|xt_balance_free_threshold",%s}' % WALLET),
            variable("watched", "xt_balance_free_threshold{currency}", hidden=True),
        ],
        [*top, *low, *burn, *frozen, *held, *worth],
    )


def earlier(time, expr):
    """What an expression of gauges was then."""
    for scope in SCOPES:
        expr = expr.replace("{%s}" % scope, "{%s} offset %s" % (scope, time))
    return expr


def exporter():
    well = [
        stat(
            "Exporters down",
            "Exporters that Prometheus cannot scrape. All that they watch is unknown.",
            "count(up{target} == 0) or 0 * count(up{target})",
        ),
        stat(
            "Wallets not fresh",
            "Wallets whose last poll failed, or that are unknown. Unknown if the exporter cannot be scraped.",
            f"count(({STATE}) > 0) or 0 * count(xt_up{{wallet}})",
        ),
        stat(
            "Data age",
            """Time since the last good poll of the wallet that has waited longest. By default up to 45 s is normal and from 90 s on
            its balances are unknown. A wallet that was never read has no age: it is in the table below.""",
            f"max({AGE})",
            unit="s",
            thresholds=AGES,
            decimals=0,
        ),
        stat(
            "Worst share of failed polls",
            "Of the wallet with the most failures among its polls of the last 15 minutes. Needs the recording rules.",
            f"max({FAILING})",
            unit="percentunit",
            thresholds=steps((0, "green"), (0.1, "orange"), (0.5, "red")),
            decimals=0,
        ),
        stat(
            "Accounts paused",
            """Accounts for which nothing is sent, because the exchange said that a limit was passed. Polls go on by themselves.""",
            "count(xt_paused_until_timestamp_seconds{account} != 0) or 0 * count(xt_paused_until_timestamp_seconds{account})",
            thresholds=steps((0, "green"), (1, "orange")),
        ),
        stat(
            "Clock skew",
            "The farthest that the clock of an exchange host is from ours, either way. XtClockSkew fires above 2 s.",
            "max(abs(xt_clock_skew_seconds{target}))",
            unit="s",
            thresholds=steps((0, "green"), (1, "orange"), (2, "red")),
        ),
        lines_of_state(),
    ]
    polls = [
        row("Do polls work?"),
        table(
            "Wallets",
            "How each wallet stands, and what its polls of the last 15 minutes came to.",
            (14, 9),
            ROW_OF_WALLET,
            [
                column(STATE, "State", mappings=[STATES]),
                column(AGE, "Data age", unit="s", thresholds=AGES, decimals=0),
                column("increase(xt_polls_total{wallet}[15m]) and xt_up{wallet}", "Polls", decimals=0),
                column(
                    "sum without (reason) (increase(xt_poll_failures_total{wallet}[15m])) and xt_up{wallet}",
                    "Failed",
                    thresholds=NONE_IS_GOOD,
                    decimals=0,
                ),
            ],
            sort={"displayName": "State", "desc": True},
            link=other("xt-balances", "Balances of this account"),
        ),
        table(
            "Why did polls fail?",
            """Failed polls of the last 15 minutes by reason; without rows there were none, or the exporter cannot be scraped. auth
            and signature need a person, see XtAuthFailing; all others pass or are in XtPollFailing.""",
            (10, 9),
            ["account", "wallet", "reason"],
            [column("increase(xt_poll_failures_total{wallet}[15m]) > 0.5", "Failed", thresholds=NONE_IS_GOOD, decimals=0)],
            sort={"displayName": "Failed", "desc": True},
            no_value="none known",
        ),
        lines(
            "Which share of polls fails?",
            "Of the polls of 15 minutes. XtPollFailing fires above 50 %. Needs the recording rules.",
            (12, 8),
            [query(FAILING, TWO)],
            unit="percentunit",
            limits=steps((0.5, "red"), base="transparent"),
            min=0,
            max=1,
            right=False,
        ),
        lines(
            "When did polls fail, and why?",
            "Failed polls of all chosen wallets in each interval, by reason.",
            (12, 8),
            [query("sum by (reason) (increase(xt_poll_failures_total{wallet}[$__rate_interval]))", "{{reason}}")],
            unit="short",
            draw={**BARS, "stacking": {"group": "A", "mode": "normal"}},
            min=0,
            right=False,
        ),
        lines(
            "Does every wallet keep its pace?",
            """Polls ended a minute, good or failed: 2 with the default interval of 30 s. Fewer: a pause, a key that is tried rarely
            because it was refused, or a poller that is stuck.""",
            (24, 8),
            [query("60 * rate(xt_polls_total{wallet}[$__rate_interval])", TWO)],
            unit="cpm",
            min=0,
        ),
    ]
    durations = [
        row("How long do polls take?"),
        heatmap(
            "Polls by duration",
            "How many polls of all chosen wallets took how long, failover and second reads included.",
            "sum by (le) (increase(xt_poll_duration_seconds_bucket{wallet}[$__rate_interval]))",
            (12, 9),
        ),
        lines(
            "How slow are the slow ones?",
            """Nine of ten polls of a wallet took no longer, estimated from the buckets. Near the poll timeout, 10 s by default, polls
            begin to fail.""",
            (12, 9),
            [
                query(
                    """histogram_quantile(0.9,
                    sum by (instance, account, wallet, le) (rate(xt_poll_duration_seconds_bucket{wallet}[$__rate_interval])))""",
                    TWO,
                )
            ],
            unit="s",
            min=0,
            right=False,
        ),
    ]
    exchange = [
        row("Does the exchange behave?"),
        table(
            "Accounts",
            """Whether an account is paused after a limit reply, and until when; and when the key pair in use was read, which is the
            last start or key rotation that worked.""",
            (12, 8),
            ["instance", "account"],
            [
                column(
                    "1000 * xt_paused_until_timestamp_seconds{account}",
                    "Paused until",
                    unit="dateTimeAsIso",
                    mappings=[values(_0=("not paused", "green"))],
                    thresholds=steps((1, "orange")),
                ),
                column("1000 * xt_credentials_loaded_timestamp_seconds{account}", "Key read at", unit="dateTimeAsIso"),
            ],
            sort={"displayName": "Paused until", "desc": True},
        ),
        lines(
            "How long are accounts paused?",
            "Time left of a pause after a limit reply; 0 if not paused. A new pause before the last has ended points at other users of the key.",
            (12, 8),
            [query("clamp_min(xt_paused_until_timestamp_seconds{account} - time(), 0)", "{{account}}")],
            unit="s",
            min=0,
            right=False,
        ),
        lines(
            "How far is the exchange's clock from ours?",
            "Above 0 the exchange is ahead. XtClockSkew fires beyond 2 s either way. A line ends when the exporter no longer asks the host.",
            (12, 8),
            [query("xt_clock_skew_seconds{target}", "{{host}}")],
            unit="s",
            limits=steps((-2, "transparent"), (2, "red"), base="red"),
            draw={"axisSoftMin": -2.5, "axisSoftMax": 2.5},
            right=False,
        ),
        lines(
            "How often is an answer doubted?",
            """Answers that were empty, all zeros or without a watched balance, which the exporter believes only when a second answer
            says the same, and rows that were unusable, in the hour before, of all chosen wallets together. XtSuspectSnapshots
            fires from 3 doubted answers of one wallet on.""",
            (12, 8),
            [
                query("sum(increase(xt_suspect_snapshots_total{wallet}[1h]))", "doubted answers"),
                query("sum(increase(xt_rows_rejected_total{wallet}[1h]))", "unusable rows", "B"),
            ],
            unit="short",
            min=0,
            right=False,
        ),
        lines(
            "Do answers stay complete?",
            "Rows in the last good answer of each wallet, before any filter. A gap: the wallet was unknown.",
            (24, 8),
            [query("xt_currencies{wallet}", TWO)],
            unit="short",
            min=0,
        ),
    ]
    of_build = "xt_exporter_build_info{target} * on (job, instance) group_left () "
    process = [
        row("Is the process well?"),
        table(
            "Builds",
            """What runs where, and since when; when the configuration in force was read, and whether it is the one that was read last:
            XtConfigReloadFailed fires 5 minutes after one that cannot be used.""",
            (24, 5),
            ["instance", "version", "revision", "rustversion"],
            [
                column(of_build + "(1000 * process_start_time_seconds{target})", "Started", unit="dateTimeAsIso"),
                column(
                    of_build + "(1000 * xt_exporter_config_last_reload_success_timestamp_seconds{target})",
                    "Configured",
                    unit="dateTimeAsIso",
                ),
                column(
                    of_build + "xt_exporter_config_last_reload_successful{target}",
                    "Configuration",
                    mappings=[values(_0=("the last one is unusable", "red"), _1=("as it was read last", "green"))],
                ),
            ],
            sort={"displayName": "Instance", "desc": False},
        ),
        lines(
            "Memory",
            "Resident memory. It grows with accounts and currencies, and then stays.",
            (12, 7),
            [query("process_resident_memory_bytes{target}", "{{instance}}")],
            unit="bytes",
            min=0,
            right=False,
        ),
        lines(
            "CPU",
            "Share of one core.",
            (12, 7),
            [query("rate(process_cpu_seconds_total{target}[$__rate_interval])", "{{instance}}")],
            unit="percentunit",
            min=0,
            right=False,
        ),
        lines(
            "File descriptors in use",
            "Share of those that the process may open: scrapes that never end would show here.",
            (12, 7),
            [query("process_open_fds{target} / process_max_fds{target}", "{{instance}}")],
            unit="percentunit",
            min=0,
            right=False,
        ),
        lines(
            "How long do scrapes take?",
            "As Prometheus measured it. A scrape asks no exchange, so this is the network and the size of the page.",
            (12, 7),
            [query("scrape_duration_seconds{target}", "{{instance}}")],
            unit="s",
            min=0,
            right=False,
        ),
    ]
    return dashboard(
        "xt-exporter",
        "XT exporter",
        """Whether the exporter reads the balances as it should: polls and why they fail, how long they take, clock, pauses, and
        the process.""",
        3,
        CHOICE,
        [*well, *polls, *durations, *exchange, *process],
    )


def main():
    built = [balances(), exporter()]
    wrong = []
    for each in built:
        path = FOLDER / f"{each['uid']}.json"
        text = json.dumps(each, indent=2, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(path.name)
    if wrong:
        sys.exit(f"{', '.join(wrong)}: not what grafana/dashboards.py says; run it without --check, or undo the edit")


if __name__ == "__main__":
    main()
