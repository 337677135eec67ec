"""What is wrong with policies that parse: rules without effect, and rights that lead to more rights. No IO.

Each finding has a code. A comment directly above a rule allows one there, with a reason: `# allow escalation: ...`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from aikeys.policy.approles import AppRole
from aikeys.policy.escalation import escalations
from aikeys.policy.evaluate import Acl
from aikeys.policy.folder import Folder
from aikeys.policy.hcl import Value
from aikeys.policy.parse import DENY, SUDO, Policy, Rule, Server
from aikeys.policy.patterns import examples, pattern_of
from aikeys.policy.root_paths import needs_sudo

_ALLOW = re.compile(r"\s*(?:#|//)\s*allow\s+([a-z0-9-]+):\s*\S")
_KV2_PARTS = frozenset({"data", "metadata", "delete", "undelete", "destroy", "subkeys", "config", "*", "+"})
_JUDGES_PARAMETERS = frozenset({"create", "read", "update", "patch", DENY})


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    file: str
    line: int
    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code}: {self.text}"


def lint(
    folder: Folder,
    *,
    mount: str = "ai-keys",
    kv2: Collection[str] = ("secret",),
    engine_roles: Collection[str] | None = None,
) -> list[Finding]:
    """Everything found, by file and line. `kv2` are mounts of KV version 2; `engine_roles` the roles that exist."""
    found: set[Finding] = set()
    for policy in folder.policies:
        found.update(_one_policy(policy, mount.strip("/"), [one.strip("/") for one in kv2], engine_roles))
    if folder.approles:
        found.update(_approles(folder))
    allowed = _allowed(folder)
    return sorted(one for one in found if (one.file, one.line, one.code) not in allowed)


def _one_policy(
    policy: Policy, mount: str, kv2: Collection[str], engine_roles: Collection[str] | None
) -> Iterator[Finding]:
    for rule in policy.rules:
        yield from _wildcards(rule)
        yield from _no_effect(rule)
        yield from _kv2(rule, kv2)
        if engine_roles is not None:
            yield from _unknown_role(rule, f"{mount}/creds/", engine_roles)
    for rule, winner in unreachable(policy.rules):
        yield _at(
            rule,
            "unreachable",
            f'"{rule.path}" never decides: "{winner.path}" ({winner.where}) goes before it',
        )
    for rule, why in escalations([filled(policy)]):
        yield _at(rule, "escalation", f'"{_written(policy, rule)}": {why}')


def _approles(folder: Folder) -> Iterator[Finding]:
    names = {policy.name for policy in folder.policies} | {"default"}
    for approle in folder.approles:
        for name in approle.policies:
            if name not in names:
                yield _on(approle, "token_policies", "unknown-policy", f'there is no policy "{name}" here')
        held = folder.of(approle)
        alone = {id(rule) for policy in held for rule, _ in unreachable(policy.rules)}
        for rule, winner in unreachable([rule for policy in held for rule in policy.rules]):
            if id(rule) not in alone:
                text = f'with the policies of approle "{approle.name}", "{rule.path}" never decides: '
                yield _at(rule, "unreachable", f'{text}"{winner.path}" ({winner.where}) goes before it')
        if len(held) > 1:
            alone_found = {
                (rule.policy, rule.line, why)
                for policy in held
                for rule, why in escalations([filled(policy)])
            }
            for rule, why in escalations([filled(policy) for policy in held]):
                if (rule.policy, rule.line, why) not in alone_found:
                    yield _on(approle, "token_policies", "escalation", f"its policies together: {why}")
        yield from _loose(approle)
    carried = {name for approle in folder.approles for name in approle.policies}
    for policy in folder.policies:
        if policy.name not in carried and policy.rules:
            yield _at(policy.rules[0], "unheld-policy", f'no approle here has the policy "{policy.name}"')


def _loose(approle: AppRole) -> Iterator[Finding]:
    if approle.settings["secret_id_num_uses"] == 0 and approle.settings["secret_id_ttl"] > 24 * 3600:
        text = (
            "a secret id that is good for any number of logins for more than a day; bound its uses or its TTL"
        )
        yield _on(approle, "secret_id_num_uses", "loose-approle", text)
    for key in ("secret_id_bound_cidrs", "token_bound_cidrs"):
        if {"0.0.0.0/0", "::/0"} & set(approle.settings[key]) or not approle.settings[key]:
            yield _on(approle, key, "loose-approle", f"{key} lets every address in")
    if not approle.settings["bind_secret_id"]:
        yield _on(approle, "bind_secret_id", "loose-approle", "whoever knows the role id logs in")


def unreachable(rules: Iterable[Rule]) -> Iterator[tuple[Rule, Rule]]:
    """Rules that decide no request on either server, each with the rule that goes before it."""
    originals = list(rules)
    fills = [replace(rule, path=pattern_of(rule.path)) for rule in originals]
    acls = [Acl([Policy("", "", "", tuple(fills))], server) for server in Server]
    for original, rule in zip(originals, fills, strict=True):
        winners = [
            winner
            for acl in acls
            for path in examples(rule.path)
            for operation in ("read", "list")
            for winner in acl.matches(path, operation)[:1]
        ]
        # A rule that no example reaches at all is one that examples cannot be found for: nothing is said of it.
        if winners and not any(rule in winner.rules for winner in winners):
            beats = winners[0].rules[0]
            yield original, originals[fills.index(beats)]


def filled(policy: Policy) -> Policy:
    """`policy` with a name in the place of every template, so that it can be judged without a holder."""
    rules = tuple(replace(rule, path=pattern_of(rule.path)) for rule in policy.rules)
    return replace(policy, rules=rules)


def _written(policy: Policy, rule: Rule) -> str:
    return next((one.path for one in policy.rules if one.line == rule.line), rule.path)


def _wildcards(rule: Rule) -> Iterator[Finding]:
    segments = rule.path.removesuffix("*").split("/")
    if any("*" in segment for segment in segments):
        yield _at(rule, "literal-wildcard", f'"{rule.path}": a "*" is a wildcard only as the last letter')
    if any("+" in segment and segment != "+" for segment in segments):
        yield _at(rule, "literal-wildcard", f'"{rule.path}": a "+" is a wildcard only as a whole segment')
    match = re.search(r"\}\}([\w-]*)\*$", rule.path)
    if match:
        text = f'"{rule.path}": the value "ml" also reaches what begins with "ml{match[1] or "-"}...", another team\'s'
        yield _at(rule, "open-template", f'{text}; end it with "." or "/" before the "*"')


def _no_effect(rule: Rule) -> Iterator[Finding]:
    if not rule.capabilities:
        yield _at(rule, "no-effect", f'"{rule.path}" grants nothing; write deny if that is meant')
    if "list" in rule.capabilities and not rule.path.endswith(("/", "*")):
        text = f'"{rule.path}" grants list without the trailing slash, in which every listing ends: write'
        yield _at(rule, "list-slash", f'{text} path "{rule.path}/" for it')
    if rule.path.endswith("/") and rule.capabilities - {"list", "scan", SUDO, DENY}:
        yield _at(rule, "no-effect", f'"{rule.path}" with its trailing slash is asked for by listings alone')
    listed = rule.allowed or rule.denied or rule.required
    if listed and not rule.capabilities & _JUDGES_PARAMETERS:
        yield _at(rule, "no-effect", f'"{rule.path}": parameters are not looked at for list and delete')
    for key, parameters in (("allowed_parameters", rule.allowed), ("denied_parameters", rule.denied)):
        for name, values in parameters.items():
            if any(map(_numeric, values)):
                yield _at(
                    rule, "no-effect", f'{key}: a number for "{name}" matches no request on either server'
                )
    protected = all(needs_sudo(path, server) for path in examples(pattern_of(rule.path)) for server in Server)
    if protected and rule.capabilities and not rule.capabilities & {SUDO, DENY}:
        yield _at(rule, "no-effect", f'"{rule.path}" is root-protected: without sudo nothing is granted')


def _numeric(value: Value) -> bool:
    if isinstance(value, list):
        return any(map(_numeric, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kv2(rule: Rule, mounts: Collection[str]) -> Iterator[Finding]:
    for mount in mounts:
        if not rule.path.startswith(f"{mount}/") or DENY in rule.capabilities:
            continue
        part, _, rest = rule.path.removeprefix(f"{mount}/").partition("/")
        if part and part not in _KV2_PARTS:
            text = f'"{rule.path}": version 2 of KV keeps values at {mount}/data/... and names at {mount}/metadata/...'
            yield _at(rule, "kv2-path", text)
        elif part == "data" and rest and rule.capabilities & {"list"}:
            yield _at(
                rule, "kv2-path", f'"{rule.path}": names are listed at {mount}/metadata/..., never at data/'
            )


def _unknown_role(rule: Rule, creds: str, roles: Collection[str]) -> Iterator[Finding]:
    name = rule.path.removeprefix(creds)
    if name == rule.path or not name or set(name) & set("+*{/") or DENY in rule.capabilities:
        return
    if name not in roles:
        yield _at(rule, "unknown-role", f'"{rule.path}": the engine has no role "{name}"')


def _at(rule: Rule, code: str, text: str) -> Finding:
    return Finding(rule.file, rule.line, code, text)


def _on(approle: AppRole, key: str, code: str, text: str) -> Finding:
    return Finding(approle.file, approle.lines.get(key, approle.line), code, text)


def _allowed(folder: Folder) -> set[tuple[str, int, str]]:
    """File, line and code that a comment above the line allows."""
    allowed = set()
    for policy in folder.policies:
        lines = policy.text.splitlines()
        for rule in policy.rules:
            above = rule.line - 2
            while 0 <= above < len(lines) and lines[above].lstrip().startswith(("#", "//")):
                match = _ALLOW.match(lines[above])
                if match:
                    allowed.add((policy.file, rule.line, match[1]))
                above -= 1
    return allowed
