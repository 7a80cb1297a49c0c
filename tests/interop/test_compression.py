"""permessage-deflate (RFC 7692): what was agreed on, and whether the bytes on the wire are as was agreed."""

from __future__ import annotations

import random
import zlib
from typing import Any

from interop.conversation import Conversation, Meeting
from interop.kinds import KINDS, PAIRINGS, Pairing, each
from interop.modes import CLIENT_BITS, CLIENT_FORGETS, DEFLATE, each_mode
from interop.wiretap import Frame

EXTENSIONS = "Sec-WebSocket-Extensions"

# Half of it can be left out, and more only by who remembers: nothing comes twice within 512 bytes.
MESSAGE = random.Random(4).randbytes(2_000).hex()


def _agreed(talk: Conversation) -> dict[str, str]:
    """The parameters that the server has answered with."""
    name, *parameters = (talk.wire.header("server", EXTENSIONS) or "").split(";")
    assert name == "permessage-deflate"
    return {key.strip(): value for key, _, value in (parameter.partition("=") for parameter in parameters)}


@each_mode([mode for mode in DEFLATE if mode != "plain"])
def test_what_is_agreed_on_is_kept(meeting: Meeting, pairing: Pairing, deflate: dict[str, Any]) -> None:
    with meeting.talking(pairing, deflate) as talk:
        for sender, receiver in talk.directions:
            for _ in range(3):
                sender.send(MESSAGE)
                receiver.receives(MESSAGE)
        agreed = _agreed(talk)
        for who in talk.wire.SIDES:
            first, *others = talk.wire.messages(who)
            if who == talk.peer_side and not pairing.peer.compresses_what_it_sends:
                assert not first[0].rsv1
                continue
            sizes = [sum(len(frame.payload) for frame in message) for message in (first, *others)]
            assert all(message[0].rsv1 for message in (first, *others))
            assert sizes[0] < 0.6 * len(MESSAGE)
            bits = int(agreed.get(f"{who}_max_window_bits", "15"))
            forgets = f"{who}_no_context_takeover" in agreed
            if who == talk.layer_side == "client":  # it keeps to what it wants, even where nobody asks for it
                bits = min(bits, deflate.get(CLIENT_BITS, 15))
                forgets = forgets or deflate.get(CLIENT_FORGETS, False)
            if forgets or 2**bits < len(MESSAGE):
                assert min(sizes) > 0.4 * len(MESSAGE)
            elif who == talk.layer_side or pairing.peer.sets_compression:
                assert max(sizes[1:]) < 0.1 * len(MESSAGE)
            _inflates([first, *others], bits)


def _inflates(messages: list[list[Frame]], window_bits: int) -> None:
    """See that no more than the window is needed."""
    inflate = zlib.decompressobj(-window_bits)
    for message in messages:
        data = b"".join(frame.payload for frame in message)
        assert inflate.decompress(data + b"\x00\x00\xff\xff") == MESSAGE.encode()


@each([pairing for pairing in PAIRINGS if pairing.peer.compresses])
def test_the_layer_leaves_short_messages_as_they_are(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.talking(pairing, DEFLATE["takeover"]) as talk:
        talk.layer.send("s" * 255)
        talk.layer.send("s" * 256)
        talk.peer.receives("s" * 255)
        talk.peer.receives("s" * 256)
        assert [frame.rsv1 for frame in talk.wire.frames(talk.layer_side)] == [False, True]


@each([pairing for pairing in PAIRINGS if pairing.peer.compresses])
def test_a_server_that_wants_none_declines(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.met(pairing, client={"deflate": DEFLATE["takeover"]}) as talk:
        talk.client.expect("open")
        talk.server.expect("open")
        assert "permessage-deflate" in (talk.wire.header("client", EXTENSIONS) or "")
        assert talk.wire.header("server", EXTENSIONS) is None
        for sender, receiver in talk.directions:
            sender.send(MESSAGE)
            receiver.receives(MESSAGE)
        assert not any(frame.rsv1 for who in talk.wire.SIDES for frame in talk.wire.frames(who))


@each(
    [
        pairing
        for pairing in PAIRINGS
        if pairing.peer.compresses and not pairing.client.always_offers_compression
    ]
)
def test_a_client_that_wants_none_is_not_given_any(meeting: Meeting, pairing: Pairing) -> None:
    with meeting.met(pairing, server={"deflate": DEFLATE["takeover"]}) as talk:
        talk.client.expect("open")
        talk.server.expect("open")
        assert talk.wire.header("client", EXTENSIONS) is None
        assert talk.wire.header("server", EXTENSIONS) is None
        for sender, receiver in talk.directions:
            sender.send(MESSAGE)
            receiver.receives(MESSAGE)


def test_a_server_that_ignores_what_the_client_demands_is_left(meeting: Meeting) -> None:
    """`picows.websockets` agrees, but not to `server_no_context_takeover` (RFC 7692, section 7.1.1.1)."""
    pairing = Pairing(KINDS["layer"], KINDS["picows.websockets"])
    terms = {"deflate": DEFLATE["server-forgets"]}
    with meeting.met(pairing, client=terms, server=terms) as talk:
        assert talk.client.expect("refused")["status"] == 101
        assert talk.wire.header("server", EXTENSIONS) == "permessage-deflate"
