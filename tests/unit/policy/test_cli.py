"""`aikeys policy` at the command line: status, one sentence for what is wrong, and no server where none is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aikeys.cli import COMMANDS, make_app
from aikeys.cli.policy import policy
from aikeys.policy.folder import default_folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(policy, list(arguments))


def said(result: Result) -> str:
    """Without the frame that wrong arguments are shown in."""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", result.output + result.stderr)


def test_the_commands_are_in_the_application() -> None:
    shown = CliRunner().invoke(make_app(COMMANDS), ["policy", "--help"])
    assert shown.exit_code == 0
    for command in ("check", "who-can", "explain", "diff"):
        assert command in shown.output
    assert CliRunner().invoke(make_app(["provision"]), ["provision", "--help"]).exit_code == 0


def test_check_takes_files_or_a_folder_and_ends_with_1_when_it_finds_something(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.hcl", tmp_path / "wrong.hcl"
    right.write_text('path "a" { capabilities = ["read"] }\n')
    wrong.write_text('path "secret/app" { capabilities = ["read"] }\n')
    assert run("check", str(right)).exit_code == 0
    found = run("check", str(right), str(wrong))
    assert found.exit_code == 1
    assert f"{wrong}:1: kv2-path:" in found.output
    assert run("check", str(wrong), "--kv2", "other").exit_code == 0
    assert f"{tmp_path.name}/wrong.hcl:1: kv2-path:" in run("check", str(tmp_path)).output


def test_check_says_in_one_sentence_what_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.hcl"
    file.write_text('path "a" {\n  capabilitis = []\n}\n')
    found = run("check", str(file))
    assert found.exit_code == 1
    assert found.stderr.startswith(f'aikeys policy check: {file}:2: unknown key "capabilitis"')


def test_check_finds_grants_of_roles_that_the_engine_has_not() -> None:
    assert run("check", "--role", "analytics", "--role", "customer-service").exit_code == 0
    found = run("check", "--role", "analytics")
    assert found.exit_code == 1
    assert "customer-service.hcl:2: unknown-role" in found.output


def test_who_can_ends_with_1_when_nobody_may() -> None:
    assert run("who-can", "ai-keys/config", "update").exit_code == 0
    nobody = run("who-can", "sys/policies/acl/x", "update")
    assert (nobody.exit_code, nobody.output) == (1, "nobody\n")


def test_explain_shows_the_rules_that_lost(tmp_path: Path) -> None:
    (tmp_path / "p.hcl").write_text(
        'path "a/*" { capabilities = ["read"] }\npath "a/+" { capabilities = ["update"] }\n'
    )
    shown = run("explain", "a/b", "read", "--policy", "p", "--policies", str(tmp_path))
    assert shown.exit_code == 1
    assert shown.output.splitlines()[1:] == [
        f'  decided by path "a/+" of p ({tmp_path.name}/p.hcl:2): update',
        f'  matches too, but lost: path "a/*" of p ({tmp_path.name}/p.hcl:1)',
    ]


@pytest.mark.parametrize(("server", "status"), [("openbao", 0), ("vault", 1)])
def test_explain_judges_by_the_server_that_is_named(tmp_path: Path, server: str, status: int) -> None:
    (tmp_path / "p.hcl").write_text(
        'path "a*" { capabilities = ["read"] }\npath "a/*" { capabilities = ["list"] }\n'
    )
    shown = run("explain", "a", "list", "--policy", "p", "--policies", str(tmp_path), "--server", server)
    assert shown.exit_code == status


def test_explain_takes_parameters_as_json_and_a_wrapping_ttl() -> None:
    role = "auth/approle/role/analytics/secret-id"
    held = ("explain", role, "update", "--policy", "rotation-bot")
    assert run(*held).exit_code == 1
    assert run(*held, "--wrap-ttl", "5m").exit_code == 0
    assert run(*held, "--wrap-ttl", "5m", "--data", 'metadata={"a": "b"}').exit_code == 0
    assert run(*held, "--wrap-ttl", "5m", "--data", "num_uses=0").exit_code == 1


def test_explain_takes_the_entity_s_metadata_over_the_file_s() -> None:
    asked = ("explain", "ai-keys/creds/ads.chat", "read", "--approle", "ml-engineer")
    assert run(*asked).exit_code == 1
    assert run(*asked, "--metadata", "team=ads").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["who-can", "a", "write"], '"write" is no operation'),
        (["explain", "a", "read"], "say who asks"),
        (["explain", "a", "read", "--self", "--policy", "x"], "say who asks"),
        (["explain", "a", "read", "--policy", "nobody"], 'there is no policy "nobody": there are analytics'),
        (["explain", "a", "read", "--approle", "nobody"], 'there is no AppRole "nobody"'),
        (["explain", "a", "read", "--policy", "auditor", "--data", "ttl"], '"ttl" is not KEY=VALUE'),
        (["explain", "a", "read", "--policy", "auditor", "--wrap-ttl", "soon"], "--wrap-ttl: "),
    ],
)
def test_wrong_arguments_say_what_is_right(arguments: list[str], problem: str) -> None:
    shown = run(*arguments)
    assert shown.exit_code == 2
    assert problem in said(shown)


def test_no_server_is_asked_without_being_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BAO_ADDR", "VAULT_ADDR", "BAO_TOKEN", "VAULT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    shown = run("diff", "--policies", str(default_folder()))
    assert shown.exit_code == 1
    assert "set VAULT_ADDR and VAULT_TOKEN" in shown.stderr
