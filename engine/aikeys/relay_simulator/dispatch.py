"""The order of every call: who, how often, what body, seen before, commit, answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from aikeys.relay_simulator.access import (
    Principal,
    authenticate,
    charge_request,
    data_key,
    management,
    rate_view,
)
from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.call import Answer, Call
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.fields import MAX_BODY_BYTES, Fields, parse_object
from aikeys.relay_simulator.idempotency import Replay, Scope, body_digest
from aikeys.relay_simulator.keys import Key, ManagementKey

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(slots=True)
class Request:
    """An admitted call, as an operation gets it. The account's lock is held while it runs."""

    account: Account
    call: Call
    principal: Principal
    fields: Fields
    now: float
    arguments: Mapping[str, str]
    """What the path carries, such as ``key``."""

    @property
    def key(self) -> Key:
        """The caller as a data key."""
        return data_key(self.principal)

    @property
    def manager(self) -> ManagementKey:
        """The caller as a management key."""
        return management(self.principal)

    def parameters(self, *known: str) -> dict[str, list[str]]:
        """The query's parameters; one that is not in `known` is refused. ``x[...]`` is known as ``x[]``."""
        if not self.call.query:
            return {}
        try:
            parsed = parse_qs(self.call.query, keep_blank_values=True, errors="strict", max_num_fields=256)
        except ValueError as error:
            raise RelayError("invalid_request", "The query is malformed") from error
        if self.account.policy.strict_fields:
            for name in parsed:
                if name not in known and re.sub(r"\[.*\]$", "[]", name) not in known:
                    raise RelayError("unknown_field", f"Unknown parameter: {name[:64]!r}", param=name[:64])
        return parsed


Operation = Callable[[Request], Answer]
Check = Callable[[Principal], object]


@dataclass(frozen=True, slots=True)
class Rule:
    """How an endpoint is guarded."""

    allow: Check
    """Raises when this principal may not."""
    operation: Operation
    model_call: bool = False
    """Whether it is charged to a data key's request rate. A management key's calls all count."""
    idempotent: bool = False
    """Whether ``Idempotency-Key`` is honoured."""
    lagging: bool = False
    """Whether it is answered from a node's possibly stale view of revocations."""
    unsigned: bool = False
    """Whether a management key may come without its signature."""


def dispatch(account: Account, call: Call, rule: Rule, arguments: Mapping[str, str]) -> Answer:
    """Carry out one call; a refusal is an answer too."""
    principal: Principal | None = None
    try:
        if len(call.body) > MAX_BODY_BYTES:
            raise RelayError("body_too_large")
        if call.cut_short:
            raise RelayError("invalid_request", "The request body ended early")
        with account.lock:
            now = _settled(account, call)
            principal = authenticate(account, call, now, lagging=rule.lagging, unsigned=rule.unsigned)
            if rule.model_call or isinstance(principal, ManagementKey):
                charge_request(account, principal, now)
            rule.allow(principal)
            body = _body(call)
            scope = _scope(call, principal) if rule.idempotent else None
            replay = account.idempotency.begin(scope, body_digest(body), now) if scope else None
            if replay is not None:
                return _replayed(account, principal, replay, now)
            fields = Fields(body, strict=account.policy.strict_fields)
            request = Request(account, call, principal, fields, now, arguments)
            if call.effects.before_commit is None:
                return _commit(request, rule, scope)
        call.effects.before_commit()
        with account.lock:
            request.now = _settled(account, call)
            return _commit(request, rule, scope)
    except RelayError as error:
        return refusal(account, call, error, principal)


def _settled(account: Account, call: Call) -> float:
    """The moment it is, with all that was due done; a call that a reset overtook finds nobody any more."""
    if call.epoch != account.epoch:
        raise RelayError("unavailable", "The simulator was reset meanwhile")
    return account.settle()


def refusal(account: Account, call: Call, error: RelayError, principal: Principal | None = None) -> Answer:
    """The answer that says no."""
    with account.lock:
        rate = rate_view(account, principal, account.clock.now())
    return Answer(error.status, error.body(call.request_id), [*error.headers().items(), *rate.headers()])


def _commit(request: Request, rule: Rule, scope: Scope | None) -> Answer:
    account = request.account
    try:
        answer = rule.operation(request)
    except BaseException:
        if scope:
            account.idempotency.abandon(scope)
        raise
    if scope:
        account.idempotency.complete(scope, answer.status, answer.body, request.now)
    answer.headers += rate_view(account, request.principal, request.now).headers()
    return answer


def _replayed(account: Account, principal: Principal, replay: Replay, now: float) -> Answer:
    headers = [("Idempotency-Replayed", "true"), *rate_view(account, principal, now).headers()]
    return Answer(replay.status, replay.body, headers)


def _body(call: Call) -> dict[str, Any]:
    if call.body and call.content_type != "application/json":
        raise RelayError("unsupported_media_type")
    return parse_object(call.body)


def _scope(call: Call, principal: Principal) -> Scope | None:
    token = call.header("Idempotency-Key")
    if token is None:
        return None
    if not _IDEMPOTENCY_KEY.fullmatch(token):
        raise RelayError(
            "invalid_request", "Idempotency-Key is 1 to 255 visible ASCII characters", param="Idempotency-Key"
        )
    return (principal.id, call.path, token)


def encode(body: Mapping[str, Any]) -> bytes:
    """A JSON body as it goes out."""
    return json.dumps(body, separators=(",", ":")).encode()
