"""Who is calling, whether that is proven, and whether the rate allows it."""

from __future__ import annotations

import hashlib
import math

from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.call import Call
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.keys import Key, ManagementKey
from aikeys.relay_simulator.limits import RateView
from aikeys.relay_simulator.signing import SignedRequest, check_signature

UNLIMITED = 1_000_000
"""What the rate headers say where there is no limit."""

Principal = Key | ManagementKey


def authenticate(account: Account, call: Call, now: float, *, lagging: bool, unsigned: bool) -> Principal:
    """The caller.

    `lagging` lets a node that has not heard of a revocation accept the key still. `unsigned` lets a management
    key call without the signature it otherwise needs (a signature that is there is checked all the same).
    """
    scheme, _, secret = (call.header("Authorization") or "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise RelayError("missing_api_key")
    digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
    principal: Principal | None = account.management_keys_by_secret.get(digest)
    if principal is None:
        key = account.keys.by_secret(digest)
        principal = (
            key if key is not None and accepted(account, key, call.node if lagging else None, now) else None
        )
    elif principal.expires_at is not None and principal.expires_at <= now:
        principal = None
    if principal is None:
        raise RelayError("invalid_api_key")
    call.principal_id = principal.id
    _check_signature(account, call, principal, secret, now, unsigned=unsigned)
    return principal


def accepted(account: Account, key: Key, node: int | None, now: float) -> bool:
    """Whether `node` takes `key` at this moment; the node None knows everything at once."""
    if key.ended_as is None and not key.disabled:
        return True
    if node is None or key.refused_since is None or (key.expires_at is not None and key.expires_at <= now):
        return False
    lag = key.node_lag[node] if key.node_lag is not None else account.policy.revoke_lag_ms[node] / 1000
    return now < key.refused_since + lag


def _check_signature(
    account: Account, call: Call, principal: Principal, secret: str, now: float, *, unsigned: bool
) -> None:
    if principal.signing_secret is None:
        return
    required = isinstance(principal, Key) or (account.policy.management_signature_required and not unsigned)
    if not required and call.header("X-Signature") is None:
        return
    check_signature(
        SignedRequest(
            method=call.method,
            path=call.path,
            query=call.query,
            body=call.body,
            headers={name: call.header(name) for name in ("X-Timestamp", "X-Nonce", "X-Signature")},
        ),
        secret=principal.signing_secret,
        api_key=secret,
        key_id=principal.id,
        allow_v1=account.policy.allow_signature_v1,
        nonces=account.nonces,
        now=now,
    )


def charge_request(account: Account, principal: Principal, now: float) -> None:
    """Count one request; raises ``rate_limit_exceeded``."""
    if isinstance(principal, Key):
        wait = principal.lineage.requests.wait(1, principal.rpm, now)
        if wait == 0:
            principal.lineage.requests.charge(1, now)
    else:
        policy = account.policy
        rpm = policy.management_rpm
        wait = principal.bucket.take(rpm, policy.management_burst, now) if rpm else 0.0
    if wait > 0:
        raise RelayError("rate_limit_exceeded", retry_after=max(1, math.ceil(wait)))


def rate_view(account: Account, principal: Principal | None, now: float) -> RateView:
    """The rate headers for this caller; without one, the management plane's."""
    if isinstance(principal, Key):
        requests, tokens = principal.lineage.requests, principal.lineage.tokens
        return RateView(
            principal.rpm,
            max(0, principal.rpm - requests.used(now)),
            requests.reset_seconds(now),
            principal.tpm,
            max(0, principal.tpm - tokens.used(now)),
            tokens.reset_seconds(now),
        )
    rpm, burst = account.policy.management_rpm, account.policy.management_burst
    if not rpm:
        return RateView(UNLIMITED, UNLIMITED, 0, UNLIMITED, UNLIMITED, 0)
    remaining = burst if principal is None else principal.bucket.remaining(rpm, burst, now)
    reset = 0 if principal is None else principal.bucket.reset_seconds(rpm, now)
    return RateView(rpm, remaining, reset, UNLIMITED, UNLIMITED, 0)


def management(principal: Principal, scope: str | None = None) -> ManagementKey:
    """`principal` as a management key with `scope` (None: any), or ``insufficient_scope``."""
    if not isinstance(principal, ManagementKey) or (scope is not None and scope not in principal.scopes):
        raise RelayError("insufficient_scope", f"This needs a management key with {scope or 'any scope'}")
    return principal


def data_key(principal: Principal, permissions: tuple[str, ...] = ()) -> Key:
    """`principal` as a data key with one of `permissions` (none: any)."""
    if not isinstance(principal, Key):
        raise RelayError("management_key_not_allowed")
    if permissions and not set(permissions) & set(principal.permissions):
        raise RelayError("insufficient_scope", f"This needs the permission {' or '.join(permissions)}")
    return principal


def management_or_key(principal: Principal) -> Principal:
    """A management key that reads, or any data key (which sees only itself)."""
    return management(principal, "keys:read") if isinstance(principal, ManagementKey) else principal


def anyone(principal: Principal) -> Principal:
    """Whoever proved who they are."""
    return principal
