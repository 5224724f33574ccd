"""The demo's receiver: it believes a signature, and nothing else."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from standardwebhooks import Webhook

from monitor.site.receiver import LARGEST, receiving

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()
BODY = json.dumps({"type": "alarm", "subject": "a1", "time": "2026-01-01T00:00:00Z"})


def headers(body=BODY, *, secret=SECRET, at=None):
    at = at or datetime.now(UTC)
    return {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("m1", at, body),
    }


@pytest.fixture
def receiver():
    with receiving(SECRET) as made:
        yield made


def test_a_signed_message_is_taken_as_verified(receiver):
    before = time.time_ns()
    assert httpx.post(receiver.url, content=BODY, headers=headers()).status_code == 204
    (taken,) = receiver.taken
    assert (taken.id, taken.type, taken.subject, taken.verified) == ("m1", "alarm", "a1", True)
    assert before <= taken.arrived <= time.time_ns()


def test_one_of_several_signatures_is_enough(receiver):
    signed = headers()
    signed["webhook-signature"] = f"v1,AAAA {signed['webhook-signature']} v2,x"
    assert httpx.post(receiver.url, content=BODY, headers=signed).status_code == 204


@pytest.mark.parametrize(
    "given",
    [
        headers(secret="whsec_" + base64.b64encode(b"another secret, as long as").decode()),
        headers(BODY + " "),
        headers(at=datetime.now(UTC) - timedelta(hours=1)),
        headers() | {"webhook-id": "m2"},
        headers() | {"webhook-timestamp": "soon"},
        {},
    ],
    ids=["another secret", "another body", "an hour old", "another id", "no time", "unsigned"],
)
def test_what_is_not_signed_so_is_not_verified(receiver, given):
    assert httpx.post(receiver.url, content=BODY, headers=given).status_code == 401
    assert [one.verified for one in receiver.taken] == [False]


@pytest.mark.parametrize("body", ["no JSON", "[]", "{}", json.dumps({"type": 1})])
def test_what_is_no_event_is_refused(receiver, body):
    assert httpx.post(receiver.url, content=body, headers=headers(body)).status_code == 400
    assert receiver.taken == []


def test_what_is_too_large_is_refused_unread(receiver):
    answer = httpx.post(receiver.url, content=" " * (LARGEST + 1), headers=headers())
    assert answer.status_code == 413
    assert receiver.taken == []
