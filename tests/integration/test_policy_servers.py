"""The shipped policies and what the commands say of live tokens, held against both servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hvac
import hvac.exceptions
import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import clean_environment
from tests.realparts.server import ServerFailed, ServerProcess
from tests.realparts.vault import VaultProcess

from aikeys.policy.evaluate import Acl, Request
from aikeys.policy.folder import Folder, default_folder, read_folder
from aikeys.policy.live import (
    connect,
    engine_roles,
    kv2_mounts,
    read_holder,
    read_live,
    read_policies,
    server_of,
)
from aikeys.policy.parse import Server, parse_policy
from aikeys.policy.root_paths import needs_sudo
from aikeys.policy.templating import Entity
from aikeys.provision.apply import apply
from aikeys.provision.plan import make_plan

PATHS = [
    "ai-keys/config",
    "ai-keys/creds/search.chat",
    "ai-keys/creds/ads.chat",
    "ai-keys/creds/searching",
    "ai-keys/creds/customer-service",
    "ai-keys/creds/analytics",
    "ai-keys/roles",
    "ai-keys/roles/",
    "ai-keys/roles/search.chat",
    "ai-keys/roles/analytics",
    "auth/approle/role/",
    "auth/approle/role/analytics",
    "auth/approle/role/analytics/role-id",
    "auth/approle/role/analytics/secret-id",
    "auth/approle/role/platform-admin/secret-id",
    "auth/token/accessors/",
    "auth/token/create",
    "auth/token/lookup",
    "identity/entity/id/x",
    "secret/data/x",
    "sys/audit",
    "sys/leases/lookup",
    "sys/leases/lookup/ai-keys/creds/analytics/",
    "sys/leases/revoke",
    "sys/leases/revoke/ai-keys/creds/search.chat/x",
    "sys/leases/revoke-force/ai-keys/creds/x",
    "sys/leases/revoke-prefix/ai-keys/creds/x",
    "sys/leases/revoke-prefix/auth/approle/login",
    "sys/mounts/ai-keys/tune",
    "sys/policies/acl/auditor",
]


@dataclass
class Live:
    server: ServerProcess
    kind: Server
    files: Folder
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    clients: dict[str, hvac.Client] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {"VAULT_ADDR": self.server.address, "VAULT_TOKEN": self.server.root_token}

    @property
    def client(self) -> hvac.Client:
        if "" not in self.clients:
            self.clients[""] = connect(self.environment)
        return self.clients[""]

    def with_token(self, token: str) -> hvac.Client:
        if token not in self.clients:
            self.clients[token] = hvac.Client(url=self.server.address, token=token)
        return self.clients[token]

    def login(self, approle: str) -> dict[str, Any]:
        """The `auth` of one login, the same for each call: tokens are for asking about."""
        if approle not in self.tokens:
            methods = self.client.auth.approle
            role_id = methods.read_role_id(approle)["data"]["role_id"]
            secret_id = methods.generate_secret_id(approle)["data"]["secret_id"]
            self.tokens[approle] = hvac.Client(url=self.server.address).auth.approle.login(
                role_id, secret_id
            )["auth"]
        return self.tokens[approle]

    def holding(self, approle: str) -> hvac.Client:
        return self.with_token(self.login(approle)["client_token"])

    def aikeys(self, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **({"VAULT_TOKEN": token} if token else {})}
        return subprocess.run(
            [sys.executable, "-m", "aikeys", *arguments],
            env=clean_environment(**environment), capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module", params=[OpenBaoProcess, VaultProcess], ids=["openbao", "vault"])
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of its own with the shipped policies and AppRoles in it, and a KV at the engine's path."""
    with request.param(tmp_path_factory.mktemp("server")) as server:
        found = Live(
            server, Server.OPENBAO if server.program == "bao" else Server.VAULT, read_folder(default_folder())
        )
        apply(
            found.client,
            found.files,
            make_plan(found.files, read_live(found.client, found.files)).changes,
            print,
        )
        found.client.sys.enable_secrets_engine("kv", path="ai-keys", options={"version": "1"})
        yield found
        for client in found.clients.values():
            client.adapter.close()


