"""Who the caller is, as the upstream says: looked up with the sidecar's own token, which spends no use."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from datetime import datetime
from typing import Any, TypeVar

from aikeys.framework.clock import Clock, SystemClock
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Caller
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.token_fate import spent
from aikeys.sidecar.upstream import UpstreamDown

T = TypeVar("T")

CACHE_ENTRIES = 10_000


def caller_of(data: dict[str, Any]) -> Caller:
    """From the `data` of `auth/token/lookup`."""
    expires = data.get("expire_time")
    return Caller(
        accessor=str(data.get("accessor") or ""),
        token_type=str(data.get("type") or "service"),
        entity_id=str(data.get("entity_id") or ""),
        display_name=str(data.get("display_name") or ""),
        token_path=str(data.get("path") or ""),
        policies=tuple(str(name) for name in data.get("policies") or ()),
        metadata={str(key): str(value) for key, value in (data.get("meta") or {}).items()},
        orphan=bool(data.get("orphan")),
        expire_time=datetime.fromisoformat(expires) if expires else None,
        num_uses=int(data.get("num_uses") or 0),
        bound_cidrs=tuple(str(cidr) for cidr in data.get("bound_cidrs") or ()),
    )


class Identity:
    """Remembers tokens without a use count for a short while; whoever asks has just proved them alive.

    What is remembered is found by a keyed hash, so that no token stands in memory for longer than its request.
    """

    def __init__(self, own: OwnIdentity, *, cache_seconds: float = 60.0, clock: Clock | None = None) -> None:
        self._own = own
        self._seconds = cache_seconds
        self._clock = clock or SystemClock()
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        # Of tokens with a use count: when one is spent nobody can be asked whose leases end.
        self._accessors: OrderedDict[bytes, str] = OrderedDict()

    def lookup(self, token: str, namespace: str = "", deadline: Deadline | None = None) -> Caller | None:
        """None: the token is dead, or its last use has just been spent. Raises `UpstreamDown`, `NotLoggedIn`."""
        if not token:
            # Vault answers a look-up of "" with the token that asks: that would be ours.
            return None
        key = self._key_of(token, namespace)
        remembered = self._recall(key)
        if remembered is not None:
            return remembered
        reply = self._own.request(
            "POST", "auth/token/lookup", {"token": token}, namespace=namespace, deadline=deadline
        )
        if reply.status in {400, 403, 404}:
            if reply.errors == ["bad token"] or reply.status != 403:
                return None
            raise UpstreamDown(
                "the sidecar's own policy lacks update on auth/token/lookup: give it policies/sidecar.hcl"
            )
        parsed = reply.json()
        data = parsed.get("data") if isinstance(parsed, dict) else None
        if reply.status != 200 or not isinstance(data, dict):
            raise UpstreamDown(f"the Vault behind this sidecar answered {reply.status} to a token look-up")
        caller = caller_of(data)
        with self._lock:
            if caller.num_uses != 0:
                _remember(self._accessors, key, caller.accessor)
            elif self._seconds > 0:
                _remember(self._known, key, (self._clock.monotonic() + self._seconds, caller))
        return None if spent(data) else caller

    def accessor_of_spent(self, token: str, namespace: str = "") -> str:
        """Of a token with a use count that was looked up here while it lived; "" of any other. Tells it once."""
        with self._lock:
            return self._accessors.pop(self._key_of(token, namespace), "")

    def forget(self) -> None:
        """Drop all that is remembered."""
        with self._lock:
            self._known.clear()

    def _recall(self, key: bytes) -> Caller | None:
        with self._lock:
            found = self._known.get(key)
            if found is None:
                return None
            until, caller = found
            if self._clock.monotonic() >= until or self._past(caller):
                del self._known[key]
                return None
            return caller

    def _past(self, caller: Caller) -> bool:
        return caller.expire_time is not None and caller.expire_time <= self._clock.now()

    def _key_of(self, token: str, namespace: str) -> bytes:
        return hmac.digest(self._key, f"{namespace}\n{token}".encode(), hashlib.sha256)


def _remember(memory: OrderedDict[bytes, T], key: bytes, value: T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > CACHE_ENTRIES:
        memory.popitem(last=False)
