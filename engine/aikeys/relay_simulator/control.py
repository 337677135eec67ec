"""A client of ``/_sim/``: what a test or the demonstration asks of the simulator."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import httpx


class SimulatorControl:
    """Steers the simulator whose root is `address`. Every method raises ``httpx.HTTPStatusError`` when refused."""

    def __init__(self, address: str, *, timeout: float = 30.0) -> None:
        self._http = httpx.Client(base_url=f"{address.rstrip('/')}/_sim", timeout=timeout, trust_env=False)

    def fault(self, kind: str, **parameters: Any) -> str:
        """Arm a fault (``method``, ``path``, ``nth``, ``count``, ``node`` and the kind's own); its id."""
        answer = self._ask("POST", "/faults", {"kind": kind, **parameters})
        fault_id: str = answer["faults"][0]["id"]
        return fault_id

    def faults(self) -> list[dict[str, Any]]:
        """The plan, with how often each fault matched and fired."""
        faults: list[dict[str, Any]] = self._ask("GET", "/faults")["faults"]
        return faults

    def clear_faults(self, fault_id: str = "") -> None:
        """Behave again, or only without this fault."""
        self._ask("DELETE", f"/faults/{fault_id}" if fault_id else "/faults")

    def advance(self, seconds: float) -> float:
        """Move the relay's clock forward; what it shows then."""
        now: float = self._ask("POST", "/clock", {"advance": seconds})["now"]
        return now

    def now(self) -> float:
        """The relay's clock."""
        now: float = self._ask("GET", "/clock")["now"]
        return now

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change the account's policy (none: only read it)."""
        return self._ask("POST", "/settings", changes) if changes else self._ask("GET", "/settings")

    def outage(self, seconds: float | None = None, *, mode: str = "drop", node: int | None = None) -> None:
        """Begin an outage; without `seconds` it lasts until `end_outage`."""
        self._ask("POST", "/outage", {"on": True, "seconds": seconds, "mode": mode, "node": node})

    def end_outage(self) -> None:
        """Serve again."""
        self._ask("POST", "/outage", {"off": True})

    def calls(
        self, method: str | None = None, path: str | None = None, since: int = 0
    ) -> list[dict[str, Any]]:
        """The call log, in order; `since` is the number of the last call already seen."""
        wanted = {"method": method, "path": path, "since": since or None}
        parameters = {name: value for name, value in wanted.items() if value is not None}
        calls: list[dict[str, Any]] = self._ask("GET", "/calls", parameters=parameters)["calls"]
        return calls

    def keys(self, name_prefix: str = "", status: str | None = None) -> list[dict[str, Any]]:
        """Every data key, dead ones too, with the SHA-256 of its secret and how often it was used."""
        parameters = {"name_prefix": name_prefix} | ({} if status is None else {"status": status})
        keys: list[dict[str, Any]] = self._ask("GET", "/keys", parameters=parameters)["keys"]
        return keys

    def orphans(self, known: Iterable[str], name_prefix: str = "") -> list[dict[str, Any]]:
        """Live keys whose id or name is not among `known`."""
        body = {"known": list(known), "name_prefix": name_prefix}
        orphans: list[dict[str, Any]] = self._ask("POST", "/orphans", body)["orphans"]
        return orphans

    def management_key(self, **rights: Any) -> dict[str, Any]:
        """Make another management key (`scopes`, `team_id`, `name_prefix`, `signing`)."""
        return self._ask("POST", "/management_keys", rights)

    def reset(self) -> None:
        """As after a fresh start: no key, no fault, no call, real time."""
        self._ask("POST", "/reset", {})

    def close(self) -> None:
        """Close connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(
        self, method: str, path: str, body: Any = None, parameters: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = self._http.request(method, path, json=body, params=parameters)
        answer.raise_for_status()
        decoded: dict[str, Any] = answer.json()
        return decoded
