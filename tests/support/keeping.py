"""Records and results to be kept, for tests of what survives a restart."""

from collections.abc import Sequence

import numpy as np

from connectors.batch import Samples
from connectors.points import Message, Points
from monitor.core.records import (
    AlarmClass,
    AlarmEvent,
    Judgements,
    Record,
    Scores,
    ScoreState,
    Spoke,
    Transition,
)

SECOND = 1_000_000_000
START = 1_699_999_200 * SECOND  # a whole hour


def batch(number: int, *, size: int = 1, source: str = "press") -> Record:
    """The record in which a source sends its ``number``: as value, as time and as position."""
    return Record(
        START + number,
        Samples(
            source=source,
            tag=np.zeros(size, np.int32),
            time=np.full(size, START + number * SECOND),
            value=np.full(size, float(number)),
            status=np.zeros(size, np.uint32),
            flags=np.zeros(size, np.uint8),
            position=str(number),
        ),
    )


def scores(
    seconds: Sequence[float],
    *,
    asset: int | Sequence[int] = 0,
    surprise: float | Sequence[float] = 1.0,
    state: int | Sequence[int] = ScoreState.OK,
    value: float | Sequence[float] = 5.0,
    coverage: float | Sequence[float] = 1.0,
    kind: str = "pump",
    channels: tuple[str, ...] = ("flow", "heat"),
) -> Scores:
    """Scores at these seconds after START. The first channel has all blame, both have the value."""
    count = len(seconds)

    def column(given: object, dtype: type[np.generic]) -> np.ndarray:
        return np.broadcast_to(np.asarray(given, dtype), (count,)).copy()

    blame = np.zeros((count, len(channels)), np.float32)
    blame[:, 0] = 1
    values = np.repeat(column(value, np.float32)[:, None], len(channels), axis=1)
    return Scores(
        kind=kind,
        channels=channels,
        asset=column(asset, np.int32),
        tick=np.array([START + round(second * SECOND) for second in seconds], np.int64),
        raw=column(surprise, np.float32) * 2,
        surprise=column(surprise, np.float32),
        blame=blame,
        coverage=column(coverage, np.float32),
        state=column(state, np.uint8),
        value=values,
        expected=values + 1,
        spread=np.ones_like(values),
    )


def event(transition: Transition, second: float, **changed: object) -> AlarmEvent:
    """One transition of alarm "a1" of asset p1, raised at START."""
    given: dict[str, object] = {
        "id": "a1",
        "asset": "p1",
        "alarm_class": AlarmClass.PROCESS,
        "point": "surprise",
        "transition": transition,
        "tick": START + round(second * SECOND),
        "raised": START,
        "reason": "surprise 4.0 over 3.0",
        "value": 4.0,
        "threshold": 3.0,
        "blame": {"flow": 0.75, "heat": 0.25},
    }
    return AlarmEvent(**(given | changed))


def message(name: str, second: float = 0) -> Message:
    """A message with this id."""
    return Message(
        id=name,
        subject="a1",
        type="alarm.raised",
        time=START + round(second * SECOND),
        body={"asset": "p1", "why": ["hot", None, 1.5]},
    )


def points(*seconds: float) -> Points:
    """One row of asset_score for each second after START."""
    return Points(
        measurement="asset_score",
        tags={"asset": "p1"},
        time=np.array([START + round(second * SECOND) for second in seconds], np.int64),
        fields={"surprise": np.array(seconds, np.float64), "valid": np.ones(len(seconds))},
    )


def same(left: object, right: object) -> bool:
    """Whether two records, batches or results are equal, arrays bit for bit."""
    if isinstance(left, np.ndarray):
        return (
            isinstance(right, np.ndarray)
            and left.dtype == right.dtype
            and left.shape == right.shape
            and left.tobytes() == right.tobytes()
        )
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(left[key], right[key]) for key in left)
        )
    names = getattr(left, "__dataclass_fields__", None)
    if names is None:
        return type(left) is type(right) and left == right
    return type(left) is type(right) and all(
        same(getattr(left, name), getattr(right, name)) for name in names
    )


def judgements(
    seconds: Sequence[float], *, spoke: Spoke = Spoke.BOTH, kind: str = "pump"
) -> Judgements:
    """What sensors (2) and a picture (3) say together (2.5) at these seconds after START."""

    def column(value: float, *, there: bool) -> np.ndarray:
        return np.full(len(seconds), value if there else np.nan, np.float32)

    shown = bool(spoke & Spoke.PICTURES)
    return Judgements(
        kind=kind,
        asset=np.zeros(len(seconds), np.int32),
        tick=np.array([START + round(second * SECOND) for second in seconds], np.int64),
        surprise=column(2.5, there=spoke != Spoke.NOBODY),
        sensor=column(2.0, there=bool(spoke & Spoke.SENSORS)),
        picture=column(3.0, there=shown),
        age=column(12.0, there=shown),
        weight=np.full(len(seconds), 0.5 if shown else 0.0, np.float32),
        spoke=np.full(len(seconds), spoke, np.uint8),
    )
