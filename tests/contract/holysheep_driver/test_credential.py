"""The management key: what checks out, what does not, and how requests are signed with it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.contract.holysheep_driver.bench import PREFIX, Bench, failing, soon

from aikeys.redaction import SecretString
from aikeys.relays.interface import (
    Kind,
    Outcome,
    Probe,
)
from aikeys.relays.registry import make_driver


def test_a_good_credential_checks_out(bench: Bench) -> None:
    bench.driver.check(soon())


def test_a_wrong_credential_does_not(bench: Bench) -> None:
    driver = make_driver(bench.config(management_key=SecretString("sk-holysheep-admin-" + "x" * 32)))
    for call in (lambda: driver.check(soon()), lambda: driver.mint(bench.intent(), soon())):
        error = failing(call)
        assert (error.kind, error.outcome) == (Kind.AUTH, Outcome.NOT_APPLIED)
    driver.close()


def test_a_data_key_is_no_management_key(bench: Bench) -> None:
    driver = make_driver(bench.config(management_key=bench.mint().secret))
    assert failing(driver.check, soon()).kind is Kind.FORBIDDEN
    driver.close()


@pytest.mark.parametrize(
    "rights", [{"scopes": ["keys:read"]}, {"scopes": ["keys:write"]}, {"name_prefix": "prod-"}]
)
def test_a_credential_without_the_rights_is_told_at_once(bench: Bench, rights: dict[str, Any]) -> None:
    key = bench.control.management_key(**{"scopes": ["keys:read", "keys:write"], **rights})["key"]
    driver = make_driver(bench.config(management_key=SecretString(key)))
    assert failing(driver.check, soon()).kind is Kind.FORBIDDEN
    driver.close()


def test_a_credential_bound_to_our_names_does_the_work(bench: Bench) -> None:
    key = bench.control.management_key(scopes=["keys:read", "keys:write"], name_prefix=PREFIX)["key"]
    driver = make_driver(bench.config(management_key=SecretString(key)))
    driver.check(soon())
    minted = driver.mint(bench.intent(), soon())
    driver.revoke(minted.ref, soon())
    driver.close()


@pytest.mark.parametrize("bound", [{"name_prefix": "vlt-otherxxx-"}, {"team_id": "team-b"}], ids=str)
def test_what_a_credential_cannot_see_it_does_not_call_gone(bench: Bench, bound: dict[str, Any]) -> None:
    """To one of another team or prefix the relay answers "key_not_found" about a key that lives."""
    minted = bench.mint(team_id="team-a")
    key = bench.control.management_key(scopes=["keys:read", "keys:write"], **bound)["key"]
    driver = make_driver(bench.config(management_key=SecretString(key)))
    driver.check(soon())
    error = failing(driver.revoke, minted.ref, soon())
    assert error.kind is Kind.FORBIDDEN
    assert "does not see keys of this name and team" in error.safe_message
    driver.close()
    assert bench.driver.probe(minted.secret, soon()) is Probe.ACCEPTED


def test_a_key_that_was_never_there_is_not_found_by_who_would_see_it(bench: Bench) -> None:
    minted = bench.mint(team_id="team-a")
    absent = replace(minted.ref, key_id="key_00000000000000000000000000")
    assert failing(bench.driver.revoke, absent, soon()).kind is Kind.NOT_FOUND
    key = bench.control.management_key(scopes=["keys:read", "keys:write"], team_id="team-a")["key"]
    driver = make_driver(bench.config(management_key=SecretString(key)))
    assert failing(driver.revoke, absent, soon()).kind is Kind.NOT_FOUND
    driver.close()


def test_a_wrong_path_is_no_key_not_found(bench: Bench) -> None:
    minted = bench.mint()
    driver = make_driver(bench.config(base_url=bench.process.address + "/v2"))
    for call in (
        lambda: driver.check(soon()),
        lambda: driver.mint(bench.intent(), soon()),
        lambda: driver.revoke(minted.ref, soon()),
        lambda: driver.find(bench.intent(), soon()),
    ):
        assert failing(call).kind is Kind.CONFIG
    driver.close()


def test_a_full_account_is_a_quota(bench: Bench) -> None:
    bench.control.settings(max_live_keys=1)
    bench.mint()
    error = failing(bench.mint)
    assert (error.kind, error.outcome) == (Kind.QUOTA, Outcome.NOT_APPLIED)


def test_the_relays_own_rate_limit_is_understood(bench: Bench) -> None:
    bench.control.settings(management_rpm=1, management_burst=1)
    bench.mint()
    error = failing(bench.mint)
    assert (error.kind, error.outcome) == (Kind.RATE_LIMITED, Outcome.NOT_APPLIED)
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 61


@pytest.mark.parametrize("knows_its_id", [True, False])
@pytest.mark.parametrize("version", ["v2", "v1"])
def test_every_call_can_be_signed(bench: Bench, version: str, knows_its_id: bool) -> None:
    bench.control.settings(management_signature_required=True, allow_signature_v1=version == "v1")
    assert failing(bench.mint).upstream_code == "signature_required"
    assert bench.process.signing_secret is not None
    driver = make_driver(
        bench.config(
            signing_secret=SecretString(bench.process.signing_secret),
            signing_key_id=bench.process.management_key_id if knows_its_id else "",
            signature_version=version,
        )
    )
    driver.check(soon())
    intent = bench.intent()
    minted = driver.mint(intent, soon())
    assert [info.ref for info in driver.find(intent, soon())] == [minted.ref]
    assert [info.ref for info in driver.list(PREFIX, soon())] == [minted.ref]
    driver.extend(minted.ref, intent.expires_at + timedelta(seconds=10), soon())
    assert driver.probe(minted.secret, soon()) is Probe.ACCEPTED
    driver.revoke(minted.ref, soon())
    assert bench.live() == []
    driver.close()


def test_a_wrong_signing_secret_does_not_check_out(bench: Bench) -> None:
    driver = make_driver(bench.config(signing_secret=SecretString("hs-sign-" + "w" * 43)))
    assert failing(driver.check, soon()).upstream_code == "invalid_signature"
    driver.close()


def test_a_signing_key_id_of_another_key_does_not_check_out(bench: Bench) -> None:
    assert bench.process.signing_secret is not None
    driver = make_driver(
        bench.config(signing_secret=SecretString(bench.process.signing_secret), signing_key_id="mgmt_other")
    )
    assert failing(driver.check, soon()).kind in (Kind.AUTH, Kind.CONFIG)
    driver.close()


def test_a_relay_whose_clock_is_far_off_is_signed_for_with_its_own_time(bench: Bench) -> None:
    bench.control.settings(management_signature_required=True)
    bench.control.advance(7200)
    assert bench.process.signing_secret is not None
    driver = make_driver(
        bench.config(
            signing_secret=SecretString(bench.process.signing_secret),
            signing_key_id=bench.process.management_key_id,
        )
    )
    minted = driver.mint(bench.intent(), soon())
    assert [key["id"] for key in bench.live()] == [minted.ref.key_id]
    driver.close()
