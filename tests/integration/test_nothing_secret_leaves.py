"""Of every token of a server and every key of a relay: none stands in a log, an audit line, a database or a core file.

The server tells all of its tokens, the sidecar's own among them, in a second audit log that is written in clear; the
relay's book has the keys. `tests/canaries.py` makes the same search at the end of every run.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests import canaries
from tests.canaries import PERMITTED, RAW_AUDIT, Scan
from tests.integration.conftest import PROCESSES, UPSTREAMS
from tests.realparts.openbao import OpenBaoProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

from aikeys.relay_simulator.identifiers import SECRETS_FILE

WRAPPED = {"X-Vault-Wrap-TTL": "60s"}


@pytest.fixture(scope="module", params=PROCESSES)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarStack]:
    """With everything that talks made to talk, and two audit logs: as they should be, and with secrets in clear."""
    folder = tmp_path_factory.mktemp(f"canaries-{request.param}")
    logs = {
        "hashed": {"file_path": str(folder / "audit.log")},
        "raw": {"file_path": str(folder / RAW_AUDIT), "log_raw": "true"},
    }
    # OpenBao knows audit devices only from its configuration, Vault only from its API.
    options: dict[str, Any] = {"log_level": "trace"}
    if request.param == "openbao":
        options["config"] = "".join(
            f'audit "file" "{name}" {{\n  options {{\n'
            + "".join(f'    {key} = "{value}"\n' for key, value in log.items())
            + "  }\n}\n"
            for name, log in logs.items()
        )
    with UPSTREAMS[request.param](folder / "upstream", **options) as upstream:
        if request.param == "vault":
            for name, log in logs.items():
                upstream.request("PUT", f"sys/audit/{name}", {"type": "file", "options": log})
        with SidecarStack(upstream, folder, settings={"AIKEYS_LOG_LEVEL": "debug"}) as stack:
            yield stack


def life(stack: SidecarStack) -> None:
    """Everything that a secret takes part in, with the relay and the callers at their worst."""
    relay = {"base_url": stack.relay.base_url, "management_key": stack.relay.management_key}
    signed = stack.control.management_key(signing=True)
    app = stack.reader()
    verified = {"ttl": 60, "max_ttl": 120, "verify_revocation": True}
    assert stack.request("POST", f"{MOUNT}/roles/verified", verified).status_code == 204
    key = stack.read_key(token=app.token)
    kept = stack.read_key("verified")
    wrapped = stack.request("GET", f"{MOUNT}/creds/demo", headers=WRAPPED).json()["wrap_info"]
    left = stack.request("PUT", f"{MOUNT}/creds/demo", headers=WRAPPED).json()["wrap_info"]
    assert stack.request("POST", "sys/wrapping/unwrap", {"token": wrapped["token"]}).status_code == 200
    assert stack.request("POST", "sys/wrapping/unwrap", {"token": wrapped["token"]}).status_code == 400
    for token in (key["data"]["api_key"], left["token"], stack.relay.management_key):
        # A secret where a token, a name or a value belongs.
        assert stack.request("GET", f"{MOUNT}/creds/demo", token=token).status_code == 403
        assert stack.request("POST", f"{MOUNT}/roles/demo", {"ttl": token}).status_code == 400
        assert stack.request("PUT", "sys/leases/lookup", {"lease_id": token}).status_code == 400
    for wrong in (
        {**relay, "management_key": signed["key"] + "0"},
        {**relay, "request_timeout": "x"},
    ):
        assert stack.request("POST", f"{MOUNT}/config", wrong).status_code == 400
    for commit in (False, True):
        stack.control.fault("echo_key", path="/v1/keys", method="POST", status=500, commit=commit, count=9)
        assert stack.request("GET", f"{MOUNT}/creds/demo").status_code >= 400
        stack.control.clear_faults()
    stack.control.fault("echo_key", path="/v1/keys/*", method="DELETE", status=500, count=2)
    for secret in (key, kept):
        stack.request("PUT", "sys/leases/revoke", {"lease_id": secret["lease_id"], "sync": False})
    stack.control.clear_faults()
    assert stack.request("POST", "auth/token/revoke", {"token": app.token}).status_code in {200, 204}
    for secret in (key, kept):
        stack.dies(secret["data"]["api_key"], seconds=40)
    # And some that live on.
    stack.read_key("verified")
    stack.read_key()


def tokens(stack: SidecarStack) -> dict[str, str]:
    """Every token that the server gave or was given."""
    found: dict[str, str] = {}
    for line in (stack.folder / RAW_AUDIT).read_text().splitlines():
        entry = json.loads(line)
        response = entry.get("response") or {}
        told = {
            entry["request"].get("client_token"): "a token",
            (response.get("auth") or {}).get("client_token"): f"a token of {entry['request']['path']}",
            (response.get("wrap_info") or {}).get("token"): "a wrapping token",
        }
        secret = {token: what for token, what in told.items() if token and len(token) >= canaries.SHORTEST}
        # What is told of it first, at its birth, says most.
        found = secret | found
    return found


def test_no_secret_of_a_busy_life_stands_in_anything_that_is_left(stack: SidecarStack) -> None:
    life(stack)
    known = canaries.known(Path(os.environ[SECRETS_FILE])) | tokens(stack)
    assert "a token of auth/approle/login" in known.values(), "the sidecar's own is known"
    assert sum(secret.startswith("sk-holysheep-") for secret in known) >= 8
    for secret, what in known.items():
        # For the search at the end of the run, over what the other tests leave.
        canaries.learn(secret, what)
    log = next((stack.folder / "data").glob("*-wal"))
    assert log.stat().st_size > 0, "the database is searched while it is in use"
    scan = Scan(known)

    assert scan.folder(stack.folder, PERMITTED) == []
    # The search is not blind: what may hold secrets does.
    assert {hit.path for hit in scan.folder(stack.folder)} == {"secret-id", RAW_AUDIT}


# -- core files -----------------------------------------------------------------------------------------------------


@contextmanager
def cores_allowed() -> Iterator[None]:
    """Whoever is started meanwhile may write a core file, as far as this machine's limit goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def cores(folder: Path) -> list[Path]:
    """The core files in a folder; they are removed."""
    found = [path for path in folder.iterdir() if path.name.startswith("core")]
    for path in found:
        path.unlink()
    return found


def test_a_sidecar_that_is_aborted_leaves_no_core_file(tmp_path: Path) -> None:
    with (
        OpenBaoProcess(tmp_path / "server") as server,
        cores_allowed(),
        SidecarStack(server, tmp_path / "stack") as stack,
    ):
        stack.read_key()
        main = stack.sidecar_pid
        (worker,) = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        limits = [limit(process) for process in (main, int(worker))]
        for process in (int(worker), main):
            os.kill(process, signal.SIGABRT)
        eventually(lambda: not Path(f"/proc/{worker}").exists(), what="the end of the worker")
    assert limits == [("0", "0")] * 2
    assert cores(tmp_path / "stack") == []


def limit(process: int) -> tuple[str, str]:
    """Of the size of a core file: what applies, and what it could be raised to."""
    lines = Path(f"/proc/{process}/limits").read_text().splitlines()
    soft, hard = next(line.split()[4:6] for line in lines if line.startswith("Max core file size"))
    return soft, hard


def test_a_program_that_does_not_mind_leaves_one(tmp_path: Path) -> None:
    """The judge of the test above, where this machine writes cores where they fall."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or pattern.startswith("|") or resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        return
    with cores_allowed():
        subprocess.run([sys.executable, "-c", "import os; os.abort()"], cwd=tmp_path, check=False)
    assert len(cores(tmp_path)) == 1
