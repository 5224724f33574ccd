"""What is let go of, when, and that nobody waits long for it."""

import pytest
from support.keeping import SECOND, START, batch, event, message, points, scores

from connectors.points import Message, Points
from monitor.core.missing import GapKind, SourceGap
from monitor.core.records import Beat, Gap, Record, Results, Transition
from monitor.live import tidying as room
from monitor.live.tidying import DAY, HOUR, Believed, Retention, Tidying
from monitor.state.database import LATEST, Database
from monitor.state.journal import Journal
from monitor.state.outbox import Outbox
from monitor.state.rollups import Rollups, Width
from monitor.state.snapshot import Snapshots, save
from monitor.state.store import Store

KEEP = Retention(
    detail_hours=1,
    minutes_days=1,
    hours_days=10,
    alarm_days=100,
    journal_hours=2,
    late_hours=3,
    dead_letter_days=4,
    outbox_mb=1,
    picture_days=5,
    pictures_mb=1,
    pictures_waiting_mb=1,
    picture_result_days=6,
    snapshot_s=60,
)
NOW = START + 1000 * DAY  # long after the recording


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "state") as opened:
        yield opened


def keep(database, *blocks, **results):
    store = Store(database)
    given = {name: tuple(values) for name, values in results.items()}
    with database.atomic() as tx:
        store.write(tx, Results(scores=blocks, **given), done=store.done() + 1)


def at(when):
    """Seconds after START of a moment."""
    return (when - START) / SECOND


def tidy(database, *, now=NOW, most=100, stepped=LATEST):
    """Do all jobs until none has more to do; how many transactions it took."""
    jobs, count = Tidying(database, KEEP).jobs(now, elapsed_s=0, stepped=stepped), 0
    while jobs:
        count += 1
        assert count <= most
        with database.atomic() as tx:
            jobs = [*jobs[1:], jobs[0]] if jobs[0](tx) else jobs[1:]
    return count


def ages(database, width):
    """How many hours before START the rows end."""
    return [
        round(-at(bucket) / 3600)
        for found in Rollups(database).read(width, 0)
        for bucket in found.bucket.tolist()
    ]


def test_scores_become_minutes_then_hours_then_nothing_counted_back_from_the_newest(database):
    days = (0, 0.9, 2, 9, 12)
    keep(database, *(scores([-day * DAY / SECOND]) for day in days))
    tidy(database)
    assert [block.tick.tolist() for block in Store(database).scores()] == [[START]]
    assert ages(database, Width.MINUTE) == [pytest.approx(0.9 * 24, abs=1)]
    assert ages(database, Width.HOUR) == [216, 48, pytest.approx(0.9 * 24, abs=1)]


def test_a_recording_of_long_ago_keeps_its_scores_gaps_and_alarms(database):
    alarms = [event(Transition.RAISED, 0), event(Transition.RETURNED, 1)]
    gaps = [Gap(asset="p1", since=START, until=START + SECOND)]
    keep(database, scores([0, 1]), gaps=gaps, alarms=alarms)
    tidy(database)
    store = Store(database)
    assert [len(block) for block in store.scores()] == [2]
    assert (store.gaps(), len(store.alarms())) == (gaps, 1)


def test_gaps_and_alarms_go_when_the_plant_has_moved_on(database):
    alarms = [event(Transition.RAISED, 0), event(Transition.RETURNED, 1)]
    stands = event(Transition.RAISED, 0, id="stands")
    gaps = [Gap(asset="p1", since=START, until=START + SECOND)]
    away = SourceGap(
        source="plc", kind=GapKind.GAP, since=START, until=START + SECOND, received=START
    )
    keep(database, scores([0]), gaps=gaps, alarms=[*alarms, stands], source_gaps=[away])
    tidy(database)
    assert Store(database).source_gaps() == [away]
    keep(database, scores([99 * DAY / SECOND]))
    tidy(database)
    store = Store(database)
    assert store.gaps() == []
    assert store.source_gaps() == []
    assert len(store.alarms()) == 2
    keep(database, scores([101 * DAY / SECOND]))
    tidy(database)
    assert [alarm.id for alarm in store.alarms()] == ["stands"]


def test_late_samples_and_dead_letters_go_by_wall_time(database):
    outbox = Outbox(database)
    with database.atomic() as tx:
        outbox.register(tx, {"hook": (Message,)})
        outbox.put(tx, [message("m1")])
        outbox.dead_letter(tx, "hook", 1, "no")
    keep(database, late=[batch(1).body])
    for hours, late, letters in ((0, 1, 1), (2.9, 1, 1), (3, 0, 1), (95, 0, 1), (96, 0, 0)):
        tidy(database, now=NOW + round(hours * HOUR))
        left = (len(list(Store(database).late())), sum(outbox.dead_letter_counts().values()))
        assert left == (late, letters), hours


