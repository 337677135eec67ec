"""``python -m tests.guards``: turn each guard off in a copy of the project, and see its tests go red."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.guards.catalogue import ROOT, Guard, guards

# pytest's exit status when tests ran and some failed; anything else proves nothing.
TESTS_FAILED = 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=__doc__)
    parser.add_argument("names", nargs="*", help="only guards whose name contains one of these")
    parser.add_argument("--jobs", type=int, default=2, help="guards tried at once")
    options = parser.parse_args()
    chosen = [guard for guard in guards() if not options.names or any(n in guard.name for n in options.names)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aikeys-guards-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            copies.put(copy_of_project(Path(folder) / str(number)))
        every = sorted({test for guard in chosen for test in guard.tests})
        copy = copies.get()
        print(f"{len(every)} tests with every guard on", flush=True)
        if (status := run(copy, every)) != 0:
            print(f"they must pass before a guard is turned off, and pytest ended with {status}")
            return 1
        copies.put(copy)

        def tried(guard: Guard) -> str:
            copy = copies.get()
            try:
                return held(copy, guard)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.jobs) as pool:
            findings = []
            for guard, problem in zip(chosen, pool.map(tried, chosen), strict=True):
                print(
                    f"{'red  ' if not problem else 'GREEN'} {guard.name}{': ' + problem if problem else ''}",
                    flush=True,
                )
                findings += [guard.name] if problem else []
    print(f"{len(chosen) - len(findings)} of {len(chosen)} guards held, {time.monotonic() - began:.0f} s")
    return 1 if findings else 0


def copy_of_project(target: Path) -> Path:
    """What is under version control or new, as it is on the disk."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def held(copy: Path, guard: Guard) -> str:
    """ "" if the guard's tests go red without it, else what happened instead."""
    file = copy / guard.file
    source = file.read_text()
    file.write_text(guard.turned_off(source))
    try:
        status = run(copy, guard.tests)
    finally:
        file.write_text(source)
    if status == TESTS_FAILED:
        return ""
    return "its tests pass without it" if status == 0 else f"pytest ended with {status}, which shows nothing"


def run(copy: Path, tests: Sequence[str]) -> int:
    """pytest's exit status, in the copy and with its engine."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(copy / "engine"), str(copy)]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *tests]
    ran = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode not in {0, TESTS_FAILED}:
        print(ran.stdout[-3000:], ran.stderr[-2000:], sep="\n", file=sys.stderr)
    return ran.returncode


if __name__ == "__main__":
    sys.exit(main())
