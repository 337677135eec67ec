"""AppRoles as files: `policies/approles/<name>.hcl`, one `approle "<name>" { ... }` each. Field names are Vault's.

What bounds a login must be written, even where the servers have a default: an AppRole whose TTLs nobody chose lives
for 32 days. `entity { metadata = { team = "search" } }` is whom its tokens belong to, for templated policies.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aikeys.framework.durations import DurationError, parse_duration
from aikeys.policy.hcl import Attribute, Block, PolicyError, read_hcl

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?")
_DURATIONS = frozenset(
    {"token_ttl", "token_max_ttl", "token_period", "token_explicit_max_ttl", "secret_id_ttl"}
)
_NUMBERS = frozenset({"token_num_uses", "secret_id_num_uses"})
_FLAGS = frozenset({"token_no_default_policy", "bind_secret_id"})
_CIDRS = frozenset({"token_bound_cidrs", "secret_id_bound_cidrs"})
_TOKEN_TYPES = ("default", "service", "batch")
KEYS = frozenset({"token_policies", "token_type"}) | _DURATIONS | _NUMBERS | _FLAGS | _CIDRS
_REQUIRED = (
    "token_policies",
    "token_ttl",
    "secret_id_ttl",
    "secret_id_num_uses",
    "secret_id_bound_cidrs",
    "token_bound_cidrs",
)
# What the servers answer for a field that was never written.
DEFAULTS: Mapping[str, Any] = {
    "token_policies": [],
    "token_type": "default",
    "token_ttl": 0,
    "token_max_ttl": 0,
    "token_period": 0,
    "token_explicit_max_ttl": 0,
    "token_num_uses": 0,
    "token_no_default_policy": False,
    "token_bound_cidrs": [],
    "secret_id_ttl": 0,
    "secret_id_num_uses": 0,
    "secret_id_bound_cidrs": [],
    "bind_secret_id": True,
}


@dataclass(frozen=True, slots=True)
class AppRole:
    """`settings` has every key of `DEFAULTS`, durations in seconds. `lines` says where each written key stands."""

    name: str
    file: str
    line: int
    settings: Mapping[str, Any]
    metadata: Mapping[str, str] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def policies(self) -> tuple[str, ...]:
        return tuple(self.settings["token_policies"])


def parse_approle(text: str, *, file: str) -> AppRole:
    """Raises `PolicyError` for an unknown or missing key, a wrong value, and bounds that contradict each other."""
    document = read_hcl(text, file)
    for key, attribute in document.attributes.items():
        raise PolicyError(file, attribute.line, f'unknown key "{key}": the file holds one approle block')
    if [block.kind for block in document.blocks] != ["approle"]:
        wrong = next(
            (block for block in document.blocks if block.kind != "approle"), document.blocks[-1:] or document
        )
        line = wrong.line if isinstance(wrong, Block) else wrong[0].line
        raise PolicyError(file, line, 'the file holds exactly one block: approle "<name>" { ... }')
    (block,) = document.blocks
    if len(block.labels) != 1 or not _NAME.fullmatch(block.labels[0]):
        raise PolicyError(file, block.line, "an approle has one name of small letters, digits, '-' and '_'")
    return _Reader(block, file).approle()


class _Reader:
    def __init__(self, block: Block, file: str) -> None:
        self._block = block
        self._file = file

    def approle(self) -> AppRole:
        block = self._block
        for key, attribute in block.attributes.items():
            if key not in KEYS:
                raise self._wrong(
                    attribute, f'unknown key "{key}": an approle may have {", ".join(sorted(KEYS))}'
                )
        for key in _REQUIRED:
            if key not in block.attributes:
                raise PolicyError(self._file, block.line, f'"{key}" is missing: it has no safe default')
        if not {"token_max_ttl", "token_period"} & set(block.attributes):
            raise PolicyError(self._file, block.line, 'one of "token_max_ttl" and "token_period" is missing')
        written = {key: self._value(key, attribute) for key, attribute in block.attributes.items()}
        settings = {**DEFAULTS, **written}
        self._check_bounds(settings)
        lines = {key: attribute.line for key, attribute in block.attributes.items()}
        return AppRole(block.labels[0], self._file, block.line, settings, self._metadata(), lines)

    def _value(self, key: str, attribute: Attribute) -> object:
        value = attribute.value
        if key in _DURATIONS:
            return self._seconds(key, attribute)
        if key in _NUMBERS:
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
            raise self._wrong(attribute, f"{key} is a whole number, 0 for no bound")
        if key in _FLAGS:
            if isinstance(value, bool):
                return value
            raise self._wrong(attribute, f"{key} is true or false")
        if key == "token_type":
            if value in _TOKEN_TYPES:
                return value
            raise self._wrong(attribute, f"token_type is one of {', '.join(_TOKEN_TYPES)}")
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise self._wrong(attribute, f'{key} is a list of texts: {key} = ["...", "..."]')
        texts = [str(one) for one in value]
        if len(set(texts)) != len(texts):
            raise self._wrong(attribute, f"{key} names one thing twice")
        if key == "token_policies" and not texts:
            raise self._wrong(attribute, "token_policies is empty: such a login could do nothing")
        return [self._cidr(key, text, attribute) for text in texts] if key in _CIDRS else texts

    def _seconds(self, key: str, attribute: Attribute) -> int:
        value = attribute.value
        if isinstance(value, str | int) and not isinstance(value, bool):
            try:
                seconds = parse_duration(value)
            except DurationError:
                seconds = -1
            if seconds > 0:
                return seconds
        raise self._wrong(attribute, f'{key} is a duration of a second or more, such as "20m" or 1200')

    def _cidr(self, key: str, text: str, attribute: Attribute) -> str:
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise self._wrong(attribute, f"{key}: {error}; write a network such as 10.0.0.0/8") from None
        return str(network)

    def _check_bounds(self, settings: Mapping[str, Any]) -> None:
        for low, high in (("token_ttl", "token_max_ttl"), ("token_ttl", "token_explicit_max_ttl")):
            if settings[high] and settings[low] > settings[high]:
                raise self._wrong(self._block.attributes[low], f"{low} is longer than {high}")
        if settings["token_type"] == "batch":
            for key in ("token_num_uses", "token_period"):
                if settings[key]:
                    raise self._wrong(self._block.attributes[key], f"a batch token has no {key}")

    def _metadata(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for inner in self._block.blocks:
            unknown = sorted(set(inner.attributes) - {"metadata"})
            if (
                inner.kind != "entity"
                or inner.labels
                or inner.blocks
                or unknown
                or "metadata" not in inner.attributes
            ):
                raise PolicyError(
                    self._file, inner.line, "the one block here is: entity { metadata = { ... } }"
                )
            attribute = inner.attributes["metadata"]
            if found or not isinstance(attribute.value, dict):
                raise self._wrong(attribute, 'metadata is one map of texts: { team = "search" }')
            for key, value in attribute.value.items():
                if not isinstance(value, str) or not value or set(value) & set("/*+"):
                    # OpenBao refuses such a value in a template, Vault would take it as a wildcard.
                    raise self._wrong(attribute, f'metadata "{key}" is a text without "/", "*" and "+"')
                found[key] = value
        return found

    def _wrong(self, attribute: Attribute, problem: str) -> PolicyError:
        return PolicyError(self._file, attribute.line, problem)
