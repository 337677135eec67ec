"""What a request asks for, read as Vault reads it."""

from __future__ import annotations

from typing import Any

import pytest

from aikeys.framework.request import Operation
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.upstream import OPENBAO, VAULT, Product
from aikeys.sidecar.verbs import Asked, read_request

MERGE = ("Content-Type", "application/merge-patch+json")


def ask(
    method: str,
    relative: str = "creds/x",
    query: str = "",
    body: bytes = b"",
    headers: list[tuple[str, str]] | None = None,
    product: Product = OPENBAO,
) -> Asked | Reply:
    exchange = Exchange(method, "ai-keys/" + relative, "", query, headers or [], body)
    return read_request(exchange, relative, product)


@pytest.mark.parametrize(
    ("method", "relative", "query", "operation", "path", "data"),
    [
        ("GET", "creds/x", "", Operation.READ, "creds/x", {}),
        ("GET", "creds/x", "ttl=1h&a=1&a=2", Operation.READ, "creds/x", {"ttl": "1h", "a": ["1", "2"]}),
        ("GET", "roles", "list=true", Operation.LIST, "roles/", {}),
        ("GET", "roles/", "list=True&after=x", Operation.LIST, "roles/", {"after": "x"}),
        ("GET", "roles", "list=1", Operation.LIST, "roles/", {}),
        ("GET", "roles", "list=false", Operation.READ, "roles", {"list": "false"}),
        ("GET", "roles", "list=", Operation.READ, "roles", {"list": ""}),
        ("LIST", "roles", "", Operation.LIST, "roles/", {}),
        ("LIST", "", "", Operation.LIST, "", {}),
        ("DELETE", "roles/x", "a=b", Operation.DELETE, "roles/x", {"a": "b"}),
        ("GET", "creds/x", "help=1", Operation.HELP, "creds/x", {}),
        ("DELETE", "creds/x", "help=1", Operation.HELP, "creds/x", {}),
        ("HELP", "creds/x", "", Operation.HELP, "creds/x", {}),
        ("GET", "creds/x", "help=", Operation.READ, "creds/x", {}),
    ],
)
def test_verb_and_query_are_one_operation(
    method: str, relative: str, query: str, operation: Operation, path: str, data: dict[str, Any]
) -> None:
    assert ask(method, relative, query) == Asked(operation, path, data)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_post_is_put_and_takes_its_data_from_the_body_alone(method: str) -> None:
    assert ask(method, query="ttl=9h", body=b'{"ttl": "1h"}') == Asked(
        Operation.UPDATE, "creds/x", {"ttl": "1h"}
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_help_with_any_verb_does_nothing_else(method: str) -> None:
    """Also a body that is no JSON is not looked at then."""
    assert ask(method, query="help=true", body=b"{nope") == Asked(Operation.HELP, "creds/x", {})


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "FOO", "get", "", "COPY"])
def test_an_unknown_verb_is_405_without_a_word(method: str) -> None:
    reply = ask(method)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.json()) == (405, {"errors": []})


def test_a_patch_needs_the_merge_patch_type() -> None:
    assert ask("PATCH", body=b'{"a": null}', headers=[MERGE]) == Asked(
        Operation.PATCH, "creds/x", {"a": None}
    )
    parameters = ("Content-Type", "application/merge-patch+json; charset=utf-8")
    assert isinstance(ask("PATCH", headers=[parameters]), Asked)
    for headers, status in (([], 400), ([("Content-Type", "application/json")], 415)):
        reply = ask("PATCH", body=b"{}", headers=headers)
        assert isinstance(reply, Reply)
        assert reply.status == status


def test_a_list_that_is_neither_true_nor_false_is_400() -> None:
    reply = ask("GET", query="list=banana")
    assert isinstance(reply, Reply)
    assert (reply.status, reply.json()) == (400, {"errors": []})


def test_a_scan_is_openbaos_and_we_serve_none() -> None:
    for method, query in (("SCAN", ""), ("GET", "scan=true")):
        asked = ask(method, "roles", query)
        assert isinstance(asked, Asked)
        assert (asked.operation, asked.path, asked.unsupported) == (Operation.LIST, "roles/", "scan")
    reply = ask("SCAN", "roles", product=VAULT)
    assert isinstance(reply, Reply)
    assert reply.status == 405
    assert ask("GET", "roles", "scan=true", product=VAULT) == Asked(Operation.READ, "roles", {"scan": "true"})


@pytest.mark.parametrize(
    "query", ["read_snapshot_id=x", "recover_snapshot_id=x", "list=true&read_snapshot_id=x"]
)
@pytest.mark.parametrize("method", ["GET", "LIST", "POST", "PATCH"])
def test_a_snapshot_never_authorises_on_vault(method: str, query: str) -> None:
    reply = ask(method, query=query, headers=[MERGE], product=VAULT)
    assert isinstance(reply, Reply)
    assert reply.status == 400


def test_recover_is_refused_as_each_server_does() -> None:
    for product, headers, status in (
        (OPENBAO, [], 405),
        (VAULT, [], 400),
        (VAULT, [("X-Vault-Recover-Snapshot-Id", "x")], 400),
    ):
        reply = ask("RECOVER", headers=headers, product=product)
        assert isinstance(reply, Reply)
        assert reply.status == status
