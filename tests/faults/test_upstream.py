"""The Vault behind the sidecar is away, silent, sealed, restarting, slow, or knows the sidecar no more: a clear answer in
time to every kind of request, nothing minted that cannot be handed out, and when it is back nothing is half done.

That leases end meanwhile, and that answers of no Vault's prove nothing, is shown in `tests/integration`
(`test_bad_surroundings`, `test_sidecar_upstream_down`).
"""

from __future__ import annotations

import pytest
from tests.faults.asking import asked
from tests.faults.upstream_bench import DONE, UpstreamBench
from tests.faults.upstream_requests import KINDS
from tests.sidecar_stack import MOUNT


@pytest.mark.parametrize("fault", ["away", "silent"])
@pytest.mark.parametrize("name", KINDS)
def test_while_the_upstream_cannot_be_asked_nothing_is_done(
    upstream: UpstreamBench, name: str, fault: str
) -> None:
    kind = KINDS[name]
    context = kind.prepare(upstream)
    with getattr(upstream, fault)():
        answer = asked(upstream, kind, context)
        assert answer.status_code == 503, answer.text
    upstream.serves()
    kind.after(upstream, context, answer)
    assert upstream.orphans() == []


def test_a_sealed_upstream_is_its_own_answer_to_everything(upstream: UpstreamBench) -> None:
    kinds = {name: kind for name, kind in KINDS.items() if name != "enable"}
    contexts = {name: kind.prepare(upstream) for name, kind in kinds.items()}
    with upstream.sealed():
        answers = {name: asked(upstream, kind, contexts[name]) for name, kind in kinds.items()}
        assert {answer.status_code for answer in answers.values()} == {503}
    upstream.serves()
    for name, kind in kinds.items():
        kind.after(upstream, contexts[name], answers[name])
    assert upstream.orphans() == []


def test_an_upstream_that_was_killed_is_used_again_when_it_is_there(upstream: UpstreamBench) -> None:
    kinds = {name: kind for name, kind in KINDS.items() if name not in {"enable", "unwrap", "disable"}}
    contexts = {name: kind.prepare(upstream) for name, kind in kinds.items()}
    with upstream.killed():
        answers = {name: asked(upstream, kind, contexts[name]) for name, kind in kinds.items()}
        assert {answer.status_code for answer in answers.values()} == {503}
    upstream.serves()
    for name, kind in kinds.items():
        kind.after(upstream, contexts[name], answers[name])
    assert upstream.orphans() == []


@pytest.mark.parametrize("name", KINDS)
def test_a_slow_upstream_is_waited_for(upstream: UpstreamBench, name: str) -> None:
    kind = KINDS[name]
    context = kind.prepare(upstream)
    upstream.proxy.delay = 0.05
    answer = asked(upstream, kind, context)
    upstream.proxy.behave()
    assert answer.status_code in DONE, answer.text
    kind.after(upstream, context, answer)


@pytest.mark.parametrize("name", KINDS)
def test_nobody_notices_that_the_sidecars_own_token_was_revoked(upstream: UpstreamBench, name: str) -> None:
    kind = KINDS[name]
    context = kind.prepare(upstream)
    upstream.revoke_own_token()
    answer = asked(upstream, kind, context)
    assert answer.status_code in DONE, answer.text
    kind.after(upstream, context, answer)


def test_a_sidecar_that_cannot_log_in_any_more_says_so_and_mints_nothing(upstream: UpstreamBench) -> None:
    """Its secret id was destroyed with its token; a new one in the same file is all it needs."""
    secret_id_file = upstream.stack.folder / "secret-id"
    kinds = {name: kind for name, kind in KINDS.items() if name != "enable"}
    contexts = {name: kind.prepare(upstream) for name, kind in kinds.items()}
    good = secret_id_file.read_text()
    secret_id_file.write_text("00000000-0000-0000-0000-000000000000")
    try:
        upstream.revoke_own_token()
        answers = {name: asked(upstream, kind, contexts[name]) for name, kind in kinds.items()}
        for name in ("creds", "creds by a write", "wrapped creds", "changed role", "config"):
            assert answers[name].status_code == 503
            assert "cannot log in at the Vault behind it (approle)" in answers[name].text
        assert answers["a read that passes"].status_code == 200, "what needs no identity of ours goes on"
    finally:
        secret_id_file.write_text(good)
    upstream.serves()
    for name, kind in kinds.items():
        kind.after(upstream, contexts[name], answers[name])
    assert upstream.orphans() == []
    assert upstream.ask("GET", f"{MOUNT}/creds/plain").status_code == 200
