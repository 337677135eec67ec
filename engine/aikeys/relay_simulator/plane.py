"""The WSGI layer around Flask: reads a call, logs it, and makes it go wrong where the plan says so."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable
from typing import Any

from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.call import Call
from aikeys.relay_simulator.calls import CallLog, LoggedCall, loggable_headers
from aikeys.relay_simulator.faults import FaultPlan
from aikeys.relay_simulator.fields import MAX_BODY_BYTES
from aikeys.relay_simulator.misbehaviour import Exchange, Pause, misbehave
from aikeys.relay_simulator.outage import Outage

CALL = "aikeys.call"
"""Where a view finds its `Call` in the WSGI environment."""
CONTROL_PREFIX = "/_sim"
MAX_CONTROL_BYTES = 64 * 1024 * 1024

WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Plane:
    """What gunicorn calls."""

    def __init__(self, account: Account, *, control: bool) -> None:
        self.account = account
        self.control = control
        self.faults = FaultPlan()
        self.calls = CallLog()
        self.outage = Outage()
        self.pause = Pause()
        self.app: WSGI | None = None
        self.ports: dict[str, int] = {}
        """Which node listens on which port."""
        self._numbers = itertools.count(1)
        self._request_prefix = f"req_{secrets.token_hex(4)}"

    def reset(self) -> None:
        """Back to the state of a fresh start."""
        self.outage.end()
        self.faults.clear()
        with self.account.lock:
            self.account.reset()
        self.pause.release()
        self.calls.clear()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, _, query = raw_target(environ).partition("?")
        method = environ["REQUEST_METHOD"]
        node = self.ports.get(environ["SERVER_PORT"], 0)
        number = next(self._numbers)
        request_id = f"{self._request_prefix}{number:08x}"
        call = Call(method, path, query, b"", environ, node, request_id, self.account.epoch)
        environ[CALL] = call
        if is_control(environ["PATH_INFO"]):
            return self._serve(environ, call, None, start_response)
        entry = LoggedCall(
            number=number,
            method=method,
            path=path,
            query=query,
            raw_headers=loggable_headers(environ),
            at=self.account.clock.now(),
            node=node,
            request_id=request_id,
        )
        self.calls.add(entry)
        if self.faults.armed:
            faults = self.faults.take(method, path, node)
            if faults:
                entry.faults = tuple(fault.kind for fault in faults)
                exchange = Exchange(environ, call, entry, self._serve, self.account, self.pause)
                return misbehave(exchange, faults, start_response)
        return self._serve(environ, call, entry, start_response)

    def _serve(
        self,
        environ: dict[str, Any],
        call: Call,
        entry: LoggedCall | None,
        start_response: Callable[..., Any],
    ) -> Iterable[bytes]:
        """Let Flask answer; every answer names its request and the relay's own time."""
        if environ.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" in environ:
            limit = MAX_BODY_BYTES if entry is not None else MAX_CONTROL_BYTES
            call.body = call.body or environ["wsgi.input"].read(limit + 1)
            call.cut_short = len(call.body) < min(int(environ.get("CONTENT_LENGTH") or 0), limit)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            if entry is not None:
                entry.status = int(status[:3])
                entry.principal_id = call.principal_id
            headers.append(("X-Request-Id", call.request_id))
            headers.append(("Date", self.account.clock.http_date(self.account.policy.date_skew_seconds)))
            return start_response(status, headers, exc_info)

        if self.app is None:
            raise RuntimeError("the plane has no application yet")
        return self.app(environ, start)


def raw_target(environ: dict[str, Any]) -> str:
    """The request target as sent, without an absolute form's scheme and authority."""
    target: str = environ["RAW_URI"]
    if "://" in target.partition("?")[0]:
        target = "/" + target.split("://", 1)[1].partition("/")[2]
    return target


def is_control(path: str) -> bool:
    """Whether `path` steers the simulator."""
    return path == CONTROL_PREFIX or path.startswith(CONTROL_PREFIX + "/")
