"""The sidecar's own token at the upstream: logged in, renewed, and replaced when it died."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import structlog

from aikeys.framework.clock import Clock, SystemClock
from aikeys.framework.deadline import Deadline
from aikeys.framework.response import Unavailable
from aikeys.redaction import SecretString
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.login import Login, LoginRefused, OwnToken
from aikeys.sidecar.upstream import Upstream, UpstreamDown

log = structlog.get_logger(__name__)

# Renewed when two thirds of its life are over, as Vault's own clients do, give or take a tenth so that
# several workers do not ask at once.
RENEW_AT = 2 / 3
JITTER = 0.1
# After a failed login, seconds: doubled each time up to the second.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
# A token that never expires is looked after once in this many seconds all the same.
IDLE_CHECK = 300.0


class NotLoggedIn(Unavailable):
    """The sidecar has no valid token of its own at the upstream; the message says why."""


class OwnIdentity:
    """Safe for many threads. One login at a time; whoever comes meanwhile waits for its outcome."""

    def __init__(self, upstream: Upstream, login: Login, *, clock: Clock | None = None) -> None:
        self._upstream = upstream
        self._login = login
        self._clock = clock or SystemClock()
        self._lock = threading.RLock()
        self._token: OwnToken | None = None
        self._renew_at = 0.0
        self._failures = 0
        self._last_failure = ""
        self._no_try_before = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # -- use ----------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query_string: str = "",
        headers: Sequence[tuple[str, str]] = (),
        namespace: str = "",
        deadline: Deadline | None = None,
    ) -> Reply:
        """A request with the sidecar's own token. A 403 because that token died is repeated with a new one.

        Raises `UpstreamDown`, and `NotLoggedIn` while no login succeeds.
        """
        ask = partial(
            self._upstream.request,
            method,
            path,
            body=body,
            query_string=query_string,
            headers=headers,
            namespace=namespace,
            deadline=deadline,
        )
        token = self.token()
        reply = ask(token=token.reveal())
        if reply.status != 403 or self._lives(token):
            return reply
        self._forget(token)
        return ask(token=self.token().reveal())

    def token(self) -> SecretString:
        """The present token; logs in when there is none. Raises `NotLoggedIn`."""
        known = self._token
        if known is not None and not self._expired(known):
            return known.token
        with self._lock:
            if self._token is None or self._expired(self._token):
                self._log_in()
            assert self._token is not None
            return self._token.token

    @property
    def accessor(self) -> str:
        """Of the present token, "" before the first login."""
        return self._token.accessor if self._token is not None else ""

    # -- life ---------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """What can be done once only and for all workers: spend a wrapping token. Before any fork."""
        self._login.prepare(self._upstream)

    def start(self) -> None:
        """Renew in the background until `stop`."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep_alive, name="own-token", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def log_out(self, timeout: float = 2.0) -> None:
        """Revoke the token that a login of ours made; one that we were given is not ours to end. Never raises."""
        with self._lock:
            known, self._token = self._token, None
        if known is None or not self._login.makes_tokens:
            return
        try:
            self._upstream.request(
                "POST", "auth/token/revoke-self", token=known.token.reveal(), deadline=Deadline.after(timeout)
            )
        except UpstreamDown as error:
            log.info("own_token_not_revoked", error=str(error))

    # -- inner --------------------------------------------------------------------------------------------------

    def _lives(self, token: SecretString) -> bool:
        """Whether a 403 was about the policy, not about the token."""
        reply = self._upstream.request("GET", "auth/token/lookup-self", token=token.reveal())
        if reply.status == 200:
            return True
        if reply.status in {400, 403}:
            return False
        raise UpstreamDown(
            f"the Vault behind this sidecar answered {reply.status} when asked about its token"
        )

    def _forget(self, token: SecretString) -> None:
        with self._lock:
            if self._token is not None and self._token.token == token:
                self._token = None
                log.warning("own_token_lost", note="logging in again")

    def _expired(self, token: OwnToken) -> bool:
        return token.ends_at is not None and self._clock.monotonic() >= token.ends_at

    def _log_in(self) -> None:
        if self._clock.monotonic() < self._no_try_before:
            raise NotLoggedIn(self._last_failure)
        try:
            self._token = self._login.log_in(self._upstream, self._clock)
        except (UpstreamDown, LoginRefused) as error:
            self._failed(error)
            raise NotLoggedIn(self._last_failure) from error
        self._failures = 0
        self._no_try_before = 0.0
        self._plan(self._token)
        log.info("own_token_obtained", method=self._login.name, accessor=self._token.accessor)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self._failures - 1, 10))
        self._no_try_before = self._clock.monotonic() + pause * random.uniform(0.9, 1.1)  # noqa: S311
        self._last_failure = f"the sidecar cannot log in at the Vault behind it ({self._login.name}): {error}"
        log.warning("own_login_failed", method=self._login.name, error=str(error), pause=pause)

    def _plan(self, token: OwnToken) -> None:
        life = IDLE_CHECK if token.ends_at is None else token.ends_at - self._clock.monotonic()
        share = RENEW_AT + random.uniform(-JITTER, JITTER)  # noqa: S311
        self._renew_at = self._clock.monotonic() + max(0.2, life * share)

    def _keep_alive(self) -> None:
        while not self._stop.is_set():
            try:
                self.token()
                wait = self._renew_at - self._clock.monotonic()
                if wait <= 0:
                    self._renew()
                    continue
            except NotLoggedIn:
                wait = self._no_try_before - self._clock.monotonic()
            except UpstreamDown as error:
                log.warning("own_token_not_renewed", error=str(error))
                wait = FIRST_PAUSE
            self._stop.wait(min(max(wait, 0.1), LONGEST_PAUSE))

    def _renew(self) -> None:
        with self._lock:
            known = self._token
            if known is None:
                return
            renewed = self._login.renew(self._upstream, known, self._clock)
            if renewed is None:
                self._token = None
                self._log_in()
                return
            self._token = renewed
            self._plan(renewed)
