"""What sensors and pictures said together, kept and let go of."""

from dataclasses import fields

import numpy as np
import pytest

from monitor.core.records import Judgements, Results, Spoke
from monitor.state.database import Database
from monitor.state.errors import CorruptError
from monitor.state.judgements import StoredJudgements
from monitor.state.store import Store


def judged(ticks, *, asset=1):
    count, nan = len(ticks), np.float32(np.nan)
    return Judgements(
        kind="mill",
        asset=np.full(count, asset, np.int32),
        tick=np.array(ticks, np.int64),
        surprise=np.linspace(0, 4, count, dtype=np.float32),
        sensor=np.full(count, 2, np.float32),
        picture=np.full(count, nan),
        age=np.full(count, nan),
        weight=np.zeros(count, np.float32),
        spoke=np.full(count, Spoke.SENSORS, np.uint8),
    )


@pytest.fixture
def database(tmp_path):
    blocks = judged([1, 2, 3]), judged([2, 3], asset=2), judged([])
    with Database(tmp_path) as database:
        with database.atomic() as tx:
            assert Store(database).write(tx, Results(judgements=blocks), done=1)
        yield database


def test_judgements_come_back_bit_for_bit_once_however_often_they_are_stored(database):
    with database.atomic() as tx:
        Store(database).write(tx, Results(judgements=(judged([1, 2, 3]),)), done=1)
    first, second = StoredJudgements(database).read()
    for found, wanted in ((first, judged([1, 2, 3])), (second, judged([2, 3], asset=2))):
        for column in fields(Judgements):
            one, other = getattr(found, column.name), getattr(wanted, column.name)
            assert np.array_equal(one, other, equal_nan=column.name in ("picture", "age"))


def test_only_what_is_asked_for_is_read(database):
    kept = StoredJudgements(database)
    ticks = [block.tick.tolist() for block in kept.read(since=1, until=2)]
    assert ticks == [[2], [2]]
    assert [block.tick.tolist() for block in kept.read(asset=2)] == [[2, 3]]
    assert list(kept.read(since=3)) == []


def test_blocks_go_when_all_of_them_is_old(database):
    kept = StoredJudgements(database)
    for before, gone in ((2, 0), (3, 2), (3, 0)):
        with database.atomic() as tx:
            assert kept.forget(tx, before=before, limit=9) == gone
    assert list(kept.read()) == []


def test_a_block_that_does_not_read_back_is_named(database):
    with database.atomic() as tx:
        tx.execute("UPDATE judgement_block SET body = substr(body, 1, 40) WHERE id = 1")
    with pytest.raises(CorruptError, match="judgement block 1"):
        list(StoredJudgements(database).read())
