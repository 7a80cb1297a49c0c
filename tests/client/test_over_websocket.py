"""The client over WebSocket: all that it does over a plain stream, and what can be wrong with a URL."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import client.test_against_server as plain
import pytest
from client.test_against_server import reactor, until
from live import PATIENCE_S, Server
from net.certificate import write_certificate
from twisted.internet.defer import maybeDeferred
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.trial.unittest import TestCase
from twisted.web.pages import notFound
from twisted.web.server import Site

from chatproto.client import CannotConnect, ChatClient
from chatproto.client.address import parse_address
from chatproto.net.factory import ChatFactory
from chatproto.net.frames import FrameProtocol
from chatproto.net.webchat import BinFace
from chatproto.rooms.hub import Hub
from chatproto.websocket import (
    Accepted,
    Request,
    WebSocketFactory,
    WebSocketProtocol,
)


class OverWebSocket(plain.AgainstServer):
    """Whose clients are given a URL."""

    def server(self, number: int) -> str:
        return f"ws://127.0.0.1:{number}/chat"


class Talking(OverWebSocket, plain.Talking):
    async def test_it_is_a_websocket(self) -> None:
        ann, _ = self.client("ann")
        await ann.join()
        (face,) = self.factory().connections
        assert isinstance(face, BinFace)

    async def test_more_than_a_layer_s_queue_may_wait_to_be_said(self) -> None:
        ann, heard = self.client("ann")
        await ann.join()
        receipts = [ann.say("", "x" * 4_096) for _ in range(1_000)]
        assert [(await receipt).seq for receipt in receipts] == list(range(1, 1_001))
        assert heard.of("disconnected") == []


class ByHostAndPort(plain.AgainstServer):
    def server(self, number: int) -> str:
        return f"127.0.0.1:{number}"

    async def test_the_client_speaks_frames(self) -> None:
        ann, _ = self.client("ann")
        assert (await ann.join()).nicks == ("ann",)
        (face,) = self.factory().connections
        assert isinstance(face, FrameProtocol)


class ComingBack(OverWebSocket, plain.ComingBack):
    pass


class Slowly(OverWebSocket, plain.Slowly):
    pass


class WhereThereIsNoChat(TestCase):
    """Each is one sentence, or the end of one."""

    timeout = 4 * PATIENCE_S

    def listen(self, factory: Any) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(self.close, port)
        return int(port.getHost().port)

    async def close(self, port: Any) -> None:
        await maybeDeferred(port.stopListening)
        # That the client has gone is seen in one turn or another.
        await until(lambda: not [one for one in reactor.getReaders() if getattr(one, "server", None) is port])

    async def why(self, url: str) -> str:
        client = ChatClient(url, "ann")
        self.addCleanup(client.stop)
        client.start()
        connected: Any = client.when_connected(max_attempts=1)
        error = await self.assertFailure(connected, CannotConnect)
        assert "\n" not in str(error)
        return str(error)

    async def test_a_place_that_the_server_does_not_have(self) -> None:
        number = self.listen(ChatFactory(Hub(reactor)))
        why = await self.why(f"ws://127.0.0.1:{number}/elsewhere")
        assert why.startswith("the server answered 404 Not Found: There is no page here.")

    async def test_a_site_of_html(self) -> None:
        number = self.listen(Site(notFound(), reactor=reactor))
        assert await self.why(f"ws://127.0.0.1:{number}") == "the server answered 404 Not Found"

    async def test_a_websocket_that_is_no_chat(self) -> None:
        class Silent:
            def buildProtocol(self, request: Request) -> WebSocketProtocol | Accepted:
                return WebSocketProtocol()

        sockets = WebSocketFactory(Silent(), reactor=reactor)
        number = self.listen(sockets)
        why = await self.why(f"ws://127.0.0.1:{number}/chat")
        assert why == "there is a WebSocket, and no chat: it does not speak chat.v1.bin"
        await until(lambda: not sockets.connections)

    async def test_what_is_not_http(self) -> None:
        class Greeter(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

        number = self.listen(Factory.forProtocol(Greeter))
        assert (await self.why(f"ws://127.0.0.1:{number}/chat")).startswith("there is no WebSocket: ")

    async def test_a_server_that_hangs_up(self) -> None:
        class Rude(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        number = self.listen(Factory.forProtocol(Rude))
        why = await self.why(f"ws://127.0.0.1:{number}/chat")
        assert why == "the server closed the connection without an answer"

    async def test_tls_where_there_is_none(self) -> None:
        number = self.listen(ChatFactory(Hub(reactor)))
        assert (await self.why(f"wss://127.0.0.1:{number}/chat")).startswith("TLS failed")

    async def test_a_certificate_that_is_not_trusted(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="chatproto-test-")
        self.addCleanup(folder.cleanup)
        certificate, key = Path(folder.name) / "certificate.pem", Path(folder.name) / "key.pem"
        write_certificate(certificate, key)
        context = DefaultOpenSSLContextFactory(str(key), str(certificate))
        factory: Any = ChatFactory(Hub(reactor))
        port = await SSL4ServerEndpoint(reactor, 0, context, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        number = port.getHost().port
        assert await self.why(f"wss://localhost:{number}/chat") == "its certificate is not trusted"
        await until(lambda: not factory.fronts)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ws://host/chat", "ws://host/chat"),
        ("wss://host:1/a/b?c", "wss://host:1/a/b?c"),
        ("ws://host", "ws://host/chat"),
        ("ws://[::1]:9000", "ws://[::1]:9000/chat"),
        ("WSS://host/", "WSS://host/"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert parse_address(text) == url


@pytest.mark.parametrize("text", ["http://host/", "ws://", "://host", "tcp://host:9000"])
def test_what_is_no_url_of_a_websocket(text: str) -> None:
    with pytest.raises(ValueError, match="a URL begins with ws:// or wss:// and a host"):
        parse_address(text)


@pytest.mark.parametrize("text", ["ws://host:port/", "ws:///chat", "ws://user@host/", "ws://host/#here"])
def test_what_is_no_url_after_all(text: str) -> None:
    with pytest.raises(ValueError, match=r"URL|host"):
        ChatClient(text, "ann")


def connect(*arguments: str, said: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """One run of `chatproto-connect`."""
    return subprocess.run(
        [sys.executable, "-m", "chatproto.client.connect", *arguments, "--nick", "ann"],
        input=said,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestTheProgram:
    def test_it_takes_part_over_websocket(self, server: Server) -> None:
        bob = server.join("bob")
        run = connect(f"ws://127.0.0.1:{server.port}/chat", said="hello\n")
        assert (run.returncode, run.stderr) == (0, "")
        assert "-- you are in lobby, with ann, bob\n" in run.stdout
        bob.gather(lambda: len(bob.received) >= 4, "what ann did")
        assert [message.type for message in bob.received[-3:]] == ["joined", "chat", "left"]

    def test_it_takes_part_over_tls_where_the_certificate_is_trusted(self, tmp_path: Path) -> None:
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        write_certificate(certificate, key)
        listen = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
        with Server("--listen", listen) as secure:
            url = f"wss://localhost:{secure.port}/chat"
            trusting = connect(url, said="hello\n", SSL_CERT_FILE=str(certificate))
            assert (trusting.returncode, trusting.stderr) == (0, "")
            assert "-- you are in lobby, with ann\n" in trusting.stdout
            doubting = connect(url)
            assert doubting.returncode == 3
            assert doubting.stderr == (
                f"chatproto-connect: no connection to {url}: its certificate is not trusted\n"
            )
            other = connect(f"wss://127.0.0.1:{secure.port}/chat", SSL_CERT_FILE=str(certificate))
            assert other.returncode == 3
            assert other.stderr.endswith(": its certificate is another server's\n")

    @pytest.mark.parametrize(
        ("address", "code", "said"),
        [
            ("ws://127.0.0.1:1/chat", 3, "no connection to ws://127.0.0.1:1/chat: "),
            ("http://127.0.0.1/", 2, "a URL begins with ws:// or wss:// and a host"),
            ("ws://127.0.0.1:x/", 2, "'ws://127.0.0.1:x/' has no valid host and port"),
        ],
    )
    def test_what_is_wrong_is_one_sentence(self, address: str, code: int, said: str) -> None:
        run = connect(address)
        assert run.returncode == code
        assert said in run.stderr.splitlines()[-1]
        assert "Traceback" not in run.stderr

    def test_a_refusal_says_why(self, server: Server) -> None:
        url = f"ws://127.0.0.1:{server.port}/elsewhere"
        run = connect(url)
        assert run.returncode == 3
        assert run.stderr.startswith(
            f"chatproto-connect: no connection to {url}: the server answered 404 Not Found: There is no page"
        )
