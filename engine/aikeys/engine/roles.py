"""`roles/<name>`: what a key may do and how long it lives."""

from __future__ import annotations

import threading
from typing import Any

from aikeys.engine.entries import ROLES, role_key
from aikeys.engine.role import Role, check_lifetime, check_name, check_role
from aikeys.engine.services import Services
from aikeys.framework.fields import Field, FieldData, FieldError, FieldType
from aikeys.framework.patch import ResourceMissing, merge_patch
from aikeys.framework.paths import Path, generic_name
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import InvalidRequest, Response

SYNOPSIS = "Manage the roles that keys are minted for."
DESCRIPTION = """
A role says what its keys may do at the relay and how long they live. Reading "creds/<name>" mints a key with these
limits, which the relay itself enforces: a role that asks for what its relay cannot do is refused.

How many keys there are is limited here: "max_leases" and "issue_limit" refuse a request with 429 before the relay is
asked.

A write changes the fields it gives and keeps the others; a PATCH is a JSON merge patch, in which null unsets a field.
A read returns what was written. Changed TTLs count from the next renewal on, changed limits for new keys only.
Deleting a role keeps its keys: their leases can be revoked but no longer renewed.
"""
LIST_SYNOPSIS = "List the roles."

NAME = Field(FieldType.STRING, "Name of the role.", required=True)
SETTINGS = {
    "ttl": Field(FieldType.DURATION, "How long a key lives unless renewed. 0 means the mount's default."),
    "max_ttl": Field(
        FieldType.DURATION, "How long a key lives at most, renewals included. 0 means the mount's maximum."
    ),
    "permissions": Field(
        FieldType.COMMA_STRINGS, "What a key may be used for, such as chat. Empty means the relay's default."
    ),
    "allowed_models": Field(
        FieldType.COMMA_STRINGS, "Models a key may call; a name may end in *. Empty means every model."
    ),
    "rate_limit": Field(
        FieldType.INT, "Requests per minute that a key may make. 0 means the relay's default."
    ),
    "max_tpm": Field(FieldType.INT, "Tokens per minute that a key may use. 0 means the relay's default."),
    "budget": Field(
        FieldType.MONEY,
        "Money that a key may spend: an amount such as 5.00 (US dollars in total), or an object with limit, currency "
        "and period (total, day or month).",
    ),
    "team_id": Field(FieldType.STRING, "Team at the relay that keys belong to."),
    "metadata": Field(FieldType.KV_PAIRS, "Pairs that the relay keeps with every key of this role."),
    "verify_revocation": Field(
        FieldType.BOOL,
        "Try every revoked key at the relay until it is refused. Keeps a sealed copy of the key until then.",
    ),
    "max_leases": Field(
        FieldType.INT,
        "Leases of this role that may exist at once. One counts until the relay has confirmed the end of its key. 0 "
        "means no limit.",
    ),
    "issue_limit": Field(
        FieldType.INT,
        "Keys that may be asked of the relay within any issue_period, over all callers. 0 means no limit.",
    ),
    "issue_period": Field(
        FieldType.DURATION, "The span that issue_limit is meant for. 0 means the default, a minute."
    ),
}
FIELDS = {"name": NAME, **SETTINGS}


def role_paths(services: Services) -> list[Path]:
    paths = _Roles(services)
    return [
        Path(
            pattern="roles/" + generic_name("name"),
            fields=FIELDS,
            operations={
                Operation.READ: paths.read,
                Operation.CREATE: paths.write,
                Operation.UPDATE: paths.write,
                Operation.PATCH: paths.patch,
                Operation.DELETE: paths.delete,
            },
            exists=paths.exists,
            noun="role",
            synopsis=SYNOPSIS,
            description=DESCRIPTION,
            returns=SETTINGS,
        ),
        Path(
            pattern="roles/?",
            fields={},
            operations={Operation.LIST: paths.list},
            noun="roles",
            synopsis=LIST_SYNOPSIS,
            description=DESCRIPTION,
        ),
    ]


class _Roles:
    def __init__(self, services: Services) -> None:
        self._services = services
        # Reading, merging and storing are one step, or one of two patches at once would be lost.
        self._writing = threading.Lock()

    def exists(self, request: Request, data: FieldData) -> bool:
        return self._stored(request, data["name"]) is not None

    def read(self, request: Request, data: FieldData) -> Response | None:
        entry = self._stored(request, data["name"])
        return None if entry is None else Response(data=entry)

    def list(self, request: Request, _data: FieldData) -> Response | None:
        names = self._services.entries(request.mount.uuid).list(ROLES)
        return Response(data={"keys": names}) if names else None

    def write(self, request: Request, data: FieldData) -> Response | None:
        check_name(data["name"])
        with self._writing:
            old = self._stored(request, data["name"]) or {}
            return self._store(request, data["name"], {**old, **data.given()})

    def patch(self, request: Request, data: FieldData) -> Response | None:
        with self._writing:
            old = self._stored(request, data["name"])
            if old is None:
                raise ResourceMissing
            try:
                merged = FieldData.of(SETTINGS, merge_patch(old, data.raw))
            except FieldError as error:
                raise InvalidRequest(f"Field validation failed: {error}") from None
            return self._store(request, data["name"], merged.given())

    def delete(self, request: Request, data: FieldData) -> Response | None:
        self._services.entries(request.mount.uuid).delete(role_key(data["name"]))
        return None

    def _stored(self, request: Request, name: str) -> dict[str, Any] | None:
        return self._services.entries(request.mount.uuid).get(role_key(name))

    def _store(self, request: Request, name: str, entry: dict[str, Any]) -> Response | None:
        mount = request.mount
        role = Role.from_entry(entry)
        check_role(role)
        driver = self._services.connections.driver(mount.uuid, mount.path)
        warnings = check_lifetime(role, mount.max_lease_ttl, driver.name, driver.capabilities())
        complaints = driver.validate_role(
            role.scopes,
            role.effective_ttl(mount.default_lease_ttl, mount.max_lease_ttl),
            role.effective_max(mount.max_lease_ttl),
        )
        if complaints:
            raise InvalidRequest(f'relay "{driver.name}" cannot honour this role: {"; ".join(complaints)}')
        self._services.entries(mount.uuid).put(role_key(name), entry)
        return Response(warnings=warnings) if warnings else None
