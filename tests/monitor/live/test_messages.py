"""What an alarm's transition says to the world."""

import json
import math

from support.keeping import event

from monitor.core.records import Transition
from monitor.live.messages import message


def test_the_same_transition_always_has_the_same_id():
    raised = event(Transition.RAISED, 0)
    assert message(raised, site="works").id == message(raised, site="works").id


def test_every_transition_of_an_alarm_has_an_id_of_its_own_and_one_subject():
    told = [
        message(one, site="works")
        for one in (
            event(Transition.RAISED, 0),
            event(Transition.RETURNED, 5),
            event(Transition.ACKNOWLEDGED, 5),
            event(Transition.RAISED, 7),
        )
    ]
    assert len({one.id for one in told}) == 4
    assert {one.subject for one in told} == {"a1"}
    assert [one.type for one in told][:2] == ["alarm.raised", "alarm.returned"]


def test_a_message_says_whether_the_alarm_stands():
    told = message(
        event(Transition.UNSHELVED, 1, active=True, acknowledged=False), site="works"
    ).body
    assert (told["active"], told["acknowledged"], told["shelved_until_ns"]) == (True, False, None)


def test_a_message_is_json_even_where_there_is_no_value():
    told = message(event(Transition.ACKNOWLEDGED, 1, value=math.nan, who="kim"), site="works")
    body = json.loads(json.dumps(told.body, allow_nan=False))
    assert body["value"] is None
    assert body["who"] == "kim"
    assert body["blame"] == {"flow": 0.75, "heat": 0.25}
