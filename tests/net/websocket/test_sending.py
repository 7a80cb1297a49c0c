"""What waits for the peer, either side: it is bounded, and the application is told."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from net.websocket.applications import Applications, Echo, Giving, Recorder
from net.websocket.conftest import Logged
from net.websocket.memory import Place
from net.websocket.sockets import WebSocketCase
from twisted.internet.interfaces import IPushProducer
from wire.talkers import SIDES
from wire.websocket_model import BINARY, PING, TEXT
from zope.interface import implementer

from chatproto.net.sendqueue import SendQueue
from chatproto.websocket import ConnectionBroken, PreparedMessage, WebSocketLimits
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode

MOST_BYTES = 100_000
HALF = bytes(50_000)
"""With what each entry costs this is more than half."""
BLOCKER = b"what the line takes before it says that it has enough"
LIMITS = WebSocketLimits(max_queued_bytes=MOST_BYTES, stall_timeout_s=45, ping_interval_s=0)
TOO_SLOW = (ConnectionBroken, 1008, f"more than {MOST_BYTES} bytes wait for it")


@implementer(IPushProducer)
class Producer:
    """Remembers what it was told; *then* is what it does about it."""

    def __init__(self, then: Callable[[str], object] = lambda told: None) -> None:
        self.told: list[str] = []
        self.then = then

    def _tell(self, name: str) -> None:
        self.told.append(name)
        self.then(name)

    def pauseProducing(self) -> None:
        self._tell("pause")

    def resumeProducing(self) -> None:
        self._tell("resume")

    def stopProducing(self) -> None:
        self._tell("stop")


def blocked(side: Side, application: Any = None) -> Place:
    """A connection whose peer takes nothing."""
    place = Place(side, application, limits=LIMITS)
    place.line.takes = False
    place.transport.sendBytesMessage(BLOCKER)
    place.turn()
    return place


def queue_told(application: Recorder) -> list[str]:
    """What it was told of the queue."""
    return [name.removeprefix("sendQueue") for name in application.told if name.startswith("sendQueue")]


@pytest.mark.parametrize("side", SIDES)
class TestTheBound:
    def test_past_half_of_it_the_application_is_told_and_when_nothing_waits_any_more(
        self, side: Side
    ) -> None:
        place = blocked(side)
        place.transport.sendBytesMessage(HALF[:-500])
        assert queue_told(place.application) == []
        place.transport.sendBytesMessage(bytes(400))
        assert queue_told(place.application) == ["Filled"]
        place.transport.sendBytesMessage(bytes(400))
        assert queue_told(place.application) == ["Filled"]
        place.line.take()
        place.turn()
        assert queue_told(place.application) == ["Filled", "Drained"]
        assert place.transport.queued_bytes == 0
        assert len(place.came()) == 4

    def test_past_the_whole_the_connection_is_broken_as_too_slow(self, side: Side) -> None:
        place = blocked(side)
        for _ in range(3):
            place.transport.sendBytesMessage(HALF)
        place.transport.sendBytesMessage(b"nobody gets this")
        place.turn(2)
        assert place.application.ended_with == TOO_SLOW
        assert place.is_gone()

    def test_one_message_may_be_larger_than_the_bound(self, side: Side) -> None:
        place = blocked(side)
        large = bytes(3 * MOST_BYTES)
        place.transport.sendBytesMessage(large)
        place.turn()
        assert queue_told(place.application) == ["Filled"]
        place.line.take()
        place.turn()
        assert place.came() == [Event(Opcode.BINARY, BLOCKER), Event(Opcode.BINARY, large)]
        assert place.application.end is None

    def test_a_burst_that_the_transport_takes_is_no_slow_reader(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        for _ in range(20):
            place.transport.sendBytesMessage(HALF)
        assert queue_told(place.application) == []
        assert len(place.came()) == 20

    def test_pings_count_too(self, side: Side) -> None:
        place = blocked(side)
        for _ in range(MOST_BYTES // 64):
            place.transport.ping(bytes(125))
        place.turn(2)
        assert place.application.ended_with == TOO_SLOW

    def test_messages_for_many_count_too(self, side: Side) -> None:
        place = blocked(side)
        message = PreparedMessage(HALF)
        for _ in range(3):
            place.transport.send(message)
        place.turn(2)
        assert place.application.ended_with == TOO_SLOW

    def test_a_peer_that_takes_nothing_for_too_long_is_too_slow(self, side: Side) -> None:
        place = blocked(side)
        place.wait(43, answers=False)
        assert place.application.end is None
        place.wait(8, answers=False)
        assert place.application.ended_with == (ConnectionBroken, 1008, "the peer takes nothing any more")
        assert place.is_gone()

    def test_an_application_may_have_more_patience(self, side: Side) -> None:
        class Patient(Recorder):
            stalls = 0

            def sendQueueStalled(self) -> None:
                self.stalls += 1

        place = blocked(side, Patient())
        place.wait(100, answers=False)
        assert place.application.end is None
        assert place.application.stalls > 0

    def test_one_that_fails_to_have_it_is_ended(self, side: Side, logged: Logged) -> None:
        class Impatient(Recorder):
            def sendQueueStalled(self) -> None:
                raise ZeroDivisionError

        place = blocked(side, Impatient())
        place.wait(60, answers=False)
        assert logged.take() == ["ZeroDivisionError"]
        assert isinstance(place.application.end, ConnectionBroken)
        assert place.is_gone()


@pytest.mark.parametrize("side", SIDES)
class TestWhoDoesNotReadIsNotReadFrom:
    def test_reading_stops_while_much_waits_and_nothing_is_lost(self, side: Side) -> None:
        place = blocked(side, Echo())
        for i in range(50):
            place.send(BINARY, b"%02d" % i * 5_000)
            place.turn()
        heard = len(place.application.heard)
        assert heard < 10
        assert place.application.end is None
        place.line.take()
        place.turn(100)
        assert place.application.heard == [b"%02d" % i * 5_000 for i in range(50)]
        assert [event.data for event in place.came()] == [BLOCKER, *place.application.heard]
        assert queue_told(place.application)[:2] == ["Filled", "Drained"]

    def test_pings_whose_pongs_are_never_taken_come_to_an_end(self, side: Side) -> None:
        place = blocked(side)
        pings = place.frame(PING, bytes(125)) * 100
        for _ in range(100):
            place.line.send(pings)
            place.turn()
        assert queue_told(place.application) == ["Filled"]
        assert place.transport.queued_bytes < MOST_BYTES
        place.wait(60, answers=False)
        assert isinstance(place.application.end, ConnectionBroken)

    def test_reading_goes_on_only_when_the_application_wants_it_too(self, side: Side) -> None:
        place = blocked(side)
        place.transport.pauseProducing()
        place.transport.sendBytesMessage(HALF * 2)
        place.line.take()
        place.turn(2)
        assert queue_told(place.application) == ["Filled", "Drained"]
        place.send(TEXT, b"not yet")
        assert place.application.heard == []
        place.transport.resumeProducing()
        place.turn()
        assert place.application.heard == ["not yet"]


@pytest.mark.parametrize("side", SIDES)
class TestProducers:
    def test_one_is_paused_while_much_waits(self, side: Side) -> None:
        place = blocked(side)
        producer = Producer()
        place.transport.attachProducer(producer)
        place.transport.sendBytesMessage(HALF * 2)
        assert producer.told == ["pause"]
        place.line.take()
        place.turn()
        assert producer.told == ["pause", "resume"]

    def test_one_that_comes_while_much_waits_is_paused_at_once(self, side: Side) -> None:
        place = blocked(side)
        place.transport.sendBytesMessage(HALF * 2)
        producer = Producer()
        place.transport.attachProducer(producer)
        assert producer.told == ["pause"]

    def test_one_that_is_detached_is_told_nothing_more(self, side: Side) -> None:
        place = blocked(side)
        producer = Producer()
        place.transport.attachProducer(producer)
        place.transport.detachProducer()
        place.transport.detachProducer()
        place.transport.sendBytesMessage(HALF * 2)
        place.line.vanish()
        assert producer.told == []

    def test_there_is_one_at_a_time(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.attachProducer(Producer())
        with pytest.raises(RuntimeError, match="attached already"):
            place.transport.attachProducer(Producer())

    def test_one_is_stopped_when_the_connection_is_over(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        producer = Producer()
        place.transport.attachProducer(producer)
        place.line.vanish()
        assert producer.told == ["stop"]
        late = Producer()
        place.transport.attachProducer(late)
        assert late.told == ["stop"]

    def test_one_that_raises_is_logged_and_the_application_hears_all_the_same(
        self, side: Side, logged: Logged
    ) -> None:
        def fail(told: str) -> None:
            raise ZeroDivisionError

        place = Place(side, limits=LIMITS)
        place.transport.attachProducer(Producer(fail))
        place.line.vanish()
        assert place.application.ended_with == (ConnectionBroken, 1006, "")
        assert logged.take() == ["ZeroDivisionError"]

    def test_one_that_fills_the_queue_again_at_once_leaves_nobody_with_a_wrong_idea(self, side: Side) -> None:
        def go_on(told: str) -> None:
            if told == "resume":
                place.line.takes = False
                place.transport.sendBytesMessage(HALF * 2)  # this the line takes
                place.transport.sendBytesMessage(HALF * 2)

        order: list[str] = []
        application = Recorder(
            sendQueueFilled=lambda a: order.append("filled"),
            sendQueueDrained=lambda a: order.append("drained"),
        )
        place = blocked(side, application)
        producer = Producer(go_on)
        place.transport.attachProducer(producer)
        place.transport.sendBytesMessage(HALF * 2)
        for _ in range(3):
            place.line.take()
            place.turn()
        assert order == ["filled", "drained"] * 3 + ["filled"]
        assert producer.told == ["pause", "resume"] * 3 + ["pause"]

    def test_one_is_not_set_going_again_when_nothing_can_be_sent_any_more(self, side: Side) -> None:
        place = blocked(side)
        producer = Producer()
        place.transport.attachProducer(producer)
        place.transport.sendBytesMessage(HALF * 2)
        place.transport.loseConnection()
        place.line.take()
        place.turn(3)
        assert producer.told == ["pause"]
        assert queue_told(place.application) == ["Filled"]

    def test_an_application_that_does_so_keeps_its_producer_paused(self, side: Side) -> None:
        def go_on(application: Recorder) -> None:
            place.line.takes = False
            place.transport.sendBytesMessage(HALF * 2)  # this the line takes
            place.transport.sendBytesMessage(HALF * 2)

        place = blocked(side, Recorder(sendQueueDrained=go_on))
        producer = Producer()
        place.transport.attachProducer(producer)
        place.transport.sendBytesMessage(HALF * 2)
        for _ in range(3):
            place.line.take()
            place.turn()
        assert producer.told[-1] == "pause"
        assert queue_told(place.application)[-2:] == ["Drained", "Filled"]


@pytest.mark.parametrize("side", SIDES)
class TestWhatCanBeSent:
    def test_text_is_str_and_binary_is_bytes(self, side: Side) -> None:
        place = Place(side)
        wrong: Any
        for wrong in (b"bytes", None, 3):
            with pytest.raises(TypeError, match="a text message is a str"):
                place.transport.sendTextMessage(wrong)
        for wrong in ("text", None, 3):
            with pytest.raises(TypeError, match="message is"):
                place.transport.sendBytesMessage(wrong)
        with pytest.raises(UnicodeEncodeError):
            place.transport.sendTextMessage("\ud800")
        with pytest.raises(ValueError, match="125"):
            place.transport.ping(bytes(126))
        assert place.came() == []
        assert place.application.end is None

    def test_bytes_that_can_change_are_sent_as_they_were(self, side: Side) -> None:
        place = Place(side)
        mutable = bytearray(b"as it was")
        place.transport.sendBytesMessage(mutable)
        place.transport.sendBytesMessage(memoryview(mutable)[3:5])
        mutable[:] = b"something"
        assert [event.data for event in place.came()] == [b"as it was", b"it"]

    def test_nothing_is_sent_when_it_is_over_and_nobody_is_told_off(self, side: Side) -> None:
        place = Place(side)
        transport = place.transport
        place.line.vanish()
        transport.sendTextMessage("late")
        transport.sendBytesMessage(b"late")
        transport.send(PreparedMessage("late"))
        transport.ping(b"late")
        transport.pauseProducing()
        transport.resumeProducing()
        transport.loseConnection(4000, "late")
        transport.abortConnection()
        transport.breakConnection("late")
        transport.detachProducer()
        assert transport.getPeer() is None
        assert transport.getHost() is None
        assert transport.queued_bytes == 0
        place.turn(3)
        assert place.application.told[-1] == "connectionLost"
        assert place.is_gone()


class TestLargeMessages(WebSocketCase):
    async def test_one_is_not_copied_to_be_sent(self) -> None:
        applications = Applications()
        port, _ = await self.serve(applications, limits=WebSocketLimits(max_queued_bytes=2**30))
        peer = await self.opened(port)
        large = bytes(50_000_000)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        applications.made[0].transport.sendBytesMessage(large)
        received = 0

        def all_has_come() -> bool:
            nonlocal received
            received += peer.end.read(2**20)
            peer.end.received.clear()
            return received >= len(large)

        await self.until(all_has_come)
        _, peak_bytes = tracemalloc.get_traced_memory()
        assert peak_bytes < 6_000_000  # what the test itself reads at a time, and little more

    async def test_what_waits_is_bounded_on_every_kind_of_connection(self) -> None:
        for kind in ("tcp", "unix", "tls", "wrapped"):
            application = Recorder()
            port, _ = await self.serve(
                Giving(application), kind, limits=WebSocketLimits(max_queued_bytes=MOST_BYTES)
            )
            peer = await self.opened(port, kind=kind, receive_buffer_bytes=4_096)
            tracemalloc.start()
            for _ in range(2_000):
                if application.end is not None:
                    break
                application.transport.sendBytesMessage(b"x" * 20_000)
                await self.turns(1)
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert application.ended_with == TOO_SLOW, kind
            # A kernel that takes more than it did at first lets it drain before that.
            told = queue_told(application)
            assert told == (["Filled", "Drained"] * len(told))[: len(told)], kind
            assert told[-1] == "Filled", kind
            assert peak_bytes < 10 * MOST_BYTES, kind
            peer.end.close()


class TestAnswersWithinARead:
    """What is sent to whoever is just heard goes out at the end of that read."""

    def test_all_answers_to_one_read_go_out_in_one_piece_before_the_turn_ends(self) -> None:
        place = Place(Side.SERVER, Echo())
        written: list[bytes] = []
        place.line.write = written.append  # type: ignore[assignment,method-assign]
        place.line.send(place.frame(TEXT, b"one") + place.frame(TEXT, b"two"))
        assert written == [b"\x81\x03one\x81\x03two"]

    def test_they_wait_for_the_turn_where_others_get_something_in_it(self) -> None:
        def tell(application: Recorder) -> None:
            second.transport.sendTextMessage("to you")
            application.transport.sendTextMessage("to me")

        place = Place(Side.SERVER, Recorder(textMessageReceived=tell))
        second = Place(Side.SERVER, Recorder())
        second.line.producer = None
        second.transport.queue = SendQueue(
            second.line, second.transport, place.connections.turn, None, MOST_BYTES
        )
        written: list[bytes] = []
        place.line.write = written.append  # type: ignore[assignment,method-assign]
        place.line.send(place.frame(TEXT, b"hi"))
        assert written == []
        place.turn()
        assert written == [b"\x81\x05to me"]
