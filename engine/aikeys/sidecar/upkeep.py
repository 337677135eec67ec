"""What the sidecar looks after from time to time: its mounts against the upstream's table."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import structlog

from aikeys.errors import AikeysError

log = structlog.get_logger(__name__)

# After a failure the next try comes after this many seconds, doubled up to the interval.
FIRST_PAUSE = 1.0


class Upkeep:
    """Runs `task` at once and then every `interval` seconds, in a thread of its own, until `stop`."""

    def __init__(self, interval: float, task: Callable[[], None] = lambda: None) -> None:
        self.task = task
        self._interval = interval
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._loop, name="aikeys-upkeep", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)
            self._thread = None

    def _loop(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                self.task()
                failures = 0
            except AikeysError as error:
                failures += 1
                log.warning("upkeep_failed", error=str(error), failures=failures)
            except Exception:
                failures += 1
                log.exception("upkeep_failed", failures=failures)
            wait = (
                self._interval if not failures else min(self._interval, FIRST_PAUSE * 2 ** min(failures, 10))
            )
            # Several workers do not ask at the same moment.
            self._stop.wait(wait * random.uniform(0.9, 1.1))  # noqa: S311
