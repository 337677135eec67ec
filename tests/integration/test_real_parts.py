"""Each real part starts, answers as itself, and is gone without a trace afterwards."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import socket
from pathlib import Path

import docker
import httpx
import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait
from tests.realparts.chromium import browser_processes, sign_in
from tests.realparts.chromium import chromium as start_chromium
from tests.realparts.containers import OpenBaoContainer, ServerContainer, VaultContainer, docker_client
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.postgres import PostgresProcess
from tests.realparts.process import processes_of_session
from tests.realparts.server import Server, ServerFailed, ServerProcess, Setting
from tests.realparts.vault import VaultProcess

PROCESSES = [pytest.param(OpenBaoProcess, id="openbao"), pytest.param(VaultProcess, id="vault")]
CONTAINERS = [pytest.param(OpenBaoContainer, id="openbao"), pytest.param(VaultContainer, id="vault")]
#: What a server's version begins with: an answer that only this product gives.
VERSIONS = {"bao": "2.", "vault": "1.21."}


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def works_as_a_vault(server: Server) -> None:
    """It is the product it says, its token and its own client work, and it stores what it is given."""
    assert server.version().startswith(VERSIONS[server.program])
    server.request("POST", "sys/mounts/parts", {"type": "kv"})
    server.cli("write", "parts/greeting", "text=hello")
    assert server.request("GET", "parts/greeting")["data"] == {"text": "hello"}
    looked_up = json.loads(server.cli("token", "lookup", "-format=json").stdout)
    assert looked_up["data"]["policies"] == ["root"]
    with pytest.raises(ServerFailed, match="403"):
        server.request("GET", "parts/greeting", token="made-up")


# -- servers as processes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_dev_server_starts_with_the_chosen_token_and_leaves_no_process(
    kind: type[ServerProcess], tmp_path: Path
) -> None:
    with kind(tmp_path, root_token="chosen-root") as server:
        session = server.pid
        assert server.root_token == "chosen-root"
        assert server.address == f"http://127.0.0.1:{server.port}"
        works_as_a_vault(server)

    assert not server.running
    assert processes_of_session(session) == []
    assert refused(server.port)


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_dev_server_takes_configuration_of_ones_own(kind: type[ServerProcess], tmp_path: Path) -> None:
    with kind(tmp_path, config='default_lease_ttl = "77s"\n') as server:
        assert server.request("GET", "sys/mounts/secret/tune")["data"]["default_lease_ttl"] == 77


@pytest.mark.parametrize("kind", PROCESSES)
def test_a_durable_server_can_be_sealed_restarted_and_crashed_and_keeps_what_it_holds(
    kind: type[ServerProcess], tmp_path: Path
) -> None:
    with kind(tmp_path, storage="raft") as server:
        works_as_a_vault(server)
        address, token = server.address, server.root_token

        server.seal()
        with pytest.raises(ServerFailed, match=r"503.*sealed"):
            server.request("GET", "parts/greeting")
        server.unseal()
        assert server.request("GET", "parts/greeting")["data"] == {"text": "hello"}

        server.restart()
        assert server.request("GET", "parts/greeting")["data"] == {"text": "hello"}

        session = server.pid
        server.kill()
        assert processes_of_session(session) == []
        assert refused(server.port)
        server.start()
        assert server.request("GET", "parts/greeting")["data"] == {"text": "hello"}
        assert (server.address, server.root_token) == (address, token)


@pytest.mark.parametrize("kind", PROCESSES)
def test_the_listener_of_a_durable_server_is_tuned_and_speaks_tls(
    kind: type[ServerProcess], tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path)
    listener: dict[str, Setting] = {
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "max_request_size": 2048,
    }

    with kind(tmp_path / "server", storage="raft", listener=listener, ca_file=certificate) as server:
        assert server.address.startswith("https://127.0.0.1:")
        works_as_a_vault(server)
        with pytest.raises(ServerFailed, match="413"):
            server.request("PUT", "parts/greeting", {"text": "x" * 4096})
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            httpx.get(f"{server.address}/v1/sys/health", trust_env=False)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ended with status 1 .*nonsense"):
        OpenBaoProcess(tmp_path, arguments=("-nonsense",)).start()


def test_a_restart_is_refused_where_it_would_lose_everything(tmp_path: Path) -> None:
    with OpenBaoProcess(tmp_path) as server, pytest.raises(ServerFailed, match="forgets everything"):
        server.restart()


# -- servers in containers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_containers_server_answers_on_loopback_only_and_is_removed(
    kind: type[ServerContainer], tmp_path: Path
) -> None:
    with kind(tmp_path, root_token="chosen-root") as server:
        identity = server.container.get_container_id()
        published = server.container.get_wrapped_container().attrs["NetworkSettings"]["Ports"]
        assert [(port["HostIp"], int(port["HostPort"])) for port in published["8200/tcp"]] == [
            ("127.0.0.1", int(server.address.rpartition(":")[2]))
        ]
        works_as_a_vault(server)
        assert server.running

    assert (tmp_path / f"{server.program}-container.log").read_text()
    client = docker_client()
    try:
        with pytest.raises(docker.errors.NotFound):
            client.containers.get(identity)
    finally:
        client.close()


# -- the session's shared ones ----------------------------------------------------------------------------------


def test_the_sessions_servers_are_four_different_ones(
    openbao: OpenBaoProcess,
    vault: VaultProcess,
    openbao_container: OpenBaoContainer,
    vault_container: VaultContainer,
) -> None:
    servers: list[Server] = [openbao, vault, openbao_container, vault_container]

    assert len({server.address for server in servers}) == 4
    for server in servers:
        assert server.request("GET", "auth/token/lookup-self")["data"]["policies"] == ["root"]


# -- PostgreSQL -------------------------------------------------------------------------------------------------


def test_postgresql_starts_answers_on_loopback_only_and_leaves_neither_process_nor_data(
    tmp_path: Path,
) -> None:
    with PostgresProcess(tmp_path, settings={"max_connections": "33"}) as server:
        session = server.pid
        with server.connect() as connection:
            assert connection.execute("SHOW max_connections").fetchone() == ("33",)
            assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            row = connection.execute("SHOW data_directory").fetchone()
        wrong = server.dsn.replace(server.password, "guessed")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong, connect_timeout=5)

    assert row is not None
    assert not Path(row[0]).exists()
    assert processes_of_session(session) == []
    assert refused(server.port)


def test_openbaos_database_engine_hands_out_accounts_of_postgresql(
    openbao: OpenBaoProcess, postgres: PostgresProcess
) -> None:
    openbao.request("POST", "sys/mounts/parts-database", {"type": "database"})
    openbao.request(
        "POST",
        "parts-database/config/parts",
        {
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "reader",
            "connection_url": postgres.connection_url,
            "username": "postgres",
            "password": postgres.password,
        },
    )
    openbao.request(
        "POST",
        "parts-database/roles/reader",
        {
            "db_name": "parts",
            "creation_statements": "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'",
            "default_ttl": "60s",
        },
    )

    issued = openbao.request("GET", "parts-database/creds/reader")["data"]

    with psycopg.connect(
        host=postgres.host,
        port=postgres.port,
        dbname="postgres",
        user=issued["username"],
        password=issued["password"],
        connect_timeout=5,
    ) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (issued["username"],)
    openbao.request("DELETE", "sys/mounts/parts-database")


# -- Chromium ---------------------------------------------------------------------------------------------------


def test_chromium_signs_in_to_the_web_ui_of_openbao(
    openbao: OpenBaoProcess, chromium: webdriver.Chrome
) -> None:
    sign_in(chromium, openbao.address, openbao.root_token)

    assert "OpenBao" in chromium.title
    WebDriverWait(chromium, 30).until(lambda page: "secret/" in page.find_element("tag name", "body").text)


def test_chromium_reaches_nothing_but_this_machine(chromium: webdriver.Chrome) -> None:
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        chromium.get("http://example.com/")


def test_chromium_leaves_no_process_when_it_is_closed(tmp_path: Path) -> None:
    with start_chromium(tmp_path) as browser:
        session = browser.service.process.pid
        assert len(browser_processes(tmp_path, session)) > 3

    assert browser_processes(tmp_path, session) == []


def test_chromium_leaves_no_process_when_its_driver_crashes(tmp_path: Path) -> None:
    with start_chromium(tmp_path) as browser:
        session = browser.service.process.pid
        os.kill(session, signal.SIGKILL)

    assert browser_processes(tmp_path, session) == []


# -- helpers ----------------------------------------------------------------------------------------------------


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test server")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file
