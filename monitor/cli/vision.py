"""`watchkeeper vision`: inspections of pictures, trained, measured, and used on a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from monitor.cli import console

if TYPE_CHECKING:
    from models.vision.box_report import BoxReport
    from models.vision.progression import ProgressionSettings, Unit
    from models.vision.report import Report
    from monitor.site.vision.gathering import Gathered
    from monitor.site.vision.growing import Grown
    from monitor.site.vision.learning import Learnt

app = typer.Typer(
    help="Inspections of pictures: train one, measure it, use it on a folder.",
    no_args_is_help=True,
)

FEW = 3  # names of what could not be read, that are printed

Folder = Annotated[Path, typer.Argument(help="The folder of pictures, JPEG or PNG.")]
Bundle = Annotated[Path, typer.Argument(help="The folder of the inspection.")]
Labels = Annotated[
    Path | None,
    typer.Option(
        help="A table (.csv), COCO (.json), or Pascal VOC (a folder of .xml); left out: what of it "
        "lies in FOLDER, or else each subfolder is a class."
    ),
]
Templates = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER|COLUMN",
        help="Golden templates: one file for all, a folder with one of the same name for each, or "
        "a column of the table.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, or cuda.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command("train")
def train(
    folder: Folder,
    *,
    out: Annotated[Path, typer.Option(help="The folder for the inspection.")],
    labels: Labels = None,
    good: Annotated[
        str | None,
        typer.Option(
            help="The class of pictures with nothing wrong, where there is one; with boxes what a "
            "picture without one is called, good if left out."
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN|PATTERN",
            help="Which pictures belong together, as of one part: a column of the table, or a "
            "pattern with a group, as '(part[0-9]+)_'. Left out: near copies do.",
        ),
    ] = None,
    templates: Templates = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="All other settings, YAML; `watchkeeper example vision` prints them."),
    ] = None,
    backbone: Annotated[
        Path | None, typer.Option(help="Weights to start from: .safetensors, or of torch.save.")
    ] = None,
    made: Annotated[
        Path | None,
        typer.Option(
            help="Pictures of `watchkeeper vision generate`: they teach, and are neither held out "
            "nor measured by."
        ),
    ] = None,
    boxes: Annotated[
        bool,
        typer.Option("--boxes", help="Learn boxes, faster, where the labels have masks, too."),
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Other seeds, other weights. [0]")] = None,
    as_json: Json = False,
) -> None:
    """Train an inspection from labelled pictures.

    Ctrl-C keeps a checkpoint, OUT.checkpoint: the same command goes on from there. A part of the
    pictures is held out, to stop in time and to know what is usual; what the inspection makes of
    them is in OUT.report. They have chosen the epoch, so measure on others, too: `watchkeeper
    vision evaluate`. A picture that does not decode is named and left out.
    """
    _begin(folder, as_json=as_json)
    from models.training import Interrupted  # noqa: PLC0415 - commands import when they run
    from monitor.site.vision.learning import check_good, going_on, learn  # noqa: PLC0415 - as above
    from monitor.site.vision.making import with_made  # noqa: PLC0415 - as above
    from monitor.site.vision.settings import learning_settings, size_for  # noqa: PLC0415 - as above

    use_one_thread()
    learning_settings(settings, size=(64, 64))  # what is wrong is said before pictures are read
    gathered = gathered_from(folder, labels, groups=groups, templates=templates)
    check_good(gathered, good)
    if made is not None:
        gathered = with_made(gathered, made)
    size = size_for(gathered.sizes, places=gathered.task != "classes")
    chosen = learning_settings(settings, size=size)
    if seed is not None:
        chosen = chosen.seeded(seed)
    prepared = chosen.preprocess
    if gathered.made is not None:
        _say_made(gathered.made, (prepared.height, prepared.width))
    if not as_json:
        brought = f"brought to {prepared.width} x {prepared.height} pixels"
        console.say("; ".join(filter(None, (brought, going_on(out)))), stderr=True)
    warned = list(gathered.labelled.warnings)

    def warn(message: str) -> None:
        warned.append(message)
        console.say_warning(message)

    with console.interruptible(kept="") as stopping, console.training(out.name) as progress:
        try:
            learnt = learn(
                gathered,
                out,
                chosen,
                task="boxes" if boxes and gathered.task == "masks" else None,
                good=good,
                backbone=backbone,
                progress=progress,
                should_stop=stopping.is_set,
                warn=warn,
            )
        except Interrupted as stopped:
            raise console.StopError(str(stopped), code=console.Exit.INTERRUPTED) from None
    if learnt.seen_before:
        console.say_warning(
            f"{learnt.seen_before} of the pictures held out have taught what was made: the figures "
            "are too good. Give the settings, --groups and --seed that generated them"
        )
    if as_json:
        console.say_json(_learnt_json(learnt, gathered, warned))
    else:
        _say_learnt(learnt, chosen.fit.epochs)


@app.command("evaluate")
def evaluate(
    bundle: Bundle,
    folder: Folder,
    *,
    out: Annotated[Path, typer.Option(help="The folder for the report.")] = Path("evaluation"),
    labels: Labels = None,
    templates: Templates = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure an inspection on labelled pictures that its training has not seen.

    Precision, recall, F1 and AUROC of each class, the confusion matrix, overkill against escape and
    the surest mistakes; of boxes average precision, and precision and recall as they are used.
    Writes report.md, report.json and pictures. Labels as for `watchkeeper vision train`.
    """
    _begin(folder, as_json=as_json)
    from models.vision.inspection import Inspection  # noqa: PLC0415 - commands import when they run
    from monitor.site.vision.learning import check_report, measured, written  # noqa: PLC0415 - as above

    check_report(out)
    use_one_thread()
    inspection = Inspection.load(bundle, device=_device(device))
    gathered = gathered_from(folder, labels, templates=templates)
    with console.counting("inspecting", "pictures") as told:
        report = measured(inspection, gathered, told=told)
    written(report, out, gathered.pictures)
    if as_json:
        console.say_json(
            {
                "report": str(out),
                "pictures": len(gathered.pictures),
                "unreadable": list(gathered.unreadable),
                **report.numbers(),
            }
        )
        return
    _say_report(report)
    console.say(("written: ", "bold green"), str(out))


