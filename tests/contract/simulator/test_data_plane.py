"""Models, completions, embeddings: what a key can do, spend, and no longer do once it is over."""

from __future__ import annotations

import base64
import json
import struct
from decimal import Decimal
from typing import Any

import pytest
from tests.contract.simulator.helpers import MESSAGES, Relay, bearer, error, refused


def test_a_completion_has_the_shape_openai_gives_it(relay: Relay) -> None:
    answer = relay.chat(relay.create()["key"], max_tokens=3)
    body = answer.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "gpt-4.1"
    choice = body["choices"][0]
    assert (choice["index"], choice["message"]["role"], choice["finish_reason"]) == (0, "assistant", "length")
    assert len(choice["message"]["content"].split()) == 3
    assert body["usage"] == {"prompt_tokens": 8, "completion_tokens": 3, "total_tokens": 11}
    assert answer.headers["X-RateLimit-Remaining-Tokens"] == str(10_000_000 - 11)


def test_a_completion_streams_as_server_sent_events(relay: Relay) -> None:
    key = relay.create()["key"]
    body = {
        "model": "gpt-4.1", "messages": MESSAGES, "max_tokens": 3, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    with relay.http.stream("POST", "/chat/completions", headers=bearer(key), json=body) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    events: list[dict[str, Any]] = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events if event["choices"])
    assert len(text.split()) == 3
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    assert events[-1]["usage"]["total_tokens"] == 11
    assert relay.manage("GET", "/usage?bucket=1h").json()["data"][0]["output_tokens"] == 3


def test_embeddings_depend_on_the_input_alone(relay: Relay) -> None:
    key = relay.create()["key"]

    def embed(**fields: Any) -> dict[str, Any]:
        answer = relay.http.post(
            "/embeddings", headers=bearer(key), json={"model": "text-embedding-3-small", **fields}
        )
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    both = embed(input=["one", "two"], dimensions=8)
    assert [item["index"] for item in both["data"]] == [0, 1]
    assert len(both["data"][0]["embedding"]) == 8
    assert both["data"][0]["embedding"] != both["data"][1]["embedding"]
    assert embed(input="one", dimensions=8)["data"][0]["embedding"] == both["data"][0]["embedding"]
    packed = embed(input="one", dimensions=8, encoding_format="base64")["data"][0]["embedding"]
    floats = struct.unpack("<8f", base64.b64decode(packed))
    assert list(floats) == pytest.approx(both["data"][0]["embedding"], abs=1e-6)
    assert embed(input=[1, 2, 3])["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_models_are_those_the_key_may_use(relay: Relay) -> None:
    def offered(key: str) -> list[str]:
        return [model["id"] for model in relay.http.get("/models", headers=bearer(key)).json()["data"]]

    assert "gpt-4.1" in offered(relay.create()["key"])
    assert offered(relay.create(allowed_models=["gpt-4.1", "claude-*"])["key"]) == [
        "gpt-4.1",
        "claude-sonnet-4.5",
    ]
    assert offered(relay.create(permissions=["embeddings"])["key"])


def test_a_key_reaches_only_its_models(relay: Relay) -> None:
    key = relay.create(allowed_models=["gpt-4.1", "claude-*"])["key"]
    assert relay.chat(key).status_code == 200
    assert relay.chat(key, model="claude-sonnet-4.5").status_code == 200
    found = refused(relay.chat(key, model="gpt-4.1-mini"), 403, "model_not_allowed", "model")
    assert found["type"] == "permission_error"
    refused(relay.chat(relay.create()["key"], model="gpt-99"), 400, "invalid_model", "model")


@pytest.mark.parametrize(
    ("permission", "reaches"),
    [
        ("chat", {"/chat/completions", "/models"}),
        ("completions", {"/chat/completions", "/models"}),
        ("embeddings", {"/embeddings", "/models"}),
        ("models", {"/models"}),
        ("images", {"/models"}),
        ("keys:rotate_self", set()),
    ],
)
def test_a_permission_opens_its_own_doors_only(relay: Relay, permission: str, reaches: set[str]) -> None:
    headers = bearer(relay.create(permissions=[permission])["key"])
    answers = {
        "/chat/completions": relay.http.post(
            "/chat/completions", headers=headers, json={"model": "gpt-4.1", "messages": MESSAGES}
        ),
        "/embeddings": relay.http.post(
            "/embeddings", headers=headers, json={"model": "text-embedding-3-small", "input": "x"}
        ),
        "/models": relay.http.get("/models", headers=headers),
    }
    for path, answer in answers.items():
        if path in reaches:
            assert answer.status_code == 200, (path, answer.text)
        else:
            refused(answer, 403, "insufficient_scope")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"messages": []}, "invalid_request"),
        ({"messages": "hi"}, "invalid_request"),
        ({"messages": [{"content": "x"}]}, "invalid_request"),
        ({"max_tokens": 0}, "invalid_request"),
        ({"model": None}, "invalid_request"),
        ({"model": "text-embedding-3-small"}, "invalid_model"),
        ({"stream": "yes"}, "invalid_request"),
        ({"prompt": "x"}, "unknown_field"),
    ],
    ids=str,
)
def test_a_malformed_completion_costs_nothing(relay: Relay, fields: dict[str, Any], code: str) -> None:
    key = relay.create()
    refused(relay.chat(key["key"], **fields), 400, code)
    assert relay.manage("GET", f"/keys/{key['id']}/metadata").json()["usage"]["requests"] == 0


