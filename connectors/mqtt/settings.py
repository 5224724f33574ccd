"""What can be said about a broker, and about what is read from it and written to it."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.contract import ConfigPath
from connectors.payloads.forms import Form

PORT, TLS_PORT = 1883, 8883
LONGEST = 65_535  # bytes of a topic; MQTT 5, 1.5.4
LONGEST_LEVEL = 10_000  # bytes of what we put into one: three of them and some words fit
DAY_S = 86_400
LARGEST_PACKET = 268_435_460  # bytes; MQTT 5, 2.1.4, with its first five
LARGEST_KB = 262_143  # of a payload: a packet's length is less than 256 MiB; MQTT 5, 1.5.5


def filter_or_error(topic: str) -> str:
    """A topic filter as MQTT 5, 4.7, has it."""
    levels = topic.split("/")
    if (
        not topic
        or "\0" in topic
        or len(topic.encode(errors="replace")) > LONGEST
        or any(len(level) > 1 and ("+" in level or "#" in level) for level in levels)
        or "#" in levels[:-1]
    ):
        raise ValueError(
            f"{topic[:80]!r} is no topic filter; want one as plant/+/telemetry or plant/#"
        )
    return topic


def level_or_error(name: str) -> str:
    """Text that can be part of a topic that is written to."""
    if (
        not name
        or any(one in name for one in "+#\0")
        or name.startswith(("/", "$"))
        or len(name.encode()) > LONGEST_LEVEL  # UnicodeEncodeError is a ValueError, too
    ):
        raise ValueError(f"{name[:80]!r} cannot be in a topic: want text without + and #")
    return name


class TlsSettings(BaseModel):
    """How the broker is known, and how we are. The broker's certificate is always checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca_file: ConfigPath = Field(
        description="Whom to believe (PEM). For a public authority, this system's own file: on "
        "Debian /etc/ssl/certs/ca-certificates.crt.",
        examples=["ca.crt"],
    )
    cert_file: ConfigPath | None = Field(
        None, description="Our certificate (PEM), where the broker asks for one."
    )
    key_file: ConfigPath | None = Field(None, description="The key of our certificate (PEM).")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self


class LinkSettings(BaseModel):
    """A broker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["mqtt"] = Field(description="The connector: mqtt.", examples=["mqtt"])
    host: str = Field(
        description="The broker's name or address.", min_length=1, examples=["broker.plant.example"]
    )
    port: int | None = Field(
        None, ge=1, le=65_535, description="Left out: 1883, or 8883 with `tls`."
    )
    client_id: str = Field(
        description="By which the broker knows us again. Of this client alone: a second one with "
        "the same id throws the first one out.",
        min_length=1,
        max_length=200,
        examples=["watchkeeper-plant"],
    )
    protocol: Literal["5", "3.1.1"] = Field(
        "5", description="3.1.1 for brokers that know no other; see docs/mqtt.md."
    )
    user_name: str | None = Field(None, description="The name to log in with.")
    password_file: ConfigPath | None = Field(
        None, description="A file whose first line is the password."
    )
    password_env: str | None = Field(
        None, description="An environment variable that holds the password."
    )
    tls: TlsSettings | None = Field(
        None,
        description="Encrypted, with the broker's certificate checked; left out: in the clear.",
        examples=["{ca_file: ca.crt, cert_file: watchkeeper.crt, key_file: watchkeeper.key}"],
    )
    keepalive_s: int = Field(
        30,
        ge=2,
        le=3600,
        description="A link is given up when the broker was silent for twice as long.",
    )
    timeout_s: float = Field(10.0, gt=0, description="How long the broker may take to answer.")

    @model_validator(mode="before")
    @classmethod
    def _protocol_as_number(cls, given: Any) -> Any:
        """In YAML a bare 5 is a number."""
        if isinstance(given, dict) and isinstance(given.get("protocol"), int):
            return given | {"protocol": str(given["protocol"])}
        return given

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("password_file and password_env: want one of them")
        if self.user_name is None and (self.password_file or self.password_env):
            raise ValueError("a password needs a user_name")
        return self

    @property
    def where(self) -> str:
        """Host and port, for people."""
        return f"{self.host}:{self.resolved_port}"

    @property
    def resolved_port(self) -> int:
        """The port, given or usual."""
        return self.port or (PORT if self.tls is None else TLS_PORT)


class Rule(Form):
    """How the payloads of some topics are meant."""

    topic: Annotated[str, AfterValidator(filter_or_error)] = Field(
        description="A topic filter: + stands for one level, # for all that follow.",
        examples=["plant/+/telemetry"],
    )


class SessionSettings(LinkSettings):
    """A session at a broker, that keeps what comes for us while we are away."""

    session_expiry_s: int = Field(
        7 * DAY_S,
        ge=0,
        le=0xFFFF_FFFE,
        description="How long the broker shall keep messages for us while we are away (3.1.1: the "
        "broker decides).",
    )
    receive_maximum: int = Field(
        1000,
        ge=1,
        le=65_535,
        description="Messages that may be on their way to us, not yet safe in the journal.",
    )
    buffer_mb: float = Field(
        16.0,
        gt=0,
        description="Messages held in memory; beyond it none is read: the broker keeps them.",
    )

    @property
    def keeps_session(self) -> bool:
        """Whether the broker is asked to keep anything for us."""
        return self.protocol != "5" or self.session_expiry_s > 0


class ReadingSettings(SessionSettings):
    """Measurements from an MQTT broker; an address is a topic, or topic#member of a JSON object."""

    max_payload_kb: float = Field(
        1024.0,
        gt=0,
        le=LARGEST_KB,
        description="A larger payload is rejected and counted; one four times as large is not even "
        "sent to us by a broker that speaks MQTT 5, and nobody is told.",
    )
    clock_ahead_s: float = Field(
        60.0,
        ge=0,
        description="A stamp further ahead of its message, or of before 2001, cannot be true: the "
        "time of receipt stands for it.",
    )
    batch_messages: int = Field(
        2000, ge=1, le=100_000, description="The most messages that become one batch."
    )
    payloads: tuple[Rule, ...] = Field(
        (),
        description="How payloads are meant, by topic; the first rule that fits counts, and where "
        "none does, any JSON form is recognised.",
        examples=["[{topic: plant/+/telemetry, format: flat, time_key: ts}]"],
    )

    @property
    def packet_bytes(self) -> int:
        """No larger packet shall be sent to us: the broker throws it away without a word.

        Four times the largest payload, so that one that is too large can still be counted, and room
        for a topic. MQTT 5, 3.1.2.11.4.
        """
        return min(int(4 * self.max_payload_kb * 1024) + LONGEST, LARGEST_PACKET)


class WritingSettings(LinkSettings):
    """Scores, alarms and a heartbeat to an MQTT broker, as JSON at QoS 1."""

    client_id: str = Field(
        description="By which the broker knows us. Of this sink alone: a second client with the "
        "same id, as a source, throws the first one out.",
        min_length=1,
        max_length=200,
        examples=["watchkeeper-plant-results"],
    )
    prefix: Annotated[str, AfterValidator(level_or_error)] = Field(
        "watchkeeper", description="What all topics begin with."
    )
    site: Annotated[str, AfterValidator(level_or_error)] = Field(
        description="The site's name in topics.", examples=["plant"]
    )
    heartbeat_s: float = Field(
        30.0, gt=0, description="How often <prefix>/<site>/status says that we are here."
    )
