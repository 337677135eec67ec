"""gunicorn, set up for the sidecar: threads, one store and one background in each worker, TLS, a graceful end.

The process that looks after the workers imports none of the application: what it held would be in memory twice.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.http import errors as http_errors
from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker

from aikeys.redaction import SecretString
from aikeys.settings import Settings
from aikeys.sidecar import envelope, incoming
from aikeys.sidecar.exchange import JSON_HEADERS, reason

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar
    from aikeys.sidecar.wsgi import Front

log = structlog.get_logger(__name__)

# gunicorn's own maximum. Longer request lines are refused while they are read, longer paths by the settings.
LONGEST_LINE = 8190
MOST_HEADERS = 200
LONGEST_HEADER = 32 * 1024
MOST_CONNECTIONS = 2000
# Go's int64.
LONGEST_BODY = 2**63 - 1
# A worker whose main thread is stuck for so many seconds is replaced; requests run in other threads.
STUCK_SECONDS = 60


# How long a thread waits for a client's next request before the connection goes back to the poller.
LINGER_SECONDS = 0.05


def _readable(sock: socket.socket, seconds: float) -> bool:
    """Whether bytes, or the connection's end, arrive in that time."""
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


class _Response(wsgi.Response):
    """Vault names no server in its answers. The head goes out with the first piece of the body: one system call."""

    _head = b""

    def default_headers(self) -> list[str]:
        lines: list[str] = super().default_headers()  # type: ignore[no-untyped-call]
        return [line for line in lines if not line.startswith("Server:")]

    def send_headers(self) -> None:
        if not self.headers_sent:
            lines = [
                *self.default_headers(),
                *(f"{name}: {value}\r\n" for name, value in self.headers),
                "\r\n",
            ]
            self._head = "".join(lines).encode("latin-1")
            self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            data = b"%X\r\n%b\r\n" % (len(data), data)
        head, self._head = self._head, b""
        self.sock.sendall(head + data if head else data)

    def close(self) -> None:
        self.send_headers()
        end = b"0\r\n\r\n" if self.chunked else b""
        if self._head or end:
            self.sock.sendall(self._head + end)
            self._head = b""


class Worker(ThreadWorker):
    """Hands the headers over as they were received, and answers in JSON what is no HTTP."""

    def init_process(self) -> None:
        wsgi.Response = _Response  # type: ignore[misc]
        super().init_process()  # type: ignore[no-untyped-call]

    def init_signals(self) -> None:
        super().init_signals()  # type: ignore[no-untyped-call]
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    def handle(self, conn: Any) -> Any:
        """Serve a connection, and stay with it while its client asks again at once.

        Handing a kept-alive connection back to the poller and out to a thread again costs more than most requests
        here do. A thread stays only while there is one for every connection, so nobody waits for it.
        """
        again = super().handle(conn)  # type: ignore[no-untyped-call]
        while again is True and self._may_stay(conn) and _readable(conn.sock, LINGER_SECONDS):
            again = super().handle(conn)  # type: ignore[no-untyped-call]
        return again

    def _may_stay(self, conn: Any) -> bool:
        """Bytes that the parser holds already make no socket readable: gunicorn looks after those."""
        return bool(
            self.alive and self.nr_conns <= self.cfg.threads and not conn.parser.unreader.buf.getvalue()
        )

    def handle_request(self, req: Any, conn: Any) -> Any:
        _check_head(req.version, req.headers)
        incoming.remember_headers(req.headers)
        return super().handle_request(req, conn)  # type: ignore[no-untyped-call]

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002
        status = _status_of(exc)
        if status == 500:
            log.error("connection_failed", error=type(exc).__name__, exc_info=exc)
        else:
            log.info(
                "bad_request", status=status, error=type(exc).__name__, peer=str(addr[0]) if addr else ""
            )
        body = envelope.to_json({"errors": [_TEXTS.get(status, "the request is no valid HTTP")]})
        lines = [f"HTTP/1.1 {status} {reason(status)}", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in JSON_HEADERS]
        try:
            client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        except OSError:
            log.debug("client_gone_before_the_error")


def _check_head(version: tuple[int, int], headers: Sequence[tuple[str, str]]) -> None:
    """What Go's server refuses and gunicorn does not: a message is to be read in one way by everybody.

    Raises gunicorn's errors.
    """
    codings = [value for name, value in headers if name == "TRANSFER-ENCODING"]
    if len(codings) > 1 or (codings and codings[0].lower() != "chunked"):
        raise http_errors.UnsupportedTransferCoding(", ".join(codings))  # type: ignore[no-untyped-call]
    if any(name == "CONTENT-LENGTH" and int(value) > LONGEST_BODY for name, value in headers):
        raise http_errors.InvalidHeader("CONTENT-LENGTH")  # type: ignore[no-untyped-call]
    if version >= (1, 1) and not any(name == "HOST" for name, _ in headers):
        raise http_errors.InvalidHeader("HOST")  # type: ignore[no-untyped-call]


