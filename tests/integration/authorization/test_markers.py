"""Only the marker of exactly this path proves a right, and whoever damages one gains nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from tests.integration.authorization.conftest import marker
from tests.sidecar_stack import MOUNT, SidecarStack, unique


def test_no_secret_of_a_write_reaches_the_shadow(stack: SidecarStack) -> None:
    secret = "hs-mgmt-obviously-fake-0123456789"
    config = {
        "relay": "holysheep",
        "base_url": "http://127.0.0.1:1/v1",
        "management_key": secret,
        "bogus": secret,
    }
    seen: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(stack.direct("GET", f"{MOUNT}/config").text)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            refused = stack.request("POST", f"{MOUNT}/config", {**config, "relay": "nonesuch"})
            assert refused.status_code == 400
    finally:
        stop.set()
        watcher.join()
    assert seen
    assert secret not in "".join(seen)
    assert stack.request("GET", f"{MOUNT}/config").json()["data"]["relay"] == "holysheep"


def test_an_overwritten_marker_never_authorises_and_is_put_back(stack: SidecarStack, role: str) -> None:
    stack.direct("PUT", f"{MOUNT}/creds/{role}", {"aikeys_marker": "0" * 64})
    token = stack.reader(role).token

    with stack.nothing_minted():
        refused = stack.request("GET", f"{MOUNT}/creds/{role}", token=token)
    assert refused.status_code == 503
    assert "restored" in refused.json()["errors"][0]
    assert stack.request("GET", f"{MOUNT}/creds/{role}", token=token).status_code == 200


def test_a_marker_copied_from_another_path_never_authorises(stack: SidecarStack, role: str) -> None:
    stack.direct("PUT", f"{MOUNT}/creds/{role}", marker(stack, "creds/demo"))

    with stack.nothing_minted():
        assert stack.request("GET", f"{MOUNT}/creds/{role}").status_code == 503


def test_a_missing_marker_never_authorises_and_is_put_back(stack: SidecarStack, role: str) -> None:
    token = stack.token(f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read", "update"] }}').token
    for method, body in (("GET", None), ("PUT", None)):
        stack.direct("DELETE", f"{MOUNT}/creds/{role}")
        with stack.nothing_minted():
            refused = stack.request(method, f"{MOUNT}/creds/{role}", body, token=token)
        # Without the entry an update is a create to the server: refused there, which leaves nothing to put back.
        assert refused.status_code == (503 if method == "GET" else 403)
        if method == "PUT":
            stack.request("GET", f"{MOUNT}/creds/{role}")
        assert stack.request(method, f"{MOUNT}/creds/{role}", body, token=token).status_code == 200


def test_a_foreign_entry_where_the_engine_has_nothing_mints_nothing(stack: SidecarStack) -> None:
    stack.direct("PUT", f"{MOUNT}/creds/ghost", {"a": "b"})
    try:
        with stack.nothing_minted():
            got = stack.request("GET", f"{MOUNT}/creds/ghost")
        assert (got.status_code, got.json()) == (400, {"errors": ["unknown role: ghost"]})
    finally:
        stack.direct("DELETE", f"{MOUNT}/creds/ghost")


def test_a_role_that_is_deleted_takes_its_markers_along(stack: SidecarStack) -> None:
    name = unique("authz-gone")
    stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": "60s"})
    assert marker(stack, f"roles/{name}")
    assert marker(stack, f"creds/{name}")

    assert stack.request("DELETE", f"{MOUNT}/roles/{name}").status_code == 204

    assert marker(stack, f"roles/{name}") is None
    assert marker(stack, f"creds/{name}") is None
    assert stack.request("GET", f"{MOUNT}/creds/{name}").status_code == 400


def test_a_refused_write_leaves_the_marker_and_the_role_as_they_were(stack: SidecarStack, role: str) -> None:
    before = marker(stack, f"roles/{role}")

    got = stack.request("POST", f"{MOUNT}/roles/{role}", {"ttl": "10m", "max_ttl": "5m"})

    assert got.status_code == 400
    assert marker(stack, f"roles/{role}") == before
    assert stack.request("GET", f"{MOUNT}/roles/{role}").json()["data"]["ttl"] == 60


def test_a_refused_create_leaves_no_entry_behind(stack: SidecarStack) -> None:
    name = unique("authz-never")
    got = stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": "10m", "max_ttl": "5m"})

    assert got.status_code == 400
    assert marker(stack, f"roles/{name}") is None
    assert marker(stack, f"creds/{name}") is None


def test_reads_and_writes_at_once_all_succeed(stack: SidecarStack, role: str) -> None:
    """A write replaces the marker for a moment; a read that meets it waits for the marker to be back."""

    def ask(number: int) -> int:
        if number % 3:
            return stack.request("GET", f"{MOUNT}/creds/{role}").status_code
        return stack.request("PUT", f"{MOUNT}/creds/{role}", {"ttl": "30s"}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(48)))
    assert statuses == [200] * 48
