"""What a lease of a key carries to its renewals and its revocation (Vault: the secret's internal data). No IO."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aikeys.relays.interface import KeyRef


@dataclass(frozen=True, slots=True)
class LeaseData:
    """`upstream_expires_at` is when the relay ends the key. `not_after` is when the batch token it was given to ends.

    `probe_key` is the key itself, kept only where the role wants its revocation verified, "" otherwise; the store
    seals it.
    """

    ref: KeyRef
    role: str
    upstream_expires_at: datetime
    not_after: datetime | None = None
    probe_key: str = ""

    @property
    def verify(self) -> bool:
        """Whether the key is tried at the relay after its revocation."""
        return bool(self.probe_key)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "ref": self.ref.to_json(),
            "role": self.role,
            "upstream_expires_at": self.upstream_expires_at.isoformat(),
            "verify": self.verify,
        }
        if self.not_after is not None:
            data["not_after"] = self.not_after.isoformat()
        if self.verify:
            data["probe_key"] = self.probe_key
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LeaseData:
        not_after = data.get("not_after")
        return cls(
            ref=KeyRef.from_json(data["ref"]),
            role=data["role"],
            upstream_expires_at=datetime.fromisoformat(data["upstream_expires_at"]),
            not_after=None if not_after is None else datetime.fromisoformat(not_after),
            probe_key=data.get("probe_key", ""),
        )
