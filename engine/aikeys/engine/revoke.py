"""`revoke`: the end of all leases of a role, an entity, a login or a token."""

from __future__ import annotations

from collections.abc import Callable

from aikeys.engine.entries import REVOKE
from aikeys.framework.fields import Field, FieldData, FieldType
from aikeys.framework.paths import Path
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import InvalidRequest, Response
from aikeys.leases.bulk import BulkRevocation
from aikeys.storage.records import Holder

DEFAULT_AUTH_MOUNT = "approle"
# More ids, or errors, than this are counted and not told.
TOLD = 1000

SYNOPSIS = "End all leases of a role, an entity, a login or a token."
DESCRIPTION = """
Finds the leases of this mount that one of "role", "entity_id", "token_accessor" and "approle" names, and with "apply"
revokes them all. "approle" is the name of the role that the token logged in with at "auth_mount": of an AppRole, or of
another login method's role. Names are compared exactly, letter by letter.

Every end is on record before the first is tried. The answer comes after 20 seconds at the latest and tells how many
the relay has revoked, which failed and how many are pending; those go on in the background until they are revoked. One
that fails holds up no other.

Close the door first: what is issued while this runs is not ended by it, but counted in "active".
"""
FIELDS = {
    "role": Field(FieldType.STRING, "Name of a role of this engine."),
    "entity_id": Field(FieldType.STRING, "Id of an identity entity."),
    "token_accessor": Field(
        FieldType.STRING, "Accessor of a token; leases of batch tokens below it count as its own."
    ),
    "approle": Field(FieldType.STRING, "Name of the role at the login method."),
    "auth_mount": Field(
        FieldType.STRING, "Path of the login method that approle is of.", default=DEFAULT_AUTH_MOUNT
    ),
    "apply": Field(FieldType.BOOL, "Revoke them. Without it, nothing is changed.", default=False),
}
RETURNS = {
    "count": Field(FieldType.INT, "How many leases are meant.", required=True),
    "leases": Field(FieldType.COMMA_STRINGS, f"Their ids, the first {TOLD} of them.", required=True),
    "revoked": Field(FieldType.INT, "How many of them the relay has revoked."),
    "failed": Field(FieldType.INT, "How many could not be revoked at the first try."),
    "pending": Field(FieldType.INT, "How many are still to be tried."),
    "errors": Field(FieldType.MAP, "Why, of those that failed, by lease id."),
    "active": Field(FieldType.INT, "Leases of the same holder that were issued meanwhile."),
}
_SELECTORS = ("role", "entity_id", "token_accessor", "approle")


def revoke_path(bulk: Callable[[], BulkRevocation]) -> Path:
    return Path(
        pattern=REVOKE,
        fields=FIELDS,
        operations={Operation.UPDATE: _Revoke(bulk).revoke},
        noun="leases-revocation",
        synopsis=SYNOPSIS,
        description=DESCRIPTION,
        returns=RETURNS,
    )


class _Revoke:
    def __init__(self, bulk: Callable[[], BulkRevocation]) -> None:
        self._bulk = bulk

    def revoke(self, request: Request, data: FieldData) -> Response:
        holder = _holder(data)
        uuid = request.mount.uuid
        ids = self._bulk().of_holder(uuid, holder)
        shown: dict[str, object] = {"count": len(ids), "leases": ids[:TOLD]}
        warnings = []
        if not ids:
            warnings.append("no lease of this mount is held so; names are compared exactly")
        elif not data["apply"]:
            warnings.append("nothing was revoked: write it again with apply=true to revoke them")
        if data["apply"]:
            outcome = self._bulk().end(ids, REVOKE, request.deadline)
            meant = set(ids)
            active = sum(1 for lease_id in self._bulk().of_holder(uuid, holder) if lease_id not in meant)
            shown |= {
                "revoked": outcome.revoked,
                "failed": len(outcome.failures),
                "pending": outcome.pending,
                "errors": dict([*outcome.failures.items()][:TOLD]),
                "active": active,
            }
            unfinished = len(outcome.failures) + outcome.pending
            if unfinished:
                warnings.append(
                    f"{unfinished} leases are not revoked yet; they are tried again in the background, without end"
                )
            if active:
                warnings.append(
                    f"{active} leases were issued meanwhile: close the way they are read first, then write this again"
                )
        return Response(data=shown, warnings=warnings)


def _holder(data: FieldData) -> Holder:
    """InvalidRequest unless exactly one is named: an empty one would mean the leases of root, or of everybody."""
    named = [name for name in _SELECTORS if data[name]]
    if len(named) != 1:
        raise InvalidRequest(f"give exactly one of {', '.join(_SELECTORS)}")
    mount = data["auth_mount"].strip("/").removeprefix("auth/")
    if named != ["approle"]:
        if "auth_mount" in data:
            raise InvalidRequest(f"auth_mount goes with approle, not with {named[0]}")
        return Holder(**{named[0]: data[named[0]]})
    if not mount:
        raise InvalidRequest("auth_mount must be the path of a login method, such as approle")
    return Holder(login_role=data["approle"], auth_mount=mount)
