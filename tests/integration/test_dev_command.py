"""`aikeys dev`: everything in one command, and nothing of it left when it ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hvac
import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import clean_environment
from tests.realparts.server import ServerProcess
from tests.realparts.vault import VaultProcess
from tests.sidecar_stack import eventually

from aikeys.dev.provision import Provisioner, dev_folder

MARK = "DEV_TEST_MARK"
DONE_SECONDS = 90
ENDED_SECONDS = 30
VARIABLES = {
    "VAULT_ADDR",
    "BAO_ADDR",
    "VAULT_TOKEN",
    "BAO_TOKEN",
    "AIKEYS_UPSTREAM_ADDR",
    "AIKEYS_RELAY_ADDR",
    "AIKEYS_RELAY_MANAGEMENT_KEY",
    "AIKEYS_MOUNT",
    "AIKEYS_ROLE",
    "AIKEYS_ROLE_ID",
    "AIKEYS_SECRET_ID",
    "AIKEYS_SIDECAR_PID",
    "AIKEYS_DATA_DIR",
}
#: What a user's script does in there: it trusts nothing but the variables.
SCRIPT = r"""
import json, os, sys
import httpx, hvac

names = [name for name in os.environ if name.startswith(("AIKEYS_", "VAULT_", "BAO_"))]
found = {name: os.environ[name] for name in names}
root = hvac.Client(url=found["VAULT_ADDR"], token=found["VAULT_TOKEN"])
app = hvac.Client(url=found["BAO_ADDR"])
app.auth.approle.login(role_id=found["AIKEYS_ROLE_ID"], secret_id=found["AIKEYS_SECRET_ID"])
secret = app.read(found["AIKEYS_MOUNT"] + "/creds/" + found["AIKEYS_ROLE"])
relay = found["AIKEYS_RELAY_ADDR"]
manage = {"Authorization": "Bearer " + found["AIKEYS_RELAY_MANAGEMENT_KEY"]}
print(json.dumps({
    "variables": found,
    "lease_duration": secret["lease_duration"],
    "base_url": secret["data"]["base_url"],
    "roles": {
        role: [root.read("ai-keys/roles/" + role)["data"][name] for name in ("ttl", "max_ttl")]
        for role in root.list("ai-keys/roles")["data"]["keys"]
    },
    "managed": httpx.get(relay + "/v1/keys", headers=manage).status_code,
    "steered": httpx.get(relay + "/_sim/keys").json()["count"],
    "upstream": httpx.get(found["AIKEYS_UPSTREAM_ADDR"] + "/v1/sys/health").json()["version"],
    "sidecar": open("/proc/" + found["AIKEYS_SIDECAR_PID"] + "/cmdline").read().split("\0"),
    "data": sorted(os.listdir(found["AIKEYS_DATA_DIR"])),
}))
sys.exit(7)
"""


class Dev:
    """One `aikeys dev` with a terminal of its own, whose processes are known by a mark that they all inherit."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self._mark = secrets.token_hex(8)
        self.temporary = folder / f"tmp-{self._mark}"
        self.temporary.mkdir(parents=True)
        self._errors = folder / f"errors-{self._mark}"
        self._master, terminal = os.openpty()
        environment = clean_environment(
            TMPDIR=str(self.temporary), **{MARK: self._mark}, COLUMNS="120", **environment
        )
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aikeys", "dev", *arguments],
                env=environment,
                cwd=folder,
                stdin=terminal,
                stdout=terminal,
                stderr=errors,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one ioctl
            )
        os.close(terminal)
        os.set_blocking(self._master, False)
        self._shown = b""

    def shown(self) -> str:
        """What it wrote to its terminal so far."""
        with contextlib.suppress(OSError):
            while chunk := os.read(self._master, 65536):
                self._shown += chunk
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def errors(self) -> str:
        """What it wrote to its error output."""
        return self._errors.read_text(errors="replace")

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def status(self, seconds: float = DONE_SECONDS) -> int:
        """Wait for its end."""
        end = time.monotonic() + seconds
        while (status := self.process.poll()) is None:
            # A full terminal would stop it.
            self.shown()
            assert time.monotonic() < end, f"still running: {self.shown()}\n{self.errors()}"
            time.sleep(0.05)
        return status

    def processes(self) -> dict[int, str]:
        """Everything that it started and that still runs, by id, with its command."""
        mark = f"{MARK}={self._mark}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        return found

    def nothing_is_left(self, *, files: bool = True) -> None:
        eventually(lambda: not self.processes(), seconds=ENDED_SECONDS, what=f"the end of {self.processes()}")
        if files:
            assert list(self.temporary.iterdir()) == []

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self._master)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Starts `aikeys dev` with the arguments given."""
    with contextlib.ExitStack() as running:

        def start(*arguments: str, **environment: str) -> Dev:
            return running.enter_context(contextlib.closing(Dev(tmp_path, *arguments, **environment)))

        yield start


def test_once_shows_a_keys_whole_life_and_ends(started: Any, record_property: Any) -> None:
    begin = time.monotonic()
    dev = started("--once")
    assert dev.status() == 0, dev.shown() + dev.errors()
    # Measured for the reader of the report; how fast it is depends on the machine.
    record_property("seconds_from_start_to_end", round(time.monotonic() - begin, 1))
    shown = dev.shown()
    for word in ("ai-keys/creds/demo", "sys/leases/revoke", "401"):
        assert word in shown
    assert "export" not in shown, "the banner is for who stays"
    dev.nothing_is_left()


def test_a_command_runs_with_everything_set_up_and_its_status_is_ours(started: Any) -> None:
    dev = started("--", sys.executable, "-c", SCRIPT)
    assert dev.status() == 7, dev.shown() + dev.errors()
    # The command's own output, and nothing else with it.
    told = json.loads(dev.shown())
    variables = told["variables"]
    assert set(variables) >= VARIABLES
    assert variables["VAULT_ADDR"] == variables["BAO_ADDR"]
    assert variables["VAULT_TOKEN"] == variables["BAO_TOKEN"]
    assert variables["AIKEYS_UPSTREAM_ADDR"] != variables["VAULT_ADDR"]
    assert (variables["AIKEYS_MOUNT"], variables["AIKEYS_ROLE"]) == ("ai-keys", "demo")
    assert told["base_url"] == f"{variables['AIKEYS_RELAY_ADDR']}/v1"
    assert told["roles"] == {"demo": [60, 180], "short": [8, 20]}
    assert (told["managed"], told["steered"], told["lease_duration"]) == (200, 1, 60)
    assert told["upstream"].startswith("2.")
    assert "serve" in told["sidecar"]
    assert "aikeys.db" in told["data"]
    for name in ("VAULT_ADDR", "AIKEYS_UPSTREAM_ADDR", "AIKEYS_RELAY_ADDR"):
        assert variables[name].startswith("http://127.0.0.1:")
    dev.nothing_is_left()


def test_ctrl_c_is_the_commands_to_decide_about(started: Any) -> None:
    dev = started("--", "sh", "-c", 'trap "exit 5" INT; echo listening; while :; do sleep 0.1; done')
    eventually(lambda: "listening" in dev.shown(), seconds=DONE_SECONDS, what="the command")
    dev.press_ctrl_c()
    assert dev.status(ENDED_SECONDS) == 5, dev.shown() + dev.errors()
    dev.nothing_is_left()


def test_commands_that_end_by_a_signal_or_cannot_begin_leave_nothing_either(started: Any) -> None:
    killed = started("--", "sh", "-c", "kill -9 $$")
    missing = started("--", "no-such-program-anywhere")
    assert killed.status() == 128 + 9, "as a shell counts it"
    assert missing.status() == 1
    assert "cannot run no-such-program-anywhere" in missing.errors()
    for dev in (killed, missing):
        dev.nothing_is_left()


def ready(dev: Dev) -> dict[str, str]:
    """The exports of the banner."""
    eventually(lambda: "Ctrl-C" in dev.shown(), seconds=DONE_SECONDS, what="the banner")
    lines = [
        line.strip().removeprefix("$ export ") for line in dev.shown().splitlines() if "$ export" in line
    ]
    return {name: value.strip("'") for name, _, value in (line.partition("=") for line in lines)}


def read_key(exports: dict[str, str]) -> int:
    return httpx.get(
        f"{exports['BAO_ADDR']}/v1/ai-keys/creds/demo",
        headers={"X-Vault-Token": exports["BAO_TOKEN"]},
        trust_env=False,
    ).status_code


def test_it_stays_until_ctrl_c_beside_others_and_a_kill_leaves_nothing_either(started: Any) -> None:
    one, other = started(), started()
    exports, others = ready(one), ready(other)
    for name in ("VAULT_ADDR", "BAO_ADDR", "VAULT_TOKEN", "BAO_TOKEN"):
        assert exports[name] != others[name]
    assert (read_key(exports), read_key(others)) == (200, 200)
    for command in ("read ai-keys/creds/demo", "list sys/leases/lookup", "lease revoke -prefix"):
        assert f"$ bao {command}" in one.shown()

    one.press_ctrl_c()
    assert one.status(ENDED_SECONDS) == 0, one.shown() + one.errors()
    assert "Traceback" not in one.shown() + one.errors()
    one.nothing_is_left()

    assert read_key(others) == 200
    other.process.kill()
    # What it started ends by itself; its temporary folder cannot be cleared by anybody.
    other.nothing_is_left(files=False)


def everything_in(server: ServerProcess) -> dict[str, Any]:
    """What somebody set up there, and who is logged in."""

    def names(path: str) -> list[str]:
        with server.client() as client:
            answer = client.request("LIST", f"/v1/{path}", headers={"X-Vault-Token": server.root_token})
        return sorted(answer.json()["data"]["keys"]) if answer.status_code == 200 else []

    return {
        "mounts": server.request("GET", "sys/mounts")["data"],
        "auth": server.request("GET", "sys/auth")["data"],
        "policies": {
            name: server.request("GET", f"sys/policies/acl/{name}")["data"].get("policy")
            for name in names("sys/policies/acl")
        },
        "approles": names("auth/approle/role"),
        "entities": names("identity/entity/id"),
        "tokens": names("auth/token/accessors"),
    }


@pytest.mark.parametrize("kind", [OpenBaoProcess, VaultProcess])
def test_a_vault_of_somebody_elses_is_used_and_left_as_it_was(
    kind: type[ServerProcess], started: Any, tmp_path: Path
) -> None:
    with kind(tmp_path / "theirs", root_token="their-root") as server:
        server.request("POST", "sys/auth/approle", {"type": "approle"})
        server.request("POST", "auth/approle/role/theirs", {"token_ttl": "5m"})
        server.request("POST", "identity/entity/name/theirs", {})
        before = everything_in(server)
        check = (
            'test "$AIKEYS_UPSTREAM_ADDR" = "$THEIRS" && test "$VAULT_TOKEN" = their-root && '
            f'{sys.executable} -c "import hvac,os; '
            "print(hvac.Client(url=os.environ['VAULT_ADDR'], token='their-root')"
            ".read('ai-keys/creds/demo')['lease_duration'])\""
        )
        dev = started(
            "--upstream",
            server.address + "/",
            "--",
            "sh",
            "-c",
            check,
            VAULT_TOKEN="their-root",
            THEIRS=server.address,
        )
        assert dev.status() == 0, dev.shown() + dev.errors()
        assert dev.shown() == "60\n"
        assert dev.errors() == ""
        assert everything_in(server) == before
        dev.nothing_is_left()


def test_what_is_there_already_by_one_of_its_names_is_not_touched(started: Any, tmp_path: Path) -> None:
    with OpenBaoProcess(tmp_path / "theirs", root_token="their-root") as server:
        server.request("POST", "sys/auth/approle", {"type": "approle"})
        server.request("POST", "auth/approle/role/demo", {"token_ttl": "5m"})
        server.request("PUT", "sys/policies/acl/aikeys-dev-more", {"policy": "# theirs"})
        before = everything_in(server)
        dev = started("--upstream", server.address, "--once", VAULT_TOKEN="their-root")
        assert dev.status() == 1
        assert "policy aikeys-dev-more, approle demo" in " ".join(dev.errors().split())
        assert "left behind" not in dev.errors()
        assert everything_in(server) == before
        dev.nothing_is_left()


def test_what_fails_half_way_is_taken_out_again(started: Any, tmp_path: Path) -> None:
    with OpenBaoProcess(tmp_path / "theirs", root_token="their-root") as server:
        server.request("POST", "sys/mounts/ai-keys", {"type": "kv"})
        before = everything_in(server)
        dev = started("--upstream", server.address, "--once", VAULT_TOKEN="their-root")
        assert dev.status() == 1
        assert "could not mount the engine at ai-keys/" in " ".join(dev.errors().split())
        assert everything_in(server) == before
        dev.nothing_is_left()


def test_the_approle_method_stays_where_others_have_come_to_use_it(tmp_path: Path) -> None:
    with OpenBaoProcess(tmp_path / "theirs", root_token="their-root") as server:
        client = hvac.Client(url=server.address, token=server.root_token)
        provisioner = Provisioner("ai-keys")
        provisioner.logins(client, dev_folder())
        server.request("POST", "auth/approle/role/theirs", {"token_ttl": "5m"})
        (problem,) = provisioner.undo_logins()
        client.adapter.close()
        assert "the AppRole method stays enabled" in problem
        left = everything_in(server)
        assert (left["approles"], left["entities"]) == (["theirs"], [])


def test_without_a_token_or_a_vault_it_says_what_is_missing(started: Any) -> None:
    without = started("--upstream", "http://127.0.0.1:9", "--once")
    assert without.status() == 2
    assert "VAULT_TOKEN" in without.errors()
    nobody = started("--upstream", "http://127.0.0.1:9", "--once", VAULT_TOKEN="made-up")
    assert nobody.status() == 1
    assert "127.0.0.1:9" in nobody.errors()
    assert "Traceback" not in nobody.errors()
    for dev in (without, nobody):
        dev.nothing_is_left()
