"""The process that looks after the workers holds nothing of the application: it would be in memory twice."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import sys
import aikeys.cli.serve, aikeys.sidecar.beforehand, aikeys.sidecar.server
print(sorted({"cryptography", "flask", "httpx", "hvac", "sqlalchemy"} & set(sys.modules)))
"""


def test_what_looks_after_the_workers_loads_no_part_of_the_application() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"
