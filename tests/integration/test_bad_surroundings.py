"""What stands behind the sidecar is damaged, lies or is gone: a clear answer, nothing minted, nothing lost.

The shadow mount written into or missing; a relay that answers HTML, redirects or nothing usable; an upstream that is
sealed, stopped or silent, while the leases that end meanwhile end at the relay all the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import ANY

import httpx
import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.server import ServerProcess
from tests.realparts.vault import VaultProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually, unique

CREDS = f"{MOUNT}/creds"
# An upstream that does not answer is given up after so long, in seconds; the answer comes soon after.
GIVEN_UP = 1.0
SLACK = 6.0
# How long a lease lasts that ends meanwhile, in seconds.
BRIEF = 3


@pytest.fixture
def role(stack: SidecarStack) -> Iterator[str]:
    name = unique("around")
    assert stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": 60, "max_ttl": 120}).status_code == 204
    yield name
    stack.request("PUT", f"sys/leases/revoke-prefix/{CREDS}/{name}")
    stack.request("DELETE", f"{MOUNT}/roles/{name}")


def restored_and_served_again(stack: SidecarStack, role: str) -> None:
    """The damage is refused with a 503 that says so, once; the next request finds it mended."""
    with stack.nothing_minted():
        refused = stack.request("GET", f"{CREDS}/{role}", token=stack.reader(role).token)
        assert refused.status_code == 503, refused.text
        assert "shadow" in refused.json()["errors"][0]
    token = stack.reader(role).token
    answer = eventually(
        lambda: (found := stack.request("GET", f"{CREDS}/{role}", token=token)).status_code == 200 and found,
        what="the mended shadow",
    )
    assert isinstance(answer, httpx.Response)
    assert stack.works(answer.json()["data"]["api_key"])


# -- the shadow -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        {"api_key": "somebody's own"},
        {"aikeys_marker": "0" * 64, "note": "made up"},
        {"aikeys_marker": "", "note": ""},
        {"aikeys_marker": {"nested": True}},
        {"data": {"aikeys_marker": "0" * 64}},
    ],
    ids=str,
)
def test_an_entry_that_somebody_wrote_into_the_shadow_authorises_nothing(
    stack: SidecarStack, role: str, entry: dict[str, object]
) -> None:
    assert stack.direct("PUT", f"{CREDS}/{role}", entry).status_code == 204
    restored_and_served_again(stack, role)


def test_a_marker_that_somebody_took_away_is_put_back(stack: SidecarStack, role: str) -> None:
    assert stack.direct("DELETE", f"{CREDS}/{role}").status_code == 204
    restored_and_served_again(stack, role)


def test_a_marker_counts_only_where_it_stands(stack: SidecarStack, role: str) -> None:
    """Copied from a role that a caller may read to one that it may not prove, it is worth nothing."""
    marker = stack.direct("GET", f"{CREDS}/demo").json()["data"]
    assert stack.direct("PUT", f"{CREDS}/{role}", marker).status_code == 204
    restored_and_served_again(stack, role)


def test_an_entry_for_a_role_that_is_none_gives_no_key(stack: SidecarStack) -> None:
    name = unique("none")
    marker = stack.direct("GET", f"{CREDS}/demo").json()["data"]
    assert stack.direct("PUT", f"{CREDS}/{name}", marker).status_code == 204
    try:
        with stack.nothing_minted():
            refused = stack.request("GET", f"{CREDS}/{name}")
        assert refused.status_code in {400, 503}
        assert stack.request("GET", f"{MOUNT}/roles/{name}").status_code == 404
    finally:
        stack.direct("DELETE", f"{CREDS}/{name}")


@pytest.fixture
def other_mount(stack: SidecarStack) -> Iterator[tuple[str, str, str]]:
    """A mount of ours that may be damaged, and a lease and key of it."""
    mount = "team-keys"
    client = stack.hvac()
    client.sys.enable_secrets_engine("ai-keys", path=mount)
    client.write_data(
        f"{mount}/config",
        data={"base_url": stack.relay.base_url, "management_key": stack.relay.management_key},
    )
    client.write_data(f"{mount}/roles/demo", data={"ttl": 30, "max_ttl": 60})
    secret = client.read(f"{mount}/creds/demo")
    yield mount, secret["lease_id"], secret["data"]["api_key"]
    stack.direct("DELETE", f"sys/mounts/{mount}")
    eventually(
        lambda: stack.request("DELETE", f"sys/mounts/{mount}").status_code == 204, what="the mount's end"
    )


def test_without_its_shadow_mount_nothing_is_minted_and_leases_can_still_be_ended(
    stack: SidecarStack, other_mount: tuple[str, str, str]
) -> None:
    mount, lease_id, api_key = other_mount
    reader = stack.token(f'path "{mount}/creds/demo" {{ capabilities = ["read"] }}').token
    assert stack.direct("DELETE", f"sys/mounts/{mount}").status_code == 204
    with stack.nothing_minted():
        for token in (stack.root_token, reader):
            for method in ("GET", "PUT"):
                answer = stack.request(method, f"{mount}/creds/demo", token=token)
                assert answer.status_code in {403, 404, 503}, answer.text
                assert answer.json()["errors"]
    # A mount that is gone has no leases either.
    ended = stack.request("PUT", "sys/leases/revoke", {"lease_id": lease_id})
    assert ended.status_code == 204, ended.text
    stack.dies(api_key)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_store_that_somebody_mounted_in_its_place_authorises_nothing(
    stack: SidecarStack, other_mount: tuple[str, str, str], version: str
) -> None:
    mount, lease_id, api_key = other_mount
    entry = {"api_key": "somebody's own", "aikeys_marker": "0" * 64}
    stack.direct("DELETE", f"sys/mounts/{mount}")
    stack.upstream.request("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": version}})
    where = f"{mount}/creds/demo" if version == "1" else f"{mount}/data/creds/demo"
    body = entry if version == "1" else {"data": entry}
    eventually(lambda: stack.direct("PUT", where, body).status_code in {200, 204}, what="the store")
    with stack.nothing_minted():
        for _ in range(2):
            answer = stack.request("GET", f"{mount}/creds/demo")
    assert stack.direct("GET", where).json()["data"] in (entry, {**body, "metadata": ANY}), (
        "it was written over"
    )
    assert "sk-holysheep" not in answer.text
    assert stack.request("PUT", "sys/leases/revoke", {"lease_id": lease_id}).status_code == 204
    stack.dies(api_key)


# -- the relay --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """An address, and everything that anybody says to it."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        over = threading.Event()

        def listen() -> None:
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    with connection:
                        heard.append(connection.recv(65536))

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/", heard
        finally:
            over.set()
            thread.join()


