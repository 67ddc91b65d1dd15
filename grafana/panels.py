"""Panels, variables and the frame of a dashboard, built with grafana-foundation-sdk.

Knows Grafana's panel options. Must not know a metric of the exporter, except for the annotation of firing alerts.

An unknown value must look unknown. So: a panel that shows the present sends an instant query and never takes the last
point of a line; a gap in a line stays a gap; a missing value is a grey `unknown`, never 0.

A colour means one thing: green good, orange warning, red an alarm that pages, grey unknown or not available. All other colours are amounts
without judgement. colors.py gives them to lines.
"""

import itertools

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap as heatmap_builders
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import statetimeline as state_timeline_builders
from grafana_foundation_sdk.builders import table as table_builders
from grafana_foundation_sdk.builders import timeseries as time_series_builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from colors import BLUE, BY_FIRST_WORD
from queries import EXPORTER, expand

DATASOURCE = models.DataSourceRef("prometheus", "${datasource}")
TAG = "xt-balance-exporter"
GREY = "#8e8e8e"

# ---- Texts and colours of values


def value_texts(texts):
    """Texts for whole numbers: {0: ("fresh", "green")}."""
    results = {
        str(value): models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return models.ValueMap(options=results)


def special_text(match, text, color):
    """A text for `nan` or `null`."""
    result = models.ValueMappingResult(text=text, color=color)
    return models.SpecialValueMap(options=models.DashboardSpecialValueMapOptions(match, result))


def range_text(low, high, text, color):
    result = models.ValueMappingResult(text=text, color=color)
    return models.RangeMap(options=models.DashboardRangeMapOptions(low, high, result))


UNKNOWN = special_text("null", "unknown", GREY)


def thresholds(*steps, base="text"):
    """Colours from given values upward. `base` colours a value below the first step, and a missing value."""
    levels = [models.Threshold(None, base), *(models.Threshold(value, color) for value, color in steps)]
    return builders.ThresholdsConfig().mode("absolute").steps(levels)


NO_THRESHOLDS = thresholds()
ZERO_OR_ALARM = thresholds((0, "green"), (1, "red"))
ZERO_OR_WARNING = thresholds((0, "green"), (1, "orange"))
BY_THRESHOLD = builders.FieldColor().mode("thresholds")

AMOUNT = {"unit": "locale", "decimals": 8}
WORTH = {"unit": "locale", "decimals": 2}
NO_WORTH = "unknown, or prices are off"

# ---- Panels


def query(expr, legend="", ref_id="A", *, instant=False, result="time_series"):
    target = prometheus.Dataquery().ref_id(ref_id).datasource(DATASOURCE).editor_mode("code")
    target.expr(expand(expr)).legend_format(legend).format(result)
    return target.instant() if instant else target.range()


def with_basics(panel, title, description, size, targets, no_value="unknown"):
    """Sets the properties that every panel has. `size` is width and height on Grafana's grid."""
    width, height = size
    panel.title(title).description(" ".join(description.split())).datasource(DATASOURCE).targets(targets)
    panel.span(width).height(height)
    return panel.unit("none").thresholds(NO_THRESHOLDS).mappings([]).no_value(no_value)


def stat(title, description, *exprs, levels=ZERO_OR_WARNING, mappings=(), no_value="unknown"):
    """The present value of a query. A query with a legend, `(expr, legend)`, also shows its legend."""
    targets = []
    for ref_id, expr in zip("ABC", exprs):
        expr, legend = (expr, "") if isinstance(expr, str) else expr
        targets.append(query(expr, legend, ref_id, instant=True))
    panel = with_basics(stat_builders.Panel(), title, description, (4, 3), targets, no_value)
    return (
        panel.thresholds(levels)
        .mappings([UNKNOWN, *mappings])
        .color_scheme(BY_THRESHOLD)
        .color_mode("value")
        .graph_mode("none")
        .percent_change_color_mode("standard")
        .reduce_options(common.ReduceDataOptions().calcs(["last"]).fields("").values(False))
        .text_mode("value_and_name" if legend else "value")
    )


def column(expr, name, *, unit="none", mappings=(), levels=None, decimals=None, bar_max=None):
    """A column of a table: a query that keeps the labels of the rows. `bar_max`: the cell is a bar up to this value."""
    properties = {"unit": unit}
    if decimals is not None:
        properties["decimals"] = decimals
    properties |= {"mappings": [UNKNOWN, *mappings], "noValue": "unknown"}
    if levels:
        properties |= {"thresholds": levels.build(), "color": BY_THRESHOLD.build()}
    if bar_max:
        cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "color"}
        properties |= {"custom.cellOptions": cell, "min": 0, "max": bar_max}
    elif levels or mappings:
        properties["custom.cellOptions"] = {"type": "color-text"}
    return expr, name, [models.DynamicConfigValue(*item) for item in properties.items()]


