"""Every kind of request is judged for what it is: wrapped, a list, a question for help, a patch, or none that has a meaning."""

from __future__ import annotations

import json

import pytest
from tests.integration.authorization.conftest import DENIED, MERGE, marker, same_refusal
from tests.sidecar_stack import MOUNT, SidecarStack, unique


def test_wrapping_limits_of_a_policy_hold(stack: SidecarStack, role: str) -> None:
    token = stack.token(
        f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read", "update"]\n'
        ' min_wrapping_ttl = "10s"\n max_wrapping_ttl = "60s" }'
    ).token
    path = f"{MOUNT}/creds/{role}"
    for method in ("GET", "PUT"):
        same_refusal(stack, method, path, token=token)
        same_refusal(stack, method, path, token=token, headers={"X-Vault-Wrap-TTL": "5m"})
        got = stack.request(method, path, token=token, headers={"X-Vault-Wrap-TTL": "30s"})
        assert got.status_code == 200
        assert got.json()["wrap_info"]["ttl"] == 30


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("form", ["", "jwt"])
def test_a_wrapped_key_keeps_its_path_and_its_lease(
    stack: SidecarStack, role: str, method: str, form: str
) -> None:
    headers = {"X-Vault-Wrap-TTL": "60s", **({"X-Vault-Wrap-Format": form} if form else {})}
    path = f"{MOUNT}/creds/{role}"
    wrapped = stack.request(method, path, {"ttl": "30s"} if method == "POST" else None, headers=headers)

    assert wrapped.status_code == 200
    body = wrapped.json()
    assert (body["request_id"], body["lease_id"], body["data"]) == ("", "", None)
    assert body["wrap_info"]["creation_path"] == path
    assert body.get("mount_type", "") == ""
    token = body["wrap_info"]["token"]
    assert token.startswith("eyJ") == (form == "jwt")
    opened = stack.request("POST", "sys/wrapping/unwrap", {"token": token})
    assert opened.status_code == 200, opened.text
    secret = opened.json()
    assert secret["lease_id"].startswith(f"{path}/")
    assert secret["lease_duration"] == (30 if method == "POST" else 60)
    assert stack.works(secret["data"]["api_key"])
    again = stack.request("POST", "sys/wrapping/unwrap", {"token": token})
    assert again.status_code == 400


def test_a_wrapped_read_of_a_role_and_of_the_list_shows_ours_when_opened(
    stack: SidecarStack, role: str
) -> None:
    headers = {"X-Vault-Wrap-TTL": "60s"}
    for method, path, check in (
        ("GET", f"{MOUNT}/roles/{role}", lambda data: data["ttl"] == 60),
        ("LIST", f"{MOUNT}/roles", lambda data: role in data["keys"] and "~" not in "".join(data["keys"])),
    ):
        wrapped = stack.request(method, path, headers=headers)
        info = wrapped.json()["wrap_info"]
        assert info["creation_path"].rstrip("/") == path
        opened = stack.request("POST", "sys/wrapping/unwrap", {"token": info["token"]})
        assert check(opened.json()["data"]), opened.text


def test_what_is_not_there_is_not_wrapped(stack: SidecarStack) -> None:
    headers = {"X-Vault-Wrap-TTL": "60s"}
    missing = stack.request("GET", f"{MOUNT}/roles/nobody", headers=headers)
    assert (missing.status_code, missing.json()) == (404, {"errors": []})
    unknown = stack.request("GET", f"{MOUNT}/creds/nobody", headers=headers)
    assert (unknown.status_code, unknown.json()) == (400, {"errors": ["unknown role: nobody"]})


@pytest.mark.parametrize("ttl", ["-5", "zz"])
def test_a_bad_wrapping_ttl_is_the_servers_own_refusal(stack: SidecarStack, role: str, ttl: str) -> None:
    for method in ("GET", "PUT"):
        same_refusal(stack, method, f"{MOUNT}/creds/{role}", headers={"X-Vault-Wrap-TTL": ttl})


