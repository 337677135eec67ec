"""Leases of ours are looked up, listed, renewed and revoked at the upstream's own endpoints, by whoever may."""

from __future__ import annotations

import json
import re
from typing import Any

import hvac.exceptions
import pytest
from tests.integration.intercepts.stand import Key, Stand

ALL = """
path "sys/leases/*" { capabilities = ["create", "read", "update", "list", "sudo"] }
path "sys/renew*" { capabilities = ["update"] }
path "sys/revoke*" { capabilities = ["update", "sudo"] }
"""
NO_SUCH = "creds/demo/D9D9CCNM368y6Ml8TI2095X5"


@pytest.fixture
def path(stand: Stand) -> str:
    return stand.shared_mount()


@pytest.fixture
def key(stand: Stand, path: str) -> Key:
    return stand.key(path)


def envelope_keys(stand: Stand) -> list[str]:
    keys = ["request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth"]
    return [*keys, "mount_type"] if stand.is_vault else keys


# -- look-up ----------------------------------------------------------------------------------------------------


def test_a_lease_is_looked_up_with_the_keys_that_the_upstream_gives_its_own(stand: Stand, key: Key) -> None:
    stand.token()
    theirs_id = (
        "auth/token/create/"
        + stand.ok("LIST", "sys/leases/lookup/auth/token/create", upstream=True)["data"]["keys"][-1]
    )
    theirs = stand.ok("PUT", "sys/leases/lookup", {"lease_id": theirs_id})

    ours = stand.ok("PUT", "sys/leases/lookup", {"lease_id": key.lease_id})

    assert list(ours) == list(theirs) == envelope_keys(stand)
    assert list(ours["data"]) == list(theirs["data"])
    assert ours.get("mount_type") == theirs.get("mount_type")
    data = ours["data"]
    assert data["id"] == key.lease_id
    assert data["last_renewal"] is None
    assert data["renewable"] is True
    assert 590 <= data["ttl"] <= 600
    assert data["issue_time"].endswith("Z")
    if not stand.is_vault:
        assert data["path"] == key.lease_id.rpartition("/")[0]


def test_hvac_and_the_command_line_see_the_lease(stand: Stand, path: str, key: Key) -> None:
    client = stand.hvac()
    assert client.sys.read_lease(key.lease_id)["data"]["id"] == key.lease_id
    assert client.sys.list_leases(f"{path}/creds/demo")["data"]["keys"] == [key.lease_id.rpartition("/")[2]]
    said = json.loads(stand.cli("lease", "lookup", "-format=json", key.lease_id).stdout)
    assert said["data"]["id"] == key.lease_id


def test_an_unknown_lease_of_ours_is_unknown_in_the_upstreams_words(stand: Stand, path: str) -> None:
    lease = f"{path}/{NO_SUCH}"
    for method, where, body in (
        ("PUT", "sys/leases/lookup", {"lease_id": lease}),
        ("PUT", "sys/leases/renew", {"lease_id": lease}),
        ("PUT", f"sys/leases/renew/{lease}", None),
        ("PUT", "sys/leases/revoke", {"lease_id": lease}),
        ("PUT", "sys/leases/revoke", {"lease_id": lease, "sync": False}),
        ("PUT", "sys/leases/lookup", {}),
        ("PUT", "sys/leases/lookup", {"lease_id": 5}),
        ("PUT", "sys/leases/renew", {"lease_id": lease, "increment": -5}),
        ("LIST", f"sys/leases/lookup/{path}/creds/demo", None),
    ):
        ours = stand.call(method, where, body)
        theirs = stand.call(method, where, body, upstream=True)
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text), (where, body)


# -- renewal ----------------------------------------------------------------------------------------------------


def test_a_lease_is_renewed_from_now_by_body_and_by_path(stand: Stand, key: Key) -> None:
    renewed = stand.ok("PUT", "sys/leases/renew", {"lease_id": key.lease_id, "increment": 1200})
    assert list(renewed) == envelope_keys(stand)
    assert (renewed["lease_id"], renewed["renewable"], renewed["lease_duration"]) == (
        key.lease_id,
        True,
        1200,
    )
    assert (renewed["data"], renewed["warnings"]) == (None, None)
    assert renewed.get("mount_type") == ("system" if stand.is_vault else None)

    shorter = stand.ok("POST", f"sys/leases/renew/{key.lease_id}", {"increment": "30s"})
    assert shorter["lease_duration"] == 30
    default = stand.ok("PUT", "sys/leases/renew", {"lease_id": key.lease_id, "increment": None})
    assert default["lease_duration"] == 600


