"""What is wrong is said before anything is changed where that can be known, and with the reason where it cannot."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.realparts.process import free_port
from tests.realparts.server import Server
from tests.realparts.terraform import FAILED, ROOT, Terraform
from tests.sidecar_stack import SidecarStack
from tests.terraform.conftest import Use
from tests.terraform.wrong_inputs import NEEDED, WRONG

# Once is enough for what the servers have no part in.
ONE_SERVER = pytest.mark.parametrize("stack", ["openbao"], indirect=True)

NAMES = [f"{module}-{'-'.join(given)}-{number}" for number, (module, given, _said) in enumerate(WRONG)]


@pytest.fixture(scope="module")
def refusals(terraform: None, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What a plan says of each of the wrong inputs, by its name; all in one run."""
    copy = Terraform("cases", tmp_path_factory.mktemp("cases"))
    (copy.root / "tests").mkdir(parents=True)
    (copy.root / "main.tf").write_text("terraform {}\n")
    for name, (module, given, _said) in zip(NAMES, WRONG, strict=True):
        lines = "".join(f"    {key} = {value}\n" for key, value in {**NEEDED[module], **given}.items())
        (copy.root / "tests" / f"{name}.tftest.hcl").write_text(
            f'mock_provider "vault" {{}}\nrun "case" {{\n  command = plan\n'
            f'  module {{\n    source = "../modules/{module}"\n  }}\n  variables {{\n{lines}  }}\n}}\n'
        )
    copy.init()
    said: dict[str, str] = dict.fromkeys(NAMES, "")
    for line in copy.run("test", "-json", expect=(FAILED,)).splitlines():
        message = json.loads(line)
        if message["type"] == "diagnostic":
            said[Path(message["@testfile"]).name.removesuffix(".tftest.hcl")] += (
                " ".join(message["diagnostic"]["detail"].split()) + " "
            )
    return said


@pytest.mark.parametrize("number", range(len(WRONG)), ids=NAMES)
def test_a_wrong_variable_fails_in_the_plan_and_says_what_is_allowed(
    number: int, refusals: Mapping[str, str]
) -> None:
    assert WRONG[number][2] in refusals[NAMES[number]]


def test_no_rule_of_a_variable_goes_untried(refusals: Mapping[str, str]) -> None:
    for file in sorted((ROOT / "terraform/modules").glob("*/variables.tf")):
        module = file.parent.name
        said = "".join(refusals[name] for name, case in zip(NAMES, WRONG, strict=True) if case[0] == module)
        messages = re.findall(r'error_message = ("(?:[^"\\]|\\.)*")', file.read_text())
        assert len(messages) == file.read_text().count("validation {")
        untried = [json.loads(message) for message in messages if json.loads(message) not in said]
        assert untried == [], f"add one that breaks it to wrong_inputs.py ({module})"


@pytest.mark.parametrize("product", ["openbao", "vault"])
def test_a_vault_without_the_sidecar_is_told_apart_in_the_plan(
    product: str, terraform: None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(product)
    variables: dict[str, str | int] = {
        "relay_url": "https://relay.example/v1",
        "management_key": "sk-no-key",
        "management_key_version": 1,
    }
    example = Terraform(
        "examples/minimal", tmp_path, address=server.address, token=server.root_token, variables=variables
    )
    example.init()

    said = example.refused("plan")

    assert 'does not know the secrets engine "ai-keys"' in said
    assert "Point VAULT_ADDR (the provider's address) at the aikeys sidecar" in said


@ONE_SERVER
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


@ONE_SERVER
def test_an_audit_device_on_openbao_fails_at_apply_with_where_to_declare_it(
    use: Use, stack: SidecarStack, tmp_path: Path
) -> None:
    terraform = use("complete", audit_file=str(tmp_path / "audit.log"))

    said = terraform.refused("apply")

    assert "use declarative, config-based audit device management instead" in said
    # It comes last, so that all else is there, and there is nothing to be done but to leave it out.
    del terraform.variables["audit_file"]
    assert set(terraform.changes().values()) == {"create"}
    assert {address.split(".")[1] for address in terraform.changes()} == {"audit"}
