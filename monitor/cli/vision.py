"""`watchkeeper vision`: inspections of pictures, trained, measured, and used on a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console

if TYPE_CHECKING:
    from models.vision.box_report import BoxReport
    from models.vision.report import Report
    from monitor.site.vision.gathering import Gathered
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
    from models.training import Interrupted  # noqa: PLC0415 - commands import when they run
    from monitor.site.vision.learning import learn  # noqa: PLC0415 - as above
    from monitor.site.vision.settings import learning_settings, size_for  # noqa: PLC0415 - as above

    _one_thread()
    gathered = _gathered(folder, labels, groups=groups, templates=templates)
    size = size_for(gathered.sizes, places=gathered.task != "classes")
    chosen = learning_settings(settings, size=size)
    if seed is not None:
        chosen = chosen.model_copy(update={"fit": chosen.fit.model_copy(update={"seed": seed})})
    prepared = chosen.preprocess
    if not as_json:
        console.say(f"brought to {prepared.width} x {prepared.height} pixels", stderr=True)
    warned = list(gathered.labelled.warnings)

    def warn(message: str) -> None:
        warned.append(message)
        console.say_warning(message)

    with console.interruptible() as stopping, console.training(out.name) as progress:
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
    from models.vision.inspection import Inspection  # noqa: PLC0415 - commands import when they run
    from monitor.site.vision.learning import check_report, measured, written  # noqa: PLC0415 - as above

    check_report(out)
    _one_thread()
    inspection = Inspection.load(bundle, device=_device(device))
    gathered = _gathered(folder, labels, templates=templates)
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
    from models.vision.inspection import Inspection  # noqa: PLC0415 - commands import when they run
    from monitor.site.vision.looking import asked, look  # noqa: PLC0415 - as above
    from monitor.site.vision.report import DefectReport  # noqa: PLC0415 - as above
    from monitor.site.vision.settings import acceptance_settings  # noqa: PLC0415 - as above

    if mm_per_pixel is not None and not 0 < mm_per_pixel < float("inf"):
        raise console.StopError(
            f"--mm-per-pixel: got {mm_per_pixel:g}, want mm above 0.", code=console.Exit.USAGE
        )
    _one_thread()
    inspection = Inspection.load(bundle, device=_device(device))
    what = asked(
        inspection,
        folder,
        out=out,
        templates=templates,
        acceptance=None if acceptance is None else acceptance_settings(acceptance),
        mm_per_pixel=mm_per_pixel,
    )
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


def _one_thread() -> None:
    from models.runtime import use_one_thread  # noqa: PLC0415 - commands import when they run

    use_one_thread()


def _device(given: str) -> Any:
    if given not in ("auto", "cpu", "cuda"):
        raise console.StopError(
            f"--device: got {given!r}, want auto, cpu or cuda.", code=console.Exit.USAGE
        )
    return given


def _gathered(
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


def _say_learnt(learnt: "Learnt", most_epochs: int) -> None:
    card = learnt.card
    console.say(
        ("trained: ", "bold green"),
        f"{learnt.path}, from {sum(card.learnt.values())} pictures; "
        f"{sum(card.held_out.values())} were held out, and of those:",
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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = row
        cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
        console.say("    " + "  ".join(cells))
    for name, value in found["whole"].items():
        if value is not None:
            console.say(f"    {name.replace('_', ' ')}: {_shown(value)}")


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
