"""What may be wrong with a part, and how much of it: the acceptance table of a camera, as settings.

Like the notes on a drawing: limits for each class of defect, and dimensions with a tolerance. Made
by people; models/vision/severity.py grades by it. Sizes are in mm where the name says so, and are
not graded until the camera's ``mm_per_pixel`` is known. Pixels are those of the picture as it came:
the first one lies between 0 and 1 in both directions.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Point = tuple[float, float]  # x, y
Box = tuple[float, float, float, float]  # x1, y1, x2, y2


class Grade(StrEnum):
    """What is to become of a part."""

    NONE = "none"  # nobody can say
    ACCEPT = "accept"
    REWORK = "rework"
    REJECT = "reject"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _in_order(box: Box, name: str) -> None:
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError(f"{name}: want x1 < x2 and y1 < y2, got {list(box)}")


class ZoneSettings(_Settings):
    """A place of the picture, as a rectangle or a polygon, in pixels."""

    rectangle: Box | None = Field(None, description="x1, y1, x2, y2.")
    polygon: tuple[Point, ...] | None = Field(
        None, min_length=3, description="Its corners, x and y each, in order; it closes itself."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.rectangle is None) == (self.polygon is None):
            raise ValueError("want either rectangle or polygon")
        if self.rectangle is not None:
            _in_order(self.rectangle, "rectangle")
        return self

    @property
    def corners(self) -> tuple[Point, ...]:
        """In order."""
        if self.polygon is not None:
            return self.polygon
        assert self.rectangle is not None  # noqa: S101 - checked above
        x1, y1, x2, y2 = self.rectangle
        return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


class RuleSettings(_Settings):
    """How much of a class of defect is too much."""

    of: Literal["area_mm2", "length_mm", "area_px", "length_px", "count"] = Field(
        description="Of each defect its area, or its length (largest Feret diameter); or how many "
        "there are on the part."
    )
    zone: str | None = Field(
        None, description="Only of defects that touch this zone; left out: of all."
    )
    rework_over: NotNegative | None = Field(None, description="Rework above this.")
    reject_over: NotNegative | None = Field(
        None, description="Reject above this; 0: whatever there is of it."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.rework_over is None and self.reject_over is None:
            raise ValueError("want rework_over, reject_over, or both")
        if None not in (self.rework_over, self.reject_over) and not (
            self.rework_over < self.reject_over  # type: ignore[operator]
        ):
            raise ValueError(
                f"want rework_over below reject_over, got {self.rework_over:g} and "
                f"{self.reject_over:g}"
            )
        return self

    @property
    def wants_bounds(self) -> bool:
        """Whether it can be judged only where it is known where a defect ends."""
        return self.of != "count" or self.zone is not None

    @property
    def name(self) -> str:
        """As grades name it."""
        return self.of if self.zone is None else f"{self.of} in {self.zone}"


class MeasureSettings(_Settings):
    """A dimension with its tolerance, measured on the picture itself."""

    what: Literal["width", "height", "gap", "area"] = Field(
        description="width: across, between the two outer edges of what is in the region; height: "
        "the same, down; gap: between two things; area: of what is in the region."
    )
    region: Box = Field(
        description="Where to look: x1, y1, x2, y2 in pixels. The two edges should cross it from "
        "side to side, with 3 pixels of background beyond them."
    )
    along: Literal["x", "y"] = Field("x", description="Of a gap: across (x) or down (y).")
    of: Literal["bright", "dark"] = Field(
        "bright", description="Whether what is measured is brighter than what is around it."
    )
    threshold: Literal["auto"] | float = Field(
        "auto", description="The grey value that parts the two; auto: by Otsu's method."
    )
    mask: str | None = Field(
        None, description="Measure the network's mask of this class of defect, not the picture."
    )
    least_mm: NotNegative | None = Field(None, description="Too small below this.")
    most_mm: Positive | None = Field(None, description="Too large above this.")
    least_mm2: NotNegative | None = Field(None, description="Of an area: too small below this.")
    most_mm2: Positive | None = Field(None, description="Of an area: too large above this.")
    beyond: Literal["rework", "reject"] = Field(
        "reject", description="The grade of a part that does not keep to it."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _in_order(self.region, "region")
        lengths, areas = (self.least_mm, self.most_mm), (self.least_mm2, self.most_mm2)
        given, other = (areas, lengths) if self.what == "area" else (lengths, areas)
        unit = "mm2" if self.what == "area" else "mm"
        if other != (None, None) or given == (None, None):
            raise ValueError(f"{self.what}: want least_{unit}, most_{unit}, or both, and no others")
        least, most = given
        if least is not None and most is not None and least >= most:
            raise ValueError(f"want least_{unit} below most_{unit}, got {least:g} and {most:g}")
        return self

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """The least and the most, in mm, of an area in mm2."""
        if self.what == "area":
            return self.least_mm2, self.most_mm2
        return self.least_mm, self.most_mm


class AcceptanceSettings(_Settings):
    """The acceptance table of a camera: what makes a part a good one."""

    zones: dict[str, ZoneSettings] = Field({}, description="Places that rules speak of.")
    classes: dict[str, tuple[RuleSettings, ...]] = Field(
        {},
        description="The rules of each class of defect; an empty list: whatever there is of it is "
        "accepted. A class that is not named is not graded.",
    )
    measures: dict[str, MeasureSettings] = Field({}, description="Dimensions of the part, by name.")

    @property
    def labels(self) -> frozenset[str]:
        """The classes of defect that it speaks of."""
        measured = {one.mask for one in self.measures.values() if one.mask is not None}
        return frozenset(measured | self.classes.keys())

    @property
    def in_mm(self) -> tuple[str, ...]:
        """The rules that want to know how large a pixel is, by their paths."""
        of = [
            f"classes.{label}: {rule.name}"
            for label, rules in self.classes.items()
            for rule in rules
            if rule.of in ("area_mm2", "length_mm")
        ]
        return (*of, *(f"measures.{name}" for name in self.measures))

    @property
    def of_bounds(self) -> tuple[str, ...]:
        """The rules that want to know where defects end, by their paths."""
        of = [
            f"classes.{label}: {rule.name}"
            for label, rules in self.classes.items()
            for rule in rules
            if rule.wants_bounds
        ]
        return (*of, *(f"measures.{name}" for name, one in self.measures.items() if one.mask))

    @property
    def reach(self) -> dict[str, tuple[float, float]]:
        """How far right and down each zone and region reaches, in pixels, by its path."""
        corners = {f"zones.{name}": zone.corners for name, zone in self.zones.items()}
        corners |= {
            f"measures.{name}.region": (one.region[:2], one.region[2:])
            for name, one in self.measures.items()
        }
        return {
            path: (max(x for x, _ in points), max(y for _, y in points))
            for path, points in corners.items()
        }

    @model_validator(mode="after")
    def _zones_are_there(self) -> Self:
        for label, rules in self.classes.items():
            for rule in rules:
                if rule.zone is not None and rule.zone not in self.zones:
                    raise ValueError(
                        f"classes.{label}: no zone {rule.zone!r}; want one of {sorted(self.zones)}"
                    )
        return self
