"""A child process is ready when start returns, gone with all its own when stop does, and says why when it fails."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from tests.realparts.process import (
    ChildProcess,
    ProcessFailed,
    clean_environment,
    free_port,
    processes_of_session,
)


def child(folder: Path, *command: str) -> ChildProcess:
    return ChildProcess(command, folder=folder, name="child", env=clean_environment())


def test_start_returns_when_the_process_is_ready_and_no_earlier(tmp_path: Path) -> None:
    flag = tmp_path / "ready"
    process = child(tmp_path, "bash", "-c", "sleep 0.3; touch ready; exec sleep 60")

    process.start(flag.exists, deadline=20)

    assert flag.exists()
    assert process.running
    assert os.getpgid(process.pid) == process.pid != os.getpgrp()
    process.stop()
    assert not process.running


def test_a_process_that_ends_before_it_is_ready_is_an_error_with_its_status_and_last_words(
    tmp_path: Path,
) -> None:
    process = child(tmp_path, "bash", "-c", "echo cannot bind; exit 3")

    with pytest.raises(ProcessFailed, match=r"(?s)ended with status 3 before it was ready.*cannot bind"):
        process.start(lambda: False, deadline=20)

    assert not process.running


def test_a_process_that_is_never_ready_is_ended_at_the_deadline(tmp_path: Path) -> None:
    process = child(tmp_path, "bash", "-c", "echo still thinking; echo $$ > pid; exec sleep 60")

    with pytest.raises(ProcessFailed, match=r"(?s)not ready within 0\.5 s.*still thinking"):
        process.start(lambda: False, deadline=0.5)

    assert processes_of_session(int((tmp_path / "pid").read_text())) == []


def test_an_error_of_the_ready_check_leaves_no_process(tmp_path: Path) -> None:
    process = child(tmp_path, "bash", "-c", "echo $$ > pid; exec sleep 60")
    flag = tmp_path / "pid"

    def ready() -> bool:
        if flag.exists() and flag.read_text():
            raise ValueError("the answer makes no sense")
        return False

    with pytest.raises(ValueError, match="makes no sense"):
        process.start(ready, deadline=20)

    assert processes_of_session(int(flag.read_text())) == []


def test_a_connection_refused_means_not_ready_yet(tmp_path: Path) -> None:
    port = free_port()
    process = child(tmp_path, sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1")

    def ready() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True

    process.start(ready, deadline=30)
    process.stop()


def test_stop_ends_a_process_that_ignores_the_polite_signal_and_its_children(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 60 & echo $! > grandchild; while true; do sleep 0.1; done"
    process = child(tmp_path, "bash", "-c", script)
    grandchild = tmp_path / "grandchild"
    process.start(lambda: grandchild.exists() and bool(grandchild.read_text()), deadline=20)
    session = process.pid

    status = process.stop(grace=0.3)

    assert status == -signal.SIGKILL
    assert processes_of_session(session) == []


def test_stop_ends_children_that_outlive_a_polite_leader(tmp_path: Path) -> None:
    script = "(trap '' TERM; echo up > grandchild; sleep 60) & wait"
    process = child(tmp_path, "bash", "-c", script)
    process.start((tmp_path / "grandchild").exists, deadline=20)
    session = process.pid

    process.stop()

    # Killed children are reaped by init, which may take it a moment.
    end = time.monotonic() + 5
    while processes_of_session(session) and time.monotonic() < end:
        time.sleep(0.02)
    assert processes_of_session(session) == []


def test_a_process_can_be_started_again_and_its_log_tells_the_two_lives_apart(tmp_path: Path) -> None:
    script = 'echo "life $(wc -l < lives)"; echo x >> lives; exec sleep 60'
    (tmp_path / "lives").touch()
    process = child(tmp_path, "bash", "-c", script)

    process.start(lambda: "life 0" in process.log(), deadline=20)
    process.kill()
    process.start(lambda: "life 1" in process.log(), deadline=20)

    assert process.log() == "life 1\n"
    assert process.log_path.read_text() == "life 0\nlife 1\n"
    process.stop()


def test_stop_before_start_and_twice_does_nothing(tmp_path: Path) -> None:
    process = child(tmp_path, "sleep", "60")
    assert process.stop() is None
    process.start(lambda: True)
    assert process.stop() == -signal.SIGTERM
    assert process.stop() is None


def test_a_free_port_is_for_a_server_of_ours_and_given_to_nobody_else() -> None:
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50
    # Taken for all that ask for no port of their own, such as another run's servers and clients.
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", ports[0]))
    with socket.create_server(("127.0.0.1", ports[0])):
        pass


def test_a_child_sees_nothing_that_would_send_it_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VAULT_ADDR", "BAO_TOKEN", "AIKEYS_REQUIRE", "PGHOST", "HTTPS_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "elsewhere")

    env = clean_environment(BAO_ADDR="http://127.0.0.1:1")

    assert "elsewhere" not in env.values()
    assert env["BAO_ADDR"] == "http://127.0.0.1:1"
    assert env["PATH"] == os.environ["PATH"]
