import pytest
import torch

from models.residual import sustained

SPAN = 4


def run(raw, blame, valid, counts):
    raw, blame, valid = torch.tensor(raw), torch.tensor(blame), torch.tensor(valid)
    nothing = torch.zeros(counts[0], blame.shape[1])
    return sustained(raw, blame, valid, counts, nothing, span=SPAN)


def test_blame_is_of_all_ticks_that_the_score_is_of():
    raw, blame, _ = run([8.0, 1.0], [[1.0, 0.0], [0.0, 1.0]], [[True, True]] * 2, [1, 1])
    kept = 8.0 * 0.4 * 0.6
    assert raw.tolist() == pytest.approx([3.2, kept + 0.4])
    assert blame[1].tolist() == pytest.approx([kept / (kept + 0.4), 0.4 / (kept + 0.4)])


def test_what_a_hidden_channel_did_before_accuses_nobody_else():
    wild, calm = [[1.0, 0.0]] * 2, [[0.0, 1.0]] * 3
    valid = [[True, True]] * 2 + [[False, True]] * 3
    raw, blame, kept = run([20.0, 20.0, 0.1, 0.1, 0.1], wild + calm, valid, [1] * 5)
    assert raw[1] > 10
    assert (raw[2:] < 0.1).all()
    assert blame[2:].tolist() == [[0.0, 1.0]] * 3
    assert kept[0, 0] > 1  # it is not forgotten: once seen again it counts


def test_a_tick_without_any_channel_scores_nothing_and_changes_nothing():
    raw, blame, kept = run([5.0, 0.0], [[0.5, 0.5], [0.0, 0.0]], [[True] * 2, [False] * 2], [1, 1])
    assert raw[1] == 0
    assert blame[1].tolist() == [0.0, 0.0]
    assert kept[0].tolist() == pytest.approx([1.0, 1.0])


def test_rows_have_the_same_bits_in_any_company():
    generator = torch.Generator().manual_seed(1)
    raw, valid = torch.rand(37, generator=generator), torch.rand(37, 5, generator=generator) < 0.8
    blame = torch.rand(37, 5, generator=generator) * valid
    before = torch.rand(37, 5, generator=generator)
    together = sustained(raw, blame, valid, [37], before, span=SPAN)
    for row in range(37):
        one = slice(row, row + 1)
        alone = sustained(raw[one], blame[one], valid[one], [1], before[one], span=SPAN)
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[one], part)
