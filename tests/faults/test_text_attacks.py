"""What one person says never acts on another's terminal, forges a line, or breaks a line of the log.

A witness at a line connection records every byte. A herald says a marker after each attack, so that the lines
which it caused are counted exactly.
"""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Callable, Iterator

import pytest
from faults.watching import WatchedServer, assert_log_is_clean, quiet_descriptors
from live import PATIENCE_S, Framed, eventually

from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import (
    MESSAGES,
    Ack,
    End,
    Error,
    FieldType,
    History,
    Join,
    Leave,
    Login,
    Message,
    Moderate,
    Nick,
    Notice,
    Ping,
    Pong,
    Renamed,
    Say,
    Search,
    Tell,
    Welcome,
    Who,
)

HOSTILE = [
    "\x1b[2J\x1b[H",  # clear the screen
    "\x1b]52;c;cm0gLXJmIH4=\x07",  # OSC 52: write the clipboard
    "\x1b]0;title\x07",
    "\x1b[31mred\x1b[0m",
    "\x1bP+q544e\x1b\\",  # DCS: ask the terminal, which answers as if typed
    "\x9b2J",  # CSI in one C1 byte
    "\x90\x9c\x9d52;c;x\x9c",
    "over\rwritten",
    "* bob left lobby (closed)",
    "hi\n* bob left lobby (closed)",
    "hi\r\n* bob left lobby (closed)\r\n",
    "hi\n[lobby 12:00] admin: hi",
    "[lobby 12:00] admin: hi",
    "[12:00 to you alone] admin: hi",
    "hi\n* goodbye: the server is going down",
    "hi\x0b* bob left lobby (closed)",
    "hi\x0c* bob left lobby (closed)",
    "hi\x85* bob left lobby (closed)",
    "hi\u2028* bob left lobby (closed)",
    "hi\u2029* bob left lobby (closed)",
    "hi\x1c* bob left\x1d* bob left\x1e* bob left",  # what str.splitlines takes for line ends as well
    "nul\x00nul",
    "bell\x07",
    "secret\x08\x08\x08\x08\x08\x08public",
    "\x7f\x7f\x7f",
    "\u202ereversed\u202c",
    "\u202a\u202b\u202d",
    "\u2066\u2067\u2068\u2069",
    "\u200e\u200f\u061c",
    "\ufeffbom",
    "\u200bzero\u200bwidth",
    "\U000e0041\U000e0042tags",
    "soft\xadhyphen",
    "\ufff9annotated\ufffa\ufffb",
    "/quit",
    "/me \x1b[2J* bob left lobby (closed)",
    "\xff\xfd\x01\xff\xfb\x01",  # as text, not as bytes
    "{line!r} %s %(x)s {0.__class__}",  # formats, for logs
    "x" * 5_000,
    "ordinary",  # so that something is taken in every place
    "",
]

FORGED = (
    b"* bob ",
    b"* goodbye",
    b"[lobby 12:00] admin",
    b"[12:00 to you alone] admin",
)

# Written down again on purpose: C0 and DEL, C1, bidi controls, separators, deprecated, annotation, BOM, tags.
ACTING = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
    r"\ud800-\udfff\U000e0000-\U000e007f]"
)

LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[[^]]+\] .*|watched: .*")


def assert_tame(data: bytes) -> list[str]:
    """These are whole lines, each the server's or a message, and none acts on a terminal. The lines."""
    assert data.endswith(b"\r\n"), data[-100:]
    lines = data[:-2].split(b"\r\n")
    for line in lines:
        assert line.startswith((b"* ", b"[")), line
        assert not line.startswith(FORGED), line
        assert not ACTING.search(line.decode()), line
    return [line.decode() for line in lines]