@pytest.mark.parametrize("query", ["?list=true", "?list=True", "?list=1"])
def test_a_list_shows_roles_and_no_marker(stack: SidecarStack, role: str, query: str) -> None:
    for got in (
        stack.request("GET", f"{MOUNT}/roles{query}"),
        stack.request("GET", f"{MOUNT}/roles/{query}"),
        stack.request("LIST", f"{MOUNT}/roles"),
    ):
        keys = got.json()["data"]["keys"]
        assert {role, "demo"} <= set(keys)
        assert all(key[0].isalnum() for key in keys)


def test_a_list_parameter_that_is_no_bool_is_400(stack: SidecarStack) -> None:
    got = stack.request("GET", f"{MOUNT}/roles?list=banana")
    assert (got.status_code, got.json()) == (400, {"errors": []})


def test_openbaos_filter_of_a_list_holds(openbao_stack: SidecarStack) -> None:
    stack = openbao_stack
    names = sorted(unique(f"filter-{letter}") for letter in "abc")
    for name in names:
        assert stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": "60s"}).status_code in {200, 204}
    token = stack.token(
        f'path "{MOUNT}/roles/" {{ capabilities = ["list"]\n'
        ' list_scan_response_keys_filter_path = "{{ .path }}{{ .key }}" }\n'
        f'path "{MOUNT}/roles/{names[1]}" {{ capabilities = ["read", "list"] }}'
    ).token

    shown = stack.request("LIST", f"{MOUNT}/roles", token=token)
    assert shown.json()["data"]["keys"] == [names[1]]
    wrapped = stack.request("LIST", f"{MOUNT}/roles", token=token, headers={"X-Vault-Wrap-TTL": "60s"})
    opened = stack.request("POST", "sys/wrapping/unwrap", {"token": wrapped.json()["wrap_info"]["token"]})
    assert opened.json()["data"]["keys"] == [names[1]]
    for name in names:
        stack.request("DELETE", f"{MOUNT}/roles/{name}")


def test_help_is_ours_and_needs_a_token(stack: SidecarStack) -> None:
    token = stack.token(["default"]).token
    for method in ("GET", "POST", "HELP"):
        got = stack.request(method, f"{MOUNT}/creds/demo{'' if method == 'HELP' else '?help=1'}", token=token)
        assert got.status_code == 200
        assert got.json()["help"].startswith("Request:        creds/demo")
        assert "Mint a key" in got.json()["help"]
    same_refusal(stack, "GET", f"{MOUNT}/creds/demo?help=1", token="")
    missing = stack.request("GET", f"{MOUNT}/no/such/path?help=1")
    assert (missing.status_code, missing.json()["errors"]) == (
        404,
        ["1 error occurred:\n\t* unsupported path\n\n"],
    )


def test_verbs_without_a_meaning_are_refused_and_change_nothing(stack: SidecarStack, role: str) -> None:
    unsupported = ["1 error occurred:\n\t* unsupported operation\n\n"]
    for method, path, status, texts in (
        ("DELETE", f"creds/{role}", 405, unsupported),
        ("LIST", "creds", 404, ["1 error occurred:\n\t* unsupported path\n\n"]),
        ("GET", "roles", 405, unsupported),
        ("POST", "no/such/path", 404, ["1 error occurred:\n\t* unsupported path\n\n"]),
        ("DELETE", "no/such/path", 404, ["1 error occurred:\n\t* unsupported path\n\n"]),
        ("FOO", f"creds/{role}", 405, []),
        ("GET", "roles/sho%20rt", 404, ["1 error occurred:\n\t* unsupported path\n\n"]),
    ):
        with stack.nothing_minted():
            got = stack.request(method, f"{MOUNT}/{path}", {"a": "b"} if method == "POST" else None)
        assert (got.status_code, got.json()["errors"]) == (status, texts), (method, path)
    assert marker(stack, f"creds/{role}") is not None
    assert marker(stack, "no/such/path") is None
    same_as_real = stack.request("PUT", f"{MOUNT}/roles/", {"a": "b"})
    assert (same_as_real.status_code, same_as_real.json()["errors"]) == (
        400,
        ["cannot write to a path ending in '/'"],
    )


