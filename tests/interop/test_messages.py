"""Messages of every kind and size, both ways, plain and compressed."""

from __future__ import annotations

import random
from typing import Any

from interop.conversation import Meeting
from interop.kinds import PAIRINGS, Pairing, each
from interop.modes import each_mode
from interop.wiretap import BINARY, CONTINUATION, TEXT

MEBIBYTE = 2**20

TEXTS = ("a", "grüß dich, 世界 😀", "\0\r\n\ufeff", "long enough to be compressed " * 100)
BINARIES = (b"\0", bytes(range(256)), b"\x88\x00" * 2_000, random.Random(1).randbytes(70_000))


@each_mode()
def test_text_goes_both_ways(meeting: Meeting, pairing: Pairing, deflate: dict[str, Any] | None) -> None:
    with meeting.talking(pairing, deflate) as talk:
        for sender, receiver in talk.directions:
            for text in TEXTS:
                sender.send(text)
            for text in TEXTS:
                receiver.receives(text)
        for who in talk.wire.SIDES:
            assert [frame.opcode for frame in talk.wire.frames(who)] == [TEXT] * len(TEXTS)


@each_mode()
def test_binary_goes_both_ways(meeting: Meeting, pairing: Pairing, deflate: dict[str, Any] | None) -> None:
    with meeting.talking(pairing, deflate) as talk:
        for sender, receiver in talk.directions:
            for data in BINARIES:
                sender.send(data)
            for data in BINARIES:
                receiver.receives(data)


@each_mode()
def test_empty_messages_are_messages(
    meeting: Meeting, pairing: Pairing, deflate: dict[str, Any] | None
) -> None:
    with meeting.talking(pairing, deflate) as talk:
        for sender, receiver in talk.directions:
            sender.send("")
            sender.send(b"")
            sender.send("that was all")
            receiver.receives("")
            receiver.receives(b"")
            receiver.receives("that was all")


@each_mode(("plain", "takeover"), fits=lambda pairing: pairing.server.name != "resource")
def test_a_mebibyte_goes_both_ways(
    meeting: Meeting, pairing: Pairing, deflate: dict[str, Any] | None
) -> None:
    """As much as one message may have; compressed it is more."""
    data = random.Random(2).randbytes(MEBIBYTE)
    text = "a" * (MEBIBYTE - 4) + "😀"
    with meeting.talking(pairing, deflate) as talk:
        for sender, receiver in talk.directions:
            sender.send(data)
            receiver.receives(data)
            sender.send(text)
            receiver.receives(text)


@each_mode(
    ("plain", "takeover"),
    fits=lambda pairing: pairing.peer.fragments and pairing.server.name != "resource",
)
def test_fragments_are_one_message(
    meeting: Meeting, pairing: Pairing, deflate: dict[str, Any] | None
) -> None:
    generator = random.Random(3)
    text = ["gr", "", "üß", " dich ", "x" * 3_000, "😀"]
    data = [generator.randbytes(MEBIBYTE // 32) for _ in range(32)]
    with meeting.talking(pairing, deflate) as talk:
        talk.peer.send(*text)
        talk.layer.receives("".join(text))
        talk.peer.send(*data)
        talk.layer.receives(b"".join(data))
        talk.peer.send("whole")
        talk.layer.receives("whole")
        messages = talk.wire.messages(talk.peer_side)
    # Some libraries leave out an empty fragment, or send one more at the end.
    assert [message[0].opcode for message in messages] == [TEXT, BINARY, TEXT]
    assert [len(message) >= n for message, n in zip(messages, (5, 32, 1), strict=True)] == [True] * 3
    assert {frame.opcode for message in messages for frame in message[1:]} == {CONTINUATION}
    assert not any(frame.rsv1 for message in messages for frame in message[1:])
    assert messages[0][0].rsv1 == (deflate is not None)


@each()
def test_the_client_masks_and_the_server_does_not(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.talking(pairing) as talk:
        for sender, receiver in talk.directions:
            for i in range(20):
                sender.send(f"{i}")
            for i in range(20):
                receiver.receives(f"{i}")
        assert all(frame.masked for frame in talk.wire.frames("client"))
        assert not any(frame.masked for frame in talk.wire.frames("server"))


@each([pairing for pairing in PAIRINGS if pairing.peer.pings])
def test_the_layer_answers_pings(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.talking(pairing) as talk:
        for payload in (b"\xff\0\x01", b"p" * 125):
            talk.peer.ping(payload)
            talk.peer.receives_pong(payload)


@each()
def test_the_layer_is_told_of_pongs(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.talking(pairing) as talk:
        for payload in (b"", b"\xff\0\x01", b"p" * 125):
            talk.layer.ping(payload)
            talk.layer.receives_pong(payload)
