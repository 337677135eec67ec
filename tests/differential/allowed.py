"""Every difference between our engine and a server's own that is there on purpose, with its reason.

Nothing else is let through: what the differential run finds beyond these is a defect. `docs/differences.md` is written
from this table (`python -m tests.differential.allowed`), and a test of each entry shows that it still occurs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.differential.compare import Difference, Places
from tests.differential.worlds import About, Ask, Kind

#: What the servers say when the last use of a token yields a lease.
LAST_USE = (
    "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked."
)


@dataclass(frozen=True, slots=True)
class Case:
    """What an entry looks at: the request, one difference, and both answers."""

    ask: Ask
    difference: Difference
    theirs: Places
    ours: Places


@dataclass(frozen=True, slots=True)
class Allowed:
    """`name` is what the tests know it by, `only` the one product at which it occurs, "" for both; the others are
    sentences for users.
    """

    name: str
    request: str
    reference: str
    ours: str
    reason: str
    applies: Callable[[Case], bool]
    only: str = ""


def _writes_role(case: Case) -> bool:
    return case.ask.kind is Kind.ROLE and case.ask.method in {"PUT", "POST", "PATCH"}


def _ttl_beyond_maximum(case: Case) -> bool:
    errors = case.ours.get("errors") or [""]
    return (
        _writes_role(case)
        and case.theirs["status"] == 204
        and case.ours["status"] == 400
        and re.fullmatch(r"ttl of \w+ must not be greater than max_ttl of \w+", errors[0]) is not None
    )


def _shorter_than_the_relay(case: Case) -> bool:
    warnings = case.ours.get("warnings") or [""]
    return (
        _writes_role(case)
        and case.theirs["status"] == 204
        and case.ours["status"] == 200
        and len(warnings) == 1
        and "cannot end a key by itself before" in warnings[0]
    )


def _made_negative(case: Case) -> bool:
    """Both refuse; only how differs."""
    return (
        case.ask.kind is Kind.CREDS
        and case.theirs["status"] == 500
        and case.ours["status"] == 400
        and case.difference.where in {"status", "errors"}
        and "tune default_lease_ttl and max_lease_ttl" in case.ours["errors"][0]
    )


def _longer_than_the_relay(case: Case) -> bool:
    errors = case.ours.get("errors") or [""]
    return (
        _writes_role(case)
        and case.theirs["status"] == 204
        and case.ours["status"] == 400
        and re.match(r'relay "\w+" ends every key after \w+ at most', errors[0]) is not None
    )


_REVOKING_FAILED = re.compile(
    r'(failed to revoke "[^"]+"( \(\d+ / \d+\))?: )?'
    r"failed to revoke entry: resp: \(\*logical\.Response\)\(nil\) err: (?=.)"
)


def _providers_words(case: Case) -> bool:
    """The same sentence up to what PostgreSQL, or the relay, has said."""
    if (
        case.ask.about is not About.FAILED_REVOCATION
        or case.difference.where != "errors"
        or case.theirs["status"] != case.ours["status"]
    ):
        return False
    begun = [_REVOKING_FAILED.match(answer["errors"][0]) for answer in (case.theirs, case.ours)]
    return None not in begun and begun[0][0] == begun[1][0]  # type: ignore[index]


def _decided(case: Case) -> bool:
    """A look-up of a lease whose revocation by a client has failed."""
    wheres = {"data.renewable", "data.ttl", "data.life"}
    return (
        case.ask.about is About.FAILED_REVOCATION
        and case.ask.path == "sys/leases/lookup"
        and case.difference.where in wheres
        and (case.theirs["data.renewable"], case.ours["data.renewable"]) == (True, False)
        and case.ours["data.ttl"] <= 0
    )


def _tells_the_error(case: Case) -> bool:
    return (
        case.ask.about is About.FAILED_REVOCATION
        and case.ask.path == "sys/leases/lookup"
        and case.difference.where in {"data.*", "data.revoke_error"}
        and bool(case.ours.get("data.revoke_error"))
        and [name for name in case.ours["data.*"] if name != "revoke_error"] == case.theirs["data.*"]
    )


def _renews_no_more(case: Case) -> bool:
    return (
        case.ask.about is About.FAILED_REVOCATION
        and "renew" in case.ask.path
        and (case.theirs["status"] == 200 or "failed to renew entry: " in case.theirs["errors"][0])
        and (case.ours["status"], case.ours["errors"]) == (400, ["lease expired"])
    )


def _last_use_renews(case: Case) -> bool:
    return (
        case.ask.about is About.LAST_USE
        and "renew" in case.ask.path
        and (case.theirs["status"], case.theirs.get("errors")) == (400, [LAST_USE])
        and case.ours["status"] == 200
    )


def _counts_at_once(case: Case) -> bool:
    return (
        case.ask.about is About.FAILED_REVOCATION
        and case.ask.path.startswith(("sys/leases?", "sys/leases/count?"))
        and case.difference.where.startswith(("data.lease_count", "data.leases", "data.counts"))
        and case.theirs["data.lease_count"] == 0
        # A relay that fails does so for every lease that ends meanwhile, of an earlier example too.
        and case.ours["data.lease_count"] >= 1
    )


def _unread(case: Case) -> bool:
    """A list of leases in which the reference has one that ours has not."""
    return (
        case.ask.about is About.LAPSED_WRAPPING
        and case.ask.method == "LIST"
        and case.theirs.get("data.keys") == {"in order": True, "keys": ["<a lease>"]}
        and (case.ours["status"], case.ours["errors"]) == (404, [])
    )


def _wrapped_elsewhere(case: Case) -> bool:
    return (
        case.ask.path.startswith("sys/")
        and case.difference.where == "wrap_info.creation_path"
        and case.difference.ours == "sys/wrapping/wrap"
        and str(case.difference.theirs).startswith(("sys/leases/", "sys/renew"))
    )


ALLOWED: Sequence[Allowed] = (
    Allowed(
        "ttl beyond max_ttl",
        "A role is written whose `ttl` is greater than its `max_ttl`.",
        "Stores it, and caps every lease with a warning.",
        "Refuses it (400).",
        "A mistake is told to whoever makes it, not to every app that reads a key.",
        _ttl_beyond_maximum,
    ),
    Allowed(
        "shorter than the relay can",
        "A role is written whose keys end earlier than the relay can end a key by itself (60 s).",
        "204",
        "200 with a warning that says so.",
        "The relay's own end is the last line behind the lease; whoever goes without it should know.",
        _shorter_than_the_relay,
    ),
    Allowed(
        "longer than the relay can",
        "A role is written whose keys could live longer than the relay lets a key live (365 days).",
        "204",
        "Refuses it (400).",
        "Such a key would have no end at the relay, or one before its lease's.",
        _longer_than_the_relay,
    ),
    Allowed(
        "negative TTL of the mount",
        "Credentials are read after `default_lease_ttl` or `max_lease_ttl` of the mount was tuned below zero.",
        "500, after the credentials were made; they stay at the database.",
        "400 that says what to tune; nothing is minted.",
        "No key without a lease; and clients repeat a 500.",
        _made_negative,
    ),
    Allowed(
        "the provider's words",
        "A revocation that waits for its end (`sync`) fails.",
        "400 with the database's error after `err: `.",
        "The same with the relay's.",
        "Each says what it was told.",
        _providers_words,
    ),
    Allowed(
        "a revocation is a decision",
        "The lease of such a revocation is looked up.",
        "It goes on as if nothing had been asked.",
        "It is over (`ttl` 0, not renewable), and is revoked as soon as the relay can.",
        "Who asked for the end of a key wants its end, not the answer: revoked means refused, and nothing gives up.",
        _decided,
    ),
    Allowed(
        "a revocation cannot be renewed away",
        "The lease of such a revocation is renewed.",
        "It is renewed, or refused as any other would be.",
        "400 `lease expired`.",
        "The same.",
        _renews_no_more,
    ),
    Allowed(
        "the error is told at once",
        "A lease whose revocation has failed is looked up, at OpenBao.",
        "`revoke_error` after the sixth failure.",
        "`revoke_error` after the first.",
        "It is not the last word here: the revocation is tried again for as long as it takes.",
        _tells_the_error,
        only="openbao",
    ),
    Allowed(
        "no lease is irrevocable",
        "Irrevocable leases are listed or counted (`sys/leases?type=irrevocable`).",
        "Those whose revocation was given up after the sixth failure.",
        "Those whose revocation has failed so far; none is ever given up.",
        "An operator looks here for keys that still live and should not.",
        _counts_at_once,
    ),
    Allowed(
        "the last use of a token renews",
        "A lease of another token is renewed with the last use of a token.",
        "Renews it, and says that leased credentials were immediately revoked (400).",
        "Renews it, and says so (200).",
        "Nothing was revoked; and to tell last uses from others, every renewal would cost another request.",
        _last_use_renews,
    ),
    Allowed(
        "where an answer about a lease was wrapped",
        "A look-up, a renewal or a list of leases is asked for wrapped.",
        "`creation_path` is the path of the request.",
        "`creation_path` is `sys/wrapping/wrap`.",
        "The wrapping token is the server's own, and the server has no such lease at that path. Of credentials and of "
        "everything else below the mount it is the path of the request.",
        _wrapped_elsewhere,
    ),
    Allowed(
        "an unread wrapping",
        "Credentials are wrapped, and the wrapping token ends unread.",
        "The lease lives on, though nobody has the credentials.",
        "The lease ends with the wrapping token.",
        "A key that nobody can have any more has no use but to be found.",
        _unread,
    ),
)


def allowed_by(case: Case) -> str | None:
    """The name of the entry that allows this difference."""
    return next((entry.name for entry in ALLOWED if entry.applies(case)), None)


PAGE = """\
# Where our leases differ from a server's own

The differential run (`make differential`) asks a server's own `database` engine and ours the same, with OpenBao and with
HashiCorp Vault, and compares status, body, lease fields, TTL numbers, warnings and error texts. These are the differences
there are on purpose. Any other is a defect: please report it.

Not compared is what only one of the engines has: a PATCH of a role, a write to `creds/<role>`, the parameter `ttl` of
`creds/<role>`, pages of a list of roles (`after` and `limit`, which OpenBao's `database` has and its `kv` has not), and
the settings of a role other than its TTLs.

<!-- Written by `python -m tests.differential.allowed`. -->

| request | a server's own engine | ours | why |
|---|---|---|---|
"""


def render() -> str:
    """`docs/differences.md`."""
    rows = [f"| {e.request} | {e.reference} | {e.ours} | {e.reason} |" for e in ALLOWED]
    return PAGE + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(render(), end="")
