"""``/_sim/``: steering the simulator and reading the truth. For this machine only, and it can be switched off."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from typing import Any

from flask import Blueprint, Response, jsonify, request

from aikeys.relay_simulator.answering import current_call, respond
from aikeys.relay_simulator.dispatch import refusal
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.faults import KINDS
from aikeys.relay_simulator.fields import parse_object
from aikeys.relay_simulator.keys import SCOPES, Key, ManagementKey, whole
from aikeys.relay_simulator.plane import CONTROL_PREFIX, Plane


def sim_blueprint(plane: Plane) -> Blueprint:
    """The control plane of `plane`."""
    blueprint = Blueprint("sim", __name__, url_prefix=CONTROL_PREFIX)
    account = plane.account

    @blueprint.before_request
    def only_from_this_machine() -> None:
        if not ipaddress.ip_address(request.remote_addr or "0.0.0.0").is_loopback:
            raise RelayError("not_found")

    @blueprint.get("/clock")
    def read_clock() -> Response:
        return jsonify({"now": account.clock.now(), "offset": account.clock.offset})

    @blueprint.post("/clock")
    def advance_clock() -> Response:
        seconds = _body("advance").get("advance")
        if not isinstance(seconds, int | float) or isinstance(seconds, bool) or seconds < 0:
            raise RelayError("invalid_request", "advance is seconds and not negative", param="advance")
        with account.lock:
            account.clock.advance(seconds)
            account.settle()
        return read_clock()

    @blueprint.get("/settings")
    def read_settings() -> Response:
        return jsonify(account.policy.as_dict())

    @blueprint.post("/settings")
    def change_settings() -> Response:
        with account.lock:
            account.policy = account.policy.changed(_body())
        return read_settings()

    @blueprint.get("/fault_kinds")
    def list_fault_kinds() -> Response:
        return jsonify(
            {name: {"does": kind.story, "parameters": kind.defaults} for name, kind in KINDS.items()}
        )

    @blueprint.get("/faults")
    def list_faults() -> Response:
        return jsonify({"faults": plane.faults.list()})

    @blueprint.post("/faults")
    def add_faults() -> tuple[Response, int]:
        body = _body()
        descriptions = body.get("faults", [body]) if "kind" not in body else [body]
        if not isinstance(descriptions, list) or not all(isinstance(item, dict) for item in descriptions):
            raise RelayError("invalid_request", "faults is a list of objects", param="faults")
        return jsonify({"faults": [plane.faults.add(item).render() for item in descriptions]}), 201

    @blueprint.delete("/faults")
    def clear_faults() -> Response:
        return jsonify({"removed": plane.faults.clear()})

    @blueprint.delete("/faults/<fault_id>")
    def clear_fault(fault_id: str) -> Response:
        return jsonify({"removed": plane.faults.clear(fault_id)})

    @blueprint.get("/outage")
    def read_outage() -> Response:
        return jsonify(plane.outage.render())

    @blueprint.post("/outage")
    def change_outage() -> Response:
        body = _body("on", "off", "seconds", "mode", "node")
        if body.get("off") is True or body.get("on") is False:
            plane.outage.end()
        elif body.get("on") is True or "seconds" in body:
            seconds = body.get("seconds")
            if seconds is not None and (not isinstance(seconds, int | float) or isinstance(seconds, bool)):
                raise RelayError("invalid_request", "seconds is a number", param="seconds")
            plane.outage.begin(seconds=seconds, mode=body.get("mode", "drop"), node=body.get("node"))
        else:
            raise RelayError("invalid_request", "An outage has on, off or seconds")
        return read_outage()

    @blueprint.get("/calls")
    def list_calls() -> Response:
        method, path, since = (request.args.get(name) for name in ("method", "path", "since"))
        calls = [
            call.render()
            for call in plane.calls
            if (method is None or call.method == method)
            and (path is None or call.path == path)
            and (since is None or call.number > int(since))
        ]
        return jsonify({"calls": calls, "count": len(calls)})

    @blueprint.delete("/calls")
    def clear_calls() -> Response:
        plane.calls.clear()
        return jsonify({})

    @blueprint.get("/keys")
    def list_keys() -> Response:
        prefix, status = request.args.get("name_prefix", ""), request.args.get("status")
        with account.lock:
            now = account.settle()
            keys = [
                _truth(key, now)
                for key in account.keys
                if key.name.startswith(prefix) and (status is None or key.status in status.split(","))
            ]
            managers = [_manager_truth(key, now) for key in account.management_keys.values()]
        return jsonify({"keys": keys, "count": len(keys), "management_keys": managers})

    @blueprint.get("/orphans")
    def read_orphans() -> Response:
        known = {part for value in request.args.getlist("known") for part in value.split(",") if part}
        return _orphans(plane, known, request.args.get("name_prefix", ""))

    @blueprint.post("/orphans")
    def post_orphans() -> Response:
        body = json.loads(current_call().body or b"[]")
        known, prefix = (
            (body.get("known", []), body.get("name_prefix", "")) if isinstance(body, dict) else (body, "")
        )
        if not isinstance(known, list) or not all(isinstance(item, str) for item in known):
            raise RelayError("invalid_request", "known is a list of key ids", param="known")
        return _orphans(plane, known, request.args.get("name_prefix", prefix))

    @blueprint.post("/management_keys")
    def add_management_key() -> tuple[Response, int]:
        body = _body("scopes", "team_id", "name_prefix", "signing")
        scopes = body.get("scopes", list(SCOPES))
        if not isinstance(scopes, list) or not set(scopes) <= set(SCOPES):
            raise RelayError("invalid_request", f"scopes are some of: {', '.join(SCOPES)}", param="scopes")
        with account.lock:
            secret = account.identifiers.management_key()
            signing_secret = account.identifiers.signing_secret() if body.get("signing") else None
            key = account.add_management_key(
                secret,
                scopes=frozenset(scopes),
                team_id=body.get("team_id"),
                name_prefix=body.get("name_prefix"),
                signing_secret=signing_secret,
            )
        return jsonify({"id": key.id, "key": secret, "signing_secret": signing_secret}), 201

    @blueprint.post("/reset")
    def reset() -> Response:
        plane.reset()
        return jsonify({"management_key_id": account.management_key_id})

    @blueprint.errorhandler(ValueError)
    def wrong_value(error: ValueError) -> Response:
        return respond(refusal(account, current_call(), RelayError("invalid_request", str(error))))

    return blueprint


def _body(*known: str) -> dict[str, Any]:
    body = parse_object(current_call().body)
    for name in body:
        if known and name not in known:
            raise RelayError("unknown_field", f"Known here: {', '.join(known)}", param=name)
    return body


def _truth(key: Key, now: float) -> dict[str, Any]:
    return {
        **key.render(now),
        "secret_sha256": key.secret_sha256.hex(),
        "created_by": key.created_by,
        "successor_id": key.successor_id,
        "ended_at": key.ended_at,
        "data_plane_uses": key.data_plane_uses,
        "uses_after_end": key.uses_after_end,
    }


def _manager_truth(key: ManagementKey, now: float) -> dict[str, Any]:
    return {
        "id": key.id,
        "secret_sha256": key.secret_sha256.hex(),
        "scopes": sorted(key.scopes),
        "team_id": key.team_id,
        "name_prefix": key.name_prefix,
        "signed": key.signing_secret is not None,
        "status": "expired" if key.expires_at is not None and key.expires_at <= now else "active",
        "expires_at": whole(key.expires_at),
        "previous_id": key.previous_id,
        "successor_id": key.successor_id,
    }


def _orphans(plane: Plane, known: Iterable[str], prefix: str) -> Response:
    """Live keys that the list of `known` ids (or names) does not have, and known ids that do not live."""
    known = set(known)
    account = plane.account
    with account.lock:
        account.settle()
        live = [key for key in account.keys.page(None, terminal=False) if key.name.startswith(prefix)]
        orphans = [
            {"id": key.id, "name": key.name, "status": key.status, "expires_at": key.expires_at}
            for key in live
            if key.id not in known and key.name not in known
        ]
    absent = known - {key.id for key in live} - {key.name for key in live}
    return jsonify(
        {"orphans": orphans, "count": len(orphans), "live": len(live), "known_not_live": sorted(absent)}
    )
