"""How long does the whole service take: from a sample to its score, a webhook, a database?

A publisher in a process of its own stamps samples with its clock as it sends them through a real
broker, and now and then plants one beyond a plain limit. All processes share one clock.

* to the score: from the instant of a frame until its score is committed;
* to the webhook: from the stamp of a sample beyond the limit until the receiver has the message;
* to the database: from the instant of a frame until VictoriaMetrics confirmed its point.

A frame closes with the next sample of its machine: what is ours is counted from that one's stamp.

    python benchmarks/latency.py [--quick] [--json FILE]
"""

import argparse
import contextlib
import gzip
import json
import tempfile
import threading
import time
import urllib.error
import urllib.request
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from _machine import RESULTS, table, write
from _service import (
    HERE,
    broker,
    child,
    free_port,
    mosquitto_or_stop,
    plant,
    program,
    server,
    service,
)

CHANNELS = 5  # of a machine, in one message
LIMIT, BEYOND = 100.0, 500.0  # where the others are at 50
LATENESS_MS = 0
AIM_MS = 250  # that a webhook may take beyond tick and lateness
MS, US = 1_000_000, 1000  # ns
LOOK_S = 0.002  # how often it is asked whether the store has something new
WARM_S = 3.0  # what is sent before does not count: the service has just begun
SETTLE_S = 3.0  # after the last sample: what is not there by then does not come
FORWARD_S = 10.0
PATIENCE_S = 60.0
SECRET = "whsec_" + "A" * 32
Found = dict[str, float]
Seen = dict[tuple[str, int], int]  # asset and tick, ns: when it was there


@dataclass(frozen=True, slots=True)
class Case:
    """So many samples a second, five to a message; each machine sends once a tick."""

    samples: int  # a second
    tick_ms: int
    seconds: float
    crossing: int  # every so many messages one is beyond the limit

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.samples:,} samples a second, tick {self.tick_ms:,} ms"

    @property
    def machines(self) -> int:
        """As many as it takes."""
        return self.samples * self.tick_ms // (CHANNELS * 1000)


# How often: about three a second, so that the same machine is not its own neighbour
CROSSINGS = {100: 7, 1000: 51, 5000: 251}
CASES = tuple(
    Case(samples, tick_ms, 43.0, crossing)
    for tick_ms in (1000, 100)
    for samples, crossing in CROSSINGS.items()
)
QUICK_CASES = (Case(100, 100, 6.0, 7),)


# ---- the publisher ---------------------------------------------------------------------------


@dataclass(slots=True)
class Published:
    """What was sent: the stamps of each machine, and which of them were beyond the limit; ns."""

    stamps: dict[str, list[int]] = field(default_factory=dict)
    crossings: list[tuple[str, int]] = field(default_factory=list)