def test_hvac_and_the_command_line_renew_the_lease(stand: Stand, key: Key) -> None:
    assert stand.hvac().sys.renew_lease(key.lease_id, increment=900)["lease_duration"] == 900
    said = json.loads(stand.cli("lease", "renew", "-format=json", "-increment=700", key.lease_id).stdout)
    assert said["lease_duration"] == 700
    assert 690 <= stand.ok("PUT", "sys/leases/lookup", {"lease_id": key.lease_id})["data"]["ttl"] <= 700


def test_a_renewal_past_the_maximum_is_capped_with_the_warning(stand: Stand, key: Key) -> None:
    renewed = stand.ok("PUT", "sys/leases/renew", {"lease_id": key.lease_id, "increment": "10h", "note": 1})

    assert re.match(
        r'TTL of "10h" exceeded the effective max_ttl of "(1h|59m\d+s)"; TTL value is capped',
        renewed["warnings"][0],
    )
    assert renewed["warnings"][1:] == ["Endpoint ignored these unrecognized parameters: [note]"]


@pytest.mark.parametrize("increment", ["-5s", "abc", 1.5, True, [1]])
def test_what_is_no_increment_is_refused_as_the_upstream_does(stand: Stand, key: Key, increment: Any) -> None:
    body = {"lease_id": key.lease_id, "increment": increment}
    ours = stand.call("PUT", "sys/leases/renew", body)
    theirs = stand.call("PUT", "sys/leases/renew", body, upstream=True)

    assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
    assert ours.status_code == 400


# -- revocation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["body", "path"])
def test_a_revoked_lease_is_over_when_the_answer_comes(stand: Stand, key: Key, form: str) -> None:
    if form == "body":
        answer = stand.call("PUT", "sys/leases/revoke", {"lease_id": key.lease_id})
    else:
        answer = stand.call("PUT", f"sys/leases/revoke/{key.lease_id}")

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["Content-Type"] == "application/json"
    assert not stand.works(key)
    assert stand.call("PUT", "sys/leases/lookup", {"lease_id": key.lease_id}).json() == {
        "errors": ["invalid lease"]
    }
    assert stand.call("PUT", "sys/leases/renew", {"lease_id": key.lease_id}).json() == {
        "errors": ["lease not found"]
    }
    assert stand.call("PUT", "sys/leases/revoke", {"lease_id": key.lease_id}).status_code == 204


@pytest.mark.parametrize("sync", [False, "false", 0, None])
def test_without_sync_the_lease_ends_soon_after_the_answer(stand: Stand, key: Key, sync: Any) -> None:
    answer = stand.call("PUT", "sys/leases/revoke", {"lease_id": key.lease_id, "sync": sync})

    assert (answer.status_code, answer.content) == (202, b"")
    assert stand.gone(key)


def test_without_sync_the_answer_does_not_wait_for_the_relay(stand: Stand, path: str, key: Key) -> None:
    stand.faults({"kind": "error", "method": "DELETE", "path": "/v1/keys/*", "count": None})
    for where, body in (
        ("sys/leases/revoke", {"lease_id": key.lease_id, "sync": False}),
        (f"sys/leases/revoke-prefix/{path}", {"sync": False}),
    ):
        assert stand.call("PUT", where, body).status_code == 202
    assert stand.works(key)


def test_a_failed_revocation_says_why_and_is_tried_again(stand: Stand, key: Key) -> None:
    stand.faults({"kind": "error", "method": "DELETE", "path": "/v1/keys/*", "count": None})

    answer = stand.call("PUT", "sys/leases/revoke", {"lease_id": key.lease_id})
    assert answer.status_code == 400
    assert answer.json()["errors"][0].startswith(
        "failed to revoke entry: resp: (*logical.Response)(nil) err: "
    )
    shown = stand.ok("PUT", "sys/leases/lookup", {"lease_id": key.lease_id})["data"]
    assert shown["ttl"] <= 0
    assert shown["renewable"] is False
    assert ("revoke_error" in shown) is (not stand.is_vault)

    failing = stand.ok("GET", "sys/leases?type=irrevocable")["data"]
    assert key.lease_id in {lease["lease_id"] for lease in failing["leases"]}
    accessor = getattr(stand.record(key.lease_id.split("/")[0]), "accessor", "")
    assert {lease["mount_id"] for lease in failing["leases"] if lease["lease_id"] == key.lease_id} == {
        accessor
    }
    assert stand.ok("GET", "sys/leases/count?type=irrevocable")["data"]["counts"][accessor] == 1

    stand.faults()
    assert stand.call("PUT", "sys/leases/revoke", {"lease_id": key.lease_id}).status_code == 204
    assert not stand.works(key)
    assert accessor not in stand.ok("GET", "sys/leases/count?type=irrevocable")["data"]["counts"]


