"""Every row of the protocol's three tables (docs/protocol.md, section 2), in each form and over a socket.

Each row has a function here that makes it happen, so a row that is added to a table fails until it has one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from live import Server
from net.rows_faults import CLOSE_CODES, MALFORMED, TOO_BIG
from net.rows_place import COMMAND, FORMS, Place, RowsServer

from chatproto.version import __version__
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    MAX_U64,
    MESSAGES,
    Ack,
    Chat,
    End,
    Error,
    Goodbye,
    History,
    Join,
    Joined,
    Lagged,
    Leave,
    Left,
    Login,
    Message,
    Moderate,
    Nick,
    Notice,
    Ping,
    Pong,
    Renamed,
    Roster,
    Say,
    Search,
    Tell,
    Told,
    Welcome,
    Who,
)


@pytest.fixture(scope="module")
def rows_server() -> Iterator[RowsServer]:
    with RowsServer() as server:
        yield server
        for stranger in server.strangers.values():
            stranger.close()


@pytest.fixture(params=FORMS)
def place(rows_server: RowsServer, request: pytest.FixtureRequest) -> Iterator[Place]:
    place = Place(rows_server, request.param)
    yield place
    for client in place.clients:
        client.close()


# --- client to server ---------------------------------------------------------------------------------------


def join(place: Place) -> None:
    ann = place.join("ann")
    ann.send(Say(0, place.room, "one"), Say(0, place.room, "two"))
    bob = place.connect()
    bob.send(Login("someone", "right"), Join(place.nick("bob"), place.room, 0, 0, 1))
    bob.until(End)
    assert [type(message) for message in bob.received] == [Notice, Welcome, Roster, Chat, End]
    assert bob.of(Chat)[0].text == "two"
    assert bob.of(End) == [End(place.room, 2, 2, 1)]
    bob.send(Join(place.nick("bob"), f"{place.room}b", bob.of(Welcome)[0].epoch, 7, 1))
    assert bob.until(End) == End(f"{place.room}b", 0, 0, 2)


def say(place: Place) -> None:
    ann, bob = place.join("ann"), place.join("bob")
    ann.send(Say(7, place.room, "hi"), Say(7, place.room, "hi"))
    assert [ann.until(Ack).seq, ann.until(Ack).seq] == [1, 1]
    assert bob.until(Chat).text == "hi"
    bob.send(Ping(1))
    bob.until(Pong)
    assert len(bob.of(Chat)) == 1


def leave(place: Place) -> None:
    ann, bob = place.join("ann"), place.join("bob")
    ann.send(Leave(place.room))
    assert bob.until(Left) == Left(place.room, place.nick("ann"), "left")
    ann.send(Leave(""))
    assert ann.until_closed() == [Joined(place.room, place.nick("bob"))]


def nick(place: Place) -> None:
    ann, bob = place.join("ann"), place.join("bob")
    ann.send(Nick(place.nick("zoe")))
    renamed = Renamed(place.nick("ann"), place.nick("zoe"))
    assert ann.until(Renamed) == bob.until(Renamed) == renamed


def who(place: Place) -> None:
    ann = place.join("ann")
    ann.send(Who(place.room))
    assert ann.until(Roster) == Roster(place.room, 0, 1, (place.nick("ann"),))


def history(place: Place) -> None:
    ann = place.join("ann")
    ann.send(*(Say(0, place.room, f"text {number}") for number in range(1, 6)))
    ann.send(History(place.room, 4, 2))
    assert ann.until(End) == End(place.room, 2, 3, 1)
    assert [chat.text for chat in ann.of(Chat)] == ["text 2", "text 3"]


def tell(place: Place) -> None:
    ann, bob, eve = place.join("ann"), place.join("bob"), place.join("eve")
    ann.send(Tell(7, place.nick("BOB"), "psst"), Tell(7, place.nick("bob"), "psst"))
    acks = [ann.until(Ack), ann.until(Ack)]
    told = bob.until(Told)
    assert (told.nick, told.text) == (place.nick("ann"), "psst")
    assert acks == [Ack(7, 0, told.time)] * 2
    for person in (bob, eve):
        person.send(Ping(1))
        person.until(Pong)
    assert len(bob.of(Told)) == 1
    assert eve.of(Told) == []


def ping(place: Place) -> None:
    stranger = place.connect()
    stranger.send(Ping(MAX_U64))
    assert stranger.until(Pong) == Pong(MAX_U64)


def login(place: Place) -> None:
    ann = place.connect()
    ann.send(Login("someone", "wrong"), Login("someone", "right"), Join(place.nick("ann"), place.room))
    assert ann.until(Error).code == ErrorCode.LOGIN_FAILED
    ann.until(Notice)
    ann.until(Welcome)


def search(place: Place) -> None:
    ann = place.join("ann")
    ann.send(*(Say(0, place.room, text) for text in ("a needle", "hay", "the Needle")))
    ann.send(Search(place.room, "NEEDLE", 10))
    assert ann.until(End) == End(place.room, 1, 3, 0)
    assert [chat.text for chat in ann.of(Chat)] == ["a needle", "the Needle"]


def refused(place: Place) -> None:
    ann = place.join("ann")
    ann.send(Say(7, "elsewhere", "hi"), Who("elsewhere"))
    errors = [ann.until(Error), ann.until(Error)]
    assert [(error.code, error.id) for error in errors] == [
        (ErrorCode.NOT_IN_ROOM, 7),
        (ErrorCode.NOT_IN_ROOM, 0),
    ]


def moderate(place: Place) -> None:
    op, bob = place.join("op", user="op"), place.join("bob")
    room, nickname = place.room, place.nick("bob")
    for action, text in ((4, "muted in"), (5, "given back the word in"), (1, "kicked out of")):
        op.send(Moderate(action, room, nickname, 0, "so there"))
        assert op.until(Notice) == Notice(f"{nickname} was {text} {room}: so there")
        assert bob.until(Notice) == Notice(f"you were {text} {room}: so there")
    assert [bob.until(Left)] == op.of(Left) == [Left(room, nickname, "kicked")]
    op.send(Moderate(2, room, nickname, 60, ""), Moderate(3, room, nickname, 0, ""))
    assert op.until(Notice) == Notice(f"{nickname} was banned from {room} for 60 s")
    assert op.until(Notice) == Notice(f"{nickname} was let back into {room}")


CLIENT_ROWS: dict[type[Message], Callable[[Place], None]] = {
    Join: join,
    Say: say,
    Leave: leave,
    Nick: nick,
    Who: who,
    History: history,
    Tell: tell,
    Ping: ping,
    Login: login,
    Search: search,
    Moderate: moderate,
}


@pytest.mark.parametrize("kind", [cls for kind, cls in MESSAGES.items() if kind < 0x80])
def test_what_a_client_sends_has_the_effect_that_the_table_gives(place: Place, kind: type[Message]) -> None:
    CLIENT_ROWS[kind](place)
    assert kind in place.sent


# --- server to client ---------------------------------------------------------------------------------------


def welcome(place: Place) -> None:
    ids = []
    for _ in range(3):
        ann = place.connect()
        ann.send(Login("someone", "right"), Join(f" {place.nick('Ann')} ", place.room))
        came = ann.until(Welcome)
        assert (came.nick, came.server) == (place.nick("Ann"), f"chatproto/{__version__}")
        assert 1 <= came.epoch <= MAX_U64
        ids.append(came.id)
        ann.send(Leave(""))
        ann.until_closed()
    assert ids == sorted(set(ids))


def joined(place: Place) -> None:
    ann = place.join("ann")
    place.join("bob")
    assert ann.until(Joined) == Joined(place.room, place.nick("bob"))


def left(place: Place) -> None:
    ann = place.join("ann")
    for end, reason in (
        (lambda client: client.send(Leave("")), "left"),
        (lambda client: client.close(), "closed"),
        (lambda client: client.reset(), "closed"),
        (lambda client: client.socket.shutdown(socket.SHUT_WR), "closed"),
        (MALFORMED[place.form]["unknown " + ("type" if place.form == "json" else "kind")], "error"),
    ):
        bob = place.join("bob")
        end(bob)
        assert ann.until(Left) == Left(place.room, place.nick("bob"), reason)
    assert len(ann.of(Left)) == 5


def chat(place: Place) -> None:
    ann, bob = place.join("ann"), place.join("bob")
    ann.send(Say(7, place.room, "größe ☕\n\U0001f600"))
    ack = ann.until(Ack)
    assert bob.until(Chat) == Chat(place.room, 1, ack.time, place.nick("ann"), "größe ☕\n\U0001f600")
    assert ack.time > 1_700_000_000_000


def lagged(place: Place) -> None:
    ann, slow = place.join("ann"), place.join_slowly("slow")
    texts = [f"{number} " + "x" * 4_000 for number in range(80)]
    ann.send(*(Say(0, place.room, text) for text in texts))
    ann.send(Ping(1))
    ann.until(Pong)
    came = slow.until(Lagged)
    slow.until(Chat, lambda chat: chat.seq == len(texts))
    assert [chat.text for chat in slow.of(Chat)] == texts
    # The messages of the range are those that come after it was announced.
    place_of_lagged = slow.received.index(came)
    after = [message.seq for message in slow.received[place_of_lagged:] if isinstance(message, Chat)]
    assert after[0] == came.first
    assert came.last in after


def goodbye(place: Place) -> None:
    with Server(command=COMMAND) as server:
        other = Place(server, place.form)
        ann, stranger = other.join("ann"), other.connect()
        stranger.send(Ping(1))
        stranger.until(Pong)
        assert server.process.poll() is None
        server.process.terminate()
        for client in (ann, stranger):
            assert client.until_closed() == [Goodbye(2_500, "the server is shutting down")]
            assert client.form.closed_with == (None if place.form == "frames" else 1012)
            client.close()
        assert server.process.wait(30) == 0
        place.clients += other.clients


SERVER_ROWS: dict[type[Message], Callable[[Place], None]] = {
    Welcome: welcome,
    Joined: joined,
    Left: left,
    Chat: chat,
    Renamed: nick,
    Roster: who,
    End: history,
    Told: tell,
    Pong: ping,
    Ack: say,
    Error: refused,
    Notice: moderate,
    Lagged: lagged,
    Goodbye: goodbye,
}


@pytest.mark.parametrize("kind", [cls for kind, cls in MESSAGES.items() if kind >= 0x80])
def test_what_the_server_sends_comes_when_the_table_says_so(place: Place, kind: type[Message]) -> None:
    SERVER_ROWS[kind](place)
    assert kind in set(map(type, place.received))


# --- errors -------------------------------------------------------------------------------------------------


def malformed(place: Place) -> Error:
    for name, fault in MALFORMED[place.form].items():
        ann = place.join("ann")
        ann.form.say(Say(7, place.room, "before it"))
        fault(ann)
        with suppress(ConnectionError):  # it may be closed by now
            ann.send(Ping(1))
        ack, error = ann.until_closed()
        assert place.form == "frames" or ann.form.closed_with in CLOSE_CODES[1], name
        assert isinstance(ack, Ack)
        assert isinstance(error, Error)
        assert error.code == ErrorCode.MALFORMED
    return place.last_error()


def too_big(place: Place) -> Error:
    for fault in TOO_BIG[place.form].values():
        ann = place.join("ann")
        fault(ann)
        [error] = ann.until_closed()
        assert isinstance(error, Error)
        assert error.code == ErrorCode.TOO_BIG
    return place.last_error()


def join_first(place: Place) -> Error:
    for request in (Say(7, "", "hi"), Nick("ann"), Who(""), History("", 0, 1), Tell(7, "bob", "hi")):
        stranger = place.connect()
        stranger.send(request)
        [error] = stranger.until_closed()
        assert isinstance(error, Error)
    return place.last_error()


def nick_taken(place: Place) -> Error:
    place.join("ann")
    other = place.connect()
    other.send(Login("someone", "right"), Join(place.nick("ANN"), place.room))
    return other.until(Error)


def bad_nick(place: Place) -> Error:
    ann = place.connect()
    ann.send(Login("someone", "right"), Join("two words", place.room))
    return ann.until(Error)


def bad_room(place: Place) -> Error:
    ann = place.join("ann")
    ann.send(Join(place.nick("ann"), "two words"))
    return ann.until(Error)


def not_in_room(place: Place) -> Error:
    ann = place.join("ann")
    ann.send(Say(7, "elsewhere", "hi"))
    return ann.until(Error)


def no_such_nick(place: Place) -> Error:
    ann = place.join("ann")
    ann.send(Tell(7, place.nick("nobody"), "hi"))
    return ann.until(Error)


def bad_text(place: Place) -> Error:
    ann = place.join("ann")
    ann.send(Say(7, place.room, ""), Say(7, place.room, "x" * 4_097), Say(7, place.room, "\x1b[2J"))
    assert ann.until(Error).code == ann.until(Error).code == ErrorCode.BAD_TEXT
    return ann.until(Error)


def login_required(place: Place) -> Error:
    stranger = place.connect()
    stranger.send(Join(place.nick("ann"), place.room))
    return stranger.until(Error)


def login_failed(place: Place) -> Error:
    stranger = place.connect()
    stranger.send(*[Login("someone", "wrong")] * 3)
    assert [error.code for error in stranger.until_closed() if isinstance(error, Error)] == [11, 11, 11]
    other = place.connect()
    other.send(Login("someone", "wrong"))
    return other.until(Error)


def not_allowed(place: Place) -> Error:
    op, bob = place.join("op", user="op"), place.join("bob")
    bob.send(Moderate(1, place.room, place.nick("op"), 0, ""))
    assert bob.until(Error).code == ErrorCode.NOT_ALLOWED
    op.send(Moderate(4, place.room, place.nick("bob"), 0, ""))
    bob.until(Notice)
    bob.send(Say(7, place.room, "hi"))
    assert bob.until(Error).id == 7
    op.send(Moderate(2, place.room, place.nick("bob"), 0, ""))
    bob.until(Left)
    bob.send(Join(place.nick("bob"), place.room))
    return bob.until(Error)


def not_stored(place: Place) -> Error:
    ann, bob = place.join("ann"), place.join("bob")
    ann.send(Say(7, place.room, "refuse me, please"), Say(8, place.room, "but not me"))
    error = ann.until(Error)
    assert (error.id, error.text) == (7, "the history is full")
    assert ann.until(Ack).seq == 1
    assert bob.until(Chat).text == "but not me"
    return error


def too_many_rooms(place: Place) -> Error:
    ann = place.join("ann")
    ann.send(*(Join(place.nick("ann"), f"{place.room}-{number}") for number in range(3)))
    return ann.until(Error)


def too_slow(place: Place) -> Error:
    ann, slow = place.join("ann"), place.join_slowly("slow")
    ann.send(*(Say(0, place.room, "x" * 4_000) for _ in range(100)))
    assert ann.until(Left, lambda left: left.nick == place.nick("slow")).reason == "too slow"
    error = slow.until_closed()[-1]
    assert isinstance(error, Error)
    return error


def timeout(place: Place) -> Error:
    assert isinstance(place.server, RowsServer)
    stranger = place.server.strangers[place.form]
    place.clients.append(stranger)
    error = stranger.until_closed()[-1]
    assert isinstance(error, Error)
    return error


def rate_limited(place: Place) -> Error:
    ann = place.join("ann")
    ann.send(*(Nick(place.nick(nickname)) for nickname in ("bea", "cleo", "dora")))
    error = ann.until(Error)
    assert len(ann.of(Renamed)) == 2
    return error


def not_supported(place: Place) -> Error:
    op = place.join("op", user="op")
    op.send(Moderate(9, place.room, place.nick("op"), 0, ""))
    return op.until(Error)


ERROR_ROWS: dict[ErrorCode, Callable[[Place], Error]] = {
    ErrorCode.MALFORMED: malformed,
    ErrorCode.TOO_BIG: too_big,
    ErrorCode.JOIN_FIRST: join_first,
    ErrorCode.NICK_TAKEN: nick_taken,
    ErrorCode.BAD_NICK: bad_nick,
    ErrorCode.BAD_ROOM: bad_room,
    ErrorCode.NOT_IN_ROOM: not_in_room,
    ErrorCode.NO_SUCH_NICK: no_such_nick,
    ErrorCode.BAD_TEXT: bad_text,
    ErrorCode.LOGIN_REQUIRED: login_required,
    ErrorCode.LOGIN_FAILED: login_failed,
    ErrorCode.NOT_ALLOWED: not_allowed,
    ErrorCode.NOT_STORED: not_stored,
    ErrorCode.TOO_MANY_ROOMS: too_many_rooms,
    ErrorCode.TOO_SLOW: too_slow,
    ErrorCode.TIMEOUT: timeout,
    ErrorCode.RATE_LIMITED: rate_limited,
    ErrorCode.NOT_SUPPORTED: not_supported,
}

WITH_AN_ID = {
    ErrorCode.NOT_IN_ROOM,
    ErrorCode.NO_SUCH_NICK,
    ErrorCode.BAD_TEXT,
    ErrorCode.NOT_STORED,
}
"""The errors that are provoked here by a `say` or `tell` with the id 7."""


@pytest.mark.parametrize("code", list(ErrorCode), ids=lambda code: code.label)
def test_an_error_comes_when_the_table_says_so_and_closes_if_it_is_fatal(
    place: Place, code: ErrorCode
) -> None:
    error = ERROR_ROWS[code](place)
    assert error.code == code
    assert error.id == (7 if code in WITH_AN_ID else 0)
    assert error.text
    client = place.last_refused()
    if code.fatal:
        assert client.at_end
        assert client.received[-1] == error
        assert place.form == "frames" or client.form.closed_with in CLOSE_CODES[code]
    else:
        client.send(Ping(1))
        client.until(Pong)
