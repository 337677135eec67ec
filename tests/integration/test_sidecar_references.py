"""The sidecar reads the management key from where the config says, on both servers and both versions of KV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.sidecar_stack import MORE_MOUNTS, SidecarStack, eventually, unique

from aikeys.dev.provision import MORE_POLICY
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess

MOUNT = MORE_MOUNTS[0]
POLICY = f"sys/policies/acl/{MORE_POLICY}"
READ = '\npath "{path}" {{ capabilities = ["read"] }}\n'


class Place:
    """An entry of a KV engine that the sidecar may read, and a mount of the engine that is to name it."""

    def __init__(self, stack: SidecarStack, version: int) -> None:
        self.stack = stack
        self.version = version
        self.kv = unique("kv")
        self.upstream("POST", f"sys/mounts/{self.kv}", {"type": "kv", "options": {"version": str(version)}})
        self.path = f"{self.kv}/data/aikeys/relay" if version == 2 else f"{self.kv}/aikeys/relay"
        self.ref = f"{self.path}#management_key"
        self.policy: str = stack.upstream.request("GET", POLICY)["data"]["policy"]
        self.grant(READ.format(path=self.path))
        answer = stack.request("POST", f"sys/mounts/{MOUNT}", {"type": "ai-keys"})
        assert answer.status_code == 204, answer.text

    def upstream(self, method: str, path: str, body: object = None) -> None:
        answer = self.stack.direct(method, path, body)
        assert answer.is_success, answer.text

    def grant(self, block: str) -> None:
        """The sidecar's own policy, with `block` more."""
        self.stack.upstream.request("PUT", POLICY, {"policy": self.policy + block})

    def put(self, key: str) -> None:
        """Store the management key there."""
        fields = {"management_key": key, "note": "not the key"}
        self.upstream("POST", self.path, {"data": fields} if self.version == 2 else fields)

    def configure(self, *, token: str | None = None, **fields: object) -> httpx.Response:
        body = {"base_url": self.stack.relay.base_url, "management_key_ref": self.ref, **fields}
        return self.stack.request("POST", f"{MOUNT}/config", body, token=token)

    def mint(self) -> httpx.Response:
        return self.stack.request("GET", f"{MOUNT}/creds/app")

    def close(self) -> None:
        self.stack.request("PUT", f"sys/leases/revoke-prefix/{MOUNT}", {"sync": True})
        answer = self.stack.request("DELETE", f"sys/mounts/{MOUNT}")
        assert answer.status_code == 204, answer.text
        self.upstream("DELETE", f"sys/mounts/{self.kv}")
        self.grant("")


@pytest.fixture(params=[1, 2], ids=["kv1", "kv2"])
def place(stack: SidecarStack, request: pytest.FixtureRequest) -> Iterator[Place]:
    made = Place(stack, request.param)
    try:
        yield made
    finally:
        made.close()


def a_management_key(stack: SidecarStack) -> str:
    key: str = stack.control.management_key()["key"]
    return key


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RelaySimulatorProcess]:
    """One of the test's own, whose clock it may move."""
    with RelaySimulatorProcess(log=tmp_path / "relay.log") as process:
        yield process


def call(relay: RelaySimulatorProcess, method: str, path: str, key: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": unique("call")}
    return httpx.request(method, relay.base_url + path, headers=headers, timeout=10, trust_env=False)


def test_a_key_that_is_rotated_in_kv_alone_mints_and_revokes_on(
    place: Place, relay: RelaySimulatorProcess
) -> None:
    stack = place.stack
    place.put(relay.management_key)
    answer = place.configure(base_url=relay.base_url)
    assert answer.status_code == 204, answer.text
    assert stack.request("POST", f"{MOUNT}/roles/app", {"ttl": 3600, "max_ttl": 7200}).status_code == 204
    first = place.mint().json()

    rotated = call(relay, "POST", "/management/rotate", relay.management_key)
    assert rotated.status_code == 201, rotated.text
    with SimulatorControl(relay.address) as control:
        # The old one works for five minutes more.
        control.advance(301)
    assert call(relay, "GET", "/auth/verify", relay.management_key).status_code == 401
    place.put(rotated.json()["key"])
    answer = place.mint()

    assert answer.status_code == 200, answer.text
    for secret in (first, answer.json()):
        key = secret["data"]["api_key"]
        assert call(relay, "GET", "/keys/validate", key).status_code == 200
        revoked = stack.request("PUT", "sys/leases/revoke", {"lease_id": secret["lease_id"], "sync": True})
        assert revoked.status_code == 204, revoked.text
        eventually(lambda key=key: call(relay, "GET", "/keys/validate", key).status_code == 401)  # type: ignore[misc]
    shown = stack.request("GET", f"{MOUNT}/config").json()["data"]
    assert shown["management_key_ref"] == place.ref
    assert "management_key" not in shown


def test_a_restarted_sidecar_reads_the_key_again(place: Place) -> None:
    stack = place.stack
    place.put(a_management_key(stack))
    assert place.configure().status_code == 204
    assert stack.request("POST", f"{MOUNT}/roles/app", {"ttl": 60, "max_ttl": 120}).status_code == 204

    stack.stop_sidecar()
    stack.start_sidecar()

    assert place.mint().status_code == 200


def test_what_cannot_be_read_is_said_with_what_helps(place: Place) -> None:
    stack = place.stack
    answer = place.configure()
    assert answer.status_code == 400
    assert f"there is no entry at {place.path}" in answer.text

    key = a_management_key(stack)
    place.put(key)
    answer = place.configure(management_key_ref=f"{place.path}#elsewhere")
    assert "has no text in a field elsewhere" in answer.text

    place.grant("")
    answer = place.configure()
    assert answer.status_code == 400
    assert f"the sidecar's own policy must grant read on {place.path}" in answer.text
    assert key not in answer.text
    assert key not in stack.log


def test_only_who_may_read_the_key_may_send_it_somewhere(place: Place) -> None:
    """Else whoever may configure a mount could have any value that the sidecar may read sent to a server of theirs."""
    stack = place.stack
    place.put(a_management_key(stack))
    configures = f'path "{MOUNT}/config" {{ capabilities = ["create", "update"] }}\n'
    may_not = stack.token(configures)
    may = stack.token(configures + READ.format(path=place.path))

    refused = place.configure(token=may_not.token)
    assert refused.status_code == 403
    assert f"by who may read {place.path}" in refused.text
    assert stack.request("GET", f"{MOUNT}/config").status_code == 404

    allowed = place.configure(token=may.token)
    assert allowed.status_code == 204, allowed.text
