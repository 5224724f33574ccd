"""What `watchkeeper simulate` is told of machines and faults, and the recordings it makes."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from monitor.cli import console

if TYPE_CHECKING:
    from monitor.site.simulate.faults import Family, Fault

BEGIN = "2026-01-01T00:00:00Z"
HEALTHY = 0.5  # of the days: before that nothing goes wrong
FAULT = "MACHINE/FAULT,at=2d,for=6h with severity= and channel= where wanted"


def machines_of(words: Sequence[str]) -> dict[str, int]:
    """``pump:4`` and the like. Raises StopError."""
    from monitor.site.simulate.machines import KINDS  # noqa: PLC0415 - commands import late

    found: dict[str, int] = {}
    for word in words:
        kind, colon, count = word.partition(":")
        if kind not in KINDS or kind in found or (colon and not count.isdecimal()):
            raise _usage(
                f"--machines: got {word!r}, want KIND:COUNT as pump:4, each kind once; there are: "
                f"{', '.join(KINDS)}."
            )
        found[kind] = int(count) if colon else 1
        if not found[kind]:
            raise _usage(f"--machines: got {word!r}, want at least one.")
    return found


def fault_of(text: str) -> "tuple[str, Fault]":
    """One fault of one machine, its times counted from the begin. Raises StopError."""
    from monitor.site.problems import did_you_mean  # noqa: PLC0415 - as above
    from monitor.site.simulate.faults import FAULTS, Fault  # noqa: PLC0415 - as above

    head, *rest = text.split(",")
    machine, _, name = head.partition("/")
    if not name:
        raise _usage(f"--fault: got {text!r}, want {FAULT}.")
    if name not in FAULTS:
        raise _usage(
            f"--fault: got {text!r}, want one of these faults: {', '.join(FAULTS)}."
            f"{did_you_mean(name, FAULTS)}"
        )
    given = dict(part.partition("=")[::2] for part in rest)
    if unknown := set(given) - {"at", "for", "severity", "channel"}:
        raise _usage(f"--fault: got {', '.join(sorted(unknown))} in {text!r}, want {FAULT}.")
    if "at" not in given:
        raise _usage(f"--fault: {text!r} does not say when; want {FAULT}.")
    onset_ms = _ms(given["at"], "--fault at=")
    lasts_ms = _ms(given["for"], "--fault for=") if "for" in given else FAULTS[name].lasts_ms
    try:
        severity = float(given.get("severity", "1"))
    except ValueError:
        severity = 0.0
    if not 0 < severity < float("inf"):
        raise _usage(f"--fault: got severity={given['severity']}, want a number over 0, as 1.5.")
    return machine, Fault(
        name=name,
        onset_ms=onset_ms,
        end_ms=onset_ms + lasts_ms,
        severity=severity,
        channel=given.get("channel"),
    )


def faults_of(words: Sequence[str], machines: Mapping[str, int]) -> "list[tuple[str, Fault]]":
    """All that were named, each of a machine that is there and can have it. Raises StopError."""
    from monitor.site.simulate.unit import Unit  # noqa: PLC0415 - as above

    found = [fault_of(word) for word in words]
    for machine, fault in found:
        kind, _, number = machine.rpartition("_")
        if not number.isdecimal() or not 0 < int(number) <= machines.get(kind, 0):
            there = [f"{kind}_1 to {kind}_{count}" for kind, count in machines.items()]
            raise _usage(
                f"--fault: no machine {machine!r}; there are: {', '.join(there) or 'none'}"
                f"{'' if there else ' (--machines pump:4 makes some)'}."
            )
        try:
            Unit(kind, machine, seed=0, faults=[fault])
        except ValueError as error:
            raise _usage(f"--fault: {error}.") from None
    return found


def record(
    folder: Path,
    *,
    machines: Mapping[str, int],
    days: int,
    every: str,
    since: str,
    seed: int,
    faults: "Sequence[tuple[str, Fault]]",
    families: Literal["all", "process", "instrument"] | None,
    changes_only: bool,
    form: str,
    as_json: bool,
) -> None:
    """Write recordings, and say what was written. Raises StopError."""
    from rich.progress import Progress as Bar  # noqa: PLC0415 - slow to import

    from monitor.site.simulate.drawing import drawn  # noqa: PLC0415 - as above
    from monitor.site.simulate.recordings import Form, Recordings, write  # noqa: PLC0415 - too
    from monitor.site.simulate.unit import BLOCK_MS, DAY_MS  # noqa: PLC0415 - as above

    begin = console.instant(since, "--since")
    assert begin is not None  # noqa: S101 - it has a default
    begin_ms, period_ms = begin // 1_000_000, _ms(every, "--every")
    if BLOCK_MS % period_ms:
        raise _usage(f"--every: got {every}, want a divisor of 15min, as 10s or 1min.")
    named = [fault.onset_ms for _, fault in faults]
    healthy_ms = begin_ms + min([int(HEALTHY * days * DAY_MS), *named])
    if late := [machine for machine, fault in faults if fault.onset_ms >= days * DAY_MS]:
        raise _usage(f"--fault: got one of {late[0]} that begins after the {days} days are over.")
    found = [(machine, fault.later(begin_ms)) for machine, fault in faults]
    if families is not None:
        try:
            found += drawn(
                machines,
                _families(families),
                seed=seed,
                since_ms=healthy_ms,
                until_ms=begin_ms + days * DAY_MS,
            )
        except ValueError as error:
            raise _usage(f"--faults {families}: {error}") from None
    what = Recordings(
        machines=machines,
        seed=seed,
        begin_ms=begin_ms,
        days=days,
        period_ms=period_ms,
        faults=found,
        healthy_ms=healthy_ms,
        changes_only=changes_only,
        form=Form(form),
    )
    started_s, out = time.monotonic(), console.err()
    with Bar(console=out, transient=True, disable=not out.is_terminal) as bar:
        tasks: dict[str, object] = {}

        def progress(machine: str, share: float) -> None:
            if machine not in tasks:
                tasks[machine] = bar.add_task(machine, total=1.0)
            bar.update(tasks[machine], completed=share)  # type: ignore[arg-type]  # its own number

        samples = write(what, folder, progress=progress)
    taken_s, count = time.monotonic() - started_s, sum(machines.values())
    if as_json:
        console.say_json(
            {
                "machines": count,
                "days": days,
                "samples": samples,
                "faults": len(found),
                "took_s": round(taken_s, 3),
            }
        )
        return
    console.say(
        ("recorded: ", "bold green"),
        f"{console.count(count, 'machine')} over {days} days, {samples:,} samples and "
        f"{console.count(len(found), 'fault')}, in {folder} ({console.duration(taken_s)}).",
    )
    console.say(f"    watchkeeper train {folder / 'plant.yaml'}")


def _families(which: Literal["all", "process", "instrument"]) -> "tuple[Family, ...]":
    from monitor.site.simulate.faults import Family  # noqa: PLC0415 - as above

    return tuple(Family) if which == "all" else (Family(which),)


def _ms(text: str, option: str) -> int:
    return console.nanoseconds(text, option) // 1_000_000


def _usage(words: str) -> console.StopError:
    return console.StopError(words, code=console.Exit.USAGE)
