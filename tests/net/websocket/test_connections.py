"""chatproto.net.websocket.connections: an end for all of them, and nothing that is left of any."""

from __future__ import annotations

import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from net.loopback import reactor
from net.websocket.applications import Applications, Echo, Giving, Recorder
from net.websocket.memory import Place, SlowLine, request_bytes
from net.websocket.sockets import WebSocketCase
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock
from wire.talkers import SIDES, TAKES_OVER
from wire.websocket_model import CLOSE, TEXT

from chatproto.websocket import (
    ConnectionBroken,
    ConnectionClosed,
    WebSocketClientEndpoint,
    WebSocketFactory,
    WebSocketLimits,
    WebSocketTransport,
)
from chatproto.wire.messages import Side


@pytest.mark.parametrize("side", SIDES)
class TestShutDown:
    def test_all_are_closed_with_a_code_and_it_is_over_when_the_last_is_gone(self, side: Side) -> None:
        place = Place(side)
        emptied = place.connections.shut_down(1012, "back soon")
        assert [(event.code, event.data) for event in place.came()] == [(1012, "back soon")]
        assert not emptied.called
        place.send(CLOSE)
        place.line.end_input()
        place.turn(2)
        assert emptied.called
        assert place.application.ended_with == (ConnectionClosed, 1005, "")

    def test_whoever_does_not_answer_is_not_waited_for_longer_than_is_due(self, side: Side) -> None:
        place = Place(side)
        emptied = place.connections.shut_down()
        place.wait(5.25, answers=False)
        assert emptied.called
        assert place.application.ended_with == (ConnectionBroken, 1006, "")
        assert place.is_gone()

    def test_it_may_be_asked_for_twice(self, side: Side) -> None:
        place = Place(side)
        first, second = place.connections.shut_down(1001), place.connections.shut_down(1012)
        assert [event.code for event in place.came()] == [1001]
        place.line.vanish()
        assert first.called
        assert second.called

    def test_with_nobody_there_it_is_over_at_once(self, side: Side) -> None:
        place = Place(side)
        place.line.vanish()
        assert place.connections.shut_down().called

    def test_what_is_no_close_is_refused_before_anything_is_done(self, side: Side) -> None:
        place = Place(side)
        for code, reason in ((1006, ""), (1000, "x" * 124)):
            with pytest.raises(ValueError, match=r"close frame|a reason of"):
                place.connections.shut_down(code, reason)
        assert place.came() == []
        assert not place.connections.is_shut

    def test_it_is_over_only_when_the_application_has_heard(self, side: Side) -> None:
        order: list[str] = []
        place = Place(side, Recorder(connectionLost=lambda application: order.append("told")))
        place.connections.shut_down().addCallback(lambda _: order.append("over"))
        place.line.vanish()
        assert order == ["told", "over"]


def test_who_is_in_the_middle_of_the_handshake_is_dropped() -> None:
    clock = Clock()
    factory = WebSocketFactory(Applications(), reactor=clock)
    line: Any = SlowLine(clock)
    line.protocol = factory.buildProtocol(None)
    line.protocol.makeConnection(line)
    line.send(request_bytes()[:20])
    emptied = factory.shut_down()
    clock.pump([0] * 3)
    assert emptied.called
    assert clock.getDelayedCalls() == []


# --- leftovers ----------------------------------------------------------------------------------------------


def _vanish(place: Place) -> None:
    place.line.vanish()


def _end_input(place: Place) -> None:
    place.line.end_input()


def _vanish_while_it_is_paused(place: Place) -> None:
    place.transport.pauseProducing()
    place.line.vanish()


def _vanish_while_something_waits(place: Place) -> None:
    place.transport.sendBytesMessage(bytes(10_000))
    place.line.vanish()


def _vanish_in_a_message(place: Place) -> None:
    place.send(TEXT, b"x" * 9_000, fin=False)
    place.line.vanish()


