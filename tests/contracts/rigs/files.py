"""Recordings in a folder that can be moved away."""

from pathlib import Path

from connectors.batch import BAD, GOOD, UNCERTAIN
from connectors.contract import TagRef
from connectors.files.settings import ReadingSettings, WritingSettings
from connectors.points import Message

T0 = 1_704_067_200_000_000_000  # 2024-01-01T00:00:00Z
STATUS = {"good": GOOD, "uncertain": UNCERTAIN, "bad": BAD}


class _Folder:
    """A folder, there or not."""

    clients = ("pyarrow",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "there"
        self._away = folder / "away"
        self.folder.mkdir()

    def vanish(self) -> None:
        self.folder.rename(self._away)

    def appear(self) -> None:
        self._away.rename(self.folder)


class SourceRig(_Folder):
    """Two files that overlap in time, of two tags and one that nobody asked for."""

    tags = (TagRef(id=7, address="flow", unit="l/min"), TagRef(id=3, address="temp"))

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = ReadingSettings(
            type="files",
            path=str(self.folder / "*.csv"),
            layout="long",
            time_format="epoch_ns",
            tag_column="tag",
            value_column="value",
            status_column="status",
            batch_rows=3,
        )
        ids = {tag.address: tag.id for tag in self.tags}
        lines: list[list[str]] = [["time,tag,value,status"], ["time,tag,value,status"]]
        self.samples = []
        for n in range(20):
            time = T0 + n * 1_000_000
            name = ("flow", "temp", "other")[n % 3]
            status = ("good", "uncertain", "bad", "good")[n % 4]
            lines[n % 2].append(f"{time},{name},{n},{status}")
            if name in ids:
                self.samples.append((ids[name], time, float(n), STATUS[status]))
        for n, content in enumerate(lines):
            (self.folder / f"{n}.csv").write_text("\n".join(content))


class SinkRig(_Folder):
    """A folder for messages."""

    secrets = ()
    retry_after_s = None
    items = tuple(
        Message(id=f"m{n}", subject="pump", type="alarm.raised", time=T0 + n, body={"n": n})
        for n in range(3)
    )
    unfit = Message(id="../m", subject="pump", type="alarm.raised", time=T0, body={})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.inbox = self.folder / "inbox"
        self.inbox.mkdir()
        self.settings = WritingSettings(type="files", folder=str(self.inbox))

    def busy(self) -> None:
        raise NotImplementedError

    def contents(self) -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_ino, path.read_bytes()) for path in self.inbox.iterdir()}
