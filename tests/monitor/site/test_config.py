"""The configuration: what a right one gives, and what is said about a wrong one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import Connector, discover
from monitor.core.plan import Asset
from monitor.site.config import Config, load, parse
from monitor.site.problems import ConfigError, PlantError
from monitor.site.yaml_places import read

Plant = Callable[..., Config]
Problems = Callable[..., list[str]]


# What a right one gives.


def test_the_plan_binds_every_tag_to_its_number_and_source(plant: Plant) -> None:
    config = plant()
    tag_ids = {name: 10 + index for index, name in enumerate(config.tag_names())}
    asset_ids = {name: index for index, name in enumerate(config.asset_names())}

    made = config.plan(tag_ids, asset_ids)

    assert made.site == "plant"
    assert made.kinds["pump"].tick_ms == 1000
    assert made.assets == (
        Asset(name="pump_1", id=0, kind="pump", tags={"flow": (10, "rig"), "temp": (11, "line")}),
        Asset(name="pump_2", id=1, kind="pump", tags={"flow": (12, "rig"), "temp": (13, "rig")}),
    )


def test_a_tag_is_found_as_given_else_by_the_template_else_by_its_name(plant: Plant) -> None:
    config = plant(("      flow: F1\n", ""))
    tag_ids = {name: index for index, name in enumerate(config.tag_names())}

    rig = {ref.id: (ref.address, ref.unit) for ref in config.tag_refs("rig", tag_ids)}
    line = {ref.id: (ref.address, ref.unit) for ref in config.tag_refs("line", tag_ids)}

    assert rig == {0: ("flow", "m3/h"), 2: ("pump_2.flow", "m3/h"), 3: ("pump_2.temp", "degC")}
    assert line == {1: ("plant/T1", "degC")}


def test_a_tag_found_elsewhere_may_be_addressed_by_the_names_too(plant: Plant) -> None:
    config = plant(("      flow: F1\n", '      flow: "ns;s={asset}.{tag}"\n'))
    tag_ids = {name: index for index, name in enumerate(config.tag_names())}

    assert "ns;s=pump_1.flow" in {ref.address for ref in config.tag_refs("rig", tag_ids)}


def test_relative_paths_are_meant_from_the_folder_of_the_file(plant: Plant) -> None:
    config = plant(("data_dir: data", "data_dir: /var/lib/wk"))
    rig: Any = config.sources["rig"]

    assert rig.path == "/plants/north/recordings/*.csv"
    assert config.data_dir == Path("/var/lib/wk")
    assert plant(("  data_dir: data\n", "")).data_dir == Path("/plants/north/watchkeeper-data")


def test_sources_and_sinks_are_made_by_their_type(plant: Plant) -> None:
    config = plant()
    tag_ids = {name: index for index, name in enumerate(config.tag_names())}

    source: Any = config.make_source("rig", tag_ids)
    sink: Any = config.make_sink("inbox")

    assert (source.name, source.settings) == ("rig", config.sources["rig"])
    assert [ref.id for ref in source.tags] == [0, 2, 3]
    assert sink.settings.folder == "/plants/north/alarms"
    assert config.make_history("rig", tag_ids).name == "rig"
    with pytest.raises(PlantError, match="source line: type 'vault' keeps no history"):
        config.make_history("line", tag_ids)


def test_a_type_that_is_history_only_cannot_be_live(
    plant: Plant, connectors: dict[str, Connector]
) -> None:
    recorder = connectors["recorder"]
    connectors["recorder"] = Connector(
        name="recorder", source=None, history=recorder.history, sink=recorder.sink
    )

    with pytest.raises(PlantError, match="source rig: type 'recorder' holds history only"):
        plant().make_source("rig", dict.fromkeys(plant().tag_names(), 0))


def test_the_hash_is_of_what_is_said_not_of_how_or_where(plant: Plant, text: str) -> None:
    same = plant()

    assert re.fullmatch("[0-9a-f]{64}", same.hash)
    assert plant(base="/elsewhere").hash == same.hash
    assert plant(text=json.dumps(read(text).data)).hash == same.hash
    assert plant(("tick_ms: 1000", "tick_ms: 1000\n    gap_ticks: 60")).hash == same.hash
    assert plant(("tick_ms: 1000", "tick_ms: 2000")).hash != same.hash
    assert plant(("secrets/line", "secrets/other")).hash != same.hash


def test_the_hash_does_not_know_what_a_secret_is(
    plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = plant(base=str(tmp_path)).hash
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "line").write_text("hunter2", encoding="utf-8")
    monkeypatch.setenv("password_file", "hunter2")

    assert plant(base=str(tmp_path)).hash == before


def test_a_channel_with_nothing_below_it_has_all_defaults(plant: Plant) -> None:
    config = plant(("temp: {unit: degC}\n", "temp:\n"), (", unit: degC, aggregate: max", ""))

    assert config.kinds["pump"].channels["temp"].unit is None


def test_frames_may_wait_for_longer_than_repeats_are_remembered(plant: Plant) -> None:
    config = plant(("tick_ms: 1000", "tick_ms: 1000\n    lateness_ms: 100000"))
    assert config.kinds["pump"].lateness_ms == 100_000


def test_anchors_and_merge_keys_may_be_used(plant: Plant) -> None:
    config = plant(
        ("  pump_1:\n", "  pump_1: &first\n"),
        (
            '    kind: pump\n    source: rig\n    address: "{asset}.{tag}"',
            "    <<: *first\n    source: rig\n    tags: {flow: F2, temp: T2}",
        ),
    )

    assert config.assets["pump_2"].kind == "pump"


def test_numbers_that_yaml_1_1_would_twist_stay_text(plant: Plant) -> None:
    config = plant(("flow: F1", "flow: 12:30"), ("address: plant/T1", "address: no"))

    assert config.assets["pump_1"].tags["flow"].address == "12:30"
    assert config.assets["pump_1"].tags["temp"].address == "no"


def test_a_model_is_chosen_by_its_type(plant: Plant) -> None:
    config = plant(
        (
            "tick_ms: 1000",
            (
                "tick_ms: 1000\n    training: {assets: [pump_2], since: 2026-03-01T07:00:00+01:00, "
                "model: {type: gru, hidden: 16}, fit: {seed: 7}}"
            ),
        )
    )
    training = config.kinds["pump"].training

    assert training is not None
    model: Any = training.model
    fit: Any = training.fit
    assert (model.type, model.hidden, fit.seed) == ("gru", 16, 7)
    assert training.since is not None
    assert training.since.timestamp() == 1_772_344_800  # 2026-03-01T06:00:00Z


# What is said about a wrong one: place, path, what was given, what is wanted.

SAID = {
    "a misspelt key is told at the key, and not as missing too": (
        ("  name: plant", "  nam: plant"),
        "3:3: site.nam: no such setting. Did you mean 'name'?",
    ),
    "an unknown key lists the few there are": (
        ("{detail_hours: 12}", "{zzz: 12}"),
        (
            "38:9: state.zzz: no such setting. There are detail_hours, minutes_days, hours_days, "
            "alarm_days, journal_hours, late_hours, dead_letter_days, outbox_mb, picture_days, "
            "pictures_mb, pictures_waiting_mb, picture_result_days, snapshot_s, channel_score_s"
        ),
    ),
    "an unknown key of a connector is compared with that connector's": (
        ("    layout: wide", "    layout: wide\n    colums: [a]"),
        "11:5: sources.rig.colums: no such setting. Did you mean 'columns'?",
    ),
    "a missing key says what it means": (
        ("    path: recordings/*.csv\n", ""),
        "7:3: sources.rig: 'path' is missing: Which files",
    ),
    "an unknown type lists the known ones": (
        ("type: vault", "type: mqtt"),
        "12:11: sources.line.type: no source has the type 'mqtt'. There are recorder, vault",
    ),
    "a missing type lists the known ones": (
        ("    type: vault\n", ""),
        "11:3: sources.line: 'type' is missing; want one of recorder, vault",
    ),
    "a type of another role is unknown": (
        ("inbox: {type: recorder", "inbox: {type: vault"),
        "37:17: sinks.inbox.type: no sink has the type 'vault'. There is recorder",
    ),
    "a wrong type shows what was given": (
        ("{detail_hours: 12}", "{detail_hours: long}"),
        "38:23: state.detail_hours: got 'long', want a number",
    ),
    "a value out of range says the range": (
        ("tick_ms: 1000", "tick_ms: 0"),
        "17:14: kinds.pump.tick_ms: got 0, want more than 0",
    ),
    "an infinite number is none": (
        ("above: 0.5", "above: 1e999"),
        "22:37: kinds.pump.running.above: got 1e999, want a finite number",
    ),
    "a choice suggests the nearest": (
        ("aggregate: mean", "aggregate: maen"),
        (
            "19:37: kinds.pump.channels.flow.aggregate: got 'maen', want 'last', 'mean', "
            "'time_mean', "
            "'min', 'max', 'rms' or 'std'. Did you mean 'mean'?"
        ),
    ),
    "a value that no arm of a choice takes is told once": (
        ("threshold: auto", "threshold: never"),
        "23:24: kinds.pump.alarm.threshold: got 'never', want 'auto' or a number",
    ),
    "a number where text is wanted wants quotes": (
        ("flow: F1", "flow: 007"),
        (
            "30:13: assets.pump_1.tags.flow: got 007, want text. Without quotes it is no text: "
            "write '007'"
        ),
    ),
    "true where text is wanted wants quotes": (
        ("address: plant/T1", "address: true"),
        (
            "31:37: assets.pump_1.tags.temp.address: got true, want text. Without quotes it is no "
            "text: write 'true'"
        ),
    ),
    "a missing blank after a colon is guessed": (
        ("running: {channel: flow, above: 0.5}", "running: channel:flow"),
        (
            "22:14: kinds.pump.running: got 'channel:flow', want a group of settings (lines of "
            "`key: value`). Is a blank missing after the colon?"
        ),
    ),
    "an empty group asks about the indentation": (
        (
            "site:\n  name: plant\n  timezone: Europe/Berlin\n  data_dir: data\n",
            "site:\n",
        ),
        (
            "2:6: site: got nothing, want a group of settings (lines of `key: value`). Are the "
            "lines "
            "below it indented?"
        ),
    ),
    "a secret in the open is refused and not repeated": (
        ("password_file: secrets/line", "password: hunter2"),
        (
            "14:5: sources.line.password: secrets do not stand in the configuration; want "
            "password_file or password_env, which says where to find it"
        ),
    ),
    "the password in an address is not repeated": (
        ("tick_ms: 1000", "tick_ms: mqtt://user:hunter2@broker"),
        "17:14: kinds.pump.tick_ms: got 'mqtt://***@broker', want a whole number",
    ),
    "not even where it is cut short": (
        ("tick_ms: 1000", "tick_ms: mqtt://user:" + "hunter2" * 20 + "@broker"),
        "17:14: kinds.pump.tick_ms: got 'mqtt://***@broker', want a whole number",
    ),
    "the value of a key that speaks of a secret is not repeated": (
        ("password_file: secrets/line", "password_file: 271828"),
        (
            "14:20: sources.line.password_file: got a value that is not shown, want text. Without "
            "quotes it is no text: write it in quotes"
        ),
    ),
    "an unknown time zone": (
        ("Europe/Berlin", "Europe/Berln"),
        (
            "4:13: site.timezone: no time zone 'Europe/Berln'; want one as Europe/Berlin. "
            "Did you mean 'Europe/Berlin'?"
        ),
    ),
    "a folder of time zones is no time zone": (
        ("Europe/Berlin", "Europe"),
        (
            "4:13: site.timezone: no time zone 'Europe'; want one as Europe/Berlin. "
            "Did you mean 'Europe/Rome'?"
        ),
    ),
    "a name that cannot be part of an address": (
        ("  pump_2:", "  pump/2:"),
        (
            "32:3: assets.pump/2: 'pump/2' cannot be a name here: want letters, digits, '_', '-' "
            "and "
            "'.', beginning with a letter or digit"
        ),
    ),
    "a channel named by nothing": (
        ("temp_max: {", "' ': {"),
        (
            "19:7: kinds.pump.channels: ' ' cannot name a channel or a tag: want text in one line, "
            "without blanks around it"
        ),
    ),
    "a bare year is no time": (
        ("tick_ms: 1000", "tick_ms: 1000\n    oldest: 2026"),
        "18:13: kinds.pump.oldest: got 2026, want a time with its zone, as 2026-03-01T06:00:00Z",
    ),
    "a time without its zone": (
        ("tick_ms: 1000", "tick_ms: 1000\n    oldest: 2026-03-01T06:00:00"),
        (
            "18:13: kinds.pump.oldest: got '2026-03-01T06:00:00', want a time with its zone, as "
            "2026-03-01T06:00:00Z"
        ),
    ),
    "a device that is none": (
        ("{bundle: models/pump}", "{bundle: models/pump, device: gpu}"),
        (
            "24:42: kinds.pump.model.device: got 'gpu', want 'auto', 'cpu' or 'cuda'. "
            "Did you mean 'cpu'?"
        ),
    ),
    "a missing version": (
        ("config_version: 1\n", ""),
        "1:1: config_version is missing; want `config_version: 1`",
    ),
    "a newer version, and nothing about the rest": (
        (
            "config_version: 1\nsite:\n  name: plant\n",
            "config_version: 2\nsite:\n  nam: plant\n",
        ),
        (
            "1:17: config_version: got 2, but this program knows up to 1; want a newer program, or "
            "a "
            "file written for this one"
        ),
    ),
    "a section that there is not": (
        ("assets:\n", "unknown: {}\nassets:\n"),
        (
            "25:1: unknown: no such setting. There are config_version, site, sources, kinds, "
            "assets, "
            "cameras, sinks, state, web"
        ),
    ),
    # What one part says about another.
    "an asset of no kind": (
        ("    kind: pump\n    source: rig\n    tags", "    kind: pmp\n    source: rig\n    tags"),
        "27:11: assets.pump_1.kind: no kind 'pmp'. Did you mean 'pump'?",
    ),
    "an asset of no source": (
        ("    source: rig\n    address", "    source: rigg\n    address"),
        "34:13: assets.pump_2.source: no source 'rigg'. Did you mean 'rig'?",
    ),
    "a tag of no source": (
        ("source: line", "source: lin"),
        "31:22: assets.pump_1.tags.temp.source: no source 'lin'. Did you mean 'line'?",
    ),
    "a tag that the kind has not": (
        ("flow: F1", "flwo: F1"),
        "30:7: assets.pump_1.tags.flwo: kind 'pump' has no tag 'flwo'. Did you mean 'flow'?",
    ),
    "a channel is no tag where it is fed by another": (
        ("flow: F1", "temp_max: F1"),
        (
            "30:7: assets.pump_1.tags.temp_max: kind 'pump' has no tag 'temp_max'. "
            "Did you mean 'temp'?"
        ),
    ),
    "a running channel that is not there": (
        ("{channel: flow, above", "{channel: flwo, above"),
        "22:24: kinds.pump.running.channel: no channel 'flwo'. Did you mean 'flow'?",
    ),
    "limits out of order": (
        ("low: 1.5", "low: 15"),
        (
            "19:51: kinds.pump.channels.flow.limits: want low_low <= low <= high <= high_high, got "
            "[15.0, 8.0]"
        ),
    ),
    "two units for one tag": (
        ("unit: degC, aggregate: max", "unit: K, aggregate: max"),
        (
            "21:35: kinds.pump.channels.temp_max.unit: tag 'temp' is in 'degC' for channel 'temp', "
            "and in 'K' here"
        ),
    ),
    "a value stale before its tick ends": (
        ("temp: {unit: degC}", "temp: {unit: degC, stale_s: 0.1}"),
        (
            "20:35: kinds.pump.channels.temp.stale_s: got 0.1, want one tick (1 s) or more: a "
            "value "
            "must outlast it"
        ),
    ),
    "a template without a tag": (
        ("{asset}.{tag}", "{asset}.{tg}"),
        (
            "35:14: assets.pump_2.address: got '{asset}.{tg}', want {tag} in it, and {asset} where "
            "it "
            "is needed"
        ),
    ),
    "one address for two tags of an asset": (
        ("{source: line, address: plant/T1}", "F1"),
        (
            "31:13: assets.pump_1.tags.temp: 'F1' of source 'rig' already feeds tag pump_1/flow; "
            "give "
            "one tag two channels instead (tag: flow)"
        ),
    ),
    "one address for tags of two assets": (
        ("flow: F1", "flow: pump_2.flow"),
        (
            "32:3: assets.pump_2: 'pump_2.flow' of source 'rig' already feeds tag pump_1/flow; "
            "want "
            "addresses of its own for each asset, under tags or by a template as address: "
            "'{asset}.{tag}'"
        ),
    ),
    "training on an asset of no such name": (
        (
            "tick_ms: 1000",
            "tick_ms: 1000\n    training: {assets: [pump_3], model: {type: gru}}",
        ),
        "18:25: kinds.pump.training.assets[0]: no asset 'pump_3'. There are pump_1, pump_2",
    ),
    "training from a time after its end": (
        (
            "tick_ms: 1000",
            (
                "tick_ms: 1000\n    training: {since: 2026-03-02T00:00:00Z, "
                "until: 2026-03-01T00:00:00Z, model: {type: gru}}"
            ),
        ),
        "18:52: kinds.pump.training.until: got 2026-03-01T00:00:00+00:00, want a time after since",
    ),
    "a mistake in how a model is fitted": (
        ("tick_ms: 1000", "tick_ms: 1000\n    training: {model: {type: gru}, fit: {epoch: 5}}"),
        "18:42: kinds.pump.training.fit.epoch: no such setting. Did you mean 'epochs'?",
    ),
    "a mistake in a model's own settings": (
        ("tick_ms: 1000", "tick_ms: 1000\n    training: {model: {type: gru, hidden: 3}}"),
        "18:43: kinds.pump.training.model.hidden: got 3, want a multiple of 4",
    ),
    "an unknown member of an ensemble": (
        (
            "tick_ms: 1000",
            (
                "tick_ms: 1000\n"
                "    training: {model: {type: ensemble, members: [{type: pca}, {type: grr}]}}"
            ),
        ),
        (
            "18:70: kinds.pump.training.model.members[1].type: none of the members has the type "
            "'grr'. Did you mean 'gru'? There are "
        ),
    ),
    "a member without a type": (
        (
            "tick_ms: 1000",
            (
                "tick_ms: 1000\n"
                "    training: {model: {type: ensemble, members: [{type: pca}, {span: 3}]}}"
            ),
        ),
        "18:63: kinds.pump.training.model.members[1]: 'type' is missing",
    ),
    "an unknown model": (
        ("tick_ms: 1000", "tick_ms: 1000\n    training: {model: {type: grr}}"),
        (
            "18:30: kinds.pump.training.model.type: no model has the type 'grr'. Did you mean "
            "'gru'? "
            "There are "
        ),
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_it_is_said_where_and_what(problems: Problems, case: str) -> None:
    change, wanted = SAID[case]

    (line,) = problems(change)

    assert line == wanted or (wanted.endswith("There are ") and line.startswith(wanted))


def test_training_on_an_asset_of_another_kind(problems: Problems) -> None:
    said = problems(
        (
            "assets:\n",
            (
                "  fan: {channels: {speed: {}}, training: {assets: [pump_1], model: {type: gru}}}\n"
                "assets:\n"
            ),
        )
    )

    assert said == ["25:52: kinds.fan.training.assets[0]: asset 'pump_1' is not of kind 'fan'"]


def test_all_problems_come_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    said = problems(
        ("tick_ms: 1000", "tick_ms: -1"),
        ("detail_hours: 12", "detail_hours: x"),
        ("layout: wide", "layout: broad"),
        ("source: line", "source: lin"),
        ("timezone: Europe/Berlin", "timezone: Mars"),
    )

    paths = [line.split(": ")[1] for line in said]
    assert paths == [
        "site.timezone",
        "sources.rig.layout",
        "kinds.pump.tick_ms",
        "assets.pump_1.tags.temp.source",
        "state.detail_hours",
    ]


def test_a_mistake_in_a_kind_does_not_hide_what_contradicts_another_part(
    problems: Problems,
) -> None:
    found = problems(
        ("tick_ms: 1000", "tick_ms: soon"), ("{channel: flow, above", "{channel: flwo, above")
    )

    assert [line.partition(": ")[2] for line in found] == [
        "kinds.pump.tick_ms: got 'soon', want a whole number",
        "kinds.pump.running.channel: no channel 'flwo'. Did you mean 'flow'?",
    ]


def test_a_value_given_by_anchor_is_told_where_it_stands(problems: Problems) -> None:
    said = problems(
        ("  pump_1:\n    kind: pump\n", "  pump_1:\n    kind: &kind pmp\n"),
        (
            '    kind: pump\n    source: rig\n    address: "{asset}.{tag}"',
            "    kind: *kind\n    source: rig",
        ),
    )

    assert [line.split(": ")[:2] for line in said] == [
        ["27:11", "assets.pump_1.kind"],
        ["27:11", "assets.pump_2.kind"],
    ]


# What is not even a configuration.


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", ":1:1: nothing in it. `watchkeeper example config` prints one to start from"),
        (b"# only a remark\n", ":1:1: nothing in it."),
        (b"- a\n- b\n", ":1:1: not a configuration; want lines of `key: value`."),
        (b"watch the pumps", ":1:1: not a configuration"),
        (b"site: {name: K\xfchlung}", ":1:15: byte 0xfc is not UTF-8 (saved as Latin-1"),
        ("\ufeffsite: {}".encode("utf-16-le"), ":1:1: is UTF-16; want UTF-8"),
        (b"a: 1\na: 2\n", ":2:1: 'a' is given twice"),
        (b"a: [1", ":1:4: not YAML"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, wanted: str) -> None:
    file = tmp_path / "plant.yaml"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load(file)

    assert str(caught.value).startswith(f"{file}{wanted}")


def test_a_byte_order_mark_is_no_problem(plant: Plant, tmp_path: Path, text: str) -> None:
    file = tmp_path / "plant.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())

    assert load(file).hash == plant().hash


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").touch()

    with pytest.raises(ConfigError, match=r"nix\.yaml: no such file\."):
        load(tmp_path / "nix.yaml")
    with pytest.raises(ConfigError, match=r"is a folder; want a YAML file. Did you mean .*site"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load("plant\0.yaml")


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    with file.open("wb") as opened:
        opened.truncate(20_000_000_000)  # a hole: takes no room

    with pytest.raises(ConfigError, match="want a configuration of at most"):
        load(file)


# Any mistake at all.

STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from([10**400, -1, 0, 1e300, "nan", "inf", "2026", "\0", "\ud800", "a/b"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=4), max_size=2),
)


def paths_of(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = data.items() if isinstance(data, dict) else enumerate(data)
    found = []
    for key, value in entries:
        found.append((*path, key))
        if isinstance(value, dict | list):
            found += paths_of(value, (*path, key))
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_mistake_gives_a_configuration_or_places_in_the_file(
    connectors: dict[str, Connector], text: str, data: st.DataObject
) -> None:
    del connectors
    tree = read(text).data
    for _ in range(data.draw(st.integers(1, 3))):
        paths = paths_of(tree)
        if not paths:
            break
        *above, key = data.draw(st.sampled_from(paths))
        holder = tree
        for step in above:
            holder = holder[step]
        match data.draw(st.sampled_from(["delete", "rename", "retype"])):
            case "delete":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                name = data.draw(st.text(max_size=6) | st.sampled_from(list(holder)))
                holder[name] = holder.pop(key)
            case _:
                holder[key] = data.draw(STRANGE)
    mutated = json.dumps(tree, indent=1)
    lines = mutated.split("\n")

    try:
        config = parse(mutated, file="plant.yaml", base=Path("/plants/north"))
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ()
        ids = {name: index for index, name in enumerate(config.tag_names())}
        assets = {name: index for index, name in enumerate(config.asset_names())}
        assert len(config.plan(ids, assets).assets) == len(assets)

    for problem in problems:
        assert problem.place is not None
        assert problem.place.line <= len(lines)
        assert problem.place.column <= len(lines[problem.place.line - 1])
        assert problem.message


def test_every_connector_here_reads_live_and_history_by_the_same_settings() -> None:
    for connector in discover().values():
        if connector.source is not None and connector.history is not None:
            assert connector.source.Settings is connector.history.Settings, connector.name
