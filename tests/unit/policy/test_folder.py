"""Where policies are read from, and how a wrong place is told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from aikeys.policy.folder import NoPoliciesError, default_folder, read_files, read_folder
from aikeys.policy.hcl import PolicyError


def test_names_in_errors_begin_at_the_folder(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "a.hcl").write_text('pth "x" {}')
    with pytest.raises(PolicyError, match=r"^policies/a\.hcl:1: "):
        read_folder(tmp_path / "policies")


def test_a_file_of_an_approle_has_its_name(tmp_path: Path) -> None:
    shutil.copytree(default_folder(), tmp_path / "policies")
    (tmp_path / "policies/approles/auditor.hcl").rename(tmp_path / "policies/approles/other.hcl")
    with pytest.raises(PolicyError, match=r'other.hcl:2: the file is named other, its approle "auditor"'):
        read_folder(tmp_path / "policies")


def test_a_place_without_policies_is_an_error_not_an_empty_set(tmp_path: Path) -> None:
    with pytest.raises(NoPoliciesError, match=r"no \*\.hcl"):
        read_folder(tmp_path)
    with pytest.raises(NoPoliciesError, match="is no folder"):
        read_folder(tmp_path / "nothing")
    with pytest.raises(NoPoliciesError, match="cannot be read"):
        read_files([tmp_path / "nothing.hcl"])
    (tmp_path / "latin.hcl").write_bytes(b"# \xe9\n")
    with pytest.raises(NoPoliciesError, match="cannot be read"):
        read_files([tmp_path / "latin.hcl"])
