"""Where HashiCorp Vault and OpenBao differ, the sidecar follows the one that stands behind it.

One test for each difference that a client could feel; those about bodies, paths and tokens are in test_bad_input.py
and test_bad_callers.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.sidecar_stack import MOUNT, SidecarStack, eventually, unique

CREDS = f"{MOUNT}/creds/demo"
SEMVER = re.compile(r"^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$")
ENVELOPE = [
    "request_id",
    "lease_id",
    "renewable",
    "lease_duration",
    "data",
    "wrap_info",
    "warnings",
    "auth",
]


def test_every_answer_names_its_kind_of_mount_where_the_server_does(stack: SidecarStack) -> None:
    """Vault says so in the last field, OpenBao not at all; ours is our own type, never the shadow's."""
    secret = stack.request("GET", CREDS)
    lease_id = secret.json()["lease_id"]
    wrapped = stack.request("GET", CREDS, headers={"X-Vault-Wrap-TTL": "60"})
    token = wrapped.json()["wrap_info"]["token"]
    answers = [
        (secret, "ai-keys"),
        (stack.request("PUT", CREDS, {"ttl": 30}), "ai-keys"),
        (stack.request("GET", f"{MOUNT}/roles/demo"), "ai-keys"),
        (stack.request("LIST", f"{MOUNT}/roles"), "ai-keys"),
        (stack.request("GET", f"{MOUNT}/config"), "ai-keys"),
        (stack.request("PUT", "sys/leases/renew", {"lease_id": lease_id}), "system"),
        (stack.request("PUT", "sys/leases/lookup", {"lease_id": lease_id}), "system"),
        (stack.request("LIST", "sys/leases/lookup/"), "system"),
        (stack.request("LIST", f"sys/leases/lookup/{CREDS}"), "system"),
        (stack.request("GET", f"sys/internal/ui/mounts/{CREDS}"), ""),
        (wrapped, ""),
        (stack.request("PUT", "sys/wrapping/unwrap", token=token), "ai-keys"),
    ]
    for answer, kind in answers:
        assert answer.status_code == 200, answer.text
        fields = list(answer.json())
        if stack.is_vault:
            assert fields == [*ENVELOPE, "mount_type"], answer.url
            assert answer.json()["mount_type"] == kind, answer.text
        else:
            assert fields == ENVELOPE, answer.url


def test_a_namespace_is_the_servers_affair(stack: SidecarStack) -> None:
    """OpenBao looks it up, Vault's community edition ignores it: all is the root namespace."""
    headers = {"X-Vault-Namespace": "nowhere"}
    if stack.is_vault:
        answer = stack.request("GET", CREDS, headers=headers)
        assert answer.status_code == 200, answer.text
        assert stack.works(answer.json()["data"]["api_key"])
        lease = {"lease_id": answer.json()["lease_id"]}
        assert stack.request("PUT", "sys/leases/revoke", lease, headers=headers).status_code == 204
        assert not stack.works(answer.json()["data"]["api_key"])
    else:
        secret = stack.read_key()
        with stack.nothing_minted():
            answer = stack.request("GET", CREDS, headers=headers)
            assert (answer.status_code, answer.json()) == (404, {"errors": ["namespace not found"]})
            lease = {"lease_id": secret["lease_id"]}
            refused = stack.request("PUT", "sys/leases/revoke", lease, headers=headers)
        assert refused.status_code == 404
        assert stack.works(secret["data"]["api_key"])
    assert answer.headers["x-vault-namespace"] == "nowhere"


def test_the_same_lease_of_another_namespace_is_not_ours(openbao_stack: SidecarStack) -> None:
    stack = openbao_stack
    namespace = unique("team")
    stack.upstream.request("POST", f"sys/namespaces/{namespace}")
    secret = stack.read_key()
    with stack.nothing_minted():
        for answer in (
            stack.request("GET", CREDS, headers={"X-Vault-Namespace": namespace}),
            stack.request("GET", f"{namespace}/{CREDS}"),
        ):
            assert answer.status_code == 404, answer.text
    stack.request(
        "PUT",
        "sys/leases/revoke",
        {"lease_id": secret["lease_id"]},
        headers={"X-Vault-Namespace": namespace},
    )
    assert stack.works(secret["data"]["api_key"])


def test_an_unknown_parameter_is_warned_about_as_by_any_engine(stack: SidecarStack) -> None:
    """The shadow's own warnings are not shown: Vault's kv has none, OpenBao's names what we know well."""
    for path, known in ((f"{MOUNT}/roles/demo", ""), (CREDS, "&ttl=30s")):
        answer = stack.request("GET", f"{path}?zzz=1{known}")
        assert answer.status_code == 200
        assert answer.json()["warnings"] == ["Endpoint ignored these unrecognized parameters: [zzz]"]


