"""Only a positive proof allows: every other answer of the upstream refuses, asks further, or mints nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sidecar.conftest import answer

from aikeys.framework.request import Mount, Operation
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.shadow import is_marker, marker, sentinel_name, sentinel_path
from aikeys.sidecar.verdicts import Decision, Verdict, decide, decide_capabilities

PATH = "creds/demo"
UNSUPPORTED = {"errors": ["1 error occurred:\n\t* unsupported operation\n\n"]}
BARE_404: dict[str, list[str]] = {"errors": []}


def known() -> bool:
    return True


def unknown() -> bool:
    return False


def read(mount: Mount, reply: Reply, *, is_known: bool = True) -> Decision:
    return decide(Operation.READ, reply, mount=mount, relative=PATH, known=known if is_known else unknown)


def test_a_read_is_allowed_by_the_marker_of_exactly_this_path(mount: Mount) -> None:
    assert read(mount, answer(200, {"data": marker(mount, PATH)})).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"aikeys_marker": ""},
        {"aikeys_marker": None},
        {"aikeys_marker": 1},
        {"aikeys_marker": "0" * 64},
        {"aikeys_marker": "é"},
        {"other": "x"},
        "text",
        ["aikeys_marker"],
    ],
)
def test_any_other_content_only_leads_to_a_look_with_our_own_token(mount: Mount, data: Any) -> None:
    assert read(mount, answer(200, {"data": data})) == Decision(Verdict.INSPECT, PATH)


def test_a_marker_of_another_path_mount_or_key_is_none(mount: Mount) -> None:
    others = [
        marker(mount, "creds/other"),
        marker(mount, "roles/demo"),
        marker(replace(mount, uuid="another"), PATH),
        marker(replace(mount, marker_key="cd" * 32), PATH),
    ]
    assert not any(is_marker(mount, PATH, other) for other in others)


def test_a_missing_marker_of_a_known_role_is_no_permission(mount: Mount) -> None:
    assert read(mount, answer(404, BARE_404)).verdict is Verdict.MISSING
    assert read(mount, answer(404, BARE_404), is_known=False).verdict is Verdict.ABSENT


@pytest.mark.parametrize(
    "reply",
    [
        answer(404, {"errors": ["no handler for route"]}),
        answer(404, {"errors": ["namespace not found"]}),
        answer(404, {"errors": [], "data": None}),
        answer(404),
        Reply(404, b"<html>not found</html>"),
        answer(204),
        Reply(200, b"<html>marker</html>"),
        answer(200, ["data"]),
        answer(400, BARE_404),
        answer(403, BARE_404),
        answer(412, BARE_404),
        answer(429, BARE_404),
        answer(500, BARE_404),
        answer(503, {"errors": ["Vault is sealed"]}),
    ],
)
def test_every_other_answer_to_a_read_refuses(mount: Mount, reply: Reply) -> None:
    for is_known in (True, False):
        assert read(mount, reply, is_known=is_known).verdict is Verdict.REFUSE


def test_a_wrapped_read_is_looked_at_and_keeps_its_wrapping(mount: Mount) -> None:
    info = {"token": "s.x", "ttl": 30}
    decision = read(mount, answer(200, {"data": None, "wrap_info": info}))
    assert decision == Decision(Verdict.INSPECT, PATH, wrap_info=info)


@pytest.mark.parametrize("operation", [Operation.CREATE, Operation.UPDATE])
def test_a_write_is_allowed_by_204_and_an_empty_one_by_a_look(mount: Mount, operation: Operation) -> None:
    def write(reply: Reply, *, empty: bool, is_known: bool = True) -> Decision:
        return decide(
            operation,
            reply,
            mount=mount,
            relative=PATH,
            known=known if is_known else unknown,
            empty_body=empty,
        )

    missing = answer(400, {"errors": ["missing data fields"]})
    assert write(answer(204), empty=False).verdict is Verdict.ALLOW
    assert write(missing, empty=True) == Decision(Verdict.INSPECT, PATH)
    assert write(missing, empty=True, is_known=False) == Decision(Verdict.INSPECT, sentinel_path(mount))
    assert write(missing, empty=False).verdict is Verdict.REFUSE
    for status in (200, 202, 400, 403, 404, 405, 429, 500, 503):
        assert write(answer(status, {"errors": ["x"]}), empty=True).verdict is Verdict.REFUSE


def test_a_patch_is_allowed_by_a_look_behind_kvs_405(mount: Mount) -> None:
    def patch(reply: Reply) -> Decision:
        return decide(Operation.PATCH, reply, mount=mount, relative="roles/demo", known=known)

    assert patch(answer(405, UNSUPPORTED)) == Decision(Verdict.INSPECT, "roles/demo")
    assert patch(answer(405, BARE_404)).verdict is Verdict.REFUSE
    for status in (200, 204, 400, 403, 404, 415, 503):
        assert patch(answer(status, UNSUPPORTED)).verdict is Verdict.REFUSE


def test_a_list_shows_what_the_upstream_showed_and_nothing_more(mount: Mount) -> None:
    def listed(reply: Reply) -> Decision:
        return decide(Operation.LIST, reply, mount=mount, relative="roles/", known=unknown)

    keys = ["a", "b", sentinel_name(mount)]
    assert listed(answer(200, {"data": {"keys": keys}})) == Decision(Verdict.ALLOW, keys=tuple(keys))
    place = sentinel_path(mount)
    assert listed(answer(200, {"data": {"keys": ["a"]}})) == Decision(Verdict.INSPECT, place, keys=("a",))
    nothing_but_a_warning = {"data": {}, "warnings": ["Endpoint ignored these unrecognized parameters: [x]"]}
    for reply in (answer(404, BARE_404), answer(200, nothing_but_a_warning)):
        assert listed(reply) == Decision(Verdict.INSPECT, place, keys=())
    for reply in (answer(403, BARE_404), answer(200, {"data": None}), answer(200, {"data": {"keys": "a"}})):
        assert listed(reply).verdict is Verdict.REFUSE


def test_the_sentinel_sorts_behind_every_name_a_role_can_have(mount: Mount) -> None:
    assert all(name < sentinel_name(mount) for name in ("zzz", "ZZZ", "_", "999", "z_-.z"))


@given(
    operation=st.sampled_from([*Operation]),
    status=st.sampled_from(
        [200, 201, 202, 204, 301, 307, 400, 401, 403, 404, 405, 412, 415, 429, 472, 500, 502, 503]
    ),
    body=st.sampled_from(
        [
            b"",
            b"null",
            b"[]",
            b'{"errors":[]}',
            b'{"errors":["missing data fields"]}',
            b'{"errors":["1 error occurred:\\n\\t* unsupported operation\\n\\n"]}',
            b'{"data":{"aikeys_marker":"0000"}}',
            b'{"data":{"keys":["a"]}}',
            b"<html>",
        ]
    ),
    is_known=st.booleans(),
    empty=st.booleans(),
)
def test_nothing_without_our_marker_or_the_204_of_a_write_allows_by_itself(
    operation: Operation, status: int, body: bytes, is_known: bool, empty: bool
) -> None:
    mount = Mount("u", "ai-keys/", "a", "i", 1, 1, marker_key="00" * 32)
    decision = decide(
        operation,
        Reply(status, body),
        mount=mount,
        relative=PATH,
        known=known if is_known else unknown,
        empty_body=empty,
    )
    if decision.verdict is Verdict.ALLOW:
        assert status == 204
        assert operation in {Operation.CREATE, Operation.UPDATE, Operation.DELETE}
    if decision.verdict is Verdict.INSPECT:
        assert decision.inspect in {PATH, sentinel_path(mount)}


@pytest.mark.parametrize(
    ("operation", "capabilities", "allowed"),
    [
        (Operation.DELETE, ["delete"], True),
        (Operation.DELETE, ["read", "list"], False),
        (Operation.UPDATE, ["create"], True),
        (Operation.UPDATE, ["update"], True),
        (Operation.UPDATE, ["patch"], False),
        (Operation.PATCH, ["patch"], True),
        (Operation.READ, ["root"], True),
        (Operation.READ, ["deny"], False),
        (Operation.READ, ["read", "deny"], False),
        (Operation.READ, [], False),
        ("scan", ["list"], False),
        ("scan", ["scan"], True),
    ],
)
def test_capabilities_decide_only_as_the_policy_says(
    operation: str, capabilities: list[str], allowed: bool
) -> None:
    assert decide_capabilities(operation, capabilities) is allowed
