"""A key has leaked: whose it was and its end, the end of all leases of one holder, and limits that bound the damage.

In front of both servers, with two workers on one store. The relay judges which keys work; the server's audit log is
written raw, so that it shows what it was shown.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.integration.conftest import PROCESSES, UPSTREAMS
from tests.sidecar_stack import MOUNT, SidecarStack, eventually, unique

from aikeys.storage.failpoints import VARIABLE

LEAK, REVOKE = f"{MOUNT}/leak", f"{MOUNT}/revoke"
#: The one file in which `tests/canaries.py` expects the server's word in clear.
RAW_AUDIT = "raw-audit.log"
WAYS = ("api_key", "key_prefix", "fingerprint")
RESPONDER = (
    f'path "{LEAK}" {{ capabilities = ["update"] }}\npath "{REVOKE}" {{ capabilities = ["update"] }}\n'
)


def named(way: str, key: str) -> dict[str, str]:
    fingerprint = hashlib.sha256(key.encode()).hexdigest()
    return {way: {"api_key": key, "key_prefix": key[:20], "fingerprint": fingerprint}[way]}


@dataclass(frozen=True)
class Key:
    api_key: str
    key_id: str
    lease_id: str


class LeakStack(SidecarStack):
    """`responder` may find leaked keys and end leases, and nothing else."""

    responder: str

    @property
    def audit(self) -> Path:
        return self.folder / RAW_AUDIT

    def role(self, **settings: Any) -> str:
        name = unique("leak")
        body = {"ttl": 600, "max_ttl": 1200, "permissions": ["chat"], **settings}
        answer = self.request("POST", f"{MOUNT}/roles/{name}", body)
        assert answer.status_code == 204, answer.text
        return name

    def key(self, role: str, token: str | None = None) -> Key:
        secret = self.read_key(role, token)
        return Key(secret["data"]["api_key"], secret["data"]["key_id"], secret["lease_id"])

    def ask(self, path: str = LEAK, token: str | None = None, **data: Any) -> dict[str, Any]:
        answer = self.request("POST", path, data, token=token or self.responder)
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def lives(self, lease_id: str) -> bool:
        return self.request("PUT", "sys/leases/lookup", {"lease_id": lease_id}).status_code == 200


@pytest.fixture(scope="module", params=PROCESSES)
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeakStack]:
    folder = tmp_path_factory.mktemp(f"leak-{request.param}")
    options = {"file_path": str(folder / RAW_AUDIT), "log_raw": "true"}
    listed = "\n".join(f'    {name} = "{value}"' for name, value in options.items())
    declared = f'audit "file" "raw" {{\n  options {{\n{listed}\n  }}\n}}\n'
    # OpenBao knows audit devices only from its configuration, Vault only from its API.
    with UPSTREAMS[request.param](
        folder / "upstream", **({"config": declared} if request.param == "openbao" else {})
    ) as upstream:
        if request.param == "vault":
            upstream.request("PUT", "sys/audit/raw", {"type": "file", "options": options})
        settings = {
            "AIKEYS_WORKERS": "2",
            "AIKEYS_LOG_LEVEL": "debug",
            "AIKEYS_RELAY_PROBE_INTERVAL": "1",
            "AIKEYS_REVOCATION_RETRY_BASE": "1",
        }
        with LeakStack(upstream, folder, settings=settings) as stack:
            stack.responder = stack.token(RESPONDER).token
            yield stack


def live(stack: LeakStack, role: str) -> set[str]:
    return {
        key["id"] for key in stack.control.keys(status="active") if key["metadata"]["aikeys_role"] == role
    }


# -- the leaked key ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_leaked_key_is_found_and_dead_at_the_relay_afterwards(stack: LeakStack, way: str) -> None:
    role = stack.role()
    app = stack.reader(role)
    key, other = stack.key(role, app.token), stack.key(role)

    found = stack.ask(**named(way, key.api_key))["data"]

    assert found["leases"] == [key.lease_id]
    info = found["lease_info"][key.lease_id]
    assert (info["state"], info["role"], info["token_accessor"]) == ("active", role, app.accessor)
    assert (info["key_id"], info["login_path"]) == (key.key_id, "auth/token/create")
    assert stack.works(key.api_key), "a question ends nothing"

    info = stack.ask(**named(way, key.api_key), revoke=True)["data"]["lease_info"][key.lease_id]

    assert (info["state"], info["ended_by"]) == ("ended", "leak")
    assert not stack.works(key.api_key)
    assert not stack.lives(key.lease_id)
    if way == "api_key":
        assert info["key_accepted"] is False
        assert 0 <= info["lag"] < 10
    assert stack.works(other.api_key)


@pytest.mark.parametrize("way", WAYS)
def test_a_key_of_a_lease_that_ended_before_is_still_known(stack: LeakStack, way: str) -> None:
    role = stack.role(verify_revocation=True)
    key = stack.key(role)
    assert stack.request("PUT", "sys/leases/revoke", {"lease_id": key.lease_id}).status_code in {200, 204}

    info = stack.ask(**named(way, key.api_key))["data"]["lease_info"][key.lease_id]

    assert (info["state"], info["ended_by"], info["key_accepted"]) == ("ended", "revoke", False)
    assert info["lag"] >= 0, "the role has revocations verified"


def test_a_key_whose_lease_ran_out_is_still_known(stack: LeakStack) -> None:
    key = stack.key(stack.role(ttl=1))

    def ended() -> Any:
        info = stack.ask(api_key=key.api_key)["data"]["lease_info"][key.lease_id]
        return info if info["state"] == "ended" else None

    info = eventually(ended, seconds=20, what="the end of the lease")
    assert (info["ended_by"], info["key_accepted"]) == ("expiry", False)


def test_a_key_that_was_never_minted_here_is_told_as_that_and_goes_nowhere(stack: LeakStack) -> None:
    stranger = "sk-proj-" + "Q" * 40
    for way in WAYS:
        answer = stack.ask(**named(way, stranger), revoke=True)
        assert answer["data"]["leases"] == []
        assert "no lease of this mount has or had this key" in answer["warnings"][0]
    assert stranger not in repr(stack.control.calls())
    hashed = hashlib.sha256(stranger.encode()).hexdigest()
    assert hashed not in repr(stack.control.calls()), "the relay was not asked about it"


def test_nobody_asks_without_a_policy_that_says_so(stack: LeakStack) -> None:
    role = stack.role()
    key = stack.key(role)
    reads = f'path "{MOUNT}/*" {{ capabilities = ["create", "read", "list", "delete"] }}'
    for token in (
        stack.reader(role).token,
        stack.token(reads).token,
        stack.token(("default",)).token,
        "",
        "s.nonsense",
    ):
        for path, data in ((LEAK, named("api_key", key.api_key)), (REVOKE, {"role": role})):
            for extra in ({}, {"revoke": True, "apply": True}):
                answer = stack.request("POST", path, {**data, **extra}, token=token)
                assert answer.status_code == 403, (path, token, answer.text)
                assert key.lease_id not in answer.text
    assert stack.works(key.api_key)


def test_a_policy_can_let_somebody_ask_and_not_revoke(stack: LeakStack) -> None:
    key = stack.key(stack.role())
    asker = stack.token(
        f'path "{LEAK}" {{\n  capabilities = ["update"]\n  denied_parameters = {{ "revoke" = [] }}\n}}'
    ).token
    found = stack.ask(token=asker, **named("fingerprint", key.api_key))["data"]
    assert found["leases"] == [key.lease_id]
    refused = stack.request("POST", LEAK, {**named("fingerprint", key.api_key), "revoke": True}, token=asker)
    assert refused.status_code == 403
    assert stack.works(key.api_key)


def test_the_key_is_seen_by_nobody_and_kept_nowhere(stack: LeakStack) -> None:
    """Not in a log, not in the database, not by the Vault in front of the engine, however it is sent."""
    key = stack.key(stack.role())
    ways = [named(way, key.api_key) for way in WAYS]
    attempts: list[tuple[str, str, dict[str, Any]]] = [("POST", LEAK, way) for way in ways]
    attempts += [
        # Mistakes: a wrong field, a misspelt one, one too many, one that is read elsewhere, the query.
        ("POST", LEAK, {"fingerprint": key.api_key}),
        ("POST", LEAK, {"apikey": key.api_key}),
        ("POST", LEAK, ways[0] | ways[1] | ways[2]),
        ("PUT", LEAK, {"api_key": [key.api_key]}),
        ("PATCH", LEAK, ways[0]),
        ("GET", f"{LEAK}?api_key={key.api_key}", {}),
        ("POST", f"{LEAK}?api_key={key.api_key}", ways[2]),
        ("DELETE", f"{LEAK}?api_key={key.api_key}", {}),
    ]
    answers = [
        stack.request(method, path, body or None, token=stack.responder) for method, path, body in attempts
    ]
    answers.append(stack.request("POST", LEAK, {**ways[0], "revoke": True}, token=stack.responder))
    assert answers[-1].status_code == 200
    assert not stack.works(key.api_key)

    forms = {value for way in ways for value in way.values()}
    forms |= {base64.b64encode(form.encode()).decode().rstrip("=")[:-1] for form in forms}
    shadow = stack.direct("GET", LEAK).text
    kept = b"".join(path.read_bytes() for path in (stack.folder / "data").iterdir())
    logs = stack.log + (stack.folder / "upstream" / f"{stack.upstream.program}.log").read_text()
    audit = stack.audit.read_text()
    assert f'"{LEAK}"' in audit, "this would show it"
    assert key.lease_id.encode() in kept or stack.lives(key.lease_id) is False
    for form in sorted(forms):
        for where, text in (("shadow", shadow), ("logs", logs), ("audit", audit)):
            assert form not in text, (where, form)
        assert form.encode() not in kept, form
    told = "".join(answer.text + repr(answer.headers) for answer in answers)
    assert not [form for form in forms if form in told], "no answer repeats it"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        (LEAK, b"", "give exactly one of api_key, key_prefix and fingerprint"),
        (LEAK, b"{}", "give exactly one of api_key"),
        (
            LEAK,
            b'{"key_prefix": "sk-holysheep-123456"}',
            "key_prefix must have at least 20 characters, not 19",
        ),
        (LEAK, b'{"fingerprint": "abc"}', "fingerprint must be the SHA-256 of the key"),
        (LEAK, b'{"api_key": 5, "fingerprint": "abc"}', "give exactly one of"),
        (LEAK, b'{"api_key": "\\ud800"}', ""),
        (REVOKE, b"null", "give exactly one of role, entity_id, token_accessor, approle"),
        (REVOKE, b'{"apply": true}', "give exactly one of"),
        (REVOKE, b'{"entity_id": "", "apply": true}', "give exactly one of"),
        (REVOKE, b'{"role": "a", "approle": "b"}', "give exactly one of"),
        (REVOKE, b'{"role": ["a"]}', 'error converting input for field "role"'),
    ],
)
def test_bad_input_is_a_400_that_says_what_is_wanted(
    stack: LeakStack, path: str, body: bytes, said: str
) -> None:
    answer = stack.request("POST", path, content=body, token=stack.responder)
    if said:
        assert (answer.status_code, said in answer.json()["errors"][0]) == (400, True), answer.text
    else:
        assert answer.status_code == 200, "half a character is no key, and no reason to fail"


@pytest.mark.parametrize("path", [LEAK, REVOKE])
@pytest.mark.parametrize("method", ["GET", "DELETE", "LIST", "PATCH"])
def test_other_operations_are_unsupported(stack: LeakStack, path: str, method: str) -> None:
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = stack.request(method, path, content=b"{}" if method == "PATCH" else None, headers=headers)
    assert answer.status_code in {404, 405}, answer.text
    assert "unsupported" in answer.json()["errors"][0]


def test_both_paths_explain_themselves(stack: LeakStack) -> None:
    assert "whose key has leaked" in stack.cli("path-help", LEAK).stdout
    assert "End all leases" in stack.cli("path-help", REVOKE).stdout
    document = stack.request("GET", "sys/internal/specs/openapi").json()
    for path in (LEAK, REVOKE):
        assert list(document["paths"][f"/{path}"]) == ["description", "post"]


# -- everything of one holder -----------------------------------------------------------------------------------


def test_all_leases_of_each_kind_of_holder_end_and_no_others(stack: LeakStack) -> None:
    app = stack.hvac(token="")
    login = app.auth.approle.login(role_id=stack.app.role_id, secret_id=stack.app.secret_id.reveal())["auth"]
    mine, others = login["client_token"], stack.reader("demo").token

    def fresh() -> tuple[list[Key], Key]:
        return [stack.key("demo", mine) for _ in range(3)], stack.key("demo", others)

    for selector in (
        {"entity_id": login["entity_id"]},
        {"token_accessor": login["accessor"]},
        {"approle": "demo"},
    ):
        keys, other = fresh()
        planned = stack.ask(REVOKE, **selector)["data"]
        assert set(planned["leases"]) == {key.lease_id for key in keys}
        assert all(stack.works(key.api_key) for key in keys)

        done = stack.ask(REVOKE, **selector, apply=True)["data"]

        assert (done["count"], done["revoked"], done["failed"], done["pending"], done["active"]) == (
            3,
            3,
            0,
            0,
            0,
        )
        assert not any(stack.works(key.api_key) for key in keys)
        assert stack.works(other.api_key)
    role = stack.role()
    keys = [stack.key(role), stack.key(role, stack.reader(role).token)]
    assert stack.ask(REVOKE, role=role, apply=True)["data"]["revoked"] == 2
    assert not any(stack.works(key.api_key) for key in keys)
    assert stack.works(other.api_key)


def test_what_a_relay_that_is_away_does_not_revoke_goes_on_when_it_is_back(stack: LeakStack) -> None:
    role = stack.role()
    keys = [stack.key(role) for _ in range(12)]
    stack.control.outage()
    try:
        done = stack.ask(REVOKE, role=role, apply=True)
        data = done["data"]
        assert (data["count"], data["revoked"]) == (12, 0)
        assert data["failed"] + data["pending"] == 12
        assert len(data["errors"]) == data["failed"] > 0
        assert "12 leases are not revoked yet" in done["warnings"][0]
    finally:
        stack.control.end_outage()
    eventually(lambda: not any(stack.works(key.api_key) for key in keys), seconds=60, what="the end of all")


# -- limits -----------------------------------------------------------------------------------------------------


def at_once(stack: LeakStack, role: str, count: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: stack.request("GET", f"{MOUNT}/creds/{role}"), range(count)))


def test_no_crowd_gets_past_the_most_leases_of_a_role(stack: LeakStack) -> None:
    role = stack.role(max_leases=5)

    answers = at_once(stack, role, 64)

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 59
    assert len(live(stack, role)) == 5
    refused = next(answer for answer in answers if answer.status_code == 429)
    (text,) = refused.json()["errors"]
    assert text.startswith(f'request path "{MOUNT}/creds/{role}": lease count quota exceeded')
    assert "retry-after" not in refused.headers
    with stack.nothing_minted():
        assert stack.request("GET", f"{MOUNT}/creds/{role}").status_code == 429
    granted = next(answer for answer in answers if answer.status_code == 200)
    assert stack.request("PUT", "sys/leases/revoke", {"lease_id": granted.json()["lease_id"]}).is_success
    assert sorted(answer.status_code for answer in at_once(stack, role, 8)) == [200] + [429] * 7
    assert len(live(stack, role)) == 5


def test_no_crowd_gets_more_keys_than_a_roles_rate(stack: LeakStack) -> None:
    role = stack.role(issue_limit=5, issue_period="1h")

    answers = at_once(stack, role, 64)

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 59
    assert len(live(stack, role)) == 5
    assert stack.ask(REVOKE, role=role, apply=True)["data"]["revoked"] == 5
    with stack.nothing_minted():
        refused = stack.request("GET", f"{MOUNT}/creds/{role}")
    assert refused.status_code == 429
    assert (
        "rate limit quota exceeded: the role's issue_limit is 5 in 1h; try again in "
        in refused.json()["errors"][0]
    )


def test_a_rate_lets_the_next_one_through_in_time(stack: LeakStack) -> None:
    role = stack.role(issue_limit=2, issue_period=3)
    for _ in range(2):
        stack.key(role)
    refused = stack.request("GET", f"{MOUNT}/creds/{role}")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 3
    eventually(lambda: stack.request("GET", f"{MOUNT}/creds/{role}").status_code == 200, what="the next key")


# -- crashes ----------------------------------------------------------------------------------------------------


def test_processes_that_die_leave_no_key_alive_and_no_limit_passed(stack: LeakStack) -> None:
    """The last test here: from now on each worker dies when it first comes to one of two points."""
    doomed, single, rated = (
        stack.role(),
        stack.role(max_leases=1),
        stack.role(issue_limit=1, issue_period="1h"),
    )
    keys = [stack.key(doomed) for _ in range(4)]
    stack.key(rated)
    stack.stop_sidecar()
    stack.settings[VARIABLE] = "issue.relay_answered=kill:1,revoke.marked=kill:1"
    stack.start_sidecar()

    with pytest.raises(httpx.TransportError):
        stack.read_key(single)
    assert len(live(stack, single)) == 1, "a key without a lease, until it is settled"
    with stack.nothing_minted():
        for role in (single, rated):
            assert stack.request("GET", f"{MOUNT}/creds/{role}").status_code == 429
    with pytest.raises(httpx.TransportError):
        stack.ask(REVOKE, role=doomed, apply=True)
    eventually(lambda: not any(stack.works(key.api_key) for key in keys), seconds=60, what="the end of all")
    found = stack.ask(**named("fingerprint", keys[0].api_key))["data"]
    assert found["leases"] == [keys[0].lease_id], "and whose it was is still known"
