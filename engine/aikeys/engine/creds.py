"""`creds/<role>`: a fresh key for whoever asks, under a lease."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from aikeys.engine.backstop import relay_end, rfc3339
from aikeys.engine.key_hashes import hashes_of
from aikeys.engine.lease_data import LeaseData
from aikeys.engine.role import Role
from aikeys.engine.services import Services
from aikeys.framework.fields import Field, FieldData, FieldType
from aikeys.framework.paths import Path, generic_name
from aikeys.framework.request import Caller, Mount, Operation, Request
from aikeys.framework.response import InvalidRequest, Response, Secret
from aikeys.leases.arithmetic import NegativeTTL, PastMaxTTL, TTLResult, calculate_ttl
from aikeys.relays.interface import Minted

SECRET_TYPE = "api_key"

SYNOPSIS = "Mint a key for a role."
DESCRIPTION = """
Every read mints a key of its own at the relay, with the limits of the role, under a lease of its own. Renew the lease
to keep the key; when the lease ends, by its TTL, by revocation, or with the token that asked, the relay refuses the
key. Whatever happens to the lease, the relay ends the key at "expires_at".

A write does the same as a read, for clients that send parameters in a body.
"""
FIELDS = {
    "name": Field(FieldType.STRING, "Name of the role.", required=True),
    "ttl": Field(
        FieldType.DURATION,
        "How long this key lives unless renewed, within the maximum of the role. 0 means the role's TTL.",
        query=True,
    ),
}
RETURNS = {
    "api_key": Field(FieldType.STRING, "The key.", required=True, secret=True),
    "key_id": Field(FieldType.STRING, "The key's id at the relay.", required=True),
    "base_url": Field(FieldType.STRING, "Address of the relay's API to use the key at.", required=True),
    "expires_at": Field(
        FieldType.STRING, "When the relay ends the key at the latest (RFC 3339, UTC).", required=True
    ),
    "permissions": Field(FieldType.COMMA_STRINGS, "What the key may be used for.", required=True),
    "allowed_models": Field(
        FieldType.COMMA_STRINGS, "Models the key may call; empty for every model.", required=True
    ),
    "rate_limit": Field(FieldType.INT, "Requests per minute, where the role limits them."),
    "max_tpm": Field(FieldType.INT, "Tokens per minute, where the role limits them."),
    "budget": Field(FieldType.MONEY, "What the key may spend, where the role limits it."),
}


def creds_path(services: Services) -> Path:
    paths = _Creds(services)
    return Path(
        pattern="creds/" + generic_name("name"),
        fields=FIELDS,
        operations={Operation.READ: paths.issue, Operation.UPDATE: paths.issue},
        noun="credentials",
        synopsis=SYNOPSIS,
        description=DESCRIPTION,
        returns=RETURNS,
        leased=True,
    )


class _Creds:
    def __init__(self, services: Services) -> None:
        self._services = services

    def issue(self, request: Request, data: FieldData) -> Response:
        mount, name = request.mount, data["name"]
        state = self._services.connections.state(mount.uuid)
        role = state.role(name)
        if role is None:
            raise InvalidRequest(f"unknown role: {name}")
        driver = state.connected(mount.path).driver
        now = self._services.clock.now()
        not_after = _batch_end(request.caller)
        ttl = self._life(request.mount, role, data["ttl"], now, not_after)
        ends = relay_end(ttl.hard_end, now, driver.capabilities())
        made = self._services.minter.mint(
            mount=mount,
            role=name,
            driver=driver,
            scopes=role.scopes,
            expires_at=ends,
            metadata=role.key_metadata(name, mount.namespace + mount.path),
            deadline=request.deadline,
            limits=role.limits,
        )
        minted = made.minted
        ends = minted.upstream_expires_at or ends
        lease = LeaseData(
            ref=minted.ref,
            role=name,
            upstream_expires_at=ends,
            not_after=not_after,
            probe_key=minted.secret.reveal() if role.verify_revocation else "",
        )
        hashes = hashes_of(minted.secret.reveal(), self._services.keyed_hash)
        secret = Secret(
            type=SECRET_TYPE,
            internal_data=lease.to_json(),
            ttl=ttl.ttl,
            max_ttl=role.max_ttl,
            intent_id=made.intent_id,
            role=name,
            # Not when the relay has answered: a slow mint must not leave a lease that outlives its key.
            issue_time=now,
            key_hash=hashes.key,
            prefix_hash=hashes.prefix,
        )
        return Response(data=_shown(role, minted, rfc3339(ends)), secret=secret, warnings=list(ttl.warnings))

    @staticmethod
    def _life(mount: Mount, role: Role, wanted: int, now: datetime, not_after: datetime | None) -> TTLResult:
        try:
            return calculate_ttl(
                increment=wanted,
                role_ttl=role.ttl,
                role_max=role.max_ttl,
                mount_default=mount.default_lease_ttl,
                mount_max=mount.max_lease_ttl,
                issue_time=now,
                now=now,
                token_expire_time=not_after,
            )
        except NegativeTTL as error:
            raise InvalidRequest(
                f"{error}: tune default_lease_ttl and max_lease_ttl of the mount to 0 or more"
            ) from None
        except PastMaxTTL:
            raise InvalidRequest("the token that asks is over, so its lease would have no life") from None


def _batch_end(caller: Caller | None) -> datetime | None:
    """A batch token cannot be revoked, so what it was given ends when it does (Vault: leases of batch tokens)."""
    return caller.expire_time if caller is not None and caller.token_type == "batch" else None


def _shown(role: Role, minted: Minted, expires_at: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "api_key": minted.secret.reveal(),
        "key_id": minted.ref.key_id,
        "base_url": minted.base_url,
        "expires_at": expires_at,
        "permissions": list(role.scopes.permissions),
        "allowed_models": list(role.scopes.allowed_models),
    }
    if role.scopes.rate_limit:
        data["rate_limit"] = role.scopes.rate_limit
    if role.scopes.max_tpm:
        data["max_tpm"] = role.scopes.max_tpm
    if role.scopes.budget:
        data["budget"] = role.budget
    return data
