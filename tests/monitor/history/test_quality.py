"""The report on a history: what is found where, how bad it is, and what is said about it."""

import numpy as np
from support.building import assets, kind
from support.machines import healthy, stretch

from monitor.core.plan import ChannelSettings, Plan
from monitor.history.quality import CHECKS, ISSUES, report
from monitor.history.signals import Severity
from monitor.history.stamps import Stamps

SECOND = 1_000_000_000
CHANNELS = {
    "flow": ChannelSettings(),
    "heat": ChannelSettings(),
    "note": ChannelSettings(model=False),
}


def plan(count=3, tick_ms=1000):
    of = kind(channels=CHANNELS, tick_ms=tick_ms)
    return Plan(site="works", kinds={"k": of}, assets=tuple(assets(count, of)))


def runs(count=3, ticks=1500):
    return [stretch(healthy(ticks, n, channels=2), asset=f"a{n}") for n in range(count)]


def found(stretches, stamps=None, **given):
    """Each finding by its issue, but that the history is short."""
    made = report(plan(**given), stretches, stamps or {})
    return {one.issue: one for one in made.findings if one.issue != "little history"}


def test_nothing_but_its_length_is_found_about_a_healthy_history():
    made = report(plan(), runs(), {})
    assert [one.issue for one in made.findings] == ["little history"]
    assert (made.kind, made.channels, made.frames) == ("k", ("flow", "heat"), 4500)


def test_a_history_is_long_enough_after_a_month_of_machine_time_and_a_week_of_weeks():
    def told(count, days):
        long = [
            stretch(healthy(int(days * 24), n, channels=2), asset=f"a{n}") for n in range(count)
        ]
        for one in long:
            one.tick[:] = np.arange(len(one)) * 3600 * SECOND
        (one,) = [
            one
            for one in report(plan(count, 3_600_000), long, {}).findings
            if one.issue == "little history"
        ] or [None]
        return one

    assert told(4, 10) is None
    assert told(4, 5).severity is Severity.WARNING
    assert told(12, 5).severity is Severity.WARNING, "not a week"
    assert "20 days of machines that ran, of 30 days wanted, within 5 days" in told(4, 5).words
    assert report(plan(), runs(ticks=60), {}).findings[0].severity is Severity.SEVERE


def test_a_finding_names_the_machines_and_shows_the_worst_of_them():
    odd = runs()
    odd[0].value[100:103:2, 1] += 80
    odd[2].value[100:200:10, 1] += 80
    spikes = found(odd)["spikes"]
    assert (spikes.channel, spikes.assets) == ("heat", ("a2", "a0"))
    assert spikes.words.startswith("10 spikes")


def test_the_worst_comes_first():
    odd = runs()
    for one in odd:
        reported = np.arange(len(one)) % 5 == 0
        one.value[:, 1] = np.cumsum(np.abs(one.value[:, 1]) * reported)
        one.value[100, 0] += 80
    made = report(plan(), odd, {})
    ranks = [list(Severity).index(one.severity) for one in made.findings]
    assert ranks == sorted(ranks)
    assert {"counter", "spikes"} <= {one.issue for one in made.findings}
    assert made.count(Severity.SEVERE) == 1
    counters = [one for one in made.findings if one.channel == "heat"]
    assert [one.issue for one in counters] == ["counter"], "what else is odd does not matter"


def test_two_channels_of_one_sensor_are_found():
    odd = runs()
    for one in odd:
        one.value[:, 1] = 3 * one.value[:, 0] + 7
    twin = found(odd)["twin"]
    assert (twin.channel, twin.assets) == ("heat", ("a0", "a1", "a2"))
    assert twin.words == "as flow (correlation 1.0000)"


def test_a_single_machine_and_a_history_in_pieces_are_said():
    pieces = [stretch(healthy(500, n, channels=2), asset="a0", start=2000 * n) for n in range(3)]
    of = found(pieces, count=1)
    assert of["one machine"].severity is Severity.NOTE
    assert of["interrupted"].severity is Severity.WARNING
    assert "2 times, at the longest 25 min" in of["interrupted"].words
    assert "interrupted" not in found(runs())


def test_a_machine_of_which_nothing_came_is_named():
    nothing = found(runs(2))["nothing"]
    assert (nothing.severity, nothing.assets) == (Severity.WARNING, ("a2",))
    assert "nothing" not in found(runs(3))


def test_a_channel_that_one_machine_lacks_is_not_severe_and_one_that_all_lack_is():
    def lacking(*assets):
        odd = runs(5)
        for one in odd:
            one.valid[:, 1] = one.asset not in assets
        return found(odd, count=5)["gaps"].severity

    assert lacking("a1") is Severity.WARNING
    assert lacking("a0", "a1", "a2") is Severity.SEVERE


def test_clocks_are_told_of_the_tag_and_the_machine():
    stamps = {tag: Stamps(count=1000) for tag in range(9)}
    stamps[1] = Stamps(count=1000, repeated=300, backwards=2)
    of = found(runs(), stamps)
    assert (of["stamps repeat"].channel, of["stamps repeat"].assets) == ("heat", ("a0",))
    assert of["stamps repeat"].severity is Severity.WARNING
    assert of["stamps go back"].severity is Severity.NOTE
    assert of["stamps repeat"].words == "300 of 1,000 samples"
    hour = Stamps(count=1000, apart=[SECOND] * 50, jumps=[(0, 3601 * SECOND)])
    assert "1 jump of just an hour, at 1970-01-01" in found(runs(), {0: hour})["an hour"].words


def test_every_issue_says_what_it_means_and_what_to_do():
    assert set(CHECKS) < set(ISSUES)
    for advice in ISSUES.values():
        assert len(advice.means) > 20
        assert len(advice.do) > 20


def test_a_history_in_which_no_machine_ran_is_a_severe_finding_that_names_running():
    (only,) = report(plan(), [], {}).findings
    assert (only.issue, only.severity) == ("nothing ran", Severity.SEVERE)
    assert "`running`" in ISSUES[only.issue].do
