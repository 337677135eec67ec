"""What differs between files and a live Vault, and whose it is."""

from __future__ import annotations

from aikeys.policy.diff import MANAGED, MARK, Action, Live, LiveAppRole, compare
from aikeys.policy.folder import Folder
from aikeys.policy.parse import Server

from .conftest import FolderOf

TEXT = 'path "a" { capabilities = ["read"] }\n'
OURS = {MANAGED[0]: MANAGED[1]}


def actions(
    folder: Folder, policies: dict[str, str], approles: dict[str, LiveAppRole] | None = None, **options: bool
) -> dict[str, Action]:
    live = Live(Server.VAULT, policies, approles or {}, approle_enabled=True)
    return {f"{change.kind} {change.name}": change.action for change in compare(folder, live, **options)}


def test_a_policy_is_created_unchanged_updated_or_somebody_elses(folder_of: FolderOf) -> None:
    folder = folder_of(a=TEXT)
    other = 'path "a" { capabilities = ["update"] }'
    assert actions(folder, {}) == {"policy a": Action.CREATE}
    assert actions(folder, {"a": MARK + TEXT}) == {"policy a": Action.UNCHANGED}
    assert actions(folder, {"a": MARK + other}) == {"policy a": Action.UPDATE}
    assert actions(folder, {"a": MARK + "# older\n" + TEXT}) == {"policy a": Action.UPDATE}
    assert actions(folder, {"a": "# by terraform\n" + TEXT}) == {"policy a": Action.UNCHANGED}
    assert actions(folder, {"a": other}) == {"policy a": Action.CONFLICT}
    assert actions(folder, {"a": other}, adopt=True) == {"policy a": Action.UPDATE}


def test_a_live_policy_that_cannot_be_read_is_a_difference_that_says_so(folder_of: FolderOf) -> None:
    live = Live(Server.VAULT, {"a": "path {"}, {})
    (change,) = compare(folder_of(a=TEXT), live)
    assert change.action is Action.CONFLICT
    assert change.details[0].startswith("cannot be compared: live:a:1:")


def test_an_approle_is_compared_setting_by_setting(folder_of: FolderOf) -> None:
    folder = folder_of(approles={"app": ["a"]})
    settings = dict(folder.approles[0].settings)
    same = LiveAppRole({**settings, "local_secret_ids": False}, OURS)
    assert actions(folder, {}, {"app": same}) == {"approle app": Action.UNCHANGED}
    live = Live(
        Server.VAULT, {}, {"app": LiveAppRole({**settings, "token_ttl": 5, "token_bound_cidrs": None}, OURS)}
    )
    (change,) = compare(folder, live)
    assert (change.action, change.details) == (
        Action.UPDATE,
        ("token_ttl: 5 → 1200", "token_bound_cidrs: None → [10.0.0.0/8]"),
    )
    assert actions(folder, {}, {"app": LiveAppRole({**settings, "token_ttl": 5})}) == {
        "approle app": Action.CONFLICT
    }


def test_addresses_and_orders_are_compared_by_what_they_mean(folder_of: FolderOf) -> None:
    folder = folder_of(approles={"app": ["a", "b"]})
    settings = {
        **folder.approles[0].settings,
        "token_policies": ["b", "a"],
        "token_bound_cidrs": ["10.0.0.0/8"],
    }
    assert actions(folder, {}, {"app": LiveAppRole(settings, OURS)}) == {"approle app": Action.UNCHANGED}


def test_only_what_is_ours_and_no_file_names_is_deleted_and_only_when_asked(folder_of: FolderOf) -> None:
    policies = {"a": MARK + TEXT, "old": MARK + TEXT, "theirs": TEXT}
    approles = {"old": LiveAppRole({}, OURS), "theirs": LiveAppRole({}, {"team": "x"})}
    assert actions(folder_of(a=TEXT), policies, approles) == {"policy a": Action.UNCHANGED}
    assert actions(folder_of(a=TEXT), policies, approles, prune=True) == {
        "policy a": Action.UNCHANGED,
        "approle old": Action.DELETE,
        "policy old": Action.DELETE,
    }


def test_the_login_method_is_enabled_only_for_approles(folder_of: FolderOf) -> None:
    off = Live(Server.VAULT, {}, {}, approle_enabled=False)
    assert [change.kind for change in compare(folder_of(a=TEXT, approles={"app": ["a"]}), off)] == [
        "policy",
        "auth",
        "approle",
    ]
    assert [change.kind for change in compare(folder_of(a=TEXT), off)] == ["policy"]
