"""Reads a folder of policies: `*.hcl` are policies, `approles/*.hcl` are AppRoles. A file's name is its name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aikeys.errors import AikeysError
from aikeys.policy.approles import AppRole, parse_approle
from aikeys.policy.hcl import PolicyError
from aikeys.policy.parse import Policy, parse_policy

APPROLES = "approles"


class NoPoliciesError(AikeysError):
    """There is nothing to read where the policies should be."""


@dataclass(frozen=True, slots=True)
class Folder:
    policies: tuple[Policy, ...]
    approles: tuple[AppRole, ...]

    def policy(self, name: str) -> Policy | None:
        return next((policy for policy in self.policies if policy.name == name), None)

    def of(self, approle: AppRole) -> list[Policy]:
        """The policies that a login of `approle` holds, as far as they are files here."""
        return [policy for policy in self.policies if policy.name in approle.policies]


def default_folder() -> Path:
    """`policies/` of the installed package, else of the checkout this runs in. Raises `NoPoliciesError`."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "policies", package.parents[1] / "policies"):
        if place.is_dir():
            return place
    raise NoPoliciesError("this installation has no policies: name the files or the folder to read")


def shipped_policy(name: str) -> Policy:
    """The policy of that name in `default_folder()`. Raises `NoPoliciesError`."""
    folder = default_folder()
    (policy,) = read_files([folder / f"{name}.hcl"], folder).policies
    return policy


def read_folder(folder: Path) -> Folder:
    """Everything in `folder`. Raises `PolicyError` for a wrong file, `NoPoliciesError` when there is none."""
    if not folder.is_dir():
        raise NoPoliciesError(f"{folder} is no folder: policies are read from its *.hcl and approles/*.hcl")
    return read_files([*sorted(folder.glob("*.hcl")), *sorted((folder / APPROLES).glob("*.hcl"))], folder)


def read_files(files: Iterable[Path], folder: Path | None = None) -> Folder:
    """`files`; one that lies in a folder `approles` is an AppRole. Names in errors are relative to `folder`'s parent."""
    policies, approles = [], []
    for file in files:
        shown = _shown(file, folder)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NoPoliciesError(f"{shown} cannot be read: {error}") from error
        if file.parent.name == APPROLES:
            approle = parse_approle(text, file=shown)
            if approle.name != file.stem:
                raise PolicyError(
                    shown, approle.line, f'the file is named {file.stem}, its approle "{approle.name}"'
                )
            approles.append(approle)
        else:
            policies.append(parse_policy(text, name=file.stem, file=shown))
    if not policies and not approles:
        raise NoPoliciesError(f"no *.hcl in {folder or 'what was named'}")
    return Folder(tuple(policies), tuple(approles))


def _shown(file: Path, folder: Path | None) -> str:
    if folder is None:
        return str(file)
    return str(Path(folder.name) / file.relative_to(folder))
