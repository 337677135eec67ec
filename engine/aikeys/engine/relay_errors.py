"""What a relay's refusal becomes when it is not part of a mint: the answer of a renewal, a revocation, a config write."""

from __future__ import annotations

import math

from aikeys.framework.response import EngineError, RelayRateLimited, Unavailable
from aikeys.relays.interface import DriverError, Kind

UNREACHABLE = frozenset({Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.CANCELLED})


def engine_error(doing: str, error: DriverError) -> EngineError:
    """`doing` says what was tried ("revoking key_01"); the relay's own words follow, redacted by the driver."""
    message = f"{doing}: {error.safe_message}"
    if error.kind is Kind.RATE_LIMITED:
        return RelayRateLimited(message, None if error.retry_after is None else math.ceil(error.retry_after))
    return Unavailable(message) if error.kind in UNREACHABLE else EngineError(message)