_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (http_errors.LimitRequestLine, 414),
    (http_errors.LimitRequestHeaders, 431),
    (http_errors.UnsupportedTransferCoding, 501),
    (http_errors.ExpectationFailed, 417),
    (http_errors.ParseException, 400),
    (ssl.SSLError, 400),
)
_TEXTS = {
    414: f"the request line is longer than {LONGEST_LINE} bytes",
    431: f"more than {MOST_HEADERS} headers, or one longer than {LONGEST_HEADER} bytes",
    500: "1 error occurred:\n\t* internal error\n\n",
}


def _status_of(error: Exception) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


class GunicornLog(Logger):
    """gunicorn's records go where all others go."""

    def setup(self, cfg: Any) -> None:  # noqa: ARG002
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        for logger in (self.error_log, self.access_log):
            logger.handlers[:] = []
            logger.propagate = True
        # Its start and stop lines are not ours to tell; a failing worker is.
        self.error_log.setLevel(logging.WARNING)
        self.access_log.setLevel(logging.CRITICAL)
        # Otherwise worked out again for each request.
        self._access_log_enabled = False
        self.logfile = None

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        if isinstance(sys.exc_info()[1], BlockingIOError | TimeoutError):
            # The patience of the listener (`client_idle_timeout`) was over.
            log.info("client_too_slow")
        else:
            super().exception(msg, *args, **kwargs)  # type: ignore[no-untyped-call]


# What ends a worker, and is heard by it only once it has set itself up to hear it.
_ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


class _Master(Arbiter):
    """Loses no signal that a new worker gets before it listens for signals.

    A fork inherits the handlers of the process that forks, which write down what that one has to do; here that would be
    read by nobody, and a stop at that moment would wait for the worker until `graceful_timeout` ends it.
    """

    def spawn_worker(self) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        try:
            return super().spawn_worker()  # type: ignore[no-untyped-call]
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


class Server(BaseApplication):
    """`run()` serves until SIGTERM or SIGINT, then lets running requests finish."""

    def __init__(
        self,
        settings: Settings,
        secret_id: SecretString | None = None,
        *,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`secret_id` was unwrapped already: every worker logs in with it. `ready`: we listen."""
        self._settings = settings
        self._secret_id = secret_id
        self._ready = ready
        self._sidecar: Sidecar | None = None
        super().__init__()  # type: ignore[no-untyped-call]

    def load_config(self) -> None:
        options = gunicorn_options(self._settings) | {
            "when_ready": lambda _arbiter: self._ready(),
            "post_worker_init": self._started,
            "worker_exit": self._ended,
        }
        assert self.cfg is not None
        for name, value in options.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        _Master(self).run()  # type: ignore[no-untyped-call]

    def load(self) -> Front:
        """In each worker, after the fork: no connection or thread is ever shared by processes."""
        from aikeys.sidecar.app import create_app
        from aikeys.sidecar.build import make_login, open_sidecar
        from aikeys.sidecar.wsgi import Front

        login = make_login(self._settings, self._secret_id)
        self._sidecar = open_sidecar(self._settings, login=login)
        return Front(self._sidecar, create_app(self._sidecar))

    def _started(self, worker: Any) -> None:
        patience = struct.pack("ll", self._settings.client_idle_timeout, 0)
        for listener in worker.sockets:
            # Accepted connections inherit it: a client that stops in the middle of a request frees its thread.
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        if self._sidecar is not None:
            from aikeys.sidecar.build import start_sidecar

            start_sidecar(self._sidecar)

    def _ended(self, _arbiter: Any, _worker: Any) -> None:
        sidecar, self._sidecar = self._sidecar, None
        if sidecar is not None:
            from aikeys.sidecar.build import close_sidecar

            close_sidecar(sidecar)


def gunicorn_options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bind": settings.listen,
        "workers": settings.workers,
        "worker_class": Worker,
        "threads": settings.threads,
        "worker_connections": MOST_CONNECTIONS,
        "timeout": STUCK_SECONDS,
        "graceful_timeout": settings.graceful_timeout,
        "keepalive": settings.keepalive,
        "limit_request_line": LONGEST_LINE,
        "limit_request_fields": MOST_HEADERS,
        "limit_request_field_size": LONGEST_HEADER,
        # Who is believed about addresses is decided by our own settings, not by the server's defaults.
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "secure_scheme_headers": {},
        "control_socket_disable": True,
        "logger_class": GunicornLog,
        "umask": 0o077,
        "proc_name": "aikeys",
    }
    if settings.tls:
        options |= {
            "certfile": str(settings.tls_cert_file),
            "keyfile": str(settings.tls_key_file),
            "ssl_context": _tls_context,
        }
    return options


def _tls_context(_config: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
