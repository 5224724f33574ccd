"""The Grafana files by themselves: what they are made of, their types, and the names they use."""

import json
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from support import standings
from support.grafana import PROVISIONING, ROOT, Json, dashboards, queries
from support.keeping import event, judgements, scores
from support.servers import missing, program

from monitor.core.plan import Asset, Camera, ChannelSettings, KindSettings, Plan
from monitor.core.records import Grade, PictureResult, Results, Transition
from monitor.live.points import PointMaker, health_points

NODE = ROOT / "tests" / "node"
PANELS = [(name, one) for name, found in dashboards().items() for one in found["panels"]]
GRADES = set(Grade)  # lines of their own
# Written, and shown nowhere
NOT_SHOWN = {
    ("asset_score", "raw"),  # in the model's own unit: nothing to compare it with
}


def named(panel: tuple[str, Json]) -> str:
    return f"{panel[0]}: {panel[1]['title']}"


def test_the_dashboards_are_what_the_script_makes(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    made = import_module("make_dashboards").files()
    stale = [str(path) for path, text in made.items() if path.read_text("utf-8") != text]
    assert stale == [], "run: .venv/bin/python scripts/make_dashboards.py"
    assert {path.stem for path in made} == set(dashboards())


def provisioned(kind: str) -> Json:
    text = (PROVISIONING / kind / "watchkeeper.yaml").read_text(encoding="utf-8")
    found: Json = yaml.safe_load(text)
    assert found["apiVersion"] == 1
    return found


def test_the_database_is_read_by_influxql_and_comes_from_the_environment_alone():
    (source,) = provisioned("datasources")["datasources"]
    assert (source["type"], source["jsonData"]["version"]) == ("influxdb", "InfluxQL")
    assert source["url"] == "$WATCHKEEPER_INFLUXDB_URL"
    assert source["jsonData"]["dbName"] == "$WATCHKEEPER_INFLUXDB_BUCKET"
    assert source["jsonData"]["httpHeaderName1"] == "Authorization"
    assert source["secureJsonData"] == {"httpHeaderValue1": "Token $WATCHKEEPER_INFLUXDB_TOKEN"}


def test_dashboards_cannot_be_changed_in_grafana():
    (provider,) = provisioned("dashboards")["providers"]
    assert provider["allowUiUpdates"] is False
    assert provider["options"]["path"] == "/etc/grafana/provisioning/dashboards/watchkeeper"
    assert all(one["editable"] is False for one in dashboards().values())


def test_each_dashboard_has_a_fixed_name_and_each_panel_a_number_of_its_own():
    found = dashboards()
    assert {name: one["uid"] for name, one in found.items()} == {
        "asset": "watchkeeper-asset",
        "cameras": "watchkeeper-cameras",
        "fleet": "watchkeeper-fleet",
        "pipeline": "watchkeeper-pipeline",
    }
    for one in found.values():
        ids = [panel["id"] for panel in one["panels"]]
        assert len(set(ids)) == len(ids)
        assert "id" not in one, "a number that a server gives"
        assert one["version"] >= 1
        names = [variable["name"] for variable in one["templating"]["list"]]
        assert len(set(names)) == len(names)


def test_no_panel_lies_over_another():
    for name, one in dashboards().items():
        taken: set[tuple[int, int]] = set()
        for panel in one["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert at["x"] + at["w"] <= 24
            assert not cells & taken, f"{name}: {panel['title']}"
            taken |= cells


@pytest.mark.parametrize("panel", PANELS, ids=named)
def test_each_panel_says_what_it_is_in_one_sentence_and_in_which_unit(panel):
    _, one = panel
    assert one["title"]
    assert one["description"].endswith(".")
    assert ". " not in one["description"]
    assert 40 < len(one["description"]) < 330
    assert one["fieldConfig"]["defaults"]["unit"]
    (source,) = provisioned("datasources")["datasources"]
    wanted = {"type": "influxdb", "uid": source["uid"]}
    assert one["datasource"] == wanted
    assert all(target["datasource"] == wanted for target in one["targets"])
    refs = [target["refId"] for target in one["targets"]]
    assert len(set(refs)) == len(refs)


def test_variables_and_annotations_ask_the_same_database():
    (source,) = provisioned("datasources")["datasources"]
    for one in dashboards().values():
        for asks in (*one["templating"]["list"], *one["annotations"]["list"]):
            if asks.get("type") == "textbox":  # asks nobody
                continue
            assert asks["datasource"]["uid"] == source["uid"]


def test_a_link_to_a_dashboard_leads_to_one_that_is_shipped_and_to_its_variables():
    by_uid = {one["uid"]: one for one in dashboards().values()}
    text = json.dumps(dashboards())
    links = re.findall(r'"/d/([\w-]+)\?([^"]+)"', text)
    assert links
    for uid, arguments in links:
        known = {f"var-{one['name']}" for one in by_uid[uid]["templating"]["list"]}
        assert set(re.findall(r"var-\w+", arguments)) <= known


# Names


def written() -> dict[str, tuple[set[str], set[str]]]:
    """By measurement: its tags, and its fields and texts."""
    asset = Asset(name="p1", id=0, kind="pump", tags={}, area="hall_2")
    kind = KindSettings(channels={"flow": ChannelSettings(), "heat": ChannelSettings()})
    eye = Camera(name="top", id=0, asset="p1", source="eyes")
    plan = Plan(site="works", kinds={"pump": kind}, assets=(asset,), cameras=(eye,))
    maker = PointMaker(plan, {}, channel_s=0)
    results = Results(
        scores=(scores([0]),),
        alarms=(event(Transition.RAISED, 0),),
        pictures=(PictureResult(camera=0, time=0, part=None, label="good", probability=0.9),),
        judgements=(judgements([0]),),
    )
    found: dict[str, tuple[set[str], set[str]]] = {}
    for points in [
        *maker.of(results),
        *health_points(standings.standing(), site="works", ready=True),
    ]:
        tags, columns = found.setdefault(points.measurement, (set(), set()))
        tags |= set(points.tags)
        columns |= {*points.fields, *points.texts}
    return found


def names_in(query: str) -> tuple[str, set[str]]:
    """The measurement of a query, and what else it names, but for what it makes itself."""
    (measurement,) = re.findall(r'FROM "(\w+)"', query)
    made = set(re.findall(r'AS "(\w+)"', query)) - set(re.findall(r'\w+\("(\w+)"\)', query))
    return measurement, set(re.findall(r'"(\w+)"', query)) - made - {measurement}


def test_no_query_names_what_is_never_written():
    known = written()
    for name, one in dashboards().items():
        for where, query in queries(one):
            measurement, names = names_in(query)
            assert names <= set.union(*known[measurement]), f"{name}: {where}"


def test_each_query_keeps_to_the_chosen_site_and_range():
    for one in dashboards().values():
        for where, query in queries(one):
            assert '"site" =~ /^$site$/' in query or where == "$site"
            assert "$timeFilter" in query or where.startswith("$")
            variables = {f"${variable['name']}" for variable in one["templating"]["list"]}
            known = variables | {"$timeFilter", "$__interval"}
            assert set(re.findall(r"\$\w+", query)) <= known, where


def test_whatever_is_written_is_shown_or_left_out_on_purpose():
    shown: dict[str, set[str]] = {}
    for one in dashboards().values():
        for panel in one["panels"]:
            for target in panel["targets"]:
                measurement, names = names_in(target["query"])
                shown.setdefault(measurement, set()).update(names)
    missing = {
        (measurement, column)
        for measurement, (_, columns) in written().items()
        for column in columns - shown[measurement]
    }
    assert missing == NOT_SHOWN


def test_what_is_coloured_or_worded_is_a_column_of_its_panel():
    for _, one in PANELS:
        columns = {
            name
            for target in one["targets"]
            for name in re.findall(r'"(\w+)"', target["query"].partition(" FROM ")[0])
        }
        for override in one["fieldConfig"]["overrides"]:
            matcher = override["matcher"]
            if matcher["id"] == "byRegexp":
                wanted = re.compile(matcher["options"].strip("/"))
                assert any(map(wanted.search, columns)), one["title"]
                continue
            assert matcher["options"] in {*columns, "asset", *GRADES}, one["title"]


# Types

CHECK = """\
import type {{ Dashboard, AnnotationQuery, DataQuery, Panel }} from '@grafana/schema';
{imports}

// JSON holds the values of an enumeration, not its members.
type Plain<T> = T extends string ? `${{T}}` : T extends number | boolean | null | undefined ? T
  : unknown extends T ? T : T extends object ? {{ [K in keyof T]: Plain<T[K]> }} : T;

// What the InfluxDB plugin keeps in a target and in an annotation; the schema leaves it open.
interface Influx extends DataQuery {{
  query: string; rawQuery: true; resultFormat: 'table' | 'time_series'; alias?: string;
}}
interface Notes extends AnnotationQuery {{
  query: string; textColumn: string; tagsColumn: string;
}}
type Fields = NonNullable<Panel['fieldConfig']>;
type Ours<Type extends string, Options, Custom> =
  Omit<Panel<Options, Custom>, 'type' | 'options' | 'targets' | 'fieldConfig'> & {{
    type: Type; options: Options; targets: Influx[]; fieldConfig: {{
      defaults: Omit<Fields['defaults'], 'custom'> & {{ custom: Custom }};
      overrides: Fields['overrides'];
    }};
  }};
type None = Record<string, never>;
type Page = Omit<Dashboard, 'panels' | 'annotations'> & {{
  annotations: {{ list: Notes[] }};
  panels: Array<
    | Ours<'bargauge', bargauge.Options, None>
    | Ours<'stat', stat.Options, None>
    | Ours<'state-timeline', statetimeline.Options, statetimeline.FieldConfig>
    | Ours<'table', table.Options, Partial<table.FieldConfig>>
    | Ours<'timeseries', timeseries.Options, timeseries.FieldConfig>
  >;
}};
export const page: Plain<Page> = {page};
"""


@pytest.fixture(scope="module")
def tsc() -> list[str]:
    """The TypeScript compiler's command."""
    compiler = NODE / "node_modules" / "typescript" / "bin" / "tsc"
    node = program("node")
    if not compiler.exists():
        missing("tests/node/node_modules")
    options = "--noEmit --strict --skipLibCheck --moduleResolution bundler --module esnext"
    return [node, str(compiler), *options.split(), "--target", "es2022"]


def complaints(tsc: list[str], folder: Path, pages: dict[str, Json]) -> str:
    """What the compiler says of dashboards, all at once."""
    (folder / "node_modules").symlink_to(NODE / "node_modules")
    kinds = ("BarGauge", "Stat", "StateTimeline", "Table", "TimeSeries")
    room = "@grafana/schema/dist/esm/raw/composable/{}/panelcfg/x/{}PanelCfg_types.gen"
    imports = "\n".join(
        f"import type * as {kind.lower()} from '{room.format(kind.lower(), kind)}';"
        for kind in kinds
    )
    files = []
    for name, page in pages.items():
        files.append(folder / f"{name}.ts")
        files[-1].write_text(CHECK.format(imports=imports, page=json.dumps(page)), "utf-8")
    ended = subprocess.run(
        [*tsc, *map(str, files)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (ended.returncode == 0) == (ended.stdout == ""), ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_each_dashboard_has_the_types_of_grafanas_own_schema(tsc, tmp_path):
    assert complaints(tsc, tmp_path, dashboards()) == ""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_wrong_type_is_found_wherever_it_stands(tsc, tmp_path):
    def changed(*path: str | int, to: object) -> Json:
        page = inner = dashboards()["asset"]
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return page

    wrong = {
        "dashboard": changed("schemaVersion", to="39"),
        "unknown": changed("panels", 1, "descripton", to="a slip"),
        "panel": changed("panels", 1, "gridPos", "w", to="12"),
        "kind": changed("panels", 1, "type", to="graph"),
        "options": changed("panels", 1, "options", "legend", "displayMode", to="rows"),
        "custom": changed("panels", 1, "fieldConfig", "defaults", "custom", "drawStyle", to="dash"),
        "threshold": changed(
            "panels", 1, "fieldConfig", "defaults", "thresholds", "steps", 0, to={"value": 1}
        ),
        "target": changed("panels", 1, "targets", 0, "resultFormat", to="rows"),
        "variable": changed("templating", "list", 0, "refresh", to="always"),
        "annotation": changed("annotations", "list", 0, "iconColor", to=None),
    }
    said = complaints(tsc, tmp_path, wrong)
    assert {name for name in wrong if f"{name}.ts" in said} == set(wrong)
