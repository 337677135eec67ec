"""What the figures were measured on."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from tests.bench.load import find_wrk
from tests.realparts.openbao import find_binary
from tests.realparts.postgres import find_binaries

LIBRARIES = ("flask", "gunicorn", "httpx", "sqlalchemy")


def describe() -> list[tuple[str, str]]:
    """Name and value, for a table."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return [
        ("processor", f"{len(_processors())} x {_processors()[0]}"),
        ("memory", f"{_memory_gib():.0f} GiB"),
        ("system", f"Linux {platform.release().split('-')[0]}, {_distribution()}"),
        ("Python", f"{platform.python_version()} ({libraries})"),
        ("OpenBao", _said(find_binary(), "version").removeprefix("OpenBao ").split(",")[0].split(" (")[0]),
        (
            "PostgreSQL",
            _said(find_binaries() / "postgres", "--version").removeprefix("postgres (PostgreSQL) "),
        ),
        ("load", _said(Path(find_wrk()), "--version").split(" [")[0] + ", one thread"),
    ]


def _said(program: Path, argument: str) -> str:
    # wrk tells its version with status 1.
    done = subprocess.run(
        [program, argument], cwd="/", capture_output=True, text=True, timeout=30, check=False
    )
    return (done.stdout or done.stderr).strip().splitlines()[0]


def _processors() -> list[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith("model name")] or ["unknown"]


def _memory_gib() -> float:
    first = Path("/proc/meminfo").read_text().splitlines()[0]
    return int(first.split()[1]) / 1024**2


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown distribution"
