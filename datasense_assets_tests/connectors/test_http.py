"""The HTTP client: where credentials may go, where connections may go, how long it waits, what its errors say."""

from __future__ import annotations

import ipaddress
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasense_assets.connectors import NetworkPolicy, http
from datasense_assets.connectors.addresses import shown
from datasense_assets.connectors.answers import failure_of, retry_after_seconds, web_page_words
from datasense_assets.connectors.authorization import header_value
from datasense_assets.connectors.base import ReadStats
from datasense_assets.connectors.errors import (
    AccessForbidden,
    BadConfig,
    BadData,
    CredentialRefused,
    ResourceGone,
    SourceError,
    Throttled,
    Unavailable,
)
from datasense_assets.connectors.http import HttpClient
from datasense_assets.connectors.network import may_connect
from datasense_assets_tests.connectors.conftest import Answer, Web

TOKEN = "s3cr3t-t0ken"
SIGNATURE = "s1gn3d"


@pytest.fixture
def client(local_policy: NetworkPolicy, pauses: list[float]) -> HttpClient:
    return HttpClient(local_policy, ReadStats(), authorization=header_value("Token", TOKEN))


def stats_of(client: HttpClient) -> ReadStats:
    return client._stats


def test_the_credential_goes_in_a_header_and_calls_are_counted(web: Web, client: HttpClient) -> None:
    assert client.get_json(web.on("/a", b'{"n": 1}'), {"q": "x y"}) == {"n": 1}
    assert web.seen[0].headers["authorization"] == f"Token {TOKEN}"
    assert TOKEN not in web.seen[0].path
    assert web.seen[0].headers["user-agent"].startswith("datasense-assets")
    assert (stats_of(client).api_calls, stats_of(client).bytes) == (1, 8)


def test_a_redirect_to_another_host_is_refused_before_it_is_asked(web: Web, client: HttpClient) -> None:
    web.on("/stolen", b"{}")
    url = web.on("/a", Answer(status=302, headers={"Location": f"{web.other_host}/stolen"}))
    with pytest.raises(BadConfig, match="another server"):
        client.get_json(url)
    assert [s.path for s in web.seen] == ["/a"]


def test_a_download_follows_to_another_host_without_the_credential(
    web: Web, local_policy: NetworkPolicy, tmp_path: Path
) -> None:
    client = HttpClient(local_policy, ReadStats(), authorization=f"Bearer {TOKEN}", follow_elsewhere=True)
    web.on("/signed", b"a,b\n")
    url = web.on("/a", Answer(status=302, headers={"Location": f"{web.other_host}/signed"}))
    client.download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"a,b\n"
    assert ["authorization" in s.headers for s in web.seen] == [True, False]


def test_a_credential_once_left_behind_does_not_come_back(
    web: Web, local_policy: NetworkPolicy, tmp_path: Path
) -> None:
    client = HttpClient(local_policy, ReadStats(), authorization=f"Bearer {TOKEN}", follow_elsewhere=True)
    web.on("/back", Answer(status=302, headers={"Location": f"{web.url}/end"}))
    web.on("/end", b"x")
    client.download(web.on("/a", Answer(status=302, headers={"Location": f"{web.other_host}/back"})), tmp_path / "x")
    assert ["authorization" in s.headers for s in web.seen] == [True, False, False]


def test_a_redirect_on_the_same_host_keeps_the_credential(web: Web, client: HttpClient) -> None:
    web.on("/b/", b"[]")
    assert client.get_json(web.on("/b", Answer(status=301, headers={"Location": "/b/"}))) == []
    assert all("authorization" in s.headers for s in web.seen)


def test_redirects_without_end_and_to_other_schemes_are_refused(web: Web, client: HttpClient) -> None:
    with pytest.raises(BadConfig, match="without end"):
        client.get_json(web.on("/loop", Answer(status=302, headers={"Location": "/loop"})))
    free = HttpClient(NetworkPolicy(allow_private_addresses=True), ReadStats())
    for target in ("file:///etc/passwd", "http://[bad"):
        with pytest.raises(BadConfig):
            free.get_json(web.on("/f", Answer(status=302, headers={"Location": target})))


