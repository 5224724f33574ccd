"""How a payload is meant, and what becomes of it: readings, blocks, or a reason why not.

What the decoders beside it share. A decoder never raises for what it was sent: whatever cannot be
taken is counted under one of the few words of ``Reason``, which never repeat the payload.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.batch import F32

TimeFormat = Literal["auto", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "iso"]


class Reason(StrEnum):
    """Why something was not taken."""

    NOT_JSON = "not_json"  # no JSON, cut off, not UTF-8, nested too deep
    FORM = "form"  # JSON, but not of the form that the rule or the address asks for
    TIME = "time"  # a stamp that is missing, unreadable or local
    STATUS = "status"  # a quality that means nothing to us
    UNIT = "unit"  # another unit than the tag's
    NOT_A_NUMBER = "not_a_number"
    DTYPE = "dtype"  # of a block: unknown
    RATE = "rate"  # of a block: missing, or no frequency
    LENGTH = "length"  # of a block: empty, no whole number of samples, or not what the rule says
    NOT_FINITE = "not_finite"  # a block with a NaN or an infinity in it
    TOO_LARGE = "too_large"
    RETAINED = "retained_without_time"  # the last value of a topic, of unknown age
    DECODER = "decoder_failed"  # it raised what none may: a bug of ours


class RejectedError(ValueError):
    """Inside the decoders: this cannot be taken."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Form(BaseModel):
    """How payloads are meant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["auto", "number", "value", "flat", "values", "block", "waveform"] = Field(
        "auto",
        description="auto: any JSON form. number: 12.5. value: an object with a value. flat: an "
        "object of several channels. values: ThingsBoard, with ts and values. block: an object "
        "with a block of samples. waveform: a binary block.",
    )
    time_key: str | None = Field(
        None,
        description="The member (binary: the user property) that holds the time; it must then be "
        "there. Left out: timestamp_ms, ts, timestamp or time.",
    )
    time_format: TimeFormat = Field(
        "auto",
        description="auto: text is ISO 8601 with a zone, a number counts s, ms, us or ns since "
        "1970 by its size, which is sure for every year since 1973.",
    )
    value_key: str = Field("value", description="The member that holds the value.")
    status_key: str | None = Field(
        None,
        description='The member that holds the quality. Left out: q, quality or status; "": none.',
    )
    unit_key: str = Field(
        "unit",
        description="The member that holds the unit, which is compared with the tag's, letter by "
        'letter; "": none.',
    )
    rate_hz: float | None = Field(
        None, gt=0, description="Of a block, where it does not say itself: samples a second."
    )
    dtype: Literal["i2", "i4", "f4", "f8"] = Field(
        "f4",
        description="Of a block, where it does not say itself: int16, int32, float32, float64.",
    )
    byte_order: Literal["little", "big"] = Field("little", description="Of a block.")
    samples: int | None = Field(
        None, gt=0, description="Of a block: its length; any other is rejected."
    )
    scale: float = Field(1.0, description="Of a block: unit per count.")
    offset: float = Field(0.0, description="Of a block: added after scaling, in the tag's unit.")
    header: Literal["none", "time", "time_rate"] = Field(
        "none",
        description="Before a binary block: nothing, its time (int64), or its time and its rate "
        "in Hz (float64), in the block's byte order.",
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """One tag that a payload may hold. Without a key it is the payload itself."""

    id: int
    key: str | None = None
    unit: str | None = None


Reading = tuple[int, int | None, float, int]  # tag, ns since 1970 UTC or none, value, status


@dataclass(frozen=True, slots=True)
class Block:
    """A waveform of one tag. ``time`` is that of its first sample, ns since 1970 UTC, or none."""

    tag: int
    time: int | None
    rate: float  # Hz
    speed: float  # Hz, NaN if unknown
    status: int
    samples: F32  # [M] in the tag's unit


@dataclass(slots=True)
class Decoded:
    """All that one payload gave."""

    readings: list[Reading] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)  # one for each thing not taken
