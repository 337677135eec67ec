"""`creds/<role>` mints one key per request, with the role's limits and an end at the relay behind the lease's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.engine.world import BASE_URL, CALLER, MANAGEMENT_KEY, START, World, refused

from aikeys.framework.request import Caller, Operation
from aikeys.framework.response import EngineError, InvalidRequest, Unavailable
from aikeys.relays.interface import Kind


def only_key(world: World) -> Any:
    (key,) = world.books.keys.values()
    return key


def whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0) + timedelta(seconds=1)


def test_a_key_comes_with_all_that_is_needed_to_use_it(ready: World) -> None:
    answer = ready.issue("demo")

    key = only_key(ready)
    assert answer.data == {
        "api_key": key.secret,
        "key_id": key.ref.key_id,
        "base_url": BASE_URL,
        "expires_at": "2026-01-02T03:07:06Z",
        "permissions": [],
        "allowed_models": ["gpt-4.1", "gpt-4.1-mini"],
    }
    assert answer.warnings == []


def test_the_limits_of_the_role_are_shown_when_it_has_them(ready: World) -> None:
    ready.write(
        "roles/full", permissions="chat", rate_limit=60, max_tpm=1000, budget={"limit": "5", "period": "day"}
    )

    data = ready.issue("full").data

    assert data is not None
    assert {name: data[name] for name in ("permissions", "rate_limit", "max_tpm", "budget")} == {
        "permissions": ["chat"],
        "rate_limit": 60,
        "max_tpm": 1000,
        "budget": {"limit": "5", "period": "day"},
    }


def test_the_relay_gets_the_roles_limits_and_metadata(ready: World) -> None:
    ready.write("roles/full", permissions="chat", rate_limit=60, budget="5.00", metadata={"owner": "search"})
    role = ready.services.connections.role(ready.mount.uuid, "full")
    assert role is not None

    ready.issue("full")

    intent = only_key(ready).intent
    (record,) = ready.store.intents()
    assert intent.scopes == role.scopes
    assert intent.metadata == {
        "owner": "search",
        "aikeys_role": "full",
        "aikeys_mount": "ai-keys/",
        "aikeys_serial": f"{record.serial}.{int(START.timestamp())}",
    }


def test_a_write_mints_as_a_read_does(ready: World) -> None:
    answer = ready.do(Operation.UPDATE, "creds/demo", {"ttl": "30s"})

    assert answer is not None
    assert answer.secret is not None
    assert answer.secret.ttl == 30


def test_every_request_gets_a_key_of_its_own(ready: World) -> None:
    first, second = ready.issue("demo"), ready.issue("demo")

    assert first.data is not None
    assert second.data is not None
    assert first.data["api_key"] != second.data["api_key"]
    assert first.secret is not None
    assert second.secret is not None
    assert first.secret.intent_id != second.secret.intent_id


def test_the_lease_knows_the_key_but_not_its_plaintext(ready: World) -> None:
    secret = ready.issue("demo").secret

    key = only_key(ready)
    assert secret is not None
    assert (secret.type, secret.role, secret.renewable) == ("api_key", "demo", True)
    assert secret.internal_data["ref"]["key_id"] == key.ref.key_id
    assert secret.internal_data["role"] == "demo"
    assert secret.internal_data["verify"] is False
    assert "probe_key" not in secret.internal_data
    assert key.secret not in repr(secret)
    assert datetime.fromisoformat(secret.internal_data["upstream_expires_at"]) == key.expires_at


def test_a_role_with_verified_revocation_keeps_the_key_to_try_it(ready: World) -> None:
    ready.write("roles/demo", verify_revocation=True)

    secret = ready.issue("demo").secret

    assert secret is not None
    assert secret.internal_data["verify"] is True
    assert secret.internal_data["probe_key"] == only_key(ready).secret


# -- how long ------------------------------------------------------------------------------------------------------


def test_without_a_wish_the_roles_ttl_holds(ready: World) -> None:
    secret = ready.issue("demo").secret
    assert secret is not None
    assert (secret.ttl, secret.max_ttl) == (60, 180)


def test_without_a_roles_ttl_the_mounts_holds(ready: World) -> None:
    ready.write("roles/open", ttl=0)

    secret = ready.issue("open").secret

    assert secret is not None
    assert (secret.ttl, secret.max_ttl) == (2_764_800, 0)
    assert only_key(ready).expires_at == whole(START) + timedelta(seconds=2_764_800)


@pytest.mark.parametrize(("wish", "ttl"), [("2m", 120), (30, 30), ("0", 60), (None, 60), ("180", 180)])
def test_a_wish_within_the_maximum_is_granted(wish: Any, ttl: int, ready: World) -> None:
    answer = ready.issue("demo", ttl=wish)
    assert answer.secret is not None
    assert (answer.secret.ttl, answer.warnings) == (ttl, [])


def test_a_wish_beyond_the_maximum_is_cut_with_vaults_warning(ready: World) -> None:
    ready.write("roles/demo", max_ttl=58, ttl=58)

    answer = ready.issue("demo", ttl="1h")

    assert answer.secret is not None
    assert answer.secret.ttl == 58
    assert answer.warnings == [
        'TTL of "1h" exceeded the effective max_ttl of "58s"; TTL value is capped accordingly'
    ]


def test_the_mounts_maximum_cuts_too(ready: World) -> None:
    ready.mount = replace(ready.mount, default_lease_ttl=30, max_lease_ttl=100)

    answer = ready.issue("demo", ttl="2m")

    assert answer.secret is not None
    assert answer.secret.ttl == 100
    assert answer.warnings == [
        'TTL of "2m" exceeded the effective max_ttl of "1m40s"; TTL value is capped accordingly'
    ]
    assert only_key(ready).expires_at == whole(START) + timedelta(seconds=100)


def test_a_wish_that_is_no_duration_is_refused_and_nothing_is_minted(ready: World) -> None:
    for wish in ("abc", -5, "-1h", [60], True):
        with pytest.raises(
            InvalidRequest, match=r'^Field validation failed: error converting input for field "ttl"'
        ):
            ready.issue("demo", ttl=wish)
    assert ready.books.calls == []


def test_the_relay_ends_the_key_when_its_lease_cannot_live_longer(ready: World) -> None:
    ready.issue("demo")

    assert only_key(ready).expires_at == whole(START) + timedelta(seconds=180)


def test_where_the_relay_allows_no_shorter_life_the_key_gets_the_least_it_allows(ready: World) -> None:
    ready.write("roles/short", ttl=8, max_ttl=20)

    answer = ready.issue("short")

    assert answer.secret is not None
    assert answer.secret.max_ttl == 20
    lives = only_key(ready).expires_at - ready.clock.now()
    assert timedelta(seconds=60) < lives <= timedelta(seconds=72), "with a margin for the relay's clock"


def test_a_life_as_long_as_the_relay_allows_stays_within_it(ready: World) -> None:
    ready.mount = replace(ready.mount, max_lease_ttl=31_536_000)
    ready.write("roles/year", max_ttl="8760h")

    ready.issue("year")

    assert only_key(ready).expires_at - ready.clock.now() < timedelta(seconds=31_536_000)


def test_a_slow_mint_leaves_no_lease_that_outlives_its_key(ready: World) -> None:
    ready.books.slow_mints = 25

    registered = ready.register(ready.issue("demo"))

    lease = ready.store.lease(registered.lease_id)
    assert lease is not None
    assert lease.issue_time == START
    assert lease.issue_time + timedelta(seconds=lease.max_ttl) <= only_key(ready).expires_at


def test_a_batch_tokens_end_is_the_keys_end(ready: World) -> None:
    end = START + timedelta(seconds=100, milliseconds=250)
    caller = Caller(accessor="", token_type="batch", expire_time=end)

    answer = ready.issue("demo", caller=caller, ttl="3m")

    assert answer.secret is not None
    assert answer.secret.ttl == 100
    assert answer.warnings == [], "Vault caps by a batch token without a word"
    assert only_key(ready).expires_at == whole(end)


def test_a_service_tokens_end_is_not_the_keys_end(ready: World) -> None:
    caller = replace(CALLER, expire_time=START + timedelta(seconds=30))

    answer = ready.issue("demo", caller=caller, ttl="3m")

    assert answer.secret is not None
    assert answer.secret.ttl == 180
    assert only_key(ready).expires_at == whole(START) + timedelta(seconds=180)


def test_a_batch_token_that_is_over_gets_nothing(ready: World) -> None:
    with pytest.raises(InvalidRequest, match="the token that asks is over"):
        ready.issue("demo", caller=Caller(accessor="", token_type="batch", expire_time=START))
    assert ready.books.count("mint") == 0


@pytest.mark.parametrize("tuned", [{"default_lease_ttl": -60}, {"max_lease_ttl": -1}])
def test_a_mount_that_was_tuned_below_zero_mints_nothing(ready: World, tuned: dict[str, Any]) -> None:
    ready.write("roles/plain", permissions="chat")
    ready.mount = replace(ready.mount, **tuned)

    with pytest.raises(InvalidRequest, match="tune default_lease_ttl and max_lease_ttl"):
        ready.issue("plain")

    assert ready.books.count("mint") == 0


# -- refusals ------------------------------------------------------------------------------------------------------


def test_an_unknown_role_is_refused_in_vaults_words_and_nothing_is_minted(ready: World) -> None:
    with pytest.raises(InvalidRequest, match=r"^unknown role: nope$"):
        ready.issue("nope")
    assert ready.books.calls == []


def test_without_a_config_nothing_is_minted(ready: World) -> None:
    ready.delete("config")

    with pytest.raises(InvalidRequest, match="write ai-keys/config first"):
        ready.issue("demo")


def test_a_lasting_refusal_of_the_relay_is_a_400_that_clients_do_not_repeat(ready: World) -> None:
    ready.books.faults["mint"] = refused(Kind.AUTH, "The API key provided is invalid")

    with pytest.raises(InvalidRequest) as error:
        ready.issue("demo")

    assert error.value.status == 400
    assert ready.store.intents() == [], "what was not made needs no record"


def test_a_passing_refusal_of_the_relay_is_a_5xx(ready: World) -> None:
    ready.books.faults["mint"] = refused(Kind.RATE_LIMITED, "Too many requests", retry_after=7)
    with pytest.raises(EngineError) as limited:
        ready.issue("demo")
    ready.books.faults["mint"] = refused(Kind.UNAVAILABLE, "connection refused")
    with pytest.raises(Unavailable) as away:
        ready.issue("demo")

    assert (limited.value.status, away.value.status) == (502, 503)


def test_a_key_is_minted_under_the_config_of_now(ready: World) -> None:
    ready.issue("demo")
    ready.write("config", base_url="https://new.example/v1", management_key=MANAGEMENT_KEY)

    data = ready.issue("demo").data

    assert data is not None
    assert data["base_url"] == "https://new.example/v1"


def test_a_request_asks_storage_for_no_more_than_its_generation(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hot path parses nothing: config, role and driver come from the cache."""
    ready.issue("demo")

    def forbidden(*_arguments: object) -> Any:
        raise AssertionError("the entries were read again")

    monkeypatch.setattr(type(ready.services.connections.state(ready.mount.uuid).entries), "get", forbidden)
    before = ready.generations

    ready.issue("demo")

    assert ready.generations - before == 1
