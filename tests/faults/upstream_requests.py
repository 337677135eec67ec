"""Every kind of request that goes through the sidecar, and what must hold of it when the upstream failed meanwhile.

Whatever the answer was, once the upstream is back nothing is half done: what a client can see agrees with what the
relay has, and the same request can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from tests.faults.upstream_bench import OTHER, UpstreamBench
from tests.sidecar_stack import MOUNT, unique

Context = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """`prepare` makes what `ask` needs while all is well; `after` judges when it is so again. `changes`: it changes
    something at the upstream, so that an answer of its that is lost is not the same as none.
    """

    ask: Callable[[UpstreamBench, Context], httpx.Response]
    after: Callable[[UpstreamBench, Context, httpx.Response], None]
    prepare: Callable[[UpstreamBench], Context] = lambda _bench: {}
    changes: bool = False
    #: Besides 503, what an unfinished one may be answered.
    unfinished: frozenset[int] = frozenset()


def _nothing(_bench: UpstreamBench, _context: Context, _answer: httpx.Response) -> None:
    """An answer is all there is to it."""


def _key_or_none(bench: UpstreamBench, _context: Context, answer: httpx.Response) -> None:
    if answer.status_code == 200:
        data = answer.json()["data"]
        assert bench.stack.works(data["api_key"])
        bench.ok("PUT", "sys/leases/revoke", {"lease_id": answer.json()["lease_id"]})


def _wrapped(bench: UpstreamBench) -> Context:
    answer = bench.ok("GET", f"{MOUNT}/creds/plain", **{"X-Vault-Wrap-TTL": "60"})
    return {"token": answer["wrap_info"]["token"]}


def _unwrap(bench: UpstreamBench, context: Context) -> httpx.Response:
    return bench.ask("PUT", "sys/wrapping/unwrap", {"token": context["token"]})


def _wrapped_or_none(bench: UpstreamBench, context: Context, answer: httpx.Response) -> None:
    if answer.status_code == 200:
        context["token"] = answer.json()["wrap_info"]["token"]
        _key_or_none(bench, context, _unwrap(bench, context))


def _unwrapped_once(bench: UpstreamBench, context: Context, answer: httpx.Response) -> None:
    again = _unwrap(bench, context)
    if answer.status_code == 200:
        assert again.status_code == 400, "unwrapped twice"
        _key_or_none(bench, context, answer)
    else:
        # Spent when the server did it and its word was lost; then its lease ends when the wrapping does.
        assert again.status_code in {200, 400}, again.text
        _key_or_none(bench, context, again)


def _role(bench: UpstreamBench) -> Context:
    name = unique("upstream")
    bench.ok("POST", f"{MOUNT}/roles/{name}", {"ttl": 60})
    return {"role": name, "was": 60}


def _write_role(bench: UpstreamBench, context: Context) -> httpx.Response:
    return bench.ask("POST", f"{MOUNT}/roles/{context['role']}", {"ttl": 90})


def _role_is_whole(bench: UpstreamBench, context: Context, answer: httpx.Response) -> None:
    """There or not there, everywhere alike; and what was answered is what is."""
    name, was = context["role"], context["was"]
    read = bench.settled("GET", f"{MOUNT}/roles/{name}")
    ttl = read.json()["data"]["ttl"] if read.status_code == 200 else None
    assert ttl in {was, context.get("wish", 90)}
    if answer.status_code == 204:
        assert ttl == context.get("wish", 90)
    listed = bench.settled("LIST", f"{MOUNT}/roles").json()["data"]["keys"]
    assert (name in listed) is (ttl is not None)
    creds = bench.settled("GET", f"{MOUNT}/creds/{name}")
    assert creds.status_code == (200 if ttl is not None else 400), creds.text
    _key_or_none(bench, context, creds)
    assert bench.settled("DELETE", f"{MOUNT}/roles/{name}").status_code == 204


def _config(bench: UpstreamBench, _context: Context) -> httpx.Response:
    relay = bench.stack.relay
    config = {"base_url": relay.base_url, "management_key": relay.management_key, "connect_timeout": 4}
    return bench.ask("POST", f"{MOUNT}/config", config)


def _config_is_whole(bench: UpstreamBench, context: Context, answer: httpx.Response) -> None:
    stored = bench.settled("GET", f"{MOUNT}/config").json()["data"]["connect_timeout"]
    assert answer.status_code != 204 or stored == 4
    assert _config(bench, context).status_code == 204
    _key_or_none(bench, context, bench.settled("GET", f"{MOUNT}/creds/plain"))


def _lease(bench: UpstreamBench) -> Context:
    lease_id, key_id = bench.lease()
    return {"lease": lease_id, "key": key_id}


def _of_lease(what: str, **more: object) -> Callable[[UpstreamBench, Context], httpx.Response]:
    return lambda bench, context: bench.ask(
        "PUT", f"sys/leases/{what}", {"lease_id": context["lease"], **more}
    )


def _lease_is_whole(bench: UpstreamBench, context: Context, answer: httpx.Response) -> None:
    """As long as it is known its key lives, and it never outlives the key."""
    shown = bench.ask("PUT", "sys/leases/lookup", {"lease_id": context["lease"]})
    assert (shown.status_code == 200) is bench.lives(context["key"])
    if shown.status_code == 200:
        end = datetime.fromisoformat(shown.json()["data"]["expire_time"]).timestamp()
        assert end <= bench.stack.key_truth(context["key"])["expires_at"]
        assert bench.ask("PUT", "sys/leases/revoke", {"lease_id": context["lease"]}).status_code == 204
    assert not bench.lives(context["key"])


def _revoked_if_said(bench: UpstreamBench, context: Context, answer: httpx.Response) -> None:
    if answer.status_code == 204:
        assert not bench.known(context["lease"])
    _lease_is_whole(bench, context, answer)


def _enable(bench: UpstreamBench, _context: Context) -> httpx.Response:
    return bench.ask("POST", f"sys/mounts/{OTHER}", {"type": "ai-keys"})


def _mount_is_whole(bench: UpstreamBench, _context: Context, answer: httpx.Response) -> None:
    """It can be enabled now, or it is there and works; and no write to it got into the upstream's books meanwhile."""
    again = bench.settled("POST", f"sys/mounts/{OTHER}", {"type": "ai-keys"})
    assert again.status_code in {204, 400}, again.text
    if again.status_code == 400:
        assert again.json()["errors"] == [f"path is already in use at {OTHER}/"]
    else:
        assert answer.status_code != 204, "it said that it was enabled"
    bench.configure()
    kept = bench.stack.direct("GET", f"{OTHER}/config").text
    assert bench.stack.relay.management_key not in kept
    assert "aikeys_marker" in kept
    bench.lease(mount=OTHER)
    bench.disable()


