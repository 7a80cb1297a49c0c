"""How a server opens a WebSocket, over real sockets: what the application is told, and decides."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from net.loopback import TurnClock
from net.websocket.applications import Applications, Deciding, Echo, Giving, Recorder
from net.websocket.memory import request_bytes
from net.websocket.sockets import WebSocketCase
from twisted.internet.defer import CancelledError, Deferred, succeed
from wire.websocket_model import TEXT, frame

from chatproto.websocket import Accepted, Request, WebSocketLimits
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode

HELLO = frame(TEXT, b"hello", to=Side.SERVER)


class Accepting(WebSocketCase):
    async def test_the_application_is_told_of_the_opening_in_order(self) -> None:
        applications = Applications()
        port, _ = await self.serve(applications)
        peer = await self.opened(port)
        peer.send(TEXT, b"hello")
        [application] = applications.made
        await self.until(lambda: application.heard)
        assert application.told == ["negotiationStarted", "negotiationFinished", "textMessageReceived"]

    async def test_the_application_has_the_request_at_hand(self) -> None:
        requests: list[Request] = []

        def note(request: Request) -> Recorder:
            requests.append(request)
            return application

        application = Recorder()
        port, _ = await self.serve(Deciding(note))
        end = self.connect(port)
        more = ("Cookie: a=1; b=2", "X-Thing: one", "X-Thing: two")
        response = await self.asked(end, request_bytes(*more, start="GET /path?x=1&x=%20&y HTTP/1.1"))
        assert response.status == 101
        [request] = requests
        assert request is application.transport.request
        assert (request.path, request.query_string) == ("/path", "x=1&x=%20&y")
        assert request.query == {"x": ["1", " "], "y": [""]}
        assert request.cookies == {"a": "1", "b": "2"}
        assert request.headers.all("x-thing") == ["one", "two"]
        assert (request.host, request.origin, request.is_secure) == ("server.example", None, False)
        peer: Any = request.peer
        assert (peer.host, peer.port) == end.socket.getsockname()
        assert application.transport.getPeer() == peer
        assert application.transport.getHost() == port.getHost()

    async def test_over_tls_it_is_secure_and_pages_without_tls_are_kept_out(self) -> None:
        applications = Applications()
        port, _ = await self.serve(applications, "tls")
        await self.opened(port, "Origin: https://server.example", kind="tls")
        assert applications.requests[0].is_secure
        end = self.connect(port, "tls")
        await self.shake_hands(end)
        assert (await self.asked(end, request_bytes("Origin: http://server.example"))).status == 403

    async def test_it_works_on_every_kind_of_endpoint(self) -> None:
        for kind in ("tcp", "unix", "tls", "wrapped", "haproxy"):
            port, _ = await self.serve(Applications(Echo), kind)
            peer = await self.opened(port, kind=kind)
            peer.send(TEXT, b"hello")
            assert await self.heard(peer, 1) == [Event(Opcode.TEXT, "hello")], kind

    async def test_the_application_chooses_a_subprotocol_and_adds_headers(self) -> None:
        application = Recorder()
        headers = [("X-Served-By", "a"), ("Set-Cookie", "seen=1"), ("Set-Cookie", "again=2")]
        accepted = Accepted(application, "chat.v2", headers)
        port, _ = await self.serve(Giving(accepted))
        end = self.connect(port)
        response = await self.asked(end, request_bytes("Sec-WebSocket-Protocol: chat.v1, chat.v2"))
        assert response.status == 101
        assert response.headers["sec-websocket-protocol"] == "chat.v2"
        assert response.headers["x-served-by"] == "a"
        assert end.received.count(b"\r\nSet-Cookie: ") == 2
        assert application.transport.subprotocol == "chat.v2"

    async def test_without_a_choice_there_is_no_subprotocol(self) -> None:
        application = Recorder()
        port, _ = await self.serve(Giving(application))
        response = await self.asked(self.connect(port), request_bytes("Sec-WebSocket-Protocol: chat.v1"))
        assert (response.status, "sec-websocket-protocol" in response.headers) == (101, False)
        assert application.transport.subprotocol is None

    async def test_a_connection_may_have_a_bound_of_its_own_for_messages(self) -> None:
        for bound, is_taken in ((100, False), (None, True), (2_000, True)):
            application = Recorder()
            accepted = Accepted(application, max_message_bytes=bound)
            port, _ = await self.serve(Giving(accepted), limits=WebSocketLimits(max_message_bytes=1_000))
            peer = await self.opened(port)
            peer.send(TEXT, b"x" * 1_000)
            if is_taken:
                await self.has_heard(application)
            else:
                assert [event.code for event in await self.heard(peer, 1)] == [1009]

    async def test_pages_of_the_same_host_and_of_those_listed_may_come(self) -> None:
        for origins, origin, status in [
            ((), "http://server.example", 101),
            ((), "https://server.example", 101),
            ((), "http://server.example:81", 403),
            ((), "http://other.example", 403),
            (("http://other.example",), "http://other.example", 101),
            (("http://other.example",), "https://other.example", 403),
            (("*",), "null", 101),
        ]:
            port, _ = await self.serve(Applications(), origins=origins)
            response = await self.asked(self.connect(port), request_bytes(f"Origin: {origin}"))
            assert response.status == status, (origins, origin)

    async def test_origins_in_one_str_are_a_mistake(self) -> None:
        with pytest.raises(TypeError):
            await self.serve(Applications(), origins="https://example.org")

    async def test_a_handshake_may_come_byte_by_byte(self) -> None:
        port, _ = await self.serve(Applications(Echo))
        end = self.connect(port)
        data = request_bytes() + HELLO
        for i in range(len(data)):
            end.send(data[i : i + 1])
            await self.turns(1)
        await self.until_received(end, b"hello")

    # --- what comes behind the handshake ------------------------------------------------------------------

    async def test_what_comes_in_the_same_segment_is_kept(self) -> None:
        applications = Applications(Echo)
        port, _ = await self.serve(applications)
        peer = await self.opened(port, behind=HELLO * 3 + HELLO[:4])
        assert await self.heard(peer, 3) == [Event(Opcode.TEXT, "hello")] * 3
        peer.end.send(HELLO[4:])
        await self.heard(peer, 4)
        assert applications.made[0].told[:2] == ["negotiationStarted", "negotiationFinished"]

    async def test_what_comes_while_it_is_decided_is_kept_in_order_however_much_it_is(self) -> None:
        decision = Deferred[Any]()
        port, _ = await self.serve(Giving(decision))
        end = self.connect(port)
        end.send(request_bytes() + frame(TEXT, b"0", to=Side.SERVER))
        sent = 1
        for _ in range(20):  # 40 KiB: more than is kept of a client that is not accepted
            end.send(b"".join(frame(TEXT, b"%d" % (sent + i), to=Side.SERVER) for i in range(200)))
            sent += 200
            await self.turns(2)
        application = Recorder()
        decision.callback(application)
        await self.until(lambda: len(application.heard) == sent)
        assert application.heard == [str(i) for i in range(sent)]
        assert (await self.asked(end)).status == 101

    async def test_what_comes_while_it_is_decided_is_not_kept_without_end(self) -> None:
        decision = Deferred[Any]()
        port, _ = await self.serve(Giving(decision))
        end = self.connect(port)
        end.send(request_bytes())
        sent = 0
        for _ in range(1_000):
            try:
                sent += end.socket.send(b"x" * 65_536)
            except BlockingIOError:
                break
            await self.turns(1)
        else:
            raise AssertionError(f"it took {sent} bytes")
        decision.callback(None)
        end.close()

    # --- later decisions ----------------------------------------------------------------------------------

    async def test_a_decision_may_take_longer_than_a_handshake(self) -> None:
        clock = TurnClock()
        decision = Deferred[Any]()
        port, _ = await self.serve(Giving(decision), reactor=clock)
        end = self.connect(port)
        end.send(request_bytes())
        await self.turns(10)
        clock.advance(600)
        await self.turns(10)
        decision.callback(Accepted(Echo()))
        assert (await self.asked(end)).status == 101

    async def test_build_protocol_may_be_a_coroutine(self) -> None:
        decision = Deferred[Any]()

        class Slow:
            async def buildProtocol(self, request: Request) -> Accepted:
                return Accepted(await decision, request.subprotocols[0])

        port, _ = await self.serve(Slow())
        end = self.connect(port)
        end.send(request_bytes("Sec-WebSocket-Protocol: a"))
        await self.turns(10)
        assert end.read() == 0
        decision.callback(Recorder())
        assert (await self.asked(end)).headers["sec-websocket-protocol"] == "a"

    async def test_a_client_that_goes_meanwhile_cancels_the_decision(self) -> None:
        cancelled: list[Any] = []
        decisions = [Deferred[Any](cancelled.append) for _ in range(3)]
        waiting = iter(decisions)
        port, layer = await self.serve(Deciding(lambda request: next(waiting)))
        for leave in ("close", "reset", "end_input"):
            end = self.connect(port)
            end.send(request_bytes())
            await self.turns(20)
            getattr(end, leave)()
        await self.until(lambda: len(cancelled) == 3)
        assert all(decision.called for decision in decisions)
        await self.emptied(layer)

    async def test_a_coroutine_that_decides_is_cancelled_with_the_client(self) -> None:
        ended: list[str] = []

        async def decide(request: Request) -> Recorder:
            try:
                await Deferred[None]()
            except CancelledError:
                ended.append("cancelled")
            return application  # it is too late for that

        application = Recorder()
        port, layer = await self.serve(Deciding(decide), limits=WebSocketLimits(max_connections=1))
        for count in (1, 2):
            end = self.connect(port)
            end.send(request_bytes())
            await self.turns(20)
            end.close()
            await self.until(partial(ended.__eq__, ["cancelled"] * count))
        assert application.told == []
        await self.emptied(layer)

    async def test_a_canceller_that_raises_leaves_nothing_behind(self) -> None:
        def mistake(_: Deferred[Any]) -> None:
            raise ZeroDivisionError

        port, layer = await self.serve(
            Deciding(lambda request: Deferred(mistake)), limits=WebSocketLimits(max_connections=1)
        )
        for _ in range(2):
            end = self.connect(port)
            end.send(request_bytes())
            await self.turns(20)
            end.close()
            await self.until(partial(self.flushLoggedErrors, ZeroDivisionError))
            await self.emptied(layer)

    # --- the application in the middle of it --------------------------------------------------------------

    async def test_nothing_can_be_sent_before_it_is_open(self) -> None:
        def send_early(application: Recorder) -> None:
            transport = application.transport
            for early in (
                lambda: transport.sendTextMessage("early"),
                lambda: transport.sendBytesMessage(b"early"),
                lambda: transport.ping(b"early"),
            ):
                with pytest.raises(RuntimeError):
                    early()

        application = Recorder(negotiationStarted=send_early)
        port, _ = await self.serve(Giving(application))
        peer = await self.opened(port)
        application.transport.sendTextMessage("now")
        assert await self.heard(peer, 1) == [Event(Opcode.TEXT, "now")]

    async def test_what_is_sent_at_once_comes_behind_the_handshake(self) -> None:
        large = "x" * 600_000
        application = Recorder(negotiationFinished=lambda a: a.transport.sendTextMessage(large))
        port, _ = await self.serve(Giving(application))
        peer = await self.opened(port)
        assert await self.heard(peer, 1) == [Event(Opcode.TEXT, large)]

    async def test_whoever_pauses_while_it_opens_is_paused_afterwards(self) -> None:
        for when in ("negotiationStarted", "negotiationFinished"):
            for is_late in (False, True):
                decision = Deferred[Any]()
                application = Recorder(**{when: lambda a: a.transport.pauseProducing()})
                port, _ = await self.serve(Giving(application))
                end = self.connect(port)
                if not is_late:
                    decision.callback(application)
                end.send(request_bytes() + HELLO)
                await self.turns(10)
                if is_late:
                    decision.callback(application)
                end.send(HELLO * 2)
                await self.turns(20)
                assert application.heard == [], (when, is_late)
                application.transport.resumeProducing()
                await self.has_heard(application, 3)

    async def test_a_decision_that_is_there_at_once_may_be_a_deferred(self) -> None:
        port, _ = await self.serve(Deciding(lambda request: succeed(Recorder())))
        await self.opened(port)


class AcceptingByFactory(Accepting):
    """Without twisted.web."""


class AcceptingByResource(Accepting):
    """In a site of twisted.web."""

    as_resource = True

    async def test_paths_below_are_the_same_resources(self) -> None:
        applications = Applications()
        port, _ = await self.serve(applications)
        response = await self.asked(self.connect(port), request_bytes(start="GET /path/a/b?c HTTP/1.1"))
        assert response.status == 101
        assert applications.requests[0].path == "/path/a/b"


del Accepting  # it is only there to be derived from
