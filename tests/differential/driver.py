"""What a client does with leases and tokens, one method each: what the machine's rules and the plain examples share.

What a request makes (leases, tokens, wrapping tokens) gets a name, and the name stands for something that does not
exist where nothing was made: so every name can be asked about.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.differential.asking import SETTLE_SECONDS, Asking, numbers
from tests.differential.compare import Leeway
from tests.differential.memory import Lease, Memory, Token
from tests.differential.pair import Both, Pair
from tests.differential.worlds import About, Ask, Kind, World, fresh_path

FAILED = About.FAILED_REVOCATION
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
POLICIES = {
    # What an app has, and that it may make tokens for its own children.
    "differential-app": 'path "+/creds/*" { capabilities = ["read", "create", "update"] }\n'
    'path "auth/token/create" { capabilities = ["create", "update"] }',
    # Everything about leases and roles but sudo.
    "differential-helper": 'path "sys/leases/*" { capabilities = ["create", "read", "update", "list"] }\n'
    'path "+/roles/*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }',
    "differential-operator": 'path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }',
    "differential-nothing": 'path "nothing/*" { capabilities = ["read"] }',
}


def set_up(pair: Pair) -> None:
    """What all examples share."""

    def prepare(world: World) -> str:
        for name, text in POLICIES.items():
            world.must("PUT", f"sys/policies/acl/{name}", {"policy": text})
        return str(world.must("GET", "auth/token/lookup-self")["data"]["accessor"])

    pair.bind("@root.accessor@", *pair.in_both(prepare))
    for world in pair.worlds:
        world.names.keep()


# The longest that a relay fails for.
BROKEN_SECONDS = 3.0


class Driver(Asking):
    """One example: a mount of its own with the roles `a` and `b`.

    Tokens are named `root`, `nobody` (none at all) and as `token` names them. `roles` are those there are.
    `leaves_credentials`: the reference is known to leave some behind.
    """

    def __init__(self, pair: Pair) -> None:
        super().__init__(pair, fresh_path())
        self.roles: set[str] = set()
        self.leaves_credentials = False
        pair.in_both(lambda world: world.enable(self.mount))
        for role in ("a", "b"):
            self.write_role(role, {"ttl": 60, "max_ttl": 7200})

    def close(self) -> None:
        """The mount goes, with all that was handed out there."""
        self.spoiled = False
        self.memory = Memory()
        self.ask(Ask("DELETE", f"sys/mounts/{self.mount}"))
        self.ask(Ask("LIST", f"sys/leases/lookup/{self.mount}"))
        left_to_one = self.pair.theirs if self.leaves_credentials else None
        self.pair.settles(
            "the end of every credential of a mount that is gone",
            lambda world: world is left_to_one or world.alive(self.mount) == 0,
            seconds=SETTLE_SECONDS,
        )

    def write_role(self, role: str, fields: dict[str, Any], *, method: str = "PUT") -> None:
        headers = MERGE_PATCH if method == "PATCH" else {}
        both = self.ask(Ask(method, f"{self.mount}/roles/{role}", fields, kind=Kind.ROLE, headers=headers))
        if both is None:
            return
        if both.ok:
            self.roles.add(role)
        elif both.theirs.status < 300:
            # Allowed (a TTL beyond the maximum), but from here on the two have different roles.
            self.delete_role(role)

    def delete_role(self, role: str) -> None:
        self.ask(Ask("DELETE", f"{self.mount}/roles/{role}", kind=Kind.ROLE))
        self.roles.discard(role)

    def token(self, parent: str = "root", **fields: Any) -> str:
        """A token's name; `fields` are those of auth/token/create."""
        token = Token(f"token-{next(numbers)}", over=True)
        token.batch = fields.get("type") == "batch"
        token.uses = fields.get("num_uses")
        self.memory.tokens[token.name] = token
        self.stands_for_nothing(token.name, f"{token.name}.accessor")
        both = self.ask(Ask("POST", "auth/token/create", fields, token=parent, makes=token.name))
        if both is not None and both.ok:
            auths = [answer.json["auth"] for answer in both.answers]
            token.over = False
            token.parent = "" if auths[0]["orphan"] else parent
            token.leeway = both.leeway
            self.timed(token, both, [auth["lease_duration"] for auth in auths])
        return token.name

    def creds(
        self,
        role: str = "a",
        token: str = "root",
        *,
        method: str = "GET",
        query: str = "",
        wrap_ttl: str = "",
    ) -> str:
        """The name of a lease, and of its wrapping token when `wrap_ttl` asks for one."""
        lease = Lease(f"lease-{next(numbers)}", role=role, token=token, over=True)
        self.memory.leases[lease.name] = lease
        self.stands_for_nothing(lease.name, f"{lease.name}.wrap", f"{lease.name}.key")
        path = f"{self.mount}/creds/{role}{query}"
        headers = {"X-Vault-Wrap-TTL": wrap_ttl} if wrap_ttl else {}
        ask = Ask(method, path, token=token, kind=Kind.CREDS, headers=headers, makes=lease.name)
        both = self.ask(ask, self.leeway_of_token(token))
        if both is not None and both.ok:
            lease.leeway = both.leeway + self.leeway_of_token(token)
            lease.over = False
            if both.theirs.json["wrap_info"] is None:
                self.timed(lease, both, [answer.json["lease_duration"] for answer in both.answers])
            else:
                self.timed(lease, both, [self._look_inside(world, lease) for world in self.pair.worlds])
        return lease.name

    def renew(
        self,
        lease: str,
        increment: Any = ...,
        *,
        named: str = "body",
        token: str = "root",
        method: str = "PUT",
        legacy: bool = False,
        wrapped: bool = False,
        about: About = About.NOTHING,
    ) -> None:
        """`named`: where the id stands, "body", "path" or "both", of which the body's counts."""
        held = self.memory.leases[lease]
        body = {} if increment is ... else {"increment": increment}
        ask = self._about(held, "renew", body, named, legacy=legacy)
        ask = replace(ask, method=method, token=token, about=about)
        if wrapped:
            ask = replace(ask, headers={"X-Vault-Wrap-TTL": "60"}, makes=self.wrapping())
        both = self.ask(ask, self.leeway(lease))
        inside = self.unwrap(ask.makes, leeway=self.leeway(lease)) if wrapped and both and both.ok else both
        if both is not None and inside is not None and both.ok and inside.ok:
            held.renewed = both.leeway
            self.timed(held, both, [answer.json["lease_duration"] for answer in inside.answers])
        elif both is not None and both.ask.about is About.LAST_USE and both.ours.status == 200:
            # Allowed: only one has said how long it is renewed for.
            held.renewed = both.leeway
            self.timed(held, both, [both.ours.json["lease_duration"]] * 2)
        elif both is not None and 200 in {both.theirs.status, both.ours.status} and about is not FAILED:
            # In the last second of its maximum: one of the worlds could still be told so.
            held.first_end = min(both.theirs.started, both.ours.started)

    def lookup(
        self,
        lease: str,
        *,
        token: str = "root",
        method: str = "PUT",
        wrapped: bool = False,
        about: About = About.NOTHING,
        **more: Any,
    ) -> None:
        body = {"lease_id": f"@{lease}@", **more}
        ask = Ask(method, "sys/leases/lookup", body, token=token, about=about)
        if wrapped:
            ask = replace(ask, headers={"X-Vault-Wrap-TTL": "60"}, makes=self.wrapping())
        both = self.ask(ask, self.leeway(lease))
        if wrapped and both is not None and both.ok:
            self.unwrap(ask.makes, leeway=self.leeway(lease) + both.leeway)

    def revoke(
        self,
        lease: str,
        sync: Any = ...,
        *,
        named: str = "body",
        token: str = "root",
        method: str = "PUT",
        legacy: bool = False,
        about: About = About.NOTHING,
    ) -> None:
        held = self.memory.leases[lease]
        body: dict[str, Any] = {} if sync is ... else {"sync": sync}
        ask = self._about(held, "revoke", body, named, legacy=legacy)
        both = self.ask(replace(ask, method=method, token=token, about=about))
        if both is not None and both.ok:
            self.ended([held], both)

    def revoke_below(
        self,
        path: str,
        sync: Any = ...,
        *,
        force: bool = False,
        token: str = "root",
        legacy: bool = False,
        about: About = About.NOTHING,
    ) -> None:
        """`path` is below the mount ("creds/a"), "" the mount itself, or a lease's name such as "@lease-3@"."""
        whole = (
            path if path.startswith("@") else f"{self.mount}/{path}".rstrip("/") + "/" * path.endswith("/")
        )
        body = {} if sync is ... or force else {"sync": sync}
        at = f"sys/{'' if legacy else 'leases/'}revoke-{'force' if force else 'prefix'}"
        both = self.ask(Ask("PUT", f"{at}/{whole}", body, token=token, about=about))
        if both is None or not both.ok:
            return
        role = path.removeprefix("creds").strip("/")
        self.ended(
            [held for held in self.memory.leases.values() if role in {"", held.role, held.named}], both
        )

    def revocation_fails(self, lease: str, how: str = "revoke") -> None:
        """A lease cannot be revoked (`how`: "revoke" or "prefix"), is asked about, and then can be."""
        if not self.spoiled:
            # What else ends while the relay fails could not be over in time.
            self.settle()
            self.wait_for_the_next_end(BROKEN_SECONDS)
        held = self.memory.leases[lease]
        if held.over or held.role not in self.roles or self.spoiled:
            self.revoke(lease)
            return
        self._broken(held.role, True)
        try:
            if how == "revoke":
                self.revoke(lease, about=FAILED)
            else:
                self.revoke_below(held.named, about=FAILED)
            self.lookup(lease, about=FAILED)
            self.renew(lease, about=FAILED)
            self.ask(Ask("GET", "sys/leases?type=irrevocable", about=FAILED))
            self.ask(Ask("GET", "sys/leases/count?type=irrevocable", about=FAILED))
        finally:
            self._broken(held.role, False)
        self.revoke(lease)

    def revoke_token(self, token: str, how: str = "revoke", *, past: bool = False) -> None:
        """`how` is the endpoint of auth/token: revoke, revoke-orphan, revoke-accessor or revoke-self."""
        held = self.memory.tokens[token]
        match how:
            case "revoke-self":
                ask = Ask("POST", "auth/token/revoke-self", token=token)
            case "revoke-accessor":
                ask = Ask("POST", "auth/token/revoke-accessor", {"accessor": f"@{token}.accessor@"})
            case _:
                ask = Ask("POST", f"auth/token/{how}", {"token": held.named})
        both = self.ask(replace(ask, past=past))
        # A batch token has no accessor, and an unknown one is no error.
        if both is not None and both.ok and not (held.batch and how == "revoke-accessor"):
            self.memory.token_ends(token, children_stay=how == "revoke-orphan")

    def lookup_token(self, token: str) -> None:
        held = self.memory.tokens.get(token)
        leeway = None if held is None else held.leeway
        self.ask(Ask("GET", "auth/token/lookup-self", token=token), leeway)

    def unwrap(
        self, name: str, *, kind: Kind = Kind.SYSTEM, by: str = "root", leeway: Leeway | None = None
    ) -> Both | None:
        """What lies behind `@name.wrap@`, asked for with the token `by`, or with that token itself ("header")."""
        wrap = f"@{name}.wrap@"
        if by == "header":
            ask = Ask("PUT", "sys/wrapping/unwrap", token=wrap, kind=kind, makes=name)
        else:
            ask = Ask("PUT", "sys/wrapping/unwrap", {"token": wrap}, token=by, kind=kind, makes=name)
        return self.ask(ask, leeway)

    def unwrap_creds(self, lease: str, *, by: str = "root") -> None:
        self.unwrap(lease, kind=Kind.CREDS, by=by, leeway=self.memory.leases[lease].leeway)

    def wrapping(self) -> str:
        """A name for a wrapping token that is to be."""
        name = f"wrapped-{next(numbers)}"
        self.stands_for_nothing(f"{name}.wrap", f"{name}.key")
        return name

    def wrapped_role_read(self, role: str, token: str = "root") -> str:
        name = self.wrapping()
        headers = {"X-Vault-Wrap-TTL": "30"}
        path = f"{self.mount}/roles/{role}"
        self.ask(Ask("GET", path, token=token, kind=Kind.ROLE, headers=headers, makes=name))
        return name

    # -- inner --------------------------------------------------------------------------------------------------

    def _about(self, held: Lease, what: str, body: dict[str, Any], named: str, *, legacy: bool) -> Ask:
        """A request to `sys/leases/<what>`, or `sys/<what>` as it was before."""
        base = f"sys/{'' if legacy else 'leases/'}{what}"
        path = {"body": base, "path": f"{base}/{held.named}", "both": f"{base}/another"}[named]
        return Ask("PUT", path, body if named == "path" else {**body, "lease_id": held.named})

    def _broken(self, role: str, broken: bool) -> None:
        self.pair.in_both(lambda world: world.revocations_fail(self.mount, role, fail=broken))

    def _look_inside(self, world: World, lease: Lease) -> int:
        """Learn the id of a lease that nobody has unwrapped, past the comparison; how long it lasts at most."""
        path = f"{self.mount}/creds/{lease.role}"
        known = world.names.actual()
        (found,) = (key for key in self.listed(world, lease.role) if f"{path}/{key}" not in known)
        world.names.bind(lease.named, f"{path}/{found}")
        return int(world.must("PUT", "sys/leases/lookup", {"lease_id": lease.named})["data"]["ttl"]) + 1
