"""Policies and AppRoles made from text in a test."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aikeys.policy.approles import parse_approle
from aikeys.policy.folder import Folder
from aikeys.policy.parse import parse_policy

FolderOf = Callable[..., Folder]

APPROLE = """
approle "{name}" {{
  token_policies = {policies}
  token_ttl = "20m"
  token_max_ttl = "1h"
  secret_id_ttl = "1h"
  secret_id_num_uses = 1
  secret_id_bound_cidrs = ["10.0.0.0/8"]
  token_bound_cidrs = ["10.0.0.0/8"]
}}
"""


@pytest.fixture
def folder_of() -> FolderOf:
    """`folder_of(a="...", approles={"app": ["a"]})`: policies by name, AppRoles by name with what they hold."""

    def make(*, approles: dict[str, list[str]] | None = None, **texts: str) -> Folder:
        policies = tuple(parse_policy(text, name=name, file=f"{name}.hcl") for name, text in texts.items())
        roles = tuple(
            parse_approle(
                APPROLE.format(name=name, policies=str(held).replace("'", '"')), file=f"approles/{name}.hcl"
            )
            for name, held in (approles or {}).items()
        )
        return Folder(policies, roles)

    return make
