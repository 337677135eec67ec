"""`aikeys serve --check` finds every right that the sidecar's own token lacks, before a request does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from tests.realparts.server import Server
from tests.sidecar_stack import unique

from aikeys.framework.request import Mount
from aikeys.policy.folder import shipped_policy
from aikeys.policy.parse import Rule
from aikeys.settings import load_settings
from aikeys.sidecar.build import close_sidecar, open_sidecar
from aikeys.sidecar.check import check_all
from aikeys.sidecar.context import Sidecar

RULES = shipped_policy("sidecar").rules
MOUNT = "ai-keys"
KEY_PATH = "secret/data/aikeys/relay"


class Checked:
    """A sidecar that is not started, with one mount on record, and a policy that a test may change."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.name = unique("check")
        self.grant([])
        # Without the policy "default", which grants some of it too.
        options = {"policies": [self.name], "no_default_policy": True, "no_parent": True, "ttl": "10m"}
        token = server.request("POST", "auth/token/create", options)["auth"]["client_token"]
        (folder / "token").write_text(token)
        self.sidecar: Sidecar = open_sidecar(
            load_settings(
                upstream_addr=server.address,
                auth_method="token_file",
                auth_token_file=folder / "token",
                data_dir=folder / "data",
            )
        )
        mount = self.mount(MOUNT)
        entry = {"base_url": "https://relay.example/v1", "management_key_ref": f"{KEY_PATH}#management_key"}
        self.sidecar.store.entries(mount.uuid).put("config", entry)

    def grant(self, rules: list[Rule], *, key: bool = True) -> None:
        blocks = [(rule.path, rule.capabilities) for rule in rules] + [(KEY_PATH, {"read"})] * key
        policy = "".join(
            f'path "{path}" {{ capabilities = {json.dumps(sorted(capabilities))} }}\n'
            for path, capabilities in blocks
        )
        self.server.request("PUT", f"sys/policies/acl/{self.name}", {"policy": policy or "# none"})

    def mount(self, path: str) -> Mount:
        """Another one on record."""
        return self.sidecar.mounts.add(
            path=path, uuid=str(uuid4()), accessor=unique("kv"), default_lease_ttl=60, max_lease_ttl=60
        )

    def wrong(self) -> dict[str, str]:
        return {what: problem for what, problem in check_all(self.sidecar) if problem}


@pytest.fixture(params=["openbao", "vault"])
def checked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Checked]:
    made = Checked(request.getfixturevalue(request.param), tmp_path)
    yield made
    close_sidecar(made.sidecar)


def test_each_right_that_is_taken_away_is_named(checked: Checked) -> None:
    asked_by = next(rule for rule in RULES if rule.path == "sys/capabilities-self")
    checked.grant(list(RULES))
    assert checked.wrong() == {}

    for missing in RULES:
        checked.grant([rule for rule in RULES if rule is not missing])
        wrong = checked.wrong()
        if missing is asked_by:
            assert "needs update on sys/capabilities-self" in wrong["policy"]
            continue
        lacks = ", ".join(sorted(missing.capabilities))
        assert wrong == {f"policy for {missing.path}": f"lacks {lacks}: see policies/sidecar.hcl"}

    checked.grant(list(RULES), key=False)
    assert checked.wrong() == {f"policy for {KEY_PATH}": "lacks read: see policies/sidecar.hcl"}


def test_a_part_of_a_right_and_a_mount_that_was_forgotten_are_named_too(checked: Checked) -> None:
    parts = [replace(rule, capabilities=rule.capabilities - {"delete"}) for rule in RULES]
    checked.grant(parts)
    checked.mount("team-keys")

    everything = ", ".join(sorted({"create", "read", "update", "delete", "list"}))
    assert checked.wrong() == {
        f"policy for {MOUNT}/*": "lacks delete: see policies/sidecar.hcl",
        "policy for team-keys/*": f"lacks {everything}: see policies/sidecar.hcl",
        "policy for sys/mounts/team-keys/tune": "lacks read: see policies/sidecar.hcl",
    }
