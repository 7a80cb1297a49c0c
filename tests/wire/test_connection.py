"""chatproto.wire.connection: the states and the end of a WebSocket, either side (RFC 6455, sections 4, 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.talkers import EVERY_CODE, SIDES, Talker, opened
from wire.websocket_model import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame,
)

from chatproto.wire.connection import TRANSITIONS, End, State, Step
from chatproto.wire.deflate import Deflate
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode

# --- the states -------------------------------------------------------------------------------------------


def _closing_after_own_close(talker: Talker) -> None:
    talker.accepted()
    talker.close()


def _closing_after_the_peers(talker: Talker) -> None:
    talker.accepted()
    talker.hear(CLOSE)


def _closing_after_a_fault(talker: Talker) -> None:
    talker.accepted()
    talker.hear(3)


def _closed_after_all(talker: Talker) -> None:
    _closing_after_the_peers(talker)
    talker.lost()


WAYS: dict[State, list[Callable[[Talker], object]]] = {
    State.HANDSHAKING: [lambda talker: None],
    State.OPEN: [Talker.accepted],
    State.CLOSING: [_closing_after_own_close, _closing_after_the_peers, _closing_after_a_fault],
    State.CLOSED: [Talker.refused, Talker.lost, _closed_after_all],
}
"""How each state is come by."""

STEPS: dict[Step, list[Callable[[Talker], object]]] = {
    Step.ACCEPTED: [Talker.accepted],
    Step.REFUSED: [Talker.refused],
    Step.CLOSE_SENT: [Talker.close],
    Step.CLOSE_RECEIVED: [lambda talker: talker.hear(CLOSE, close_payload(1001, b"bye"))],
    Step.FAILED: [lambda talker: talker.fail(1011, "no pong"), lambda talker: talker.hear(3)],
    Step.LOST: [Talker.lost],
}
"""How each step is taken."""

EVERY_STEP_EVERYWHERE = [
    pytest.param(side, state, way, step, take, id=f"{side.name}-{state.name}{i}-{step.name}{j}")
    for side in SIDES
    for state in State
    for i, way in enumerate(WAYS[state])
    for step in Step
    for j, take in enumerate(STEPS[step])
]


@pytest.mark.parametrize(("side", "state", "way", "step", "take"), EVERY_STEP_EVERYWHERE)
def test_each_step_leads_where_the_table_says_and_no_other_is_possible(
    side: Side, state: State, way: Callable[[Talker], object], step: Step, take: Callable[[Talker], object]
) -> None:
    talker = Talker(side)
    way(talker)
    assert talker.state is state
    was_over = talker.is_over
    talker.written.clear()
    if (state, step) in TRANSITIONS:
        take(talker)
        # Once it is over, nothing is heard of the peer any more.
        is_deaf = was_over and step is not Step.LOST
        assert talker.state is (state if is_deaf else TRANSITIONS[state, step])
        return
    if step in (Step.ACCEPTED, Step.REFUSED):
        with pytest.raises(RuntimeError, match=f"{step.value}: that cannot be while .* {state.value}"):
            take(talker)
    else:
        take(talker)
    assert talker.state is state
    assert talker.written == []


def test_every_state_can_be_come_to_and_every_connection_can_end() -> None:
    reached = {State.HANDSHAKING}
    while more := {after for (before, _), after in TRANSITIONS.items() if before in reached} - reached:
        reached |= more
    assert reached == set(State)
    assert {before for before, step in TRANSITIONS if step is Step.LOST} == set(State)
    assert {after for (before, _), after in TRANSITIONS.items() if before is State.CLOSED} == {State.CLOSED}


ACTIONS: list[Callable[[Talker], object]] = [
    Talker.close,
    lambda talker: talker.close(4000, "enough"),
    lambda talker: talker.send("text") if talker.state is not State.HANDSHAKING else None,
    lambda talker: talker.ping(b"?") if talker.state is not State.HANDSHAKING else None,
    lambda talker: talker.fail(1008, "too slow"),
    Talker.lost,
    lambda talker: talker.accepted() if talker.state is State.HANDSHAKING else None,
    lambda talker: talker.hear(TEXT, b"hello"),
    lambda talker: talker.hear(PING, b"ping"),
    lambda talker: talker.hear(PONG),
    lambda talker: talker.hear(CLOSE, close_payload(1000)),
    lambda talker: talker.hear(11),
]


@given(st.sampled_from(SIDES), st.lists(st.sampled_from(ACTIONS), max_size=12))
def test_whatever_happens_nothing_is_sent_after_a_close_frame_nor_before_the_opening(
    side: Side, actions: list[Callable[[Talker], object]]
) -> None:
    talker = Talker(side)
    for action in actions:
        before, was_over, written = talker.state, talker.is_over, len(talker.written)
        action(talker)
        if talker.state is not before:
            assert talker.state in {TRANSITIONS.get((before, step)) for step in Step}
        assert talker.is_over >= was_over
        if before is not State.OPEN and talker.state is not State.OPEN:
            assert len(talker.written) == written
    sent = [event.opcode for event in talker.frames()]
    assert Opcode.CLOSE not in sent[:-1]


# --- closing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
class TestClosing:
    @pytest.mark.parametrize("code", EVERY_CODE)
    def test_a_code_and_a_reason_go_out(self, side: Side, code: int) -> None:
        talker = opened(side)
        talker.close(code, "so be it")
        assert talker.frames() == [Event(Opcode.CLOSE, "so be it", code)]
        assert not talker.is_over

    @pytest.mark.parametrize("code", EVERY_CODE)
    def test_a_code_and_a_reason_that_come_are_kept_and_the_code_is_answered(
        self, side: Side, code: int
    ) -> None:
        talker = opened(side)
        assert talker.hear(CLOSE, close_payload(code, "grüße".encode())) == []
        assert talker.end == End(code, "grüße", True)
        assert talker.frames() == [Event(Opcode.CLOSE, "", code)]
        assert talker.is_over

    def test_a_close_frame_without_a_code_is_answered_so(self, side: Side) -> None:
        talker = opened(side)
        talker.hear(CLOSE)
        assert talker.end == End(1005, "", True)
        assert talker.frames() == [Event(Opcode.CLOSE, "", 1005)]
        talker = opened(side)
        talker.close(None)
        assert talker.frames() == [Event(Opcode.CLOSE, "", 1005)]

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535])
    def test_a_code_that_never_travels_is_not_sent_and_is_a_fault_when_it_comes(
        self, side: Side, code: int
    ) -> None:
        talker = opened(side)
        with pytest.raises(ValueError, match=str(code)):
            talker.close(code)
        assert talker.state is State.OPEN
        talker.hear(CLOSE, close_payload(code))
        assert (talker.end.code, talker.end.is_clean) == (1002, False)
        assert [event.code for event in talker.frames()] == [1002]

    def test_a_reason_has_room_for_123_bytes_and_no_more(self, side: Side) -> None:
        talker = opened(side)
        with pytest.raises(ValueError, match="123"):
            talker.close(1000, "ä" * 62)
        with pytest.raises(ValueError, match="code"):
            talker.close(None, "why")
        assert talker.written == []
        talker.close(1000, "ä" * 61 + "a")
        assert talker.frames() == [Event(Opcode.CLOSE, "ä" * 61 + "a", 1000)]

    def test_it_begins_once(self, side: Side) -> None:
        talker = opened(side)
        talker.close(4001, "first")
        talker.close(4002, "second")
        assert [event.code for event in talker.frames()] == [4001]

    def test_messages_and_pings_that_come_afterwards_are_left_out(self, side: Side) -> None:
        talker = opened(side)
        talker.close()
        talker.take_written()
        assert talker.hear(TEXT, b"late") == []
        assert talker.hear(PING, b"late") == []
        assert talker.hear(PONG, b"late") == []
        assert talker.written == []
        talker.hear(CLOSE, close_payload(1000))
        assert talker.written == []
        assert talker.end == End(1000, "", True)

    def test_messages_that_come_in_front_of_the_close_frame_are_given(self, side: Side) -> None:
        talker = opened(side)
        stream = b"".join(
            frame(opcode, payload, to=side)
            for opcode, payload in [
                (TEXT, b"last"),
                (PING, b"1"),
                (PING, b"2"),
                (CLOSE, b""),
                (TEXT, b"never"),
            ]
        )
        assert talker.receive(stream) == [Event(Opcode.TEXT, "last")]
        assert talker.frames() == [
            Event(Opcode.PONG, b"1"),
            Event(Opcode.PONG, b"2"),
            Event(Opcode.CLOSE, "", 1005),
        ]

    def test_nothing_is_sent_afterwards(self, side: Side) -> None:
        talker = opened(side)
        talker.close()
        talker.take_written()
        talker.send("late")
        talker.ping()
        talker.fail(1011, "late")
        talker.lost()
        talker.send("later")
        talker.close()
        assert talker.written == []


# --- faults and ends --------------------------------------------------------------------------------------

FAULTS: list[tuple[int, dict[str, Any], int]] = [
    (3, {}, 1002),
    (TEXT, {"rsv": 4}, 1002),
    (TEXT, {"payload": b"\xff"}, 1007),
    (TEXT, {"payload": b"x" * 101}, 1009),
    (CONTINUATION, {}, 1002),
    (PING, {"payload": bytes(126)}, 1002),
    (CLOSE, {"payload": b"\3"}, 1002),
    (CLOSE, {"payload": close_payload(1000, b"\xff")}, 1007),
]


@pytest.mark.parametrize("side", SIDES)
class TestFaults:
    @pytest.mark.parametrize(("opcode", "how", "code"), FAULTS)
    def test_a_fault_ends_it_with_its_code_behind_what_was_right(
        self, side: Side, opcode: int, how: dict[str, Any], code: int
    ) -> None:
        talker = opened(side, max_message_bytes=100)
        stream = frame(TEXT, b"good", to=side) + frame(opcode, to=side, **how)
        assert talker.receive(stream) == [Event(Opcode.TEXT, "good")]
        assert talker.state is State.CLOSING
        assert talker.is_over
        assert (talker.end.code, talker.end.is_clean) == (code, False)
        assert talker.frames() == [Event(Opcode.CLOSE, talker.end.reason, code)]
        assert talker.hear(TEXT, b"more") == []

    def test_a_frame_masked_as_it_must_not_be_is_one(self, side: Side) -> None:
        talker = opened(side)
        talker.hear(TEXT, b"x", is_masked=side is Side.CLIENT)
        assert talker.end.code == 1002

    def test_a_fault_after_this_side_began_to_close_ends_it_without_another_close_frame(
        self, side: Side
    ) -> None:
        talker = opened(side)
        talker.close(1001)
        talker.take_written()
        talker.hear(3)
        assert talker.is_over
        assert (talker.end.code, talker.end.is_clean) == (1002, False)
        assert talker.written == []

    def test_what_is_unfinished_when_the_transport_goes_is_no_clean_end(self, side: Side) -> None:
        talker = opened(side)
        talker.hear(TEXT, b"half", fin=False)
        talker.lost()
        assert talker.end == End(1006, "", False)
        assert talker.is_over

    def test_to_fail_it_says_so_and_hears_nothing_more(self, side: Side) -> None:
        talker = opened(side)
        talker.fail(1011, "no pong")
        assert talker.end == End(1011, "no pong", False)
        assert talker.frames() == [Event(Opcode.CLOSE, "no pong", 1011)]
        talker.hear(CLOSE, close_payload(1000))
        assert talker.end == End(1011, "no pong", False)

    def test_a_clean_end_stays_one_whatever_comes_afterwards(self, side: Side) -> None:
        talker = opened(side)
        talker.hear(CLOSE, close_payload(1001))
        talker.hear(3)
        talker.fail(1011, "late")
        talker.lost()
        assert talker.end == End(1001, "", True)

    def test_compressed_data_that_is_none_is_a_fault(self, side: Side) -> None:
        talker = opened(side, Deflate())
        talker.hear(BINARY, b"\xff" * 9, rsv=4)
        assert talker.end.code == 1007

    def test_a_bomb_is_too_big(self, side: Side) -> None:
        talker = opened(side, Deflate(), max_message_bytes=1_000)
        talker.hear(BINARY, Deflate().deflater(side is Side.SERVER).compress(bytes(1_001)), rsv=4)
        assert talker.end.code == 1009

    def test_the_limits_are_the_decoders(self, side: Side) -> None:
        talker = opened(side, max_message_bytes=1_000, max_frame_bytes=10)
        talker.hear(BINARY, bytes(11))
        assert talker.end.code == 1009


ENDINGS: list[tuple[int, dict[str, Any], End]] = [
    (CLOSE, {"payload": close_payload(4001, b"bye")}, End(4001, "bye", True)),
    (CLOSE, {}, End(1005, "", True)),
    (TEXT, {"payload": b"\xff"}, End(1007, "text that is not UTF-8", False)),
]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("opcode", "how", "ending"), ENDINGS)
class TestWhatThePeerEndsItWithWhereThatIsDeferred:
    def test_is_not_answered_before_it_is_concluded(
        self, side: Side, opcode: int, how: dict[str, Any], ending: End
    ) -> None:
        talker = opened(side, defers_ending=True)
        talker.receive(frame(TEXT, b"a question", to=side) + frame(opcode, to=side, **how))
        assert (talker.ending, talker.state, talker.is_over) == (ending, State.OPEN, False)
        talker.send("the answer")
        talker.conclude()
        assert [event.opcode for event in talker.frames()] == [Opcode.TEXT, Opcode.CLOSE]
        assert (talker.end, talker.state, talker.is_over) == (ending, State.CLOSING, True)
        talker.conclude()
        assert talker.written == []

    def test_is_the_end_of_what_is_heard(
        self, side: Side, opcode: int, how: dict[str, Any], ending: End
    ) -> None:
        talker = opened(side, defers_ending=True)
        talker.receive(frame(opcode, to=side, **how))
        assert talker.receive(frame(TEXT, b"late", to=side)) == []
        assert talker.receive(frame(PING, b"late", to=side)) == []
        assert talker.written == []

    def test_goes_before_what_this_side_closes_with(
        self, side: Side, opcode: int, how: dict[str, Any], ending: End
    ) -> None:
        talker = opened(side, defers_ending=True)
        talker.receive(frame(opcode, to=side, **how))
        talker.close(1001, "we go away")
        assert [event.code for event in talker.frames()] == [ending.code]
        assert talker.end == ending

    def test_needs_no_conclusion_where_this_side_began(
        self, side: Side, opcode: int, how: dict[str, Any], ending: End
    ) -> None:
        talker = opened(side, defers_ending=True)
        talker.close(1001)
        talker.take_written()
        talker.receive(frame(opcode, to=side, **how))
        assert talker.is_over
        assert talker.end == ending
        assert talker.written == []

    def test_is_the_end_even_if_the_transport_goes_before_it_is_answered(
        self, side: Side, opcode: int, how: dict[str, Any], ending: End
    ) -> None:
        talker = opened(side, defers_ending=True)
        talker.receive(frame(opcode, to=side, **how))
        talker.lost()
        talker.conclude()
        assert (talker.end, talker.state) == (ending, State.CLOSED)
        assert talker.written == []

    def test_may_be_overtaken_by_a_failure_of_this_sides(
        self, side: Side, opcode: int, how: dict[str, Any], ending: End
    ) -> None:
        talker = opened(side, defers_ending=True)
        talker.receive(frame(opcode, to=side, **how))
        talker.fail(1011, "a mistake")
        talker.conclude()
        assert [event.code for event in talker.frames()] == [1011]
        assert talker.end == End(1011, "a mistake", False)


def test_there_is_nothing_to_conclude_while_the_peer_goes_on() -> None:
    talker = opened(Side.SERVER, defers_ending=True)
    talker.conclude()
    talker.hear(TEXT, b"go on")
    talker.conclude()
    assert (talker.state, talker.written) == (State.OPEN, [])


# --- before it is open ------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
class TestOpening:
    def test_nothing_can_be_sent_before(self, side: Side) -> None:
        talker = Talker(side)
        with pytest.raises(RuntimeError, match="negotiationFinished"):
            talker.send("early")
        with pytest.raises(RuntimeError, match="negotiationFinished"):
            talker.ping()
        talker.close()
        talker.fail(1011, "early")
        assert (talker.written, talker.state) == ([], State.HANDSHAKING)

    def test_nothing_is_heard_before_nor_after_a_refusal(self, side: Side) -> None:
        talker = Talker(side)
        assert talker.hear(TEXT, b"early") == []
        talker.refused()
        assert talker.is_over
        assert talker.hear(TEXT, b"late") == []
        talker.send("late")
        assert talker.written == []
        assert talker.end == End(1006, "the opening handshake did not succeed", False)

    def test_one_that_is_lost_before_it_is_open_says_so(self, side: Side) -> None:
        talker = Talker(side)
        talker.lost()
        assert talker.end == End(1006, "the opening handshake did not succeed", False)
