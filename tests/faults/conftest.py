"""The frame of the fault suite: what is skipped, what is kept, and what is said meanwhile."""

import runpy
import time

import pytest
from support import outcomes
from support.outcomes import MODE, ROOT, Mode, Outcome

PAGE = runpy.run_path(str(ROOT / "scripts" / "make_reliability.py"))
CODE = outcomes.code()
PATIENCE = 5  # times as long as a unit may take: hours beside others end as they would alone
REPORTS, TOOK, REASON = pytest.StashKey(), pytest.StashKey(), pytest.StashKey()


def fault_of(item):
    """Which fault a test is a unit of; None: of none."""
    mark = item.get_closest_marker("fault")
    return None if mark is None else mark.args[0]


def pytest_collection_modifyitems(config, items):
    """Where figures are kept, a unit that has passed is not run again, and has much time."""
    unknown = {fault_of(item) for item in items} - {None, *PAGE["FAULTS"]}
    assert not unknown, f"not in FAULTS of scripts/make_reliability.py: {unknown}"
    if MODE is Mode.SHORT:
        return
    known, done = outcomes.known(), []
    for item in items:
        test = outcomes.hash_of_test(item.path)
        if fault_of(item) is None:
            continue
        limit = item.get_closest_marker("timeout")
        patience_s = 60.0 if limit is None else PATIENCE * limit.args[0]
        item.add_marker(pytest.mark.timeout(patience_s), append=False)
        if outcomes.is_done(known.get(item.nodeid), code=CODE, test=test, mode=MODE):
            done.append(item)
    config.hook.pytest_deselected(items=done)
    items[:] = [item for item in items if item not in done]


def pytest_sessionfinish(session, exitstatus):
    """That nothing was left to do is no failure."""
    if MODE is not Mode.SHORT and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture
def figures():
    """What a unit counts and measures: counts as numbers, times as lists of seconds."""
    return {}


@pytest.fixture
def tell(request, pytestconfig):
    """Say how far a unit is, to whom waits for hours; a short run says nothing."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(words):
        if MODE is not Mode.SHORT:
            with capture.global_and_fixture_disabled():
                print(f"\n  {time.strftime('%H:%M:%S')} {request.node.name}: {words}", flush=True)  # noqa: T201 - for who waits

    return say


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep how a unit ended, once it is wholly over, and show it on the page."""
    report = yield
    fault = fault_of(item)
    if MODE is Mode.SHORT or fault is None:
        return report
    item.stash[REPORTS] = [*item.stash.get(REPORTS, []), report]
    item.stash[TOOK] = item.stash.get(TOOK, 0.0) + call.duration
    if report.failed and call.excinfo is not None:
        item.stash.setdefault(REASON, (str(call.excinfo.value).splitlines() or ["failed"])[0][:200])
    if call.when == "teardown" and not any(one.skipped for one in item.stash[REPORTS]):
        outcomes.keep(
            Outcome(
                unit=item.nodeid,
                fault=fault,
                passed=all(one.passed for one in item.stash[REPORTS]),
                code=CODE,
                test=outcomes.hash_of_test(item.path),
                date=outcomes.now(),
                took_s=item.stash[TOOK],
                figures=(item.funcargs or {}).get("figures", {}),
                reason=item.stash.get(REASON, ""),
            )
        )
        outcomes.merge()
        PAGE["write"]()
    return report
