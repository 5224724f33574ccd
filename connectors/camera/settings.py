"""What can be said about cameras: by which way their pictures come, and which are taken."""

import re
from datetime import datetime
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.contract import ConfigPath
from connectors.files.settings import Zone
from connectors.mqtt.settings import ReadingSettings as MqttSettings
from connectors.mqtt.settings import SessionSettings
from connectors.payloads.image import MOST_MEGAPIXELS, Bounds

WAYS = ("folder", "mqtt", "http")
GROUPS = {"part", "recipe", "time"}  # what a file's name can tell


def _pattern(pattern: str) -> str:
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    if odd := set(found.groupindex) - GROUPS:
        raise ValueError(f"names a group {min(odd)!r}; want part, recipe and time, or none")
    return pattern


class FolderSettings(BaseModel):
    """Pictures that are put into a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: ConfigPath = Field(
        description="The folder; each camera's address is a folder below it, or . for itself.",
        examples=["pictures"],
    )
    name: Annotated[str, AfterValidator(_pattern)] = Field(
        r"(?i).*\.(jpe?g|png)",
        description="A regular expression for the whole name of a file; others are left alone. "
        "Its groups part, recipe and time tell what the name says, as in "
        r"(?P<part>[^_]+)_(?P<time>\d{14})\.png.",
    )
    time_format: str | None = Field(
        None,
        description="How the group time is written, in Python's strptime codes; without that "
        "group, a picture was taken when its file was last written.",
        examples=["%Y%m%d%H%M%S"],
    )
    timezone: Zone | None = Field(
        None, description="IANA zone of a time in a name without an offset."
    )
    poll_s: float = Field(
        1.0,
        gt=0,
        le=3600,
        description="How often to look. A file is taken when it has not changed from one look to "
        "the next.",
    )
    afterwards: Literal["keep", "delete", "move"] = Field(
        "keep",
        description="What becomes of a file once its picture is safe with us: it stays, is "
        "deleted, or is moved to the folder `done` beside it. A folder that is kept grows, and so "
        "does the time of each look.",
    )

    @model_validator(mode="after")
    def _time_can_be_read(self) -> Self:
        timed = "time" in re.compile(self.name).groupindex
        if timed != (self.time_format is not None):
            raise ValueError("time_format and a group (?P<time>...) in name go together")
        if self.time_format is not None and self.timezone is None and "%z" not in self.time_format:
            raise ValueError("timezone: a time in a name without an offset (%z) wants its zone")
        return self

    def time_of(self, text: str) -> datetime:
        """The time in a name. Raises ValueError."""
        assert self.time_format is not None  # noqa: S101 - a name with a time has a format
        found = datetime.strptime(text, self.time_format)  # noqa: DTZ007 - its zone comes next
        zone = None if self.timezone is None else ZoneInfo(self.timezone)
        return found if found.tzinfo else found.replace(tzinfo=zone)


class BrokerSettings(SessionSettings):
    """Pictures that are published to an MQTT broker, one a message."""

    type: Literal["mqtt"] = Field("mqtt", description="Need not be said.")

    def of_pictures(self, most_bytes: int) -> MqttSettings:
        """The same for the session, whose messages may have so many bytes."""
        given = self.model_dump() | {"max_payload_kb": most_bytes / 1024, "batch_messages": 8}
        return MqttSettings.model_validate(given)


class HttpSettings(BaseModel):
    """Pictures that are asked for, again and again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interval_s: float = Field(
        gt=0,
        le=86_400,
        description="How often each camera is asked for a picture.",
        examples=[5.0],
    )
    timeout_s: float = Field(
        10.0, gt=0, description="How long it may take to send one, from the first byte to the last."
    )
    ca_file: ConfigPath | None = Field(
        None, description="Whom to believe (PEM), in place of the public authorities."
    )
    auth: Literal["basic", "digest"] = Field(
        "basic", description="How the name and the password are shown."
    )
    user_name: str | None = Field(None, description="The name to log in with.")
    password_file: ConfigPath | None = Field(
        None, description="A file whose first line is the password."
    )
    password_env: str | None = Field(
        None, description="An environment variable that holds the password."
    )
    token_file: ConfigPath | None = Field(
        None, description="A file that holds a bearer token, in place of name and password."
    )
    token_env: str | None = Field(
        None, description="An environment variable that holds a bearer token."
    )

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        given = [
            name
            for name in ("password_file", "password_env", "token_file", "token_env")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)}: want one of them")
        if (self.user_name is not None) != any(one.startswith("password") for one in given):
            raise ValueError("a user_name and a password go together")
        return self


class ReadingSettings(BaseModel):
    """Pictures of inspection cameras, JPEG or PNG, by one of several ways."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"example": {"folder": {"path": "pictures"}}},
    )

    type: Literal["camera"] = Field(description="The connector: camera.", examples=["camera"])
    folder: FolderSettings | None = Field(None, description="They are put into a folder.")
    mqtt: BrokerSettings | None = Field(
        None,
        description="They are published to an MQTT broker; each camera's address is its topic. The "
        "user properties part, recipe and time say what a picture shows and when it was taken "
        "(ISO 8601 with a zone, or a number since 1970).",
    )
    http: HttpSettings | None = Field(
        None,
        description="They are asked for over HTTP; each camera's address is the URL of its newest "
        "picture.",
    )
    max_mb: float = Field(
        20.0, gt=0, le=250, description="A larger file is no picture: it is rejected, and counted."
    )
    max_megapixels: float = Field(
        50.0,
        gt=0,
        le=MOST_MEGAPIXELS,
        description="A picture that declares more is rejected before it is unpacked. A pixel of "
        "16 bits a colour counts as two.",
    )
    clock_ahead_s: float = Field(
        60.0,
        ge=0,
        description="A stamp further ahead of its picture, or of before 2001, cannot be true: the "
        "time of receipt stands for it.",
    )

    @model_validator(mode="after")
    def _by_one_way(self) -> Self:
        ways = [name for name in WAYS if getattr(self, name) is not None]
        if len(ways) != 1:
            given = " and ".join(ways) or "none"
            raise ValueError(f"want one way by which pictures come, {' or '.join(WAYS)}: {given}")
        return self

    @property
    def way(self) -> str:
        """The way that is given."""
        return next(name for name in WAYS if getattr(self, name) is not None)

    @property
    def bounds(self) -> Bounds:
        """The largest picture that is taken."""
        return Bounds(bytes=round(self.max_mb * 1e6), pixels=round(self.max_megapixels * 1e6))
