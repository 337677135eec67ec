"""Who may do what on a path: each AppRole with what its logins hold, each policy that no AppRole has. No IO."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aikeys.policy.evaluate import OPERATIONS, Acl, asked_path
from aikeys.policy.folder import Folder
from aikeys.policy.parse import Rule, Server
from aikeys.policy.templating import Entity

_METADATA = "identity.entity.metadata."
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")


@dataclass(frozen=True, slots=True)
class Holder:
    """`condition` is what the holder's entity must say for it, "" when nothing. `rules` are those that grant."""

    kind: str
    name: str
    condition: str
    operations: tuple[str, ...]
    rules: tuple[Rule, ...]


def who_can(folder: Folder, path: str, operation: str | None, server: Server) -> list[Holder]:
    """Holders that may do `operation` (None: anything) on `path`, for some parameters and some wrapping."""
    operations = [operation] if operation else OPERATIONS
    carried = {name for approle in folder.approles for name in approle.policies}
    held: list[tuple[str, str, str, Acl]] = []
    for approle in folder.approles:
        entity = Entity(name=approle.name, metadata=approle.metadata)
        held.append(("approle", approle.name, "", Acl(folder.of(approle), server, entity=entity)))
    for policy in folder.policies:
        if policy.name not in carried:
            for metadata in _fitting_metadata(policy.rules, path):
                condition = ", ".join(f"{key} = {value}" for key, value in metadata.items())
                acl = Acl([policy], server, entity=Entity(metadata=metadata))
                held.append(("policy", policy.name, condition, acl))
    found = []
    for kind, name, condition, acl in held:
        granted = {one: merged for one in operations if (merged := acl.grants(one, asked_path(one, path)))}
        rules = dict.fromkeys(id(rule) for one, merged in granted.items() for rule in merged.granting(one))
        by_id = {id(rule): rule for merged in granted.values() for rule in merged.rules}
        if granted:
            found.append(Holder(kind, name, condition, tuple(granted), tuple(by_id[one] for one in rules)))
    return found


def _fitting_metadata(rules: Iterable[Rule], path: str) -> list[dict[str, str]]:
    """What an entity's metadata could be so that a rule matches `path`; without any first."""
    found: list[dict[str, str]] = [{}]
    for rule in rules:
        if not rule.templates or not all(template.startswith(_METADATA) for template in rule.templates):
            continue
        keys = []
        pattern = ""
        for index, part in enumerate(_TEMPLATE.split(rule.path.removesuffix("*"))):
            if index % 2:
                keys.append(part.strip().removeprefix(_METADATA))
                pattern += "([^/*+]+?)"
            else:
                pattern += "/".join("[^/]+" if one == "+" else re.escape(one) for one in part.split("/"))
        match = re.fullmatch(pattern + (".*" if rule.path.endswith("*") else "/?"), path)
        metadata = dict(zip(keys, match.groups(), strict=True)) if match else {}
        if metadata and metadata not in found:
            found.append(metadata)
    return found
