"""The owner mark of a key: by its name and its serial a key at the relay is known for one that this mount made. No IO.

The name carries the mount's instance id, the metadata carry the serial that the store gave to the mint intent and the
moment of that intent by our own clock. A key that somebody made by hand has not both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aikeys.relays.interface import KeyInfo, MintIntent

SERIAL = "aikeys_serial"
_VALUE = re.compile(r"([a-z2-7]{10})\.([1-9][0-9]{0,17})\.([0-9]{1,11})")
_NAME_END = re.compile(r"[a-z2-7]{16}")


@dataclass(frozen=True, slots=True)
class Mark:
    """`series` and `number` are the serial; `at` is when the intent was put on record, in whole seconds."""

    series: str
    number: int
    at: datetime

    def given(self, serials: Mapping[str, int]) -> bool:
        """Whether a store that has given these serials gave this one."""
        return serials.get(self.series, 0) >= self.number


def name_prefix(instance: str) -> str:
    """What the names of all keys of a mount begin with."""
    return f"vlt-{instance}-"


def marked(intent: MintIntent, serial: str, at: datetime) -> MintIntent:
    """The intent as it goes to the relay. The same three always give the same."""
    if not serial:
        return intent
    return replace(intent, metadata={**intent.metadata, SERIAL: f"{serial}.{int(at.timestamp())}"})


def read_mark(instance: str, key: KeyInfo) -> Mark | None:
    """None for a key that this mount did not make."""
    prefix = name_prefix(instance)
    if not key.ref.name.startswith(prefix) or not _NAME_END.fullmatch(key.ref.name.removeprefix(prefix)):
        return None
    found = _VALUE.fullmatch(key.metadata.get(SERIAL, ""))
    if found is None:
        return None
    return Mark(found[1], int(found[2]), datetime.fromtimestamp(int(found[3]), UTC))
