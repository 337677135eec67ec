"""What `aikeys dev` writes keeps to what `aikeys policy check` asks of everybody, but for where logins come from."""

from __future__ import annotations

from aikeys.dev.provision import SIDECAR, SIDECAR_POLICY, dev_folder
from aikeys.policy.folder import shipped_policy
from aikeys.policy.lint import lint


def test_the_policies_of_development_have_no_other_flaw_than_logins_from_everywhere() -> None:
    folder = dev_folder()
    assert {approle.name for approle in folder.approles} == {SIDECAR, "demo"}
    assert {finding.code for finding in lint(folder)} == {"loose-approle"}


def test_its_sidecar_has_the_policy_that_is_shipped() -> None:
    policy = dev_folder().policy(SIDECAR_POLICY)
    assert policy is not None
    assert policy.text == shipped_policy("sidecar").text
