"""What the WebSocket engine allocates, copies, keeps and gives back.

Memory is measured by tracemalloc and reference counts; nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from wire.allocated import assert_nothing_lost_or_kept, kept_bytes, peak_bytes, traced
from wire.streams import one_by_one
from wire.websocket_model import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MIB,
    PING,
    TEXT,
    close_payload,
    decoded,
    frame,
)

from chatproto.wire.closing import CloseCode
from chatproto.wire.encoding import encode_close, encode_frame, encode_header, encode_masked
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode, WebSocketDecoder

OPCODES = pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])


class TestIdle:
    def test_a_decoder_is_small(self) -> None:
        assert sys.getsizeof(WebSocketDecoder(Side.SERVER)) < 200
        assert sys.getsizeof(Event(TEXT, "")) <= 48

    def test_a_decoder_has_nothing_else(self) -> None:
        kept: list[WebSocketDecoder] = [WebSocketDecoder(Side.SERVER)] * 1_000

        def make() -> None:
            for i in range(1_000):
                kept[i] = WebSocketDecoder(Side.SERVER)

        assert peak_bytes(make) < 1_000 * 200

    @OPCODES
    def test_after_messages_of_every_size_it_is_as_it_was(self, opcode: int) -> None:
        decoders = [WebSocketDecoder(Side.SERVER) for _ in range(20)]
        streams = [
            frame(opcode, bytes(size), fin=False) + frame(PING, b"ping") + frame(CONTINUATION, b"end")
            for size in (0, 1, 100, 70_000)
        ]
        with traced():
            before = tracemalloc.get_traced_memory()[0]
            for decoder in decoders:
                for stream in streams:
                    for piece in (stream[:3], stream[3:9], stream[9:20], stream[20:-5], stream[-5:]):
                        decoder.receive(piece)
                assert decoder.buffered_bytes == 0
            assert tracemalloc.get_traced_memory()[0] - before < 1_000


class TestAllocation:
    @pytest.mark.parametrize("length", [1, 1_000, MIB, MIB + 1, 2**63 - 1, 2**63])
    def test_nothing_is_allocated_for_a_length(self, length: int) -> None:
        decoders = [WebSocketDecoder(Side.SERVER) for _ in range(200)]
        header = frame(BINARY, length=length)

        def receive() -> None:
            for decoder in decoders:
                decoder.receive(header)

        assert peak_bytes(receive) < 200 * 300  # a fault and its reason

    @OPCODES
    def test_half_a_message_takes_at_most_twice_its_bytes(self, opcode: int) -> None:
        for size in (100, 5_000, 300_000):
            decoder = WebSocketDecoder(Side.SERVER)
            stream = frame(opcode, bytes(MIB))[:size]
            with traced():
                decoder.receive(stream)
                assert size - 20 < tracemalloc.get_traced_memory()[0] < 2 * size + 300

    @OPCODES
    def test_the_last_frame_takes_no_more_than_its_length(self, opcode: int) -> None:
        decoder = WebSocketDecoder(Side.SERVER)
        stream = frame(opcode, bytes(100_000))[:90_000]
        assert peak_bytes(lambda: decoder.receive(stream)) < 101_000

    @OPCODES
    def test_a_message_in_one_piece_is_copied_once(self, opcode: int) -> None:
        for side in Side:
            stream = frame(opcode, b"x" * MIB, to=side)
            decoder = WebSocketDecoder(side)
            assert peak_bytes(lambda: decoder.receive(stream)) < MIB + 1_000  # noqa: B023

    def test_a_binary_message_in_pieces_is_made_where_it_was_gathered(self) -> None:
        stream = frame(BINARY, b"x" * MIB)
        pieces = [stream[i : i + 65_536] for i in range(0, len(stream), 65_536)]
        decoder = WebSocketDecoder(Side.SERVER)
        for piece in pieces[:-1]:
            decoder.receive(piece)
        assert peak_bytes(lambda: decoder.receive(pieces[-1])) < 1_000

    def test_a_header_is_all_that_is_made_for_a_large_payload(self) -> None:
        assert peak_bytes(lambda: encode_header(BINARY, 2**40)) < 1_000

    @OPCODES
    def test_a_message_that_comes_byte_by_byte_is_not_moved_for_each_byte(self, opcode: int) -> None:
        assert moves([*one_by_one(frame(opcode, b"x" * 65_000))]) < 60

    @OPCODES
    @pytest.mark.parametrize("size", [0, 1, 3])
    def test_tiny_fragments_cost_what_their_bytes_cost(self, opcode: int, size: int) -> None:
        fragment = frame(CONTINUATION, b"x" * size, fin=False)
        assert moves([frame(opcode, b"", fin=False), *[fragment] * 20_000]) < 60

    @OPCODES
    @pytest.mark.parametrize("size", [0, 1])
    def test_a_million_of_them_keep_their_bytes_and_no_more(self, opcode: int, size: int) -> None:
        many, count = frame(CONTINUATION, b"x" * size, fin=False) * 10_000, 100
        decoder = WebSocketDecoder(Side.SERVER)
        decoder.receive(frame(opcode, b"", fin=False))

        def receive() -> None:
            for _ in range(count):
                assert decoder.receive(many) == []

        # while it is moved there are two of it, the new one twice as large
        assert peak_bytes(receive) <= 3 * size * 10_000 * count + 2_000
        assert decoder.buffered_bytes == size * 10_000 * count
        [event] = decoder.receive(frame(CONTINUATION, b"end"))
        assert len(event.data) == size * 10_000 * count + 3
        assert decoder.buffered_bytes == 0

    def test_a_control_frame_that_is_cut_keeps_its_own_bytes(self) -> None:
        stream = frame(PING, bytes(125))
        decoders = [WebSocketDecoder(Side.SERVER) for _ in range(100)]

        def receive() -> None:
            for decoder in decoders:
                decoder.receive(stream[:-1])

        assert peak_bytes(receive) < 100 * 200


def moves(pieces: list[bytes]) -> int:
    """In how many of *pieces* the gathered bytes were moved or given more room."""
    decoder = WebSocketDecoder(Side.SERVER)
    grown: Counter[int] = Counter()
    with traced():
        for piece in pieces:
            before = tracemalloc.get_traced_memory()[0]
            decoder.receive(piece)
            grown[tracemalloc.get_traced_memory()[0] - before] += 1
    [(_, unmoved)] = grown.most_common(1)
    return len(pieces) - unmoved


FAULTS = [
    frame(3),
    frame(TEXT, b"\xff"),
    frame(TEXT, b"abc\xff", fin=False),
    frame(BINARY, length=MIB + 1),
    frame(BINARY, length=2**63),
    frame(CLOSE, b"\x03"),
    frame(CLOSE, close_payload(1005)),
    frame(CLOSE, close_payload(1000, b"\xff")),
    frame(CONTINUATION),
]


class TestLeaks:
    def test_decoding_keeps_no_memory(self) -> None:
        good = b"".join(
            frame(TEXT, text.encode())
            + frame(BINARY, bytes(300), fin=False)
            + frame(PING, b"p")
            + frame(CONTINUATION)
            for text in ("", "a", "ascii, long enough", "日本語")
        )

        def decode(rounds: int) -> None:
            for _ in range(rounds):
                decoded(Side.SERVER, [good, good[:50]])
                decoded(Side.SERVER, one_by_one(good))
                decoded(Side.SERVER, [good, frame(CLOSE, close_payload(1000, b"why")) + good])
                for data in FAULTS:
                    decoded(Side.SERVER, [good[:400], data])
                    decoded(Side.SERVER, [data])
                    decoded(Side.SERVER, one_by_one(data))

        # Its rounds are 1,440 messages and 120 of each fault, none of which takes less than 50 bytes.
        assert kept_bytes(decode) < 5_000

    def test_encoding_keeps_no_memory(self) -> None:
        wrong: list[Callable[[], Any]] = [
            lambda: encode_frame(3, b""),
            lambda: encode_masked(PING, bytes(126)),
            lambda: encode_masked(TEXT, b"", key=b""),
            lambda: encode_header(TEXT, 2**64),
            lambda: encode_close(1005),
            lambda: encode_close(1000, "x" * 124),
            lambda: encode_frame(TEXT, "text"),  # type: ignore[arg-type]
        ]

        def encode(rounds: int) -> None:
            for _ in range(rounds):
                for size in (0, 1, 126, 65_536):
                    encode_header(BINARY, size)
                    encode_frame(BINARY, bytes(size))
                    encode_masked(BINARY, bytearray(size))
                encode_close(1000, "why")
                for call in wrong:
                    with pytest.raises((TypeError, ValueError)):
                        call()

        assert kept_bytes(encode) < 10_000  # the keys in stock are one such

    def test_what_all_events_share_is_neither_lost_nor_kept(self) -> None:
        shared: list[Any] = [
            None,
            *Opcode,
            *CloseCode,
            "",
            b"",
            Side.SERVER,
            Side.CLIENT,
            Event,
            WebSocketDecoder,
        ]
        stream = b"".join(frame(opcode, b"") for opcode in (TEXT, BINARY, PING, CLOSE))

        def work() -> None:
            for _ in range(300):
                decoded(Side.SERVER, [stream])
                decoded(Side.SERVER, one_by_one(stream))
                for data in FAULTS:
                    decoded(Side.SERVER, [data])

        assert_nothing_lost_or_kept(shared, work)

    def test_what_is_received_and_encoded_is_let_go(self) -> None:
        data = bytearray(frame(TEXT, b"Hello") + frame(BINARY, b"x" * 300))
        payload = bytearray(b"payload")
        before = [sys.getrefcount(held) for held in (data, payload)]
        decoder = WebSocketDecoder(Side.SERVER)
        for _ in range(100):
            decoder.receive(data)
            encode_frame(BINARY, payload)
            encode_masked(BINARY, payload)
            with pytest.raises(ValueError, match="no opcode"):
                encode_frame(3, payload)
        data += b"x"  # a BufferError if anybody still looks at it
        payload += b"x"
        assert [sys.getrefcount(held) for held in (data, payload)] == before

    def test_a_message_belongs_to_the_event_alone(self) -> None:
        stream = frame(BINARY, b"some", fin=False) + frame(CONTINUATION, b"thing")
        for pieces in ([stream], list(one_by_one(stream)), [frame(BINARY, b"something")]):
            [event], _ = decoded(Side.SERVER, pieces)
            references = sys.getrefcount(event.data)  # the event's and the call's
            assert references == 2

    def test_a_decoder_in_a_cycle_is_collected(self) -> None:
        class Holding:
            decoder: WebSocketDecoder
            decompress: Any = None
            finish: Any = None

        gc.collect()
        holding = Holding()
        holding.decoder = WebSocketDecoder(Side.SERVER, inflate=holding)
        assert sum(type(found) is Holding for found in gc.get_objects()) == 1
        del holding
        gc.collect()
        assert sum(type(found) is Holding for found in gc.get_objects()) == 0
