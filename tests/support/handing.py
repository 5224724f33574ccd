"""What a broker handed over, read from the bytes that it sent to a client."""

import json
from collections.abc import Iterable, Iterator

PUBLISH = 3  # MQTT 5, 2.1.2


def published(said: Iterable[bytes | bytearray]) -> Iterator[tuple[str, bytes]]:
    """Topic and payload of each whole PUBLISH packet of MQTT 5 on these connections."""
    for stream in said:
        at = 0
        while (head := _head(stream, at)) is not None:
            kind, start, end = head
            if end > len(stream):
                break  # cut within a packet: not handed over
            if kind >> 4 == PUBLISH:
                yield _publish(bytes(stream[start:end]), quality=kind >> 1 & 3)
            at = end


def _head(stream: bytes | bytearray, at: int) -> tuple[int, int, int] | None:
    """The first byte of a packet, and where its body begins and ends; None: not whole."""
    try:
        length, start = _number(stream, at + 1)
        return stream[at], start, start + length
    except IndexError:
        return None


def _number(stream: bytes | bytearray, at: int) -> tuple[int, int]:
    """A variable byte integer (1.5.5), and where the next field begins."""
    value = shift = 0
    while True:
        byte = stream[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _publish(body: bytes, *, quality: int) -> tuple[str, bytes]:
    """3.3: the topic, a packet identifier unless at QoS 0, properties, the payload."""
    end = 2 + int.from_bytes(body[:2], "big")
    properties, start = _number(body, end + (2 if quality else 0))
    return body[2:end].decode(), body[start + properties :]


def samples(said: Iterable[bytes | bytearray]) -> set[tuple[str, int, float]]:
    """The samples in flat JSON payloads with their time in ms as ``ts``; a topic is an asset."""
    return {
        (f"{topic}/{key}", found["ts"] * 1_000_000, value)
        for topic, payload in published(said)
        for found in [json.loads(payload)]
        for key, value in found.items()
        if key != "ts"
    }
