"""What was sent against what is stored: every sample is looked for, and every loss has its reason.

A sample is known by its asset and tag, its time and its value.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from connectors.batch import Notice, NoticeKind, Samples
from monitor.site.status import summary
from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal
from monitor.state.names import Family, Names

Sample = tuple[str, int, float]  # asset/tag, ns since 1970 UTC, value


@dataclass(frozen=True, slots=True)
class Journaled:
    """What of one source is in a plant's journal, and what the step made of it."""

    samples: tuple[Sample, ...]  # in their order; one that came twice is there twice
    gaps: tuple[Notice, ...]
    rejected: int  # that were no samples, or could not be taken
    names: Mapping[int, str]  # asset/tag of each number
    counts: Mapping[str, float]  # of the conservation equation; rejected: all reasons together
    conserved: bool

    @classmethod
    def of(cls, folder: Path, source: str) -> "Journaled":
        """Read it from a data folder."""
        with DatabaseReader(folder) as database:
            names = Names(database).of(Family.TAG)
            bodies = [record.body for _, record in Journal(database).read(0)]
            told = summary(database)
        mine = [one for one in bodies if getattr(one, "source", None) == source]
        samples = [
            (names[tag], at, value)
            for one in mine
            if isinstance(one, Samples)
            for tag, at, value in zip(
                one.tag.tolist(), one.time.tolist(), one.value.tolist(), strict=True
            )
        ]
        said = [one for one in mine if isinstance(one, Notice)]
        counts = told["sources"][source]
        return cls(
            tuple(samples),
            tuple(one for one in said if one.kind is NoticeKind.GAP),
            sum(one.count for one in said if one.kind is NoticeKind.REJECTED),
            names,
            {
                name: sum(value.values()) if isinstance(value, dict) else value
                for name, value in counts.items()
                if name in ("received", "stored", "duplicate", "late", "rejected")
            },
            told["samples_conserved"],
        )

    def in_a_gap(self, sample: Sample) -> bool:
        """Whether a gap says that something is missing there."""
        name, at, _ = sample
        return any(
            gap.since is not None
            and gap.until is not None
            and gap.since < at <= gap.until
            and (not gap.tags or name in {self.names[tag] for tag in gap.tags})
            for gap in self.gaps
        )


@dataclass(frozen=True, slots=True)
class Account:
    """What became of each sample that was sent."""

    sent: frozenset[Sample]
    invented: frozenset[Sample]  # stored, and never sent
    in_gaps: frozenset[Sample]  # not stored, and a gap says so
    lost_by_peer: frozenset[Sample]  # not stored, and the peer handed it over to nobody
    missing: frozenset[Sample]  # not stored, and nothing says so: there must be none
    journaled: Journaled

    @classmethod
    def of(
        cls,
        sent: Iterable[Sample],
        journaled: Journaled,
        *,
        handed_over: Iterable[Sample] | None = None,
        maybe: Iterable[Sample] = (),
        unasked: Iterable[float] = (),
    ) -> "Account":
        """Look for every sample.

        ``handed_over``: what the peer gave out, where that is known; what it did not is its loss.
        ``maybe``: sent, and nobody knows whether the peer has it. ``unasked``: values that are
        shown before anybody sets one.
        """
        everything = frozenset(sent)
        stored = frozenset(one for one in journaled.samples if one[2] not in {*unasked})
        gone = everything - stored
        in_gaps = frozenset(one for one in gone if journaled.in_a_gap(one))
        lost = frozenset[Sample]()
        if handed_over is not None:
            handed_over = frozenset(handed_over)
            assert handed_over <= everything | frozenset(maybe)
            lost = gone - in_gaps - handed_over
        return cls(
            sent=everything,
            invented=stored - everything - frozenset(maybe),
            in_gaps=in_gaps,
            lost_by_peer=lost,
            missing=gone - in_gaps - lost,
            journaled=journaled,
        )

    def check(self) -> None:
        """The two equations."""
        assert self.journaled.conserved
        found, counts = self.journaled, self.journaled.counts
        accounted = sum(counts[name] for name in ("stored", "duplicate", "late", "rejected"))
        assert counts["received"] == accounted == len(found.samples) + found.rejected
        assert not self.missing, f"{len(self.missing)} lost without a word: {few(self.missing)}"
        assert not self.invented, f"{len(self.invented)} were never sent: {few(self.invented)}"
        stored = len(self.sent & frozenset(self.journaled.samples))
        assert len(self.sent) - stored == len(self.in_gaps) + len(self.lost_by_peer)

    def figures(self) -> dict[str, float]:
        """Counts for the results."""
        return {
            "sent": len(self.sent),
            **self.journaled.counts,
            "gaps": len(self.journaled.gaps),
            "in_gaps": len(self.in_gaps),
            "lost_by_peer": len(self.lost_by_peer),
        }


def few(samples: Iterable[Sample]) -> list[Sample]:
    """The first and the last, to be read."""
    ordered = sorted(samples, key=lambda one: one[1])
    return [*ordered[:3], *ordered[-3:]]
