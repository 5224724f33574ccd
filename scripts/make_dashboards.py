"""Write the Grafana dashboards of configs/grafana: four questions, each with its panels.

``python scripts/make_dashboards.py`` writes them; a test fails where they are something else. Every
query is InfluxQL; what it may name is the table "What databases get" in docs/operate.md.
"""

import json
from pathlib import Path

from dashboards.asset import asset
from dashboards.cameras import cameras
from dashboards.fleet import fleet
from dashboards.pipeline import pipeline

FOLDER = Path(__file__).parent.parent / "configs/grafana/provisioning/dashboards/watchkeeper"


def files() -> dict[Path, str]:
    """Each dashboard's file, as it should be."""
    return {
        FOLDER / f"{one['uid'].removeprefix('watchkeeper-')}.json": json.dumps(
            one, indent=2, ensure_ascii=False
        )
        + "\n"
        for one in (fleet(), asset(), cameras(), pipeline())
    }


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