def test_snapshots_are_never_read_from(stack: SidecarStack) -> None:
    """Vault Enterprise would answer from a loaded one, in which an old marker may stand."""
    if not stack.is_vault:
        assert stack.request("GET", f"{MOUNT}/roles/demo?read_snapshot_id=1").status_code == 200
        with stack.nothing_minted():
            assert stack.request("RECOVER", CREDS).status_code == 405
        return
    for token in (stack.root_token, ""):
        for method, path, headers in (
            ("GET", f"{CREDS}?read_snapshot_id=1", {}),
            ("LIST", f"{MOUNT}/roles?read_snapshot_id=1", {}),
            ("RECOVER", CREDS, {}),
            ("RECOVER", CREDS, {"X-Vault-Recover-Snapshot-Id": "1"}),
            ("PUT", f"{CREDS}?recover_snapshot_id=1", {}),
        ):
            with stack.nothing_minted():
                ours = stack.request(method, path, headers=headers, token=token)
                theirs = stack.direct(method, path.replace(MOUNT, "secret"), headers=headers, token=token)
            assert ours.status_code == 400, f"{method} {path}"
            assert ours.json() == theirs.json(), f"{method} {path}"


def test_the_oldest_lease_paths_are_served_where_the_server_has_them(stack: SidecarStack) -> None:
    """`sys/renew` and `sys/revoke` are gone in OpenBao; Vault would say 204 to a revocation and know of no lease."""
    secrets = [stack.read_key() for _ in range(5)]
    ids = [secret["lease_id"] for secret in secrets]
    keys = [secret["data"]["api_key"] for secret in secrets]
    calls: list[tuple[str, Any, int, int]] = [
        ("sys/renew", {"lease_id": ids[0], "increment": 70}, 0, 200),
        (f"sys/renew/{ids[0]}", {"increment": 70}, 0, 200),
        ("sys/revoke", {"lease_id": ids[0]}, 1, 204),
        (f"sys/revoke/{ids[1]}", None, 2, 204),
        (f"sys/revoke-prefix/{ids[2]}", None, 3, 204),
        (f"sys/revoke-force/{ids[3]}", None, 4, 204),
    ]
    for path, body, dead, status in calls:
        answer = stack.request("PUT", path, body)
        if stack.is_vault:
            assert answer.status_code == status, f"{path}: {answer.text}"
            assert [stack.works(key) for key in keys] == [False] * dead + [True] * (5 - dead), path
            if status == 200:
                assert answer.json()["lease_duration"] == 70
        else:
            assert answer.status_code == 404, path
            assert answer.json() == {"errors": ["1 error occurred:\n\t* unsupported path\n\n"]}
    if not stack.is_vault:
        assert all(stack.works(key) for key in keys)


def test_wrong_values_in_lease_requests_are_refused_in_the_servers_words(stack: SidecarStack) -> None:
    """Compared with what the server says about a lease of its own."""
    secret = stack.read_key()
    own = "auth/token/create/nothing-here"
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("sys/leases/revoke", {"sync": "abc"}),
        ("sys/leases/renew", {"increment": -5}),
        ("sys/leases/renew", {"increment": "abc"}),
        ("sys/leases/renew", {"increment": [1]}),
    ]
    no_ids: list[dict[str, Any]] = [{}, {"lease_id": ""}, {"lease_id": {"a": 1}}, {"lease_id": [1]}]
    for path, body in wrong:
        ours = stack.request("PUT", path, {"lease_id": secret["lease_id"], **body})
        theirs = stack.direct("PUT", path, {"lease_id": own, **body})
        assert ours.status_code == 400
        assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json()), body
    for path in ("lookup", "renew", "revoke"):
        for body in no_ids:
            ours, theirs = (ask("PUT", f"sys/leases/{path}", body) for ask in (stack.request, stack.direct))
            assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json()), (path, body)
    for ask_for in (f"{CREDS}/nothing-here-0123456789", "secret/nothing"):
        ours = stack.request("PUT", "sys/leases/renew", {"lease_id": ask_for})
        assert (ours.status_code, ours.json()) == (400, {"errors": ["lease not found"]})
        ours = stack.request("PUT", "sys/leases/lookup", {"lease_id": ask_for})
        assert (ours.status_code, ours.json()) == (400, {"errors": ["invalid lease"]})
    assert stack.works(secret["data"]["api_key"])


