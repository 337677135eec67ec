"""`leases`: what became of the keys, and what is still to be done about those that should have ended."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from aikeys.engine.backstop import rfc3339
from aikeys.engine.entries import LEASES
from aikeys.framework.fields import Field, FieldData, FieldType
from aikeys.framework.paths import Path
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import InvalidRequest, Response
from aikeys.leases.books import LeaseBooks
from aikeys.storage.records import EndedLease, ForcedKey, LeaseRecord

# In the order in which they are shown: what wants attention first.
GIVEN_UP, REVOKING, ACTIVE, ENDED = "given_up", "revoking", "active", "ended"
STATES = (GIVEN_UP, REVOKING, ACTIVE, ENDED)
USUALLY_SHOWN = (GIVEN_UP, REVOKING, ENDED)
DEFAULT_LIMIT = 100
GREATEST_LIMIT = 1000

SYNOPSIS = "Show leases, and how their revocations go."
DESCRIPTION = f"""
Tells of the leases of this mount what "sys/leases" does not: which keys are being revoked, how often that has failed,
why, and when it is tried again; which leases were revoked by force while the relay did not answer, so that their keys
may be accepted still; and of the latest that ended, when the relay refused the key.

"state" is one or more of these, separated by commas; without it, all but the active ones are shown:

    given_up   revoked by force, without the relay's word. It is tried all the same, until the relay refuses the key
               or has ended it at "refused_by".
    revoking   over, and the relay has not confirmed it yet. It is tried until it has.
    active     in use.
    ended      the relay refuses the key: on all of its nodes by "refused_by" at the latest, and where the role has
               "verify_revocation", "lag" is how many seconds after its deletion the key was seen refused.

At most "limit" leases of each state are shown, {DEFAULT_LIMIT} unless told otherwise; "counts" counts all. Whoever may
read this learns lease ids, with which a lease can be renewed.
"""
FIELDS = {
    "state": Field(FieldType.COMMA_STRINGS, f"Which leases: {', '.join(STATES)}.", query=True),
    "role": Field(FieldType.STRING, "Only leases of this role.", query=True),
    "limit": Field(
        FieldType.INT,
        f"How many of each state, up to {GREATEST_LIMIT}.",
        default=DEFAULT_LIMIT,
        query=True,
    ),
}
RETURNS = {
    "counts": Field(
        FieldType.MAP,
        "How many leases are active, revoking, failing (those of the latter that failed before) and given_up, and how "
        "many mints are not settled (open_mints).",
        required=True,
    ),
    "leases": Field(FieldType.COMMA_STRINGS, "Ids of the leases shown.", required=True),
    "lease_info": Field(FieldType.MAP, "What there is to say of each, by lease id.", required=True),
}


def leases_path(books: LeaseBooks) -> Path:
    return Path(
        pattern=LEASES,
        fields=FIELDS,
        operations={Operation.READ: _Leases(books).read},
        noun=LEASES,
        synopsis=SYNOPSIS,
        description=DESCRIPTION,
        returns=RETURNS,
    )


class _Leases:
    def __init__(self, books: LeaseBooks) -> None:
        self._books = books

    def read(self, request: Request, data: FieldData) -> Response:
        uuid, role = request.mount.uuid, data["role"]
        states, limit = _states(data["state"]), data["limit"]
        if not 1 <= limit <= GREATEST_LIMIT:
            raise InvalidRequest(f"limit must be from 1 to {GREATEST_LIMIT}, not {limit}")
        info: dict[str, dict[str, Any]] = {}
        given_up = self._books.given_up(uuid, role, limit)
        if GIVEN_UP in states:
            info |= {key.lease_id: _of_given_up(key) for key in given_up}
        for state in (REVOKING, ACTIVE):
            if state in states:
                found = self._books.living(uuid, over=state == REVOKING, role=role, limit=limit)
                info |= {lease.lease_id: _of_living(lease, state) for lease in found}
        if ENDED in states:
            # What was given up is remembered as ended too, and is not as long as it is tried.
            hidden = {key.lease_id for key in given_up}
            for lease in self._books.ended(uuid, role, limit):
                if lease.lease_id not in hidden:
                    info.setdefault(lease.lease_id, _of_ended(lease))
        counts = asdict(self._books.counts(uuid, role))
        return Response(data={"counts": counts, "leases": [*info], "lease_info": info})


def _states(given: list[str]) -> tuple[str, ...]:
    unknown = sorted(set(given) - set(STATES))
    if unknown:
        raise InvalidRequest(f"state {unknown[0]!r} is unknown: allowed are {', '.join(STATES)}")
    return tuple(given) or USUALLY_SHOWN


def _of_living(lease: LeaseRecord, state: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "state": state,
        "role": lease.role,
        "key_id": str(lease.internal.get("ref", {}).get("key_id", "")),
        "issue_time": rfc3339(lease.issue_time),
        "expire_time": rfc3339(lease.expire_time),
    }
    if state == REVOKING:
        shown |= {
            "failures": lease.attempts,
            "error": lease.last_error,
            "next_attempt": rfc3339(lease.due_at),
            "deleted_at": _moment(lease.deleted_at),
            "refused_by": _moment(lease.effective_by),
        }
    return shown


def _of_given_up(key: ForcedKey) -> dict[str, Any]:
    return {
        "state": GIVEN_UP,
        "role": key.role,
        "key_id": key.key_id,
        "end_time": rfc3339(key.forced_at),
        "failures": key.attempts,
        "error": key.last_error,
        "next_attempt": rfc3339(key.due_at),
        "deleted_at": _moment(key.deleted_at),
        "refused_by": _moment(key.key_ends),
    }


def _of_ended(lease: EndedLease) -> dict[str, Any]:
    return {
        "state": ENDED,
        "role": lease.role,
        "key_id": str(lease.key_ref.get("key_id", "")),
        "issue_time": rfc3339(lease.issue_time),
        "expire_time": rfc3339(lease.expire_time),
        "end_time": rfc3339(lease.ended_at),
        "ended_by": lease.cause,
        "lag": None if lease.lag is None else round(lease.lag, 3),
        "refused_by": _moment(lease.key_ends if lease.forced else lease.effective_by),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
