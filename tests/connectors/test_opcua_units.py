"""What the numbers of a server mean: units against the configured ones, and what changes."""

import asyncio

import numpy as np
import pytest
from asyncua import ua
from support.opcua import QUICK, URI, corner, last_position, notices, refs, take, values

from connectors.batch import GOOD, NoticeKind, Samples
from connectors.contract import TagRef
from connectors.opcua import Source
from connectors.opcua.link import Facts
from connectors.opcua.nodes import parse
from connectors.opcua.subscription import Subscription
from connectors.opcua.units import (
    BAD_CONFIGURATION_ERROR,
    CALLS_AT_ONCE,
    MOST_KEPT,
    Meanings,
    code_number,
    contradicts,
    conversion,
    unit_name,
)
from connectors.opcua.values import Wave

NOT_CONNECTED = 0x808A_0000


@pytest.mark.parametrize(
    ("theirs", "ours", "value", "wanted"),
    [
        ("°C", "degC", 20.0, 20.0),
        ("degF", "degC", 212.0, 100.0),
        ("degC", "°F", -40.0, -40.0),
        ("K", "degC", 273.15, 0.0),
        ("psi", "bar", 14.503774, 1.0),
        ("kPa", "bar", 101.325, 1.01325),
        ("mbar", "hPa", 7.0, 7.0),
        ("in/s", "mm/s", 1.0, 25.4),
        ("m/s", "mm/s", 0.0071, 7.1),
        ("g", "m/s²", 1.0, 9.80665),
        ("µm", "mm", 50.0, 0.05),
        ("l/min", "m³/h", 100.0, 6.0),
        ("gpm", "l/min", 1.0, 3.785412),
        ("mA", "A", 4.0, 0.004),
        ("r/min", "rpm", 1480.0, 1480.0),
        ("1/s", "rpm", 25.0, 1500.0),
        ("pieces", "pieces", 3.0, 3.0),
    ],
)
def test_a_value_is_converted_between_units_of_one_quantity(theirs, ours, value, wanted):
    factor, offset = conversion(theirs, ours)
    assert value * factor + offset == pytest.approx(wanted, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(
    ("theirs", "ours", "cannot_be"),
    [
        ("degC", "bar", True),
        ("kg/h", "m3/h", True),
        ("bar", "barg", False),  # gauge or absolute is never guessed
        ("degC", "K", False),  # which may be a difference: it has no offset
        ("pcs", "pieces", False),
        ("ma", "mA", False),  # case tells milli from mega
    ],
)
def test_what_is_not_surely_one_quantity_is_not_converted(theirs, ours, cannot_be):
    assert conversion(theirs, ours) is None
    assert contradicts(theirs, ours) is cannot_be


def eu(name, *, code=None, namespace="http://www.opcfoundation.org/UA/units/un/cefact"):
    number = -1 if code is None else code_number(code)
    shown = ua.LocalizedText(name)
    return ua.EUInformation(NamespaceUri=namespace, UnitId=number, DisplayName=shown)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (eu("Grad", code="CEL"), "degC"),  # the code before the name
        (eu("°F"), "°F"),  # -1 is common
        (eu("own", code="CEL", namespace="urn:maker"), "own"),  # another's numbers
        (eu(None), ""),
        (None, ""),
        ("bar", ""),
    ],
)
def test_a_unit_is_named_by_its_code_else_as_it_is_displayed(found, wanted):
    assert unit_name(found) == wanted


def test_codes_are_numbered_as_the_standard_numbers_them():
    assert (code_number("CEL"), code_number("4H")) == (4408652, 13384)  # Part 8, 5.6.4.3


class Server:
    """A link to a server that says what its nodes mean; a node is the number of its tag."""

    def __init__(self, **properties):
        self.says = properties

    async def properties(self, paths):
        return [(node, name) if name in self.says else None for node, name in paths]

    async def read(self, nodes):
        return [self.says[name] for _, name in nodes]


class Limits:
    paths_per_call, reads_per_call = 2, 1


async def told(meanings, server, unit="degC"):
    """What is said when the meaning of tag 1, which is in ``unit`` here, is read."""
    tags = {1: TagRef(id=1, address="t1", unit=unit)}
    return [one.reason for one in await meanings.read(server, Limits, {1: 1}, tags)]


def meant(meanings, value, status=GOOD):
    tag, columns = np.array([1, 2], np.int32), (np.array([value, 5.0]), np.array([status] * 2))
    value, status = meanings.meant(tag, columns[0], columns[1].astype(np.uint32))
    assert (value[1], status[1]) == (5.0, columns[1][1])  # of another tag
    return value[0], int(status[0])


async def test_another_unit_of_the_quantity_is_converted_and_said_once(caplog):
    meanings, server = Meanings("plc", {}), Server(EngineeringUnits=eu("°F"))
    assert await told(meanings, server) == []
    assert meant(meanings, 212.0) == (pytest.approx(100.0), GOOD)
    await told(meanings, server)
    assert caplog.text.count("converted to degC") == 1
    assert meanings.converted == 1


