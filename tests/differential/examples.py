"""Plain examples: one for each difference that is allowed, and what the run has found or seldom comes upon by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tests.differential.driver import Driver
from tests.differential.worlds import About, Ask

Example = Callable[[Driver], None]

APP = ["differential-app"]


def beyond_max_ttl(at: Driver) -> None:
    at.write_role("a", {"ttl": "2h", "max_ttl": "1h"})


def too_short(at: Driver) -> None:
    at.write_role("a", {"ttl": 5, "max_ttl": 20})
    at.creds()


def too_long(at: Driver) -> None:
    at.ask(Ask("POST", f"sys/mounts/{at.mount}/tune", {"max_lease_ttl": "10000h"}))
    at.write_role("a", {"ttl": 60, "max_ttl": "9000h"})


def negative(at: Driver) -> None:
    at.write_role("a", {"ttl": 0, "max_ttl": 0})
    at.ask(Ask("POST", f"sys/mounts/{at.mount}/tune", {"default_lease_ttl": -60}))
    at.creds()
    lease = at.creds("b")
    at.ask(Ask("POST", f"sys/mounts/{at.mount}/tune", {"default_lease_ttl": 0, "max_lease_ttl": -1}))
    at.creds()
    at.renew(lease)
    at.ask(Ask("POST", f"sys/mounts/{at.mount}/tune", {"max_lease_ttl": 0}))
    # What the reference has made without a lease nobody takes back.
    at.leaves_credentials = True


def failed_revocation(at: Driver) -> None:
    for how in ("revoke", "prefix"):
        at.revocation_fails(at.creds(), how)


def last_use_renews(at: Driver) -> None:
    lease = at.creds()
    token = at.token(policies=APP, ttl="10m", num_uses=1)
    at.renew(lease, 600, token=token)
    # It was, whatever the answer said.
    at.lookup(lease)


def wrapped_answers_about_leases(at: Driver) -> None:
    lease = at.creds()
    at.lookup(lease, wrapped=True)
    at.renew(lease, 90, wrapped=True)
    at.lookup(lease)
    for path in (f"sys/leases/lookup/{at.mount}/creds/a", f"sys/leases/lookup/{at.mount}/creds/b"):
        name = at.wrapping()
        both = at.ask(Ask("LIST", path, headers={"X-Vault-Wrap-TTL": "60"}, makes=name))
        if both is not None and both.ok:
            at.unwrap(name)


def unread_wrapping(at: Driver) -> None:
    lease = at.memory.leases[at.creds(wrap_ttl="2s")]
    path = f"sys/leases/lookup/{at.mount}/creds/a"
    time.sleep(2.0)
    at.pair.settles(
        "the end of a lease whose wrapping token has ended unread",
        lambda world: world is at.pair.theirs or world.send(Ask("LIST", path)).status == 404,
        seconds=30.0,
    )
    at.ask(Ask("LIST", path, about=About.LAPSED_WRAPPING))
    lease.over = True


#: By the name of the entry in `allowed`.
OF_ALLOWED: Mapping[str, Example] = {
    "ttl beyond max_ttl": beyond_max_ttl,
    "shorter than the relay can": too_short,
    "longer than the relay can": too_long,
    "negative TTL of the mount": negative,
    "the provider's words": failed_revocation,
    "a revocation is a decision": failed_revocation,
    "a revocation cannot be renewed away": failed_revocation,
    "the error is told at once": failed_revocation,
    "no lease is irrevocable": failed_revocation,
    "the last use of a token renews": last_use_renews,
    "where an answer about a lease was wrapped": wrapped_answers_about_leases,
    "an unread wrapping": unread_wrapping,
}


# -- without any difference ---------------------------------------------------------------------------------------


def a_tree_of_tokens(at: Driver) -> None:
    """A parent takes its children along, batch tokens too; `revoke-orphan` leaves the service tokens."""
    for how in ("revoke", "revoke-orphan"):
        parent = at.token(policies=APP, ttl="10m")
        child = at.token(parent, policies=APP, ttl="10m")
        batch = at.token(parent, policies=APP, ttl="10m", type="batch")
        leases = [at.creds(token=token) for token in (parent, child, batch, "root")]
        at.revoke_token(parent, how)
        for lease in leases:
            at.lookup(lease)
        for token in (parent, child, batch):
            at.creds(token=token)


def tokens_end_by_themselves(at: Driver) -> None:
    service = at.token(policies=APP, ttl=4)
    child = at.token(service, policies=APP, ttl="10m")
    batch = at.token(policies=APP, ttl=4, type="batch")
    leases = [at.creds(token=token) for token in (service, child, batch)]
    for lease in leases:
        at.lookup(lease)
        at.renew(lease, 3600)
    at.wait_for_the_next_end(within=10)
    for lease in leases:
        at.lookup(lease)


def a_token_is_revoked_past_the_sidecar(at: Driver) -> None:
    token = at.token(policies=APP, ttl="10m")
    lease = at.creds(token=token)
    at.revoke_token(token, past=True)
    at.lookup(lease)


def uses_run_out(at: Driver) -> None:
    token = at.token(policies=APP, ttl="10m", num_uses=3)
    leases = [at.creds(token=token) for _ in range(4)]
    for lease in leases:
        at.lookup(lease)


def renewals_up_to_the_maximum(at: Driver) -> None:
    at.write_role("a", {"ttl": 6, "max_ttl": 9})
    lease = at.creds()
    for increment in (..., 0, 3, 3600, "soon"):
        at.renew(lease, increment)
    at.write_role("a", {"max_ttl": 3600})
    at.renew(lease, 30)
    at.write_role("a", {"max_ttl": 7})
    at.renew(lease, 30)
    at.delete_role("a")
    at.renew(lease)
    at.revoke(lease)
    at.renew(lease)


def unwrapped_bytes(at: Driver) -> None:
    for by in ("header", "root"):
        lease = at.creds(wrap_ttl="5m")
        at.unwrap_creds(lease, by=by)
        at.unwrap_creds(lease, by=by)
        at.renew(lease)


WITHOUT: Mapping[str, Example] = {
    example.__name__.replace("_", " "): example
    for example in (
        a_tree_of_tokens,
        tokens_end_by_themselves,
        a_token_is_revoked_past_the_sidecar,
        uses_run_out,
        renewals_up_to_the_maximum,
        unwrapped_bytes,
    )
}
