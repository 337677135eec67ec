"""A fail point does nothing until it is armed, and then exactly what was asked for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aikeys
from aikeys.errors import SettingsError, StorageError
from aikeys.storage.failpoints import POINTS, VARIABLE, arm, reach


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_an_armed_point_fails_at_its_turn_only() -> None:
    arm("revoke.marked=error:2")
    reach("revoke.marked")
    with pytest.raises(StorageError):
        reach("revoke.marked")
    reach("revoke.marked")
    reach("issue.lease_stored")


def test_an_armed_process_dies_as_by_a_power_cut() -> None:
    code = "from aikeys.storage.failpoints import reach\nreach('revoke.marked'); print('one', flush=True)\nreach('revoke.marked')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {VARIABLE: "revoke.marked=kill:2"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (run.returncode, run.stdout) == (-signal.SIGKILL, "one\n")


@pytest.mark.parametrize(
    "text", ["nowhere=kill:1", "revoke.marked", "revoke.marked=kill:0", "revoke.marked=explode"]
)
def test_a_misspelt_point_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is no fail point"):
        arm(text)


def test_the_list_of_points_is_that_of_the_code() -> None:
    sources = Path(aikeys.__file__).parent.rglob("*.py")
    reached = {name for path in sources for name in re.findall(r'reach\("([a-z_.]+)"\)', path.read_text())}
    assert reached == set(POINTS)
