"""What is wrong is said before anything is changed where that can be known, and with the reason where it cannot."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.realparts.process import free_port
from tests.realparts.terraform import Terraform
from tests.sidecar_stack import SidecarStack
from tests.terraform.conftest import Use

# Once is enough for what the servers have no part in.
ONE_SERVER = pytest.mark.parametrize("stack", ["openbao"], indirect=True)

ENGINE = {"base_url": '"https://relay.example/v1"'}
ROLE = {"mount": '"ai-keys"', "name": '"chatbot"'}
WRONG = [
    (
        "engine",
        {"base_url": '"http://relay.example/v1"'},
        "base_url must be an https:// address without user",
    ),
    (
        "engine",
        {"base_url": '"https://user@relay.example/v1"'},
        "base_url must be an https:// address without",
    ),
    ("engine", {"base_url": '"relay.example"'}, 'such as "https://relay.example/v1"'),
    ("engine", {"path": '"sys/ai-keys"'}, "path must not begin with sys, auth, identity, cubbyhole or audit"),
    ("engine", {"max_lease_ttl": "60"}, "max_lease_ttl must not be less than default_lease_ttl"),
    (
        "engine",
        {"management_key": '"two words"'},
        "management_key must be 1 to 4096 printable ASCII characters",
    ),
    ("engine", {"management_key_version": "0"}, "management_key_version must be a whole number from 1 on"),
    ("engine", {"request_timeout": '"soon"'}, "a number is required"),
    ("role", {"ttl": "-1"}, "ttl must be a whole number of seconds"),
    ("role", {"ttl": "600", "max_ttl": "300"}, "max_ttl must not be less than ttl"),
    ("role", {"budget": '{ limit = "lots" }'}, "budget.limit must be a positive decimal"),
    ("role", {"name": '"a/b"'}, "name must have 1 to 128 letters, digits, underscores, dots and dashes"),
    (
        "role",
        {"approle": "{ secret_id_ttl = 0 }"},
        "makes secret ids that never end: give seconds, or bind them",
    ),
]


@pytest.fixture(scope="module")
def refusals(terraform: None, tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, str]:
    """What a plan says of each of the wrong inputs: all of one module's in one run."""
    said = {}
    for module, good in (("engine", ENGINE), ("role", ROLE)):
        copy = Terraform(f"modules/{module}", tmp_path_factory.mktemp(module))
        (copy.root / "tests" / "plan.tftest.hcl").unlink()
        numbers = [number for number, case in enumerate(WRONG) if case[0] == module]
        for number in numbers:
            given = {**good, **WRONG[number][1]}
            lines = "".join(f"  {name} = {value}\n" for name, value in given.items())
            (copy.root / "tests" / f"case_{number}.tftest.hcl").write_text(
                f'mock_provider "vault" {{}}\nrun "case" {{\n  command = plan\n  variables {{\n{lines}  }}\n}}\n'
            )
        copy.init()
        for number in numbers:
            said[number] = copy.refused("test", f"-filter=tests/case_{number}.tftest.hcl")
    return said


@pytest.mark.parametrize(
    "number",
    range(len(WRONG)),
    ids=[f"{case[0]}-{'-'.join(case[1])}-{number}" for number, case in enumerate(WRONG)],
)
def test_a_wrong_variable_fails_in_the_plan_and_says_what_is_allowed(
    number: int, refusals: Mapping[int, str]
) -> None:
    assert WRONG[number][2] in refusals[number]


def test_a_vault_without_the_sidecar_is_told_apart_in_the_plan(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal", address=stack.upstream.address)

    said = terraform.refused("plan")

    assert 'does not know the secrets engine "ai-keys"' in said
    assert "Point VAULT_ADDR (the provider's address) at the aikeys sidecar" in said


def test_a_role_that_the_relay_cannot_honour_fails_at_apply_with_the_reason(
    use: Use, stack: SidecarStack
) -> None:
    terraform = use("minimal")
    wrong = terraform.root / "wrong_override.tf"
    wrong.write_text('module "chatbot" {\n  permissions = ["telepathy"]\n}\n')

    said = terraform.refused("apply")

    assert 'relay "holysheep" cannot honour this role' in said
    assert "telepathy" in said
    assert stack.request("GET", "ai-keys/roles/chatbot").status_code == 404
    wrong.unlink()
    terraform.apply()
    assert terraform.changes() == {}


@ONE_SERVER
def test_a_key_that_the_relay_does_not_accept_fails_at_apply_with_the_reason(
    use: Use, stack: SidecarStack
) -> None:
    wrong = "sk-holysheep-admin-" + "w" * 32
    terraform = use("minimal", management_key=wrong)

    said = terraform.refused("apply")

    assert "nothing was stored" in said
    assert "does not accept the management key" in said
    assert wrong not in said
    assert stack.request("GET", "ai-keys/config").status_code == 404


@ONE_SERVER
def test_a_relay_that_does_not_answer_fails_at_apply_with_the_way_round(use: Use) -> None:
    terraform = use("minimal", relay_url=f"http://127.0.0.1:{free_port()}/v1")

    said = terraform.refused("apply")

    assert "could not be asked whether it accepts the management key" in said
    assert "verify_connection=false" in said


@ONE_SERVER
def test_a_key_that_the_sidecar_may_not_read_fails_at_apply_with_what_helps(
    use: Use, stack: SidecarStack
) -> None:
    terraform = use("minimal")
    (terraform.root / "elsewhere_override.tf").write_text('module "engine" {\n  kv_name = "elsewhere"\n}\n')

    said = terraform.refused("apply")

    assert "the sidecar's own policy must grant read on secret/data/elsewhere" in said