def test_head_and_options_are_answered_as_the_server_does(stack: SidecarStack, role: str) -> None:
    token = stack.reader(role).token
    for method in ("HEAD", "OPTIONS"):
        for given in (token, None, ""):
            with stack.nothing_minted():
                ours = stack.request(method, f"{MOUNT}/creds/{role}", token=given)
            real = stack.direct(method, f"{MOUNT}/creds/{role}", token=given)
            assert (ours.status_code, ours.content) == (real.status_code, real.content), method


def test_scans_and_snapshots_authorise_nothing(stack: SidecarStack, role: str) -> None:
    token = stack.token(f'path "{MOUNT}/*" {{ capabilities = ["read", "list"] }}').token
    with stack.nothing_minted():
        for method, path, statuses in (
            ("SCAN", "roles", {403, 405}),
            ("RECOVER", f"creds/{role}", {400, 405}),
        ):
            assert stack.request(method, f"{MOUNT}/{path}", token=token).status_code in statuses
        if stack.is_vault:
            for query in ("read_snapshot_id=x", "recover_snapshot_id=x"):
                got = stack.request("GET", f"{MOUNT}/creds/{role}?{query}", token=token)
                assert got.status_code == 400
        else:
            assert stack.request("GET", f"{MOUNT}/creds/{role}?scan=true", token=token).status_code == 403


def test_a_patch_needs_its_own_right_and_its_content_type(stack: SidecarStack, role: str) -> None:
    patcher = stack.token(f'path "{MOUNT}/roles/{role}" {{ capabilities = ["patch", "read"] }}').token
    updater = stack.token(f'path "{MOUNT}/roles/{role}" {{ capabilities = ["update"] }}').token
    path = f"{MOUNT}/roles/{role}"

    patched = stack.request("PATCH", path, content=b'{"ttl": "40s"}', token=patcher, headers=MERGE)
    assert patched.status_code in {200, 204}, patched.text
    assert stack.request("GET", path, token=patcher).json()["data"]["ttl"] == 40
    refused = stack.request("PATCH", path, content=b'{"ttl": "50s"}', token=updater, headers=MERGE)
    assert (refused.status_code, refused.json()) == (403, DENIED)
    for headers, status, text in (
        ({}, 400, "mime: no media type"),
        (
            {"Content-Type": "application/json"},
            415,
            "PATCH requires Content-Type of application/merge-patch+json, provided application/json",
        ),
    ):
        got = stack.request("PATCH", path, content=b'{"ttl": "50s"}', token=patcher, headers=headers)
        assert (got.status_code, got.json()["errors"]) == (status, [text])
    missing = stack.request("PATCH", f"{MOUNT}/roles/nobody", content=b'{"ttl": "50s"}', headers=MERGE)
    assert missing.status_code in {400, 404}
    assert stack.request("GET", path).json()["data"]["ttl"] == 40


def test_unknown_parameters_are_warned_about_by_us_once(stack: SidecarStack, role: str) -> None:
    got = stack.request("GET", f"{MOUNT}/creds/{role}?zzz=1")
    assert got.json()["warnings"] == ["Endpoint ignored these unrecognized parameters: [zzz]"]


def test_a_body_larger_than_a_policy_can_mean_stays_here(stack: SidecarStack, role: str) -> None:
    """The server would have to store it; it sees the field's name and no value."""
    got = stack.request(
        "POST", f"{MOUNT}/roles/{role}", {"metadata": {"note": "x" * 5000}, "zzz": "y" * 900_000}
    )
    assert got.status_code in {200, 204, 400}
    assert json.dumps(marker(stack, f"roles/{role}")).count("y") < 100
