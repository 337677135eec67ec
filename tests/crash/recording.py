"""What a process did to its files and told others, in order, as strace saw it.

The order is that of strace's own log, where a call that another thread's line cut in two stands twice: where it began
and where it ended. Only what could matter after a power cut is kept, everything else is dropped; a call that changes
the recorded folder in a way that is not modelled here is an error, never overlooked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.realparts.requirements import missing

# What writes, names or syncs files, and what leaves the process.
_CALLS = (
    "openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,"
    "write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,fallocate,copy_file_range,sendfile,"
    "fsync,fdatasync,sync,syncfs,sync_file_range,msync,sendto,sendmsg"
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)", re.DOTALL)
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)", re.DOTALL)
_RESULT = re.compile(r"\) += (?P<value>-?\d+)")
_DESCRIPTOR = re.compile(r"\d+<(?P<hex>(?:\\x[0-9a-f]{2})*)>(?P<gone>\(deleted\))?")
_TEXT = re.compile(r'"(?P<hex>(?:\\x[0-9a-f]{2})*)"(?P<cut>\.\.\.)?')
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True)
class Event:
    """`kind` is write, truncate, sync, create, mkdir, rename, unlink, said (to standard output) or sent (to a socket).

    A sync covers what had ended before `began`, and counts from `ended`; all else counts from `began`. Both are
    places in the log. `path` is absolute; `other` is a rename's new name.
    """

    kind: str
    began: int
    ended: int
    path: str = ""
    other: str = ""
    offset: int = 0
    data: bytes = b""


def record(
    command: Sequence[str], folder: Path, *, log: Path, environment: dict[str, str]
) -> tuple[int, list[Event]]:
    """Run `command` to its end; its exit status (negative for a signal), and what it did below `folder`."""
    strace = shutil.which("strace")
    if strace is None:
        missing("strace", "there is no strace on the PATH")
    said = log.with_suffix(".said")
    reader = _Reader(folder, said)
    with said.open("wb") as output:
        run = subprocess.run(
            [strace, "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "200000", "-e", f"trace={_CALLS}",
             "-e", "signal=none", "-o", os.fspath(log), *command],
            env=environment, stdout=output, stderr=subprocess.STDOUT, check=False, timeout=150,
        )  # fmt: skip
    events = list(reader.read(log.read_text(errors="replace").splitlines()))
    log.unlink()
    return run.returncode, events


class _Reader:
    def __init__(self, folder: Path, said: Path) -> None:
        """Made before the process, for what is there already."""
        self._folder = os.fspath(folder)
        self._said = os.fspath(said)
        self._exists = {os.fspath(path) for path in folder.rglob("*")}

    def read(self, lines: list[str]) -> Iterator[Event]:
        open_calls: dict[tuple[str, str], tuple[int, str]] = {}
        for place, line in enumerate(lines):
            if (resumed := _RESUMED.match(line)) is not None:
                began, text = open_calls.pop((resumed["pid"], resumed["name"]))
                yield from self._event(resumed["name"], text + resumed["rest"], began, place)
            elif (call := _LINE.match(line)) is not None:
                if line.endswith(_UNFINISHED):
                    begun = call["rest"].removesuffix(_UNFINISHED)
                    open_calls[call["pid"], call["name"]] = (place, begun)
                else:
                    yield from self._event(call["name"], call["rest"], place, place)
        # Whoever was killed in the middle of a call may have done it.
        for (_, name), (began, text) in open_calls.items():
            if name not in {"fsync", "fdatasync"}:
                yield from self._event(name, text + ") = 0", began, len(lines))

    def _event(self, name: str, text: str, began: int, ended: int) -> Iterator[Event]:
        result = _RESULT.search(text.rpartition('"')[2]) or _RESULT.search(text)
        if result is None or int(result["value"]) < 0:
            return
        if name in {"sendto", "sendmsg"}:
            data = b"".join(map(_data, _TEXT.finditer(text)))
            yield Event("sent", began, ended, data=data)
            return
        descriptor = _DESCRIPTOR.match(text)
        # What was removed while it was open is no file any more.
        named = descriptor is not None and descriptor["gone"] is None
        on = _bytes(descriptor["hex"]).decode() if descriptor is not None and named else ""
        if name in {"fsync", "fdatasync"}:
            if self._ours(on):
                yield Event("sync", began, ended, on)
        elif name in {"write", "pwrite64"}:
            yield from self._write(name, text, on, Event("write", began, ended, on))
        elif name == "ftruncate":
            if self._ours(on):
                size = int(text.partition(", ")[2].partition(")")[0])
                yield Event("truncate", began, ended, on, offset=size)
        else:
            yield from self._names(name, text, began, ended)

    def _write(self, name: str, text: str, on: str, event: Event) -> Iterator[Event]:
        if on != self._said and not self._ours(on):
            return
        found = _TEXT.search(text)
        assert found is not None, f"a write without its data: {name}({text[:200]}"
        data = _data(found)
        if on == self._said:
            yield Event("said", event.began, event.ended, data=data)
            return
        if name == "write":
            # A new small file, written from its beginning: the only way in which anything but SQLite writes.
            yield Event("write", event.began, event.ended, on, offset=-1, data=data)
            return
        offset = int(text[found.end() :].split(", ")[2].partition(")")[0])
        yield Event("write", event.began, event.ended, on, offset=offset, data=data)

    def _names(self, name: str, text: str, began: int, ended: int) -> Iterator[Event]:
        paths = [_data(match).decode() for match in _TEXT.finditer(text)]
        if name in {"rename", "renameat", "renameat2"}:
            if self._ours(paths[0]) or self._ours(paths[1]):
                yield Event("rename", began, ended, paths[0], paths[1])
                self._exists.add(paths[1])
        elif not paths or not self._ours(paths[0]):
            assert not any(part in text for part in (self._folder + "/", self._folder + ">")), (
                f"not modelled: {name}({text[:300]}"
            )
        elif name == "openat":
            if "O_CREAT" in text and paths[0] not in self._exists:
                self._exists.add(paths[0])
                yield Event("create", began, ended, paths[0])
            assert "O_TRUNC" not in text, f"not modelled: {text[:300]}"
        elif name in {"mkdir", "mkdirat"}:
            self._exists.add(paths[0])
            yield Event("mkdir", began, ended, paths[0])
        elif name in {"unlink", "unlinkat"}:
            self._exists.discard(paths[0])
            yield Event("unlink", began, ended, paths[0])
        else:
            raise AssertionError(f"not modelled: {name}({text[:300]}")

    def _ours(self, path: str) -> bool:
        return path == self._folder or path.startswith(self._folder + "/")


def _data(match: re.Match[str]) -> bytes:
    assert match["cut"] is None, "strace has cut a text short"
    return _bytes(match["hex"])


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
