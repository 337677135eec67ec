"""OpenBao and HashiCorp Vault in dev mode as containers, for wherever a Docker engine answers.

The image is the published one where it can be pulled; else it is built on the spot from nothing but the static binary
of this machine, and kept under a tag that names the binary's checksum.
"""

from __future__ import annotations

import atexit
import hashlib
import io
import os
import socket
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, cast

import docker
import requests
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from tests.realparts import openbao, vault
from tests.realparts.process import POLL_SECONDS
from tests.realparts.requirements import PartMissing, missing
from tests.realparts.server import Server, ServerFailed

#: Testcontainers' reaper is an image of its own, which cannot always be pulled; containers are removed here instead.
testcontainers_config.ryuk_disabled = True

PORT = 8200
#: For a pull the longest silence, for any other call the longest wait.
ENGINE_SECONDS = 60
NOT_PULLED = (DockerException, requests.exceptions.RequestException)


def docker_client() -> docker.DockerClient:
    """A client of the engine that answers here; raises :class:`PartMissing` where none does."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        if host.startswith("unix://"):
            # Looked at first because docker-py, refused here, leaves its socket open.
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(host.removeprefix("unix://"))
        client = docker.from_env(timeout=ENGINE_SECONDS)
        client.ping()
    except (OSError, DockerException) as error:
        missing("docker", f"no Docker engine answers at {host}: {_first_line(error)}")
    return client


class ServerContainer(Server):
    """Base of :class:`OpenBaoContainer` and :class:`VaultContainer`: a dev server, published on 127.0.0.1 only."""

    #: The part's name in :data:`~tests.realparts.requirements.PARTS`.
    part: ClassVar[str]
    #: The published image, of the same version as the binary.
    image: ClassVar[str]

    def __init__(
        self, folder: Path, *, root_token: str = "root", env: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.root_token = root_token
        self.env = dict(env or {})
        self._container: DockerContainer | None = None
        self._port = 0

    @property
    def address(self) -> str:
        """``http://127.0.0.1:<port>``, the port that the engine chose."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def container(self) -> DockerContainer:
        if self._container is None:
            raise ServerFailed(f"the container of {self.program} is not running")
        return self._container

    @property
    def running(self) -> bool:
        if self._container is None:
            return False
        self._container.reload()
        return self._container.status == "running"

    def start(self, *, deadline: float = 60.0) -> Self:
        """Have the image, start it, and return when its root token works."""
        self.folder.mkdir(parents=True, exist_ok=True)
        container = DockerContainer(self._have_image())
        # SKIP_SETCAP is for the published images, whose start-up script wants a capability that nothing here needs.
        container.with_envs(SKIP_SETCAP="1", **self.env)
        container.with_command(
            [
                "server",
                "-dev",
                f"-dev-root-token-id={self.root_token}",
                f"-dev-listen-address=0.0.0.0:{PORT}",
                "-dev-no-store-token",
            ]
        )
        # testcontainers publishes on every address of the machine unless the pair of docker-py is given; its types
        # know only the port.
        cast("dict[str, Any]", container.ports)[f"{PORT}/tcp"] = ("127.0.0.1", None)
        self._container = container
        atexit.register(self.stop)
        try:
            container.start()
            self._port = int(container.get_exposed_port(PORT))
            self._wait_until_serving(deadline)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Write down what it said (``<folder>/<program>-container.log``) and remove it."""
        container, self._container = self._container, None
        if container is None:
            return
        atexit.unregister(self.stop)
        try:
            with (self.folder / f"{self.program}-container.log").open("wb") as log:
                log.writelines(container.get_logs())
        except (DockerException, RuntimeError):
            pass
        finally:
            container.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inner --------------------------------------------------------------------------------------------------

    def _wait_until_serving(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                if self._serves():
                    return
            except ConnectionError:
                pass
            if time.monotonic() > end or not self.running:
                said = b"".join(self.container.get_logs()).decode(errors="replace")
                raise ServerFailed(
                    f"the container of {self.program} does not serve:\n" + "\n".join(said.splitlines()[-30:])
                )
            time.sleep(POLL_SECONDS)

    def _have_image(self) -> str:
        client = docker_client()
        try:
            if _is_local(client, self.image):
                return self.image
            try:
                client.images.pull(self.image)
                return self.image
            except NOT_PULLED as error:
                not_pulled = _first_line(error)
            try:
                binary = self.find_binary()
            except PartMissing as error:
                missing(self.part, f"{self.image} cannot be pulled ({not_pulled}), and {error.reason}")
            return _build(client, binary)
        finally:
            client.close()


class OpenBaoContainer(ServerContainer):
    """OpenBao in a container, with the attributes of :class:`~tests.realparts.openbao.OpenBaoProcess`."""

    program: ClassVar[str] = openbao.OpenBaoProcess.program
    prefix: ClassVar[str] = openbao.OpenBaoProcess.prefix
    part: ClassVar[str] = "openbao-container"
    image: ClassVar[str] = "openbao/openbao:2.7.2"

    @classmethod
    def find_binary(cls) -> Path:
        return openbao.find_binary()


class VaultContainer(ServerContainer):
    """HashiCorp Vault in a container, with the attributes of :class:`~tests.realparts.vault.VaultProcess`."""

    program: ClassVar[str] = vault.VaultProcess.program
    prefix: ClassVar[str] = vault.VaultProcess.prefix
    part: ClassVar[str] = "vault-container"
    image: ClassVar[str] = f"hashicorp/vault:{vault.VERSION}"

    @classmethod
    def find_binary(cls) -> Path:
        return vault.find_binary()


def _build(client: docker.DockerClient, binary: Path) -> str:
    """An image that holds ``binary`` alone, by its checksum: built once, found ever after."""
    with binary.open("rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    tag = f"aikeys-test/{binary.name}:{checksum[:16]}"
    if _is_local(client, tag):
        return tag
    recipe = b'FROM scratch\nCOPY program /program\nENTRYPOINT ["/program"]\n'
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as tar:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(recipe)
            tar.addfile(entry, io.BytesIO(recipe))
            program = tar.gettarinfo(binary, "program")
            program.mode = 0o755
            with binary.open("rb") as file:
                tar.addfile(program, file)
        context.seek(0)
        client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
    return tag


def _is_local(client: docker.DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
