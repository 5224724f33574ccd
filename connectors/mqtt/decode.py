"""Messages to batches: what came together becomes one Samples, and Waveforms by their length."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from connectors.batch import I64, Flag, Notice, NoticeKind, Samples, Waveforms
from connectors.contract import TagRef
from connectors.mqtt.pump import Received
from connectors.mqtt.settings import ReadingSettings
from connectors.mqtt.topics import rule_of, wanted_of
from connectors.payloads.forms import Block, Decoded, Form, Reason, Wanted
from connectors.payloads.json import JsonDecoder
from connectors.payloads.waveform import decode_binary
from connectors.stamps import believable

log = logging.getLogger(__name__)

# plain numbers: an enum that is or-ed with another takes as long as the rest of a message
RETAINED, REPLAYED, NO_SOURCE_TIME = map(int, (Flag.RETAINED, Flag.REPLAYED, Flag.NO_SOURCE_TIME))
RESTAMPED = np.uint8(Flag.RESTAMPED | Flag.NO_SOURCE_TIME)

Row = tuple[int, int, float, int, int, int]  # tag, ns, value, status, flags, ns of receipt


Decode = Callable[[Received], Decoded]


class Decoder:
    """Knows each topic's rule and tags; made once. Raises RefusedError for a wrong address.

    messages = those that gave samples + those of which something was rejected + those that hold
    nothing that is wanted (``empty``) + those of topics that are not wanted.
    """

    def __init__(self, source: str, settings: ReadingSettings, tags: Sequence[TagRef]) -> None:
        self.messages = self.bytes = self.rejected = self.unwanted = self.empty = 0
        self.maybe_duplicate = 0  # came again, without a time by which that could be seen
        self.without_guarantee = 0  # published at QoS 0
        self.restamped = 0  # samples and blocks whose own time could not be true
        self.strays: set[str] = set()  # topics that came and are not wanted; for whoever ends them
        self._source, self._settings = source, settings
        self._largest = int(settings.max_payload_kb * 1024)
        self._heard: set[str] = set()
        self._said: set[tuple[str, Reason]] = set()  # what was logged: once a run
        self.use(self.reading(tags))

    def reading(self, tags: Sequence[TagRef]) -> Mapping[str, Decode]:
        """How the payloads of each topic would be read for these tags. Raises RefusedError."""
        return {
            topic: _decoder(rule_of(topic, self._settings.payloads), wanted)
            for topic, wanted in wanted_of(tags, connector=self._source).items()
        }

    def use(self, reading: Mapping[str, Decode]) -> None:
        """Read what comes from now on like this; the counters go on."""
        self.topics = tuple(reading)
        self._decoders = reading
        self._heard &= reading.keys()

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
        wave = _Wave(self._source, ahead_s=self._settings.clock_ahead_s)
        reasons: Counter[Reason] = Counter()
        self.messages += len(messages)
        for message in messages:
            topic, payload, packet, retained, again, _, came = message
            self.bytes += len(payload)
            self.without_guarantee += not packet
            if (decode := self._decoders.get(topic)) is None:
                self.unwanted += 1
                self.strays.add(topic)
                continue
            self._heard.add(topic)
            if len(payload) > self._largest:
                found = Decoded(reasons=[Reason.TOO_LARGE])
            else:
                found = self._found(decode, message)
            if retained:
                found = _without_unknown_age(found, partial(wave.believes, came))
            timeless = wave.add(found, came, RETAINED * retained | REPLAYED * again)
            self.maybe_duplicate += timeless and again
            if found.reasons:
                reasons.update(found.reasons)
                self._say(topic, found.reasons)
            elif not found.readings and not found.blocks:
                self.empty += 1
        self.rejected += reasons.total()
        said = [
            Notice(source=self._source, kind=NoticeKind.REJECTED, reason=str(reason), count=count)
            for reason, count in reasons.items()
        ]
        made = [*said, *wave.batches()]
        if wave.restamped:
            self._note_restamped(wave.restamped, messages)
        if made:
            made[-1] = replace(made[-1], position=position)
        return made

    def _found(self, decode: Decode, message: Received) -> Decoded:
        """What a message gave. One that trips a decoder is rejected: else it came for ever."""
        try:
            return decode(message)
        except Exception:
            if (message.topic, Reason.DECODER) not in self._said:
                log.exception("%s: the decoder failed on %r.", self._source, message.topic)
            return Decoded(reasons=[Reason.DECODER])

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

    def _note_restamped(self, by_receipt: Counter[int], messages: Sequence[Received]) -> None:
        """Count what was restamped, by the receipt of its message; say it when that begins."""
        of = [message for message in messages if message.came in by_receipt]
        if not self.restamped:
            log.warning(
                "%s: what comes on %r carries stamps that cannot be true: a clock is ahead, or it "
                "lost its time. The time of receipt stands for them. It is counted as "
                "restamped_total; this is not said again, whatever the topic.",
                self._source,
                of[0].topic,
            )
        self.restamped += by_receipt.total()
        self.maybe_duplicate += sum(message.again for message in of)


class _Wave:
    """What came together, as few batches that keep its order.

    Readings are one batch, blocks of each length another. Nothing stands in a later batch than what
    came after it: else that would close frames before all their samples are there.
    """

    def __init__(self, source: str, *, ahead_s: float) -> None:
        self.restamped: Counter[int] = Counter()  # by the receipt of the message
        self._source, self._ahead_s = source, ahead_s
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
                self._rows.append((tag, came, value, status, flags | NO_SOURCE_TIME, came))
            else:
                self._rows.append((tag, time, value, status, flags, came))
        for block in found.blocks:
            timeless |= block.time is None
            length = len(block.samples)
            if length in self._blocks and length != next(reversed(self._blocks)):
                self._cut()
            self._blocks.setdefault(length, []).append((block, came))
        return timeless

    def believes(self, came: int, time: int | None) -> bool:
        """Whether a message has a stamp that can be true."""
        if time is None:
            return False
        return bool(believable(np.array(time, np.int64), came, ahead_s=self._ahead_s))

    def batches(self) -> list[Samples | Waveforms]:
        """All of it."""
        self._cut()
        return self._made

    def _cut(self) -> None:
        if self._rows:
            self._made.append(self._samples(self._rows))
        self._made += [self._waveforms(some) for some in self._blocks.values()]
        self._rows, self._blocks = [], {}

    def _samples(self, rows: Sequence[Row]) -> Samples:
        tag, time, value, status, flags, came = zip(*rows, strict=True)
        time_N, came_N = np.array(time, np.int64), np.array(came, np.int64)
        flags_N = np.array(flags, np.uint8)
        false_N = ~believable(time_N, came_N, ahead_s=self._ahead_s)
        if bool(false_N.any()):
            flags_N[false_N] |= RESTAMPED
            time_N[false_N] = self._restamped(time_N[false_N], came_N[false_N])
        return Samples(
            source=self._source,
            tag=np.array(tag, np.int32),
            time=time_N,
            value=np.array(value, np.float64),
            status=np.array(status, np.uint32),
            flags=flags_N,
        )

    def _waveforms(self, blocks: Sequence[tuple[Block, int]]) -> Waveforms:
        """Blocks of one length. One without a time ended when it came.

        A stamp is judged by the end of its block too: nothing is sent before it was measured.
        """
        lasts = [len(block.samples) / block.rate for block, _ in blocks]
        lasts_N = np.rint(np.array(lasts) * 1e9).astype(np.int64)
        came_N = np.array([came for _, came in blocks], np.int64)
        end_N = came_N.copy()
        for row, (block, _) in enumerate(blocks):
            if block.time is not None:
                end_N[row] = block.time + lasts_N[row]
        false_N = ~believable(end_N, came_N, ahead_s=self._ahead_s)
        if bool(false_N.any()):
            end_N[false_N] = self._restamped(end_N[false_N], came_N[false_N])
        return Waveforms(
            source=self._source,
            tag=np.array([block.tag for block, _ in blocks], np.int32),
            time=end_N - lasts_N,
            rate=np.array([block.rate for block, _ in blocks], np.float64),
            speed=np.array([block.speed for block, _ in blocks], np.float32),
            status=np.array([block.status for block, _ in blocks], np.uint32),
            block=np.stack([block.samples for block, _ in blocks]),
        )

    def _restamped(self, time_N: I64, came_N: I64) -> I64:
        """Times [N] in place of those that cannot be true; rows of a message stand together.

        The newest of a message was taken when it came, the others as long before as they say.
        """
        self.restamped.update(came_N.tolist())
        first = np.flatnonzero(np.diff(came_N, prepend=came_N[0] - 1))
        newest = np.maximum.reduceat(time_N, first)
        moved = came_N - np.repeat(newest, np.diff(first, append=len(time_N))) + time_N
        return np.where(believable(moved, came_N, ahead_s=0), moved, came_N)


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


def _without_unknown_age(found: Decoded, sure: Callable[[int | None], bool]) -> Decoded:
    """A topic's last value without a sure time may be years old: it is not taken."""
    readings = [one for one in found.readings if sure(one[1])]
    blocks = [one for one in found.blocks if sure(one.time)]
    aged = len(found.readings) - len(readings) + len(found.blocks) - len(blocks)
    return Decoded(readings, blocks, [*found.reasons, *[Reason.RETAINED] * aged])
