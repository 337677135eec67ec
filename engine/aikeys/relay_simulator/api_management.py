"""Routes of the management plane."""

from __future__ import annotations

from functools import partial

from flask import Blueprint

from aikeys.relay_simulator import key_reads, key_writes, self_service
from aikeys.relay_simulator.access import anyone, data_key, management, management_or_key
from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.answering import serve
from aikeys.relay_simulator.dispatch import Rule


def management_blueprint(account: Account) -> Blueprint:
    """Everything below ``/v1`` that is about keys."""
    blueprint = Blueprint("management", __name__)
    reads = partial(management, scope="keys:read")
    writes = partial(management, scope="keys:write")
    rotates_management = partial(management, scope="mgmt:rotate")
    rotates_itself = partial(data_key, permissions=("keys:rotate_self",))
    add = partial(serve, blueprint, account)
    add("POST", "/keys", Rule(writes, key_writes.create, idempotent=True))
    add("GET", "/keys", Rule(reads, key_reads.list_keys))
    add("GET", "/keys/<key>", Rule(reads, key_reads.get))
    add("PATCH", "/keys/<key>", Rule(writes, key_writes.patch))
    add("DELETE", "/keys/<key>", Rule(writes, key_writes.delete))
    add("POST", "/keys/<key>/rotate", Rule(writes, key_writes.rotate, idempotent=True))
    add("GET", "/keys/<key>/metadata", Rule(management_or_key, key_reads.metadata, lagging=True))
    add("POST", "/keys/rotate", Rule(rotates_itself, self_service.rotate_self))
    add("GET", "/keys/validate", Rule(data_key, self_service.validate, lagging=True))
    add("GET", "/auth/verify", Rule(anyone, self_service.verify, lagging=True, unsigned=True))
    add("POST", "/auth/refresh", Rule(rotates_itself, self_service.refresh))
    add(
        "POST",
        "/management/rotate",
        Rule(rotates_management, self_service.rotate_management, idempotent=True),
    )
    add("GET", "/usage", Rule(partial(management, scope="usage:read"), key_reads.usage))
    return blueprint
