"""The policies that are shipped: who may do what, as their users are told."""

from __future__ import annotations

import pytest

from aikeys.policy.evaluate import OPERATIONS
from aikeys.policy.folder import Folder, default_folder, read_folder
from aikeys.policy.lint import lint
from aikeys.policy.parse import Server
from aikeys.policy.who_can import who_can

PEOPLE = {
    "ml-engineer", "customer-service", "analytics", "platform-admin", "rotation-bot", "auditor", "sidecar",
    "break-glass", "security-engineer",
}  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> Folder:
    return read_folder(default_folder())


def test_there_is_a_policy_and_an_approle_for_each_and_nothing_wrong_in_them(shipped: Folder) -> None:
    assert {policy.name for policy in shipped.policies} == PEOPLE
    assert {role.name: role.policies for role in shipped.approles} == {name: (name,) for name in PEOPLE}
    assert lint(shipped) == []


@pytest.mark.parametrize("server", Server)
@pytest.mark.parametrize(
    ("path", "operation", "names"),
    [
        # The sidecar keeps its markers at these paths; only at the upstream, where there are no keys.
        ("ai-keys/creds/search.chat", "read", {"ml-engineer", "sidecar"}),
        ("ai-keys/creds/ads.chat", "read", {"sidecar"}),
        ("ai-keys/creds/customer-service", "read", {"customer-service", "sidecar"}),
        ("ai-keys/creds/analytics", "update", {"analytics", "sidecar"}),
        ("ai-keys/config", "update", {"platform-admin", "sidecar"}),
        ("ai-keys/roles/search.chat", "update", {"platform-admin", "sidecar"}),
        ("ai-keys/roles/search.chat", "delete", {"platform-admin", "break-glass", "sidecar"}),
        ("ai-keys/tidy", "read", {"platform-admin", "auditor", "break-glass", "sidecar"}),
        ("ai-keys/tidy", "update", {"platform-admin", "break-glass", "sidecar"}),
        ("sys/leases/revoke-prefix/ai-keys/creds/search.chat", "update", {"platform-admin", "rotation-bot", "break-glass"}),
        ("sys/leases/revoke-force/ai-keys/creds/search.chat", "update", {"break-glass"}),
        ("ai-keys/leak", "update", {"security-engineer", "break-glass", "sidecar"}),
        ("ai-keys/leases", "read", {"platform-admin", "auditor", "security-engineer", "break-glass", "sidecar"}),
        ("ai-keys/revoke", "update", {"security-engineer", "break-glass", "platform-admin", "sidecar"}),
        ("auth/approle/role/analytics/secret-id", "update", {"rotation-bot"}),
        ("auth/approle/role/platform-admin/secret-id", "update", set()),
        ("auth/approle/role/analytics/role-id", "read", {"platform-admin"}),
        ("auth/token/lookup", "update", {"sidecar"}),
        ("sys/capabilities", "update", {"sidecar"}),
    ],
)  # fmt: skip
def test_who_may_do_what(shipped: Folder, server: Server, path: str, operation: str, names: set[str]) -> None:
    assert {holder.name for holder in who_can(shipped, path, operation, server)} == names


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if one not in {"read", "list"}])
@pytest.mark.parametrize(
    "path",
    [
        "sys/policies/acl/auditor", "auth/token/create", "auth/approle/role/new", "identity/entity/name/x",
        "sys/auth/userpass", "sys/mounts/ai-keys", "sys/mounts/other", "secret/data/x", "sys/audit/file",
    ],
)  # fmt: skip
def test_nobody_can_make_more_rights(shipped: Folder, path: str, operation: str) -> None:
    allowed = {holder.name for holder in who_can(shipped, path, operation, Server.VAULT)}
    # Break-glass takes logins away.
    assert allowed == ({"break-glass"} if (path, operation) == ("auth/approle/role/new", "delete") else set())


def test_who_can_tells_the_metadata_that_a_policy_without_an_approle_needs(shipped: Folder) -> None:
    policies = Folder(shipped.policies, ())
    holders = who_can(policies, "ai-keys/creds/ads.chat", "read", Server.OPENBAO)
    assert {(holder.name, holder.condition) for holder in holders} == {
        ("ml-engineer", "team = ads"),
        ("sidecar", ""),
    }
