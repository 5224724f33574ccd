"""What differs between two configurations, in words; what may not; and who is not touched by it."""

import pytest

from monitor.core.plan import PictureAlarmSettings
from monitor.site.changes import replaced, settings, untouched
from monitor.site.settings import CameraSettings

PUMP = ("kinds", "pump", "model")


def told(was, now):
    return [str(change) for change in settings(was, now)]


def restarts(was, now):
    return {str(change): why for change in settings(was, now) if (why := change.needs_restart)}


def test_the_same_configuration_differs_in_nothing_whatever_the_order_of_its_names(plant):
    one = plant()
    line = "sinks:\n  inbox: {type: recorder, folder: alarms}\n"
    other = plant((line, ""), ("sources:\n", line + "sources:\n"))
    assert told(one, plant()) == told(one, other) == []
    assert untouched(one, other, ()) == ("pump_1", "pump_2")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "high: 8,",
            "high: 8.5,",
            ["kinds.pump.channels.flow.limits.high: 8.0 -> 8.5"],
        ),
        (
            "      temp: {unit: degC}\n",
            "      temp: {unit: degC, limits: {high: 70}}\n",
            ["kinds.pump.channels.temp.limits: added"],
        ),
        (
            ", limits: {low: 1.5, high: 8, deadband: 0.1}",
            "",
            ["kinds.pump.channels.flow.limits: removed"],
        ),
        ("    running: {channel: flow, above: 0.5}\n", "", ["kinds.pump.running: removed"]),
        (
            "      flow: F1\n",
            "      flow: F2\n",
            ["assets.pump_1.tags.flow.address: F1 -> F2"],
        ),
        (
            "  pump_2:\n    kind: pump\n    source: rig\n",
            "  pump_3: {kind: pump, source: line}\n  pump_2:\n    kind: pump\n    source: rig\n",
            ["assets.pump_3: added (kind pump, source line)"],
        ),
        (
            '  pump_2:\n    kind: pump\n    source: rig\n    address: "{asset}.{tag}"\n',
            "",
            ["assets.pump_2: removed"],
        ),
        ("layout: wide", "layout: long", ["sources.rig.layout: wide -> long"]),
        (
            "    type: vault\n    url: mqtt://broker:1883\n    password_file: secrets/line\n",
            "    type: recorder\n    path: line.csv\n    layout: long\n",
            ["sources.line.type: vault -> recorder"],
        ),
        (
            "sinks:\n",
            "sinks:\n  other: {type: recorder, folder: more}\n",
            ["sinks.other: added (type recorder)"],
        ),
        (
            "state: {detail_hours: 12}",
            "state: {detail_hours: 24, snapshot_s: 5}",
            ["state.detail_hours: 12.0 -> 24.0", "state.snapshot_s: 60.0 -> 5.0"],
        ),
        (
            "    layout: wide\n",
            "    layout: wide\n    columns: [a, b]\n",
            ['sources.rig.columns: [] -> ["a", "b"]'],
        ),
        (
            "    model: {bundle: models/pump}\n",
            "    model: {bundle: models/new}\n",
            ["kinds.pump.model.bundle: /plants/north/models/pump -> /plants/north/models/new"],
        ),
    ],
)
def test_each_change_is_told_with_its_place_and_both_values(old, new, words, plant):
    assert told(plant(), plant((old, new))) == words


def test_secrets_and_where_they_lie_are_never_told(plant):
    changes = told(
        plant(),
        plant(
            ("password_file: secrets/line", "password_env: LINE_PASSWORD"),
            ("mqtt://broker:1883", "mqtt://ann:open-sesame@broker:1883"),
        ),
    )
    assert changes == [
        "sources.line.url: mqtt://broker:1883 -> mqtt://***@broker:1883",
        "sources.line.password_file: changed",
        "sources.line.password_env: changed",
    ]


def test_a_value_that_is_long_is_cut_short(plant):
    (change,) = told(plant(), plant(("address: plant/T1", f"address: {'T' * 100}")))
    assert change == f"assets.pump_1.tags.temp.address: plant/T1 -> {'T' * 57}..."


