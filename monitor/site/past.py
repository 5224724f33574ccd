"""What was, scored again: the history of the sources, or the journal, into databases of their own.

Live state is not touched: a backfill has a folder beside it, and a review keeps nothing.
"""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

from connectors.batch import Samples
from connectors.contract import History
from models.bundle import Bundle
from models.vision.progression import Progression
from monitor.core.pipeline import Pipeline
from monitor.core.plan import SECOND, Plan
from monitor.core.records import Results
from monitor.history.backfill import backfill
from monitor.history.reading import merged
from monitor.history.review import Scored, collect
from monitor.live.clock import Clock
from monitor.site.advice import rejections
from monitor.site.cameras import progressions
from monitor.site.config import Config
from monitor.site.healthy import numbered
from monitor.site.plant import bundles, registered
from monitor.site.problems import MismatchedError, PlantError
from monitor.state.database import Database, DatabaseReader
from monitor.state.journal import Journal
from monitor.state.names import Family, Names
from monitor.state.store import Store

logger = logging.getLogger(__name__)

GROUP_BYTES = 4 << 20  # of results: what a backfill commits at once


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A history that was scored, to see what would have fired."""

    bundles: Mapping[str, Bundle]
    scored: Mapping[str, list[Scored]]  # by kind: of each asset of which anything was scored
    rejections: tuple[str, ...]  # of which sources some were, how many and why


@contextmanager
def fresh_database(folder: Path) -> Iterator[Database]:
    """An empty database in place of what the folder held. Raises LockedError while it is in use."""
    Database(folder).close()  # not while somebody else writes it
    shutil.rmtree(folder)
    with Database(folder) as database:
        yield database


@contextmanager
def replacing_database(folder: Path) -> Iterator[Database]:
    """An empty database that takes the place of what the folder held once the block has ended.

    What was there stays when the block raises. Raises LockedError while another process fills one.
    """
    unfinished = folder.with_name(folder.name + ".unfinished")
    with fresh_database(unfinished) as database:
        yield database
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.rename(folder)


def score_history(
    config: Config,
    database: Database,
    *,
    clock: Clock,
    since: int | None,
    until: int | None,
    progress: Callable[[int, int], None],
) -> None:
    """Score what the sources hold of (since, until], ns, into a database of its own."""
    tag_ids, asset_ids, _ = registered(config, database)
    pipeline = _pipeline(config, config.plan(tag_ids, asset_ids))
    batches = merged(_histories(config, tag_ids), since=since, until=until)
    found = backfill(pipeline, batches, received=clock.now(), progress=progress)
    _store(database, pipeline, found)


def review_history(
    config: Config,
    *,
    clock: Clock,
    since: int | None,
    until: int | None,
    progress: Callable[[int, int], None],
) -> Reviewed:
    """Score what the sources hold of (since, until], ns, and keep nothing but the scores.

    Raises ModelMissingError, PlantError, and MismatchedError where nothing could be scored.
    """
    tag_ids, asset_ids = numbered(config)
    plan, models = config.plan(tag_ids, asset_ids), bundles(config)
    if not models:
        raise PlantError("no kind has a model: what plain limits alarm, no budget decides.")
    pipeline = _pipeline(config, plan, models)
    batches = merged(_histories(config, tag_ids), since=since, until=until)
    found = backfill(pipeline, batches, received=clock.now(), progress=progress)
    scored = collect(plan, found)
    status = pipeline.status()
    told = tuple(
        rejections(name, of["rejected"], status["examples"].get(name, {}), received=of["received"])
        for name, of in status["conservation"].items()
        if of["rejected"]
    )
    if not scored:
        samples = sum(of["received"] for of in status["conservation"].values())
        frames = ", ".join(f"{n:,} {state}" for state, n in status["frames"].items() if n)
        raise MismatchedError(
            f"{'. '.join((*told, 'no frame of the history could be scored'))}: {samples:,} samples "
            f"made {frames or 'no frames'}. Look at --since and --until, and whether the history "
            f"is longer than the model's warm-up."
        )
    return Reviewed(models, scored, told)


def _histories(config: Config, tag_ids: Mapping[str, int]) -> list[History]:
    return [config.make_history(name, tag_ids) for name in _sources(config)]


def replay_journal(
    config: Config,
    journal: DatabaseReader,
    database: Database,
    *,
    progress: Callable[[int, int], None],
    warn: Callable[[str], None] = logger.warning,
) -> None:
    """Step through a journal once more, from its first record, into a database of its own.

    Tags keep the numbers they have in the journal. ``warn`` is told, in words, when the beginning
    of the journal is forgotten: the result then differs from the live one. Raises PlantError.
    """
    numbers = Names(journal).of(Family.TAG)
    names = Names(database)
    with database.atomic() as tx:
        names.take_over(tx, Family.TAG, numbers)
        asset_ids = names.asset_ids(tx, config.asset_names())
        names.take_over(tx, Family.CAMERA, Names(journal).of(Family.CAMERA))
        camera_ids = names.camera_ids(tx, config.camera_names())
    tag_ids = {name: number for number, name in numbers.items()}
    missing = [name for name in config.tag_names() if name not in tag_ids]
    if missing:
        raise PlantError(
            f"{journal.path}: no tag {missing[0]} in its journal: of another configuration."
        )
    plan = config.plan(tag_ids, asset_ids, camera_ids)
    pipeline = _pipeline(config, plan, growth=progressions(config))
    records = Journal(journal)
    first, received = records.first(), records.begins()
    if first > 1 and received is not None:
        moment = datetime.fromtimestamp(received // SECOND, ZoneInfo(config.site.timezone))
        warn(
            f"{journal.path}: the journal begins with record {first}, received at "
            f"{moment.isoformat(sep=' ')}; those before it are forgotten (state.journal_hours). "
            f"What the service knew by then is missing: models warm up anew, alarms that stood are "
            f"not known, and results differ from the live ones, at the beginning most of all. "
            f"Without `--from journal` the history of the sources is scored."
        )

    def steps() -> Iterator[Results]:
        count = 0
        for _, record in records.read(first - 1):
            yield pipeline.step(record)
            if isinstance(record.body, Samples) and len(record.body):
                count += len(record.body)
                progress(count, int(record.body.time.max()))

    _store(database, pipeline, steps())


def _store(database: Database, pipeline: Pipeline, found: Iterator[Results]) -> None:
    """Write results group by group, and at the end what was counted."""
    store = Store(database)
    group: list[Results] = []
    size = done = 0

    def commit() -> None:
        nonlocal size, done
        done += 1
        with database.atomic() as tx:
            store.write(tx, Results.join(group), done=done)
        group.clear()
        size = 0

    for results in found:
        group.append(results)
        size += sum(64 * len(scores) * (1 + len(scores.channels)) for scores in results.scores)
        if size > GROUP_BYTES:
            commit()
    commit()
    with database.atomic() as tx:
        store.write_status(tx, pipeline.status())


def _pipeline(
    config: Config,
    plan: Plan,
    models: Mapping[str, Bundle] | None = None,
    *,
    growth: Mapping[str, Progression] = MappingProxyType({}),
) -> Pipeline:
    try:
        return Pipeline(plan, bundles(config) if models is None else models, growth)
    except ValueError as error:
        raise PlantError(str(error)) from error


def _sources(config: Config) -> list[str]:
    """The sources that some tag comes from, in the order of the file."""
    used = {bound.source for asset in config.assets for bound in config.tags_of(asset)}
    return [name for name in config.sources if name in used]
