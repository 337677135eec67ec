"""GET /keys, /keys/{id}, /keys/{name}/metadata, /usage."""

from __future__ import annotations

import pytest
from tests.contract.simulator.helpers import Relay, bearer, refused


def listed(relay: Relay, query: str = "") -> list[str]:
    answer = relay.manage("GET", f"/keys?limit=100&{query}")
    assert answer.status_code == 200, answer.text
    return [key["name"] for key in answer.json()["data"]]


def test_a_key_is_found_by_id_and_by_exact_name(relay: Relay) -> None:
    created = relay.create(name="vlt-one")
    assert relay.get("vlt-one")["id"] == relay.get(created["id"])["id"] == created["id"]
    for reference in ("vlt-on", "vlt-one2", "key_01ARZ3NDEKTSV4RRFFQ69G5FAV", "validat"):
        found = refused(relay.manage("GET", f"/keys/{reference}"), 404, "key_not_found")
        assert found["type"] == "not_found_error"


def test_a_dead_name_finds_its_tombstone_until_a_new_key_has_it(relay: Relay) -> None:
    first = relay.create(name="vlt-one")
    relay.manage("DELETE", f"/keys/{first['id']}")
    assert relay.get("vlt-one")["status"] == "revoked"
    second = relay.create(name="vlt-one")
    assert relay.get("vlt-one")["id"] == second["id"]
    assert relay.get(first["id"])["status"] == "revoked"


def test_pages_go_through_250_keys_once_each_while_others_are_inserted(relay: Relay) -> None:
    made = [relay.create()["id"] for _ in range(250)]
    seen: list[str] = []
    after = ""
    while True:
        page = relay.manage("GET", f"/keys?limit=100{after}").json()
        assert page["object"] == "list"
        seen += [key["id"] for key in page["data"]]
        if not page["has_more"]:
            break
        assert page["last_id"] == page["data"][-1]["id"]
        after = f"&after={page['last_id']}"
        made.append(relay.create()["id"])
    assert seen == made == sorted(made)


def test_a_page_starts_behind_a_key_that_is_gone(relay: Relay) -> None:
    ids = [relay.create()["id"] for _ in range(3)]
    relay.manage("DELETE", f"/keys/{ids[0]}")
    page = relay.manage("GET", f"/keys?after={ids[0]}").json()
    assert [key["id"] for key in page["data"]] == ids[1:]


def test_an_exact_page_says_there_is_no_more(relay: Relay) -> None:
    for _ in range(2):
        relay.create()
    assert relay.manage("GET", "/keys?limit=2").json()["has_more"] is False
    assert relay.manage("GET", "/keys?limit=1").json()["has_more"] is True
    empty = relay.manage("GET", "/keys?name_prefix=none").json()
    assert (empty["data"], empty["has_more"], empty["last_id"]) == ([], False, None)


def test_filters(relay: Relay) -> None:
    relay.create(name="a-1", team_id="red", metadata={"role": "x", "n": "1"})
    relay.control.advance(10)
    relay.create(name="a-2", team_id="blue", metadata={"role": "x"})
    relay.control.advance(10)
    third = relay.create(name="b-1", team_id="red")
    assert listed(relay, "name_prefix=a-") == ["a-1", "a-2"]
    assert listed(relay, "team_id=red") == ["a-1", "b-1"]
    assert listed(relay, "metadata[role]=x") == ["a-1", "a-2"]
    assert listed(relay, "metadata[role]=x&metadata[n]=1") == ["a-1"]
    assert listed(relay, f"created_before={third['created_at']}") == ["a-1", "a-2"]
    assert listed(relay, f"created_after={third['created_at'] - 15}&name_prefix=a") == ["a-2"]


def test_states_are_filtered_and_the_dead_are_left_out_unless_asked_for(relay: Relay) -> None:
    relay.create(name="active")
    disabled = relay.create(name="disabled")
    relay.manage("PATCH", f"/keys/{disabled['id']}", json={"disabled": True})
    retiring = relay.create(name="retiring")
    relay.manage(
        "POST", f"/keys/{retiring['id']}/rotate", json={"name": "successor", "grace_period_seconds": 3600}
    )
    relay.create(name="expired", expires_in=60)
    revoked = relay.create(name="revoked")
    relay.manage("DELETE", f"/keys/{revoked['id']}")
    relay.control.advance(61)
    assert listed(relay) == ["active", "disabled", "retiring", "successor"]
    for state in ("active", "disabled", "retiring", "expired", "revoked"):
        assert state in listed(relay, f"status={state}")
    assert listed(relay, "status=expired,revoked") == ["expired", "revoked"]
    refused(relay.manage("GET", "/keys?status=dead"), 400, "invalid_request", "status")


