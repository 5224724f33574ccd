"""What was found on the pictures of a folder, to be handed on: a page, a table, pictures.

``report.html`` holds everything it shows; ``defects.csv`` has a row for each defect, and one for
each picture without; ``overlays/`` has each picture on which something was found.
"""

import csv
import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from connectors.labelled import portable
from connectors.payloads.image import Form, encode
from models.vision.bundle import VisionCard
from models.vision.inspected import Defect
from models.vision.overlay import overlay, shown
from models.vision.severity import Graded, Size
from monitor.site.problems import PlantError
from monitor.site.vision.looking import Looked

PAGE, TABLE, OVERLAYS = "report.html", "defects.csv", "overlays"
MOST_SHOWN = 300  # pictures on the page, the worst first; the table has all
THUMBNAIL = 240  # pixels of the longer side
GRADES = ("reject", "rework", "none", "accept")  # the worst first
IN_WORDS = {"none": "not graded"}
MOST_DEFECTS = 8  # of one picture, on the page
COLUMNS = (
    "picture", "label", "probability", "anomaly", "surprise", "grade", "rule", "reason",
    "defect", "defect_label", "defect_probability", "defect_grade", "x1", "y1", "x2", "y2",
    "length_px", "area_px", "length_mm", "area_mm2", "size_by", "overlay", "refused",
)  # fmt: skip
TEXTS = ("picture", "label", "rule", "reason", "defect_label", "refused")  # of others' words


@dataclass(order=True, slots=True)
class _Card:
    """One picture of the page, the worst sorts first."""

    rank: tuple[int, float]
    html: str = field(compare=False)


