"""What a relay can do wrong, and what whoever asked is then told: the one table, told by family in the README.

A fault comes once, or lasts as long as the request does. The families are what matters to a caller: whether an answer
came, whether it can be used, and what the relay has surely not done.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: How long the sidecar waits for the relay here (`request_timeout`), and how long a late answer takes, in seconds.
PATIENCE = 1
TOO_LATE = 1.4


class Family(enum.StrEnum):
    HARMLESS = "the answer comes, late but in time, twice, or with a wrong clock"
    LATE = "the answer does not come in time"
    BROKEN = "the connection ends without an answer"
    UNUSABLE = "something comes that is no answer to what was asked"
    FAILING = "the relay says that it failed, and may have done it"
    CONFLICT = "the relay says that it has done something else with this order"
    AWAY = "the relay says that it is not there, and has done nothing"
    LIMITED = "the relay wants to be asked less often"
    REFUSED = "the relay says no"


@dataclass(frozen=True, slots=True)
class Fault:
    """One line of the simulator's fault plan."""

    kind: str
    family: Family
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return " ".join([self.kind, *(f"{name}={value}" for name, value in self.parameters.items())])


def _faults() -> Iterator[Fault]:
    def of(kind: str, family: Family, **choices: tuple[Any, ...]) -> Iterator[Fault]:
        for values in itertools.product(*choices.values()):
            yield Fault(kind, family, dict(zip(choices, values, strict=True)))

    both = (False, True)
    yield from of("latency", Family.HARMLESS, seconds=(0.3,), when=("before",))
    yield from of("latency", Family.LATE, seconds=(TOO_LATE,), when=("before", "processing", "after"))
    yield from of("slow_body", Family.LATE, seconds=(TOO_LATE,))
    yield from of("refuse", Family.BROKEN)
    yield from of("close", Family.BROKEN)
    yield from of("commit_then_drop", Family.BROKEN, rst=both)
    yield from of("commit_then_truncate", Family.UNUSABLE, framing=("short", "full"))
    yield from of("commit_then_truncate", Family.UNUSABLE, framing=("short",), bytes=(0,))
    yield from of("html", Family.UNUSABLE, commit=both)
    yield from of("redirect", Family.UNUSABLE, status=(302, 307), commit=both)
    yield from of("content_type", Family.UNUSABLE)
    yield from of("commit_then_500", Family.FAILING, status=(500, 504))
    yield from of("html", Family.FAILING, status=(502,), commit=both)
    yield from of("unavailable", Family.FAILING, not_applied=(False,), commit=both)
    yield from of("error", Family.FAILING, status=(500,), commit=both)
    yield from of("error", Family.FAILING, status=(502, 504))
    yield from of("echo_key", Family.FAILING, commit=both)
    yield from of("error", Family.CONFLICT, status=(409, 422))
    yield from of("unavailable", Family.AWAY, not_applied=(True,), retry_after=(None, 1))
    yield from of("rate_limit", Family.LIMITED, retry_after=(1, 30, None))
    yield from of("error", Family.REFUSED, status=(400, 401, 402, 403, 404, 412, 413, 415))
    yield from of("html", Family.REFUSED, status=(401, 403, 404))
    yield from of("echo_key", Family.REFUSED, status=(400,))
    yield from of("clock_skew", Family.HARMLESS, seconds=(-86_400, 86_400))
    yield from of("duplicate", Family.HARMLESS, answer=("first", "second"))
    yield from of("list_lag", Family.HARMLESS, seconds=(2.0,))
    yield from of("revoke_lag", Family.HARMLESS, seconds=(0.3,))


FAULTS: Mapping[str, Fault] = {fault.name: fault for fault in _faults()}
#: The same without those that differ in a number alone, such as the status of a refusal.
DISTINCT: Mapping[str, Fault] = {
    fault.name: fault
    for fault in {
        (
            fault.kind,
            fault.family,
            *(value for value in fault.parameters.values() if isinstance(value, bool | str)),
        ): fault
        for fault in FAULTS.values()
    }.values()
}
ONE_OF_EACH_KIND: Mapping[str, Fault] = {fault.kind: fault for fault in FAULTS.values()}


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that the driver makes: its verb and path at the relay, and which request of a client's leads to it."""

    method: str
    path: str
    by: str