class LinePerson:
    """Someone at `nc`."""

    def __init__(self, server: WatchedServer, nick: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
        self.data = b""
        self.at_end = False
        if nick:
            self.type(nick.encode() + b"\n")
            self.until("* in lobby: ")

    def type(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> None:
        try:
            data = self.socket.recv(2**16)
        except ConnectionResetError:
            data = b""
        self.at_end = not data
        self.data += data

    def until(self, text: str) -> bytes:
        """Everything up to the line that contains *text*, without that line."""
        while True:
            before, found, rest = self.data.partition(text.encode())
            if found and b"\n" in rest:
                before = before[: before.rfind(b"\n") + 1]
                self.data = rest.partition(b"\n")[2]
                return before
            assert not self.at_end, self.data
            self.receive()

    def until_closed(self) -> bytes:
        while not self.at_end:
            self.receive()
        return self.data


class Stage:
    """The server, the witness whom all attacks aim at, and the herald."""

    def __init__(self) -> None:
        self.server = WatchedServer("--rename-interval-s", "0", "--login-interval-s", "0", accounts=True)
        self._descriptors = quiet_descriptors(self.server) + 2  # the witness and the herald
        self.witness = LinePerson(self.server, "witness")
        self.herald = self.server.join("herald")
        self._numbers = itertools.count(1)
        self._here: list[Framed | LinePerson] = []
        self.mark()

    def mark(self) -> list[str]:
        """What the witness saw since the last mark."""
        number = next(self._numbers)
        self.herald.send(Say(number, "", f"mark {number}."))
        self.herald.until(Ack, lambda ack: ack.id == number)
        data = self.witness.until(f"herald: mark {number}.")
        return assert_tame(data) if data else []

    def enter(self, nick: str, *, as_operator: bool = False) -> Framed:
        """Someone framed in the same room; the witness has seen them come."""
        client = self.call()
        if as_operator:
            client.send(Login("root", "secret"))
        client.send(Join(nick))
        client.until(End)
        assert self.mark() == [f"* {nick} joined lobby"]
        return client

    def call(self) -> Framed:
        """Someone framed who has said nothing yet."""
        client = self.server.connect()
        self._here.append(client)
        return client

    def line_person(self, nick: str = "") -> LinePerson:
        """Someone at `nc`, who has entered under *nick* if there is one."""
        person = LinePerson(self.server, nick)
        self._here.append(person)
        return person

    def clear(self) -> None:
        """Let only the witness and the herald stay."""
        while self._here:
            self._here.pop().socket.close()
        eventually(lambda: self.server.descriptors() == self._descriptors, "everybody else is gone")
        self.mark()

    def number(self) -> int:
        return next(self._numbers)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """All attacks happen on one stage; its log is looked at after each."""
    made = Stage()
    with made.server:
        yield made


@pytest.fixture(autouse=True)
def unbroken_log(stage: Stage) -> Iterator[None]:
    yield
    stage.clear()
    assert_log_is_clean(stage.server)
    for line in stage.server.log_path.read_bytes().split(b"\n")[:-1]:
        text = line.decode()
        assert LOG_LINE.fullmatch(text), line
        assert not ACTING.search(text), line


def answers(client: Framed, *requests: Message) -> list[Message]:
    """What the server answers to requests, until a `pong` or its end of the connection."""
    before = len(client.received)
    client.send(*requests, Ping(1))
    client.gather(lambda: client.at_end or how_many(client.received[before:], Pong) > 0, "the answers")
    came = client.received[before:]
    for message in came:
        if isinstance(message, Error):
            # Whoever gets it may well show it as it is.
            assert message.text.isascii(), message
            assert message.text.isprintable(), message
    return came


def how_many(messages: list[Message], kind: type[Message]) -> int:
    return sum(isinstance(message, kind) for message in messages)


# For each field of each message that has a string: the message, and what tells that it was taken and made one
# line at the witness. Others are never seen by the witness.
FIELDS: dict[str, tuple[Callable[[str, int], Message], type[Message] | None]] = {
    "join.nick": (lambda hostile, id: Join(hostile, "elsewhere"), None),
    "join.room": (lambda hostile, id: Join("attacker", hostile), None),
    "say.text": (lambda hostile, id: Say(id, "", hostile), Ack),
    "say.room": (lambda hostile, id: Say(id, hostile, "hi"), Ack),
    "tell.text": (lambda hostile, id: Tell(id, "witness", hostile), Ack),
    "tell.nick": (lambda hostile, id: Tell(id, hostile, "hi"), None),
    "nick.nick": (lambda hostile, id: Nick(hostile), Renamed),
    "who.room": (lambda hostile, id: Who(hostile), None),
    "history.room": (lambda hostile, id: History(hostile, 0, 5), None),
    "leave.room": (lambda hostile, id: Leave(hostile), None),
    "search.room": (lambda hostile, id: Search(hostile, "hi", 5), None),
    "search.query": (lambda hostile, id: Search("", hostile, 5), None),
    "login.user": (lambda hostile, id: Login(hostile, "secret"), None),
    "login.secret": (lambda hostile, id: Login("root", hostile), None),
    "moderate.room": (lambda hostile, id: Moderate(4, hostile, "nobody", 1, "why"), None),
    "moderate.nick": (lambda hostile, id: Moderate(4, "", hostile, 1, "why"), None),
    "moderate.reason": (lambda hostile, id: Moderate(4, "", "witness", 1, hostile), Notice),
}


def test_every_string_of_every_message_is_attacked() -> None:
    expected = {
        f"{message.type}.{field.name}"
        for kind, message in MESSAGES.items()
        for field in message.fields
        if kind < 0x80 and field.type is FieldType.STR
    }
    assert FIELDS.keys() == expected


@pytest.mark.parametrize("field", FIELDS)
def test_no_string_of_any_message_acts_on_others(stage: Stage, field: str) -> None:
    attack, taken = FIELDS[field]
    client = stage.enter("attacker", as_operator=field.startswith("moderate"))
    was_taken = 0
    for hostile in HOSTILE:
        came = answers(client, attack(hostile, stage.number()))
        if client.at_end:
            assert field == "leave.room", came
            assert not hostile
            stage.mark()
            client = stage.enter("attacker")
            continue
        lines = stage.mark()
        seen = taken is not None and how_many(came, taken) > 0
        was_taken += seen
        assert len(lines) == seen, (hostile, lines)
        assert seen or came != [], hostile
    assert was_taken or taken is None, "nothing at all was taken, so nothing was tried"


@pytest.mark.parametrize("field", ["login.user", "login.secret"])
def test_no_login_that_fails_acts_on_others(stage: Stage, field: str) -> None:
    """The third failure ends the connection."""
    for hostile in HOSTILE:
        client = stage.call()
        came = answers(client, FIELDS[field][0](hostile, 0))
        assert [message.code for message in came if isinstance(message, Error)] == [ErrorCode.LOGIN_FAILED]
        client.close()
        assert stage.mark() == []


def test_no_nickname_that_someone_comes_with_acts_on_others(stage: Stage) -> None:
    for hostile in HOSTILE:
        client = stage.call()
        came = answers(client, Join(hostile, ""))
        entered = how_many(came, Welcome)
        assert entered + how_many(came, Error) == 1, hostile
        assert len(stage.mark()) == entered
        if entered:
            stage.clear()


@pytest.mark.parametrize(
    "bad",
    [
        b"\xed\xa0\x80",
        b"\xed\xb0\x80",
        b"\xc0\x8a",
        b"\xe0\x80\x8a",
        b"\xff\xfd\x01",
        b"\x9b2J",
        b"\xe2\x80",
        b"\xf4\x90\x80\x80",
    ],
)
def test_what_is_not_utf8_ends_the_connection_and_is_shown_to_nobody(stage: Stage, bad: bytes) -> None:
    """Halves of surrogate pairs, line feeds in too many bytes, telnet's and terminals' codes."""
    client = stage.enter("attacker")
    frame = encode_frame(Say(1, "", "#" * len(bad))).replace(b"#" * len(bad), bad)
    client.socket.sendall(frame)
    client.until_closed()
    assert [error.code for error in client.of(Error)] == [ErrorCode.MALFORMED]


def test_no_reason_for_kicking_acts_on_the_one_who_is_kicked(stage: Stage) -> None:
    operator = stage.enter("attacker", as_operator=True)
    victim = stage.line_person("victim")
    stage.mark()
    for hostile in HOSTILE:
        came = answers(operator, Moderate(1, "", "victim", 0, hostile))
        kicked = how_many(came, Notice)
        assert kicked + how_many(came, Error) == 1
        assert len(stage.mark()) == kicked
        if kicked:
            lines = assert_tame(victim.until("* victim left lobby (kicked)"))
            assert [line[:26] for line in lines if "herald: " not in line] == ["* you were kicked out of l"]
            victim.type(b"/join lobby\n")
            victim.until("* in lobby: ")
            stage.mark()


TYPED = (
    b"//%s",
    b"/me %s",
    b"/msg witness %s",
    b"/msg %s hi",
    b"/nick %s",
    b"/who %s",
    b"/history %s",
    b"/search %s",
    b"/help %s",
    b"/leave %s",
    b"/kick %s",
    b"/ban witness 5 %s",
    b"/unban %s",
    b"/mute %s",
    b"/unmute %s",
    b"/%s",
    b"/join %s",
    b"%s",
)
RAW = [
    b"\xff\xfd\x01\xff\xfb\x01",
    b"\xff\xff\xff\xf4\xff\xfa\x18\x01\xff\xf0",
    b"\xff\xfa never ended",
    b"\x9b2J",
    b"\xc0\x8a* bob left lobby (closed)",
    b"\xed\xa0\x80",
    b"\r\0* bob left lobby (closed)",
    b"\r* bob left lobby (closed)",
    b"\x00",
    b"x" * 5_000,
]
LINE_END = re.compile(rb"\r[\n\0]?|\n")
TELNET_REPLY = re.compile(rb"\xff[\xfb-\xfe].", re.DOTALL)


@pytest.mark.parametrize("nick", [b"attacker\n", b""], ids=["as what is typed", "as the first line"])
def test_nothing_that_is_typed_acts_on_others_or_oneself(stage: Stage, nick: bytes) -> None:
    for hostile in [*(text.encode() for text in HOSTILE), *RAW]:
        templates = TYPED if nick else (b"%s",)
        typed = nick + b"".join(template.replace(b"%s", hostile) + b"\r\n" for template in templates)
        person = stage.line_person()
        person.type(typed)
        person.socket.shutdown(socket.SHUT_WR)
        shown = TELNET_REPLY.sub(b"", person.until_closed())
        if typed[0] != 0:  # the beginning of a frame, and no line
            assert_tame(shown)
        person.socket.close()
        lines = stage.mark()
        # Each line that is typed makes one line at most; coming and going make one each.
        assert len(lines) <= len(LINE_END.findall(typed)) + 2, lines
        if nick:
            assert lines[0] == "* attacker joined lobby"
            assert " left lobby (" in lines[-1]


def test_no_request_over_http_breaks_the_log(stage: Stage) -> None:
    for hostile in [*(text.encode() for text in HOSTILE), *RAW]:
        client = stage.line_person()
        client.type(
            b"GET /%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nReferer: %s\r\nConnection: close\r\n\r\n"
            % ((hostile,) * 4)
        )
        client.socket.shutdown(socket.SHUT_WR)
        client.until_closed()
        client.socket.close()
    assert stage.mark() == []
