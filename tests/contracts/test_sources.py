"""Every source keeps the contract: whatever `connectors.discover()` finds, with its rig."""

import asyncio
import subprocess
import sys
import time

import pytest
import yaml
from pydantic import BaseModel
from support.recordings import samples
from support.rigs import marked, rig

import connectors
from connectors.batch import QUALITY_BAD, Notice, NoticeKind
from connectors.contract import LostError, NotReadyError, Source
from monitor.site import examples

FOUND = connectors.discover()
SOURCES = marked(name for name, found in FOUND.items() if found.source is not None)

pytestmark = pytest.mark.parametrize("connector", SOURCES)


@pytest.fixture
def peer(connector, new_rig):
    return new_rig(connector, "SourceRig")


def made(connector, peer):
    return FOUND[connector].source("rig", peer.settings, peer.tags)


def told(peer, batches):
    """The samples of batches; of a peer that may repeat itself, each once."""
    given = samples(batches)
    return list(dict.fromkeys(given)) if getattr(peer, "repeats", False) else given


def peer_of_pictures(peer):
    """Whose bad ones are rejected: see tests/connectors/test_camera_*.py."""
    return getattr(peer, "pictures", False)


async def take(source, resume, *, batches=None, count=None, peer=None, before=()):
    """Open, take so many batches, or so many samples with those ``before``, or all; close."""
    taken = []
    await source.open(resume=resume)
    try:
        async for batch in source.batches():
            taken.append(batch)
            ended = isinstance(batch, Notice) and batch.kind is NoticeKind.ENDED
            enough = count and len(told(peer, [*before, *taken])) >= count
            if ended or len(taken) == batches or enough:
                break
    finally:
        await source.close()
    return taken


async def test_it_is_a_source_and_carries_every_sample_with_its_quality(connector, peer):
    source = made(connector, peer)
    assert isinstance(source, Source)
    assert source.name == "rig"
    got = samples(await take(source, None, count=len(peer.samples)))
    assert got == list(peer.samples)
    assert any(status >> 30 >= QUALITY_BAD for _, _, _, status in got) or peer_of_pictures(peer)
    assert any(status >> 30 < QUALITY_BAD for _, _, _, status in got)


def test_making_one_looks_at_nothing(connector, peer, watching):
    made(connector, peer)  # whatever is imported is imported now
    with watching() as seen:
        made(connector, peer)
    assert seen == []


async def test_it_says_how_it_stands_open_or_not(connector, peer):
    source = made(connector, peer)
    before = source.status()
    await take(source, None, batches=1)
    for status in (before, source.status()):
        assert all(isinstance(value, int | float | str) for value in status.values())


async def test_it_closes_twice_and_before_it_was_opened(connector, peer):
    source = made(connector, peer)
    await source.close()
    await take(source, None, batches=1)
    await source.close()


async def test_it_opens_once_its_peer_is_there(connector, peer):
    source = made(connector, peer)
    peer.vanish()
    with pytest.raises(NotReadyError) as error:
        await source.open(resume=None)
    assert error.value.connector == "rig"
    peer.appear()
    assert samples(await take(source, None, count=len(peer.samples))) == list(peer.samples)


async def test_it_survives_a_dropped_link(connector, peer):
    source = made(connector, peer)
    taken = []
    await source.open(resume=None)
    try:
        async for batch in source.batches():
            if not taken:
                peer.vanish()
            taken.append(batch)
            if len(samples(taken)) >= len(peer.samples):
                break
    except LostError:
        pass  # what was taken stands
    await source.close()
    peer.appear()
    whole = len(peer.samples)
    if len(samples(taken)) < whole:
        again, last = made(connector, peer), taken[-1].position
        taken += await take(again, last, count=whole, peer=peer, before=list(taken))
    assert told(peer, taken) == list(peer.samples)


async def test_it_resumes_after_the_last_sample_wherever_it_is_cut(connector, new_rig):
    peer = new_rig(connector, "SourceRig")
    whole = await take(made(connector, peer), None, count=len(peer.samples))
    assert len(whole) > 2, "the rig wants several batches"
    for cut in range(1, len(whole)):
        peer = new_rig(connector, "SourceRig")
        source = made(connector, peer)
        first = await take(source, None, batches=cut)
        await source.accepted(first[-1].position)
        count = len(peer.samples) if len(samples(first)) < len(peer.samples) else None
        batches = 1 if count is None and getattr(peer, "live", False) else None
        again, last = made(connector, peer), first[-1].position
        rest = await take(again, last, batches=batches, count=count, peer=peer, before=first)
        assert told(peer, [*first, *rest]) == list(peer.samples)


async def test_what_its_peer_cannot_give_again_is_a_recorded_gap(connector, peer):
    if not hasattr(peer, "forget"):
        return  # what it had, it can give again: the tests above say so
    first = await take(made(connector, peer), None, batches=2)
    unheard = peer.forget()
    rest = await take(made(connector, peer), first[-1].position, count=1)
    gaps = [one for one in rest if isinstance(one, Notice) and one.kind is NoticeKind.GAP]
    assert unheard
    for tag, time_ns, value, status in unheard:
        recorded = any(
            gap.since < time_ns <= gap.until and (not gap.tags or tag in gap.tags) for gap in gaps
        )
        assert recorded or (tag, time_ns, value, status) in samples(rest)


@pytest.mark.parametrize("batches", [0, 1])
async def test_it_can_be_cancelled_within_a_second(connector, peer, batches):
    source = made(connector, peer)
    await source.open(resume=None)
    running = source.batches()
    for _ in range(batches):
        await anext(running)
    waiting = asyncio.ensure_future(anext(running))
    await asyncio.sleep(0)
    start = time.monotonic()
    waiting.cancel()
    await asyncio.wait([waiting])
    await source.close()
    assert time.monotonic() - start < 1


def test_its_client_is_imported_only_when_it_is_opened(connector):
    clients = rig(connector).SourceRig.clients
    code = "import sys, connectors; connectors.discover(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(clients).isdisjoint(loaded.stdout.split())


def _undescribed(settings: type[BaseModel]) -> list[str]:
    return [name for name, field in settings.model_fields.items() if not field.description]


def test_every_setting_says_what_it_means(connector):
    found = FOUND[connector]
    for settings in found.settings:
        assert _undescribed(settings) == []
        assert settings.model_config["extra"] == "forbid"


@pytest.mark.parametrize("switched_on", [False, True])
def test_its_printed_example_is_right(connector, switched_on):
    text = examples.example(connector)
    tree = yaml.safe_load(examples.uncommented(text) if switched_on else text)
    settings = FOUND[connector].source.Settings
    assert settings.model_validate(tree["sources"][connector]).type == connector
