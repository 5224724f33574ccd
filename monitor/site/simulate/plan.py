"""What is simulated: lanes of machines of one rate, over one protocol, in one form.

The machines of a lane are of a kind with physics, or show waves and noise alone, which is cheap.

A tick lies on a multiple of its lane's period since 1970, so a simulation that is started again
goes on with the same grid, and a stamp says which tick it was.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import cycle, islice
from typing import Any

from monitor.site.simulate.faults import Fault
from monitor.site.simulate.machines import KINDS

HOST = "127.0.0.1"
NAMESPACE = "urn:watchkeeper:simulation"
MOST_MESSAGES = 50_000  # of one tick: MQTT numbers 65,535 on their way
QUANTITIES = {  # what channels are called, in turn, and their units
    "temperature": "degC",
    "pressure": "bar",
    "flow": "m3/h",
    "current": "A",
    "level": "%",
    "vibration": "mm/s",
    "torque": "N.m",
    "power": "kW",
}


class Form(StrEnum):
    """How the values of an asset travel."""

    NODES = "nodes"  # OPC UA: a variable a channel
    FLAT = "flat"  # MQTT: one message with all channels of one instant
    VALUE = "value"  # MQTT: a message a value
    BLOCK = "block"  # MQTT: a message a channel with a block of fast samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """Machines that are alike: one rate, one form."""

    name: str
    form: Form
    period_ms: int
    first: int  # the number of its first asset
    assets: int
    channels: int
    samples: int = 1  # of one channel and tick: the length of its blocks
    kind: str = ""  # in KINDS; none: waves and noise
    changes_only: bool = False  # a value within the dead band of the last one is left out

    def __post_init__(self) -> None:
        """Raises ValueError for a lane whose messages MQTT could not number."""
        if self.over_mqtt and self.messages > MOST_MESSAGES:
            raise ValueError(
                f"lane {self.name}: {self.messages} messages of one instant, want at most "
                f"{MOST_MESSAGES}: let one message hold all channels of a machine, or divide the "
                f"machines among several rates."
            )

    @property
    def asset_names(self) -> tuple[str, ...]:
        """Its machines."""
        if self.kind:
            return tuple(f"{self.kind}_{self.first + number + 1}" for number in range(self.assets))
        return tuple(f"machine_{self.first + number + 1:04d}" for number in range(self.assets))

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels of each; a quantity that comes again gets a number."""
        if self.kind:
            return tuple(KINDS[self.kind].instruments)
        names = list(QUANTITIES)
        return tuple(
            name if turn == 0 else f"{name}_{turn + 1}"
            for number in range(self.channels)
            for turn, name in [(number // len(names), names[number % len(names)])]
        )

    @property
    def units(self) -> tuple[str, ...]:
        """The units of its channels."""
        if self.kind:
            return tuple(one.unit for one in KINDS[self.kind].instruments.values())
        return tuple(islice(cycle(QUANTITIES.values()), self.channels))

    @property
    def over_mqtt(self) -> bool:
        """Whether it goes to a broker."""
        return self.form is not Form.NODES

    @property
    def takes_ms(self) -> int:
        """From the stamp of a tick until all of it has been measured."""
        return self.period_ms if self.form is Form.BLOCK else 0

    @property
    def messages_an_asset(self) -> int:
        """Messages of one tick and asset."""
        return 1 if self.form is Form.FLAT else self.channels

    @property
    def messages(self) -> int:
        """Messages of one tick."""
        return self.assets * self.messages_an_asset

    @property
    def samples_a_tick(self) -> int:
        """Samples of one tick, where none is lost or left out."""
        return self.assets * self.channels * self.samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """All that decides what is sent, but for the time."""

    seed: int
    lanes: tuple[Lane, ...]
    mqtt: tuple[str, int] | None = None  # host and port of a broker that is there
    opcua_port: int | None = None  # of the server that is started
    history: bool = True  # whether that server answers for what was
    name: str = ""  # of its topics and clients; its ledger gives it one where it has none
    faults: tuple[tuple[str, Fault], ...] = ()  # of which machine; counted from begin_ms
    begin_ms: int = 0  # since 1970 UTC; a ledger keeps the one it was made with

    @classmethod
    def of(  # noqa: D417 - the others are the fields
        cls,
        *,
        seed: int,
        assets: int,
        channels: int,
        periods_ms: Sequence[int],
        form: Form = Form.FLAT,
        samples: int = 1,
        share_opcua: float = 0.0,
        machines: Mapping[str, int] | None = None,
        changes_only: bool = False,
        **given: Any,
    ) -> "Simulation":
        """So many machines, divided among periods and protocols.

        Args:
            seed: Of all signals.
            assets: How many machines.
            channels: Of each.
            periods_ms: The machines get them in equal shares.
            form: Of those over MQTT.
            samples: Of a block.
            share_opcua: The share of the machines that is served over OPC UA, 0 to 1.
            machines: How many of which kind, in the place of assets and channels.
            changes_only: Whether these leave out what has not changed.
        """
        lanes: list[Lane] = []
        for kind, of_kind in (machines or {"": assets}).items():
            first = 0
            by_opcua = round(of_kind * share_opcua)
            for over, count, how in (
                ("opcua", by_opcua, Form.NODES),
                ("mqtt", of_kind - by_opcua, form),
            ):
                for number, period in enumerate(periods_ms):
                    share = (count + len(periods_ms) - 1 - number) // len(periods_ms)
                    lane = Lane(
                        name=f"{kind}_{over}_{period}ms".removeprefix("_"),
                        form=how,
                        period_ms=period,
                        first=first,
                        assets=share,
                        channels=len(KINDS[kind].instruments) if kind else channels,
                        samples=samples if how is Form.BLOCK else 1,
                        kind=kind,
                        changes_only=changes_only,
                    )
                    first += share
                    lanes += [lane] if share else []
        return cls(seed=seed, lanes=tuple(lanes), **given)

    @property
    def assets(self) -> int:
        """How many machines."""
        return sum(lane.assets for lane in self.lanes)

    @property
    def samples_a_second(self) -> float:
        """What it sends when it keeps up, and nothing is lost or left out."""
        return sum(lane.samples_a_tick * 1000 / lane.period_ms for lane in self.lanes)

    def to_json(self) -> str:
        """As ``from_json`` takes it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Simulation":
        """What ``to_json`` gave."""
        given = json.loads(text)
        lanes = tuple(Lane(**lane | {"form": Form(lane["form"])}) for lane in given.pop("lanes"))
        mqtt = given.pop("mqtt")
        faults = tuple((asset, Fault(**fault)) for asset, fault in given.pop("faults", ()))
        return cls(
            lanes=lanes, mqtt=None if mqtt is None else (mqtt[0], mqtt[1]), faults=faults, **given
        )

    def topic(self, asset: str, channel: str | None = None) -> str:
        """Where a message goes."""
        return f"{self.name}/{asset}" if channel is None else f"{self.name}/{asset}/{channel}"
