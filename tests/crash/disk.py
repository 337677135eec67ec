"""A disk that may lose at a power cut what nobody had synced: which states can be found on it afterwards.

Of a file, everything up to its last finished sync is there. Of what was written since, each sector holds what it held
then or any later version, whatever became of the others; a file that grew may have holes of zeros. A name (made,
removed, renamed) is sure once its folder was synced; later changes of one folder's names are found up to some point,
in their order. This is more than ext4 or XFS do to a program, and all that POSIX promises.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.recording import Event

SECTOR = 512
#: How unsynced writes are found again: none, all, the first ones (the last of them torn), or any sector of any.
NOTHING, EVERYTHING, IN_ORDER, ANY = "nothing", "everything", "in order", "any"
WAYS = (NOTHING, EVERYTHING, IN_ORDER, ANY)
# Shared memory: worth nothing after a restart, and rebuilt. It is left out, as a new boot leaves it.
_VOLATILE = "-shm"


@dataclass(eq=False)
class _File:
    content: bytes = b""
    # Since its last sync, in order; a truncation is an event without data.
    pending: list[Event] = field(default_factory=list)


@dataclass(eq=False)
class _Folder:
    names: dict[str, _File | _Folder] = field(default_factory=dict)
    # What is to be done to `names`: the name and what it then stands for, None for nothing. A rename is two at once.
    pending: list[tuple[Event, tuple[tuple[str, _File | _Folder | None], ...]]] = field(default_factory=list)


class Disk:
    """The folder `root` and all below it. `apply` events in their order, then `found` as often as you like."""

    def __init__(self, root: Path, *, known_as: Path | None = None) -> None:
        """What is there now is taken for synced. `known_as` is what the events call it."""
        self._root = os.fspath(known_as or root)
        self._now: dict[str, _File | _Folder] = {self._root: self._read(root)}

    def _read(self, folder: Path) -> _Folder:
        made = _Folder()
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            item = self._read(path) if path.is_dir() else _File(path.read_bytes())
            made.names[path.name] = item
        return made

    def _at(self, path: str) -> _File | _Folder:
        if path not in self._now:
            parent = self._folder(os.path.dirname(path))
            self._now[path] = parent.names[os.path.basename(path)]
        return self._now[path]

    def _folder(self, path: str) -> _Folder:
        found = self._at(path)
        assert isinstance(found, _Folder), path
        return found

    def apply(self, event: Event) -> None:
        path = event.path
        if path.endswith(_VOLATILE):
            return
        parent, name = os.path.split(path)
        match event.kind:
            case "create" | "mkdir":
                made: _File | _Folder = _File() if event.kind == "create" else _Folder()
                self._folder(parent).pending.append((event, ((name, made),)))
                self._now[path] = made
            case "unlink":
                self._folder(parent).pending.append((event, ((name, None),)))
                self._at(path)
                del self._now[path]
            case "rename":
                item, (target, new) = self._at(path), os.path.split(event.other)
                assert target == parent, "not modelled: a rename into another folder"
                self._folder(parent).pending.append((event, ((name, None), (new, item))))
                del self._now[path]
                self._now[event.other] = item
            case "write" | "truncate":
                file = self._at(path)
                assert isinstance(file, _File)
                file.pending.append(event)
            case "sync":
                self._sync(self._at(path), event.began)

    def _sync(self, item: _File | _Folder, began: int) -> None:
        if isinstance(item, _File):
            covered = [event for event in item.pending if event.ended < began]
            item.content = _in_order(item.content, covered)
            item.pending = [event for event in item.pending if event.ended >= began]
        else:
            done = [changes for event, changes in item.pending if event.ended < began]
            for changes in done:
                _rename(item.names, changes)
            item.pending = [change for change in item.pending if change[0].ended >= began]

    def found(self, way: str, chance: random.Random) -> Mapping[str, bytes | None]:
        """What a power cut now leaves, by path below the root; None for a folder."""
        state: dict[str, bytes | None] = {}
        self._find(self._folder(self._root), "", way, chance, state)
        return state

    def _find(
        self, folder: _Folder, at: str, way: str, chance: random.Random, state: dict[str, bytes | None]
    ) -> None:
        names = dict(folder.names)
        for _, changes in folder.pending[: _how_many(len(folder.pending), way, chance)]:
            _rename(names, changes)
        for name, item in names.items():
            if isinstance(item, _Folder):
                state[at + name] = None
                self._find(item, f"{at}{name}/", way, chance, state)
            elif not name.endswith(_VOLATILE):
                state[at + name] = _content(item, way, chance)


def fingerprint(state: Mapping[str, bytes | None]) -> bytes:
    """The same for the same state: many moments leave one."""
    digest = hashlib.sha256()
    for name, content in sorted(state.items()):
        digest.update(f"{name}\0{-1 if content is None else len(content)}\0".encode() + (content or b""))
    return digest.digest()


def write_down(state: Mapping[str, bytes | None], folder: Path) -> None:
    """`state` as files in the empty `folder`, with the modes that the program gives."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in state.items():
        path = folder / name
        if content is None:
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(content)
            path.chmod(0o600)


def _rename(
    names: dict[str, _File | _Folder], changes: tuple[tuple[str, _File | _Folder | None], ...]
) -> None:
    for name, item in changes:
        if item is None:
            names.pop(name, None)
        else:
            names[name] = item


def _how_many(count: int, way: str, chance: random.Random) -> int:
    return {NOTHING: 0, EVERYTHING: count}.get(way, chance.randint(0, count))


def _content(file: _File, way: str, chance: random.Random) -> bytes:
    if way == ANY and not any(event.kind == "truncate" for event in file.pending):
        return _any_sectors(file, chance)
    some = file.pending[: _how_many(len(file.pending), way, chance)]
    if some and way in {IN_ORDER, ANY} and some[-1].kind == "write":
        last = some[-1]
        kept = chance.randrange(0, len(last.data) + 1, SECTOR) if len(last.data) > SECTOR else 0
        torn = Event("write", last.began, last.ended, offset=last.offset, data=last.data[:kept])
        some = [*some[:-1], torn]
    return _in_order(file.content, some)


def _in_order(content: bytes, events: list[Event]) -> bytes:
    made = bytearray(content)
    for event in events:
        if event.kind == "truncate":
            made = made[: event.offset] + bytes(max(0, event.offset - len(made)))
            continue
        start = len(made) if event.offset < 0 else event.offset
        made.extend(bytes(max(0, start - len(made))))
        made[start : start + len(event.data)] = event.data
    return bytes(made)


def _any_sectors(file: _File, chance: random.Random) -> bytes:
    """Each sector as it was synced or after any of the writes to it, all equally likely."""
    latest, found = bytearray(file.content), bytearray(file.content)
    sizes, versions = [len(latest)], Counter[int]()
    for event in file.pending:
        start = len(latest) if event.offset < 0 else event.offset
        end = start + len(event.data)
        for content in (latest, found):
            content.extend(bytes(max(0, end - len(content))))
        latest[start:end] = event.data
        sizes.append(len(latest))
        for sector in range(start // SECTOR, -(-end // SECTOR)):
            versions[sector] += 1
            if chance.random() * (versions[sector] + 1) < 1:
                place = slice(sector * SECTOR, (sector + 1) * SECTOR)
                found[place] = latest[place]
    size = chance.choice(sizes)
    return bytes(found[:size]) + bytes(max(0, size - len(found)))
