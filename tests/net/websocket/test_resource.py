"""chatproto.net.websocket.resource: a connection of twisted.web's becomes this layer's."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from net.loopback import TurnClock
from net.websocket.applications import Applications, Deciding, Echo, Giving, Recorder
from net.websocket.memory import request_bytes
from net.websocket.sockets import Peer, WebSocketCase
from twisted.internet.defer import Deferred
from wire.websocket_model import TEXT, frame

from chatproto.websocket import WebSocketLimits, WebSocketTransport
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode, WebSocketDecoder

PAGE_BYTES = 6_000_000
LARGE = "x" * 1_000_000
SNUG = WebSocketLimits(max_queued_bytes=1_500_000)


def page_request(size: int = PAGE_BYTES) -> bytes:
    return b"GET /page?size=%d HTTP/1.1\r\nHost: server.example\r\n\r\n" % size


class BehindAnEarlierAnswer(WebSocketCase):
    """The request before on the same connection has a large answer, which is still on its way out."""

    as_resource = True

    async def behind_a_page(self, kind: str, factory: Any) -> tuple[bytes, bytes, bytes]:
        """What comes behind the page: the status line, the rest of the head, and what follows it."""
        port, _ = await self.serve(factory, kind, limits=SNUG)
        end = self.connect(port, kind, receive_buffer_bytes=4_096)
        await self.shake_hands(end)
        end.send(page_request() + request_bytes())
        await self.turns(50)
        assert not end.received, "the page is to be on its way out still"

        def all_is_there() -> bool:
            end.read(2**22)
            return end.at_end or bytes(end.received).endswith(b"the end")

        await self.until(all_is_there)
        head, _, rest = bytes(end.received).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        page, behind = rest[:PAGE_BYTES], rest[PAGE_BYTES:]
        assert page == (b"a page" * (PAGE_BYTES // 6 + 1))[:PAGE_BYTES]
        head, _, rest = behind.partition(b"\r\n\r\n")
        line, _, headers = head.partition(b"\r\n")
        return line, headers, rest

    async def test_the_handshake_and_everything_behind_it_waits_for_that(self) -> None:
        def talk(application: Recorder) -> None:
            transport = application.transport
            transport.sendTextMessage(LARGE)  # too much to wait for the end of the turn
            transport.sendTextMessage("the end")

        for kind in ("tcp", "unix", "tls"):
            factory = Deciding(lambda request: Recorder(negotiationFinished=talk))
            line, _, rest = await self.behind_a_page(kind, factory)
            assert line.startswith(b"HTTP/1.1 101 "), kind
            assert WebSocketDecoder(Side.CLIENT).receive(rest) == [
                Event(Opcode.TEXT, LARGE),
                Event(Opcode.TEXT, "the end"),
            ], kind

    async def test_a_refusal_does_so_too(self) -> None:
        def mistake(application: Recorder) -> None:
            raise ZeroDivisionError

        port, _ = await self.serve(Deciding(lambda request: Recorder(negotiationStarted=mistake)))
        end = self.connect(port, receive_buffer_bytes=4_096)
        end.send(page_request() + request_bytes())
        received = await self.until_end(end)
        assert received.startswith(b"HTTP/1.1 200 ")
        assert len(received) > PAGE_BYTES
        assert received[-200:].partition(b"HTTP/1.1 ")[2].startswith(b"500 ")
        assert len(self.flushLoggedErrors(ZeroDivisionError)) == 1

    async def test_messages_behind_the_handshake_are_answered_behind_it(self) -> None:
        port, _ = await self.serve(Applications(Echo), limits=SNUG)
        end = self.connect(port, receive_buffer_bytes=4_096)
        texts = [b"%d" % i * 300 for i in range(50)]
        end.send(
            page_request() + request_bytes() + b"".join(frame(TEXT, text, to=Side.SERVER) for text in texts)
        )
        await self.turns(50)
        await self.until_received(end, b"49" * 300)
        _, _, behind = bytes(end.received).partition(b"\r\n\r\n")
        _, _, rest = behind[PAGE_BYTES:].partition(b"\r\n\r\n")
        assert [event.data for event in WebSocketDecoder(Side.CLIENT).receive(rest)] == [
            text.decode() for text in texts
        ]


class TakenOver(WebSocketCase):
    as_resource = True

    async def test_an_earlier_answer_and_the_websocket_in_one_segment(self) -> None:
        port, _ = await self.serve(Applications(Echo))
        end = self.connect(port)
        end.send(page_request(100) + request_bytes() + frame(TEXT, b"hello", to=Side.SERVER))
        await self.until_received(end, b"hello")
        assert end.received.count(b"HTTP/1.1 200 OK") == end.received.count(b"HTTP/1.1 101 ") == 1

    async def test_no_request_is_read_behind_the_handshake(self) -> None:
        port, _ = await self.serve(Applications())
        end = self.connect(port)
        end.send(request_bytes() + page_request(6))
        await self.until_end(end)
        assert b"a page" not in end.received
        assert b"200 OK" not in end.received

    async def test_the_sites_time_out_has_no_say_any_more(self) -> None:
        clock = TurnClock()
        port, _ = await self.serve(Applications(Echo), limits=WebSocketLimits(ping_interval_s=0))
        self.site.timeOut = 10
        build = self.site.buildProtocol

        def on_clock(address: Any) -> Any:
            protocol: Any = build(address)
            protocol.callLater = clock.callLater
            return protocol

        self.site.buildProtocol = on_clock
        peer = await self.opened(port)
        assert clock.getDelayedCalls() == []
        clock.advance(1_000)
        peer.send(TEXT, b"still there")
        assert await self.heard(peer, 1) == [Event(Opcode.TEXT, "still there")]

    async def test_nothing_of_the_request_and_its_channel_is_kept(self) -> None:
        kept: list[Any] = []
        port, resource = await self.serve(Applications(Echo))
        render = resource.render

        def keep(request: Any) -> Any:
            kept.extend(map(weakref.ref, (request, request.channel.requests[0])))
            return render(request)

        resource.render = keep
        peer = await self.opened(port)
        peer.send(TEXT, b"hello")
        await self.heard(peer, 1)
        gc.collect()
        assert [it() for it in kept] == [None] * 2

    async def test_it_is_bare_of_twisted_web_in_what_it_does(self) -> None:
        applications = Applications(Echo)
        port, _ = await self.serve(applications)
        peer = await self.opened(port)
        assert isinstance(peer, Peer)
        transport = applications.made[0].transport
        assert type(transport) is WebSocketTransport
        assert transport.queue.direct

    async def test_a_client_that_goes_before_it_is_decided_leaves_nothing(self) -> None:
        decision = Deferred[Any]()
        port, resource = await self.serve(Giving(decision), limits=WebSocketLimits(max_connections=1))
        end = self.connect(port)
        end.send(request_bytes())
        await self.turns(20)
        end.close()
        await self.until(lambda: decision.called)
        assert len(resource.connections) == 0
        assert resource.connections.take_place(object())