LIES: dict[str, dict[str, object]] = {
    "HTML and no key": {"kind": "html"},
    "HTML with a status of its own": {"kind": "html", "status": 502},
    "HTML for a key that it made": {"kind": "html", "commit": True},
    "a redirect": {"kind": "redirect"},
    "a redirect that repeats the method": {"kind": "redirect", "status": 307},
    "a redirect for a key that it made": {"kind": "redirect", "status": 308, "commit": True},
    "half an answer": {"kind": "commit_then_truncate", "bytes": 40, "framing": "short"},
    "no answer": {"kind": "commit_then_drop"},
    "a 500 for a key that it made": {"kind": "commit_then_500"},
    "an error that repeats the keys": {"kind": "echo_key", "commit": True},
    "a refusal": {"kind": "error", "status": 403},
    "too many requests": {"kind": "rate_limit", "retry_after": 7},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_relay_that_lies_makes_at_most_one_key_and_none_that_nobody_knows(
    stack: SidecarStack, role: str, lie: str
) -> None:
    before = stack.key_ids()
    since = max((call["number"] for call in stack.control.calls()), default=0)
    with listener() as (elsewhere, heard):
        fault = dict(LIES[lie])
        if fault["kind"] == "redirect":
            fault["location"] = elsewhere
        stack.control.fault(path="/v1/keys", method="POST", **fault)  # type: ignore[arg-type]
        answer = stack.request("GET", f"{CREDS}/{role}")
        assert heard == [], "the management key went elsewhere"
    # A second attempt must be the first one repeated: what the relay has already done it then does not do again.
    orders = {call["idempotency_key"] for call in stack.control.calls("POST", "/v1/keys", since)}
    assert len(orders) == 1
    assert answer.headers["content-type"] == "application/json"
    assert elsewhere not in answer.text
    assert stack.relay.management_key not in answer.text

    lease = f"sys/leases/lookup/{CREDS}/{role}"
    if answer.status_code == 200:
        secret = answer.json()
        assert stack.key_ids() - before == {secret["data"]["key_id"]}
        assert stack.works(secret["data"]["api_key"])
        assert len(stack.request("LIST", lease).json()["data"]["keys"]) == 1
        return
    assert answer.status_code in {400, 429, 500, 502, 503}, answer.text
    assert len(answer.json()["errors"]) == 1
    assert "<" not in answer.text
    assert "sk-holysheep" not in answer.text
    # What the relay made all the same is found and ended, since no lease knows it.
    assert stack.request("LIST", lease).status_code == 404, "a lease without a key"
    eventually(
        lambda: not (stack.live_keys() - before), seconds=30, what="the end of the key that nobody has"
    )
    stack.control.clear_faults()
    assert stack.works(stack.read_key(role)["data"]["api_key"])


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html"},
        {"kind": "html", "status": 404},
        {"kind": "redirect"},
        {"kind": "error", "status": 500},
        {"kind": "error", "status": 403},
    ],
    ids=str,
)
def test_a_relay_that_lies_about_a_revocation_is_not_believed(
    stack: SidecarStack, role: str, fault: dict[str, object]
) -> None:
    secret = stack.read_key(role)
    key = secret["data"]["api_key"]
    stack.control.fault(path="/v1/keys/*", method="DELETE", count=None, **fault)  # type: ignore[arg-type]
    refused = stack.request("PUT", "sys/leases/revoke", {"lease_id": secret["lease_id"]})
    assert refused.status_code == 400, refused.text
    assert refused.json()["errors"][0].startswith("failed to revoke entry: ")
    assert "<" not in refused.text
    assert stack.works(key), "the simulator would have to be wrong"
    kept = stack.request("PUT", "sys/leases/lookup", {"lease_id": secret["lease_id"]})
    assert kept.status_code == 200, "the lease was forgotten with its key alive"
    stack.control.clear_faults()
    assert stack.request("PUT", "sys/leases/revoke", {"lease_id": secret["lease_id"]}).status_code == 204
    assert not stack.works(key)


