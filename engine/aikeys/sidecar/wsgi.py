"""The front door: reads the request's path once, then hands it to the engine and the intercepts, or passes it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from gunicorn.http.errors import ParseException

from aikeys.errors import StorageError
from aikeys.framework.response import EngineError
from aikeys.sidecar import envelope, incoming
from aikeys.sidecar.canonical import read_target
from aikeys.sidecar.exchange import Reply, reason
from aikeys.sidecar.headers import TrustedProxies
from aikeys.sidecar.intercepts import INTERCEPTS
from aikeys.sidecar.intercepts.reconciling import settle_below
from aikeys.sidecar.passthrough import Passthrough
from aikeys.sidecar.routing import Owner, route

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]

# Our own paths lie outside /v1/, where no Vault has anything; they are never passed on.
OWN_PREFIX = "/aikeys/"
EXCHANGE_KEY = "aikeys.exchange"
ROUTE_KEY = "aikeys.route"
INTERNAL_ERROR = "1 error occurred:\n\t* internal error\n\n"


class Front:
    """The WSGI application of the sidecar. `app` is the Flask application that serves what is ours."""

    def __init__(self, sidecar: Sidecar, app: Application) -> None:
        self._sidecar = sidecar
        self._app = app
        self._passthrough = Passthrough(sidecar.upstream)
        self._trusted = TrustedProxies(sidecar.settings.proxy_networks)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        headers = incoming.take_headers(environ)
        try:
            return self._dispatch(environ, start_response, headers)
        except EngineError as error:
            return send(envelope.errors(error.status, error.texts()), environ, start_response)
        except StorageError as error:
            log.error("storage_failed", error=str(error))
            return send(storage_failed(error), environ, start_response)
        except (OSError, ParseException):
            # The client's side of the connection, or a body that is no HTTP; the server knows what to do with it.
            raise
        except Exception:
            log.exception("request_failed", method=environ.get("REQUEST_METHOD"))
            return send(envelope.errors(500, [INTERNAL_ERROR]), environ, start_response)

    def _dispatch(
        self, environ: dict[str, Any], start_response: StartResponse, headers: list[tuple[str, str]]
    ) -> Iterable[bytes]:
        settings = self._sidecar.settings
        method = str(environ["REQUEST_METHOD"])
        target = read_target(incoming.raw_target(environ), method, settings.max_path_length)
        if isinstance(target, Reply):
            return send(target, environ, start_response)
        if target.path is None and target.raw_path.startswith(OWN_PREFIX):
            return self._app(environ, start_response)
        peer = str(environ.get("REMOTE_ADDR", ""))
        sent_on = self._trusted.with_forwarded_for(peer, headers)
        if target.path is None:
            return self._passthrough(environ, start_response, target, sent_on)
        named = next((value for name, value in headers if name.lower() == "x-vault-namespace"), "")
        namespace = self._sidecar.upstream.namespace_of(named)
        mounts = self._sidecar.mounts
        found = route(target.path, method, mounts, INTERCEPTS, namespace)
        if found.owner is Owner.PASS and mounts.doubtful(target.path, namespace):
            settle_below(self._sidecar, target.path)
            found = route(target.path, method, mounts, INTERCEPTS, namespace)
        if found.owner is Owner.PASS:
            return self._passthrough(environ, start_response, target, sent_on)
        body = incoming.read_body(environ, settings.max_body_bytes)
        if isinstance(body, Reply):
            return send(body, environ, start_response)
        # Flask would refuse to serve a plain answer to whom a web socket would be welcome too.
        environ.pop("HTTP_UPGRADE", None)
        environ[EXCHANGE_KEY] = incoming.make_exchange(environ, target, sent_on, body, self._trusted)
        environ[ROUTE_KEY] = found
        return self._app(environ, start_response)


def storage_failed(error: StorageError) -> Reply:
    return envelope.errors(503, [f"the sidecar's storage failed: {error}"])


def send(reply: Reply, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """A reply that was decided before anything else was asked."""
    headers = [*reply.headers]
    namespace = environ.get("HTTP_X_VAULT_NAMESPACE")
    if namespace and headers:
        headers.append(("X-Vault-Namespace", namespace))
    if reply.status != HTTPStatus.NO_CONTENT:
        headers.append(("Content-Length", str(len(reply.body))))
    start_response(f"{reply.status} {reason(reply.status)}", headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [reply.body]
