"""Rights that lead to more rights: what a holder could do with a policy to get what the policy does not grant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from aikeys.policy.evaluate import Acl, Merged
from aikeys.policy.parse import SUDO, Policy, Rule, Server
from aikeys.policy.patterns import pattern_of, shared

_WRITES = ("create", "update", "patch")


@dataclass(frozen=True, slots=True)
class Escalation:
    """`sudo`: only with it, although the path is not root-protected."""

    path: str
    why: str
    operations: tuple[str, ...] = _WRITES
    sudo: bool = False


ESCALATIONS = (
    Escalation("sys/policies/acl/*", "writes policies, its own among them"),
    Escalation("sys/policy/*", "writes policies, its own among them"),
    Escalation("auth/token/create", "with sudo, makes tokens with policies it does not hold", sudo=True),
    Escalation("auth/token/create-orphan", "makes tokens that outlive its own"),
    Escalation("auth/token/create/+", "makes tokens with whatever policies the token role names"),
    Escalation("auth/token/roles/+", "writes token roles, which name any policies"),
    Escalation("auth/+/role/+", "writes login roles, which name any policies"),
    Escalation("auth/+/role/+/policies", "gives a login role any policies"),
    Escalation("auth/+/role/+/token-policies", "gives a login role any policies"),
    Escalation("auth/+/users/+", "writes logins, which name any policies"),
    Escalation("auth/+/users/+/policies", "gives a login any policies"),
    Escalation("auth/+/groups/+", "writes groups of a login method, which name any policies"),
    Escalation("auth/+/map/*", "maps logins to any policies"),
    Escalation("auth/+/config", "says whom a login method believes"),
    Escalation("sys/auth/+", "enables login methods"),
    Escalation(
        "identity/entity*", "writes entities: their policies, metadata (templated policies) and aliases"
    ),
    Escalation("identity/group*", "writes groups, which give any policies to their members"),
    Escalation("identity/persona*", "writes aliases: a login becomes somebody else"),
    Escalation("sys/remount", "moves what it may not read to where it may"),
    Escalation("sys/plugins/catalog/*", "registers programs that the server then runs"),
    Escalation("sys/raw/*", "reads and writes the storage below all policies", ("read", *_WRITES)),
    Escalation("sys/storage/raft/snapshot*", "takes out or puts in the whole storage", ("read", *_WRITES)),
    Escalation("sys/audit/*", "switches auditing off", ("delete", *_WRITES)),
    Escalation("sys/namespaces/*", "makes namespaces, with all rights inside"),
)
# Each half is harmless: who hands out secret ids need not know whose, and a role id alone opens nothing.
_BOTH_HALVES = "reads the role id and makes secret ids of the same AppRole: it can log in as it"
_ROLE_ID = "auth/+/role/+/role-id"
_SECRET_IDS = ("auth/+/role/+/secret-id", "auth/+/role/+/custom-secret-id")


def escalations(policies: Sequence[Policy]) -> Iterator[tuple[Rule, str]]:
    """Rules of `policies`, held together, that grant more than they say, each with what can be done."""
    acls = [Acl(policies, server) for server in Server]
    rules = [rule for policy in policies for rule in policy.rules]
    seen = set()
    for rule, why in [*_direct(rules, acls), *_both_halves(rules, acls)]:
        if (id(rule), why) not in seen:
            seen.add((id(rule), why))
            yield rule, why


def _direct(rules: Iterable[Rule], acls: Sequence[Acl]) -> Iterator[tuple[Rule, str]]:
    for rule in rules:
        for escalation in ESCALATIONS:
            path = shared(pattern_of(rule.path), escalation.path)
            if path is not None and any(_granted(acl, rule, path, escalation) for acl in acls):
                yield rule, escalation.why


def _granted(acl: Acl, rule: Rule, path: str, escalation: Escalation) -> bool:
    for operation in escalation.operations:
        merged = acl.grants(operation, path)
        if _by(merged, rule, operation) and merged is not None:
            return not escalation.sudo or SUDO in merged.capabilities
    return False


def _by(merged: Merged | None, rule: Rule, operation: str) -> bool:
    return merged is not None and any(one is rule for one in merged.granting(operation))


def _both_halves(rules: Sequence[Rule], acls: Sequence[Acl]) -> Iterator[tuple[Rule, str]]:
    for rule in rules:
        for secret_id in _SECRET_IDS:
            path = shared(pattern_of(rule.path), secret_id)
            if path is None:
                continue
            # A role that the other rules name may be one that this rule leaves open.
            role_ids = [path.rsplit("/", 1)[0] + "/role-id"]
            for other in rules:
                named = shared(pattern_of(other.path), _ROLE_ID)
                if named is not None:
                    role_ids.append(named)
            for role_id in role_ids:
                wanted = f"{role_id.rsplit('/', 1)[0]}/{secret_id.rsplit('/', 1)[1]}"
                if any(
                    acl.grants("read", role_id) and _by(acl.grants("update", wanted), rule, "update")
                    for acl in acls
                ):
                    yield rule, _BOTH_HALVES
                    break
