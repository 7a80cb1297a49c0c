"""How a chat connection begins, pauses and ends, on real sockets and over all that may lie between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from net.loopback import DIRECT, KINDS, LoopbackCase, TurnClock, messages, reactor
from net.loopback import End as Socket
from net.memory import Chat as ChatInMemory
from twisted.internet.defer import Deferred
from twisted.internet.error import TCPTimedOutError
from twisted.internet.error import TimeoutError as TimedOut
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chatproto.limits import Limits
from chatproto.net.chat import ChatProtocol
from chatproto.net.factory import ChatFactory
from chatproto.net.front import Front
from chatproto.rooms.hub import Hub
from chatproto.rooms.log import Receipt
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Chat,
    End,
    Error,
    History,
    Join,
    Leave,
    Login,
    Ping,
    Pong,
    Say,
    Who,
)

LIMITS = Limits(close_timeout_s=5, lag_timeout_s=20, max_queued_bytes=200_000, max_messages_per_s=0)


class ChatCase(LoopbackCase):
    def setUp(self) -> None:
        self.clock = TurnClock()
        self.hub = Hub(self.clock, limits=LIMITS)
        self.factory = ChatFactory(self.hub)

    async def join(
        self, kind: str, nick: str = "alice", *, receive_buffer_bytes: int = 0
    ) -> tuple[Socket, ChatProtocol]:
        """Someone who speaks frames and is in the default room: their end, and the server's."""
        before = set(self.factory.connections)
        end = self.connect(
            await self.listen(self.factory, kind), kind, receive_buffer_bytes=receive_buffer_bytes
        )
        await self.shake_hands(end)
        end.send(encode_frame(Join(nick)))

        def has_joined() -> bool:
            end.read()
            return any(isinstance(message, End) for message in messages(end.received))

        await self.until(has_joined)
        end.received.clear()
        (connection,) = self.factory.connections - before
        assert isinstance(connection, ChatProtocol)
        return end, connection

    async def until_ended(self, connection: ChatProtocol) -> None:
        """Wait until the session is over."""
        await self.until(lambda: connection.session.ended)

    async def until_blocked(self, connection: ChatProtocol) -> None:
        """Wait until the peer takes nothing more."""
        await self.until(lambda: connection.queue.blocked)

    async def until_gone(self, connection: ChatProtocol) -> None:
        """Wait until the server has lost a connection."""
        await self.until(lambda: connection not in self.factory.connections)

    async def until_all_gone(self) -> None:
        """Wait until nothing is left, timers included."""
        await self.until(lambda: not self.factory.fronts)
        assert not self.factory.connections
        assert not self.hub.sessions
        self.clock.advance(LIMITS.lag_timeout_s / 10)  # the sweep that finds nobody blocked any more
        assert self.clock.getDelayedCalls() == []


