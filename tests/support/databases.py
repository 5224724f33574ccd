"""Real databases on loopback: InfluxDB, a shim that gives it the v2 write API, VictoriaMetrics.

The Debian packages influxdb, nginx-light and victoria-metrics. Each server has a folder of its own.
"""

import atexit
import functools
import itertools
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx
from support.servers import HERE, Server, free_port, program

_numbers = itertools.count()
TOKEN = "probe-token"  # noqa: S105 - a shim's on loopback, made up

_INFLUXD = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[monitor]
  store-enabled = false
[subscriber]
  enabled = false
"""
# InfluxDB 1 has no /api/v2/write, and reads precision "us" as ns: both are mended on the way.
_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 64; }}
http {{
  access_log off; client_max_body_size {body}; client_body_buffer_size 2m; proxy_buffering off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  map $arg_precision $v1p {{ default ns; ns n; us u; ms ms; s s; }}
  map $http_authorization $known {{ default 0; "Token {token}" 1; }}
  server {{ listen 127.0.0.1:{port};
    location = /api/v2/write {{
      if ($known = 0) {{
        return 401 '{{"code":"unauthorized","message":"unauthorized access"}}';
      }}
      proxy_set_header Authorization "";
      rewrite ^ /write?db=$arg_bucket&precision=$v1p? break;
      proxy_pass http://127.0.0.1:{influx};
    }}
    location = /query {{ proxy_pass http://127.0.0.1:{influx}; }}
  }}
}}
"""


class HttpServer(Server):
    """A server that speaks HTTP."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HERE}:{self.port}"

    def get(self, path: str, **asked: str) -> bytes:
        """What it answers to GET."""
        return self._body(httpx.get(self.url + path, params=asked, trust_env=False))

    def post(self, path: str, body: bytes, **asked: str) -> bytes:
        """What it answers to POST."""
        return self._body(httpx.post(self.url + path, params=asked, content=body, trust_env=False))

    @staticmethod
    def _body(answer: httpx.Response) -> bytes:
        assert answer.is_success, f"{answer.status_code}: {answer.text}"
        return answer.content


class Influx(HttpServer):
    """InfluxDB 1."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        settings = folder / "influxdb.conf"
        settings.write_text(_INFLUXD.format(folder=folder, port=port, rpc=free_port()))
        command = [program("influxd"), "run", "-config", str(settings)]
        super().__init__(command, log=folder / "log", port=port)

    def query(self, query: str, database: str = "") -> list[dict[str, Any]]:
        """The series that an InfluxQL query gives, stamps in ns."""
        (result,) = json.loads(self.post("/query", b"", q=query, db=database, epoch="ns"))[
            "results"
        ]
        assert "error" not in result, result
        found: list[dict[str, Any]] = result.get("series", [])
        return found

    def database(self, name: str, *, keep: str = "INF") -> None:
        """Make a database that keeps its points that long."""
        self.query(f'CREATE DATABASE "{name}" WITH DURATION {keep}')

    def write(self, database: str, lines: str) -> None:
        """Write as others do: line protocol with stamps in ns."""
        self.post("/write", lines.encode(), db=database, precision="ns")

    def contents(self, database: str) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Every point: (measurement, tags, time) -> its fields, all numbers as floats."""
        names = [
            row[0] for one in self.query("SHOW MEASUREMENTS", database) for row in one["values"]
        ]
        quoted = ['"' + name.replace("\\", r"\\").replace('"', r"\"") + '"' for name in names]
        return {
            (one["name"], tuple((k, v) for k, v in one.get("tags", {}).items() if v), row[0]): {
                name: float(value) if isinstance(value, int) else value
                for name, value in zip(one["columns"][1:], row[1:], strict=True)
                if value is not None
            }
            for name in quoted
            for one in self.query(f"SELECT * FROM {name} GROUP BY *", database)  # noqa: S608 (ours)
            for row in one["values"]
        }


class Shim(HttpServer):
    """nginx in front of an InfluxDB 1: what the v2 write API wants, and a token."""

    def __init__(self, folder: Path, influx: Influx, *, body: str = "25m") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        settings = folder / "nginx.conf"
        owner = "user root;" if os.geteuid() == 0 else ""
        settings.write_text(
            owner
            + _NGINX.format(folder=folder, port=port, influx=influx.port, token=TOKEN, body=body)
        )
        command = [program("nginx"), "-c", str(settings), "-e", str(folder / "error.log")]
        super().__init__(command, log=folder / "log", port=port)


class Victoria(HttpServer):
    """VictoriaMetrics."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        command = [
            program("victoria-metrics"),
            f"-storageDataPath={folder}/data",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=100y",
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-dedup.minScrapeInterval=1ms",
            "-loggerLevel=WARN",
        ]
        super().__init__(command, log=folder / "log", port=port)

    def export(self, name: str) -> list[tuple[dict[str, str], list[float], list[int]]]:
        """Labels, values and stamps (ms) of every series of a metric."""
        self.get("/internal/force_flush")
        lines = self.get("/api/v1/export", **{"match[]": name}).splitlines()
        documents = [json.loads(line) for line in lines]
        return [(one["metric"], one["values"], one["timestamps"]) for one in documents]


@functools.cache
def shared_influx() -> Influx:
    """One InfluxDB for all tests that only want a database of their own in it."""
    folder = Path(tempfile.mkdtemp(prefix="watchkeeper-influx-"))
    server = Influx(folder)
    server.start()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.stop)  # called first
    return server


def new_database(influx: Influx, *, keep: str = "INF") -> str:
    """A fresh database; its name."""
    name = f"db{next(_numbers)}"
    influx.database(name, keep=keep)
    return name