def test_a_private_address_is_refused_before_connecting(web: Web, pauses: list[float]) -> None:
    client = HttpClient(NetworkPolicy(), ReadStats())
    for url in (web.on("/a", b"{}"), f"{web.other_host}/a", f"http://[::ffff:127.0.0.1]:{web.port}/a"):
        with pytest.raises(BadConfig, match="private network"):
            client.get_json(url)
    assert web.seen == []


def test_a_redirect_into_the_private_network_is_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(
        "datasense_assets.connectors.network.may_connect", lambda a, **_: a == ipaddress.ip_address("127.0.0.1")
    )
    monkeypatch.setattr(socket, "getaddrinfo", real)
    client = HttpClient(NetworkPolicy(), ReadStats())
    url = web.on("/a", Answer(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data"}))
    with pytest.raises(BadConfig, match="private network"):
        client.get_json(url)


def test_the_socket_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    """A name that is public when checked and private when connected (DNS rebinding) is never resolved twice."""
    answers = iter(["93.184.216.34", "127.0.0.1", "127.0.0.1", "127.0.0.1"])
    connected: list[str] = []

    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 80))]

    def connect(self: Any, host: str, *_: Any, **__: Any) -> Any:
        connected.append(host)
        raise httpcore.ConnectError("refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    with pytest.raises(BadConfig, match="private network"):
        HttpClient(NetworkPolicy(), ReadStats()).get_json("http://rebind.example/")
    assert connected == ["93.184.216.34"]


@pytest.mark.parametrize(
    ("address", "public", "allowed"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700::1111", True, True),
        ("10.1.2.3", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fd00::1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("0.0.0.0", False, False),
        ("224.0.0.1", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("::ffff:10.0.0.1", False, True),
        ("64:ff9b::7f00:1", False, True),
        ("2002:7f00:1::", False, True),
    ],
)
def test_which_addresses_may_be_connected_to(address: str, public: bool, allowed: bool) -> None:
    parsed = ipaddress.ip_address(address)
    assert may_connect(parsed, allow_private=False) is public
    assert may_connect(parsed, allow_private=True) is allowed


def test_the_servers_own_delay_is_waited_and_counted(web: Web, client: HttpClient, pauses: list[float]) -> None:
    url = web.on(
        "/a", Answer(status=429, headers={"Retry-After": "7"}), Answer(b"please wait for 9 seconds", 417), b"1"
    )
    assert client.get_json(url) == 1
    assert pauses == [7.0, 9.0]
    assert stats_of(client).throttled_seconds == 16.0
    assert stats_of(client).api_calls == 3


def test_a_delay_that_is_too_long_is_left_to_the_run(web: Web, client: HttpClient, pauses: list[float]) -> None:
    with pytest.raises(Throttled) as caught:
        client.get_json(web.on("/a", Answer(status=503, headers={"Retry-After": "3600"})))
    assert caught.value.retry_after == 3600
    assert pauses == []
    assert len(web.seen) == 1


def test_attempts_are_bounded(web: Web, client: HttpClient, pauses: list[float]) -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
    with pytest.raises(Unavailable, match=r"502 \(502 Bad Gateway nginx\)"):
        client.get_json(web.on("/a", Answer(page, 502, {"Content-Type": "text/html"})))
    assert len(web.seen) == http.ATTEMPTS
    assert len(pauses) == http.ATTEMPTS - 1
    assert pauses == sorted(pauses)


def test_a_body_cut_short_is_asked_for_again(web: Web, client: HttpClient, tmp_path: Path) -> None:
    url = web.on("/a", Answer(b"half", headers={"Content-Length": "100"}), b"the whole")
    client.download(url, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"the whole"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, CredentialRefused),
        (403, AccessForbidden),
        (404, ResourceGone),
        (410, ResourceGone),
        (412, AccessForbidden),
        (400, BadConfig),
    ],
)
def test_what_does_not_help_to_repeat_is_not_repeated(
    web: Web, client: HttpClient, status: int, error: type[SourceError]
) -> None:
    with pytest.raises(error, match="no such thing") as caught:
        client.get_json(web.on("/a", Answer(b'{"detail": "no such thing"}', status)))
    assert caught.value.permanent
    assert caught.value.advice
    assert len(web.seen) == 1


def test_no_secret_is_in_any_error(web: Web, client: HttpClient, local_policy: NetworkPolicy) -> None:
    echo = Answer(f'{{"detail": "bad header: Token {TOKEN}, {TOKEN}"}}'.encode(), 401)
    errors: list[BaseException] = []
    for url in (web.on("/echo", echo), "http://127.0.0.1:9/refused"):
        try:
            client.get_json(url, {"signature": SIGNATURE})
        except SourceError as error:
            errors.append(error)
    for secret in (f"{TOKEN}\nX: y", f"ключ{TOKEN}", f"a {TOKEN}", ""):
        try:
            HttpClient(local_policy, ReadStats(), authorization=header_value("Token", secret))
        except CredentialRefused as error:
            errors.append(error)
    assert len(errors) == 6
    for error in errors:
        told = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args) + repr(client)
        assert TOKEN not in told
        assert SIGNATURE not in told
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None


