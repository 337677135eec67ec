"""A policy's text as rules with line numbers, read strictly.

Two ways to read. A file of this project keeps to what OpenBao and HashiCorp Vault both know, and anything else is an
error. What a live server holds was accepted there already: with `server` its own further keys are read too; the ones
that are not judged here stand in `Rule.unjudged`. Source of every rule: OpenBao and Vault, policy.go.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from aikeys.framework.durations import DurationError, parse_duration
from aikeys.policy.hcl import Attribute, Block, PolicyError, Value, read_hcl


class Server(enum.StrEnum):
    """Whose rules apply: the two differ in listings, in lists as parameters, and in templates."""

    OPENBAO = "openbao"
    VAULT = "vault"


DENY = "deny"
SUDO = "sudo"
_COMMON = frozenset({"create", "read", "update", "patch", "delete", "list", SUDO, DENY})
CAPABILITIES: Mapping[Server | None, frozenset[str]] = {
    None: _COMMON,
    Server.OPENBAO: _COMMON | {"scan"},
    Server.VAULT: _COMMON | {"subscribe", "recover"},
}
_PARAMETERS = ("allowed_parameters", "denied_parameters", "required_parameters")
_COMMON_KEYS = frozenset(
    {"comment", "policy", "capabilities", "min_wrapping_ttl", "max_wrapping_ttl", *_PARAMETERS}
)
_UNJUDGED: Mapping[Server | None, frozenset[str]] = {
    None: frozenset(),
    Server.OPENBAO: frozenset(
        {
            "mfa_methods",
            "control_group",
            "expiration",
            "pagination_limit",
            "list_scan_response_keys_filter_path",
        }
    ),
    Server.VAULT: frozenset({"mfa_methods", "control_group", "subscribe_event_types"}),
}
# The form before capabilities, which both servers still take.
_OLD_POLICY = {
    "deny": frozenset({DENY}),
    "read": frozenset({"read", "list"}),
    "write": frozenset({"create", "read", "update", "delete", "list"}),
    "sudo": frozenset({"create", "read", "update", "delete", "list", SUDO}),
}
# Whole seconds only: what is finer than that cannot be compared with a wrapping TTL in seconds.
_WHOLE_SECONDS = re.compile(r"\d+[smhd]?|(?=\d)(\d+h)?(\d+m)?(\d+s)?")
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One `path` block. `path` is as written, without a leading slash; wrapping TTLs are seconds, 0 for none."""

    policy: str
    file: str
    line: int
    path: str
    capabilities: frozenset[str]
    allowed: Mapping[str, tuple[Value, ...]]
    denied: Mapping[str, tuple[Value, ...]]
    required: tuple[str, ...]
    min_wrapping_ttl: int
    max_wrapping_ttl: int
    unjudged: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def segmented(self) -> bool:
        """Whether the servers treat it as a rule with `+` segments (policy.go, HasSegmentWildcards)."""
        return self.path == "+" or self.path.startswith("+/") or "/+" in self.path

    @property
    def templates(self) -> tuple[str, ...]:
        """What stands between `{{` and `}}`, such as `identity.entity.metadata.team`."""
        return tuple(found.strip() for found in _TEMPLATE.findall(self.path))

    @property
    def meaning(self) -> tuple[object, ...]:
        """What it says, wherever it stands: two rules that say the same are equal in this."""
        return (
            self.path,
            tuple(sorted(self.capabilities)),
            _canonical(self.allowed),
            _canonical(self.denied),
            tuple(sorted(self.required)),
            self.min_wrapping_ttl,
            self.max_wrapping_ttl,
            self.unjudged,
        )


def _canonical(parameters: Mapping[str, tuple[Value, ...]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, json.dumps(values, sort_keys=True)) for name, values in parameters.items()))


@dataclass(frozen=True, slots=True)
class Policy:
    name: str
    file: str
    text: str
    rules: tuple[Rule, ...]

    def says_the_same(self, other: Policy) -> bool:
        return sorted(map(_order, self.rules)) == sorted(map(_order, other.rules))


def _order(rule: Rule) -> str:
    return repr(rule.meaning)


def parse_policy(text: str, *, name: str, file: str, server: Server | None = None) -> Policy:
    """The policy `name`; `server=None` holds it to what both servers know.

    Raises `PolicyError` for an unknown key, a wrong type, a wildcard the servers refuse, and unbalanced templates.
    """
    stripped = text.lstrip()
    document = _read_json(text, file) if stripped.startswith("{") else read_hcl(text, file)
    for key, attribute in document.attributes.items():
        if key != "name":
            raise PolicyError(file, attribute.line, f'unknown key "{key}": a policy is made of `path` blocks')
    rules = []
    for block in document.blocks:
        if block.kind != "path":
            raise PolicyError(
                file, block.line, f'unknown block "{block.kind}": a policy is made of `path` blocks'
            )
        if len(block.labels) != 1:
            raise PolicyError(file, block.line, 'a path block has one path: path "secret/data/app" { ... }')
        rules.append(_rule(block, name, file, server))
    return Policy(name, file, text, tuple(rules))


