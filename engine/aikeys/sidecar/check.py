"""`aikeys serve --check`: each thing the sidecar needs, and what is wrong with it.

What it needs at the upstream is what `policies/sidecar.hcl` grants: the blocks about its mount for every mount there
is, and read where a config names a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from aikeys.engine.entries import CONFIG
from aikeys.engine.references import references
from aikeys.framework.response import Unavailable
from aikeys.policy.folder import shipped_policy
from aikeys.sidecar.health import OK, database_state, upstream_state

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

# The mount that the shipped policy speaks of.
MOUNT = "ai-keys"


def check_all(sidecar: Sidecar) -> Iterator[tuple[str, str]]:
    """Name and problem, "" where all is well."""
    database, upstream = database_state(sidecar), upstream_state(sidecar)
    yield "database", _unless_ok(database)
    yield f"upstream {sidecar.upstream.address} and login", _unless_ok(upstream)
    if database != OK or upstream != OK:
        return
    wanted = needed(mount.path.rstrip("/") for mount in sidecar.mounts.all())
    for mount in sidecar.mounts.all():
        for reference in references(sidecar.store.entries(mount.uuid).get(CONFIG) or {}).values():
            wanted[reference.path] = frozenset({"read"})
    # Of a rule with a wildcard, one path that it is for.
    asked = {path: path.removesuffix("*") + "roles/x" if path.endswith("*") else path for path in wanted}
    try:
        held = _capabilities(sidecar, list(asked.values()))
    except Unavailable as error:
        yield "policy", str(error)
        return
    for path, capabilities in wanted.items():
        has = held.get(asked[path], set())
        missing = [] if "root" in has else sorted(capabilities - has)
        yield f"policy for {path}", f"lacks {', '.join(missing)}: see policies/sidecar.hcl" if missing else ""


def needed(mounts: Iterable[str]) -> dict[str, frozenset[str]]:
    """Paths as `policies/sidecar.hcl` has them, for these mounts, with the capabilities that it grants there."""
    at = list(mounts)
    return {
        path: rule.capabilities
        for rule in shipped_policy("sidecar").rules
        for path in ([rule.path.replace(MOUNT, mount) for mount in at] if MOUNT in rule.path else [rule.path])
    }


def _unless_ok(state: str) -> str:
    return "" if state == OK else state


def _capabilities(sidecar: Sidecar, paths: list[str]) -> Mapping[str, set[str]]:
    reply = sidecar.own.request("POST", "sys/capabilities-self", {"paths": paths})
    parsed = reply.json()
    data = parsed.get("data") if reply.status == 200 and isinstance(parsed, dict) else None
    if not isinstance(data, dict):
        raise Unavailable(
            f"the question what the sidecar's own token may do was answered {reply.status}: it needs update on "
            "sys/capabilities-self"
        )
    return {path: set(held) for path, held in data.items() if isinstance(held, list)}
