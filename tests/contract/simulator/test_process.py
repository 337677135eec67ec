"""The simulator as a process: how it starts, what it says, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.contract.simulator.helpers import bearer

from aikeys.relay_simulator.process import RelaySimulatorProcess

COMMAND = [sys.executable, "-m", "aikeys.relay_simulator"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("AIKEYS_")}


def group_of(pid: int) -> list[int]:
    """Every live process whose group is `pid`'s."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z" and int(fields[2]) == pid:
                    members.append(int(entry.name))
    return members


def await_no_group(pid: int, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while group_of(pid):
        assert time.monotonic() < deadline, f"still there: {group_of(pid)}"
        time.sleep(0.05)


@contextlib.contextmanager
def started(
    tmp_path: Path, *options: str, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, str]]]:
    port_file = tmp_path / "port.json"
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [*COMMAND, f"--port-file={port_file}", *options],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=ENVIRONMENT | environment,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 30
        while not port_file.exists():
            assert process.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process, json.loads(port_file.read_text())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_with_an_open_connection_and_leaves_no_process(
    tmp_path: Path, end: signal.Signals
) -> None:
    with started(tmp_path) as (process, facts), httpx.Client(trust_env=False) as client:
        assert client.get(facts["address"] + "/v1/healthz").status_code == 200
        process.send_signal(end)
        assert process.wait(10) == 0
        await_no_group(process.pid)
        with pytest.raises(httpx.TransportError):
            client.get(facts["address"] + "/v1/healthz")


def test_it_ends_although_a_call_is_waiting(tmp_path: Path) -> None:
    with started(tmp_path) as (process, facts):
        httpx.post(
            facts["address"] + "/_sim/faults", json={"kind": "latency", "seconds": 600}, trust_env=False
        )
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(facts["address"] + "/v1/healthz", timeout=0.3, trust_env=False)
        process.terminate()
        process.wait(10)
        await_no_group(process.pid)


def test_a_call_that_runs_when_it_is_told_to_end_is_answered(tmp_path: Path) -> None:
    with (
        started(tmp_path) as (process, facts),
        httpx.Client(base_url=facts["address"], trust_env=False) as client,
    ):
        # What gunicorn counts of connections that faults have closed must not cut off the one that is served.
        for _ in range(5):
            client.post("/_sim/faults", json={"kind": "refuse"})
            with pytest.raises(httpx.ReadError):
                client.get("/v1/healthz")
        client.post("/_sim/faults", json={"kind": "latency", "seconds": 1.5})
        answers: list[httpx.Response] = []
        running = threading.Thread(target=lambda: answers.append(client.get("/v1/healthz")))
        running.start()
        while not client.get("/_sim/faults").json()["faults"][-1]["fired"]:
            time.sleep(0.01)
        process.terminate()
        running.join(10)
        assert [answer.status_code for answer in answers] == [200]
        assert process.wait(10) == 0


def test_a_generated_management_key_is_printed_and_works(tmp_path: Path) -> None:
    with started(tmp_path) as (process, facts):
        key = facts["management_key"]
        assert re.fullmatch(r"sk-holysheep-admin-[A-Za-z0-9]{32}", key)
        answer = httpx.get(facts["address"] + "/v1/keys", headers=bearer(key), trust_env=False)
        assert answer.status_code == 200
        process.terminate()
        process.wait(10)
        said = (tmp_path / "said").read_text()
        assert key in said
        assert facts["address"] in said


def test_a_given_management_key_is_never_printed(tmp_path: Path) -> None:
    key = "sk-holysheep-admin-" + "T" * 32
    with started(tmp_path, AIKEYS_RELAY_MANAGEMENT_KEY=key) as (process, facts):
        answer = httpx.get(facts["address"] + "/v1/keys", headers=bearer(key), trust_env=False)
        assert answer.status_code == 200
        process.terminate()
        process.wait(10)
        said = (tmp_path / "said").read_text()
        assert facts["address"] in said
        assert key not in said


def test_the_port_file_is_for_its_owner_only(tmp_path: Path) -> None:
    with started(tmp_path):
        assert (tmp_path / "port.json").stat().st_mode & 0o777 == 0o600


def test_without_sim_nothing_steers_it(tmp_path: Path) -> None:
    with started(tmp_path, "--no-sim") as (_, facts):
        for path in ("/_sim/keys", "/_sim/clock", "/_sim/reset", "/_sim"):
            answer = httpx.post(facts["address"] + path, json={}, trust_env=False)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_taken_port_is_named_and_not_shared(tmp_path: Path) -> None:
    with started(tmp_path) as (_, facts):
        port = facts["address"].rpartition(":")[2]
        second = subprocess.run(
            [*COMMAND, "--port", port],
            capture_output=True,
            text=True,
            timeout=30,
            env=ENVIRONMENT,
            check=False,
        )
        assert second.returncode == 1
        assert f"Cannot listen on 127.0.0.1:{port}" in second.stderr