def _read_json(text: str, file: str) -> Block:
    """The JSON form, which both servers take and Terraform writes. It has no line numbers: all are 1."""
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise PolicyError(file, error.lineno, f"this is not JSON: {error.msg}") from None
    document = Block("", (), 1)
    paths = parsed.pop("path", {})
    document.attributes.update({key: Attribute(value, 1) for key, value in parsed.items()})
    for entry in paths if isinstance(paths, list) else [paths]:
        for path, body in entry.items() if isinstance(entry, dict) else ():
            for one in body if isinstance(body, list) else [body]:
                if not isinstance(one, dict):
                    raise PolicyError(file, 1, f'"{path}" has no body')
                attributes = {key: Attribute(value, 1) for key, value in one.items()}
                document.blocks.append(Block("path", (path,), 1, attributes))
    return document


def _rule(block: Block, policy: str, file: str, server: Server | None) -> Rule:
    path = block.labels[0].removeprefix("/")
    if "+*" in path:
        raise PolicyError(file, block.line, f'"{path}": "+*" is refused by the servers; write "+" or "+/*"')
    if path.count("{{") != path.count("}}") or _TEMPLATE.sub("", path).count("{{"):
        raise PolicyError(file, block.line, f'"{path}": unbalanced templating characters')
    keys = _COMMON_KEYS | _UNJUDGED[server]
    for inner in block.blocks:
        if inner.kind not in keys:
            raise PolicyError(file, inner.line, _unknown(inner.kind, keys))
        if inner.kind in _COMMON_KEYS:
            raise PolicyError(file, inner.line, f"write {inner.kind} = ...")
    for key, attribute in block.attributes.items():
        if key not in keys:
            raise PolicyError(file, attribute.line, _unknown(key, keys))
    read = _Keys(block, file)
    capabilities = read.capabilities(CAPABILITIES[server])
    # What a rule with deny says besides is not even looked at by the servers.
    denies = DENY in capabilities
    low, high = read.ttl("min_wrapping_ttl"), read.ttl("max_wrapping_ttl")
    if low and high and high < low and not denies:
        line = block.attributes["max_wrapping_ttl"].line
        raise PolicyError(file, line, "max_wrapping_ttl cannot be less than min_wrapping_ttl")
    allowed, denied = read.parameters("allowed_parameters"), read.parameters("denied_parameters")
    required = tuple(read.texts("required_parameters"))
    present = {*block.attributes, *(inner.kind for inner in block.blocks)}
    return Rule(
        policy=policy,
        file=file,
        line=block.line,
        path=path,
        capabilities=frozenset({DENY}) if denies else capabilities,
        allowed={} if denies else allowed,
        denied={} if denies else denied,
        required=() if denies else required,
        min_wrapping_ttl=0 if denies else low,
        max_wrapping_ttl=0 if denies else high,
        unjudged=tuple(sorted(present & _UNJUDGED[server])),
    )


def _unknown(key: str, keys: frozenset[str]) -> str:
    for server, names in _UNJUDGED.items():
        if server is not None and key in names - keys:
            return f'"{key}" is not in the syntax that OpenBao and Vault share'
    return f'unknown key "{key}": a path block may have {", ".join(sorted(keys))}'


class _Keys:
    """The attributes of one path block, checked as they are asked for."""

    def __init__(self, block: Block, file: str) -> None:
        self._attributes = block.attributes
        self._file = file

    def capabilities(self, known: frozenset[str]) -> frozenset[str]:
        found = set(self.texts("capabilities"))
        if found - known:
            name = min(found - known)
            raise PolicyError(
                self._file,
                self._attributes["capabilities"].line,
                f'unknown capability "{name}": known to both servers are {", ".join(sorted(_COMMON))}',
            )
        old = self._attributes.get("policy")
        if old is not None:
            if not isinstance(old.value, str) or old.value not in _OLD_POLICY:
                raise PolicyError(self._file, old.line, f"policy is one of {', '.join(_OLD_POLICY)}")
            found |= _OLD_POLICY[old.value]
        return frozenset(found)

    def texts(self, key: str) -> list[str]:
        attribute = self._attributes.get(key)
        if attribute is None:
            return []
        if isinstance(attribute.value, list):
            texts = [value for value in attribute.value if isinstance(value, str)]
            if len(texts) == len(attribute.value):
                return texts
        raise PolicyError(self._file, attribute.line, f'{key} is a list of texts: {key} = ["...", "..."]')

    def parameters(self, key: str) -> dict[str, tuple[Value, ...]]:
        """Names in lower case, as the servers keep them."""
        attribute = self._attributes.get(key)
        if attribute is None:
            return {}
        if not isinstance(attribute.value, dict):
            raise PolicyError(
                self._file, attribute.line, f'{key} is a map of lists: {key} = {{ "ttl" = ["1h"] }}'
            )
        found = {}
        for name, values in attribute.value.items():
            if not isinstance(values, list) or any(isinstance(value, dict) for value in values):
                raise PolicyError(
                    self._file, attribute.line, f'{key}: "{name}" is a list of values, empty for any value'
                )
            if name.lower() in found:
                raise PolicyError(self._file, attribute.line, f'{key}: "{name}" stands there twice')
            found[name.lower()] = tuple(values)
        return found

    def ttl(self, key: str) -> int:
        attribute = self._attributes.get(key)
        if attribute is None:
            return 0
        written = attribute.value
        if isinstance(written, str | int) and not isinstance(written, bool):
            text = str(written)
            try:
                if text and _WHOLE_SECONDS.fullmatch(text):
                    return parse_duration(text)
            except DurationError:
                pass
        raise PolicyError(self._file, attribute.line, f'{key} is whole seconds such as 90, "90s" or "1h30m"')
