"""The page of metrics: read by the parser that Prometheus' own client brings."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.standings import NOW, SECOND, sink, source, standing

from monitor.live.metrics import exposition
from monitor.live.standing import Desired, InspectionStanding, ReloadStanding, SourceState


def read(page):
    """Every sample of a page: (name, labels) -> value."""
    return {
        (
            sample.name.removeprefix("watchkeeper_"),
            tuple(sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_what_became_of_the_samples_adds_up():
    found = read(exposition(standing()))
    rig = (("source", "rig"),)
    assert found["samples_received_total", rig] == 10
    assert found["samples_accepted_total", rig] == 6
    assert found["samples_duplicate_total", rig] == 1
    assert found["samples_late_total", rig] == 1
    assert found["samples_rejected_total", (("reason", "unknown_tag"), *rig)] == 2
    assert found["conservation_missing", rig] == 0


def test_what_a_source_said_is_missing_and_what_came_back_is_counted_by_kind():
    found = read(exposition(standing()))

    def of(name, kind):
        return found[name, (("kind", kind), ("source", "rig"))]

    assert (of("source_gaps_total", "gap"), of("source_gap_seconds_total", "gap")) == (2, 3.0)
    assert (of("source_gaps_total", "filled"), of("source_gap_seconds_total", "filled")) == (1, 1.0)
    assert of("source_gaps_total", "overflow") == 0


def test_a_reload_that_failed_is_seen_beside_when_the_configuration_in_force_came():
    found = read(exposition(standing()))
    assert found["config_last_reload_successful", ()] == 1
    failed = ReloadStanding(at=NOW - 60 * SECOND, error="a wrong file")
    found = read(exposition(standing(reload=failed)))
    assert found["config_last_reload_successful", ()] == 0
    assert found["config_last_reload_timestamp_seconds", ()] == NOW / SECOND - 60


def test_the_latency_is_a_histogram():
    found = read(exposition(standing()))
    assert found["score_latency_seconds_bucket", (("le", "0.025"),)] == 2
    assert found["score_latency_seconds_bucket", (("le", "2.5"),)] == 2
    assert found["score_latency_seconds_bucket", (("le", "5.0"),)] == 3
    assert found["score_latency_seconds_bucket", (("le", "+Inf"),)] == 3
    assert found["score_latency_seconds_count", ()] == 3
    assert found["score_latency_seconds_sum", ()] == pytest.approx(3.04)


def test_the_way_from_a_frames_instant_to_its_score_is_a_histogram_too():
    found = read(exposition(standing()))
    assert found["end_to_end_latency_seconds_bucket", (("le", "0.25"),)] == 0
    assert found["end_to_end_latency_seconds_bucket", (("le", "0.5"),)] == 1


def test_how_long_pictures_take_and_whether_they_are_inspected_is_told():
    found = read(exposition(standing()))
    assert found["inspection_latency_seconds_bucket", (("le", "0.1"),)] == 0
    assert found["inspection_latency_seconds_bucket", (("le", "0.25"),)] == 1
    assert (found["inspection_working", ()], found["inspection_restarts_total", ()]) == (1, 0)
    found = read(exposition(standing(inspection=InspectionStanding(trouble="died", restarts=3))))
    assert (found["inspection_working", ()], found["inspection_restarts_total", ()]) == (0, 3)


def test_what_the_program_works_on_and_what_failed_is_told():
    found = read(exposition(standing(gpu=True, writer_errors=3)))
    assert found["gpu_in_use", ()] == 1
    assert found["writer_errors_total", ()] == 3


def test_an_instant_that_a_source_knows_is_told_as_an_age_and_never_as_one_if_it_was_not_yet():
    peers = {"plc": {"last_publish_ns": NOW - 5 * SECOND}, "new": {"last_publish_ns": 0}}
    made = {name: source(peer=peer) for name, peer in peers.items()}
    found = read(exposition(standing(sources=made)))
    assert found["source_last_publish_age_seconds", (("source", "plc"),)] == 5
    assert ("source_last_publish_age_seconds", (("source", "new"),)) not in found


def test_frames_alarms_and_models_are_counted():
    found = read(exposition(standing()))
    assert found["frames_scored_total", ()] == 7
    assert found["frames_skipped_total", (("reason", "warming"),)] == 2
    assert found["alarms_open", (("class", "process"),)] == 1
    assert found["alarms_open", (("class", "limit"),)] == 0
    assert found["process_alarms_week", ()] == 3
    assert found["alarm_budget_week", ()] == 10
    assert found["assets_over_alarm_budget", ()] == 1
    assert found["model_age_seconds", (("kind", "pump"),)] == 86_400
    assert found["config_info", (("hash", "c0ffee"),)] == 1
    assert any(name == "build_info" for name, _ in found)


def test_sources_and_sinks_say_how_they_stand():
    away = sink(reason="gone", items=3, bytes=99, oldest_age_s=60.0, dead_letters=2, dropped=4)
    silent = source(state=SourceState.WAITING, reason="no answer", sample_age_s=None)
    found = read(
        exposition(
            standing(sources={"rig": source(), "line": silent}, sinks={"db": away, "hook": sink()})
        )
    )
    assert found["source_connected", (("source", "rig"),)] == 1
    assert found["source_connected", (("source", "line"),)] == 0
    assert found["source_desired", (("source", "line"),)] == 1
    assert found["source_last_sample_age_seconds", (("source", "rig"),)] == 0.5
    assert ("source_last_sample_age_seconds", (("source", "line"),)) not in found
    assert found["sink_away", (("sink", "db"),)] == 1
    assert found["outbox_items", (("sink", "db"),)] == 3
    assert found["outbox_oldest_age_seconds", (("sink", "db"),)] == 60
    assert found["dead_letter_total", (("sink", "db"),)] == 2
    assert found["dead_letter_total", (("sink", "hook"),)] == 0
    assert found["outbox_dropped_total", (("sink", "db"),)] == 4


def test_the_work_of_supervisors_is_counted():
    bad = source(
        desired=Desired.STOPPED,
        state=SourceState.REFUSED,
        restarts=3,
        rebuilds=2,
        watchdog=1,
    )
    found = read(
        exposition(standing(sources={"rig": bad, "line": source(state=SourceState.SILENT)}))
    )
    for name, count in (("restarts", 3), ("rebuilds", 2), ("watchdog", 1)):
        assert found[f"source_{name}_total", (("source", "rig"),)] == count
        assert found[f"source_{name}_total", (("source", "line"),)] == 0
    assert found["source_desired", (("source", "rig"),)] == 0
    assert found["source_connected", (("source", "rig"),)] == 0
    assert found["source_fresh", (("source", "rig"),)] == 0, "it was heard, but is given up"
    assert found["source_connected", (("source", "line"),)] == 1
    assert found["source_fresh", (("source", "line"),)] == 0


def test_what_a_source_says_of_itself_becomes_a_metric_of_its_kind():
    peer = {"overflow_total": 5, "keepalive_s": 10.5, "session": "s1", "Odd name-total": 1}
    page = exposition(standing(sources={"rig": source(peer=peer), "line": source(peer=peer)}))
    assert b"# TYPE watchkeeper_source_overflow counter" in page
    assert b"# TYPE watchkeeper_source_keepalive_s gauge" in page
    found = read(page)
    for name in ("rig", "line"):
        assert found["source_overflow_total", (("source", name),)] == 5
        assert found["source_keepalive_s", (("source", name),)] == 10.5
        assert found["source_odd_name_total", (("source", name),)] == 1
    assert "session" not in page.decode()


def test_a_name_that_is_taken_already_is_left_out_and_the_page_stays_right():
    peer = {"connected": 0, "seen": 1, "seen_total": 2}
    found = read(exposition(standing(sources={"rig": source(peer=peer)})))
    assert found["source_connected", (("source", "rig"),)] == 1, "ours"
    assert ("source_seen", (("source", "rig"),)) in found


def test_labels_of_any_text_are_quoted():
    name = 'a "quoted"\\ name'
    found = read(exposition(standing(sources={name: source()})))
    assert ("source_connected", (("source", name),)) in found


def test_a_service_that_has_just_begun_has_a_page():
    assert read(exposition(standing(sources={}, sinks={}, frames={}, data_age_s={})))
