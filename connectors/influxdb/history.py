"""What others wrote into an InfluxDB, read back by InfluxQL: all series in one order of time.

A stretch of time is read at once, field by field, sorted, and cut into batches; a stretch with
nothing in it is left by asking for the next stamp after it.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel

from connectors.batch import F64, GOOD, I32, I64, Flag, Notice, NoticeKind, Samples
from connectors.contract import NotReadyError, RefusedError, TagRef
from connectors.http import host_of, plain, retry_after_s, trust
from connectors.influxdb.series import TYPES, Series, selection
from connectors.influxdb.settings import ReadingSettings
from connectors.secrets import read_secret

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

EARLIEST, LATEST = -(2**63) + 2, 2**63 - 2  # the stamps InfluxDB knows, ns since 1970 UTC
ROWS = 10_000  # in one piece of an answer
NO_ANSWER = "its answer is not InfluxQL's; is it an InfluxDB?"
SHOWN = 5  # names in a warning
OK, UNAUTHORIZED, FORBIDDEN, TOO_MANY, SERVERS_FAULT = 200, 401, 403, 429, 500

Group = tuple[str, tuple[tuple[str, str], ...]]  # measurement and tags: what one query asks for


@dataclass(slots=True)
class _Wanted:
    """One address, the tags it feeds, and which series it turned out to be."""

    place: int  # in the order of the tags asked for
    tags: list[TagRef]
    series: Series
    found: Mapping[str, str] | None = None


@dataclass(slots=True)
class _Stretch:
    """What was read of one stretch of time, series after series."""

    place: list[I64] = field(default_factory=list)
    tag: list[I32] = field(default_factory=list)
    time: list[I64] = field(default_factory=list)
    value: list[F64] = field(default_factory=list)
    texts: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # tag -> count

    def add(self, wanted: _Wanted, time: I64, value: F64) -> None:
        """Samples of one address, in ns since 1970 UTC."""
        for tag in wanted.tags:
            self.place.append(np.full(len(time), wanted.place))
            self.tag.append(np.full(len(time), tag.id, np.int32))
            self.time.append(time)
            self.value.append(value)


class History:
    """Reads (since, until] in order of time. A sample is good, or it is not there."""

    Settings: ClassVar[type[BaseModel]] = ReadingSettings

    def __init__(self, name: str, settings: ReadingSettings, tags: Sequence[TagRef]) -> None:
        self.name = name
        self._settings = settings
        self._tags = tags
        self._shift = (settings.interval_ms or 0) * 1_000_000 * (settings.stamp == "start")  # ns

    def read(
        self, *, since: int | None = None, until: int | None = None
    ) -> Iterator[Samples | Notice]:
        """See History of the contract. Values that are no numbers are counted as rejected."""
        begin = EARLIEST if since is None else max(EARLIEST, since - self._shift)
        end = LATEST if until is None else min(LATEST, until - self._shift)
        groups = self._groups()
        if not groups:
            return
        with self._client() as client:
            yield from self._stretches(client, groups, begin, end)
        unseen = [w.tags[0].address for group in groups.values() for w in group if w.found is None]
        if unseen:
            more = f" and {len(unseen) - SHOWN} more" if len(unseen) > SHOWN else ""
            log.warning("%s: nothing found of %s%s.", self.name, ", ".join(unseen[:SHOWN]), more)

    def _stretches(
        self, client: "httpx.Client", groups: Mapping[Group, list[_Wanted]], begin: int, end: int
    ) -> Iterator[Samples | Notice]:
        step = round(self._settings.chunk_hours * 3600e9)
        first = self._first(client, groups, begin, end)
        while first is not None:
            begin = first - 1
            stop = min(begin + step, end)
            stretch = self._stretch(client, groups, begin, stop)
            yield from self._batches(stretch)
            yield from self._rejected(stretch, begin, stop)
            begin = stop
            # The next stretch follows at once where this one was full of samples.
            first = begin + 1 if stretch.time else self._first(client, groups, begin, end)
            first = first if begin < end else None

    def _stretch(
        self, client: "httpx.Client", groups: Mapping[Group, list[_Wanted]], begin: int, end: int
    ) -> _Stretch:
        """Everything in (begin, end] as it is stamped there."""
        stretch = _Stretch()
        for group, wanted in groups.items():
            for series in self._answer(
                client, self._query(group, wanted, begin, end, "GROUP BY *")
            ):
                self._take(stretch, wanted, series)
        return stretch

    def _take(self, stretch: _Stretch, group: Sequence[_Wanted], series: Mapping[str, Any]) -> None:
        """One piece of one series: a stamp and the group's fields in each row, by TYPES."""
        stamps, *columns = zip(*series["values"], strict=True)
        time = np.array(stamps, np.int64) + self._shift
        tags = {key: value for key, value in series.get("tags", {}).items() if value}
        per_field = [columns[n : n + len(TYPES)] for n in range(0, len(columns), len(TYPES))]
        for wanted, (numbers, states, texts) in zip(group, per_field, strict=True):
            number, state = np.array(numbers, np.float64), np.array(states, np.float64)
            value = np.where(np.isnan(number), state, number)  # nothing: NaN; true and false: 1, 0
            there = ~np.isnan(value)
            unread = len(texts) - texts.count(None)
            if unread or there.any():
                self._check_same(wanted, tags)
            for tag in wanted.tags if unread else ():
                stretch.texts[tag.id] += unread
            if there.any():
                stretch.add(wanted, time[there], value[there])

    def _check_same(self, wanted: _Wanted, tags: Mapping[str, str]) -> None:
        """An address is one series: two would be mixed into one signal. Raises RefusedError."""
        own = {key: value for key, value in tags.items() if key not in wanted.series.any_of}
        if wanted.found is None:
            wanted.found = own
        if wanted.found != own:
            differing = sorted(
                key for key in {*own, *wanted.found} if own.get(key) != wanted.found.get(key)
            )
            key = differing[0]
            raise RefusedError(
                f"{self.name}: {wanted.tags[0].address!r} is several series, which differ in "
                f"{', '.join(differing)}: {key}={wanted.found.get(key, '')!r} and "
                f"{key}={own.get(key, '')!r}. Say which in the address, as {{{key}=...}}, or "
                f"{{{key}=*}} where they are one",
                connector=self.name,
            )

    def _batches(self, stretch: _Stretch) -> Iterator[Samples]:
        if not stretch.time:
            return
        time, place = np.concatenate(stretch.time), np.concatenate(stretch.place)
        order = np.lexsort((place, time))
        tag, value = np.concatenate(stretch.tag), np.concatenate(stretch.value)
        rows = self._settings.batch_rows
        for start in range(0, len(order), rows):
            some = order[start : start + rows]
            yield Samples(
                source=self.name,
                tag=tag[some],
                time=time[some],
                value=value[some],
                status=np.full(len(some), GOOD, np.uint32),
                flags=np.full(len(some), Flag.REPLAYED, np.uint8),
            )

    def _rejected(self, stretch: _Stretch, begin: int, end: int) -> Iterator[Notice]:
        if stretch.texts:
            yield Notice(
                source=self.name,
                kind=NoticeKind.REJECTED,
                since=begin + self._shift,
                until=end + self._shift,
                tags=tuple(stretch.texts),
                reason="value not a number",
                count=sum(stretch.texts.values()),
            )

    def _first(
        self, client: "httpx.Client", groups: Mapping[Group, list[_Wanted]], begin: int, end: int
    ) -> int | None:
        """The first stamp in (begin, end]; None: there is nothing."""
        stamps = [
            series["values"][0][0]
            for group, wanted in groups.items()
            for series in self._answer(
                client, self._query(group, wanted, begin, end, "ORDER BY time LIMIT 1")
            )
        ]
        return min(stamps, default=None)

    def _query(
        self, group: Group, wanted: Sequence[_Wanted], begin: int, end: int, rest: str
    ) -> str:
        measurement, tags = group
        query = selection(
            measurement,
            [one.series.field for one in wanted],
            tags,
            retention_policy=self._settings.retention_policy,
            since=begin,
            until=end,
        )
        return f"{query} {rest}"

    def _groups(self) -> dict[Group, list[_Wanted]]:
        """The addresses, those that differ only in their field together. Raises RefusedError."""
        groups: dict[Group, list[_Wanted]] = {}
        known: dict[Series, _Wanted] = {}
        for place, tag in enumerate(self._tags):
            try:
                series = Series.of(tag.address)
            except ValueError as error:
                raise RefusedError(
                    f"{self.name}: address {tag.address!r}: {error}", connector=self.name
                ) from None
            if series in known:
                known[series].tags.append(tag)
                continue
            known[series] = _Wanted(place, [tag], series)
            groups.setdefault((series.measurement, series.tags), []).append(known[series])
        return groups

    def _client(self) -> "httpx.Client":
        import httpx  # noqa: PLC0415 - only where there is one

        settings = self._settings
        secret = read_secret(
            "token", file=settings.token_file, env=settings.token_env, connector=self.name
        )
        token = secret.get_secret_value() if secret else None
        by_user = token is not None and settings.username is not None
        return httpx.Client(
            base_url=settings.url,
            auth=httpx.BasicAuth(settings.username or "", token or "") if by_user else None,
            headers={"Authorization": f"Token {token}"} if token and not by_user else None,
            timeout=settings.timeout_s,
            verify=trust(settings.ca_file, connector=self.name),
            trust_env=False,  # what is configured is what is used
        )

    def _answer(self, client: "httpx.Client", query: str) -> Iterator[Mapping[str, Any]]:
        """The pieces of all series of an answer. Raises NotReadyError, RefusedError."""
        import httpx  # noqa: PLC0415 - as above
        import msgspec  # noqa: PLC0415

        asked = {"db": self._settings.database, "epoch": "ns", "q": query}
        try:
            with client.stream(
                "GET", "query", params=asked | {"chunked": "true", "chunk_size": str(ROWS)}
            ) as response:
                if response.status_code != OK:
                    response.read()
                    raise self._meaning(response)
                for line in response.iter_lines():
                    yield from self._series(msgspec.json.decode(line))
        except msgspec.DecodeError:
            raise self._refused(NO_ANSWER) from None
        except httpx.HTTPError as error:
            raise NotReadyError(
                f"{self.name}: no connection to {host_of(self._settings.url)}: {plain(error)}. "
                "Check that the server is up and the address is right",
                connector=self.name,
            ) from error

    def _series(self, document: Any) -> Iterator[Mapping[str, Any]]:
        """The series of one piece of an answer; an error stands where they would. RefusedError."""
        results = document.get("results", ()) if isinstance(document, dict) else ()
        for result in (document, *results):
            if not isinstance(result, dict):
                raise self._refused(NO_ANSWER)
            if "error" in result:
                raise self._refused(f"{result['error']}; correct the setting that it speaks of")
        for result in results:
            yield from (series for series in result.get("series", ()) if series["values"])

    def _meaning(self, response: "httpx.Response") -> NotReadyError | RefusedError:
        """What an answer that is no success asks of us."""
        status = response.status_code
        if status == TOO_MANY or status >= SERVERS_FAULT:
            return NotReadyError(
                f"{self.name}: {host_of(self._settings.url)} answers {status}",
                connector=self.name,
                retry_after_s=retry_after_s(response.headers.get("Retry-After"), now_s=time.time()),
            )
        if status in (UNAUTHORIZED, FORBIDDEN):
            return self._refused(
                f"answers {status}; want a token, or username and password, that may read"
            )
        try:
            reason = response.json()["error"]
        except (ValueError, KeyError, TypeError):
            reason = "no reason given; is the address right?"
        return self._refused(f"answers {status}: {reason}")

    def _refused(self, why: str) -> RefusedError:
        return RefusedError(
            f"{self.name}: {host_of(self._settings.url)}, database {self._settings.database!r}: "
            f"{why}",
            connector=self.name,
        )
