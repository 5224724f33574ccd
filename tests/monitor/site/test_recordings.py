"""Recordings of simulated machines: what they hold is what the machines show, and labelled."""

import csv
import itertools
from datetime import datetime

import numpy as np
import pytest
from support.commands import watchkeeper

from connectors.batch import Samples
from monitor.history.reading import merged
from monitor.site.config import load
from monitor.site.healthy import numbered
from monitor.site.problems import PlantError
from monitor.site.simulate.drawing import drawn
from monitor.site.simulate.faults import DAY_MS, FAULTS, HOUR_MS, Family, Fault
from monitor.site.simulate.machines import KINDS
from monitor.site.simulate.recordings import Form, Recordings, write

BEGIN = 20_454 * DAY_MS  # 2026-01-01


def fault(name, at_h, lasts_h, **given):
    onset = BEGIN + at_h * HOUR_MS
    return Fault(name=name, onset_ms=onset, end_ms=onset + lasts_h * HOUR_MS, **given)


def recordings(**given):
    return Recordings(
        **{
            "machines": {"pump": 2, "tank": 1},
            "seed": 4,
            "begin_ms": BEGIN,
            "days": 1,
            "period_ms": 60_000,
            "healthy_ms": BEGIN + DAY_MS // 2,
            "faults": [
                ("pump_2", fault("trip", 14, 4, severity=1.25)),
                ("tank_1", fault("dropout", 12, 1, channel="level")),
            ],
            **given,
        }
    )