# -- the upstream -----------------------------------------------------------------------------------------------

SERVERS = [pytest.param(OpenBaoProcess, id="openbao"), pytest.param(VaultProcess, id="vault")]
REFUSED = (
    ("GET", f"{CREDS}/demo"),
    ("PUT", f"{CREDS}/demo"),
    ("GET", f"{MOUNT}/roles/demo"),
    ("PUT", "sys/leases/lookup"),
    ("GET", "secret/anything"),
)


@pytest.fixture(scope="module", params=SERVERS)
def own_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SidecarStack]:
    """In front of a server that may be sealed, stopped and killed; the sidecar gives up early."""
    kind: type[ServerProcess] = request.param
    folder = tmp_path_factory.mktemp("own")
    settings = {
        "AIKEYS_UPSTREAM_TIMEOUT": str(GIVEN_UP),
        "AIKEYS_UPSTREAM_IDLE_TIMEOUT": str(GIVEN_UP),
        "AIKEYS_UPSTREAM_CONNECT_TIMEOUT": "1",
    }
    with (
        kind(folder / "upstream", storage="raft") as server,
        SidecarStack(server, folder, settings=settings) as stack,
    ):
        brief = {"ttl": BRIEF, "max_ttl": 60}
        assert stack.request("POST", f"{MOUNT}/roles/brief", brief).status_code == 204
        yield stack


