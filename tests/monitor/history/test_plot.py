"""The picture of an asset: what is in it, and what is said where there is nothing to draw."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from support.keeping import SECOND, START, event, scores
from support.pictures import noise, png

from monitor.core.plan import KindSettings
from monitor.core.records import (
    AlarmClass,
    PictureResult,
    Results,
    ScoreState,
    SeenDefect,
    Transition,
)
from monitor.history.camera_lane import Lane, spread
from monitor.history.plot import draw, figure_of
from monitor.history.shown import NothingToDrawError
from monitor.history.timeline import Timeline
from monitor.state.database import Database
from monitor.state.names import Names
from monitor.state.picture_results import PictureResults
from monitor.state.pictures import PictureStore
from monitor.state.rollups import Rollups, Width
from monitor.state.store import Store

CARD = SimpleNamespace(card=SimpleNamespace(threshold=4.5, provisional=True))
KIND = {"tick_ms": 1000, "channels": {"flow": {"unit": "m3/h"}, "heat": {"unit": "K"}}}
RAISED, RETURNED = Transition.RAISED, Transition.RETURNED


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with Database(tmp_path / "state") as opened:
        with opened.atomic() as tx:
            assert Names(opened).asset_ids(tx, ("p1", "p2")) == {"p1": 0, "p2": 1}
        yield opened


def keep(database: Database, *blocks: Any, alarms: tuple[Any, ...] = ()) -> None:
    store = Store(database)
    for block in blocks:
        with database.atomic() as tx:
            store.write(tx, Results(scores=(block,)), done=store.done() + 1)
    with database.atomic() as tx:
        store.write(tx, Results(alarms=alarms), done=store.done() + 1)


def figure(database: Database, bundle: Any = CARD, kind: Any = KIND, **given: Any) -> Figure:
    return figure_of(database, "p1", kind=KindSettings.model_validate(kind), bundle=bundle, **given)


def panels(drawn: Figure) -> dict[str, Axes]:
    return {str(panel.get_label()): panel for panel in drawn.axes}


def words(panel: Axes) -> list[str]:
    return [text.get_text() for text in panel.texts]


def drawn_words(drawn: Figure, part: str) -> list[str]:
    return [text.get_text() for text in drawn.texts if part in text.get_text()]


def bands(panel: Axes) -> np.ndarray:
    """The heights of all that is filled in the values of a panel."""
    filled = [one for one in panel.collections if one.get_transform() == panel.transData]
    return np.concatenate(
        [path.vertices[:, 1] for one in filled for path in one.get_paths() if len(path.vertices)]
    )


def measured(panel: Axes) -> np.ndarray:
    """The values of the line that lies above the others; thresholds have two ends only."""
    lines = [np.asarray(line.get_ydata(), float) for line in panel.lines]
    return [line for line in lines if len(line) > 2][-1]


def test_the_picture_is_a_png_of_1600_pixels_with_a_panel_for_each_thing(
    database: Database, tmp_path: Path
) -> None:
    keep(database, scores(range(1, 50), asset=0))
    path = tmp_path / "p1.png"
    kind = KindSettings.model_validate(KIND)
    draw(database, "p1", path, kind=kind, bundle=CARD)  # type: ignore[arg-type] # all it reads

    assert imread(path).shape[1] == 1600
    assert list(panels(figure(database))) == [
        "alarms",
        "surprise",
        "blame",
        "channel flow",
        "channel heat",
    ]


def test_a_threshold_of_the_model_is_called_provisional_where_the_card_says_so(
    database: Database,
) -> None:
    keep(database, scores(range(1, 9), asset=0))

    assert "threshold 4.5\n(provisional)" in words(panels(figure(database))["surprise"])
    settled = SimpleNamespace(card=SimpleNamespace(threshold=4.5, provisional=False))
    assert "threshold 4.5" in words(panels(figure(database, settled))["surprise"])


def test_a_threshold_of_the_configuration_is_drawn_instead_of_the_models(
    database: Database,
) -> None:
    keep(database, scores(range(1, 9), asset=0))
    drawn = figure(database, kind=KIND | {"alarm": {"threshold": 3.25}})

    assert "threshold 3.2" in words(panels(drawn)["surprise"])


def test_the_words_of_the_threshold_stand_beside_the_curve_not_on_it(database: Database) -> None:
    keep(database, scores(range(1, 9), asset=0, surprise=[1, 99, 1, 99, 1, 99, 1, 4.5]))
    drawn = figure(database)
    panel = panels(drawn)["surprise"]
    drawn.draw_without_rendering()
    (label,) = [text for text in panel.texts if text.get_text().startswith("threshold")]
    ticks = min(tick.get_window_extent().x0 for tick in panel.get_yticklabels())

    assert label.get_window_extent().x1 < ticks < panel.get_window_extent().x0


def test_surprise_and_blame_are_drawn_only_where_the_score_counts(database: Database) -> None:
    state = [ScoreState.WARMING, ScoreState.OK, ScoreState.BLIND, ScoreState.OK, ScoreState.OFF]
    keep(database, scores(range(1, 6), asset=0, surprise=[9, 1, 9, 2, 9], state=state))
    drawn = panels(figure(database))

    surprise = measured(drawn["surprise"])
    assert surprise[np.isfinite(surprise)].tolist() == [1, 1, 2, 2]
    shares = drawn["blame"].collections[-1].get_array()
    assert np.isfinite(np.ma.filled(shares, np.nan)).any(axis=0).tolist() == [
        kind is ScoreState.OK for kind in state
    ]


def test_a_value_that_is_not_valid_leaves_a_gap_and_is_marked(database: Database) -> None:
    keep(database, scores(range(1, 6), asset=0, value=[5, 6, float("nan"), 6, 5]))
    drawn = figure(database)

    assert np.isnan(measured(panels(drawn)["channel flow"])).tolist() == [
        *[False] * 4,
        *[True] * 2,
        *[False] * 4,
    ]
    assert "not valid" in [text.get_text() for text in drawn.legends[0].get_texts()]


def test_blocks_that_are_stored_out_of_order_are_drawn_in_order(database: Database) -> None:
    # A block counts by its latest asset: here p2 is far ahead in the one that was first for p1.
    keep(
        database,
        scores([1, 2, 99], asset=[0, 0, 1], value=[1, 2, 0]),
        scores([3, 4], asset=0, value=[3, 4]),
    )
    drawn = panels(figure(database))

    assert measured(drawn["channel flow"]).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]


def test_an_alarm_stands_from_when_it_was_raised_until_it_returned(database: Database) -> None:
    alarms = (
        event(RAISED, 20, raised=START + 20 * SECOND),
        event(RETURNED, 60, raised=START + 20 * SECOND),
        event(RAISED, 80, id="a2", alarm_class=AlarmClass.LIMIT, point="heat high"),
        event(RAISED, 50, id="elsewhere", asset="p2"),
        event(RAISED, 50, id="of a source", alarm_class=AlarmClass.PIPELINE, point="lost"),
    )
    keep(database, scores(range(1, 101), asset=0), alarms=alarms)
    strip = panels(figure(database))["alarms"]

    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in strip.patches]
    assert spans == [pytest.approx((0.2, 0.6)), pytest.approx((0.8, 1.0))]
    assert [label.get_text() for label in strip.get_yticklabels()] == ["process", "heat high"]


def test_an_alarm_from_before_the_picture_is_drawn_from_its_left_edge(database: Database) -> None:
    keep(database, scores(range(1, 101), asset=0), alarms=(event(RAISED, 20),))
    strip = panels(figure(database, since=START + 50 * SECOND))["alarms"]

    assert [bar.get_x() for bar in strip.patches] == [0]
    returned = event(RETURNED, 40)
    keep(database, alarms=(returned,))
    assert words(panels(figure(database, since=START + 50 * SECOND))["alarms"])[-1] == "none"


def test_a_day_is_drawn_with_few_points_and_its_one_spike(database: Database) -> None:
    value = np.full(86_400, 5.0)
    value[40_000] = 50
    keep(database, scores(range(1, 86_401), asset=0, value=value))
    line = measured(panels(figure(database))["channel flow"])

    assert len(line) <= 4000
    assert line.max() == 50


def test_without_a_model_there_are_only_channels_and_their_limits(database: Database) -> None:
    block = scores(range(1, 9), asset=0, state=ScoreState.BLIND)
    block.expected[:], block.spread[:] = np.nan, np.nan
    keep(database, block)
    flow = {"unit": "m3/h", "limits": {"high": 5.2, "rate": 3}}
    drawn = panels(figure(database, None, KIND | {"channels": KIND["channels"] | {"flow": flow}}))

    assert list(drawn) == ["alarms", "channel flow", "channel heat"]
    assert [5.2, 5.2] in [list(line.get_ydata()) for line in drawn["channel flow"].lines]


def test_what_is_no_longer_kept_at_full_rate_is_drawn_from_minutes_and_hours_and_said(
    database: Database,
) -> None:
    value = np.full(10_800, 5.0)
    value[4000] = 50
    hours = [slice(n, n + 3600) for n in range(0, 10_800, 3600)]
    seconds = np.arange(1, 10_801)
    keep(database, *(scores(seconds[h].tolist(), asset=0, value=value[h]) for h in hours))
    assert not drawn_words(figure(database), "Shown")
    with database.atomic() as tx:
        Rollups(database).step(tx, before=START + 7200 * SECOND)
        Rollups(database).forget(tx, Width.MINUTE, before=START + 3600 * SECOND, limit=9)
    drawn = figure(database)

    (said,) = drawn_words(drawn, "Shown")
    assert said.startswith(
        "Shown: a row an hour up to 2023-11-14 23:00:00+00:00, "
        "a row a minute up to 2023-11-15 00:00:00+00:00, then every frame"
    )
    (head,) = drawn_words(drawn, "frames")
    assert "10,800 frames, 10,800 scored" in head
    flow = panels(drawn)["channel flow"]
    assert bands(flow).max() == 50
    assert 5 < np.nanmax(measured(flow)) < 6  # a minute's mean
    changes = [line.get_xdata()[0] for line in flow.lines if len(line.get_xdata()) == 2]
    assert changes == [pytest.approx(1 / 3), pytest.approx(2 / 3)]


def test_without_any_frame_at_full_rate_there_is_a_picture_all_the_same(
    database: Database,
) -> None:
    keep(database, scores(range(1, 600), asset=0, surprise=2))
    with database.atomic() as tx:
        Rollups(database).step(tx, before=START + 10**18)
    drawn = panels(figure(database))

    assert list(drawn) == ["alarms", "surprise", "blame", "channel flow", "channel heat"]
    assert np.nanmax(measured(drawn["surprise"])) == 2
    assert "expected" not in [text.get_text() for text in figure(database).legends[0].get_texts()]
    assert words(drawn["channel flow"])[1] == "m3/h"


def test_what_an_asset_had_before_its_channels_changed_is_left_out(database: Database) -> None:
    keep(
        database,
        scores([1, 2], asset=0, channels=("flow",)),
        scores([3, 4], asset=0, channels=("flow", "heat")),
    )

    assert "channel heat" in panels(figure(database))
    assert len(measured(panels(figure(database))["channel flow"])) == 4


def test_the_words_say_which_range_there_is_in_the_zone_of_the_site(database: Database) -> None:
    keep(database, scores(range(1, 9), asset=0))

    with pytest.raises(NothingToDrawError) as caught:
        figure(database, since=START + 3600 * SECOND, timezone="Europe/Berlin")

    assert "from 2023-11-14 23:00:01+01:00 to 2023-11-14 23:00:08+01:00" in str(caught.value)


def test_an_asset_that_nothing_is_stored_of_is_said_to_be_so(database: Database) -> None:
    with pytest.raises(NothingToDrawError, match="no frames are stored of it yet"):
        figure(database)
    with pytest.raises(NothingToDrawError, match="nothing is stored of it; there are p1, p2"):
        figure_of(database, "p9", kind=KindSettings.model_validate(KIND), bundle=None)


def picture_result(number: int, *, camera: int = 0, wrong: bool = False) -> PictureResult:
    content = png(noise(number, 12, 12, 1))
    scratch = SeenDefect(label="scratch", probability=0.9, box=(1, 1, 5, 5))
    return PictureResult(
        camera=camera,
        time=START + number * SECOND,
        part=None,
        label="scratch" if wrong else "good",
        probability=0.9,
        hash=hashlib.sha256(content).hexdigest(),
        surprise=3.0 + number / 10 if wrong else 0.5,
        defects=(scratch,) if wrong else (),
    )


def see(database: Database, *results: PictureResult, kept: int = 99) -> None:
    """Pictures of the cameras 0, "top", and 1, "side"; ``kept``: of how many there are files."""
    store = PictureStore(database)
    for number in [round((one.time - START) / SECOND) for one in results[:kept]]:
        store.keep(png(noise(number, 12, 12, 1)))
    with database.atomic() as tx:
        assert Names(database).camera_ids(tx, ("top", "side")) == {"top": 0, "side": 1}
        PictureResults(database).add(tx, results)


def test_each_camera_that_saw_something_has_a_panel_with_a_mark_for_each_picture(
    database: Database,
) -> None:
    keep(database, scores(range(1, 50), asset=0))
    see(database, *(picture_result(number, wrong=number > 20) for number in (10, 20, 30, 40, 60)))
    drawn = panels(figure(database, cameras=("top", "side")))

    assert [name for name in drawn if name.startswith("camera")] == ["camera top"]
    marks = [np.asarray(one.get_offsets()) for one in drawn["camera top"].collections]
    heights = sorted(float(y) for one in marks for _, y in one if len(one) == 2 and y > 0)
    assert heights == pytest.approx([0.5, 0.5, 6.0, 7.0]), "the last came after the last frame"


def test_of_pictures_with_something_wrong_the_strangest_that_are_kept_are_shown(
    database: Database,
) -> None:
    keep(database, scores(range(1, 99), asset=0))
    bad = [picture_result(number, wrong=True) for number in range(5, 90, 5)]
    see(database, *reversed(bad), picture_result(92), kept=15)
    panel = panels(figure(database, cameras=("top",)))["camera top"]

    shown = [text for text in words(panel) if text.startswith("scratch\n")]
    assert shown == [f"scratch\n90%, surprise {3 + number / 10:.1f}" for number in range(60, 90, 5)]
    assert len(panel.child_axes) == len(shown) == 6


@pytest.mark.parametrize(
    ("at", "stand"),
    [
        ([], []),
        ([0.5], [0.5]),
        ([0.0, 1.0], [0.1, 0.9]),
        ([0.5, 0.5, 0.5], [0.5, 0.7, 0.9]),
        ([0.9, 0.95, 1.0], [0.5, 0.7, 0.9]),
        ([0.0] * 10, np.linspace(0.05, 0.95, 10)),
    ],
)
def test_pictures_stand_by_their_marks_in_order_and_beside_each_other(
    at: list[float], stand: list[float]
) -> None:
    assert spread(np.array(at), 0.2) == pytest.approx(np.asarray(stand))


def test_a_class_may_have_a_name_with_marks_of_mathematics(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png(noise(1, 8, 8, 3)))
    seen = PictureResult(
        camera=1, time=2 * SECOND, part=None, label="a$_$", probability=0.9, model="b0",
        surprise=2.0, source="eyes", hash="f",
    )  # fmt: skip
    lane = Lane("top", (seen,), ((0, path),))
    timeline = Timeline.of(np.array([SECOND]), np.array([3 * SECOND]))
    figure = Figure()
    lane.draw(figure.add_subplot(label="top"), timeline, across=10.0)
    figure.savefig(tmp_path / "plot.png")
