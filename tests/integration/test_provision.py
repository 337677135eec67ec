"""`aikeys provision` against both servers: plan first, a second run finds nothing to do, and never what is not ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import hvac
import hvac.exceptions
import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import clean_environment
from tests.realparts.server import ServerProcess
from tests.realparts.vault import VaultProcess

from aikeys.policy.folder import default_folder


@dataclass
class Provisioned:
    """A server of its own, and a copy of the policies that a test may change."""

    server: ServerProcess
    policies: Path
    apps: list[hvac.Client] = field(default_factory=list)

    def run(self, *arguments: str, command: str = "provision") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aikeys", *command.split(), "--policies", str(self.policies), *arguments],
            env=clean_environment(VAULT_ADDR=self.server.address, VAULT_TOKEN=self.server.root_token),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def applied(self, *arguments: str) -> str:
        done = self.run("--apply", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @cached_property
    def client(self) -> hvac.Client:
        return hvac.Client(url=self.server.address, token=self.server.root_token)

    def close(self) -> None:
        for client in (self.client, *self.apps):
            client.adapter.close()

    def login(self, approle: str) -> hvac.Client:
        client = self.client
        role_id = client.auth.approle.read_role_id(approle)["data"]["role_id"]
        secret_id = client.auth.approle.generate_secret_id(approle)["data"]["secret_id"]
        self.apps.append(hvac.Client(url=self.server.address))
        self.apps[-1].auth.approle.login(role_id, secret_id)
        return self.apps[-1]


@pytest.fixture(params=[OpenBaoProcess, VaultProcess], ids=["openbao", "vault"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Provisioned]:
    policies = tmp_path / "policies"
    shutil.copytree(default_folder(), policies)
    with request.param(tmp_path / "server") as server:
        found = Provisioned(server, policies)
        yield found
        found.close()


def test_the_plan_writes_nothing_and_apply_writes_all_and_a_second_run_nothing(place: Provisioned) -> None:
    planned = place.run()
    assert planned.returncode == 0, planned.stderr
    assert "Plan: 19 to create, 0 unchanged." in planned.stdout
    assert "ml-engineer" not in place.client.sys.list_acl_policies()["data"]["keys"]

    assert place.applied().count("done: create") == 19
    assert {"ml-engineer", "auditor"} <= set(place.client.sys.list_acl_policies()["data"]["keys"])
    again = place.applied()
    assert "Plan: 18 unchanged." in again
    assert "done" not in again
    same = place.run(command="policy diff")
    assert (same.returncode, same.stdout) == (0, "0 differ, 18 are the same\n")


def test_a_login_holds_what_its_file_says_and_its_team_from_the_metadata(place: Provisioned) -> None:
    place.applied()
    data = place.client.auth.approle.read_role("ml-engineer")["data"]
    assert (data["token_ttl"], data["token_max_ttl"], data["secret_id_num_uses"]) == (1200, 43200, 20)
    app = place.login("ml-engineer")
    assert sorted(app.auth.token.lookup_self()["data"]["policies"]) == ["default", "ml-engineer"]
    paths = ["ai-keys/creds/search.chat", "ai-keys/creds/ads.chat", "ai-keys/roles/"]
    answer = app.write_data("sys/capabilities-self", data={"paths": paths})["data"]
    assert [answer[path] for path in paths] == [["create", "read", "update"], ["deny"], ["list"]]

    # The entity is the AppRole's, not the login's: another login is the same one.
    assert (
        place.login("ml-engineer").auth.token.lookup_self()["data"]["entity_id"]
        == (app.auth.token.lookup_self()["data"]["entity_id"])
    )


def test_an_entity_that_a_login_made_before_gets_the_metadata(place: Provisioned) -> None:
    place.client.sys.enable_auth_method("approle")
    place.client.auth.approle.create_or_update_approle("ml-engineer", token_policies=["default"])
    entity = place.login("ml-engineer").auth.token.lookup_self()["data"]["entity_id"]
    place.applied("--adopt")
    read = place.client.secrets.identity.read_entity(entity)["data"]
    assert read["metadata"] == {"team": "search", "managed_by": "aikeys"}
    assert "18 unchanged" in place.applied()


def test_drift_by_hand_is_shown_and_mended(place: Provisioned) -> None:
    place.applied()
    client = place.client
    client.write_data("auth/approle/role/analytics", data={"token_ttl": "9h", "token_max_ttl": "9h"})
    held = client.sys.read_acl_policy("auditor")["data"]["policy"]
    client.sys.create_or_update_acl_policy(
        "auditor", held + 'path "secret/data/*" { capabilities = ["read"] }\n'
    )
    client.sys.delete_acl_policy("break-glass")
    entity = client.read("identity/entity/name/approle-ml-engineer")["data"]
    client.write_data(
        f"identity/entity/id/{entity['id']}", data={"metadata": {"team": "ads", "managed_by": "aikeys"}}
    )

    shown = place.run(command="policy diff")
    assert shown.returncode == 2
    assert "4 differ, 14 are the same" in shown.stdout
    for line in (
        "token_ttl: 32400 → 3600",
        '- path "secret/data/*" [read]',
        "+ policy break-glass",
        "entity metadata team: ads → search",
    ):
        assert line in shown.stdout
    assert "Plan: 1 to create, 3 to update, 14 unchanged." in place.applied()
    assert "18 unchanged" in place.applied()


def test_what_somebody_else_wrote_is_not_overwritten_unless_adopted(place: Provisioned) -> None:
    theirs = 'path "secret/data/audit" { capabilities = ["read"] }'
    place.client.sys.create_or_update_acl_policy("auditor", theirs)
    refused = place.run("--apply")
    assert refused.returncode == 1
    assert "not written by aikeys provision and different: policy auditor" in refused.stderr
    assert place.client.sys.read_acl_policy("auditor")["data"]["policy"] == theirs
    assert "ml-engineer" not in place.client.sys.list_acl_policies()["data"]["keys"]
    place.applied("--adopt")
    assert "18 unchanged" in place.applied()


def test_an_entity_of_somebody_else_is_left_alone(place: Provisioned) -> None:
    place.client.write_data("identity/entity/name/approle-auditor", data={"metadata": {"team": "theirs"}})
    refused = place.run("--apply")
    assert refused.returncode == 1
    assert "the entity approle-auditor exists and is not aikeys'" in refused.stderr
    held = place.client.read("identity/entity/name/approle-auditor")["data"]
    assert (held["metadata"], held["aliases"]) == ({"team": "theirs"}, [])
    place.client.delete("identity/entity/name/approle-auditor")
    place.applied()
    assert "18 unchanged" in place.applied()


def test_metadata_that_others_added_stays(place: Provisioned) -> None:
    place.applied()
    entity = place.client.read("identity/entity/name/approle-ml-engineer")["data"]
    metadata = {**entity["metadata"], "cost_center": "7", "team": "ads"}
    place.client.write_data(f"identity/entity/id/{entity['id']}", data={"metadata": metadata})
    assert "1 to update" in place.applied()
    held = place.client.read("identity/entity/name/approle-ml-engineer")["data"]["metadata"]
    assert held == {"team": "search", "managed_by": "aikeys", "cost_center": "7"}


def test_prune_deletes_what_no_file_names_any_more_and_nobody_elses(place: Provisioned) -> None:
    place.applied()
    client = place.client
    client.sys.create_or_update_acl_policy("theirs", 'path "a" { capabilities = ["read"] }')
    client.auth.approle.create_or_update_approle("theirs", token_policies=["theirs"])
    for file in ("analytics.hcl", "approles/analytics.hcl"):
        (place.policies / file).unlink()
    assert "16 unchanged" in place.applied()
    assert "analytics" in client.sys.list_acl_policies()["data"]["keys"]

    assert "2 to delete" in place.applied("--prune")
    assert "analytics" not in client.sys.list_acl_policies()["data"]["keys"]
    assert "analytics" not in client.auth.approle.list_roles()["data"]["keys"]
    assert client.read("identity/entity/name/approle-analytics") is None
    assert "theirs" in client.sys.list_acl_policies()["data"]["keys"]
    assert "theirs" in client.auth.approle.list_roles()["data"]["keys"]


def test_pruning_more_than_half_needs_force(place: Provisioned) -> None:
    place.applied()
    for file in [*place.policies.glob("*.hcl"), *place.policies.glob("approles/*.hcl")]:
        if file.stem not in {"auditor", "sidecar"}:
            file.unlink()
    refused = place.run("--apply", "--prune")
    assert refused.returncode == 1
    assert "would delete 14 of 18 that are ours" in refused.stderr
    assert "ml-engineer" in place.client.sys.list_acl_policies()["data"]["keys"]
    assert "14 to delete" in place.applied("--prune", "--force")


def test_what_check_finds_is_not_written(place: Provisioned) -> None:
    (place.policies / "auditor.hcl").write_text('path "sys/policies/acl/*" { capabilities = ["update"] }\n')
    refused = place.run("--apply")
    assert refused.returncode == 1
    assert "policies/auditor.hcl:1: escalation:" in refused.stderr
    assert "auditor" not in place.client.sys.list_acl_policies()["data"]["keys"]


def test_a_token_that_may_not_says_what_it_may_not(place: Provisioned) -> None:
    token = place.client.auth.token.create(policies=["default"])["auth"]["client_token"]
    place.server.root_token, kept = token, place.server.root_token
    refused = place.run("--apply")
    place.server.root_token = kept
    assert refused.returncode == 1
    assert refused.stderr.startswith("aikeys provision: the token may not read the policy")
    assert token not in refused.stderr + refused.stdout


def test_a_server_that_is_not_there_is_said_so(place: Provisioned) -> None:
    place.server.stop()
    refused = place.run("--apply")
    assert refused.returncode == 1
    assert "could not ask the server which it is" in refused.stderr
