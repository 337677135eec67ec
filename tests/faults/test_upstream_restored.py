"""The Vault's storage is put back to an older copy: mounts, markers, policies and tokens are those of that time again.

What the sidecar keeps is younger. So a marker may stand for a role that is gone, and another may be missing; a mount of
ours may be back, gone, or another than the one on record. Nothing is minted by what is old, no lease is lost for it,
and keys go on ending when they should.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.server import ServerProcess
from tests.realparts.vault import VaultProcess
from tests.sidecar_stack import MOUNT, OPERATOR, SidecarStack, eventually

from aikeys.sidecar.witness import ENTRY, NUMBER_FIELD

BACK, GONE, MADE_ANEW = "team-keys", "moved-keys", "nested/ai/keys"
CREDS = f"{MOUNT}/creds"
SECRET = "sk-holysheep-admin-" + "E" * 32
BRIEF = 6
QUICK = {
    "AIKEYS_UPSTREAM_TIMEOUT": "5",
    "AIKEYS_IDENTITY_CACHE": "0",
    # The number by which a Vault that was set back is told rises so often.
    "AIKEYS_TOKEN_SWEEP_INTERVAL": "1",
    "AIKEYS_REVOCATION_RETRY_BASE": "0.1",
    "AIKEYS_REVOCATION_RETRY_LONGEST": "1",
}
SERVERS = [pytest.param(OpenBaoProcess, id="openbao"), pytest.param(VaultProcess, id="vault")]


class Restored:
    """A stack whose Vault was set back, and what was there before that."""

    def __init__(self, stack: SidecarStack, copy: Path) -> None:
        self.stack = stack
        self.copy = copy
        self.leases: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, str] = {}

    @property
    def server(self) -> ServerProcess:
        assert isinstance(self.stack.upstream, ServerProcess)
        return self.stack.upstream

    @property
    def _data(self) -> Path:
        return self.server.folder / "data"

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        answer = self.stack.request(method, path, body, **options)
        assert answer.status_code in {200, 204}, f"{method} {path}: {answer.status_code} {answer.text}"
        decoded: dict[str, Any] = answer.json() if answer.content else {}
        return decoded

    def engine(self, mount: str, *roles: str, ttl: int = 600) -> None:
        relay = self.stack.relay
        self.ok("POST", f"sys/mounts/{mount}", {"type": "ai-keys"})
        config = {"base_url": relay.base_url, "management_key": relay.management_key}
        self.ok("POST", f"{mount}/config", config)
        for role in roles:
            self.ok("POST", f"{mount}/roles/{role}", {"ttl": ttl, "max_ttl": 1200})

    def disable(self, mount: str) -> None:
        eventually(
            lambda: self.stack.request("DELETE", f"sys/mounts/{mount}").status_code == 204,
            seconds=30,
            what=f"the end of {mount}",
        )

    def issue(self, name: str, path: str, **options: Any) -> None:
        self.leases[name] = self.ok("GET", path, **options)

    def before(self) -> None:
        for role in ("kept", "changed", "gone", "remade"):
            self.ok("POST", f"{MOUNT}/roles/{role}", {"ttl": 600, "max_ttl": 1200})
        self.ok("POST", f"{MOUNT}/roles/brief", {"ttl": BRIEF, "max_ttl": 60})
        self.engine(BACK, "x")
        self.engine(MADE_ANEW, "x")
        self.tokens["old"] = self.stack.token(OPERATOR, ttl="1h").token
        self.tokens["revoked since"] = self.stack.token(OPERATOR, ttl="1h").token
        self.issue("before", f"{CREDS}/kept", token=self.tokens["old"])

    def save(self) -> None:
        self.server.stop()
        shutil.copytree(self._data, self.copy)
        self.server.start()
        eventually(self.healthy, seconds=40, what="the sidecar's health")
        number = self.number()
        eventually(lambda: self.number() > number, seconds=30, what="a number that the copy does not have")

    def number(self) -> int:
        data = self.stack.direct("GET", f"{MOUNT}/{ENTRY}").json().get("data", {})
        return int(data.get(NUMBER_FIELD, 0))

    def after(self) -> None:
        self.ok("POST", f"{MOUNT}/roles/changed", {"ttl": 300})
        self.ok("DELETE", f"{MOUNT}/roles/gone")
        self.ok("DELETE", f"{MOUNT}/roles/remade")
        self.ok("POST", f"{MOUNT}/roles/remade", {"ttl": 120})
        self.ok("POST", f"{MOUNT}/roles/late", {"ttl": 600})
        self.ok("DELETE", f"sys/mounts/{BACK}")
        self.ok("DELETE", f"sys/mounts/{MADE_ANEW}")
        self.engine(MADE_ANEW, "x")
        self.engine(GONE, "x")
        self.tokens["new"] = self.stack.token(OPERATOR, ttl="1h").token
        self.ok("POST", "auth/token/revoke", {"token": self.tokens["revoked since"]})
        self.issue("after", f"{CREDS}/late", token=self.tokens["new"])
        self.issue("in the mount that is gone", f"{GONE}/creds/x")
        self.issue("in the mount made anew", f"{MADE_ANEW}/creds/x")

    def restore(self) -> None:
        self.issue("brief", f"{CREDS}/brief")
        self.server.stop()
        shutil.rmtree(self._data)
        shutil.copytree(self.copy, self._data)
        self.server.start()
        eventually(self.healthy, seconds=40, what="the sidecar's health")

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.stack.address}/aikeys/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def works(self, name: str) -> bool:
        return self.stack.works(self.leases[name]["data"]["api_key"])

    def revoke(self, name: str) -> httpx.Response:
        return self.stack.request("PUT", "sys/leases/revoke", {"lease_id": self.leases[name]["lease_id"]})


@pytest.fixture(scope="module", params=SERVERS)
def restored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    kind: type[ServerProcess] = request.param
    folder = tmp_path_factory.mktemp("restored")
    with (
        kind(folder / "upstream", storage="raft") as server,
        SidecarStack(server, folder, settings=QUICK) as stack,
    ):
        made = Restored(stack, folder / "copy")
        made.before()
        made.save()
        made.after()
        made.restore()
        yield made


def test_keys_whose_time_has_come_meanwhile_end(restored: Restored) -> None:
    restored.stack.dies(restored.leases["brief"]["data"]["api_key"], seconds=BRIEF + 20)


def test_a_marker_of_a_role_that_is_gone_mints_nothing(restored: Restored) -> None:
    """It is a marker of ours, and the policy of that time lets its readers through."""
    stack = restored.stack
    assert "aikeys_marker" in stack.direct("GET", f"{CREDS}/gone").json()["data"], (
        "not the case that is meant"
    )
    with stack.nothing_minted():
        for method in ("GET", "PUT"):
            refused = stack.request(method, f"{CREDS}/gone", token=restored.tokens["old"])
            assert (refused.status_code, refused.json()["errors"]) == (400, ["unknown role: gone"])
        assert stack.request("GET", f"{MOUNT}/roles/gone").status_code == 404


def test_a_role_whose_marker_is_missing_is_served_again_after_one_refusal(restored: Restored) -> None:
    stack = restored.stack
    with stack.nothing_minted():
        refused = stack.request("GET", f"{CREDS}/late", token=restored.tokens["old"])
    assert refused.status_code == 503
    assert "has been restored, try again" in refused.json()["errors"][0]
    assert stack.works(restored.ok("GET", f"{CREDS}/late", token=restored.tokens["old"])["data"]["api_key"])


def test_roles_are_as_they_were_last_written(restored: Restored) -> None:
    for role, ttl in (("kept", 600), ("changed", 300), ("remade", 120)):
        assert restored.ok("GET", f"{MOUNT}/roles/{role}")["data"]["ttl"] == ttl
        secret = restored.ok("GET", f"{CREDS}/{role}", token=restored.tokens["old"])
        assert secret["lease_duration"] == ttl
        assert restored.stack.works(secret["data"]["api_key"])


def test_tokens_are_as_the_vault_says_now(restored: Restored) -> None:
    """One that was made since is unknown and gets nothing; one that was revoked since lives again, and that is its say."""
    stack = restored.stack
    with stack.nothing_minted():
        assert stack.request("GET", f"{CREDS}/kept", token=restored.tokens["new"]).status_code == 403
    assert stack.request("GET", f"{CREDS}/kept", token=restored.tokens["revoked since"]).status_code == 200


@pytest.mark.parametrize("name", ["before", "after", "in the mount that is gone", "in the mount made anew"])
def test_no_lease_is_lost_and_each_can_be_ended(restored: Restored, name: str) -> None:
    assert restored.works(name), "ended by what the Vault has forgotten"
    lease_id = restored.leases[name]["lease_id"]
    assert restored.stack.request("PUT", "sys/leases/lookup", {"lease_id": lease_id}).status_code == 200
    ended = restored.revoke(name)
    assert ended.status_code == 204, ended.text
    assert not restored.works(name)


@pytest.mark.parametrize("mount", [GONE, MADE_ANEW])
def test_a_mount_whose_shadow_is_gone_or_anothers_serves_nothing(restored: Restored, mount: str) -> None:
    stack = restored.stack
    with stack.nothing_minted():
        for method, path in (("GET", "creds/x"), ("PUT", "creds/x"), ("GET", "roles/x"), ("POST", "config")):
            body = {"management_key": SECRET} if method == "POST" else None
            answer = stack.request(method, f"{mount}/{path}", body)
            assert answer.status_code in {400, 403, 404, 503}, f"{method} {path}: {answer.text}"
            assert "aikeys_marker" not in answer.text
    stored = stack.direct("GET", f"{mount}/config").text
    assert SECRET not in stored, "a management key in the Vault's books"


def test_a_mount_that_is_back_is_no_engine(restored: Restored) -> None:
    with restored.stack.nothing_minted():
        for method in ("GET", "PUT"):
            assert "api_key" not in restored.stack.request(method, f"{BACK}/creds/x").text


def test_after_a_restart_nothing_is_minted_that_was_not_before_and_all_that_was_is(
    restored: Restored,
) -> None:
    """The first thing a new process does is to compare its mounts with the Vault's."""
    stack = restored.stack
    stack.stop_sidecar()
    stack.start_sidecar()
    eventually(restored.healthy, seconds=40, what="the sidecar's health")
    with stack.nothing_minted():
        for path in (f"{CREDS}/gone", f"{GONE}/creds/x", f"{MADE_ANEW}/creds/x"):
            answer = stack.request("GET", path)
            assert answer.status_code in {400, 404, 503}, answer.text
        # Compared by now: what stands there is nobody's mount on record, and was made by a sidecar.
        for mount in (BACK, MADE_ANEW):
            for method, path in (
                ("GET", "creds/x"),
                ("PUT", "creds/x"),
                ("LIST", "roles"),
                ("POST", "config"),
            ):
                body = {"management_key": SECRET} if method == "POST" else None
                answer = stack.request(method, f"{mount}/{path}", body)
                assert answer.status_code == 503, answer.text
                assert "the shadow of an engine that is not on record here" in answer.json()["errors"][0]
            assert SECRET not in stack.direct("GET", f"{mount}/config").text
    found = eventually(
        lambda: (answer := stack.request("GET", f"{CREDS}/kept")).status_code == 200 and answer, what="a key"
    )
    assert isinstance(found, httpx.Response)
    assert stack.works(found.json()["data"]["api_key"])
    for mount in (BACK, GONE, MADE_ANEW):
        restored.disable(mount)
        assert stack.request("GET", f"{mount}/config").status_code == 404
        restored.engine(mount, "x")
        assert stack.works(restored.ok("GET", f"{mount}/creds/x")["data"]["api_key"])
    log = stack.log
    assert "Traceback" not in log
    assert stack.relay.management_key not in log
