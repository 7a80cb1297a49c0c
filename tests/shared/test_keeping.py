"""What the shared log keeps and for how long, and what several logs on one store see of each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from rooms.outlets import Failures
from shared.store import PumpedSharedLog, Store, needs_store
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

from chatproto.limits import HistoryLimits, Limits
from chatproto.rooms.log import NotStored, Receipt
from chatproto.shared import following
from chatproto.shared import log as shared_log
from chatproto.shared.scripts import about_key, channel_of, stream_key
from chatproto.wire.messages import Chat

pytestmark = [pytest.mark.system, needs_store]

Opening = Callable[..., PumpedSharedLog]


@pytest.fixture
def opening(store: Store) -> Iterator[Opening]:
    """Opens logs that all are on one store, and in one reactor."""
    reactor = EPollReactor()
    logs: list[PumpedSharedLog] = []

    def open(**history: float) -> PumpedSharedLog:
        limits = HistoryLimits(**history)  # type: ignore[arg-type]
        log = PumpedSharedLog(f"redis+unix://{store.path}", None, limits, reactor)
        log.until(lambda: log.epoch, "no epoch")
        logs.append(log)
        return log

    yield open
    for log in logs:
        log.close_now()


def told_by(log: PumpedSharedLog) -> list[tuple[int, str, int]]:
    """What a log tells from now on: number, text, and for whom it was said."""
    told: list[tuple[int, str, int]] = []
    log.start(lambda chat, sender: told.append((chat.seq, chat.text, sender)))
    return told


class TestRetention:
    def test_so_many_messages_are_kept_of_each_room(self, opening: Opening, store: Store) -> None:
        log = opening(max_history_room_messages=5)
        other = opening(max_history_room_messages=5)
        other.known("a")
        for n in range(1, 9):
            log.say("a", f"text {n}")
        other.until(lambda: other.bounds("a") == (4, 8), "not told")
        assert log.bounds("a") == (4, 8)
        assert other.texts("a") == [(n, f"text {n}") for n in range(4, 9)]
        assert store.ask("XLEN", stream_key("a").decode()) == 5

    def test_what_is_too_old_is_gone_and_numbers_go_on(self, opening: Opening, store: Store) -> None:
        log = opening(max_history_age_s=1.0)
        for n in range(3):
            log.say("a", f"old {n}")
        log.for_s(1.2)
        later = opening(max_history_age_s=1.0)
        assert later.known("a") == (4, 3)
        assert later.say("a", "new") == 4
        assert later.texts("a") == [(4, "new")]

    def test_what_gets_too_old_goes_from_rooms_that_people_are_in(
        self, opening: Opening, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shared_log, "TRIM_EVERY_S", 0.1)
        log = opening(max_history_age_s=2.0)
        log.known("a")
        log.enter("a")
        log.say("a", "old")
        log.for_s(1.0)
        log.say("a", "young")
        log.until(lambda: log.bounds("a") == (2, 2), "not gone")
        log.until(lambda: log.bounds("a") == (3, 2), "not gone")

    def test_a_room_in_which_nobody_speaks_any_more_empties_itself(
        self, opening: Opening, store: Store
    ) -> None:
        log = opening(max_history_age_s=0.2)
        log.say("a", "old")
        log.for_s(0.4)
        assert store.ask("EXISTS", stream_key("a").decode()) == 0

    def test_an_id_is_remembered_for_as_long_as_it_should(self, opening: Opening) -> None:
        log = opening(remember_ids_s=1.0)
        assert [log.say("a", "hi", id=7) for _ in range(2)] == [1, 1]
        log.for_s(1.2)
        assert log.say("a", "hi", id=7) == 2


class TestSeveral:
    def test_each_tells_what_others_keep_and_for_whom_only_its_own(self, opening: Opening) -> None:
        one, other = opening(), opening()
        told, also = told_by(one), told_by(other)
        for log in (one, other):
            log.known("a")
        one.say("a", "from one", sender=11)
        other.say("a", "from other", sender=22)
        one.until(lambda: len(told) == len(also) == 2, "not told")
        assert told == [(1, "from one", 11), (2, "from other", 0)]
        assert also == [(1, "from one", 0), (2, "from other", 22)]

    def test_what_was_said_while_one_did_not_hear_is_made_up_for(
        self, opening: Opening, store: Store
    ) -> None:
        one, other = opening(), opening()
        told = told_by(other)
        other.known("a")
        other.enter("a")
        one.say("a", "text 1")
        one.until(lambda: len(told) == 1, "not told")
        for turn in range(5):
            store.ask("CLIENT", "KILL", "TYPE", "pubsub")
            one.until(lambda t=turn: one.store.n_opened == t + 2, "not opened again")  # type: ignore[misc]
            for n in range(3):
                one.say("a", f"text {2 + 3 * turn + n}")
        one.until(lambda: len(told) == 16, "not everything was told")
        assert told == [(n, f"text {n}", 0) for n in range(1, 17)]

    def test_more_than_is_read_at_a_time_is_made_up_for(
        self, opening: Opening, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(following, "READ_MESSAGES", 10)
        monkeypatch.setattr(following, "MAX_AHEAD", 5)
        one, other = opening(), opening()
        told = told_by(other)
        other.known("a")
        with monkeypatch.context() as deaf:
            deaf.setattr(other.store.rooms, "heard", lambda channel, kind, content: None)
            for n in range(1, 35):
                one.say("a", f"text {n}")
        one.say("a", "text 35")
        other.until(lambda: len(told) == 35, "not everything was told")
        assert [seq for seq, _, _ in told] == list(range(1, 36))

    def test_what_one_removes_is_gone_from_the_memory_of_others(self, opening: Opening) -> None:
        one, other = opening(), opening()
        one.say("a", "nasty")
        assert other.texts("a") == [(1, "nasty")]
        assert one.wait(one.remove("a", 1))
        other.until(lambda: other.texts("a") == [(1, "(removed)")], "still there")

    def test_a_room_without_people_is_listened_to_no_more(
        self, opening: Opening, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(following, "LINGER_S", 0.1)
        log = opening()
        channel = channel_of(0, "a").decode()
        log.known("a")
        log.enter("a")
        log.for_s(0.3)
        assert store.ask("PUBSUB", "NUMSUB", channel) == [channel, 1]
        log.leave("a")
        log.until(lambda: store.ask("PUBSUB", "NUMSUB", channel) == [channel, 0], "still listened to")
        assert log.say("a", "again") == 1

    def test_braces_in_the_name_of_a_room_do_not_tear_it_apart(self, opening: Opening) -> None:
        log = opening()
        for n, room in enumerate(("{a}", "}a", "a}b", "%7Ba%7D", "{people}"), 1):
            assert [log.say(room, f"{n}", id=9) for _ in range(2)] == [1, 1]
            assert log.texts(room) == [(1, f"{n}")]

    def test_what_another_has_let_go_of_meanwhile_begins_later(
        self, opening: Opening, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one = opening(max_history_room_messages=5)
        for n in range(1, 6):
            one.say("a", f"text {n}")
        little = Limits(max_room_log_messages=0, max_rooms=1)
        other = PumpedSharedLog(f"redis+unix://{store.path}", little, reactor=one.reactor)
        other.until(lambda: other.epoch, "no epoch")
        assert other.known("a") == (1, 5)
        with monkeypatch.context() as deaf:
            deaf.setattr(other.store.rooms, "heard", lambda channel, kind, content: None)
            for n in range(6, 9):
                one.say("a", f"text {n}")
            answer = other.read("a", 1, 5, 100_000)
            assert isinstance(answer, Deferred)
            assert [chat.seq for chat in other.wait(answer)] == [4, 5]
            assert other.bounds("a")[0] == 4
        other.until(lambda: other.bounds("a") == (4, 8), "not made up for")
        assert other.epoch == one.epoch
        other.close_now()

    def test_who_said_something_again_that_got_there_by_another_is_told_so(
        self, opening: Opening, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, other = opening(), opening()
        one.say("a", "hi", id=7)
        other.known("a")
        with monkeypatch.context() as cut:
            cut.setattr(other.store, "run", lambda then, script, keys, *words: None)
            again, never = (other.append("a", "ann", "ann", id, "hi", 1) for id in (7, 8))
        store.ask("CLIENT", "KILL", "TYPE", "pubsub")
        assert other.wait(again).seq == 1
        with pytest.raises(NotStored, match="nobody saw it"):
            other.wait(never)
        assert one.texts("a") == [(1, "hi")]


class TestRefusals:
    def test_scripts_that_the_store_has_forgotten_are_given_to_it_again(
        self, opening: Opening, store: Store
    ) -> None:
        log = opening()
        log.known("a")
        store.ask("SCRIPT", "FLUSH")
        with pytest.raises(NotStored):
            log.say("a", "hi")
        log.until(lambda: log.store.n_opened > 1 and not log.trouble, "not opened again")
        assert log.say("a", "hi") == 1

    def test_a_key_that_somebody_else_uses_is_told_of_and_left_alone(
        self, opening: Opening, store: Store
    ) -> None:
        store.ask("SET", stream_key("a").decode(), "mine")
        log = opening()
        with pytest.raises(NotStored, match="cannot be reached"):
            log.say("a", "hi")
        assert store.ask("GET", stream_key("a").decode()) == "mine"
        assert log.say("b", "hi") == 1

    def test_what_waits_to_be_kept_is_bounded(self, opening: Opening) -> None:
        log = opening(max_unkept_bytes=5_000)
        log.known("a")
        answers: list[Deferred[Receipt]] = []
        while log.unkept_bytes + 900 <= 5_000:
            answers.append(log.append("a", "ann", "ann", 0, "x" * 500, 1))
        with pytest.raises(NotStored, match="cannot keep up"):
            log.append("a", "ann", "ann", 0, "x" * 500, 1)
        assert log.unkept_bytes <= 5_000
        assert [log.wait(answer).seq for answer in answers] == list(range(1, len(answers) + 1))
        assert log.unkept_bytes == 0

    def test_who_is_told_of_messages_may_fail(self, opening: Opening, failures: Failures) -> None:
        log = opening()

        def fail(chat: Chat, sender: int) -> None:
            raise RuntimeError("told")

        log.start(fail)
        assert log.say("a", "hi") == 1
        assert len(failures.take()) == 1


class TestLoss:
    @pytest.mark.parametrize("left", [0, 2])
    def test_what_somebody_took_away_is_noticed_by_who_reads_it(
        self, opening: Opening, store: Store, left: int
    ) -> None:
        one = opening()
        for n in range(1, 6):
            one.say("a", f"text {n}")
        before = one.epoch
        store.ask("XTRIM", stream_key("a").decode(), "MAXLEN", left)
        other = opening()
        other.prepare("a")
        one.until(lambda: before not in (one.epoch, other.epoch), "the same epoch")
        assert one.epoch == other.epoch
        now = one.epoch
        for log in (one, other):
            assert log.known("a") == (6 - left, 5)
        assert one.say("a", "text 6") == 6
        other.until(lambda: other.bounds("a") == (6 - left, 6), "not told")
        assert one.epoch == other.epoch == now

    def test_what_was_lost_of_a_room_that_people_have_left_is_seen_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(following, "LINGER_S", 0.05)
        with Store("--appendonly", "yes", "--appendfsync", "always") as store:
            log = PumpedSharedLog(f"redis+unix://{store.path}")
            log.until(lambda: log.epoch, "no epoch")
            for room in ("a", "b"):
                log.say(room, "hi")
            channels = [channel_of(0, room).decode() for room in ("a", "b")]
            log.until(lambda: store.ask("PUBSUB", "NUMSUB", *channels)[1::2] == [0, 0], "still listening")
            before = log.epoch
            store.kill()
            store.restart()
            log.until(lambda: log.store.n_opened == 2, "not opened again")
            log.for_s(0.3)
            assert log.epoch == before  # nothing was lost
            store.ask("DEL", stream_key("a").decode(), about_key("a").decode())
            store.kill()
            store.restart()
            log.until(lambda: log.epoch != before, "the same epoch")
            log.close_now()
