"""The configured plant at work: the rooms put together as the configuration says.

What the commands and the demo call: train a model, run the service.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from models.adoption import adopt, forgotten
from models.bundle import AssetRange, Bundle, BundleError
from models.gradient import Fitted
from models.runtime import use_one_thread
from models.search import Trial, best, search, trials_of
from models.settings import DetectorSettings, TrainingSettings
from models.threshold import Support
from models.training import Progress, train
from models.workers import workers
from monitor.core.plan import MILLISECOND
from monitor.history.budget import choose_threshold, own_scores, same_delays, threshold_for
from monitor.history.learning import channels_of
from monitor.history.quality import Report
from monitor.live.clock import Clock
from monitor.live.grading import CameraSetup
from monitor.live.reload import Look
from monitor.live.service import Service
from monitor.live.setup import Setup, SinkSetup, SourceSetup, assignments
from monitor.live.tidying import Retention
from monitor.site.cameras import camera_setups
from monitor.site.config import Config
from monitor.site.healthy import healthy
from monitor.site.problems import ModelMissingError, PlantError
from monitor.site.settings import Kind
from monitor.site.teaching import Taught, labels_of, teach
from monitor.state.database import Database
from monitor.state.locks import held
from monitor.state.names import Names

use_one_thread()

SAME_BUDGET = 0.05  # relative: a machine more or less is no other budget


def bundles(config: Config) -> dict[str, Bundle]:
    """The model of each kind that has one. Raises ModelMissingError, PlantError."""
    found = {}
    for name, kind in config.kinds.items():
        if kind.model is None:
            continue
        path = Path(kind.model.bundle)
        if not path.exists():
            raise ModelMissingError(
                f"kind {name}: no model in {path}. `watchkeeper train` makes it; "
                f"to do without, leave `model` out of the kind."
            )
        found[name] = _bundle(name, kind)
    return found


def unfit(config: Config) -> tuple[str, ...]:
    """What is wrong with the models that are there, in a sentence each: `run` will refuse them.

    Or what is odd: a threshold that is not of the alarm budget, or of other delays.
    """
    wrong = []
    for name, kind in config.kinds.items():
        if kind.model is not None and Path(kind.model.bundle).exists():
            try:
                bundle = _bundle(name, kind)
            except PlantError as error:
                wrong.append(str(error))
                continue
            if kind.diagnosis is not None and bundle.card.diagnosis is None:
                wrong.append(
                    f"kinds.{name}.diagnosis: the model was taught no faults; train it again, and "
                    f"look at what `watchkeeper train` says of the labels"
                )
            support, strange = bundle.card.support, bundle.not_learnt(_assets(config, name))
            if strange:
                wrong.append(
                    f"kind {name}: the model was made from healthy days of other machines, and has "
                    f"none of {', '.join(strange)}: false alarms are likely; `watchkeeper adopt` "
                    f"learns them"
                )
            if support is None or kind.alarm.threshold != "auto":
                continue
            asked = config.site.alarm_budget.each(config.scored_assets)
            if not same_delays(support, kind.alarm):
                wrong.append(
                    f"kinds.{name}.alarm: the model's threshold was chosen for other delays; train "
                    f"it again"
                )
            elif abs(support.per_asset_30_days / asked - 1) > SAME_BUDGET:
                wrong.append(
                    f"site.alarm_budget: leaves {asked:.3g} alarms to each asset in 30 days, but "
                    f"the threshold of kind {name} was chosen for {support.per_asset_30_days:.3g}; "
                    f"`watchkeeper budget --apply` puts another one on its model's card"
                )
    return tuple(wrong)


def _assets(config: Config, kind: str) -> list[str]:
    return [name for name, asset in config.assets.items() if asset.kind == kind]


def _bundle(name: str, kind: Kind) -> Bundle:
    """The model of a kind. Raises PlantError where it is damaged or does not fit."""
    assert kind.model is not None  # noqa: S101 - asked for by whoever calls
    try:
        bundle = Bundle.load(kind.model.bundle, device=kind.model.device)
        bundle.check_fits(channels_of(kind), kind.tick_ms)
    except (BundleError, ValueError) as error:  # ValueError: no CUDA here
        raise PlantError(f"kind {name}: {error}") from error
    return bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A model that was made, and what it was made from."""

    kind: str
    path: Path
    samples: int
    rejections: tuple[str, ...]  # of which sources some were, how many and why
    quality: Report  # what is odd about the history it was made from
    frames: int
    threshold: float
    provisional: bool  # the healthy history is too short for the alarm budget
    support: Support  # what stands behind the threshold
    machines: int  # that were learnt from; one alone is held out block by block of its time
    fits: tuple[Fitted, ...]  # of each fold, then of the model that is kept; none without a network
    trials: tuple[Trial, ...]  # of a search, in their order; none where there was none
    taught: Taught | None  # the faults it can name; None: the kind has no `diagnosis`
    forgotten: Mapping[str, tuple[int, int]]  # machines it no longer knows: when they were healthy


