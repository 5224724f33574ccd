"""Losses, step and gradient of each epoch for TensorBoard: one run a fit, side by side."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from models.training import Epoch


class NoTensorBoardError(Exception):
    """The package is not installed."""


class Board:
    """Writes event files below a folder. ``add`` takes what training tells after each epoch.

    Raises NoTensorBoardError where the package `tensorboard` is not installed, and OSError where
    the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise NoTensorBoardError(
                f"--tensorboard: {error}. It is an extra: pip install 'watchkeeper[tensorboard]', "
                "or do without the option."
            ) from error
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._make = SummaryWriter
        self._writers: dict[str, Any] = {}
        self._open = ExitStack()

    def add(self, kind: str, epoch: Epoch) -> None:
        """One epoch of a fit for a kind of asset."""
        run = f"{kind}/{epoch.what}-{epoch.fit}"
        if run not in self._writers:
            writer = self._make(str(self._folder / run))
            self._open.callback(writer.close)
            self._writers[run] = writer
        for name, value in (
            ("loss/training", epoch.training_loss),
            ("loss/validation", epoch.validation_loss),
            ("learning_rate", epoch.learning_rate),
            ("gradient_norm", epoch.gradient_norm),
        ):
            self._writers[run].add_scalar(name, value, epoch.epoch)

    def close(self) -> None:
        """Write out what is still in memory."""
        self._open.close()
