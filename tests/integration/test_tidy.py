"""`tidy` at a real sidecar: the relay's own books say which keys it ended and which it left alone."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from tests.sidecar_stack import SidecarStack, eventually

MOUNT = "team-keys"
TIDY = f"{MOUNT}/tidy"
HOUR = 3600
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass
class Bench:
    """A mount of its own at the stack's sidecar, with the role `chat`."""

    stack: SidecarStack
    http: httpx.Client
    instance: str = ""
    serial: str = ""
    made: list[str] = field(default_factory=list)

    # -- keys -----------------------------------------------------------------------------------------------------

    def leased(self, mount: str = MOUNT) -> tuple[str, str]:
        """A key with its lease: its id, and itself."""
        answer = self.stack.request("GET", f"{mount}/creds/chat")
        assert answer.status_code == 200, answer.text
        data = answer.json()["data"]
        return data["key_id"], data["api_key"]

    def by_hand(
        self,
        *,
        age: float = 2 * HOUR,
        name: str = "",
        serial: str | None = None,
        instance: str = "",
    ) -> str:
        """A key that the relay is asked for without the sidecar, with this mount's mark where nothing else is said."""
        end = "".join(secrets.choice(BASE32) for _ in range(16))
        given = f"{serial or self.serial}.{int(time.time() - age)}" if serial != "" else ""
        body = {
            "name": name or f"vlt-{instance or self.instance}-{end}",
            "expires_in": 86_400,
            "metadata": {"aikeys_role": "chat"} | ({"aikeys_serial": given} if given else {}),
        }
        key = self._relay("POST", "/keys", body)
        self.made.append(str(key["id"]))
        return str(key["id"])

    def forget_lease(self, key_id: str) -> None:
        """The key's lease ends by force while the relay is away: the key lives on, and nobody knows it."""
        leases = self.stack.request("LIST", f"sys/leases/lookup/{MOUNT}/creds/chat").json()["data"]["keys"]
        self.stack.control.outage()
        try:
            forced = self.stack.request("PUT", f"sys/leases/revoke-force/{MOUNT}/creds/chat")
            assert forced.status_code == 204, forced.text
        finally:
            self.stack.control.end_outage()
        assert leases
        assert key_id in self.stack.live_keys()

    def grow_old(self, key_id: str) -> None:
        """As if it had been asked for two hours ago."""
        metadata = self.stack.key_truth(key_id)["metadata"]
        serial = metadata["aikeys_serial"].rpartition(".")[0]
        changed = {**metadata, "aikeys_serial": f"{serial}.{int(time.time() - 2 * HOUR)}"}
        self._relay("PATCH", f"/keys/{key_id}", {"metadata": changed})

    def clean_up(self) -> None:
        for key_id in self.stack.live_keys() & set(self.made):
            self._relay("DELETE", f"/keys/{key_id}")

    def _relay(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        url = self.stack.relay.base_url + path
        headers = {"Authorization": f"Bearer {self.stack.relay.management_key}"}
        answer = self.http.request(method, url, json=body, headers=headers)
        assert answer.status_code in {200, 201}, answer.text
        key: dict[str, Any] = answer.json()
        return key

    # -- tidy -----------------------------------------------------------------------------------------------------

    def plan(self, token: str | None = None) -> dict[str, Any]:
        return self._data(self.stack.request("GET", TIDY, token=token))

    def apply(self, **body: Any) -> dict[str, Any]:
        return self._data(self.stack.request("PUT", TIDY, {"apply": True, **body}))

    @staticmethod
    def _data(answer: httpx.Response) -> dict[str, Any]:
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def live(self, *key_ids: str) -> set[str]:
        return self.stack.live_keys() & set(key_ids)

    @contextmanager
    def nothing_ended(self) -> Iterator[None]:
        """Nothing but what ends by itself."""
        self.stack.control.clear_faults()
        before, deletions = self.stack.live_keys(), len(self._deletions())
        yield
        self.stack.control.clear_faults()
        assert before - self.stack.live_keys() == set()
        assert len(self._deletions()) == deletions

    def _deletions(self) -> list[dict[str, Any]]:
        return [call for call in self.stack.control.calls("DELETE") if "/v1/keys/" in call["path"]]


@contextmanager
def mounted(stack: SidecarStack, path: str) -> Iterator[None]:
    client = stack.hvac()
    client.sys.enable_secrets_engine("ai-keys", path=path)
    try:
        config = {"base_url": stack.relay.base_url, "management_key": stack.relay.management_key}
        client.write_data(f"{path}/config", data=config)
        client.write_data(f"{path}/roles/chat", data={"ttl": "10m", "max_ttl": "2h", "permissions": "chat"})
        yield
    finally:
        stack.control.clear_faults()
        stack.control.settings(list_lag_ms=0)
        client.sys.disable_secrets_engine(path)


def benches(stack: SidecarStack) -> Iterator[Bench]:
    with mounted(stack, MOUNT), httpx.Client(trust_env=False, timeout=10) as http:
        made = Bench(stack, http)
        key_id, _ = made.leased()
        truth = stack.key_truth(key_id)
        made.instance = truth["name"].split("-")[1]
        made.serial = truth["metadata"]["aikeys_serial"].rpartition(".")[0]
        yield made
        made.clean_up()


@pytest.fixture
def bench(stack: SidecarStack) -> Iterator[Bench]:
    """In front of both servers."""
    yield from benches(stack)


@pytest.fixture
def one_bench(openbao_stack: SidecarStack) -> Iterator[Bench]:
    """For what lies between the sidecar and the relay."""
    openbao_stack.control.clear_faults()
    yield from benches(openbao_stack)


def test_a_key_whose_lease_was_ended_by_force_is_found_and_ended(bench: Bench) -> None:
    key_id, key = bench.leased()
    bench.forget_lease(key_id)
    kept, kept_key = bench.leased()
    assert bench.plan()["key_info"][key_id]["reason"].endswith("younger than safety_buffer")
    bench.grow_old(key_id)

    found = bench.plan()
    assert found["keys"] == [key_id]
    assert found["key_info"][key_id]["role"] == "chat"
    assert bench.stack.works(key), "a plan ends nothing"
    assert bench.apply(plan=found["plan"])["revoked"] == [key_id]
    assert not bench.stack.works(key)
    assert bench.stack.works(kept_key)
    after = bench.plan()
    assert (after["keys"], after["counts"]["leased"]) == ([], 1)
    assert kept in bench.stack.live_keys()


def test_only_what_this_mount_made_is_ended_whatever_else_the_relay_has(one_bench: Bench) -> None:
    stack = one_bench.stack
    with mounted(stack, "moved-keys"):
        orphans = [one_bench.by_hand(), one_bench.by_hand()]
        others_lease, _ = one_bench.leased("moved-keys")
        other = stack.key_truth(others_lease)
        spared = [
            one_bench.leased()[0],
            others_lease,
            # Of the other mount, which may well be an orphan there; its serial is of the same database.
            one_bench.by_hand(instance=other["name"].split("-")[1]),
            # Of another sidecar at the same relay, with or without a look-alike serial.
            one_bench.by_hand(instance="zzzzzzzz"),
            one_bench.by_hand(instance="zzzzzzzz", serial="zzzzzzzzzz.1"),
            # By hand.
            one_bench.by_hand(name="production"),
            one_bench.by_hand(name="vlt-production"),
            one_bench.by_hand(name=f"vlt-{one_bench.instance}-copy"),
            one_bench.by_hand(serial=""),
            # Too young to be sure.
            one_bench.by_hand(age=3000),
            one_bench.by_hand(age=-600),
        ]
        found = one_bench.plan()
        assert sorted(found["keys"]) == sorted(orphans)
        assert found["counts"] == {
            "leased": 2, "open": 0, "orphan": 2, "young": 2, "unmarked": 2, "newer": 0
        }  # fmt: skip
        assert sorted(one_bench.apply(force=True)["revoked"]) == sorted(orphans)
        assert one_bench.live(*orphans) == set()
        assert one_bench.live(*spared) == set(spared)


FAULTS: list[tuple[str, dict[str, Any], int]] = [
    ("error", {"status": 500}, 503),
    ("error", {"status": 502}, 503),
    ("rate_limit", {"retry_after": 7}, 502),
    ("unavailable", {}, 503),
    ("html", {}, 503),
    ("commit_then_truncate", {"framing": "short"}, 503),
    ("commit_then_truncate", {"framing": "full"}, 503),
    # Once would be repeated on another connection.
    ("commit_then_drop", {"count": None}, 503),
    ("close", {"count": None}, 503),
    ("content_type", {}, 503),
    ("redirect", {}, 400),
]


def test_a_list_that_breaks_off_or_goes_wrong_is_no_plan_and_ends_nothing(one_bench: Bench) -> None:
    """On the second page too, when the first one already showed orphans."""
    orphan = one_bench.by_hand()
    strangers = [one_bench.by_hand(name=f"vlt-{one_bench.instance}-{number}") for number in range(100)]
    for kind, parameters, status in FAULTS:
        for page in (1, 2):
            with one_bench.nothing_ended():
                one_bench.stack.control.fault(kind, method="GET", path="/v1/keys", nth=page, **parameters)
                answer = one_bench.stack.request("PUT", TIDY, {"apply": True, "force": True})
                assert answer.status_code == status, (kind, answer.text)
                assert "nothing was ended" in answer.text
                assert answer.headers.get("Retry-After") == ("7" if kind == "rate_limit" else None)
    assert one_bench.apply()["revoked"] == [orphan]
    assert len(one_bench.live(*strangers)) == 100


def test_a_list_that_lags_costs_nobody_a_key(one_bench: Bench) -> None:
    one_bench.stack.control.settings(list_lag_ms=60_000)
    leased = [one_bench.leased()[0] for _ in range(3)]
    late = one_bench.by_hand()
    with one_bench.nothing_ended():
        assert one_bench.apply()["revoked"] == []
    one_bench.stack.control.settings(list_lag_ms=0)
    assert one_bench.live(late, *leased) == {late, *leased}


def test_an_unusual_number_of_keys_ends_only_when_that_is_said(one_bench: Bench) -> None:
    orphans = [one_bench.by_hand() for _ in range(21)]
    answer = one_bench.stack.request("GET", TIDY).json()
    assert sorted(answer["data"]["keys"]) == sorted(orphans)
    assert "more than 20 or 30 %" in answer["warnings"][0]
    with one_bench.nothing_ended():
        refused = one_bench.stack.request("PUT", TIDY, {"apply": True, "plan": answer["data"]["plan"]})
        assert refused.status_code == 400
        assert "write force=true" in refused.json()["errors"][0]
    one_bench.apply(force=True)
    eventually(lambda: not one_bench.live(*orphans), what="the end of all orphans")


def test_who_may_read_the_plan_and_who_may_apply_it_is_a_policy(bench: Bench) -> None:
    stack = bench.stack
    bench.by_hand()
    nobody = stack.token('path "team-keys/*" { capabilities = ["list"] }').token
    reader = stack.token('path "team-keys/tidy" { capabilities = ["read"] }').token
    bounded = stack.token(
        'path "team-keys/tidy" { capabilities = ["read", "update"]\n'
        '  allowed_parameters = { "apply" = [], "plan" = [] } }'
    ).token
    for token, body in [
        (nobody, None), (nobody, {}), (nobody, {"apply": True}), (reader, {"apply": True}), (reader, {}),
        (bounded, {"apply": True, "force": True}), (bounded, {"accept_restored": True, "plan": "x"}),
        ("", {"apply": True}), ("no-such-token", {"apply": True}),
    ]:  # fmt: skip
        with bench.nothing_ended():
            refused = stack.request("GET" if body is None else "PUT", TIDY, body, token=token)
            assert refused.status_code == 403, (body, refused.text)
    found = bench.plan(reader)
    assert len(found["keys"]) == 1
    assert (
        bench.plan(stack.token('path "team-keys/tidy" { capabilities = ["read"] }', num_uses=1).token)
        == found
    )
    applied = stack.request("PUT", TIDY, {"apply": True, "plan": found["plan"]}, token=bounded)
    assert applied.json()["data"]["revoked"] == found["keys"]


def test_at_the_vault_behind_it_stands_a_marker_that_is_put_back(bench: Bench) -> None:
    stack = bench.stack
    assert "aikeys_marker" in stack.direct("GET", TIDY).json()["data"]
    bench.by_hand()
    bench.apply()
    assert set(stack.direct("GET", TIDY).json()["data"]) == {"aikeys_marker", "note"}, "no trace of a write"
    stack.direct("PUT", TIDY, {"aikeys_marker": "mine"})
    assert stack.request("GET", TIDY).status_code == 503, "and is not believed when it is somebody else's"
    assert bench.plan()["keys"] == []


def test_it_explains_itself_and_takes_part_in_everything_that_paths_do(bench: Bench) -> None:
    stack = bench.stack
    shown = stack.cli("path-help", TIDY).stdout
    for word in ("safety_buffer", "accept_restored", "force", "older\ncopy"):
        assert word in shown
    document = stack.request("GET", "sys/internal/specs/openapi").json()
    assert {"get", "post"} <= set(document["paths"][f"/{TIDY}"])
    assert stack.cli("read", "-field=plan", TIDY).stdout.strip() == bench.plan()["plan"]
    assert stack.cli("write", "-f", "-field=plan", TIDY).stdout.strip() == bench.plan()["plan"]
    wrapped = stack.request("GET", TIDY, headers={"X-Vault-Wrap-TTL": "60s"}).json()["wrap_info"]
    opened = stack.request("PUT", "sys/wrapping/unwrap", token=wrapped["token"])
    assert opened.json()["data"]["plan"] == bench.plan()["plan"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"apply": True, "safety_buffer": "1s"}, "safety_buffer must be at least 30s"),
        ({"apply": True, "safety_buffer": "soon"}, "safety_buffer"),
        ({"apply": "perhaps"}, "apply"),
        ({"apply": True, "plan": "0123"}, "the plan is another by now"),
        ({"apply": True, "accept_restored": True, "plan": "0123"}, "not one step"),
        ({"accept_restored": True}, "needs the plan"),
    ],
)
def test_what_cannot_be_meant_is_refused(one_bench: Bench, body: dict[str, Any], said: str) -> None:
    one_bench.by_hand()
    with one_bench.nothing_ended():
        answer = one_bench.stack.request("PUT", TIDY, body)
        assert answer.status_code == 400
        assert said in answer.json()["errors"][0]


def test_there_is_nothing_to_tidy_before_there_is_a_relay(stack: SidecarStack) -> None:
    client = stack.hvac()
    client.sys.enable_secrets_engine("ai-keys", path="moved-keys")
    try:
        answer = stack.request("GET", "moved-keys/tidy")
        assert answer.status_code == 400
        assert answer.json()["errors"] == ["this mount has no relay yet: write moved-keys/config first"]
    finally:
        client.sys.disable_secrets_engine("moved-keys")
