"""asyncua's server as a process, given {"port": 4840, "history": null}.

It has two nodes, 1 and 2, and obeys as tests/node/opcua_server.js does, as far as tests want it to.
"""

import json
import sys

from support.opcua import PlcThread


def main() -> None:
    """Listen, and do what is said, one line after the other."""
    given = json.loads(sys.argv[1])
    server = PlcThread({1: 0.0, 2: 0.0}, port=given["port"], history=given["history"])  # type: ignore[dict-item]
    server.start()
    _say("ready")
    for line in sys.stdin:
        for one in json.loads(line):
            time = one.get("time")
            server.set(one["set"], one["value"], time=time and time * 1_000_000)
        _say("done")


def _say(what: str) -> None:
    sys.stdout.write(json.dumps({what: True}) + "\n")
    sys.stdout.flush()
