"""A key that was found: whose it is, told without the key being kept or shown to anybody else, and its end."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from tests.unit.engine.world import BASE_URL, World, refused

from aikeys.engine.leak import MOST_BY_PREFIX
from aikeys.framework.request import Caller
from aikeys.framework.response import InvalidRequest
from aikeys.relays.interface import Kind, Probe

APP = Caller(
    accessor="accessor-of-the-app",
    entity_id="entity-of-the-app",
    token_path="auth/approle/login",
    metadata={"role_name": "billing"},
)
STRANGER = "sk-holysheep-" + "Z" * 32
WAYS = ("api_key", "key_prefix", "fingerprint")


def fingerprint(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def named(way: str, key: str) -> dict[str, str]:
    return {way: {"api_key": key, "key_prefix": key[:20], "fingerprint": fingerprint(key)}[way]}


def handed_out(world: World, role: str = "demo") -> tuple[str, str]:
    """A key of the app, and its lease."""
    answer = world.issue(role, caller=APP)
    return (answer.data or {})["api_key"], world.register(answer, APP).lease_id


def ask(world: World, **data: Any) -> tuple[dict[str, Any], list[str]]:
    answer = world.write("leak", **data)
    assert answer is not None
    assert answer.data is not None
    return answer.data, answer.warnings


@pytest.mark.parametrize("way", WAYS)
def test_the_holder_of_a_key_is_found_by_each_way_of_naming_it(way: str, ready: World) -> None:
    # The Books number their keys at the end: all of them begin alike, as far as a prefix goes.
    key, lease_id = handed_out(ready)

    found, warnings = ask(ready, **named(way, key))

    assert found["leases"] == [lease_id]
    assert found["lease_info"][lease_id] == {
        "state": "active",
        "role": "demo",
        "entity_id": "entity-of-the-app",
        "token_accessor": "accessor-of-the-app",
        "login_path": "auth/approle/login",
        "login_role": "billing",
        "key_id": "key_1",
        "issue_time": "2026-01-02T03:04:05Z",
        "expire_time": "2026-01-02T03:05:05Z",
        "key_accepted": True if way == "api_key" else None,
    }
    assert warnings == []
    assert ready.store.lease(lease_id) is not None, "asking ends nothing"
    assert ready.books.count("revoke") == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_leaked_key_is_revoked_when_that_is_asked_for(way: str, ready: World) -> None:
    key, lease_id = handed_out(ready)

    found, _ = ask(ready, **named(way, key), revoke=True)

    info = found["lease_info"][lease_id]
    assert (info["state"], info["ended_by"], info["end_time"]) == ("ended", "leak", "2026-01-02T03:04:05Z")
    assert info["refused_by"] == "2026-01-02T03:04:06Z"
    assert info["key_accepted"] is (False if way == "api_key" else None)
    assert ready.store.lease(lease_id) is None
    assert ready.books.keys["key_1"].revoked_at is not None


def test_a_key_is_watched_until_the_relay_refuses_it_everywhere(ready: World) -> None:
    key, lease_id = handed_out(ready)
    refused_, accepted = Probe.REJECTED, Probe.ACCEPTED
    ready.books.probes = [accepted, refused_, accepted, refused_, refused_, refused_]

    info = ask(ready, api_key=key, revoke=True)[0]["lease_info"][lease_id]

    assert (info["key_accepted"], info["lag"]) == (False, 0.15), "50 ms and 100 ms were waited"


def test_a_key_that_the_relay_goes_on_to_accept_is_said_to_be(ready: World) -> None:
    key, lease_id = handed_out(ready)
    ready.books.probes = [Probe.ACCEPTED] * 1000

    found, warnings = ask(ready, api_key=key, revoke=True)

    assert found["lease_info"][lease_id]["key_accepted"] is True
    assert "the relay still accepts the key" in warnings[0]
    assert ready.clock.moved < 12, "the answer does not wait for ever"


def test_a_relay_that_cannot_be_asked_leaves_the_answer_open(ready: World) -> None:
    key, lease_id = handed_out(ready)
    ready.books.probes = [Probe.UNKNOWN] * 1000

    found, _ = ask(ready, api_key=key, revoke=True)

    assert found["lease_info"][lease_id]["key_accepted"] is None


@pytest.mark.parametrize("way", WAYS)
def test_a_key_whose_lease_has_ended_is_still_known(way: str, ready: World) -> None:
    key, lease_id = handed_out(ready)
    ready.clock.moved += 10
    ready.leases.revoke(lease_id)
    ready.clock.moved += 24 * 3600

    found, _ = ask(ready, **named(way, key), revoke=True)

    info = found["lease_info"][lease_id]
    assert (info["state"], info["end_time"], info["ended_by"]) == ("ended", "2026-01-02T03:04:15Z", "revoke")
    assert (info["entity_id"], info["login_role"]) == ("entity-of-the-app", "billing")
    assert (info["key_accepted"], info["lag"]) == (False if way == "api_key" else None, None)
    assert found["remembered_since"] == "2026-01-02T03:04:15Z"
    assert ready.books.count("revoke") == 1


def test_a_refusal_that_was_seen_when_the_lease_ended_is_told(ready: World) -> None:
    ready.write("roles/demo", verify_revocation=True)
    key, lease_id = handed_out(ready)
    ready.leases.revoke(lease_id)

    info = ask(ready, fingerprint=fingerprint(key))[0]["lease_info"][lease_id]

    assert (info["key_accepted"], info["lag"]) == (False, 0.0)


def test_a_strangers_key_is_told_as_that_and_sent_to_nobody(ready: World) -> None:
    handed_out(ready)
    ready.books.calls.clear()

    for way in ("api_key", "fingerprint"):
        found, warnings = ask(ready, **named(way, STRANGER), revoke=True)
        assert found == {"leases": [], "lease_info": {}, "remembered_since": ""}
        assert warnings[0].startswith(
            "no lease of this mount has or had this key; no ended lease is remembered"
        )

    assert ready.books.calls == []


def test_a_key_of_another_relay_is_not_sent_to_the_one_configured_now(ready: World) -> None:
    key, lease_id = handed_out(ready)
    ready.configure(base_url="https://other.example/v1")
    ready.books.calls.clear()

    info = ask(ready, api_key=key)[0]["lease_info"][lease_id]

    assert info["key_accepted"] is None
    assert ready.books.calls == []


def test_a_revocation_that_fails_is_told_and_goes_on(ready: World) -> None:
    key, lease_id = handed_out(ready)
    ready.books.faults["revoke"] = refused(Kind.UNAVAILABLE, "connection refused")

    found, warnings = ask(ready, fingerprint=fingerprint(key), revoke=True)

    info = found["lease_info"][lease_id]
    assert (info["state"], info["error"]) == ("revoking", "revoking key key_1: connection refused")
    assert warnings == [
        "1 of the leases are not revoked yet; that is tried again in the background, without end"
    ]
    ready.books.faults.clear()
    assert (
        ask(ready, fingerprint=fingerprint(key), revoke=True)[0]["lease_info"][lease_id]["state"] == "ended"
    )


def test_a_key_that_was_given_up_by_force_is_told_with_its_risk(ready: World) -> None:
    key, lease_id = handed_out(ready)
    ready.books.faults["revoke"] = refused(Kind.UNAVAILABLE, "connection refused")
    ready.leases.revoke_force("ai-keys/creds/demo")

    found, warnings = ask(ready, api_key=key)

    info = found["lease_info"][lease_id]
    assert (info["state"], info["ended_by"], info["key_accepted"]) == ("given_up", "force", True)
    assert info["refused_by"] == "2026-01-02T03:07:06Z", "the relay's own end of the key"
    assert "the relay has not confirmed the end of its key" in warnings[-1]
    # It is tried again at once when that is asked for, and then its end is an ordinary one.
    ready.books.faults.clear()
    ask(ready, api_key=key, revoke=True)
    assert ready.leases.forced.run_once() == 1
    assert ask(ready, api_key=key)[0]["lease_info"][lease_id]["state"] == "ended"


def test_a_prefix_that_fits_too_many_leases_ends_none(ready: World) -> None:
    handed = [handed_out(ready) for _ in range(MOST_BY_PREFIX + 1)]
    prefix = handed[0][0][:20]
    assert len(ask(ready, key_prefix=prefix)[0]["leases"]) == MOST_BY_PREFIX + 1

    with pytest.raises(
        InvalidRequest, match=r"fits the keys of 11 leases, more than 10: nothing was revoked"
    ):
        ask(ready, key_prefix=prefix, revoke=True)

    assert ready.books.count("revoke") == 0
    ready.leases.revoke(handed[0][1])
    found, _ = ask(ready, key_prefix=prefix, revoke=True)
    assert {one["state"] for one in found["lease_info"].values()} == {"ended"}


def test_only_as_much_of_a_prefix_counts_as_is_kept(ready: World) -> None:
    key, lease_id = handed_out(ready)
    assert ask(ready, key_prefix=key[:25])[0]["leases"] == [lease_id]
    assert ask(ready, key_prefix=key[:20] + "something else")[0]["leases"] == [lease_id]
    assert ask(ready, key_prefix="X" + key[1:20])[0]["leases"] == []


def test_what_was_copied_with_blanks_around_it_is_found(ready: World) -> None:
    key, lease_id = handed_out(ready)
    for given in ({"api_key": f" {key}\n"}, {"fingerprint": f"{fingerprint(key).upper()}\t"}):
        assert ask(ready, **given)[0]["leases"] == [lease_id]


def test_leases_of_other_mounts_are_not_told(ready: World) -> None:
    from dataclasses import replace

    key, _ = handed_out(ready)
    ready.mount = replace(ready.mount, uuid="another-mount")
    assert ask(ready, fingerprint=fingerprint(key))[0]["leases"] == []


def test_without_a_config_the_holder_is_found_all_the_same(ready: World) -> None:
    """Config cannot be deleted while leases live; ended ones outlast it."""
    key, lease_id = handed_out(ready)
    ready.leases.revoke(lease_id)
    ready.delete("config")
    info = ask(ready, api_key=key)[0]["lease_info"][lease_id]
    assert (info["entity_id"], info["key_accepted"]) == ("entity-of-the-app", None)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "give exactly one of api_key, key_prefix and fingerprint"),
        ({"api_key": ""}, "give exactly one of"),
        ({"api_key": "  \n"}, "give exactly one of"),
        ({"api_key": STRANGER, "fingerprint": "a" * 64}, "give exactly one of"),
        ({"key_prefix": STRANGER[:19]}, "key_prefix must have at least 20 characters, not 19"),
        ({"key_prefix": " " * 30 + "sk-"}, "key_prefix must have at least 20 characters, not 3"),
        ({"fingerprint": "a" * 63}, "fingerprint must be the SHA-256 of the key: 64 hex digits"),
        ({"fingerprint": "g" * 64}, "fingerprint must be the SHA-256"),
        ({"fingerprint": STRANGER}, "fingerprint must be the SHA-256"),
        ({"fingerprint": "a" * 64, "revoke": "perhaps"}, 'error converting input for field "revoke"'),
        ({"api_key": {"a": STRANGER}}, 'error converting input for field "api_key"'),
        ({"api_key": [STRANGER]}, 'error converting input for field "api_key"'),
    ],
)
def test_what_names_no_key_is_refused_without_repeating_it(
    data: dict[str, Any], text: str, ready: World
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ready.write("leak", **data)
    assert text in caught.value.message
    assert STRANGER not in caught.value.message


def test_the_lease_keeps_nothing_of_the_key_in_clear(ready: World) -> None:
    key, lease_id = handed_out(ready)
    record = ready.store.lease(lease_id)
    assert record is not None
    assert len(record.key_hash) == len(record.prefix_hash) == 32
    assert len({record.key_hash, record.prefix_hash, fingerprint(key)[:32]}) == 3
    assert BASE_URL in repr(record), "this would show it"
    assert key not in repr(record)
