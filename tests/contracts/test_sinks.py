"""Every sink keeps the contract: whatever `connectors.discover()` finds, with its rig."""

import pytest
import yaml
from support.rigs import marked, rig

import connectors
from connectors.contract import ConnectorError, NotReadyError, RefusedError, Sink
from monitor.site import examples

FOUND = connectors.discover()
SINKS = marked(name for name, found in FOUND.items() if found.sink is not None)


@pytest.fixture
def peer(connector, new_rig):
    return new_rig(connector, "SinkRig")


def made(connector, peer):
    return FOUND[connector].sink("rig", peer.settings)


async def deliver(connector, peer, items):
    """Open, deliver, close; errors are looked through for secrets on their way."""
    sink = made(connector, peer)
    try:
        await sink.open()
        await sink.deliver(items)
    except ConnectorError as error:
        shown = f"{error} {error!r} {error.__cause__!r}"
        assert not [secret for secret in peer.secrets if secret in shown]
        raise
    finally:
        await sink.close()


@pytest.mark.parametrize("connector", SINKS)
class TestEverySink:
    async def test_it_is_a_sink_and_takes_what_it_accepts(self, connector, peer):
        sink = made(connector, peer)
        assert isinstance(sink, Sink)
        assert all(isinstance(item, sink.accepts) for item in peer.items)
        before = peer.contents()
        await deliver(connector, peer, peer.items)
        assert peer.contents() != before

    async def test_delivering_twice_changes_nothing(self, connector, peer):
        await deliver(connector, peer, peer.items[:2])
        first = peer.contents()
        await deliver(connector, peer, peer.items[:2])
        assert peer.contents() == first
        await deliver(connector, peer, peer.items)
        await deliver(connector, peer, peer.items[:1])
        assert peer.contents() != first

    async def test_nothing_to_deliver_changes_nothing(self, connector, peer):
        before = peer.contents()
        await deliver(connector, peer, [])
        assert peer.contents() == before

    async def test_the_refused_item_is_named_and_the_others_are_taken(self, connector, peer):
        await deliver(connector, peer, peer.items)
        wanted = peer.contents()
        others = [*peer.items[:1], peer.unfit, *peer.items[1:]]
        with pytest.raises(RefusedError) as refused:
            await deliver(connector, peer, others)
        assert refused.value.items == (1,)
        assert refused.value.connector == "rig"
        assert peer.contents() == wanted

    async def test_a_peer_that_is_away_is_not_ready_until_it_is_back(self, connector, new_rig):
        calm, peer = (new_rig(connector, "SinkRig") for _ in range(2))
        sink = made(connector, peer)
        await sink.open()
        await sink.deliver(peer.items[:1])
        peer.vanish()
        with pytest.raises(NotReadyError):
            await sink.deliver(peer.items)
        await sink.close()
        with pytest.raises(NotReadyError):
            await deliver(connector, peer, peer.items)
        peer.appear()
        await deliver(connector, peer, peer.items)
        await deliver(connector, calm, calm.items)
        assert len(peer.contents()) == len(calm.contents())

    async def test_the_patience_it_asks_for_is_handed_on(self, connector, peer):
        if peer.retry_after_s is None:
            return  # this kind of peer has no such answer
        peer.busy()
        with pytest.raises(NotReadyError) as error:
            await deliver(connector, peer, peer.items)
        assert error.value.retry_after_s == peer.retry_after_s
        await deliver(connector, peer, peer.items)

    async def test_it_closes_twice_and_before_it_was_opened(self, connector, peer):
        sink = made(connector, peer)
        await sink.close()
        await sink.open()
        await sink.close()
        await sink.close()

    def test_making_one_looks_at_nothing(self, connector, peer, watching):
        made(connector, peer)
        with watching() as seen:
            made(connector, peer)
        assert seen == []

    def test_no_secret_is_shown_by_its_settings(self, connector, peer):
        shown = repr(peer.settings) + repr(made(connector, peer))
        assert not [secret for secret in peer.secrets if secret in shown]

    def test_every_setting_says_what_it_means(self, connector):
        settings = FOUND[connector].sink.Settings
        assert [n for n, field in settings.model_fields.items() if not field.description] == []
        assert settings.model_config["extra"] == "forbid"

    @pytest.mark.parametrize("switched_on", [False, True])
    def test_its_printed_example_is_right(self, connector, switched_on):
        text = examples.example(connector)
        tree = yaml.safe_load(examples.uncommented(text) if switched_on else text)
        settings = FOUND[connector].sink.Settings
        assert settings.model_validate(tree["sinks"][connector]).type == connector


def test_a_connector_without_a_rig_fails():
    with pytest.raises(LookupError, match=r"tests/contracts/rigs/nobody\.py"):
        rig("nobody")
