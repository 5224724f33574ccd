"""What every command shares: exit codes, printing for people and scripts, errors in plain words.

Results go to stdout, everything else to stderr. Text that comes from a plant is printed as it is:
never read as markup, never wrapped, so that scripts can read it by line.
"""

import errno
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum
from threading import Event
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from models.training import Epoch, Progress
    from monitor.site.problems import Problem


MOST_SHOWN = 50  # problems; one mistake in a template can make thousands
LINE_S = 10.0  # a log learns no more often that a command is alive

LIBRARIES = {"asyncua": logging.ERROR, "httpx": logging.WARNING}  # of others: what to log from


class Exit(IntEnum):
    """How a command ended, for scripts. This is the only list of exit codes."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    NOT_READY = 3
    REFUSED = 4
    INTERRUPTED = 130  # as shells count an interrupt: 128 + SIGINT

    @property
    def meaning(self) -> str:
        """In words, for --help."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.FINE: "all is well",
    Exit.FAILED: "the command ran, and what it was asked to show does not hold",
    Exit.USAGE: "the command line or the configuration is wrong, or not what a source holds",
    Exit.NOT_READY: "a file or a peer is not there or not ready; trying again may help",
    Exit.REFUSED: "refused: in use by another process, not ours, damaged, or of another version",
    Exit.INTERRUPTED: "interrupted from the keyboard",
}


class StopError(Exception):
    """A command ends here: words for people, and the exit code."""

    def __init__(self, message: str, *, code: Exit) -> None:
        """``code`` is what a script sees."""
        super().__init__(message)
        self.code = code


class _Stderr(logging.Handler):
    """Writes to whatever stderr is now: a live view takes its place while it lasts."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        sys.stderr.write(self.format(record) + "\n")


def log_to(handler: logging.Handler | None = None) -> None:
    """Say what the service logs, one line each: to stderr, or to another handler.

    Libraries speak of every request and every service fault. Ours say what came of it.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        handlers=[handler or _Stderr()],
    )
    for name, level in LIBRARIES.items():
        logging.getLogger(name).setLevel(level)


def err() -> "Console":
    """Where progress and errors go."""
    return _console(stderr=True)


def say(*parts: "str | Text | tuple[str, str]", stderr: bool = False) -> None:
    """Print one line; a part may be (text, style)."""
    from rich.text import Text  # noqa: PLC0415 - rich takes longer to import than --help to print

    line = Text.assemble(*parts)
    _console(stderr=stderr).print(line, soft_wrap=True, highlight=False)


