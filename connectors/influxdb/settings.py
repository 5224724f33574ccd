"""What can be said about an InfluxDB: where it is, which bucket or database, and how it is read."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from connectors.contract import ConfigPath
from connectors.http import HttpUrl

MOST_LINES = 5000  # of one request: what InfluxDB's own guidance calls best


class _Peer(BaseModel):
    """How to reach it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["influxdb"] = Field(description="The connector: influxdb.", examples=["influxdb"])
    url: HttpUrl = Field(
        description="Its address, without a path of the API.", examples=["http://localhost:8086"]
    )
    token_file: ConfigPath | None = Field(
        None, description="The file that holds its token. Neither file nor variable: no token."
    )
    token_env: str | None = Field(
        None, description="The environment variable that holds its token."
    )
    timeout_s: float = Field(
        10.0, gt=0, le=300, description="How long it may take to connect, and to answer."
    )
    ca_file: ConfigPath | None = Field(
        None,
        description="Certificates (PEM) of the authorities that may vouch for it; left out: those "
        "this machine trusts.",
    )

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("got token_file and token_env; want one of them")
        return self


class WritingSettings(_Peer):
    """A bucket of InfluxDB 2 or newer, or of VictoriaMetrics, that gets all points."""

    org: str = Field(
        "", description="Its organisation; InfluxDB 2 wants one, InfluxDB 3 and others do not."
    )
    bucket: str = Field(min_length=1, description="The bucket.", examples=["watchkeeper"])
    batch_lines: int = Field(
        MOST_LINES, ge=1, le=MOST_LINES, description="The most lines (points) of one request."
    )


class ReadingSettings(_Peer):
    """What other programs wrote into an InfluxDB, read by InfluxQL. For history only.

    An address is measurement.field{tag=value}.
    """

    database: str = Field(
        min_length=1,
        description="The database; of InfluxDB 2: the one that is mapped to the bucket (DBRP).",
        examples=["telegraf"],
    )
    retention_policy: str | None = Field(
        None, min_length=1, description="Its retention policy; left out: the database's default."
    )
    username: str | None = Field(
        None,
        min_length=1,
        description="The user, where InfluxDB 1 wants one; the token is then its password.",
    )
    stamp: Literal["end", "start"] = Field(
        "end",
        description="Whether a stamp names the end or the start of the interval it sums up; what "
        "GROUP BY time wrote is stamped at the start.",
    )
    interval_ms: int | None = Field(
        None,
        gt=0,
        le=31 * 86_400_000,  # a month: longer is a mistake of unit
        description="Length of that interval; stamps of the start are moved on by it.",
    )
    chunk_hours: float = Field(
        6.0,
        gt=0,
        le=72,  # InfluxDB 3 Core reads no more at once
        description="Time read at once, all of it held in memory: 25 bytes a sample.",
    )
    batch_rows: int = Field(
        20_000, ge=1, le=1_000_000, description="The most samples that a batch is made of."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.stamp == "start" and self.interval_ms is None:
            raise ValueError("stamp: start needs interval_ms, to move the stamp to the end")
        if self.username is not None and self.token_file is None and self.token_env is None:
            raise ValueError("username needs its password: want token_file or token_env")
        return self
