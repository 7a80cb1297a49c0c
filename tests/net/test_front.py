"""One port: the first bytes decide what a connection speaks (docs/protocol.md, section 6)."""

from __future__ import annotations

import gc
import weakref

import pytest
from forms import Json
from net.loopback import KINDS, LoopbackCase, TurnClock, reactor
from net.loopback import End as Socket
from net.memory import Chat, Line
from wire.streams import in_two, one_by_one

from chatproto.limits import Limits
from chatproto.net.chat import ChatProtocol
from chatproto.net.factory import ChatFactory
from chatproto.net.frames import FrameProtocol
from chatproto.net.front import TURNED_AWAY_S
from chatproto.net.lines import LineProtocol
from chatproto.net.websocket.transport import WebSocketTransport
from chatproto.rooms.hub import Hub
from chatproto.wire.chat import encode_frame
from chatproto.wire.messages import End, Join, Say

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI"]
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
GREETING = "* welcome to chatproto; what is your nickname?"


def is_http(line: Line) -> bool:
    """Whether what came is an answer over HTTP."""
    return line.received().startswith(b"HTTP/1.1 ")


class TestFirstByte:
    @pytest.mark.parametrize("first", range(256))
    def test_decides_or_is_the_beginning_of_a_method(self, first: int) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(bytes([first]))
        if first == 0:
            assert chat.faces() == [FrameProtocol]
        elif chr(first) in {method[0] for method in METHODS}:
            assert chat.faces() == []
        else:
            assert chat.faces() == [LineProtocol]
        assert not is_http(line)

    @pytest.mark.parametrize("first", sorted({ord(method[0]) for method in METHODS}))
    def test_the_beginning_of_a_method_and_silence_are_a_line_begun(self, first: int) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(bytes([first]))
        chat.clock.advance(1)
        assert chat.faces() == [LineProtocol]
        line.send(b"x\n")
        assert f"* welcome, {chr(first)}x; /help shows what you can type" in line.lines()

    def test_telnet_s_first_byte_is_a_line_s(self) -> None:
        chat = Chat()
        chat.connect().send(b"\xff\xfd\x03")
        assert chat.faces() == [LineProtocol]


