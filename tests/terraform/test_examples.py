"""The least example's whole life, by the real terraform with the real provider, through the sidecar in front of both servers."""

from __future__ import annotations

from tests.sidecar_stack import SidecarStack
from tests.terraform.conftest import App, Use

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