def test_the_request_rate_holds_and_frees_up_as_the_minute_slides(relay: Relay) -> None:
    key = relay.create(rate_limit=3)["key"]
    for remaining in (2, 1, 0):
        answer = relay.chat(key)
        assert answer.headers["X-RateLimit-Limit-Requests"] == "3"
        assert answer.headers["X-RateLimit-Remaining-Requests"] == str(remaining)
    refusal = relay.chat(key)
    found = refused(refusal, 429, "rate_limit_exceeded")
    assert (found["type"], found["message"]) == ("rate_limit_error", "Too many requests")
    assert 50 <= int(refusal.headers["Retry-After"]) <= 60
    relay.control.advance(int(refusal.headers["Retry-After"]))
    assert relay.chat(key).status_code == 200


def test_the_token_rate_is_never_passed(relay: Relay) -> None:
    key = relay.create(max_tpm=30)["key"]
    assert relay.chat(key, max_tokens=10).status_code == 200  # 18 tokens
    refusal = relay.chat(key, max_tokens=10)
    refused(refusal, 429, "rate_limit_exceeded")
    assert refusal.headers["X-RateLimit-Remaining-Tokens"] == "12"
    assert relay.chat(key, max_tokens=4).status_code == 200  # 12 tokens: exactly full
    relay.control.advance(int(refusal.headers["Retry-After"]) + 1)
    assert relay.chat(key, max_tokens=10).status_code == 200
    relay.control.advance(61)
    refused(relay.chat(key, max_tokens=31), 429, "rate_limit_exceeded")


def test_a_budget_is_spent_to_the_last_micro_cent_and_no_further(relay: Relay) -> None:
    key = relay.create(budget={"limit": "0.000072"})  # three calls of 8 in, 1 out: 24 millionths each
    for spent in ("0.000024", "0.000048", "0.000072"):
        assert relay.chat(key["key"]).status_code == 200
        assert Decimal(relay.get(key["id"])["budget"]["spent"]) == Decimal(spent)
    found = refused(relay.chat(key["key"]), 402, "budget_exceeded")
    assert found["type"] == "budget_error"
    assert found["resets_at"] is None
    assert Decimal(relay.get(key["id"])["budget"]["remaining"]) == 0


def test_a_daily_budget_is_whole_again_the_next_day(relay: Relay) -> None:
    key = relay.create(budget={"limit": "0.000024", "period": "day"})
    assert relay.chat(key["key"]).status_code == 200
    resets_at = refused(relay.chat(key["key"]), 402, "budget_exceeded")["resets_at"]
    assert resets_at % 86_400 == 0
    relay.control.advance(resets_at - relay.control.now())
    assert relay.get(key["id"])["budget"]["spent"] == "0"
    assert relay.chat(key["key"]).status_code == 200


