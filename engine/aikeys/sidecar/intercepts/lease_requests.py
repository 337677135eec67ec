"""What a request to the lease endpoints names, and which answer of the upstream proves that it may. No IO.

The upstream holds no lease of ours. Asked about one with the caller's own token it answers as about any lease it
does not know, but only behind its access check: exactly that answer proves. Anything else is the caller's answer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aikeys.framework.durations import DurationError, parse_duration
from aikeys.leases.lease import Revoked
from aikeys.sidecar.exchange import Reply

# Vault: default cap of `sys/leases?type=irrevocable` (logical_system.go, MaxIrrevocableLeasesToReturn).
MOST_FAILING_SHOWN = 10_000


class Endpoint(enum.Enum):
    """`sys/leases/<value>`; RENEW and the three kinds of REVOKE also as `sys/<value>` on HashiCorp Vault."""

    LOOKUP = "lookup"
    RENEW = "renew"
    REVOKE = "revoke"
    REVOKE_PREFIX = "revoke-prefix"
    REVOKE_FORCE = "revoke-force"
    LIST = "list"


# The fields that Vault's paths declare (logical_system_paths.go); others are reported as ignored.
_FIELDS = {
    Endpoint.LOOKUP: frozenset({"lease_id"}),
    Endpoint.RENEW: frozenset({"lease_id", "url_lease_id", "increment"}),
    Endpoint.REVOKE: frozenset({"lease_id", "url_lease_id", "sync"}),
    Endpoint.REVOKE_PREFIX: frozenset({"prefix", "sync"}),
    Endpoint.REVOKE_FORCE: frozenset({"prefix"}),
    Endpoint.LIST: frozenset({"prefix"}),
}
_UNKNOWN_LEASE = {
    Endpoint.LOOKUP: ["invalid lease"],
    Endpoint.RENEW: ["lease not found"],
}
_REVOKES = frozenset({Endpoint.REVOKE, Endpoint.REVOKE_PREFIX, Endpoint.REVOKE_FORCE})


def proves(endpoint: Endpoint, reply: Reply) -> bool:
    """Whether `reply`, the upstream's to the same request, shows that the caller may do this."""
    if endpoint in _REVOKES:
        return reply.status in {204, 202} and not reply.body
    if endpoint is Endpoint.LIST:
        return listed_keys(reply) is not None
    return reply.status == 400 and reply.errors == _UNKNOWN_LEASE[endpoint]


def listed_keys(reply: Reply) -> list[str] | None:
    """The keys of a list answer, [] of an empty one (404 with no error); None when it is neither."""
    parsed = reply.json()
    if not isinstance(parsed, dict):
        return None
    if reply.status == 404:
        return [] if parsed == {"errors": []} else None
    data = parsed.get("data")
    keys = data.get("keys") if reply.status == 200 and isinstance(data, dict) else None
    return [str(key) for key in keys] if isinstance(keys, list) else None


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """`lease_id` is what the request names, "" when nothing. `fields` is its body."""

    endpoint: Endpoint
    lease_id: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, endpoint: Endpoint, in_path: str, fields: Mapping[str, Any]) -> LeaseRequest | None:
        """None when the body names no text: such a request is for the upstream to refuse.

        For a lease the body goes before the path; a prefix is the path's (Vault: handleRenew, handleRevokePrefix).
        """
        named: Any = in_path
        if endpoint in (Endpoint.LOOKUP, Endpoint.RENEW, Endpoint.REVOKE):
            named = fields.get("lease_id") or in_path
        return cls(endpoint, named, fields) if isinstance(named, str) else None

    def proof_body(self) -> dict[str, Any]:
        """The body to send upstream: the same fields, so that parameter constraints of a policy see them.

        What the endpoint does not know keeps its name, which policies may look at, and loses its value.
        """
        known = _FIELDS[self.endpoint]
        return {name: value if name in known else "" for name, value in self.fields.items()}

    def increment(self) -> int:
        """Seconds, 0 for none. Raises DurationError; the upstream has refused such a request before."""
        value = self.fields.get("increment")
        if value is None:
            return 0
        seconds = parse_duration(value)
        if seconds < 0:
            raise DurationError(f"cannot provide negative value '{seconds}'")
        return seconds

    def warnings(self) -> list[str]:
        """What Vault's SDK adds to an answer with a body."""
        ignored = sorted(name for name in self.fields if name not in _FIELDS[self.endpoint])
        if not ignored:
            return []
        return [f"Endpoint ignored these unrecognized parameters: [{' '.join(ignored)}]"]


def as_prefix(text: str) -> str:
    """A list or revocation prefix as a directory (Vault: revokePrefixCommon); "" is everything."""
    return text if not text or text.endswith("/") else text + "/"


def touches(prefix: str, mount_path: str) -> bool:
    """Whether leases below `prefix` (a directory) can be of the mount: it lies below the mount, or above it."""
    return prefix.startswith(mount_path) or mount_path.startswith(prefix)


def merged_keys(theirs: Iterable[str], ours: Iterable[str]) -> list[str]:
    return sorted({*theirs, *ours})


@dataclass(frozen=True, slots=True)
class FailingLease:
    """One of ours whose revocation keeps failing, as `sys/leases?type=irrevocable` shows it."""

    lease_id: str
    mount_accessor: str
    error: str

    def shown(self) -> dict[str, str]:
        return {"lease_id": self.lease_id, "mount_id": self.mount_accessor, "error": self.error}


def merge_count(data: Mapping[str, Any], ours: Mapping[str, int]) -> dict[str, Any]:
    """`sys/leases/count`: `ours` are counts by mount accessor."""
    counts = dict(data.get("counts") or {})
    for accessor, count in ours.items():
        if count:
            counts[accessor] = int(counts.get(accessor, 0)) + count
    return {**data, "counts": counts, "lease_count": int(data.get("lease_count") or 0) + sum(ours.values())}


def merge_failing(
    data: Mapping[str, Any], ours: Iterable[FailingLease], total: int, limit: int | None
) -> dict[str, Any]:
    """`sys/leases?type=irrevocable`: theirs first, then ours, at most `limit` (None: all); `total` counts ours."""
    leases = [*(data.get("leases") or []), *(lease.shown() for lease in ours)]
    return {
        **data,
        "leases": leases if limit is None else leases[:limit],
        "lease_count": int(data.get("lease_count") or 0) + total,
    }


def shown_limit(value: str | None) -> int | None:
    """The query's `limit`: a number, None for "none". The upstream has refused anything else before (500)."""
    if value is None or value == "":
        return MOST_FAILING_SHOWN
    return None if value == "none" else int(value)


def revocation_headers(told: Revoked) -> list[tuple[str, str]]:
    """Vault's answer to a revocation has no body, so what the relay told goes beside it, where no client trips over it.

    The lag in seconds, where a role asks for it to be seen; and when the relay refuses the keys on every node.
    """
    headers = []
    if told.lag is not None:
        headers.append(("X-Aikeys-Revocation-Lag", f"{told.lag:.3f}"))
    if told.effective_by is not None:
        headers.append(("X-Aikeys-Effective-By", go_time(told.effective_by)))
    return headers


def go_time(moment: datetime) -> str:
    """RFC3339Nano in UTC, as Go prints it: the fraction without trailing zeros, none when it is zero."""
    utc = moment.astimezone(UTC)
    fraction = f".{utc.microsecond:06d}".rstrip("0").rstrip(".")
    return utc.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"
