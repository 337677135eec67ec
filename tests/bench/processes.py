"""What the kernel says a process tree has used: CPU seconds and memory (Linux, ``/proc``)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process tree, in MiB.

    ``resident`` is what it would take if nothing else ran on the machine: pages that its own processes share count
    once, pages that it shares with programs outside count in full. (The sum of RSS counts a forked worker's inherited
    pages again; PSS makes a program cheaper the more often others run it.) ``anonymous`` is the part of it that
    is backed by no file and can never be dropped.
    """

    resident: float
    anonymous: float


@dataclass(frozen=True, slots=True)
class Stat:
    """The fields of ``/proc/<pid>/stat`` that matter here; ``ticks`` is its own CPU and that of children it reaped."""

    parent: int
    ticks: int


def parse_stat(text: str) -> Stat:
    """The name in brackets may itself hold blanks and brackets, so fields count from the last bracket."""
    fields = text.rpartition(")")[2].split()
    return Stat(parent=int(fields[1]), ticks=sum(int(field) for field in fields[11:15]))


def tree_of(root: int, parents: Mapping[int, int]) -> set[int]:
    """``root`` and all below it, of a table child -> parent."""
    tree = {root}
    while more := {child for child, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return tree


def cpu_seconds(root: int) -> float:
    """CPU seconds of the whole tree since it began.

    A child that ends hands its time to the parent that reaps it, which is in the tree as well: nothing is lost.
    """
    stats = _all_stats()
    tree = tree_of(root, {pid: stat.parent for pid, stat in stats.items()})
    return sum(stats[pid].ticks for pid in tree if pid in stats) / TICKS_PER_SECOND


def busy_seconds() -> float:
    """CPU seconds of everything on the machine since it was started (``man 5 proc``, /proc/stat)."""
    return parse_busy((PROC / "stat").read_text()) / TICKS_PER_SECOND


def parse_busy(text: str) -> int:
    """Ticks of all processors together, without idle and waiting for disks; what a guest used is in "user"."""
    user, nice, system, _idle, _waiting, interrupt, soft, stolen = map(int, text.splitlines()[0].split()[1:9])
    return user + nice + system + interrupt + soft + stolen


def processes_of(root: int) -> set[int]:
    return tree_of(root, {pid: stat.parent for pid, stat in _all_stats().items()})


def find_below(root: int, *words: str) -> int:
    """The one outermost process below ``root`` whose command line holds all ``words``; ``LookupError`` otherwise."""
    stats = _all_stats()
    found = {
        pid
        for pid in tree_of(root, {pid: stat.parent for pid, stat in stats.items()}) - {root}
        if set(words) <= set(_command_line(pid))
    }
    outermost = {pid for pid in found if stats[pid].parent not in found}
    if len(outermost) != 1:
        raise LookupError(f"{len(outermost)} processes have {' '.join(words)} in their command line")
    return outermost.pop()


def memory(root: int) -> Memory:
    """Of the whole tree, now."""
    smaps = []
    for pid in processes_of(root):
        try:
            smaps.append((PROC / str(pid) / "smaps").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return memory_of(smaps)


def memory_of(smaps: Iterable[str]) -> Memory:
    """From the ``smaps`` text of each process of one tree."""
    files: dict[tuple[str, str], float] = {}
    anonymous = 0.0
    for text in smaps:
        for pages in parse_smaps(text):
            # Pss divides a page by the processes that map it, and anonymous pages are shared by fork, within the tree.
            anonymous += pages.proportional * pages.anonymous_part
            backed = pages.resident * (1 - pages.anonymous_part)
            if backed:
                key = (pages.file, pages.offset)
                files[key] = max(files.get(key, 0.0), backed)
    return Memory(resident=(anonymous + sum(files.values())) / 1024, anonymous=anonymous / 1024)


@dataclass(frozen=True, slots=True)
class Pages:
    """One mapping of a process, sizes in KiB. ``file`` is empty where none backs it."""

    file: str
    offset: str
    resident: float
    proportional: float
    anonymous_part: float


def parse_smaps(text: str) -> list[Pages]:
    found: list[Pages] = []
    file, offset = "", ""
    sizes: dict[str, float] = {}
    for line in text.splitlines():
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            _permissions, offset, _device, inode, *path = rest.split(maxsplit=4)
            file = path[0] if path and inode != "0" else ""
            sizes = {}
        elif first in {"Rss:", "Pss:", "Anonymous:"}:
            sizes[first] = float(rest.split()[0])
            # The last of the three that the kernel prints.
            if first == "Anonymous:" and sizes["Rss:"]:
                part = sizes["Anonymous:"] / sizes["Rss:"] if file else 1.0
                found.append(Pages(file, offset, sizes["Rss:"], sizes["Pss:"], part))
    return found


def _all_stats() -> dict[int, Stat]:
    stats = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                stats[int(entry.name)] = parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue
    return stats


def _command_line(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
