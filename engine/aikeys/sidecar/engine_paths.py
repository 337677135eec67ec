"""The life of a request to the engine: read, proved, done, put under a lease, answered.

The order is the promise: nothing is done before the upstream has let the caller's own request through, nothing is
minted before the caller is known to live, and whatever fails after a mint leaves the key on record and on its way
to being revoked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from aikeys.errors import StorageError
from aikeys.framework.deadline import Deadline
from aikeys.framework.paths import Path
from aikeys.framework.request import Caller, Mount, Operation, Request
from aikeys.framework.response import (
    EngineError,
    InvalidRequest,
    QuotaExceeded,
    RelayRateLimited,
    Response,
    UnsupportedOperation,
    UnsupportedPath,
)
from aikeys.leases.lease import BATCH
from aikeys.sidecar import authorization, envelope, references
from aikeys.sidecar.authorization import Proof, Refused
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.verbs import Asked, read_request
from aikeys.storage.failpoints import reach

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

# Vault: request_handling.go, the answer to a token whose last use produced a lease. Here nothing was minted.
LAST_USE = (
    "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked."
)
INLINE_AUTH = "requests with inline authentication cannot generate leases"
CLIENT_GONE = "the client closed the connection before the key could be handed out"

_SHADOWS_BODY = frozenset(
    {"content-type", "content-length", "content-encoding", "etag", "last-modified", "location"}
)


@dataclass(slots=True)
class _Turn:
    """One request on its way."""

    sidecar: Sidecar
    exchange: Exchange
    mount: Mount
    asked: Asked
    path: Path | None
    deadline: Deadline

    @property
    def leases(self) -> bool:
        """Whether an answer may come with a lease."""
        return (
            self.path is not None
            and self.path.leased
            and self.asked.operation in {Operation.READ, Operation.UPDATE}
            and self.asked.operation in self.path.operations
        )


def handle(sidecar: Sidecar, exchange: Exchange, mount: Mount, relative: str) -> Reply:
    """Answer a request below one of our mounts. Never raises `EngineError`; what it raises is a bug."""
    proof: Proof | None = None
    try:
        asked = read_request(exchange, relative, sidecar.upstream.product())
        if isinstance(asked, Reply):
            return asked
        deadline = Deadline.after(sidecar.settings.request_timeout)
        turn = _Turn(sidecar, exchange, mount, asked, sidecar.backend.find(asked.path), deadline)
        proof = authorization.prove(
            sidecar,
            exchange,
            mount,
            asked,
            served=_served(turn),
            creates=turn.path is not None and turn.path.exists is not None,
            deadline=deadline,
        )
        reply = _answer(turn, proof)
    except Refused as refused:
        return refused.reply
    except EngineError as error:
        reply = _error(error)
    except StorageError:
        if _on_record(sidecar, mount):
            raise
        reply = _error(Unmounted(mount.path + relative))
    return _with_headers(reply, proof)


def _on_record(sidecar: Sidecar, mount: Mount) -> bool:
    """Whether the mount is still there; the store keeps nothing for one that was disabled meanwhile."""
    try:
        return sidecar.mounts.by_uuid(mount.uuid) is not None
    except KeyError:
        return False


def _served(turn: _Turn) -> bool:
    asked = turn.asked
    if asked.unsupported:
        return False
    if asked.operation is Operation.HELP:
        return True
    if turn.path is None:
        return False
    supported = turn.path.operations
    if asked.operation is Operation.UPDATE:
        return Operation.UPDATE in supported or Operation.CREATE in supported
    return asked.operation in supported


def _answer(turn: _Turn, proof: Proof) -> Reply:
    sidecar, mount, asked = turn.sidecar, turn.mount, turn.asked
    if mount.tainted:
        raise Tainted(turn)
    if asked.unsupported:
        raise UnsupportedPath if turn.path is None else UnsupportedOperation
    changes = asked.operation in authorization.WRITES or asked.operation is Operation.DELETE
    try:
        if turn.leases:
            return _issue(turn, proof)
        response = sidecar.backend.handle(_request(turn, None))
    finally:
        if changes and proof.positive:
            authorization.settle(sidecar, mount, asked.path)
    if asked.operation is Operation.HELP:
        return Reply(200, envelope.to_json(envelope.go_map((response and response.data) or {})))
    if response is not None and response.secret is not None:
        raise EngineError("the engine made a secret on a path that is not known to make any")
    return _plain_answer(turn, proof, response)


def _request(turn: _Turn, caller: Caller | None) -> Request:
    sidecar, exchange, mount = turn.sidecar, turn.exchange, turn.mount
    request = Request(
        operation=turn.asked.operation,
        path=turn.asked.path,
        mount=mount,
        data=turn.asked.data,
        caller=caller,
        id=exchange.request_id,
        remote_address=exchange.remote_address,
        deadline=turn.deadline,
        can_read=partial(
            references.can_read, sidecar, exchange.token, mount.namespace, deadline=turn.deadline
        ),
    )
    if request.operation is Operation.UPDATE and sidecar.backend.exists(request) is False:
        return replace(request, operation=Operation.CREATE)
    return request


# -- answers without a lease ----------------------------------------------------------------------------------------


def _plain_answer(turn: _Turn, proof: Proof, response: Response | None) -> Reply:
    operation = turn.asked.operation
    data = None if response is None else response.data
    if operation is Operation.LIST:
        data = _only_shown(data, proof.shown)
    if data is None and (response is None or not response.warnings):
        return (
            envelope.errors(404) if operation in {Operation.READ, Operation.LIST} else envelope.no_content()
        )
    warnings = response.warnings if response is not None else []
    if data is None and operation in {Operation.READ, Operation.LIST}:
        return envelope.errors(404)
    wrap_info = proof.wrap_info
    if wrap_info is None and operation not in {Operation.READ, Operation.LIST}:
        wrap_info = authorization.wrap(turn.sidecar, turn.exchange, turn.mount.path + turn.asked.path)
    return _success(turn, data=data, warnings=warnings, wrap_info=wrap_info)


def _only_shown(data: dict[str, Any] | None, shown: tuple[str, ...] | None) -> dict[str, Any] | None:
    """The engine's list cut to the names that the upstream showed this caller; None when nothing is left."""
    if data is None or shown is None:
        return None
    keys = [key for key in data.get("keys", []) if key in set(shown)]
    if not keys:
        return None
    cut = {**data, "keys": keys}
    if isinstance(data.get("key_info"), dict):
        cut["key_info"] = {key: value for key, value in data["key_info"].items() if key in set(keys)}
    return cut