def test_the_command_line_revokes_one_lease_a_prefix_and_by_force(stand: Stand, path: str) -> None:
    one, *others = [stand.key(path) for _ in range(3)]
    stand.cli("lease", "revoke", "-sync", one.lease_id)
    assert not stand.works(one)
    assert all(stand.works(key) for key in others)

    stand.cli("lease", "revoke", "-prefix", "-sync", f"{path}/creds")
    assert not any(stand.works(key) for key in others)

    late = stand.key(path)
    stand.cli("lease", "revoke", "-force", "-prefix", path)
    assert stand.gone(late)

    queued = stand.key(path)
    stand.cli("lease", "revoke", queued.lease_id)
    assert stand.gone(queued)


def test_hvac_revokes(stand: Stand, path: str) -> None:
    client = stand.hvac()
    first, second, third = (stand.key(path) for _ in range(3))
    client.sys.revoke_lease(first.lease_id)
    assert not stand.works(first)
    client.sys.revoke_prefix(f"{path}/creds/demo")
    assert not stand.works(second)
    assert not stand.works(third)
    fourth = stand.key(path)
    client.sys.revoke_force(path)
    assert stand.gone(fourth)


def test_a_prefix_that_is_a_lease_id_revokes_that_lease_only(stand: Stand, path: str) -> None:
    first, second = stand.key(path), stand.key(path)

    assert stand.call("PUT", f"sys/leases/revoke-prefix/{first.lease_id}").status_code == 204
    assert not stand.works(first)
    assert stand.works(second)


def test_a_prefix_is_a_directory_and_no_beginning_of_a_name(stand: Stand, path: str, key: Key) -> None:
    for prefix in (path[:-1], f"{path}/creds/dem", f"{path}/cred"):
        assert stand.call("PUT", f"sys/leases/revoke-prefix/{prefix}").status_code == 204
    assert stand.works(key)


def test_a_path_ending_in_a_slash_is_refused_as_the_upstream_does(stand: Stand, path: str, key: Key) -> None:
    for where in (f"sys/leases/revoke-prefix/{path}/", f"sys/leases/revoke/{key.lease_id}/"):
        ours, theirs = stand.call("PUT", where), stand.call("PUT", where, upstream=True)
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
        assert ours.status_code == 400
    assert stand.works(key)


def test_a_prefix_above_mounts_of_both_sides_ends_leases_of_both(stand: Stand) -> None:
    folder = stand.path()
    ours, theirs = f"{folder}/ours", f"{folder}/theirs"
    stand.mount(ours)
    key = stand.key(ours)
    stand.ok("POST", f"sys/mounts/{theirs}", {"type": "pki"}, upstream=True)
    stand.ok("POST", f"sys/auth/{folder}", {"type": "userpass"}, upstream=True)
    try:
        stand.ok("POST", f"auth/{folder}/users/u", {"password": "p"}, upstream=True)
        token = stand.ok("POST", f"auth/{folder}/login/u", {"password": "p"}, token=None, upstream=True)
        assert folder + "/" in stand.ok("LIST", "sys/leases/lookup")["data"]["keys"]
        assert stand.ok("LIST", f"sys/leases/lookup/{folder}")["data"]["keys"] == ["ours/"]
        assert stand.ok("LIST", f"sys/leases/lookup/auth/{folder}/login")["data"]["keys"] == ["u/"]

        assert stand.call("PUT", f"sys/leases/revoke-prefix/{folder}").status_code == 204
        assert not stand.works(key)
        assert stand.call("PUT", f"sys/leases/revoke-prefix/auth/{folder}").status_code == 204
        looked = stand.call("GET", "auth/token/lookup-self", token=token["auth"]["client_token"])
        assert looked.status_code == 403
    finally:
        stand.call("DELETE", f"sys/mounts/{ours}")
        stand.call("DELETE", f"sys/mounts/{theirs}", upstream=True)
        stand.call("DELETE", f"sys/auth/{folder}", upstream=True)


