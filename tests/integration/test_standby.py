"""The sidecar at a standby node of a real cluster: a redirect to the active node never reaches the client.

Followed, it would lead past the sidecar, where the shadow answers in the engine's place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.server import ServerProcess
from tests.realparts.vault import VaultProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

NO_FORWARDING = {"X-Vault-No-Request-Forwarding": "true"}


class _Standby(ServerProcess):
    """The second node of the cluster whose first node is `active`."""

    active: ServerProcess

    def _server_config(self) -> str:
        return super()._server_config().replace('"node1"', '"node2"')

    def _initialise(self) -> None:
        joined = self.request(
            "POST", "sys/storage/raft/join", {"leader_api_addr": self.active.address}, token=None
        )
        assert joined["joined"] is True
        self.unseal_key = self.active.unseal_key
        self.root_token = self.active.root_token

    def _wait_until_active(self, seconds: float = 30.0) -> None:
        # 429: unsealed, and somebody else is active.
        eventually(lambda: self._status("sys/health") == 429, seconds=seconds, what="the standby")


class OpenBaoStandby(_Standby, OpenBaoProcess):
    """A standby of OpenBao: it reads by itself and forwards writes."""


class VaultStandby(_Standby, VaultProcess):
    """A standby of Vault: it forwards everything."""


NODES = [
    pytest.param((OpenBaoProcess, OpenBaoStandby), id="openbao"),
    pytest.param((VaultProcess, VaultStandby), id="vault"),
]


@pytest.fixture(scope="module", params=NODES)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SidecarStack, ServerProcess, ServerProcess]]:
    """A sidecar in front of the standby, the active node, and the standby."""
    first, second = request.param
    folder: Path = tmp_path_factory.mktemp("cluster")
    with first(folder / "active", storage="raft") as active, SidecarStack(active, folder) as stack:
        standby = second(folder / "standby", storage="raft")
        standby.active = active
        with standby:
            brief = {"ttl": 3, "max_ttl": 60}
            assert stack.request("POST", f"{MOUNT}/roles/brief", brief).status_code == 204
            # Set up at the active node: at a standby of OpenBao, what was just written is not at once read.
            stack.stop_sidecar()
            stack.settings["AIKEYS_UPSTREAM_ADDR"] = standby.address
            stack.start_sidecar()
            yield stack, active, standby


@pytest.mark.slow
def test_a_standby_behind_the_sidecar_serves_and_redirects_nobody(
    cluster: tuple[SidecarStack, ServerProcess, ServerProcess],
) -> None:
    stack, active, standby = cluster
    secret = stack.read_key()
    assert stack.works(secret["data"]["api_key"])

    own = f"{MOUNT}/creds/demo"
    for path in (own, f"{MOUNT}/roles/demo", "cubbyhole/x"):
        redirected = stack.request("PUT", path, {"ttl": 30}, headers=NO_FORWARDING, address=standby.address)
        assert redirected.status_code == 307, "the standby forwards all the same: nothing is tested here"
        with stack.nothing_minted():
            answer = stack.request("PUT", path, {"ttl": 30}, headers=NO_FORWARDING)
        assert answer.status_code == 503, f"{path}: {answer.status_code}"
        assert "location" not in answer.headers
        assert active.address not in answer.text

    revoked = stack.request("PUT", "sys/leases/revoke", {"lease_id": secret["lease_id"]})
    assert revoked.status_code == 204
    assert not stack.works(secret["data"]["api_key"])


@pytest.mark.slow
def test_while_the_active_node_is_away_the_answer_is_503_and_leases_end(
    cluster: tuple[SidecarStack, ServerProcess, ServerProcess],
) -> None:
    stack, active, _standby = cluster
    secret = stack.read_key("brief")
    active.kill()
    # OpenBao's standby proves reads by itself.
    for method in ("PUT", "GET") if stack.is_vault else ("PUT",):
        with stack.nothing_minted():
            answer = stack.request(method, f"{MOUNT}/creds/demo", {"ttl": 30})
        assert answer.status_code >= 500, answer.text
        assert "location" not in answer.headers
        assert active.address not in answer.text
    stack.dies(secret["data"]["api_key"], seconds=15)
