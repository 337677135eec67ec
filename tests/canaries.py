"""Pytest plugin: every secret that the run knows is looked for in everything that the run leaves behind.

At the end of a session, after the last server has stopped, each file below the session's folder for temporary files is
searched: logs of sidecars, simulators and servers, audit logs, databases with what SQLite keeps beside them, the bodies of
refusals (`SidecarStack` writes them down), core files. Raw, as base64 in all three alignments, hexadecimal and
URL-encoded. What the relay simulator made is known from its own book, other secrets by `learn`.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import os
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from ahocorasick_rs import BytesAhoCorasick, Implementation

from aikeys.relay_simulator.identifiers import SECRETS_FILE

#: Shorter values are no secrets (the root token of a development server is "root").
SHORTEST = 16
PIECE = 16 * 1024 * 1024

#: An audit log written in clear, by which a test learns what to look for.
RAW_AUDIT = "raw-audit.log"
#: Where a secret may stand, and why. Paths are relative to the session's folder.
PERMITTED: Mapping[str, str] = {
    "*/secret-id": "the sidecar's or an app's credential, given to it in this file",
    "*/app.env": "where an agent delivers a key to its app",
    "*/app.json": "the same",
    "*/app.log": "what such an app says it was given",
    "*/chromium/*": "a browser's own folder: somebody signs in to the web UI with a token in it",
    f"*/{RAW_AUDIT}": "the server's own word on all of its tokens, asked for by the test",
}

_known: dict[str, str] = {}


def learn(secret: str, what: str) -> None:
    """`secret` must not turn up in any output of this session. `what` names it in the report."""
    if len(secret) >= SHORTEST:
        _known.setdefault(secret, what)


@dataclass(frozen=True, order=True)
class Hit:
    path: str
    at: int
    form: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}, {self.form}, at byte {self.at}"


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """The shapes in which a secret may lie in a file, with their names."""
    raw = secret.encode()
    yield "raw", raw
    yield "hexadecimal", raw.hex().encode()
    yield "hexadecimal in capitals", raw.hex().upper().encode()
    quoted = urllib.parse.quote(secret, safe="").encode()
    if quoted != raw:
        yield "URL-encoded", quoted
    yield "URL-encoded throughout", b"".join(b"%%%02X" % byte for byte in raw)
    yield "URL-encoded throughout in small letters", b"".join(b"%%%02x" % byte for byte in raw)
    for before in range(3):
        # Only the characters that no neighbour has a bit in.
        first = (0, 2, 3)[before]
        end = (before + len(raw)) * 8 // 6
        encoded = base64.b64encode(b"\0" * before + raw + b"\0\0")[first:end]
        yield f"base64 at {before}", encoded
        url_safe = encoded.replace(b"+", b"-").replace(b"/", b"_")
        if url_safe != encoded:
            yield f"URL-safe base64 at {before}", url_safe


class Scan:
    """Looks for `secrets` (each with what it is)."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._names: list[tuple[str, str]] = []
        patterns: list[bytes] = []
        for secret, what in secrets.items():
            # Told apart in a report, not told.
            named = f"{what} {hashlib.sha256(secret.encode()).hexdigest()[:8]}"
            for form, pattern in forms(secret):
                self._names.append((named, form))
                patterns.append(pattern)
        self._longest = max(map(len, patterns), default=0)
        self._automaton = (
            BytesAhoCorasick(patterns, implementation=Implementation.ContiguousNFA) if patterns else None
        )

    def bytes(self, data: bytes, path: str = "", offset: int = 0) -> Iterator[Hit]:
        if self._automaton is None:
            return
        for index, start, _ in self._automaton.find_matches_as_indexes(data, overlapping=True):
            what, form = self._names[index]
            yield Hit(path, offset + start, form, what)

    def file(self, path: Path, shown: str) -> Iterator[Hit]:
        """Also one that is larger than memory; a file that vanishes meanwhile holds nothing."""
        with path.open("rb") as file:
            at, data = 0, file.read(PIECE)
            if _is_core(data):
                yield Hit(shown, 0, "whole", "a core file")
            while data:
                yield from self.bytes(data, shown, at)
                rest = data[-self._longest :] if self._longest else b""
                piece = file.read(PIECE)
                if not piece:
                    return
                at += len(data) - len(rest)
                data = rest + piece

    def folder(self, folder: Path, permitted: Iterable[str] = ()) -> list[Hit]:
        """Every regular file below; `permitted` are patterns of paths below `folder`."""
        patterns = list(permitted)
        hits: set[Hit] = set()
        for parent, folders, names in os.walk(folder):
            folders.sort()
            for name in names:
                path = Path(parent, name)
                shown = str(path.relative_to(folder))
                if path.is_symlink() or not path.is_file():
                    continue
                if not any(
                    fnmatch.fnmatchcase(f"/{shown}", f"*/{pattern.removeprefix('*/')}")
                    for pattern in patterns
                ):
                    hits.update(self.file(path, shown))
        return sorted(hits)


def _is_core(data: bytes) -> bool:
    """An ELF file of the kind that the kernel writes when a process is killed (elf(5): e_type is ET_CORE)."""
    return (
        data[:4] == b"\x7fELF" and int.from_bytes(data[16:18], "little" if data[5:6] == b"\1" else "big") == 4
    )


def known(book: Path | None = None) -> dict[str, str]:
    """Everything that was learnt, and what stands in the simulators' book."""
    found = dict(_known)
    if book is not None and book.exists():
        for line in book.read_text().splitlines():
            if len(line) >= SHORTEST:
                found.setdefault(line, "a secret of the relay's")
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_secret_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set up first of all, so that it looks when everything else has ended."""
    base = tmp_path_factory.getbasetemp()
    book = base.parent / f"{base.name}.book"
    book.touch(mode=0o600)
    before = os.environ.get(SECRETS_FILE)
    os.environ[SECRETS_FILE] = str(book)
    try:
        yield
        hits = Scan(known(book)).folder(base, PERMITTED)
    finally:
        book.unlink()
        if before is None:
            del os.environ[SECRETS_FILE]
        else:
            os.environ[SECRETS_FILE] = before
    if hits:
        shown = "\n".join(f"  {hit}" for hit in hits[:50])
        pytest.fail(
            f"secrets of this run stand in what it left behind, {len(hits)} times:\n{shown}\n"
            f"below {base}; a place that is meant to hold one belongs into PERMITTED of tests/canaries.py",
            pytrace=False,
        )