def _success(
    turn: _Turn,
    *,
    data: Mapping[str, Any] | None,
    warnings: Sequence[str],
    wrap_info: Mapping[str, Any] | None,
    lease_id: str = "",
    renewable: bool = False,
    lease_duration: int = 0,
) -> Reply:
    sidecar = turn.sidecar
    fields = envelope.envelope(
        "" if wrap_info is not None else turn.exchange.request_id,
        data=data,
        lease_id=lease_id,
        renewable=renewable,
        lease_duration=lease_duration,
        warnings=warnings,
        mount_type=sidecar.upstream.mount_type(sidecar.backend.name),
    )
    if wrap_info is None:
        return Reply(200, envelope.to_json(fields))
    sidecar.wrapped.put(wrap_info, fields, lease_id)
    reach("wrap.stored")
    return envelope.wrapped(wrap_info, mount_type=sidecar.upstream.mount_type(""))


# -- answers with a lease -------------------------------------------------------------------------------------------


def _issue(turn: _Turn, proof: Proof) -> Reply:
    sidecar, exchange, mount = turn.sidecar, turn.exchange, turn.mount
    if not proof.positive:
        # No marker, so no such role: said here, because the engine might have it by now and would mint.
        name = turn.asked.path.rpartition("/")[2]
        raise InvalidRequest(f"unknown role: {name}")
    if not sidecar.upstream.product().is_vault and _has_inline_auth(exchange):
        raise InlineAuthentication
    caller = sidecar.identity.lookup(exchange.token, deadline=turn.deadline)
    if caller is None:
        _end_with_last_use(sidecar, exchange.token)
        raise InvalidRequest(LAST_USE)
    if caller.token_type == BATCH and not caller.orphan:
        parent = sidecar.store.batch_parent(sidecar.store.keyed_hash(exchange.token))
        caller = replace(caller, parent_accessor=parent)
    wrap_info = proof.wrap_info
    if wrap_info is None and turn.asked.operation is Operation.UPDATE:
        wrap_info = authorization.wrap(sidecar, exchange, exchange.path)
    response = sidecar.backend.handle(_request(turn, caller))
    if response is None or response.secret is None:
        return _plain_answer(turn, proof, response)
    registered = sidecar.leases.register(mount, exchange.path, response.secret, caller, mount.namespace)
    if client_is_gone(exchange):
        log.warning("client_gone", lease_id=registered.lease_id)
        _revoke_soon(sidecar, registered.lease_id)
        raise EngineError(CLIENT_GONE)
    try:
        return _success(
            turn,
            data=response.data,
            warnings=[*response.warnings, *registered.warnings],
            wrap_info=wrap_info,
            lease_id=registered.lease_id,
            renewable=registered.renewable,
            lease_duration=registered.ttl,
        )
    except Exception:
        # The key exists and its lease is on record, but nobody will hear of it.
        _revoke_soon(sidecar, registered.lease_id)
        raise


