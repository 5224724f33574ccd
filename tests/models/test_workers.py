"""Processes that train one model, told of each other as torchrun would; all on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from support.machines import CHANNELS, QUICK, fleet
from support.servers import free_port
from torch.nn.parallel import DistributedDataParallel

from models.settings import LstmSettings
from models.training import Interrupted, train
from models.workers import Workers, joined, workers

LSTM = LstmSettings(hidden=4, spans=(1, 4))
SETTINGS = QUICK.model_copy(update={"dropout": 0.2, "l2": 1e-4, "chunk_ticks": 25})
HERE = Path(__file__).parent


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun sets for a process."""
    return {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }


def train_twice(folder: Path) -> dict[str, Any]:
    """Train; train again, stopped by the last process alone, and go on. What came of it."""
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return here.rank == here.count - 1 and asked > 20

    with joined() as here:
        whole = train(fleet(150), CHANNELS, LSTM, SETTINGS)
        with pytest.raises(Interrupted):
            train(
                fleet(150), CHANNELS, LSTM, SETTINGS, checkpoint=folder / "kept", should_stop=stop
            )
        here.wait()
        resumed = train(fleet(150), CHANNELS, LSTM, SETTINGS, checkpoint=folder / "kept")
        hashes = {whole.bundle.hash, resumed.bundle.hash}
        (folder / f"{here.rank}.txt").write_text("\n".join(hashes))
        return {"count": here.count, "hashes": hashes, "bundle": whole.bundle, "fits": whole.fits}


@contextmanager
def another(folder: Path, given: dict[str, str]) -> Iterator[None]:
    """A second process that does the same, and ends well."""
    script = "import sys, pathlib, torch; torch.set_num_threads(1); import test_workers as t"
    with subprocess.Popen(
        [sys.executable, "-c", f"{script}; t.train_twice(pathlib.Path(sys.argv[1]))", str(folder)],
        env=os.environ | given | {"PYTHONPATH": f"{HERE}:{HERE.parent}:{HERE.parent.parent}"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, said


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_processes_learn_what_one_learns_and_stop_and_go_on_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, port = train(fleet(150), CHANNELS, LSTM, SETTINGS), free_port()
    for name, value in environment(0, 2, port).items():
        monkeypatch.setenv(name, value)

    with another(tmp_path, environment(1, 2, port)):
        together = train_twice(tmp_path)

    assert together["count"] == 2
    assert len(together["hashes"]) == 1, "stopped and gone on: the same bits"
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()
    losses = [fit.validation_loss for fit in alone.fits]
    assert [fit.validation_loss for fit in together["fits"]] == pytest.approx(losses, abs=1e-4)
    shared = together["bundle"].detector.tensors()
    for name, tensor in alone.bundle.detector.tensors().items():
        assert torch.allclose(tensor, shared[name], atol=1e-3), name


def test_one_process_that_torchrun_started_gives_the_bits_of_one_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = train(fleet(150), CHANNELS, LSTM, SETTINGS)
    for name, value in environment(0, 1, free_port()).items():
        monkeypatch.setenv(name, value)

    with joined() as here:
        assert isinstance(here.parallel(torch.nn.Linear(1, 1)), DistributedDataParallel)
        started = train(fleet(150), CHANNELS, LSTM, SETTINGS)

    assert started.bundle.hash == alone.bundle.hash


def test_without_torchrun_there_is_one_process_and_nothing_to_agree_on() -> None:
    with joined() as alone:
        assert alone == workers() == Workers(rank=0, count=1)
        assert alone.first
        assert alone.total(1.5, 2.0) == [1.5, 2.0]
        says = [False, True]
        assert alone.agreed(says.pop)()
        layer = torch.nn.Linear(1, 1)
        assert alone.parallel(layer) is layer
