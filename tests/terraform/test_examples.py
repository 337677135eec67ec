"""Each example, by the real terraform with the real provider, through the sidecar in front of both servers."""

from __future__ import annotations

from tests.sidecar_stack import SidecarStack
from tests.terraform.conftest import App, Use

from aikeys.sidecar.check import needed

CHATBOT = "ai-keys/creds/chatbot"
ROLE = "module.chatbot.vault_generic_endpoint.role"
CONFIG = "module.engine.vault_generic_endpoint.config"
MOUNT = "module.engine.vault_mount.this"
POLICY = "module.chatbot.vault_policy.reader"
APPROLE = "module.chatbot.module.login.vault_approle_auth_backend_role.this[0]"


def test_the_minimal_example_applies_as_its_tests_say(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal")

    said = terraform.run("test")

    assert "Success! 4 passed, 0 failed." in said
    assert stack.request("GET", "sys/mounts/ai-keys").status_code == 400, "and leaves nothing behind"


def test_an_app_gets_a_key_that_dies_with_what_was_applied_and_all_of_it_can_come_back(
    use: Use, stack: SidecarStack
) -> None:
    terraform = use("minimal")
    for _cycle in range(2):
        terraform.apply()
        assert terraform.changes() == {}, "no second apply"
        outputs = terraform.outputs()
        app = App(stack, outputs["role_id"], "chatbot", mount="ai-apps")
        secret = app.read(outputs["creds_path"])
        assert secret["lease_duration"] == 600
        assert stack.works(secret["data"]["api_key"])
        assert app.status("ai-keys/config") == 403

        terraform.destroy()

        stack.dies(secret["data"]["api_key"])
        assert stack.request("GET", "sys/mounts/ai-keys").status_code == 400


def test_a_change_by_hand_is_shown_by_the_next_plan_and_undone(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal")
    terraform.apply()
    policy = 'path "ai-keys/*" { capabilities = ["read"] }'
    for path, body in {
        # One that the configuration sets, and two that it leaves out.
        "ai-keys/roles/chatbot": {"rate_limit": 1000, "max_tpm": 50000, "max_leases": 1, "team_id": "other"},
        "ai-keys/config": {"request_timeout": 7},
        "sys/mounts/ai-keys/tune": {"max_lease_ttl": "10h"},
        "sys/policies/acl/ai-keys-chatbot-reader": {"policy": policy},
        "auth/ai-apps/role/chatbot": {"secret_id_num_uses": 0},
    }.items():
        answer = stack.request("POST", path, body)
        assert answer.is_success, answer.text

    assert terraform.changes() == dict.fromkeys((ROLE, CONFIG, MOUNT, POLICY, APPROLE), "update")

    terraform.apply()
    assert terraform.changes() == {}
    role = stack.request("GET", "ai-keys/roles/chatbot").json()["data"]
    assert (role["rate_limit"], role["max_tpm"], role["max_leases"], role["team_id"]) == (60, 0, 0, "")
    assert stack.request("GET", "ai-keys/config").json()["data"]["request_timeout"] == 30
    assert stack.request("GET", "sys/mounts/ai-keys/tune").json()["data"]["max_lease_ttl"] == 3600


def test_what_was_deleted_by_hand_comes_back(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal")
    terraform.apply()
    assert stack.request("DELETE", "ai-keys/roles/chatbot").is_success

    assert terraform.changes() == {ROLE: "create"}

    terraform.apply()
    assert stack.request("GET", CHATBOT).status_code == 200


def test_what_is_there_already_can_be_imported(use: Use) -> None:
    terraform = use("minimal")
    terraform.apply()
    ids = {
        MOUNT: "ai-keys",
        CONFIG: "ai-keys/config",
        ROLE: "ai-keys/roles/chatbot",
        POLICY: "ai-keys-chatbot-reader",
        APPROLE: "auth/ai-apps/role/chatbot",
    }
    terraform.run("state", "rm", *ids)
    blocks = [f'import {{\n  to = {address}\n  id = "{name}"\n}}\n' for address, name in ids.items()]
    (terraform.root / "imports.tf").write_text("".join(blocks))

    # The provider writes an endpoint once more after its import: it does not find out by which rules to compare it.
    assert terraform.changes() == dict.fromkeys([MOUNT, POLICY, APPROLE], "import") | {
        CONFIG: "update",
        ROLE: "update",
    }
    said = terraform.apply()

    assert "5 imported, 0 added, 2 changed, 0 destroyed" in said
    assert terraform.changes() == {}


def test_a_changed_role_changes_in_place_and_keeps_its_keys(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal")
    terraform.apply()
    role_id = terraform.outputs()["role_id"]
    app = App(stack, role_id, "chatbot", mount="ai-apps")
    secret = app.read(CHATBOT)

    assert terraform.changes(ttl=300) == {ROLE: "update"}
    terraform.apply(ttl=300)

    assert stack.works(secret["data"]["api_key"])
    assert app.read(CHATBOT)["lease_duration"] == 300
    assert terraform.outputs()["role_id"] == role_id


def test_a_raised_version_brings_the_next_management_key(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal")
    terraform.apply()
    first = stack.request("GET", CHATBOT).json()
    next_key = stack.control.management_key()["key"]
    terraform.variables["management_key"] = next_key

    assert terraform.changes() == {}, "without a new version nothing is written"
    changed = terraform.changes(management_key_version=2)
    terraform.apply(management_key_version=2)

    assert changed["module.engine.vault_kv_secret_v2.relay[0]"] == "update"
    assert ROLE not in changed
    stored = stack.direct("GET", "secret/data/aikeys/relay").json()["data"]["data"]
    assert stored == {"management_key": next_key}
    assert stack.works(first["data"]["api_key"])
    assert stack.request("GET", CHATBOT).status_code == 200
    assert next_key not in terraform.everything_kept()
    terraform.variables["management_key_version"] = "2"


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
