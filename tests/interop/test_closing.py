"""Who closes, with which code and reason, and what the other side hears of it."""

from __future__ import annotations

from typing import Any

from interop.conversation import Conversation, Meeting
from interop.kinds import PAIRINGS, Pairing, each
from interop.modes import each_mode
from interop.wiretap import CLOSE, Direction
from live import eventually

CLOSES = ((1000, ""), (1000, "dòné, 世界"), (4321, "r" * 123))
# Browsers let pages use no others.
MORE_CLOSES = ((1001, ""), (1011, "oh"), (3000, ""))


def _code_sent(talk: Conversation, who: Direction) -> int:
    """The code of the one close frame that a side has sent, which must be the last of its frames."""
    # A peer may say that it has closed before the answer has come.
    eventually(lambda: CLOSE in [frame.opcode for frame in talk.wire.frames(who)], "no close frame was sent")
    frames = talk.wire.frames(who)
    assert [frame.opcode for frame in frames].count(CLOSE) == 1
    assert frames[-1].opcode == CLOSE
    return int.from_bytes(frames[-1].payload[:2], "big")


@each()
def test_the_layer_hears_the_code_and_reason_of_a_peer_and_answers_with_the_code(
    meeting: Meeting, pairing: Pairing
) -> None:
    for code, reason in (*CLOSES, *(MORE_CLOSES if pairing.peer.closes_with_any_code else ())):
        with meeting.talking(pairing) as talk:
            talk.peer.close(code, reason)
            talk.layer.hears_close(code, reason)
            talk.peer.hears_close(code)
            assert _code_sent(talk, talk.layer_side) == code


@each()
def test_a_peer_hears_the_code_and_reason_of_the_layer(meeting: Meeting, pairing: Pairing) -> None:
    for code, reason in (*CLOSES, *MORE_CLOSES):
        with meeting.talking(pairing) as talk:
            talk.layer.close(code, reason)
            talk.peer.hears_close(code, reason)
            # The code that it answers with is the peer's choice.
            told = talk.layer.expect("closed")
            assert told["code"] == _code_sent(talk, talk.peer_side)
            assert told["is_clean"]


@each([pairing for pairing in PAIRINGS if pairing.peer.closes_without_code])
def test_closing_without_a_code_is_1005_to_the_layer(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.talking(pairing) as talk:
        talk.peer.close(None)
        talk.layer.hears_close(1005)
        talk.peer.hears_close(1005)


@each_mode()
def test_what_was_sent_before_closing_arrives(
    meeting: Meeting, pairing: Pairing, deflate: dict[str, Any] | None
) -> None:
    for i in (0, 1):
        with meeting.talking(pairing, deflate) as talk:
            sender, receiver = talk.directions[i]
            for n in range(3):
                sender.send(f"{n}" * 100_000)
            sender.close(1000, "that was all")
            for n in range(3):
                receiver.receives(f"{n}" * 100_000)
            receiver.hears_close(1000, "that was all")


@each()
def test_both_may_close_at_once(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.talking(pairing) as talk:
        talk.peer.close(3001, "enough")
        talk.layer.close(3002, "enough")
        assert talk.layer.expect("closed")["code"] in (1000, 3001, 3002)
        talk.peer.expect("closed")


@each_mode()
def test_a_message_that_is_too_big_for_the_layer_is_1009_to_the_peer(
    meeting: Meeting, pairing: Pairing, deflate: dict[str, Any] | None
) -> None:
    with meeting.talking(pairing, deflate) as talk:
        talk.peer.send("b" * (2**20 + 1))
        told = talk.layer.expect("closed")
        assert told["code"] == 1009
        assert not told["is_clean"]
        talk.peer.hears_close(1009, told["reason"])


@each([pairing for pairing in PAIRINGS if pairing.server.name != "resource"])
def test_a_peer_hears_1009_while_most_of_its_message_is_on_its_way(
    meeting: Meeting, pairing: Pairing
) -> None:
    """The layer reads the frame's length, and no more than that; no reset may overtake what it says."""
    with meeting.talking(pairing) as talk:
        talk.peer.send("b" * 2**22)
        told = talk.layer.expect("closed")
        assert told["code"] == 1009
        heard = talk.peer.expect("closed")
        assert heard["code"] == 1009
        assert heard["reason"] in (told["reason"], None)


@each()
def test_the_layer_hears_1006_when_a_peer_is_gone(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.talking(pairing) as talk:
        talk.wire.cut()
        talk.layer.hears_close(1006, is_clean=False)
