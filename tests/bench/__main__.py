"""``python -m tests.bench``: measure, print, and (when nothing was left out) write ``docs/benchmarks.md``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench import machine, report
from tests.bench.figures import NoResult
from tests.bench.scenarios import measure_all

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
PARTS = ("issue", "pass", "many", "profile")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8, help="length of each measurement (at least 1)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender is measured")
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="only this part (may be repeated); writes no page"
    )
    parser.add_argument(
        "--page", type=Path, help=f"where the page goes (default {PAGE.relative_to(PAGE.parents[1])})"
    )
    options = parser.parse_args()
    page = options.page or (None if options.only else PAGE)
    with tempfile.TemporaryDirectory(prefix="aikeys-bench-") as folder:
        try:
            measured = measure_all(
                frozenset(options.only or PARTS),
                seconds=max(1.0, options.seconds),
                rounds=max(1, options.rounds),
                folder=Path(folder),
                say=lambda line: print(line, file=sys.stderr, flush=True),
            )
        except NoResult as error:
            print(f"no result: {error}", file=sys.stderr)
            return 1
    text = report.page(measured, machine.describe())
    print(text)
    if page is not None:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)
        print(f"written to {page}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