def test_a_tainted_mount_serves_nothing_in_the_servers_words(stack: SidecarStack) -> None:
    client = stack.hvac()
    client.sys.enable_secrets_engine("ai-keys", path="team-keys")
    try:
        config = {"base_url": stack.relay.base_url, "management_key": stack.relay.management_key}
        client.write_data("team-keys/config", data=config)
        client.write_data("team-keys/roles/demo", data={"ttl": 60, "max_ttl": 120})
        secret = client.read("team-keys/creds/demo")
        stack.control.fault("error", status=500, path="/v1/keys/*", method="DELETE", count=None)
        failed = stack.request("DELETE", "sys/mounts/team-keys")
        assert failed.status_code == 400
        assert failed.json()["errors"][0].startswith(f'failed to revoke "{secret["lease_id"]}" (1 / 1): ')
        with stack.nothing_minted():
            refused = stack.request("GET", "team-keys/creds/demo")
        assert refused.status_code == 404
        route = 'no handler for route "team-keys/creds/demo"'
        assert refused.json()["errors"] == [
            f"{route}. route entry is tainted."
            if stack.is_vault
            else f'{route} on namespace "". route entry or namespace is tainted.'
        ]
        assert "team-keys/" in client.sys.list_mounted_secrets_engines()["data"], "still listed"
        stack.control.clear_faults()
        assert stack.request("DELETE", "sys/mounts/team-keys").status_code == 204
        assert not stack.works(secret["data"]["api_key"])
    finally:
        stack.control.clear_faults()
        stack.request("PUT", "sys/leases/revoke-force/team-keys")
        stack.request("DELETE", "sys/mounts/team-keys")


