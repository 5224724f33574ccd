"""What the settings of a kind refuse, and what they say of its tags."""

import pytest
from pydantic import ValidationError
from support.building import kind, plan, rich_kind

from monitor.core.plan import LimitSettings


def test_limits_stand_in_order():
    with pytest.raises(ValidationError, match="want low_low <= low <= high <= high_high"):
        LimitSettings(low=5, high=4)


def test_a_tag_that_feeds_two_channels_is_named_once():
    assert rich_kind().tags == ("x", "y", "z", "speed")


def test_the_assets_of_a_kind_are_its_rows():
    assert [asset.name for asset in plan(kind(), 3).assets_of("k")] == ["a0", "a1", "a2"]
    assert plan(kind(), 3).assets_of("fan") == []