class Closing(ChatCase):
    async def test_last_words_arrive_although_much_was_sent_that_is_never_read(self) -> None:
        """Closing a socket with input in it would reset the connection, and take them away."""
        for kind in KINDS:
            end, connection = await self.join(kind)
            end.send(b"\0\0\0\0" + encode_frame(Ping(1)) * 10_000)
            await self.until_ended(connection)
            for _ in range(5):
                end.send(encode_frame(Ping(1)) * 1_000)
                await self.turns()
            received = await self.until_end(end)
            (error,) = messages(received)
            assert isinstance(error, Error), kind
            assert error.code == ErrorCode.MALFORMED
            assert not end.was_reset, kind
            end.close()
            await self.until_all_gone()

    async def test_a_session_s_end_is_the_connection_s(self) -> None:
        for kind in KINDS:
            end, _ = await self.join(kind)
            end.send(encode_frame(Ping(5)) + encode_frame(Leave("")))
            assert messages(await self.until_end(end)) == [Pong(5)]
            assert not end.was_reset, kind
            end.close()
            await self.until_all_gone()

    async def test_a_peer_that_never_closes_is_closed_after_a_time(self) -> None:
        for kind in KINDS:
            end, connection = await self.join(kind)
            end.send(encode_frame(Leave("")))
            await self.until_ended(connection)
            await self.turns(5)
            self.clock.advance(LIMITS.close_timeout_s + 0.1)
            await self.until_all_gone()
            end.close()

    async def test_a_peer_that_reads_nothing_is_cut_off_after_a_time(self) -> None:
        for kind in KINDS:
            end, connection = await self.join(kind)
            for _ in range(100):
                connection.queue.write(b"x" * 100_000)
            await self.until_blocked(connection)
            connection.session.end("left")
            self.clock.advance(LIMITS.close_timeout_s - 1)
            await self.turns(5)
            assert connection in self.factory.connections, kind
            self.clock.advance(1.1)
            await self.until_gone(connection)
            end.close()
            await self.until_all_gone()

    async def test_a_peer_for_which_the_kernel_has_room_but_too_little_to_say_so_is_cut_off(self) -> None:
        """All is written, but the last word, the FIN, waits for a socket that is writable."""
        _, connection = await self.join("unix")
        connection.queue.write(b"x" * 150_000)
        connection.queue.flush()
        assert not connection.queue.blocked, "the kernel took less than it does elsewhere"
        connection.session.end("left")
        await self.turns(5)
        self.clock.advance(LIMITS.close_timeout_s + 0.1)
        await self.until_all_gone()

    async def test_a_slow_reader_gets_everything_within_the_time(self) -> None:
        for kind in KINDS:
            end, connection = await self.join(kind)
            connection.queue.write(b"x" * 3_000_000)
            connection.session.end("left")
            await self.turns(20)
            assert await self.until_end(end) == b"x" * 3_000_000, kind
            assert not end.was_reset
            end.close()
            await self.until_all_gone()

    async def test_a_reset_while_closing_leaves_nothing(self) -> None:
        for kind in KINDS:
            end, connection = await self.join(kind)
            connection.queue.write(b"x" * 3_000_000)
            connection.session.end("left")
            end.reset()
            await self.until_all_gone()


class HalfClosing(ChatCase):
    """What wraps a transport of Twisted's knows no half-closed connections, so this is about plain ones."""

    async def test_everything_sent_before_takes_effect_and_is_answered(self) -> None:
        for kind in DIRECT:
            end, _ = await self.join(kind)
            end.send(b"".join(encode_frame(Ping(i)) for i in range(1_000)))
            end.end_input()
            assert messages(await self.until_end(end)) == [Pong(i) for i in range(1_000)], kind
            assert not end.was_reset
            await self.until_all_gone()

    async def test_answers_that_do_not_fit_into_the_kernel_wait_for_who_reads_late(self) -> None:
        for kind in DIRECT:
            end, _ = await self.join(kind, receive_buffer_bytes=4_096)
            for i in range(40):
                end.send(encode_frame(Say(0, "", f"{i}" * 2_000)))
                await self.turns(1)
            for _ in range(60):
                end.send(encode_frame(History("", 0, 40)))
            end.end_input()
            await self.turns(50)
            received = messages(await self.until_end(end))
            assert sum(isinstance(message, Chat) for message in received) == 40 * 60, kind
            assert not end.was_reset
            await self.until_all_gone()

    async def test_whoever_half_closes_and_then_reads_nothing_is_cut_off(self) -> None:
        for kind in DIRECT:
            end, connection = await self.join(kind)
            connection.queue.write(b"x" * 10_000_000)
            end.end_input()
            await self.until_ended(connection)
            self.clock.advance(LIMITS.close_timeout_s + 0.1)
            await self.until_all_gone()

    async def test_whoever_half_closes_and_then_resets_is_gone(self) -> None:
        for kind in DIRECT:
            end, connection = await self.join(kind)
            connection.queue.write(b"x" * 10_000_000)
            end.end_input()
            await self.until_ended(connection)
            end.reset()
            await self.until_all_gone()

    async def test_over_a_wrapper_the_end_of_the_input_is_the_end(self) -> None:
        for kind in ("wrapped", "haproxy"):
            end, _ = await self.join(kind)
            end.end_input()
            await self.until_all_gone()


