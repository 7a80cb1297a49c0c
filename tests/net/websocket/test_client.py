"""chatproto.net.websocket.client: WebSockets to other servers, over real sockets."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from net.certificate import write_certificate
from net.loopback import TurnClock, reactor
from net.websocket.applications import Applications, Deciding, Echo, Giving, Recorder, dropping
from net.websocket.memory import answer_bytes
from net.websocket.sockets import WebSocketCase
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ServerEndpoint
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, DefaultOpenSSLContextFactory, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.client import BrowserLikePolicyForHTTPS
from wire.websocket_model import TEXT, frame

from chatproto.websocket import (
    Accepted,
    ConnectionBroken,
    ConnectionClosed,
    Deflate,
    HandshakeFailed,
    Request,
    WebSocketClientEndpoint,
    WebSocketFactory,
    WebSocketLimits,
)
from chatproto.wire.messages import Side


class Scripted(Protocol):
    """A server that answers a request with what the test says, and nothing else."""

    def __init__(self, factory: Server) -> None:
        self._factory = factory
        self._request = b""
        self._answering: object = None

    def dataReceived(self, data: bytes) -> None:
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            self._factory.requests.append(self._request)
            self._answering = self._factory.answer(self._request, self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.lost += 1
        if isinstance(self._answering, Deferred):
            self._answering.addErrback(lambda failure: None)
            self._answering.cancel()


class Server(Factory):
    noisy = False

    def __init__(self, answer: Callable[[bytes, Any], object]) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.lost = 0

    def is_lost(self) -> bool:
        return self.lost > 0

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return Scripted(self)


def saying(*pieces: bytes) -> Callable[[bytes, Any], object]:
    """An answer that comes in pieces, in turns of their own."""

    async def answer(transport: Any) -> None:
        for piece in pieces:
            transport.write(piece)
            await deferLater(reactor, 0.01)

    return lambda request, transport: Deferred.fromCoroutine(answer(transport))


class ClientCase(WebSocketCase):
    def url(self, port: IListeningPort, rest: str = "/path", scheme: str = "ws") -> str:
        address: Any = port.getHost()
        return f"{scheme}://localhost:{address.port}{rest}"

    def endpoint(self, port: IListeningPort, **options: Any) -> WebSocketClientEndpoint:
        """An endpoint whose connections are gone when the test is over."""
        address: Any = port.getHost()
        url = options.pop("url", self.url(port))
        on = options.pop("reactor", reactor)
        tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)
        made = WebSocketClientEndpoint(tcp, url, reactor=on, **options)
        self.addCleanup(made.shut_down)
        return made

    async def failed(self, server: Server, application: Recorder, **options: Any) -> BaseException:
        """What connecting to a scripted server raises."""
        port = await self.listen(server)
        endpoint = self.endpoint(port, **options)
        try:
            await endpoint.connect(Giving(application))
        except Exception as error:
            await self.emptied(endpoint)
            return error
        raise AssertionError("it connected")


class Connecting(ClientCase):
    async def test_the_application_comes_back_when_it_is_open(self) -> None:
        port, _ = await self.serve(Applications(Echo))
        applications = Applications()
        application = await self.endpoint(port).connect(applications)
        assert [application] == applications.made
        assert applications.requests == [self.url(port)]
        assert application.told == ["negotiationStarted", "negotiationFinished"]
        application.transport.sendTextMessage("grüße")
        application.transport.sendBytesMessage(b"\0\xff")
        await self.until(lambda: len(application.heard) == 2)
        assert application.heard == ["grüße", b"\0\xff"]
        assert application.transport.request is None
        assert application.transport.getPeer() == port.getHost()

    async def test_the_server_gets_path_query_headers_and_subprotocols(self) -> None:
        requests: list[Request] = []

        def note(request: Request) -> Accepted:
            requests.append(request)
            return Accepted(Recorder(), "b")

        port, _ = await self.serve(Deciding(note))
        endpoint = self.endpoint(
            port,
            url="ws://server.example:8080/a/b?c=%20d",
            subprotocols=["a", "b"],
            headers=[("Authorization", "Bearer x"), ("X-Two", "1"), ("X-Two", "2")],
        )
        application = await endpoint.connect(Applications())
        [request] = requests
        assert (request.path, request.query_string, request.host) == ("/a/b", "c=%20d", "server.example:8080")
        assert request.headers["authorization"] == "Bearer x"
        assert request.headers.all("x-two") == ["1", "2"]
        assert request.subprotocols == ("a", "b")
        assert application.transport.subprotocol == "b"

    async def test_compression_is_used_where_both_want_it(self) -> None:
        for ours, theirs in ((Deflate(), Deflate()), (Deflate(), None), (None, Deflate())):
            servers = Applications(Echo)
            port, _ = await self.serve(servers, deflate=theirs)
            application = await self.endpoint(port, deflate=ours).connect(Applications())
            application.transport.sendTextMessage("compress me " * 1_000)
            await self.has_heard(application)
            assert application.heard == ["compress me " * 1_000]

    async def test_messages_in_the_same_segment_as_the_answer_are_kept(self) -> None:
        hello = frame(TEXT, b"hello", to=Side.CLIENT)

        def answer(request: bytes, transport: Any) -> None:
            transport.write(
                b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer_bytes(request) + hello * 3 + hello[:3]
            )

        port = await self.listen(Server(answer))
        application = await self.endpoint(port).connect(Applications())
        assert application.heard == ["hello"] * 3
        application.transport.abortConnection()  # that server would never answer

    async def test_one_that_pauses_before_it_is_open_is_paused_when_it_is(self) -> None:
        servers = Applications(
            lambda: Recorder(negotiationFinished=lambda it: it.transport.sendTextMessage("hi"))
        )
        port, _ = await self.serve(servers)
        application = Recorder(negotiationStarted=lambda it: it.transport.pauseProducing())
        await self.endpoint(port).connect(Giving(application))
        await self.turns(20)
        assert application.heard == []
        application.transport.resumeProducing()
        await self.has_heard(application)

    async def test_each_connection_of_an_endpoint_is_new(self) -> None:
        port, _ = await self.serve(Applications(Echo))
        endpoint = self.endpoint(port)
        applications = Applications()
        for _ in range(3):
            await endpoint.connect(applications)
        assert len({id(it.transport) for it in applications.made}) == 3
        assert len(endpoint.connections) == 3
        await endpoint.shut_down(1001, "done")
        assert [it.end.code for it in applications.made] == [1001] * 3
        await endpoint.connect(applications)

    async def test_it_works_over_ipv6(self) -> None:
        factory = WebSocketFactory(Applications(Echo))
        port: Any = await TCP6ServerEndpoint(reactor, 0, interface="::1").listen(factory)
        self.addCleanup(port.stopListening)
        self.addCleanup(factory.shut_down)
        endpoint = WebSocketClientEndpoint.new(reactor, f"ws://[::1]:{port.getHost().port}/")
        self.addCleanup(endpoint.shut_down)
        application = await endpoint.connect(Applications())
        application.transport.sendTextMessage("hello")
        await self.until(lambda: application.heard)

    async def test_a_clean_end_is_told(self) -> None:
        port, factory = await self.serve(Applications(Echo))
        application = await self.endpoint(port).connect(Applications())
        factory.shut_down(1012, "later")
        await self.ended(application)
        assert application.ended_with == (ConnectionClosed, 1012, "later")


class OverTls(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="chatproto-test-")
        self.addCleanup(folder.cleanup)
        certificate, key = Path(folder.name) / "certificate.pem", Path(folder.name) / "key.pem"
        write_certificate(certificate, key)
        self.context = DefaultOpenSSLContextFactory(str(key), str(certificate))
        self.root = trustRootFromCertificates([Certificate.loadPEM(certificate.read_bytes())])

    async def connect_to(self, host: str, policy: BrowserLikePolicyForHTTPS | None) -> Any:
        factory = WebSocketFactory(Applications(Echo))
        port: Any = await self.listen(TLSMemoryBIOFactory(self.context, False, factory))  # type: ignore[arg-type]
        self.addCleanup(factory.shut_down)
        endpoint = WebSocketClientEndpoint.new(reactor, f"wss://{host}:{port.getHost().port}/", policy)
        self.addCleanup(endpoint.shut_down)
        self.application = Recorder()
        return await endpoint.connect(Giving(self.application))

    async def test_a_certificate_that_is_trusted_is_taken(self) -> None:
        application = await self.connect_to("localhost", BrowserLikePolicyForHTTPS(self.root))
        application.transport.sendTextMessage("hello")
        await self.until(lambda: application.heard)
        assert application.transport.is_secure

    async def test_any_other_is_not(self) -> None:
        trusted = BrowserLikePolicyForHTTPS(self.root)
        for host, policy in (("localhost", None), ("127.0.0.1", trusted)):
            with pytest.raises((SSL.Error, VerificationError)):
                await self.connect_to(host, policy)
            await self.until(lambda: self.application.end)
            assert self.application.told == ["negotiationStarted", "connectionLost"]


class Refusals(ClientCase):
    async def refused(self, *pieces: bytes, **options: Any) -> HandshakeFailed:
        """What comes of an answer that opens nothing."""
        application = Recorder()
        error = await self.failed(Server(saying(*pieces)), application, **options)
        assert isinstance(error, HandshakeFailed), error
        assert application.told == ["negotiationStarted", "connectionLost"]
        assert application.ended_with == (ConnectionBroken, 1006, "the opening handshake did not succeed")
        return error

    async def test_a_refusal_is_told_with_status_headers_and_body(self) -> None:
        refused = await self.refused(
            b"HTTP/1.1 401 Log in\r\nContent-Length: 10\r\nWWW-Authenticate: Basic\r\nX: 1\r\nX: 2\r\n\r\n",
            b"first",
            b" then",
        )
        assert (refused.status, refused.body) == (401, b"first then")
        assert refused.headers["www-authenticate"] == "Basic"
        assert refused.headers.all("x") == ["1", "2"]
        assert str(refused) == "the server answered 401 Log in"

    async def test_a_body_in_chunks_is_put_together(self) -> None:
        refused = await self.refused(
            b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nno",
            b"t 0\r\n\r\n",
            b"\r\n4\r\n now\r\n0\r\n",
            b"X-Trailer: 1\r\n\r\n",
        )
        assert refused.body == b"not 0\r\n\r\n now"

    async def test_a_body_without_a_length_ends_with_the_connection(self) -> None:
        def answer(request: bytes, transport: Any) -> None:
            transport.write(b"HTTP/1.1 500 Oh\r\n\r\nit is ")
            reactor.callLater(0.01, transport.write, b"broken")
            reactor.callLater(0.02, transport.loseConnection)

        error = await self.failed(Server(answer), Recorder())
        assert isinstance(error, HandshakeFailed)
        assert (error.status, error.body) == (500, b"it is broken")

    async def test_a_refusal_without_a_body_is_told_at_once(self) -> None:
        for head in (b"204 No Content", b"304 Not Modified", b"403 No\r\nContent-Length: 0", b"101 Yes"):
            refused = await self.refused(b"HTTP/1.1 " + head + b"\r\n\r\n")
            assert (refused.status, refused.body) == (int(head[:3]), b"")

    async def test_of_a_body_without_end_only_so_much_is_read(self) -> None:
        endless = [b"HTTP/1.1 500 Oh\r\n\r\n", *[b"x" * 50_000] * 4]
        assert (await self.refused(*endless)).body == b"x" * 65_536

    async def test_a_body_that_does_not_come_is_not_waited_for_for_ever(self) -> None:
        clock = TurnClock()
        refusing = Deferred.fromCoroutine(
            self.refused(b"HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\nhalf", reactor=clock)
        )
        await self.turns(50)
        clock.advance(10.25)
        assert (await refusing).body == b"half"

    async def test_a_refusal_stays_as_it_was_told(self) -> None:
        refused = await self.refused(
            b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n3\r\nab\r\n0\r\n\r\n"
        )
        await self.turns(20)
        assert refused.body == b"3\r\nab"

    async def test_a_length_in_other_digits_harms_nothing(self) -> None:
        def answer(request: bytes, transport: Any) -> None:
            transport.write(b"HTTP/1.1 403 No\r\nContent-Length: \xb2\r\n\r\nbody")
            reactor.callLater(0.02, transport.loseConnection)

        error = await self.failed(Server(answer), Recorder())
        assert isinstance(error, HandshakeFailed)
        assert error.body == b"body"

    async def test_a_redirect_is_a_refusal(self) -> None:
        refused = await self.refused(b"HTTP/1.1 301 Moved\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")
        assert (refused.status, refused.headers["location"]) == (301, "/x")

    async def test_nonsense_is_a_refusal_without_a_status(self) -> None:
        for nonsense in (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", b"\x15\x03\x01\0\x02\x02\r\n\r\n", b"x" * 20_000):
            assert (await self.refused(nonsense)).status == 0

    async def test_an_answer_that_agrees_to_something_else_is_refused(self) -> None:
        wrong = {
            "Sec-WebSocket-Protocol: never.offered": "subprotocol",
            "Sec-WebSocket-Extensions: permessage-deflate": "extension",
            "Upgrade: websocket": "upgrade",
        }
        for header, said in wrong.items():

            def answer(request: bytes, transport: Any, header: str = header) -> None:
                transport.write(answer_bytes(request, header))

            error = await self.failed(Server(answer), Recorder())
            assert isinstance(error, HandshakeFailed)
            assert said in str(error)
            assert error.status == 101

    async def test_an_answer_to_another_key_is_refused(self) -> None:
        refused = await self.refused(
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        assert "Sec-WebSocket-Accept" in str(refused)


class Failures(ClientCase):
    async def test_a_silent_server_is_given_up(self) -> None:
        clock = TurnClock()
        application = Recorder()
        server = Server(saying(b"HTTP/1.1 "))
        limits = WebSocketLimits(handshake_timeout_s=3)
        failing = Deferred.fromCoroutine(self.failed(server, application, reactor=clock, limits=limits))
        await self.until(lambda: server.requests)
        clock.advance(2.75)
        await self.turns(10)
        assert not failing.called
        clock.advance(0.5)
        error = await failing
        assert isinstance(error, TimeoutError)
        assert str(error) == "the server did not answer the opening handshake within 3 s"
        assert application.told == ["negotiationStarted", "connectionLost"]
        await self.until(lambda: server.lost)
        assert clock.getDelayedCalls() == []

    async def test_a_server_that_goes_away_before_it_answers_is_no_server(self) -> None:
        ends: list[Callable[[bytes, Any], object]] = [
            lambda request, transport: transport.loseConnection(),
            lambda request, transport: transport.abortConnection(),
        ]
        for end in ends:
            error = await self.failed(Server(end), Recorder())
            assert isinstance(error, ConnectionDone | ConnectionLost)

    async def test_nobody_there_is_told_as_the_endpoint_tells_it(self) -> None:
        port: Any
        port, _ = await self.serve(Applications())
        endpoint = self.endpoint(port)
        await port.stopListening()
        application = Recorder()
        with pytest.raises(ConnectionRefusedError):
            await endpoint.connect(Giving(application))
        assert application.told == []

    async def test_a_factory_that_raises_is_told_and_nobody_is_called(self) -> None:
        def mistake(url: str) -> None:
            raise ZeroDivisionError

        server = Server(saying())
        port = await self.listen(server)
        with pytest.raises(ZeroDivisionError):
            await self.endpoint(port).connect(Deciding(mistake))
        assert server.requests == []

    async def test_it_can_be_cancelled_at_any_time_and_nothing_is_left(self) -> None:
        answers = {
            "before the connection": None,
            "before the answer": b"",
            "in the answer": b"HTTP/1.1 101 ",
            "in the body of a refusal": b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nhalf",
        }
        for when, answer in answers.items():
            server = Server(saying(answer or b""))
            port = await self.listen(server)
            endpoint = self.endpoint(port)
            application = Recorder()
            connecting = Deferred.fromCoroutine(endpoint.connect(Giving(application)))
            failures: list[Failure] = []
            connecting.addErrback(failures.append)
            if answer is not None:
                await self.until(partial(len, server.requests))
                await self.turns(20)
            connecting.cancel()
            [failure] = failures
            assert failure.check(CancelledError, ConnectingCancelledError), when
            await self.emptied(endpoint)
            assert application.told in ([], ["negotiationStarted", "connectionLost"]), when
            if answer is not None:
                await self.until(server.is_lost)

    async def test_it_can_be_cancelled_by_the_application_itself(self) -> None:
        port, _ = await self.serve(Applications())
        application = Recorder(negotiationFinished=lambda _: connecting.cancel())
        factory = Giving(application)
        connecting: Deferred[Any] = Deferred.fromCoroutine(self.endpoint(port).connect(factory))
        with pytest.raises(CancelledError):
            await connecting
        await self.ended(application)
        assert application.told[-1] == "connectionLost"

    async def test_an_application_that_drops_it_at_once_ends_the_attempt(self) -> None:
        port, _ = await self.serve(Applications())
        for way in ("loseConnection", "abortConnection"):
            application = dropping(way)
            with pytest.raises(ConnectionLost):
                await self.endpoint(port).connect(Giving(application))
            await self.ended(application)
            assert application.told == ["negotiationStarted", "connectionLost"]
