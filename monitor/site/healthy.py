"""The healthy history of a kind, read as its `training` names it: what is learnt from, and judged.

`train` and `quality` read the same.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from models.contract import Stretch
from monitor.core.plan import Plan
from monitor.history.learning import stretches
from monitor.history.quality import Report, report
from monitor.history.reading import merged
from monitor.history.stamps import Stamps, Watch
from monitor.live.clock import Clock
from monitor.site.advice import rejections
from monitor.site.config import Config
from monitor.site.problems import MismatchedError

logger = logging.getLogger(__name__)

SPARSE = 3  # ticks from sample to sample: more is said


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthy:
    """What was read."""

    plan: Plan  # of this kind and the machines that are learnt from
    stretches: list[Stretch]
    stamps: Mapping[int, Stamps]  # by the number of the tag
    samples: int
    rejections: tuple[str, ...]  # of which sources some were, how many and why

    @property
    def frames(self) -> int:
        """Of all stretches."""
        return sum(map(len, self.stretches))

    def quality(self) -> Report:
        """What is odd about it."""
        return report(self.plan, self.stretches, self.stamps)


def healthy(
    config: Config,
    kind: str,
    *,
    clock: Clock,
    assets: Sequence[str] = (),
    since: int | None = None,
    until: int | None = None,
) -> Healthy:
    """Read the history of a kind; without `training`, all there is of all its assets.

    ``assets``, ``since`` and ``until``, ns, in the place of what its `training` says.

    Raises MismatchedError where nothing of it can be used, and what the histories raise.
    """
    training = config.kinds[kind].training
    names = (
        list(assets)
        or (training.assets if training is not None else [])
        or [asset for asset, given in config.assets.items() if given.kind == kind]
    )
    if training is not None:
        since = ns(training.since) if since is None and training.since is not None else since
        until = ns(training.until) if until is None and training.until is not None else until
    if since is not None and until is not None and since >= until:
        raise MismatchedError(
            f"kind {kind}: no time lies after {_moment(since)} and until {_moment(until)}. What is "
            f"not given is as in training.since and training.until: give --since and --until."
        )
    tag_ids, asset_ids = numbered(config)
    whole = config.plan(tag_ids, asset_ids)
    plan = replace(
        whole,
        kinds={kind: whole.kinds[kind]},
        assets=tuple(asset for asset in whole.assets if asset.name in names),
    )
    sources = {source for asset in plan.assets for _, source in asset.tags.values()}
    batches = merged(
        [config.make_history(source, tag_ids) for source in config.sources if source in sources],
        since=since,
        until=until,
    )
    watch = Watch()
    runs, read = stretches(plan, watch(batches), received=clock.now())
    told = {
        source: rejections(source, found.rejected, found.examples, received=found.received)
        for source, found in read.items()
        if found.rejected.total()
    }
    if useless := [told[source] for source in told if not read[source].taken]:
        raise MismatchedError(f"kind {kind}: {'. '.join(useless)}.")
    if not any(found.taken for found in read.values()):
        span = " to ".join(
            "..." if moment is None else _moment(moment).isoformat(sep=" ")
            for moment in (since, until)
        )
        raise MismatchedError(
            f"kind {kind}: no sample in the history of {', '.join(names)} from {span}; look at "
            f"training.since and training.until, and at the files."
        )
    found = Healthy(
        plan=plan,
        stretches=runs,
        stamps=watch.tags,
        samples=sum(one.taken for one in read.values()),
        rejections=tuple(told.values()),
    )
    _warn_of_short_ticks(kind, found)
    return found


def _warn_of_short_ticks(kind: str, found: Healthy) -> None:
    """Frames far nearer to each other than samples cost time, and show nothing new."""
    tick_s = found.plan.kinds[kind].tick_ms / 1000
    apart_s = tick_s * found.frames * len(found.plan.assets[0].tags) / found.samples
    if apart_s > SPARSE * tick_s:
        logger.warning(
            "kind %s: a frame each %g s, but a sample of each tag only each %.3g s or so. If they "
            "come at a regular distance, set kinds.%s.tick_ms to it: training and scoring take as "
            "much less time.",
            *(kind, tick_s, apart_s, kind),
        )


def numbered(config: Config) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of tags and assets for names that nobody keeps."""
    return (
        {name: number for number, name in enumerate(config.tag_names())},
        {name: number for number, name in enumerate(config.asset_names())},
    )


def _moment(instant: int) -> datetime:
    """In UTC, to the microsecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant // 1000)


def ns(moment: datetime) -> int:
    """Nanoseconds since 1970 UTC, exactly: a float holds only every 256th."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
