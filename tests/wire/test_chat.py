"""The decoder of frames (docs/protocol.md, sections 1 and 2), case by case.

What always holds stands in test_properties.py, what decoding costs in test_chat_memory.py, and the way back
in test_chat_encoding.py.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from wire.streams import (
    CLASSES,
    CLIENT_CLASSES,
    FAULTS,
    MOST,
    SERVER_CLASSES,
    decoded,
    decoding_side,
    framed,
    in_two,
    one_by_one,
    plain,
)

from chatproto.wire.chat import FrameDecoder, encode_frame
from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import (
    MESSAGES,
    FieldType,
    Leave,
    Message,
    Notice,
    Ping,
    Pong,
    Roster,
    Say,
    Side,
    Who,
)

BOTH = pytest.mark.parametrize("side", Side)
every_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.type)


def fault_in(data: bytes, side: Side = Side.SERVER) -> ProtocolError:
    """The fault in *data*, which has no message before it."""
    messages, fault = decoded(side, [data])
    assert messages == []
    assert fault is not None
    return fault


class TestMaking:
    def test_the_limit_is_65536_unless_given(self) -> None:
        assert FrameDecoder(Side.SERVER).max_frame_bytes == 65_536
        assert FrameDecoder(Side.CLIENT, max_frame_bytes=70_000).max_frame_bytes == 70_000

    @pytest.mark.parametrize("limit", [1, MOST])
    def test_the_limit_is_from_1_to_what_keeps_the_first_byte_0(self, limit: int) -> None:
        assert FrameDecoder(Side.SERVER, limit).max_frame_bytes == limit

    @pytest.mark.parametrize("limit", [0, -1, MOST + 1, 2**32])
    def test_any_other_limit_is_a_local_error(self, limit: int) -> None:
        with pytest.raises(ValueError, match=f"^max_frame_bytes is from 1 to 16777215, not {limit}$"):
            FrameDecoder(Side.SERVER, limit)

    @pytest.mark.parametrize("limit", ["9", None, 9.0])
    def test_a_limit_that_is_no_number_is_a_local_error(self, limit: Any) -> None:
        with pytest.raises(TypeError):
            FrameDecoder(Side.SERVER, limit)

    @pytest.mark.parametrize("side", ["server", None, True, 0])
    def test_a_side_that_is_none_is_a_local_error(self, side: Any) -> None:
        with pytest.raises(TypeError, match=r"^side is Side\.CLIENT or Side\.SERVER, not "):
            FrameDecoder(side)

    def test_a_new_decoder_has_nothing(self) -> None:
        decoder = FrameDecoder(Side.SERVER)
        assert (decoder.receive(b""), decoder.fault, decoder.buffered_bytes) == ([], None, 0)

    @pytest.mark.parametrize("name", ["max_frame_bytes", "fault", "buffered_bytes"])
    def test_what_a_decoder_shows_cannot_be_set(self, name: str) -> None:
        with pytest.raises(AttributeError):
            setattr(FrameDecoder(Side.SERVER), name, None)


def neighbours_of_powers_of_two() -> list[int]:
    around = {2**power + step for power in range(33) for step in (-1, 0, 1)}
    return sorted(length for length in around if length < 2**32)


@pytest.mark.parametrize("limit", [1, 2, 9, 255, 256, 4_096, 65_535, 65_536, 65_537, MOST])
class TestLimit:
    def test_a_length_is_judged_by_the_limit_and_nothing_else(self, limit: int) -> None:
        for length in neighbours_of_powers_of_two():
            decoder = FrameDecoder(Side.SERVER, limit)
            assert decoder.receive(length.to_bytes(4, "big")) == []
            if 1 <= length <= limit:
                assert (decoder.fault, decoder.buffered_bytes) == (None, 4)
                continue
            assert decoder.buffered_bytes == 0
            assert decoder.fault is not None
            if length == 0:
                assert decoder.fault.code is ErrorCode.MALFORMED
                assert decoder.fault.reason == "a frame has a length of at least 1"
            else:
                assert decoder.fault.code is ErrorCode.TOO_BIG
                assert decoder.fault.reason == (
                    f"a frame of {length} bytes is announced, and {limit} is the most"
                )

    def test_a_length_is_judged_with_its_fourth_byte_and_not_before(self, limit: int) -> None:
        for length in (0, limit + 1, 2**32 - 1):
            header = length.to_bytes(4, "big")
            for cut in range(4):
                decoder = FrameDecoder(Side.SERVER, limit)
                decoder.receive(header[:cut])
                assert (decoder.fault, decoder.buffered_bytes) == (None, cut)
                decoder.receive(header[cut:])
                assert decoder.fault is not None

    def test_a_length_is_judged_alike_when_the_payload_comes_with_it(self, limit: int) -> None:
        for length in (0, limit + 1, 2**32 - 1):
            header = length.to_bytes(4, "big")
            alone = fault_of(Side.SERVER, limit, header)
            assert fault_of(Side.SERVER, limit, header + bytes(50)) == alone
            assert fault_of(Side.SERVER, limit, header[:3], header[3:] + bytes(50)) == alone

    def test_a_frame_of_exactly_the_limit_is_taken(self, limit: int) -> None:
        data = framed(b"\xfe" * limit) + encode_frame(Notice(""))[:4]
        decoder = FrameDecoder(Side.CLIENT, limit)
        assert decoder.receive(data[:-4]) == []
        assert (decoder.fault, decoder.buffered_bytes) == (None, 0)


def fault_of(side: Side, limit: int, *pieces: bytes) -> ProtocolError | None:
    return decoded(side, pieces, limit)[1]


class TestWhatIsTaken:
    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
    def test_bytes_a_bytearray_or_a_memoryview(self, make: Callable[[bytes], Any]) -> None:
        decoder = FrameDecoder(Side.SERVER)
        data = encode_frame(Ping(1)) + encode_frame(Who("lobby")) + b"\0\0"
        assert decoder.receive(make(data)) == [Ping(1), Who("lobby")]
        assert decoder.buffered_bytes == 2

    def test_a_part_of_a_memoryview(self) -> None:
        data = b"\xff\xff" + encode_frame(Ping(1)) + b"\xff"
        assert decoded(Side.SERVER, [memoryview(data)[2:-1]]) == ([Ping(1)], None)  # type: ignore[list-item]

    def test_a_memoryview_with_gaps_is_a_local_error(self) -> None:
        decoder = FrameDecoder(Side.SERVER)
        with pytest.raises(BufferError, match="not C-contiguous"):
            decoder.receive(memoryview(encode_frame(Ping(1)) * 2)[::2])
        assert (decoder.fault, decoder.buffered_bytes) == (None, 0)
        assert decoder.receive(encode_frame(Ping(1))) == [Ping(1)]

    @pytest.mark.parametrize("other", ["text", 5, None, [b"x"]])
    def test_anything_else_is_a_local_error_and_no_fault(self, other: Any) -> None:
        decoder = FrameDecoder(Side.SERVER)
        with pytest.raises(TypeError, match="bytes-like"):
            decoder.receive(other)
        assert decoder.fault is None

    def test_anything_else_is_a_local_error_after_a_fault_too(self) -> None:
        decoder = FrameDecoder(Side.SERVER)
        decoder.receive(b"\0\0\0\0")
        with pytest.raises(TypeError, match="bytes-like"):
            decoder.receive("text")  # type: ignore[arg-type]

    @pytest.mark.parametrize("data", [encode_frame(Ping(1)), encode_frame(Ping(1))[:-1], b"\0\0\0\0", b""])
    def test_a_bytearray_can_be_used_again_at_once(self, data: bytes) -> None:
        decoder = FrameDecoder(Side.SERVER)
        buffer = bytearray(data)
        decoder.receive(buffer)
        buffer.extend(b"more")  # BufferError if it were still held
        decoder.receive(buffer)
        buffer.clear()

    def test_what_has_been_received_is_not_read_again(self) -> None:
        frame = encode_frame(Say(1, "lobby", "hello"))
        decoder = FrameDecoder(Side.SERVER)
        buffer = bytearray(frame + frame[:-1])
        messages = decoder.receive(buffer)
        buffer[:] = b"\xff" * len(buffer)
        assert messages + decoder.receive(frame[-1:]) == [Say(1, "lobby", "hello")] * 2

    def test_empty_pieces_change_nothing(self) -> None:
        frame = encode_frame(Ping(1))
        pieces = [b"", frame[:3], b"", b"", frame[3:4], b"", frame[4:], b""]
        assert decoded(Side.SERVER, pieces) == ([Ping(1)], None)

    @BOTH
    def test_two_decoders_have_nothing_in_common(self, side: Side) -> None:
        frame = encode_frame(plain(Ping if side is Side.SERVER else Pong))
        first, second = FrameDecoder(side), FrameDecoder(side)
        first.receive(frame[:6])
        second.receive(b"\0\0\0\0")
        assert second.fault is not None
        assert len(first.receive(frame[6:])) == 1


class TestTail:
    def test_bytes_of_an_unfinished_frame_are_counted(self) -> None:
        frame = encode_frame(Say(1, "lobby", "hello"))
        decoder = FrameDecoder(Side.SERVER)
        for i, piece in enumerate(one_by_one(frame[:-1]), 1):
            decoder.receive(piece)
            assert decoder.buffered_bytes == i
        assert decoder.receive(frame[-1:]) == [Say(1, "lobby", "hello")]
        assert decoder.buffered_bytes == 0

    def test_only_what_the_frame_still_needs_goes_to_the_tail(self) -> None:
        frame = encode_frame(Ping(1))
        for held in range(1, len(frame)):
            for rest in range(len(frame)):
                decoder = FrameDecoder(Side.SERVER)
                decoder.receive(frame[:held])
                assert decoder.buffered_bytes == held
                assert len(decoder.receive(frame[held:] + frame * 1_000 + frame[:rest])) == 1_001
                assert decoder.buffered_bytes == rest

    def test_the_tail_never_has_more_than_one_frame(self) -> None:
        limit = 100
        frame = framed(b"\xfe" * limit)
        stream = frame * 50
        for step in (1, 3, 4, 5, 99, 103, 104, 105, 1_000):
            decoder = FrameDecoder(Side.CLIENT, limit)
            for start in range(0, len(stream), step):
                decoder.receive(stream[start : start + step])
                received = min(start + step, len(stream))
                assert decoder.buffered_bytes == received % len(frame)


@pytest.mark.parametrize("bad", FAULTS.values(), ids=list(FAULTS))
class TestFault:
    def test_what_was_complete_before_it_is_returned(self, bad: bytes) -> None:
        data = encode_frame(Ping(1)) + encode_frame(Who("a")) + bad
        for pieces in in_two(data):
            messages, fault = decoded(Side.SERVER, pieces)
            assert messages == [Ping(1), Who("a")]
            assert fault is not None

    def test_nothing_behind_it_is_returned(self, bad: bytes) -> None:
        decoder = FrameDecoder(Side.SERVER)
        assert decoder.receive(encode_frame(Ping(1)) + bad + encode_frame(Ping(2))) == [Ping(1)]
        fault = decoder.fault
        for data in (encode_frame(Ping(3)), b"", b"\0\0\0\0", b"\0\1\0\1"):
            assert decoder.receive(data) == []
            assert decoder.fault is fault

    def test_nothing_is_kept_after_it(self, bad: bytes) -> None:
        for cut in range(len(bad)):
            decoder = FrameDecoder(Side.SERVER)
            decoder.receive(bad[:cut])
            decoder.receive(bad[cut:] + b"\0\0\0\x20more")
            assert decoder.buffered_bytes == 0
            decoder.receive(b"\0\0\0\x20more")
            assert decoder.buffered_bytes == 0

    def test_it_is_the_same_in_any_cut(self, bad: bytes) -> None:
        whole = fault_in(bad)
        assert decoded(Side.SERVER, one_by_one(bad)) == ([], whole)
        for pieces in in_two(bad):
            assert decoded(Side.SERVER, pieces) == ([], whole)

    def test_its_reason_is_a_line_for_people(self, bad: bytes) -> None:
        reason = fault_in(bad).reason
        assert reason.isascii()
        assert reason.isprintable()
        assert 10 < len(reason) < 100


class TestReasons:
    """Which fault it is, and that its reason says where."""

    @pytest.mark.parametrize("cls", CLIENT_CLASSES, ids=lambda cls: cls.type)
    def test_a_payload_that_ends_early_overruns_in_the_field_where_it_ends(self, cls: type[Message]) -> None:
        body = encode_frame(plain(cls))[4:]
        ends = [len(encode_frame(plain(cls))) - 4 - size for size in sizes_from(cls)]
        for size in range(1, len(body)):
            inside = sum(end <= size for end in ends) - 1
            name = cls.fields[inside].name
            assert fault_in(framed(body[:size])) == ProtocolError(
                ErrorCode.MALFORMED, f"{cls.type}: {name} overruns the frame"
            )

    @pytest.mark.parametrize("cls", SERVER_CLASSES, ids=lambda cls: cls.type)
    def test_a_client_too_refuses_a_payload_that_ends_early(self, cls: type[Message]) -> None:
        body = encode_frame(plain(cls))[4:]
        for size in range(1, len(body)):
            fault = fault_in(framed(body[:size]), Side.CLIENT)
            assert fault.code is ErrorCode.MALFORMED
            assert fault.reason.endswith(" overruns the frame")

    def test_the_next_frame_is_never_read_for_this_one(self) -> None:
        assert "overruns" in fault_in(framed(b"\x03\0\5") + b"aaaaa").reason
        assert "overruns" in fault_in(framed(b"\x08\0\0\0") + bytes(20)).reason

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x80",
            b"\xff",
            b"a\xc3",
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf8\x88\x80\x80\x80",
            b"\xe6\x97",
        ],
    )
    def test_ill_formed_utf_8(self, raw: bytes) -> None:
        body = b"\x03" + len(raw).to_bytes(2, "big") + raw
        assert fault_in(framed(body)) == ProtocolError(ErrorCode.MALFORMED, "leave: room is not UTF-8")
        body = b"\x8c" + len(raw).to_bytes(2, "big") + raw
        assert fault_in(framed(body), Side.CLIENT).reason == "notice: text is not UTF-8"

    def test_a_character_may_not_go_over_the_end_of_its_string(self) -> None:
        body = b"\x02" + bytes(8) + b"\0\2a\xc3" + b"\0\1\xa9"
        assert fault_in(framed(body)).reason == "say: room is not UTF-8"

    def test_any_character_may_stand_in_a_string(self) -> None:
        text = "\0\x01\x7f\u0080\u07ff\u0800\ud7ff\ue000\ufffe\uffff\U00010000\U0010ffff"
        assert decoded(Side.SERVER, [encode_frame(Leave(text))]) == ([Leave(text)], None)

    @pytest.mark.parametrize("number", [2**53, 2**53 + 1, 2**63, 2**64 - 1])
    def test_a_u64_of_2_to_the_53_or_more(self, number: int) -> None:
        raw = number.to_bytes(8, "big")
        assert fault_in(framed(b"\x08" + raw)).reason == "ping: token is 2^53 or more"
        assert fault_in(framed(b"\x89" + raw), Side.CLIENT).reason == "pong: token is 2^53 or more"

    def test_only_a_u64_has_that_bound(self) -> None:
        body = b"\x8e\xff\xff\xff\xff\0\0"
        [goodbye], fault = decoded(Side.CLIENT, [framed(body)])
        assert goodbye == plain(MESSAGES[0x8E], retry_ms=2**32 - 1, text="")
        assert fault is None

    def test_a_count_that_lies_overruns_the_frame(self) -> None:
        roster = encode_frame(Roster("a", 1, 2, ("b", "c")))
        assert roster[-8:-6] == b"\0\2"
        lie = roster[:-8] + b"\xff\xff" + roster[-6:]
        assert fault_in(lie, Side.CLIENT).reason == "roster: nicks overruns the frame"


def sizes_from(cls: type[Message]) -> list[int]:
    """How many bytes of a plain message of *cls* are left where each field begins."""
    sizes = {FieldType.U8: 1, FieldType.U16: 2, FieldType.U32: 4, FieldType.U64: 8, FieldType.STR: 6}
    each = [sizes[field.type] for field in cls.fields]
    return [sum(each[i:]) for i in range(len(each))]


class TestStrictServer:
    @pytest.mark.parametrize("kind", sorted(set(range(256)) - {cls.kind for cls in CLIENT_CLASSES}))
    def test_every_kind_that_no_client_sends_is_malformed(self, kind: int) -> None:
        body = encode_frame(plain(MESSAGES[kind]))[4:] if kind in MESSAGES else bytes([kind])
        assert fault_in(framed(body)) == ProtocolError(
            ErrorCode.MALFORMED, f"no client sends a message of kind 0x{kind:02x}"
        )

    @pytest.mark.parametrize("cls", CLIENT_CLASSES, ids=lambda cls: cls.type)
    def test_surplus_bytes_are_malformed(self, cls: type[Message]) -> None:
        body = encode_frame(plain(cls))[4:]
        for surplus in (b"\0", b"\0\0", b"more"):
            assert fault_in(framed(body + surplus)) == ProtocolError(
                ErrorCode.MALFORMED, f"{cls.type}: bytes after the last field"
            )


class TestLenientClient:
    @pytest.mark.parametrize("kind", sorted(set(range(256)) - {cls.kind for cls in SERVER_CLASSES}))
    def test_every_kind_that_no_server_sends_is_skipped(self, kind: int) -> None:
        for payload in (b"", b"\xff" * 40):
            data = framed(bytes([kind]) + payload) + encode_frame(Pong(1))
            assert decoded(Side.CLIENT, [data]) == ([Pong(1)], None)
            assert decoded(Side.CLIENT, one_by_one(data)) == ([Pong(1)], None)

    @pytest.mark.parametrize("cls", SERVER_CLASSES, ids=lambda cls: cls.type)
    def test_surplus_bytes_are_ignored(self, cls: type[Message]) -> None:
        message = plain(cls)
        body = encode_frame(message)[4:]
        data = framed(body + b"\xff") + framed(body + bytes(100)) + encode_frame(message)
        assert decoded(Side.CLIENT, [data]) == ([message] * 3, None)
        assert decoded(Side.CLIENT, one_by_one(data)) == ([message] * 3, None)

    def test_lengths_are_judged_as_strictly_as_by_a_server(self) -> None:
        assert fault_in(b"\0\0\0\0", Side.CLIENT).code is ErrorCode.MALFORMED
        assert fault_in(b"\0\1\0\1", Side.CLIENT).code is ErrorCode.TOO_BIG


class TestMessages:
    """What the decoder makes is what the classes make."""

    @every_class
    def test_a_decoded_message_is_like_a_constructed_one(self, cls: type[Message]) -> None:
        constructed = plain(cls)
        [message], _ = decoded(decoding_side(cls), [encode_frame(constructed)])
        assert type(message) is cls
        assert message == constructed
        assert hash(message) == hash(constructed)
        assert repr(message) == repr(constructed)
        for field in cls.fields:
            assert type(getattr(message, field.name)) is type(getattr(constructed, field.name))
        assert gc.is_tracked(message) == gc.is_tracked(constructed)
