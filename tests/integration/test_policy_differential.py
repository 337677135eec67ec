"""Our judgement of policies is that of the real servers, on generated policy sets, paths and requests.

`AIKEYS_POLICY_SETS` is how many sets each property tries at each server (`make policy-differential`: 5,000, drawn anew
each time); without it 200 fixed ones. What differs is shrunk to the smallest set that still does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from tests.realparts.server import Server as RealServer

from aikeys.policy.evaluate import Acl, Request
from aikeys.policy.parse import Policy, Server, parse_policy

SETS = int(os.environ.get("AIKEYS_POLICY_SETS", "200"))
LONG = "AIKEYS_POLICY_SETS" in os.environ
KV = "policies-kv"
MOST_POLICIES = 3


def tried(examples: int) -> settings:
    return settings(
        max_examples=max(examples, 10),
        derandomize=not LONG,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )


# -- what is generated --------------------------------------------------------------------------------------------

# Few and alike, so that rules meet; "é" is longer in bytes, "a+" and a "*" in the middle are ordinary letters.
WORDS = ["a", "b", "ab", "é", "a+"]
# Each rule of a set grants something else, so that it shows which one decided.
GRANTS = [
    ["create"], ["read"], ["update"], ["patch"], ["delete"], ["list"], ["sudo"], ["deny"], ["read", "deny"], [],
    ["create", "read"], ["update", "list"], ["read", "list"], ["delete", "sudo"],
]  # fmt: skip


@st.composite
def rule_paths(draw: st.DrawFn, base: list[str]) -> str:
    """A path that matches `base`, or something near it."""
    length = draw(st.integers(1, len(base)))
    whole = length == len(base)
    parts = [draw(st.sampled_from([part, part, part, "+", "+", "+b", "*"])) for part in base[:length]]
    end = draw(st.sampled_from(["", "", "/", "*", "/*"] if whole else ["*", "/*", "/+x", "/", "/+/*"]))
    if end == "*" and parts[-1] != "+":
        parts[-1] = parts[-1][: draw(st.integers(0, len(parts[-1])))]
    path = "/".join(parts) + ("/*" if end == "*" and parts[-1] == "+" else end)
    return path.replace("+*", "*")


@st.composite
def asked_paths(draw: st.DrawFn, base: list[str]) -> str:
    parts = base[: draw(st.integers(1, len(base)))]
    if draw(st.booleans()):
        parts = [*base, *draw(st.lists(st.sampled_from(["a", "c", ""]), max_size=2))]
    return "/".join(parts) + draw(st.sampled_from(["", "/"]))


@dataclass(frozen=True)
class Written:
    """One `path` block before it is HCL."""

    path: str
    capabilities: Sequence[str]
    keys: Mapping[str, Any] = field(default_factory=dict)

    def hcl(self) -> str:
        lines = [f"  capabilities = {json.dumps(list(self.capabilities))}"]
        for key, value in self.keys.items():
            if isinstance(value, dict):
                inner = "".join(f"    {json.dumps(k)} = {json.dumps(v)}\n" for k, v in value.items())
                lines.append(f"  {key} = {{\n{inner}  }}")
            else:
                lines.append(f"  {key} = {json.dumps(value)}")
        return f"path {json.dumps(self.path, ensure_ascii=False)} {{\n" + "\n".join(lines) + "\n}\n"


@st.composite
def plain_cases(draw: st.DrawFn) -> tuple[list[list[Written]], list[str]]:
    """Policies whose rules compete for a few paths, and those paths."""
    base = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
    rules = draw(
        st.lists(st.builds(Written, rule_paths(base), st.sampled_from(GRANTS)), min_size=3, max_size=9)
    )
    cuts = draw(st.integers(1, MOST_POLICIES))
    paths = draw(st.lists(asked_paths(base), min_size=3, max_size=8, unique=True))
    return [rules[start::cuts] for start in range(cuts)], ["/".join(base), "/".join(base) + "/", *paths]


# What policies list and what requests bring, by theme: so that they meet.
THEMES: list[tuple[list[Any], list[Any]]] = [
    (["x", "y", "x*", "*y", "*x*", "*", ""], ["x", "y", "xy", "yx", "zxz", "", "*"]),
    (
        ["x", "y", "x,y", ["x"], ["x", "y"], ["x*"], []],
        ["x,y", "x, y", "z,x", ["x"], ["x", "y"], ["y", "z"], [], ""],
    ),
    ([1, 1.5, True, "1", [1], [True]], [1, 1.5, True, False, "1", [1], [True], None, {"k": "x"}]),
]
QUERY_VALUES = ["x", "y", "xy", "x,y", "", "1", "true", ("x", "y")]
BOUNDS = [
    {"min_wrapping_ttl": 60},
    {"min_wrapping_ttl": "2m"},
    {"max_wrapping_ttl": "2m"},
    {"max_wrapping_ttl": 300},
    {"min_wrapping_ttl": "1m", "max_wrapping_ttl": "5m"},
    {"min_wrapping_ttl": "1m", "max_wrapping_ttl": "1m"},
]
ALL = ["create", "read", "update", "patch", "delete", "list"]
grants = st.sampled_from(
    [ALL, ALL, ALL, ALL, ALL, ALL, ["create", "patch"], ["update", "list"], ["read"], ["deny"]]
)
kv_paths = st.sampled_from([*[f"{KV}/k"] * 8, f"{KV}/+", f"{KV}/*"])
writes = st.sampled_from(["create", "update", "patch"])


@st.composite
def constraints(draw: st.DrawFn, values: list[Any]) -> dict[str, Any]:
    lists = st.dictionaries(
        st.sampled_from(["A", "A", "b", "*"]),
        st.lists(st.sampled_from(values), max_size=2),
        min_size=1,
        max_size=2,
    )
    kind = draw(st.sampled_from(["allowed", "allowed", "denied", "required"]))
    if kind == "required":
        names = st.lists(st.sampled_from(["a", "A", "b"]), min_size=1, max_size=2, unique=True)
        return {"required_parameters": draw(names)}
    return {f"{kind}_parameters": draw(lists)}


@st.composite
def kv_cases(draw: st.DrawFn) -> tuple[list[list[Written]], list[Request]]:
    """Policies whose rules for one entry merge, and requests for that entry."""
    path = st.just(f"{KV}/k")
    if draw(st.integers(0, 3)) == 0:
        keys = st.sampled_from(BOUNDS)
        wraps = st.sampled_from([None, 30, 60, 90, 120, 300, 600])
        operations = st.sampled_from(["read", "update", "delete", "list"])
        request = st.builds(Request, operations, path, st.just({}), wraps)
    else:
        listed, brought = draw(st.sampled_from(THEMES))
        keys = constraints(listed)
        names = st.sampled_from(["a", "a", "a", "b", "A"])
        bodies = st.dictionaries(names, st.sampled_from(brought), min_size=1, max_size=2)
        queries = st.dictionaries(names, st.sampled_from(QUERY_VALUES), max_size=2)
        request = st.one_of(
            st.builds(Request, writes, path, bodies),
            st.builds(Request, writes, path, bodies),
            st.builds(Request, st.just("read"), path, queries),
            st.builds(Request, st.sampled_from(["delete", "list", "update"]), path),
        )
    rules = draw(st.lists(st.builds(Written, kv_paths, grants, keys), min_size=1, max_size=4))
    cuts = draw(st.integers(1, min(MOST_POLICIES, len(rules))))
    requests = draw(st.lists(request, min_size=4, max_size=6))
    return [rules[start::cuts] for start in range(cuts)], requests


# -- the server that is asked -------------------------------------------------------------------------------------


class Asked:
    """A real server, with one token per number of policies: what the policies say is changed under it."""

    def __init__(self, server: RealServer, kind: Server) -> None:
        self.kind = kind
        self.http: httpx.Client = server.client()
        self.http.headers["X-Vault-Token"] = server.root_token
        self.call("POST", f"sys/mounts/{KV}", {"type": "kv", "options": {"version": "1"}})
        self.tokens = {
            size: self.call(
                "POST",
                "auth/token/create",
                {"policies": self.names(size), "no_default_policy": True, "no_parent": True, "ttl": "1h"},
            ).json()["auth"]["client_token"]
            for size in range(1, MOST_POLICIES + 1)
        }

    @staticmethod
    def names(size: int) -> list[str]:
        return [f"differential-{index}" for index in range(size)]

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        answer = self.http.request(method, f"/v1/{path}", json=body, **more)
        assert answer.status_code < 400, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def hold(self, written: Sequence[Sequence[Written]]) -> list[Policy]:
        """Give the server the policies; the same texts as we read them."""
        policies = []
        for name, rules in zip(self.names(len(written)), written, strict=True):
            text = "".join(rule.hcl() for rule in rules)
            policies.append(parse_policy(text, name=name, file=f"{name}.hcl"))
            self.call("PUT", f"sys/policies/acl/{name}", {"policy": text})
        return policies

    def capabilities(self, size: int, paths: Sequence[str]) -> dict[str, list[str]]:
        answer = self.call("POST", "sys/capabilities", {"token": self.tokens[size], "paths": list(paths)})
        data: dict[str, Any] = answer.json()["data"]
        return {path: data[path] for path in paths}

    def allows(self, size: int, request: Request) -> bool:
        """Whether the server lets this pass its access check, with the entry there or not as the operation needs."""
        if request.operation in {"create", "update"}:
            exists = request.operation == "update"
            self.call("PUT" if exists else "DELETE", f"{KV}/k", {"v": "1"} if exists else None)
        method = {"create": "PUT", "update": "PUT", "read": "GET"}.get(
            request.operation, request.operation.upper()
        )
        headers = {"X-Vault-Token": self.tokens[size]}
        if request.wrap_ttl is not None:
            headers["X-Vault-Wrap-TTL"] = f"{request.wrap_ttl}s"
        sent: dict[str, Any] = {}
        if method == "GET":
            sent["params"] = request.data
        elif method in {"PUT", "PATCH"}:
            sent["json"] = request.data
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        return self.http.request(method, f"/v1/{request.path}", headers=headers, **sent).status_code != 403


@pytest.fixture(scope="module", params=["openbao", "vault"])
def asked(request: pytest.FixtureRequest) -> Iterator[Asked]:
    server = Asked(request.getfixturevalue(request.param), Server(request.param))
    yield server
    server.http.close()


@pytest.mark.timeout(1200)
def test_capabilities_are_those_the_servers_report(asked: Asked) -> None:
    @tried(SETS)
    @given(plain_cases())
    def agree(case: tuple[list[list[Written]], list[str]]) -> None:
        written, paths = case
        policies = asked.hold(written)
        acl = Acl(policies, asked.kind)
        ours = {path: acl.capabilities(path) for path in paths}
        assert ours == asked.capabilities(len(written), paths)
        event(f"granted: {any(found != ['deny'] for found in ours.values())}")

    agree()


@pytest.mark.timeout(1200)
def test_requests_pass_or_are_refused_as_at_the_servers(asked: Asked) -> None:
    @tried(SETS // 2)
    @given(kv_cases())
    def agree(case: tuple[list[list[Written]], list[Request]]) -> None:
        written, requests = case
        policies = asked.hold(written)
        acl = Acl(policies, asked.kind)
        for request in requests:
            decision = acl.decide(request)
            assert decision.allowed == asked.allows(len(written), request), (request, decision.reason)
            event(f"allowed: {decision.allowed}")

    agree()
