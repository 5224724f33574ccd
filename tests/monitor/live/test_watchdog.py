"""A watchdog with the time in the test's hand."""

import pytest

from monitor.live.watchdog import LOOK_S, Watchdog


class Peer:
    """Gives a sign of life when told to."""

    def __init__(self, watchdog_s):
        self.watchdog_s, self.heard = watchdog_s, 100.0
        self.now, self.listened_to = 100.0, True
        self.dog = Watchdog(self, listening=lambda: self.listened_to, now=lambda: self.now)

    def until_lost(self, *, longest_s=1000.0):
        """Look as often as asked; when it was found to be lost, None if it was not."""
        until = self.now + longest_s
        while self.now < until:
            if (left := self.dog.left_s()) <= 0:
                return self.now
            assert left <= LOOK_S
            self.now += left
        return None


@pytest.mark.parametrize("watchdog_s", [0.2, 2.0, 10.0, 60.0])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.24, 0.5, 0.99])
def test_a_peer_that_falls_silent_is_lost_after_its_time_and_well_before_twice_its_time(
    watchdog_s, share
):
    peer = Peer(watchdog_s)
    peer.dog.left_s()
    peer.now += 0.5
    peer.heard = last = peer.now - 0.2 * share  # between two looks
    lost = peer.until_lost()
    assert watchdog_s <= lost - last < 1.5 * watchdog_s + 0.5


def test_signs_of_life_keep_it_however_late_they_come_within_its_time():
    peer = Peer(10.0)
    for _ in range(20):
        assert peer.until_lost(longest_s=9.0) is None
        peer.heard = peer.now


def test_time_in_which_nobody_listened_says_nothing_of_the_peer():
    peer = Peer(10.0)
    assert peer.until_lost(longest_s=5.0) is None
    peer.listened_to = False
    assert peer.until_lost(longest_s=600.0) is None
    peer.listened_to = True
    resumed = peer.now
    assert 4.0 <= peer.until_lost() - resumed <= 6.0


def test_a_process_that_stood_still_does_not_take_its_peer_for_dead():
    peer = Peer(10.0)
    peer.dog.left_s()
    peer.now += 3600.0
    assert peer.dog.left_s() > 0
    resumed = peer.now
    assert 6.0 <= peer.until_lost() - resumed <= 10.0
