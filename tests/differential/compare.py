"""What counts as the same answer. No IO.

An answer is cut into named places, with what must differ (ids, times, the engine's own data) written as what it is;
then every place is compared exactly. The one tolerance is `Leeway`: numbers that count down may differ by as many
seconds as began between what one world did and what the other did, and by nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.differential.worlds import Answer, Ask, Kind, World

PAST_MAX = "failed to renew entry: resp: (*logical.Response)(nil) err: past the max TTL, cannot renew"
CAPPED = re.compile(
    r'TTL of "(?P<wanted>[^"]+)" exceeded the effective max_ttl of "(?P<left>(\d+h)?(\d+m)?(\d+s)?)"; '
    r"TTL value is capped accordingly"
)
_HEADERS = ("content-type", "cache-control", "strict-transport-security", "location", "retry-after", "allow")
_REQUEST_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Go's RFC3339Nano: no zeros at the end of the fraction.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)")
_LEASE_TAIL = re.compile(r"[0-9A-Za-z]{24}")
# A wrapping token is leased too, under the path of the request whose answer it holds: Vault salts its id.
WRAPPING_TAIL = re.compile(r"h[0-9a-f]{64}")
_UNIX_TIMES = {"data.creation_time", "data.last_renewal_time"}
#: What a mount says of its engine and its place, not of its leases.
_ENGINES_OWN = {
    "accessor",
    "uuid",
    "type",
    "options",
    "plugin_version",
    "running_plugin_version",
    "running_sha256",
    "deprecation_status",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """`where` is a place of an answer: "status", "errors", "data.ttl", "header content-type"."""

    where: str
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        return f"{self.where}: the reference has {self.theirs!r}, ours {self.ours!r}"


@dataclass(frozen=True, slots=True)
class Leeway:
    """By how many seconds numbers that count down may differ.

    `seconds` is how many half and whole seconds of the wall clock passed between the two worlds' calls that the number
    hangs on: issue, last renewal, and this one. All of Vault's arithmetic cuts or rounds to the second, so with none
    the numbers are equal. `token_ends`: a batch token's end caps the lease, and that end is a fraction of a second of
    its own in each world, so one second more.
    """

    seconds: int = 0
    token_ends: bool = False

    def __add__(self, other: Leeway) -> Leeway:
        return Leeway(self.seconds + other.seconds, self.token_ends or other.token_ends)

    @property
    def most(self) -> int:
        return self.seconds + self.token_ends


def passed(theirs: Answer, ours: Answer) -> Leeway:
    """What lay between two calls that were made at once."""
    start, end = min(theirs.started, ours.started), max(theirs.ended, ours.ended)
    return Leeway(math.floor(2 * end) - math.floor(2 * start))


Places = dict[str, Any]


def places(answer: Answer, ask: Ask, world: World) -> Places:
    """The answer as a flat table of what is compared."""
    found: Places = {"status": answer.status}
    for name in _HEADERS:
        found[f"header {name}"] = answer.headers.get(name)
    text = answer.content.decode()
    found["body"] = "" if not text else "with a newline" if text.endswith("\n") else "without a newline"
    body = answer.json
    if not isinstance(body, dict):
        return found
    _add(found, "", _own_words(body, ask, world), lambda value, where: _shown(value, where, world))
    _add_life(found, body.get("data"))
    return found


def compare(theirs: Places, ours: Places, leeway: Leeway) -> list[Difference]:
    """Every place at which they differ by more than the leeway lets them."""
    found = [
        Difference(where, theirs.get(where), ours.get(where))
        for where in sorted(theirs.keys() | ours.keys())
        # As text, because to Python 60 is 60.0 and 1 is True.
        if repr(theirs.get(where)) != repr(ours.get(where))
    ]
    if _past_the_max_for_one(theirs, ours, leeway):
        return []
    return [difference for difference in found if not _within(difference, theirs, ours, leeway)]


# -- the leeway ---------------------------------------------------------------------------------------------------


def _within(difference: Difference, theirs: Places, ours: Places, leeway: Leeway) -> bool:
    a, b = difference.theirs, difference.ours
    match difference.where:
        case "data.ttl":
            return _near(a, b, leeway.most)
        case "data.life":
            # Where the maximum ends a lease, Vault's own end may be the fraction of a second later.
            return a is not None and b is not None and abs(a - b) < 1 + leeway.most
        case "lease_duration":
            capped = _cap(theirs) is not None or _cap(ours) is not None or leeway.token_ends
            return capped and _near(a, b, leeway.most)
        case "warnings":
            return _warned_alike(theirs, ours, leeway)
        case _:
            return False


def _near(a: Any, b: Any, most: int) -> bool:
    return type(a) is int and type(b) is int and abs(a - b) <= most


def _cap(answer: Places) -> re.Match[str] | None:
    for warning in answer.get("warnings") or ():
        if found := CAPPED.fullmatch(warning):
            return found
    return None


def _warned_alike(theirs: Places, ours: Places, leeway: Leeway) -> bool:
    """The same warnings, but for the seconds left to the maximum, or whether there are enough of them."""
    first, second = _cap(theirs), _cap(ours)
    others = [
        [w for w in answer.get("warnings") or () if not CAPPED.fullmatch(w)] for answer in (theirs, ours)
    ]
    if others[0] != others[1]:
        return False
    if first is None or second is None:
        # Capped at one world only: then by less than the leeway, but it does differ.
        lasting = theirs.get("lease_duration"), ours.get("lease_duration")
        return first is not second and lasting[0] != lasting[1] and _near(*lasting, leeway.most)
    return first["wanted"] == second["wanted"] and _near(
        seconds_of(first["left"]), seconds_of(second["left"]), leeway.most
    )


def _past_the_max_for_one(theirs: Places, ours: Places, leeway: Leeway) -> bool:
    """A renewal in the last second of a lease's maximum: refused by one, and of next to nothing at the other."""
    for refused, granted in ((theirs, ours), (ours, theirs)):
        if refused.get("errors") == [PAST_MAX] and granted["status"] == 200:
            return 0 < int(granted.get("lease_duration", 0)) <= leeway.most
    return False