def learn(
    config: Config,
    kind: str,
    *,
    clock: Clock,
    progress: Progress,
    should_stop: Callable[[], bool],
    trials: int = 0,
) -> Learnt:
    """Train the model of one kind on the history its settings name, and save it.

    With ``trials``, so many settings are tried first, and the best of them are used. Of processes
    that train together, the first alone writes.

    Raises PlantError where the kind has nothing to be trained with or the history will not do,
    OSError where the model could not be saved, LockedError while another process trains it, and
    Interrupted when should_stop() said so: the same call goes on from there.
    """
    settings = config.kinds[kind]
    if settings.training is None or settings.model is None:
        raise PlantError(f"kind {kind}: wants `training` and `model.bundle` to be trained.")
    path = Path(settings.model.bundle)
    learnt = partial(
        _learn,
        config,
        kind,
        clock=clock,
        progress=progress,
        should_stop=should_stop,
        trials=trials,
    )
    if not workers().first:
        return learnt()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent):
        pass  # whether a model can be saved here is better known before hours of training
    with _held(kind, path):
        return learnt()


def apply_budget(config: Config, kind: str, per_asset_30_days: float) -> float:
    """Put the threshold of a budget on the card of a kind's model; gives that threshold.

    Raises PlantError where the card cannot say it, LockedError while a process trains the model.
    """
    settings = config.kinds[kind]
    assert settings.model is not None  # noqa: S101 - asked for by whoever calls
    path = Path(settings.model.bundle)
    with _held(kind, path):
        bundle = _bundle(kind, settings)
        support = bundle.card.support
        if support is None or not same_delays(support, settings.alarm):
            why = "was trained before budgets" if support is None else "counted with other delays"
            raise PlantError(f"kind {kind}: the model in {path} {why}. Train it again.")
        made = threshold_for(support, per_asset_30_days)
        bundle.with_threshold(
            made.value,
            provisional=made.provisional,
            support=support.model_copy(update={"per_asset_30_days": per_asset_30_days}),
        ).save(path)
    return made.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A machine that is scaled by its own healthy history from now on."""

    asset: str
    kind: str
    path: Path  # of the model
    learnt: AssetRange
    pooled: tuple[str, ...]  # channels that keep the pooled scaling: they never moved
    rejections: tuple[str, ...]  # of which sources some were, how many and why


def adopt_asset(
    config: Config, asset: str, *, clock: Clock, since: int | None, until: int | None
) -> Adoption:
    """Learn the scaling of a machine from its history in (since, until], ns; the weights stay.

    What is left out is as `training` says. The model's folder is replaced at once, as by a
    training. Raises PlantError where the history will not do or the kind has no model,
    ModelMissingError, MismatchedError, and LockedError while a process trains the model.
    """
    kind = config.assets[asset].kind
    if kind is None:
        raise PlantError(f"{asset}: has no kind: cameras alone watch it, nothing can be adopted.")
    settings = config.kinds[kind]
    if settings.model is None:
        raise PlantError(f"kind {kind}: has no `model`: {asset} has nothing to be adopted by.")
    path = Path(settings.model.bundle)
    if not path.exists():
        raise ModelMissingError(f"kind {kind}: no model in {path}. `watchkeeper train` makes it.")
    with _held(kind, path):
        bundle = _bundle(kind, settings)
        found = healthy(config, kind, clock=clock, assets=[asset], since=since, until=until)
        if not found.stretches:
            raise PlantError(f"{asset}: did not run in that history: no frame would be scored.")
        try:
            made = adopt(bundle, found.stretches)
        except ValueError as error:
            raise PlantError(str(error)) from error
        made.bundle.save(path)
    return Adoption(
        asset=asset,
        kind=kind,
        path=path,
        learnt=made.bundle.card.own[asset].learnt,
        pooled=made.pooled[asset],
        rejections=found.rejections,
    )


def _held(kind: str, path: Path) -> IO[str]:
    """The model's folder is this process's alone while it lasts. Raises LockedError."""
    return held(
        path.with_name(path.name + ".lock"),
        by_another=f"kind {kind}: {{process}} is training or changing {path}. Wait until it has "
        f"ended. A training may be stopped: the next one goes on from its checkpoint.",
    )


def _learn(
    config: Config,
    kind: str,
    *,
    clock: Clock,
    progress: Progress,
    should_stop: Callable[[], bool],
    trials: int,
) -> Learnt:
    """The same, with the folder that it needs there and nobody else at it."""
    settings = config.kinds[kind]
    assert settings.training is not None  # noqa: S101 - looked at by learn
    assert settings.model is not None  # noqa: S101 - as above
    model, fit = settings.training.model, settings.training.fit
    assert isinstance(model, DetectorSettings)  # noqa: S101 - the tree was validated as such
    assert isinstance(fit, TrainingSettings)  # noqa: S101 - as above
    tried: list[Trial] = []
    path = Path(settings.model.bundle)
    labels = labels_of(config, kind)
    found = healthy(config, kind, clock=clock)
    quality = found.quality()
    checkpoint = path.with_name(path.name + ".checkpoint")
    going_on: Any = {
        "progress": progress,
        "checkpoint": checkpoint,
        "should_stop": should_stop,
    }
    channels = channels_of(settings)
    try:
        if trials:
            space = settings.training.search
            tried = search(found.stretches, channels, model, fit, space, trials=trials, **going_on)
            chosen = best(tried)
            model, fit = chosen.model, chosen.training
        trained = train(found.stretches, channels, model, fit, **going_on)
    except ValueError as error:
        raise PlantError(f"kind {kind}: {error}") from error
    support, threshold = choose_threshold(
        trained.held_out,
        own_scores(trained.bundle, found.stretches),
        settings.alarm,
        tick_ms=settings.tick_ms,
        per_asset_30_days=config.site.alarm_budget.each(config.scored_assets),
    )
    taught, lost = None, {}
    if workers().first:
        bundle = trained.bundle.with_threshold(
            threshold.value, provisional=threshold.provisional, support=support
        )
        if settings.diagnosis is not None:
            bundle, taught = teach(config, kind, bundle, labels, clock=clock)
        lost = _forgotten(config, kind, bundle)
        bundle.save(path)
        for folder in (checkpoint, trials_of(checkpoint)):
            shutil.rmtree(folder, ignore_errors=True)
    return Learnt(
        kind=kind,
        path=path,
        samples=found.samples,
        rejections=found.rejections,
        quality=quality,
        frames=found.frames,
        threshold=threshold.value,
        provisional=threshold.provisional,
        support=support,
        machines=len(quality.assets),
        fits=trained.fits,
        trials=tuple(tried),
        taught=taught,
        forgotten=lost,
    )


def _forgotten(config: Config, kind: str, bundle: Bundle) -> dict[str, tuple[int, int]]:
    """Which machines the model of before had adopted, from what days, and the new one has not.

    The days are (since, until] in ns, as ``adopt_asset`` takes them.
    """
    settings = config.kinds[kind]
    assert settings.model is not None  # noqa: S101 - looked at by learn
    try:
        before = Bundle.load(settings.model.bundle, device="cpu")
    except BundleError:
        return {}  # there is none, or none that could be used
    lost, tick = forgotten(before, bundle), before.card.tick_ms * MILLISECOND
    named = [name for name in _assets(config, kind) if name in lost]
    return {name: (lost[name].first - tick, lost[name].last) for name in named}


def service(
    config: Config, database: Database, *, clock: Clock, look: Look | None = None
) -> Service:
    """The service, ready to run, in the event loop only. Raises ModelMissingError, PlantError.

    ``look`` reads what is configured, when a reload is asked for.
    """
    numbers = registered(config, database)
    made = setup(config, bundles(config), *numbers, cameras=camera_setups(config))
    try:
        return Service(database, made, clock=clock, look=look)
    except ValueError as error:
        raise PlantError(str(error)) from error


def setup(
    config: Config,
    models: Mapping[str, Bundle],
    tag_ids: Mapping[str, int],
    asset_ids: Mapping[str, int],
    camera_ids: Mapping[str, int],
    *,
    cameras: Mapping[str, CameraSetup],
) -> Setup:
    """What the service is made from; no I/O. Raises PlantError for what cannot be watched."""
    plan = config.plan(tag_ids, asset_ids, camera_ids)
    made = {
        name: partial(config.make_source, name, tag_ids, camera_ids)
        for name in config.sources
        if name in plan.sources
    }
    for make in made.values():
        make()  # once, to see that it can be
    return Setup(
        config=config.hash,
        plan=plan,
        bundles=models,
        sources={
            name: SourceSetup(
                assignment=assignment,
                settings=config.sources[name],
                tags=tuple(config.tag_refs(name, tag_ids, camera_ids)),
            )
            for name, assignment in assignments(plan, made).items()
        },
        sinks={
            name: SinkSetup(sink=config.make_sink(name), settings=settings)
            for name, settings in config.sinks.items()
        },
        channel_score_s=config.state.channel_score_s,
        shelve_hours=config.site.shelve_hours,
        alarm_budget=config.site.alarm_budget,
        retention=Retention(**config.state.model_dump(exclude={"channel_score_s"})),
        cameras={camera_ids[name]: camera for name, camera in cameras.items()},
    )


def registered(
    config: Config, database: Database
) -> tuple[Mapping[str, int], Mapping[str, int], Mapping[str, int]]:
    """The numbers that the tags, assets and cameras of the plan have in a database."""
    names = Names(database)
    with database.atomic() as tx:
        return (
            names.tag_ids(tx, config.tag_names()),
            names.asset_ids(tx, config.asset_names()),
            names.camera_ids(tx, config.camera_names()),
        )
