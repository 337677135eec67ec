"""`aikeys serve --check`: each thing the sidecar needs, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aikeys.framework.response import Unavailable
from aikeys.sidecar.health import OK, database_state, upstream_state

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

# What the sidecar asks with its own token whatever it has mounted: path and capability.
NEEDED = (
    ("auth/token/lookup", "update"),
    ("auth/token/lookup-accessor", "update"),
    ("sys/capabilities", "update"),
    ("sys/mounts", "read"),
)
NEEDED_IN_SHADOW = ("create", "read", "update", "delete", "list")


def check_all(sidecar: Sidecar) -> Iterator[tuple[str, str]]:
    """Name and problem, "" where all is well."""
    yield "database", _unless_ok(database_state(sidecar))
    state = upstream_state(sidecar)
    yield f"upstream {sidecar.upstream.address} and login", _unless_ok(state)
    if state != OK:
        return
    wanted = {path: {capability} for path, capability in NEEDED}
    for mount in sidecar.mounts.all():
        wanted[f"{mount.path}roles/x"] = set(NEEDED_IN_SHADOW)
    try:
        held = _capabilities(sidecar, list(wanted))
    except Unavailable as error:
        yield "policy", str(error)
        return
    for path, capabilities in wanted.items():
        missing = sorted(capabilities - held.get(path, set())) if "root" not in held.get(path, set()) else []
        yield f"policy for {path}", f"lacks {', '.join(missing)}: see policies/sidecar.hcl" if missing else ""


def _unless_ok(state: str) -> str:
    return "" if state == OK else state


def _capabilities(sidecar: Sidecar, paths: list[str]) -> dict[str, set[str]]:
    reply = sidecar.own.request("POST", "sys/capabilities-self", {"paths": paths})
    parsed = reply.json()
    data = parsed.get("data") if reply.status == 200 and isinstance(parsed, dict) else None
    if not isinstance(data, dict):
        raise Unavailable(f"the question about the sidecar's own capabilities was answered {reply.status}")
    return {path: set(held) for path, held in data.items() if isinstance(held, list)}