class Pausing(ChatCase):
    def is_read_from(self, connection: ChatProtocol) -> bool:
        """Whether the reactor reads what this connection's peer sends."""
        bottom: Any = connection.transport
        while not hasattr(bottom, "doRead") or "transport" in vars(bottom):
            bottom = bottom.transport
        return bottom in reactor.getReaders()

    async def test_whoever_reads_no_answers_is_not_read_from(self) -> None:
        for kind in KINDS:
            end, connection = await self.join(kind, receive_buffer_bytes=4_096)
            end.send(b"".join(encode_frame(Say(0, "", f"{i:04}" * 1_000)) for i in range(20)))
            await self.turns(3)
            sent = unread_turns = 0
            while unread_turns < 20:  # the kernel may take more after a while
                if self.is_read_from(connection):
                    end.send(encode_frame(History("", 0, 20)))
                    sent += 1
                    assert sent < 3_000
                    unread_turns = 0
                await self.turns(1)
                unread_turns += 1
            assert connection.queued_bytes <= LIMITS.max_queued_bytes
            end.send(encode_frame(Ping(7)))
            await self.turns(5)
            assert not self.is_read_from(connection)
            await self.until_received(end, encode_frame(Pong(7)))
            assert len([each for each in messages(end.received) if isinstance(each, Chat)]) == 20 * sent
            assert self.is_read_from(connection)
            end.close()
            await self.until_all_gone()

    async def test_whoever_is_not_read_from_and_vanishes_is_found(self) -> None:
        """A socket that the reactor does not watch says nothing of its end."""
        for kind in DIRECT:
            end, connection = await self.join(kind, receive_buffer_bytes=4_096)
            end.send(b"".join(encode_frame(Say(0, "", f"{i:04}" * 1_000)) for i in range(20)))
            while self.is_read_from(connection):
                end.send(encode_frame(History("", 0, 20)))
                await self.turns(2)
            end.reset()
            await self.until_all_gone()

    async def test_a_flood_of_requests_lets_others_have_their_turn(self) -> None:
        for kind in KINDS:
            flooding, _ = await self.join(kind, "flood")
            end, _ = await self.join(kind, "alice")
            flooding.send(encode_frame(Who("")) * 3_000)
            end.send(encode_frame(Ping(1)))
            await self.until_received(end, encode_frame(Pong(1)))
            assert flooding.received.count(b"alice") < 3_000
            for each in (flooding, end):
                each.close()
            await self.until_all_gone()


class Losing(ChatCase):
    async def test_connections_that_die_while_something_is_said_disturb_nobody(self) -> None:
        for kind in KINDS:
            people = [await self.join(kind, f"reader{i}") for i in range(6)]
            speaker, _ = await self.join(kind, "speaker")
            said = b"".join(encode_frame(Say(0, "", f"{i}")) for i in range(200))
            for end, _ in people[::2]:
                end.reset()
            speaker.send(said)
            for end, _ in people[1::2]:
                await self.until_received(end, b"\x00\x03199")
                texts = [message.text for message in messages(end.received) if isinstance(message, Chat)]
                assert texts == [f"{i}" for i in range(200)], kind
                end.close()
            speaker.close()
            await self.until_all_gone()
        assert self.flushLoggedErrors() == []

    async def test_a_connection_that_ends_within_a_message_to_all_disturbs_nobody(self) -> None:
        """It is lost by itself, in the middle of the round: what a transport may do on a write."""
        ends = [await self.join("tcp", f"reader{i}") for i in range(3)]
        speaker, _ = await self.join("tcp", "speaker")
        _, dying = ends[1]
        publish = dying.publish

        def publish_and_die(prepared: Any) -> bool:
            taken = publish(prepared)
            transport: Any = dying.transport
            if transport is not None:
                transport.abortConnection()
            return taken

        for member in dying.session.members.values():
            member.publish = publish_and_die
        speaker.send(b"".join(encode_frame(Say(0, "", f"{i}")) for i in range(10)))
        for end, connection in (ends[0], ends[2]):
            await self.until_received(end, b"\x00\x019")
            assert connection in self.factory.connections
        await self.until_gone(dying)
        for end, _ in [*ends, (speaker, None)]:
            end.close()
        await self.until_all_gone()

    async def test_whoever_takes_nothing_for_too_long_is_cut_off_and_others_go_on(self) -> None:
        for kind in KINDS:
            slow, connection = await self.join(kind, "slow", receive_buffer_bytes=4_096)
            end, _ = await self.join(kind, "alice")
            connection.queue.write(b"x" * 8_000_000)
            await self.until_blocked(connection)
            for _ in range(100):  # at first the kernel goes on taking
                self.clock.advance(LIMITS.lag_timeout_s / 10)
                await self.turns(3)
            assert connection.session.ended, kind
            self.clock.advance(LIMITS.close_timeout_s + 0.1)
            await self.until_gone(connection)
            await self.until_received(end, b"too slow")
            for each in (slow, end):
                each.close()
            await self.until_all_gone()

    def test_whoever_left_is_said_to_have_timed_out_if_that_is_why(self) -> None:
        for reason, said in ((TimedOut(), "timeout"), (TCPTimedOutError(), "timeout"), (None, "closed")):
            chat = ChatInMemory()
            bob, alice = chat.person("bob"), chat.person("alice")
            bob.lines()
            alice.vanish(reason)
            assert bob.lines() == [f"* alice left lobby ({said})"]


