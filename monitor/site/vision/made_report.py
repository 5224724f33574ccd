"""What was made, and whether it helps, as a page that holds all it shows."""

import json
import statistics
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.payloads.image import encode
from models.vision.comparing import ARMS, Verdict, verdict
from models.vision.generator import PictureGenerator
from monitor.site.vision.making import SHOWN, Comparison, Making
from monitor.site.vision.report import PAGE, STYLE

U8 = NDArray[np.uint8]

SHEET, FIGURES = "sheet.png", "report.json"
CHECKED = ("kernel", "precision", "recall", "copied", "diversity")
IN_WORDS = {"real": "real only", "copies": "with copies", "generated": "with made"}
JUDGED = ("recall", "precision", "f1")


def sheet(generator: PictureGenerator, real: U8, labels: Sequence[str]) -> U8:
    """A row a class: pictures that taught at the left, made ones at the right; [H, W, 3]."""
    rows = []
    for name in generator.card.classes:
        own = real[np.flatnonzero(np.array(labels) == name)[:SHOWN]]
        own = np.concatenate([own, np.zeros((SHOWN - len(own), *own.shape[1:]), np.uint8)])
        made = generator.make([name] * SHOWN, seed=generator.card.settings.seed)
        line = np.full((own.shape[1], 4, own.shape[3]), 255, np.uint8)
        rows.append(np.concatenate([*own, line, *made], axis=1))
    shown = np.concatenate(rows)
    return np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown


def write_making(making: Making, folder: Path) -> None:
    """report.html and sheet.png of a generator, into a folder."""
    card = making.generator.card
    looks = encode(sheet(making.generator, making.real, making.labels))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SHEET).write_bytes(looks)
    rows = [
        [one.step, *(f"{getattr(one, name):.3f}" for name in CHECKED), one.poorest]
        for one in card.checks
    ]
    body = (
        f"{_advice(making.advice)}<h2>Real pictures at the left, made ones at the right</h2>"
        f"{_sheet(looks, card.classes)}"
        "<h2>Checks in training</h2>"
        f"{_table(('step', *CHECKED, 'class with the least diversity'), rows)}"
    )
    head = {
        "generator": str(making.path),
        "pictures": ", ".join(f"{name} {many}" for name, many in card.learnt.items()),
        "kept": f"step {card.steps}; {card.why}",
        "made": ", ".join(f"{name} {many}" for name, many in making.made.items()) or "none",
    }
    (folder / PAGE).write_text(_page("Made pictures", head, body), encoding="utf-8")


def judged(comparison: Comparison) -> tuple[Verdict, dict[str, Any]]:
    """What the seeds say together, and all figures, for JSON."""
    answers = comparison.answers
    numbers = {
        seed: {arm: report.numbers() for arm, report in answer.reports.items()}
        for seed, answer in answers.items()
    }
    filled = sorted({name for answer in answers.values() for name in answer.filled})
    found = verdict(filled, list(numbers.values()))
    return found, {
        "verdict": found.word,
        "why": found.why,
        "filled": {seed: dict(answer.filled) for seed, answer in answers.items()},
        "judged": dict(Counter(comparison.question.judged_labels)),
        "generators": {
            seed: answer.generator.card.model_dump(mode="json", include={"steps", "ended", "why"})
            for seed, answer in answers.items()
        },
        "seeds": numbers,
    }


def rows_of(found: Mapping[str, Any]) -> list[list[str]]:
    """A table: a head, a row for each filled class and figure, then the whole; mean and spread."""
    seeds = list(found["seeds"].values())
    filled = sorted({name for made in found["filled"].values() for name in made})
    table = [["", "judged by", *(IN_WORDS[arm] for arm in ARMS)]]
    for name in filled:
        for what in JUDGED:
            cells = [_spread([one[arm]["classes"][name][what] for one in seeds]) for arm in ARMS]
            table.append([f"{name}: {what}", str(found["judged"].get(name, 0)), *cells])
    for what in ("accuracy", "balanced_accuracy"):
        cells = [_spread([one[arm]["whole"][what] for one in seeds]) for arm in ARMS]
        table.append([what.replace("_", " "), str(sum(found["judged"].values())), *cells])
    return table


def write_comparison(
    comparison: Comparison, folder: Path, *, head: Mapping[str, str]
) -> dict[str, Any]:
    """report.html, report.json and a sheet of the first seed's generator; gives the figures."""
    found, numbers = judged(comparison)
    table = rows_of(numbers)
    seed, answer = next(iter(comparison.answers.items()))
    question = comparison.question
    looks = encode(sheet(answer.generator, question.pictures, question.labels))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SHEET).write_bytes(looks)
    content = json.dumps(numbers, indent=1, allow_nan=False) + "\n"
    (folder / FIGURES).write_text(content, encoding="utf-8")
    body = (
        f"<h2>Made pictures: {escape(found.word)}</h2><p>{escape(found.why)}.</p>"
        f"{_table(table[0], table[1:])}"
        "<p>Mean of the seeds, and from the least to the most. All are judged by the same real "
        "pictures, which taught nothing. With copies: the rare classes' own pictures shown again, "
        "as often; only what is more than that is the generator's.</p>"
        f"<h2>Seed {seed}: real pictures at the left, made ones at the right</h2>"
        f"{_sheet(looks, answer.generator.card.classes)}"
    )
    (folder / PAGE).write_text(_page("Do made pictures help?", head, body), encoding="utf-8")
    return numbers


def _spread(values: Sequence[float | None]) -> str:
    known = [one for one in values if one is not None]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.3f}"
    return mean if len(known) < 2 else f"{mean} ({min(known):.3f} to {max(known):.3f})"


def _advice(said: Sequence[str]) -> str:
    return "".join(f"<p><b>{escape(one)}.</b></p>" for one in said)


def _sheet(looks: bytes, classes: Sequence[str]) -> str:
    content = b64encode(looks).decode()
    return (
        f"<p>From above: {escape(', '.join(classes))}.</p>"
        f"<img style='max-width:100%' src='data:image/png;base64,{content}' alt='made pictures'>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    first = "".join(f"<th>{escape(one)}</th>" for one in head)
    others = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table class=wide><tr>{first}</tr>{others}</table>"


def _page(title: str, head: Mapping[str, str], body: str) -> str:
    said = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in head.items()
    )
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f"<header><h1>{escape(title)}</h1><dl>{said}</dl></header>{body}</html>\n"
    )
