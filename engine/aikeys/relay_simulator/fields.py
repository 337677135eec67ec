"""Reading a request body field by field: each has one type, and what nobody asked for is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from aikeys.relay_simulator.budgets import CURRENCY, PERIODS, Budget
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.keys import PERMISSIONS

MAX_BODY_BYTES = 256 * 1024
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
RESERVED_NAMES = frozenset({"validate", "rotate"})
MODEL_PATTERN = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\*?")
MIN_EXPIRES_IN = 60
MAX_EXPIRES_IN = 31_536_000
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body` (empty is ``{}``); duplicate names, NaN and anything but an object are refused."""
    if not body:
        return {}
    try:
        parsed = json.loads(body, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RelayError("invalid_request", "The request body is not valid JSON") from error
    if not isinstance(parsed, dict):
        raise RelayError("invalid_request", "The request body must be a JSON object")
    return parsed


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError("duplicate name")
    return parsed


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


class Fields:
    """A body that is emptied as it is read; `finish` refuses what is left.

    A null counts as absent, except where `has` is asked: a PATCH clears with it.
    """

    def __init__(self, body: Mapping[str, Any], *, strict: bool = True) -> None:
        self._left = dict(body)
        self._strict = strict

    def has(self, name: str) -> bool:
        """Whether the body names it, be it with null."""
        return name in self._left

    def take(self, name: str) -> Any:
        """The value as it came, or None."""
        return self._left.pop(name, None)

    def finish(self) -> None:
        """Nothing more is known."""
        if self._left and self._strict:
            name = next(iter(self._left))
            raise RelayError("unknown_field", f"Unknown field: {name[:64]!r}", param=name[:64])

    def integer(self, name: str, low: int, high: int, *, code: str = "invalid_request") -> int | None:
        """A whole number within [low, high]."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise RelayError(code, f"{name} must be a whole number from {low} to {high}", param=name)
        return value

    def boolean(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise RelayError("invalid_request", f"{name} must be true or false", param=name)
        return value

    def string(self, name: str, *, longest: int = 128) -> str | None:
        """A string that is not empty."""
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise RelayError(
                "invalid_request", f"{name} must be a string of 1 to {longest} characters", param=name
            )
        return value

    def name(self, *, required: bool) -> str | None:
        """The key's name."""
        value = self.take("name")
        if value is None and not required:
            return None
        if not isinstance(value, str) or not NAME.fullmatch(value) or value in RESERVED_NAMES:
            raise RelayError("invalid_request", "name is missing or not a valid name", param="name")
        return value

    def strings(self, name: str, *, code: str) -> tuple[str, ...] | None:
        """A list of strings, or one comma-separated string; each item once, in order."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, str):
            value = [item.strip() for item in value.split(",") if item.strip()]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise RelayError(code, f"{name} must be a list of strings", param=name)
        return tuple(dict.fromkeys(value))

    def permissions(self) -> tuple[str, ...] | None:
        """At least one known permission, or None."""
        granted = self.strings("permissions", code="invalid_permission")
        if granted is None:
            return None
        if not granted or not set(granted) <= set(PERMISSIONS):
            raise RelayError(
                "invalid_permission",
                f"permissions are some of: {', '.join(PERMISSIONS)}",
                param="permissions",
            )
        return granted

    def models(self) -> tuple[str, ...]:
        """Model names, each exact or with a trailing ``*``; none is all."""
        patterns = self.strings("allowed_models", code="invalid_model") or ()
        if not all(MODEL_PATTERN.fullmatch(pattern) for pattern in patterns):
            raise RelayError(
                "invalid_model",
                "allowed_models are model names, a trailing * allowed",
                param="allowed_models",
            )
        return patterns

    def budget(self) -> Budget | None:
        """``{limit, currency, period}`` with the limit as a decimal string."""
        value = self.take("budget")
        if value is None:
            return None
        if not isinstance(value, dict):
            raise RelayError("invalid_request", "budget must be an object", param="budget")
        inner = Fields(value, strict=self._strict)
        limit, currency, period = inner.take("limit"), inner.take("currency"), inner.take("period")
        try:
            inner.finish()
        except RelayError as error:
            raise RelayError("unknown_field", error.message, param=f"budget.{error.param}") from None
        if not isinstance(limit, str) or not _AMOUNT.fullmatch(limit):
            raise RelayError("invalid_request", "budget.limit must be a decimal string", param="budget.limit")
        if currency not in (None, CURRENCY):
            raise RelayError(
                "invalid_request", f"budget.currency must be {CURRENCY}", param="budget.currency"
            )
        if period is not None and period not in PERIODS:
            raise RelayError(
                "invalid_request", f"budget.period is one of: {', '.join(PERIODS)}", param="budget.period"
            )
        try:
            return Budget(limit=Decimal(limit), period=period or "total")
        except InvalidOperation as error:
            raise RelayError("invalid_request", "budget.limit is no number", param="budget.limit") from error

    def expiry(self, now: float) -> int | None:
        """``expires_in`` or ``expires_at`` as the moment it means; both are refused."""
        expires_in = self.integer("expires_in", MIN_EXPIRES_IN, MAX_EXPIRES_IN, code="invalid_expiry")
        expires_at = self.integer(
            "expires_at", int(now) + 1, int(now) + MAX_EXPIRES_IN, code="invalid_expiry"
        )
        if expires_in is not None and expires_at is not None:
            raise RelayError(
                "invalid_expiry", "expires_in and expires_at exclude each other", param="expires_at"
            )
        return int(now) + expires_in if expires_in is not None else expires_at

    def metadata(self) -> dict[str, str]:
        """At most 16 pairs of strings."""
        value = self.take("metadata")
        if value is None:
            return {}
        if (
            not isinstance(value, dict)
            or len(value) > 16
            or not all(0 < len(k) <= 64 and isinstance(v, str) and len(v) <= 256 for k, v in value.items())
        ):
            raise RelayError(
                "invalid_request",
                "metadata is at most 16 pairs; a key has up to 64 characters, a value is a string of up to 256",
                param="metadata",
            )
        return dict(value)