def server_of(stack: SidecarStack) -> ServerProcess:
    assert isinstance(stack.upstream, ServerProcess)
    return stack.upstream


def refused_in_time(stack: SidecarStack) -> None:
    """Every request is answered with a clear 503 within the bound, and none mints."""
    with stack.nothing_minted():
        for method, path in REFUSED:
            body = {"lease_id": f"{CREDS}/demo/x"} if path == "sys/leases/lookup" else None
            start = time.monotonic()
            answer = stack.request(method, path, body)
            assert answer.status_code == 503, f"{method} {path}: {answer.text}"
            assert answer.headers["content-type"] == "application/json"
            assert answer.json()["errors"][0]
            assert time.monotonic() - start < GIVEN_UP + SLACK


def leases_end_meanwhile(stack: SidecarStack, api_key: str) -> None:
    """At their time, and not only once the upstream is back."""
    stack.dies(api_key, seconds=BRIEF + SLACK)


def serves_again(stack: SidecarStack) -> None:
    eventually(
        lambda: stack.request("GET", f"{CREDS}/demo").status_code == 200, seconds=30, what="the recovery"
    )
    assert stack.works(stack.read_key()["data"]["api_key"])


@pytest.mark.slow
def test_a_silent_upstream_is_503_in_time_and_leases_end_meanwhile(own_stack: SidecarStack) -> None:
    """SIGSTOP: the kernel takes the connections and nobody reads from them, as behind a partition."""
    short = own_stack.read_key("brief")
    server = server_of(own_stack)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        refused_in_time(own_stack)
        leases_end_meanwhile(own_stack, short["data"]["api_key"])
    finally:
        os.kill(server.pid, signal.SIGCONT)
    serves_again(own_stack)


@pytest.mark.slow
def test_a_sealed_upstream_says_so_itself_and_leases_end_meanwhile(own_stack: SidecarStack) -> None:
    short = own_stack.read_key("brief")
    server = server_of(own_stack)
    server.seal()
    try:
        refused_in_time(own_stack)
        assert own_stack.request("GET", f"{CREDS}/demo").json() == {"errors": ["Vault is sealed"]}
        assert own_stack.request("GET", "sys/seal-status", token="").json()["sealed"] is True
        with own_stack.nothing_minted():
            assert own_stack.request("PUT", f"{CREDS}/demo", content=b"{bad").status_code in {400, 503}
        leases_end_meanwhile(own_stack, short["data"]["api_key"])
    finally:
        server.unseal()
    serves_again(own_stack)


@pytest.mark.slow
def test_an_upstream_that_is_gone_is_503_and_leases_end_meanwhile(own_stack: SidecarStack) -> None:
    short = own_stack.read_key("brief")
    server = server_of(own_stack)
    server.kill()
    try:
        refused_in_time(own_stack)
        health = httpx.get(f"{own_stack.address}/aikeys/health", timeout=10, trust_env=False)
        assert health.status_code == 503
        leases_end_meanwhile(own_stack, short["data"]["api_key"])
    finally:
        server.start()
    serves_again(own_stack)


def test_the_folders_of_the_sidecar_hold_no_secret_of_the_relay(own_stack: SidecarStack) -> None:
    """After all that went wrong above: neither the management key nor a minted key stands anywhere in clear."""
    key = own_stack.read_key()["data"]["api_key"]
    texts: dict[Path, bytes] = {
        path: path.read_bytes() for path in (own_stack.folder / "data").rglob("*") if path.is_file()
    }
    texts[Path("sidecar.log")] = own_stack.log.encode()
    assert texts
    for path, content in texts.items():
        for secret in (own_stack.relay.management_key, key, own_stack.root_token):
            assert secret.encode() not in content, path