@pytest.mark.parametrize(
    ("old", "new", "change", "why"),
    [
        ("name: plant", "name: works", "site.name: plant -> works", "alarms are named by it"),
        (
            "data_dir: data",
            "data_dir: more",
            "site.data_dir: /plants/north/data -> /plants/north/more",
            "the journal lies there",
        ),
        (
            "sinks:\n",
            "web: {port: 9188}\nsinks:\n",
            "web: added",
            "the port is opened at the start",
        ),
    ],
)
def test_what_only_a_restart_can_change_says_why(old, new, change, why, plant):
    assert restarts(plant(), plant((old, new))) == {change: why}
    web = plant(("sinks:\n", "web: {port: 9188}\nsinks:\n"))
    moved = plant(("sinks:\n", "web: {port: 9189}\nsinks:\n"))
    assert restarts(web, moved) == {"web.port: 9188 -> 9189": "the port is opened at the start"}
    assert restarts(plant(), plant(("timezone: Europe/Berlin", "timezone: UTC"))) == {}


def test_an_asset_is_untouched_while_it_and_its_kind_and_its_model_are(plant):
    was = plant()
    second = '  pump_2:\n    kind: pump\n    source: rig\n    address: "{asset}.{tag}"\n'
    assert untouched(was, plant(("flow: F1", "flow: F2")), ()) == ("pump_2",)
    assert untouched(was, plant((second, "")), ()) == ("pump_1",)
    assert untouched(was, plant(("password_file: secrets/line", "retries: 9")), ()) == ("pump_2",)
    assert untouched(was, plant(("high: 8,", "high: 9,")), ()) == ()
    assert untouched(was, plant(("detail_hours: 12", "detail_hours: 13")), ()) == (
        "pump_1",
        "pump_2",
    )
    assert untouched(was, was, replaced({PUMP: "old"}, {PUMP: "new"})) == ()


def test_an_asset_is_untouched_while_its_cameras_are(plant):
    top, side = (CameraSettings(source="line", asset=one) for one in ("pump_1", "pump_2"))

    def watched(*changes, **cameras):
        return plant(*changes).model_copy(update={"cameras": cameras})

    was = watched(top=top, side=side)
    assert untouched(was, watched(top=top, side=side), ()) == ("pump_1", "pump_2")
    assert untouched(was, watched(top=top), ()) == ("pump_1",)
    assert untouched(watched(side=side), was, ()) == ("pump_2",)
    loud = top.model_copy(update={"alarm": PictureAlarmSettings(surprise=9)})
    assert untouched(was, watched(top=loud, side=side), ()) == ("pump_2",)
    moved = top.model_copy(update={"asset": "pump_2"})
    assert untouched(was, watched(top=moved, side=side), ()) == ()
    again = ("password_file: secrets/line", "retries: 9")
    assert untouched(was, watched(again, top=top, side=side), ()) == ()
    for setting in ("model", "progression", "template"):
        path = ("cameras", "side", setting)
        assert untouched(was, was, replaced({path: "old"}, {path: "new"})) == ("pump_1",)


def test_a_model_that_was_trained_again_under_its_path_is_another_one():
    fan, belt = ("kinds", "fan", "model"), ("kinds", "belt", "model")
    (one,) = replaced({PUMP: "old", fan: "same"}, {PUMP: "new", fan: "same", belt: "first"})
    assert str(one) == "kinds.pump.model: another model; its assets warm up anew"


def test_what_a_camera_judges_by_is_another_one_where_its_content_is():
    was = {("cameras", "top", one): "old" for one in ("model", "progression", "template")}
    was |= {("cameras", "side", "model"): "same", ("cameras", "back", "template"): "left out"}
    now = dict.fromkeys(was, "new") | {("cameras", "side", "model"): "same"}
    del now["cameras", "back", "template"]
    assert list(map(str, replaced(was, now))) == [
        "cameras.top.model: another inspection",
        "cameras.top.progression: another progression; what it foretells begins anew",
        "cameras.top.template: another template",
    ]
