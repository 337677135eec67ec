"""One request while the upstream fails: what every answer to it must be, whatever the request."""

from __future__ import annotations

import time

import httpx
from tests.faults.upstream_bench import DONE, UpstreamBench
from tests.faults.upstream_requests import Context, Kind

# However many of its own requests the sidecar had to give up for it (seconds).
IN_TIME = 15.0


def asked(bench: UpstreamBench, kind: Kind, context: Context) -> httpx.Response:
    """The answer: it comes in time, and when it is no success it says why, and no key was made for it."""
    bench.stack.new_mints()
    start = time.monotonic()
    answer = kind.ask(bench, context)
    assert time.monotonic() - start < IN_TIME
    minted = bench.stack.new_mints()
    if answer.status_code in DONE:
        return answer
    assert answer.status_code in {503, *kind.unfinished}, answer.text
    assert answer.headers["content-type"] == "application/json"
    (text,) = answer.json()["errors"]
    assert text
    assert "sk-holysheep" not in answer.text
    assert not minted, "a key was made that cannot be handed out"
    return answer