def test_the_product_is_recognised(live: Live) -> None:
    assert server_of(live.client) is live.kind


def test_every_approle_may_do_what_the_files_say_and_the_server_agrees(live: Live) -> None:
    default = read_policies(live.client, ["default"], live.kind)
    for approle in live.files.approles:
        token = live.login(approle.name)["client_token"]
        reported = live.client.write_data("sys/capabilities", data={"token": token, "paths": PATHS})["data"]
        acl = Acl([*live.files.of(approle), *default], live.kind, entity=Entity(metadata=approle.metadata))
        assert {path: acl.capabilities(path) for path in PATHS} == {path: reported[path] for path in PATHS}, (
            approle.name
        )


def test_the_default_policy_and_every_live_policy_can_be_read(live: Live) -> None:
    holder = read_holder(live.client, live.login("ml-engineer")["accessor"])
    assert holder.policies == ("default", "ml-engineer")
    assert holder.entity is not None
    assert holder.entity.metadata == {"team": "search", "managed_by": "aikeys"}
    assert {policy.name for policy in read_policies(live.client, holder.policies, live.kind)} == set(
        holder.policies
    )


def test_the_rotation_bot_hands_out_secret_ids_only_wrapped_and_cannot_log_in_with_them(live: Live) -> None:
    bot = live.holding("rotation-bot")
    path = "auth/approle/role/analytics/secret-id"
    with pytest.raises(hvac.exceptions.Forbidden):
        bot.write_data(path)
    with pytest.raises(hvac.exceptions.Forbidden):
        bot.write_data(path, wrap_ttl="1h")
    wrapped = bot.write_data(path, wrap_ttl="5m")["wrap_info"]["token"]
    with pytest.raises(hvac.exceptions.Forbidden):
        bot.auth.approle.read_role_id("analytics")
    with pytest.raises(hvac.exceptions.Forbidden):
        bot.write_data("auth/approle/role/platform-admin/secret-id", wrap_ttl="5m")
    assert live.server.request("PUT", "sys/wrapping/unwrap", token=wrapped)["data"]["secret_id"]


def test_a_secret_id_of_the_break_glass_works_once(live: Live) -> None:
    methods = live.client.auth.approle
    role_id = methods.read_role_id("break-glass")["data"]["role_id"]
    secret_id = methods.generate_secret_id("break-glass")["data"]["secret_id"]
    body = {"role_id": role_id, "secret_id": secret_id}
    given = live.server.request("POST", "auth/approle/login", body, token=None)["auth"]
    assert given["lease_duration"] <= 900
    with pytest.raises(ServerFailed, match="400"):
        live.server.request("POST", "auth/approle/login", body, token=None)


def test_root_protected_paths_are_those_that_the_server_marks(live: Live) -> None:
    paths = live.server.request("GET", "sys/internal/specs/openapi")["paths"]
    known = {path: about for path, about in paths.items() if path.startswith(("/sys/", "/auth/token/"))}
    assert len(known) > 100
    for path, about in known.items():
        # OpenBao protects these two in its code and leaves them out of the document.
        if path not in {"/sys/seal", "/sys/step-down"}:
            assert needs_sudo(path, live.kind) == bool(about.get("x-vault-sudo")), path


def test_root_protected_paths_refuse_without_sudo(live: Live) -> None:
    for index, (grant, allowed) in enumerate(
        [('"list", "update"', False), ('"list", "update", "sudo"', True)]
    ):
        text = f'path "auth/token/accessors/" {{ capabilities = [{grant}] }}'
        name = f"accessors-{index}"
        live.client.sys.create_or_update_acl_policy(name, text)
        token = live.client.auth.token.create(policies=[name])["auth"]["client_token"]
        acl = Acl([parse_policy(text, name=name, file="x")], live.kind)
        assert acl.decide(Request("list", "auth/token/accessors")).allowed is allowed
        with live.server.client() as http:
            answer = http.request("LIST", "/v1/auth/token/accessors", headers={"X-Vault-Token": token})
        assert answer.status_code == (200 if allowed else 403)


