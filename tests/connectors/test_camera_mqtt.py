"""Pictures over MQTT: what a message says of its picture, and each until it is accepted."""

import asyncio

import pytest
from PIL import ImageFile
from support.brokers import keep_session, mosquitto, publish
from support.pictures import noise, png
from support.recordings import rejected
from support.servers import HERE

from connectors.batch import Pictures
from connectors.camera import Source
from connectors.camera.broker import BrokerSource, PictureDecoder
from connectors.camera.settings import BrokerSettings, ReadingSettings
from connectors.contract import RefusedError, TagRef
from connectors.mqtt.pump import Received

SECOND = 1_000_000_000
TIME = 1_700_000_000 * SECOND
CAMERAS = (TagRef(id=7, address="line/top"), TagRef(id=3, address="line/side"))


def settings(**broker):
    given = {"host": HERE, "client_id": "watch"} | broker
    return ReadingSettings(type="camera", mqtt=BrokerSettings(**given), max_mb=0.01)


def content(number):
    return png(noise(number, 4, 4, 1))


def message(number, topic="line/top", **given):
    said = list(given.pop("said", {}).items())
    one = {
        "topic": topic,
        "payload": bytearray(content(number)),
        "packet": number,
        "retained": False,
        "again": False,
        "said": said,
        "came": TIME + number,
    }
    return Received(**(one | given))


def decoded(*messages):
    decoder = PictureDecoder("eyes", settings(), CAMERAS)
    return decoder, decoder.decode(messages, "1/2/3")


def test_user_properties_say_part_recipe_and_time():
    said = {"part": "A7", "recipe": "bolt", "time": "2023-11-14T23:13:20+01:00"}
    _, (found,) = decoded(message(1, said=said), message(2, "line/side"))
    assert found.camera.tolist() == [7, 3]
    assert found.time.tolist() == [TIME, TIME + 2]
    assert found.part == ("A7", None)
    assert found.recipe == ("bolt", None)
    assert found.content == (content(1), content(2))
    assert found.position == "1/2/3"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"said": {"time": "yesterday"}}, "time"),
        ({"retained": True}, "retained_without_time"),
        ({"payload": b"{}"}, "picture_no_jpeg_or_png"),
        ({"payload": content(1)[:-4]}, "picture_cut_off"),
        ({"payload": content(1) + bytes(10_000)}, "picture_too_large"),
    ],
)
def test_what_cannot_be_taken_is_counted_by_its_reason(given, reason):
    decoder, batches = decoded(message(1, **given), message(2))
    assert rejected(batches) == {reason: 1}
    assert decoder.rejected == 1
    assert batches[-1].position == "1/2/3"
    assert sum(len(one) for one in batches if isinstance(one, Pictures)) == 1


def test_no_picture_is_decoded_where_it_is_taken(monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("a decoder may crash"))
    _, (found,) = decoded(message(1))
    assert found.content == (content(1),)


def test_a_last_value_with_a_time_is_taken():
    _, (found,) = decoded(message(1, retained=True, said={"time": str(TIME // SECOND)}))
    assert found.time.tolist() == [TIME]


def test_a_stamp_that_cannot_be_true_gives_way_to_the_receipt():
    decoder, (found,) = decoded(message(1, said={"time": "2050-01-01T00:00:00Z"}))
    assert found.time.tolist() == [TIME + 1]
    assert decoder.restamped == 1


def test_what_nobody_asked_for_is_told_to_be_given_up():
    decoder, batches = decoded(message(1, "line/other"))
    assert batches == []
    assert (decoder.unwanted, decoder.strays, decoder.unheard) == (1, {"line/other"}, 2)


def test_one_that_may_have_been_here_is_counted_where_no_time_tells():
    decoder, _ = decoded(
        message(1, again=True, packet=0), message(2, again=True, said={"time": "1700000000"})
    )
    assert (decoder.maybe_duplicate, decoder.without_guarantee) == (1, 1)


def test_an_address_that_is_no_topic_is_refused():
    with pytest.raises(RefusedError):
        PictureDecoder("eyes", settings(), [TagRef(id=1, address="line/+")])


def test_its_session_takes_messages_as_large_as_pictures_may_be():
    made = Source("eyes", settings(keepalive_s=7), CAMERAS)
    assert isinstance(made, BrokerSource)
    assert made.watchdog_s == 15.0
    assert made._settings.max_payload_kb == pytest.approx(10_000 / 1024)


def test_one_way_at_most_is_said():
    with pytest.raises(ValueError, match="folder and mqtt"):
        ReadingSettings(
            type="camera", folder={"path": "x"}, mqtt={"host": HERE, "client_id": "watch"}
        )


@pytest.mark.broker
@pytest.mark.timeout(120)
async def test_pictures_come_from_a_broker_until_they_are_accepted(tmp_path):
    async def parts(count, *, accept, resume=None):
        made = Source("eyes", settings(port=broker.port), CAMERAS)
        await made.open(resume=resume)
        running, got = made.batches(), []
        async with asyncio.timeout(30):
            while sum(map(len, got)) < count:
                got.append(await anext(running))
                if accept:
                    await made.accepted(got[-1].position)
        await running.aclose()
        await made.close()
        return [part for batch in got for part in batch.part], got[-1].position

    with mosquitto(tmp_path) as broker:
        keep_session(broker, "watch", "line/top", "line/side")
        for number in range(3):
            said = {"part": f"p{number}", "time": str(TIME // SECOND + number)}
            publish(broker, ("line/top", content(number)), said=said)
        found, position = await parts(3, accept=False)
        assert found == ["p0", "p1", "p2"]
        found, position = await parts(3, accept=True, resume=position)
        assert found == ["p0", "p1", "p2"]
        publish(broker, ("line/side", content(9)), said={"part": "p9"})
        assert (await parts(1, accept=True, resume=position))[0] == ["p9"]
