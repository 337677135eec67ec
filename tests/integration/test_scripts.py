"""The scripts that fetch the real parts do it once, whole, and not at all where it is not needed.

Here a short program stands for the Go tool chain: what is tested is the script's own care, not the compiler. That what
it builds is a Vault is seen by every test that runs one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    "bash",
    "env",
    "mkdir",
    "mktemp",
    "rm",
    "mv",
    "cat",
    "grep",
    "flock",
    "sha256sum",
    "sleep",
    "chmod",
)

GO = r"""#!/usr/bin/env bash
[ "$1" = env ] && { echo go1.99; exit 0; }
echo built >> "$BUILDS"
sleep 0.3
printf '#!/usr/bin/env bash\necho "Vault v%s"\n' "${BUILT_VERSION:-1.21.1}" > vault
chmod +x vault
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs: what the script itself calls, and ``go``; no ``vault``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    program(folder / "go", GO)
    return folder


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """Where the script puts what it builds."""
    return tmp_path / "cache" / "vault-1.21.1" / "vault"


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def start(machine: Path, **extra: str) -> subprocess.Popen[str]:
    base = machine.parent
    env = {"PATH": str(machine), "AIKEYS_CACHE": str(base / "cache"), "BUILDS": str(base / "builds"), **extra}
    return subprocess.Popen(
        [ROOT / "scripts" / "build-vault"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def build(machine: Path, **extra: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of one run."""
    with start(machine, **extra) as running:
        out, err = running.communicate(timeout=60)
    return running.returncode, out, err


def builds(machine: Path) -> int:
    log = machine.parent / "builds"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_vault_is_built_once_and_found_ever_after(machine: Path, cached: Path) -> None:
    for _ in range(2):
        status, out, err = build(machine)
        assert (status, out) == (0, f"{cached}\n"), err

    assert builds(machine) == 1
    assert os.access(cached, os.X_OK)
    assert [path.name for path in cached.parent.glob("build.*")] == []


def test_two_runs_at_the_same_time_build_one_vault(machine: Path, cached: Path) -> None:
    with start(machine) as first, start(machine) as second:
        said = [first.communicate(timeout=60), second.communicate(timeout=60)]

    assert (first.returncode, second.returncode) == (0, 0), said
    assert [out for out, _ in said] == [f"{cached}\n"] * 2
    assert builds(machine) == 1


def test_a_vault_that_was_changed_after_it_was_built_is_built_again(machine: Path, cached: Path) -> None:
    build(machine)
    cached.write_text("half a program")

    status, _, err = build(machine)

    assert status == 0, err
    assert builds(machine) == 2
    assert "half" not in cached.read_text()


def test_what_is_not_the_wanted_version_is_not_kept(machine: Path, cached: Path) -> None:
    status, out, err = build(machine, BUILT_VERSION="1.20.0")

    assert (status, out) == (1, "")
    assert "not Vault 1.21.1" in err
    assert not cached.exists()
    assert [path.name for path in cached.parent.glob("build.*")] == []


def test_a_fitting_vault_on_the_path_is_taken_and_nothing_built(machine: Path, cached: Path) -> None:
    program(machine / "vault", "#!/usr/bin/env bash\necho 'Vault v1.21.4 (abc), built today'\n")

    assert build(machine)[:2] == (0, f"{machine / 'vault'}\n")
    assert builds(machine) == 0


def test_another_vault_on_the_path_is_left_alone(machine: Path, cached: Path) -> None:
    program(machine / "vault", "#!/usr/bin/env bash\necho 'Vault v1.19.0 (abc), built long ago'\n")

    assert build(machine)[:2] == (0, f"{cached}\n")


def test_without_go_it_says_what_is_needed(machine: Path, cached: Path) -> None:
    (machine / "go").unlink()

    status, out, err = build(machine)

    assert (status, out) == (1, "")
    assert "needs Go" in err


def test_packages_that_are_installed_are_not_installed_again() -> None:
    if shutil.which("dpkg-query") is None:
        # Elsewhere there is nothing it could do, and it says so.
        command, expected = "a-package-of-elsewhere", 1
    else:
        command, expected = "bash", 0

    done = subprocess.run(
        [ROOT / "scripts" / "debian-packages", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == expected
    assert done.stdout == ""
    assert ("apt-get" in done.stderr) == bool(expected)
