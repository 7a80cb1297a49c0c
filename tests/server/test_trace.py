"""The trace of one connection: everything that comes and goes, and nothing of what is said."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from live import Framed, Server
from net.memory import Chat as Memory
from server.controlling import Control
from websockets.sync.client import connect

from chatproto.limits import Limits
from chatproto.net.face import Face
from chatproto.server.control import trace as trace_module
from chatproto.server.control.rows import Row
from chatproto.server.control.trace import MOST_EVENTS, Tap, Trace
from chatproto.wire.messages import Ack, Join, Joined, Leave, Login, Ping, Pong, Say, Search, Tell, Welcome


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with Server() as running:
        yield running


class Traced:
    """A trace that is on."""

    def __init__(self, server: Server, id: int) -> None:
        self.control = Control(server)
        self.control.send(do="trace", id=id)
        self.rows = [self.control.row()]
        assert self.rows[0]["event"] == "trace"

    def until(self, event: str, type: str = "") -> Row:
        """The next of a kind."""
        while True:
            row = self.control.row()
            self.rows.append(row)
            if row["event"] == event and row.get("type", "") == type:
                return row

    def until_over(self) -> str:
        """What it ends with."""
        while "row" in (line := self.control.line()):
            self.rows.append(line["row"])
        return str(line["done"]["text"])


def id_of(client: Framed) -> int:
    return client.of(Welcome)[0].id


def test_shows_what_came_and_what_went_with_its_size(shared: Server) -> None:
    ann, bob = shared.join("ann", "kinds"), shared.join("bob", "kinds")
    ann.until(Joined)
    trace = Traced(shared, id_of(ann))
    ann.send(Say(7, "kinds", "hello"))
    said = trace.until("in", "say")
    assert (said["room"], said["id"]) == ("kinds", 7)
    assert said["frame_bytes"] == 4 + 1 + 8 + 2 + 5 + 2 + 5
    acked = trace.until("out", "ack")
    assert (acked["id"], acked["seq"], acked["bytes"]) == (7, 1, 4 + 1 + 8 + 8 + 8)
    assert acked["queued"] >= 1
    bob.send(Say(1, "kinds", "hi"))
    heard = trace.until("out", "chat")
    assert (heard["room"], heard["seq"]) == ("kinds", 2)
    assert heard["bytes"] == 4 + 1 + 2 + 5 + 8 + 8 + 2 + 3 + 2 + 2
    ann.send(Leave("nowhere"))
    refused = trace.until("out", "error")
    assert refused["code"] == "not-in-room"
    times = [row["time_ms"] for row in trace.rows]
    assert times == sorted(times)
    # A room that is entered while it is traced is traced too.
    ann.send(Join("ann", "other", 0, 0, 0))
    trace.until("out", "end")
    bob.send(Join("bob", "other", 0, 0, 0), Say(2, "other", "here too"))
    assert trace.until("out", "joined")["room"] == "other"
    assert trace.until("out", "chat")["room"] == "other"
    trace.control.close()
    ann.close()
    bob.close()


SECRET = "swordfish"


def test_never_shows_what_is_said_nor_a_secret(shared: Server) -> None:
    bob, ann = shared.join("bob", "quiet"), shared.connect()
    ann.send(Ping(1))
    ann.until(Pong)
    rows = Control(shared).ask(do="connections")[0]
    trace = Traced(shared, max(row["id"] for row in rows))
    ann.send(Login(f"user{SECRET}", SECRET), Join("ann", "quiet", 0, 0, 0))
    bob.until(Joined)
    bob.send(Say(1, "quiet", SECRET), Tell(2, "ann", SECRET))
    ann.send(Say(1, "quiet", SECRET), Tell(2, "bob", SECRET), Search("quiet", SECRET, 10), Ping(9))
    ann.until(Pong, lambda pong: pong.token == 9)
    ann.send(Leave(""))
    assert trace.until_over() == "its session has ended"
    shown = json.dumps(trace.rows)
    assert SECRET not in shown
    assert {row.get("type") for row in trace.rows} >= {
        "login",
        "join",
        "say",
        "tell",
        "search",
        "told",
        "chat",
        "ack",
    }
    [login] = [row for row in trace.rows if row.get("type") == "login"]
    assert "frame_bytes" not in login  # it would tell how long the secret is
    assert [row["reason"] for row in trace.rows if row["event"] == "end"] == ["left"]
    bob.close()


def test_shows_the_fault_that_ends_a_connection(shared: Server) -> None:
    ann = shared.join("ann", "faults")
    trace = Traced(shared, id_of(ann))
    ann.socket.sendall(b"\x00\x00\x00\x01\xff")
    assert trace.until("fault")["code"] == "malformed"
    assert trace.until_over() == "its session has ended"
    [end] = [row for row in trace.rows if row["event"] == "end"]
    assert (end["reason"], end["code"]) == ("error", "malformed")
    ann.close()


def test_shows_lines_as_what_they_mean(shared: Server) -> None:
    plain = shared.raw()
    plain.sendall(b"lina\n/join words\n")
    with plain, plain.makefile("rb") as lines:
        while b"in words" not in lines.readline():
            pass
        rows = Control(shared).ask(do="connections", room="words")[0]
        trace = Traced(shared, rows[0]["id"])
        plain.sendall(f"{SECRET}\n/help\n/who\n".encode())
        assert trace.until("means", "say")["room"] == "words"
        assert trace.until("out", "text")["bytes"] > 100  # the help
        trace.until("means", "who")
        assert trace.until("out", "roster")["bytes"] > 10
        assert SECRET not in json.dumps(trace.rows)
        assert sum(row["event"] == "in" for row in trace.rows) == 3
        trace.control.close()


def test_shows_websockets_too(shared: Server) -> None:
    with connect(f"ws://127.0.0.1:{shared.port}/chat", subprotocols=["chat.v1.json"]) as web:  # type: ignore[list-item]
        web.send('{"type": "join", "nick": "web", "room": "sockets"}')
        while json.loads(web.recv())["type"] != "end":
            pass
        [row] = Control(shared).ask(do="connections", room="sockets")[0]
        trace = Traced(shared, row["id"])
        web.send(json.dumps({"type": "say", "id": 1, "room": "sockets", "text": SECRET}))
        assert trace.until("in", "say")["id"] == 1
        assert trace.until("out", "ack")["bytes"] > 20
        web.send("nonsense")
        assert trace.until("fault")["code"] == "malformed"
        assert trace.until_over() == "its session has ended"


def test_two_may_watch_the_same_and_one_may_go(shared: Server) -> None:
    ann = shared.join("anna", "watched")
    first, second = Traced(shared, id_of(ann)), Traced(shared, id_of(ann))
    ann.send(Say(1, "watched", "one"))
    first.until("out", "ack")
    second.until("out", "ack")
    first.control.close()
    ann.send(Say(2, "watched", "two"))
    assert second.until("out", "ack")["id"] == 2
    second.control.close()
    ann.send(Say(3, "watched", "three"))
    assert ann.until(Ack, lambda ack: ack.id == 3).seq == 3
    ann.close()


def test_who_does_not_read_a_trace_misses_something_and_is_told_how_much() -> None:
    with Server() as server:
        ann, bob = server.join("ann"), server.join("bob")
        trace = Traced(server, id_of(bob))
        before = server.rss_bytes()
        n_said = 30_000
        for begin in range(0, n_said, 500):
            ann.send(*(Say(begin + number, "", "x") for number in range(1, 501)))
            ann.until(Ack, lambda ack, last=begin + 500: ack.id == last)  # type: ignore[misc]
            bob.drain()
        assert server.rss_bytes() - before < 60_000_000
        bob.send(Leave(""))
        assert trace.until_over() == "its session has ended"
        heard = sum(row.get("type") == "chat" for row in trace.rows)
        missed = sum(row["n"] for row in trace.rows if row["event"] == "missed")
        assert missed > 0
        everything = len([row for row in trace.rows if row["event"] != "missed"]) + missed
        assert heard < n_said
        assert everything >= n_said


class Watching:
    """Somebody with a trace in memory."""

    def __init__(self) -> None:
        self.is_full = False
        self.rows: list[Row] = []
        self.ended = ""

    def give(self, rows: list[Row]) -> None:
        self.rows += rows

    def finish(self, sentence: str) -> None:
        self.ended = sentence


def traced_in_memory(people: Memory, nick: str) -> tuple[Watching, Trace, Face, dict[int, Tap]]:
    session = next(session for session in people.hub.sessions.values() if session.nick_text == nick)
    face = session.outlet
    assert isinstance(face, Face)
    watching, taps = Watching(), dict[int, Tap]()
    return watching, Trace(session, face, watching, taps), face, taps


class TestInMemory:
    def test_nothing_stands_in_the_way_before_and_after(self) -> None:
        people = Memory()
        line = people.person("ann", "ops")
        [face] = people.factory.connections
        session = face.session

        def ways() -> list[object]:
            names = ("drop", "send", "pause", "resume", "finish", "show", "receive", "end")
            own = [vars(one).get(name) for one in (face, session) for name in names]
            return [*own, face.publish, *(member.publish for member in session.members.values())]

        before = ways()
        assert before == [None] * 16 + [face.queue.publish] * 3
        _, first, _, taps = traced_in_memory(people, "ann")
        second = Trace(session, face, Watching(), taps)
        first.stop()
        assert ways() != before
        line.type("/join late")
        second.stop()
        assert ways() == [*before, face.queue.publish]
        assert taps == {}
        second.stop()
        line.vanish()
        people.clock.advance(10)
        assert people.is_empty()

    def test_what_is_beyond_the_bound_is_counted_and_the_rest_is_in_order(self) -> None:
        people = Memory()
        ann, bob = people.person("ann"), people.person("bob")
        watching, trace, _, _ = traced_in_memory(people, "bob")
        watching.is_full = True
        for number in range(2 * MOST_EVENTS):
            ann.type(f"{number}")
        people.clock.advance(0)
        people.clock.advance(5)
        assert watching.rows == []
        watching.is_full = False
        people.clock.advance(trace_module.EVERY_S)
        *events, missed = watching.rows
        assert len(events) == MOST_EVENTS
        seqs = [event["seq"] for event in events if event.get("type") == "chat"]
        assert seqs == list(range(1, len(seqs) + 1))
        assert missed["event"] == "missed"
        assert missed["n"] > MOST_EVENTS
        watching.rows.clear()
        ann.type("once more")
        people.clock.advance(0)
        people.clock.advance(trace_module.EVERY_S)
        assert [event.get("type") for event in watching.rows] == ["chat"]
        trace.stop()
        bob.vanish()

    def test_shows_that_a_queue_was_full_and_what_was_dropped_and_that_it_lags(self) -> None:
        people = Memory(Limits(max_messages_per_s=0, max_queued_bytes=4_096, max_text_bytes=1_000))
        ann, bob = people.person("ann"), people.person("bob")
        watching, _, face, _ = traced_in_memory(people, "bob")
        face.queue.pauseProducing()  # the transport takes no more
        for _ in range(10):
            ann.type("x" * 900)
            people.clock.advance(0)
        people.clock.advance(1.5)
        people.clock.advance(trace_module.EVERY_S)
        events = [event["event"] for event in watching.rows]
        assert events.index("full") < events.index("dropped")
        [dropped] = [event for event in watching.rows if event["event"] == "dropped"][:1]
        assert dropped["room"] == "lobby"
        assert dropped["first"] >= 1
        depths = [event for event in watching.rows if event["event"] == "depth"]
        assert depths[-1]["is_blocked"]
        assert depths[-1]["lag_s"] >= 1
        face.queue.resumeProducing()
        people.clock.advance(0)
        people.clock.advance(1)
        chats = [event for event in watching.rows if event.get("type") == "chat" and event["event"] == "out"]
        assert chats[-1]["seq"] == 10
        bob.vanish()

    def test_ends_with_the_session_even_where_nobody_reads(self) -> None:
        people = Memory()
        bob = people.person("bob")
        watching, _, _, taps = traced_in_memory(people, "bob")
        watching.is_full = True
        bob.vanish()
        people.clock.advance(trace_module.EVERY_S)
        assert watching.ended == "its session has ended"
        assert watching.rows[-1]["reason"] == "closed"
        assert taps == {}
        people.clock.advance(10)
        assert people.is_empty()
