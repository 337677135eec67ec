"""What a request to the engine asks for: HTTP verb, query and body as an operation with its data. Pure.

Follows Vault's `buildLogicalRequest` (http/logical.go): POST is PUT, a true `?list=` makes a GET a LIST, a
non-empty `?help=` makes any verb a HELP, reads take their data from the query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aikeys.framework.request import Operation
from aikeys.sidecar import body as bodies
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.upstream import Product

# Vault: request_handling.go, before any token is looked at.
TRAILING_SLASH = "cannot write to a path ending in '/'"
_WRITING_VERBS = frozenset({"POST", "PUT", "PATCH"})
_SNAPSHOT_PARAMETERS = ("read_snapshot_id", "recover_snapshot_id")


@dataclass(frozen=True, slots=True)
class Asked:
    """`path` is relative to the mount; a LIST ends with "/". UPDATE may yet turn out to be CREATE.

    `unsupported` names a capability of the upstream that no engine of ours serves ("scan").
    """

    operation: Operation
    path: str
    data: dict[str, Any]
    unsupported: str = ""


def read_request(exchange: Exchange, relative: str, product: Product) -> Asked | Reply:
    """What is asked, or the answer that refuses it before any token is looked at. Raises `BodyError`."""
    refusal = _refuse_snapshots(exchange, product)
    if refusal is not None:
        return refusal
    if exchange.method == "HELP" or exchange.parameter("help"):
        return Asked(Operation.HELP, relative, {})
    if exchange.method in _WRITING_VERBS and exchange.path.endswith("/"):
        return envelope.errors(400, [TRAILING_SLASH])
    if product.is_vault and exchange.method not in _WRITING_VERBS and exchange.body[:1] in {b"{", b"["}:
        # Vault's JSON checker reads the body of every verb; nothing that it holds counts.
        bodies.read_fields(exchange.body)
    match exchange.method:
        case "GET":
            return _read_get(exchange, relative, product)
        case "LIST":
            return Asked(Operation.LIST, _as_folder(relative), _query(exchange))
        case "DELETE":
            return Asked(Operation.DELETE, relative, _query(exchange))
        case "POST" | "PUT":
            fields = bodies.read_fields(exchange.body, exchange.header("Content-Type"))
            return Asked(Operation.UPDATE, relative, fields)
        case "PATCH":
            return _read_patch(exchange, relative)
        case "SCAN" if not product.is_vault:
            return Asked(Operation.LIST, _as_folder(relative), {}, unsupported="scan")
        case _:
            return envelope.errors(405)


def _read_get(exchange: Exchange, relative: str, product: Product) -> Asked | Reply:
    try:
        listed = exchange.list_flag
        scanned = not product.is_vault and exchange.flag("scan")
    except ValueError:
        return envelope.errors(400)
    if scanned:
        return Asked(Operation.LIST, _as_folder(relative), {}, unsupported="scan")
    if listed:
        return Asked(Operation.LIST, _as_folder(relative), _query(exchange, without="list"))
    return Asked(Operation.READ, relative, _query(exchange))


def _read_patch(exchange: Exchange, relative: str) -> Asked | Reply:
    content_type = exchange.header("Content-Type")
    if not content_type.strip():
        return envelope.errors(400, ["mime: no media type"])
    given = bodies.media_type(content_type)
    if given != bodies.MERGE_PATCH:
        return envelope.errors(
            415, [f"PATCH requires Content-Type of {bodies.MERGE_PATCH}, provided {given}"]
        )
    return Asked(Operation.PATCH, relative, bodies.read_fields(exchange.body))


def _refuse_snapshots(exchange: Exchange, product: Product) -> Reply | None:
    """A read from a snapshot could show an old marker: it must not authorise anything today."""
    if not product.is_vault:
        # OpenBao knows none of this; the parameters are ordinary unknown ones.
        return envelope.errors(405) if exchange.method == "RECOVER" else None
    if any(exchange.parameter(name) for name in _SNAPSHOT_PARAMETERS) or (
        exchange.method == "RECOVER" and exchange.header("X-Vault-Recover-Snapshot-Id")
    ):
        return envelope.errors(400, ["unable to lock snapshot: loaded snapshots not supported"])
    if exchange.method == "RECOVER":
        return envelope.errors(400, ["missing required snapshot ID"])
    return None


def _query(exchange: Exchange, without: str = "") -> dict[str, Any]:
    return bodies.collect([(name, value) for name, value in exchange.query if name not in {"help", without}])


def _as_folder(path: str) -> str:
    return path if not path or path.endswith("/") else path + "/"
