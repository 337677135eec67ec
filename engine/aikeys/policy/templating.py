"""What `{{identity.entity...}}` in a path becomes for one token. Source: identitytpl, ACL mode, of both servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from aikeys.policy.parse import Rule, Server

_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")
# A value with one of these locks the holder out on OpenBao; Vault puts it in as it is, wildcards included.
_BLOCKED = {Server.OPENBAO: ("/", "*", "+"), Server.VAULT: ()}


@dataclass(frozen=True, slots=True)
class Alias:
    """How one auth mount knows the entity."""

    accessor: str
    id: str = ""
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    custom_metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    id: str = ""
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entity:
    """Who holds the token, as far as templates may ask."""

    id: str = ""
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[Alias, ...] = ()
    groups: tuple[Group, ...] = ()


class UnsafeValueError(Exception):
    """OpenBao refuses to fill a template with this, and with it every request of the token."""


def render(rules: Iterable[Rule], entity: Entity | None, server: Server) -> list[Rule]:
    """`rules` for this holder. A rule whose template has no value is no rule at all, as at the servers.

    Raises `UnsafeValueError`.
    """
    rendered = []
    for rule in rules:
        path = _render_path(rule.path, entity, server) if "{{" in rule.path else rule.path
        if path is not None:
            # A value may begin with a slash on Vault; the servers cut the slash after putting it in.
            rendered.append(rule if path == rule.path else replace(rule, path=path.removeprefix("/")))
    return rendered


def _render_path(path: str, entity: Entity | None, server: Server) -> str | None:
    missing = False

    def put(match: re.Match[str]) -> str:
        nonlocal missing
        value = _value(match[1].strip(), entity)
        if value is None:
            missing = True
            return ""
        for blocked in _BLOCKED[server]:
            if blocked in value:
                raise UnsafeValueError(f'template "{match[0]}" has a value with "{blocked}"')
        return value

    rendered = _TEMPLATE.sub(put, path)
    return None if missing else rendered


def _value(template: str, entity: Entity | None) -> str | None:
    """None when the holder has no such thing."""
    if entity is None:
        return None
    if template.startswith("identity.entity."):
        return _of_entity(template.removeprefix("identity.entity."), entity)
    if template.startswith("identity.groups."):
        return _of_group(template.removeprefix("identity.groups."), entity)
    return None


def _of_entity(what: str, entity: Entity) -> str | None:
    if what == "id":
        return entity.id or None
    if what == "name":
        return entity.name or None
    if what.startswith("metadata."):
        return entity.metadata.get(what.removeprefix("metadata."))
    if what.startswith("aliases."):
        accessor, _, rest = what.removeprefix("aliases.").partition(".")
        for alias in entity.aliases:
            if alias.accessor == accessor:
                return _of_alias(rest, alias)
    return None


def _of_alias(what: str, alias: Alias) -> str | None:
    if what == "id":
        return alias.id or None
    if what == "name":
        return alias.name or None
    for prefix, values in (("metadata.", alias.metadata), ("custom_metadata.", alias.custom_metadata)):
        if what.startswith(prefix):
            return values.get(what.removeprefix(prefix))
    return None


def _of_group(what: str, entity: Entity) -> str | None:
    by, _, rest = what.partition(".")
    selector, _, rest = rest.partition(".")
    for group in entity.groups:
        if by in {"ids", "names"} and selector == (group.id if by == "ids" else group.name):
            if rest == "id":
                return group.id or None
            if rest == "name":
                return group.name or None
            return (
                group.metadata.get(rest.removeprefix("metadata.")) if rest.startswith("metadata.") else None
            )
    return None