def seconds_of(text: str) -> int:
    """Of a Go duration of whole seconds, such as 1h40m."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


# -- what must differ ---------------------------------------------------------------------------------------------


def _own_words(body: Mapping[str, Any], ask: Ask, world: World) -> dict[str, Any]:
    """The body with the engine's own data and names in common words."""
    told = dict(body)
    if told.get("mount_type") == world.engine:
        told["mount_type"] = "<the engine>"
    data = told.get("data")
    if ask.kind is Kind.ROLE and isinstance(data, dict) and "keys" not in data:
        # The database engine shows every setting, ours those that were written.
        told["data"] = {"ttl": data.get(world.ttl, 0), "max_ttl": data.get("max_ttl", 0)}
    if ask.kind is Kind.CREDS and isinstance(data, dict) and data:
        told["data"] = "<the engine's credentials>"
    if ask.kind is Kind.MOUNT:
        told = {key: _lifetimes(value) if key == "data" else value for key, value in _lifetimes(told).items()}
    if ask.kind in {Kind.ROLE, Kind.MOUNT}:
        told = {
            key: [text.replace(f'"{world.ttl}"', '"ttl"') for text in value]
            if key in {"errors", "warnings"} and isinstance(value, list)
            else value
            for key, value in told.items()
        }
    return told


def _lifetimes(entry: Any) -> Any:
    """A mount's entry without what it says of its engine. The servers put the injected part in any order."""
    if not isinstance(entry, Mapping):
        return entry
    return {key: entry[key] for key in sorted(entry) if key not in _ENGINES_OWN}


def _add(found: Places, prefix: str, body: Mapping[str, Any], shown: Callable[[Any, str], Any]) -> None:
    """Each value under its place, and the order of the names: objects are opened, lists are not."""
    found[f"{prefix}*"] = list(body)
    for key, value in body.items():
        where = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            _add(found, f"{where}.", value, shown)
        else:
            found[where] = shown(value, where)


def _shown(value: Any, where: str, world: World) -> Any:
    if isinstance(value, str):
        return _shown_text(value, where, world)
    if isinstance(value, list):
        items = [_shown(item, where, world) for item in value]
        if where == "data.keys":
            # Ids are random, so is their order; that it is one of the alphabet is compared.
            return {"in order": value == sorted(value), "keys": sorted(map(str, items))}
        return items
    if where in _UNIX_TIMES and isinstance(value, int):
        return "<a moment>"
    return value


def _shown_text(text: str, where: str, world: World) -> str:
    text = world.names.hide(text)
    if where == "request_id" and _REQUEST_ID.fullmatch(text):
        return "<an id>"
    if where == "data.keys" and _LEASE_TAIL.fullmatch(text):
        return "<a lease>"
    if where == "data.keys" and WRAPPING_TAIL.fullmatch(text):
        return "<the lease of a wrapping token>"
    if found := _TIME.fullmatch(text):
        return f"<a moment {found[1]}>"
    return text


def _add_life(found: Places, data: Any) -> None:
    """Of a look-up: how long the lease was given at its issue or last renewal, in seconds."""
    if not isinstance(data, Mapping) or not data.get("expire_time") or not data.get("issue_time"):
        return
    begun = data.get("last_renewal") or data["issue_time"]
    if isinstance(begun, str):
        life = datetime.fromisoformat(data["expire_time"]) - datetime.fromisoformat(begun)
        found["data.life"] = life.total_seconds()
