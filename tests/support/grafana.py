"""The dashboards that are shipped, and what Grafana makes of their queries before it asks."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PROVISIONING = ROOT / "configs" / "grafana" / "provisioning"
Json = dict[str, Any]
ALL = ".*"  # what All stands for, put in as it is


def dashboards() -> dict[str, Json]:
    """The dashboards by the names of their files."""
    files = sorted((PROVISIONING / "dashboards" / "watchkeeper").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def panel(of: str, title: str) -> Json:
    """The panel of this title."""
    (found,) = [one for one in dashboards()[of]["panels"] if one["title"] == title]
    return found


def queries(dashboard: Json) -> Iterator[tuple[str, str]]:
    """(where, query) of everything in a dashboard that asks."""
    for one in dashboard["panels"]:
        for target in one["targets"]:
            yield f"{one['title']} {target['refId']}", target["query"]
    for one in dashboard["annotations"]["list"]:
        yield one["name"], one["query"]
    for one in dashboard["templating"]["list"]:
        if one["type"] != "query":
            continue
        yield f"${one['name']}", one["query"]


def filled_in(
    query: str, chosen: Mapping[str, str | list[str]], *, since_s: int, until_s: int, interval: str
) -> str:
    """A query as it is sent: names of variables in a regular expression are escaped.

    As in Grafana's InfluxDB plugin, both ends of the range belong to it.
    """

    def value(match: re.Match[str]) -> str:
        found = chosen[match[1]]
        if isinstance(found, list):
            return f"({'|'.join(map(escaped, found))})"
        return found if found == ALL else escaped(found)

    time = f"time >= {since_s * 1000}ms and time <= {until_s * 1000}ms"
    query = query.replace("$timeFilter", time).replace("$__interval", interval)
    return re.sub(r"\$(\w+)", value, query)


def escaped(text: str) -> str:
    """A text as a regular expression for itself."""
    return re.sub(r"([\\^$*+?.()|\[\]{}/])", r"\\\1", text)