def test_legacy_paths_do_what_they_do_at_the_upstream(stand: Stand, path: str) -> None:
    """HashiCorp Vault serves them; OpenBao answers 404, and then nothing may happen here either."""
    keys = [stand.key(path) for _ in range(4)]
    renew = stand.call("PUT", "sys/renew", {"lease_id": keys[0].lease_id, "increment": 77})
    in_path = stand.call("PUT", f"sys/renew/{keys[0].lease_id}", {"increment": 78})
    revoked = stand.call("PUT", "sys/revoke", {"lease_id": keys[0].lease_id})
    by_path = stand.call("PUT", f"sys/revoke/{keys[1].lease_id}")
    prefix = stand.call("PUT", f"sys/revoke-prefix/{keys[2].lease_id}")
    force = stand.call("PUT", f"sys/revoke-force/{path}")

    answers = [renew, in_path, revoked, by_path, prefix, force]
    if stand.is_vault:
        assert [answer.status_code for answer in answers] == [200, 200, 204, 204, 204, 204]
        assert [renew.json()["lease_duration"], in_path.json()["lease_duration"]] == [77, 78]
        assert not any(stand.works(key) for key in keys)
    else:
        assert {(answer.status_code, answer.text) for answer in answers} == {
            (404, '{"errors":["1 error occurred:\\n\\t* unsupported path\\n\\n"]}\n')
        }
        assert all(stand.works(key) for key in keys)


# -- who may ----------------------------------------------------------------------------------------------------


def test_who_may_not_touch_leases_does_not_touch_ours(stand: Stand, path: str, key: Key) -> None:
    no_sudo = ALL.replace(', "sudo"', "")
    limited = 'path "sys/leases/revoke" { capabilities = ["update"] allowed_parameters = { "lease_id" = ["other/*"] } }'
    tokens = {
        "default": stand.token(),
        "no sudo": stand.token(no_sudo),
        "other leases": stand.token(limited),
        "elsewhere": stand.token(ALL, bound_cidrs="192.0.2.0/24"),
        "none": None,
        "made up": "made-up",
    }
    requests = [
        ("PUT", "sys/leases/revoke", {"lease_id": key.lease_id}, {"no sudo"}),
        ("PUT", f"sys/leases/revoke/{key.lease_id}", {}, {"no sudo"}),
        ("PUT", f"sys/leases/revoke-prefix/{path}", {}, set()),
        ("PUT", f"sys/leases/revoke-force/{path}", {}, set()),
        ("PUT", f"sys/revoke-prefix/{path}", {}, set()),
        ("LIST", f"sys/leases/lookup/{path}/creds", None, set()),
    ]
    for method, where, body, granted in requests:
        for name, token in tokens.items():
            if name in granted:
                continue
            ours = stand.call(method, where, body, token=token)
            theirs = stand.call(method, where, body, token=token, upstream=True)
            assert ours.status_code in {403, 404}, (name, where, ours.text)
            assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text), (name, where)
            assert "keys" not in ours.text
    for token in (None, "made-up", tokens["elsewhere"]):
        for where in ("sys/leases/lookup", "sys/leases/renew"):
            answer = stand.call("PUT", where, {"lease_id": key.lease_id}, token=token)
            assert answer.status_code == 403
    assert stand.works(key)


def test_any_token_with_the_default_policy_may_look_up_and_renew_a_lease_it_knows(
    stand: Stand, key: Key
) -> None:
    token = stand.token()
    assert (
        stand.ok("PUT", "sys/leases/lookup", {"lease_id": key.lease_id}, token=token)["data"]["id"]
        == key.lease_id
    )
    assert (
        stand.ok("PUT", "sys/leases/renew", {"lease_id": key.lease_id}, token=token)["lease_duration"] == 600
    )


def test_one_request_spends_one_use(stand: Stand, key: Key) -> None:
    token = stand.token(ALL, num_uses=3)
    accessor = stand.ok("POST", "auth/token/lookup", {"token": token}, upstream=True)["data"]["accessor"]
    stand.ok("PUT", "sys/leases/renew", {"lease_id": key.lease_id}, token=token)
    stand.ok("PUT", "sys/leases/lookup", {"lease_id": key.lease_id}, token=token)

    left = stand.ok("POST", "auth/token/lookup-accessor", {"accessor": accessor}, upstream=True)["data"][
        "num_uses"
    ]
    assert left == 1
    assert stand.call("PUT", "sys/leases/revoke", {"lease_id": key.lease_id}, token=token).status_code == 204
    assert not stand.works(key)