TEMPLATED = """
path "t/name/{{identity.entity.name}}" { capabilities = ["read"] }
path "t/id/{{ identity.entity.id }}/x" { capabilities = ["update"] }
path "t/team/{{identity.entity.metadata.team}}.*" { capabilities = ["list"] }
path "t/two/{{identity.entity.metadata.team}}/{{identity.entity.metadata.tier}}" { capabilities = ["create"] }
path "t/none/{{identity.entity.metadata.none}}" { capabilities = ["create"] }
path "t/group/{{identity.groups.names.crew.name}}/{{identity.groups.names.crew.metadata.floor}}" { capabilities = ["read"] }
path "t/other/{{identity.groups.names.strangers.name}}" { capabilities = ["read"] }
path "t/alias/{{identity.entity.aliases.ACCESSOR.name}}" { capabilities = ["read"] }
path "t/odd/{{identity.entity.nonsense}}" { capabilities = ["read"] }
"""
# What OpenBao refuses to put in, and Vault takes as it stands.
UNSAFE = """
path "u/slash/{{identity.entity.metadata.slash}}" { capabilities = ["create"] }
path "u/star/{{identity.entity.metadata.star}}" { capabilities = ["delete"] }
path "u/plus/{{identity.entity.metadata.plus}}/x" { capabilities = ["delete"] }
path "{{identity.entity.metadata.lead}}/x" { capabilities = ["read"] }
path "u/plain" { capabilities = ["read"] }
"""


def templated(live: Live, name: str, text: str, metadata: dict[str, str]) -> tuple[str, Acl]:
    """A login with the templated policy `text` and an entity: its token, and how we judge it."""
    client = live.client
    accessor = client.sys.list_auth_methods()["data"]["approle/"]["accessor"]
    client.sys.create_or_update_acl_policy(name, text.replace("ACCESSOR", accessor))
    client.auth.approle.create_or_update_approle(name, token_policies=[name])
    role_id = client.auth.approle.read_role_id(name)["data"]["role_id"]
    client.write_data(f"identity/entity/name/{name}", data={"metadata": metadata})
    entity = client.read(f"identity/entity/name/{name}")["data"]["id"]
    alias = {"name": role_id, "canonical_id": entity, "mount_accessor": accessor}
    client.write_data("identity/entity-alias", data=alias)
    crew = {"name": f"{name}-crew", "member_entity_ids": [entity], "metadata": {"floor": "3"}}
    client.write_data("identity/group", data=crew)
    auth = live.login(name)
    holder = read_holder(client, auth["accessor"])
    assert holder.entity is not None
    acl = Acl(read_policies(client, [name], live.kind), live.kind, entity=holder.entity)
    return auth["client_token"], acl


def test_templates_are_filled_as_the_server_fills_them(live: Live) -> None:
    text = TEMPLATED.replace("crew", "tess-crew")
    token, acl = templated(live, "tess", text, {"team": "search", "tier": "1"})
    entity = live.client.read("identity/entity/name/tess")["data"]
    role_id = entity["aliases"][0]["name"]
    paths = [
        "t/name/tess", f"t/id/{entity['id']}/x", "t/team/search.a", "t/team/searching", "t/two/search/1",
        "t/two/search/2", "t/none/", "t/none/{{identity.entity.metadata.none}}", "t/group/tess-crew/3",
        "t/other/strangers", f"t/alias/{role_id}", "t/odd/", "t/odd/x",
    ]  # fmt: skip
    reported = live.client.write_data("sys/capabilities", data={"token": token, "paths": paths})["data"]
    assert {path: acl.capabilities(path) for path in paths} == {path: reported[path] for path in paths}
    assert sum(reported[path] != ["deny"] for path in paths) == 6


