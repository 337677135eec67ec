"""What the larger examples make, and that what is changed by hand shows in all of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sidecar_stack import SidecarStack
from tests.terraform.conftest import App, Use

from aikeys.sidecar.check import needed


def test_the_complete_example_binds_roles_policies_and_bounds(use: Use, stack: SidecarStack) -> None:
    terraform = use("complete")
    said = terraform.apply()
    assert terraform.changes() == {}, "no second apply"
    steps = [line for line in said.splitlines() if ": Creat" in line]
    first = next(number for number, line in enumerate(steps) if line.startswith("module.audit."))
    assert all(line.startswith("module.audit.") for line in steps[first:]), "audit devices come last"
    outputs = terraform.outputs()

    nightly = App(stack, outputs["analytics_role_id"], "analytics", mount="ai-approle")
    secret = nightly.read("ai-keys/creds/analytics?ttl=30m")
    assert secret["lease_duration"] == 1800
    assert nightly.status("ai-keys/creds/analytics?ttl=3h") == 403, (
        "the shipped policy bounds what it may ask for"
    )
    assert nightly.status("ai-keys/creds/customer-service") == 403

    bot = App(stack, outputs["rotation_bot_role_id"], "rotation-bot", mount="ai-approle")
    assert bot.status("ai-keys/creds/analytics") == 403
    assert bot.status("aikeys-kv/data/aikeys/relay") == 200
    for role, wrap, status in (("analytics", "5m", 200), ("analytics", "", 403), ("rotation-bot", "5m", 403)):
        headers = {"X-Vault-Wrap-TTL": wrap} if wrap else {}
        answer = stack.request(
            "PUT", f"auth/ai-approle/role/{role}/secret-id", {}, token=bot.token, headers=headers
        )
        assert answer.status_code == status, (role, wrap, answer.text)

    quota = stack.direct("GET", "sys/quotas/rate-limit/ai-keys-creds-evaluation").json()["data"]
    assert (quota["path"], quota["rate"], quota["interval"]) == ("ai-keys/creds/evaluation", 60, 60)
    jwt = stack.direct("GET", "auth/ai-ci/role/evaluation").json()["data"]
    assert jwt["token_policies"] == ["ai-keys-evaluation-reader"]
    pods = stack.direct("GET", "auth/ai-kubernetes/role/customer-service").json()["data"]
    assert pods["bound_service_account_namespaces"] == ["customer-service"]
    if stack.is_vault:
        assert "ai-keys-file/" in stack.direct("GET", "sys/audit").json()["data"]


WIDE = {"policy": 'path "*" { capabilities = ["read"] }'}
#: What somebody changes by hand in the larger examples: each with the resource by which it is seen.
BY_HAND: dict[str, dict[str, tuple[dict[str, Any], str]]] = {
    "complete": {
        "ai-keys/roles/evaluation": ({"budget": "999.00"}, "module.evaluation.vault_generic_endpoint.role"),
        "sys/quotas/rate-limit/ai-keys-creds-evaluation": (
            {"path": "ai-keys/creds/evaluation", "rate": 9999, "interval": 60},
            'module.quotas.vault_quota_rate_limit.role["evaluation"]',
        ),
        "sys/config/auditing/request-headers/X-Request-Id": (
            {"hmac": True},
            'module.audit.vault_audit_request_header.this["X-Request-Id"]',
        ),
        "sys/policies/acl/auditor": (WIDE, "module.audit.vault_policy.auditor[0]"),
        "sys/policies/acl/rotation-bot": (WIDE, "module.rotation_bot.vault_policy.bot"),
        "sys/policies/acl/ai-keys-platform-admin": (WIDE, 'vault_policy.people["platform-admin"]'),
        "auth/ai-approle/role/rotation-bot": (
            {"secret_id_num_uses": 0},
            "module.rotation_bot.module.login.vault_approle_auth_backend_role.this[0]",
        ),
        "auth/ai-kubernetes/role/customer-service": (
            {"bound_service_account_names": "*", "bound_service_account_namespaces": "customer-service"},
            "module.customer_service.module.login.vault_kubernetes_auth_backend_role.this[0]",
        ),
        "auth/ai-ci/role/evaluation": (
            {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["https://elsewhere.example"]},
            "module.evaluation.module.login.vault_jwt_auth_backend_role.this[0]",
        ),
    },
    "multi-team": {
        "sys/mounts/team-keys/tune": ({"default_lease_ttl": "2h"}, "module.engine.vault_mount.this"),
        "team-keys/roles/analytics.reports": (
            {"permissions": ["chat"]},
            'module.team["analytics"].module.role["reports"].vault_generic_endpoint.role',
        ),
        "sys/policies/acl/team-keys-team-analytics": (WIDE, 'module.team["analytics"].vault_policy.people'),
        "identity/group/name/analytics": (
            {"policies": ["default"]},
            'vault_identity_group.team["analytics"]',
        ),
    },
    "sidecar": {
        "sys/policies/acl/terraform-sidecar": (WIDE, "module.identity.vault_policy.sidecar"),
        "auth/sidecars/role/terraform-sidecar": (
            {"token_max_ttl": "1000h"},
            "module.identity.module.login.vault_approle_auth_backend_role.this[0]",
        ),
    },
}


@pytest.mark.parametrize("example", BY_HAND)
def test_in_the_larger_examples_too_drift_is_shown_and_all_that_is_there_can_be_imported(
    example: str, use: Use, stack: SidecarStack
) -> None:
    terraform = use(example)
    terraform.apply()
    for path, (body, _resource) in BY_HAND[example].items():
        answer = stack.request("POST", path, body)
        assert answer.is_success, (path, answer.text)
    assert terraform.changes() == {resource: "update" for _body, resource in BY_HAND[example].values()}
    terraform.apply()
    assert terraform.changes() == {}
    before = terraform.outputs()

    ids = terraform.ids()
    terraform.run("state", "rm", *ids)
    blocks = [f'import {{\n  to = {address}\n  id = "{name}"\n}}\n' for address, name in ids.items()]
    (terraform.root / "imports.tf").write_text("".join(blocks))
    said = terraform.apply()

    assert f"{len(ids)} imported, 0 added" in said
    assert "0 destroyed" in said
    assert terraform.changes() == {}
    assert terraform.outputs() == before


def test_teams_reach_their_own_keys_and_no_other_teams(use: Use, stack: SidecarStack) -> None:
    terraform = use("multi-team")
    terraform.apply()
    assert terraform.changes() == {}, "no second apply"
    teams = terraform.outputs()["teams"]

    engineer = stack.token([teams["ml-engineering"]["policy"]]).token
    statuses = {
        role["creds_path"]: stack.request("GET", role["creds_path"], token=engineer).status_code
        for team in teams.values()
        for role in team["roles"].values()
    }

    assert statuses == {
        "team-keys/creds/ml-engineering.training": 200,
        "team-keys/creds/ml-engineering.notebooks": 200,
        "team-keys/creds/customer-service.assistant": 403,
        "team-keys/creds/analytics.reports": 403,
    }
    reports = teams["analytics"]["roles"]["reports"]
    app = App(stack, reports["role_id"], "analytics.reports", mount="team-apps")
    assert app.status(reports["creds_path"]) == 200
    assert app.status("team-keys/creds/customer-service.assistant") == 403


def test_the_sidecars_identity_is_what_a_sidecar_needs_and_no_more(use: Use, stack: SidecarStack) -> None:
    terraform = use("sidecar")
    terraform.apply()
    assert terraform.changes() == {}, "no second apply"

    role_id = terraform.outputs()["role_id"]
    secret_id = stack.upstream.request("POST", "auth/sidecars/role/terraform-sidecar/secret-id")["data"][
        "secret_id"
    ]
    login = {"role_id": role_id, "secret_id": secret_id}
    token = stack.upstream.request("POST", "auth/sidecars/login", login)["auth"]["client_token"]
    needs = needed(["ai-keys", "team-keys"]) | {"aikeys-kv/data/aikeys/relay": frozenset({"read"})}
    others = [
        "aikeys-kv/data/aikeys/other",
        "secret/data/anything",
        "sys/policies/acl/x",
        "auth/token/create",
    ]
    asked = [*(path.replace("*", "roles/x") for path in needs), *others]
    held = stack.direct("POST", "sys/capabilities-self", {"paths": asked}, token=token).json()["data"]
    lacks = {path: needs[path] - set(held[path.replace("*", "roles/x")]) for path in needs}
    assert not any(lacks.values()), lacks
    assert [path for path in others if held[path] != ["deny"]] == []
