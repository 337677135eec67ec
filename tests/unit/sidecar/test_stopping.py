"""A stop is heard at every moment, that of a worker's birth too."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.realparts.process import ChildProcess, clean_environment, free_port
from tests.sidecar_stack import eventually

# `serve` with a worker that is slow to set itself up, and is told to stop meanwhile.
STOPPED_AT_BIRTH = """
import os, signal, sys, time
from aikeys.settings import load_settings
from aikeys.sidecar.server import Server

def listening():
    os.register_at_fork(
        after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM), after_in_child=lambda: time.sleep(1)
    )

Server(load_settings(None), ready=listening).run()
"""


def test_a_worker_that_is_stopped_while_it_is_being_born_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "secret-id").write_text("an obviously fake secret id")
    sidecar = ChildProcess(
        [sys.executable, "-c", STOPPED_AT_BIRTH],
        folder=tmp_path,
        name="sidecar",
        env=clean_environment(
            AIKEYS_LISTEN=f"127.0.0.1:{free_port()}",
            AIKEYS_UPSTREAM_ADDR="http://127.0.0.1:1",
            AIKEYS_AUTH_ROLE_ID="an-app",
            AIKEYS_AUTH_SECRET_ID_FILE=str(tmp_path / "secret-id"),
            AIKEYS_DATA_DIR=str(tmp_path / "data"),
            # Later than the test has patience.
            AIKEYS_GRACEFUL_TIMEOUT="600",
        ),
    )
    sidecar.start(lambda: True)
    try:
        eventually(lambda: not sidecar.running, seconds=45, what="the end")
    finally:
        status = sidecar.stop()
    assert status == 0, sidecar.log()
