"""Whatever anybody sends over WebSocket, the chat goes on, or ends it as the protocol says (section 4)."""

from __future__ import annotations

from typing import Any

from forms import FORMS, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from net.memory import Chat
from net.rows_faults import CLOSE_CODES
from net.webpeople import KINDS, Person, joined
from twisted.python import log
from wire.streams import CLIENT_CLASSES, messages, of_class

from chatproto.limits import Limits
from chatproto.wire.chat import encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.jsonform import to_json
from chatproto.wire.messages import Error, Join, Ping, Say

LIMITS = Limits(max_frame_bytes=2_000, max_text_bytes=900)

FATAL = {code.value for code in ErrorCode if code.fatal}


def sent(kind: str) -> st.SearchStrategy[str | bytes]:
    """What somebody may send: messages of this form, of the other one, and nonsense."""
    fitting = st.one_of(messages(CLIENT_CLASSES), of_class(Say), of_class(Join))
    texts = fitting.map(to_json) | st.text(max_size=40)
    data = fitting.map(lambda message: encode_frame(message)[4:]) | st.binary(max_size=40)
    usual, other = (data, texts) if kind == "bin" else (texts, data)
    return st.one_of(usual, usual, usual, usual, other)


@st.composite
def talks(draw: st.DrawFn) -> tuple[str, list[str | bytes]]:
    kind = draw(st.sampled_from(KINDS))
    return kind, draw(st.lists(sent(kind), max_size=12))


@given(talks())
def test_it_ends_with_a_code_that_says_why_or_goes_on(talk: tuple[str, list[str | bytes]]) -> None:
    kind, said = talk
    failures: list[Any] = []
    log.addObserver(failures.append)
    try:
        chat = Chat(LIMITS)
        witness = joined(chat, "witness")
        form = FORMS[kind]()
        assert isinstance(form, WebSocket)
        person = Person(chat, form)
        person.send_raw(*said)
        came = [message for _ in range(5) for message in person.read()]
        fatal = [message.code for message in came if isinstance(message, Error) and message.code in FATAL]
        if person.closed is None:
            assert fatal == []
            person.send(Ping(2**53 - 1))
            assert person.read()[-1].type == "pong"
        else:
            assert len(fatal) <= 1
            assert person.closed[0] in (CLOSE_CODES[fatal[0]] if fatal else (1000, 1003))
            assert not fatal or isinstance(came[-1], Error)
        # Nobody else is harmed.
        witness.read()
        witness.send(Ping(1))
        assert witness.types() == ["pong"]
        person.line.vanish()
        witness.line.vanish()
        chat.clock.advance(0)  # the turn in which they went
        assert chat.is_empty()
    finally:
        log.removeObserver(failures.append)
    assert [event for event in failures if event.get("isError")] == []
