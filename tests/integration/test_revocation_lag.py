"""Revoked means refused, by every node: seen where the role asks for it, told on the reply and in `leases`.

And what an operator gave up by force while the relay was away is told there too, until the relay has revoked it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.integration.balancer import Balancer
from tests.realparts.openbao import OpenBaoProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess

LEASES = f"{MOUNT}/leases"
LAG, BY = "x-aikeys-revocation-lag", "x-aikeys-effective-by"
QUICK = {
    "AIKEYS_REVOCATION_RETRY_BASE": "0.1",
    "AIKEYS_REVOCATION_RETRY_LONGEST": "0.5",
    "AIKEYS_RELAY_PROBE_INTERVAL": "0.3",
}


class Lagging:
    """A mount of its own at a relay of two nodes behind one address."""

    def __init__(self, stack: SidecarStack, relay: RelaySimulatorProcess, balancer: Balancer) -> None:
        self.stack = stack
        self.relay = relay
        self.balancer = balancer
        self.control = SimulatorControl(relay.address)

    def key(self, role: str) -> dict[str, Any]:
        answer = self.stack.request("GET", f"team-keys/creds/{role}")
        assert answer.status_code == 200, answer.text
        secret: dict[str, Any] = answer.json()
        return secret

    def revoke(self, lease_id: str) -> httpx.Response:
        return self.stack.request("PUT", "sys/leases/revoke", {"lease_id": lease_id, "sync": True})

    def accepted(self, secret: dict[str, Any]) -> list[bool]:
        """By each node."""
        headers = {"Authorization": f"Bearer {secret['data']['api_key']}"}
        bases = (self.relay.base_url, str(self.relay.second_base_url))
        return [
            httpx.get(f"{base}/keys/validate", headers=headers, trust_env=False).status_code == 200
            for base in bases
        ]

    def lease(self, lease_id: str) -> dict[str, Any]:
        """As `leases` shows it; {} when it does not."""
        shown = self.stack.request("GET", "team-keys/leases").json()["data"]["lease_info"]
        found: dict[str, Any] = shown.get(lease_id, {})
        return found


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarStack]:
    folder = tmp_path_factory.mktemp("lag")
    with OpenBaoProcess(folder / "upstream") as server, SidecarStack(server, folder, settings=QUICK) as stack:
        yield stack


@pytest.fixture(scope="module")
def relay(own_stack: SidecarStack) -> Iterator[Lagging]:
    with (
        RelaySimulatorProcess(second_node=True) as process,
        Balancer([process.address, str(process.second_address)]) as balancer,
    ):
        made = Lagging(own_stack, process, balancer)
        client = own_stack.hvac()
        client.sys.enable_secrets_engine("ai-keys", path="team-keys")
        config = {"base_url": f"{balancer.address}/v1", "management_key": process.management_key}
        client.write_data("team-keys/config", data=config)
        client.write_data("team-keys/roles/seen", data={"ttl": 60, "verify_revocation": True})
        client.write_data("team-keys/roles/plain", data={"ttl": 60})
        yield made
        made.control.close()


def told(answer: httpx.Response) -> tuple[float, datetime]:
    """The lag and the moment that a reply tells."""
    assert answer.status_code == 204, answer.text
    assert answer.content == b"", "Vault's answer has no body"
    return float(answer.headers[LAG]), datetime.fromisoformat(answer.headers[BY])


# -- nodes that lag ---------------------------------------------------------------------------------------------


def test_a_key_is_refused_only_when_the_slowest_node_refuses_it(relay: Lagging) -> None:
    relay.control.settings(revoke_lag_ms=[0, 1200])
    secret = relay.key("seen")
    began = datetime.now(UTC)

    lag, refused_by = told(relay.revoke(secret["lease_id"]))

    assert relay.accepted(secret) == [False, False]
    assert 1.0 < lag < 10
    assert began + timedelta(seconds=1) < refused_by < datetime.now(UTC) + timedelta(seconds=2)
    info = relay.lease(secret["lease_id"])
    assert (info["state"], info["ended_by"], info["lag"]) == ("ended", "revoke", lag)


def test_a_role_that_does_not_ask_is_told_the_relays_promise_alone(relay: Lagging) -> None:
    relay.control.settings(revoke_lag_ms=[0, 1200])
    answer = relay.revoke(relay.key("plain")["lease_id"])
    assert LAG not in answer.headers
    assert datetime.fromisoformat(answer.headers[BY]) > datetime.now(UTC) + timedelta(seconds=0.5)


def test_of_many_leases_the_longest_lag_is_told(relay: Lagging) -> None:
    relay.control.settings(revoke_lag_ms=[0, 0])
    secrets = [relay.key("seen") for _ in range(3)] + [relay.key("plain")]
    slow = secrets[1]["data"]["key_id"]
    relay.control.fault("revoke_lag", method="DELETE", path=f"/v1/keys/{slow}", seconds=1.2, count=None)
    answer = relay.stack.request("PUT", "sys/leases/revoke-prefix/team-keys/creds", {"sync": True})
    relay.control.clear_faults()
    assert told(answer)[0] > 1.0
    assert [relay.accepted(secret) for secret in secrets] == [[False, False]] * 4


def test_nothing_is_told_of_what_nobody_waited_for_or_nobody_knows(relay: Lagging) -> None:
    secret = relay.key("seen")
    later = relay.stack.request("PUT", "sys/leases/revoke", {"lease_id": secret["lease_id"], "sync": False})
    absent = relay.revoke("team-keys/creds/seen/000000000000000000000000")
    assert [later.status_code, absent.status_code] == [202, 204]
    for answer in (later, absent):
        assert not {LAG, BY} & set(answer.headers)
    eventually(lambda: relay.accepted(secret) == [False, False], what="the end of the key")


def test_the_servers_own_client_takes_it_as_it_is(relay: Lagging) -> None:
    secret = relay.key("seen")
    done = relay.stack.cli("lease", "revoke", "-sync", secret["lease_id"])
    assert "Success" in done.stdout


def test_a_key_that_is_accepted_for_long_is_awaited_in_the_background_across_a_restart(
    relay: Lagging,
) -> None:
    """The lease is on record until the key is refused, and the lag counts from the deletion, not from the restart."""
    relay.control.settings(revoke_lag_ms=[6000, 6000])
    secret = relay.key("seen")
    answer = relay.revoke(secret["lease_id"])
    assert answer.status_code == 400
    assert "deleted at the relay but is still accepted" in answer.json()["errors"][0]
    info = relay.lease(secret["lease_id"])
    assert (info["state"], "is still accepted" in info["error"]) == ("revoking", True)
    deleted_at = datetime.fromisoformat(info["deleted_at"])
    assert datetime.fromisoformat(info["refused_by"]) - deleted_at >= timedelta(seconds=5)
    assert relay.accepted(secret) == [True, True]

    relay.stack.stop_sidecar()
    relay.stack.start_sidecar()

    ended = eventually(
        lambda: (found := relay.lease(secret["lease_id"])).get("state") == "ended" and found,
        seconds=60,
        what="the refusal",
    )
    assert isinstance(ended, dict)
    assert ended["lag"] >= 5.9
    assert relay.accepted(secret) == [False, False]
    relay.control.settings(revoke_lag_ms=[0, 0])


def test_a_key_accepted_after_the_relays_own_promise_is_a_failure_that_is_seen(relay: Lagging) -> None:
    """The relay promises half a second and takes a minute, as one with caches does."""
    relay.control.settings(revoke_lag_ms=[60_000, 60_000], effective_within_ms=500)
    secret = relay.key("seen")
    assert relay.revoke(secret["lease_id"]).status_code == 400
    info = eventually(
        lambda: (found := relay.lease(secret["lease_id"])).get("failures", 0) >= 2 and found, what="failures"
    )
    assert isinstance(info, dict)
    assert "is still accepted" in info["error"]
    assert info["next_attempt"]
    relay.control.advance(61)
    eventually(lambda: relay.lease(secret["lease_id"]).get("state") == "ended", seconds=30)
    relay.control.settings(revoke_lag_ms=[0, 0], effective_within_ms=None)


# -- given up by force ------------------------------------------------------------------------------------------


def test_what_was_given_up_by_force_is_told_and_revoked_when_the_relay_is_back(
    own_stack: SidecarStack,
) -> None:
    stack = own_stack
    secret = stack.read_key()
    lease_id, key = secret["lease_id"], secret["data"]["api_key"]
    stack.control.outage()
    try:
        forced = stack.request("PUT", f"sys/leases/revoke-force/{MOUNT}/creds/demo")
        assert forced.status_code == 204, forced.text
        assert not {LAG, BY} & set(forced.headers)
        assert stack.request("PUT", "sys/leases/lookup", {"lease_id": lease_id}).status_code == 400
        shown = stack.request("GET", LEASES).json()["data"]
        assert shown["counts"]["given_up"] == 1
        info = shown["lease_info"][lease_id]
        assert (info["state"], info["key_id"]) == ("given_up", secret["data"]["key_id"])
        assert info["refused_by"] == secret["data"]["expires_at"]
        assert info["error"]
    finally:
        stack.control.end_outage()
    stack.dies(key, seconds=20)
    eventually(lambda: stack.request("GET", LEASES).json()["data"]["counts"]["given_up"] == 0)
    ended = stack.request("GET", LEASES).json()["data"]["lease_info"][lease_id]
    assert (ended["state"], ended["ended_by"]) == ("ended", "force")


def test_force_holds_up_no_unmount_and_the_risk_is_in_the_log(own_stack: SidecarStack) -> None:
    stack, mount = own_stack, "nested/ai/keys"
    client = stack.hvac()
    client.sys.enable_secrets_engine("ai-keys", path=mount)
    config = {"base_url": stack.relay.base_url, "management_key": stack.relay.management_key}
    client.write_data(f"{mount}/config", data=config)
    client.write_data(f"{mount}/roles/demo", data={"ttl": 60})
    secret = client.read(f"{mount}/creds/demo")
    stack.control.outage()
    try:
        assert stack.request("DELETE", f"sys/mounts/{mount}").status_code == 400, (
            "its lease cannot be revoked"
        )
        assert stack.request("PUT", f"sys/leases/revoke-force/{mount}").status_code == 204
        gone = stack.request("DELETE", f"sys/mounts/{mount}")
        assert gone.status_code == 204, gone.text
    finally:
        stack.control.end_outage()
    risks = [line for line in stack.log.splitlines() if secret["data"]["key_id"] in line]
    assert any("given up by force is tried no more" in line for line in risks)
    assert stack.works(secret["data"]["api_key"]), "nobody is left to revoke it but the relay's own expiry"


# -- who may read it --------------------------------------------------------------------------------------------


def test_who_may_read_leases_is_a_policy_on_its_path(own_stack: SidecarStack) -> None:
    stack = own_stack
    secret = stack.read_key()
    reader = stack.token(f'path "{LEASES}" {{ capabilities = ["read"] }}').token
    shown = stack.request("GET", f"{LEASES}?state=active&role=demo&limit=5", token=reader)
    assert shown.status_code == 200, shown.text
    assert secret["lease_id"] in shown.json()["data"]["leases"]
    assert secret["data"]["api_key"] not in shown.text
    for token in (stack.reader().token, ""):
        assert stack.request("GET", LEASES, token=token).status_code == 403
    for method in ("PUT", "DELETE", "LIST"):
        assert stack.request(method, LEASES, token=reader).status_code in {403, 405}
    bounded = stack.token(
        f'path "{LEASES}" {{ capabilities = ["read"] required_parameters = ["role"] '
        'allowed_parameters = { "role" = ["demo"] } }'
    ).token
    assert stack.request("GET", f"{LEASES}?role=demo", token=bounded).status_code == 200
    for query in ("", "?role=short", "?role=demo&state=active"):
        assert stack.request("GET", LEASES + query, token=bounded).status_code == 403
    wrong = stack.request("GET", f"{LEASES}?state=nowhere", token=reader)
    assert (wrong.status_code, "allowed are" in wrong.text) == (400, True)


def test_a_client_past_the_sidecar_sees_a_marker(own_stack: SidecarStack) -> None:
    assert set(own_stack.direct("GET", LEASES).json()["data"]) == {"aikeys_marker", "note"}


def test_it_is_in_the_help_and_in_the_document(own_stack: SidecarStack) -> None:
    text = own_stack.cli("path-help", LEASES).stdout
    assert "Show leases, and how their revocations go." in text
    document = own_stack.request("GET", "sys/internal/specs/openapi").json()
    described = document["paths"][f"/{LEASES}"]["get"]
    assert {item["name"] for item in described["parameters"]} == {"state", "role", "limit"}
    assert described["operationId"] == "ai-keys-read-leases"
