"""What can be set: once at the start, or at run time through ``/_sim/settings``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

DEFAULT_EFFECTIVE_WITHIN_MS = 500


@dataclass(frozen=True)
class AccountPolicy:
    """The account's own rules, and how slow or strict the relay is. All may change at run time."""

    management_rpm: int = 60
    """Management calls per minute and management key; 0 is unlimited."""
    management_burst: int = 20
    """How many of them may come at once."""
    max_live_keys: int = 1000
    """Keys that have not ended; 0 is unlimited."""
    require_expiry: bool = False
    """Refuse a key without an expiry."""
    allow_signature_v1: bool = False
    """Accept the weak first signature scheme."""
    management_signature_required: bool = False
    """Refuse unsigned calls of management keys that have a signing secret."""
    strict_fields: bool = True
    """Refuse request fields that are not known."""
    list_lag_ms: int = 0
    """How long a new key stays out of lists and out of look-ups by name."""
    revoke_lag_ms: tuple[int, int] = (0, 0)
    """How long each node still accepts a revoked or disabled key."""
    effective_within_ms: int | None = None
    """What a deletion promises; without it the longer of 500 ms and the slowest node's lag (the truth)."""
    date_skew_seconds: int = 0
    """How far the ``Date`` header of every answer is off."""

    @property
    def promised_within_ms(self) -> int:
        """``effective_within_ms`` as a deletion answers it."""
        if self.effective_within_ms is not None:
            return self.effective_within_ms
        return max(DEFAULT_EFFECTIVE_WITHIN_MS, *self.revoke_lag_ms)

    def changed(self, changes: Mapping[str, Any]) -> AccountPolicy:
        """A copy with `changes`; an unknown name or a wrong type is a ``ValueError`` that says which."""
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"no such setting: {name}")
            values[name] = _checked(name, value, known[name])
        return replace(self, **values)

    def as_dict(self) -> dict[str, Any]:
        """For ``GET /_sim/settings``."""
        return asdict(self)


def _checked(name: str, value: Any, current: Any) -> Any:
    if name == "revoke_lag_ms":
        lags = [value, value] if _is_count(value) else value
        if not isinstance(lags, list) or len(lags) != 2 or not all(_is_count(lag) for lag in lags):
            raise ValueError("revoke_lag_ms is milliseconds, or a list of two (one per node)")
        return (lags[0], lags[1])
    if isinstance(current, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{name} is true or false")  # noqa: TRY004 - one error for all
        return value
    if name == "effective_within_ms" and value is None:
        return None
    if name == "date_skew_seconds" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if not _is_count(value):
        raise ValueError(f"{name} is a whole number that is not negative")
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


@dataclass(frozen=True)
class SimulatorSettings:
    """How one simulator process is started."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    second_node_port: int | None = None
    """A second data-plane node on the same state; 0 takes a free port, None is no second node."""
    management_key: str | None = None
    """Without it one is generated."""
    signing_secret: str | None = None
    """With it the management key's calls must be signed."""
    seed: int | None = None
    """Makes ids and secrets repeatable."""
    control: bool = True
    """Whether ``/_sim/`` is served."""
    policy: AccountPolicy = field(default_factory=AccountPolicy)
    port_file: Path | None = None
    """Where the addresses are written, as JSON, once the simulator listens."""
    threads: int = 64
    stop_with_stdin: bool = False
    """End when standard input closes: the starter has gone."""