WAYS_TO_END: dict[str, Callable[[Place], object]] = {
    "it vanishes": _vanish,
    "the peer closes": lambda place: place.send(CLOSE),
    "the peer ends its input": _end_input,
    "a fault": lambda place: place.send(3),
    "this side closes": lambda place: place.transport.loseConnection(),
    "this side aborts": lambda place: place.transport.abortConnection(),
    "it is broken": lambda place: place.transport.breakConnection("too slow"),
    "silence": lambda place: place.wait(50, answers=False),
    "while it is paused": _vanish_while_it_is_paused,
    "while something waits": _vanish_while_something_waits,
    "in the middle of a message": _vanish_in_a_message,
}


@pytest.mark.parametrize("agreed", [None, TAKES_OVER])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("way", WAYS_TO_END)
def test_nothing_is_left_of_a_connection_however_it_ends(side: Side, agreed: Any, way: str) -> None:
    place = Place(side, Echo(), agreed=agreed)
    for _ in range(3):
        place.send(TEXT, b"hello" * 100, deflate=agreed is not None)
        place.wait(1)
    WAYS_TO_END[way](place)
    place.wait(20, answers=False)
    assert place.is_gone()
    transport = weakref.ref(place.line.protocol)
    queue = place.transport.queue
    application = weakref.ref(place.application)
    place.line.protocol = place.line.producer = None
    place.application = None
    # Nobody has to look for cycles: the last reference is the last.
    gc.disable()
    try:
        assert (transport(), application()) == (None, None)
        assert len(queue) == 0
    finally:
        gc.enable()


class OnRealSockets(WebSocketCase):
    async def test_nothing_is_left_when_both_ends_are_the_layers_own(self) -> None:
        for kind in ("tcp", "tls"):
            servers = Applications(Echo)
            port, factory = await self.serve(servers, kind)
            for end in ("loseConnection", "abortConnection"):
                application = Recorder()
                if kind == "tcp":
                    address: Any = port.getHost()
                    tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)
                    endpoint = WebSocketClientEndpoint(tcp, "ws://localhost/path", reactor=reactor)
                    await endpoint.connect(Giving(application))
                    application.transport.sendTextMessage("hello")
                    await self.has_heard(application)
                    getattr(application.transport, end)()
                    await self.ended(application)
                else:
                    peer = await self.opened(port, kind=kind)
                    peer.send(TEXT, b"hello")
                    await self.heard(peer, 1)
                    getattr(servers.made[-1].transport, end)()
                    if end == "loseConnection":
                        await self.heard(peer, 2)
                    peer.end.close()
                await self.emptied(factory)
            refs = [weakref.ref(it) for it in servers.made] + [
                weakref.ref(it.transport) for it in servers.made
            ]
            servers.made.clear()
            del application
            await self.turns(5)
            gc.collect()
            assert [ref() for ref in refs] == [None] * 4, kind

    async def test_no_timer_is_left_of_many(self) -> None:
        clock = Clock()
        factory = WebSocketFactory(
            Applications(Echo), reactor=clock, limits=WebSocketLimits(ping_interval_s=3)
        )
        lines: list[Any] = []
        for _ in range(100):
            line: Any = SlowLine(clock)
            line.protocol = factory.buildProtocol(None)
            line.protocol.makeConnection(line)
            clock.advance(0.1)
            line.send(request_bytes())
            lines.append(line)
        emptied: Deferred[None] = factory.shut_down()
        clock.advance(3)
        for line in lines:
            line.vanish()
        assert emptied.called
        assert clock.getDelayedCalls() == []
        assert isinstance(lines[0].protocol, WebSocketTransport)


class OnRealSocketsByResource(OnRealSockets):
    as_resource = True


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep what they keep")
def test_what_reads_need_in_turn_is_not_asked_of_the_system_each_time() -> None:
    code = (
        "import resource\n"
        "from twisted.internet.task import Clock\n"
        "from chatproto.websocket import WebSocketFactory\n"
        "WebSocketFactory(None, reactor=Clock())\n"
        "def page_faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "def read_much(): [bytearray(65_536) for _ in range(24)]\n"
        "for _ in range(10): read_much()\n"
        "before = page_faults()\n"
        "for _ in range(20): read_much()\n"
        "print(page_faults() - before)\n"
    )
    faults = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert int(faults.stdout) < 100  # of 4 KiB each, where 30 MiB were needed in turn