def test_mounts_are_shown_as_the_server_shows_its_own(stack: SidecarStack) -> None:
    """Ours is the shadow's entry with another type and version: whatever else the server tells, it tells of ours too."""
    changed = {"type", "plugin_version", "running_plugin_version", "running_sha256", "options", "path"}

    def compare(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        assert set(ours) == set(theirs)
        assert {name: ours[name] for name in set(ours) - changed} == {
            name: theirs[name] for name in set(theirs) - changed
        }
        assert ours["type"] == "ai-keys"
        if ours.get("running_plugin_version"):
            assert SEMVER.match(ours["running_plugin_version"]), ours
        assert (ours.get("options") or {}).get("version") != "2", "templates would take it for a kv version 2"

    places: list[tuple[str, Callable[[Any], dict[str, Any]]]] = [
        ("sys/mounts", lambda body: body["data"][f"{MOUNT}/"]),
        ("sys/mounts", lambda body: body[f"{MOUNT}/"]),
        (f"sys/mounts/{MOUNT}", lambda body: body["data"]),
        ("sys/internal/ui/mounts", lambda body: body["data"]["secret"][f"{MOUNT}/"]),
        (f"sys/internal/ui/mounts/{CREDS}", lambda body: body["data"]),
    ]
    for path, within in places:
        ours, theirs = (ask("GET", path).json() for ask in (stack.request, stack.direct))
        compare(within(ours), within(theirs))
    tuned = [ask("GET", f"sys/mounts/{MOUNT}/tune").json()["data"] for ask in (stack.request, stack.direct)]
    assert {**tuned[0], "options": None} == {**tuned[1], "options": None}


def test_settings_that_only_vault_knows_are_honoured_or_refused(stack: SidecarStack) -> None:
    for setting in (
        {"trim_request_trailing_slashes": "true"},
        {"allowed_managed_keys": ["k"]},
        {"identity_token_key": "default"},
        {"delegated_auth_accessors": ["auth_approle_1"]},
    ):
        answer = stack.request("POST", "sys/mounts/team-keys", {"type": "ai-keys", "config": setting})
        try:
            if answer.status_code == 400:
                assert stack.is_vault, "OpenBao drops what it does not know"
                continue
            assert answer.status_code == 204, answer.text
            shown = stack.request("GET", "sys/mounts/team-keys").json()["data"]["config"]
            stored = stack.direct("GET", "sys/mounts/team-keys").json()["data"]["config"]
            assert shown == stored
            if stack.is_vault and "trim_request_trailing_slashes" in setting:
                written = stack.request("PUT", "team-keys/roles/x/", {"ttl": 60})
                assert written.status_code == 204, "said to be honoured"
        finally:
            stack.request("DELETE", "sys/mounts/team-keys")


def test_the_catalog_offers_our_engine_in_each_of_its_forms(stack: SidecarStack) -> None:
    whole = stack.request("GET", "sys/plugins/catalog").json()["data"]
    assert "ai-keys" in whole["secret"]
    (detailed,) = (plugin for plugin in whole["detailed"] if plugin["name"] == "ai-keys")
    assert (detailed["type"], detailed["builtin"]) == ("secret", True)
    assert SEMVER.match(detailed["version"])
    direct = stack.direct("GET", "sys/plugins/catalog").json()["data"]
    assert set(detailed) >= {"name", "type", "version", "builtin"}
    assert [name for name in whole["secret"] if name != "ai-keys"] == direct["secret"]
    assert "ai-keys" in stack.request("LIST", "sys/plugins/catalog/secret").json()["data"]["keys"]
    one = stack.request("GET", "sys/plugins/catalog/secret/ai-keys")
    assert (one.status_code, one.json()["data"]["name"]) == (200, "ai-keys")


def test_the_description_of_the_api_is_the_servers_with_our_paths(stack: SidecarStack) -> None:
    ours, theirs = (ask("GET", "sys/internal/specs/openapi").json() for ask in (stack.request, stack.direct))
    assert ours["info"] == theirs["info"]
    added = set(ours["paths"]) - set(theirs["paths"])
    assert {f"/{MOUNT}/creds/{{name}}", f"/{MOUNT}/roles/{{name}}", f"/{MOUNT}/config"} <= added
    gone = set(theirs["paths"]) - set(ours["paths"])
    assert all(path.startswith(f"/{MOUNT}/") for path in gone)


@pytest.mark.parametrize(
    "path",
    [
        "sys/plugins/pins",
        "sys/plugins/runtimes/catalog",
        "sys/health",
        "sys/leader",
        "sys/seal-status",
        "sys/init",
        "sys/policies/acl/default",
        "sys/license/status",
        "sys/replication/status",
        "sys/namespaces",
        "sys/quotas/config",
        "sys/internal/ui/feature-flags",
        "sys/internal/ui/resultant-acl",
        "sys/generate-root/attempt",
        "sys/rekey/init",
        "sys/events/subscribe/x",
        "identity/entity/id?list=true",
    ],
)
@pytest.mark.parametrize("with_token", [True, False], ids=["token", "no-token"])
def test_what_only_one_server_has_passes_unjudged(stack: SidecarStack, path: str, with_token: bool) -> None:
    token = None if with_token else ""
    ours, theirs = (ask("GET", path, token=token) for ask in (stack.request, stack.direct))
    assert ours.status_code == theirs.status_code
    assert ours.headers.get("content-type") == theirs.headers.get("content-type")
    if theirs.content:
        volatile = {"request_id", "server_time_utc", "echo_duration_ms", "clock_skew_ms", "nonce"}
        seen = [
            {name: value for name, value in answer.json().items() if name not in volatile}
            for answer in (ours, theirs)
        ]
        assert seen[0] == seen[1]


def test_a_quota_of_the_server_counts_here_with_its_headers(stack: SidecarStack) -> None:
    """The replay meets it: 429 with Retry-After and X-Ratelimit-*, and no key."""
    role, quota = unique("quota"), unique("quota")
    assert stack.request("POST", f"{MOUNT}/roles/{role}", {"ttl": 60, "max_ttl": 120}).status_code == 204
    config = stack.upstream.request("GET", "sys/quotas/config")["data"]
    stack.upstream.request(
        "POST", "sys/quotas/config", {**config, "enable_rate_limit_response_headers": True}
    )
    limit = {"path": f"{MOUNT}/creds/{role}", "rate": 2, "interval": "60s"}
    stack.upstream.request("POST", f"sys/quotas/rate-limit/{quota}", limit)
    try:
        first = stack.request("GET", f"{MOUNT}/creds/{role}")
        assert first.status_code == 200
        assert first.headers["x-ratelimit-limit"] == "2"
        refused = eventually(
            lambda: (answer := stack.request("GET", f"{MOUNT}/creds/{role}")).status_code == 429 and answer,
            what="the quota's end",
        )
        with stack.nothing_minted():
            refused = stack.request("GET", f"{MOUNT}/creds/{role}")
        assert refused.status_code == 429
        assert "rate limit quota exceeded" in refused.json()["errors"][0]
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert "x-ratelimit-reset" in refused.headers
    finally:
        stack.upstream.request("DELETE", f"sys/quotas/rate-limit/{quota}")
        stack.upstream.request("POST", "sys/quotas/config", config)


def test_renewals_that_come_at_once_agree(stack: SidecarStack) -> None:
    """Vault's agent renews each lease from three places at the same moment."""
    secret = stack.read_key()
    body = {"lease_id": secret["lease_id"], "increment": 0}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _n: stack.request("PUT", "sys/leases/renew", body), range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert {answer.json()["lease_duration"] for answer in answers} == {60}
    assert {answer.json()["lease_id"] for answer in answers} == {secret["lease_id"]}
    assert stack.works(secret["data"]["api_key"])
