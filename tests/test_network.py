"""The network: TLS, proxies, redirects, connections and timeouts."""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trustme

from sandbox.account import Account
from tests.fake_trackly import KEY, FakeTrackly, Fault, answer, close, drip, reset, silence
from tests.servers import relay, serving
from tests.tap import Run, run_tap

AUTHORITY = trustme.CA()
USER = "user:pa55word"
BASIC = f"Basic {b64encode(USER.encode()).decode()}"


def certified(*hosts: str) -> ssl.SSLContext:
    """Return a TLS context with a certificate of the authority for these hosts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*hosts).configure_cert(context)
    return context


@pytest.fixture
def secure() -> Iterator[FakeTrackly]:
    """The account over TLS."""
    with serving(FakeTrackly(Account(25), certified("127.0.0.1", "trackly.invalid"))) as trackly:
        yield trackly


@pytest.fixture
def trusting(tmp_path: Path) -> dict[str, str]:
    """Environment variables that make the tap trust the authority."""
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    return {"REQUESTS_CA_BUNDLE": str(tmp_path / "authority.pem")}


def test_tls(secure: FakeTrackly, trusting: dict[str, str]) -> None:
    run = secure.sync(page_size=10, variables=trusting)
    assert run.ids == sorted(secure.account.offers)
    assert not run.lines("WARNING")


def test_untrusted_certificate(secure: FakeTrackly) -> None:
    secure.run().assert_failed(secure.url, "certificate verif")
    assert secure.requests == []


def test_certificate_of_another_host(trusting: dict[str, str]) -> None:
    with serving(FakeTrackly(Account(1), certified("trackly.invalid"))) as trackly:
        trackly.run(variables=trusting).assert_failed(trackly.url, "certificate verif")
    assert trackly.requests == []


@pytest.mark.parametrize("user", ["", f"{USER}@"], ids=["without user", "with user"])
def test_http_proxy(trackly: FakeTrackly, user: str) -> None:
    """The fake Trackly is the proxy, and gets the requests for a host that does not exist."""
    proxy = f"http://{user}127.0.0.1:{trackly.server_port}"
    run = trackly.sync(api_url="http://trackly.invalid/api/v2", variables={"NO_PROXY": "", "HTTP_PROXY": proxy})
    assert run.ids == sorted(trackly.account.offers)
    assert {request.headers["Host"] for request in trackly.requests} == {"trackly.invalid"}
    assert {request.headers.get("Proxy-Authorization") for request in trackly.requests} == {BASIC if user else None}
    assert USER not in run.log


def test_no_proxy(trackly: FakeTrackly) -> None:
    run = trackly.sync(variables={"NO_PROXY": "127.0.0.1", "HTTP_PROXY": "http://127.0.0.1:9"})
    assert not run.lines("WARNING")


class Proxy(BaseHTTPRequestHandler):
    """A proxy with a password, which can reach trackly.invalid."""

    def do_CONNECT(self) -> None:
        if self.headers.get("Proxy-Authorization") != BASIC:
            self.send_error(407)
            return
        host, _, port = self.path.rpartition(":")
        assert host == "trackly.invalid"
        with socket.create_connection(("127.0.0.1", int(port))) as origin:
            self.send_response(200)
            self.end_headers()
            relay(self.connection, origin)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Log nothing."""


@pytest.fixture
def proxy() -> Iterator[str]:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Proxy)) as server:
        yield f"127.0.0.1:{server.server_port}"


def through(proxy: str, user: str, secure: FakeTrackly, trusting: dict[str, str], **settings: Any) -> Run:
    variables = {**trusting, "NO_PROXY": "", "HTTPS_PROXY": f"http://{user}@{proxy}"}
    url = secure.url.replace("127.0.0.1", "trackly.invalid")
    return secure.run(page_size=10, api_url=url, variables=variables, **settings)


def test_proxy_without_a_host(trackly: FakeTrackly) -> None:
    run = trackly.run(variables={"NO_PROXY": "", "HTTP_PROXY": "http://:passw0rd@"})
    run.assert_failed("HTTP_PROXY")
    assert "passw0rd" not in run.log


def test_https_proxy(secure: FakeTrackly, trusting: dict[str, str], proxy: str) -> None:
    run = through(proxy, USER, secure, trusting)
    assert run.status == 0, run.log
    assert run.ids == sorted(secure.account.offers)
    assert not run.lines("WARNING")


@pytest.mark.parametrize("user", ["", "user:wr0ng"], ids=["without user", "wrong password"])
def test_https_proxy_authentication_fails(secure: FakeTrackly, trusting: dict[str, str], proxy: str, user: str) -> None:
    run = through(proxy, user, secure, trusting)
    run.assert_failed("https://trackly.invalid", "407")
    assert "wr0ng" not in run.log
    assert secure.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_redirects_are_not_followed(trackly: FakeTrackly, status: int) -> None:
    with serving(FakeTrackly(Account(1))) as other:
        trackly.inject(answer("", status, Location=f"{other.url}/offers?page=1"), times=inf)
        host = f"127.0.0.1:{other.server_port}"
        trackly.run().assert_failed(f"HTTP {status}", "api_url", host)
    assert other.requests == []
    assert len(trackly.requests) == 2, "one for each listing"


def test_connections_are_kept_alive(trackly: FakeTrackly) -> None:
    trackly.sync(page_size=1, concurrency=2)
    assert len({request.port for request in trackly.requests}) <= 2 < len(trackly.requests)


@pytest.mark.parametrize("fault", [close, reset])
def test_closed_keep_alive_connection(trackly: FakeTrackly, fault: Fault) -> None:
    trackly.inject(fault, page=3)
    run = trackly.sync(page_size=10, concurrency=1)
    assert run.ids == sorted(trackly.account.offers)
    first, second = trackly.asked(page=3)[:2]
    assert first.port in {request.port for request in trackly.asked(page=1)}
    assert second.port != first.port


def test_tunnel_that_was_closed_while_idle(secure: FakeTrackly, trusting: dict[str, str], proxy: str) -> None:
    secure.inject(close, page=3)
    run = through(proxy, USER, secure, trusting, concurrency=1)
    assert run.status == 0, run.log
    assert run.ids == sorted(secure.account.offers)
    assert len(secure.asked(page=3)) >= 2


SLOW = {
    "silence": silence,
    "in the body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"),
    "in a chunk": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n{"),
}


def assert_given_up(trackly: FakeTrackly, fault: Fault, **variables: str) -> None:
    """Check that the tap stops waiting for the response, and retries."""
    trackly.inject(fault, page=2)
    run = trackly.sync(page_size=10, request_timeout=1, variables=variables)
    assert run.ids == sorted(trackly.account.offers)
    ((line, _),) = run.retries
    assert "page=2" in line
    assert "timed out" in line


@pytest.mark.parametrize("name", SLOW)
def test_endless_response(trackly: FakeTrackly, name: str) -> None:
    assert_given_up(trackly, SLOW[name])


@pytest.mark.parametrize("name", ["silence", "in the body"])
def test_endless_response_over_tls(secure: FakeTrackly, trusting: dict[str, str], name: str) -> None:
    assert_given_up(secure, SLOW[name], **trusting)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_silent_server(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
        run = run_tap({"api_key": KEY, "api_url": url, "request_timeout": 1, "max_retries": 0})
    run.assert_failed(url, "time")
