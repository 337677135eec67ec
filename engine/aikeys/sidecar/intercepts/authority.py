"""Whether the caller may do what cannot be tried without effect.

Where a request of ours has an effect before the caller's own request reaches the upstream (leases end before the
mount is disabled), no replay can prove. Then the upstream's report of the token's capabilities decides, asked with
the sidecar's own token; that report knows nothing of CIDR bounds and disabled entities, so the caller's token is
also used once for a question about itself. The caller's own request follows, and has the last word.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.upstream import UpstreamDown

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

DENIED = ("1 error occurred:\n\t* permission denied\n\n",)
# How both servers refuse a token itself (its CIDR bounds, its entity); a policy's refusal has the longer text.
TOKEN_DENIED = ("permission denied",)


def refusal(sidecar: Sidecar, exchange: Exchange, path: str, capability: str) -> Reply | None:
    """None when the caller holds `capability` on `path`, else the answer that refuses.

    Raises `UpstreamDown` and `NotLoggedIn` when the upstream cannot be asked.
    """
    try:
        caller = sidecar.identity.lookup(exchange.token) if exchange.token else None
    except UpstreamDown:
        # Also for a token of a form over which the upstream stumbles (Vault: "hvs.a.b", 500); the same answer then.
        said = _ask_itself(sidecar, exchange, path)
        if said.status < 400:
            raise
        return said
    if caller is None:
        said = _ask_itself(sidecar, exchange, path)
        return said if said.status >= 400 else envelope.errors(403, TOKEN_DENIED)
    if not grants(capabilities(sidecar, exchange.token, path), capability):
        return envelope.errors(403, DENIED)
    if caller.num_uses == 1:
        # Its last use belongs to the request itself.
        return envelope.errors(403, TOKEN_DENIED) if caller.bound_cidrs else None
    return _refused_itself(sidecar, exchange, path)


def grants(capabilities: Collection[str], capability: str) -> bool:
    """Whether a report of `sys/capabilities` grants it. `sudo` alone grants nothing."""
    if "deny" in capabilities:
        return False
    return "root" in capabilities or capability in capabilities


def capabilities(sidecar: Sidecar, token: str, path: str) -> list[str]:
    """As `sys/capabilities` reports them, none of a dead token. Raises `UpstreamDown` and `NotLoggedIn`."""
    reply = sidecar.own.request("POST", "sys/capabilities", {"token": token, "paths": [path]})
    found = reported(reply, path)
    if found is not None:
        return found
    if reply.status == 400:
        # The token died since it was looked up.
        return []
    hint = ": its own policy needs update on sys/capabilities" if reply.status == 403 else ""
    raise UpstreamDown(f"the sidecar's question about the caller's capabilities got {reply.status}{hint}")


def _refused_itself(sidecar: Sidecar, exchange: Exchange, path: str) -> Reply | None:
    """The caller's token asks about itself, which the default policy grants: a dead or misplaced one is refused."""
    reply = _ask_itself(sidecar, exchange, path)
    if reported(reply, path) is not None:
        return None
    if reply.status == 403 and tuple(reply.errors) == DENIED:
        # Not even the default policy. But the token itself passed, its bounds included: they come first.
        return None
    return reply


def _ask_itself(sidecar: Sidecar, exchange: Exchange, path: str) -> Reply:
    return sidecar.upstream.forward(
        exchange,
        method="POST",
        path="sys/capabilities-self",
        query_string="",
        body=envelope.to_json({"paths": [path]}),
        drop_headers=("content-type", "x-vault-wrap-ttl", "x-vault-wrap-format"),
    )


def reported(reply: Reply, path: str) -> list[str] | None:
    """The capabilities that an answer of `sys/capabilities*` reports for `path`, None when it reports none."""
    parsed = reply.json()
    data = parsed.get("data") if reply.status == 200 and isinstance(parsed, dict) else None
    found = data.get(path) if isinstance(data, dict) else None
    return [str(name) for name in found] if isinstance(found, list) else None
