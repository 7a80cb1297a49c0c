"""The faces for browsers and for programs that speak WebSocket (docs/protocol.md, section 4)."""

from __future__ import annotations

import gc
import json
import weakref

import pytest
from forms import Binary, Json
from net.memory import Chat
from net.webpeople import KINDS, Person, joined
from twisted.internet.error import TCPTimedOutError
from websockets.frames import CloseCode

from chatproto.limits import Limits
from chatproto.wire.deflate import Deflate
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    Ack,
    Error,
    Goodbye,
    Join,
    Leave,
    Left,
    Ping,
    Pong,
    Say,
    Tell,
)
from chatproto.wire.messages import Chat as Said


@pytest.mark.parametrize("kind", KINDS)
class TestTalk:
    def test_a_session_goes_from_welcome_to_a_clean_end(self, kind: str) -> None:
        chat = Chat()
        alice, bob = joined(chat, "alice", kind), joined(chat, "bob", kind)
        assert alice.types() == ["joined"]
        bob.send(Say(7, "", "größe ☕\n\U0001f600"), Ping(9))
        assert bob.read() == [Ack(7, 1, 0), Pong(9)]
        assert alice.read() == [Said("lobby", 1, 0, "bob", "größe ☕\n\U0001f600")]
        bob.send(Leave(""))
        assert bob.read() == []
        assert bob.closed == (CloseCode.NORMAL_CLOSURE, "")
        assert alice.read() == [Left("lobby", "bob", "left")]
        alice.line.vanish()
        assert chat.is_empty()

    def test_everybody_gets_the_same_bytes(self, kind: str) -> None:
        chat = Chat()
        readers = [joined(chat, f"reader{i}", kind) for i in range(5)]
        alice = joined(chat, "alice", kind)
        for reader in readers:
            reader.read()
        alice.send(Say(0, "", "hi"))
        came = [reader.line.received() for reader in readers]
        assert len(set(came)) == 1
        assert len(came[0]) > 20

    def test_what_is_sent_before_one_closes_takes_effect_and_is_answered(self, kind: str) -> None:
        chat = Chat()
        alice = joined(chat, "alice")
        bob = joined(chat, "bob", kind)
        bob.form.say(*(Say(i, "", f"{i}") for i in range(1, 301)))
        bob.form.close(3_000, "enough")
        bob._flush()
        for _ in range(20):
            chat.clock.advance(0)
        assert [ack.id for ack in bob.read() if isinstance(ack, Ack)] == list(range(1, 301))
        assert bob.closed == (3_000, "")
        assert [said.text for said in alice.read() if isinstance(said, Said)] == [
            f"{i}" for i in range(1, 301)
        ]

    def test_a_flood_of_requests_has_its_turns(self, kind: str) -> None:
        bob = joined(Chat(), "bob", kind)
        bob.send(*map(Ping, range(1_000)))
        for _ in range(50):
            bob.chat.clock.advance(0)
        assert bob.read() == [Pong(token) for token in range(1_000)]


class TestJson:
    def test_absent_fields_are_nothing(self) -> None:
        chat = Chat()
        alice = Person(chat)
        alice.send_raw(
            '{"type": "join", "nick": "alice"}', '{"type": "ping"}', '{"type": "say", "text": "hi"}'
        )
        assert alice.types() == ["welcome", "roster", "end", "pong"]
        alice.send_raw('{"type": "history", "limit": 5}')
        assert [said.text for said in alice.read() if isinstance(said, Said)] == ["hi"]

    def test_unknown_fields_are_passed_over(self) -> None:
        alice = joined(Chat(), "alice")
        alice.send_raw('{"type": "ping", "token": 3, "mood": {"good": [true, null, 1e3]}}')
        assert alice.read() == [Pong(3)]

    def test_the_keys_are_those_of_the_tables(self) -> None:
        chat = Chat()
        line = chat.connect()
        form = Json()
        line.send(form.output())
        form.receive(line.received())
        form.say(Join("alice"))
        line.send(form.output())
        data = line.received()
        roster = json.loads(data[data.index(b'{"type":"roster"') :].split(b"}")[0] + b"}")
        assert roster == {"type": "roster", "room": "lobby", "last": 0, "total": 1, "nicks": ["alice"]}

    def test_a_message_is_too_big_when_its_frame_would_be(self) -> None:
        limits = Limits(max_frame_bytes=2_000, max_text_bytes=900)
        for text_bytes, code in ((2_000 - 13, ErrorCode.BAD_TEXT), (2_000 - 12, ErrorCode.TOO_BIG)):
            for text in ("x" * text_bytes, "\\u0078" * text_bytes):
                alice = joined(Chat(limits), "alice")
                alice.send_raw(f'{{"type": "say", "id": 1, "text": "{text}"}}')
                [error] = alice.read()
                assert isinstance(error, Error)
                assert error.code == code, len(text)


