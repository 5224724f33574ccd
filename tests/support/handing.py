"""What a broker handed over, read from the bytes that it sent to a client."""

from collections.abc import Iterable, Iterator

PUBLISH = 3  # MQTT 3.1.1, 2.2.1


def published(said: Iterable[bytes | bytearray]) -> Iterator[tuple[str, bytes]]:
    """Topic and payload of each whole PUBLISH packet of MQTT 3.1.1 on these connections."""
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
    length = shift = 0
    for start in range(at + 1, len(stream)):
        length |= (stream[start] & 0x7F) << shift
        shift += 7
        if stream[start] < 0x80:
            return stream[at], start + 1, start + 1 + length
    return None


def _publish(body: bytes, *, quality: int) -> tuple[str, bytes]:
    """3.3: the topic, a packet identifier unless at QoS 0, the payload."""
    end = 2 + int.from_bytes(body[:2], "big")
    return body[2:end].decode(), body[end + (2 if quality else 0) :]
