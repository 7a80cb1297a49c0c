"""TLS that writes at once: over real sockets, and whatever the peer does."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import Any, cast

import pytest
from live import PATIENCE_S
from net.certificate import server_context
from net.loopback import End, LoopbackCase
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer, IPushProducer, ISSLTransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from chatproto.net.prompttls import PromptTLSFactory

MUCH = os.urandom(5_000_000)
"""More than the kernel holds for a peer that does not read."""


def received_meanwhile(end: End) -> bytes:
    """What comes while the reactor stands still."""
    end.socket.settimeout(PATIENCE_S)
    try:
        return end.socket.recv(100)
    finally:
        end.socket.setblocking(False)


@implementer(IPushProducer)
class Talker(Protocol):
    """Notes what it is told; as a producer too, if it registers itself."""

    def __init__(self) -> None:
        self.received = b""
        self.told: list[str] = []
        self.losses: list[Failure] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note it."""
        self.losses.append(reason)

    def pauseProducing(self) -> None:
        """Note it."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """Note it."""
        self.told.append("resume")

    def stopProducing(self) -> None:
        """Note it."""
        self.told.append("stop")


class PromptTLSTests(LoopbackCase):
    """A protocol on TLS, and a peer that is the test."""

    async def pair(
        self, *, kind: str = "tcp", wrapped: bool = False, made: type[Talker] = Talker
    ) -> tuple[Any, End]:
        """A protocol whose handshake is over, and its peer."""
        talkers: list[Talker] = []

        class Talkers(Factory):
            noisy = False

            def buildProtocol(self, addr: object) -> Protocol:
                talkers.append(made())
                return talkers[-1]

        factory: Any = PromptTLSFactory(server_context(), False, Talkers())
        if wrapped:
            factory = WrappingFactory(factory)
        port = await self.listen(factory, kind)
        # What is accepted there has it too; without it the kernel holds what it thinks right, and ever more.
        cast(Any, port).socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        end = self.connect(port, kind, receive_buffer_bytes=65_536)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        end.socket = context.wrap_socket(end.socket, do_handshake_on_connect=False)
        self.addCleanup(end.close)
        await self.shake_hands(end)
        end.send(b"hello")
        await self.until(lambda: talkers and talkers[0].received == b"hello")
        return talkers[0], end

    async def test_what_is_written_is_there_before_the_reactor_goes_round(self) -> None:
        talker, end = await self.pair()
        talker.transport.write(b"at once")
        assert received_meanwhile(end) == b"at once"

    async def test_so_it_is_on_a_unix_socket(self) -> None:
        talker, end = await self.pair(kind="unix")
        talker.transport.write(b"at once")
        assert received_meanwhile(end) == b"at once"

    async def test_it_says_that_it_is_tls_and_who_is_there(self) -> None:
        talker, end = await self.pair()
        assert ISSLTransport.providedBy(talker.transport)
        assert talker.transport.getPeer().port == end.socket.getsockname()[1]

    async def test_what_the_kernel_does_not_take_comes_in_order_after_the_rest(self) -> None:
        talker, end = await self.pair()
        talker.transport.write(MUCH)
        talker.transport.write(b"a word behind it")
        await self.until(lambda: end.read() == 0 and len(end.received) >= len(MUCH) + 16)
        assert end.received == MUCH + b"a word behind it"
        # And then there is nothing to wait for any more.
        talker.transport.write(b"at once")
        assert received_meanwhile(end) == b"at once"

    async def test_a_producer_is_paused_while_something_waits(self) -> None:
        talker, end = await self.pair()
        talker.transport.registerProducer(talker, True)
        talker.transport.write(b"little")
        assert talker.told == []
        talker.transport.write(MUCH)
        assert talker.told == ["pause"]
        await self.until(lambda: end.read() == 0 and talker.told == ["pause", "resume"])
        talker.transport.unregisterProducer()

    async def test_a_producer_that_comes_while_something_waits_is_paused_when_it_writes(self) -> None:
        talker, end = await self.pair()
        talker.transport.write(MUCH)
        talker.transport.registerProducer(talker, True)
        talker.transport.write(b"a word behind it")
        assert talker.told == ["pause"]
        await self.until(lambda: end.read() == 0 and talker.told == ["pause", "resume"])
        talker.transport.unregisterProducer()

    async def test_a_producer_that_goes_on_while_something_waits_is_paused_again(self) -> None:
        written: list[int] = []

        class Eager(Talker):
            """Writes before TLS is there, where it waits for the handshake; then whenever it may."""

            def connectionMade(self) -> None:
                """Begin."""
                transport: Any = self.transport
                transport.registerProducer(self, True)
                transport.write(MUCH)

            def resumeProducing(self) -> None:
                """Write until it is told to pause, or a hundred times."""
                super().resumeProducing()
                assert self.transport is not None
                while self.told[-1] == "resume" and len(written) < 100:
                    written.append(1)
                    self.transport.write(bytes(100_000))

        talker, end = await self.pair(made=Eager)
        assert len(written) == 1
        assert talker.told == ["pause", "resume", "pause"]
        await self.until(lambda: end.read() == 0 and len(end.received) >= len(MUCH) + 100_000)
        assert end.received[: len(MUCH)] == MUCH
        talker.transport.unregisterProducer()

    async def test_a_producer_that_is_pulled_may_come_while_something_waits(self) -> None:
        talker, end = await self.pair()
        pieces = [b"%d" % number * 50_000 for number in range(30)]

        @implementer(IPullProducer)
        class Pulled:
            def resumeProducing(self) -> None:
                """Write a piece, until there is none."""
                talker.transport.write(waiting.pop(0))
                if not waiting:
                    talker.transport.unregisterProducer()

            def stopProducing(self) -> None:
                """It was not over."""
                talker.told.append("stop")

        waiting = list(pieces)
        talker.transport.write(MUCH)
        talker.transport.registerProducer(Pulled(), False)
        talker.transport.loseConnection()
        await self.turns(50)
        assert len(waiting) > 20, "it is not pulled while something waits"
        assert await self.until_end(end) == MUCH + b"".join(pieces)
        assert talker.told == []

    async def test_a_second_producer_is_refused(self) -> None:
        talker, _ = await self.pair()
        talker.transport.registerProducer(talker, True)
        with pytest.raises(RuntimeError):
            talker.transport.registerProducer(Talker(), True)
        talker.transport.unregisterProducer()

    async def test_everything_is_sent_before_it_closes_and_then_the_end_of_tls(self) -> None:
        talker, end = await self.pair()
        talker.transport.write(MUCH)
        talker.transport.loseConnection()
        # Without the end of TLS before that of the stream the peer's `ssl` would raise SSLEOFError.
        assert await self.until_end(end) == MUCH
        end.socket.unwrap()  # type: ignore[attr-defined]
        await self.until(lambda: talker.losses)
        assert len(talker.losses) == 1

    async def test_a_producer_is_stopped_when_the_peer_ends_tls(self) -> None:
        talker, end = await self.pair()
        talker.transport.registerProducer(talker, True)

        def has_ended() -> bool:
            with contextlib.suppress(ssl.SSLWantReadError, OSError):
                end.socket.unwrap()  # type: ignore[attr-defined]
            return bool(talker.losses)

        await self.until(has_ended)
        assert talker.told == ["stop"]
        assert len(talker.losses) == 1

    async def test_a_reset_ends_it_once_and_later_writes_do_no_harm(self) -> None:
        talker, end = await self.pair()
        transport = talker.transport
        transport.registerProducer(talker, True)
        end.reset()
        await self.until(lambda: transport.write(b"into the void") or talker.losses)
        assert talker.told[-1] == "stop"
        transport.write(b"still")
        transport.loseConnection()
        await self.turns()
        assert len(talker.losses) == 1
        assert talker.told.count("stop") == 1

    async def test_nothing_is_sent_after_an_abort(self) -> None:
        for kind in ("tcp", "unix"):
            talker, end = await self.pair(kind=kind)
            talker.transport.write(b"so far")
            assert received_meanwhile(end) == b"so far"  # and what TLS has sent for itself before that
            end.socket = socket.socket(fileno=end.socket.detach())
            talker.transport.abortConnection()
            talker.transport.write(b"too late")
            # Nor is the end of TLS: a peer must not take what it has for all that there was.
            assert await self.until_end(end) == b""
            await self.until(lambda: talker.losses)  # noqa: B023

    async def test_a_peer_that_says_that_it_ends_is_sent_what_waits(self) -> None:
        talker, end = await self.pair()
        talker.transport.registerProducer(talker, True)
        talker.transport.write(MUCH)
        with contextlib.suppress(ssl.SSLError):  # as there is data before the other end of TLS
            end.socket.unwrap()  # type: ignore[attr-defined]
        end.socket = socket.socket(fileno=end.socket.detach())
        assert len(await self.until_end(end)) > len(MUCH) - 2**15  # but for what `ssl` has taken
        assert not end.was_reset
        await self.until(lambda: talker.losses)
        assert talker.told == ["pause", "stop"]
        assert talker.losses[0].type is ConnectionDone

    async def test_over_another_wrapper_it_goes_by_that(self) -> None:
        talker, end = await self.pair(wrapped=True)
        talker.transport.write(MUCH)
        talker.transport.write(b"a word behind it")
        await self.until(lambda: end.read() == 0 and len(end.received) >= len(MUCH) + 16)
        assert end.received == MUCH + b"a word behind it"

    async def test_a_handshake_that_makes_no_sense_ends_the_connection(self) -> None:
        factory: Any = PromptTLSFactory(server_context(), False, Factory.forProtocol(Talker))
        port = await self.listen(factory)
        end = self.connect(port)
        end.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await self.until_end(end))[:1] in (b"", b"\x15")  # an alert, if anything
        await self.until(lambda: not factory.protocols)
