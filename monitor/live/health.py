"""Is it alive, and does data flow? A judgement of how the service stands, with its reasons."""

from collections.abc import Iterator
from dataclasses import dataclass

from monitor.live.standing import ServiceStanding, SourceStanding, SourceState

BEHIND_S = 30.0  # the step may be so far behind: more than a snapshot or a large group takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """``ready`` is never true without ``alive``; the reasons say in words what is not so."""

    alive: bool  # it works, or will by itself once the world is ready
    reasons: tuple[str, ...]  # why it is not ready

    @property
    def ready(self) -> bool:
        """Data flows: in, through and into the journal."""
        return self.alive and not self.reasons


def judge(standing: ServiceStanding) -> Health:
    """What a supervisor may ask."""
    return Health(alive=not standing.failed, reasons=tuple(_reasons(standing)))


def _reasons(standing: ServiceStanding) -> Iterator[str]:
    if standing.failed:
        yield "the step has failed; the log says why"
    elif standing.stopping:
        yield "it is being stopped"
    elif not standing.stepping:
        yield "it is starting"
    if standing.journal_trouble:
        yield f"nothing goes into the journal: {standing.journal_trouble}"
    if standing.behind_s > BEHIND_S:
        yield f"the step is {standing.behind_s:.0f} s behind, want {BEHIND_S:g} s or less"
    if not any(source.fresh for source in standing.sources.values()):
        each = "; ".join(f"{name} {_silence(one)}" for name, one in standing.sources.items())
        yield f"no source gives data: {each or 'there is none'}"


def _silence(source: SourceStanding) -> str:
    """Why a source is not fresh."""
    if source.reason:
        return f"is {source.state}: {source.reason}"
    if source.heard_age_s is None:
        return f"is {source.state}, and gave nothing yet"
    if source.heard_age_s < 0:
        return "was last heard before the clock was put back"
    if source.heard_age_s > source.expected_s:
        return f"was last heard {source.heard_age_s:.0f} s ago, want every {source.expected_s:g} s"
    if source.state is SourceState.SILENT:
        return "is open again, and gave nothing since"
    return f"is {source.state}"
