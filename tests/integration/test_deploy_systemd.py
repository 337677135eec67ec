"""The unit of deploy/systemd is one that systemd understands, that leaves little to attack, and that starts the sidecar."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.integration.test_sidecar_own_identity import approle, secret_id
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import ChildProcess, clean_environment, free_port
from tests.realparts.requirements import missing

from aikeys.settings import PREFIX, Settings, load_settings

SYSTEMD = Path(__file__).parents[2] / "deploy" / "systemd"
UNIT = SYSTEMD / "aikeys.service"
PROGRAM = "/opt/aikeys/bin/aikeys"
# Of a hundred; systemd calls what is below 20 "OK". An ordinary unit has 96.
MOST_EXPOSURE = 13
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1


def values(key: str) -> list[str]:
    lines = UNIT.read_text().splitlines()
    return [line.partition("=")[2] for line in lines if line.startswith(f"{key}=")]


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("systemd-analyze")
    if found is None:
        missing("systemd", "no systemd-analyze on the PATH")
    return subprocess.run([found, *arguments], capture_output=True, text=True, timeout=60, check=False)


def here(folder: Path, change: tuple[str, str] = ("", "")) -> Path:
    """The unit with a program that exists on this machine."""
    unit = folder / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, sys.executable).replace(*change))
    return unit


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    verified = analyze("verify", str(here(tmp_path)))
    assert (verified.returncode, verified.stderr) == (0, "")
    # It would say so: it knows every key.
    misspelt = analyze("verify", str(here(tmp_path, ("ProtectHome=", "ProtectHoem="))))
    assert "ProtectHoem" in misspelt.stderr


@pytest.mark.parametrize(
    ("weaker", "passes"),
    [
        (("", ""), True),
        (("DynamicUser=yes", ""), False),
        (("SystemCallFilter=@system-service", ""), False),
        (("CapabilityBoundingSet=\n", ""), False),
        (("RestrictNamespaces=yes", ""), False),
    ],
)
def test_the_unit_exposes_little(tmp_path: Path, weaker: tuple[str, str], passes: bool) -> None:
    unit = here(tmp_path, weaker if weaker[0] else ("", ""))
    judged = analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE}", str(unit))
    assert (judged.returncode == 0) is passes, judged.stdout.splitlines()[-1:]


def test_the_settings_are_ones_that_aikeys_knows_and_none_is_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = dict(value.split("=", 1) for value in values("Environment"))
    assert {name.removeprefix(PREFIX).lower() for name in given} <= set(Settings.model_fields)
    for name, value in given.items():
        monkeypatch.setenv(
            name, value.replace("%d", "/run/credentials/aikeys.service").replace("%S", "/var/lib")
        )
    settings = load_settings(SYSTEMD / "aikeys.toml")
    assert settings.loopback
    assert settings.database == Path("/var/lib") / values("StateDirectory")[0] / "aikeys.db"
    assert settings.auth_secret_id_file == Path("/run/credentials/aikeys.service/secret-id")
    assert values("LoadCredential") == ["secret-id:/etc/aikeys/secret-id"]
    assert not any(
        "secret" in key or "token" in key for key in tomllib.loads((SYSTEMD / "aikeys.toml").read_text())
    )
    # Running requests have ended before systemd loses its patience.
    assert int(values("TimeoutStopSec")[0]) > settings.graceful_timeout


def test_the_sidecar_tells_systemd_when_it_is_ready_and_needs_no_memory_that_is_both_written_and_run(
    openbao: OpenBaoProcess, tmp_path: Path
) -> None:
    assert values("Type") == ["notify"]
    command = values("ExecStart")[0].split()
    assert command[:2] == [PROGRAM, "serve"]
    name, role_id = approle(openbao)
    (tmp_path / "secret-id").write_text(secret_id(openbao, name))
    settings = tmp_path / "aikeys.toml"
    settings.write_text(
        f'listen = "127.0.0.1:{free_port()}"\nupstream_addr = "{openbao.address}"\nauth_role_id = "{role_id}"\n'
    )
    # Kernels that know it (6.3 and later) hold the program to MemoryDenyWriteExecute without systemd.
    denied = f"import ctypes, os, sys; ctypes.CDLL(None).prctl({PR_SET_MDWE}, {REFUSE_EXEC_GAIN}, 0, 0, 0); os.execv(sys.executable, [sys.executable, '-m', 'aikeys', *sys.argv[1:]])"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.setblocking(False)
        said = b""

        def ready() -> bool:
            nonlocal said
            said += notified.recv(4096)
            return b"READY=1" in said

        sidecar = ChildProcess(
            [sys.executable, "-c", denied, "serve", "--config", settings],
            folder=tmp_path,
            name="sidecar",
            env=clean_environment(
                NOTIFY_SOCKET=str(tmp_path / "notify"),
                AIKEYS_AUTH_SECRET_ID_FILE=str(tmp_path / "secret-id"),
                AIKEYS_DATA_DIR=str(tmp_path / "data"),
            ),
        )
        sidecar.start(ready, deadline=40)
        assert sidecar.stop() == 0, sidecar.log()
