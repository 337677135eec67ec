"""What is asked of both worlds, made up by hypothesis: everything a client can do to leases, in any order.

Every rule is one operation, nearly always one request; whatever is drawn is asked, also about what does not exist (any
more). What is drawn never depends on answers or on time, so that hypothesis can repeat and shrink it.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule
from tests.differential.driver import Driver
from tests.differential.pair import Pair
from tests.differential.worlds import Ask, Kind

ROLES = st.sampled_from(["a", "a", "b"])
# Short ones end while the machine runs, long ones leave room for what is asked meanwhile.
TTLS = st.sampled_from([0, 4, "6s", 9, 30, "90", "1m", "1h", 7200])
MAX_TTLS = st.sampled_from([0, 0, 8, "12s", 75, "2m", "1h30m", 86400])
INCREMENTS: st.SearchStrategy[Any] = st.sampled_from(
    [..., ..., 0, None, "", 4, "7s", 25, "50", "1m30s", 3600, "24h", 10**6, "1d",
     -5, "-1h", "soon", "5q", 1.5, True, [], {}]
)  # fmt: skip
MOUNT_TTLS = st.sampled_from(["", "0s", 0, "5s", 20, "80s", "2h", "system", 2764800])
SYNC = st.sampled_from([..., ..., ..., True, False, False, None, "true", "0", "maybe"])
SELDOM = st.sampled_from([False] * 5 + [True])
WRITE = st.sampled_from(["PUT", "PUT", "POST"])
BELOW = ["creds/a", "creds/a/", "creds/b", "creds", "", "creds/c"]
NO_LEASE = st.sampled_from([{}, {"lease_id": ""}, {"lease_id": 7}, {"lease_id": ["x"]}, {"lease_id": "x"}])
GARBAGE = st.sampled_from(["abc", -5, "-1m", "5q", 1.5, True, [1], {"a": 1}])


class Leases(RuleBasedStateMachine):
    pair: ClassVar[Pair]

    leases = Bundle("leases")
    tokens = Bundle("tokens")
    wraps = Bundle("wraps")

    @initialize(target=tokens)
    def begin(self) -> Any:
        self.at = Driver(self.pair)
        app = self.at.token(policies=["differential-app"], ttl="10m")
        return multiple("root", "root", "root", "root", app, app, "nobody")

    def teardown(self) -> None:
        if hasattr(self, "at"):
            self.at.ask(Ask("LIST", f"sys/leases/lookup/{self.at.mount}/creds/a"))
            self.at.close()

    # -- leases -------------------------------------------------------------------------------------------------

    @rule(
        target=leases,
        role=ROLES,
        token=tokens,
        method=st.sampled_from(["GET", "GET", "GET", "PUT", "POST", "?"]),
    )
    def creds(self, role: str, token: str, method: str) -> str:
        if method == "?":
            return self.at.creds(role, token, query="?zzz=1")
        return self.at.creds(role, token, method=method)

    @rule(target=leases, role=ROLES)
    def creds_by_root(self, role: str) -> str:
        return self.at.creds(role)

    @rule(lease=leases, increment=INCREMENTS)
    def renew(self, lease: str, increment: Any) -> None:
        self.at.renew(lease, increment)

    @rule(
        lease=leases, token=tokens, method=WRITE, increment=INCREMENTS, sync=SYNC, legacy=SELDOM, wrapped=SELDOM,
        what=st.sampled_from(["renew", "renew", "renew", "look up", "look up", "look up zzz", "revoke", "fail"]),
        named=st.sampled_from(["body", "path", "both"]),
    )  # fmt: skip
    def on_a_lease(
        self, lease: str, token: str, method: str, increment: Any, sync: Any, legacy: bool, wrapped: bool,
        what: str, named: str,
    ) -> None:  # fmt: skip
        match what:
            case "renew":
                self.at.renew(
                    lease, increment, named=named, token=token, method=method, legacy=legacy, wrapped=wrapped
                )
            case "revoke":
                self.at.revoke(lease, sync, named=named, token=token, method=method, legacy=legacy)
            case "look up":
                self.at.lookup(lease, token=token, method=method, wrapped=wrapped)
            case "fail":
                self.at.revocation_fails(lease, how="prefix" if legacy else "revoke")
            case _:
                self.at.lookup(lease, token=token, method=method, zzz=1)

    @rule(
        below=st.one_of(st.sampled_from(BELOW), st.sampled_from(BELOW), leases), sync=SYNC, token=tokens,
        legacy=SELDOM, what=st.sampled_from(["LIST", "LIST", "LIST", "?list=true", "GET", "revoke", "force"]),
    )  # fmt: skip
    def below(self, below: str, sync: Any, token: str, legacy: bool, what: str) -> None:
        """All leases below a path, which may be one lease's id."""
        if what in {"revoke", "force"}:
            path = f"@{below}@" if below.startswith("lease") else below
            self.at.revoke_below(path, sync, force=what == "force", token=token, legacy=legacy)
            return
        path = (
            f"sys/leases/lookup/@{below}@"
            if below.startswith("lease")
            else f"sys/leases/lookup/{self.at.mount}/{below}"
        )
        method, query = ("GET", what) if what.startswith("?") else (what, "")
        self.at.ask(Ask(method, path + query, token=token))

    # -- roles and the mount ------------------------------------------------------------------------------------

    @rule(
        role=ROLES, ttl=TTLS, max_ttl=MAX_TTLS, given=st.sampled_from(["both", "both", "ttl", "max_ttl"]),
        method=st.sampled_from(["PUT", "POST", "PATCH"]), unset=st.sampled_from(["", "", "ttl", "max_ttl"]),
    )  # fmt: skip
    def role_write(self, role: str, ttl: Any, max_ttl: Any, given: str, method: str, unset: str) -> None:
        fields = {"ttl": ttl, "max_ttl": max_ttl}
        if given != "both":
            fields = {given: fields[given]}
        if method == "PATCH" and unset:
            fields[unset] = None
        # The reference is told to write, which makes what is not there.
        if method != "PATCH" or role in self.at.roles:
            self.at.write_role(role, fields, method=method)

    @rule(
        role=ROLES, token=tokens, default=MOUNT_TTLS, maximum=MOUNT_TTLS,
        what=st.sampled_from(["read", "LIST", "?list=true", "delete", "tune", "tune", "tune max", "", "/tune"]),
    )  # fmt: skip
    def role_or_mount(self, role: str, token: str, default: Any, maximum: Any, what: str) -> None:
        roles, mount = f"{self.at.mount}/roles", f"sys/mounts/{self.at.mount}"
        match what:
            case "read":
                self.at.ask(Ask("GET", f"{roles}/{role}", token=token, kind=Kind.ROLE))
            case "LIST":
                self.at.ask(Ask("LIST", roles, token=token, kind=Kind.ROLE))
            case "?list=true":
                self.at.ask(Ask("GET", roles + what, token=token, kind=Kind.ROLE))
            case "delete":
                self.at.delete_role(role)
            case "tune":
                fields = {"default_lease_ttl": default, "max_lease_ttl": maximum}
                self.at.ask(Ask("POST", f"{mount}/tune", fields, kind=Kind.MOUNT))
            case "tune max":
                self.at.ask(Ask("POST", f"{mount}/tune", {"max_lease_ttl": maximum}, kind=Kind.MOUNT))
            case _:
                self.at.ask(Ask("GET", mount + what, token=token, kind=Kind.MOUNT))

    # -- requests that cannot be right ----------------------------------------------------------------------------

    @rule(
        what=st.sampled_from(["role ttl", "role max_ttl", "lookup", "renew", "revoke", "patch", "tune", "wrap"]),
        garbage=GARBAGE, no_lease=NO_LEASE,
    )  # fmt: skip
    def malformed(self, what: str, garbage: Any, no_lease: dict[str, Any]) -> None:
        role = f"{self.at.mount}/roles/a"
        match what.split():
            case ["role", field]:
                self.at.ask(Ask("PUT", role, {field: garbage}, kind=Kind.ROLE))
            case ["patch"]:
                content_type = {"Content-Type": "application/json"} if garbage == "abc" else {}
                self.at.ask(Ask("PATCH", role, {"max_ttl": 60}, headers=content_type))
            case ["tune"]:
                # The servers take a negative one, and then fail: test_examples has it.
                body = {"default_lease_ttl": "x" if "-" in str(garbage) else str(garbage)}
                self.at.ask(Ask("POST", f"sys/mounts/{self.at.mount}/tune", body, kind=Kind.MOUNT))
            case ["wrap"]:
                headers = {"X-Vault-Wrap-TTL": str(garbage)}
                self.at.ask(Ask("GET", role, kind=Kind.ROLE, headers=headers))
            case _:
                self.at.ask(Ask("PUT", f"sys/leases/{what}", no_lease))

    # -- tokens -------------------------------------------------------------------------------------------------

    @rule(
        target=tokens, parent=tokens, ttl=st.sampled_from([5, 8, "1m", "10m"]), uses=st.integers(1, 4),
        policy=st.sampled_from(["app", "app", "app", "helper", "operator", "nothing"]),
        kind=st.sampled_from(["service", "service", "orphan", "batch", "uses"]),
    )  # fmt: skip
    def token_create(self, parent: str, ttl: Any, policy: str, kind: str, uses: int) -> str:
        kinds: dict[str, dict[str, Any]] = {
            "service": {}, "orphan": {"no_parent": True}, "batch": {"type": "batch"}, "uses": {"num_uses": uses},
        }  # fmt: skip
        return self.at.token(parent, policies=[f"differential-{policy}"], ttl=ttl, **kinds[kind])

    @rule(
        token=tokens,
        what=st.sampled_from(["look up", "look up", "revoke", "revoke-orphan", "revoke-accessor", "revoke-self"]),
        past=st.sampled_from([False, False, False, True]),
    )  # fmt: skip
    def on_a_token(self, token: str, what: str, past: bool) -> None:
        if what == "look up":
            self.at.lookup_token(token)
        elif token in self.at.memory.tokens:
            self.at.revoke_token(token, what, past=past)

    # -- wrapping -----------------------------------------------------------------------------------------------

    @rule(target=wraps, role=ROLES, token=tokens, ttl=st.sampled_from(["5m", "5m", "300", "1h"]))
    def creds_wrapped(self, role: str, token: str, ttl: str) -> str:
        return self.at.creds(role, token, wrap_ttl=ttl)

    @rule(
        target=leases, wrap=wraps, by=st.one_of(st.just("header"), tokens),
        what=st.sampled_from(["unwrap", "unwrap", "look up by header", "look up", "rewrap"]),
    )  # fmt: skip
    def on_a_wrapping(self, wrap: str, by: str, what: str) -> str:
        token = f"@{wrap}.wrap@"
        match what:
            case "unwrap":
                self.at.unwrap_creds(wrap, by=by)
            case "look up by header":
                self.at.ask(Ask("GET", "sys/wrapping/lookup", token=token))
            case "look up":
                self.at.ask(Ask("PUT", "sys/wrapping/lookup", {"token": token}, token="nobody"))
            case _:
                self.at.ask(Ask("PUT", "sys/wrapping/rewrap", {"token": token}, makes=wrap))
        return wrap

    @rule(role=ROLES, token=tokens)
    def wrapped_role_read(self, role: str, token: str) -> None:
        name = self.at.wrapped_role_read(role, token)
        self.at.unwrap(name, kind=Kind.ROLE)

    # -- time ---------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.3, 1.1, 2.2, None, None]))
    def wait(self, seconds: float | None) -> None:
        if seconds is None:
            self.at.wait_for_the_next_end(within=4.0)
        else:
            time.sleep(seconds)
