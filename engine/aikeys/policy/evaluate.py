"""What a set of policies allows, decided as the servers decide it. No IO.

1. Rules of the same path string, in whatever policy, become one: capabilities are united, `deny` ends all others,
   parameter lists are united, the smaller of two wrapping TTLs counts.
2. One rule decides a request: that of exactly its path, else the matching rule with a wildcard that has the highest
   priority. Nothing is inherited from the rules that lost.
3. The priority of a rule with `+` or a trailing `*`: the later its first wildcard, the higher; then no trailing `*`
   before one; then fewer `+`; then the longer; then the greater in byte order.
4. A listing asks for the path with its trailing slash; a rule without it serves too. Which of the two is asked first
   among rules with wildcards differs: OpenBao with the slash, Vault without.
5. The rule that decides must grant the operation, then its wrapping TTLs and its parameters must fit.

Source: acl.go (NewACL, AllowOperation, CheckAllowedFromNonExactPaths) of OpenBao 2.7 and Vault 1.21.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aikeys.policy.hcl import Value
from aikeys.policy.parameters import parameters_refuse
from aikeys.policy.parse import DENY, SUDO, Policy, Rule, Server
from aikeys.policy.root_paths import needs_sudo
from aikeys.policy.templating import Entity, UnsafeValueError, render

OPERATIONS = ("create", "read", "update", "patch", "delete", "list", "scan")
# Operations whose parameters are judged; the others' are not looked at.
_WITH_PARAMETERS = frozenset({"create", "read", "update", "patch"})
_LISTS = frozenset({"list", "scan"})
ROOT = "root"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `data` is the body or, of a read, the query; `wrap_ttl` seconds of the wrapping, None without.

    A query parameter given twice is a tuple: no list in a policy matches it, whatever it holds.
    """

    operation: str
    path: str
    data: Mapping[str, object] = field(default_factory=dict)
    wrap_ttl: int | None = None


def asked_path(operation: str, path: str) -> str:
    """The path that is checked: every listing gets its trailing slash before."""
    return path + "/" if operation in _LISTS and not path.endswith("/") else path


@dataclass(slots=True)
class Merged:
    """All rules of one path string as one."""

    path: str
    rules: list[Rule]
    capabilities: set[str]
    allowed: dict[str, tuple[Value, ...]]
    denied: dict[str, tuple[Value, ...]]
    required: list[str]
    min_wrapping_ttl: int
    max_wrapping_ttl: int

    @classmethod
    def of(cls, rule: Rule) -> Merged:
        return cls(
            rule.path,
            [rule],
            set(rule.capabilities),
            dict(rule.allowed),
            dict(rule.denied),
            list(rule.required),
            rule.min_wrapping_ttl,
            rule.max_wrapping_ttl,
        )

    def add(self, rule: Rule) -> None:
        self.rules.append(rule)
        if DENY in self.capabilities:
            return
        if DENY in rule.capabilities:
            self.capabilities = {DENY}
            return
        self.capabilities |= rule.capabilities
        self.min_wrapping_ttl = _lesser(self.min_wrapping_ttl, rule.min_wrapping_ttl)
        self.max_wrapping_ttl = _lesser(self.max_wrapping_ttl, rule.max_wrapping_ttl)
        # A rule without a list adds none, so the other's list binds both: the union can allow less than one alone.
        _unite(self.allowed, rule.allowed)
        _unite(self.denied, rule.denied)
        self.required += [name for name in rule.required if name not in self.required]

    def granting(self, capability: str) -> list[Rule]:
        return [rule for rule in self.rules if capability in rule.capabilities]


