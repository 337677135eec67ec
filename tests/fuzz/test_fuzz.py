"""Whatever is sent to what we own, nothing breaks: no 5xx of ours, no traceback, no key that nobody was handed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from tests.fuzz.run import Fuzz
from tests.integration.conftest import UPSTREAMS
from tests.sidecar_stack import SidecarStack

#: Of both servers together. `make fuzz` asks for more.
REQUESTS = int(os.environ.get("AIKEYS_FUZZ_REQUESTS") or 5000)
#: The same for every ordinary run; `AIKEYS_FUZZ_SEED=random` takes another.
SEED = os.environ.get("AIKEYS_FUZZ_SEED") or "1"
SETTINGS = {
    # A request that lacks its end is given up soon.
    "AIKEYS_CLIENT_IDLE_TIMEOUT": "1",
}


@pytest.mark.slow
@pytest.mark.timeout(max(300, REQUESTS // 20))
@pytest.mark.parametrize("product", ["openbao", "vault"])
def test_generated_requests_meet_no_error_of_ours(
    product: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = random.SystemRandom().randrange(10**6) * 10**6 if SEED == "random" else int(SEED)
    with (
        UPSTREAMS[product](tmp_path / "upstream") as upstream,
        SidecarStack(upstream, tmp_path, settings=SETTINGS) as stack,
    ):
        report = Fuzz(stack, first).run(REQUESTS // 2)
    with capsys.disabled():
        print(f"\n{product}, seed {first}: {report}")
    assert report.sent >= REQUESTS // 2
    assert report.handed_out > 0, "good requests among them"
    assert report.wrong == [], f"AIKEYS_FUZZ_SEED={first} AIKEYS_FUZZ_REQUESTS={REQUESTS} brings them again"
