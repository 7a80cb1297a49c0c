"""What the frame engine allocates, copies, keeps and gives back.

Memory is measured by tracemalloc and reference counts; nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

import pytest
from wire.allocated import assert_nothing_lost_or_kept, kept_bytes, peak_bytes, traced
from wire.streams import (
    CLASSES,
    CLIENT_CLASSES,
    FAULTS,
    MOST,
    SERVER_CLASSES,
    SKIPPED,
    decoded,
    decoding_side,
    framed,
    one_by_one,
    plain,
    with_strings,
)

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.errors import ErrorCode
from chatproto.wire.messages import Message, Ping, Roster, Side, Who


class TestAllocation:
    @pytest.mark.parametrize("limit", [1, 65_536, MOST])
    def test_nothing_is_allocated_for_a_length(self, limit: int) -> None:
        decoders = [FrameDecoder(Side.SERVER, limit) for _ in range(200)]
        headers = [limit.to_bytes(4, "big"), (limit + 1).to_bytes(4, "big")]

        def receive() -> None:
            for i, decoder in enumerate(decoders):
                decoder.receive(headers[i % 2])

        assert peak_bytes(receive) < 200 * 1_000

    @pytest.mark.parametrize("held", [0, 1, 3, 4, 5, 16])
    def test_frames_behind_a_tail_are_read_where_they_are(self, held: int) -> None:
        """What comes behind the tail is never copied, let alone once for each frame."""
        data = SKIPPED[held:] + SKIPPED * 100_000 + SKIPPED[:3]
        decoder = FrameDecoder(Side.CLIENT)
        decoder.receive(SKIPPED[:held])
        assert peak_bytes(lambda: decoder.receive(data)) < 1_000
        assert decoder.buffered_bytes == 3

    def test_a_frame_that_comes_byte_by_byte_is_not_moved_for_each_byte(self) -> None:
        pieces = list(one_by_one(framed(b"\xfe" * 65_535)))
        decoder = FrameDecoder(Side.CLIENT)
        grown = []
        with traced():
            for piece in [b"", b"", *pieces]:
                before = tracemalloc.get_traced_memory()[0]
                decoder.receive(piece)
                grown.append(tracemalloc.get_traced_memory()[0] - before)
        moved = [size for size in grown[2:] if size != grown[1]]  # other than when nothing was received
        assert 10 < len(moved) < 200

    def test_a_tail_takes_little_more_than_its_bytes(self) -> None:
        decoder = FrameDecoder(Side.CLIENT, MOST)
        pieces = [MOST.to_bytes(4, "big"), *[b"\xfe" * 50_000] * 20]

        def receive() -> None:
            for piece in pieces:
                decoder.receive(piece)

        assert peak_bytes(receive) < 2.5 * 1_000_000  # while it is moved there are two of it
        assert decoder.buffered_bytes == 1_000_004

    def test_a_finished_tail_is_given_back(self) -> None:
        frame = framed(b"\xfe" * 1_000_000)
        decoder = FrameDecoder(Side.CLIENT, MOST)
        with traced():
            before = tracemalloc.get_traced_memory()[0]
            decoder.receive(frame[:-1])
            assert tracemalloc.get_traced_memory()[0] - before > 1_000_000
            decoder.receive(frame[-1:])
            assert tracemalloc.get_traced_memory()[0] - before < 1_000


class TestLeaks:
    def test_decoding_keeps_no_memory(self) -> None:
        good = b"".join(encode_frame(plain(cls)) for cls in CLIENT_CLASSES) * 40
        bad = [good[:40] + fault for fault in FAULTS.values()]
        from_server = b"".join(encode_frame(plain(cls)) for cls in SERVER_CLASSES) * 40 + SKIPPED

        def decode(rounds: int) -> None:
            for _ in range(rounds):
                decoded(Side.SERVER, [good, good[:50]])
                decoded(Side.CLIENT, [from_server[:500], from_server[500:]])
                for data in bad:
                    decoded(Side.SERVER, [data])
                    decoded(Side.SERVER, [data[:-1], data[-1:]])

        # Its rounds are 40,000 messages and 560 faults, none of which takes less than 50 bytes.
        assert kept_bytes(decode) < 5_000

    def test_encoding_keeps_no_memory(self) -> None:
        wrong: list[Any] = [
            Ping(-1),
            Who("\ud800"),
            Who("x" * 70_000),
            plain(Ping, token="a"),
            plain(Roster, nicks=("a", 1)),
            7,
        ]

        def encode(rounds: int) -> None:
            for _ in range(rounds):
                for cls in CLASSES:
                    encode_frame(plain(cls))
                for message in wrong:
                    with pytest.raises((TypeError, ValueError)):
                        encode_frame(message)

        assert kept_bytes(encode) < 5_000

    def test_what_all_messages_share_is_neither_lost_nor_kept(self) -> None:
        shared: list[Any] = [None, *CLASSES, *ErrorCode, "", (), Side.SERVER]
        shared += [field.name for cls in CLASSES for field in cls.fields]
        shared += [vars(cls)[field.name] for cls in CLASSES for field in cls.fields]
        good = b"".join(encode_frame(plain(cls)) for cls in CLIENT_CLASSES)
        from_server = b"".join(encode_frame(plain(cls)) for cls in SERVER_CLASSES)
        empty = [*(with_strings(cls, "") for cls in CLASSES), Roster("", 0, 0, ())]

        def work() -> None:
            for _ in range(500):
                decoded(Side.SERVER, [good])
                decoded(Side.CLIENT, [from_server])
                for message in empty:
                    decoded(decoding_side(type(message)), [encode_frame(message)])
                for data in FAULTS.values():
                    decoded(Side.SERVER, [data])

        assert_nothing_lost_or_kept(shared, work)

    def test_what_is_received_and_encoded_is_let_go(self) -> None:
        text = "".join(["so", "me"])
        nicks = (text, "b")
        data = bytes(bytearray(SKIPPED))
        message = Roster(text, 1, 2, nicks)
        before = [sys.getrefcount(held) for held in (text, nicks, data, message)]
        decoder = FrameDecoder(Side.CLIENT)
        for _ in range(100):
            encode_frame(message)
            decoder.receive(data)
            decoder.receive(data[:5])
            decoder.receive(data[5:])
        assert [sys.getrefcount(held) for held in (text, nicks, data, message)] == before

    @pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.type)
    def test_a_cycle_through_a_decoded_message_is_collected(self, cls: type[Message]) -> None:
        gc.collect()
        before = living(cls)
        [message], _ = decoded(decoding_side(cls), [encode_frame(plain(cls))])
        object.__setattr__(message, cls.fields[0].name, [message])
        assert living(cls) == before + 1
        del message
        gc.collect()
        assert living(cls) == before


def living(cls: type[Message]) -> int:
    """How many messages of *cls* the garbage collector knows."""
    return sum(type(found) is cls for found in gc.get_objects())
