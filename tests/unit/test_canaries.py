"""The search for secrets finds them in every shape and place that it promises, and fails the run."""

from __future__ import annotations

import base64
import struct
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import canaries
from tests.canaries import Scan

SECRET = "sk-fake/Zq7x+T2mWc9LkVb4N"
OTHER = "sk-fake/Zq7y+T2mWc9LkVb4N"

ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "base64": base64.b64encode,
    "base64 for URLs": base64.urlsafe_b64encode,
    "hexadecimal": lambda data: data.hex().encode(),
    "hexadecimal in capitals": lambda data: data.hex().upper().encode(),
    "URL-encoded": lambda data: urllib.parse.quote_from_bytes(data, safe="").encode(),
    "URL-encoded throughout": lambda data: b"".join(b"%%%02X" % byte for byte in data),
    "URL-encoded in small letters": lambda data: b"".join(b"%%%02x" % byte for byte in data),
}


@pytest.fixture(scope="module")
def scan() -> Scan:
    return Scan({SECRET: "a secret"})


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(before=st.binary(max_size=7), after=st.binary(max_size=7))
def test_a_secret_is_found_in_every_encoding_whatever_stands_around_it(
    scan: Scan, encoding: str, before: bytes, after: bytes
) -> None:
    encode = ENCODINGS[encoding]
    assert list(scan.bytes(encode(before + SECRET.encode() + after)))
    assert not list(scan.bytes(encode(before + OTHER.encode() + after)))


def test_a_secret_is_found_where_two_pieces_of_a_file_meet(
    tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries, "PIECE", 64)
    file = tmp_path / "log"
    for at in range(64 * 3):
        file.write_bytes(b"." * at + SECRET.encode() + b"." * 200)
        assert {(hit.path, hit.at) for hit in scan.file(file, "shown")} == {("shown", at)}


def test_only_the_places_that_are_named_may_hold_one(tmp_path: Path, scan: Scan) -> None:
    for name in ("secret-id", "a/secret-id", "a/b/secret-id.old", "a/not-secret-id", "a/data/aikeys.db-wal"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"x{SECRET}")
    (tmp_path / "link").symlink_to(tmp_path / "a/secret-id")
    hits = scan.folder(tmp_path, ["*/secret-id"])
    assert [hit.path for hit in hits] == ["a/b/secret-id.old", "a/data/aikeys.db-wal", "a/not-secret-id"]
    assert {hit.at for hit in hits} == {1}
    assert SECRET not in str(hits), "a report that tells secrets is one more place"


def test_a_core_file_is_found_whether_or_not_a_secret_is_in_it(tmp_path: Path) -> None:
    for name, kind in (("program", 2), ("library", 3), ("core.7", 4)):
        (tmp_path / name).write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<H", kind))
    assert [(hit.path, hit.what) for hit in Scan({}).folder(tmp_path)] == [("core.7", "a core file")]
    # This session is searched as well.
    (tmp_path / "core.7").unlink()


RUN = """
import os
from tests import canaries

def test_one(tmp_path):
    canaries.learn("s.learnt-0123456789abcdef", "a token")
    canaries.learn("root", "too short to be one")
    (tmp_path / "sidecar.log").write_text("{said} root")
    (tmp_path / "secret-id").write_text("s.learnt-0123456789abcdef")

def test_two(tmp_path):
    from aikeys.relay_simulator.clock import Clock
    from aikeys.relay_simulator.identifiers import Identifiers
    key = Identifiers(Clock()).data_key()
    if {planted}:
        (tmp_path / "aikeys.db").write_bytes(b"..." + key.encode().hex().encode())
"""


@pytest.mark.parametrize("planted", [False, True])
def test_a_run_with_a_planted_secret_fails_at_its_end(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, planted: bool
) -> None:
    said = "a token: s.learnt-0123456789abcdef" if planted else "a token: <redacted>"
    pytester.makepyfile(RUN.format(said=said, planted=planted))
    # What it learns, the session around it must not look for.
    monkeypatch.setattr(canaries, "_known", {})
    result = pytester.runpytest_inprocess("-p", "tests.canaries", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, errors=int(planted))
    if planted:
        result.stdout.fnmatch_lines(
            [
                "secrets of this run stand in what it left behind, 2 times:",
                "*/sidecar.log: a token ????????, raw, at byte 9",
                "*/aikeys.db: a secret of the relay's ????????, hexadecimal, at byte 3",
            ],
            consecutive=False,
        )
        result.stdout.no_fnmatch_line("*s.learnt-*")