def test_wildcards_in_a_value_widen_a_rule_on_vault_and_lock_the_token_out_on_openbao(live: Live) -> None:
    unsafe = {"slash": "a/b", "star": "a*", "plus": "+", "lead": "/lead"}
    token, acl = templated(live, "una", UNSAFE, unsafe)
    paths = ["u/slash/a/b", "u/star/ab", "u/star/b", "u/plus/x/x", "u/plus/x/y", "lead/x", "u/plain"]
    ours = {path: acl.capabilities(path) for path in paths}
    if live.kind is Server.OPENBAO:
        with pytest.raises(hvac.exceptions.Forbidden, match="forbidden value"):
            live.client.write_data("sys/capabilities", data={"token": token, "paths": paths})
        assert set(map(tuple, ours.values())) == {("deny",)}
        assert "refuses every request" in acl.decide(Request("read", "u/plain")).reason
    else:
        reported = live.client.write_data("sys/capabilities", data={"token": token, "paths": paths})["data"]
        assert ours == {path: reported[path] for path in paths}
        assert reported["u/star/ab"] == ["delete"]


def test_explain_judges_a_live_token_by_its_accessor_or_its_own(live: Live) -> None:
    auth = live.login("ml-engineer")
    shown = live.aikeys(
        "policy", "explain", "ai-keys/creds/search.chat", "read", "--accessor", auth["accessor"]
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines() == [
        "allowed: read ai-keys/creds/search.chat: the rule grants read",
        '  decided by path "ai-keys/creds/search.*" of ml-engineer (live:ml-engineer:8): create, read, update',
        "the server's own report: create, read, update",
    ]
    denied = live.aikeys(
        "policy", "explain", "ai-keys/creds/ads.chat", "read", "--accessor", auth["accessor"]
    )
    assert denied.returncode == 1
    assert denied.stdout == (
        "denied: read ai-keys/creds/ads.chat: no rule matches this path\nthe server's own report: deny\n"
    )
    root = live.aikeys("policy", "explain", "sys/seal", "update", "--self")
    assert root.stdout.startswith("allowed: update sys/seal: the policy root allows everything")


def test_explain_says_when_the_own_token_may_not_read_its_policies(live: Live) -> None:
    token = live.login("customer-service")["client_token"]
    refused = live.aikeys("policy", "explain", "ai-keys/config", "read", "--self", token=token)
    assert refused.returncode == 1
    assert "the token may not" in refused.stderr
    assert token not in refused.stderr


def test_who_can_asks_the_server_for_everybody(live: Live) -> None:
    shown = live.aikeys("policy", "who-can", "sys/leases/revoke-force/ai-keys/creds/x", "update", "--live")
    assert shown.stdout == "approle break-glass: update by break-glass (live:break-glass:8)\n"
    nobody = live.aikeys("policy", "who-can", "sys/policies/acl/auditor", "update", "--live")
    assert (nobody.returncode, nobody.stdout) == (1, "nobody\n")


def test_check_takes_roles_and_mounts_from_the_server(live: Live) -> None:
    client = live.client
    for role in ("analytics", "customer-service"):
        client.write_data(f"ai-keys/roles/{role}", data={"v": "1"})
    assert engine_roles(client, "ai-keys") == ["analytics", "customer-service"]
    assert kv2_mounts(client) == ["secret"]
    assert live.aikeys("policy", "check", "--live").stdout == "9 policies and 9 AppRoles: nothing found\n"
    client.delete("ai-keys/roles/analytics")
    shown = live.aikeys("policy", "check", "--live")
    assert shown.returncode == 1
    assert 'policies/analytics.hcl:2: unknown-role: "ai-keys/creds/analytics"' in shown.stdout


def test_check_and_explain_need_an_address_and_a_token(live: Live) -> None:
    environment = clean_environment(VAULT_ADDR=live.server.address)
    shown = subprocess.run(
        [sys.executable, "-m", "aikeys", "policy", "diff"],
        env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parent,
    )  # fmt: skip
    assert shown.returncode == 1
    assert "set VAULT_ADDR and VAULT_TOKEN" in shown.stderr
