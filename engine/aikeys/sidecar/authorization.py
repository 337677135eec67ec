"""Whether the caller may: the upstream's own answer to the caller's own request, replayed on the shadow.

The tables in `verdicts` say what an answer proves; here is the asking: the replay with the caller's token, the
look at a marker with the sidecar's own, and what has to be put back afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import structlog

from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Mount, Operation
from aikeys.framework.response import Unavailable
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.shadow import Found, sentinel_path
from aikeys.sidecar.upstream import UpstreamDown
from aikeys.sidecar.verbs import Asked
from aikeys.sidecar.verdicts import Decision, Verdict, decide, decide_capabilities

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

WRITES = frozenset({Operation.CREATE, Operation.UPDATE, Operation.PATCH})
# A marker that a write replaced is back within this many seconds, or somebody else took it away.
RESTORE_SECONDS = 1.0
RESTORE_PAUSE = 0.05
# Longer values do not go to the shadow: no policy names them, and the upstream would have to store them.
LONGEST_REPLAYED_VALUE = 4096
DENIED = "1 error occurred:\n\t* permission denied\n\n"

# What a query says about the request itself.
_CONTROLS = frozenset({"list", "scan"})
_BODY_HEADERS = ("content-type", "content-encoding")
_NO_WRAP = ("x-vault-wrap-ttl", "x-vault-wrap-format")


class Refused(Exception):
    """The upstream's answer, or one in its place, is the caller's answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class ShadowDamaged(Unavailable):
    """A marker was not where it must be; it was put back, and nothing was done. Try again."""


@dataclass(frozen=True, slots=True)
class Proof:
    """`positive`: the marker was seen or a write was let through; without it nothing may be minted.

    `headers` are those of the upstream's answer, `shown` the names it showed in a list, `wrap_info` its wrapping.
    """

    positive: bool
    headers: Sequence[tuple[str, str]] = ()
    shown: tuple[str, ...] | None = None
    wrap_info: Mapping[str, Any] | None = None


def prove(
    sidecar: Sidecar,
    exchange: Exchange,
    mount: Mount,
    asked: Asked,
    *,
    served: bool,
    creates: bool,
    deadline: Deadline,
) -> Proof:
    """Return only if the caller may. `served`: the engine has this operation at this path. `creates`: to the engine
    a write there is a create or an update, by whether the object exists.

    Raises `Refused`, `ShadowDamaged`, `UpstreamDown`, `NotLoggedIn`. After an allowed write or delete the shadow is
    to be settled (`settle`), whatever the engine made of it.
    """
    harmless = asked.operation in {Operation.READ, Operation.LIST, Operation.HELP} and not asked.unsupported
    if not served and not harmless:
        return _prove_by_capabilities(sidecar, exchange, mount, asked, deadline)
    known = _Known(sidecar, mount, asked.path)
    body = _replay_body(sidecar, asked)
    if asked.operation is Operation.DELETE or (asked.operation is Operation.UPDATE and (creates or body)):
        _align(sidecar, mount, asked.path, known, deadline)
    reply = _replay(sidecar, exchange, asked, body, deadline)
    wrap_info = None
    if asked.operation is Operation.LIST and (wrapped := _wrap_info(reply)) is not None:
        # What a wrapped list shows must be known; the caller then gets a wrapping of its own.
        reply = sidecar.upstream.request(
            "POST", "sys/wrapping/unwrap", token=str(wrapped["token"]), deadline=deadline
        )
        wrap_info = wrap(sidecar, exchange, exchange.path, method="LIST")
    decision = decide(
        asked.operation,
        reply,
        mount=mount,
        relative=asked.path,
        known=known,
        empty_body=body == b"",
    )
    if not served and decision.verdict is not Verdict.REFUSE:
        # It yields no secret: that the upstream let it through is enough for the engine's own refusal.
        return Proof(positive=False, headers=reply.headers)
    match decision.verdict:
        case Verdict.REFUSE:
            raise refusal(reply)
        case Verdict.MISSING:
            raise _restored(sidecar, mount, asked.path)
        case Verdict.ABSENT:
            return Proof(positive=False, headers=reply.headers)
        case Verdict.INSPECT:
            if not _inspect(sidecar, mount, decision, known, deadline):
                return Proof(positive=False, headers=reply.headers)
        case Verdict.ALLOW if asked.operation in WRITES and known():
            # The replay has just replaced the marker.
            restore(sidecar, mount, asked.path)
        case Verdict.ALLOW:
            pass
    return Proof(
        positive=True,
        headers=reply.headers,
        shown=decision.keys,
        wrap_info=decision.wrap_info or wrap_info,
    )


