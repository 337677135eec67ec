"""Nothing secret is in a state, a plan, a backup, what the commands say, or the most that can be logged."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.sidecar_stack import OPERATOR, SidecarStack, eventually
from tests.terraform.conftest import Use

#: How every key of the relay begins, the management key as well.
ANY_KEY = "sk-holysheep-"
#: How service tokens look, Vault's and OpenBao's.
ANY_TOKEN = re.compile(r"\bhvs\.[A-Za-z0-9_-]{20,}|\bs\.[A-Za-z0-9]{24,}")
READ_KEY = 'data "vault_generic_secret" "key" {\n  path = module.chatbot.creds_path\n}\n'
RUN_SECONDS = 20
# Once is enough for what the servers have no part in.
ONE_SERVER = pytest.mark.parametrize("stack", ["openbao"], indirect=True)


def test_the_management_key_is_in_no_state_plan_or_log(use: Use, stack: SidecarStack) -> None:
    operator = stack.token(OPERATOR).token
    terraform = use("minimal", loud=True, token=operator)
    terraform.run("plan", "-out=saved.tfplan")
    terraform.run("apply", "saved.tfplan")
    terraform.apply(ttl=300)
    terraform.run("show", "-json")
    kept = terraform.everything_kept()

    assert stack.relay.management_key.startswith(ANY_KEY)
    assert "secret/data/aikeys/relay" in kept, "the search does see what is kept"
    assert "[TRACE]" in kept
    assert ANY_KEY not in kept
    assert operator not in kept
    assert not ANY_TOKEN.search(kept), "the run's own token"
    terraform.destroy()
    assert ANY_KEY not in terraform.everything_kept()


@ONE_SERVER
def test_a_key_read_by_an_ephemeral_resource_is_kept_nowhere(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal", loud=True)
    terraform.apply()
    (terraform.root / "key.tf").write_text(READ_KEY.replace("data", "ephemeral", 1))
    before = stack.mints()

    terraform.apply()

    assert stack.mints() > before, "a key was read"
    assert ANY_KEY not in terraform.everything_kept()


@ONE_SERVER
def test_a_key_read_by_a_data_source_stands_in_the_state(use: Use, stack: SidecarStack) -> None:
    """What the docs warn of: so keys are to be read where they are used, or by an ephemeral resource."""
    terraform = use("minimal", reads_keys=True)
    terraform.apply()
    (terraform.root / "key.tf").write_text(
        READ_KEY
        + """
        output "lease_id" {
          value = data.vault_generic_secret.key.lease_id
        }
        output "lease_duration" {
          value = data.vault_generic_secret.key.lease_duration
        }
        """
    )
    terraform.apply()
    outputs = terraform.outputs()

    assert ANY_KEY in (terraform.root / "terraform.tfstate").read_text()
    assert outputs["lease_duration"] == 600
    assert stack.request("PUT", "sys/leases/lookup", {"lease_id": outputs["lease_id"]}).status_code == 200


def test_a_runs_own_token_lives_twenty_minutes_and_a_key_that_was_read_ends_with_it(
    use: Use, stack: SidecarStack
) -> None:
    """The provider works with a child token that it never revokes. Here it dies past the sidecar."""
    terraform = use("minimal", reads_keys=True)
    terraform.apply()
    (terraform.root / "key.tf").write_text(READ_KEY)
    before, known = stack.live_keys(), set(accessors(stack))
    terraform.apply()
    runs = [accessor for accessor in accessors(stack) if accessor not in known]
    tokens = [token_of(stack, accessor) for accessor in runs]
    token = next(token for token in tokens if token["display_name"].endswith("terraform"))
    assert (token["creation_ttl"], token["explicit_max_ttl"], token["renewable"]) == (1200, 1200, False)
    read = stack.live_keys() - before
    assert len(read) == 1

    for accessor in runs:
        assert stack.direct("POST", "auth/token/revoke-accessor", {"accessor": accessor}).is_success

    eventually(lambda: not stack.live_keys() & read, seconds=30, what="the end of the run's key")


@ONE_SERVER
def test_keys_read_in_a_run_end_when_the_runs_own_token_runs_out(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal", reads_keys=True)
    terraform.apply()
    (terraform.root / "key.tf").write_text(READ_KEY + READ_KEY.replace("data", "ephemeral", 1))
    before = stack.live_keys()
    # How long the provider's token lives, in seconds: enough for this one command.
    terraform.environment["TERRAFORM_VAULT_MAX_TTL"] = str(RUN_SECONDS)
    terraform.apply()
    del terraform.environment["TERRAFORM_VAULT_MAX_TTL"]
    read = stack.live_keys() - before
    assert read

    eventually(
        lambda: not stack.live_keys() & read, seconds=RUN_SECONDS + 30, what="the end of the run's key"
    )


def accessors(stack: SidecarStack) -> list[str]:
    keys: list[str] = stack.request("LIST", "auth/token/accessors").json()["data"]["keys"]
    return keys


def token_of(stack: SidecarStack, accessor: str) -> dict[str, Any]:
    found: dict[str, Any] = stack.request(
        "POST", "auth/token/lookup-accessor", {"accessor": accessor}
    ).json()["data"]
    return found
