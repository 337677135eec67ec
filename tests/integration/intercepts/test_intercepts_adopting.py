"""A mount of ours whose making was cut off is completed; what others made meanwhile is theirs, whatever it looks like."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.intercepts.stand import Stand

from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts import adopting, enabling, reconcile_mounts
from aikeys.sidecar.intercepts.adopting import intend
from aikeys.sidecar.intercepts.upstream_mounts import UpstreamMount, read_mount
from aikeys.sidecar.upstream import Upstream, UpstreamDown

ASKED = {"type": "ai-keys", "description": "d", "options": {"team": "ml"}, "config": {"max_lease_ttl": "2h"}}


def test_a_mount_whose_answer_was_lost_is_completed_with_all_that_was_asked_for(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stand.path()
    forward = Upstream.forward

    def losing(upstream: Upstream, exchange: Exchange, **options: Any) -> Reply:
        reply = forward(upstream, exchange, **options)
        if reply.status == 204:
            raise UpstreamDown("the connection broke")
        return reply

    with monkeypatch.context() as patched:
        patched.setattr(Upstream, "forward", losing)
        assert stand.call("POST", f"sys/mounts/{path}", ASKED).status_code == 503
    assert stand.record(path) is None

    reconcile_mounts(stand.sidecar)

    record = stand.record(path)
    assert record is not None
    assert (record.description, record.options, record.max_lease_ttl) == ("d", {"team": "ml"}, 7200)
    assert stand.sidecar.store.enablings() == []
    stand.configure(path)
    assert stand.works(stand.key(path))
    assert stand.ok("GET", f"sys/mounts/{path}")["data"]["options"] == {"team": "ml"}
    assert stand.ok("GET", f"sys/mounts/{path}/tune")["data"]["options"] == {"team": "ml"}


def test_a_mount_of_the_same_shape_that_another_made_is_left_alone(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the sidecar was killed before it could ask, and somebody mounted a kv there directly."""
    path = stand.path()
    intend(stand.sidecar, path)
    stand.ok("POST", f"sys/mounts/{path}", {**ASKED, "type": "kv"}, upstream=True)
    before = stand.ok("GET", "sys/mounts", upstream=True)["data"][f"{path}/"]

    reconcile_mounts(stand.sidecar)

    assert stand.record(path) is None
    assert stand.ok("GET", "sys/mounts")["data"][f"{path}/"] == before
    assert stand.call("LIST", path, upstream=True).status_code == 404, "an entry of ours stands in it"
    assert len(stand.sidecar.store.enablings()) == 1
    monkeypatch.setattr(adopting, "FORGOTTEN_AFTER", timedelta(0))
    reconcile_mounts(stand.sidecar)
    assert stand.sidecar.store.enablings() == [], "what never came to be is forgotten"
    assert stand.record(path) is None


def test_two_processes_that_come_upon_a_new_mount_make_one_record_of_it(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stand.path()
    keys: list[str] = []

    def late(sidecar: Any, at: str) -> UpstreamMount:
        entry = read_mount(sidecar, at)
        reconcile_mounts(sidecar)
        keys.append(getattr(stand.record(path), "marker_key", ""))
        return entry

    with monkeypatch.context() as patched:
        patched.setattr(enabling, "read_mount", late)
        stand.ok("POST", f"sys/mounts/{path}", ASKED)

    assert keys == [getattr(stand.record(path), "marker_key", None)]
    stand.configure(path)
    assert stand.works(stand.key(path))


@pytest.mark.parametrize("body", [{"type": "ai-keys"}, {"type": "ai-keys", "options": None}, ASKED])
def test_what_the_upstream_refuses_leaves_nothing_to_look_for(stand: Stand, body: Mapping[str, Any]) -> None:
    path = stand.path()
    stand.ok("POST", f"sys/mounts/{path}", {"type": "transit"})

    assert stand.call("POST", f"sys/mounts/{path}", body).status_code == 400
    assert stand.sidecar.store.enablings() == []
