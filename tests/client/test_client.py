"""chatproto.client.client and .connection, on a clock, against a scripted server in memory."""

from __future__ import annotations

from typing import Any

import pytest
from client.scripted import (
    EPOCH,
    Heard,
    ScriptedEndpoint,
    ScriptedServer,
    chat,
    granted,
    is_waiting,
    result,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from chatproto.client import ChatClient, ChatEvents, Disconnected, Refused, TooManyWaiting
from chatproto.client.client import _first_id
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Ack, Error, Goodbye, Join, Leave, Notice, Ping, Pong, Say

RETRY_S = 2.0


class Setting:
    """A client that waits 2 s, then 4 s and so on between attempts."""

    def __init__(self, events: ChatEvents | None = None, **settings: Any) -> None:
        self.clock = Clock()
        self.endpoint = ScriptedEndpoint(self.clock)
        self.heard = Heard()
        settings.setdefault("retry_policy", lambda attempt: RETRY_S * attempt)
        self.client = ChatClient(self.endpoint, "ann", events or self.heard, clock=self.clock, **settings)

    @property
    def server(self) -> ScriptedServer:
        """The newest connection."""
        return self.endpoint.servers[-1]

    def pass_s(self, seconds: float) -> None:
        """Let time pass, in steps as small as the reactor's."""
        self.clock.pump([0.0, *[0.5] * int(seconds * 2), 0.0])

    def open(self) -> ScriptedServer:
        """Connect and be let in to the lobby."""
        joined = self.client.join("lobby")
        self.client.start()
        assert self.server.received == [Join("ann", "lobby")]
        self.server.answer(*granted())
        result(joined)
        return self.server


class TestConnecting:
    def test_it_connects_when_started(self) -> None:
        setting = Setting()
        connected = setting.client.when_connected()
        setting.pass_s(5)
        assert setting.endpoint.attempts_s == []
        setting.client.start()
        assert result(connected) is None
        assert result(setting.client.when_connected()) is None
        assert not setting.client.open

    def test_it_goes_on_trying(self) -> None:
        setting = Setting()
        setting.endpoint.is_up = False
        first, any_one = setting.client.when_connected(1), setting.client.when_connected()
        setting.client.start()
        with pytest.raises(ConnectionRefusedError):
            result(first)
        setting.pass_s(12)
        assert setting.endpoint.attempts_s == [0.0, 2.0, 6.0, 12.0]
        assert setting.heard.of("reconnecting") == [2.0, 4.0, 6.0, 8.0]
        assert setting.heard.of("disconnected") == []
        setting.endpoint.is_up = True
        setting.pass_s(8)
        result(any_one)

    def test_it_may_be_stopped_by_who_learns_that_it_failed(self) -> None:
        setting = Setting()
        setting.endpoint.is_up = False
        stopped: list[Deferred[None]] = []
        setting.client.when_connected(1).addErrback(lambda failure: stopped.append(setting.client.stop()))
        setting.client.start()
        setting.pass_s(10)
        result(stopped[0])
        assert setting.endpoint.attempts_s == [0.0]

    def test_a_lost_connection_is_made_again(self) -> None:
        setting = Setting()
        setting.open().close()
        assert setting.heard.of("disconnected") == ["the server closed the connection"]
        assert not setting.client.open
        setting.pass_s(2)
        assert setting.endpoint.attempts_s == [0.0, 2.0]
        assert setting.server.received == [Join("ann", "lobby", EPOCH, 0, 65_535)]
        setting.server.answer(*granted())
        assert setting.client.open
        assert [welcome.server for welcome in setting.heard.of("connected")] == ["scripted", "scripted"]

    def test_the_reason_is_the_transports_where_nobody_gave_one(self) -> None:
        setting = Setting()
        setting.open().close(ConnectionLost("the cable broke."))
        (reason,) = setting.heard.of("disconnected")
        assert "the cable broke" in reason

    def test_a_connection_without_a_session_is_a_failure_too(self) -> None:
        """Or a server that accepts and closes would be asked for ever in the shortest interval."""
        setting = Setting()
        setting.client.start()
        setting.server.close()
        setting.pass_s(2)
        setting.server.close()
        setting.pass_s(4)
        assert setting.endpoint.attempts_s == [0.0, 2.0, 6.0]
        setting.client.join("lobby")
        setting.server.answer(*granted())
        setting.server.close()
        setting.pass_s(2)
        assert setting.endpoint.attempts_s == [0.0, 2.0, 6.0, 8.0]

    def test_the_library_decides_how_long_to_wait_by_default(self) -> None:
        setting = Setting(retry_policy=None)
        setting.open().close()
        (delay_s,) = setting.heard.of("reconnecting")
        assert 1.5 <= delay_s <= 2.5

    def test_the_reactor_is_the_clock_by_default(self) -> None:
        client = ChatClient(ScriptedEndpoint(Clock()), "ann")
        assert client.nick == "ann"
        assert client.rooms == ()


class TestGoodbye:
    def test_nobody_comes_back_sooner_than_the_server_wants(self) -> None:
        setting = Setting()
        server = setting.open()
        server.answer(Goodbye(7_500, "back soon"))
        setting.pass_s(1)
        server.close()
        assert setting.heard.of("disconnected") == ["back soon"]
        assert setting.heard.of("reconnecting") == [6.5]
        setting.pass_s(6)
        assert setting.endpoint.attempts_s == [0.0]
        setting.pass_s(0.5)
        assert setting.endpoint.attempts_s == [0.0, 7.5]

    def test_what_the_server_says_counts_though_the_back_off_is_longer(self) -> None:
        """It has told each client another time, so that they do not all come at once."""
        setting = Setting()
        server = setting.open()
        server.answer(Goodbye(500, ""))
        server.close()
        assert setting.heard.of("disconnected") == ["the server closed the connection"]
        assert setting.heard.of("reconnecting") == [0.5]

    def test_nobody_comes_back_at_once_whatever_the_server_says(self) -> None:
        setting = Setting()
        server = setting.open()
        server.answer(Goodbye(10, ""))
        server.close()
        assert setting.heard.of("reconnecting") == [0.25]

    def test_the_back_off_counts_where_the_server_does_not_say(self) -> None:
        setting = Setting()
        server = setting.open()
        server.answer(Goodbye(0, ""))
        server.close()
        assert setting.heard.of("reconnecting") == [2.0]

    def test_a_fatal_error_says_why(self) -> None:
        setting = Setting()
        server = setting.open()
        server.answer(Error(ErrorCode.TIMEOUT, 0, "no answer"))
        server.close()
        assert setting.heard.of("disconnected") == ["timeout: no answer"]

    def test_a_reason_is_not_that_of_the_next_loss(self) -> None:
        setting = Setting()
        server = setting.open()
        server.answer(Goodbye(0, "back soon"))
        server.close()
        setting.pass_s(2)
        setting.server.close()
        assert setting.heard.of("disconnected")[1] == "the server closed the connection"


class TestFrames:
    def test_any_cut_will_do(self) -> None:
        setting = Setting()
        server = setting.open()
        for byte in encode_frame(chat(1)) + encode_frame(chat(2)):
            server.answer_bytes(bytes([byte]))
        assert setting.heard.seqs == [1, 2]

    @pytest.mark.parametrize("fault", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\0\0\0", b"\0\0\0\5\x84\0\0\0\0"])
    def test_who_does_not_speak_the_protocol_is_left(self, fault: bytes) -> None:
        setting = Setting()
        server = setting.open()
        server.answer_bytes(encode_frame(chat(1)) + fault)
        server.answer_bytes(encode_frame(chat(2)))
        assert setting.heard.seqs == [1]
        assert server.was_aborted
        setting.pass_s(2)
        (reason,) = setting.heard.of("disconnected")
        assert reason.startswith("the server does not speak the protocol: ")
        assert len(setting.endpoint.servers) == 2

    def test_what_is_new_in_the_protocol_is_skipped(self) -> None:
        setting = Setting()
        setting.open().answer_bytes(b"\0\0\0\1\xf0" + encode_frame(chat(1)))
        assert setting.heard.seqs == [1]

    def test_the_bound_of_a_frame_may_be_set(self) -> None:
        setting = Setting(max_frame_bytes=100)
        server = setting.open()
        server.answer(Notice("x" * 100))
        assert server.was_aborted


class TestSignsOfLife:
    def test_the_server_is_asked_now_and_then(self) -> None:
        setting = Setting()
        server = setting.open()
        setting.pass_s(29.5)
        assert server.received == []
        setting.pass_s(0.5)
        (ping,) = server.received
        assert isinstance(ping, Ping)
        server.answer(Pong(ping.token))

    def test_a_dead_one_is_given_up(self) -> None:
        setting = Setting(ping_interval_s=5)
        server = setting.open()
        setting.pass_s(9.5)
        assert not server.was_aborted
        setting.pass_s(1)
        assert server.was_aborted
        assert setting.heard.of("disconnected") == ["the server was silent for 10 s"]
        setting.pass_s(2)
        assert len(setting.endpoint.servers) == 2

    def test_anything_that_comes_is_a_sign_of_life(self) -> None:
        setting = Setting(ping_interval_s=5)
        server = setting.open()
        for _ in range(10):
            setting.pass_s(4)
            server.answer_bytes(b"\0\0\0\1\xf0")
        assert not server.was_aborted

    def test_nobody_is_asked_between_connections(self) -> None:
        setting = Setting(ping_interval_s=1, retry_policy=lambda attempt: 100.0)
        setting.open().close()
        setting.pass_s(50)
        assert len(setting.clock.getDelayedCalls()) == 1

    def test_the_round_trip_is_measured(self) -> None:
        setting = Setting()
        server = setting.open()
        seconds = setting.client.ping()
        (ping,) = server.received
        assert isinstance(ping, Ping)
        setting.clock.advance(0.25)
        server.answer(Pong(ping.token))
        assert result(seconds) == 0.25


class TestStopping:
    def test_it_leaves_politely(self) -> None:
        setting = Setting()
        server = setting.open()
        stopped, again = setting.client.stop(), setting.client.stop()
        assert server.received == [Leave("")]
        assert is_waiting(stopped)
        server.close()
        setting.pass_s(10)
        assert result(stopped) is None
        assert result(again) is None
        assert setting.endpoint.attempts_s == [0.0]
        assert setting.heard.of("disconnected") == []
        assert setting.heard.of("reconnecting") == []
        assert setting.clock.getDelayedCalls() == []

    def test_what_is_acknowledged_meanwhile_counts(self) -> None:
        setting = Setting()
        server = setting.open()
        receipt = setting.client.say("lobby", "last words")
        setting.client.stop()
        (said, _leave) = server.received
        assert isinstance(said, Say)
        server.answer(Ack(said.id, 1, 0))
        assert result(receipt).seq == 1

    def test_a_server_that_does_not_close_is_left_anyway(self) -> None:
        setting = Setting(leave_timeout_s=3)
        server = setting.open()
        stopped = setting.client.stop()
        setting.pass_s(2.5)
        assert not server.was_aborted
        setting.pass_s(1)
        assert server.was_aborted
        result(stopped)

    def test_what_waits_fails(self) -> None:
        setting = Setting()
        server = setting.open()
        receipt, who = setting.client.say("lobby", "hi"), setting.client.who("lobby")
        setting.client.stop()
        server.close()
        setting.pass_s(1)
        waiting: list[Deferred[Any]] = [receipt, who]
        for each in waiting:
            with pytest.raises(Disconnected):
                result(each)

    def test_between_connections(self) -> None:
        setting = Setting()
        setting.open().close()
        receipt = setting.client.say("lobby", "hi")
        stopped = setting.client.stop()
        setting.pass_s(10)
        result(stopped)
        with pytest.raises(Disconnected, match="stopped"):
            result(receipt)
        assert setting.endpoint.attempts_s == [0.0]

    def test_before_it_was_started(self) -> None:
        setting = Setting()
        joined = setting.client.join("lobby")
        stopped = setting.client.stop()
        setting.pass_s(1)
        result(stopped)
        with pytest.raises(Disconnected):
            result(joined)

    def test_who_waits_for_a_connection_learns_of_it(self) -> None:
        setting = Setting()
        setting.endpoint.is_up = False
        connected = setting.client.when_connected()
        setting.client.start()
        setting.client.stop()
        setting.pass_s(1)
        with pytest.raises(CancelledError):
            result(connected)

    def test_in_the_middle_of_an_event(self) -> None:
        stopped: list[Deferred[None]] = []

        class Impatient(ChatEvents):
            def notice(self, message: Notice) -> None:
                stopped.append(setting.client.stop())

        setting = Setting(events=Impatient())
        server = setting.open()
        server.answer(Notice("one"), Notice("two"))
        server.close()
        setting.pass_s(1)
        assert [result(each) for each in stopped] == [None, None]

    def test_when_the_connection_is_lost(self) -> None:
        stopped: list[Deferred[None]] = []

        class Impatient(ChatEvents):
            def disconnected(self, reason: str) -> None:
                stopped.append(setting.client.stop())

        setting = Setting(events=Impatient())
        setting.open().close()
        setting.pass_s(10)
        assert [result(each) for each in stopped] == [None]
        assert len(setting.endpoint.servers) == 1

    def test_it_can_be_started_again(self) -> None:
        setting = Setting()
        server = setting.open()
        setting.client.stop().addCallback(lambda nothing: setting.client.start())
        server.close()
        setting.pass_s(1)
        assert setting.client.rooms == ()
        joined = setting.client.join("lobby")
        assert setting.server.received_joins == [Join("ann", "lobby")]
        setting.server.answer(*granted())
        result(joined)


class TestAHeldNickname:
    def test_it_is_asked_for_again_after_a_while(self) -> None:
        setting = Setting()
        setting.open().close()
        setting.pass_s(2)
        assert len(setting.server.received_joins) == 1
        setting.server.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"))
        setting.pass_s(1.5)
        assert setting.server.received == []
        setting.pass_s(0.5)
        assert len(setting.server.received_joins) == 1
        setting.server.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"))
        setting.pass_s(4)
        assert len(setting.server.received_joins) == 1
        setting.server.answer(*granted())
        assert setting.client.open

    def test_in_the_end_the_client_stops(self) -> None:
        setting = Setting(max_refusals=0)
        setting.open().close()
        receipt = setting.client.say("lobby", "hi")
        setting.pass_s(2)
        server = setting.server
        server.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"))
        assert server.received[-1] == Leave("")
        assert setting.heard.of("gave_up") == []
        server.close()
        setting.pass_s(10)
        assert [refusal.code for refusal in setting.heard.of("gave_up")] == [ErrorCode.NICK_TAKEN]
        with pytest.raises(Refused, match="taken"):
            result(receipt)
        assert len(setting.endpoint.servers) == 2

    def test_a_connection_that_is_lost_meanwhile_is_asked_no_more(self) -> None:
        setting = Setting(retry_policy=lambda attempt: 10.0)
        setting.open().close()
        setting.pass_s(10)
        setting.server.answer(Error(ErrorCode.NICK_TAKEN, 0, "taken"))
        setting.server.close()
        assert len(setting.clock.getDelayedCalls()) == 1  # the next attempt


class TestFlow:
    def test_it_is_a_producer(self) -> None:
        assert verifyObject(IPushProducer, Setting().client)

    def test_reading_stops_and_goes_on(self) -> None:
        setting = Setting(ping_interval_s=5)
        server = setting.open()
        setting.client.pauseProducing()
        setting.client.pauseProducing()
        assert server.producerState == "paused"
        setting.pass_s(60)
        assert not server.was_aborted  # it is not the server who is silent
        setting.client.resumeProducing()
        assert server.producerState == "producing"
        setting.pass_s(9)
        assert not server.was_aborted
        setting.pass_s(2)
        assert server.was_aborted

    def test_the_next_connection_is_not_read_either(self) -> None:
        setting = Setting()
        server = setting.open()
        setting.client.pauseProducing()
        server.close()
        setting.pass_s(2)
        assert setting.server.producerState == "paused"
        setting.client.stop()
        assert setting.server.producerState == "producing"

    def test_without_anyone_who_takes_it_there_is_no_use_in_going_on(self) -> None:
        setting = Setting()
        server = setting.open()
        setting.client.pauseProducing()
        setting.client.stopProducing()
        assert server.producerState == "producing"
        assert server.received == [Leave("")]


class TestTheRest:
    """Every method reaches the conversation; what each does is tested there."""

    def test_requests(self) -> None:
        setting = Setting()
        server = setting.open()
        client = setting.client
        waiting: list[Deferred[Any]] = [
            client.say("lobby", "hi"),
            client.tell("bob", "hi"),
            client.who("lobby"),
            client.history("lobby", 9, 9),
            client.search("lobby", "hi", 9),
            client.moderate(4, "lobby", "bob", 60, "spam"),
            client.login("ann", "secret"),
            client.rename("anna"),
            client.leave("lobby"),
        ]
        kinds = [message.type for message in server.received if not isinstance(message, Ping)]
        assert kinds == ["say", "tell", "who", "history", "search", "moderate", "login", "nick", "leave"]
        assert all(map(is_waiting, waiting))

    def test_the_bounds_can_be_set(self) -> None:
        setting = Setting(max_waiting=1)
        setting.open()
        setting.client.say("lobby", "1")
        with pytest.raises(TooManyWaiting):
            result(setting.client.say("lobby", "2"))

    def test_ids_of_a_later_client_are_larger(self) -> None:
        ids = [_first_id() for _ in range(3)]
        assert all(2**52 < one < 2**53 for one in ids)