def table(title, description, size, labels, columns, *, sort, links=(), first=None, always=None, no_value="unknown"):
    """A row for each set of `labels`, a column for each query; all queries are evaluated at the same moment.

    The label `exporter` is the instance while there are several; otherwise the table has no such column. `sort` is a column's name and whether it descends. `first` names a column that comes before the
    labels. `always` names the column, if not that of the first query, that has a value in every row. `no_value` is the text of a table without rows."""
    by = ", ".join(labels)
    panel, targets, names = table_builders.Panel(), [], {}
    for ref_id, (expr, name, properties) in zip("ABCDEFGHIJ", columns):
        expr = f"({expr}) {EXPORTER}" if "exporter" in labels else expr
        targets.append(query(f"max by ({by}) ({expr})", ref_id=ref_id, instant=True, result="table"))
        names[f"Value #{ref_id}"] = name
        panel.override_by_name(name, properties)
    # Grafana omits the letter if only one query returns something: it is then this one.
    names["Value"] = always or columns[0][1]
    if links:
        panel.override_by_name("Account", [models.DynamicConfigValue("links", [link.build() for link in links])])
    # A phone shows only the first columns.
    judgement = [column for column, name in names.items() if name == first]
    order = [*judgement, *(label for label in labels if label != "exporter")]
    order += [column for column in (*names, *labels) if column not in order]
    if first:
        panel.override_by_name(first, [models.DynamicConfigValue("custom.align", "left")])
    organize = {
        "excludeByName": {"Time": True},
        "includeByName": {},
        "indexByName": {name: index for index, name in enumerate(["Time", *order])},
        "renameByName": {**{label: label.capitalize() for label in labels}, **names},
    }
    sort_name, descending = sort
    return (
        with_basics(panel, title, description, size, targets, no_value)
        .align("auto")
        .min_width(60)
        .cell_options(common_models.TableAutoCellOptions())
        .filterable(True)
        .cell_height("sm")
        .show_header(True)
        .sort_by([common.TableSortByFieldState().display_name(sort_name).desc(descending)])
        .with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(models.DataTransformerConfig(id_val="organize", options=organize))
    )


def legend():
    """A legend without a last value, which may be long past."""
    return common.VizLegendOptions().calcs([]).display_mode("list").placement("bottom").show_legend(True)


def shades_of(color):
    return models.DynamicConfigValue("color", {"fixedColor": color, "mode": "shades"})


def same_color(color):
    return models.DynamicConfigValue("color", {"fixedColor": color, "mode": "fixed"})


def dashed(color):
    """The properties of a line that is a limit."""
    properties = {
        "custom.lineStyle": {"dash": [10, 10], "fill": "dash"},
        "custom.lineWidth": 1,
        "custom.hideFrom": {"legend": True, "tooltip": False, "viz": False},
    }
    return [*(models.DynamicConfigValue(*item) for item in properties.items()), same_color(color)]


def filled(panel):
    """The lines as areas, each on top of the one before."""
    return panel.fill_opacity(60).line_width(0).stacking(common.StackingConfig().group("A").mode("normal"))


def time_series(
    title, description, size, targets, *, levels=None, style="dashed", no_value="unknown", colors=BY_FIRST_WORD
):
    """Lines over time, which break where the value is unknown. `colors` are regular expressions of legends."""
    panel = with_basics(time_series_builders.Panel(), title, description, size, targets, no_value)
    if levels:
        panel.thresholds(levels)
    for legends, color in colors:
        panel.override_by_regexp(legends, [shades_of(color)])
    return (
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(style if levels else "off"))
        .color_scheme(builders.FieldColor().mode("shades").fixed_color(BLUE))
        .draw_style("line")
        .fill_opacity(0)
        .insert_nulls(False)
        .line_interpolation("stepAfter")
        .line_width(2)
        .show_points("auto")
        .span_nulls(False)
        .legend(legend())
        .tooltip(common.VizTooltipOptions().mode("multi").sort("desc"))
    )


def log_scale(linear_below):
    """A logarithmic axis that has a place for 0."""
    return common.ScaleDistributionConfig().type("symlog").log(10).linear_threshold(linear_below)


def heatmap(title, description, size, expr):
    """The buckets of a histogram over time."""
    colors = heatmap_builders.HeatmapColorOptions().mode("scheme").scheme("Blues").fill("dark-blue")
    panel = with_basics(heatmap_builders.Panel(), title, description, size, [query(expr, "{{le}}", result="heatmap")])
    return (
        panel.unit("short")
        .calculate(False)
        .cell_gap(1)
        .color(colors.scale("exponential").exponent(0.5).steps(64))
        .filter_values(heatmap_builders.FilterValueRange().le(1e-9))
        .show_legend()
        .rows_frame(heatmap_builders.RowsHeatmapOptions().layout("auto"))
        .show_value("never")
        .mode("single")
        .y_axis(heatmap_builders.YAxisConfig().unit("s").axis_placement("left"))
    )