def _lesser(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other


def _unite(into: dict[str, tuple[Value, ...]], more: Mapping[str, tuple[Value, ...]]) -> None:
    for name, values in more.items():
        held = into.get(name)
        # An empty list means any value, whatever the other says.
        into[name] = () if not values or held == () else (*values, *(held or ()))


@dataclass(frozen=True, slots=True)
class Decision:
    """`decided` is the rule that decided (None: no rule matches), `beaten` those that match and lost, best first."""

    allowed: bool
    reason: str
    decided: Merged | None = None
    beaten: tuple[Merged, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(self.decided.rules) if self.decided else ()


class Acl:
    """The policies of one token. `entity` fills the templates; a templated rule without a value does not count."""

    def __init__(
        self, policies: Iterable[Policy], server: Server, *, entity: Entity | None = None, root: bool = False
    ) -> None:
        self.server = server
        self.root = root
        self._exact: dict[str, Merged] = {}
        self._prefixes: dict[str, Merged] = {}
        self._segmented: dict[str, Merged] = {}
        self.locked_out = ""
        try:
            for policy in policies:
                for rule in render(policy.rules, entity, server):
                    self._insert(rule)
        except UnsafeValueError as error:
            self.locked_out = f"{error}: {server} refuses every request of this token"

    def _insert(self, rule: Rule) -> None:
        # A `+*` can come out of a template on Vault; the server then refuses the whole policy set. Not modelled.
        if rule.segmented:
            tree, key = self._segmented, rule.path
        elif rule.path.endswith("*"):
            tree, key = self._prefixes, rule.path[:-1]
        else:
            tree, key = self._exact, rule.path
        if key in tree:
            tree[key].add(rule)
        else:
            tree[key] = Merged.of(rule)

    @property
    def merged(self) -> list[Merged]:
        return [*self._exact.values(), *self._prefixes.values(), *self._segmented.values()]

    def capabilities(self, path: str) -> list[str]:
        """What `sys/capabilities` answers about `path`: sorted, `["deny"]` for none, `["root"]` for root."""
        if self.root:
            return [ROOT]
        if self.locked_out:
            return [DENY]
        matches = self.matches(path, "list")
        found = matches[0].capabilities if matches else set()
        return sorted(found) if found and DENY not in found else [DENY]

    def decide(self, request: Request) -> Decision:
        """Whether `request` passes the servers' access check, and which rule decided."""
        if self.root:
            return Decision(True, "the policy root allows everything")
        if self.locked_out:
            return Decision(False, self.locked_out)
        request = replace(request, path=asked_path(request.operation, request.path))
        matches = self.matches(request.path, request.operation)
        if not matches:
            return Decision(False, "no rule matches this path")
        decided, *beaten = matches
        refusal = self._refusal(decided, request)
        reason = refusal or f"the rule grants {request.operation}"
        return Decision(not refusal, reason, decided, tuple(beaten))

    def grants(self, operation: str, path: str) -> Merged | None:
        """The rule that lets `operation` pass on `path` for some parameters and some wrapping; None when none does."""
        matches = [] if self.locked_out else self.matches(path, operation)
        if not matches or DENY in matches[0].capabilities or operation not in matches[0].capabilities:
            return None
        held = SUDO in matches[0].capabilities or not needs_sudo(path, self.server)
        return matches[0] if held else None

    def _refusal(self, rule: Merged, request: Request) -> str:
        if DENY in rule.capabilities:
            return "the rule says deny"
        if request.operation not in rule.capabilities:
            granted = ", ".join(sorted(rule.capabilities)) or "nothing"
            return f"the rule grants {granted}, not {request.operation}"
        refusal = _wrapping_refuses(rule, request.wrap_ttl)
        if not refusal and request.operation in _WITH_PARAMETERS:
            refusal = parameters_refuse(rule.allowed, rule.denied, rule.required, request.data, self.server)
        if not refusal and SUDO not in rule.capabilities and needs_sudo(request.path, self.server):
            refusal = "the path is root-protected: the rule must grant sudo too"
        return refusal

    def matches(self, path: str, operation: str) -> list[Merged]:
        """Every rule that matches, the one that decides first."""
        path = path.lstrip("/")
        bare = path.removesuffix("/")
        found: list[Merged] = []
        exact = [path, bare] if operation in _LISTS else [path]
        found += [self._exact[key] for key in exact if key in self._exact]
        asked = [path]
        if operation in _LISTS and bare != path:
            asked = [path, bare] if self.server is Server.OPENBAO else [bare, path]
        for one in asked:
            found += self._with_wildcards(one)
        return list({id(merged): merged for merged in found}.values())

    def _with_wildcards(self, path: str) -> list[Merged]:
        ranked = []
        for prefix, merged in self._prefixes.items():
            if path.startswith(prefix):
                ranked.append((_Rank.of_prefix(prefix), merged))
        parts = path.split("/")
        for key, merged in self._segmented.items():
            rank = _match_segments(key, parts)
            if rank is not None:
                ranked.append((rank, merged))
        return [merged for _, merged in sorted(ranked, key=lambda pair: pair[0], reverse=True)]


@dataclass(frozen=True, slots=True, order=True)
class _Rank:
    """Greater decides. Positions and lengths are in bytes, as in Go."""

    first_wildcard: int
    whole: bool
    fewer_plus: int
    length: int
    text: bytes

    @classmethod
    def of_prefix(cls, prefix: str) -> _Rank:
        text = prefix.encode()
        return cls(len(text), False, 0, len(text), text)


def _match_segments(key: str, parts: Sequence[str]) -> _Rank | None:
    """The rank of the rule `key`, which has a `+` at the start of a segment, if it matches the path's `parts`."""
    glob = key.endswith("*")
    text = key[:-1] if glob else key
    pattern = text.split("/")
    if len(parts) < len(pattern) or (not glob and len(parts) != len(pattern)):
        return None
    last = len(pattern) - 1
    plus = 0
    for index, wanted in enumerate(pattern):
        if wanted == "+":
            plus += 1
        elif wanted != parts[index] and not (glob and index == last and parts[index].startswith(wanted)):
            return None
    encoded = text.encode()
    return _Rank(key.encode().index(b"+"), not glob, -plus, len(encoded), encoded)


def _wrapping_refuses(rule: Merged, wrap_ttl: int | None) -> str:
    low, high = rule.min_wrapping_ttl, rule.max_wrapping_ttl
    if not low and not high:
        return ""
    if low and high and high < low:
        return f"the rules merge to a wrapping TTL of at least {low}s and at most {high}s, which nothing can meet"
    bounds = " and ".join([*([f"at least {low}s"] if low else []), *([f"at most {high}s"] if high else [])])
    if wrap_ttl is None:
        return f"the answer must be wrapped, with a TTL of {bounds} (header X-Vault-Wrap-TTL)"
    if (high and wrap_ttl > high) or (low and wrap_ttl < low):
        return f"the wrapping TTL must be {bounds}, not {wrap_ttl}s"
    return ""
