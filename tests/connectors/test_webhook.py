"""Messages as signed webhooks: what is sent, and what each answer means."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from standardwebhooks import Webhook
from support.certificates import Certificates
from support.keeping import points
from support.plants import until
from support.receivers import HANG_UP, SAY_NOTHING, Answer, receiving

from connectors.contract import NotReadyError, RefusedError
from connectors.points import Message
from connectors.webhook import MOST_BYTES, Sink, WebhookSettings, envelope

T0 = 1_704_067_200_123_456_789  # 2024-01-01T00:00:00.123456789Z
KEYS = [base64.b64encode(bytes([n]) * 24).decode() for n in range(3)]
SECRET = f"whsec_{KEYS[0]}"


def message(name, *, subject="alarm-1", **body):
    given = {"site": "works", "asset": "pump 1", "blame": {"flow": 0.75, "heat": 0.25}}
    return Message(id=name, subject=subject, type="alarm.raised", time=T0, body=given | body)


@pytest.fixture
def receiver():
    with receiving() as made:
        yield made


@pytest.fixture
def sink(receiver, tmp_path):
    return new_sink(receiver.url, tmp_path)


def new_sink(url, folder, *secrets, **given):
    path = folder / "secret"
    path.write_text("\n".join(secrets or [SECRET]))
    known = {"type": "webhook", "url": url, "secret_file": str(path)}
    return Sink("hook", WebhookSettings.model_validate(known | given))


async def deliver(sink, *items):
    """Open, deliver, close."""
    await sink.open()
    try:
        await sink.deliver(items)
    finally:
        await sink.close()


def ids(requests):
    return [request.headers["webhook-id"] for request in requests]


# ---- what is sent ----------------------------------------------------------------------------


async def test_a_message_is_a_cloud_event(sink, receiver):
    await deliver(sink, message("m1", who="Jürgen", value=None))
    (request,) = receiver.got
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert json.loads(request.body) == {
        "specversion": "1.0",
        "id": "m1",
        "source": "/works/pump%201",
        "type": "watchkeeper.alarm.raised.v1",
        "time": "2024-01-01T00:00:00.123456789Z",
        "subject": "alarm-1",
        "datacontenttype": "application/json",
        "data": {
            "site": "works",
            "asset": "pump 1",
            "blame": {"flow": 0.75, "heat": 0.25},
            "who": "Jürgen",
            "value": None,
        },
    }


async def test_an_independent_receiver_finds_the_signature_right(sink, receiver):
    await deliver(sink, message("m1"))
    (request,) = receiver.got
    assert Webhook(SECRET).verify(request.body, dict(request.headers))["id"] == "m1"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(f"whsec_{KEYS[1]}").verify(request.body, dict(request.headers))
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRET).verify(request.body + b" ", dict(request.headers))


async def test_while_a_secret_is_replaced_the_old_and_the_new_one_both_fit(receiver, tmp_path):
    secrets = [f"whsec_{key}" for key in KEYS[:2]]
    await deliver(new_sink(receiver.url, tmp_path, *secrets), message("m1"))
    (request,) = receiver.got
    for secret in secrets:
        Webhook(secret).verify(request.body, dict(request.headers))


async def test_a_secret_counts_from_the_next_opening(receiver, tmp_path):
    sink = new_sink(receiver.url, tmp_path)
    await deliver(sink, message("m1"))
    (tmp_path / "secret").write_text(f"whsec_{KEYS[2]}\n")
    await deliver(sink, message("m2"))
    Webhook(f"whsec_{KEYS[2]}").verify(receiver.got[1].body, dict(receiver.got[1].headers))


async def test_a_secret_may_stand_in_a_variable(receiver, monkeypatch):
    monkeypatch.setenv("RIG_SECRET", SECRET)
    settings = WebhookSettings(type="webhook", url=receiver.url, secret_env="RIG_SECRET")  # noqa: S106 (a variable's name)
    await deliver(Sink("hook", settings), message("m1"))
    Webhook(SECRET).verify(receiver.got[0].body, dict(receiver.got[0].headers))


@pytest.mark.parametrize("secret", [KEYS[0], "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!", "whsec_ü"])
async def test_a_secret_that_is_none_is_not_shown(receiver, tmp_path, secret):
    with pytest.raises(NotReadyError, match="secret 2: want whsec_") as error:
        await new_sink(receiver.url, tmp_path, SECRET, secret).open()
    assert secret.removeprefix("whsec_") in ("", "ü") or secret not in str(error.value)


def test_one_place_for_secrets_is_wanted():
    for given in ({}, {"secret_file": "a", "secret_env": "B"}):
        with pytest.raises(ValueError, match="secret_file or secret_env"):
            WebhookSettings.model_validate({"type": "webhook", "url": "http://h"} | given)


def test_of_a_long_message_the_smallest_shares_of_blame_are_left_out():
    blame = {f"channel with a long name {n}": n / 1000 for n in range(1000)}
    content = envelope(message("m1", blame=blame))
    assert len(content) < MOST_BYTES
    data = json.loads(content)["data"]
    kept = len(data["blame"])
    assert kept + data["blame_omitted"] == 1000
    assert kept > 100
    assert list(data["blame"].values()) == sorted(blame.values(), reverse=True)[:kept]
    assert envelope(message("m1", blame=blame)) == content


UNFIT = {
    "too long all the same": message("m", reason="x" * MOST_BYTES),
    "a value that is no JSON": message("m", value=float("nan")),
    "text that is not Unicode": message("m", value="\ud800"),
    "an id that fits no header": message("a\nb"),
    "no message": points(0),
}


@pytest.mark.parametrize("unfit", UNFIT.values(), ids=UNFIT)
async def test_what_cannot_be_sent_is_refused_and_the_others_are_sent(sink, receiver, unfit):
    with pytest.raises(RefusedError) as refused:
        await deliver(sink, message("m1"), unfit, message("m2"))
    assert refused.value.items == (1,)
    assert ids(receiver.taken) == ["m1", "m2"]


# ---- what an answer means --------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_is_taken(sink, receiver, status):
    receiver.answers.append(Answer(status, body=b"thanks"))
    await deliver(sink, message("m1"), message("m2"))
    assert ids(receiver.got) == ["m1", "m2"]


@pytest.mark.parametrize("status", [400, 402, 406, 409, 411, 413, 415, 418, 422, 451])
async def test_a_message_that_is_refused_is_named_and_the_next_one_is_sent(sink, receiver, status):
    receiver.answers.extend([Answer(204), Answer(status)])
    with pytest.raises(RefusedError, match=f"item 1: answered {status}") as refused:
        await deliver(sink, message("m1"), message("m2"), message("m3"))
    assert refused.value.items == (1,)
    assert ids(receiver.got) == ["m1", "m2", "m3"]


AGAIN = [301, 302, 307, 308, 401, 403, 404, 405, 407, 408, 425, 429, 500, 501, 502, 503, 504]


@pytest.mark.parametrize("status", AGAIN)
async def test_an_answer_about_the_way_is_tried_again_before_anything_later(sink, receiver, status):
    receiver.answers.append(Answer(status, {"Location": f"{receiver.url}/other"}))
    with pytest.raises(NotReadyError, match=str(status)):
        await deliver(sink, message("m1"), message("m2"))
    assert ids(receiver.got) == ["m1"], "not redirected, and none overtakes it"
    await deliver(sink, message("m1"), message("m2"))
    assert ids(receiver.got) == ["m1", "m1", "m2"]
    first, again = receiver.got[:2]
    assert first.body == again.body


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_the_patience_asked_for_is_handed_on(sink, receiver, status):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    receiver.answers.extend(Answer(status, {"Retry-After": one}) for one in ("7", date))
    with pytest.raises(NotReadyError) as error:
        await deliver(sink, message("m1"))
    assert error.value.retry_after_s == 7
    with pytest.raises(NotReadyError) as error:
        await deliver(sink, message("m1"))
    assert 90 < error.value.retry_after_s <= 100


async def test_what_was_settled_before_a_failure_is_not_sent_again(sink, receiver):
    items = [message(f"m{n}") for n in range(400)]
    receiver.answers.extend([Answer(204)] * 5 + [Answer(400)] + [Answer(204)] * 294)
    receiver.answers.extend([Answer(503), HANG_UP])
    for _ in range(2):
        with pytest.raises(NotReadyError):
            await deliver(sink, *items)
    with pytest.raises(RefusedError) as refused:
        await deliver(sink, *items)
    assert refused.value.items == (5,)
    sent = [f"m{n}" for n in range(400)]
    assert ids(receiver.got) == [*sent[:301], sent[300], *sent[300:]]
    await deliver(sink, message("m0"))
    assert ids(receiver.got)[-1] == "m0", "a delivery that was finished is not remembered"


async def test_gone_stops_it_for_good_and_loses_nothing(sink, receiver, caplog):
    receiver.answers.append(Answer(410))
    with pytest.raises(NotReadyError, match=r"410: the endpoint is gone.*everything is kept"):
        await deliver(sink, message("m1"), message("m2"))
    for _ in range(3):
        with pytest.raises(RefusedError, match="410") as refused:
            await sink.open()
        assert refused.value.items == ()
    assert ids(receiver.got) == ["m1"]
    assert [r.levelname for r in caplog.records if "410" in r.getMessage()] == ["ERROR"]


async def test_a_receiver_that_hangs_is_given_up_in_time(receiver, tmp_path):
    receiver.answers.append(SAY_NOTHING)
    sink = new_sink(receiver.url, tmp_path, timeout_s=0.2)
    with pytest.raises(NotReadyError, match="no answer in time"):
        await deliver(sink, message("m1"))
    await deliver(sink, message("m1"))
    assert ids(receiver.taken) == ["m1"]


async def test_a_receiver_that_hangs_up_or_is_not_there_is_tried_again(sink, receiver):
    receiver.answers.append(HANG_UP)
    with pytest.raises(NotReadyError):
        await deliver(sink, message("m1"))
    receiver.stop()
    with pytest.raises(NotReadyError, match="refused") as error:
        await deliver(sink, message("m1"))
    assert "/hook" not in str(error.value), "a path may be a secret"
    receiver.start()
    await deliver(sink, message("m1"))
    assert ids(receiver.taken) == ["m1"]


async def test_taken_is_taken_though_the_rest_of_the_answer_never_comes(receiver, tmp_path):
    receiver.answers.append(Answer(200, {"Content-Length": "999999"}))
    await deliver(new_sink(receiver.url, tmp_path, timeout_s=0.2), message("m1"))


async def test_it_can_be_cancelled_and_closed_at_once(sink, receiver):
    receiver.answers.append(SAY_NOTHING)
    await sink.open()
    delivering = asyncio.ensure_future(sink.deliver([message("m1")]))
    await until(lambda: receiver.got)
    async with asyncio.timeout(1):
        delivering.cancel()
        await asyncio.wait([delivering])
        await sink.close()


async def test_a_receiver_is_known_by_its_certificate(tmp_path):
    ours = Certificates(tmp_path, names_only=True)
    with receiving(tls=ours.server_context) as receiver:
        with pytest.raises(NotReadyError, match="certificate"):
            await deliver(new_sink(receiver.url, tmp_path), message("m1"))
        assert receiver.got == []
        await deliver(new_sink(receiver.url, tmp_path, ca_file=str(ours.ca)), message("m1"))
        assert ids(receiver.taken) == ["m1"]
        other = receiver.url.replace("localhost", "127.0.0.1")  # not in the certificate
        with pytest.raises(NotReadyError, match="certificate"):
            await deliver(new_sink(other, tmp_path, ca_file=str(ours.ca)), message("m2"))