def publisher(line: Connection, port: int, case: Case) -> None:
    """Sends for as long as the case says, once it is told to; tells what it sent."""
    from paho.mqtt.client import Client, MQTTv5  # noqa: PLC0415 - not in the other processes
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415 - as above

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.max_inflight_messages_set(1000)
    client.connect(HERE, port)
    client.loop_start()
    last = f"plant/a{case.machines - 1}"
    client.publish(last, payload(time.time_ns(), 50.0), qos=1, retain=True)
    line.send("ready")
    line.recv()
    sent = Published()
    noise = (50.0 + np.random.default_rng(5).normal(size=4096)).round(4).tolist()
    apart = case.tick_ms * MS // case.machines
    start = (time.time_ns() // (case.tick_ms * MS) + 1) * case.tick_ms * MS + apart // 2
    for number in range(round(case.seconds * 1000 / case.tick_ms) * case.machines):
        time.sleep(max(0, start + number * apart - time.time_ns()) / 1e9)
        name = f"a{number % case.machines}"
        counts = number * apart >= WARM_S * 1e9
        beyond = counts and number % case.crossing == 0
        stamp = time.time_ns() // US * US
        value = BEYOND if beyond else noise[number % len(noise)]
        client.publish(f"plant/{name}", payload(stamp, value), qos=1)
        if counts:
            sent.stamps.setdefault(name, []).append(stamp)
        if beyond:
            sent.crossings.append((name, stamp))
    line.send(sent)
    line.recv()
    client.disconnect()


def payload(stamp: int, value: float) -> bytes:
    """A message: its stamp in microseconds."""
    return json.dumps({"ts": stamp // US} | {f"c{n}": value for n in range(CHANNELS)}).encode()


# ---- those who look --------------------------------------------------------------------------


def onlooker(line: Connection, folder: Path) -> None:
    """Looks into the store of the service; tells when which score was there, once it is asked."""
    from monitor.state.database import DatabaseReader  # noqa: PLC0415 - as above
    from monitor.state.names import Family, Names  # noqa: PLC0415 - as above
    from monitor.state.store import read_scores  # noqa: PLC0415 - as above

    seen: Seen = {}
    with DatabaseReader(folder) as reader:
        names = Names(reader).of(Family.ASSET)
        version = last = 0
        line.send("ready")
        while not line.poll(LOOK_S):
            ((now,),) = reader.query("PRAGMA data_version")
            if now == version:
                continue
            version, there = now, time.time_ns()
            blocks = reader.query(
                "SELECT id, kind, body FROM score_block WHERE id > ? ORDER BY id", (last,)
            )
            for number, kind, body in blocks:
                last, scores = number, read_scores(number, kind, body)
                for asset, tick in zip(scores.asset.tolist(), scores.tick.tolist(), strict=True):
                    seen.setdefault((names[asset], tick), there)
    if line.recv() is not None:
        line.send(seen)
        line.recv()


class Receiver:
    """Takes webhooks, and hands on what is written to a database; notes when."""

    def __init__(self, database: str | None) -> None:
        self.raised: Seen = {}
        self.points: Seen = {}
        self._database = database
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                came = time.time_ns()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 204
                if self.path == "/hook":
                    receiver.hook(body, came)
                else:
                    status = receiver.write(self.path, body, dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HERE, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HERE}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def hook(self, body: bytes, came: int) -> None:
        """A message of an alarm."""
        said = json.loads(body)["data"]
        if said["transition"] == "raised" and said["point"].startswith("c0"):
            self.raised.setdefault((said["asset"], said["time_ns"]), came)

    def write(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Lines for the database: what it answers, and when it did so."""
        request = urllib.request.Request(f"{self._database}{path}", body, headers)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=FORWARD_S) as answer:  # noqa: S310 - as above
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        there = time.time_ns()
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for text in body.decode().splitlines():
            series, _, stamp = text.rsplit(" ", 2)
            measurement, *tags = series.split(",")
            if measurement == "asset_score":
                asset = dict(tag.split("=", 1) for tag in tags)["asset"]
                self.points.setdefault((asset, int(stamp)), there)
        return status

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def database(folder: Path) -> Iterator[str | None]:
    """VictoriaMetrics, where it is installed: its address."""
    found = program("victoria-metrics")
    if found is None:
        yield None
        return
    port = free_port()
    command = [found, f"-storageDataPath={folder}", f"-httpListenAddr={HERE}:{port}"]
    with server(command, port):
        yield f"http://{HERE}:{port}"


# ---- one case --------------------------------------------------------------------------------


def measured(case: Case) -> dict[str, Found]:
    """Milliseconds of each way: p50, p99 and the most, and how many there were."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(broker(folder / "broker"))
        address = stack.enter_context(database(folder / "database"))
        receiver = Receiver(address)
        stack.callback(receiver.close)
        file = plant_of(case, folder / "plant", port, receiver.url, points=address is not None)
        feed = stack.enter_context(child(publisher, port, case))
        stack.enter_context(child(service, file, 1))
        looking = stack.enter_context(child(onlooker, file.parent / "data"))
        feed.line.send("go")
        sent: Published = feed.hear(case.seconds + PATIENCE_S)
        time.sleep(SETTLE_S)
        looking.line.send("tell")
        scores: Seen = looking.hear()
    return ways(case, sent, scores, receiver)


def plant_of(case: Case, folder: Path, port: int, url: str, *, points: bool) -> Path:
    """Machines of five channels, the first with a limit."""
    limits = {"aggregate": "max", "limits": {"high": LIMIT}}
    sinks: dict[str, object] = {
        "hook": {"type": "webhook", "url": f"{url}/hook", "secret_file": "secret"}
    }
    if points:
        sinks["database"] = {"type": "influxdb", "url": url, "bucket": "bench"}
    kind = {
        "tick_ms": case.tick_ms,
        "lateness_ms": LATENESS_MS,
        "channels": {"c0": limits} | {f"c{n}": {} for n in range(1, CHANNELS)},
    }
    machine = {"kind": "pump", "source": "line", "address": "plant/{asset}#{tag}"}
    file = plant(
        folder,
        kind,
        sources={"line": {"type": "mqtt", "host": HERE, "port": port, "client_id": "service"}},
        assets={f"a{number}": machine for number in range(case.machines)},
        sinks=sinks,
    )
    (folder / "secret").write_text(SECRET, encoding="utf-8")
    return file


def ways(case: Case, sent: Published, scores: Seen, receiver: Receiver) -> dict[str, Found]:
    """How long each way took, from the event and from the sample that closed its frame."""
    tick = case.tick_ms * MS

    def closing(asset: str, instant: int) -> int | None:
        """The stamp of the first sample beyond a frame's instant."""
        stamps = sent.stamps.get(asset, [])
        place = bisect_right(stamps, instant)
        return stamps[place] if place < len(stamps) else None

    def both(starts: Iterable[tuple[str, int, int]], there: Seen) -> tuple[list[int], list[int]]:
        """Of (asset, frame, start): nanoseconds from the start, and from the closing sample."""
        whole, ours = [], []
        for asset, instant, start in starts:
            closed, came = closing(asset, instant), there.get((asset, instant))
            if closed is not None and came is not None:
                whole.append(came - start)
                ours.append(came - closed)
        return whole, ours

    def frame_of(stamp: int) -> int:
        return -(-stamp // tick) * tick

    known = {(asset, frame_of(one)) for asset, stamps in sent.stamps.items() for one in stamps}
    frames = [(asset, frame, frame) for asset, frame in known]
    crossings = [(asset, frame_of(stamp), stamp) for asset, stamp in sent.crossings]
    found = {}
    for name, starts, there in (
        ("score", frames, scores),
        ("webhook", crossings, receiver.raised),
        ("database", frames, receiver.points),
    ):
        due = sum(closing(asset, frame) is not None for asset, frame, _ in starts)
        whole, ours = both(starts, there)
        found[name] = spread(whole, due) | {f"ours_{k}": v for k, v in spread(ours, due).items()}
    return found


def spread(times: Sequence[int], due: int) -> Found:
    """Of nanoseconds: milliseconds at the median, the 99th percentile and the end; how many."""
    if not times:
        return {"count": 0, "due": due}
    p50, p99, most = np.percentile(times, [50, 99, 100]) / MS
    return {"p50_ms": p50, "p99_ms": p99, "most_ms": most, "count": len(times), "due": due}


# ---- the tables ------------------------------------------------------------------------------


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small and once: does it still run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    mosquitto_or_stop()
    cases = QUICK_CASES if given.quick else CASES
    found = {case.name: measured(case) for case in cases}
    for way in ("score", "webhook", "database"):
        rows = [
            [case.name, *cells(found[case.name][way])]
            + ([f"{case.tick_ms + LATENESS_MS + AIM_MS:,}"] if way == "webhook" else [])
            for case in cases
        ]
        if not any(each[way]["count"] for each in found.values()):
            print(f"To the {way}: nothing came there.\n")
            continue
        head = [f"ms to the {way}", "p50", "p99", "most", "ours: p50", "p99", "most", "of"]
        print(table([*head, *(["aim: p99"] if way == "webhook" else [])], rows), end="\n\n")
    if given.json or not given.quick:
        path = given.json or RESULTS / "latency.json"
        write(path, {"set": "latency", "lateness_ms": LATENESS_MS, "ways": found})


def cells(found: Found) -> list[str]:
    """The figures of one way."""
    names = [f"{whose}{what}_ms" for whose in ("", "ours_") for what in ("p50", "p99", "most")]
    shown = [f"{found[name]:,.0f}" if name in found else "" for name in names]
    return [*shown, f"{found['count']:,.0f} of {found['due']:,.0f}"]


if __name__ == "__main__":
    main()
