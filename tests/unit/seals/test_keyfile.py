"""The key file opens what it closed, and says what to do when it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aikeys.errors import SealError
from aikeys.seals.keyfile import KeyFileSeal

DATA_KEY = bytes(range(32))


def test_a_data_key_survives_the_round_and_does_not_show(tmp_path: Path) -> None:
    seal = KeyFileSeal(tmp_path / "sub" / "seal.key")
    wrapped = seal.wrap(DATA_KEY)
    assert KeyFileSeal(tmp_path / "sub" / "seal.key").unwrap(wrapped) == DATA_KEY
    assert DATA_KEY not in wrapped
    assert (tmp_path / "sub" / "seal.key").stat().st_mode & 0o777 == 0o600


def test_wrapping_twice_never_gives_the_same_bytes(tmp_path: Path) -> None:
    seal = KeyFileSeal(tmp_path / "seal.key")
    assert seal.wrap(DATA_KEY) != seal.wrap(DATA_KEY)


def test_a_missing_key_file_is_named_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "seal.key"
    wrapped = KeyFileSeal(path).wrap(DATA_KEY)
    path.unlink()
    with pytest.raises(SealError, match=r"seal\.key is missing.*put the original file back"):
        KeyFileSeal(path).unwrap(wrapped)
    assert not path.exists()


def test_another_key_file_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    wrapped = KeyFileSeal(tmp_path / "one.key").wrap(DATA_KEY)
    other = KeyFileSeal(tmp_path / "two.key")
    other.wrap(DATA_KEY)
    with pytest.raises(SealError, match="is not the one this database was made with"):
        other.unwrap(wrapped)
    with pytest.raises(SealError, match="restore the database"):
        KeyFileSeal(tmp_path / "one.key").unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "seal.key"
    wrapped = KeyFileSeal(path).wrap(DATA_KEY)
    path.chmod(mode)
    with pytest.raises(SealError, match="chmod 600"):
        KeyFileSeal(path).unwrap(wrapped)


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b"aikeys-seal-key-v1:AAAA\n", b"\xff\xfe", b"aikeys-seal-key-v1:%%\n"]
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "seal.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SealError, match=r"no key file of aikeys|cannot be read"):
        KeyFileSeal(path).wrap(DATA_KEY)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SealError, match="cannot be made"):
        KeyFileSeal(tmp_path / "file" / "seal.key").wrap(DATA_KEY)


def test_the_key_is_durable_before_anything_is_wrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    seal = KeyFileSeal(tmp_path / "seal.key")
    seal.wrap(DATA_KEY)
    assert synced == [str(tmp_path / "seal.key.new"), str(tmp_path), *map(str, tmp_path.parents)]
    synced.clear()
    seal.wrap(DATA_KEY)
    assert synced[0] == str(tmp_path), "whoever made it may have been ended before it was durable"
