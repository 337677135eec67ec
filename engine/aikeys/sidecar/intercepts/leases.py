"""`sys/leases`: what is asked and done about leases of ours, beside the upstream's own.

A lease is ours when its id begins with the path of a mount of ours, or is on record here: a mount may have moved away
from its leases. The upstream is asked first, with the caller's token and the same request; `lease_requests` says which
answers prove that the caller may. Where a prefix covers both sides, both are done.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aikeys.framework.durations import DurationError
from aikeys.framework.response import EngineError, InvalidRequest
from aikeys.leases.lease import Revoked
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.answers import (
    as_body,
    changed,
    fields_of,
    is_list,
    refused,
    request_id,
    system_mount_type,
)
from aikeys.sidecar.intercepts.lease_requests import (
    Endpoint,
    FailingLease,
    LeaseRequest,
    as_prefix,
    go_time,
    listed_keys,
    merge_count,
    merge_failing,
    merged_keys,
    proves,
    revocation_headers,
    shown_limit,
    touches,
)
from aikeys.sidecar.intercepts.wrapping import wrapped_if_asked

if TYPE_CHECKING:
    from aikeys.leases.lease import LeaseView
    from aikeys.sidecar.context import Sidecar

_ROOT = "sys/"
_LEASES = "sys/leases/"
_LOOKUP = "sys/leases/lookup"
# What both servers answer to a list with nothing in it that is to be wrapped; behind the access check, as the bare 404.
_EMPTY_WRAPPED = "unsupported path"
# What Vault writes for a lease whose mount is gone (expiration.go, getLeaseMountAccessor).
NO_ACCESSOR = "mount-accessor-not-found"


def lookup(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """PUT/POST `sys/leases/lookup`."""
    asked = _asked(exchange, Endpoint.LOOKUP)
    if asked is None or not _is_ours(sidecar, asked.lease_id):
        return None
    answer = _ask_upstream(sidecar, exchange, asked)
    if not proves(Endpoint.LOOKUP, answer):
        return answer
    view = sidecar.leases.lookup(asked.lease_id)
    if view is None:
        return answer
    return wrapped_if_asked(
        sidecar,
        exchange,
        envelope.success(
            request_id(exchange),
            data=_shown(view, is_vault=sidecar.upstream.product().is_vault),
            warnings=asked.warnings(),
            mount_type=system_mount_type(sidecar),
        ),
    )


def renew(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """PUT/POST `sys/leases/renew[/<id>]`, and `sys/renew[/<id>]` where the upstream serves it."""
    asked = _asked(exchange, Endpoint.RENEW)
    if asked is None or not _is_ours(sidecar, asked.lease_id):
        return None
    answer = _ask_upstream(sidecar, exchange, asked)
    if not proves(Endpoint.RENEW, answer):
        return answer
    try:
        increment = asked.increment()
    except DurationError as error:
        text = f'Field validation failed: error converting input for field "increment": {error}'
        return refused(InvalidRequest(text))
    try:
        renewed = sidecar.leases.renew(asked.lease_id, increment)
    except EngineError as error:
        return refused(error)
    return wrapped_if_asked(
        sidecar,
        exchange,
        envelope.success(
            request_id(exchange),
            data=None,
            lease_id=renewed.lease_id,
            renewable=renewed.renewable,
            lease_duration=renewed.ttl,
            warnings=[*renewed.warnings, *asked.warnings()],
            mount_type=system_mount_type(sidecar),
        ),
    )


def revoke(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """PUT/POST `sys/leases/revoke[/<id>]`, and `sys/revoke[/<id>]` where the upstream serves it."""
    asked = _asked(exchange, Endpoint.REVOKE)
    if asked is None or not _is_ours(sidecar, asked.lease_id):
        return None
    return _revoke(sidecar, exchange, asked)


def revoke_prefix(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """PUT/POST `sys/leases/revoke-prefix/<prefix>`."""
    return _revoke_below(sidecar, exchange, Endpoint.REVOKE_PREFIX)


def revoke_force(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """PUT/POST `sys/leases/revoke-force/<prefix>`."""
    return _revoke_below(sidecar, exchange, Endpoint.REVOKE_FORCE)


def list_leases(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """LIST `sys/leases/lookup[/<prefix>]`: one level, of both sides."""
    if not is_list(exchange):
        return None
    prefix = as_prefix(exchange.path.removeprefix(_LOOKUP).removeprefix("/"))
    if not _may_concern_us(sidecar, prefix):
        return None
    answer = sidecar.upstream.forward(exchange)
    ours = sidecar.leases.list(prefix)
    if not ours:
        return answer
    shown = _unwrapped(sidecar, exchange, answer)
    theirs = listed_keys(shown)
    if theirs is None:
        return answer
    warnings = (shown.json() or {}).get("warnings") if shown.status == 200 else None
    reply = envelope.success(
        request_id(exchange),
        data={"keys": merged_keys(theirs, ours)},
        warnings=warnings,
        mount_type=system_mount_type(sidecar),
    )
    return wrapped_if_asked(sidecar, exchange, reply)


def tidy(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `sys/leases/tidy`."""
    answer = sidecar.upstream.forward(exchange)
    if answer.status == 202:
        sidecar.leases.tidy()
    return answer


