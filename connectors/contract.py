"""What a connector promises: sources, histories and sinks, and the three ways they fail.

A connector is one module of this package, named as its ``type`` in the configuration. It holds a
class ``Source``, ``History`` or ``Sink`` (or several), each with its settings class as
``Settings``: a pydantic model with ``type: Literal["<module name>"]``. Nothing else is listed
anywhere: ``connectors.discover()`` finds it, the configuration accepts it, ``watchkeeper example``
prints it and the contract tests run it.

Errors::

    ConnectorError
    ├── NotReadyError   the world is not ready; try again, after retry_after_s if it says so
    ├── RefusedError    the peer said no; trying the same again will not help
    │   └── MismatchError   what it holds is not what the configuration says; mend one of them
    └── LostError       a connection that worked is gone; open a new one
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Protocol, Self, runtime_checkable

from pydantic import AfterValidator, BaseModel, ValidationInfo

from connectors.batch import Notice, Pictures, Samples, Waveforms
from connectors.points import Outgoing

Batch = Samples | Waveforms | Pictures | Notice


def _against_base(value: str, info: ValidationInfo) -> str:
    """A relative path is meant from the folder of the configuration, given as context ``base``."""
    base = (info.context or {}).get("base")
    return value if base is None else str(Path(base) / value)


ConfigPath = Annotated[str, AfterValidator(_against_base)]
"""A path in the configuration: absolute, or relative to the configuration's own folder."""


class ConnectorError(Exception):
    """Something between us and a peer. ``connector`` is the source's or sink's configured name."""

    def __init__(self, message: str, *, connector: str) -> None:
        """Keep the words for people and the name for code."""
        super().__init__(message)
        self.connector = connector


class NotReadyError(ConnectorError):
    """The peer cannot be reached, or asks for patience. Worth trying again."""

    def __init__(self, message: str, *, connector: str, retry_after_s: float | None = None) -> None:
        """``retry_after_s`` is what the peer asked for, in seconds."""
        super().__init__(message, connector=connector)
        self.retry_after_s = retry_after_s


class RefusedError(ConnectorError):
    """The peer refused. ``items``: the refused entries of a delivery, by index; empty: all."""

    def __init__(self, message: str, *, connector: str, items: Sequence[int] = ()) -> None:
        """``items`` are indices into the delivered sequence; the others were taken."""
        super().__init__(message, connector=connector)
        self.items = tuple(items)

    @classmethod
    def of(cls, reasons: Mapping[int, str], *, connector: str, count: int) -> Self:
        """Of ``count`` items, these were refused. A reason that several share is said once."""
        alike: dict[str, list[int]] = {}
        for item, reason in sorted(reasons.items()):
            alike.setdefault(reason, []).append(item)
        said = "; ".join(
            f"item{'s' * (len(items) > 1)} {', '.join(map(str, items))}: {reason}"
            for reason, items in alike.items()
        )
        message = f"{connector}: {len(reasons)} of {count} not taken: {said}"
        return cls(message, connector=connector, items=sorted(reasons))


class MismatchError(RefusedError):
    """What the peer holds is not what the configuration says: a column, a unit, a stamp's form."""


class LostError(ConnectorError):
    """A link that worked is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRef:
    """One tag that a source is asked for."""

    id: int  # the number its samples carry
    address: str  # where the source finds it: a column, a node, a topic
    unit: str | None = None  # what the configuration says it is in


@runtime_checkable
class Delayed(Protocol):
    """Settings of a source that tell how late its samples may be; others say nothing of it."""

    def delay_ms(self, address: str) -> float:
        """The longest time from the stamp of a sample of this tag until it comes, all well."""
        ...


@runtime_checkable
class Source(Protocol):
    """Brings batches in, one after the other, and resumes where it was.

    Made with its name, its settings and the tags wanted: ``Source(name, settings, tags)``; making
    does no I/O.
    """

    Settings: ClassVar[type[BaseModel]]
    name: str

    async def open(self, *, resume: str | None) -> None:
        """Connect, and continue after position ``resume`` (None: from the start).

        Raises NotReadyError where trying again may help, RefusedError where it will not.
        """
        ...

    def batches(self) -> AsyncIterator[Batch]:
        """Batches in the order they came. Cancelling ends it within a second.

        Raises LostError, RefusedError.
        """
        ...

    async def accepted(self, position: str) -> None:
        """Everything up to ``position`` is stored for good: the peer may forget it."""
        ...

    def status(self) -> Mapping[str, int | float | str]:
        """What it knows of itself and its peer right now, under names of its own. No I/O.

        Numbers whose name ends in ``_total`` only grow while the program runs; other numbers are as
        they stand; a text tells a person something, as what the peer made of a request.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. May be called twice."""
        ...


@runtime_checkable
class Watched(Protocol):
    """A source whose peer gives signs of life even while no value changes."""

    @property
    def watchdog_s(self) -> float:
        """After this many seconds without a sign of life the link counts as dead."""
        ...

    @property
    def heard(self) -> float:
        """When the peer's last sign of life came, s of ``time.monotonic``; at first its opening."""
        ...


@runtime_checkable
class Retunable(Protocol):
    """A source whose tags can be changed while it runs; others are closed and opened anew."""

    async def retune(self, tags: Sequence[TagRef]) -> None:
        """Want these tags from now on; those that stay miss nothing.

        Called between ``open`` and ``close``, also while ``batches`` is being read. Raises
        RefusedError where a tag is none of this source's; nothing has changed then.
        """
        ...


@runtime_checkable
class History(Protocol):
    """Reads what was, in order of time: made as a source is."""

    Settings: ClassVar[type[BaseModel]]
    name: str

    def read(
        self, *, since: int | None = None, until: int | None = None
    ) -> Iterator[Samples | Notice]:
        """Everything in (since, until], ns since 1970 UTC, in pieces that fit in memory.

        Raises NotReadyError and RefusedError.
        """
        ...


@runtime_checkable
class Inspectable(Protocol):
    """A history that lies on this machine: it can be looked at without a peer."""

    def inspect(self) -> None:
        """Whether it is there, and as the settings and tags say; only beginnings are read.

        Raises NotReadyError where it is not there yet, RefusedError where it is not as it should.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """Carries results out: made by ``Sink(name, settings)``; making does no I/O."""

    Settings: ClassVar[type[BaseModel]]
    accepts: ClassVar[tuple[type[Outgoing], ...]]
    name: str

    async def open(self) -> None:
        """Connect. Raises NotReadyError, RefusedError."""
        ...

    async def deliver(self, items: Sequence[Outgoing]) -> None:
        """Hand over all items, in order; the same item may come again and must then change nothing.

        Raises NotReadyError (none or some were taken: give all again later), RefusedError (those in
        ``items``, or all, can never be taken; the others were).
        """
        ...

    async def close(self) -> None:
        """Let go of everything. May be called twice."""
        ...