def test_tombstones_stay_for_90_days(relay: Relay) -> None:
    created = relay.create()
    relay.manage("DELETE", f"/keys/{created['id']}")
    relay.control.advance(90 * 86_400 - 60)
    assert relay.get(created["id"])["status"] == "revoked"
    relay.control.advance(120)
    refused(relay.manage("GET", f"/keys/{created['id']}"), 404, "key_not_found")
    assert relay.control.keys() == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("after=x", "after"),
        ("created_after=-1", "created_after"),
    ],
)
def test_invalid_parameters_are_refused(relay: Relay, query: str, param: str) -> None:
    refused(relay.manage("GET", f"/keys?{query}"), 400, "invalid_request", param)


def test_unknown_parameters_are_refused(relay: Relay) -> None:
    refused(relay.manage("GET", "/keys?prefix=a"), 400, "unknown_field", "prefix")


def test_the_list_lags_where_told_and_a_name_is_taken_all_the_same(relay: Relay) -> None:
    relay.control.settings(list_lag_ms=30_000)
    created = relay.create(name="vlt-late")
    assert listed(relay) == []
    refused(relay.manage("GET", "/keys/vlt-late"), 404, "key_not_found")
    assert relay.get(created["id"])["name"] == "vlt-late"
    refused(relay.manage("POST", "/keys", json={"name": "vlt-late"}), 409, "name_conflict")
    relay.control.advance(31)
    assert listed(relay) == ["vlt-late"]
    assert relay.get("vlt-late")["id"] == created["id"]


def test_metadata_has_the_use_and_a_key_may_read_its_own(relay: Relay) -> None:
    mine, other = relay.create(name="mine"), relay.create(name="other")
    relay.chat(mine["key"], max_tokens=10)
    read = relay.manage("GET", "/keys/mine/metadata").json()
    # 8 input tokens for "hi" at 2.00, 10 output tokens at 8.00 USD per million.
    assert read["usage"] == {
        "requests": 1, "input_tokens": 8, "output_tokens": 10, "total_tokens": 18,
        "cost": "0.000096", "currency": "USD",
    }  # fmt: skip
    assert {read["created_at"].__class__, read["last_used_at"].__class__} == {int}
    own = relay.http.get(f"/keys/{mine['id']}/metadata", headers=bearer(mine["key"]))
    assert own.json()["id"] == mine["id"]
    refused(relay.http.get("/keys/other/metadata", headers=bearer(mine["key"])), 404, "key_not_found")
    refused(relay.http.get(f"/keys/{other['id']}", headers=bearer(mine["key"])), 403, "insufficient_scope")


def test_usage_is_reported_in_buckets(relay: Relay) -> None:
    red, blue = relay.create(team_id="red"), relay.create(team_id="blue")
    start = int(relay.control.now())
    relay.chat(red["key"])
    relay.chat(red["key"], model="deepseek-v3.2")
    relay.control.advance(3600)
    relay.chat(blue["key"])

    def usage(query: str) -> list[dict[str, object]]:
        answer = relay.manage("GET", f"/usage?from={start}&{query}")
        assert answer.status_code == 200, answer.text
        data: list[dict[str, object]] = answer.json()["data"]
        return data

    hours = usage("bucket=1h")
    assert [hour["requests"] for hour in hours] == [2, 1]
    assert hours[1]["bucket_start"] == hours[0]["bucket_end"]
    by_key = usage("bucket=1h&group_by=key")
    assert {(row["key_id"], row["requests"]) for row in by_key} == {(red["id"], 2), (blue["id"], 1)}
    by_model = usage(f"bucket=1h&group_by=model&key_id[]={red['id']}")
    assert {row["model"] for row in by_model} == {"gpt-4.1", "deepseek-v3.2"}
    by_team = usage("bucket=1h&group_by=team&team_id=blue")
    assert [(row["team_id"], row["cost"]) for row in by_team] == [("blue", "0.000024")]
    assert usage(f"bucket=1h&to={start - 7200}") == []
    refused(relay.manage("GET", "/usage?bucket=1w"), 400, "invalid_request", "bucket")
    refused(relay.manage("GET", "/usage?group_by=day"), 400, "invalid_request", "group_by")
