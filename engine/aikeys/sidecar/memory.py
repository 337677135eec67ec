"""What is in the sidecar's memory, keys and tokens among it, stays there."""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def keep_private() -> None:
    """No core file when this process or one that it forks is killed, and on Linux no look at its memory either.

    A limit alone would not do: the kernel does not apply it where cores go to a program (core(5)). What is not
    dumpable cannot be read by other processes of its user, through a debugger or /proc (ptrace(2)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
