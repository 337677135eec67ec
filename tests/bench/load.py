"""The load generator: Debian's ``wrk``, which costs little CPU of its own, and what it reports."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Load, NoResult
from tests.realparts.process import clean_environment

SCRIPT = Path(__file__).with_name("report.lua")
INSTALL = Path(__file__).parents[2] / "scripts" / "install-bench-tools"

#: A reply that takes longer is an error, and the run no result.
REPLY_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Call:
    """One request, sent again and again. ``expect``: the only right status, at the price of a look at each reply."""

    url: str
    method: str = "GET"
    token: str | None = None
    authorization: str | None = None
    body: str | None = None
    expect: int | None = None

    def environment(self) -> dict[str, str]:
        given = {
            "METHOD": self.method,
            "TOKEN": self.token,
            "AUTHORIZATION": self.authorization,
            "BODY": self.body,
            "EXPECT": None if self.expect is None else str(self.expect),
        }
        return {f"BENCH_{name}": value for name, value in given.items() if value is not None}


def find_wrk() -> str:
    """The program; installs it where that is possible."""
    if shutil.which("wrk") is None:
        subprocess.run([INSTALL], check=True)
    return shutil.which("wrk") or "wrk"


def run(call: Call, *, clients: int, seconds: float) -> Load:
    """Keep ``clients`` connections busy for ``seconds``, each with one request at a time."""
    before = _children_cpu()
    done = subprocess.run(
        [
            find_wrk(),
            "--threads=1",
            f"--connections={clients}",
            f"--duration={max(1, round(seconds))}s",
            f"--timeout={REPLY_SECONDS}s",
            f"--script={SCRIPT}",
            call.url,
        ],
        env=clean_environment(**call.environment()),
        capture_output=True,
        text=True,
        timeout=seconds + REPLY_SECONDS + 30,
        check=False,
    )
    generator = _children_cpu() - before
    if done.returncode != 0:
        raise NoResult(f"wrk ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stderr, generator_cpu_seconds=generator)


def parse(text: str, *, generator_cpu_seconds: float) -> Load:
    """From what ``report.lua`` prints."""
    try:
        seen: Mapping[str, object] = json.loads(text.strip().splitlines()[-1])
    except (IndexError, ValueError) as error:
        raise NoResult(f"wrk reported nothing that can be read: {text!r}") from error
    latency, errors = seen["latency_us"], seen["errors"]
    assert isinstance(latency, dict)
    assert isinstance(errors, dict)
    return Load(
        requests=int(str(seen["requests"])),
        seconds=int(str(seen["duration_us"])) / 1e6,
        latency_ms={int(percentile): value / 1000 for percentile, value in latency.items()},
        errors={kind: int(count) for kind, count in errors.items()},
        generator_cpu_seconds=generator_cpu_seconds,
    )


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
