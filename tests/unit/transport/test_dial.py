"""Reaching a server: whatever goes wrong there, nothing was sent, and it takes no longer than allowed."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.transport.server import Peer, ScriptedServer, always, answer, once

from aikeys.framework.deadline import Deadline
from aikeys.transport import KeepAliveTransport, Limits, Origin, request_was_sent, tls_context

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    """A CA of our own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def server(
        self, folder: Path, *, host: str = "127.0.0.1", ends: datetime.timedelta = DAY
    ) -> ssl.SSLContext:
        """A server's TLS context with a certificate for `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        name: x509.GeneralName
        try:
            name = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 2 * DAY)
            .not_valid_after(NOW + ends)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        path = folder / "server.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def trusting(authority: Authority) -> Iterator[KeepAliveTransport]:
    transport = KeepAliveTransport(tls=tls_context(authority.pem))
    yield transport
    transport.close()


@contextlib.contextmanager
def _full_listener() -> Iterator[tuple[str, int]]:
    """An address that answers no further SYN: Linux drops them once the accept queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address: tuple[str, int] = listener.getsockname()
        filling = [socket.socket() for _ in range(3)]
        for sock in filling:
            sock.setblocking(False)
            sock.connect_ex(address)
        yield address
        for sock in filling:
            sock.close()


def get(transport: KeepAliveTransport, url: str, **options: Any) -> bytes:
    return transport.send(Origin.parse(url), b"GET", b"/", **options).body


def refused(transport: KeepAliveTransport, url: str, **options: Any) -> httpx.TransportError:
    with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)) as failed:
        get(transport, url, **options)
    assert not request_was_sent(failed.value)
    return failed.value


