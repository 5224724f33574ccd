"""What comes in: columnar batches of samples, waveforms and pictures, and notices of sources.

The first stop of everything a plant sends. Shapes and dtypes are checked here, once, when a batch
is made; no room downstream checks them again. Columns are numpy arrays of one length, never one
object a sample.
"""

from dataclasses import dataclass
from enum import IntFlag, StrEnum

import numpy as np
from numpy.typing import NDArray

# N samples or pictures in a batch, M samples in a waveform block

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# OPC UA status codes (Part 4, 7.39; Part 6, A.2). Other sources map to these.
GOOD = 0x0000_0000
UNCERTAIN = 0x4000_0000
GOOD_LOCAL_OVERRIDE = 0x0096_0000  # set by hand: of the process it says nothing
BAD = 0x8000_0000
BAD_OUT_OF_RANGE = 0x803C_0000
BAD_NO_DATA = 0x809B_0000

QUALITY_GOOD, QUALITY_UNCERTAIN, QUALITY_BAD = 0, 1, 2


class Flag(IntFlag):
    """What a source knows about how a sample came to it."""

    RETAINED = 1  # the broker's last known value: age unknown
    REPLAYED = 2  # sent again after a reconnect, or read from history
    NO_SOURCE_TIME = 4  # stamped on receipt: a repeat cannot be recognised
    RESTAMPED = 8  # its own stamp could not be true: that of the server or of the receipt instead


def quality(status: U32) -> U32:
    """OPC UA severity bits: 0 good, 1 uncertain, 2 and 3 bad."""
    return status >> np.uint32(30)


def usable(status: U32) -> NDArray[np.bool_]:
    """Whether the value may be used: good or uncertain."""
    return quality(status) < QUALITY_BAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Values of many tags, in any order.

    ``position`` is the source's own mark of how far it has come with this batch; it is stored with
    the batch and handed back to the source after a restart. A value that is no number must carry a
    bad status: see ``with_bad_numbers_marked``.
    """

    source: str
    tag: I32  # [N] the tag's number
    time: I64  # [N] ns since 1970 UTC, source time
    value: F64  # [N] in the tag's unit
    status: U32  # [N] OPC UA StatusCode
    flags: U8  # [N] Flag bits
    position: str | None = None

    def __post_init__(self) -> None:
        """Check dtypes and lengths; raises ValueError."""
        _check_columns(
            self,
            {
                "tag": np.int32,
                "time": np.int64,
                "value": np.float64,
                "status": np.uint32,
                "flags": np.uint8,
            },
        )
        if bool(np.any(usable(self.status) & ~np.isfinite(self.value))):
            raise ValueError(
                "Samples.value: a value that is not finite carries a usable status; "
                "want a bad status beside it, as with_bad_numbers_marked() gives"
            )

    def __len__(self) -> int:
        """Count of samples."""
        return len(self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waveforms:
    """Blocks of fast samples, all of one length."""

    source: str
    tag: I32  # [N]
    time: I64  # [N] ns since 1970 UTC, of the first sample
    rate: F64  # [N] Hz
    speed: F32  # [N] Hz, shaft speed, or NaN
    status: U32  # [N]
    block: F32  # [N, M] in the tag's unit
    position: str | None = None

    def __post_init__(self) -> None:
        """Check dtypes, shapes and rates; raises ValueError."""
        _check_columns(
            self,
            {
                "tag": np.int32,
                "time": np.int64,
                "rate": np.float64,
                "speed": np.float32,
                "status": np.uint32,
            },
        )
        if (
            self.block.dtype != np.float32
            or self.block.ndim != 2
            or len(self.block) != len(self.tag)
        ):
            raise ValueError(
                f"Waveforms.block: want float32 [{len(self.tag)}, M], "
                f"got {self.block.dtype} {list(self.block.shape)}"
            )
        if not bool(np.all(self.rate > 0)):
            raise ValueError(f"Waveforms.rate: want Hz above 0, got {self.rate.min()}")

    def __len__(self) -> int:
        """Count of blocks."""
        return len(self.tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Pictures from one or several cameras, each as the file that came.

    A source gives only what ``payloads.image.decode`` takes; its pixels are made where they are
    inspected, so that what waits takes the room of files (docs/decisions/0061).
    """

    source: str
    camera: I32  # [N] the camera's number
    time: I64  # [N] ns since 1970 UTC
    part: tuple[str | None, ...]  # [N] what was on the picture
    recipe: tuple[str | None, ...]  # [N]
    content: tuple[bytes, ...]  # [N] JPEG or PNG
    position: str | None = None

    def __post_init__(self) -> None:
        """Check dtypes and lengths; raises ValueError."""
        _check_columns(self, {"camera": np.int32, "time": np.int64})
        count = len(self.camera)
        for name in ("part", "recipe", "content"):
            if len(getattr(self, name)) != count:
                raise ValueError(
                    f"Pictures.{name}: want {count} entries, got {len(getattr(self, name))}"
                )
        for text in (*self.part, *self.recipe):
            if text is not None:
                text.encode()  # UnicodeEncodeError: halves of characters, which cannot be stored

    def __len__(self) -> int:
        """Count of pictures."""
        return len(self.camera)

    @property
    def bytes(self) -> int:
        """What the files take."""
        return sum(map(len, self.content))


