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
from collections.abc import Mapping

from aikeys.errors import SettingsError, StorageError

VARIABLE = "AIKEYS_FAILPOINTS"

# Every point in the code and where the process stands there, so that a test can go through all of them and none is
# forgotten.
POINTS: Mapping[str, str] = {
    "store.before_commit": "a batch of transactions is written, and not committed",
    "store.after_commit": "the batch is on the disk, and nobody has been told",
    # a key and its lease
    "issue.before_intent": "the caller may, and nothing is on record yet",
    "issue.intent_stored": "the intent is on the disk, the relay not asked yet",
    "issue.relay_answered": "the relay has made the key",
    "issue.before_lease": "the key exists, its lease is about to replace the intent",
    "issue.lease_stored": "the lease is on the disk, the caller has no answer",
    "issue.unknown_noted": "the relay's answer is lost, and the intent says so",
    "issue.refusal_noted": "the relay has refused, and the intent is gone",
    "issue.abandoned": "the key cannot be handed out, which is on record; it is not revoked yet",
    "renew.relay_extended": "the relay has moved the key's end, the lease is unchanged",
    "renew.stored": "the lease has its new end, the caller has no answer",
    "revoke.marked": "the decision is on the disk, the relay not asked yet",
    "revoke.relay_revoked": "the relay refuses the key, the lease still exists",
    "revoke.lease_deleted": "the lease is gone, the caller has no answer",
    "revoke.failure_noted": "the relay did not revoke, and the next attempt is on record",
    "expiry.claimed": "leases whose end has come are claimed by this process",
    "resolve.claimed": "open intents are claimed by this process",
    "resolve.found": "the relay has said which keys an intent made",
    "resolve.replayed": "an order was put to the relay again, and its key is known",
    "resolve.revoked": "the key of an intent is revoked",
    "resolve.settled": "nothing lives of an intent that is still on record",
    # keys at the relay that nobody knows
    "tidy.recorded": "what is to be revoked is on the disk as intents, the relay not asked yet",
    # tokens that hold leases
    "sweep.claimed": "tokens to be looked up are claimed by this process",
    "sweep.confirmed": "tokens are known to be dead, their leases live",
    "sweep.leases_ended": "the leases of dead tokens are to be revoked, the tokens are still to be looked up",
    "sweep.noted": "what was learnt of the tokens is on the disk",
    # wrapped answers
    "wrap.stored": "the answer lies behind the wrapping token, which the caller does not have yet",
    "wrap.lapsed": "answers that nobody read are gone, and their leases are to be revoked",
    "unwrap.spent": "the upstream has spent the wrapping token, our answer is still there",
    "unwrap.taken": "our answer is gone, and the caller has not got it",
    "rewrap.stored": "the answer lies behind both wrapping tokens",
    "rewrap.taken": "the answer lies behind the new token, which the caller does not have yet",
    # mounts
    "enable.intended": "the mark is on the disk, the upstream not asked yet",
    "enable.mounted": "the upstream has answered the request for the shadow",
    "enable.recorded": "the mount is on record, its markers are not in their places",
    "enable.ready": "all is in its place, the caller has no answer",
    "enable.given_up": "nothing was mounted, and the mark is gone",
    "enable.tainted": "the mount could not be set up, and its record says that it is to go",
    "enable.unmounted": "the upstream has answered the request to take it back",
    "tune.tuned": "the upstream has answered the request to tune",
    "tune.recorded": "the new values are on record",
    "remount.asked": "the upstream has answered the request to move",
    "remount.leases_ended": "the leases under the old path are to be revoked, the record has not moved",
    "remount.followed": "the record has moved",
    "mount.set_aside": "the record of a mount that is gone upstream has made room for another",
    "disable.tainted": "the mount is tainted, its leases live",
    "disable.emptied": "the last lease is gone, the upstream not asked yet",
    "disable.unmounted": "the upstream has answered the request to disable",
    "disable.refused": "the upstream has refused, and the mount is served again",
    "disable.forgotten": "the mount is gone from both sides",
}

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
