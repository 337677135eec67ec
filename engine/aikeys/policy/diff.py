"""What a live Vault has against what the files say: one change per policy and AppRole. No IO.

What aikeys wrote carries a mark (a comment in a policy, metadata of an AppRole's entity). What carries none belongs to
somebody else: it is never changed unless adopted, and never deleted.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aikeys.policy.approles import DEFAULTS, AppRole
from aikeys.policy.folder import Folder
from aikeys.policy.hcl import PolicyError
from aikeys.policy.parse import Policy, Rule, Server, parse_policy

MARK = "# Written by aikeys provision: change the file it comes from, not this text.\n"
MANAGED = ("managed_by", "aikeys")


class Action(enum.StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Change:
    """`kind` is `policy`, `approle` or `auth` (the AppRole method itself). `details` are lines for a reader."""

    kind: str
    name: str
    action: Action
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveAppRole:
    settings: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        return self.metadata.get(MANAGED[0]) == MANAGED[1]


@dataclass(frozen=True, slots=True)
class Live:
    """What was read. `approle_enabled` is whether there is an AppRole method where one is looked for."""

    server: Server
    policies: Mapping[str, str]
    approles: Mapping[str, LiveAppRole]
    approle_enabled: bool = True


def compare(folder: Folder, live: Live, *, prune: bool = False, adopt: bool = False) -> list[Change]:
    """Policies first, then AppRoles, by name: in the order in which they can be applied."""
    changes = [_policy(policy, live, adopt) for policy in folder.policies]
    if folder.approles and not live.approle_enabled:
        changes.append(Change("auth", "approle", Action.CREATE))
    changes += [_approle(approle, live, adopt) for approle in folder.approles]
    return [*changes, *(_deletions(folder, live) if prune else ())]


def _policy(policy: Policy, live: Live, adopt: bool) -> Change:
    text = live.policies.get(policy.name)
    if text is None:
        return Change("policy", policy.name, Action.CREATE)
    if text == MARK + policy.text:
        return Change("policy", policy.name, Action.UNCHANGED)
    details, same = policy_difference(policy, text, live.server)
    if text.startswith(MARK) or adopt:
        return Change("policy", policy.name, Action.UPDATE, details or ("only its comments or its layout",))
    if same:
        return Change("policy", policy.name, Action.UNCHANGED)
    return Change("policy", policy.name, Action.CONFLICT, details)


def policy_difference(policy: Policy, text: str, server: Server) -> tuple[tuple[str, ...], bool]:
    """What changes from the live `text` to `policy`, and whether both say the same."""
    try:
        held = parse_policy(text, name=policy.name, file=f"live:{policy.name}", server=server)
    except PolicyError as error:
        return (f"cannot be compared: {error}",), False
    old, new = _by_path(held.rules), _by_path(policy.rules)
    details = [f'+ path "{path}" [{_said(new[path])}]' for path in new if path not in old]
    details += [f'- path "{path}" [{_said(old[path])}]' for path in old if path not in new]
    for path in new:
        if path in old and [rule.meaning for rule in old[path]] != [rule.meaning for rule in new[path]]:
            before, after = _said(old[path]), _said(new[path])
            what = f"[{before}] → [{after}]" if before != after else f"[{after}], parameters or wrapping"
            details.append(f'~ path "{path}" {what}')
    return tuple(details), held.says_the_same(policy)


def _by_path(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        found.setdefault(rule.path, []).append(rule)
    return found


def _said(rules: Iterable[Rule]) -> str:
    return ", ".join(sorted({capability for rule in rules for capability in rule.capabilities}))


def _approle(approle: AppRole, live: Live, adopt: bool) -> Change:
    held = live.approles.get(approle.name)
    if held is None:
        return Change("approle", approle.name, Action.CREATE)
    wanted = {**approle.metadata, MANAGED[0]: MANAGED[1]}
    details = [
        f"{key}: {_shown(held.settings.get(key, default))} → {_shown(approle.settings[key])}"
        for key, default in DEFAULTS.items()
        if _normal(held.settings.get(key, default)) != _normal(approle.settings[key])
    ]
    details += [
        f"entity metadata {key}: {held.metadata.get(key, '(none)')} → {value}"
        for key, value in wanted.items()
        if held.metadata.get(key) != value and (key != MANAGED[0] or held.ours or adopt)
    ]
    if not details:
        return Change("approle", approle.name, Action.UNCHANGED)
    action = Action.UPDATE if held.ours or adopt else Action.CONFLICT
    return Change("approle", approle.name, action, tuple(details))


def _shown(value: object) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else str(value)


def _normal(value: object) -> object:
    """Lists without order, and networks in one spelling: the servers drop the /32 of a single address."""
    if value is None:
        return []
    return sorted(map(_network, value)) if isinstance(value, list) else value


def _network(text: object) -> str:
    try:
        return str(ipaddress.ip_network(str(text)))
    except ValueError:
        return str(text)


def _deletions(folder: Folder, live: Live) -> list[Change]:
    approles = {approle.name for approle in folder.approles}
    policies = {policy.name for policy in folder.policies}
    gone = [
        Change("approle", name, Action.DELETE)
        for name, held in sorted(live.approles.items())
        if held.ours and name not in approles
    ]
    gone += [
        Change("policy", name, Action.DELETE)
        for name, text in sorted(live.policies.items())
        if text.startswith(MARK) and name not in policies
    ]
    return gone
