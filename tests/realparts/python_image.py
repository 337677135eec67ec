"""An image with Python 3.11 and the locked wheels to build the sidecar's image on, without a network.

It is made of the published image where that can be pulled; else, from nothing, of the interpreter that runs the tests
with the libraries it is linked to, at the places where the published image has them.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import docker
from docker.errors import ImageNotFound
from tests.realparts.containers import NOT_PULLED
from tests.realparts.requirements import missing

PUBLISHED = "python:3.11-slim"
ROOT = Path(__file__).parents[2]
LOCKS = ("requirements/serve.txt", "requirements/build.txt")
#: Programs that the Containerfile calls.
PROGRAMS = ("sh", "install")
#: What compiled wheels are linked to.
LIBRARIES = ("libgcc_s.so.1", "libstdc++.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")
UNWANTED = re.compile(
    r"(^|/)(site-packages|dist-packages|test|tests|idlelib|tkinter|turtledemo|lib2to3|config-3[^/]*|_tkinter[^/]*)(/|$)"
)
WHEELS = "/wheels"


def python_with_wheels(client: docker.DockerClient) -> str:
    """The image's tag: made once for each interpreter and lock, found ever after."""
    key = hashlib.sha256(sys.version.encode() + Path(__file__).read_bytes())
    for lock in LOCKS:
        key.update((ROOT / lock).read_bytes())
    tag = f"aikeys-test/python-wheels:{key.hexdigest()[:16]}"
    if not _is_local(client, tag):
        wheels = _download()
        base = _published(client) or _own(client)
        with tempfile.TemporaryFile() as context:
            with tarfile.open(fileobj=context, mode="w") as tar:
                add_text(tar, "Dockerfile", f"FROM {base}\nCOPY wheels {WHEELS}\n")
                tar.add(wheels, "wheels")
            context.seek(0)
            client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
    return tag


def add_text(tar: tarfile.TarFile, name: str, text: str) -> None:
    add_file(tar, name, text.encode())


def add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def _download() -> Path:
    """The wheels of the locks, hashes checked: fetched once, kept where the other built parts are."""
    cache = Path(os.environ.get("AIKEYS_CACHE") or Path.home() / ".cache" / "aikeys")
    locked = hashlib.sha256(b"".join((ROOT / lock).read_bytes() for lock in LOCKS)).hexdigest()[:16]
    folder = cache / f"wheels-{locked}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=cache))
    for lock in LOCKS:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"]
        done = subprocess.run(
            [*command, "--only-binary", ":all:", "--dest", draft, "-r", lock],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(draft)
            missing("docker", f"the wheels of {lock} cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    draft.chmod(0o755)
    try:
        draft.rename(folder)
    except OSError:  # another run was faster
        shutil.rmtree(draft)
    return folder


def _published(client: docker.DockerClient) -> str | None:
    if _is_local(client, PUBLISHED):
        return PUBLISHED
    try:
        client.images.pull(PUBLISHED)
    except NOT_PULLED:
        return None
    return PUBLISHED


def _own(client: docker.DockerClient) -> str:
    tag = f"aikeys-test/python:{hashlib.sha256(sys.version.encode() + Path(__file__).read_bytes()).hexdigest()[:16]}"
    if not _is_local(client, tag):
        with tempfile.NamedTemporaryFile(suffix=".tar") as root:
            with tarfile.open(fileobj=root, mode="w") as tar:
                _add_python(tar)
            root.flush()
            path = "PATH=/usr/local/bin:/usr/bin:/bin"
            repository, _, version = tag.partition(":")
            client.api.import_image_from_file(
                root.name, repository=repository, tag=version, changes=[f"ENV {path}"]
            )
    return tag


def _add_python(tar: tarfile.TarFile) -> None:
    program = Path(sys.executable).resolve()
    stdlib = Path(sysconfig.get_path("stdlib"))
    home = "usr/local/lib/python3.11"
    for folder, mode in (("tmp", 0o1777), ("etc", 0o755), ("root", 0o700), ("var/lib", 0o755)):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        tar.addfile(entry)
    add_text(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    add_text(tar, "etc/group", "root:x:0:\n")
    add_text(tar, "etc/nsswitch.conf", "hosts: files dns\n")
    tar.add(program, "usr/local/bin/python3.11")
    for name in ("python3", "python"):
        link = tarfile.TarInfo(f"usr/local/bin/{name}")
        link.type, link.linkname = tarfile.SYMTYPE, "python3.11"
        tar.addfile(link)

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if UNWANTED.search(entry.name.removeprefix(home)) else entry

    tar.add(stdlib, home, filter=wanted)
    # Debian keeps it beside the library.
    places = (stdlib / "ensurepip" / "_bundled", Path("/usr/share/python-wheels"))
    (pip,) = [wheel for place in places for wheel in sorted(place.glob("pip-*.whl"))[:1]][:1]
    with zipfile.ZipFile(pip) as wheel:
        for name in wheel.namelist():
            if not name.endswith("/"):
                add_file(tar, f"{home}/site-packages/{name}", wheel.read(name))
    programs = [Path(found).resolve() for name in PROGRAMS if (found := shutil.which(name))]
    for name, file in zip(PROGRAMS, programs, strict=True):
        tar.add(file, f"bin/{name}")
    modules = [file for file in (stdlib / "lib-dynload").glob("*.so") if not UNWANTED.search(f"/{file.name}")]
    _add_libraries(tar, [program, *programs, *modules])


def _add_libraries(tar: tarfile.TarFile, files: list[Path]) -> None:
    """What they are linked to, where the loader looks first."""
    found = dict(_linked(files))
    folder = Path(found["libc.so.6"]).parent
    for name in LIBRARIES:
        if (folder / name).exists():
            found.setdefault(name, folder / name)
    found |= dict(_linked([path for path in found.values() if path.name in LIBRARIES]))
    for name, path in found.items():
        # The loader is named by its whole path in every program.
        target = path if name.startswith("/") else folder / name
        tar.add(path.resolve(), str(target).lstrip("/"))


def _linked(files: list[Path]) -> Iterator[tuple[str, Path]]:
    shown = subprocess.run(["ldd", *files], capture_output=True, text=True, check=True).stdout
    for line in shown.splitlines():
        if match := re.match(r"\s+(\S+) => (/\S+) \(", line):
            yield match[1], Path(match[2])
        elif match := re.match(r"\s+(/\S+) \(", line):
            yield match[1], Path(match[1])


def _is_local(client: docker.DockerClient, image: str) -> bool:
    try:
        client.images.get(image)
    except ImageNotFound:
        return False
    return True
