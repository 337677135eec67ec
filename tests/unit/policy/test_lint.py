"""What `aikeys policy check` finds, each with the rule that has it, and nothing in what is right."""

from __future__ import annotations

import pytest

from aikeys.policy.lint import lint

from .conftest import FolderOf


def codes(folder_of: FolderOf, text: str, **options: object) -> set[str]:
    return {finding.code for finding in lint(folder_of(p=text), **options)}  # type: ignore[arg-type]


def rule(path: str, *capabilities: str, more: str = "") -> str:
    listed = ", ".join(f'"{capability}"' for capability in capabilities)
    return f'path "{path}" {{\n  capabilities = [{listed}]\n{more}\n}}\n'


@pytest.mark.parametrize(
    "text",
    [
        rule("ai-keys/creds/demo", "read") + rule("ai-keys/creds/*", "deny"),
        rule("a/+/c", "read") + rule("a/b/*", "update") + rule("a/b", "read"),
        rule("ai-keys/roles/", "list") + rule("ai-keys/roles/+", "read", "delete"),
        rule("secret/data/app/*", "read") + rule("secret/metadata/app/*", "list", "read"),
        rule("secret/*", "read", "list"),
        rule("sys/leases/revoke-prefix/ai-keys/*", "update", "sudo"),
        rule("auth/token/create", "update"),
        rule("auth/approle/role/app/secret-id", "update"),
        rule("auth/approle/role/+/role-id", "read"),
        rule("auth/approle/role/app/secret-id", "update") + rule("auth/approle/role/other/role-id", "read"),
        rule("sys/*", "read") + rule("sys/raw/*", "deny") + rule("sys/storage/*", "deny"),
        rule("ai-keys/creds/{{identity.entity.metadata.team}}/*", "read"),
        rule("ai-keys/creds/{{identity.entity.metadata.team}}", "read"),
    ],
)
def test_nothing_is_found_in_what_is_right(folder_of: FolderOf, text: str) -> None:
    assert lint(folder_of(p=text)) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (rule("a/*", "read") + rule("a/+/*", "update"), "unreachable"),
        (rule("a/+/*", "read") + rule("a/+/+/*", "update"), "unreachable"),
        (rule("ai-keys/roles", "list"), "list-slash"),
        (rule("ai-keys/roles/+", "read", "list"), "list-slash"),
        (rule("secret/app", "read"), "kv2-path"),
        (rule("secret/+/app", "read") + rule("secret/app/*", "read"), "kv2-path"),
        (rule("secret/data/*", "read", "list"), "kv2-path"),
        (rule("ai-keys/*/demo", "read"), "literal-wildcard"),
        (rule("ai-keys/team-+/demo", "read"), "literal-wildcard"),
        (rule("ai-keys/creds/{{identity.entity.metadata.team}}-*", "read"), "open-template"),
        (rule("ai-keys/creds/{{identity.entity.metadata.team}}*", "read"), "open-template"),
        (rule("a"), "no-effect"),
        (rule("a/", "read"), "no-effect"),
        (rule("a/", "list", more='allowed_parameters = { "x" = [] }'), "no-effect"),
        (rule("a", "update", more='allowed_parameters = { "ttl" = [60] }'), "no-effect"),
        (rule("a", "update", more='denied_parameters = { "ttl" = [["x", 60]] }'), "no-effect"),
        (rule("sys/leases/revoke-prefix/ai-keys/*", "update"), "no-effect"),
        (rule("sys/policies/acl/app", "update"), "escalation"),
        (rule("sys/policies/acl/{{identity.entity.name}}", "create"), "escalation"),
        (rule("*", "read", "update"), "escalation"),
        (rule("auth/*", "update"), "escalation"),
        (rule("auth/token/create", "update", "sudo"), "escalation"),
        (rule("auth/token/create/app", "update"), "escalation"),
        (rule("auth/token/create-orphan", "update"), "escalation"),
        (rule("auth/approle/role/+", "create"), "escalation"),
        (rule("auth/approle/role/app/token-policies", "update"), "escalation"),
        (rule("auth/userpass/users/me", "update"), "escalation"),
        (rule("auth/kubernetes/config", "update"), "escalation"),
        (rule("identity/entity/name/+", "update"), "escalation"),
        (rule("identity/group", "update"), "escalation"),
        (rule("sys/auth/+", "create", "sudo"), "escalation"),
        (rule("sys/remount", "update", "sudo"), "escalation"),
        (rule("sys/plugins/catalog/*", "update", "sudo"), "escalation"),
        (rule("sys/raw/*", "read", "sudo"), "escalation"),
        (rule("sys/storage/raft/snapshot", "read"), "escalation"),
        (rule("sys/audit/+", "delete", "sudo"), "escalation"),
        (
            rule("auth/approle/role/+/secret-id", "update") + rule("auth/approle/role/+/role-id", "read"),
            "escalation",
        ),
        (
            rule("auth/approle/role/+/secret-id", "update") + rule("auth/approle/role/a/role-id", "read"),
            "escalation",
        ),
        (
            rule("auth/approle/role/a/secret-id", "update") + rule("auth/approle/role/+/role-id", "read"),
            "escalation",
        ),
        (
            rule("auth/approle/role/a/custom-secret-id", "update") + rule("auth/+/role/a/role-id", "read"),
            "escalation",
        ),
    ],
)
def test_what_is_wrong_is_found(folder_of: FolderOf, text: str, code: str) -> None:
    assert code in codes(folder_of, text)


