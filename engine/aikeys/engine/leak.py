"""`leak`: whose key is this, and its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aikeys.engine.backstop import rfc3339
from aikeys.engine.connections import Connection
from aikeys.engine.entries import LEAK
from aikeys.engine.key_hashes import (
    FINGERPRINT,
    PREFIX_LENGTH,
    KeyedHash,
    KeyHashes,
    by_fingerprint,
    by_prefix,
    fingerprint_of,
)
from aikeys.engine.revocation import BOUND_SLACK, FIRST_PAUSE, LONGEST_PAUSE, PROBING_SECONDS, REFUSALS
from aikeys.engine.services import Services
from aikeys.framework.fields import Field, FieldData, FieldType
from aikeys.framework.paths import Path
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import InvalidRequest, Response
from aikeys.leases.bulk import BulkRevocation
from aikeys.redaction import SecretString
from aikeys.relays.interface import KeyRef, Probe
from aikeys.storage.records import EndedLease, LeaseRecord, LeaseState

# A prefix that fits more living leases than this says too little to end them by it.
MOST_BY_PREFIX = 10
# How long the key that was sent is tried until the relay refuses it everywhere (seconds).
LONGEST_WATCH = 10.0

SYNOPSIS = "Find whose key has leaked, and end it."
DESCRIPTION = f"""
Tells the lease of a key that turned up where it should not be: its role, and the entity, token and login that it was
given to. Without "revoke" that is all; with it, the lease is revoked, and the answer says whether the relay refuses
the key.

Name the key by one of three: "fingerprint", its SHA-256 in hex, which needs nobody to send the key around;
"key_prefix", its first {PREFIX_LENGTH} characters or more, as a log or a scanner shows them, of which {PREFIX_LENGTH}
are compared; or "api_key" itself, with which the relay is then asked whether it accepts it. The relay is never sent a
key that this mount did not hand out. None of them is stored or logged, nor seen by the Vault in front of the engine.

