"""The Flask application: the engine's paths, the intercepts, and the sidecar's own health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import structlog
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, Rule

from aikeys.errors import StorageError
from aikeys.framework.response import EngineError
from aikeys.sidecar import engine_paths, envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.health import health
from aikeys.sidecar.routing import Owner, Route
from aikeys.sidecar.wsgi import EXCHANGE_KEY, INTERNAL_ERROR, OWN_PREFIX, ROUTE_KEY, storage_failed

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)


class _Anything(BaseConverter):
    """The rest of a path, slashes and all."""

    regex = ".*"
    part_isolating = False


def create_app(sidecar: Sidecar) -> Flask:
    """Served behind `wsgi.Front`, which has read the path and decided whose it is."""
    app = Flask("aikeys", static_folder=None)
    # The path is canonical already; what stands in it doubled came encoded and is not collapsed.
    app.url_map.merge_slashes = False
    app.url_map.converters["anything"] = _Anything

    def api(path: str) -> Response:  # noqa: ARG001 - the exchange has the canonical path
        exchange = cast("Exchange", request.environ[EXCHANGE_KEY])
        route = cast("Route", request.environ[ROUTE_KEY])
        return _response(_answer(sidecar, exchange, route), exchange)

    def own_health() -> Response:
        return _response(health(sidecar))

    # No methods: a rule without them takes every verb, LIST and PATCH among them.
    app.url_map.add(Rule("/v1/<anything:path>", endpoint="api"))
    app.view_functions["api"] = api
    app.add_url_rule(OWN_PREFIX + "health", "health", own_health, methods=["GET", "HEAD"])
    app.register_error_handler(Exception, _failed)
    return app


def _answer(sidecar: Sidecar, exchange: Exchange, route: Route) -> Reply:
    if route.owner is Owner.ENGINE:
        assert route.mount is not None
        return engine_paths.handle(sidecar, exchange, route.mount, route.relative)
    for intercept in route.intercepts:
        reply = intercept.handler(sidecar, exchange)
        if reply is not None:
            return reply
    return sidecar.upstream.forward(exchange)


def _failed(error: Exception) -> Response:
    """No traceback leaves: what is not an answer by design is logged and told as an internal error."""
    exchange = request.environ.get(EXCHANGE_KEY)
    if isinstance(error, EngineError):
        return _response(envelope.errors(error.status, error.texts(), data=error.data), exchange)
    if isinstance(error, StorageError):
        log.error("storage_failed", error=str(error))
        return _response(storage_failed(error), exchange)
    if isinstance(error, HTTPException):
        return _response(envelope.errors(error.code or 500), exchange)
    log.exception("request_failed", request_id=exchange.request_id if exchange is not None else "")
    return _response(envelope.errors(500, [INTERNAL_ERROR]), exchange)


def _response(reply: Reply, exchange: Exchange | None = None) -> Response:
    headers: list[tuple[str, Any]] = [*reply.headers]
    present = {name.lower() for name, _ in headers}
    if (
        exchange is not None
        and "x-vault-namespace" not in present
        and (value := exchange.header("X-Vault-Namespace"))
    ):
        headers.append(("X-Vault-Namespace", value))
    response = Response(reply.body, status=reply.status, headers=headers)
    if "content-type" not in present:
        del response.headers["Content-Type"]
    return response