def test_sudo_protected_paths_are_no_escalation_without_sudo(folder_of: FolderOf) -> None:
    assert "escalation" not in codes(folder_of, rule("sys/remount", "update"))


def test_an_unreachable_rule_names_what_goes_before_it_and_its_line(folder_of: FolderOf) -> None:
    (finding,) = lint(folder_of(p=rule("a/*", "read") + rule("a/+/*", "update")))
    assert str(finding) == 'p.hcl:5: unreachable: "a/+/*" never decides: "a/*" (p.hcl:1) goes before it'


def test_rules_can_hide_each_other_only_together(folder_of: FolderOf) -> None:
    folder = folder_of(
        one=rule("a/*", "read"), two=rule("a/+/*", "update"), approles={"both": ["one", "two"]}
    )
    (finding,) = lint(folder)
    assert (finding.code, finding.file) == ("unreachable", "two.hcl")
    assert 'with the policies of approle "both"' in finding.text


def test_two_harmless_policies_can_escalate_together(folder_of: FolderOf) -> None:
    folder = folder_of(
        ids=rule("auth/approle/role/app/role-id", "read"),
        secrets=rule("auth/approle/role/app/secret-id", "update"),
        approles={"both": ["ids", "secrets"]},
    )
    (finding,) = lint(folder)
    assert (finding.code, finding.file, finding.line) == ("escalation", "approles/both.hcl", 3)


def test_what_one_policy_does_alone_is_found_once(folder_of: FolderOf) -> None:
    folder = folder_of(
        one=rule("a/*", "read") + rule("a/+/*", "update"),
        two=rule("b", "read") + rule("sys/policies/acl/+", "update"),
        approles={"both": ["one", "two"]},
    )
    assert [(finding.file, finding.code) for finding in lint(folder)] == [
        ("one.hcl", "unreachable"),
        ("two.hcl", "escalation"),
    ]


def test_what_two_policies_do_together_is_not_hidden_by_another_finding_of_the_same_line(
    folder_of: FolderOf,
) -> None:
    folder = folder_of(
        alone=rule("auth/approle/role/a/role-id", "read")
        + rule("auth/approle/role/a/secret-id", "update")
        + rule("auth/approle/role/b/role-id", "read"),
        other=rule("c", "read") + rule("auth/approle/role/b/secret-id", "update"),
        approles={"both": ["alone", "other"]},
    )
    assert [(finding.file, finding.code) for finding in lint(folder)] == [
        ("alone.hcl", "escalation"),
        ("approles/both.hcl", "escalation"),
    ]


def test_a_grant_that_no_role_has_is_found(folder_of: FolderOf) -> None:
    folder = folder_of(held=rule("a", "read"), loose=rule("b", "read"), approles={"app": ["held"]})
    (finding,) = lint(folder)
    assert (finding.code, finding.file) == ("unheld-policy", "loose.hcl")


def test_a_policy_that_an_approle_names_must_exist(folder_of: FolderOf) -> None:
    (finding,) = lint(folder_of(a=rule("a", "read"), approles={"app": ["a", "b", "default"]}))
    assert (finding.code, finding.text) == ("unknown-policy", 'there is no policy "b" here')


def test_a_grant_of_a_role_that_the_engine_has_not_is_found(folder_of: FolderOf) -> None:
    text = rule("keys/creds/demo", "read") + rule("keys/creds/gone", "read") + rule("keys/creds/+", "deny")
    (finding,) = lint(folder_of(p=text), mount="keys/", engine_roles=["demo"])
    assert (finding.code, finding.line) == ("unknown-role", 5)


def test_a_comment_with_a_reason_allows_one_finding_at_one_rule(folder_of: FolderOf) -> None:
    reason = "# allow escalation: the pipeline writes policies, reviewed before\n"
    text = reason + "# and this is why.\n" + rule("sys/policies/acl/app", "update")
    assert lint(folder_of(p=text)) == []
    assert codes(folder_of, text + rule("sys/policies/acl/other", "update")) == {"escalation"}
    assert codes(folder_of, "# allow escalation:\n" + rule("sys/policies/acl/app", "update")) == {
        "escalation"
    }
    assert codes(folder_of, "# allow no-effect: x\n" + rule("sys/policies/acl/app", "update")) == {
        "escalation"
    }
