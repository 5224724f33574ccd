"""What the set-up scripts say where something is missing. Whatever they call is a stand-in."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NO_VENV = 'case "$2" in *ensurepip*) exit 1;; esac'
TOO_OLD = '[ "$1" = -V ] && echo Python 3.9.2; case "$2" in *version_info*) exit 1;; esac'


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A folder of stand-ins; whatever is not in it and not in /usr/bin does not exist."""
    folder = tmp_path / "bin"
    folder.mkdir()
    stand_in(folder, "id", "echo 1000")
    stand_in(folder, "apt-get", "echo unexpected: apt-get; exit 99")
    return folder


def stand_in(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def bootstrap(commands: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "bootstrap"],
        env={"PATH": f"{commands}:/usr/bin:/bin", "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_venv_module_and_without_root_it_names_the_debian_package(
    commands: Path,
) -> None:
    stand_in(commands, "some-python", NO_VENV)

    ended = bootstrap(commands, "some-python")

    assert ended.returncode == 1
    assert "needs root" in ended.stderr
    assert "apt-get install python3-venv" in ended.stderr


def test_an_old_python_is_refused_with_its_version(commands: Path) -> None:
    stand_in(commands, "old-python", TOO_OLD)

    ended = bootstrap(commands, "old-python")

    assert ended.returncode == 1
    assert "want Python 3.11 or newer, got Python 3.9.2" in ended.stderr


def test_without_any_python_it_names_the_debian_package(commands: Path) -> None:
    ended = bootstrap(commands, "no-such-python")

    assert ended.returncode == 1
    assert "apt-get install python3" in ended.stderr


def test_the_servers_that_only_root_can_install_are_named_and_nothing_fails(
    commands: Path,
) -> None:
    for name in ("sh", "dirname"):  # nothing else is there
        (commands / name).symlink_to(f"/bin/{name}")

    ended = subprocess.run(
        ["/bin/sh", ROOT / "scripts" / "test-servers"],
        env={"PATH": str(commands), "SERVER_FOLDERS": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0
    wanted = "mosquitto mosquitto-clients influxdb nginx-light victoria-metrics"
    wanted += " iproute2 nftables nodejs npm"
    assert f"only root can install it: {wanted}" in ended.stderr
    assert "are skipped" in ended.stderr


def test_as_root_missing_servers_are_installed_and_none_is_started(commands: Path) -> None:
    for name in ("sh", "dirname"):
        (commands / name).symlink_to(f"/bin/{name}")
    stand_in(commands, "id", "echo 0")
    for name in ("mosquitto", "mosquitto_pub", "nginx", "victoria-metrics", "ip", "nft"):
        stand_in(commands, name, "exit 99")
    stand_in(commands, "node", "exit 1")  # too old
    stand_in(commands, "installer", 'echo "installed: $*"')

    ended = subprocess.run(
        ["/bin/sh", ROOT / "scripts" / "test-servers"],
        env={"PATH": str(commands), "SERVER_FOLDERS": "", "INSTALL": "installer"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.stdout == "installed: influxdb nodejs npm\n"
