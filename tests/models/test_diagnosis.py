"""What a head calls an episode, and when it says that it does not know."""

from pathlib import Path

import numpy as np
import pytest
from support.machines import CHANNELS, QUICK, fleet

from models.bundle import Bundle, BundleError
from models.diagnosis import BLOCKS, Diagnosis, Episode, Validation, advance, features, fit, trail
from models.naming import UNKNOWN, Named
from models.settings import DiagnosisSettings, EwmaSettings
from models.training import train

SETTINGS = DiagnosisSettings(memory_ticks=20, least_ticks=5)
TICKS = 60
WIDE = 6


def episode(place: int, seed: int, *, fault: str | None = None, ticks: int = TICKS) -> Episode:
    """One whose features are high at one place, with noise, and a level of its own."""
    rng = np.random.default_rng([place, seed])
    level = np.eye(WIDE)[place] + rng.normal(0, 0.05, WIDE)
    shown = level + rng.normal(0, 0.3, (ticks, WIDE))
    return Episode(
        fault=fault or f"fault_{place}", asset=f"pump_{seed}", features=trail(shown, SETTINGS)
    )


def school(faults: int = 3, episodes: int = 4) -> list[Episode]:
    return [episode(place, seed) for place in range(faults) for seed in range(episodes)]


@pytest.fixture(scope="module")
def head() -> Diagnosis:
    return fit(school(), SETTINGS)


def at_end(head: Diagnosis, shown: Episode) -> str:
    return head.name(shown.features[-1]).fault


def test_an_episode_that_was_never_shown_is_called_by_its_name(head: Diagnosis) -> None:
    for place in range(3):
        name = head.name(episode(place, 99).features[-1])
        assert name.fault == f"fault_{place}"
        assert name.probability is not None
        assert name.probability > 0.8


def test_no_name_is_surer_than_the_episodes_that_taught_it_allow() -> None:
    few = fit([*school()[:1], *(one for one in school() if one.fault != "fault_0")], SETTINGS)
    once = few.name(episode(0, 99).features[-1])
    taught = few.card.episodes["fault_1"]
    often = few.name(episode(1, 99).features[-1])
    assert once == Named("fault_0", 2 / 3)
    assert often.probability is not None
    assert 2 / 3 < often.probability <= (taught + 1) / (taught + 2)


def test_a_fault_that_was_not_taught_is_unknown(head: Diagnosis) -> None:
    assert head.name(episode(5, 99).features[-1]) == Named(UNKNOWN)


def test_the_only_fault_that_was_taught_has_no_probability() -> None:
    name = fit(school(1), SETTINGS).name(episode(0, 99).features[-1])
    assert name == Named("fault_0", None)
    assert str(name) == "looks like fault_0"


def test_two_faults_that_look_the_same_are_a_tie_and_so_unknown() -> None:
    twins = [episode(0, seed, fault=name) for seed in range(8) for name in ("one", "other")]
    head = fit([*twins, *school()[4:]], SETTINGS)
    assert at_end(head, episode(0, 99)) == UNKNOWN
    assert head.card.validation.ties == len(twins)


def machine(number: int, faults: int = 3) -> list[Episode]:
    """Three episodes of each fault, which shows in another way on each machine."""
    rng = np.random.default_rng(number)
    own = np.eye(WIDE)[:faults] + rng.normal(0, 0.1, (faults, WIDE))
    return [
        Episode(
            fault=f"fault_{place}",
            asset=f"pump_{number}",
            features=own[place] + rng.normal(0, 0.03, WIDE) + rng.normal(0, 0.02, (TICKS, WIDE)),
        )
        for place in range(faults)
        for _ in range(3)
    ]


def strange(head: Diagnosis, shown: list[Episode]) -> float:
    """The share of their time that is too far from every fault."""
    away = [head.distances(one.features).min(axis=1) for one in shown]
    return float(np.mean([(distance > head.card.limit).mean() for distance in away]))


def test_of_machines_that_were_not_taught_about_the_share_is_strange_that_may_be() -> None:
    settings = SETTINGS.model_copy(update={"unknown_share": 0.1})
    schools = [[one for n in range(8) for one in machine(1000 * k + n)] for k in range(3)]
    others = [one for n in range(100, 160) for one in machine(n)]
    found = np.mean([strange(fit(taught, settings), others) for taught in schools])
    assert 0.06 < found < 0.15


def test_a_fault_of_one_machine_alone_is_checked_by_its_other_episodes() -> None:
    taught = [one for n in range(4) for one in machine(n, faults=2)]
    alone = [one for one in machine(0) if one.fault == "fault_2"]
    found = fit([*taught, *alone], SETTINGS).card.validation
    assert found.confusion["fault_2"] == {"fault_2": 3}
    assert found.episodes == len(taught) + len(alone)


def test_a_single_episode_whose_fault_grows_is_known_when_it_has_grown_further() -> None:
    def grown(place: int, until: float) -> Episode:
        noise = np.random.default_rng(place).normal(0, 0.03, (TICKS, WIDE))
        grows = np.linspace(0, until, TICKS)[:, None] * np.eye(WIDE)[place + 3]
        return Episode(
            fault=f"fault_{place}", asset="mill", features=np.eye(WIDE)[place] + grows + noise
        )

    head = fit([grown(place, 1.0) for place in range(3)], SETTINGS)
    assert at_end(head, grown(0, 1.5)) == "fault_0"
    assert at_end(head, grown(0, 5.0)) == UNKNOWN


def test_every_episode_of_a_fault_is_left_out_once_and_counted(head: Diagnosis) -> None:
    found = head.card.validation
    assert found.episodes == 12
    assert found.accuracy is not None
    assert found.accuracy >= 0.9
    assert {fault: sum(names.values()) for fault, names in found.confusion.items()} == {
        "fault_0": 4,
        "fault_1": 4,
        "fault_2": 4,
    }


