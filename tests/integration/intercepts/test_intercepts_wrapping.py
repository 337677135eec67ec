"""A wrapped key arrives whole, once, by whichever client unwraps it; and a marker of ours never arrives."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hvac.exceptions
import pytest
from tests.integration.intercepts.stand import Key, Stand, eventually

SPENT = {"errors": ["wrapping token is not valid or does not exist"]}


@pytest.fixture
def path(stand: Stand) -> str:
    return stand.shared_mount()


def wrapped(stand: Stand, path: str, *, method: str = "GET", **headers: str) -> dict[str, Any]:
    """The `wrap_info` of a wrapped key."""
    answer = stand.ok(method, f"{path}/creds/demo", headers={"X-Vault-Wrap-TTL": "5m", **headers})
    assert answer["data"] is None
    assert (answer["lease_id"], answer["request_id"]) == ("", "")
    info: dict[str, Any] = answer["wrap_info"]
    return info


def unwrap(stand: Stand, token: str, by: str) -> dict[str, object]:
    if by == "body":
        return stand.ok("PUT", "sys/wrapping/unwrap", {"token": token})
    if by == "header":
        return stand.ok("POST", "sys/wrapping/unwrap", token=token)
    if by == "hvac":
        unwrapped: dict[str, object] = stand.hvac(token).sys.unwrap()
        return unwrapped
    said: dict[str, object] = json.loads(stand.cli("unwrap", "-format=json", token).stdout)
    return said


@pytest.mark.parametrize("by", ["body", "header", "hvac", "cli"])
def test_a_wrapped_key_is_unwrapped_whole_and_once(stand: Stand, path: str, by: str) -> None:
    info = wrapped(stand, path)
    assert (info["creation_path"], info["ttl"]) == (f"{path}/creds/demo", 300)
    looked = stand.ok("PUT", "sys/wrapping/lookup", {"token": info["token"]})["data"]
    assert (looked["creation_path"], looked["creation_ttl"]) == (f"{path}/creds/demo", 300)

    inside = unwrap(stand, info["token"], by)

    assert str(inside["lease_id"]).startswith(f"{path}/creds/demo/")
    assert (inside["renewable"], inside["lease_duration"], inside.get("wrap_info")) == (True, 600, None)
    data = inside["data"]
    assert isinstance(data, dict)
    assert stand.works(Key(str(inside["lease_id"]), data["api_key"], 600))
    assert "aikeys_marker" not in json.dumps(inside)
    if by in {"body", "header"}:
        assert inside["request_id"]
        assert inside.get("mount_type") == ("ai-keys" if stand.is_vault else None)
        plain = stand.ok("GET", f"{path}/creds/demo")
        assert list(inside) == list(plain)
        assert list(data) == list(plain["data"])

    again = stand.call("PUT", "sys/wrapping/unwrap", {"token": info["token"]})
    assert (again.status_code, again.json()) == (400, SPENT)


def test_the_command_line_wraps_and_unwraps(stand: Stand, path: str) -> None:
    token = stand.cli("read", "-wrap-ttl=2m", "-field=wrapping_token", f"{path}/creds/demo").stdout.strip()
    api_key = stand.cli("unwrap", "-field=api_key", token).stdout.strip()

    assert stand.works(Key("", api_key, 0))


def test_hvac_wraps_and_unwraps(stand: Stand, path: str) -> None:
    info = stand.hvac().read(f"{path}/creds/demo", wrap_ttl="2m")["wrap_info"]
    client = stand.hvac()
    assert client.sys.unwrap(info["token"])["lease_id"].startswith(f"{path}/creds/demo/")
    with pytest.raises(hvac.exceptions.InvalidRequest, match="wrapping token is not valid"):
        client.sys.unwrap(info["token"])


def test_a_key_asked_for_with_a_write_is_wrapped_too(stand: Stand, path: str) -> None:
    info = wrapped(stand, path, method="POST")
    assert info["creation_path"] == f"{path}/creds/demo"
    assert unwrap(stand, info["token"], "body")["lease_id"]


def test_the_token_works_in_every_form_in_which_it_may_come_back(stand: Stand, path: str) -> None:
    info = wrapped(stand, path, **{"X-Vault-Wrap-Format": "jwt"})
    assert info["token"].startswith("eyJ")
    assert unwrap(stand, info["token"], "body")["lease_id"]

    jwt = wrapped(stand, path, **{"X-Vault-Wrap-Format": "jwt"})["token"]
    claims = jwt.split(".")[1]
    inner = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["jti"]
    assert unwrap(stand, inner, "header")["lease_id"]


def test_a_rewrapped_key_is_behind_the_new_token_only(stand: Stand, path: str) -> None:
    old = wrapped(stand, path)
    new = stand.ok("PUT", "sys/wrapping/rewrap", {"token": old["token"]})["wrap_info"]
    assert new["creation_path"] == f"{path}/creds/demo"
    newest = stand.ok("POST", "sys/wrapping/rewrap", {"token": new["token"]})["wrap_info"]

    for spent in (old, new):
        assert stand.call("PUT", "sys/wrapping/unwrap", {"token": spent["token"]}).json() == SPENT
    assert unwrap(stand, newest["token"], "body")["lease_id"]


def test_a_refused_rewrap_leaves_the_key_where_it_is(stand: Stand, path: str) -> None:
    info = wrapped(stand, path)
    denied = stand.call("PUT", "sys/wrapping/rewrap", {"token": info["token"]}, token=stand.token())

    assert denied.status_code == 403
    assert unwrap(stand, info["token"], "body")["lease_id"]


def test_unwrapping_into_another_wrapping_keeps_the_key(stand: Stand, path: str) -> None:
    info = wrapped(stand, path)
    outer = stand.ok(
        "PUT", "sys/wrapping/unwrap", {"token": info["token"]}, headers={"X-Vault-Wrap-TTL": "60"}
    )
    assert outer["wrap_info"]["creation_path"] == "sys/wrapping/unwrap"

    assert unwrap(stand, outer["wrap_info"]["token"], "body")["lease_id"]


def test_past_the_sidecar_there_is_nothing_but_the_marker(stand: Stand, path: str) -> None:
    info = wrapped(stand, path)
    inside = stand.ok("PUT", "sys/wrapping/unwrap", {"token": info["token"]}, upstream=True)

    assert set(inside["data"]) == {"aikeys_marker", "note"}
    assert inside["lease_id"] == ""


def test_a_marker_never_leaves_through_the_sidecar(stand: Stand, path: str) -> None:
    """Wrapped past the sidecar, or by one with another database: what belongs inside is not on record here."""
    for where in (f"{path}/creds/demo", f"{path}/roles/demo"):
        info = stand.ok("GET", where, headers={"X-Vault-Wrap-TTL": "60"}, upstream=True)["wrap_info"]
        answer = stand.call("PUT", "sys/wrapping/unwrap", {"token": info["token"]})
        assert (answer.status_code, answer.json()) == (400, SPENT)
        nested = stand.ok("GET", where, headers={"X-Vault-Wrap-TTL": "60"}, upstream=True)["wrap_info"]
        outer = stand.ok(
            "PUT", "sys/wrapping/unwrap", {"token": nested["token"]}, headers={"X-Vault-Wrap-TTL": "60"}
        )
        answer = stand.call("PUT", "sys/wrapping/unwrap", {"token": outer["wrap_info"]["token"]})
        assert (answer.status_code, answer.json()) == (400, SPENT)


def test_wrappings_of_others_are_the_upstreams(stand: Stand) -> None:
    path = stand.path()
    stand.ok("POST", f"sys/mounts/{path}", {"type": "kv"})
    stand.ok("PUT", f"{path}/x", {"a": "b"})
    info = stand.ok("GET", f"{path}/x", headers={"X-Vault-Wrap-TTL": "60"})["wrap_info"]
    inside = stand.ok("PUT", "sys/wrapping/unwrap", {"token": info["token"]})
    assert (inside["data"], inside.get("mount_type")) == ({"a": "b"}, "kv" if stand.is_vault else None)

    listed = stand.ok("POST", "sys/wrapping/wrap", {"k": [1]}, headers={"X-Vault-Wrap-TTL": "60"})[
        "wrap_info"
    ]
    renewed = stand.ok("PUT", "sys/wrapping/rewrap", {"token": listed["token"]})["wrap_info"]
    assert stand.ok("PUT", "sys/wrapping/unwrap", {"token": renewed["token"]})["data"] == {"k": [1]}
    for body in ({"token": "s.nope"}, {}, {"token": ""}):
        ours = stand.call("PUT", "sys/wrapping/unwrap", body)
        theirs = stand.call("PUT", "sys/wrapping/unwrap", body, upstream=True)
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)


def test_the_oldest_way_to_unwrap_works_too(stand: Stand, path: str) -> None:
    info = wrapped(stand, path)
    inside = json.loads(stand.ok("GET", "cubbyhole/response", token=info["token"])["data"]["response"])

    assert inside["lease_id"].startswith(f"{path}/creds/demo/")
    assert stand.works(Key(inside["lease_id"], inside["data"]["api_key"], 0))
    again = stand.call("GET", "cubbyhole/response", token=info["token"])
    assert again.status_code == 403
    assert stand.call("GET", "cubbyhole/response", token=stand.token()).status_code == 404


def test_of_many_who_unwrap_at_once_one_gets_the_key(stand: Stand, path: str) -> None:
    token = wrapped(stand, path)["token"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: stand.call("PUT", "sys/wrapping/unwrap", {"token": token}), range(8))
        )

    statuses = [answer.status_code for answer in answers]
    # Vault itself answers 204 to one that comes upon the token between its use and its end.
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 204, 400}
    assert sum("api_key" in answer.text for answer in answers) == 1


def test_a_key_that_nobody_unwraps_ends_with_its_wrapping(stand: Stand, path: str) -> None:
    stand.ok("GET", f"{path}/creds/demo", headers={"X-Vault-Wrap-TTL": "2s"})
    listed = stand.sidecar.store.lease_ids_with_prefix(f"{path}/creds/demo/")

    assert len(listed) == 1
    assert eventually(lambda: stand.sidecar.store.lease(listed[0]) is None, 15)


def test_a_wrapped_role_is_the_role(stand: Stand, path: str) -> None:
    answer = stand.ok("GET", f"{path}/roles/demo", headers={"X-Vault-Wrap-TTL": "60"})
    inside = stand.ok("PUT", "sys/wrapping/unwrap", {"token": answer["wrap_info"]["token"]})

    assert inside["data"] == stand.ok("GET", f"{path}/roles/demo")["data"]


@pytest.mark.parametrize("below", ["", "creds/demo"])
def test_a_list_of_leases_is_wrapped_whole(stand: Stand, path: str, below: str) -> None:
    """With the upstream's own beside them, and where it has none."""
    tail = str(stand.ok("GET", f"{path}/creds/demo")["lease_id"]).rpartition("/")[2]
    where = f"sys/leases/lookup/{path}/{below}" if below else "sys/leases/lookup"
    plain = stand.ok("LIST", where)["data"]["keys"]
    wrapped = stand.ok("LIST", where, headers={"X-Vault-Wrap-TTL": "60"})
    assert wrapped["data"] is None
    opened = stand.ok("PUT", "sys/wrapping/unwrap", {"token": wrapped["wrap_info"]["token"]})
    assert opened["data"]["keys"] == plain
    assert plain == [tail] if below else {f"{path}/", "auth/"} <= set(plain)


def test_a_wrapped_list_is_refused_to_who_may_not_list(stand: Stand, path: str) -> None:
    tail = str(stand.ok("GET", f"{path}/creds/demo")["lease_id"]).rpartition("/")[2]
    answer = stand.call(
        "LIST",
        f"sys/leases/lookup/{path}/creds/demo",
        token=stand.token('path "nothing" { capabilities = ["read"] }'),
        headers={"X-Vault-Wrap-TTL": "60"},
    )
    assert answer.status_code == 403
    assert tail not in answer.text
