"""A lease is renewed, or a config written, and the relay fails in every way it can."""

from __future__ import annotations

from datetime import datetime

import pytest
from tests.faults.bench import Bench
from tests.faults.relay_table import DISTINCT, Answer


@pytest.mark.parametrize("name", DISTINCT)
def test_a_renewal_never_lets_a_lease_outlive_its_key(bench: Bench, name: str) -> None:
    fault = DISTINCT[name]
    for lasting in (False, True):
        bench.ok("POST", "roles/plain", {"ttl": 300, "max_ttl": 300})
        lease_id, key_id = bench.lease()
        # Now the lease may live longer than the key does at the relay, so a renewal has to move that end first.
        bench.ok("POST", "roles/plain", {"ttl": 300, "max_ttl": 1200})
        with bench.fault(fault, "extend", lasting=lasting, key=key_id):
            answer = bench.renew(lease_id, 900)
        told = bench.allowed(fault, "extend", answer, lasting=lasting)
        shown = bench.stack.request("PUT", "sys/leases/lookup", {"lease_id": lease_id}).json()["data"]
        lease_end = datetime.fromisoformat(shown["expire_time"]).timestamp()
        assert lease_end <= bench.stack.key_truth(key_id)["expires_at"]
        assert (shown["ttl"] > 600) is (told is Answer.DONE), "a failed renewal changes nothing"
        if told is Answer.FAILED:
            assert bench.renew(lease_id, 900).status_code == 200
        assert bench.revoke(lease_id).status_code == 204


@pytest.mark.parametrize("name", DISTINCT)
def test_a_config_is_stored_only_when_the_relay_accepted_its_key(bench: Bench, name: str) -> None:
    fault = DISTINCT[name]
    for lasting in (False, True):
        timeout = 7 if lasting else 6
        with bench.fault(fault, "_verify", lasting=lasting):
            answer = bench.ask("POST", "config", {**bench.config, "connect_timeout": timeout})
        told = bench.allowed(fault, "_verify", answer, lasting=lasting)
        stored = bench.ok("GET", "config")["data"]["connect_timeout"]
        assert (stored == timeout) is (told is Answer.DONE)
        bench.ok("POST", "config", bench.config)
    bench.lease()


def test_afterwards_everything_has_recovered_without_a_restart(bench: Bench) -> None:
    bench.recovered()
