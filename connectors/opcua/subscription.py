"""One subscription: the tags of one rate class, and until when the server vouches for them.

A message vouches for the values it does not speak of, too: up to the time it was published, less
the time that a sample may be on its way into the server's queue. A value that changes right after
it was looked at is stamped then, and found a sampling interval later, in a later message.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asyncua import ua

from connectors.contract import TagRef
from connectors.opcua.link import STARTED, Facts, Link
from connectors.opcua.nodes import Address, index_of
from connectors.opcua.progress import Kept
from connectors.opcua.settings import RateClass, Settings
from connectors.opcua.units import at_once, portions, shortened
from connectors.opcua.values import BAD_NODE_ID_UNKNOWN

logger = logging.getLogger(__name__)

MOST_NOTIFICATIONS = 10_000  # a message: about 1 MB, and what bounds the memory of waiting answers
Watched = Mapping[int, tuple[TagRef, Address]]  # by the number of the tag
PROBE = 1  # the handle of an item that is there to make the server speak
MOST_HANDLES = 2**32 - 1  # some servers (node-opcua) have a use of their own for the last


class Subscription:
    """A subscription on a server, new or taken over."""

    def __init__(
        self,
        source: str,
        settings: Settings,
        rate: RateClass,
        tags: Watched,
    ) -> None:
        """``tags`` by number: each is an item, whose handle is the tag's number."""
        self.source, self.settings, self.rate, self.tags = source, settings, rate, tags
        self.key = _rate_key(settings, rate)
        self.watched = ""  # its tags, as their items are there; empty while these change
        self.handles: dict[int, int | None] = {PROBE: None}  # to tags; None: let go
        self._name(tags)
        self.id = 0
        self.sequence = 0  # of the last message with data
        self.vouched: int | None = None  # ns, the server's clock
        self.heard = 0.0  # s, the loop's clock
        self.overran = False  # nobody asked for longer than its queues hold
        self.bad: dict[int, int] = {}  # status by tag: nodes that cannot be had for now
        self.publishing_ms = rate.publishing_ms
        self.sampling_ms = rate.sampling_ms  # the slowest of its items
        self.queue_size = settings.queue_size(rate)  # the shortest of its items
        self.keepalive_count = settings.keepalive_count(rate)
        self.lifetime_count = settings.lifetime_count(rate)
        self._items: dict[int, int] = {}  # the server's number of each tag's item
        self._probe = 0

    def _name(self, tags: Iterable[int]) -> None:
        """Give items handles that hold beyond a restart: another address is another handle."""
        for tag in tags:
            ref = self.tags[tag][0]
            handle = int(_digest([ref.id, ref.address])[:8], 16) % MOST_HANDLES
            while handle <= PROBE or self.handles.get(handle) not in (None, tag):
                handle = (handle + 1) % MOST_HANDLES
            self.handles[handle] = tag

    # ---- making it ------------------------------------------------------------------------------

    async def create(self, link: Link, facts: Facts) -> None:
        """Make it, with all items that can be had."""
        parameters = ua.CreateSubscriptionParameters()
        self._ask(parameters)
        parameters.PublishingEnabled = True
        revised = await link.create_subscription(parameters)
        self.id, self.sequence, self._probe = int(revised.SubscriptionId), 0, 0
        self._read_back(revised)
        self._items = {}
        self.sampling_ms, self.queue_size = 0.0, 2**32
        bad = await self._add(link, facts, list(self.tags))
        self.note_bad(bad)
        if len(self.bad) == len(self.tags):
            self.sampling_ms, self.queue_size = self.rate.sampling_ms, 0
        self._tell_revised()

    async def take_over(self, link: Link, kept: Kept, facts: Facts) -> bool:
        """Go on with one that the server still has, after it was transferred to our session.

        Items of tags that are no longer wanted go, others come. False: nobody can say which it has.
        """
        self.id, self.sequence = kept.id, kept.sequence
        self.sampling_ms, self.queue_size = kept.sampling_ms, kept.queue_size
        there = await link.items(self.id)
        self.watched = _watched(self.tags.values())
        if there is None and kept.watched != self.watched:
            await link.delete_subscription(self.id)
            return False
        parameters = ua.ModifySubscriptionParameters()
        parameters.SubscriptionId = ua.IntegerId(self.id)
        self._ask(parameters)
        self._read_back(await link.modify_subscription(parameters))
        self.bad = {tag: BAD_NODE_ID_UNKNOWN for tag in kept.bad if tag in self.tags}
        if there is not None:
            for handle, item in there.items():
                tag = self.handles.setdefault(handle, None)
                if tag is not None:
                    self._items[tag] = item
            gone = [item for handle, item in there.items() if self.handles[handle] is None]
            for some in portions(gone, facts.items_per_call):
                await link.delete_items(self.id, some)
            new = [tag for tag in self.tags if tag not in self._items and tag not in self.bad]
            self.note_bad(await self._add(link, facts, new))
        return True

    async def probe(self, link: Link) -> None:
        """Have it say something soon: the first value of what every server has."""
        request = self._request(PROBE, ua.NodeId(ua.Int32(STARTED)))
        request.RequestedParameters.QueueSize = ua.Counter(1)
        request.RequestedParameters.Filter = None
        (result,) = await link.create_items(self.id, [request])
        self._probe = int(result.MonitoredItemId) if result.StatusCode.is_good() else 0

    async def end_probe(self, link: Link) -> None:
        """It has said something."""
        if self._probe:
            await link.delete_items(self.id, [self._probe])
            self._probe = 0

    async def retune(self, link: Link, facts: Facts, tags: Watched) -> None:
        """Watch these tags from now on, and leave those that stay alone."""
        old = {tag: ref for tag, (ref, _) in self.tags.items()}
        same = {tag for tag, (ref, _) in tags.items()
                if tag in old and old[tag].address == ref.address}  # fmt: skip
        gone = old.keys() - same
        new = tags.keys() - same
        self.handles |= {handle: None for handle, tag in self.handles.items() if tag in gone}
        self.tags, self.watched = tags, ""
        self._name(new)
        for tag in gone:
            self.bad.pop(tag, None)
        items = [self._items.pop(tag) for tag in gone if tag in self._items]
        for some in portions(items, facts.items_per_call):
            await link.delete_items(self.id, some)
        self.note_bad(await self._add(link, facts, sorted(new)))

    def _ask(
        self, parameters: ua.CreateSubscriptionParameters | ua.ModifySubscriptionParameters
    ) -> None:
        parameters.RequestedPublishingInterval = ua.Duration(self.rate.publishing_ms)
        parameters.RequestedLifetimeCount = ua.Counter(self.settings.lifetime_count(self.rate))
        parameters.RequestedMaxKeepAliveCount = ua.Counter(self.settings.keepalive_count(self.rate))
        parameters.MaxNotificationsPerPublish = ua.Counter(MOST_NOTIFICATIONS)

    def _read_back(
        self, revised: ua.CreateSubscriptionResult | ua.ModifySubscriptionResult
    ) -> None:
        self.publishing_ms = float(revised.RevisedPublishingInterval)
        self.keepalive_count = int(revised.RevisedMaxKeepAliveCount)
        self.lifetime_count = int(revised.RevisedLifetimeCount)
        self.heard = asyncio.get_running_loop().time()

    async def retry(self, link: Link, facts: Facts) -> set[int]:
        """Try the bad nodes again; returns those that can be had now."""
        tried = list(self.bad)
        await link.delete_items(self.id, [self._items.pop(t) for t in tried if t in self._items])
        bad = await self._add(link, facts, tried)
        self.note_bad(bad)
        return set(tried) - set(bad)

    async def _add(self, link: Link, facts: Facts, tags: Sequence[int]) -> dict[int, int]:
        """Make items, as many in a call as the server takes; returns the status of the bad ones."""
        self.watched = ""
        nodes = nodes_of(self.tags, facts)
        handles = {tag: handle for handle, tag in self.handles.items() if tag is not None}
        bad = {tag: BAD_NODE_ID_UNKNOWN for tag in tags if tag not in nodes}

        async def make(some: Sequence[int]) -> None:
            items = [self._request(handles[tag], nodes[tag]) for tag in some]
            results = await link.create_items(self.id, items)
            for tag, result in zip(some, results, strict=True):
                if not result.StatusCode.is_good():
                    bad[tag] = result.StatusCode.value
                    continue
                self._items[tag] = int(result.MonitoredItemId)
                self.sampling_ms = max(self.sampling_ms, float(result.RevisedSamplingInterval))
                self.queue_size = min(self.queue_size, int(result.RevisedQueueSize))

        there = [tag for tag in tags if tag in nodes]
        await at_once(make, portions(there, facts.items_per_call))
        self.watched = _watched(self.tags.values())
        return bad

    def _request(self, handle: int, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
        request = ua.MonitoredItemCreateRequest()
        request.ItemToMonitor.NodeId = node
        request.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        request.MonitoringMode = ua.MonitoringMode.Reporting
        parameters = request.RequestedParameters
        parameters.ClientHandle = ua.IntegerId(handle)
        parameters.SamplingInterval = ua.Duration(self.rate.sampling_ms)
        parameters.QueueSize = ua.Counter(self.settings.queue_size(self.rate))
        parameters.DiscardOldest = self.settings.queue_keeps == "newest"
        if self.rate.every_sample:
            trigger = ua.DataChangeTrigger.StatusValueTimestamp
            parameters.Filter = ua.DataChangeFilter(Trigger=trigger)
        return request

    # ---- while it runs --------------------------------------------------------------------------

    @property
    def patience_s(self) -> float:
        """How long it may be silent: its own sign of life, and an answer's time."""
        keepalive_s = self.publishing_ms * self.keepalive_count / 1000
        return min(keepalive_s + self.settings.timeout_s, self.settings.lifetime_s)

    @property
    def probe_s(self) -> float:
        """How long it may be silent after it was taken over, and given something to say."""
        if not self._probe:
            return self.patience_s
        return min(self.publishing_ms / 1000 + self.settings.timeout_s, self.patience_s)

    @property
    def holds_s(self) -> float:
        """How much of each value the server's queues hold for certain.

        A server that does not look at values but is told of them (asyncua's) may get them as fast
        as was asked for, whatever it says.
        """
        fastest_ms = min(self.sampling_ms or self.rate.sampling_ms, self.rate.sampling_ms)
        return self.queue_size * fastest_ms / 1000

    @property
    def bridged_s(self) -> float:
        """How long it can wait for us: its queues hold, and it lives, as the server revised it."""
        sampling_ms = self.sampling_ms or self.rate.sampling_ms
        queue_ms = self.queue_size * sampling_ms - 2 * self.publishing_ms
        return max(min(queue_ms, self.lifetime_count * self.publishing_ms / 2) / 1000, 0)

    def vouch(self, published: int) -> None:
        """A message without a follower came: everything up to a little before is known.

        A clock that was set back is followed.
        """
        on_the_way_ms = self.sampling_ms + self.settings.source_delay_ms
        until = published - round(on_the_way_ms * 1_000_000)
        back = self.vouched is None or published < self.vouched
        self.vouched = until if back else max(self.vouched or 0, until)

    def note_bad(self, bad: Mapping[int, int], *, good: Iterable[int] = ()) -> None:
        """Nodes that cannot be had, and such that can again: said once, when it changes."""
        changed = {tag: code for tag, code in bad.items() if self.bad.get(tag) != code}
        recovered = [tag for tag in good if tag in self.bad]
        for tag in recovered:
            del self.bad[tag]
        self.bad.update(bad)
        if changed:
            logger.warning(
                "Source %s: %d nodes cannot be watched, the others are: %s. They are tried again "
                "every %g s.",
                *(self.source, len(changed), self._named(changed), self.settings.retry_s),
            )
        if recovered:
            names = shortened([self.tags[tag][0].address for tag in recovered])
            logger.info("Source %s: watches again %s.", self.source, names)

    def bad_text(self) -> str:
        """The bad nodes and why, for people."""
        return self._named(self.bad)

    def _named(self, bad: Mapping[int, int]) -> str:
        name = ua.StatusCode
        return shortened(
            [f"{self.tags[t][0].address} ({name(ua.UInt32(c)).name})" for t, c in bad.items()]
        )

    def kept(self) -> Kept:
        """What to take it over by, later."""
        return Kept(
            key=self.key,
            watched=self.watched,
            id=self.id,
            sequence=self.sequence,
            sampling_ms=self.sampling_ms,
            queue_size=self.queue_size,
            bad=tuple(self.bad),
        )

    def status(self) -> dict[str, float]:
        """What the server made of what was asked for."""
        return {
            "sampling_ms": self.sampling_ms,
            "publishing_ms": self.publishing_ms,
            "queue_size": self.queue_size,
            "keepalive_count": self.keepalive_count,
            "lifetime_count": self.lifetime_count,
            "items": len(self.tags) - len(self.bad),
        }

    def _tell_revised(self) -> None:
        """Say what the server made otherwise than asked."""
        got = self.status()
        asked = {
            "sampling_ms": self.rate.sampling_ms,
            "publishing_ms": self.rate.publishing_ms,
            "queue_size": self.settings.queue_size(self.rate),
            "keepalive_count": self.settings.keepalive_count(self.rate),
            "lifetime_count": self.settings.lifetime_count(self.rate),
        }
        other = [f"{name} {got[name]:g} for {asked[name]:g}" for name in asked
                 if got[name] != asked[name]]  # fmt: skip
        if other and len(self.bad) < len(self.tags):
            logger.warning(
                "Source %s: the server revised what was asked for: %s.",
                *(self.source, ", ".join(other)),
            )


def nodes_of(tags: Watched, facts: Facts) -> dict[int, ua.NodeId]:
    """The nodes of the tags of which the server has the namespace."""
    found = {}
    for tag, (_, address) in tags.items():
        index = index_of(address, facts.namespaces)
        if index is not None:
            identifier: Any = address.identifier
            found[tag] = ua.NodeId(identifier, ua.Int16(index))
    return found


def _rate_key(settings: Settings, rate: RateClass) -> str:
    """Tells whether a kept subscription is of the rate class that would be made now."""
    rated = [rate.sampling_ms, rate.publishing_ms, rate.every_sample, settings.queue_size(rate)]
    return _digest([*rated, settings.queue_keeps])


def _watched(tags: Iterable[tuple[TagRef, Address]]) -> str:
    """Tells whether the tags and their addresses are those of before."""
    return _digest(sorted((tag.id, tag.address) for tag, _ in tags))


def _digest(of: Any) -> str:
    return hashlib.sha256(json.dumps(of).encode()).hexdigest()[:16]
