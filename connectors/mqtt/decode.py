"""Messages to batches: what came together becomes one Samples, and Waveforms by their length."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from connectors.batch import Flag, Notice, NoticeKind, Samples, Waveforms
from connectors.contract import TagRef
from connectors.mqtt.pump import Received
from connectors.mqtt.settings import ReadingSettings
from connectors.mqtt.topics import rule_of, wanted_of
from connectors.payloads.forms import Block, Decoded, Form, Reason, Wanted
from connectors.payloads.json import JsonDecoder
from connectors.payloads.waveform import decode_binary

log = logging.getLogger(__name__)

# plain numbers: an enum that is or-ed with another takes as long as the rest of a message
RETAINED, REPLAYED, NO_SOURCE_TIME = map(int, (Flag.RETAINED, Flag.REPLAYED, Flag.NO_SOURCE_TIME))

Row = tuple[int, int, float, int, int]  # tag, ns, value, status, flags


Decode = Callable[[Received], Decoded]


class Decoder:
    """Knows each topic's rule and tags; made once. Raises RefusedError for a wrong address."""

    def __init__(self, source: str, settings: ReadingSettings, tags: Sequence[TagRef]) -> None:
        wanted = wanted_of(tags, connector=source)
        self.topics = tuple(wanted)
        self.messages = self.bytes = self.rejected = self.unwanted = 0
        self.maybe_duplicate = 0  # came again, without a time by which that could be seen
        self.without_guarantee = 0  # published at QoS 0
        self._source = source
        self._largest = int(settings.max_payload_kb * 1024)
        self._decoders = {
            topic: _decoder(rule_of(topic, settings.payloads), tags_of)
            for topic, tags_of in wanted.items()
        }
        self._heard: set[str] = set()
        self._said: set[tuple[str, Reason]] = set()  # what was logged: once a run

    @property
    def unheard(self) -> int:
        """How many topics never gave anything: misspelt, or kept from us without a word."""
        return len(self.topics) - len(self._heard)

    def decode(
        self, messages: Sequence[Received], position: str
    ) -> list[Samples | Waveforms | Notice]:
        """Batches of messages; the last one carries the position.

        None at all where nobody wanted anything of them.
        """
        wave = _Wave(self._source)
        reasons: Counter[Reason] = Counter()
        self.messages += len(messages)
        for message in messages:
            topic, payload, packet, retained, again, _, came = message
            self.bytes += len(payload)
            self.without_guarantee += not packet
            if (decode := self._decoders.get(topic)) is None:
                self.unwanted += 1
                continue
            self._heard.add(topic)
            if len(payload) > self._largest:
                found = Decoded(reasons=[Reason.TOO_LARGE])
            else:
                found = decode(message)
            if retained:
                found = _without_unknown_age(found)
            timeless = wave.add(found, came, RETAINED * retained | REPLAYED * again)
            self.maybe_duplicate += timeless and again
            if found.reasons:
                reasons.update(found.reasons)
                self._say(topic, found.reasons)
        self.rejected += reasons.total()
        said = [
            Notice(source=self._source, kind=NoticeKind.REJECTED, reason=str(reason), count=count)
            for reason, count in reasons.items()
        ]
        made = [*said, *wave.batches()]
        if made:
            made[-1] = replace(made[-1], position=position)
        return made

    def _say(self, topic: str, reasons: Sequence[Reason]) -> None:
        """Log what is wrong with a topic, once."""
        for reason in dict.fromkeys(reasons):
            if (topic, reason) not in self._said:
                self._said.add((topic, reason))
                log.error(
                    "%s: what comes on %r cannot all be taken: %s (docs/mqtt.md). It is counted; "
                    "this is not said again.",
                    self._source,
                    topic,
                    reason,
                )


class _Wave:
    """What came together, as few batches that keep its order.

    Readings are one batch, blocks of each length another. Nothing stands in a later batch than what
    came after it: else that would close frames before all their samples are there.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._made: list[Samples | Waveforms] = []
        self._rows: list[Row] = []
        self._blocks: dict[int, list[tuple[Block, int]]] = {}  # by length, as they came

    def add(self, found: Decoded, came: int, flags: int) -> bool:
        """Take what a message gave; whether some of it had no time of its own."""
        timeless = False
        if self._blocks and found.readings:
            self._cut()
        for tag, time, value, status in found.readings:
            if time is None:
                timeless = True
                self._rows.append((tag, came, value, status, flags | NO_SOURCE_TIME))
            else:
                self._rows.append((tag, time, value, status, flags))
        for block in found.blocks:
            timeless |= block.time is None
            length = len(block.samples)
            if length in self._blocks and length != next(reversed(self._blocks)):
                self._cut()
            self._blocks.setdefault(length, []).append((block, came))
        return timeless

    def batches(self) -> list[Samples | Waveforms]:
        """All of it."""
        self._cut()
        return self._made

    def _cut(self) -> None:
        if self._rows:
            self._made.append(_samples(self._source, self._rows))
        self._made += [_waveforms(self._source, some) for some in self._blocks.values()]
        self._rows, self._blocks = [], {}


def _decoder(form: Form, wanted: Sequence[Wanted]) -> Decode:
    """How the payloads of one topic are read."""
    if form.format != "waveform":
        decoder = JsonDecoder(form, wanted)
        return lambda message: decoder(message.payload)
    whole = [one for one in wanted if one.key is None]

    def binary(message: Received) -> Decoded:
        said = dict(message.said)
        found = [decode_binary(message.payload, said, form, one) for one in whole]
        return Decoded(
            blocks=[block for one in found for block in one.blocks],
            reasons=[reason for one in found for reason in one.reasons] or _no_member(whole),
        )

    return binary


def _no_member(whole: Sequence[Wanted]) -> list[Reason]:
    """A binary block has no members to ask for."""
    return [] if whole else [Reason.FORM]


def _without_unknown_age(found: Decoded) -> Decoded:
    """A topic's last value without its own time may be years old: it is not taken."""
    readings = [one for one in found.readings if one[1] is not None]
    blocks = [one for one in found.blocks if one.time is not None]
    aged = len(found.readings) - len(readings) + len(found.blocks) - len(blocks)
    return Decoded(readings, blocks, [*found.reasons, *[Reason.RETAINED] * aged])


def _samples(source: str, rows: Sequence[Row]) -> Samples:
    tag, time, value, status, flags = zip(*rows, strict=True)
    return Samples(
        source=source,
        tag=np.array(tag, np.int32),
        time=np.array(time, np.int64),
        value=np.array(value, np.float64),
        status=np.array(status, np.uint32),
        flags=np.array(flags, np.uint8),
    )


def _waveforms(source: str, blocks: Sequence[tuple[Block, int]]) -> Waveforms:
    """Blocks of one length. One without a time began its own length before it came."""
    began = [
        came - round(len(block.samples) / block.rate * 1e9) if block.time is None else block.time
        for block, came in blocks
    ]
    return Waveforms(
        source=source,
        tag=np.array([block.tag for block, _ in blocks], np.int32),
        time=np.array(began, np.int64),
        rate=np.array([block.rate for block, _ in blocks], np.float64),
        speed=np.array([block.speed for block, _ in blocks], np.float32),
        status=np.array([block.status for block, _ in blocks], np.uint32),
        block=np.stack([block.samples for block, _ in blocks]),
    )
