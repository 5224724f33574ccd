"""Small recordings on disk, and what the files connector reads from them."""

import asyncio
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from connectors.batch import Notice, NoticeKind, Pictures, Samples
from connectors.contract import Batch, TagRef
from connectors.files.settings import ReadingSettings
from connectors.files.source import History, Source

T0 = 1_704_067_200_000_000_000  # 2024-01-01T00:00:00Z
SECOND = 1_000_000_000

Sample = tuple[int, int, float, int]  # tag, ns, value, status


def settings(path: object, **given: object) -> ReadingSettings:
    """Reading settings; wide unless said otherwise."""
    return ReadingSettings.model_validate(
        {"type": "files", "path": str(path), "layout": "wide"} | given
    )


def tags(*addresses: str | tuple[str, str]) -> list[TagRef]:
    """Tags 1, 2, ... by address, or by address and unit."""
    pairs = [(one, None) if isinstance(one, str) else one for one in addresses]
    return [TagRef(id=n, address=a, unit=u) for n, (a, u) in enumerate(pairs, 1)]


def history(asked: Sequence[TagRef], read: ReadingSettings) -> list[Samples | Notice]:
    """Everything the history gives."""
    return list(History("rig", read, asked).read())


def samples(batches: Iterable[Batch]) -> list[Sample]:
    """All samples in their order; a NaN as the text, so that equal means equal.

    A picture is a sample of its camera, whose value is the checksum of its content.
    """
    batches = [_as_samples(one) if isinstance(one, Pictures) else one for one in batches]
    return [
        (tag, time, repr(value) if value != value else value, status)  # type: ignore[misc] # noqa: PLR0124 (NaN)
        for batch in batches
        if isinstance(batch, Samples)
        for tag, time, value, status in zip(
            batch.tag.tolist(),
            batch.time.tolist(),
            batch.value.tolist(),
            batch.status.tolist(),
            strict=True,
        )
    ]


def _as_samples(pictures: Pictures) -> Samples:
    count = len(pictures)
    return Samples(
        source=pictures.source,
        tag=pictures.camera,
        time=pictures.time,
        value=np.array([zlib.crc32(one) for one in pictures.content], np.float64),
        status=np.zeros(count, np.uint32),
        flags=np.zeros(count, np.uint8),
    )


def rejected(batches: Iterable[Batch]) -> dict[str, int]:
    """Count of rejected samples by reason."""
    count: dict[str, int] = {}
    for batch in batches:
        if isinstance(batch, Notice) and batch.kind is NoticeKind.REJECTED:
            count[batch.reason] = count.get(batch.reason, 0) + batch.count
    return count


async def source(
    asked: Sequence[TagRef],
    read: ReadingSettings,
    *,
    resume: str | None = None,
    stop_after: int | None = None,
) -> list[Batch]:
    """What the source gives, or its first batches."""
    made = Source("rig", read, asked)
    taken: list[Batch] = []
    await made.open(resume=resume)
    try:
        async for batch in made.batches():
            taken.append(batch)
            if len(taken) == stop_after:
                break
    finally:
        await made.close()
    return taken


def source_now(asked: Sequence[TagRef], read: ReadingSettings, **given: object) -> list[Batch]:
    """The same, for tests that are not async themselves."""
    return asyncio.run(source(asked, read, **given))  # type: ignore[arg-type] # passed on as given


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """A text file of these lines."""
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path