def silent(*_):
    """Nobody looks."""


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("changes_only", [False, True])
def test_what_is_read_back_is_what_the_machines_showed(form, changes_only, tmp_path):
    what = recordings(form=form, changes_only=changes_only)
    written = write(what, tmp_path, progress=silent)
    config = load(tmp_path / "plant.yaml")
    tags, _ = numbered(config)
    batches = list(merged([config.make_history(one, tags) for one in config.sources]))
    samples = [batch for batch in batches if isinstance(batch, Samples)]
    assert written == sum(map(len, samples))
    names = {number: name for name, number in tags.items()}
    got = {
        (names[tag], time // 1_000_000): value
        for batch in samples
        for tag, time, value in zip(
            batch.tag.tolist(), batch.time.tolist(), batch.value.tolist(), strict=True
        )
    }
    times = np.arange(BEGIN, BEGIN + DAY_MS, 60_000)
    shown = {
        (f"{unit.name}/{channel}", time): value
        for unit in what.units()
        for channel, column in zip(unit.kind.instruments, unit.values(times).T, strict=True)
        for time, value in zip(times.tolist(), column.tolist(), strict=True)
        if np.isfinite(value)
    }
    assert got == shown


def test_the_labels_say_which_machine_which_fault_when_and_where_it_shows(tmp_path):
    write(recordings(), tmp_path, progress=silent)
    with (tmp_path / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {
            "asset": "tank_1",
            "fault": "dropout",
            "family": "instrument",
            "onset": "2026-01-01T12:00:00.000Z",
            "end": "2026-01-01T13:00:00.000Z",
            "severity": "1.0",
            "channels": "level",
            "trip": "",
        },
        {
            "asset": "pump_2",
            "fault": "trip",
            "family": "process",
            "onset": "2026-01-01T14:00:00.000Z",
            "end": "2026-01-01T18:00:00.000Z",
            "severity": "1.25",
            "channels": "bearing_temperature vibration",
            "trip": "2026-01-01T16:00:00.000Z",
        },
    ]


def test_the_configuration_learns_from_what_is_healthy_and_sees_when_a_machine_stands(tmp_path):
    write(recordings(), tmp_path, progress=silent)
    kinds = load(tmp_path / "plant.yaml").kinds
    assert kinds["pump"].training.until.isoformat() == "2026-01-01T12:00:00+00:00"
    assert (kinds["pump"].running.channel, kinds["tank"].running) == ("speed", None)
    assert {one.unit for one in kinds["tank"].channels.values()} == {"m3/h", "%", "bar", "degC"}


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(PlantError, match="not empty"):
        write(recordings(), tmp_path, progress=silent)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("seed", range(5))
def test_drawn_faults_are_one_of_each_kind_a_machine_can_have_and_never_two_at_once(seed):
    found = drawn(
        {"pump": 4, "valve": 1},
        tuple(Family),
        seed=seed,
        since_ms=BEGIN,
        until_ms=BEGIN + 40 * DAY_MS,
    )
    for kind in ("pump", "valve"):
        names = [fault.name for machine, fault in found if machine.startswith(kind)]
        instrument = {name for name, what in FAULTS.items() if what.family is Family.INSTRUMENT}
        assert sorted(names) == sorted(instrument | set(KINDS[kind].faults))
    assert not any(machine == "pump_1" for machine, _ in found)
    for machine in {machine for machine, _ in found}:
        own = sorted(
            (fault for name, fault in found if name == machine), key=lambda one: one.onset_ms
        )
        assert own[0].onset_ms >= BEGIN
        assert own[-1].end_ms <= BEGIN + 40 * DAY_MS
        for before, after in itertools.pairwise(own):
            assert after.onset_ms - before.end_ms >= 6 * HOUR_MS


def test_faults_that_do_not_fit_into_the_days_are_refused():
    with pytest.raises(ValueError, match=r"1 machines of the kind pump need .* days more"):
        drawn({"pump": 1}, tuple(Family), seed=1, since_ms=BEGIN, until_ms=BEGIN + 10 * DAY_MS)


def test_the_command_writes_recordings_that_can_be_checked_and_says_how_many(tmp_path):
    folder = tmp_path / "rec"
    ended = watchkeeper(
        "simulate", "--recordings", folder, "--machines", "motor:2", "--machines", "valve",
        "--days", 2, "--every", "1min", "--format", "parquet", "--json",
        "--fault", "motor_2/offset,at=30h,for=2h,channel=current,severity=1.5",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert {name: ended.json[name] for name in ("machines", "days", "faults")} == {
        "machines": 3,
        "days": 2,
        "faults": 1,
    }
    assert ended.json["samples"] == 2 * 1440 * (7 + 7 + 6)
    with (folder / "labels.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert datetime.fromisoformat(row["onset"]).isoformat() == "2026-01-02T06:00:00+00:00"
    assert (row["channels"], row["severity"]) == ("current", "1.5")
    assert watchkeeper("check", folder / "plant.yaml").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--recordings: wants --machines"),
        (["--machines", "pump", "--mqtt", "h:1"], "neither --mqtt nor --opcua"),
        (["--machines", "pumps:2"], "there are: pump, motor, valve, tank"),
        (["--machines", "pump:0"], "want at least one"),
        (["--machines", "pump:x"], "want KIND:COUNT"),
        (["--machines", "pump", "--every", "7min"], "want a divisor of 15min"),
        (["--machines", "pump", "--fault", "leak"], "want MACHINE/FAULT,at=2d,for=6h"),
        (["--machines", "pump", "--fault", "pump_1/leek,at=1h"], "mean 'leak'?"),
        (["--machines", "pump", "--fault", "pump_1/leak"], "does not say when"),
        (["--machines", "pump", "--fault", "pump_2/leak,at=1h"], "no machine 'pump_2'"),
        (["--machines", "pump", "--fault", "pump_1/leak,at=1h,by=2"], "got by in"),
        (["--machines", "pump", "--fault", "pump_1/leak,at=1h,severity=-1"], "severity=-1"),
        (["--machines", "tank", "--fault", "tank_1/trip,at=1h"], "want one that a tank can have"),
        (["--machines", "pump", "--fault", "pump_1/spike,at=1h"], "got the channel None"),
        (["--machines", "pump", "--days", 2, "--fault", "pump_1/leak,at=2d"], "begins after"),
        (["--machines", "pump", "--days", 9, "--faults", "all"], "want more days"),
    ],
)
def test_recordings_that_cannot_be_are_refused_before_anything_is_made(words, said, tmp_path):
    ended = watchkeeper("simulate", "--recordings", tmp_path / "new", *words)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert not (tmp_path / "new").exists()
