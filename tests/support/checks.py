"""What must hold of the step, whatever is sent and however it is delivered.

Each check is a function: tests ask it of the code, and of the code with a fault planted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
from support.building import NOW, SECOND, START, kind, plan, samples
from support.definitions import frames_by_definition, scores_one_by_one
from support.streams import Item, columns, deliveries, sent, sources_of

from connectors.batch import BAD, Flag, Notice, NoticeKind, Samples
from models.bundle import Bundle
from monitor.core.digest import digest
from monitor.core.holding import Frames
from monitor.core.pipeline import Pipeline
from monitor.core.plan import MILLISECOND, ChannelSettings, LimitSettings, Plan
from monitor.core.records import Beat, Cause, Epoch, Record, Results, Scores, Standing, Transition

COLUMNS = [column.name for column in fields(Scores)][2:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A plan of one kind, and what a plant sends for so many ticks."""

    plan: Plan
    bundle: Bundle | None
    seed: int
    ticks: int = 30

    def pipeline(self, plan: Plan | None = None) -> Pipeline:
        return Pipeline(plan or self.plan, {"k": self.bundle} if self.bundle else {})

    def records(self, *, number: int = 0, largest: int = 30, received: int = NOW) -> list[Record]:
        """The same samples in one of many ways."""
        items = sent(self.plan, seed=self.seed, ticks=self.ticks)
        seed = self.seed * 7 + number
        return deliveries(self.plan, items, seed=seed, largest=largest, received=received)


# ---- results, comparable ------------------------------------------------------------------------


def run(pipeline: Pipeline, records: Iterable[Record]) -> Results:
    """All results as one; what must hold after every record is checked after every record."""
    found = []
    for record in records:
        found.append(pipeline.step(record))
        assert_conserved(pipeline)
    return Results.join(found)


def assert_conserved(pipeline: Pipeline) -> None:
    """Every sample is accounted for exactly once."""
    for source, counts in pipeline.conservation.items():
        assert counts.holds, f"{source}: {counts.missing} samples missing of {counts}"


def ordered(results: Results) -> Results:
    """The same results in an order of their own: asset and tick, tick and id."""
    return Results(
        scores=tuple(
            rows(block, np.lexsort((block.tick, block.asset)))
            for block in sorted(results.scores, key=lambda block: block.kind)
        ),
        alarms=tuple(sorted(results.alarms, key=lambda e: (e.tick, e.id, e.transition))),
        gaps=tuple(sorted(results.gaps, key=lambda gap: (gap.asset, gap.since))),
        late=results.late,
    )


def rows(block: Scores, index: np.ndarray) -> Scores:
    """Some rows of a block."""
    return replace(block, **{name: getattr(block, name)[index] for name in COLUMNS})


def of_assets(results: Results, plan: Plan, names: Iterable[str]) -> Results:
    """What the results say of some assets."""
    wanted = set(names)
    ids = [asset.id for asset in plan.assets if asset.name in wanted]
    return Results(
        scores=tuple(rows(block, np.isin(block.asset, ids)) for block in results.scores),
        alarms=tuple(event for event in results.alarms if event.asset in wanted),
        gaps=tuple(gap for gap in results.gaps if gap.asset in wanted),
    )


def standing(*found: Results) -> list[Standing]:
    """The alarms that were raised and did not return, as a store would hold them."""
    alarms: dict[str, Standing] = {}
    for event in Results.join(found).alarms:
        if event.transition is Transition.RETURNED:
            del alarms[event.id]
        elif event.transition is Transition.RAISED:
            names = [field.name for field in fields(Standing) if field.name != "acknowledged"]
            alarms[event.id] = Standing(
                **{name: getattr(event, name) for name in names}, acknowledged=False
            )
        else:
            alarms[event.id] = replace(alarms[event.id], acknowledged=True)
    return list(alarms.values())