def test_a_credential_read_from_a_file_may_end_in_a_line_break() -> None:
    assert header_value("Token", f"{TOKEN}\n") == f"Token {TOKEN}"


def test_a_body_beyond_the_limit_is_refused(
    web: Web, client: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_JSON_BYTES", 1000)
    monkeypatch.setattr(http, "MAX_FILE_BYTES", 1000)
    url = web.on("/a", b"[" + b" " * 2000 + b"]")
    with pytest.raises(BadData, match="1,000 bytes"):
        client.get_json(url)
    with pytest.raises(BadData, match="1,000 bytes"):
        client.download(url, tmp_path / "x")


def test_a_web_page_instead_of_json_points_at_the_address(web: Web, client: HttpClient) -> None:
    with pytest.raises(BadConfig, match=r"web page \(Sign in\)"):
        client.get_json(web.on("/a", b"<!DOCTYPE html><html><script>x()</script><body>Sign in</body></html>"))


def test_a_silent_server_is_unavailable(pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        policy = NetworkPolicy(allow_private_addresses=True, timeout=0.05)
        with pytest.raises(Unavailable, match="silent for too long"):
            HttpClient(policy, ReadStats()).get_json(f"http://127.0.0.1:{silent.getsockname()[1]}/")


def test_a_shared_budget_is_asked_before_each_call_and_told_of_a_throttle_before_the_next_one_may_call(
    web: Web, local_policy: NetworkPolicy, pauses: list[float]
) -> None:
    class Budget:
        def __init__(self) -> None:
            self.told: list[Any] = []

        @contextmanager
        def call(self, host: str) -> Iterator[float]:
            self.told.append("taken")
            try:
                yield 0.5
            finally:
                self.told.append("let go")

        def block(self, host: str, seconds: float) -> None:
            self.told.append((host, seconds))

    budget, stats = Budget(), ReadStats()
    client = HttpClient(local_policy, stats, budget=budget)
    client.get_json(web.on("/a", Answer(status=429, headers={"Retry-After": "3"}), b"1"))
    assert budget.told == ["taken", (f"127.0.0.1:{web.port}", 3.0), "let go", "taken", "let go"]
    assert stats.throttled_seconds == 4.0


def test_proxies_and_passwords_of_the_environment_are_not_used(
    web: Web, local_policy: NetworkPolicy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    HttpClient(local_policy, ReadStats()).get_json(web.on("/a", b"1"))
    assert "authorization" not in web.seen[0].headers


def test_retry_after_as_a_date_counts_from_now_and_never_backwards() -> None:
    now = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
    assert retry_after_seconds({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT"}, "", now) == 30
    assert retry_after_seconds({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT"}, "", now) == 0
    assert retry_after_seconds({"retry-after": "soon"}, "", now) is None
    assert retry_after_seconds({}, "Please wait for 120 seconds", now) == 120


@given(st.integers(400, 599), st.text(max_size=300), st.text(st.characters(codec="ascii"), max_size=40))
def test_every_failing_answer_becomes_one_bounded_message(status: int, body: str, retry_after: str) -> None:
    error = failure_of(status, {"retry-after": retry_after}, body, "https://x.org/a")
    assert error.advice
    assert "https://x.org/a" in error.message
    assert len(error.message) < 400
    assert error.retry_after is None or error.retry_after >= 0


@given(st.text(max_size=200))
def test_words_of_a_page_hold_no_tags(body: str) -> None:
    words = web_page_words(f"<html><body>{body}</body>")
    assert words is not None
    assert len(words) <= 200


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert shown("https://me:pw@x.org:8443/a/b?sig=1#f") == "https://x.org:8443/a/b"