def refusal(reply: Reply) -> Refused | UpstreamDown:
    """An error of the upstream's is the caller's answer; a success that proves nothing is no answer at all."""
    if reply.status >= 400:
        return Refused(reply)
    return UpstreamDown(
        f"the Vault behind this sidecar answered {reply.status} where its kv engine does not: is the mount still a kv "
        "version 1?"
    )


def _align(sidecar: Sidecar, mount: Mount, relative: str, known: _Known, deadline: Deadline) -> None:
    """What the replay would change must be our own shadow's entry, and say what the engine has.

    The shadow tells create from update by its entry, the engine by its object: otherwise a token that may only
    create could change what exists, because its marker was lost.
    """
    found = sidecar.shadow.find(mount, relative, deadline)
    if found is not (Found.VALID if known() else Found.MISSING):
        _require_shadow(sidecar, mount)
        log.warning("shadow_entry_aligned", path=mount.path + relative, found=found.value)
        sidecar.shadow.settle(mount, relative)


class _Known:
    """Whether the engine has an object at the path; asked of the store only when the answer depends on it."""

    def __init__(self, sidecar: Sidecar, mount: Mount, relative: str) -> None:
        self._sidecar = sidecar
        self._mount = mount
        self._relative = relative
        self._answer: bool | None = None

    def __call__(self) -> bool:
        if self._answer is None:
            self._answer = self._sidecar.shadow.knows(self._mount, self._relative)
        return self._answer


def _prove_by_capabilities(
    sidecar: Sidecar, exchange: Exchange, mount: Mount, asked: Asked, deadline: Deadline
) -> Proof:
    """For what must not be tried on the shadow and yields nothing anyway: may the caller learn that?"""
    if not exchange.token:
        raise Refused(envelope.errors(403, ["permission denied"]))
    path = mount.path + asked.path
    reply = sidecar.own.request(
        "POST", "sys/capabilities", {"token": exchange.token, "paths": [path]}, deadline=deadline
    )
    if reply.status == 400:
        raise Refused(invalid_token(sidecar))
    if reply.status >= 500:
        # A token that the server cannot even read: to its holder it says so in other words.
        told = sidecar.upstream.request(
            "GET", "auth/token/lookup-self", token=exchange.token, deadline=deadline
        )
        raise Refused(told if told.status >= 500 else reply)
    parsed = reply.json()
    data = parsed.get("data") if isinstance(parsed, dict) else None
    # Not by the path: a byte in it that is no text comes back as another.
    held = data.get("capabilities") if isinstance(data, dict) else None
    if reply.status != 200 or not isinstance(held, list):
        raise UpstreamDown(
            f"the Vault behind this sidecar answered {reply.status} to a question about capabilities"
            + (": the sidecar's policy must grant update on sys/capabilities" if reply.status == 403 else "")
        )
    if not decide_capabilities(asked.unsupported or asked.operation, [str(item) for item in held]):
        raise Refused(envelope.errors(403, [DENIED]))
    return Proof(positive=False)


def invalid_token(sidecar: Sidecar) -> Reply:
    """The upstream's way of refusing a token that does not exist."""
    if sidecar.upstream.product().is_vault:
        text = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"
    else:
        text = "permission denied"
    return envelope.errors(403, [text])


def _replay(sidecar: Sidecar, exchange: Exchange, asked: Asked, body: bytes, deadline: Deadline) -> Reply:
    if asked.operation is Operation.HELP:
        # Every verb with ?help= is a help; a GET is one on every server.
        return sidecar.upstream.forward(
            exchange,
            method="GET",
            query_string="help=1",
            body=b"",
            drop_headers=(*_BODY_HEADERS, *_NO_WRAP),
            repeatable=True,
            deadline=deadline,
        )
    writes = asked.operation in WRITES
    content_type = (
        exchange.header("Content-Type") if asked.operation is Operation.PATCH else "application/json"
    )
    return sidecar.upstream.forward(
        exchange,
        query_string=_replay_query(sidecar, exchange, asked),
        body=body,
        drop_headers=_BODY_HEADERS,
        extra_headers=[("Content-Type", content_type)] if writes else (),
        repeatable=not writes and asked.operation is not Operation.DELETE,
        deadline=deadline,
    )


