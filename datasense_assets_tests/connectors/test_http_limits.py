"""The HTTP client's bounds: how long it waits for whom, how long an answer may take, how large it may grow."""

from __future__ import annotations

import gzip
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from datasense_assets.connectors import NetworkPolicy, http, network
from datasense_assets.connectors.base import ReadStats
from datasense_assets.connectors.errors import BadConfig, BadData, CredentialRefused, Throttled, Unavailable
from datasense_assets.connectors.http import HttpClient
from datasense_assets_tests.connectors.conftest import Answer, Web

PAGE = b"<html><head><title>Gateway</title></head><body>upstream</body></html>"
HTML = {"Content-Type": "text/html"}


@pytest.fixture
def client(local_policy: NetworkPolicy, pauses: list[float]) -> Iterator[HttpClient]:
    client = HttpClient(local_policy, ReadStats(), authorization="Token s3cr3t")
    yield client
    client.close()


@pytest.mark.parametrize(
    ("status", "body", "headers", "wait"),
    [
        (429, b"{}", {"Retry-After": "7"}, 7.0),
        (503, PAGE, {"Retry-After": "7", **HTML}, 7.0),
        (417, b'{"error": {"message": "Please wait for 9 seconds before trying again."}}', {}, 9.0),
        (409, b"{}", {"Retry-After": "2"}, 2.0),
        (429, b"{}", {"Retry-After": "0"}, 0.0),
    ],
)
def test_a_delay_that_the_server_names_is_kept_exactly_and_the_call_repeated(
    web: Web, client: HttpClient, pauses: list[float], status: int, body: bytes, headers: Mapping[str, str], wait: float
) -> None:
    assert client.get_json(web.on("/a", Answer(body, status, headers), b"1")) == 1
    assert pauses == [wait]


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (500, PAGE, HTML),
        (502, PAGE, HTML),
        (503, PAGE, HTML),
        (504, PAGE, HTML),
        (408, b"", {}),
        (409, b"{}", {}),
        (429, b"{}", {}),
    ],
)
def test_without_one_the_waits_double_from_a_second(
    web: Web, client: HttpClient, pauses: list[float], status: int, body: bytes, headers: Mapping[str, str]
) -> None:
    failing = Answer(body, status, headers)
    assert client.get_json(web.on("/a", failing, failing, b"1")) == 1
    assert 0.75 <= pauses[0] <= 1.25
    assert 1.5 <= pauses[1] <= 2.5


def test_all_waits_of_one_call_together_are_bounded(web: Web, client: HttpClient, pauses: list[float]) -> None:
    again = Answer(status=429, headers={"Retry-After": "35"})
    with pytest.raises(Throttled) as caught:
        client.get_json(web.on("/a", again))
    assert pauses == [35.0]
    assert caught.value.retry_after == 35.0


@contextmanager
def trickling(start: bytes) -> Iterator[tuple[str, list[int]]]:
    """A server that goes on for ever, a byte at a time: its address, and a number for each connection."""
    came: list[int] = []
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(start)
            while not ended.wait(0.02):
                connection.sendall(b"a")

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                came.append(len(came))
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/", came
    ended.set()
    listener.close()


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\n\r\n[", b"HTTP/1.1 500 Oh\r\n\r\n"],
    ids=["status", "headers", "body", "error-body"],
)
def test_an_answer_that_trickles_for_ever_ends_at_a_deadline_and_is_not_asked_for_again(
    client: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(http, "MAX_JSON_SECONDS", 0.5)
    monkeypatch.setattr(http, "MAX_FILE_SECONDS", 0.5)
    with trickling(start) as (url, came):
        # that it ends is what this is about: such a server never does
        with pytest.raises(Unavailable, match="too long to answer"):
            client.get_json(url)
        with pytest.raises(Unavailable, match="too long to answer"):
            client.download(url, tmp_path / "file")
    assert len(came) == 2


def test_a_deadline_is_of_one_request_and_the_next_starts_anew(
    web: Web, client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = web.on("/a", b"1")
    assert client.get_json(url) == 1
    later = time.monotonic() + http.MAX_JSON_SECONDS + 1
    monkeypatch.setattr(network, "time", SimpleNamespace(monotonic=lambda: later))
    monkeypatch.setattr(http, "time", SimpleNamespace(monotonic=lambda: later))
    assert client.get_json(url) == 1


def test_a_small_answer_that_unpacks_to_a_large_one_is_refused(
    web: Web, client: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_JSON_BYTES", 100_000)
    monkeypatch.setattr(http, "MAX_FILE_BYTES", 100_000)
    packed = gzip.compress(b"[" + b" " * 1_000_000 + b"]")
    assert len(packed) < 2000
    url = web.on("/a", Answer(packed, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(BadData, match="100,000 bytes"):
        client.get_json(url)
    with pytest.raises(BadData, match="100,000 bytes"):
        client.download(url, tmp_path / "file")


@pytest.mark.parametrize("packing", ["gzip, gzip", "br", "zstd", "compress"])
def test_a_packing_that_was_not_asked_for_is_not_unpacked(web: Web, client: HttpClient, packing: str) -> None:
    body = gzip.compress(gzip.compress(b"[1]"))
    with pytest.raises(BadData, match="packing"):
        client.get_json(web.on("/a", Answer(body, headers={"Content-Encoding": packing})))
    with pytest.raises(CredentialRefused):
        client.get_json(web.on("/b", Answer(body, 401, {"Content-Encoding": packing})))
    assert web.seen[0].headers["accept-encoding"] == "gzip, deflate"


def test_every_way_to_write_a_private_address_is_refused(web: Web, pauses: list[float]) -> None:
    public_only = HttpClient(NetworkPolicy(), ReadStats())
    for host in ("2130706433", "0x7f.1", "127.1", "0177.0.0.1", "0", "[::1]", "[::ffff:7f00:1]", "[::127.0.0.1]"):
        with pytest.raises((BadConfig, Unavailable)):
            public_only.get_json(f"http://{host}:{web.port}/a")
    assert web.seen == []
    public_only.close()


@pytest.mark.parametrize("address", ["::127.0.0.1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "3fff::1"])
def test_of_ipv6_only_what_is_handed_out_to_the_world_is_public(address: str) -> None:
    documentation = address == "3fff::1"  # which Python counts among the public ones in some releases
    assert documentation or not network.may_connect(ipaddress.ip_address(address), allow_private=False)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A server with TLS: its address, and the certificate that it would have to be trusted by."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    both = tmp_path / "server.pem"
    both.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    web = Web()
    web.on("/a", b"[1]")
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    thread = threading.Thread(target=web.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"https://localhost:{web.port}/a", both
    web.server.shutdown()
    web.server.server_close()
    thread.join()


def test_tls_proves_the_servers_name_although_its_address_is_what_is_connected_to(
    secured: tuple[str, Path], local_policy: NetworkPolicy, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, certificate = secured
    with pytest.raises(Unavailable, match="certificate"):
        HttpClient(local_policy, ReadStats()).get_json(url)
    monkeypatch.setattr(network, "_ssl_context", lambda: ssl.create_default_context(cafile=str(certificate)))
    trusting = HttpClient(local_policy, ReadStats(), authorization="Token s3cr3t")
    assert trusting.get_json(url) == [1]
    with pytest.raises(Unavailable, match="certificate"):
        trusting.get_json(url.replace("localhost", "127.0.0.1"))
    trusting.close()
