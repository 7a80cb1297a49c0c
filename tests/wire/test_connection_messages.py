"""chatproto.wire.connection: what a server and a client send to each other; one frame for many."""

from __future__ import annotations

import gc
import itertools
import weakref
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.talkers import EVERY_CODE, FORGETS, SIDES, TAKES_OVER, opened
from wire.websocket_model import PING, TEXT, frame, other

from chatproto.wire.connection import End, FrameForm, State, WebSocketConnection
from chatproto.wire.deflate import Deflate
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode

# --- a server and a client --------------------------------------------------------------------------------

MESSAGES = st.one_of(st.text(max_size=20), st.binary(max_size=20), st.sampled_from(["a" * 700, bytes(5000)]))
CODES = st.sampled_from(EVERY_CODE)
OPERATIONS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from(SIDES), MESSAGES),
    st.tuples(st.just("ping"), st.sampled_from(SIDES), st.binary(max_size=125)),
    st.tuples(st.just("deliver"), st.sampled_from(SIDES), st.integers(0, 5000)),
)
DEFLATES = [None, replace(FORGETS, min_message_bytes=0), Deflate(client_no_context_takeover=True), TAKES_OVER]


class Pair:
    """A server and a client; what one writes waits until it is delivered to the other."""

    def __init__(self, deflate: Deflate | None) -> None:
        self.talkers = {side: opened(side, deflate) for side in SIDES}
        self.waiting = dict.fromkeys(SIDES, b"")  # to this side
        self.sent: dict[Side, list[str | bytes]] = {side: [] for side in SIDES}
        self.pings: dict[Side, list[bytes]] = {side: [] for side in SIDES}
        self.heard: dict[Side, list[Event]] = {side: [] for side in SIDES}

    def deliver(self, side: Side, size: int | None = None) -> bool:
        """Give *side* so many bytes of what waits for it; whether there were any."""
        self.waiting[side] += self.talkers[other(side)].take_written()
        data, self.waiting[side] = (
            self.waiting[side][:size],
            self.waiting[side][len(self.waiting[side][:size]) :],
        )
        self.heard[side] += self.talkers[side].receive(data)
        return bool(data)

    def deliver_all(self) -> None:
        while self.deliver(Side.SERVER) | self.deliver(Side.CLIENT):
            pass

    def do(self, operation: tuple[str, Side, Any]) -> None:
        match operation:
            case "send", side, message:
                self.talkers[side].send(message)
                self.sent[side].append(message)
            case "ping", side, payload:
                self.talkers[side].ping(payload)
                self.pings[side].append(payload)
            case "deliver", side, size:
                self.deliver(side, size)

    def messages(self, side: Side) -> list[str | bytes]:
        return [event.data for event in self.heard[side] if event.opcode <= Opcode.BINARY]


@given(st.sampled_from(DEFLATES), st.lists(OPERATIONS, max_size=20))
def test_what_one_sends_the_other_gets_in_order_in_any_cut(
    deflate: Deflate | None, operations: list[tuple[str, Side, Any]]
) -> None:
    pair = Pair(deflate)
    for operation in operations:
        pair.do(operation)
    pair.deliver_all()
    for side in SIDES:
        assert pair.messages(side) == pair.sent[other(side)]
        pongs = [event.data for event in pair.heard[side] if event.opcode is Opcode.PONG]
        assert pongs == pair.pings[side]
        assert pair.talkers[side].state is State.OPEN


@given(
    st.sampled_from(DEFLATES),
    st.lists(OPERATIONS, max_size=8),
    st.sampled_from(SIDES),
    CODES,
    st.text(max_size=30),
    st.lists(OPERATIONS, max_size=8),
    st.none() | CODES,
)
def test_whoever_closes_and_whenever_both_end_cleanly_and_know_the_others_code(
    deflate: Deflate | None,
    before: list[tuple[str, Side, Any]],
    first: Side,
    code: int,
    reason: str,
    between: list[tuple[str, Side, Any]],
    others_code: int | None,
) -> None:
    pair = Pair(deflate)
    for operation in before:
        pair.do(operation)
    promised = list(pair.sent[first])
    second = other(first)
    pair.talkers[first].close(code, reason)
    for operation in between:
        pair.do(operation)
    is_simultaneous = others_code is not None and pair.talkers[second].state is State.OPEN
    if others_code is not None:
        pair.talkers[second].close(others_code)
    pair.deliver_all()
    assert pair.talkers[second].end == End(code, reason, True)
    expected = others_code if is_simultaneous and others_code is not None else code
    assert pair.talkers[first].end == End(expected, "", True)
    # The one who closed heard nothing more; the other heard all, unless it closed before.
    heard = pair.messages(second)
    assert heard == promised[: len(heard)]
    if not is_simultaneous:
        assert heard == promised
    for side in SIDES:
        assert pair.talkers[side].is_over
        assert pair.talkers[side].state is State.CLOSING


