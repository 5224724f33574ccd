"""What a misspelt name may have meant."""

import pytest

from connectors.hints import meant

PUMPS = ("pump_1", "pump_4", "Motor_2")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("pmp_1", "pump_1"),
        ("motor_2", "Motor_2"),
        ("pump_01", "pump_1"),
        ("pump1", "pump_1"),
        ("valve", None),
    ],
)
def test_the_name_most_alike_is_meant(given: str, name: str | None) -> None:
    assert meant(given, PUMPS) == name


@pytest.mark.parametrize("given", ["pump_9", "PUMP_9", "pump_11"])
def test_a_name_with_another_number_is_another_thing_not_a_misspelt_one(given: str) -> None:
    assert meant(given, PUMPS) is None
