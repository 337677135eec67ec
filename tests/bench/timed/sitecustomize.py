"""Stop-watches on the named steps of a request, in a run that measures nothing else.

Python imports this module by its name when this folder is on ``PYTHONPATH``. ``BENCH_STEPS`` is JSON: a list of
[module, function within it, name of the step]. In each forked worker of ``aikeys serve`` every such function is replaced
by one that books the time spent in it, less that in the steps below it: CPU by the thread's own clock, so a thread that
waits books none, and wall. Only what happens below a step of the list's first name counts. ``<pid>.json`` in the folder
``BENCH_TIMES`` tells it, four times a second: by step its calls, CPU and wall nanoseconds. The engine knows nothing of this.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

WRITE_EVERY = 0.25

Spent = dict[str, list[int]]
_of_threads: list[Spent] = []


class _Watch(threading.local):
    """What one thread is in the middle of."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.cpu = 0
        self.wall = 0
        self.spent: Spent = {}
        _of_threads.append(self.spent)

    def book(self, step: str, calls: int) -> None:
        """The time since the last booking goes to ``step``."""
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        entry = self.spent.get(step)
        if entry is None:
            entry = self.spent[step] = [0, 0, 0]
        entry[0] += calls
        entry[1] += cpu - self.cpu
        entry[2] += wall - self.wall
        self.cpu, self.wall = time.thread_time_ns(), time.perf_counter_ns()


def _timed(function: Callable[..., Any], step: str, watch: _Watch, root: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        steps = watch.steps
        if steps:
            watch.book(steps[-1], 0)
        elif step == root:
            watch.cpu, watch.wall = time.thread_time_ns(), time.perf_counter_ns()
        else:
            return function(*arguments, **named)
        # A name that begins with a comma belongs to the step around it: "relay" and ", waiting".
        steps.append(steps[-1] + step if step.startswith(",") else step)
        try:
            return function(*arguments, **named)
        finally:
            watch.book(steps.pop(), 1)

    return timed


def _install(steps: list[list[str]]) -> None:
    watch = _Watch()
    for module_name, path, step in steps:
        *owners, name = path.split(".")
        owner: Any = functools.reduce(getattr, owners, importlib.import_module(module_name))
        setattr(owner, name, _timed(getattr(owner, name), step, watch, root=steps[0][2]))


def _write(folder: str) -> None:
    target = os.path.join(folder, f"{os.getpid()}.json")
    while True:
        time.sleep(WRITE_EVERY)
        total: Spent = {}
        for spent in _of_threads:
            for step, entry in list(spent.items()):
                total[step] = [a + b for a, b in zip(total.get(step, (0, 0, 0)), entry, strict=True)]
        with open(target + ".new", "w", encoding="utf-8") as file:
            file.write(json.dumps(total))
        os.replace(target + ".new", target)


def _start() -> None:
    folder = os.environ["BENCH_TIMES"]
    try:
        _install(json.loads(os.environ["BENCH_STEPS"]))
    except (ImportError, AttributeError):
        with open(os.path.join(folder, f"{os.getpid()}.error"), "w", encoding="utf-8") as file:
            file.write(traceback.format_exc(limit=0))
        return
    threading.Thread(target=_write, args=(folder,), name="bench-times", daemon=True).start()


if os.environ.get("BENCH_TIMES") and "serve" in sys.orig_argv:
    os.register_at_fork(after_in_child=_start)