def state_timeline(title, description, size, target, states, *, no_value="unknown"):
    """A band for each series, in the colours of `states`."""
    return (
        with_basics(state_timeline_builders.Panel(), title, description, size, [target], no_value)
        .mappings(states)
        .color_scheme(BY_THRESHOLD)
        .fill_opacity(75)
        .line_width(0)
        .align_value("left")
        .legend(legend())
        .merge_values(True)
        .row_height(0.8)
        .show_value("never")
        .tooltip(common.VizTooltipOptions().mode("single").sort("none"))
    )


# ---- Variables and the frame of a dashboard


def variable(name, series, *, label=None, hidden=False):
    """A selector of the values that a label (by default, the variable's name) has in a series."""
    return (
        builders.QueryVariable(name)
        .label(name.capitalize())
        .datasource(DATASOURCE)
        .query(f"label_values({expand(series)}, {label or name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .hide(models.VariableHide.HIDE_VARIABLE if hidden else models.VariableHide.DONT_HIDE)
    )


SELECTORS = [
    variable("job", "xt_up"),
    variable("instance", 'xt_up{job=~"$job"}'),
    variable("account", "xt_up{target}"),
    variable("wallet", "xt_up{account}"),
]


class Link(Builder):
    """A link of a value. The SDK's type is that of a dashboard's links."""

    def __init__(self, title, url):
        self.link = {"title": title, "url": url}

    def build(self):
        return self.link


def account_links(*dashboards, account="${__data.fields.Account}"):
    """Lead from a row of a table, or from another place that names an account, to the account in other dashboards."""
    titles = {"xt-balances": "Balances of this account", "xt-exporter": "Polls of this account"}
    variables = f"${{datasource:queryparam}}&${{job:queryparam}}&${{instance:queryparam}}&var-account={account}"
    return [Link(titles[uid], f"/d/{uid}?{variables}&${{__url_time_range}}") for uid in dashboards]


class FiringAlerts(Builder):
    """The annotation of firing alerts. The SDK's type holds no query of a Prometheus data source."""

    def build(self):
        return {
            "name": "Firing alerts",
            "datasource": DATASOURCE,
            "enable": True,
            "hide": False,
            "iconColor": "red",
            "target": {
                "refId": "Alerts",
                "expr": expand('ALERTS{alertname=~"Xt.+",alertstate="firing",account=~"|$account"}'),
                "interval": "60s",
            },
            "titleFormat": "{{alertname}}",
            "textFormat": "{{account}} {{wallet}} {{currency}}",
            "tagKeys": "severity",
        }


def dashboard(uid, title, description, hours, variables, panels):
    data_source = (
        builders.DatasourceVariable("datasource")
        .label("Data source")
        .type("prometheus")
        .current(models.VariableOption(selected=False, text="default", value="default"))
    )
    other_dashboards = (
        builders.DashboardLink("XT dashboards")
        .type("dashboards")
        .tags([TAG])
        .icon("external link")
        .include_vars(True)
        .keep_time(True)
        .tooltip("Show the same accounts and time in the other dashboard")
    )
    built = (
        builders.Dashboard(title)
        .uid(uid)
        .description(" ".join(description.split()))
        .tags([TAG])
        .version(1)
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .time(f"now-{hours}h", "now")
        .timepicker(builders.TimePicker().refresh_intervals(["15s", "30s", "1m", "5m", "15m"]))
        .refresh("30s")
        .link(other_dashboards)
        .annotation(FiringAlerts())
        .variables([data_source, *variables])
    )
    for panel in panels:
        (built.with_row if isinstance(panel, builders.Row) else built.with_panel)(panel)
    model = built.build()
    place(model.panels)
    return model


row = builders.Row


def closed_row(title, *panels):
    """A row of details, which Grafana queries and shows only while it is open."""
    closed = builders.Row(title)
    for panel in panels:
        closed.with_panel(panel)
    return closed


def place(panels):
    """Numbers the panels and places them on the grid, from left to right and from the top."""
    numbers = itertools.count(1)

    def flow(panels, y):
        x = height = 0
        for panel in panels:
            panel.id_val = next(numbers)
            position = panel.grid_pos or models.GridPos(h=1, w=24)
            if x + position.w > 24 or position.w == 24:
                x, y, height = 0, y + height, 0
            panel.grid_pos = models.GridPos(x=x, y=y, h=position.h, w=position.w)
            x, height = x + position.w, max(height, position.h)
            if panel.type_val == "row" and panel.panels:
                flow(panel.panels, y + 1)
        return y + height

    flow(panels, 0)