# --- sending ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
class TestSending:
    @pytest.mark.parametrize("size", [0, 125, 126, 4_096, 4_097, 65_535, 65_536, 200_000])
    def test_messages_of_any_length_arrive(self, side: Side, size: int) -> None:
        for deflate in (None, Deflate(), TAKES_OVER):
            talker = opened(side, deflate)
            talker.send("a" * size)
            talker.send(bytes(size))
            talker.send(bytearray(size))
            talker.send(memoryview(bytes(size)))
            assert [event.data for event in talker.frames(deflate)] == ["a" * size] + [bytes(size)] * 3

    def test_what_is_no_message_is_refused_and_harms_nothing(self, side: Side) -> None:
        talker = opened(side, TAKES_OVER)
        for wrong in (None, 3, ["a"]):
            with pytest.raises(TypeError, match="a message is a str or bytes"):
                talker.send(wrong)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            talker.send("\ud800")
        with pytest.raises(ValueError, match="125"):
            talker.ping(bytes(126))
        talker.send("right")
        assert talker.frames(TAKES_OVER) == [Event(Opcode.TEXT, "right")]

    def test_what_can_change_is_sent_as_it_was(self, side: Side) -> None:
        talker = opened(side)
        for size in (10, 10_000):
            mutable = bytearray(b"a" * size)
            talker.send(mutable)
            talker.send(memoryview(mutable))
            mutable[:] = b"b" * size
            assert [event.data for event in talker.frames()] == [b"a" * size] * 2

    def test_only_messages_of_some_length_are_compressed(self, side: Side) -> None:
        talker = opened(side, Deflate(min_message_bytes=300))
        talker.send("a" * 299)
        assert talker.take_written()[0] & 0x40 == 0
        talker.send("a" * 300)
        sent = talker.take_written()
        assert sent[0] & 0x40
        assert len(sent) < 50

    def test_pings_are_answered_in_order_and_in_one_piece(self, side: Side) -> None:
        talker = opened(side)
        stream = b"".join(frame(PING, b"%d" % i, to=side) for i in range(50)) + frame(TEXT, b"x", to=side)
        assert talker.receive(stream) == [Event(Opcode.TEXT, "x")]
        assert len(talker.written) == 1
        assert talker.frames() == [Event(Opcode.PONG, b"%d" % i) for i in range(50)]


def test_a_server_does_not_copy_a_large_message_to_send_it() -> None:
    talker = opened(Side.SERVER)
    large = bytes(100_000)
    talker.send(large)
    assert talker.written[-1] is large


def test_a_client_masks_everything_with_a_new_key() -> None:
    talker = opened(Side.CLIENT)
    keys = set()
    for _ in range(10):
        talker.send("x")
        talker.ping(b"x")
        for piece in talker.written:
            assert piece[1] & 0x80
            keys.add(piece[2:6])
        talker.written.clear()
    assert len(keys) == 20


# --- one frame for many -----------------------------------------------------------------------------------


def upper(source: str) -> str:
    return source.upper()


class TestSharedForms:
    def test_servers_of_one_class_have_the_same_form(self) -> None:
        for deflate in (None, FORGETS, replace(FORGETS, level=1)):
            forms = [opened(Side.SERVER, deflate).shared_form() for _ in range(3)]
            assert forms[0] is not None
            assert forms[0] is forms[1] is forms[2]

    def test_different_classes_have_different_ones(self) -> None:
        forms = [
            opened(Side.SERVER, deflate).shared_form(content)
            for deflate, content in itertools.product(
                (
                    None,
                    FORGETS,
                    replace(FORGETS, min_message_bytes=0),
                    replace(FORGETS, level=1),
                    replace(FORGETS, server_max_window_bits=9),
                ),
                (None, upper),
            )
        ]
        assert len(set(forms)) == 10

    def test_what_only_the_client_compresses_with_makes_no_difference(self) -> None:
        other_client = replace(FORGETS, client_no_context_takeover=True, client_max_window_bits=9)
        forms = [opened(Side.SERVER, deflate).shared_form() for deflate in (FORGETS, other_client)]
        assert forms[0] is forms[1]

    def test_there_is_none_where_frames_depend_on_the_connection(self) -> None:
        assert opened(Side.CLIENT).shared_form() is None
        assert opened(Side.CLIENT, FORGETS).shared_form() is None
        assert opened(Side.SERVER, TAKES_OVER).shared_form() is None

    @pytest.mark.parametrize("source", ["", "short", "long" * 500, b"", b"binary" * 500])
    @pytest.mark.parametrize("deflate", [None, FORGETS])
    def test_it_makes_the_frame_that_a_connection_sends(
        self, source: str | bytes, deflate: Deflate | None
    ) -> None:
        talker = opened(Side.SERVER, deflate)
        form = talker.shared_form()
        assert form is not None
        talker.send(source)
        assert form(source) == talker.take_written()

    def test_content_makes_the_message(self) -> None:
        form = opened(Side.SERVER).shared_form(upper)
        assert form is not None
        assert form("loud") == frame(TEXT, b"LOUD", to=Side.CLIENT)
        numeric = opened(Side.SERVER).shared_form(int)  # type: ignore[arg-type]
        assert numeric is not None
        with pytest.raises(TypeError, match="a message is a str or bytes, not int"):
            numeric("3")

    def test_a_form_that_nobody_has_any_more_is_forgotten_with_its_content(self) -> None:
        class Own:
            def content(self, source: str) -> str:
                return source

        own = Own()
        form = opened(Side.SERVER).shared_form(own.content)
        assert form is FrameForm.shared(own.content, None, 0)
        gone = weakref.ref(own)
        del own, form
        gc.collect()
        assert gone() is None


# --- leftovers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_a_connection_that_is_lost_holds_nothing_and_is_in_no_cycle(side: Side) -> None:
    class Whole:
        """As a transport has it: it writes through itself."""

        def __init__(self) -> None:
            self.connection = WebSocketConnection(side, self.write)

        def write(self, data: bytes) -> None:
            raise AssertionError(data)

    whole = Whole()
    whole.connection.accepted(TAKES_OVER)
    whole.connection.receive(frame(TEXT, b"half", to=side, fin=False))
    whole.connection.lost()
    whole.connection.send("to nobody")
    gone = weakref.ref(whole)
    gc.disable()
    try:
        del whole
        assert gone() is None
    finally:
        gc.enable()