def assert_same(left: Results, right: Results, plan: Plan) -> None:
    """Equal scores to the bit (and so equal frames), alarms and gaps."""
    left, right = ordered(left), ordered(right)
    names = {asset.id: asset.name for asset in plan.assets}
    blocks = [[block for block in results.scores if len(block)] for results in (left, right)]
    for one, other in zip(*blocks, strict=True):
        for name in COLUMNS:
            a, b = getattr(one, name), getattr(other, name)
            assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), name
    assert digest(left.scores, names) == digest(right.scores, names)
    assert left.gaps == right.gaps
    assert left.alarms == right.alarms


# ---- what must hold -----------------------------------------------------------------------------


def check_any_delivery(case: Case) -> Results:
    """However the same samples are batched and mixed, with none late, the results are equal."""
    found, status = [], []
    for number, largest in enumerate((10_000, 40, 3)):
        pipeline = case.pipeline()
        found.append(run(pipeline, case.records(number=number, largest=largest)))
        status.append(pipeline.status())
        assert not found[-1].late
    assert_same(found[0], found[1], case.plan)
    assert_same(found[0], found[2], case.plan)
    assert status[0] == status[1] == status[2]
    return found[0]


def check_frames(case: Case) -> None:
    """The frames are what the definition says."""
    kind, records = case.plan.kinds["k"], case.records()
    items = sent(case.plan, seed=case.seed, ticks=case.ticks)
    want = [row for asset in case.plan.assets for row in frames_by_definition(kind, asset, items)]
    got = frames_of(case, records)
    order = np.lexsort((got.tick, got.asset))
    assert [(asset, tick, fresh) for asset, tick, fresh, _, _ in want] == [
        (case.plan.assets[got.asset[i]].name, int(got.tick[i]), bool(got.fresh[i])) for i in order
    ]
    values = np.array([values for _, _, _, values, _ in want]).reshape(got.value.shape)
    ages = np.array([ages for _, _, _, _, ages in want]).reshape(got.age.shape)
    np.testing.assert_allclose(got.value[order], values, rtol=1e-9, atol=1e-9)
    known = ~np.isnan(ages)  # a value that was never known has no age worth a word
    np.testing.assert_allclose(got.age[order][known], ages[known], rtol=1e-6, atol=1e-6)


def frames_of(case: Case, records: Iterable[Record]) -> Frames:
    """The frames that a pipeline makes on its way, in the order it made them."""
    pipeline, parts = case.pipeline(), []
    builder = pipeline._kinds["k"].frames
    close = builder.close

    def watched(now: int) -> tuple[Frames, list]:
        parts.append(close(now))
        return parts[-1]

    builder.close = watched
    for record in records:
        pipeline.step(record)
    return Frames.join([frames for frames, _ in parts])


def check_scores(case: Case) -> None:
    """Each asset's scores are what its frames give when it is alone in the world."""
    records = case.records()
    got = ordered(run(case.pipeline(), records))
    frames = frames_of(case, records)
    for row, asset in enumerate(case.plan.assets):
        mine = frames.rows(frames.asset == row)
        mine = replace(mine, asset=np.zeros(len(mine), np.intp))
        want = scores_one_by_one(case.plan.kinds["k"], case.bundle, mine)
        have = [
            (int(tick), float(raw), float(surprise), tuple(blame.tolist()), int(state))
            for block in of_assets(got, case.plan, [asset.name]).scores
            for tick, raw, surprise, blame, state in zip(
                block.tick, block.raw, block.surprise, block.blame, block.state, strict=True
            )
        ]
        assert have == want


def check_restore(case: Case) -> None:
    """A state saved anywhere and taken back by another goes on as if nothing had been."""
    records = case.records()
    cut = case.seed % len(records)
    straight, other = case.pipeline(), case.pipeline()
    before = run(straight, records[:cut])
    tree = straight.snapshot()
    rest = run(straight, records[cut:])
    other.restore(tree)
    other.settle(standing(before))  # what the state says already
    assert_same(run(other, records[cut:]), rest, case.plan)
    assert other.status() == straight.status()