def test_a_fault_with_one_episode_is_taught_but_not_checked() -> None:
    head = fit([*school(), episode(4, 0)], SETTINGS)
    assert "fault_4" not in head.card.validation.confusion
    assert at_end(head, episode(4, 0)) == "fault_4"


def test_what_was_named_wrong_lowers_recall_of_one_and_precision_of_the_other() -> None:
    found = Validation(confusion={"a": {"a": 3, "b": 1}, "b": {"b": 3, UNKNOWN: 1}, "c": {"a": 2}})
    assert (found.recall("a"), found.precision("a")) == (3 / 4, 3 / 5)
    assert (found.recall("b"), found.precision("b")) == (3 / 4, 3 / 4)
    assert (found.recall("c"), found.precision("c")) == (0.0, None)
    assert (found.episodes, found.accuracy, found.unknown) == (10, 6 / 10, 1 / 10)


def test_the_share_of_known_time_that_is_called_unknown_is_as_asked_for() -> None:
    few, many = (
        fit(school(), SETTINGS.model_copy(update={"unknown_share": share})).card.limit
        for share in (0.01, 0.3)
    )
    assert few > many


def test_a_rows_distances_have_the_same_bits_whoever_else_is_there(head: Diagnosis) -> None:
    rows = np.concatenate([one.features for one in school()])
    together = head.distances(rows)
    for count in (1, 2, 3, 7):
        alone = [head.distances(rows[at : at + count]) for at in range(0, len(rows), count)]
        assert np.array_equal(np.concatenate(alone), together)


def test_a_running_mean_is_the_mean_until_its_memory_is_full_and_then_forgets() -> None:
    mean = np.zeros(1)
    for tick in range(20):
        mean = advance(mean, tick, np.array([float(tick)]), memory=20)
    assert mean[0] == pytest.approx(9.5)
    for tick in range(20, 400):
        mean = advance(mean, tick, np.array([3.0]), memory=20)
    assert mean[0] == pytest.approx(3.0)


def test_the_side_a_channel_went_to_is_a_feature_and_nothing_where_it_is_not_known() -> None:
    blame = np.array([[0.25, 0.25, 0.5]], np.float32)
    value = np.array([[2.0, 0.0, 5.0]], np.float32)
    expected = np.array([[1.0, 1.0, np.nan]], np.float32)
    found = features(blame, value, expected)[0]
    assert found.tolist() == pytest.approx([0.5, 0.5, 0.5**0.5, 0.5, -0.5, 0.0])


def test_of_one_channel_alone_there_is_the_side_to_tell_faults_by() -> None:
    up, down = (features(*np.array([[[1]], [[side]], [[0]]], np.float32)) for side in (1, -1))
    taught = [
        Episode(fault=name, asset=asset, features=np.repeat(shown, TICKS, axis=0))
        for asset in ("pump_1", "pump_2")
        for name, shown in (("high", up), ("low", down))
    ]
    head = fit(taught, SETTINGS)
    assert [head.name(shown[0]).fault for shown in (up, down)] == ["high", "low"]
    assert head.name(np.zeros(2)).fault == UNKNOWN


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(ValueError, match="want labelled episodes, got none"):
        fit([], SETTINGS)
    with pytest.raises(ValueError, match=f"want {BLOCKS} ticks that may be named or more, got 1"):
        episode(0, 0, ticks=SETTINGS.least_ticks)


def test_the_same_episodes_make_the_same_head() -> None:
    one, other = (fit(school(), SETTINGS) for _ in range(2))
    assert one.card == other.card
    assert np.array_equal(one.whiten, other.whiten)


# ---- in a bundle --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train(fleet(300), CHANNELS, EwmaSettings(spans=(1, 4)), QUICK).bundle


def with_head(bundle: Bundle) -> Bundle:
    wide = 2 * len(bundle.card.channels)
    rng = np.random.default_rng(0)
    shown = [
        Episode(
            fault=f"fault_{n % 2}",
            asset=f"pump_{n // 2}",
            features=rng.normal(n % 2, 0.1, (10, wide)),
        )
        for n in range(6)
    ]
    return bundle.with_diagnosis(fit(shown, SETTINGS))


def test_a_bundle_keeps_its_head_to_the_bit(bundle: Bundle, tmp_path: Path) -> None:
    taught = with_head(bundle)
    taught.save(tmp_path / "pump")
    loaded = Bundle.load(tmp_path / "pump", device="cpu")
    assert loaded.card == taught.card
    assert loaded.hash == taught.hash != bundle.hash
    assert loaded.diagnosis is not None
    assert taught.diagnosis is not None
    shown = np.random.default_rng(1).normal(size=(20, 2 * len(bundle.card.channels)))
    assert np.array_equal(loaded.diagnosis.distances(shown), taught.diagnosis.distances(shown))
    assert loaded.with_threshold(3.0, provisional=False).diagnosis is loaded.diagnosis


def test_a_bundle_without_a_head_is_as_it_always_was(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "pump")
    assert "diagnosis" not in (tmp_path / "pump" / "card.json").read_text()
    assert Bundle.load(tmp_path / "pump", device="cpu").diagnosis is None


def test_a_head_that_is_not_the_cards_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    taught = with_head(bundle)
    stripped = Bundle(taught.card, bundle.detector)  # its weights hold no head
    digest = bundle.card.weights_sha256
    card = stripped.card.model_copy(update={"weights_sha256": digest})
    Bundle(card, bundle.detector).save(tmp_path / "pump")
    with pytest.raises(BundleError, match="want finite float64 tensors"):
        Bundle.load(tmp_path / "pump", device="cpu")
