"""The death of tokens that nobody told us of: each token that holds leases is looked up again and again.

Soon after its end, because it may have been renewed; every `interval` seconds, because it may have been revoked past the
sidecar; and at once when a revocation in transit may have ended it with another. What is due is claimed in the
store, so every process of the sidecar may run this. Leases end only when the upstream said twice that their token is
dead, and proved in between that it is ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from aikeys.errors import AikeysError
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.response import Unavailable
from aikeys.leases.manager import LeaseManager
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.token_fate import LOOKUP, Answer, Fate, fate_of, next_look, unknown
from aikeys.sidecar.witness import Witness
from aikeys.storage.failpoints import reach
from aikeys.storage.interface import Store
from aikeys.storage.records import TokenRecord

log = structlog.get_logger(__name__)

# Look-ups under way at once in a process: at 20 ms each they make some 400 in a second.
AT_ONCE = 8
# One look-up, in seconds.
PATIENCE = 5.0
# So many look-ups in a row that taught nothing: it is not about these tokens, the others are not asked about now.
HOPELESS = 3
# The longest sleep: how late work is seen that another process made.
POLL = 1.0
# To make all tokens due touches many rows while nobody else writes: at most one part in so many of the time.
HASTE_SHARE = 20
# How long a claimed token is left to its process, in seconds.
CLAIM = 20.0
# A dead token stands in the store until it is seen that it holds nothing.
FORGET_AFTER = timedelta(seconds=1)
NOT_ASKED = unknown("")
FORGOTTEN = unknown(
    "the Vault was restored from a backup that is older than these tokens; their leases run until their own end"
)


class TokenSweep:
    """Start it once in each process, after any fork."""

    def __init__(
        self,
        store: Store,
        leases: LeaseManager,
        own: OwnIdentity,
        witness: Witness,
        *,
        clock: Clock,
        interval: float,
        rate: float,
    ) -> None:
        """`interval` in seconds; `rate` is the most look-ups a second of this process."""
        self._store = store
        self._leases = leases
        self._own = own
        self._witness = witness
        self._clock = clock
        self._interval = interval
        self._rate = rate
        self._pace = Pace(rate)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="aikeys-tokens")
        self._lock = threading.Lock()
        self._asked = self._orphans_too = False
        self._no_haste_before = float("-inf")
        self._failures = 0
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="aikeys-token-sweep", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = PATIENCE + 1.0) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def ask(self, *, orphans: bool) -> None:
        """Tokens may just have died: look at all that can die with a parent, or at every one. Returns at once."""
        with self._lock:
            self._asked = True
            self._orphans_too = self._orphans_too or orphans
        self._wake.set()

    @property
    def asked(self) -> bool:
        """Whether such a wish still waits for its turn."""
        return self._asked

    def run_once(self) -> float:
        """Look up what is due; seconds until there may be more. Raises `StorageError`."""
        self._hasten()
        self._renew_witness()
        now = self._clock.now()
        limit = max(1, int(self._rate * POLL))
        tokens = self._store.claim_tokens(
            now,
            now + timedelta(seconds=CLAIM),
            now + timedelta(seconds=max(self._interval, CLAIM) + 2 * POLL),
            limit,
        )
        if not tokens:
            return self._pause()
        reach("sweep.claimed")
        answers = self._look_up(tokens)
        dead = [token for token in tokens if answers[token.accessor].fate is Fate.DEAD]
        if dead:
            answers = {**answers, **self._end(dead)}
        pause = self._note(tokens, answers, asked_at=now)
        if NOT_ASKED in answers.values():
            return pause
        return 0.0 if len(tokens) == limit else self._pause()

    # -- inner --------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                wait = self.run_once()
            except AikeysError as error:
                log.warning("token_sweep_failed", error=str(error))
                wait = POLL
            except Exception:
                log.exception("token_sweep_failed")
                wait = POLL
            self._wake.wait(wait)
            self._wake.clear()

    def _hasten(self) -> None:
        """Once a second at most, and more rarely where it takes long, however many revocations pass."""
        began = self._clock.monotonic()
        with self._lock:
            if not self._asked or began < self._no_haste_before:
                return
            orphans, self._asked, self._orphans_too = self._orphans_too, False, False
        self._store.hasten_tokens(self._clock.now(), orphans=orphans)
        ended = self._clock.monotonic()
        self._no_haste_before = ended + max(POLL, HASTE_SHARE * (ended - began))

    def _renew_witness(self) -> None:
        if self._store.next_token_due() is None:
            return
        try:
            self._witness.renew()
        except Unavailable as error:
            log.warning("witness_not_renewed", error=str(error))

    def _pause(self) -> float:
        with self._lock:
            if self._asked:
                return min(POLL, max(0.0, self._no_haste_before - self._clock.monotonic()))
        due = self._store.next_token_due()
        if due is None:
            return POLL
        return min(POLL, max(0.0, (due - self._clock.now()).total_seconds()))

    def _look_up(self, tokens: Sequence[TokenRecord]) -> dict[str, Answer]:
        """By accessor. When nothing is learnt any more the rest is left unasked."""
        streak = _Streak()

        def ask(token: TokenRecord) -> Answer:
            if streak.hopeless or self._stop.is_set():
                return NOT_ASKED
            self._pace.wait()
            answer = self._ask(token.accessor)
            streak.note(learnt=answer.fate is not Fate.UNKNOWN)
            return answer

        answers = self._pool.map(ask, tokens)
        return {token.accessor: answer for token, answer in zip(tokens, answers, strict=True)}

    def _ask(self, accessor: str) -> Answer:
        try:
            reply = self._own.request(
                "POST", LOOKUP, {"accessor": accessor}, deadline=Deadline.after(PATIENCE)
            )
        except Unavailable as error:
            return unknown(str(error))
        return fate_of(accessor, reply)

    def _end(self, dead: Sequence[TokenRecord]) -> Mapping[str, Answer]:
        """End the leases of those whose death holds good; what is known of each then."""
        try:
            since = self._witness.believed_since()
        except Unavailable as error:
            return {token.accessor: unknown(str(error)) for token in dead}
        answers = self._look_up([token for token in dead if since is None or token.seen_at > since])
        answers |= {token.accessor: FORGOTTEN for token in dead if token.accessor not in answers}
        confirmed = [token.accessor for token in dead if answers[token.accessor].fate is Fate.DEAD]
        if confirmed:
            reach("sweep.confirmed")
            ended = self._leases.revoke_of_tokens(confirmed)
            reach("sweep.leases_ended")
            log.info("tokens_died", tokens=len(confirmed), leases=ended, accessors=confirmed[:10])
        return answers

    def _note(
        self, tokens: Sequence[TokenRecord], answers: Mapping[str, Answer], *, asked_at: datetime
    ) -> float:
        """Write down what was learnt; after how many seconds that is tried again about which nothing was."""
        learnt = any(answer.fate is not Fate.UNKNOWN for answer in answers.values())
        self._failures = 0 if learnt else self._failures + 1
        pause = min(self._interval, POLL * 2.0 ** min(self._failures, 10))
        now = self._clock.now()

        def noted(token: TokenRecord) -> TokenRecord:
            answer = answers[token.accessor]
            match answer.fate:
                case Fate.LIVES:
                    due = now + timedelta(seconds=next_look(answer, self._interval))
                    return replace(token, seen_at=asked_at, due_at=due)
                case Fate.DEAD:
                    return replace(token, due_at=now + FORGET_AFTER)
                case Fate.UNKNOWN:
                    wait = self._interval if answer is FORGOTTEN else pause
                    return replace(token, due_at=now + timedelta(seconds=wait))

        self._store.settle_tokens([noted(token) for token in tokens])
        reach("sweep.noted")
        problems = [answer.problem for answer in answers.values() if answer.problem]
        if problems:
            log.warning(
                "tokens_not_looked_up", count=len(problems), error=problems[0], next_in=round(pause, 1)
            )
        return pause


class Pace:
    """Spreads what many threads do evenly over time: `rate` a second, however little was done before."""

    def __init__(self, rate: float) -> None:
        self._gap = 1.0 / rate
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def wait(self) -> None:
        """Until it is this caller's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        time.sleep(turn - now)


class _Streak:
    """How many in a row taught nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._length = 0

    @property
    def hopeless(self) -> bool:
        return self._length >= HOPELESS

    def note(self, *, learnt: bool) -> None:
        with self._lock:
            self._length = 0 if learnt else self._length + 1