class DefectReport:
    """Written as pictures come; whole when it is closed. Use it in a ``with``."""

    def __init__(self, folder: Path, card: VisionCard, *, head: Mapping[str, str]) -> None:
        """``head`` is what the page says of itself. Raises PlantError for another's folder."""
        if folder.exists() and (not folder.is_dir() or _is_foreign(folder)):
            raise PlantError(f"{folder}: is there, and is no report. Give another with --out.")
        shutil.rmtree(folder / OVERLAYS, ignore_errors=True)
        (folder / OVERLAYS).mkdir(parents=True)
        self.folder, self.page = folder, folder / PAGE
        self.labels: Counter[str] = Counter()
        self.defects: Counter[str] = Counter()
        self.grades: Counter[str] = Counter()
        self.refused: dict[str, str] = {}
        self.pictures = self.with_defects = 0
        self._card, self._head = card, head
        self._cards: list[_Card] = []
        self._overlays: set[str] = set()
        self._file = (folder / TABLE).open("w", encoding="utf-8", newline="")
        self._rows = csv.DictWriter(self._file, COLUMNS)
        self._rows.writeheader()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the page, of what there is."""
        self._file.close()
        self.page.write_text(self._html(), encoding="utf-8")

    def add(self, one: Looked) -> None:
        """One picture."""
        self.pictures += 1
        if one.found is None or one.pixels is None:
            self.refused[one.name] = one.refused
            self._row({"picture": one.name, "refused": one.refused})
            return
        found, graded = one.found, one.graded
        self.labels[found.label] += 1
        self.defects.update(defect.label for defect in found.defects)
        if graded is not None:
            self.grades[graded.grade.value] += 1
        is_wrong = bool(found.defects) or found.label != self._card.good
        self.with_defects += is_wrong
        kept, drawn = "", overlay(one.pixels, found)
        if is_wrong:
            kept = self._overlay(one.name)
            (self.folder / kept).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / kept).write_bytes(encode(drawn))
        self._write(one, kept)
        rank = GRADES.index("accept" if graded is None else graded.grade.value)
        self._keep(
            _Card(
                (rank, -found.anomaly),
                _card_html(one, kept, _image(shown(one.pixels)), _image(drawn)),
            )
        )

    def summary(self) -> dict[str, Any]:
        """What came of all of them, for JSON."""
        return {
            "report": str(self.page),
            "pictures": self.pictures,
            "inspected": self.pictures - len(self.refused),
            "with_defects": self.with_defects,
            "labels": dict(self.labels.most_common()),
            "defects": dict(self.defects.most_common()),
            "grades": {name: self.grades[name] for name in GRADES if name in self.grades},
            "refused": self.refused,
        }

    def _overlay(self, name: str) -> str:
        """Where the overlay of a picture lies: 7.jpg gives 7.png, beside another 7 7.jpg.png."""
        found = f"{OVERLAYS}/{Path(name).with_suffix('.png').as_posix()}"
        found = f"{OVERLAYS}/{name}.png" if found in self._overlays else found
        self._overlays.add(found)
        return found

    def _keep(self, card: _Card) -> None:
        self._cards.append(card)
        if len(self._cards) > 2 * MOST_SHOWN:
            self._cards = sorted(self._cards)[:MOST_SHOWN]

    def _write(self, one: Looked, overlay: str) -> None:
        assert one.found is not None  # noqa: S101 - as add() has seen
        found, graded = one.found, one.graded
        row: dict[str, object] = {
            "picture": one.name,
            "label": found.label,
            "probability": f"{found.probability:.4f}",
            "anomaly": f"{found.anomaly:.4g}",
            "surprise": f"{found.surprise:.3f}",
            "overlay": overlay,
        }
        if graded is not None:
            row |= {"grade": graded.grade.value, "rule": graded.rule, "reason": graded.reason}
        for number, (defect, size) in enumerate(zip(found.defects, one.sizes, strict=True)):
            self._row(row | _defect_row(number, defect, size, graded))
        if not found.defects:
            self._row(row)

    def _row(self, row: Mapping[str, object]) -> None:
        """Write one; a text that a spreadsheet would take for a formula has an apostrophe before.

        CSV injection (OWASP); a report is sent on, and names come from outside.
        """
        texts = {
            name: f"'{row[name]}"
            for name in TEXTS
            if str(row.get(name, "")).startswith(("=", "+", "-", "@", "\t", "\r"))
        }
        self._rows.writerow({**row, **texts})

    def _html(self) -> str:
        cards = sorted(self._cards)[:MOST_SHOWN]
        tiles = [("pictures", self.pictures, ""), ("with defects", self.with_defects, "")]
        tiles += [
            (IN_WORDS.get(name, name), self.grades[name], name)
            for name in GRADES
            if name in self.grades
        ]
        tiles += [("not inspected", len(self.refused), "reject")] if self.refused else []
        more = self.pictures - len(self.refused) - len(cards)
        rest = f"<p>{more} more pictures are in {TABLE}.</p>" if more > 0 else ""
        lists = _table("class", "pictures", self.labels) + _table("defect", "found", self.defects)
        head = "".join(
            f"<dt>{escape(name)}</dt><dd>{escape(portable(value))}</dd>"
            for name, value in self._head.items()
        )
        refused = ""
        if self.refused:
            rows = "".join(
                f"<tr><td>{escape(name)}</td><td>{escape(why)}</td></tr>"
                for name, why in self.refused.items()
            )
            refused = f"<h2>Not inspected</h2><table class=wide>{rows}</table>"
        return (
            "<!doctype html>\n<html lang=en><meta charset=utf-8>"
            "<meta name=viewport content='width=device-width, initial-scale=1'>"
            f"<title>Defect report</title><style>{STYLE}</style>"
            f"<header><h1>Defect report</h1><dl>{head}</dl></header>"
            f"<section class=tiles>{''.join(_tile(*one) for one in tiles)}</section>"
            f"<section class=lists>{lists}</section>{refused}"
            f"<h2>Pictures, the worst first</h2>"
            f"<main>{''.join(card.html for card in cards)}</main>{rest}</html>\n"
        )


def _is_foreign(folder: Path) -> bool:
    return any(folder.iterdir()) and not (folder / TABLE).is_file()


def _defect_row(
    number: int, defect: Defect, size: Size, graded: Graded | None
) -> dict[str, object]:
    row: dict[str, object] = {
        "defect": number + 1,
        "defect_label": defect.label,
        "defect_probability": f"{defect.probability:.4f}",
        **dict(zip(("x1", "y1", "x2", "y2"), (f"{x:.1f}" for x in defect.box), strict=True)),
    }
    if graded is not None:
        row["defect_grade"] = graded.grades[number].value
    if size.length_px is not None and size.area_px is not None:
        row |= {"length_px": f"{size.length_px:.1f}", "area_px": f"{size.area_px:.1f}"}
        row["size_by"] = "mask" if size.by_mask else "box"
    if size.length_mm is not None and size.area_mm2 is not None:
        row |= {"length_mm": f"{size.length_mm:.4g}", "area_mm2": f"{size.area_mm2:.4g}"}
    return row


def _card_html(one: Looked, overlay: str, plain: str, drawn: str) -> str:
    assert one.found is not None  # noqa: S101 - a picture that was inspected
    found, graded = one.found, one.graded
    looks = f"<img src='{plain}' alt='as it came'><img src='{drawn}' alt='with what was found'>"
    if overlay:
        looks = f"<a href='{quote(overlay)}'>{looks}</a>"
    verdict = ""
    if graded is not None:
        rule = f"{graded.rule}: " if graded.rule else ""
        verdict = (
            f"<p><b class='grade {graded.grade.value}'>"
            f"{IN_WORDS.get(graded.grade.value, graded.grade.value)}</b> "
            f"{escape(rule + graded.reason)}</p>"
        )
    rows = "".join(
        f"<tr><td>{escape(defect.label)}</td><td>{defect.probability:.0%}</td>"
        f"<td>{_size_words(size)}</td></tr>"
        for defect, size in list(zip(found.defects, one.sizes, strict=True))[:MOST_DEFECTS]
    )
    more = len(found.defects) - MOST_DEFECTS
    rows += f"<tr><td colspan=3>and {more} more</td></tr>" if more > 0 else ""
    table = f"<table>{rows}</table>" if rows else ""
    return (
        f"<article><div class=looks>{looks}</div><h3>{escape(one.name)}</h3>"
        f"<p class=said>{escape(found.label)} <span>{found.probability:.0%}</span></p>"
        f"{verdict}{table}</article>"
    )


def _size_words(size: Size) -> str:
    if size.length_px is None:
        return "size not known"
    about = "" if size.by_mask else "up to "
    if size.length_mm is None:
        return f"{about}{size.length_px:.0f} px"
    return f"{about}{size.length_mm:.3g} mm, {size.area_mm2:.3g} mm²"


def _tile(name: str, count: int, mark: str) -> str:
    return f"<div class='tile {mark}'><b>{count}</b><span>{escape(name)}</span></div>"


def _table(what: str, count: str, counts: Counter[str]) -> str:
    if not counts:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{number}</td></tr>"
        for name, number in counts.most_common()
    )
    return f"<table><tr><th>{what}</th><th>{count}</th></tr>{rows}</table>"


def _image(pixels: Any) -> str:
    content = b64encode(encode(pixels, Form.JPEG, most=THUMBNAIL)).decode()
    return f"data:image/jpeg;base64,{content}"


STYLE = """
:root{--ink:#1d2733;--muted:#66727f;--line:#dfe4ea;--paper:#fff;--ground:#f4f6f8}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1400px;padding:24px;background:var(--ground);color:var(--ink);
font:15px/1.45 system-ui,sans-serif}
h1{margin:0 0 8px;font-size:26px}h2{font-size:18px;margin:28px 0 12px}
h3{font-size:13px;margin:10px 0 2px;font-weight:500;color:var(--muted);overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 16px;margin:0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
.tiles{display:flex;flex-wrap:wrap;gap:12px;margin:20px 0}
.tile{background:var(--paper);border:1px solid var(--line);border-left:5px solid #9aa5b1;
border-radius:6px;padding:10px 18px;min-width:120px}
.tile b{display:block;font-size:26px}.tile span{color:var(--muted)}
.tile.accept{border-left-color:#2c8a4b}.tile.rework{border-left-color:#d08700}
.tile.reject{border-left-color:#b4231f}
.lists{display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start}
table{border-collapse:collapse;background:var(--paper)}
th,td{text-align:left;padding:3px 10px 3px 0;border-bottom:1px solid var(--line)}
th{color:var(--muted);font-weight:500}
.lists table,table.wide{border:1px solid var(--line);border-radius:6px}
.lists td,.lists th,.wide td{padding:5px 14px}
.lists td:last-child,.lists th:last-child{text-align:right}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:14px}
article{background:var(--paper);border:1px solid var(--line);border-radius:6px;padding:12px;
break-inside:avoid}
article p{margin:2px 0}article table{width:100%;font-size:13px;margin-top:6px}
article tr:last-child td{border-bottom:0}
article td{overflow-wrap:anywhere}article td+td{white-space:nowrap;text-align:right}
.looks{display:grid;grid-template-columns:1fr 1fr;gap:6px}.looks a{display:contents}
.looks img{width:100%;border-radius:3px;display:block}
.said{font-size:15px;font-weight:600;overflow-wrap:anywhere}
.said span{color:var(--muted);font-weight:400}
.grade{color:#fff;border-radius:4px;padding:1px 8px;background:#66727f}
.grade.accept{background:#2c8a4b}.grade.rework{background:#b37400}.grade.reject{background:#b4231f}
@media print{body{background:#fff;padding:0}}
"""