class NoticeKind(StrEnum):
    """What a source can say about itself, beside samples."""

    ALIVE = "alive"  # nothing changed in (since, until]: silence was not staleness
    LOST = "lost"  # no connection from `since` on
    GAP = "gap"  # what happened in (since, until] is missing
    BIRTH = "birth"  # the source came up
    DEATH = "death"  # the source said it goes away
    OVERFLOW = "overflow"  # the peer dropped samples of `tags` from (since, until]
    UNIT_CHANGED = "unit_changed"  # the meaning of `tags` changed
    UNIT_RESTORED = "unit_restored"  # the unit of `tags` is the configured one again
    FILLED = "filled"  # what was missing of `tags` in (since, until] was read from history
    ENDED = "ended"  # nothing more will come
    REJECTED = "rejected"  # `count` samples could not be taken, for `reason`


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One statement of a source about itself, on (since, until], in ns since 1970 UTC."""

    source: str
    kind: NoticeKind
    since: int | None = None
    until: int | None = None
    tags: tuple[int, ...] = ()  # which tags; none named: all of the source
    reason: str = ""
    count: int = 0
    example: str = ""  # of what was rejected: where it stands, and what to do
    position: str | None = None

    def __post_init__(self) -> None:
        """Check that the interval is there where the kind needs one; raises ValueError."""
        if self.kind in (NoticeKind.ALIVE, NoticeKind.GAP, NoticeKind.FILLED) and (
            self.since is None or self.until is None or self.since > self.until
        ):
            raise ValueError(
                f"Notice {self.kind} of {self.source}: want since <= until, "
                f"got {self.since} and {self.until}"
            )
        if self.kind is NoticeKind.REJECTED and (self.count < 1 or not self.reason):
            raise ValueError(
                f"Notice rejected of {self.source}: want a reason and a count above 0, "
                f"got {self.reason!r} and {self.count}"
            )


def forced(status: U32) -> NDArray[np.bool_]:
    """Whether the value was set by hand (GoodLocalOverride), whatever its flags and info bits."""
    by_hand: NDArray[np.bool_] = (status & np.uint32(0xFFFF_0000)) == GOOD_LOCAL_OVERRIDE
    return by_hand


def with_bad_numbers_marked(value: F64, status: U32) -> U32:
    """The status of each value, made bad where the value is NaN (no data) or infinite (range).

    A status that is bad already is kept: the source knew more than we do.
    """
    nan = np.isnan(value) & usable(status)
    infinite = np.isinf(value) & usable(status)
    marked = np.where(nan, np.uint32(BAD_NO_DATA), status)
    return np.where(infinite, np.uint32(BAD_OUT_OF_RANGE), marked)


def _check_columns(batch: object, wanted: dict[str, type[np.generic]]) -> None:
    """Every named column is one-dimensional, of its dtype, and as long as the first."""
    first = next(iter(wanted))
    count = len(getattr(batch, first))
    for name, dtype in wanted.items():
        column = getattr(batch, name)
        if column.dtype != dtype or column.shape != (count,):
            raise ValueError(
                f"{type(batch).__name__}.{name}: want {np.dtype(dtype)} [{count}], "
                f"got {column.dtype} {list(column.shape)}"
            )
