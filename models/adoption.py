"""A machine that a model has not learnt from gets a scaling of its own; the weights stay.

From its own healthy days, by the same arithmetic as in training. Nothing adapts by itself: what
follows a machine silently learns its slow faults too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.bundle import AssetRange, Bundle, OwnScaling, ranges
from models.contract import Stretch
from models.scaling import LEAST_DAYS


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it."""

    bundle: Bundle  # the same model, with the scalings of these machines on its card
    pooled: Mapping[str, tuple[str, ...]]  # asset -> channels that keep the pooled scaling


def adopt(bundle: Bundle, stretches: Sequence[Stretch]) -> Adopted:
    """Learn the scaling of each machine of these healthy stretches, in the channels' units.

    Raises ValueError for a machine with too little history, or of which no channel moved.
    """
    learnt = ranges(stretches)
    own, pooled = {}, {}
    for name, span in learnt.items():
        found = bundle.card.scaling.own(
            [one for one in stretches if one.asset == name], tick_ms=bundle.card.tick_ms
        )
        if found is None:
            hours = span.frames * bundle.card.tick_ms / 3_600_000
            raise ValueError(
                f"{name}: want at least {LEAST_DAYS * 24:g} h of healthy running in which some "
                f"channel moves, got {hours:.1f} h. Give a longer history, or one in which it runs."
            )
        scaling, moved = found
        own[name] = OwnScaling(scaling=scaling, learnt=span)
        pooled[name] = tuple(
            channel.name
            for channel, is_own in zip(bundle.card.channels, moved, strict=True)
            if not is_own
        )
    return Adopted(bundle.with_own(own), pooled)


def forgotten(before: Bundle, after: Bundle) -> dict[str, AssetRange]:
    """The machines that were adopted, and from what, which a new model has not learnt from since.

    Its training saw nothing of them, or nothing of as late: they may have been repaired between.
    """
    lost = {}
    for name, own in before.card.own.items():
        known = after.card.own.get(name)
        adopted = own.learnt != before.card.data.get(name)
        if adopted and (known is None or known.learnt.last < own.learnt.last):
            lost[name] = own.learnt
    return lost
