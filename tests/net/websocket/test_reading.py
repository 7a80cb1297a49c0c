"""What comes from the peer, either side: pausing keeps it in order, and a turn has only so much of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from net.websocket.applications import Applications, Recorder
from net.websocket.memory import Place
from net.websocket.sockets import WebSocketCase
from wire.allocated import peak_bytes
from wire.streams import one_by_one
from wire.talkers import SIDES
from wire.websocket_model import BINARY, CLOSE, PING, TEXT, frame

from chatproto.net.websocket.passage import BYTES_PER_TURN, EVENTS_PER_TURN
from chatproto.websocket import ConnectionClosed, Deflate, WebSocketLimits
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Opcode

LIMITS = WebSocketLimits(ping_interval_s=0)
AGREEMENTS = [None, Deflate(min_message_bytes=0)]


def numbered(place: Place, first: int, count: int, compressed: bool = False) -> bytes:
    """Frames with texts that are numbers."""
    numbers = range(first, first + count)
    return b"".join(place.frame(TEXT, b"%d" % number, deflate=compressed) for number in numbers)


def pause_at(number: str) -> Recorder:
    """An application that stops reading at a text."""

    def look(application: Recorder) -> None:
        if application.heard[-1] == number:
            application.transport.pauseProducing()

    return Recorder(textMessageReceived=look)


@pytest.mark.parametrize("agreed", AGREEMENTS)
@pytest.mark.parametrize("side", SIDES)
class TestPausing:
    def test_nothing_is_delivered_while_paused_and_everything_in_order_afterwards(
        self, side: Side, agreed: Deflate | None
    ) -> None:
        place = Place(side, pause_at("10"), limits=LIMITS, agreed=agreed)
        place.line.send(numbered(place, 0, 50, agreed is not None))
        place.line.send(numbered(place, 50, 50))
        place.turn(3)
        assert place.application.heard == [str(i) for i in range(11)]
        place.line.send(numbered(place, 100, 50))
        place.transport.resumeProducing()
        assert len(place.application.heard) == 11, "whoever resumes may be in the middle of something"
        place.turn(3)
        assert place.application.heard == [str(i) for i in range(150)]

    def test_it_may_be_paused_and_resumed_between_any_two_bytes(
        self, side: Side, agreed: Deflate | None
    ) -> None:
        place = Place(side, limits=LIMITS, agreed=agreed)
        for i, byte in enumerate(one_by_one(numbered(place, 0, 10, agreed is not None))):
            place.line.send(byte)
            if i % 3 == 0:
                place.transport.pauseProducing()
            if i % 3 == 1:
                place.transport.resumeProducing()
            place.turn()
        place.transport.resumeProducing()
        place.turn(2)
        assert place.application.heard == [str(i) for i in range(10)]

    def test_one_message_for_each_resumption(self, side: Side, agreed: Deflate | None) -> None:
        application = Recorder(textMessageReceived=lambda it: it.transport.pauseProducing())
        place = Place(side, application, limits=LIMITS, agreed=agreed)
        place.line.send(numbered(place, 0, 20, agreed is not None))
        for count in range(1, 21):
            assert len(application.heard) == count
            application.transport.resumeProducing()
            place.turn()
        place.line.send(numbered(place, 20, 1))
        assert application.heard == [str(i) for i in range(21)]

    def test_a_close_frame_behind_what_waits_waits_too(self, side: Side, agreed: Deflate | None) -> None:
        place = Place(side, pause_at("0"), limits=LIMITS, agreed=agreed)
        place.line.send(numbered(place, 0, 2) + place.frame(CLOSE))
        place.wait(60, answers=False)
        assert place.application.end is None
        assert place.came() == []
        place.transport.resumeProducing()
        place.turn(2)
        assert place.application.heard == ["0", "1"]
        assert [event.opcode for event in place.came()] == [Opcode.CLOSE]
        place.line.end_input()
        place.turn(2)
        assert isinstance(place.application.end, ConnectionClosed)

    def test_pausing_twice_is_undone_by_resuming_once(self, side: Side, agreed: Deflate | None) -> None:
        place = Place(side, limits=LIMITS, agreed=agreed)
        place.transport.pauseProducing()
        place.transport.pauseProducing()
        place.line.send(numbered(place, 0, 1))
        assert place.application.heard == []
        place.transport.resumeProducing()
        place.transport.resumeProducing()
        place.turn()
        assert place.application.heard == ["0"]


@settings(max_examples=100)
@given(
    st.sampled_from(SIDES),
    st.booleans(),
    st.lists(st.one_of(st.sampled_from(["pause", "resume", "turn"]), st.integers(1, 250)), max_size=20),
)
def test_however_it_is_paused_and_resumed_all_of_it_comes_in_order(
    side: Side, compressed: bool, doings: list[str | int]
) -> None:
    place = Place(side, limits=LIMITS, agreed=AGREEMENTS[compressed])
    sent = 0
    is_paused = False
    for doing in doings:
        heard = len(place.application.heard)
        if isinstance(doing, int):
            place.line.send(numbered(place, sent, doing, compressed))
            sent += doing
        elif doing == "turn":
            place.turn()
        else:
            is_paused = doing == "pause"
            getattr(place.transport, f"{doing}Producing")()
        assert not is_paused or len(place.application.heard) == heard
    place.transport.resumeProducing()
    place.turn(60)
    assert place.application.heard == [str(i) for i in range(sent)]


@pytest.mark.parametrize("side", SIDES)
class TestOneTurn:
    def test_has_at_most_so_many_messages_of_a_peer(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.line.send(numbered(place, 0, 10 * EVENTS_PER_TURN))
        place.line.send(numbered(place, 0, 1))
        for turns in range(1, 11):
            assert len(place.application.heard) == turns * EVENTS_PER_TURN
            place.single_turn()
        assert len(place.application.heard) == 10 * EVENTS_PER_TURN + 1

    def test_has_about_so_many_bytes_of_them(self, side: Side) -> None:
        size = BYTES_PER_TURN // 4
        place = Place(side, limits=LIMITS)
        place.line.send(place.frame(BINARY, bytes(size)) * 20)
        for turns in range(1, 6):
            assert len(place.application.heard) == 4 * turns
            place.single_turn()

    def test_has_no_more_of_a_peer_that_is_gone(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.line.send(numbered(place, 0, 5 * EVENTS_PER_TURN))
        place.line.vanish()
        for turns in range(1, 6):
            assert len(place.application.heard) == turns * EVENTS_PER_TURN
            assert (place.application.end is None) is (turns < 5)
            place.single_turn()
        assert place.is_gone()

    def test_ends_with_the_connection_where_the_application_ends_it(self, side: Side) -> None:
        def end(application: Recorder) -> None:
            if len(application.heard) == 3:
                application.transport.abortConnection()

        place = Place(side, Recorder(textMessageReceived=end), limits=LIMITS)
        place.line.send(numbered(place, 0, 500))
        place.turn(3)
        assert len(place.application.heard) == 3
        assert place.is_gone()

    def test_the_pongs_for_one_read_are_one_entry_in_the_queue(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.line.takes = False
        place.transport.sendTextMessage("blocks the line")
        place.turn()
        place.line.send(place.frame(PING, b"x" * 10) * 1_000)
        assert len(place.transport.queue) == 1


class TestCompressedMessages:
    def most_bytes(self, place: Place, data: bytes) -> int:
        """How much memory it takes at once to take *data* in, and to have it delivered."""

        def take() -> None:
            place.line.send(data)
            for _ in range(200):
                place.turn()

        return peak_bytes(take)

    @pytest.mark.parametrize("agreed", [Deflate(), Deflate(client_no_context_takeover=True)])
    def test_a_read_that_stands_for_64_mib_is_never_there_at_once(self, agreed: Deflate) -> None:
        sizes: list[int] = []

        class Counting(Recorder):
            def bytesMessageReceived(self, data: bytes) -> None:
                sizes.append(len(data))

        place = Place(Side.SERVER, Counting(), limits=LIMITS, agreed=agreed)
        bomb = place.frame(BINARY, bytes(2**20), deflate=True)
        rest = place.frame(BINARY, bytes(2**20), deflate=True)
        count = 65_536 // len(rest)
        data = (
            bomb + rest + b"".join(place.frame(BINARY, bytes(2**20), deflate=True) for _ in range(count - 2))
        )
        assert len(data) < 70_000
        most_bytes = self.most_bytes(place, data)
        assert sizes == [2**20] * count
        assert count > 50
        assert most_bytes < 8 * 2**20

    def test_nor_where_nobody_gets_it_any_more(self) -> None:
        place = Place(Side.SERVER, limits=LIMITS, agreed=Deflate())
        place.transport.loseConnection()
        data = b"".join(place.frame(BINARY, bytes(2**20), deflate=True) for _ in range(60))
        assert self.most_bytes(place, data) < 8 * 2**20
        assert place.application.heard == []


class OnRealSockets(WebSocketCase):
    async def test_a_peer_that_is_not_read_cannot_send_without_end(self) -> None:
        for deflate in AGREEMENTS:
            applications = Applications(
                lambda: Recorder(negotiationFinished=lambda it: it.transport.pauseProducing())
            )
            port, _ = await self.serve(applications, deflate=deflate)
            peer = await self.opened(port)
            application: Any = applications.made[-1]
            texts = [f"{i:05}" * 200 for i in range(50)]
            data = b"".join(frame(TEXT, text.encode(), to=Side.SERVER) for text in texts)
            frame_bytes = len(data) // len(texts)
            sent = bytearray()
            for _ in range(1_000):
                try:
                    sent += data[: peer.end.socket.send(data[len(sent) % len(data) :])]
                except BlockingIOError:
                    break
                await self.turns(1)
            else:
                raise AssertionError(f"it took {len(sent)} bytes")
            assert application.heard == []
            application.transport.resumeProducing()
            whole = len(sent) // frame_bytes
            await self.has_heard(application, whole)
            assert application.heard == [texts[i % len(texts)] for i in range(whole)]