def _replay_body(sidecar: Sidecar, asked: Asked) -> bytes:
    """The fields of a write with secrets and long values blanked; nothing at all when there are none."""
    if asked.operation not in WRITES or not asked.data:
        return b""
    blanked = sidecar.backend.blank_secrets(asked.path, asked.data)
    return envelope.to_json({name: _short(_plain(value)) for name, value in blanked.items()})


def _replay_query(sidecar: Sidecar, exchange: Exchange, asked: Asked) -> str:
    """As it came; but where a path takes secrets, without the values of whoever puts them there by mistake."""
    path = sidecar.backend.find(asked.path)
    if not exchange.query_string or path is None or not path.has_secrets:
        return exchange.query_string
    pairs = parse_qsl(exchange.query_string, keep_blank_values=True)
    shown = {name for name, item in path.fields.items() if not item.secret} | _CONTROLS
    return urlencode([(name, value if name in shown else "") for name, value in pairs])


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _short(value: Any) -> Any:
    return value if len(envelope.to_json(value)) <= LONGEST_REPLAYED_VALUE else ""


def _wrap_info(reply: Reply) -> Mapping[str, Any] | None:
    parsed = reply.json() if reply.status == 200 else None
    found = parsed.get("wrap_info") if isinstance(parsed, dict) else None
    return found if isinstance(found, dict) else None


def wrap(sidecar: Sidecar, exchange: Exchange, path: str, *, method: str = "GET") -> Mapping[str, Any] | None:
    """A wrapping token for an answer on `path`, made with the sidecar's own token and the caller's wishes.

    None when the caller wants none. The upstream has already judged the wish, with the caller's own request.
    """
    if not exchange.wrap_ttl:
        return None
    wishes = [(name, exchange.header(name)) for name in _NO_WRAP if exchange.header(name)]
    return _wrap_info(sidecar.own.request(method, path, headers=wishes))


def _inspect(sidecar: Sidecar, mount: Mount, decision: Decision, known: _Known, deadline: Deadline) -> bool:
    """Whether the marker stands in its place. False where none has to stand; raises when one should and does not."""
    until = deadline.at_most(RESTORE_SECONDS)
    while True:
        found = sidecar.shadow.find(mount, decision.inspect, deadline)
        if found is Found.VALID:
            return True
        if decision.inspect != sentinel_path(mount) and not known():
            return False
        if until.passed:
            raise _restored(sidecar, mount, decision.inspect, found)
        time.sleep(RESTORE_PAUSE)


def _require_shadow(sidecar: Sidecar, mount: Mount) -> None:
    """Before an entry is put back: it must not be written over what others keep in a mount of theirs."""
    if not sidecar.shadow.stands(mount):
        log.error("shadow_replaced", path=mount.path, uuid=mount.uuid)
        raise UpstreamDown(
            f"the mount behind {mount.path} at the Vault is no longer the sidecar's: it was removed or replaced past "
            "the sidecar; enable the engine again at a free path"
        )


def _restored(sidecar: Sidecar, mount: Mount, relative: str, found: Found = Found.MISSING) -> ShadowDamaged:
    _require_shadow(sidecar, mount)
    sidecar.shadow.write(mount, relative)
    log.warning("shadow_entry_restored", path=mount.path + relative, found=found.value)
    return ShadowDamaged(
        f"the shadow entry at {mount.path}{relative} was {'missing' if found is Found.MISSING else 'overwritten'}; "
        "it has been restored, try again"
    )


def restore(sidecar: Sidecar, mount: Mount, relative: str) -> None:
    """Put a marker back. A failure is left to the next read, which heals it: the caller's request was allowed."""
    try:
        sidecar.shadow.write(mount, relative)
    except Unavailable as error:
        log.warning("shadow_entry_not_restored", path=mount.path + relative, error=str(error))


def settle(sidecar: Sidecar, mount: Mount, relative: str) -> None:
    """After a write or delete: make the shadow agree with what the engine has now. Never raises."""
    folder, _, name = relative.partition("/")
    places = [f"roles/{name}", f"creds/{name}"] if folder == "roles" and name else [relative]
    for place in places:
        try:
            sidecar.shadow.settle(mount, place)
        except Unavailable as error:
            log.warning("shadow_entry_not_settled", path=mount.path + place, error=str(error))