def test_a_refused_connection_sent_nothing(transport: KeepAliveTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "ECONNREFUSED" in str(refused(transport, f"http://127.0.0.1:{port}"))


def test_a_server_that_does_not_accept_is_left_in_time(transport: KeepAliveTransport) -> None:
    with _full_listener() as address:
        started = time.monotonic()
        error = refused(transport, f"http://127.0.0.1:{address[1]}", limits=Limits(connect=0.2))
        assert isinstance(error, httpx.ConnectTimeout)
        error = refused(transport, f"http://127.0.0.1:{address[1]}", deadline=Deadline.after(0.2))
        assert isinstance(error, httpx.ConnectTimeout)
        assert time.monotonic() - started < 2


def test_a_name_that_does_not_resolve_sent_nothing(
    transport: KeepAliveTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "does not resolve" in str(refused(transport, "http://relay.invalid"))


def test_a_name_server_that_hangs_is_left_in_time(
    transport: KeepAliveTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*args: object, **options: object) -> list[object]:
        time.sleep(4)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = time.monotonic()
    error = refused(transport, "http://relay.invalid", limits=Limits(connect=0.1))
    assert isinstance(error, httpx.ConnectTimeout)
    assert time.monotonic() - started < 3


def test_every_address_of_a_name_is_tried(
    transport: KeepAliveTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(always(answer(b"second"))) as server, socket.create_server(("127.0.0.1", 0)) as dead:
        dead_address = dead.getsockname()
        dead.close()
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        addresses = [(*stream, dead_address), (*stream, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: addresses)
        assert get(transport, "http://relay.invalid") == b"second"


def test_a_silent_address_leaves_time_for_the_next(
    transport: KeepAliveTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(always(answer(b"second"))) as server, _full_listener() as silent:
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        addresses = [(*stream, silent), (*stream, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: addresses)
        assert get(transport, "http://relay.invalid", limits=Limits(connect=0.6)) == b"second"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_with_our_authority_keeps_its_connection(
    authority: Authority, trusting: KeepAliveTransport, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    context = authority.server(tmp_path)
    context.minimum_version = context.maximum_version = version
    large = b"x" * 300_000
    with ScriptedServer(always(answer(large)), tls=context) as server:
        assert [get(trusting, server.url) for _ in range(3)] == [large] * 3
        body = trusting.send(Origin.parse(server.url), b"POST", b"/", (), large).body
        assert body == large
        assert server.requests[-1].body == large
        assert server.connections == 1


def test_a_tls_connection_closed_while_idle_is_noticed(
    authority: Authority, trusting: KeepAliveTransport, tmp_path: Path
) -> None:
    with ScriptedServer(once(answer()), always(answer()), tls=authority.server(tmp_path)) as server:
        get(trusting, server.url)
        time.sleep(0.05)
        trusting.send(Origin.parse(server.url), b"POST", b"/", (), b"{}")
        assert len(server.requests) == 2


def test_a_cut_answer_over_tls_is_an_error(
    authority: Authority, trusting: KeepAliveTransport, tmp_path: Path
) -> None:
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    with (
        ScriptedServer(once(cut), tls=authority.server(tmp_path)) as server,
        pytest.raises(httpx.RemoteProtocolError, match="cut short"),
    ):
        get(trusting, server.url)


def test_a_silent_server_over_tls_is_left_in_time(
    authority: Authority, trusting: KeepAliveTransport, tmp_path: Path
) -> None:
    def silent(peer: Peer) -> None:
        peer.request()
        peer.wait_for_close()

    with ScriptedServer(silent, tls=authority.server(tmp_path)) as server:
        started = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            get(trusting, server.url, deadline=Deadline.after(0.3))
        assert time.monotonic() - started < 2


def test_an_authority_may_be_given_as_a_file(authority: Authority, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(authority.pem)
    transport = KeepAliveTransport(tls=tls_context(str(path)))
    with ScriptedServer(always(answer(b"ok")), tls=authority.server(tmp_path)) as server:
        assert get(transport, server.url) == b"ok"
    transport.close()


@pytest.mark.parametrize(
    "text", ["-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----", "/nowhere"]
)
def test_an_authority_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="must be PEM"):
        tls_context(text)


def test_an_unknown_authority_is_refused_before_anything_is_sent(
    authority: Authority, transport: KeepAliveTransport, tmp_path: Path
) -> None:
    with ScriptedServer(always(answer()), tls=authority.server(tmp_path)) as server:
        assert "not trusted" in str(refused(transport, server.url))
        assert server.requests == []


def test_a_certificate_for_another_host_is_refused(
    authority: Authority, trusting: KeepAliveTransport, tmp_path: Path
) -> None:
    with ScriptedServer(always(answer()), tls=authority.server(tmp_path, host="other.example")) as server:
        assert "not trusted" in str(refused(trusting, server.url))
        assert server.requests == []


def test_an_expired_certificate_is_refused(
    authority: Authority, trusting: KeepAliveTransport, tmp_path: Path
) -> None:
    with ScriptedServer(always(answer()), tls=authority.server(tmp_path, ends=-DAY)) as server:
        assert "expired" in str(refused(trusting, server.url))


def test_old_tls_is_refused(authority: Authority, trusting: KeepAliveTransport, tmp_path: Path) -> None:
    context = authority.server(tmp_path)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with ScriptedServer(always(answer()), tls=context) as server:
        assert "handshake failed" in str(refused(trusting, server.url))


def test_a_server_without_tls_is_refused(trusting: KeepAliveTransport) -> None:
    with ScriptedServer(lambda peer: peer.send(answer())) as server:
        url = server.url.replace("http:", "https:")
        assert "handshake failed" in str(refused(trusting, url))


def test_a_stalled_handshake_is_left_in_time(trusting: KeepAliveTransport) -> None:
    def stall(peer: Peer) -> None:
        peer.sock.recv(4096)
        peer.wait_for_close()

    with ScriptedServer(stall) as server:
        url = server.url.replace("http:", "https:")
        started = time.monotonic()
        error = refused(trusting, url, limits=Limits(connect=0.2))
        assert isinstance(error, httpx.ConnectTimeout)
        assert time.monotonic() - started < 3