#: By the name of the driver's function that makes it.
CALLS: Mapping[str, Asked] = {
    "mint": Asked("POST", "/v1/keys", "a read of creds/<role>"),
    "revoke": Asked("DELETE", "/v1/keys/{id}", "a revocation"),
    "probe": Asked("GET", "/v1/keys/validate", "a revocation, where the role has verify_revocation"),
    "extend": Asked("PATCH", "/v1/keys/{id}", "a renewal beyond the key's end"),
    "_verify": Asked("GET", "/v1/auth/verify", "a write to config"),
    "find": Asked("GET", "/v1/keys/{name}", "nobody: it settles a mint whose outcome is unknown"),
    "_pages": Asked("GET", "/v1/keys", "nobody: it settles a mint whose outcome is unknown"),
    "_confirm_absent": Asked("GET", "/v1/keys/{id}", "a revocation of a key that the relay does not know"),
}


class Answer(enum.StrEnum):
    """What a client is told. See `bench.told` for how each is recognised."""

    KEY = "200, a key"
    UNSETTLED = "503, it is on record and what was made is revoked"
    AWAY = "503, nothing was made"
    LIMITED = "502 with `Retry-After` where the relay gave one, nothing was made"
    REFUSED = "400 with the reason, nothing was made"
    DONE = "done"
    SEEN = "204 with the lag"
    UNSEEN = "204 without a lag, once the relay's promise is over"
    FAILED = "400, nothing is taken for done"
    NOT_STORED = "400, nothing was stored"


K, U, A, L, R = Answer.KEY, Answer.UNSETTLED, Answer.AWAY, Answer.LIMITED, Answer.REFUSED
D, S, N, F, X = Answer.DONE, Answer.SEEN, Answer.UNSEEN, Answer.FAILED, Answer.NOT_STORED
Answers = tuple[set[Answer], set[Answer]]

#: What is allowed when the fault comes once, and while it lasts. A broken connection may be one that was kept from an
#: earlier call: then a call that changes nothing when it is repeated goes out again on a fresh one.
TABLE: Mapping[Family, Mapping[str, Answers]] = {
    Family.HARMLESS: {
        "mint": ({K}, {K}), "revoke": ({D}, {D}), "extend": ({D}, {D}), "_verify": ({D}, {D}), "probe": ({S}, {S}),
    },
    Family.LATE: {
        "mint": ({K, U}, {U}), "revoke": ({F}, {F}), "extend": ({F}, {F}), "_verify": ({X}, {X}),
        "probe": ({S, F}, {S, N}),
    },
    Family.BROKEN: {
        "mint": ({K}, {U}), "revoke": ({D, F}, {F}), "extend": ({D, F}, {F}), "_verify": ({X}, {X}),
        "probe": ({S}, {N}),
    },
    Family.UNUSABLE: {
        "mint": ({K}, {U}), "revoke": ({F}, {F}), "extend": ({F}, {F}), "_verify": ({X}, {X}), "probe": ({S}, {N}),
    },
    Family.FAILING: {
        "mint": ({K}, {U}), "revoke": ({F}, {F}), "extend": ({F}, {F}), "_verify": ({X}, {X}), "probe": ({S}, {N}),
    },
    Family.CONFLICT: {
        "mint": ({K}, {U}), "revoke": ({F}, {F}), "extend": ({F}, {F}), "_verify": ({X}, {X}), "probe": ({S}, {N}),
    },
    Family.AWAY: {
        "mint": ({K}, {A}), "revoke": ({F}, {F}), "extend": ({F}, {F}), "_verify": ({X}, {X}), "probe": ({S}, {N}),
    },
    Family.LIMITED: {
        "mint": ({L}, {L}), "revoke": ({F}, {F}), "extend": ({F}, {F}), "_verify": ({X}, {X}), "probe": ({S}, {N}),
    },
    Family.REFUSED: {
        "mint": ({R}, {R}), "revoke": ({F}, {F}), "extend": ({F}, {F}), "_verify": ({X}, {X}), "probe": ({S}, {N}),
    },
}  # fmt: skip

#: The columns of the table in the guide: the call, and what a client has asked for.
COLUMNS = (
    ("mint", "a key"),
    ("revoke", "a revocation (`-sync`)"),
    ("probe", "the same with `verify_revocation`, when the key is tried"),
    ("extend", "a renewal beyond the key's end"),
    ("_verify", "a write to `config`"),
)


def as_markdown() -> str:
    """What a client is told while a fault lasts, as the guide for platform engineers shows it."""
    rows = [["the relay's fault", *(title for _call, title in COLUMNS)], ["---"] * (len(COLUMNS) + 1)]
    for family, answers in TABLE.items():
        lasting = [" or ".join(sorted(answers[call][1])) for call, _title in COLUMNS]
        rows.append([family.value, *lasting])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"
