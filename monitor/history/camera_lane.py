"""What a camera saw, as one panel of an asset's picture: when, how strange, and the worst of it.

Below, a mark for each picture at its time, as high as its surprise; above, the strangest of those
with something wrong, as they are kept, over their marks as far as there is room.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import imread
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from monitor.core.records import PictureResult
from monitor.history.inks import INK, MUTED, RULE, STRANGE
from monitor.history.timeline import Timeline
from monitor.state.database import DatabaseReader
from monitor.state.names import Family, Names
from monitor.state.picture_results import PictureResults
from monitor.state.pictures import PictureStore

# N pictures

HEIGHT = 3.0  # inches
MARKS = 0.38  # of the panel's height; pictures have the rest, less their words
WORDS = 0.11  # of the height, below a picture
MOST = 6  # pictures that are shown: more leave no room between them
SIDE = 256  # pixels of a picture, at least, where it has so many
APART = 1.08  # widths of a picture from one to the next


@dataclass(frozen=True, slots=True)
class Lane:
    """The pictures of one camera in a range of time."""

    camera: str
    results: tuple[PictureResult, ...]  # in order of time
    worst: tuple[tuple[int, Path], ...]  # which of them are shown, in order of time, and how

    @classmethod
    def read(
        cls, database: DatabaseReader, camera: str, *, since: int, until: int
    ) -> "Lane | None":
        """Those in (since, until], ns since 1970 UTC; None: there are none."""
        numbers = {name: number for number, name in Names(database).of(Family.CAMERA).items()}
        if camera not in numbers:
            return None
        found = PictureResults(database).read(numbers[camera], since, until)
        results = tuple(one for one in reversed(found) if not one.rejected)
        store = PictureStore(database)
        kept = [
            (place, path)
            for place in sorted(range(len(results)), key=lambda place: -_strange(results[place]))
            if results[place].is_wrong
            and (path := store.shown(results[place].hash, overlay=True)) is not None
        ]
        return cls(camera, results, tuple(sorted(kept[:MOST]))) if results else None

    def draw(self, panel: Axes, timeline: Timeline, *, across: float) -> None:
        """Fill a panel, which is ``across`` inches wide, from 0 to 1, and HEIGHT high."""
        at_N = timeline.at(np.array([one.time for one in self.results]))
        surprise_N = np.array([_strange(one) for one in self.results])
        top = max(float(surprise_N.max()), 1.0)
        full = top * 1.12 / MARKS
        panel.set_ylim(0, full)
        wrong_N = np.array([one.is_wrong for one in self.results])
        for chosen, colour in ((~wrong_N, MUTED), (wrong_N, STRANGE)):
            panel.vlines(at_N[chosen], 0, surprise_N[chosen], color=colour, linewidth=1.2, zorder=7)
            panel.scatter(at_N[chosen], surprise_N[chosen], s=14, color=colour, zorder=7.5)
        ticks = MaxNLocator(2, integer=True).tick_values(0, top)
        panel.set_yticks([tick for tick in ticks if 0 <= tick <= top])
        size = HEIGHT * (1 - MARKS - WORDS) / across  # of a picture, as a share of the width
        shown = [place for place, _ in self.worst]
        low, high = MARKS + WORDS, 1.0
        for (place, path), middle in zip(
            self.worst, spread(at_N[shown], size * APART), strict=True
        ):
            one = self.results[place]
            inset = panel.inset_axes(
                (middle - size / 2, low, size, high - low), transform=panel.transAxes, zorder=8
            )
            inset.imshow(_pixels(path), cmap="gray")
            inset.set_xticks([])
            inset.set_yticks([])
            for side in inset.spines.values():
                side.set_color(STRANGE)
            panel.text(
                middle,
                low - 0.02,
                f"{one.label}\n{one.probability:.0%}, surprise {_strange(one):.1f}",
                transform=panel.transAxes,
                ha="center",
                va="top",
                fontsize=6.5,
                color=INK,
                zorder=8,
                parse_math=False,
            )
            panel.plot(
                [at_N[place], middle],
                [surprise_N[place], full * MARKS],
                color=RULE,
                linewidth=0.8,
                zorder=6.8,
            )


def spread(at: NDArray[np.float64], apart: float) -> NDArray[np.float64]:
    """Where the middles of pictures stand: as near to ``at`` [N], in order, as may be within 0..1.

    Neighbours are ``apart`` at least, where there is room; else as far as there is.
    """
    count = len(at)
    apart = min(apart, 1 / max(count, 1))
    places = np.clip(at, apart / 2, 1 - apart / 2)
    for number in range(1, count):
        places[number] = max(places[number], places[number - 1] + apart)
    if count:
        places[-1] = min(places[-1], 1 - apart / 2)
    for number in reversed(range(count - 1)):
        places[number] = min(places[number], places[number + 1] - apart)
    return places


def _strange(one: PictureResult) -> float:
    return one.surprise or 0.0


def _pixels(path: Path) -> NDArray[np.generic]:
    """A picture, small: a plot has no room for more."""
    pixels: NDArray[np.generic] = imread(path)
    step = max(max(pixels.shape[:2]) // SIDE, 1)
    return pixels[::step, ::step]