class InMemory(LoopbackCase):
    def test_a_transport_that_is_gone_when_the_chat_begins_ends_it(self) -> None:
        """TLS may fail within the handshake that the first write starts."""
        chat = ChatInMemory()
        line = chat.connect()
        line.registerProducer = lambda producer, streaming: producer.stopProducing()  # type: ignore[method-assign]
        line.send(encode_frame(Join("alice")))
        line.vanish()
        chat.clock.advance(0)
        assert chat.is_empty()

    def test_the_session_s_end_stops_reading_nothing(self) -> None:
        """What still comes is read and thrown away."""
        chat = ChatInMemory()
        line = chat.connect()
        line.send(encode_frame(Join("alice")) + encode_frame(Leave("")))
        line.send(encode_frame(Ping(1)))
        assert line.producerState == "producing"
        assert [message.type for message in line.messages()] == ["welcome", "roster", "end"]

    def test_a_session_that_ends_while_it_is_not_read_from_is_read_from_again(self) -> None:
        """Or the end of what the peer sends would not be noticed before the time is up."""
        unanswered: Deferred[bool] = Deferred()
        chat = ChatInMemory(authenticate=lambda user, secret: unanswered)
        line = chat.connect()
        line.send(encode_frame(Login("alice", "secret")) + encode_frame(Ping(1)))
        assert line.producerState == "paused"
        chat.factory.shut_down()
        chat.clock.pump([0] * 4)
        assert not line.connected
        assert chat.is_empty()

    def test_what_the_history_still_has_to_answer_comes_after_the_end_of_the_input(self) -> None:
        chat = ChatInMemory()
        append = chat.hub.log.append

        def append_slowly(*said: Any) -> Deferred[Receipt]:
            return deferLater(chat.clock, 0.5, cast(Callable[..., Receipt], append), *said)

        chat.hub.log.append = append_slowly  # type: ignore[method-assign, assignment]
        line = chat.connect()
        line.send(encode_frame(Join("alice")) + encode_frame(Say(7, "", "hi")))
        line.end_input()
        assert [message.type for message in line.messages()] == ["welcome", "roster", "end"]
        assert line.connected
        chat.clock.advance(0.6)
        assert [message.type for message in line.messages()] == ["ack"]
        assert not line.connected

    def test_losing_the_connection_twice_is_harmless(self) -> None:
        chat = ChatInMemory()
        chat.person("alice")
        (connection,) = chat.factory.connections
        assert isinstance(connection, ChatProtocol)
        connection.connectionLost(Failure(TimedOut()))
        connection.connectionLost(Failure(TimedOut()))
        assert connection.publish is not None
        connection.pause()
        connection.resume()
        connection.finish()
        connection.queueFlushed()
        assert chat.factory.connections == set()
        assert isinstance(next(iter(chat.factory.fronts)), Front)
