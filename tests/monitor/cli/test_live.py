"""The live view: what a person sees of a plant while it runs."""

import io

import pytest
from rich.console import Console

from monitor.cli.live import BAR, Rates, view, watching

SECOND = 1_000_000_000


def asset(surprise=1.0, *, threshold=4.0, state="ok", active=()):
    return {
        "state": state,
        "cameras_alone": False,
        "surprise": surprise,
        "threshold": threshold,
        "active": [
            {"raised_ns": raised, "reason": reason, "diagnosis": None} for raised, reason in active
        ],
    }


def summary(assets, received=1000):
    return {
        "sources": {
            "plc": {
                "state": "running",
                "received": received,
                "last_ns": None,
                "active": [],
                "pictures": False,
            }
        },
        "assets": assets,
        "samples_received": received,
        "frames_scored": 12,
        "score_latency_ms": {"p50": 80.0, "p99": 250.0},
        "backlog": {"hook": 0, "influx": 7},
    }


def shown(found, rates=None):
    console = Console(file=io.StringIO(), width=160)
    console.print(view(found, rates or {}, zone="UTC"))
    return console.file.getvalue()


def test_a_source_is_shown_with_its_rate_and_an_asset_with_its_surprise():
    text = shown(summary({"pump": asset(2.0)}), {"plc": 1234.0})
    assert "plc" in text
    assert "1,234 samples/s" in text
    assert "no sample yet" in text
    assert "surprise 2.0 of 4.0" in text
    assert "sample to score 80 ms, p99 250 ms" in text
    assert "influx: 7 waiting" in text
    assert "hook" not in text  # it has everything


@pytest.mark.parametrize(("surprise", "filled"), [(0.0, 0), (2.0, 8), (4.0, 16), (400.0, BAR)])
def test_the_bar_reaches_the_mark_at_the_threshold(surprise, filled):
    text = shown(summary({"pump": asset(surprise)}))
    assert text.count("\u2588") == filled


def test_what_stands_is_said_below_and_rows_do_not_jump_about():
    found = summary(
        {
            "calm": asset(0.1),
            "near": asset(3.9),
            "bad": asset(None, active=[(5 * SECOND, "surprise 9.0 at or over 4.0")]),
        }
    )
    lines = shown(found).splitlines()
    order = [
        next(n for n, line in enumerate(lines) if line.startswith(name))
        for name in ("calm", "near", "bad")
    ]
    assert order == sorted(order)
    assert any(
        line.startswith("ALARM bad since 1970-01-01 00:00:05.000+00:00: surprise 9.0")
        for line in lines
    )


def test_of_many_assets_one_that_stands_is_shown_however_calm_it_is():
    found = {f"p{n}": asset(1 + n / 100) for n in range(30)}
    found["p3"] = asset(0.0, active=[(0, "flow low")])
    assert "p3 " in shown(summary(found))


def test_of_many_assets_the_calmest_are_left_out():
    text = shown(summary({f"p{n}": asset(n / 100) for n in range(30)}))
    assert "p29" in text
    assert "p1 " not in text
    assert "and 10 more assets" in text


def test_an_asset_without_a_score_or_a_model_is_shown_without_one():
    text = shown(summary({"new": asset(None, threshold=None, state=None)}))
    assert "no score yet" in text
    assert "surprise" not in text


def test_rates_are_of_what_came_since_the_look_before():
    seconds = iter([10.0, 12.0])
    rates = Rates(lambda: next(seconds))
    assert rates.of(summary({}, received=1000)) == {}
    assert rates.of(summary({}, received=1500)) == {"plc": 250.0}


def test_without_a_terminal_nothing_is_shown_and_nothing_is_read(tmp_path, capsys):
    with watching(tmp_path / "nowhere", zone="UTC"):
        pass
    assert capsys.readouterr() == ("", "")
