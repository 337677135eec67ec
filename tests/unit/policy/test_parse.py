"""A policy is read strictly: what is not understood is an error with file and line, and the lines are right."""

from __future__ import annotations

import pytest

from aikeys.policy.hcl import PolicyError
from aikeys.policy.parse import Server, parse_policy


def test_rules_have_their_lines_and_everything_that_was_written() -> None:
    text = """# A comment.
path "secret/data/{{identity.entity.metadata.team}}/*" {
  comment      = "kept for readers"
  capabilities = ["read",
    "create"]
  allowed_parameters = {
    "TTL" = ["1h", "2*", true, 1, 1.5, ["a"]]
    any   = []
  }
  denied_parameters   = { "x" = [] }
  required_parameters = ["ttl"]
  min_wrapping_ttl    = 90
  max_wrapping_ttl    = "1h30m"
}

/* two
lines */
path "/b" { policy = "write" } // the old form
"""
    first, second = parse_policy(text, name="p", file="p.hcl").rules
    assert (first.line, first.path) == (2, "secret/data/{{identity.entity.metadata.team}}/*")
    assert first.capabilities == {"read", "create"}
    assert first.allowed == {"ttl": ("1h", "2*", True, 1, 1.5, ["a"]), "any": ()}
    assert (first.denied, first.required) == ({"x": ()}, ("ttl",))
    assert (first.min_wrapping_ttl, first.max_wrapping_ttl) == (90, 5400)
    assert first.templates == ("identity.entity.metadata.team",)
    assert (second.where, second.path) == ("p.hcl:18", "b")
    assert second.capabilities == {"create", "read", "update", "delete", "list"}


def test_deny_leaves_nothing_else() -> None:
    (rule,) = parse_policy(
        'path "a" {\n capabilities = ["read", "deny"]\n allowed_parameters = { "a" = [] }\n min_wrapping_ttl = 5\n}',
        name="p",
        file="p.hcl",
    ).rules
    assert rule.capabilities == {"deny"}
    assert (len(rule.allowed), rule.min_wrapping_ttl) == (0, 0)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("elemetry {}", 1, 'unknown block "elemetry"'),
        ('\npath = "x"', 2, 'unknown key "path"'),
        ('path "a" {\n  capabilitis = ["read"]\n}', 2, 'unknown key "capabilitis"'),
        ('path "a" {\n  rules {\n  }\n}', 2, 'unknown key "rules"'),
        ('path "a" {\n\n  capabilities = ["raed"]\n}', 3, 'unknown capability "raed"'),
        ('path "a" {\n  capabilities = ["scan"]\n}', 2, 'unknown capability "scan"'),
        ('path "a" {\n  pagination_limit = 5\n}', 2, "is not in the syntax that OpenBao and Vault share"),
        ('path "a" {\n  control_group {\n  }\n}', 2, "is not in the syntax that OpenBao and Vault share"),
        ('path "a" {\n  capabilities = "read"\n}', 2, "capabilities is a list of texts"),
        ('path "a" {\n  capabilities = [1]\n}', 2, "capabilities is a list of texts"),
        ('path "a" {\n  policy = "all"\n}', 2, "policy is one of"),
        ('path "a" {\n  allowed_parameters = ["x"]\n}', 2, "is a map of lists"),
        ('path "a" {\n  allowed_parameters {\n  }\n}', 2, "write allowed_parameters = ..."),
        ('path "a" {\n  denied_parameters = { "x" = "y" }\n}', 2, '"x" is a list of values'),
        ('path "a" {\n  denied_parameters = { "x" = [], "X" = [] }\n}', 2, '"X" stands there twice'),
        ('path "a" {\n  denied_parameters = { "x" = [], "x" = [] }\n}', 2, '"x" stands there twice'),
        ('path "a" {\n  denied_parameters = { "x": [] }\n}', 2, "write `key = value`"),
        ('path "a" {\n  capabilities = []\n  capabilities = []\n}', 3, 'stands already in line 2'),
        ('path "a" {\n  max_wrapping_ttl = "1.5h"\n}', 2, "whole seconds"),
        ('path "a" {\n  max_wrapping_ttl = -1\n}', 2, "whole seconds"),
        ('path "a" {\n  max_wrapping_ttl = true\n}', 2, "whole seconds"),
        ('path "a" {\n  min_wrapping_ttl = 9\n  max_wrapping_ttl = 8\n}', 3, "cannot be less than"),
        ('path "a/+*" {\n}', 1, '"+*" is refused'),
        ('path "a/{{x" {\n}', 1, "unbalanced templating characters"),
        ('path "a/{{x{{y}}" {\n}', 1, "unbalanced templating characters"),
        ('path {\n}', 1, "a path block has one path"),
        ('path "a" "b" {\n}', 1, "a path block has one path"),
        ('path "a" {\n  capabilities = ["${read}"]\n}', 2, "interpolation"),
        ('path "a" {\n  capabilities = read\n}', 2, "only literal texts"),
        ('path "a" {\n  comment = null\n}', 2, "only literal texts"),
        ('path "a" {\n  comment = ("x")\n}', 2, "parentheses"),
        ('path "a" {\n  comment = "x\ny"\n}', 2, "must end on the line"),
        ('path "a" {\n  capabilities = [\n}\n', 3, "this is not HCL"),
        ('path "a" {\n', 2, "this is not HCL: it ends"),
        ('{"path": {"a": {"capabilites": ["read"]}}}', 1, 'unknown key "capabilites"'),
        ('{"path": ', 1, "this is not JSON"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_an_error_with_file_and_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, name="p", file="policies/p.hcl")
    assert str(caught.value).startswith(f"policies/p.hcl:{line}: ")
    assert problem in str(caught.value)


def test_a_live_policy_may_have_what_its_own_server_knows_and_says_what_is_not_judged() -> None:
    text = 'path "a/*" {\n capabilities = ["list", "scan"]\n pagination_limit = 5\n}'
    (rule,) = parse_policy(text, name="p", file="live:p", server=Server.OPENBAO).rules
    assert rule.capabilities == {"list", "scan"}
    assert rule.unjudged == ("pagination_limit",)
    with pytest.raises(PolicyError):
        parse_policy(text, name="p", file="live:p", server=Server.VAULT)


def test_the_form_that_terraform_writes_is_read_too() -> None:
    text = '{"path": {"a/*": {"capabilities": ["read"]}, "b": {"capabilities": ["deny"]}}}'
    rules = parse_policy(text, name="p", file="p").rules
    assert [(rule.path, set(rule.capabilities)) for rule in rules] == [("a/*", {"read"}), ("b", {"deny"})]


def test_two_policies_say_the_same_in_another_order_and_layout() -> None:
    one = parse_policy('path "a" { capabilities = ["read", "list"] }\npath "b" {}', name="p", file="1")
    other = parse_policy(
        '# x\npath "b" {}\npath "a" {\n capabilities = ["list", "read"]\n}', name="p", file="2"
    )
    third = parse_policy('path "a" { capabilities = ["read"] }\npath "b" {}', name="p", file="3")
    assert one.says_the_same(other)
    assert not one.says_the_same(third)