def say_json(value: Any) -> None:
    """One JSON document on stdout, for scripts. Raises ValueError on NaN, which JSON has not."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def say_problems(problems: "tuple[Problem, ...]", *, stderr: bool = False) -> None:
    """Each problem with the line it stands in and a mark below the spot; the first fifty."""
    from monitor.site.problems import may_hold_secret  # noqa: PLC0415 - not at every start

    lines: dict[str, list[str]] = {}
    for problem in problems[:MOST_SHOWN]:
        if problem.file not in lines:
            lines[problem.file] = _lines(problem.file)
        place = "" if problem.place is None else f":{problem.place.line}:{problem.place.column}"
        path = f": {problem.path}" if problem.path else ""
        say((problem.file + place, "bold"), (path, "cyan"), f": {problem.message}", stderr=stderr)
        if problem.place is None or problem.place.line > len(lines[problem.file]):
            continue
        text = lines[problem.file][problem.place.line - 1]
        if may_hold_secret(text):
            continue
        before = " " * (problem.place.column - 1)
        number = str(problem.place.line)
        say((f"  {number} │ ", "dim"), _shortened(text), stderr=stderr)
        say((f"  {' ' * len(number)} │ ", "dim"), before, ("^", "bold red"), stderr=stderr)
    if len(problems) > MOST_SHOWN:
        say(f"... and {len(problems) - MOST_SHOWN} more", stderr=stderr)


def say_warning(message: str) -> None:
    """What is odd though the command goes on, on stderr."""
    say(("warning: ", "bold yellow"), message, stderr=True)


def say_error(message: str) -> None:
    """What went wrong, on stderr."""
    say(("error: ", "bold red"), message, stderr=True)


EXPECTED = {  # errors that are no fault of the program, and how a command ends with them
    ("monitor.cli.console", "StopError"): None,  # its own code
    ("monitor.site.problems", "ConfigError"): Exit.USAGE,
    ("monitor.site.problems", "MismatchedError"): Exit.USAGE,
    ("monitor.site.problems", "ModelMissingError"): Exit.NOT_READY,
    ("monitor.site.problems", "PlantError"): Exit.REFUSED,
    ("connectors.contract", "MismatchError"): Exit.USAGE,
    ("connectors.labelled.pictures", "LabelsError"): Exit.USAGE,
    ("connectors.contract", "RefusedError"): Exit.REFUSED,
    ("connectors.contract", "ConnectorError"): Exit.NOT_READY,
    ("models.bundle", "BundleError"): Exit.REFUSED,
    ("models.tensorboard", "NoTensorBoardError"): Exit.REFUSED,
    ("models.workers", "WorkersError"): Exit.USAGE,
    ("monitor.state.errors", "LockedError"): Exit.REFUSED,
    ("monitor.state.errors", "SchemaError"): Exit.REFUSED,
    ("monitor.state.errors", "CorruptError"): Exit.REFUSED,
    ("monitor.state.errors", "StateError"): Exit.NOT_READY,
    ("builtins", "OSError"): Exit.NOT_READY,
    ("builtins", "KeyboardInterrupt"): Exit.INTERRUPTED,
}


def expected_errors() -> tuple[type[BaseException], ...]:
    """The classes of EXPECTED, as far as imported: what was not imported has raised nothing."""
    modules = [(sys.modules.get(module), name) for module, name in EXPECTED]
    return tuple(getattr(module, name) for module, name in modules if module is not None)


def explain(error: BaseException) -> Exit:
    """Say one of the expected errors in plain words; gives the exit code."""
    if isinstance(error, StopError):
        say_error(str(error))
        return error.code
    names = [(one.__module__, one.__name__) for one in type(error).__mro__]
    code = next(code for name in names if (code := EXPECTED.get(name)) is not None)
    if code is Exit.INTERRUPTED:
        say("Stopped.", stderr=True)
    elif problems := getattr(error, "problems", ()):
        say_problems(problems, stderr=True)
        say_error(f"the configuration has {count(len(problems), 'problem')}; nothing was done")
    else:
        say_error(_plain(error) if isinstance(error, OSError) else str(error))
    return code


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 asset``, ``2 assets``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _plain(error: OSError) -> str:
    """An error of the operating system in words, with what to do."""
    what = error.filename if error.filename is not None else ""
    words = {
        errno.ENOENT: "no such file or folder",
        errno.EACCES: "this user has no permission for it",
        errno.EPERM: "this user has no permission for it",
        errno.EISDIR: "is a folder; want a file",
        errno.ENOTDIR: "is no folder",
        errno.EEXIST: "is there already",
        errno.ENOSPC: "the disk is full; make room and start again",
        errno.EROFS: "the disk is read-only",
        errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
        errno.EADDRINUSE: "the address is in use by another program",
        errno.ECONNREFUSED: "nobody answers there",
    }.get(error.errno or 0, error.strerror or str(error))
    return f"{what}: {words}" if what else words


def _console(*, stderr: bool) -> "Console":
    from rich.console import Console  # noqa: PLC0415 - as in say()

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def _lines(file: str) -> list[str]:
    """The lines of a file to quote from; none where it cannot be read as text."""
    try:
        with open(file, encoding="utf-8-sig") as opened:  # noqa: PTH123 - a name, not a path yet
            return opened.read().split("\n")
    except (OSError, UnicodeDecodeError, ValueError):
        return []


def _shortened(text: str) -> str:
    """A line as a terminal may show it: column by column, nothing that could move the cursor."""
    shown = "".join(one if one.isprintable() else " " for one in text)
    return shown if len(shown) <= 160 else shown[:157] + "..."


def local(moment: int, zone: str) -> str:
    """A time in ns since 1970 UTC as the site's people read it, with its offset."""
    seconds, rest = divmod(moment, 1_000_000_000)
    shown = datetime.fromtimestamp(seconds, ZoneInfo(zone)).replace(microsecond=rest // 1000)
    return shown.isoformat(sep=" ", timespec="milliseconds")


def instant(text: str | None, option: str) -> int | None:
    """A time given on the command line, ns since 1970 UTC. Raises StopError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise StopError(
            f"{option}: got {text!r}, want a time with its zone, as 2026-03-01T06:00:00Z.",
            code=Exit.USAGE,
        )
    whole = moment.replace(microsecond=0)
    return round(whole.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def nanoseconds(text: str, option: str) -> int:
    """A length of time given on the command line, as 2h or 1h30min, in ns. Raises StopError."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)min)?(?:(\d+)s)?", text)
    given = [int(part or 0) for part in found.groups()] if found else []
    total = sum(each * unit for each, unit in zip(given, (86_400, 3600, 60, 1), strict=False))
    if not total:
        raise StopError(f"{option}: got {text!r}, want as 30min, 2h or 1h30min.", code=Exit.USAGE)
    return total * 1_000_000_000