@pytest.mark.parametrize(
    "content",
    [
        b'{"lease_id":"%(ours)s","lease_id":"other/creds/x/1"}',
        b'{"lease_id":"other/creds/x/1","lease_id":"%(ours)s"}',
        b'{"lease_id":"%(ours)s"} tail',
        b'{"lease_id":"%(ours)s"',
        b'["%(ours)s"]',
        b'{"lease_id":"%(ours)s","x":' + b"[" * 400 + b"]" * 400 + b"}",
    ],
)
def test_a_body_that_can_be_read_in_two_ways_revokes_nothing_and_says_so(
    stand: Stand, key: Key, content: bytes
) -> None:
    """The upstream may take the first or the last of two values; a 204 for the wrong one would be a lie."""
    body = content.replace(b"%(ours)s", key.lease_id.encode())
    for where in ("sys/leases/revoke", "sys/leases/renew", "sys/leases/lookup"):
        assert stand.call("PUT", where, content=body).status_code == 400
    assert stand.works(key)


def test_a_form_is_read_as_the_upstream_reads_it(stand: Stand, key: Key) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = f"lease_id={key.lease_id}".encode()

    assert stand.call("PUT", "sys/leases/revoke", content=body, headers=headers).status_code == 204
    assert not stand.works(key)


def test_asking_for_help_revokes_nothing(stand: Stand, path: str, key: Key) -> None:
    for where in (f"sys/leases/revoke-prefix/{path}", f"sys/leases/revoke/{key.lease_id}", "sys/leases/tidy"):
        assert "help" in stand.ok("PUT", f"{where}?help=1")
    assert stand.works(key)


# -- the rest ---------------------------------------------------------------------------------------------------


def test_leases_are_listed_level_by_level_beside_the_upstreams(stand: Stand, path: str, key: Key) -> None:
    for method, suffix in (("LIST", ""), ("GET", "?list=true"), ("GET", "?list=True")):
        top = stand.ok(method, f"sys/leases/lookup{suffix}")["data"]["keys"]
        assert {"auth/", f"{path}/"} <= set(top)
        assert top == sorted(top)
    assert stand.ok("LIST", f"sys/leases/lookup/{path}")["data"]["keys"] == ["creds/"]
    assert stand.ok("LIST", f"sys/leases/lookup/{path}/creds/")["data"]["keys"] == ["demo/"]
    listed = stand.ok("LIST", f"sys/leases/lookup/{path}/creds/demo")
    assert listed["data"]["keys"] == [key.lease_id.rpartition("/")[2]]
    assert list(listed) == envelope_keys(stand)
    assert stand.call("GET", f"sys/leases/lookup/{path}/creds").status_code == 405
    assert stand.call("GET", f"sys/leases/lookup/{path}/creds?list=banana").status_code == 400


def test_tidy_is_accepted_in_the_upstreams_words(stand: Stand) -> None:
    answer = stand.call("POST", "sys/leases/tidy")
    assert answer.status_code == 202
    assert "Tidy operation successfully started" in answer.json()["warnings"][0]


def test_a_wrong_limit_is_refused_by_the_upstream(stand: Stand) -> None:
    for limit in ("0", "-1", "x"):
        where = f"sys/leases?type=irrevocable&limit={limit}"
        ours, theirs = stand.call("GET", where), stand.call("GET", where, upstream=True)
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
        assert ours.status_code == 500
    assert stand.call("GET", "sys/leases?type=other").status_code == 404
    assert stand.ok("GET", "sys/leases?type=irrevocable&limit=none")["data"]["lease_count"] >= 0


def test_a_renewal_can_be_wrapped(stand: Stand, key: Key) -> None:
    body = {"lease_id": key.lease_id, "increment": 90}
    wrapped = stand.ok("PUT", "sys/leases/renew", body, headers={"X-Vault-Wrap-TTL": "60"})
    assert wrapped["data"] is None
    assert wrapped["lease_id"] == ""

    inside = stand.ok("PUT", "sys/wrapping/unwrap", {"token": wrapped["wrap_info"]["token"]})
    assert (inside["lease_id"], inside["lease_duration"]) == (key.lease_id, 90)


def test_hvac_hears_of_an_unknown_lease_what_it_expects(stand: Stand, path: str) -> None:
    with pytest.raises(hvac.exceptions.InvalidRequest, match="lease not found"):
        stand.hvac().sys.renew_lease(f"{path}/{NO_SUCH}")
