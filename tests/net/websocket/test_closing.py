"""How a WebSocket ends, either side: codes and reasons, abnormal ends, the closing timer, half-closing."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable

import pytest
from net.websocket.applications import Echo, Giving, Recorder
from net.websocket.memory import Place
from net.websocket.sockets import WebSocketCase
from twisted.internet.error import ConnectionDone, ConnectionLost
from wire.talkers import EVERY_CODE, SIDES
from wire.websocket_model import BINARY, CLOSE, CONTINUATION, PING, TEXT, close_payload

from chatproto.websocket import ConnectionBroken, ConnectionClosed, Deflate, End, WebSocketLimits
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode

LIMITS = WebSocketLimits(max_message_bytes=1_000, close_timeout_s=5, ping_interval_s=0)


def test_a_clean_end_is_a_connection_done_and_a_broken_one_a_connection_lost() -> None:
    closed, broken = ConnectionClosed(4000, "enough"), ConnectionBroken(1006, "")
    assert isinstance(closed, ConnectionDone)
    assert not isinstance(closed, ConnectionLost)
    assert isinstance(broken, ConnectionLost)
    assert not isinstance(broken, ConnectionDone)
    assert (closed.code, closed.reason, str(closed)) == (4000, "enough", "4000 enough")
    assert str(broken) == "1006"


@pytest.mark.parametrize("side", SIDES)
class TestThisSideCloses:
    @pytest.mark.parametrize("code", EVERY_CODE)
    def test_the_code_and_the_reason_go_out_and_the_peers_come_back(self, side: Side, code: int) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.loseConnection(code, "that is all")
        assert place.came() == [Event(Opcode.CLOSE, "that is all", code)]
        assert place.application.end is None
        place.send(CLOSE, close_payload(3999, b"as you like"))
        place.turn(3)
        if side is Side.CLIENT:  # the server drops the connection first
            assert place.line.connected
            place.line.end_input()
            place.turn(3)
        assert place.application.ended_with == (ConnectionClosed, 3999, "as you like")
        assert place.is_gone()

    def test_the_usual_code_is_1000_and_none_is_possible(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.loseConnection()
        assert place.came() == [Event(Opcode.CLOSE, "", 1000)]
        place = Place(side, limits=LIMITS)
        place.transport.loseConnection(None)
        assert place.came() == [Event(Opcode.CLOSE, "", 1005)]

    def test_what_was_sent_before_goes_before_and_nothing_goes_afterwards(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        transport = place.transport
        transport.sendTextMessage("last")
        transport.loseConnection()
        transport.sendTextMessage("late")
        transport.sendBytesMessage(b"late")
        transport.ping(b"late")
        transport.loseConnection(4000)
        assert [event.opcode for event in place.came()] == [Opcode.TEXT, Opcode.CLOSE]

    def test_nothing_is_delivered_from_there_on(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.loseConnection()
        place.send(TEXT, b"late")
        place.send(PING, b"late")
        place.send(CLOSE, close_payload(1000))
        assert place.application.heard == []
        assert [event.opcode for event in place.came()] == [Opcode.CLOSE]

    def test_a_wrong_code_or_reason_is_refused_and_changes_nothing(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        for code, reason in ((1005, ""), (1006, ""), (999, ""), (5000, ""), (1000, "x" * 124)):
            with pytest.raises(ValueError, match=r"a close frame carries|a reason of 124"):
                place.transport.loseConnection(code, reason)
        assert place.came() == []
        place.send(TEXT, b"still open")
        assert place.application.heard == ["still open"]

    def test_a_peer_that_never_answers_is_dropped_after_a_while(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.loseConnection()
        place.wait(4.75)
        assert place.application.end is None
        place.wait(0.5)
        assert place.application.ended_with == (ConnectionBroken, 1006, "")
        assert place.line.was_aborted
        assert place.is_gone()

    def test_a_peer_that_dribbles_instead_of_answering_is_dropped_as_soon(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.loseConnection()
        place.send(TEXT, b"a", fin=False)
        for _ in range(42):
            place.send(CONTINUATION, b"a", fin=False)
            place.wait(0.125)
        assert isinstance(place.application.end, ConnectionBroken)
        assert place.is_gone()

    def test_a_peer_that_takes_nothing_is_not_waited_for_longer(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.line.takes = False
        place.transport.sendBytesMessage(bytes(100_000))
        place.transport.loseConnection()
        place.wait(5.25, answers=False)
        assert isinstance(place.application.end, ConnectionBroken)
        assert place.is_gone()

    def test_a_fault_of_the_peers_while_it_closes_is_no_clean_end(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.loseConnection()
        place.send(3)
        place.turn(3)
        assert place.application.ended_with is not None
        assert place.application.ended_with[:2] == (ConnectionBroken, 1002)

    def test_both_may_close_at_once(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.loseConnection(4001)
        place.send(CLOSE, close_payload(4002, b"me too"))
        assert [event.code for event in place.came()] == [4001]
        place.line.end_input()
        place.turn(3)
        assert place.application.ended_with == (ConnectionClosed, 4002, "me too")
        assert place.is_gone()


@pytest.mark.parametrize("side", SIDES)
class TestThePeerCloses:
    @pytest.mark.parametrize("code", EVERY_CODE)
    def test_its_code_and_reason_are_told_and_the_code_goes_back(self, side: Side, code: int) -> None:
        place = Place(side, limits=LIMITS)
        place.send(CLOSE, close_payload(code, "grüße".encode()))
        assert place.came() == [Event(Opcode.CLOSE, "", code)]
        place.line.end_input()
        place.turn(3)
        assert place.application.ended_with == (ConnectionClosed, code, "grüße")
        assert place.is_gone()

    def test_a_close_frame_without_a_code_is_1005(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.send(CLOSE)
        assert place.came() == [Event(Opcode.CLOSE, "", 1005)]
        place.line.end_input()
        place.turn(3)
        assert place.application.ended_with == (ConnectionClosed, 1005, "")

    def test_a_peer_that_says_nothing_more_at_once_gets_all_there_is(self, side: Side) -> None:
        place = Place(side, Echo(), limits=LIMITS)
        place.line.takes = False
        place.line.room_bytes = 2_000
        for _ in range(20):
            place.send(BINARY, bytes(500))
        place.send(CLOSE)
        place.line.end_input()
        place.turn(5)
        place.line.take()
        events = place.came()
        assert [event.data for event in events[:-1]] == [bytes(500)] * 20
        assert events[-1].opcode is Opcode.CLOSE
        place.turn(3)
        assert place.application.ended_with == (ConnectionClosed, 1005, "")
        assert place.is_gone()

    def test_what_it_sends_afterwards_is_not_heard(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.line.closes_too = False
        place.line.send(place.frame(CLOSE) + place.frame(TEXT, b"late"))
        place.send(TEXT, b"later")
        assert place.application.heard == []


class TestWhoDropsTheConnection:
    def test_a_server_does_as_soon_as_all_is_sent_but_reads_on_for_a_while(self) -> None:
        place = Place(Side.SERVER, limits=LIMITS)
        place.line.closes_too = False
        place.send(CLOSE)
        place.turn(3)
        assert place.line.output_is_over
        place.send(TEXT, b"late")
        assert place.line.connected
        place.wait(5.25)
        assert place.line.was_aborted
        assert place.application.ended_with == (ConnectionClosed, 1005, "")
        assert place.is_gone()

    def test_a_client_waits_for_the_server_but_not_for_ever(self) -> None:
        place = Place(Side.CLIENT, limits=LIMITS)
        place.send(CLOSE)
        place.wait(4.75)
        assert place.line.connected
        assert not place.line.output_is_over
        place.wait(0.5)
        assert place.application.ended_with == (ConnectionClosed, 1005, "")
        assert place.is_gone()

    def test_a_client_that_fails_the_connection_does_not_wait(self) -> None:
        place = Place(Side.CLIENT, limits=LIMITS)
        place.send(3)
        place.turn(3)
        assert place.line.output_is_over
        assert isinstance(place.application.end, ConnectionBroken)


def _vanish(place: Place) -> None:
    place.line.vanish()


def _end_input(place: Place) -> None:
    place.line.end_input()


def _end_in_a_message(place: Place) -> None:
    place.line.send(place.frame(TEXT, b"hello")[:-1])
    place.line.end_input()


ABNORMAL: list[tuple[Callable[[Place], None], int, str]] = [
    (_vanish, 1006, ""),
    (_end_input, 1006, ""),
    (_end_in_a_message, 1006, ""),
    (lambda place: place.send(3), 1002, "a frame with a reserved opcode"),
    (lambda place: place.send(TEXT, b"\xff"), 1007, "text that is not UTF-8"),
    (lambda place: place.send(TEXT, b"x" * 1_001), 1009, "a frame of more than 1000 bytes"),
    (lambda place: place.transport.abortConnection(), 1006, ""),
    (lambda place: place.transport.breakConnection("too slow"), 1008, "too slow"),
    (lambda place: place.transport.breakConnection("why", 4444), 4444, "why"),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("end", "code", "reason"), ABNORMAL)
def test_abnormal_ends_can_be_told_apart(
    side: Side, end: Callable[[Place], None], code: int, reason: str
) -> None:
    place = Place(side, limits=LIMITS)
    end(place)
    place.turn(4)
    assert place.application.ended_with == (ConnectionBroken, code, reason)
    assert place.is_gone()


@pytest.mark.parametrize("side", SIDES)
def test_the_reason_below_is_the_cause(side: Side) -> None:
    place = Place(side, limits=LIMITS)
    below = ConnectionLost("the cable")
    place.line.vanish(below)
    assert place.application.end is not None
    assert place.application.end.__cause__ is below


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("agreed", [None, Deflate()])
def test_what_is_left_unread_at_the_end_is_delivered_before_it(side: Side, agreed: Deflate | None) -> None:
    application = Recorder(textMessageReceived=lambda a: a.transport.pauseProducing())
    place = Place(side, application, limits=LIMITS, agreed=agreed)
    place.line.send(b"".join(place.frame(TEXT, b"%d" % i) for i in range(500)) + place.frame(CLOSE))
    place.turn(3)
    assert application.heard == ["0"]
    place.line.vanish()
    place.turn(10)
    assert application.heard == [str(i) for i in range(500)]
    assert application.ended_with == (ConnectionClosed, 1005, "")
    assert place.is_gone()


class OnRealSockets(WebSocketCase):
    async def test_the_close_frame_reaches_a_peer_that_sends_on_and_on(self) -> None:
        for kind in ("tcp", "unix", "tls"):
            application = Recorder()
            port, _ = await self.serve(Giving(application), kind, limits=LIMITS)
            peer = await self.opened(port, kind=kind)
            peer.send(3)
            for _ in range(20):
                with contextlib.suppress(BlockingIOError, ssl.SSLError, BrokenPipeError):
                    peer.end.socket.send(b"x" * 20_000)
                await self.turns(1)
            await self.heard(peer, 1)
            assert [event.code for event in peer.events] == [1002], kind
            peer.end.close()
            await self.ended(application)
            assert application.ended_with == (ConnectionBroken, 1002, "a frame with a reserved opcode")

    async def test_all_that_was_sent_reaches_a_slow_peer_before_the_close_frame(self) -> None:
        for kind in ("tcp", "unix", "tls"):
            application = Recorder()
            port, _ = await self.serve(Giving(application), kind)
            peer = await self.opened(port, kind=kind, receive_buffer_bytes=4_096)
            for i in range(10):
                application.transport.sendBytesMessage(b"%d" % i * 90_000)
            application.transport.loseConnection(4000, "that was all")
            peer.send(BINARY, bytes(1_000))
            await self.heard(peer, 11)
            assert [event.data for event in peer.events[:-1]] == [b"%d" % i * 90_000 for i in range(10)], kind
            assert (peer.events[-1].code, peer.events[-1].data) == (4000, "that was all")
            peer.send(CLOSE, close_payload(4000))
            await self.until_end(peer.end)
            assert not peer.end.was_reset, kind
            peer.end.close()
            await self.ended(application)
            assert application.ended_with == (ConnectionClosed, 4000, "")


@pytest.mark.parametrize("side", SIDES)
def test_last_words_reach_a_peer_that_has_shut_its_side(side: Side) -> None:
    class Deliberate(Echo):
        def inputEnded(self, end: End) -> None:
            """Closes when the test has it so."""

    application = Deliberate()
    place = Place(side, application, limits=LIMITS)
    place.send(CLOSE, close_payload(4000))
    place.line.end_input()
    place.turn(3)
    application.transport.sendTextMessage("last words")
    application.transport.loseConnection()
    assert place.came() == [Event(Opcode.TEXT, "last words"), Event(Opcode.CLOSE, "", 4000)]
    place.turn(3)
    assert application.ended_with == (ConnectionClosed, 4000, "")
    assert place.is_gone()