async def test_a_unit_that_becomes_another_of_its_quantity_is_converted_from_then_on():
    meanings, server = Meanings("plc", {}), Server(EngineeringUnits=eu("°C", code="CEL"))
    assert await told(meanings, server) == []
    assert meant(meanings, 20.0) == (20.0, GOOD)
    server.says["EngineeringUnits"] = eu("°F", code="FAH")
    (words,) = await told(meanings, server)
    assert words == "its unit is degF, and was degC: its values are converted to degC"
    assert meant(meanings, 68.0) == (pytest.approx(20.0), GOOD)


async def test_a_unit_that_is_the_configured_one_again_is_said_to_be_restored():
    meanings, server = Meanings("plc", {}), Server(EngineeringUnits=eu("°C", code="CEL"))
    tags, kinds = {1: TagRef(id=1, address="t1", unit="degC")}, []
    for unit, high in (("CEL", 100), ("FAH", 212), ("CEL", 100), ("CEL", 50), ("P1", 50)):
        server.says["EngineeringUnits"] = eu("x", code=unit)
        server.says["EURange"] = ua.Range(0.0, float(high))
        kinds += [one.kind for one in await meanings.read(server, Limits, {1: 1}, tags)]
    changed, restored = NoticeKind.UNIT_CHANGED, NoticeKind.UNIT_RESTORED
    assert kinds == [changed, restored, changed, changed]  # its range alone is not its unit


async def test_a_unit_that_cannot_be_converted_makes_values_bad_until_it_is_right_again():
    meanings, server = Meanings("plc", {}), Server(EngineeringUnits=eu("°C"))
    await told(meanings, server)
    server.says["EngineeringUnits"] = eu("%")
    (words,) = await told(meanings, server)
    assert words.startswith("its unit is %, and was °C, which cannot be made degC")
    assert meant(meanings, 20.0) == (20.0, BAD_CONFIGURATION_ERROR)
    assert meant(meanings, 20.0, NOT_CONNECTED) == (20.0, NOT_CONNECTED)  # knows more than we
    assert await told(meanings, server) == []  # said
    assert meanings.bad == {1: "t1 (% for °C)"}
    server.says["EngineeringUnits"] = eu("°C")
    assert await told(meanings, server) == ["its unit is right again: °C"]
    assert meant(meanings, 20.0) == (20.0, GOOD)


async def test_a_unit_that_contradicts_the_configured_one_is_bad_at_first_sight():
    meanings = Meanings("plc", {})
    (words,) = await told(meanings, Server(EngineeringUnits=eu("bar")))
    assert "cannot be made degC" in words
    assert meant(meanings, 1.0)[1] == BAD_CONFIGURATION_ERROR


async def test_units_of_which_nothing_is_known_are_taken_until_they_change(caplog):
    meanings, server = Meanings("plc", {}), Server(EngineeringUnits=eu("pcs"))
    assert await told(meanings, server, "pieces") == []
    assert "taken as they are" in caplog.text
    assert meant(meanings, 3.0) == (3.0, GOOD)
    after_restart = Meanings("plc", meanings.kept())
    server.says["EngineeringUnits"] = eu("dozens")
    (words,) = await told(after_restart, server, "pieces")
    assert words.startswith("its unit is dozens, and was pcs")
    assert meant(after_restart, 3.0)[1] == BAD_CONFIGURATION_ERROR


@pytest.mark.parametrize(
    ("unit", "says"), [(None, {"EngineeringUnits": eu("bar")}), ("degC", {})], ids=["ours", "its"]
)
async def test_where_one_side_names_no_unit_nothing_is_judged(unit, says):
    meanings = Meanings("plc", {})
    assert await told(meanings, Server(**says), unit) == []
    assert meant(meanings, 20.0) == (20.0, GOOD)


async def test_a_unit_that_is_not_said_for_a_while_is_still_what_it_was():
    meanings, server = Meanings("plc", {}), Server(EngineeringUnits=eu("°F"))
    await told(meanings, server)
    server.says["EngineeringUnits"] = None
    assert await told(meanings, server) == []
    assert meant(meanings, 212.0) == (pytest.approx(100.0), GOOD)


async def test_a_range_that_changed_is_said_in_words_and_changes_no_value():
    meanings, server = Meanings("plc", {}), Server(EURange=ua.Range(0.0, 100.0))
    assert await told(meanings, server) == []
    after_restart = Meanings("plc", meanings.kept())
    server.says["EURange"] = ua.Range(0.0, 250.0)
    assert await told(after_restart, server) == ["its range is 0 to 250, and was 0 to 100"]
    assert meant(after_restart, 20.0) == (20.0, GOOD)


def test_of_very_many_meanings_a_position_holds_what_no_table_tells():
    known = dict.fromkeys(range(MOST_KEPT), ("degC", "0 to 100"))
    assert Meanings("plc", known).kept() == known
    assert Meanings("plc", {**known, 900: ("pcs", "")}).kept() == {900: ("pcs", "")}


