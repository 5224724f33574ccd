"""What the Grafana dashboards are made of: queries, panels, variables, as Grafana keeps them.

Options and custom fields of a panel are those of its type
in @grafana/schema; a test checks them against it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

SOURCE = {"type": "influxdb", "uid": "watchkeeper-influxdb"}
VERSION = 1  # of each dashboard; raise it with each change that is released
SCHEMA = 39  # Grafana 11; newer ones bring it up to date by themselves
WIDTH = 24  # of Grafana's grid
BRIDGED_MS = 300_000  # a line goes on over so much without a value: a longer tick shows as points

GREEN, BLUE, ORANGE, RED, GREY = "green", "blue", "orange", "red", "#808080"
Words = Sequence[tuple[int, str, str]]  # value, what it means, colour
STATES: Words = [(0, "ok", GREEN), (1, "warming", BLUE), (2, "blind", ORANGE), (3, "off", GREY)]
YES_NO: Words = [(0, "no", RED), (1, "yes", GREEN)]
NO_MODEL: Words = [(0, "no model", GREY)]

# What the variables pick, in a range of time

SITE = '"site" =~ /^$site$/ AND $timeFilter'
ASSETS = f'"area" =~ /^$area$/ AND "asset" =~ /^$asset$/ AND {SITE}'
CHANNELS = f'"channel" =~ /^$channel$/ AND {ASSETS}'
CAMERAS = f'"camera" =~ /^$camera$/ AND {ASSETS}'
SERVICE = f"\"source\" = '' AND \"sink\" = '' AND {SITE}"
SOURCES = f'"source" != \'\' AND "source" =~ /^$source$/ AND {SITE}'
SINKS = f'"sink" != \'\' AND "sink" =~ /^$sink$/ AND {SITE}'


def each(*tags: str, empty: str = "null") -> str:
    """One value for each interval that Grafana can show, of each of these tags by itself.

    ``empty``: what an interval without points has; a count has 0 there, unless it is "none".
    """
    return f"GROUP BY {', '.join(['time($__interval)', *map(quoted, tags)])} fill({empty})"


def quoted(name: str) -> str:
    """A name as InfluxQL wants it."""
    return f'"{name}"'


def columns(*names: str) -> str:
    """Fields, tags and what was worked out, as they are."""
    return ", ".join(map(quoted, names))


def newest(name: str, *others: str) -> str:
    """The last value of a field, and what else its point says."""
    return f'last("{name}") AS {columns(name, *others)}'


def tally(*names: str, how: str) -> str:
    """The same of several fields, each under its own name."""
    return ", ".join(f'{how}("{name}") AS "{name}"' for name in names)


def select(what: str, measurement: str, where: str, rest: str = "") -> str:
    """A query of one measurement."""
    return f'SELECT {what} FROM "{measurement}" WHERE {where} {rest}'.rstrip()  # noqa: S608 - a text


def newest_with(
    worked_out: str, measurement: str, where: str, names: Sequence[str], by: str
) -> str:
    """The newest point of each series, and what follows from it. The order makes it fast."""
    rest = f"GROUP BY {by}"
    inner = select(newest(*names), measurement, where, rest)
    return f"SELECT {columns(*names)}, {worked_out} FROM ({inner}) WHERE $timeFilter {rest}"  # noqa: S608 - a text


# Parts of a panel


def lines(query: str, alias: str = "$col") -> Json:
    """A query that gives series."""
    return {"query": query, "rawQuery": True, "resultFormat": "time_series", "alias": alias}


def rows(query: str) -> Json:
    """A query that gives a table."""
    return {"query": query, "rawQuery": True, "resultFormat": "table"}


def said(words: Words) -> list[Json]:
    """Numbers that are shown as words."""
    options = {
        str(number): {"text": text, "color": color, "index": index}
        for index, (number, text, color) in enumerate(words)
    }
    return [{"type": "value", "options": options}]


def steps(*found: tuple[float | None, str]) -> Json:
    """Colours from these values on."""
    return {
        "mode": "absolute",
        "steps": [{"value": value, "color": color} for value, color in found],
    }


ALL_GREEN = steps((None, GREEN))
NONE_WANTED = steps((None, GREEN), (1, RED))
COVERAGE = steps((None, RED), (0.5, ORANGE), (0.9, GREEN))


def only(field: str, **properties: Any) -> Json:
    """What holds for one field; ``custom__x`` is the property custom.x."""
    return {
        "matcher": {"id": "byName", "options": field},
        "properties": [
            {"id": name.replace("__", "."), "value": value} for name, value in properties.items()
        ],
    }


def coloured(field: str, **properties: Any) -> Json:
    """A column of a table whose cells have the colour of their value."""
    return only(field, custom__cellOptions={"type": "color-text"}, **properties)


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    size: tuple[int, int],
    options: Json,
    custom: Json | None = None,
    overrides: Sequence[Json] = (),
    defaults: Mapping[str, Any],
    **more: Any,
) -> Json:
    """A panel; ``size`` is width and height. Its place follows from those before it."""
    fields = {"thresholds": ALL_GREEN, "mappings": [], "custom": custom or {}} | dict(defaults)
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": SOURCE,
        "gridPos": {"w": size[0], "h": size[1]},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE} | target
            for number, target in enumerate(targets)
        ],
        "fieldConfig": {"defaults": fields, "overrides": list(overrides)},
        "options": options,
    } | more


LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}
TOOLTIP = {"mode": "multi", "sort": "desc"}


def graph(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    unit: str,
    size: tuple[int, int] = (12, 8),
    custom: Mapping[str, Any] | None = None,
    overrides: Sequence[Json] = (),
    interval: str | None = None,
    repeat: str | None = None,
    **defaults: Any,
) -> Json:
    """Lines over time."""
    line = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 0,
        "showPoints": "auto",
        "spanNulls": BRIDGED_MS,
    }
    more = {"interval": interval} if interval else {}
    if repeat:
        more |= {"repeat": repeat, "repeatDirection": "h", "maxPerRow": 2}
    return panel(
        "timeseries",
        title,
        description,
        targets,
        size=size,
        options={"legend": LEGEND, "tooltip": TOOLTIP},
        custom=line | dict(custom or {}),
        overrides=overrides,
        defaults={"unit": unit, "color": {"mode": "palette-classic"}} | defaults,
        **more,
    )


def timeline(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    words: Words,
    interval: str,
    size: tuple[int, int] = (24, 5),
) -> Json:
    """States over time, one row a series; where nothing was written, nothing is drawn."""
    return panel(
        "state-timeline",
        title,
        description,
        targets,
        size=size,
        options={
            "showValue": "auto",
            "rowHeight": 0.8,
            "mergeValues": True,
            "alignValue": "left",
            "legend": LEGEND | {"showLegend": False},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        custom={"fillOpacity": 80, "lineWidth": 0},
        defaults={"unit": "none", "mappings": said(words), "color": {"mode": "thresholds"}},
        interval=interval,
    )


def table(
    title: str,
    description: str,
    query: str,
    *,
    order: Sequence[str],
    size: tuple[int, int],
    overrides: Sequence[Json],
    sort: str | None = None,
) -> Json:
    """A table whose columns stand in this order, whatever order Grafana finds them in."""
    index = {name: number for number, name in enumerate(order)}
    arranged = {"indexByName": index, "excludeByName": {}, "renameByName": {}}
    return panel(
        "table",
        title,
        description,
        [rows(query)],
        size=size,
        options={
            "frameIndex": 0,
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort, "desc": True}] if sort else [],
        },
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True},
        overrides=overrides,
        defaults={"unit": "none"},
        transformations=[{"id": "organize", "options": arranged}],
    )


def reduced(calc: str) -> Json:
    """One value for each series or column."""
    return {"values": False, "calcs": [calc], "fields": ""}


def numbers(
    title: str, description: str, query: str, *, overrides: Sequence[Json], size: tuple[int, int]
) -> Json:
    """The newest values, large."""
    return panel(
        "stat",
        title,
        description,
        [rows(query)],
        size=size,
        options={
            "reduceOptions": reduced("lastNotNull"),
            "orientation": "vertical",
            "textMode": "value_and_name",
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "wideLayout": True,
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
        },
        overrides=overrides,
        defaults={"unit": "none", "color": {"mode": "thresholds"}},
    )


# Dashboards


def variable(name: str, measurement: str, *given: str, several: bool) -> Json:
    """A choice among the values of a tag, as far as those before it leave any."""
    where = " AND ".join(f'"{one}" =~ /^${one}$/' for one in given)
    query = f'SHOW TAG VALUES FROM "{measurement}" WITH KEY = "{name}"'
    # Everything, and also what has no such tag: an asset need not stand in an area.
    everything = {"includeAll": True, "multi": True, "allValue": ".*"}
    everything["current"] = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return {
        "type": "query",
        "name": name,
        "label": name.capitalize(),
        "datasource": SOURCE,
        "query": f"{query} WHERE {where}" if where else query,
        "refresh": 2,  # when the range of time changes
        "sort": 1,  # by name
    } | (everything if several else {"includeAll": False, "multi": False})


SERVICE_ADDRESS = "http://localhost:9188"
SERVICE_URL: Json = {  # what is typed in: no database knows where people reach the service
    "type": "textbox",
    "name": "service",
    "label": "Service's address",
    "query": SERVICE_ADDRESS,
    "current": {"selected": True, "text": SERVICE_ADDRESS, "value": SERVICE_ADDRESS},
}


def dashboard(
    uid: str,
    title: str,
    description: str,
    *,
    variables: Sequence[Json],
    panels: Sequence[Json],
    annotations: Sequence[Json] = (),
) -> Json:
    """A dashboard: its panels one after the other, in rows as wide as the page."""
    x = y = height = 0
    for number, one in enumerate(panels, start=1):
        place = one["gridPos"]
        if x + place["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        one["id"], one["gridPos"] = number, {"x": x, "y": y, **place}
        x, height = x + place["w"], max(height, place["h"])
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "version": VERSION,
        "schemaVersion": SCHEMA,
        "tags": ["watchkeeper"],
        "timezone": "browser",
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [
            {
                "title": "Watchkeeper",
                "type": "dashboards",
                "tags": ["watchkeeper"],
                "asDropdown": True,
                "keepTime": True,
                "includeVars": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
            }
        ],
        "annotations": {"list": list(annotations)},
        "templating": {"list": list(variables)},
        "panels": list(panels),
    }
