"""An AppRole file is held to its schema: nothing unknown, nothing that bounds a login left to a default."""

from __future__ import annotations

import re

import pytest

from aikeys.policy.approles import DEFAULTS, KEYS, parse_approle
from aikeys.policy.folder import Folder
from aikeys.policy.hcl import PolicyError
from aikeys.policy.lint import lint

GOOD = """# An app.
approle "app" {
  token_policies = ["app", "more"]
  token_ttl = "20m"
  token_max_ttl = 3600
  secret_id_ttl = "1d"
  secret_id_num_uses = 3
  secret_id_bound_cidrs = ["10.0.0.0/8"]
  token_bound_cidrs = ["10.1.0.0/16", "10.2.0.1"]
  entity {
    metadata = {
      team = "search"
    }
  }
}
"""


def test_every_setting_has_a_value_and_durations_are_seconds() -> None:
    role = parse_approle(GOOD, file="approles/app.hcl")
    assert (role.name, role.line, role.policies) == ("app", 2, ("app", "more"))
    assert set(role.settings) == set(DEFAULTS) == set(KEYS)
    assert [role.settings[key] for key in ("token_ttl", "token_max_ttl", "secret_id_ttl")] == [
        1200,
        3600,
        86400,
    ]
    assert role.settings["token_bound_cidrs"] == ["10.1.0.0/16", "10.2.0.1/32"]
    assert (role.settings["bind_secret_id"], role.settings["token_type"]) == (True, "default")
    assert role.metadata == {"team": "search"}


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("token_ttl = ", "token_tll = ", 4, 'unknown key "token_tll"'),
        ('  token_ttl = "20m"\n', "", 2, '"token_ttl" is missing'),
        ("  token_max_ttl = 3600\n", "", 2, 'one of "token_max_ttl" and "token_period" is missing'),
        ('  secret_id_ttl = "1d"\n', "", 2, '"secret_id_ttl" is missing'),
        ("  secret_id_num_uses = 3\n", "", 2, '"secret_id_num_uses" is missing'),
        ('  secret_id_bound_cidrs = ["10.0.0.0/8"]\n', "", 2, '"secret_id_bound_cidrs" is missing'),
        ('["app", "more"]', "[]", 3, "token_policies is empty"),
        ('["app", "more"]', '"app"', 3, "token_policies is a list of texts"),
        ('["app", "more"]', '["app", "app"]', 3, "names one thing twice"),
        ('"20m"', '"soon"', 4, "token_ttl is a duration"),
        ('"20m"', "0", 4, "token_ttl is a duration of a second or more"),
        ('"20m"', '"2h"', 4, "token_ttl is longer than token_max_ttl"),
        ("num_uses = 3", "num_uses = -1", 7, "secret_id_num_uses is a whole number"),
        ("num_uses = 3", "num_uses = true", 7, "secret_id_num_uses is a whole number"),
        ('"10.0.0.0/8"', '"10.0.0.1/8"', 8, "has host bits set"),
        ('"10.0.0.0/8"', '"home"', 8, "secret_id_bound_cidrs"),
        ('approle "app"', 'approle "App"', 2, "an approle has one name"),
        ('approle "app"', "approle", 2, "an approle has one name"),
        ('approle "app"', 'aprole "app"', 2, "exactly one block"),
        ("# An app.", "x = 1", 1, 'unknown key "x"'),
        ("  entity {", "  entities {", 10, "the one block here is"),
        ("metadata = {", "metdata = {", 10, "the one block here is"),
        ('"search"', '"a/b"', 11, 'without "/"'),
        ('"search"', '""', 11, 'metadata "team" is a text'),
        ("token_ttl =", 'token_type = "weekly"\n  token_ttl =', 4, "token_type is one of"),
        ("token_ttl =", 'token_type = "batch"\n  token_num_uses = 2\n  token_ttl =', 5, "a batch token has no"),
    ],
)  # fmt: skip
def test_what_is_wrong_says_where_and_what_is_allowed(old: str, new: str, line: int, problem: str) -> None:
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    with pytest.raises(PolicyError, match=re.escape(problem)) as caught:
        parse_approle(text, file="approles/app.hcl")
    assert (caught.value.file, caught.value.line) == ("approles/app.hcl", line)


def test_there_is_one_approle_in_a_file() -> None:
    with pytest.raises(PolicyError, match="exactly one block"):
        parse_approle(GOOD + GOOD, file="x")
    with pytest.raises(PolicyError, match="exactly one block"):
        parse_approle("# nothing\n", file="x")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("num_uses = 3", "num_uses = 0", 7),
        ('secret_id_bound_cidrs = ["10.0.0.0/8"]', 'secret_id_bound_cidrs = ["0.0.0.0/0"]', 8),
        ("token_ttl =", "bind_secret_id = false\n  token_ttl =", 4),
    ],
)
def test_a_login_that_is_hardly_bound_is_found(old: str, new: str, line: int) -> None:
    text = GOOD.replace(old, new, 1).replace('"1d"', '"2d"')
    found = lint(Folder((), (parse_approle(text, file="x"),)))
    assert [finding.line for finding in found if finding.code == "loose-approle"] == [line]