def test_a_key_dies_at_its_expiry_without_any_call(relay: Relay) -> None:
    key = relay.create(expires_in=60)
    relay.control.advance(57)
    assert relay.works(key["key"])
    relay.control.advance(3)
    refused(relay.chat(key["key"]), 401, "invalid_api_key")
    assert relay.get(key["id"])["status"] == "expired"


def test_dead_keys_of_every_kind_get_the_same_answer(relay: Relay) -> None:
    expired, revoked, disabled = relay.create(expires_in=60), relay.create(), relay.create()
    relay.control.advance(60)
    relay.manage("DELETE", f"/keys/{revoked['id']}")
    relay.manage("PATCH", f"/keys/{disabled['id']}", json={"disabled": True})
    unknown = "sk-holysheep-" + "A" * 32
    answers = [relay.chat(key) for key in (expired["key"], revoked["key"], disabled["key"], unknown)]
    bodies = [error(answer) | {"request_id": None} for answer in answers]
    assert {answer.status_code for answer in answers} == {401}
    assert bodies == [bodies[0]] * 4
    assert bodies[0]["message"] == "The API key provided is invalid or has been revoked"
    assert len({tuple(name for name, _ in answer.headers.multi_items()) for answer in answers}) == 1


def test_revocation_lags_on_the_node_that_was_told_so(relay: Relay) -> None:
    relay.control.settings(revoke_lag_ms=[0, 60_000])
    key = relay.create()
    assert relay.works(key["key"], second_node=True)
    deleted = relay.manage("DELETE", f"/keys/{key['id']}").json()
    assert deleted["effective_within_ms"] == 60_000
    assert not relay.works(key["key"])
    assert relay.works(key["key"], second_node=True)
    refused(relay.http.get("/keys/validate", headers=bearer(key["key"])), 401, "invalid_api_key")
    assert relay.second_http.get("/keys/validate", headers=bearer(key["key"])).status_code == 200
    truth = relay.control.keys()[0]
    assert (truth["status"], truth["data_plane_uses"], truth["uses_after_end"]) == ("revoked", 2, 1)
    relay.control.advance(61)
    assert not relay.works(key["key"], second_node=True)


def test_disabling_lags_like_revoking_and_enabling_starts_afresh(relay: Relay) -> None:
    relay.control.settings(revoke_lag_ms=[0, 60_000])
    key = relay.create()
    path = f"/keys/{key['id']}"
    relay.manage("PATCH", path, json={"disabled": True})
    assert not relay.works(key["key"])
    assert relay.works(key["key"], second_node=True)
    relay.control.advance(61)
    assert not relay.works(key["key"], second_node=True)
    relay.manage("PATCH", path, json={"disabled": False})
    relay.manage("PATCH", path, json={"disabled": True})
    assert relay.works(key["key"], second_node=True)


def test_a_lagging_node_still_keeps_the_expiry(relay: Relay) -> None:
    relay.control.settings(revoke_lag_ms=600_000)
    key = relay.create(expires_in=60)
    relay.manage("DELETE", f"/keys/{key['id']}")
    assert relay.works(key["key"])
    relay.control.advance(60)
    assert not relay.works(key["key"])


def test_a_lagging_node_does_not_let_a_dead_key_rotate_itself(relay: Relay) -> None:
    relay.control.settings(revoke_lag_ms=600_000)
    key = relay.create(permissions=["chat", "keys:rotate_self"])
    relay.manage("DELETE", f"/keys/{key['id']}")
    assert relay.works(key["key"])
    for path in ("/keys/rotate", "/auth/refresh"):
        refused(relay.http.post(path, headers=bearer(key["key"])), 401, "invalid_api_key")


def test_the_promise_of_a_deletion_can_be_made_a_lie(relay: Relay) -> None:
    relay.control.settings(revoke_lag_ms=60_000, effective_within_ms=100)
    key = relay.create()
    assert relay.manage("DELETE", f"/keys/{key['id']}").json()["effective_within_ms"] == 100
    relay.control.advance(1)
    assert relay.works(key["key"])
