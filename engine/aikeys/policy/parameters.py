"""Whether a request's parameters fit a rule's lists. Source: acl.go of both servers.

The servers differ in one thing: a list, or a text with commas, as a parameter's value. OpenBao compares the value as
a whole. Vault (since 1.21) accepts it as well when each element is allowed, and refuses it when one is denied.
A number never matches: the servers read one from HCL and the other from JSON as different types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aikeys.policy.hcl import Value
from aikeys.policy.parse import Server

ANY = "*"


def parameters_refuse(
    allowed: Mapping[str, tuple[Value, ...]],
    denied: Mapping[str, tuple[Value, ...]],
    required: Sequence[str],
    data: Mapping[str, object],
    server: Server,
) -> str:
    """Why `data` is refused; "" when it is not."""
    for name in required:
        if name.lower() not in data:
            return f'required_parameters: "{name}" is missing'
    if not data:
        return ""
    if ANY in denied:
        return "denied_parameters: no parameter is allowed"
    for name, value in data.items():
        if name.lower() in denied and _is_denied(value, denied[name.lower()], server):
            return f'denied_parameters: this value of "{name}" is denied'
    if not allowed or set(allowed) == {ANY}:
        return ""
    for name, value in data.items():
        if name.lower() not in allowed:
            if ANY not in allowed:
                return f'allowed_parameters: "{name}" is not among them'
        elif not _is_allowed(value, allowed[name.lower()], server):
            return f'allowed_parameters: this value of "{name}" is not among them'
    return ""


def _is_allowed(value: object, among: tuple[Value, ...], server: Server) -> bool:
    if not among or _is_among(value, among):
        return True
    elements = _elements(value, server)
    return elements is not None and all(_is_among(element, among) for element in elements)


def _is_denied(value: object, among: tuple[Value, ...], server: Server) -> bool:
    if not among or _is_among(value, among):
        return True
    return any(_is_among(element, among) for element in _elements(value, server) or ())


def _elements(value: object, server: Server) -> list[object] | None:
    if server is Server.OPENBAO:
        return None
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [element.strip() for element in value.split(",")] if value else []
    return None


def _is_among(value: object, among: tuple[Value, ...]) -> bool:
    return any(_equal(wanted, value) for wanted in among)


def _equal(wanted: Value, value: object) -> bool:
    if isinstance(wanted, str):
        return isinstance(value, str) and globbed(wanted, value)
    return _same(wanted, value)


def _same(wanted: object, value: object) -> bool:
    """Go's `reflect.DeepEqual` between what came from HCL and what came from JSON; in a list `*` is a letter."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return isinstance(wanted, bool) and isinstance(value, bool) and wanted == value
    if isinstance(wanted, str) and isinstance(value, str):
        return wanted == value
    if isinstance(wanted, list) and isinstance(value, list):
        return len(wanted) == len(value) and all(map(_same, wanted, value))
    return False


def globbed(pattern: str, text: str) -> bool:
    """A `*` at the start or the end of `pattern` stands for anything (strutil.GlobbedStringsMatch)."""
    if len(pattern.encode()) < 2:
        return text == pattern
    starts, ends = pattern.startswith("*"), pattern.endswith("*")
    if starts and ends:
        return pattern[1:-1] in text
    if starts:
        return text.endswith(pattern[1:])
    if ends:
        return text.startswith(pattern[:-1])
    return text == pattern