def _mounted(bench: UpstreamBench) -> Context:
    bench.enable()
    bench.configure()
    lease_id, key_id = bench.lease(mount=OTHER)
    return {"lease": lease_id, "key": key_id}


def _unmounts(bench: UpstreamBench, context: Context, answer: httpx.Response) -> None:
    if answer.status_code == 204:
        assert not bench.lives(context["key"])
        assert bench.ask("GET", f"{OTHER}/config").status_code == 404
    bench.disable()
    assert not bench.lives(context["key"])


def _get(path: str) -> Callable[[UpstreamBench, Context], httpx.Response]:
    return lambda bench, _context: bench.ask("GET", path)


KINDS: Mapping[str, Kind] = {
    "creds": Kind(_get(f"{MOUNT}/creds/plain"), _key_or_none),
    "creds by a write": Kind(
        lambda bench, _context: bench.ask("PUT", f"{MOUNT}/creds/plain", {"ttl": 120}), _key_or_none
    ),
    "wrapped creds": Kind(
        lambda bench, _context: bench.ask("GET", f"{MOUNT}/creds/plain", **{"X-Vault-Wrap-TTL": "60"}),
        _wrapped_or_none,
        changes=True,
    ),
    "unwrap": Kind(_unwrap, _unwrapped_once, _wrapped, changes=True),
    "new role": Kind(_write_role, _role_is_whole, lambda _bench: {"role": unique("upstream"), "was": None}, changes=True),
    "changed role": Kind(_write_role, _role_is_whole, _role, changes=True),
    "deleted role": Kind(
        lambda bench, context: bench.ask("DELETE", f"{MOUNT}/roles/{context['role']}"),
        _role_is_whole,
        lambda bench: {**_role(bench), "wish": None},
        changes=True,
    ),
    "role": Kind(_get(f"{MOUNT}/roles/plain"), _nothing),
    "list of roles": Kind(lambda bench, _context: bench.ask("LIST", f"{MOUNT}/roles"), _nothing),
    "leases": Kind(_get(f"{MOUNT}/leases"), _nothing),
    "config": Kind(_config, _config_is_whole, changes=True),
    "renew": Kind(_of_lease("renew", increment=900), _lease_is_whole, _lease),
    "revoke": Kind(_of_lease("revoke", sync=True), _revoked_if_said, _lease),
    "lookup": Kind(_of_lease("lookup"), _lease_is_whole, _lease),
    "list of leases": Kind(
        lambda bench, _context: bench.ask("LIST", f"sys/leases/lookup/{MOUNT}/creds/plain"),
        _lease_is_whole,
        _lease,
    ),
    "enable": Kind(_enable, _mount_is_whole, changes=True, unfinished=frozenset({500})),
    "disable": Kind(
        lambda bench, _context: bench.ask("DELETE", f"sys/mounts/{OTHER}"),
        _unmounts,
        _mounted,
        changes=True,
        unfinished=frozenset({400}),
    ),
    "a read that passes": Kind(_get("cubbyhole/upstream"), _nothing, lambda bench: bench.ok("PUT", "cubbyhole/upstream", {"a": "b"})),
    "a write that passes": Kind(
        lambda bench, _context: bench.ask("PUT", "cubbyhole/upstream", {"a": "b"}), _nothing
    ),
}  # fmt: skip
