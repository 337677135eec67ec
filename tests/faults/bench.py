"""A whole sidecar between a real OpenBao and a relay whose every call can go wrong, and the judges of what came of it.

The judges are the relay's own books and the sidecar's (`leases`): a key that lives at the relay has a lease, and what
was asked once was made once at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from tests.faults.relay_table import CALLS, PATIENCE, TABLE, Answer, Fault
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

SETTINGS = {
    "AIKEYS_REVOCATION_RETRY_BASE": "0.1",
    "AIKEYS_REVOCATION_RETRY_LONGEST": "1",
    "AIKEYS_RELAY_PROBE_INTERVAL": "0.5",
}
LAG = "x-aikeys-revocation-lag"
# The hint that the relay shows of every key ends after four characters.
SECRET = re.compile(r"sk-holysheep-[A-Za-z0-9-]{5,}")


@dataclass(slots=True)
class Seen:
    """What one request did at the relay."""

    orders: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)


class Bench:
    def __init__(self, stack: SidecarStack) -> None:
        self.stack = stack
        self.control = stack.control
        self._last_call = 0
        self.ok("POST", "config", self.config)
        self.ok("POST", "roles/checked", {"ttl": 600, "max_ttl": 1200, "verify_revocation": True})
        self.ok("POST", "roles/plain", {"ttl": 600, "max_ttl": 1200})

    @property
    def config(self) -> dict[str, Any]:
        relay = self.stack.relay
        return {
            "base_url": relay.base_url,
            "management_key": relay.management_key,
            "request_timeout": PATIENCE,
            "connect_timeout": PATIENCE,
        }

    # -- asking ---------------------------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """One request to our mount. Its answer holds no secret but the key that was asked for."""
        answer = self.stack.request(method, f"{MOUNT}/{path}", body)
        self._check_answer(answer, key_asked_for=path.startswith("creds/"))
        return answer

    def ok(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self.ask(method, path, body)
        assert answer.status_code < 300, answer.text
        decoded: dict[str, Any] = answer.json() if answer.content else {}
        return decoded

    def lease(self, role: str = "plain") -> tuple[str, str]:
        """A lease's id and its key's."""
        secret = self.ok("GET", f"creds/{role}")
        return secret["lease_id"], secret["data"]["key_id"]

    def revoke(self, lease_id: str) -> httpx.Response:
        return self._lease_request("revoke", {"lease_id": lease_id, "sync": True})

    def renew(self, lease_id: str, increment: int) -> httpx.Response:
        return self._lease_request("renew", {"lease_id": lease_id, "increment": increment})

    def known(self, lease_id: str) -> bool:
        return self._lease_request("lookup", {"lease_id": lease_id}).status_code == 200

    def _lease_request(self, what: str, body: dict[str, Any]) -> httpx.Response:
        answer = self.stack.request("PUT", f"sys/leases/{what}", body)
        self._check_answer(answer, key_asked_for=False)
        return answer

    def _check_answer(self, answer: httpx.Response, *, key_asked_for: bool) -> None:
        assert self.stack.relay.management_key not in answer.text
        assert self.stack.relay.management_key not in str(answer.headers)
        if answer.status_code == 200 and key_asked_for:
            return
        assert not SECRET.search(answer.text), answer.text
        assert "<" not in answer.text.replace("<redacted>", ""), "no page of anybody's"
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/json"
            assert len(answer.json()["errors"]) == 1

    # -- faults ---------------------------------------------------------------------------------------------------

    @contextmanager
    def fault(
        self, fault: Fault, call: str, *, lasting: bool, key: str = "", times: int = 1
    ) -> Iterator[Seen]:
        """The fault on one of the driver's calls; `key` is the id or name in its path. What happened meanwhile."""
        asked = CALLS[call]
        path = asked.path.replace("{id}", key).replace("{name}", key)
        before = self.stack.key_ids()
        self.orders_since_last()
        seen = Seen()
        armed = self.control.fault(
            fault.kind,
            method=asked.method,
            path=path,
            count=None if lasting else times,
            **fault.parameters,
        )
        try:
            yield seen
        finally:
            self.control.clear_faults(armed)
            seen.orders = self.orders_since_last()
            seen.made = self.stack.key_ids() - before

    def orders_since_last(self) -> set[str]:
        """The idempotency keys of the mints that were asked for since this was last called."""
        calls = self.control.calls(since=self._last_call)
        self._last_call = max([self._last_call, *(call["number"] for call in calls)])
        return {
            str(call["idempotency_key"])
            for call in calls
            if (call["method"], call["path"]) == ("POST", "/v1/keys")
        }

    # -- judging --------------------------------------------------------------------------------------------------

    def allowed(self, fault: Fault, call: str, answer: httpx.Response, *, lasting: bool) -> Answer:
        """What the client was told, which must be what the table says."""
        told = told_by(answer)
        if call == "probe" and told is Answer.DONE:
            told = Answer.UNSEEN
        assert told in TABLE[fault.family][call][lasting], f"{told}: {answer.status_code} {answer.text}"
        return told

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.ok("GET", "leases?limit=1")["data"]["counts"]
        return counts

    def settled(self) -> None:
        """Wait until no mint is open: what became of each is known by then."""
        eventually(
            lambda: self.counts()["open_mints"] == 0,
            seconds=30,
            what="the settlement of all mints",
            pause=0.02,
        )

    def ended(self, lease_id: str, key_id: str) -> bool:
        """Whether the lease is gone; then its key must be dead."""
        gone = not self.known(lease_id)
        if gone:
            assert key_id not in self.stack.live_keys(), "the lease was forgotten with its key alive"
        return gone

    def orphans(self) -> list[dict[str, Any]]:
        """Keys that live at the relay and that no lease knows."""
        shown = self.ok("GET", "leases?state=active,revoking&limit=1000")["data"]["lease_info"]
        return self.control.orphans([str(info["key_id"]) for info in shown.values()])

    def recovered(self) -> None:
        """Without a restart: everything that was to end has ended, nothing is left over, and all of it works."""
        self.settled()
        eventually(lambda: self.counts()["revoking"] == 0, seconds=60, what="the end of all revocations")
        assert self.orphans() == []
        lease_id, key_id = self.lease("checked")
        assert key_id in self.stack.live_keys()
        assert self.revoke(lease_id).status_code == 204
        assert key_id not in self.stack.live_keys()
        log = self.stack.log
        assert self.stack.relay.management_key not in log
        assert not SECRET.search(log), "a key in the log"
        assert "Traceback" not in log


def told_by(answer: httpx.Response) -> Answer:
    """Which of the documented answers this is; fails when it is none of them."""
    if answer.status_code == 204:
        return Answer.SEEN if LAG in answer.headers else Answer.DONE
    decoded = answer.json()
    if answer.status_code == 200:
        return Answer.KEY if (decoded.get("data") or {}).get("api_key") else Answer.DONE
    text = decoded["errors"][0]
    for status, words, meaning in (
        (
            503,
            "Nothing is lost: the attempt is on record, and any key it made will be revoked",
            Answer.UNSETTLED,
        ),
        (503, "the relay cannot be reached, no key was made: ", Answer.AWAY),
        (502, "the relay's rate limit for key management is reached: ", Answer.LIMITED),
        (400, "the relay refused to make a key: ", Answer.REFUSED),
        (400, "failed to revoke entry: resp: (*logical.Response)(nil) err: ", Answer.FAILED),
        (400, "failed to renew entry: resp: (*logical.Response)(nil) err: ", Answer.FAILED),
        (400, "nothing was stored: ", Answer.NOT_STORED),
    ):
        if answer.status_code == status and words in text:
            return meaning
    raise AssertionError(f"an answer that is documented nowhere: {answer.status_code} {answer.text}")
