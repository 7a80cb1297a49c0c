"""Whether the peer lives: pings, pongs, silence, either side, on a clock that the test moves."""

from __future__ import annotations

from itertools import pairwise

import pytest
from net.loopback import TurnClock
from net.websocket.applications import Applications, Recorder
from net.websocket.memory import Place
from net.websocket.sockets import WebSocketCase
from wire.talkers import SIDES
from wire.websocket_model import BINARY, PING, PONG, TEXT

from chatproto.websocket import ConnectionBroken, WebSocketLimits
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode

LIMITS = WebSocketLimits(ping_interval_s=30, pong_timeout_s=10, close_timeout_s=5)
DEAD = (ConnectionBroken, 1011, "no pong within 10 s")


def pings(place: Place) -> list[bytes]:
    """The pings that came since this was last asked, and nothing else did."""
    events = place.came()
    assert {event.opcode for event in events} <= {Opcode.PING}
    return [event.data for event in events if isinstance(event.data, bytes)]


@pytest.mark.parametrize("side", SIDES)
class TestPings:
    def test_one_goes_out_every_30_s_and_a_peer_that_answers_stays(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        times = []
        payloads = set()
        for _ in range(8 * 300):
            place.clock.advance(0.125)
            for payload in pings(place):
                times.append(place.clock.seconds())
                payloads.add(payload)
                place.send(PONG, payload)
        assert len(times) == len(payloads) == 300 // 30
        assert [later - earlier for earlier, later in pairwise(times)] == [pytest.approx(30, abs=0.4)] * 9
        assert place.application.told == ["negotiationStarted", "negotiationFinished"]

    def test_a_peer_that_is_silent_is_failed_10_s_after_the_ping(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.wait(30.25, answers=False)
        assert len(pings(place)) == 1
        place.wait(9.5, answers=False)
        assert place.came() == []
        place.wait(0.75, answers=False)
        assert place.came() == [Event(Opcode.CLOSE, "no pong within 10 s", 1011)]
        place.wait(6, answers=False)
        assert place.application.ended_with == DEAD
        assert place.is_gone()

    def test_any_bytes_are_a_sign_of_life(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        dribble = place.frame(BINARY, bytes(500))
        for i in range(10):
            place.wait(30, answers=False)
            place.line.send(dribble[i * 51 : (i + 1) * 51])
        place.wait(8, answers=False)
        assert place.application.end is None
        assert place.application.heard == [bytes(500)]

    def test_the_round_trip_is_measured(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        assert place.transport.rtt_s is None
        place.wait(30.25, answers=False)
        place.came()
        [rtt_s, sent] = [None, place.transport._ping]
        assert rtt_s is place.transport.rtt_s
        assert sent is not None
        place.clock.advance(1.5)
        place.send(PONG, sent[0])
        assert place.transport.rtt_s == place.clock.seconds() - sent[1]
        assert 1.5 <= place.clock.seconds() - sent[1] <= 2

    def test_a_pong_that_was_not_asked_for_does_not_measure_anything(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.wait(30.25, answers=False)
        place.send(PONG, b"guess")
        assert place.transport.rtt_s is None
        assert place.application.pongs == [b"guess"]

    def test_pongs_to_pings_of_the_layers_own_never_reach_the_application(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.wait(30.25, answers=False)
        [first] = pings(place)
        place.send(TEXT, b"hello")
        place.wait(25, answers=False)  # what came was enough, so the pong is late now
        place.send(PONG, first)
        place.send(PONG, first)
        place.wait(6, answers=False)
        [second] = pings(place)
        place.send(PONG, first)
        place.send(PONG, second)
        place.send(PONG, second)
        assert place.application.pongs == []
        assert place.transport.rtt_s is not None

    def test_pongs_to_the_applications_pings_do(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.ping(b"12345678")
        place.transport.ping()
        assert pings(place) == [b"12345678", b""]
        place.send(PONG, b"12345678")
        place.send(PONG)
        assert place.application.pongs == [b"12345678", b""]

    def test_there_are_none_before_it_is_open_nor_if_nobody_wants_any(self, side: Side) -> None:
        place = Place(side, limits=WebSocketLimits(ping_interval_s=0))
        assert place.clock.getDelayedCalls() == []
        place.clock.advance(10_000)
        assert place.came() == []

    def test_they_may_be_more_frequent_than_the_patience_for_their_pongs(self, side: Side) -> None:
        place = Place(side, limits=WebSocketLimits(ping_interval_s=1, pong_timeout_s=10))
        place.wait(60)
        assert place.application.end is None
        place.came()
        place.wait(22, answers=False)
        assert place.application.end is not None
        assert place.application.end.code == 1011

    def test_none_goes_out_while_it_closes(self, side: Side) -> None:
        place = Place(side, limits=WebSocketLimits(close_timeout_s=100))
        place.transport.loseConnection()
        place.came()
        place.wait(90, answers=False)
        assert place.came() == []

    def test_whoever_does_not_read_hears_no_pong_and_keeps_the_peer(self, side: Side) -> None:
        place = Place(side, limits=LIMITS)
        place.transport.pauseProducing()
        place.wait(100, answers=False)
        [payload] = pings(place)
        place.send(PONG, payload)
        assert place.application.end is None
        place.transport.resumeProducing()
        place.wait(100)
        assert place.application.end is None
        place.wait(50, answers=False)
        assert place.application.ended_with == DEAD

    def test_while_nothing_is_taken_there_is_no_ping_and_the_queue_says_when_it_is_enough(
        self, side: Side
    ) -> None:
        place = Place(side, limits=WebSocketLimits(stall_timeout_s=100))
        place.line.takes = False
        place.transport.sendBytesMessage(bytes(10))
        place.wait(90, answers=False)
        assert place.application.end is None
        place.line.take()
        assert [event.opcode for event in place.came()] == [Opcode.BINARY]
        place.wait(60)
        assert place.application.end is None


class TestOnRealSockets(WebSocketCase):
    """What the kernel holds for the peer counts."""

    async def open_on(self, clock: TurnClock) -> tuple[Recorder, object]:
        applications = Applications()
        port, _ = await self.serve(applications, reactor=clock, limits=LIMITS)
        self.peer = await self.opened(port, receive_buffer_bytes=4_096)
        return applications.made[0], port

    def is_pinged(self) -> bool:
        return [event.opcode for event in self.peer.events[-1:]] == [Opcode.PING]

    async def pass_time(self, clock: TurnClock, seconds: float) -> None:
        clock.advance(seconds)
        await self.turns(5)

    async def test_a_slow_line_that_makes_progress_is_not_dead(self) -> None:
        clock = TurnClock()
        application, _ = await self.open_on(clock)
        application.transport.sendBytesMessage(bytes(400_000))
        await self.pass_time(clock, 30.25)
        # It takes 400 s for all of it, and the ping comes behind it.
        while application.transport.queue.undelivered_bytes > 20_000:
            self.peer.end.read(10_000)
            await self.pass_time(clock, 10.25)
            assert application.end is None
        await self.pass_time(clock, 9)
        await self.heard(self.peer, self.is_pinged)
        await self.pass_time(clock, 2)  # the ping has arrived only just now
        assert application.end is None
        pong = self.peer.events[-1].data
        assert isinstance(pong, bytes)
        self.peer.send(PONG, pong)
        await self.until(lambda: application.transport.rtt_s is not None)
        await self.pass_time(clock, 10.25)
        assert application.end is None

    async def test_one_that_makes_none_is(self) -> None:
        clock = TurnClock()
        application, _ = await self.open_on(clock)
        application.transport.sendBytesMessage(bytes(400_000))
        await self.pass_time(clock, 30.25)
        self.peer.end.read(100_000)
        for _ in range(3):
            await self.pass_time(clock, 10.25)
        clock.advance(10)
        await self.ended(application)
        assert application.ended_with == DEAD

    async def test_a_peer_that_takes_all_and_says_nothing_is_dead_after_10_s(self) -> None:
        clock = TurnClock()
        await self.open_on(clock)
        await self.pass_time(clock, 30.25)
        await self.heard(self.peer, 1)
        await self.pass_time(clock, 10.25)
        await self.heard(self.peer, 2)
        assert self.peer.events[-1].code == 1011

    async def test_a_pong_that_has_come_counts_however_late_this_process_gets_round_to_it(self) -> None:
        clock = TurnClock()
        application, _ = await self.open_on(clock)
        await self.pass_time(clock, 30.25)
        [ping] = await self.heard(self.peer, 1)
        assert ping.opcode is Opcode.PING
        assert isinstance(ping.data, bytes)
        self.peer.send(PONG, ping.data)
        clock.advance(100)  # the process stood still, and the timer comes before the socket
        await self.turns(10)
        assert application.transport.rtt_s is not None
        assert application.end is None
        assert self.peer.events == [ping]

    async def test_a_ping_of_the_peers_is_answered_with_what_it_has(self) -> None:
        clock = TurnClock()
        await self.open_on(clock)
        self.peer.send(PING, b"are you there?")
        assert await self.heard(self.peer, 1) == [Event(Opcode.PONG, b"are you there?")]