@app.command("inspect")
def inspect(
    bundle: Bundle,
    folder: Folder,
    *,
    out: Annotated[Path, typer.Option(help="The folder for the report.")] = Path("inspection"),
    acceptance: Annotated[
        Path | None,
        typer.Option(help="The acceptance table, YAML: parts are graded by it."),
    ] = None,
    mm_per_pixel: Annotated[
        float | None, typer.Option(help="How large a pixel is on the part: sizes are in mm, too.")
    ] = None,
    templates: Templates = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Inspect all pictures of a folder, and write a defect report.

    A page (report.html, which holds everything it shows), a table (defects.csv) and overlays. A
    picture that cannot be inspected is named, counted, and passed. Ends with 0 when all were
    inspected, whatever was found; with 1 when some could not be.
    """
    _begin(folder, as_json=as_json)
    from connectors.labelled import others_in  # noqa: PLC0415 - commands import when they run
    from models.vision.inspection import Inspection  # noqa: PLC0415 - as above
    from monitor.site.cameras import odd  # noqa: PLC0415 - as above
    from monitor.site.vision.looking import asked, look  # noqa: PLC0415 - as above
    from monitor.site.vision.report import DefectReport  # noqa: PLC0415 - as above
    from monitor.site.vision.settings import acceptance_settings  # noqa: PLC0415 - as above

    _check_scale(mm_per_pixel)
    use_one_thread()
    inspection = Inspection.load(bundle, device=_device(device))
    what = asked(
        inspection,
        folder,
        out=out,
        templates=templates,
        acceptance=None if acceptance is None else acceptance_settings(acceptance),
        mm_per_pixel=mm_per_pixel,
    )
    if others := others_in(folder, without=out):
        console.say_warning(f"{folder}: {others}")
    if what.acceptance is not None:
        for warning in odd(str(acceptance), what.acceptance, inspection.card):
            console.say_warning(warning)
    head = {
        "pictures": str(folder),
        "inspection": f"{bundle} ({inspection.hash[:12]})",
        "pixel": "size not known" if mm_per_pixel is None else f"{mm_per_pixel:g} mm",
        "acceptance table": "none" if acceptance is None else str(acceptance),
    }
    with (
        DefectReport(out, inspection.card, head=head) as report,
        console.counting("inspecting", "pictures") as told,
    ):
        for one in look(inspection, what, told=told):
            report.add(one)
    summary = report.summary()
    if as_json:
        console.say_json(summary)
    else:
        _say_summary(summary)
    if report.refused:
        first = "; ".join(list(report.refused.values())[:FEW])
        many = console.count(len(report.refused), "picture")
        raise console.StopError(
            f"{many} could not be inspected: {first}. The report names all.",
            code=console.Exit.FAILED,
        )


@app.command("progression")
def progression(
    bundle: Bundle,
    folder: Folder,
    *,
    out: Annotated[Path, typer.Option(help="The folder for the model of progression.")],
    table: Annotated[
        Path | None,
        typer.Option(
            help="A table (.csv) with a line a picture: image, place, position, and area_px or "
            "area_mm2 where people have measured it; left out: the one in FOLDER."
        ),
    ] = None,
    unit: Annotated[
        str,
        typer.Option(
            help="What positions count: pictures, s, h or d (days). In the service each picture "
            "of a camera counts as one, or its time is looked at."
        ),
    ] = "pictures",
    spacing: Annotated[float, typer.Option(help="One step, in that unit.")] = 1.0,
    ahead: Annotated[int, typer.Option(help="How many steps on areas are foretold.")] = 5,
    within: Annotated[int, typer.Option(help="In how many steps something may begin.")] = 10,
    mm_per_pixel: Annotated[
        float | None, typer.Option(help="How large a pixel is, where areas are in mm2.")
    ] = None,
    templates: Templates = None,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other weights.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Learn how places get worse, from successive pictures of each.

    The pictures are inspected first; without an area in the table it is that of the inspection's
    masks. Says how large its error is on places that it had not learnt from, beside that of "it
    stays as it is" and of a line through the last areas. The service uses it as
    `cameras.NAME.progression`, with the same inspection.
    """
    from models.vision.inspection import Inspection  # noqa: PLC0415 - commands import when they run
    from monitor.site.vision.growing import grow  # noqa: PLC0415 - as above

    settings = _progression_settings(spacing, ahead, within, seed)
    if unit not in ("pictures", "s", "h", "d"):
        message = f"--unit: got {unit!r}, want pictures, s, h or d."
        raise console.StopError(message, code=console.Exit.USAGE)
    _check_scale(mm_per_pixel)
    use_one_thread()
    inspection = Inspection.load(bundle, device=_device(device))
    with (
        console.counting("inspecting", "pictures") as told,
        console.counting("learning", "epochs") as learning,
    ):
        grown = grow(
            inspection,
            folder,
            out,
            settings,
            table=table,
            unit=cast("Unit", unit),
            mm_per_pixel=mm_per_pixel,
            templates=templates,
            told=told,
            progress=lambda now: learning(
                (now.member - 1) * now.epochs + now.epoch, now.members * now.epochs
            ),
        )
    if grown.refused:
        many = console.count(len(grown.refused), "picture")
        console.say_warning(f"{many} left out: {'; '.join(grown.refused[:FEW])}")
    if as_json:
        measured = grown.card.measured
        console.say_json(
            {
                "path": str(grown.path),
                "places": dict(grown.card.places),
                "areas": "table" if grown.measured_areas else "masks",
                "refused": list(grown.refused),
                **measured.model_dump(),
                "gain": measured.gain,
                "better": measured.better,
            }
        )
    else:
        _say_grown(grown, in_service=inspection.card.task in ("masks", "good"))


def _begin(folder: Path, *, as_json: bool) -> None:
    """The folder is there; said before torch is loaded, which takes seconds."""
    if not folder.exists():
        raise console.StopError(
            f"{folder}: no such folder. Give the folder that the pictures are in.",
            code=console.Exit.USAGE,
        )
    if not as_json:
        console.say("starting", stderr=True)


def use_one_thread() -> None:
    """Of torch: with small networks more gain little."""
    from models import runtime  # noqa: PLC0415 - commands import when they run

    runtime.use_one_thread()


def _device(given: str) -> Any:
    if given not in ("auto", "cpu", "cuda"):
        raise console.StopError(
            f"--device: got {given!r}, want auto, cpu or cuda.", code=console.Exit.USAGE
        )
    return given


def _check_scale(mm_per_pixel: float | None) -> None:
    if mm_per_pixel is not None and not 0 < mm_per_pixel < float("inf"):
        raise console.StopError(
            f"--mm-per-pixel: got {mm_per_pixel:g}, want mm above 0.", code=console.Exit.USAGE
        )


def _progression_settings(
    spacing: float, ahead: int, within: int, seed: int
) -> "ProgressionSettings":
    from pydantic import ValidationError  # noqa: PLC0415 - commands import when they run

    from models.vision.progression import ProgressionSettings  # noqa: PLC0415 - as above

    try:
        return ProgressionSettings(spacing=spacing, ahead=ahead, within=within, seed=seed)
    except ValidationError as error:
        first = error.errors()[0]
        raise console.StopError(
            f"--{first['loc'][0]}: got {first['input']}: {first['msg']}.", code=console.Exit.USAGE
        ) from None


def gathered_from(
    folder: Path, labels: Path | None, *, groups: str | None = None, templates: str | None = None
) -> "Gathered":
    """The pictures with their labels, and what is odd about them said."""
    from monitor.site.vision.gathering import gather  # noqa: PLC0415 - commands import when they run

    with console.counting("reading", "pictures") as told:
        found = gather(folder, labels, groups=groups, templates=templates, told=told)
    for warning in found.labelled.warnings:
        console.say_warning(warning)
    if found.unreadable:
        many = console.count(len(found.unreadable), "picture")
        console.say_warning(f"{many} left out: {'; '.join(found.unreadable[:FEW])}")
    what = "classes" if found.task == "classes" else found.task
    counts = ", ".join(f"{name} {count}" for name, count in found.counts.items())
    console.say(
        f"{console.count(len(found.pictures), 'picture')}, labels by {found.labelled.form}; "
        f"{what}: {counts}",
        stderr=True,
    )
    return found


def _say_made(made: "Gathered", size: tuple[int, int]) -> None:
    counts = ", ".join(f"{name} {count}" for name, count in made.counts.items())
    console.say(f"made pictures: {counts}", stderr=True)
    if made.sizes[0] != size:
        height, width = made.sizes[0]
        console.say_warning(
            f"made pictures have {height} x {width} pixels and are brought to {size[0]} x "
            f"{size[1]}: how sharp they are tells them apart. Set preprocess to their size"
        )


def _say_learnt(learnt: "Learnt", most_epochs: int) -> None:
    console.say(
        ("trained: ", "bold green"),
        f"{learnt.path}, from {console.count(learnt.taught, 'picture')}; "
        f"{learnt.held_out} were held out, and of those:",
    )
    _say_report(learnt.report)
    console.say(
        f"    these have chosen the epoch ({learnt.best_epoch[-1]}): measure on others, too"
    )
    console.say(f"    report: {learnt.report_path}")
    if max(learnt.best_epoch) >= most_epochs:
        console.say(
            ("    warning: ", "yellow"),
            f"the last epoch was the best: still improving; raise fit.epochs above {most_epochs}",
        )


def _learnt_json(learnt: "Learnt", gathered: "Gathered", warned: Sequence[str]) -> dict[str, Any]:
    card = learnt.card
    return {
        "path": str(learnt.path),
        "report": str(learnt.report_path),
        "classes": list(card.classes),
        "learnt": dict(card.learnt),
        "made": dict(card.made),
        "held_out": dict(card.held_out),
        "epochs": list(learnt.epochs),
        "best_epoch": list(learnt.best_epoch),
        "metrics": dict(card.metrics),
        "unreadable": list(gathered.unreadable),
        "warnings": list(warned),
        "held_out_report": learnt.report.numbers(),
    }


def _say_report(report: "Report | BoxReport") -> None:
    """A line a class, then the whole."""
    found = report.numbers()
    names = list(next(iter(found["classes"].values())))
    rows = [["", *(name.replace("_", " ") for name in names)]]
    rows += [
        [label, *(_shown(one[name]) for name in names)] for label, one in found["classes"].items()
    ]
    say_rows(rows)
    for name, value in found["whole"].items():
        if value is not None:
            console.say(f"    {name.replace('_', ' ')}: {_shown(value)}")


def say_rows(rows: Sequence[Sequence[str]]) -> None:
    """A table, the first row its head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = row
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        console.say("    " + "  ".join(cells))


def _say_grown(grown: "Grown", *, in_service: bool) -> None:
    card, measured = grown.card, grown.card.measured
    ahead, unit = card.settings.ahead, card.area_unit
    pictures = console.count(sum(card.places.values()), "picture")
    areas = "as the table has them" if grown.measured_areas else "by the inspection's masks"
    console.say(
        ("trained: ", "bold green"),
        f"{grown.path}, from {pictures} of {console.count(len(card.places), 'place')}; "
        f"areas {areas}",
    )
    console.say(
        f"    mean error of the area {console.count(ahead, 'step')} on, of places that were left "
        f"out ({console.count(measured.pictures, 'picture')}):"
    )
    rows = (
        ("this model", measured.error),
        ("it stays as it is", measured.persistence),
        ("a line through the last areas", measured.linear),
    )
    for name, error in rows:
        console.say(f"        {name.ljust(30)}{error:>12,.1f} {unit}")
    console.say(
        f"    in the interval that is to hold {card.settings.level:.0%}: {measured.within:.0%}, "
        f"before it was widened"
    )
    if measured.onset_auroc is not None:
        console.say(
            f"    whether it begins within {console.count(card.settings.within, 'step')}, AUROC: "
            f"{measured.onset_auroc:.3f}"
        )
    if not measured.better:
        name, error = min(rows[1:], key=lambda row: row[1])
        console.say_warning(
            f"this model is not better than {name!r}: its error is {measured.error:,.1f}, that of "
            f"the other {error:,.1f} {unit}. Do not use it: give more places, or pictures that lie "
            f"closer together."
        )
    if not in_service:
        console.say_warning(
            "the service cannot use it: its inspection gives no masks, so no area is known there"
        )


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _say_summary(summary: dict[str, Any]) -> None:
    console.say(
        ("inspected: ", "bold green"),
        f"{console.count(summary['inspected'], 'picture')}, something is wrong on "
        f"{summary['with_defects']}; report: {summary['report']}",
    )
    for what in ("labels", "defects", "grades"):
        if summary[what]:
            counts = ", ".join(f"{name} {count}" for name, count in summary[what].items())
            console.say(f"    {what}: {counts}")
