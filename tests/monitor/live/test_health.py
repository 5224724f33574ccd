"""Ready means that data flows; what is not so is said in words."""

import pytest
from support.standings import source, standing

from monitor.live.health import judge
from monitor.live.standing import SourceState


def test_a_service_in_which_data_flows_is_alive_and_ready():
    found = judge(standing())
    assert (found.alive, found.ready, found.reasons) == (True, True, ())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"stopping": True, "stepping": False}, "it is being stopped"),
        ({"stepping": False}, "it is starting"),
        (
            {"journal_trouble": "the disk is full"},
            "nothing goes into the journal: the disk is full",
        ),
        ({"behind_s": 31.0}, "the step is 31 s behind, want 30 s or less"),
        ({"sources": {}}, "no source gives data: there is none"),
        (
            {"sources": {"rig": source(state=SourceState.SILENT, heard_age_s=31.0)}},
            "no source gives data: rig was last heard 31 s ago, want every 30 s",
        ),
        (
            {"sources": {"rig": source(state=SourceState.SILENT, heard_age_s=None)}},
            "no source gives data: rig is silent, and gave nothing yet",
        ),
        (
            {"sources": {"rig": source(state=SourceState.SILENT, heard_age_s=2.0)}},
            "no source gives data: rig is open again, and gave nothing since",
        ),
        (
            {"sources": {"rig": source(state=SourceState.WAITING, reason="cut", heard_age_s=2.0)}},
            "no source gives data: rig is waiting: cut",
        ),
        (
            {"sources": {"rig": source(state=SourceState.OPENING, heard_age_s=2.0)}},
            "no source gives data: rig is opening",
        ),
        (
            {
                "sources": {
                    "rig": source(state=SourceState.WAITING, reason="no answer", heard_age_s=None),
                    "line": source(state=SourceState.ENDED, heard_age_s=None),
                }
            },
            "no source gives data: rig is waiting: no answer; line is ended, and gave nothing yet",
        ),
    ],
)
def test_what_keeps_it_from_being_ready_is_said(changed, words):
    found = judge(standing(**changed))
    assert found.alive
    assert not found.ready
    assert found.reasons == (words,)


def test_one_source_that_gives_data_is_enough():
    silent = source(heard_age_s=None)
    assert judge(standing(sources={"rig": silent, "line": source()})).ready


def test_a_clock_that_was_put_back_makes_nobody_fresh():
    assert judge(standing(sources={"rig": source(heard_age_s=-0.01)})).ready
    found = judge(standing(sources={"rig": source(heard_age_s=-3600.0)}))
    assert found.reasons == (
        "no source gives data: rig was last heard before the clock was put back",
    )


def test_silence_that_a_source_vouches_for_is_not_silence():
    assert judge(standing(sources={"rig": source(sample_age_s=4000.0, heard_age_s=2.0)})).ready


def test_a_service_whose_step_has_failed_is_dead():
    found = judge(standing(stepping=False, failed=True))
    assert not found.alive
    assert not found.ready
    assert found.reasons == ("the step has failed; the log says why",)
