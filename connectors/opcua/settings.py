"""What can be said about an OPC UA server: where it is, who we are, and how often it is to look."""

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.contract import ConfigPath

_INSECURE = (
    "want true, said by you: OPC UA is spoken without encryption and without signatures here, so "
    "whoever is on the network can read along and pretend to be the server. Security policies are "
    "not there yet; keep the network between the two to yourself"
)


@dataclass(frozen=True, slots=True)
class RateClass:
    """How a set of tags is looked at: all of one class share a subscription."""

    sampling_ms: float
    publishing_ms: float
    every_sample: bool


class Rate(BaseModel):
    """Tags that are looked at in another way; what is left out is as for the source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(
        description="Addresses this is for; * and ? stand for any characters.",
        examples=["nsu=urn:plant:pumps;s=*.vibration"],
    )
    sampling_ms: float | None = Field(None, gt=0, description="As for the source.")
    publishing_ms: float | None = Field(None, gt=0, description="As for the source.")
    every_sample: bool | None = Field(None, description="As for the source.")


class Settings(BaseModel):
    """An OPC UA server: its data changes, as they come."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["opcua"] = Field(description="The connector: opcua.", examples=["opcua"])
    url: str = Field(
        description="The server. Tags are addressed by node ids with the namespace's URI, as "
        "nsu=urn:plant:pumps;s=pump_1.flow.",
        examples=["opc.tcp://plc-7:4840"],
    )
    insecure: bool = Field(
        description="true says that you know: nothing is encrypted or signed, and anybody on the "
        "network can read along or pretend to be the server. It must be said.",
        examples=[True],
    )
    user_name: str | None = Field(None, description="Who logs in; left out: anonymous.")
    password_file: ConfigPath | None = Field(None, description="The file that holds the password.")
    password_env: str | None = Field(
        None, description="The environment variable that holds the password."
    )
    sampling_ms: float = Field(
        1000.0, gt=0, description="How often the server looks at a value. It may revise this."
    )
    publishing_ms: float = Field(
        1000.0,
        gt=0,
        description="How often it sends what it found. lateness_ms of a kind should be as long as "
        "sampling_ms and publishing_ms of its slowest tag and source_delay_ms together.",
    )
    every_sample: bool = Field(
        default=False,
        description="Also values that repeat, with new timestamps (trigger StatusValueTimestamp); "
        "else only changes are sent.",
    )
    rates: tuple[Rate, ...] = Field(
        (),
        description="Tags with another rate; the first that fits an address counts.",
        examples=['[{address: "*.vibration", sampling_ms: 100, every_sample: true}]'],
    )
    queue_s: float = Field(
        60.0,
        ge=0,
        description="Outage that the server's queues are to bridge; it keeps this much of each "
        "value.",
    )
    queue_keeps: Literal["newest", "oldest"] = Field(
        "newest", description="What stays in a queue of the server that is too short."
    )
    keepalive_s: float = Field(
        10.0, gt=0, description="A silent server says that it is alive at least this often."
    )
    lifetime_s: float = Field(
        300.0,
        gt=0,
        description="The server keeps our subscriptions for this long without us; at least "
        "queue_s, and three times keepalive_s.",
    )
    source_delay_ms: float = Field(
        0.0,
        ge=0,
        description="By how much a stamp may lie before the instant at which the server got the "
        "value, beyond sampling_ms: a slow device behind it, or a clock that is behind.",
    )
    silence: Literal["steady", "unknown"] = Field(
        "steady",
        description="What it means that the server sends nothing of a value. steady: it stayed as "
        "it was, and is known for as long as the server says that it is alive. unknown: nothing, "
        "as between the strokes of a machine that is recorded only while it moves; then silence "
        "is a gap, as in a file, and stamps may be of any age.",
    )
    fill_gaps: bool = Field(
        default=True,
        description="What was missed is read from the server's history, of nodes that have one.",
    )
    fill_wait_s: float = Field(
        60.0,
        ge=0,
        description="How long new values wait in the server's queues for history to come before "
        "them; at most as long as those queues hold. Then the rest of the history comes as late.",
    )
    history_delay_s: float = Field(
        1.0, ge=0, description="How long after an instant the server's history of it is complete."
    )
    clock_ahead_s: float = Field(
        60.0,
        gt=0,
        description="A stamp that is further ahead of the server's own clock cannot be true, nor "
        "can one before 2001: the server's stamp stands for it, or the time at which it was sent. "
        "The same difference between the server's clock and ours is said.",
    )
    retry_s: float = Field(60.0, gt=0, description="How often a node that was bad is tried again.")
    timeout_s: float = Field(5.0, gt=0, description="How long to wait for an answer of the server.")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "opc.tcp" or not parts.hostname or not _port(url):
            raise ValueError("want opc.tcp://HOST:PORT, with a path if the server has one")
        if parts.username is not None or parts.password is not None:
            raise ValueError("no user and no password here: user_name, and password_file or _env")
        return url

    @field_validator("insecure")
    @classmethod
    def _is_said(cls, insecure: bool) -> bool:  # noqa: FBT001 - pydantic gives it so
        if not insecure:
            raise ValueError(_INSECURE)
        return insecure

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.lifetime_s < 3 * self.keepalive_s:  # Part 4, 5.14.2: at least three times
            raise ValueError(f"lifetime_s: want at least 3 x keepalive_s, {3 * self.keepalive_s}")
        if self.lifetime_s < self.queue_s:
            raise ValueError(f"lifetime_s: want at least queue_s, {self.queue_s}")
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("password_file, password_env: want one of them")
        if self.user_name is None and (self.password_file or self.password_env):
            raise ValueError("user_name is missing beside the password")
        return self

    def rate_of(self, address: str) -> RateClass:
        """How a tag is looked at."""
        rate = next((one for one in self.rates if fnmatchcase(address, one.address)), None)
        given = {} if rate is None else rate.model_dump(exclude={"address"}, exclude_none=True)
        return RateClass(
            sampling_ms=given.get("sampling_ms", self.sampling_ms),
            publishing_ms=given.get("publishing_ms", self.publishing_ms),
            every_sample=given.get("every_sample", self.every_sample),
        )

    def delay_ms(self, address: str) -> float:
        """The longest time from the stamp of a sample of this tag until it is sent."""
        rate = self.rate_of(address)
        return self.source_delay_ms + rate.sampling_ms + rate.publishing_ms

    def queue_size(self, rate: RateClass) -> int:
        """Values of one item that the server is to keep: two publishings, and the outage."""
        between = math.ceil(rate.publishing_ms / rate.sampling_ms)
        return 2 * between + math.ceil(self.queue_s * 1000 / rate.sampling_ms)

    def keepalive_count(self, rate: RateClass) -> int:
        """Publishing intervals between signs of life."""
        return max(1, math.ceil(self.keepalive_s * 1000 / rate.publishing_ms))

    def lifetime_count(self, rate: RateClass) -> int:
        """Publishing intervals without us after which the server gives a subscription up."""
        intervals = math.ceil(self.lifetime_s * 1000 / rate.publishing_ms)
        return max(intervals, 3 * self.keepalive_count(rate))


def _port(url: str) -> int | None:
    """The port; None where it is missing or no port."""
    try:
        return urlsplit(url).port
    except ValueError:
        return None