def count(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/leases/count?type=irrevocable`: ours never are irrevocable, these are the ones that keep failing."""
    answer = sidecar.upstream.forward(exchange)
    by_accessor: dict[str, int] = {}
    for mount in sidecar.mounts.all():
        failing = sidecar.leases.count(mount.uuid, failing=True)
        accessor = mount.accessor or NO_ACCESSOR
        by_accessor[accessor] = by_accessor.get(accessor, 0) + failing
    return changed(
        answer,
        lambda body: (
            {**body, "data": merge_count(body["data"], by_accessor)}
            if isinstance(body.get("data"), dict)
            else body
        ),
    )


def list_failing(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/leases?type=irrevocable`."""
    answer = sidecar.upstream.forward(exchange)
    if answer.status != 200:
        return answer
    limit = shown_limit(exchange.parameter("limit"))
    accessors = {mount.uuid: mount.accessor or NO_ACCESSOR for mount in sidecar.mounts.all()}
    failing = [
        FailingLease(view.id, accessors.get(view.mount_uuid, NO_ACCESSOR), view.revoke_error)
        for view in sidecar.leases.failing(limit=sys.maxsize if limit is None else limit)
    ]
    total = sidecar.leases.count(failing=True)
    return changed(
        answer,
        lambda body: (
            {**body, "data": merge_failing(body["data"], failing, total, limit)}
            if isinstance(body.get("data"), dict)
            else body
        ),
    )


# -- inner ------------------------------------------------------------------------------------------------------


def _asked(exchange: Exchange, endpoint: Endpoint) -> LeaseRequest | None:
    """Raises InvalidRequest for a body that is no JSON object: a revocation must never seem done when it was not."""
    base = _LEASES if exchange.path.startswith(_LEASES) else _ROOT
    in_path = exchange.path.removeprefix(base + endpoint.value).removeprefix("/")
    if in_path.endswith("/"):
        # The upstream refuses a write to such a path.
        return None
    return LeaseRequest.of(endpoint, in_path, fields_of(exchange))


def _ask_upstream(sidecar: Sidecar, exchange: Exchange, asked: LeaseRequest) -> Reply:
    return sidecar.upstream.forward(exchange, body=as_body(asked.proof_body()))


def _unwrapped(sidecar: Sidecar, exchange: Exchange, answer: Reply) -> Reply:
    """A list of the upstream's own leases that the client wants wrapped: what it holds must be known."""
    if not exchange.wrap_ttl:
        return answer
    if answer.status == 404 and answer.errors == [_EMPTY_WRAPPED]:
        return envelope.errors(404)
    parsed = answer.json() if answer.status == 200 else None
    wrap_info = parsed.get("wrap_info") if isinstance(parsed, dict) else None
    if not isinstance(wrap_info, dict):
        return answer
    return sidecar.upstream.request("POST", "sys/wrapping/unwrap", token=str(wrap_info["token"]))


def _revoke(sidecar: Sidecar, exchange: Exchange, asked: LeaseRequest) -> Reply:
    answer = _ask_upstream(sidecar, exchange, asked)
    if not proves(asked.endpoint, answer):
        return answer
    # 202: the upstream has read `sync` as false.
    sync = answer.status == 204
    told = Revoked()
    try:
        match asked.endpoint:
            case Endpoint.REVOKE_PREFIX:
                told = sidecar.leases.revoke_prefix(asked.lease_id, sync=sync)
            case Endpoint.REVOKE_FORCE:
                sidecar.leases.revoke_force(asked.lease_id)
            case _:
                told = sidecar.leases.revoke(asked.lease_id, sync=sync)
    except EngineError as error:
        return refused(error)
    return Reply(answer.status, answer.body, (*answer.headers, *revocation_headers(told)))


def _revoke_below(sidecar: Sidecar, exchange: Exchange, endpoint: Endpoint) -> Reply | None:
    asked = _asked(exchange, endpoint)
    if asked is None or not _may_concern_us(sidecar, as_prefix(asked.lease_id)):
        return None
    return _revoke(sidecar, exchange, asked)


def _is_ours(sidecar: Sidecar, lease_id: str) -> bool:
    if not lease_id:
        return False
    return sidecar.mounts.match(lease_id) is not None or sidecar.store.lease(lease_id) is not None


def _may_concern_us(sidecar: Sidecar, prefix: str) -> bool:
    if any(touches(prefix, mount.path) for mount in sidecar.mounts.all()):
        return True
    return bool(sidecar.store.leases_with_prefix(prefix, limit=1))


def _shown(view: LeaseView, *, is_vault: bool) -> dict[str, object]:
    """OpenBao tells the path and why a revocation failed; Vault neither."""
    data: dict[str, object] = {
        "id": view.id,
        "issue_time": go_time(view.issue_time),
        "expire_time": go_time(view.expire_time),
        "last_renewal": None if view.last_renewal is None else go_time(view.last_renewal),
        "ttl": view.ttl,
        "renewable": view.renewable,
    }
    if not is_vault:
        data["path"] = view.path
        if view.revoke_error:
            data["revoke_error"] = view.revoke_error
    return data
