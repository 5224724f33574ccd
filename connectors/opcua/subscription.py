"""One subscription: the tags of one rate class, and until when the server vouches for them.

A message vouches for the values it does not speak of, too: up to the time it was published, less
the time that a sample may be on its way into the server's queue. A value that changes right after
it was looked at is stamped then, and found a sampling interval later, in a later message.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from asyncua import ua

from connectors.contract import TagRef
from connectors.opcua.link import Facts, Link
from connectors.opcua.nodes import Address, index_of
from connectors.opcua.progress import Kept
from connectors.opcua.settings import RateClass, Settings
from connectors.opcua.values import BAD_NODE_ID_UNKNOWN

logger = logging.getLogger(__name__)

MOST_NOTIFICATIONS = 10_000  # a message: about 1 MB, and what bounds the memory of waiting answers
MOST_NAMED = 20  # nodes named in one log line or status text


class Subscription:
    """A subscription on a server, new or taken over."""

    def __init__(
        self,
        source: str,
        settings: Settings,
        rate: RateClass,
        tags: Mapping[int, tuple[TagRef, Address]],
    ) -> None:
        """``tags`` by number: each is an item, whose handle is the tag's number."""
        self.source, self.settings, self.rate, self.tags = source, settings, rate, tags
        self.key = _digest(settings, rate, tags.values())
        self.id = 0
        self.sequence = 0  # of the last message with data
        self.vouched: int | None = None  # ns, the server's clock
        self.heard = 0.0  # s, the loop's clock
        self.bad: dict[int, int] = {}  # status by tag: nodes that cannot be had for now
        self.publishing_ms = rate.publishing_ms
        self.sampling_ms = rate.sampling_ms  # the slowest of its items
        self.queue_size = settings.queue_size(rate)  # the shortest of its items
        self.keepalive_count = settings.keepalive_count(rate)
        self.lifetime_count = settings.lifetime_count(rate)
        self._items: dict[int, int] = {}  # the server's number of each tag's item

    # ---- making it ------------------------------------------------------------------------------

    async def create(self, link: Link, facts: Facts) -> None:
        """Make it, with all items that can be had."""
        parameters = ua.CreateSubscriptionParameters()
        self._ask(parameters)
        parameters.PublishingEnabled = True
        revised = await link.create_subscription(parameters)
        self.id = int(revised.SubscriptionId)
        self._read_back(revised)
        self.sampling_ms, self.queue_size = 0.0, 2**32
        bad = await self._add(link, facts, list(self.tags))
        self.note_bad(bad)
        if len(self.bad) == len(self.tags):
            self.sampling_ms, self.queue_size = self.rate.sampling_ms, 0
        self._tell_revised()

    async def take_over(self, link: Link, kept: Kept) -> None:
        """Go on with one that the server still has, after it was transferred to our session."""
        self.id, self.sequence = kept.id, kept.sequence
        self.sampling_ms, self.queue_size = kept.sampling_ms, kept.queue_size
        self.bad = dict.fromkeys(kept.bad, BAD_NODE_ID_UNKNOWN)
        parameters = ua.ModifySubscriptionParameters()
        parameters.SubscriptionId = ua.IntegerId(self.id)
        self._ask(parameters)
        self._read_back(await link.modify_subscription(parameters))

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
        bad = {}
        known = {}
        for tag in tags:
            index = index_of(self.tags[tag][1], facts.namespaces)
            if index is None:
                bad[tag] = BAD_NODE_ID_UNKNOWN
            else:
                known[tag] = index
        for some in _portions(list(known), facts.items_per_call):
            items = [self._item(tag, known[tag]) for tag in some]
            results = await link.create_items(self.id, items)
            for tag, result in zip(some, results, strict=True):
                if not result.StatusCode.is_good():
                    bad[tag] = result.StatusCode.value
                    continue
                self._items[tag] = int(result.MonitoredItemId)
                self.sampling_ms = max(self.sampling_ms, float(result.RevisedSamplingInterval))
                self.queue_size = min(self.queue_size, int(result.RevisedQueueSize))
        return bad

    def _item(self, tag: int, namespace: int) -> ua.MonitoredItemCreateRequest:
        request = ua.MonitoredItemCreateRequest()
        identifier: Any = self.tags[tag][1].identifier
        request.ItemToMonitor.NodeId = ua.NodeId(identifier, ua.Int16(namespace))
        request.ItemToMonitor.AttributeId = ua.AttributeIds.Value
        request.MonitoringMode = ua.MonitoringMode.Reporting
        parameters = request.RequestedParameters
        parameters.ClientHandle = ua.IntegerId(tag)
        parameters.SamplingInterval = ua.Duration(self.rate.sampling_ms)
        parameters.QueueSize = ua.Counter(self.settings.queue_size(self.rate))
        parameters.DiscardOldest = True
        if self.rate.every_sample:
            trigger = ua.DataChangeTrigger.StatusValueTimestamp
            parameters.Filter = ua.DataChangeFilter(Trigger=trigger)
        return request

    # ---- while it runs --------------------------------------------------------------------------

    @property
    def patience_s(self) -> float:
        """How long it may be silent: its own sign of life, and an answer's time."""
        keepalive_s = self.publishing_ms * self.keepalive_count / 1000
        return keepalive_s + self.settings.timeout_s

    def vouch(self, published: int) -> None:
        """A message without a follower came: everything up to a little before is known."""
        on_the_way_ms = self.sampling_ms + self.settings.source_delay_ms
        until = published - round(on_the_way_ms * 1_000_000)
        self.vouched = until if self.vouched is None else max(self.vouched, until)

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
            names = _shortened([self.tags[tag][0].address for tag in recovered])
            logger.info("Source %s: watches again %s.", self.source, names)

    def bad_text(self) -> str:
        """The bad nodes and why, for people."""
        return self._named(self.bad)

    def _named(self, bad: Mapping[int, int]) -> str:
        name = ua.StatusCode
        return _shortened(
            [f"{self.tags[t][0].address} ({name(ua.UInt32(c)).name})" for t, c in bad.items()]
        )

    def kept(self) -> Kept:
        """What to take it over by, later."""
        return Kept(
            key=self.key,
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


def _digest(settings: Settings, rate: RateClass, tags: Iterable[tuple[TagRef, Address]]) -> str:
    """Tells whether a kept subscription is the one that would be made now."""
    rated = [rate.sampling_ms, rate.publishing_ms, rate.every_sample, settings.queue_size(rate)]
    watched = sorted((tag.id, tag.address) for tag, _ in tags)
    return hashlib.sha256(json.dumps([rated, watched]).encode()).hexdigest()[:16]


def _portions(tags: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(tags), size):
        yield tags[start : start + size]


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