class TestHttp:
    def test_a_request_is_answered_in_every_cut(self) -> None:
        for first, second in in_two(REQUEST):
            line = Chat().connect()
            line.send(first) if first else None
            line.send(second) if second else None
            assert is_http(line), (first, second)

    def test_a_request_that_comes_byte_by_byte_is_answered(self) -> None:
        line = Chat().connect()
        for byte in one_by_one(REQUEST):
            line.send(byte)
        assert is_http(line)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("after", [b" ", b"\t", b"\r\n", b"\n", b"/", b"(", b"\0", b"\xff"])
    def test_what_begins_with_a_method_is_never_a_line(self, method: str, after: bytes) -> None:
        for first, second in in_two(method.encode() + after):
            chat = Chat()
            line = chat.connect()
            for part in (first, second):
                if part:
                    line.send(part)
            assert chat.faces() == []
            assert b"nickname" not in line.received()

    @pytest.mark.parametrize("method", METHODS)
    def test_a_method_and_silence_are_never_a_line(self, method: str) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(method.encode())
        chat.clock.advance(1)
        assert chat.faces() == []
        line.send(b" / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert chat.faces() == []

    @pytest.mark.parametrize(
        "nick",
        ["GETTY", "GET-it", "HEADER", "POSTMAN", "PUTting", "PRIscilla", "TRACEY", "OPTIONS2", "get", "Gerd"],
    )
    def test_a_word_that_only_begins_like_one_is_a_nickname_in_every_cut(self, nick: str) -> None:
        for first, second in in_two(f"{nick}\n".encode()):
            line = Chat().connect()
            for part in (first, second):
                if part:
                    line.send(part)
            assert f"* welcome, {nick}; /help shows what you can type" in line.lines(), (first, second)


class TestSilence:
    def test_after_one_second_a_person_is_spoken_to(self) -> None:
        chat = Chat()
        line = chat.connect()
        chat.clock.advance(0.99)
        assert line.received() == b""
        chat.clock.advance(0.02)
        assert line.lines() == [GREETING]
        assert chat.faces() == [LineProtocol]

    def test_it_begins_anew_while_a_method_may_be_coming(self) -> None:
        chat = Chat()
        line = chat.connect()
        for byte in one_by_one(REQUEST[:3]):
            chat.clock.advance(0.9)
            line.send(byte)
        chat.clock.advance(0.9)
        line.send(REQUEST[3:])
        assert is_http(line)

    def test_a_decision_ends_the_waiting(self) -> None:
        for first in (encode_frame(Join("alice")), b"alice\n", REQUEST):
            chat = Chat()
            line = chat.connect()
            line.send(first)
            line.received()
            chat.clock.advance(5)
            assert b"nickname" not in line.received()


class TestNothingIsLost:
    def test_frames_are_taken_in_every_cut(self) -> None:
        data = b"".join(map(encode_frame, [Join("alice"), Say(7, "", "hi")]))
        for first, second in in_two(data):
            chat = Chat()
            line = chat.connect()
            for part in (first, second):
                if part:
                    line.send(part)
            assert [message.type for message in line.messages()] == ["welcome", "roster", "end", "ack"]

    def test_lines_are_taken_in_every_cut(self) -> None:
        for first, second in in_two(b"Petra\r\nhi\r\n"):
            chat = Chat()
            bob = chat.person("bob")
            line = chat.connect()
            for part in (first, second):
                if part:
                    line.send(part)
            line.received()
            assert bob.lines() == ["* Petra joined lobby", "[lobby 00:00] Petra: hi"]

    def test_a_request_behind_a_request_is_answered(self) -> None:
        line = Chat().connect()
        line.send(REQUEST * 2)
        assert line.received().count(b"HTTP/1.1 200") == 2


class TestOutOfTheWay:
    @pytest.mark.parametrize(
        ("first", "face"), [(encode_frame(Join("alice")), FrameProtocol), (b"alice\n", LineProtocol)]
    )
    def test_what_comes_later_goes_straight_to_the_face(self, first: bytes, face: type[ChatProtocol]) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(first)
        (connection,) = chat.factory.connections
        assert type(connection) is face
        assert line.protocol.dataReceived == connection.dataReceived

    def test_over_websocket_too(self) -> None:
        line = Chat().connect()
        alice = Json()
        line.send(alice.output())
        alice.receive(line.received())
        alice.say(Join("alice"))
        line.send(alice.output())
        assert isinstance(line.protocol.dataReceived.__self__, WebSocketTransport)
        assert [message.type for message in alice.receive(line.received())] == ["welcome", "roster", "end"]

    def test_the_transport_s_pause_is_the_face_s(self) -> None:
        """What wraps the transport would see the front's calls."""
        chat = Chat()
        line = chat.connect()
        line.send(b"alice\n")
        (connection,) = chat.factory.connections
        assert isinstance(connection, ChatProtocol)
        assert connection.transport is line

    def test_nothing_of_a_connection_stays_when_it_has_gone(self) -> None:
        for first in (b"", b"GE", encode_frame(Join("alice")), b"alice\n", REQUEST):
            chat = Chat()
            line = chat.connect()
            if first:
                line.send(first)
            chat.clock.advance(0)
            held = [weakref.ref(line.protocol), *map(weakref.ref, chat.factory.connections)]
            line.vanish()
            del line
            gc.collect()
            assert [each() for each in held] == [None] * len(held), first


class TestEndOfInput:
    def test_before_the_first_byte_closes(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.end_input()
        assert line.received() == b""
        assert not line.connected
        assert chat.is_empty()

    def test_within_what_may_be_a_method_counts_as_the_end_of_a_line(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(b"GE")
        line.end_input()
        assert "* welcome, GE; /help shows what you can type" in line.lines()
        assert not line.connected
        assert chat.is_empty()

    def test_after_a_method_is_http_s(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(b"GET")
        line.end_input()
        assert b"nickname" not in line.received()
        assert not line.connected

    def test_after_frames_lets_them_be_answered(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send_messages(Join("alice"), Say(1, "", "hi"))
        line.end_input()
        assert [message.type for message in line.messages()] == ["welcome", "roster", "end", "ack"]
        assert not line.connected
        assert chat.is_empty()

    def test_within_a_frame_closes(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(encode_frame(Join("alice"))[:-1])
        line.end_input()
        line.received()
        assert not line.connected
        assert chat.is_empty()

    def test_after_a_request_lets_it_be_answered(self) -> None:
        chat = Chat()
        line = chat.connect()
        line.send(REQUEST)
        line.end_input()
        assert is_http(line)
        assert not line.connected


class TestLoss:
    @pytest.mark.parametrize(
        "first", [b"", b"GE", b"GET", encode_frame(Join("alice")), b"\0", b"alice\n", REQUEST, b"GET /"]
    )
    def test_in_every_state_leaves_nothing(self, first: bytes) -> None:
        for silence_s in (0.0, 2.0):
            chat = Chat()
            line = chat.connect()
            if first:
                line.send(first)
            chat.clock.advance(silence_s)
            line.vanish()
            chat.clock.advance(0)
            assert chat.is_empty(), (first, silence_s, chat.clock.getDelayedCalls())

    @pytest.mark.parametrize("first", [b"", b"GE", encode_frame(Join("alice")), b"alice\n", REQUEST])
    def test_while_closing_leaves_nothing(self, first: bytes) -> None:
        chat = Chat()
        line = chat.connect()
        if first:
            line.send(first)
        chat.factory.shut_down()
        line.vanish()
        chat.clock.advance(0)
        assert chat.is_empty()


class TestOnSockets(LoopbackCase):
    """The same on real sockets, over everything that a connection may come through."""

    def setUp(self) -> None:
        self.clock = TurnClock()
        self.factory = ChatFactory(Hub(self.clock))

    async def open(self, kind: str) -> Socket:
        end = self.connect(await self.listen(self.factory, kind), kind)
        await self.shake_hands(end)
        return end

    async def until_silence_begins(self) -> None:
        """Wait until the one connection is there, and its TLS open on this side, too."""
        await self.until(
            lambda: [call.getTime() - 1 <= self.clock.seconds() for call in self.clock.calls] == [True]
        )

    async def close(self, end: Socket) -> None:
        end.close()
        await self.until(lambda: not self.factory.fronts)

    async def test_frames(self) -> None:
        for kind in KINDS:
            end = await self.open(kind)
            end.send(encode_frame(Join("alice")))
            await self.until_received(end, encode_frame(End("lobby", 0, 0, 0)))
            await self.close(end)

    async def test_lines(self) -> None:
        for kind in KINDS:
            end = await self.open(kind)
            end.send(b"alice\n")
            await self.until_received(end, b"* in lobby: alice\r\n")
            await self.close(end)

    async def test_http(self) -> None:
        for kind in KINDS:
            end = await self.open(kind)
            end.send(REQUEST)
            await self.until_received(end, b"HTTP/1.1 200")
            await self.close(end)

    async def test_silence(self) -> None:
        for kind in KINDS:
            end = await self.open(kind)
            await self.until_silence_begins()
            self.clock.advance(1)
            await self.until_received(end, b"nickname?\r\n")
            await self.close(end)

    async def test_resets_in_every_state(self) -> None:
        for kind in KINDS:
            for first in (b"", b"GE", encode_frame(Join("alice")), b"alice\n", REQUEST):
                end = await self.open(kind)
                await self.until(lambda: self.factory.fronts)
                if first:
                    end.send(first)
                    await self.turns(3)
                end.reset()
                await self.until(lambda: not self.factory.fronts)
        assert not self.factory.connections
        assert not self.clock.getDelayedCalls()

    async def test_what_comes_later_goes_straight_to_the_face(self) -> None:
        for kind in KINDS:
            end = await self.open(kind)
            end.send(encode_frame(Join("alice")))
            await self.until_received(end, encode_frame(End("lobby", 0, 0, 0)))
            (front,) = self.factory.fronts
            (connection,) = self.factory.connections
            assert isinstance(connection, ChatProtocol)
            assert front.dataReceived == connection.dataReceived
            await self.close(end)

    async def test_a_tls_handshake_takes_its_time_before_the_silence_begins(self) -> None:
        """A slow network or machine must not turn a browser into someone who types lines."""
        end = self.connect(await self.listen(self.factory, "tls"), "tls")
        await self.until(lambda: self.factory.fronts)
        self.clock.advance(3)
        assert not self.factory.connections
        await self.shake_hands(end)
        end.send(REQUEST)
        await self.until_received(end, b"HTTP/1.1 200")
        await self.close(end)

    async def test_silence_after_a_slow_handshake_is_one_second_too(self) -> None:
        end = self.connect(await self.listen(self.factory, "tls"), "tls")
        await self.until(lambda: self.factory.fronts)
        self.clock.advance(3)
        await self.shake_hands(end)
        await self.until_silence_begins()
        self.clock.advance(0.9)
        assert not self.factory.connections
        self.clock.advance(0.2)
        await self.until_received(end, b"nickname?\r\n")
        await self.close(end)

    async def test_who_is_turned_away_may_not_hold_the_connection(self) -> None:
        self.factory = ChatFactory(Hub(self.clock, limits=Limits(max_connections=1)))
        only = await self.open("tcp")
        only.send(b"ann\n")
        await self.until_received(only, b"* in lobby: ann\r\n")
        for kind in KINDS:
            end = await self.open(kind)
            end.send(b"bob\n")
            await self.until_received(end, b"* the server is full")
            self.clock.advance(TURNED_AWAY_S)
            await self.until(lambda: len(self.factory.fronts) == 1, f"{kind} is still there")
        await self.close(only)

    async def test_who_has_the_last_answer_over_http_may_not_hold_the_connection(self) -> None:
        for kind in KINDS:
            end = await self.open(kind)
            end.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await self.until_received(end, b"HTTP/1.1 200")
            for _ in range(90):
                self.clock.advance(1)
                await self.turns(1)
            await self.until(lambda: not self.factory.fronts, f"{kind} is still there")

    async def test_a_handshake_that_never_comes_ends(self) -> None:
        end = self.connect(await self.listen(self.factory, "tls"), "tls")
        await self.until(lambda: self.factory.fronts)
        for _ in range(60):
            self.clock.advance(1)
            await self.turns(1)
        await self.until(lambda: not self.factory.fronts)
        end.close()

    async def test_a_second_is_a_second(self) -> None:
        """Once with the real clock."""
        factory = ChatFactory(Hub(reactor))
        end = self.connect(await self.listen(factory))
        await self.until(lambda: factory.fronts)
        before_s = reactor.seconds()
        await self.until_received(end, b"nickname?\r\n")
        assert reactor.seconds() - before_s > 0.9
        end.close()
        await self.until(lambda: not factory.fronts)
