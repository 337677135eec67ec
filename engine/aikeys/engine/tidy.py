"""`tidy`: keys of this mount at the relay that no lease knows, and their end."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from aikeys.engine.backstop import rfc3339
from aikeys.engine.entries import TIDY
from aikeys.engine.relay_errors import UNREACHABLE, engine_error
from aikeys.engine.role import METADATA_OWN
from aikeys.engine.services import Services
from aikeys.framework.durations import format_duration
from aikeys.framework.fields import Field, FieldData, FieldType
from aikeys.framework.paths import Path
from aikeys.framework.request import Mount, Operation, Request
from aikeys.framework.response import EngineError, InvalidRequest, Response, Unavailable
from aikeys.minting.orphans import LEAST_SAFETY, SAFETY, Judged, Plan, Standing, Unsafe
from aikeys.minting.sweep import Sweep
from aikeys.relays.interface import Driver, DriverError, Kind

# How long an apply waits for the relay to refuse the keys; the rest goes on in the background.
WAIT_SECONDS = 10.0
LOOK_EVERY = 0.1
# More keys than this are counted and not described.
DESCRIBED = 1000

SYNOPSIS = "Find keys at the relay that no lease knows, and end them."
DESCRIPTION = """
A read is the plan: it asks the relay for every live key with this mount's mark and tells which of them no lease and
no mint under way knows. A write does the same; with "apply" it then revokes the keys in "keys", each put on record
first, so that a crash loses none. Give the "plan" that was read to have it refused when there is another by now.

Only keys are touched that this mount's engine made, that this very database asked for, and that are older than
"safety_buffer". Keys of other mounts and other engines, and those made by hand, are not.

