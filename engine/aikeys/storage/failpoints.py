"""Named places where a test may end the process, each beside a durable step.

Off (the default) a point costs one look at a module global. `AIKEYS_FAILPOINTS="issue.intent_stored=kill:3"` ends
the process with SIGKILL the third time that point is reached, as a power cut or the out-of-memory killer would;
`=error:2` raises StorageError there once instead, as a full disk would. Several are separated by commas.
"""

from __future__ import annotations

import os
import re
import signal
import threading

from aikeys.errors import SettingsError, StorageError

VARIABLE = "AIKEYS_FAILPOINTS"

# Every point in the code, so that a test can go through all of them and none is forgotten.
POINTS = (
    "store.before_commit",
    "store.after_commit",
    "issue.before_intent",
    "issue.intent_stored",
    "issue.relay_answered",
    "issue.before_lease",
    "issue.lease_stored",
    "issue.unknown_noted",
    "issue.refusal_noted",
    "issue.abandoned",
    "renew.relay_extended",
    "renew.stored",
    "revoke.marked",
    "revoke.relay_revoked",
    "revoke.lease_deleted",
    "revoke.failure_noted",
    "expiry.claimed",
    "resolve.claimed",
    "resolve.found",
    "resolve.replayed",
    "resolve.revoked",
    "resolve.settled",
)

_ENTRY = re.compile(r"(?P<name>[a-z_.]+)=(?P<action>kill|error)(?::(?P<nth>[1-9][0-9]*))?")


def _parse(text: str) -> dict[str, tuple[str, int]]:
    armed: dict[str, tuple[str, int]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _ENTRY.fullmatch(entry)
        if match is None or match["name"] not in POINTS:
            raise SettingsError(
                f"{VARIABLE}: {entry!r} is no fail point; write name=kill:N or name=error:N with one of {', '.join(POINTS)}"
            )
        armed[match["name"]] = (match["action"], int(match["nth"] or 1))
    return armed


_armed = _parse(os.environ.get(VARIABLE, ""))
_active = bool(_armed)
_counts: dict[str, int] = {}
_lock = threading.Lock()


def arm(text: str) -> None:
    """Arm the points of `text` in this process and forget all counts; "" disarms."""
    global _armed, _active  # noqa: PLW0603 - one switch for the process is the point
    with _lock:
        _armed = _parse(text)
        _counts.clear()
        _active = bool(_armed)


def reach(name: str) -> None:
    """Say that the process stands at point `name`."""
    if _active:
        _reached(name)


def _reached(name: str) -> None:
    with _lock:
        _counts[name] = count = _counts.get(name, 0) + 1
        action, nth = _armed.get(name, ("", 0))
    if count != nth:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise StorageError(f"fail point {name} was armed to raise an error here")
