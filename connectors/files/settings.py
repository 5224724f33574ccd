"""What can be said about files: where they lie, how a row is laid out, how its stamp is meant."""

import codecs
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from connectors.contract import ConfigPath, NotReadyError

LONGEST_INTERVAL_MS = 31 * 86_400_000  # a month: longer is a mistake of unit


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (
        KeyError,
        ValueError,
        OSError,
    ) as error:  # what zoneinfo raises for unknown and odd names
        raise ValueError(f"no time zone {name!r}; want an IANA name as Europe/Berlin") from error
    return name


Zone = Annotated[str, AfterValidator(_known_zone)]
"""An IANA time zone."""


def _known_encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise ValueError(f"no encoding {name!r}; want one as utf-8, cp1252, utf-16") from error
    return name


class ReadingSettings(BaseModel):
    """CSV and Parquet files of samples, read in order of time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["files"] = Field(description="The connector: files.", examples=["files"])
    path: ConfigPath = Field(
        description="The files, relative to the configuration's folder; * ? [] ** stand for "
        "several. CSV by .csv, .txt, .csv.gz; Parquet by .parquet. A file must be complete when it "
        "appears: write it under another name and rename it.",
        examples=["recordings/*.csv"],
    )
    layout: Literal["wide", "long"] = Field(
        description="wide: a row is an instant, a column is a tag, an empty cell is no sample. "
        "long: a row is one sample.",
        examples=["wide"],
    )
    time_column: str = Field("time", description="The column that holds the stamp.")
    time_format: Literal["iso8601", "day_first", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"] = (
        Field(
            "iso8601",
            description="How a stamp is written: ISO 8601; day_first, as 31.12.2026 23:59:59 or "
            "31/12/2026 23:59; or a number since 1970 UTC in the unit named. Parquet columns of "
            "type timestamp are taken as they are.",
        )
    )
    timezone: Zone | None = Field(
        None, description="IANA zone of stamps without an offset; without one they are refused."
    )
    doubled_hour: Literal["refuse", "by_order"] = Field(
        "refuse",
        description="Stamps of the hour that comes twice when DST ends. by_order: within a series, "
        "the first stamp earlier than the one before it begins the second pass.",
    )
    stamp: Literal["end", "start"] = Field(
        "end", description="Whether a stamp names the end or the start of the interval it sums up."
    )
    interval_ms: int | None = Field(
        None,
        gt=0,
        le=LONGEST_INTERVAL_MS,
        description="Length of that interval; stamps of the start are moved on by it.",
    )
    delimiter: str = Field(",", min_length=1, max_length=1, description="Between cells of a CSV.")
    decimal: Literal[".", ","] = Field(".", description="The decimal mark of numbers in text.")
    encoding: Annotated[str, AfterValidator(_known_encoding)] = Field(
        "utf-8", description="How a CSV's text is encoded."
    )
    asset_column: str | None = Field(
        None,
        description="Wide: the column that names the asset; addresses are then <asset>/<column>.",
    )
    tag_column: str | None = Field(None, description="Long: the column that holds the address.")
    value_column: str | None = Field(None, description="Long: the column that holds the value.")
    status_column: str | None = Field(
        None, description="Long: the column that holds the status; an empty cell means good."
    )
    status_format: Literal["word", "opc_ua", "opc_da"] = Field(
        "word",
        description="word: good, uncertain, bad, and words that begin so. opc_ua: StatusCodes, "
        "decimal or 0x. opc_da: 192 good, 64 uncertain, 0 bad, 500 stale. 0 is good in one and bad "
        "in the other, so it is never guessed.",
    )
    unit_column: str | None = Field(
        None, description="Long: the column that holds the unit; it is checked against the tag's."
    )
    speed: float | None = Field(
        None,
        gt=0,
        description="Seconds of recording a second: 1.0 as recorded; left out: at once.",
    )
    batch_rows: int = Field(
        2000, ge=1, le=1_000_000, description="Rows read at once, and the most a batch is made of."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        only_long = ("tag_column", "value_column", "status_column", "unit_column")
        if self.layout == "long":
            missing = [name for name in ("tag_column", "value_column") if not getattr(self, name)]
            foreign = [name for name in ("asset_column",) if getattr(self, name)]
        else:
            missing = []
            foreign = [name for name in only_long if getattr(self, name)]
        if missing:
            raise ValueError(f"layout: {self.layout} needs {' and '.join(missing)}")
        if foreign:
            raise ValueError(f"layout: {self.layout} has no {', '.join(foreign)}")
        if self.stamp == "start" and self.interval_ms is None:
            raise ValueError("stamp: start needs interval_ms, to move the stamp to the end")
        if self.decimal == self.delimiter:
            raise ValueError(f"delimiter and decimal are both {self.decimal!r}; try delimiter ';'")
        return self

    def files(self, *, connector: str) -> dict[str, str]:
        """Those that are there now, by name: the part of the path from the first wildcard on.

        Raises NotReadyError where there is none.
        """
        parts = Path(self.path).parts
        magic = [place for place, part in enumerate(parts) if re.search(r"[*?[]", part)]
        if Path(self.path).is_file() or not magic:
            magic = [len(parts) - 1]
        root = Path(*parts[: magic[0]])
        rest = Path(*parts[magic[0] :])
        found = [root / rest] if (root / rest).is_file() else root.glob(str(rest))
        paths = {path.relative_to(root).as_posix(): str(path) for path in found if path.is_file()}
        if not paths:
            raise NotReadyError(
                f"{connector}: no file matches {self.path}; if one should be there, "
                "check `path` and the folder it is relative to",
                connector=connector,
            )
        return dict(sorted(paths.items()))


class WritingSettings(BaseModel):
    """A folder into which each message is written as one file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["files"] = Field(description="The connector: files.", examples=["files"])
    folder: ConfigPath = Field(
        description="A folder, relative to the configuration's; each message becomes <id>.json "
        "in it. It is made if the folder above it is there.",
        examples=["messages"],
    )