It refuses when the relay's list cannot be read whole, and when the plan ends an unusual number of keys, unless
"force" is given. It refuses when the relay has keys that this database never asked for: then the database is an older
copy, or has a twin, and leases may exist that it does not know. "accept_restored" takes these keys for its own; the
next apply ends them, whoever holds them.
"""
FIELDS = {
    "apply": Field(FieldType.BOOL, "Revoke the keys of the plan.", default=False),
    "plan": Field(
        FieldType.STRING, "The plan that was read: refuse when it is another by now. Optional with apply."
    ),
    "safety_buffer": Field(
        FieldType.DURATION,
        "How old a key must be, counted from the request it was made for.",
        default=int(SAFETY.total_seconds()),
        query=True,
    ),
    "force": Field(FieldType.BOOL, "Apply a plan that ends an unusual number of keys.", default=False),
    "accept_restored": Field(
        FieldType.BOOL,
        "Take the keys that this database never asked for as its own, so that an apply ends them. Needs plan.",
        default=False,
    ),
}
RETURNS = {
    "plan": Field(FieldType.STRING, "Stands for these keys.", required=True),
    "keys": Field(FieldType.COMMA_STRINGS, "Ids of the keys that an apply revokes.", required=True),
    "key_info": Field(
        FieldType.MAP,
        "Of every key that no lease knows: what it is, and why it ends or stays.",
        required=True,
    ),
    "counts": Field(
        FieldType.MAP, "How many keys with this mount's name the relay has, by what they are.", required=True
    ),
    "revoked": Field(FieldType.COMMA_STRINGS, "Ids of the keys whose end the relay has confirmed."),
    "pending": Field(FieldType.COMMA_STRINGS, "Ids of the keys that are on record and still to be revoked."),
}
_WHY = {
    Standing.ORPHAN: "no lease knows it",
    Standing.YOUNG: "no lease knows it, but it is younger than safety_buffer",
    Standing.UNMARKED: "it has a name like this mount's keys but not their mark: somebody else made it",
}


def tidy_path(services: Services, sweep: Sweep) -> Path:
    paths = _Tidy(services, sweep)
    return Path(
        pattern=TIDY,
        fields=FIELDS,
        operations={Operation.READ: paths.read, Operation.UPDATE: paths.write},
        noun=TIDY,
        synopsis=SYNOPSIS,
        description=DESCRIPTION,
        returns=RETURNS,
    )


class _Tidy:
    def __init__(self, services: Services, sweep: Sweep) -> None:
        self._services = services
        self._sweep = sweep

    def read(self, request: Request, data: FieldData) -> Response:
        driver = self._driver(request.mount)
        plan = self._plan(request, driver, self._safety(data, driver))
        plan.raise_if_restored()
        return _shown(plan, data["force"])

    def write(self, request: Request, data: FieldData) -> Response:
        if data["accept_restored"] and data["apply"]:
            raise InvalidRequest(
                "give accept_restored first, then look at the plan, then apply it: they are not one step"
            )
        if data["accept_restored"] and not data["plan"]:
            raise InvalidRequest("accept_restored needs the plan that the refusal names")
        driver = self._driver(request.mount)
        safety = self._safety(data, driver)
        plan = self._plan(request, driver, safety)
        if data["accept_restored"]:
            if plan.newer:
                _check_digest(plan, data["plan"])
                self._sweep.accept(request.mount, plan)
                plan = self._plan(request, driver, safety)
            plan.raise_if_restored()
            return _shown(plan, data["force"])
        plan.raise_if_restored()
        if data["plan"]:
            _check_digest(plan, data["plan"])
        if not data["apply"]:
            return _shown(plan, data["force"])
        if not data["force"]:
            plan.raise_if_unsafe()
        return self._apply(request, plan)

    def _apply(self, request: Request, plan: Plan) -> Response:
        recorded = self._sweep.end(request.mount, plan.orphans)
        end = request.deadline.at_most(WAIT_SECONDS)
        while (pending := self._sweep.unfinished(request.mount, recorded)) and not end.passed:
            self._services.sleep(LOOK_EVERY)
        response = _shown(plan, force=True)
        assert response.data is not None
        response.data["revoked"] = [key_id for key_id in recorded if key_id not in set(pending)]
        response.data["pending"] = pending
        return response

    def _driver(self, mount: Mount) -> Driver:
        return self._services.connections.driver(mount.uuid, mount.path)

    @staticmethod
    def _safety(data: FieldData, driver: Driver) -> timedelta:
        safety = timedelta(seconds=data["safety_buffer"])
        least = LEAST_SAFETY + timedelta(seconds=math.ceil(driver.capabilities().list_lag))
        if safety < least:
            raise InvalidRequest(
                f"safety_buffer must be at least {format_duration(int(least.total_seconds()))}: a key that is being "
                "made may take so long to get its lease"
            )
        return safety

    def _plan(self, request: Request, driver: Driver, safety: timedelta) -> Plan:
        try:
            return self._sweep.plan(request.mount, driver, safety, request.deadline)
        except DriverError as error:
            raise unreadable(error) from error


def unreadable(error: DriverError) -> EngineError:
    """The answer when the relay's list could not be read whole. What trying again does not help is a 400."""
    what = "the relay's list of keys could not be read whole, and a part of it is no plan; nothing was ended"
    if error.kind is Kind.RATE_LIMITED:
        return engine_error(what, error)
    text = f"{what}: {error.safe_message}"
    passing = error.kind in UNREACHABLE or error.kind is Kind.PROTOCOL
    return Unavailable(text) if passing else InvalidRequest(text)


def _check_digest(plan: Plan, digest: str) -> None:
    if plan.digest != digest:
        raise InvalidRequest(f"the plan is another by now, {plan.digest}: read it again; nothing was ended")


def _shown(plan: Plan, force: bool) -> Response:
    unknown = plan.of(*_WHY)
    counts = {standing.value: len(plan.of(standing)) for standing in Standing}
    warnings = []
    if not force:
        try:
            plan.raise_if_unsafe()
        except Unsafe as error:
            warnings.append(f"an apply is refused: {error.message}")
    if len(unknown) > DESCRIBED:
        warnings.append(f"only the first {DESCRIBED} of {len(unknown)} keys are described")
    data: dict[str, Any] = {
        "plan": plan.digest,
        "keys": [judged.key.ref.key_id for judged in plan.orphans],
        "key_info": {judged.key.ref.key_id: _described(judged) for judged in unknown[:DESCRIBED]},
        "counts": counts,
    }
    return Response(data=data, warnings=warnings)


def _described(judged: Judged) -> dict[str, Any]:
    key = judged.key
    return {
        "name": key.ref.name,
        "role": key.metadata.get(f"{METADATA_OWN}role", ""),
        "created_at": None if key.created_at is None else rfc3339(key.created_at),
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
        "age": judged.age,
        "ends": judged.standing is Standing.ORPHAN,
        "reason": _WHY[judged.standing],
    }