Leases are remembered for 30 days after their end (the latest 100,000 of all mounts), so that an old key can be told
from a stranger's. A prefix that fits more than {MOST_BY_PREFIX} living leases ends none.
"""
FIELDS = {
    "api_key": Field(FieldType.STRING, "The key itself.", secret=True),
    "key_prefix": Field(
        FieldType.STRING, f"What the key begins with: {PREFIX_LENGTH} characters or more.", secret=True
    ),
    "fingerprint": Field(FieldType.STRING, "The SHA-256 of the key, 64 hex digits.", secret=True),
    "revoke": Field(FieldType.BOOL, "Revoke the leases that are found and still live.", default=False),
}
RETURNS = {
    "leases": Field(
        FieldType.COMMA_STRINGS, "Ids of the leases of such keys, ended ones too.", required=True
    ),
    "lease_info": Field(
        FieldType.MAP,
        "Of each: state (active, revoking, ended, or given_up after a forced revocation that the relay has not "
        "confirmed), role, entity_id, token_accessor, login_path, login_role, key_id, issue_time, expire_time; "
        "end_time and ended_by of one that ended; key_accepted, whether the relay accepted the key when it was tried, "
        "null when it was not; lag, seconds from the end to the refusal that was seen; refused_by, when the relay "
        "refuses the key everywhere at the latest; error, why the revocation has not succeeded yet.",
        required=True,
    ),
    "remembered_since": Field(
        FieldType.STRING, "When the longest remembered lease ended (RFC 3339, UTC); empty when there is none."
    ),
}


def leak_path(services: Services, bulk: Callable[[], BulkRevocation]) -> Path:
    return Path(
        pattern=LEAK,
        fields=FIELDS,
        operations={Operation.UPDATE: _Leak(services, bulk).find},
        noun=LEAK,
        synopsis=SYNOPSIS,
        description=DESCRIPTION,
        returns=RETURNS,
    )


@dataclass(frozen=True, slots=True)
class _Named:
    """How the key was named. `key` is None where it was not sent itself."""

    hashes: KeyHashes
    key: SecretString | None = None

    @classmethod
    def of(cls, data: FieldData, keyed_hash: KeyedHash) -> _Named:
        """InvalidRequest unless it was named in exactly one way that can name a key; no value is repeated."""
        # What was copied from a file or a log comes with blanks; no key has any.
        given = {name: data[name].strip() for name in ("api_key", "key_prefix", "fingerprint")}
        named = [name for name, value in given.items() if value]
        if len(named) != 1:
            raise InvalidRequest("give exactly one of api_key, key_prefix and fingerprint")
        value = given[named[0]]
        match named[0]:
            case "api_key":
                return cls(by_fingerprint(fingerprint_of(value), keyed_hash), SecretString(value))
            case "key_prefix":
                if len(value) < PREFIX_LENGTH:
                    raise InvalidRequest(
                        f"key_prefix must have at least {PREFIX_LENGTH} characters, not {len(value)}: with fewer it "
                        "fits too many keys"
                    )
                return cls(by_prefix(value, keyed_hash))
            case _:
                if not FINGERPRINT.fullmatch(value.lower()):
                    raise InvalidRequest("fingerprint must be the SHA-256 of the key: 64 hex digits")
                return cls(by_fingerprint(value.lower(), keyed_hash))


class _Leak:
    def __init__(self, services: Services, bulk: Callable[[], BulkRevocation]) -> None:
        self._services = services
        self._bulk = bulk

    def find(self, request: Request, data: FieldData) -> Response:
        named = _Named.of(data, self._services.keyed_hash)
        began = self._services.clock.now()
        living, ended = self._found(request, named)
        if data["revoke"] and living:
            if named.hashes.prefix and len(living) > MOST_BY_PREFIX:
                raise InvalidRequest(
                    f"key_prefix fits the keys of {len(living)} leases, more than {MOST_BY_PREFIX}: nothing was revoked; "
                    "name the key by its fingerprint, or revoke these leases by their ids"
                )
            self._bulk().end([lease.lease_id for lease in living], LEAK, request.deadline)
            living, ended = self._found(request, named)
        info = {lease.lease_id: _of_living(lease) for lease in living}
        given_up = self._bulk().given_up(request.mount.uuid) if any(one.forced for one in ended) else set()
        if given_up and data["revoke"]:
            self._bulk().hasten_given_up(request.mount.uuid)
        info |= {one.lease_id: _of_ended(one, one.lease_id in given_up) for one in ended}
        if named.key is not None:
            found: list[LeaseRecord | EndedLease] = [*living, *ended]
            for lease in found:
                info[lease.lease_id] |= self._try(request, named.key, lease, began)
        since = self._bulk().remembered_since(request.mount.uuid)
        shown = {
            "leases": [*info],
            "lease_info": info,
            "remembered_since": "" if since is None else rfc3339(since),
        }
        return Response(data=shown, warnings=_warnings(info, since, revoke=data["revoke"]))

    def _found(self, request: Request, named: _Named) -> tuple[list[LeaseRecord], list[EndedLease]]:
        """The living first: one that ends meanwhile is then found twice, not missed, and counts as ended."""
        uuid, hashes = request.mount.uuid, named.hashes
        living = self._bulk().of_key(uuid, hashes.key, hashes.prefix)
        ended = self._bulk().ended_of_key(uuid, hashes.key, hashes.prefix)
        gone = {one.lease_id for one in ended}
        return [lease for lease in living if lease.lease_id not in gone], ended

    def _try(
        self, request: Request, key: SecretString, lease: LeaseRecord | EndedLease, began: datetime
    ) -> dict[str, Any]:
        """What the relay says to the key now; of a lease that this request has ended, once its nodes should know."""
        ref = lease.key_ref if isinstance(lease, EndedLease) else lease.internal["ref"]
        try:
            connection = self._services.connections.connection(request.mount.uuid, request.mount.path)
        except InvalidRequest:
            return {}
        if not connection.minted(KeyRef.from_json(ref)):
            # It is another relay's key by now: nobody else is sent it.
            return {}
        now = self._services.clock.now()
        refused_by = lease.effective_by
        patience = 0.0 if refused_by is None else (refused_by - now).total_seconds() + BOUND_SLACK
        accepted, seen_at = self._accepted(connection, key, min(patience, LONGEST_WATCH), request)
        shown: dict[str, Any] = {"key_accepted": accepted}
        if (
            accepted is False
            and isinstance(lease, EndedLease)
            and lease.ended_at >= began
            and lease.lag is None
        ):
            shown["lag"] = round(max(0.0, (seen_at - lease.ended_at).total_seconds()), 3)
        return shown

    def _accepted(
        self, connection: Connection, key: SecretString, patience: float, request: Request
    ) -> tuple[bool | None, datetime]:
        """None when the relay could not be asked; with when that was first seen. Refused is what several nodes in a row
        refuse."""
        clock = self._services.clock
        give_up = clock.monotonic() + min(patience, request.deadline.remaining())
        pause = FIRST_PAUSE
        refusals: list[datetime] = []
        while True:
            seen = connection.driver.probe(key, request.deadline.at_most(PROBING_SECONDS))
            if seen is Probe.REJECTED:
                refusals.append(clock.now())
                if len(refusals) == REFUSALS:
                    return False, refusals[0]
                continue
            refusals.clear()
            if clock.monotonic() + pause >= give_up:
                return (True if seen is Probe.ACCEPTED else None), clock.now()
            self._services.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _of_living(lease: LeaseRecord) -> dict[str, Any]:
    revoking = lease.state is LeaseState.REVOKING
    return {
        "state": "revoking" if revoking else "active",
        "role": lease.role,
        "entity_id": lease.entity_id,
        "token_accessor": lease.token_accessor,
        "login_path": lease.login_path,
        "login_role": lease.login_role,
        "key_id": str(lease.internal.get("ref", {}).get("key_id", "")),
        "issue_time": rfc3339(lease.issue_time),
        "expire_time": rfc3339(lease.expire_time),
        "key_accepted": None,
        **({"error": lease.last_error} if revoking else {}),
    }


def _of_ended(lease: EndedLease, given_up: bool) -> dict[str, Any]:
    return {
        "state": "given_up" if given_up else "ended",
        "role": lease.role,
        "entity_id": lease.entity_id,
        "token_accessor": lease.token_accessor,
        "login_path": lease.login_path,
        "login_role": lease.login_role,
        "key_id": str(lease.key_ref.get("key_id", "")),
        "issue_time": rfc3339(lease.issue_time),
        "expire_time": rfc3339(lease.expire_time),
        "end_time": rfc3339(lease.ended_at),
        "ended_by": lease.cause,
        # Where the role verifies revocations, the key was tried when it ended.
        "key_accepted": None if lease.lag is None else False,
        "lag": None if lease.lag is None else round(lease.lag, 3),
        "refused_by": _latest(lease),
    }


def _latest(lease: EndedLease) -> str | None:
    """Without the relay's word on a revocation, its own expiry of the key is the last line."""
    moment = lease.key_ends if lease.forced else lease.effective_by
    return None if moment is None else rfc3339(moment)


def _warnings(info: dict[str, dict[str, Any]], since: datetime | None, *, revoke: bool) -> list[str]:
    if not info:
        past = (
            "no ended lease is remembered"
            if since is None
            else f"ended leases are remembered since {rfc3339(since)}"
        )
        text = f"no lease of this mount has or had this key; {past}. Ask at other mounts and at the relay"
        return [f"{text}: it may accept the key all the same"]
    warnings = []
    open_ends = [lease_id for lease_id, one in info.items() if one["state"] == "revoking"]
    if open_ends:
        warnings.append(
            f"{len(open_ends)} of the leases are not revoked yet; that is tried again in the background, without end"
        )
    if revoke and any(one["key_accepted"] for one in info.values()):
        warnings.append("the relay still accepts the key: ask again after refused_by, then look at the relay")
    if any(one["state"] == "given_up" for one in info.values()):
        warnings.append(
            "a lease was revoked by force and the relay has not confirmed the end of its key; that is tried in the "
            "background until refused_by, when the key ends at the relay by itself"
        )
    return warnings