# ---- against a server ---------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.timeout(60)
async def test_a_server_that_says_that_a_meaning_changed_is_asked_and_the_values_follow():
    server = corner({"heat": 20.0, "flow": 1.0})
    server.mean("heat", EngineeringUnits=eu("°C", code="CEL"), EURange=ua.Range(0.0, 100.0))
    plant = server.source(["heat", "flow"], ["degC", None])
    await plant.open(resume=None)
    taken = await take(plant, lambda some: values(some) and values(some, 2))
    server.mean("heat", EngineeringUnits=eu("°F", code="FAH"), EURange=ua.Range(32.0, 212.0))
    server.set("heat", 212.0, status=0x4000)  # SemanticsChanged
    taken += await take(plant, lambda some: len(values(some)) == 1)
    (said,) = notices(taken, NoticeKind.UNIT_CHANGED)
    assert said.tags == (1,)
    assert "degF, and was degC" in said.reason
    assert "its range is 32 to 212" in said.reason
    assert values(taken) == [20.0, pytest.approx(100.0)]
    assert plant.status()["units_converted"] == 1
    await plant.close()
    server.mean("heat", EngineeringUnits=eu("bar", code="BAR"))
    again = server.source(["heat", "flow"], ["degC", None])  # after a restart
    await again.open(resume=last_position(taken))
    server.set("heat", 3.0)
    taken = await take(again, lambda some: 3.0 in values(some))
    status = again.status()
    await again.close()
    (said,) = notices(taken, NoticeKind.UNIT_CHANGED)
    assert "its unit is bar, and was degF" in said.reason
    codes = {
        code
        for batch in taken
        if isinstance(batch, Samples)
        for tag, code in zip(batch.tag.tolist(), batch.status.tolist(), strict=True)
        if tag == 1
    }
    assert codes == {BAD_CONFIGURATION_ERROR}
    assert status["units_bad"] == 1
    assert "bar for degF" in status["bad_units"]


def test_that_a_value_was_forced_passes_through():
    wave = Wave()
    forced = ua.DataValue(ua.Variant(7.0), ua.StatusCode(ua.UInt32(0x0096_0000)))
    wave.take([(1, forced)], published=1, ahead_s=60, after={})
    batch = wave.samples("plc", meant=Meanings("plc", {}).meant)
    assert batch.status.tolist() == [0x0096_0000]  # GoodLocalOverride
    assert batch.value.tolist() == [7.0]


class Slow:
    """A link to a server that takes 100 nodes a call, and answers once 4 calls are on their way."""

    def __init__(self, *, fails=None):
        """``fails``: the call that is answered with an error."""
        self.calls = self.most = self.now = 0
        self._fails, self._enough = fails, asyncio.Event()

    async def _answer(self, asked):
        assert len(asked) <= 100
        self.calls += 1
        if self.calls == self._fails:
            raise ua.uaerrors.BadTooManyOperations
        self.now += 1
        self.most = max(self.most, self.now)
        if self.most >= 4:
            self._enough.set()
        await self._enough.wait()
        await asyncio.sleep(0)
        self.now -= 1

    async def properties(self, paths):
        await self._answer(paths)
        return [node if name == "EngineeringUnits" else None for node, name in paths]

    async def read(self, nodes):
        await self._answer(nodes)
        return [eu("degC") if node.Identifier % 2 else eu("degF") for node in nodes]

    async def create_items(self, _subscription, items):
        await self._answer(items)
        return [ua.MonitoredItemCreateResult(MonitoredItemId=one.ItemToMonitor.NodeId.Identifier)
                for one in items]  # fmt: skip


FEW_A_CALL = Facts(
    namespaces=("", URI),
    started=1,
    now=1,
    skew_s=0.0,
    items_per_call=100,
    reads_per_call=100,
    paths_per_call=100,
    histories_per_call=20,
)


def many(count):
    return {
        ref.id: (ref, parse(ref.address)) for ref in refs(range(1, count + 1), ["degC"] * count)
    }


async def test_of_very_many_tags_units_are_read_and_items_made_by_several_calls_at_once():
    tags = many(2000)
    link, meanings = Slow(), Meanings("plc", {})
    nodes = {tag: ua.NodeId(tag, 1) for tag in tags}
    await meanings.read(link, FEW_A_CALL, nodes, {tag: ref for tag, (ref, _) in tags.items()})
    assert (link.calls, link.most) == (60 + 20, CALLS_AT_ONCE)
    assert meanings.converted == 1000
    link, settings = Slow(), Source.Settings.model_validate({**QUICK, "url": "opc.tcp://a:1"})
    one = Subscription("plc", settings, settings.rate_of(""), tags)
    assert await one._add(link, FEW_A_CALL, list(tags)) == {}
    assert (link.calls, link.most) == (20, CALLS_AT_ONCE)
    assert one._items == {tag: tag for tag in tags}


async def test_a_call_that_fails_among_several_is_raised_and_ends_the_others():
    link, tags = Slow(fails=3), many(2000)
    nodes = {tag: ua.NodeId(tag, 1) for tag in tags}
    with pytest.raises(ua.uaerrors.BadTooManyOperations):
        await Meanings("plc", {}).read(link, FEW_A_CALL, nodes, {})
    assert link.calls <= 2 * CALLS_AT_ONCE
