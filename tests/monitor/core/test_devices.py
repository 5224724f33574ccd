"""The step with its models on a GPU: the same alarms, and snapshots that go either way.

"cpu:0" takes the code of a GPU: whatever is not plainly "cpu" does.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.building import plan, rich_kind
from support.checks import Case, run

from models.bundle import Bundle
from monitor.core.records import AlarmClass, Results

SITE = plan(rich_kind(), 3, sources=("s", "t"))
MODELS = ("ewma", "gru", "lstm")
on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
devices = pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=on_a_gpu)])


def cases(bundle: Bundle, device: str, folder: Path) -> tuple[Case, Case]:
    """The same plant twice: scored on the CPU, and on a device."""
    here = Case(plan=SITE, bundle=bundle, seed=11, ticks=150)
    bundle.save(folder)
    loaded = Bundle.load(folder, device="cpu")
    there = replace(loaded, detector=loaded.detector.to(device))
    return here, replace(here, bundle=there)


def assert_alike(one: Results, other: Results) -> None:
    """Surprise within 1e-3, the same alarms at the same ticks."""
    for mine, theirs in zip(one.scores, other.scores, strict=True):
        assert np.array_equal(mine.state, theirs.state)
        for name in ("surprise", "expected", "spread"):
            wanted, found = getattr(mine, name), getattr(theirs, name)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3, err_msg=name)
    events = [(event.id, event.transition, event.tick) for event in one.alarms]
    assert [(event.id, event.transition, event.tick) for event in other.alarms] == events


@devices
@pytest.mark.parametrize("model", MODELS)
def test_the_alarms_are_those_of_the_cpu(model, device, bundles, tmp_path):
    here, there = cases(bundles[model], device, tmp_path / model)
    records = here.records()
    found = run(here.pipeline(), records)

    assert_alike(found, run(there.pipeline(), records))
    assert any(event.alarm_class is AlarmClass.PROCESS for event in found.alarms)


@devices
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("back", [False, True], ids=["to the device", "to the cpu"])
def test_what_one_device_began_another_ends(model, device, back, bundles, tmp_path):
    here, there = cases(bundles[model], device, tmp_path / model)
    records = here.records()
    half = len(records) // 2
    straight = here.pipeline()
    run(straight, records[:half])
    wanted = run(straight, records[half:])
    begins, ends = (there, here) if back else (here, there)

    first, second = begins.pipeline(), ends.pipeline()
    run(first, records[:half])
    second.restore(first.snapshot())

    assert_alike(wanted, run(second, records[half:]))
