"""What the shadow's answer to a replayed request proves. Pure tables; only a positive proof allows.

What they rest on was observed on OpenBao 2.7 and Vault 1.21:

- kv version 1 answers a PATCH 405, and a write without fields 400 `missing data fields`, only behind the
  access check (parameter constraints included);
- a 204 to a write or delete is given only behind it;
- with a wrapping header the marker comes back wrapped, with the caller's path as its `creation_path`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aikeys.framework.request import Mount, Operation
from aikeys.sidecar import shadow as shadow_module
from aikeys.sidecar.exchange import Reply

UNSUPPORTED_OPERATION = ["1 error occurred:\n\t* unsupported operation\n\n"]
MISSING_DATA = ["missing data fields"]


class Verdict(enum.Enum):
    """ALLOW: proved. ABSENT: access was granted, but nothing stands there and the engine has nothing there either.
    INSPECT: proved if the sidecar's own token finds the marker in its place. MISSING: access was granted, but the
    marker of an object that the engine has is not there. REFUSE: the upstream's answer is the caller's answer.
    """

    ALLOW = "allow"
    ABSENT = "absent"
    INSPECT = "inspect"
    MISSING = "missing"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    """`inspect` is the path whose marker must be found. `keys` are the names a list may show, None: no list.
    `wrap_info` is the upstream's wrapping of the marker, to be answered with ours inside.
    """

    verdict: Verdict
    inspect: str = ""
    keys: tuple[str, ...] | None = None
    wrap_info: Mapping[str, Any] | None = None


_ALLOW = Decision(Verdict.ALLOW)
_ABSENT = Decision(Verdict.ABSENT)
_MISSING = Decision(Verdict.MISSING)
_REFUSE = Decision(Verdict.REFUSE)


def decide(
    operation: Operation,
    reply: Reply,
    *,
    mount: Mount,
    relative: str,
    known: Callable[[], bool],
    empty_body: bool = False,
) -> Decision:
    """What the shadow's `reply` to the replayed request proves. No IO.

    `known`: the engine has an object at `relative`. `empty_body`: the replayed write held no field. A wrapped list
    is to be unwrapped before it is shown here.
    """
    match operation:
        case Operation.READ:
            return _decide_read(reply, mount, relative, known)
        case Operation.CREATE | Operation.UPDATE:
            if reply.status == 204:
                return _ALLOW
            if empty_body and reply.status == 400 and reply.errors == MISSING_DATA:
                return Decision(Verdict.INSPECT, _place(mount, relative, known))
            return _REFUSE
        case Operation.PATCH:
            if reply.status == 405 and reply.errors == UNSUPPORTED_OPERATION:
                return Decision(Verdict.INSPECT, _place(mount, relative, known))
            return _REFUSE
        case Operation.DELETE:
            return _ALLOW if reply.status == 204 else _REFUSE
        case Operation.LIST:
            return _decide_list(reply, mount)
        case Operation.HELP:
            parsed = reply.json()
            helped = isinstance(parsed, dict) and isinstance(parsed.get("help"), str)
            return _ALLOW if reply.status == 200 and helped else _REFUSE
        case _:
            return _REFUSE


def _place(mount: Mount, relative: str, known: Callable[[], bool]) -> str:
    """Where the engine has no object there is no marker either; the sentinel then shows that the mount is ours."""
    return relative if known() else shadow_module.sentinel_path(mount)


def _decide_read(reply: Reply, mount: Mount, relative: str, known: Callable[[], bool]) -> Decision:
    if reply.status == 200:
        parsed = reply.json()
        if not isinstance(parsed, dict):
            return _REFUSE
        if parsed.get("wrap_info"):
            return Decision(Verdict.INSPECT, relative, wrap_info=parsed["wrap_info"])
        if shadow_module.is_marker(mount, relative, parsed.get("data")):
            return _ALLOW
        return Decision(Verdict.INSPECT, relative)
    if _is_bare_404(reply):
        return _MISSING if known() else _ABSENT
    return _REFUSE


def _decide_list(reply: Reply, mount: Mount) -> Decision:
    """OpenBao's policies may hide single keys and clients may ask for a page: what the upstream showed bounds the list.

    Without the sentinel among the names it is looked for: a page or a policy may have left it out.
    """
    sentinel = shadow_module.sentinel_path(mount)
    if reply.status == 200:
        parsed = reply.json()
        data = parsed.get("data") if isinstance(parsed, dict) else None
        # OpenBao makes of the 404 for an empty list a 200 without keys, to warn of parameters that it ignored.
        keys = data.get("keys", []) if isinstance(data, dict) else None
        if not isinstance(keys, list):
            return _REFUSE
        shown = tuple(key for key in keys if isinstance(key, str))
        if shadow_module.sentinel_name(mount) in shown:
            return Decision(Verdict.ALLOW, keys=shown)
        return Decision(Verdict.INSPECT, sentinel, keys=shown)
    if _is_bare_404(reply):
        return Decision(Verdict.INSPECT, sentinel, keys=())
    return _REFUSE


def _is_bare_404(reply: Reply) -> bool:
    return reply.status == 404 and reply.json() == {"errors": []}


def decide_capabilities(operation: str, capabilities: Collection[str]) -> bool:
    """Whether these capabilities (of `sys/capabilities`) let the operation reach an engine."""
    held = set(capabilities)
    if "deny" in held:
        return False
    if "root" in held or operation == Operation.HELP:
        return True
    needed = {"create", "update"} if operation in {Operation.CREATE, Operation.UPDATE} else {operation}
    return bool(held & needed)