def check_another_plan(case: Case, changed: Plan) -> None:
    """Assets that both plans name go on as before; no sample is lost from the count."""
    records = case.records()
    cut = case.seed % len(records)
    straight, other = case.pipeline(), case.pipeline(changed)
    run(straight, records[:cut])
    other.restore(straight.snapshot())
    assert_conserved(other)
    cause = list(Cause)[case.seed % 2]  # as at a start, or while it runs
    epoch = Record(NOW, Epoch(config="", bundles={}, cause=cause))
    rest, found = run(straight, records[cut:]), run(other, [epoch, *records[cut:]])
    both = {asset.name for asset in changed.assets} & {asset.name for asset in case.plan.assets}
    assert_same(of_assets(found, changed, both), of_assets(rest, case.plan, both), case.plan)
    assert {s: c.received for s, c in other.conservation.items()} == {
        s: c.received for s, c in straight.conservation.items()
    }


def check_there_and_back(case: Case, changed: Plan) -> None:
    """The same where the other plan is given up again, for the state of before it that was kept."""
    records = case.records()
    cut, back = sorted((case.seed % len(records), case.seed // 7 % len(records)))
    straight, first, other = case.pipeline(), case.pipeline(), case.pipeline(changed)
    want = run(straight, records)
    epoch = Record(NOW, Epoch(config="", bundles={}, cause=Cause.RELOAD))
    found = [run(first, records[:cut])]
    for after, before, part in (
        (other, first, records[cut:back]),
        (first, other, records[back:]),
    ):
        after.restore(before.snapshot())
        after.settle(standing(Results.join(found)))
        found.append(run(after, [epoch, *part]))
        assert_conserved(after)
    both = {asset.name for asset in changed.assets} & {asset.name for asset in case.plan.assets}
    assert_same(
        of_assets(Results.join(found), case.plan, both), of_assets(want, case.plan, both), case.plan
    )
    assert {s: c.received for s, c in first.conservation.items()} == {
        s: c.received for s, c in straight.conservation.items()
    }


def check_late_sample(case: Case) -> None:
    """A sample that comes after its frame is counted and kept, and changes nothing else.

    One older than what is held: a newer one says that what is held was not all, and the source's
    sign of life is then none for it.
    """
    records = case.records()
    clean = run(case.pipeline(), records)
    before = case.pipeline()
    cut, closed = next(
        (i, results.scores[0])
        for i, results in enumerate(map(before.step, records), 1)
        if results.scores
    )
    asset = next(a for a in case.plan.assets if a.id == closed.asset[0])
    tag, source = asset.tags["x"]
    given = [record.body for record in records[:cut] if isinstance(record.body, Samples)]
    stamps = [
        int(time)
        for body in given
        if body.source == source
        for time in body.time[(body.tag == tag) & (body.time <= closed.tick[0])]
    ]
    stamp = min(stamps, default=int(closed.tick[0])) - 1  # no other has it
    planted = columns([Item(source, stamp, tag, 1e6)])
    end = Record(NOW, Notice(source=source, kind=NoticeKind.ENDED))
    again = [end] if end in records[:cut] else []  # a sample says that it goes on after all
    pipeline = case.pipeline()
    found = run(pipeline, [*records[:cut], Record(NOW, planted), *again, *records[cut:]])
    assert [(late.source, late.value.tolist()) for late in found.late] == [(source, [1e6])]
    assert pipeline.conservation[source].late == 1
    assert_same(found, clean, case.plan)


def check_promptness() -> None:
    """A frame closes with the sample that passes its instant by the lateness, not later."""
    pipeline = Pipeline(plan(kind(lateness_ms=2000)), {})
    for second in range(1, 9):
        body = samples((0, second + 0.001, 1.0), (1, second - 0.5, 1.0))
        results = pipeline.step(Record(NOW, body))
        ticks = [int(tick) for block in results.scores for tick in block.tick]
        assert ticks == ([START + (second - 2) * SECOND] if second > 2 else [])


def check_a_span_between_ticks() -> None:
    """A source alive between two ticks vouches for neither: what follows may still be a gap."""
    pipeline = Pipeline(plan(kind(lateness_ms=2000, gap_ticks=4)), {})
    since, until = START + 5_200 * MILLISECOND, START + 5_600 * MILLISECOND
    alive = Notice(source="s", kind=NoticeKind.ALIVE, since=since, until=until)
    bodies = (samples((0, 2, 1.0)), alive, samples((0, 20, 1.0)), samples((0, 22.001, 1.0)))
    found = run(pipeline, [Record(NOW, body) for body in bodies])
    ticks = [(int(tick) - START) // SECOND for block in found.scores for tick in block.tick]
    assert ticks == [2, 20]


def check_timers_over_a_gap() -> None:
    """A gap counts for no delay, but what was before it does."""
    limits = LimitSettings(high=5, on_delay_s=3)
    of = kind(gap_ticks=3, channels={"x": ChannelSettings(limits=limits)})
    seconds = (1, 2, 3, 20, 21, 22, 23, 24)
    found = run(
        Pipeline(plan(of), {}),
        [Record(NOW, samples(*((0, second, 9.0) for second in seconds)))],
    )
    assert [(event.tick - START) // SECOND for event in found.alarms] == [21]


def check_clock(case: Case) -> None:
    """Wall time that jumps back and forth by hours changes no result."""
    random = np.random.default_rng(case.seed)
    records = case.records()
    clean = run(case.pipeline(), records)
    jumps = np.zeros(len(records), np.int64)
    at = random.integers(0, len(records), 4)
    jumps[at] = random.integers(-86_400, 86_400, 4) * SECOND
    walls = NOW + np.cumsum(jumps)
    jumped = [Record(int(wall), record.body) for wall, record in zip(walls, records, strict=True)]
    assert_same(run(case.pipeline(), jumped), clean, case.plan)


def check_mess(case: Case) -> None:
    """Whatever comes, every sample is accounted for after every record, and late ones are kept."""
    random = np.random.default_rng(case.seed)
    pipeline, kept = case.pipeline(), 0
    sources = [*sources_of(case.plan), "stranger"]
    received, size = START, 1 + max(tag for a in case.plan.assets for tag, _ in a.tags.values())
    for _ in range(60):
        received += int(random.choice([0, 10**8, SECOND, -3600 * SECOND, 3600 * SECOND]))
        body = _anything(random, str(random.choice(sources)), size)
        results = pipeline.step(Record(received, body))
        assert_conserved(pipeline)
        kept += sum(len(late) for late in results.late)
    assert kept == sum(counts.late for counts in pipeline.conservation.values())


def _anything(
    random: np.random.Generator, source: str, tags: int
) -> Samples | Notice | Beat | Epoch:
    """Samples around START, mostly, or a notice."""
    around = START + int(random.integers(-20, 60) * SECOND)
    match random.integers(8):
        case 0:
            return Notice(source=source, kind=NoticeKind.REJECTED, reason="no number", count=3)
        case 1:
            until = around + int(random.integers(0, 10 * SECOND))
            kinds = [NoticeKind.ALIVE, NoticeKind.GAP, NoticeKind.FILLED]
            named = tuple(random.integers(0, tags, random.integers(0, 3)).tolist())
            return Notice(
                source=source, kind=kinds[random.integers(3)], since=around, until=until, tags=named
            )
        case 2:
            kinds = [NoticeKind.ENDED, NoticeKind.LOST, NoticeKind.BIRTH, NoticeKind.OVERFLOW]
            return Notice(source=source, kind=kinds[random.integers(4)])
        case 3:
            return Beat() if random.random() < 0.8 else Epoch(config="", bundles={})
    count = int(random.integers(0, 30))
    time = around + random.integers(0, 8, count) * (SECOND // 2)
    far = random.random(count) < 0.05
    bad = random.random(count) < 0.2
    return Samples(
        source=source,
        tag=random.integers(-2, tags + 3, count).astype(np.int32),
        time=np.where(far, random.choice([0, 4 * START, -(10**15)]), time),
        value=np.where(bad, np.nan, random.normal(50, 3, count)),
        status=np.where(bad, np.uint32(BAD), random.choice([0, 0x0096_0000])).astype(np.uint32),
        flags=random.choice([0, Flag.REPLAYED, Flag.RESTAMPED], count).astype(np.uint8),
    )