def test_a_port_can_be_taken_again_at_once(tmp_path: Path) -> None:
    with started(tmp_path) as (process, facts):
        httpx.get(facts["address"] + "/v1/healthz", trust_env=False)
        process.terminate()
        process.wait(10)
    port = int(facts["address"].rpartition(":")[2])
    with RelaySimulatorProcess(port=port) as again:
        assert again.address == facts["address"]


def test_when_the_worker_dies_the_process_ends_instead_of_going_on_without_its_state(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        (worker,) = set(group_of(process.pid)) - {process.pid}
        os.kill(worker, signal.SIGKILL)
        assert process.wait(15) == 1
        await_no_group(process.pid)


def test_limits_are_options(tmp_path: Path) -> None:
    options = ("--management-rpm=5", "--management-burst=2", "--max-live-keys=1", "--revoke-lag-ms=700")
    with started(tmp_path, *options) as (_, facts):
        settings = httpx.get(facts["address"] + "/_sim/settings", trust_env=False).json()
    assert (settings["management_rpm"], settings["management_burst"], settings["max_live_keys"]) == (5, 2, 1)
    assert settings["revoke_lag_ms"] == [700, 700]


def test_by_default_the_limits_are_those_of_the_contract(tmp_path: Path) -> None:
    with started(tmp_path) as (_, facts):
        settings = httpx.get(facts["address"] + "/_sim/settings", trust_env=False).json()
    assert (settings["management_rpm"], settings["management_burst"], settings["max_live_keys"]) == (
        60,
        20,
        1000,
    )


def test_a_signing_secret_makes_signatures_required() -> None:
    with RelaySimulatorProcess(signing_secret="hs-sign-" + "t" * 43) as process:
        answer = httpx.get(
            process.base_url + "/keys", headers=bearer(process.management_key), trust_env=False
        )
        assert answer.json()["error"]["code"] == "signature_required"


def test_a_seed_repeats_a_whole_run() -> None:
    def run() -> tuple[str, dict[str, object]]:
        with RelaySimulatorProcess(seed=42) as process:
            answer = httpx.post(
                process.base_url + "/keys",
                headers=bearer(process.management_key),
                json={"name": "vlt-x"},
                trust_env=False,
            ).json()
            return process.management_key, {name: answer[name] for name in ("id", "key", "lineage_id")}

    assert run() == run()


def test_a_helper_that_is_stopped_or_killed_leaves_no_process() -> None:
    for end in (RelaySimulatorProcess.stop, RelaySimulatorProcess.kill):
        process = RelaySimulatorProcess().start()
        pid = process.pid
        assert pid is not None
        end(process)
        await_no_group(pid)
        assert process.pid is None
        end(process)


def test_once_killed_nothing_listens() -> None:
    for _ in range(5):
        with RelaySimulatorProcess(second_node=True) as process:
            addresses = (process.base_url, process.second_base_url)
            process.kill()
            for base_url in addresses:
                with pytest.raises(httpx.ConnectError):
                    httpx.get(f"{base_url}/healthz", trust_env=False)


def test_it_ends_when_the_process_that_started_it_is_killed() -> None:
    script = (
        "import time\n"
        "from aikeys.relay_simulator.process import RelaySimulatorProcess\n"
        "print(RelaySimulatorProcess().start().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert group_of(pid)
        starter.kill()
    await_no_group(pid)


def test_a_start_that_fails_says_why() -> None:
    with RelaySimulatorProcess() as first:
        port = int(first.address.rpartition(":")[2])
        with pytest.raises(RuntimeError, match="Cannot listen"):
            RelaySimulatorProcess(port=port).start()


def test_the_management_key_is_in_no_command_line() -> None:
    with RelaySimulatorProcess(signing_secret="hs-sign-" + "t" * 43) as process:
        assert process.pid is not None
        for pid in group_of(process.pid):
            line = Path(f"/proc/{pid}/cmdline").read_text()
            assert process.management_key not in line
            assert "hs-sign-" not in line


def test_the_command_of_the_aikeys_program_is_the_same_function() -> None:
    from aikeys.cli.relay_simulator import relay_simulator as of_the_program
    from aikeys.relay_simulator.command import relay_simulator

    assert of_the_program is relay_simulator
