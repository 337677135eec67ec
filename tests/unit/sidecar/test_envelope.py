"""Answers are written as Go writes them: order, escapes, the newline at the end."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import JSON_HEADERS, Exchange

FIELDS = ["request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth"]


def test_a_success_has_all_fields_in_their_order_and_mount_type_last_or_not_at_all() -> None:
    plain = envelope.success("id", data={"b": 1, "a": {"d": 1, "c": 2}})
    assert plain.body == (
        b'{"request_id":"id","lease_id":"","renewable":false,"lease_duration":0,'
        b'"data":{"a":{"c":2,"d":1},"b":1},"wrap_info":null,"warnings":null,"auth":null}\n'
    )
    assert plain.headers == JSON_HEADERS
    typed = envelope.success("id", data=None, warnings=[], mount_type="ai-keys").json()
    assert list(typed) == [*FIELDS, "mount_type"]
    assert (typed["warnings"], typed["data"]) == (None, None)


def test_injected_data_stands_at_both_levels() -> None:
    body = envelope.injected("id", data={"z": {"b": 1}, "a": 2}, mount_type="system").json()
    assert body["data"] == {"a": 2, "z": {"b": 1}}
    assert body["a"] == 2
    assert body["z"] == {"b": 1}
    assert body["mount_type"] == "system"


def test_errors_and_empty_answers_are_vaults() -> None:
    assert envelope.errors(404).body == b'{"errors":[]}\n'
    assert envelope.errors(400, ["a <b> & c"]).body == b'{"errors":["a \\u003cb\\u003e \\u0026 c"]}\n'
    empty = envelope.no_content()
    assert (empty.status, empty.body, empty.header("Content-Type")) == (204, b"", "application/json")
    assert envelope.bare(400).headers == ()


def test_a_request_id_has_the_form_of_a_uuid_and_is_new_each_time() -> None:
    ids = {envelope.new_request_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", item) for item in ids)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=15,
)


@given(values)
def test_whatever_is_written_reads_back_and_holds_no_character_that_go_escapes(value: Any) -> None:
    text = envelope.to_json(value)
    assert text.endswith(b"\n")
    assert not set("<>&\u2028\u2029") & set(text.decode())
    assert json.loads(text) == json.loads(json.dumps(value))


def test_a_token_is_found_as_vault_finds_it() -> None:
    def token(*headers: tuple[str, str]) -> str:
        return Exchange("GET", "", "", "", headers).token

    assert token(("x-vault-token", "a"), ("Authorization", "Bearer b")) == "a"
    assert (
        token(("Authorization", "Basic x"), ("authorization", "Bearer b"), ("Authorization", "Bearer c"))
        == "b"
    )
    assert token(("Authorization", "bearer b")) == ""
    assert token(("X-Vault-Token", ""), ("Authorization", "Bearer b")) == "b"
    assert token() == ""
