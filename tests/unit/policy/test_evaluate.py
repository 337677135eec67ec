"""Which rule decides, by the servers' order. The real servers judge the same in tests/integration."""

from __future__ import annotations

import pytest

from aikeys.policy.evaluate import Acl, Request
from aikeys.policy.parameters import globbed
from aikeys.policy.parse import Server, parse_policy
from aikeys.policy.templating import Entity


def acl(*texts: str, server: Server = Server.VAULT, entity: Entity | None = None) -> Acl:
    policies = [parse_policy(text, name=f"p{n}", file=f"p{n}.hcl") for n, text in enumerate(texts)]
    return Acl(policies, server, entity=entity)


def rules(*paths: str) -> str:
    return "".join(f'path "{path}" {{ capabilities = ["read"] }}\n' for path in paths)


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("a/b", ["a/b", "a/+", "a/*"]),
        ("a/b/c", ["a/b/*", "a/b*", "a/+/c", "a/*", "+/b/c", "*"]),
        ("a/b/c", ["a/+/c", "a/+/*", "+/+/c"]),
        ("a/b/c", ["a/*", "a/+/*"]),
        ("a/b/cd", ["a/+/cd*", "a/+/c*", "a/+/*"]),
    ],
)
def test_the_most_specific_rule_decides_and_the_beaten_are_told_in_order(path: str, order: list[str]) -> None:
    decision = acl(rules(*reversed(order))).decide(Request("read", path))
    assert decision.decided is not None
    assert [decision.decided.path, *(merged.path for merged in decision.beaten)] == order


def test_nothing_is_inherited_from_a_rule_that_lost() -> None:
    judged = acl('path "a/*" { capabilities = ["read", "update"] }\npath "a/b" { capabilities = ["read"] }')
    assert judged.capabilities("a/b") == ["read"]
    assert judged.decide(Request("update", "a/b")).reason == "the rule grants read, not update"


def test_capabilities_of_one_path_are_united_over_policies_and_deny_ends_them() -> None:
    read, update = 'path "a" { capabilities = ["read"] }', 'path "a" { capabilities = ["update"] }'
    assert acl(read, update).capabilities("a") == ["read", "update"]
    denied = acl(read, 'path "a" { capabilities = ["deny"] }', update)
    assert denied.capabilities("a") == ["deny"]
    assert denied.decide(Request("read", "a")).reason == "the rule says deny"


def test_a_listing_among_wildcards_is_where_the_servers_differ() -> None:
    text = 'path "a*" { capabilities = ["read"] }\npath "a/*" { capabilities = ["list"] }'
    assert acl(text, server=Server.OPENBAO).decide(Request("list", "a")).allowed
    assert not acl(text, server=Server.VAULT).decide(Request("list", "a")).allowed


def test_the_root_policy_needs_no_rule() -> None:
    root = Acl([], Server.VAULT, root=True)
    assert root.capabilities("anything") == ["root"]
    assert root.decide(Request("delete", "anything")).allowed


def test_a_rule_without_a_list_is_bound_by_the_list_of_its_twin() -> None:
    free = 'path "a" { capabilities = ["update"] }'
    bound = 'path "a" {\n capabilities = ["update"]\n allowed_parameters = { "x" = [] }\n}'
    assert acl(free).decide(Request("update", "a", {"y": 1})).allowed
    refused = acl(free, bound).decide(Request("update", "a", {"y": 1}))
    assert refused.reason == 'allowed_parameters: "y" is not among them'


def test_root_protected_paths_need_sudo_beside_the_operation() -> None:
    text = 'path "sys/leases/revoke-prefix/ai-keys/*" { capabilities = ["update"%s] }'
    path = "sys/leases/revoke-prefix/ai-keys/creds"
    assert "root-protected" in acl(text % "").decide(Request("update", path)).reason
    assert acl(text % ', "sudo"').decide(Request("update", path)).allowed


@pytest.mark.parametrize("ttl", [None, 59, 901])
def test_an_answer_must_be_wrapped_within_its_bounds(ttl: int | None) -> None:
    text = 'path "a" {\n capabilities = ["read"]\n min_wrapping_ttl = "1m"\n max_wrapping_ttl = "15m"\n}'
    refused = acl(text).decide(Request("read", "a", wrap_ttl=ttl))
    assert not refused.allowed
    assert "at least 60s and at most 900s" in refused.reason
    assert acl(text).decide(Request("read", "a", wrap_ttl=60)).allowed


def test_bounds_of_two_rules_can_be_such_that_nothing_meets_them() -> None:
    low = 'path "a" {\n capabilities = ["read"]\n min_wrapping_ttl = "1h"\n}'
    high = 'path "a" {\n capabilities = ["read"]\n max_wrapping_ttl = "1m"\n}'
    assert "nothing can meet" in acl(low, high).decide(Request("read", "a", wrap_ttl=600)).reason


@pytest.mark.parametrize("server", Server)
def test_a_list_is_matched_by_element_on_vault_and_whole_on_openbao(server: Server) -> None:
    allowed = 'path "a" {\n capabilities = ["update"]\n allowed_parameters = { "x" = ["one", "two"] }\n}'
    decision = acl(allowed, server=server).decide(Request("update", "a", {"x": ["one", "two"]}))
    assert decision.allowed is (server is Server.VAULT)


def test_a_templated_rule_counts_only_for_who_has_the_value() -> None:
    text = 'path "creds/{{identity.entity.metadata.team}}.*" { capabilities = ["read"] }'
    assert acl(text, entity=Entity(metadata={"team": "ml"})).capabilities("creds/ml.chat") == ["read"]
    assert acl(text, entity=Entity(metadata={"team": "ml"})).capabilities("creds/mlops.chat") == ["deny"]
    assert acl(text, entity=Entity()).capabilities("creds/.chat") == ["deny"]
    assert acl(text).capabilities("creds/{{identity.entity.metadata.team}}.chat") == ["deny"]


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [("*", "*", True), ("*", "x", False), ("**", "x", True), ("x*", "xy", True), ("*y", "xy", True), ("x*y", "xzy", False)],
)  # fmt: skip
def test_a_star_in_a_value_stands_for_anything_at_its_ends_only(
    pattern: str, text: str, matches: bool
) -> None:
    assert globbed(pattern, text) is matches