def duration(seconds: float) -> str:
    """``45 s``, ``3.7 min``, ``12.0 h``, ``9.5 days``."""
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


@contextmanager
def training(kind: str, *, monotonic: Callable[[], float] = time.monotonic) -> "Iterator[Progress]":
    """A bar an epoch at a time, or a line now and then where there is no terminal.

    Gives the function that training reports to.
    """
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as in say()

    console = err()
    tell = _now_and_then(console, monotonic)
    if not console.is_terminal:
        say(f"training {kind}", stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"training {kind}", total=None)

        def report(now: "Epoch") -> None:
            words = (
                f"training {kind}: {now.what} {now.fit} of {now.fits}, "
                f"epoch {now.epoch} of {now.epochs}, "
                f"loss {now.training_loss:.3f}, validation {now.validation_loss:.3f}"
            )
            bar.update(
                task,
                description=words,
                total=now.fits * now.epochs,
                completed=(now.fit - 1) * now.epochs + now.epoch,
            )
            tell(words)

        yield report


@contextmanager
def reading(
    doing: str, *, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int], None]]:
    """A line that counts samples while history is read; gives the function to report to.

    Where there is no terminal, a line now and then.
    """
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as in say()
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - too

    console = err()
    tell = _now_and_then(console, monotonic)
    if not console.is_terminal:
        say(doing, stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=None)

        def report(samples: int, moment: int) -> None:
            words = f"{doing}: {samples:,} samples, up to {local(moment, 'UTC')}"
            bar.update(task, description=words)
            tell(words)

        yield report


@contextmanager
def counting(
    doing: str, noun: str, *, monotonic: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int], None]]:
    """A bar that counts up to a known number; gives the function to report to.

    Where there is no terminal, a line now and then.
    """
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as in say()

    console = err()
    tell = _now_and_then(console, monotonic)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(doing, total=None)

        def report(done: int, of: int) -> None:
            words = f"{doing}: {done:,} of {of:,} {noun}"
            bar.update(task, completed=done, total=of, description=words)
            tell(words)

        yield report


def _now_and_then(console: "Console", monotonic: Callable[[], float]) -> Callable[[str], None]:
    """Says a line where there is no terminal, and the last one is long ago."""
    said_s = monotonic()

    def tell(words: str) -> None:
        nonlocal said_s
        if not console.is_terminal and monotonic() - said_s >= LINE_S:
            said_s = monotonic()
            say(words, stderr=True)

    return tell


@contextmanager
def interruptible(kept: str = "; the checkpoint is kept") -> Iterator[Event]:
    """The first Ctrl-C sets the event; a second one interrupts at once."""
    stopping = Event()

    def stop(_signal: int, _frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        say(f"Stopping after this step{kept}.", stderr=True)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)