class TestClosing:
    @pytest.mark.parametrize(
        ("kind", "wrong"), [("bin", "hi"), ("json", b"hi"), ("plain", b"{}"), ("json", b"")]
    )
    def test_the_other_kind_of_message_closes_with_1003(self, kind: str, wrong: str | bytes) -> None:
        chat = Chat()
        alice = joined(chat, "alice")
        bob = joined(chat, "bob", kind)
        bob.form.say(Say(1, "", "before it"))
        bob.form.send(wrong)
        bob.send(Say(2, "", "after it"))
        assert bob.types() == ["ack"]
        assert bob.closed is not None
        assert bob.closed[0] == CloseCode.UNSUPPORTED_DATA
        assert alice.types() == ["joined", "chat", "left"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_goodbye_goes_with_1012(self, kind: str) -> None:
        chat = Chat()
        alice = joined(chat, "alice", kind)
        stranger = Person(chat, kind)
        ended = chat.factory.shut_down(250, "an update")
        for person in (alice, stranger):
            assert person.read() == [Goodbye(250, "an update")]
            assert person.closed == (CloseCode.SERVICE_RESTART, "an update")
        assert ended.called
        assert chat.is_empty()

    def test_a_long_goodbye_is_cut_for_the_close_frame(self) -> None:
        chat = Chat()
        alice = joined(chat, "alice")
        chat.factory.shut_down(250, "é" * 100)
        assert alice.read() == [Goodbye(250, "é" * 100)]
        assert alice.closed == (CloseCode.SERVICE_RESTART, "é" * 61)

    def test_whoever_does_not_take_part_in_it_is_let_go_all_the_same(self) -> None:
        chat = Chat(Limits(close_timeout_s=5))
        alice = joined(chat, "alice")
        ended = chat.factory.shut_down()
        chat.clock.advance(4.9)
        assert not ended.called
        chat.clock.advance(0.3)
        chat.clock.advance(0)
        assert ended.called
        assert not alice.line.connected
        assert chat.is_empty()

    @pytest.mark.parametrize("kind", KINDS)
    def test_whoever_does_not_join_in_time_is_told_and_closed(self, kind: str) -> None:
        chat = Chat(Limits(join_timeout_s=3))
        stranger = Person(chat, kind)
        chat.clock.advance(3.1)
        [error] = stranger.read()
        assert isinstance(error, Error)
        assert error.code == ErrorCode.TIMEOUT
        assert stranger.closed == (CloseCode.POLICY_VIOLATION, error.text)

    def test_a_mistake_of_the_server_s_is_said_to_be_one(self) -> None:
        chat = Chat()
        alice = joined(chat, "alice")

        chat.hub.told = None  # type: ignore[assignment]
        alice.send(Tell(1, "bob", "hi"))
        assert alice.read() == []
        assert alice.closed == (CloseCode.INTERNAL_ERROR, "")


class TestLoss:
    @pytest.mark.parametrize("reason", [None, TCPTimedOutError()])
    def test_whoever_is_gone_has_left(self, reason: Exception | None) -> None:
        chat = Chat()
        alice, bob = joined(chat, "alice"), joined(chat, "bob")
        alice.read()
        bob.line.vanish(reason)
        assert alice.read() == [Left("lobby", "bob", "timeout" if reason else "closed")]

    def test_whoever_shuts_their_side_is_gone(self) -> None:
        chat = Chat()
        alice, bob = joined(chat, "alice"), joined(chat, "bob")
        alice.read()
        bob.line.end_input()
        assert alice.read() == [Left("lobby", "bob", "closed")]
        assert not bob.line.connected

    def test_whoever_answers_no_ping_has_timed_out(self) -> None:
        chat = Chat(Limits(ping_interval_s=30, pong_timeout_s=10, close_timeout_s=5))
        alice, bob = joined(chat, "alice"), joined(chat, "bob")
        alice.read()
        chat.clock.advance(30.2)
        assert alice.read() == []  # that answers the ping
        chat.clock.advance(9)
        assert alice.read() == []
        chat.clock.advance(1.2)
        assert alice.read() == [Left("lobby", "bob", "timeout")]
        came = bob.form.receive(bob.line.received())
        [error] = came
        assert isinstance(error, Error)
        assert error.code == ErrorCode.TIMEOUT
        assert bob.form.closed_with == CloseCode.INTERNAL_ERROR
        chat.clock.advance(5.2)
        chat.clock.advance(0)
        assert not bob.line.connected
        assert alice.line.connected

    @pytest.mark.parametrize("kind", KINDS)
    def test_nothing_of_a_connection_stays(self, kind: str) -> None:
        chat = Chat()
        person = joined(chat, "alice", kind)
        (face,) = chat.factory.connections
        held = [weakref.ref(thing) for thing in (face, person.line.protocol, face.session)]
        del face
        person.line.vanish()
        del person
        gc.collect()
        assert [each() for each in held] == [None] * len(held)
        assert chat.is_empty()


class TestCompression:
    def compressed_once(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The length of each message that is compressed from now on."""
        from chatproto.wire.deflate import Deflater

        lengths: list[int] = []
        compress = Deflater.compress

        def count(deflater: Deflater, payload: bytes) -> bytes:
            lengths.append(len(payload))
            return compress(deflater, payload)

        monkeypatch.setattr(Deflater, "compress", count)
        return lengths

    @pytest.mark.parametrize("taking_over", [False, True])
    def test_what_is_said_is_compressed_once_for_each_form(
        self, monkeypatch: pytest.MonkeyPatch, taking_over: bool
    ) -> None:
        chat = Chat(deflate=Deflate(server_no_context_takeover=not taking_over))
        readers = [
            joined(chat, f"{form.__name__}{i}", form(deflate=True))
            for i in range(4)
            for form in (Json, Binary)
        ]
        plain = [joined(chat, f"plain{i}", kind) for i, kind in enumerate(KINDS)]
        for reader in [*readers, *plain]:
            reader.read()
        lengths = self.compressed_once(monkeypatch)
        plain[0].send(Say(1, "", "abcdefgh" * 100))
        for reader in readers:
            [said] = reader.read()
            assert isinstance(said, Said)
            assert said.text == "abcdefgh" * 100
        assert len(lengths) == 2

    def test_it_is_off_unless_the_server_wants_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lengths = self.compressed_once(monkeypatch)
        chat = Chat()
        alice, bob = joined(chat, "alice", Json(deflate=True)), joined(chat, "bob", Json(deflate=True))
        alice.read()
        bob.send(Say(1, "", "x" * 1_000))
        assert alice.types() == ["chat"]
        assert lengths == []

    def test_what_was_dropped_is_missed_by_nothing_that_comes_later(self) -> None:
        """With context takeover it would be: what comes later would refer to what never came."""
        chat = Chat(
            Limits(max_queued_bytes=20_000), deflate=Deflate(server_no_context_takeover=False, level=1)
        )
        bob = joined(chat, "bob")
        slow = joined(chat, "slow", Json(deflate=True))
        assert slow.line.producer is not None
        slow.line.producer.pauseProducing()
        texts = [f"{number} " + "".join(f"{number * i * 7919:x}" for i in range(600)) for number in range(60)]
        for text in texts:
            bob.send(Say(0, "", text[:4_000]))
            chat.clock.advance(0)
        slow.line.producer.resumeProducing()
        came = slow.read()
        assert "lagged" in {message.type for message in came}
        assert [said.text for said in came if isinstance(said, Said)] == [text[:4_000] for text in texts]


class TestLagging:
    @pytest.mark.parametrize("kind", KINDS)
    def test_whoever_reads_too_slowly_gets_everything_later(self, kind: str) -> None:
        chat = Chat(Limits(max_queued_bytes=40_000))
        bob = joined(chat, "bob")
        slow = joined(chat, "slow", kind)
        assert slow.line.producer is not None
        slow.line.producer.pauseProducing()
        texts = [f"{number} ".ljust(3_000, "x") for number in range(60)]
        for text in texts:
            bob.send(Say(0, "", text))
            chat.clock.advance(0)
        (face,) = (face for face in chat.factory.connections if face.session.nick_text == "slow")
        assert face.queued_bytes <= 40_000
        slow.line.producer.resumeProducing()
        came = slow.read()
        assert [message.type for message in came if not isinstance(message, Said)] == ["lagged"]
        assert [said.text for said in came if isinstance(said, Said)] == texts
        bob.send(Say(0, "", "live"))
        [live] = slow.read()
        assert isinstance(live, Said)

    def test_whoever_takes_nothing_for_too_long_is_closed(self) -> None:
        chat = Chat(Limits(lag_timeout_s=20, close_timeout_s=5, ping_interval_s=0))
        bob = joined(chat, "bob")
        slow = joined(chat, "slow")
        bob.read()
        assert slow.line.producer is not None
        slow.line.producer.pauseProducing()
        bob.send(Say(0, "", "hi"))
        for _ in range(24):
            chat.clock.advance(1)
        assert bob.read() == [Left("lobby", "slow", "too slow")]
        slow.line.producer.resumeProducing()
        said, error = slow.read()
        assert isinstance(said, Said)
        assert isinstance(error, Error)
        assert error.code == ErrorCode.TOO_SLOW
        assert slow.closed == (CloseCode.POLICY_VIOLATION, error.text)


def test_all_faces_meet_in_a_room() -> None:
    chat = Chat()
    nc = chat.person("nc")
    frames = chat.connect()
    frames.send_messages(Join("frames"))
    frames.messages()
    people = {kind: joined(chat, kind, kind) for kind in KINDS}
    nc.lines()
    frames.messages()
    for person in people.values():
        person.read()
    nc.type("from nc")
    frames.send_messages(Say(0, "", "from frames"))
    for kind, person in people.items():
        person.send(Say(0, "", f"from {kind}"))
    said = [("nc", "from nc"), ("frames", "from frames"), *((kind, f"from {kind}") for kind in KINDS)]
    assert nc.lines() == [f"[lobby 00:00] {nick}: {text}" for nick, text in said[1:]]
    for name, came in [
        ("frames", frames.messages()),
        *((kind, person.read()) for kind, person in people.items()),
    ]:
        heard = [(message.nick, message.text) for message in came if isinstance(message, Said)]
        assert heard == [each for each in said if each[0] != name]
