"""A network of a test's own: a namespace behind a cable that can be pulled, or lose packets."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.servers import program

BENCHMARKING = 198 << 24 | 18 << 16  # 198.18.0.0/15, RFC 2544: nobody's
SUBNETS = 1 << 15  # of four addresses


@dataclass(frozen=True, slots=True)
class Network:
    """A namespace, and the address at which it is found from here."""

    namespace: str
    host: str

    @property
    def where(self) -> dict[str, str]:
        """For a server."""
        return {"host": self.host, "namespace": self.namespace}

    def pull(self) -> None:
        """The cable is out."""
        self._ip("link", "set", "far", "down")

    def plug(self) -> None:
        """The cable is in."""
        self._ip("link", "set", "far", "up")

    def drop(self, percent: int) -> None:
        """So many of a hundred packets are lost, each way."""
        chains = (
            f"chain {way} {{ type filter hook {way} priority 0;"
            f' {name} "far" numgen random mod 100 < {percent} drop; }}'
            for way, name in (("input", "iifname"), ("output", "oifname"))
        )
        self._run(program("nft"), f"table inet lossy {{ {'; '.join(chains)}; }}")

    def drop_none(self) -> None:
        """None is lost."""
        self._run(program("nft"), "delete table inet lossy")

    def _ip(self, *words: str) -> None:
        self._run(program("ip"), *words)

    def _run(self, *words: str) -> None:
        run("ip", "netns", "exec", self.namespace, *words)


def run(*words: str) -> None:
    """Run a command; AssertionError with its words where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{' '.join(words)}: {done.stderr.strip()}"


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network for the block. Where this user may not make one, the test is skipped."""
    ip, number = program("ip"), os.getpid() % SUBNETS
    name, near = f"watchkeeper-{number}", f"wk{number}"
    first = BENCHMARKING + 4 * number
    here, there = (
        ".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0))
        for address in (first + 1, first + 2)
    )
    if subprocess.run([ip, "netns", "add", name], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a network namespace")
    try:
        run(ip, "link", "add", near, "type", "veth", "peer", "name", "far", "netns", name)
        run(ip, "address", "add", f"{here}/30", "dev", near)
        run(ip, "link", "set", near, "up")
        for words in (
            ("address", "add", f"{there}/30", "dev", "far"),
            ("link", "set", "lo", "up"),
            ("link", "set", "far", "up"),
        ):
            run(ip, "-n", name, *words)
        yield Network(name, there)
    finally:
        run(ip, "netns", "delete", name)  # the cable goes with it
