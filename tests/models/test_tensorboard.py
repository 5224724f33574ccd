import sys
from pathlib import Path

import pytest

from models.tensorboard import Board, NoTensorBoardError
from models.training import Epoch


def epoch(number: int, *, what: str = "model", fit: int = 1) -> Epoch:
    return Epoch(
        what=what,
        fit=fit,
        fits=2,
        epoch=number,
        epochs=3,
        training_loss=1.0 / number,
        validation_loss=2.0 / number,
        learning_rate=0.5,
        gradient_norm=4.0,
    )


def test_each_fit_is_a_run_with_its_losses_step_and_gradient(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = Board(tmp_path / "runs")
    for number in (1, 2):
        board.add("pump", epoch(number))
    board.add("pump", epoch(1, what="trial", fit=2))
    board.close()

    read = EventAccumulator(str(tmp_path / "runs" / "pump" / "model-1")).Reload()
    assert sorted(read.Tags()["scalars"]) == [
        "gradient_norm",
        "learning_rate",
        "loss/training",
        "loss/validation",
    ]
    assert [(s.step, s.value) for s in read.Scalars("loss/validation")] == [(1, 2.0), (2, 1.0)]
    assert (tmp_path / "runs" / "pump" / "trial-2").is_dir()


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)

    with pytest.raises(NoTensorBoardError, match=r"pip install 'watchkeeper\[tensorboard\]'"):
        Board(tmp_path)
