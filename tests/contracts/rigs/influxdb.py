"""A real InfluxDB 1, shared by all rigs, each with a database and an nginx of its own."""

from pathlib import Path

import numpy as np
from support.databases import TOKEN, Shim, new_database, shared_influx

from connectors.batch import GOOD
from connectors.contract import TagRef
from connectors.influxdb.settings import ReadingSettings, WritingSettings
from connectors.points import Points

MARKS = ("broker",)
T0 = 1_704_067_200_000_000_000  # 2024-01-01T00:00:00Z
SECOND = 1_000_000_000


class _Behind:
    """A database behind a door that opens and shuts."""

    clients = ("httpx", "influxdb_client", "msgspec", "pyarrow")

    def __init__(self, folder: Path) -> None:
        self.influx = shared_influx()
        self.database = new_database(self.influx)
        self.shim = Shim(folder / "shim", self.influx)
        self.appear()
        self.token = folder / "token"
        self.token.write_text(TOKEN + "\n")

    def vanish(self) -> None:
        self.shim.stop()

    def appear(self) -> None:
        self.shim.start()

    def close(self) -> None:
        self.shim.stop()


class SourceRig(_Behind):
    """Two tags of two machines, in two measurements, and one that nobody asked for."""

    tags = (
        TagRef(id=7, address="pump.flow{machine=p1}", unit="l/min"),
        TagRef(id=3, address="vibration.rms"),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = ReadingSettings(
            type="influxdb", url=self.shim.url, database=self.database, batch_rows=3
        )
        self.samples = []
        lines = []
        for n in range(20):
            time = T0 + n * SECOND
            tag, series = (
                (7, "pump,machine=p1 flow="),
                (3, "vibration rms="),
                (None, "pump,machine=p2 flow="),
            )[n % 3]
            lines.append(f"{series}{n}.5 {time}")
            if tag is not None:
                self.samples.append((tag, time, n + 0.5, GOOD))
        self.influx.write(self.database, "\n".join(reversed(lines)))


class SinkRig(_Behind):
    """A bucket. Its server has no answer that asks for patience."""

    secrets = (TOKEN,)
    retry_after_s = None
    items = tuple(
        Points(
            measurement="asset_score",
            tags={"site": "works", "asset": f"p{n}"},
            time=T0 + np.arange(4) * SECOND,
            fields={"surprise": np.arange(4) + 0.5 * n, "valid": np.ones(4)},
        )
        for n in range(3)
    )
    unfit = Points(
        measurement="asset_score",
        tags={"site": "works", "asset": "p9"},
        time=np.array([T0]),
        fields={},
        texts={"surprise": ("a text where the others have a number",)},
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = WritingSettings(
            type="influxdb",
            url=self.shim.url,
            bucket=self.database,
            token_file=str(self.token),
        )

    def busy(self) -> None:
        raise NotImplementedError

    def contents(self) -> dict[object, object]:
        return self.influx.contents(self.database)
