import json

import pytest

from monitor.core.conservation import Conservation

SOME = Conservation(received=10, stored=5, duplicate=1, late=1, rejected={"ahead": 2, "old": 1})


def test_it_holds_when_every_sample_is_accounted_for_once():
    assert SOME.holds
    assert Conservation().holds


@pytest.mark.parametrize(("received", "missing"), [(11, 1), (9, -1)])
def test_it_does_not_hold_when_a_sample_is_lost_or_counted_twice(received, missing):
    broken = Conservation.from_json(SOME.to_json() | {"received": received})
    assert not broken.holds
    assert broken.missing == missing


def test_it_comes_back_from_json_equal():
    assert Conservation.from_json(json.loads(json.dumps(SOME.to_json()))) == SOME


def test_sources_add_up_reason_by_reason():
    total = SOME + Conservation(received=3, late=1, rejected={"old": 1, "unknown": 1})
    assert total == Conservation(
        received=13, stored=5, duplicate=1, late=2, rejected={"ahead": 2, "old": 2, "unknown": 1}
    )
    assert total.holds


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="0 or more"):
        Conservation(received=1, rejected={"old": -1})
