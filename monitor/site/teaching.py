"""Teaching a trained model the names of faults: the labelled past is scored, and a head fitted.

What `watchkeeper train` does where a kind has `diagnosis`, once the detector is there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.diagnosis import BLOCKS, DiagnosisCard, Episode, fit
from models.settings import DiagnosisSettings
from monitor.core.pipeline import Pipeline
from monitor.core.plan import DAY, MILLISECOND
from monitor.history.backfill import backfill
from monitor.history.labelled import Span, alarmed, within
from monitor.history.reading import merged
from monitor.live.clock import Clock
from monitor.site.config import Config
from monitor.site.healthy import numbered
from monitor.site.labels import Label, lines, read

LEAD = DAY  # ns, scored before the first label besides the warm-up: models take time to settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What became of the labels of a kind."""

    labels: int
    card: DiagnosisCard | None  # None: there was nothing to learn from
    warnings: tuple[str, ...]


def labels_of(config: Config, kind: str) -> list[Label]:
    """The labelled episodes of a kind; none where it has no `diagnosis`. Raises PlantError."""
    settings = config.kinds[kind].diagnosis
    return [] if settings is None else read(Path(settings.labels), config, kind)


def teach(
    config: Config, kind: str, bundle: Bundle, labels: Sequence[Label], *, clock: Clock
) -> tuple[Bundle, Taught]:
    """The same model with a head that names the faults of these labels.

    Without one where no episode can be learnt from: the warnings say why. Raises what the histories
    raise.
    """
    use = config.kinds[kind].diagnosis
    assert use is not None  # noqa: S101 - whoever calls has its labels
    path, how = Path(use.labels), DiagnosisSettings(**use.model_dump(exclude={"labels"}))
    found = alarms_of(config, kind, bundle, labels, how, clock=clock)
    pairs = list(zip(labels, found, strict=True))
    episodes = [
        Episode(fault=label.fault, asset=label.asset, features=features)
        for label, features in pairs
        if features is not None and len(features) >= BLOCKS
    ]
    warnings = list(_left_out(path, pairs, least=how.least_ticks + BLOCKS - 1))
    if others := bundle.not_learnt(sorted({label.asset for label in labels})):
        warnings.append(
            f"{path}: the model has no healthy days of {', '.join(others)}, and sees faults there "
            f"less clearly; add to training.assets, or leave out of the labels"
        )
    if not episodes:
        warnings.append(f"{path}: no labelled episode can be learnt from: no fault will be named")
        return bundle, Taught(labels=len(labels), card=None, warnings=tuple(warnings))
    head = fit(episodes, how)
    if single := [fault for fault, number in head.card.episodes.items() if number == 1]:
        warnings.append(
            f"one episode alone of {', '.join(single)}: how well it is named cannot be checked; "
            f"label another one"
        )
    taught = Taught(labels=len(labels), card=head.card, warnings=tuple(warnings))
    return bundle.with_diagnosis(head), taught


def alarms_of(
    config: Config,
    kind: str,
    bundle: Bundle,
    labels: Sequence[Label],
    how: DiagnosisSettings,
    *,
    clock: Clock,
) -> list[NDArray[np.float64] | None]:
    """The running features [T, F] of each label's alarms; None where there is no frame of it.

    The history is scored by the step itself. Raises what the histories raise.
    """
    if not labels:
        return []
    tag_ids, asset_ids = numbered(config)
    whole = config.plan(tag_ids, asset_ids)
    named = {label.asset for label in labels}
    assets = tuple(asset for asset in whole.assets if asset.name in named)
    plan = replace(whole, kinds={kind: whole.kinds[kind]}, assets=assets)
    sources = {source for asset in assets for _, source in asset.tags.values()}
    lead = LEAD + bundle.warmup_ticks * plan.kinds[kind].tick_ms * MILLISECOND
    batches = merged(
        [config.make_history(source, tag_ids) for source in config.sources if source in sources],
        since=min(label.onset for label in labels) - lead,
        until=max(label.end for label in labels),
    )
    pipeline = Pipeline(plan, {kind: bundle})
    spans = [Span(asset_ids[label.asset], label.onset, label.end) for label in labels]
    scored = within(backfill(pipeline, batches, received=clock.now()), spans)
    threshold = pipeline.threshold_of(kind)
    return [
        None if scores is None else alarmed(scores, plan.kinds[kind], how, threshold=threshold)
        for scores in scored
    ]


def _left_out(
    path: Path, pairs: Sequence[tuple[Label, NDArray[np.float64] | None]], *, least: int
) -> Iterator[str]:
    """Which labels teach nothing, and why."""
    if without := [label for label, features in pairs if features is None]:
        yield f"no data of {lines(path, without)}: look at the times, and at the history"
    if silent := [
        one for one, features in pairs if features is not None and len(features) < BLOCKS
    ]:
        yield (
            f"no process alarm of {least} ticks or more in {lines(path, silent)}: what is not "
            f"noticed cannot be named, nor learnt from"
        )