def test_the_outbox_is_held_to_its_bound(database):
    outbox = Outbox(database)
    with database.atomic() as tx:
        outbox.register(tx, {"influx": (Points,)})
        outbox.put(tx, [points(*range(1000)) for _ in range(200)])
    size = outbox.backlog("influx").bytes
    assert size > 1_000_000
    tidy(database)
    left = outbox.backlog("influx")
    assert 1_000_000 - size // 200 < left.bytes <= 1_000_000
    assert left.items + left.dropped == 200


def test_records_go_by_wall_time_but_never_those_that_a_start_needs(database):
    journal, snapshots = Journal(database), Snapshots(database)
    with database.atomic() as tx:
        for hours in (5, 4, 3, 1):
            journal.append(tx, Record(NOW - hours * HOUR, Beat()))
    keep(database)
    tidy(database)
    assert journal.first() == 1, "no snapshot yet"
    with database.atomic() as tx:
        Store(database).write(tx, Results(), done=4)
    for record in (2, 4):
        save(database, snapshots, {}, record=record)
    tidy(database)
    assert journal.first() == 3, "the older snapshot is of record 2"
    save(database, snapshots, {}, record=3)
    tidy(database)
    assert journal.first() == 4


def test_a_job_deletes_a_bounded_number_and_comes_again_until_all_is_gone(database, monkeypatch):
    monkeypatch.setattr(room, "ROWS", 10)
    gaps = [Gap(asset="p1", since=n, until=n + 1) for n in range(95)]
    keep(database, scores([0]), gaps=gaps)
    idle = len(Tidying(database, KEEP).jobs(NOW, elapsed_s=0, stepped=LATEST))
    assert tidy(database) == idle + 9
    assert Store(database).gaps() == []
    assert tidy(database) == idle, "what has nothing to do does not come again"


# The wall clock is set


def test_a_clock_that_jumps_ahead_deletes_nothing_before_it_has_lasted(database):
    with database.atomic() as tx:
        Journal(database).append(tx, Record(NOW, Beat()))
        Store(database).write(tx, Results(late=(batch(1).body,)), done=1)
    for record in (1, 1):
        save(database, Snapshots(database), {}, record=record)
    keep(database, scores([0]))
    tidying = Tidying(database, KEEP)

    def left(now, elapsed_s):
        jobs = tidying.jobs(now, elapsed_s=elapsed_s, stepped=LATEST)
        with database.atomic() as tx:
            for job in jobs:
                job(tx)
        return len(list(Store(database).late()))

    assert left(NOW, 0) == 1
    year = 365 * DAY
    assert left(NOW + year, 30) == 1
    assert left(NOW + 60 * SECOND, 60) == 1, "it was put right"
    assert left(NOW + year, 90) == 1
    assert left(NOW + year, 3000) == 1
    assert left(NOW + year, 90 + 3600) == 0, "it has lasted: so it is true"


def test_a_service_that_was_away_for_long_deletes_only_after_an_hour():
    believed = Believed(NOW)
    assert believed.at(NOW + 40 * DAY, 0) == NOW
    assert believed.at(NOW + 40 * DAY, 1800) == NOW + 1800 * SECOND
    assert believed.at(NOW + 40 * DAY, 3600) == NOW + 40 * DAY


def test_a_clock_that_is_put_back_is_believed_at_once():
    believed = Believed(None)
    assert believed.at(NOW, 0) == NOW
    assert believed.at(NOW - DAY, 30) == NOW - DAY
    assert believed.at(NOW - DAY + 30 * SECOND, 60) == NOW - DAY + 30 * SECOND


def test_scores_from_the_future_do_not_make_those_of_today_old(database):
    today = (NOW - START) / SECOND
    keep(database, scores([today]), scores([today + 99 * 86400]))
    tidy(database)
    assert [block.tick.tolist() for block in Store(database).scores()] == [
        [NOW],
        [NOW + 99 * DAY],
    ]


def test_a_record_that_was_not_stepped_is_kept_whatever_snapshots_say(database):
    journal = Journal(database)
    with database.atomic() as tx:
        for hours in (5, 4, 3, 1):
            journal.append(tx, Record(NOW - hours * HOUR, Beat()))
        Store(database).write(tx, Results(), done=4)
    for record in (3, 4):
        save(database, Snapshots(database), {}, record=record)
    tidy(database, stepped=1)
    assert journal.first() == 2
    tidy(database, stepped=4)
    assert journal.first() == 4