def _end_with_last_use(sidecar: Sidecar, token: str) -> None:
    """With a token's last use end the leases of its earlier ones. The sweep ends them where this cannot."""
    accessor = sidecar.identity.accessor_of_spent(token)
    try:
        sidecar.leases.revoke_of_tokens([accessor])
    except EngineError as error:
        log.error("leases_of_spent_token_not_ended", accessor=accessor, error=str(error))


def _has_inline_auth(exchange: Exchange) -> bool:
    return any(name.lower().startswith("x-vault-inline-auth-") for name, _ in exchange.headers)


def _revoke_soon(sidecar: Sidecar, lease_id: str) -> None:
    try:
        sidecar.leases.revoke(lease_id, sync=False)
    except EngineError as error:
        log.error("lease_not_revoked", lease_id=lease_id, error=str(error))


def client_is_gone(exchange: Exchange) -> bool:
    """Whether the client has closed its side; Go's server counts that as gone too (it cancels the request)."""
    probe = exchange.environ.get("aikeys.client_is_gone")
    return bool(probe()) if callable(probe) else False


# -- errors ---------------------------------------------------------------------------------------------------------


class InlineAuthentication(EngineError):
    """OpenBao: a login within the request gives no token that could hold a lease."""

    def __init__(self) -> None:
        super().__init__(INLINE_AUTH)

    def texts(self) -> list[str]:
        return [self.message]


class Unmounted(EngineError):
    """The mount was disabled while its request was under way (Vault: router.go)."""

    status = 404

    def __init__(self, path: str) -> None:
        super().__init__(f'no handler for route "{path}". route entry not found.')

    def texts(self) -> list[str]:
        return [self.message]


class Tainted(EngineError):
    """The mount is being disabled or moved (Vault: router.go)."""

    status = 404

    def __init__(self, turn: _Turn) -> None:
        where = f'no handler for route "{turn.mount.path}{turn.asked.path}"'
        if turn.sidecar.upstream.product().is_vault:
            super().__init__(f"{where}. route entry is tainted.")
        else:
            super().__init__(f'{where} on namespace "". route entry or namespace is tainted.')

    def texts(self) -> list[str]:
        return [self.message]


def _error(error: EngineError) -> Reply:
    reply = envelope.errors(error.status, error.texts(), data=error.data)
    if isinstance(error, RelayRateLimited | QuotaExceeded) and error.retry_after is not None:
        return Reply(reply.status, reply.body, (*reply.headers, ("Retry-After", str(error.retry_after))))
    return reply


def _with_headers(reply: Reply, proof: Proof | None) -> Reply:
    """Our answer with the headers of the upstream's to the replay: its own, quotas', CORS, consistency."""
    if proof is None or not proof.headers:
        return reply
    copied = [(name, value) for name, value in proof.headers if name.lower() not in _SHADOWS_BODY]
    present = {name.lower() for name, _ in copied}
    own = [(name, value) for name, value in reply.headers if name.lower() not in present]
    return Reply(reply.status, reply.body, (*copied, *own))
