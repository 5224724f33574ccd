"""What each topic is for: addresses to topics, topics to the rule that fits."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from connectors.contract import RefusedError, TagRef
from connectors.mqtt.settings import LONGEST, Rule
from connectors.payloads.forms import Form, Wanted

FORBIDDEN = re.compile("[+\0\ud800-\udfff]")  # the last are halves of characters: no UTF-8


def wanted_of(tags: Sequence[TagRef], *, connector: str) -> Mapping[str, tuple[Wanted, ...]]:
    """The tags of each topic. Raises RefusedError for an address that is no topic."""
    found: dict[str, list[Wanted]] = defaultdict(list)
    for tag in tags:
        topic, hash_, key = tag.address.partition("#")
        if (
            not topic
            or FORBIDDEN.search(topic)
            or topic.startswith("$share/")  # its messages carry another topic, and others take some
            or len(topic.encode()) > LONGEST
        ):
            raise RefusedError(
                f"{connector}: {tag.address[:80]!r} is no address: want a topic without wildcards, "
                "or topic#member of its JSON object",
                connector=connector,
            )
        if hash_ and not key:
            raise RefusedError(
                f"{connector}: {tag.address[:80]!r} names no member behind #", connector=connector
            )
        found[topic].append(Wanted(tag.id, key or None, tag.unit))
    return {topic: tuple(wanted) for topic, wanted in found.items()}


def rule_of(topic: str, rules: Sequence[Rule]) -> Form:
    """The first rule that fits a topic; where none does, any JSON."""
    return next((rule for rule in rules if fits(rule.topic, topic)), Form())


def fits(filter_: str, topic: str) -> bool:
    """Whether a topic filter means this topic; MQTT 5, 4.7."""
    if topic.startswith("$") and filter_[:1] in ("+", "#"):
        return False
    wanted, given = filter_.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        return len(given) >= len(wanted) and _same(wanted, given[: len(wanted)])
    return len(given) == len(wanted) and _same(wanted, given)


def _same(wanted: Sequence[str], given: Sequence[str]) -> bool:
    return all(level in ("+", name) for level, name in zip(wanted, given, strict=True))
