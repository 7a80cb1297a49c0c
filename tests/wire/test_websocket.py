"""WebSocket frames, decoded: RFC 6455, section 5, point by point, for both sides and in every cut."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from wire.streams import in_two, one_by_one
from wire.websocket_model import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    MIB,
    PING,
    PONG,
    TEXT,
    close_payload,
    decoded,
    frame,
    other,
)

from chatproto.wire.closing import CloseCode, CloseFault
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode, WebSocketDecoder

PROTOCOL_ERROR, BAD_DATA, TOO_BIG = 1002, 1007, 1009

both_sides = pytest.mark.parametrize("side", Side, ids=lambda side: side.value)


def found(side: Side, stream: bytes, **limits: Any) -> tuple[list[Event], CloseFault | None]:
    """What *stream* decodes to, the same in one piece, in every two, and byte by byte."""
    whole = decoded(side, [stream], **limits)
    assert decoded(side, one_by_one(stream), **limits) == whole
    for pieces in in_two(stream) if len(stream) < 400 else []:
        assert decoded(side, pieces, **limits) == whole
    return whole


def events(side: Side, stream: bytes, **limits: Any) -> list[Event]:
    """The events in *stream*, which has no fault."""
    got, fault = found(side, stream, **limits)
    assert fault is None
    return got


def fails(side: Side, stream: bytes, code: int, **limits: Any) -> None:
    """See that *stream* is at fault, with *code*, behind a message that is delivered anyway."""
    before = frame(BINARY, b"good", to=side)
    got, fault = found(side, before + stream + frame(PING, to=side), **limits)
    assert got == [Event(BINARY, b"good")]
    assert fault is not None
    assert fault.code == code
    assert 0 < len(fault.reason.encode()) <= 123


@both_sides
class TestMessages:
    """Sections 5.2 and 5.6: whole messages in one frame."""

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, 31, 125, 126, 127, 300])
    def test_text_and_binary_come_out_as_they_were_sent(self, side: Side, size: int) -> None:
        letters = bytes(97 + i % 26 for i in range(size))
        every = bytes(i % 256 for i in range(size))
        assert events(side, frame(TEXT, letters, to=side)) == [Event(TEXT, letters.decode())]
        assert events(side, frame(BINARY, every, to=side)) == [Event(BINARY, every)]

    @pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 200_000])
    def test_long_ones_too(self, side: Side, size: int) -> None:
        every = bytes(i % 251 for i in range(size))
        for opcode, payload, data in ((BINARY, every, every), (TEXT, b"x" * size, "x" * size)):
            stream = frame(opcode, payload, to=side)
            for step in (len(stream), 65_536, 4_099, 1_000):
                pieces = [stream[i : i + step] for i in range(0, len(stream), step)]
                assert decoded(side, pieces) == ([Event(opcode, data)], None)

    @pytest.mark.parametrize(
        "text",
        ["é", "κόσμε", "日本語", "👋🏽", "a" * 9 + "é", "\0\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff"],
    )
    def test_text_may_be_anything_that_unicode_has(self, side: Side, text: str) -> None:
        assert events(side, frame(TEXT, text.encode(), to=side)) == [Event(TEXT, text)]

    def test_several_come_in_order(self, side: Side) -> None:
        stream = frame(TEXT, b"a", to=side) + frame(BINARY, b"", to=side) + frame(TEXT, b"", to=side)
        assert events(side, stream) == [Event(TEXT, "a"), Event(BINARY, b""), Event(TEXT, "")]

    def test_opcodes_and_data_have_their_types(self, side: Side) -> None:
        stream = b"".join(frame(opcode, b"\x0f\xa0", to=side) for opcode in (BINARY, TEXT, PING, PONG, CLOSE))
        # b"\x0f\xa0" is no UTF-8: the text has its own
        stream = stream.replace(frame(TEXT, b"\x0f\xa0", to=side), frame(TEXT, b"ab", to=side))
        got = events(side, stream)
        assert [event.opcode for event in got] == [
            Opcode.BINARY, Opcode.TEXT, Opcode.PING, Opcode.PONG, Opcode.CLOSE
        ]  # fmt: skip
        assert all(type(event.opcode) is Opcode for event in got)
        assert [type(event.data) for event in got] == [bytes, str, bytes, bytes, str]
        assert [event.code for event in got] == [0, 0, 0, 0, 4000]


@both_sides
class TestReservedBits:
    """Section 5.2: RSV1, RSV2, RSV3 MUST be 0 unless an extension gives them a meaning."""

    @pytest.mark.parametrize("rsv", range(1, 8))
    @pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
    def test_any_of_them_is_a_fault(self, side: Side, opcode: int, rsv: int) -> None:
        fails(side, frame(opcode, to=side, rsv=rsv), PROTOCOL_ERROR)

    @pytest.mark.parametrize("rsv", range(1, 8))
    def test_in_a_continuation_too(self, side: Side, rsv: int) -> None:
        fails(side, frame(TEXT, to=side, fin=False) + frame(CONTINUATION, to=side, rsv=rsv), PROTOCOL_ERROR)


@both_sides
class TestOpcodes:
    """Section 5.2: 3 to 7 and 11 to 15 are reserved."""

    @pytest.mark.parametrize("opcode", [*range(3, 8), *range(11, 16)])
    @pytest.mark.parametrize("fin", [True, False])
    def test_a_reserved_one_is_a_fault(self, side: Side, opcode: int, fin: bool) -> None:
        fails(side, frame(opcode, to=side, fin=fin), PROTOCOL_ERROR)
        fails(side, frame(TEXT, to=side, fin=False) + frame(opcode, to=side, fin=fin), PROTOCOL_ERROR)


@both_sides
class TestMasking:
    """Sections 5.1 and 5.3: clients mask, servers do not."""

    @pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
    def test_the_other_way_is_a_fault(self, side: Side, opcode: int) -> None:
        fails(side, frame(opcode, to=other(side)), PROTOCOL_ERROR)

    def test_in_a_continuation_too(self, side: Side) -> None:
        fails(side, frame(TEXT, to=side, fin=False) + frame(CONTINUATION, to=other(side)), PROTOCOL_ERROR)

    def test_is_judged_by_the_second_byte(self, side: Side) -> None:
        assert decoded(side, [frame(TEXT, b"x" * 300, to=other(side))[:2]])[1] is not None


class TestKeys:
    """Section 5.3: any four bytes, and each frame has its own."""

    @pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"\1\0\0\0", KEY])
    @pytest.mark.parametrize("size", range(40))
    def test_the_payload_is_unmasked_from_its_first_byte(self, key: bytes, size: int) -> None:
        data = bytes(range(200, 200 + size))
        assert events(Side.SERVER, frame(BINARY, data, key=key)) == [Event(BINARY, data)]

    def test_each_frame_begins_its_own_key(self) -> None:
        stream = b"".join(
            frame(opcode, data, key=key, fin=opcode == PING or data == b"ghi")
            for opcode, data, key in (
                (TEXT, b"a", b"1234"),
                (CONTINUATION, b"bcdef", b"5678"),
                (PING, b"ping", b"90ab"),
                (CONTINUATION, b"ghi", b"cdef"),
            )
        )
        assert events(Side.SERVER, stream) == [Event(PING, b"ping"), Event(TEXT, "abcdefghi")]


@both_sides
class TestLengths:
    """Section 5.2: 7, 16 or 64 bits, the shortest that holds the length, the highest bit 0."""

    @pytest.mark.parametrize("length", [0, 1, 125])
    @pytest.mark.parametrize("width", [2, 8])
    def test_longer_than_seven_bits_without_need_is_a_fault(
        self, side: Side, length: int, width: int
    ) -> None:
        fails(side, frame(BINARY, b"x" * length, to=side, width=width), PROTOCOL_ERROR)

    @pytest.mark.parametrize("length", [126, 127, 65_535])
    def test_64_bits_where_16_do_is_a_fault(self, side: Side, length: int) -> None:
        fails(side, frame(BINARY, b"", to=side, length=length, width=8), PROTOCOL_ERROR)

    @pytest.mark.parametrize("length", [126, 127, 65_535])
    def test_16_bits_hold_up_to_65535(self, side: Side, length: int) -> None:
        stream = frame(BINARY, b"x" * length, to=side, width=2)
        assert decoded(side, one_by_one(stream)) == ([Event(BINARY, b"x" * length)], None)

    @pytest.mark.parametrize("length", [2**63, 2**63 + 1, 2**63 + 5, 2**64 - 1])
    def test_the_highest_bit_is_a_fault_of_the_protocol(self, side: Side, length: int) -> None:
        fails(side, frame(BINARY, b"", to=side, length=length), PROTOCOL_ERROR)

    @pytest.mark.parametrize(
        "length",
        sorted({2**power + near for power in (21, 31, 32, 33, 62) for near in (-1, 0, 1)} | {2**63 - 1}),
    )
    def test_more_than_the_limit_is_too_big(self, side: Side, length: int) -> None:
        fails(side, frame(BINARY, b"", to=side, length=length), TOO_BIG)

    def test_is_judged_before_the_key_and_before_any_payload(self, side: Side) -> None:
        header = frame(BINARY, b"", to=side, length=MIB + 1)[:10]
        assert decoded(side, [header[:9]]) == ([], None)
        assert decoded(side, [header])[1] == CloseFault(TOO_BIG, f"a frame of more than {MIB} bytes")


@both_sides
class TestLimits:
    """Section 10.4: a frame and a message are bounded before anything is kept for them; 1009 (7.4.1)."""

    @pytest.mark.parametrize(
        "limit", sorted({2**power + near for power in range(1, 18) for near in (-1, 0, 1)})
    )
    def test_a_message_has_at_most_the_limit(self, side: Side, limit: int) -> None:
        most, more = b"x" * limit, b"x" * (limit + 1)
        assert decoded(side, [frame(BINARY, most, to=side)], limit) == ([Event(BINARY, most)], None)
        got, fault = decoded(side, [frame(BINARY, more, to=side)], limit)
        assert got == []
        assert fault == CloseFault(CloseCode.TOO_BIG, f"a frame of more than {limit} bytes")

    def test_the_default_is_one_mebibyte(self, side: Side) -> None:
        assert WebSocketDecoder(side).max_message_bytes == WebSocketDecoder(side).max_frame_bytes == MIB
        assert decoded(side, [frame(BINARY, bytes(MIB), to=side)]) == ([Event(BINARY, bytes(MIB))], None)
        fails(side, frame(BINARY, to=side, length=MIB + 1), TOO_BIG)

    def test_fragments_count_together(self, side: Side) -> None:
        begun = frame(TEXT, b"12345", to=side, fin=False) + frame(CONTINUATION, b"678", to=side, fin=False)
        last = frame(CONTINUATION, b"90", to=side)
        assert events(side, begun + last, max_message_bytes=10) == [Event(TEXT, "1234567890")]
        fails(side, begun + last, TOO_BIG, max_message_bytes=9)

    @pytest.mark.parametrize("length", [2**62, 2**63 - 9, 2**63 - 8, 2**63 - 1])
    def test_no_sum_of_lengths_overflows(self, side: Side, length: int) -> None:
        limits = {"max_message_bytes": 2**61 - 1}
        begun = frame(BINARY, b"12345678", to=side, fin=False)
        fails(side, begun + frame(CONTINUATION, to=side, length=length), TOO_BIG, **limits)

    def test_the_message_is_over_the_limit_by_the_header_that_says_so(self, side: Side) -> None:
        begun = frame(BINARY, bytes(6), to=side, fin=False)
        header = frame(CONTINUATION, bytes(5), to=side)[:2]
        assert decoded(side, [begun, header], 10)[1] == CloseFault(TOO_BIG, "a message of more than 10 bytes")

    def test_a_message_may_be_larger_than_a_frame(self, side: Side) -> None:
        limits = {"max_message_bytes": 10, "max_frame_bytes": 5}
        stream = frame(BINARY, b"12345", to=side, fin=False) + frame(CONTINUATION, b"67890", to=side)
        assert events(side, stream, **limits) == [Event(BINARY, b"1234567890")]
        fails(side, frame(BINARY, b"123456", to=side), TOO_BIG, **limits)

    def test_every_message_begins_anew(self, side: Side) -> None:
        one = frame(BINARY, b"123", to=side, fin=False) + frame(CONTINUATION, b"45", to=side)
        stream = one + frame(TEXT, b"12345", to=side) + one
        assert len(events(side, stream, max_message_bytes=5)) == 3

    def test_control_frames_do_not_count(self, side: Side) -> None:
        stream = frame(PING, bytes(125), to=side) + frame(CLOSE, close_payload(1000, b"x" * 123), to=side)
        assert len(events(side, stream, max_message_bytes=1)) == 2


@both_sides
class TestFragmentation:
    """Section 5.4."""

    def test_a_message_is_delivered_whole(self, side: Side) -> None:
        stream = (
            frame(TEXT, b"Hel", to=side, fin=False)
            + frame(CONTINUATION, b"l", to=side, fin=False)
            + frame(CONTINUATION, b"o", to=side)
        )
        assert events(side, stream) == [Event(TEXT, "Hello")]
        assert decoded(side, [stream[:-1]]) == ([], None)

    def test_fragments_may_be_empty(self, side: Side) -> None:
        empty = frame(CONTINUATION, to=side, fin=False)
        stream = frame(BINARY, to=side, fin=False) + empty * 3 + frame(CONTINUATION, to=side)
        assert events(side, stream) == [Event(BINARY, b"")]
        stream = frame(TEXT, to=side, fin=False) + empty + frame(CONTINUATION, b"a", to=side)
        assert events(side, stream) == [Event(TEXT, "a")]
        stream = frame(TEXT, b"a", to=side, fin=False) + empty + frame(CONTINUATION, to=side)
        assert events(side, stream) == [Event(TEXT, "a")]

    def test_control_frames_come_between_fragments_as_they_arrive(self, side: Side) -> None:
        stream = (
            frame(BINARY, b"a", to=side, fin=False)
            + frame(PING, b"1", to=side)
            + frame(CONTINUATION, b"b", to=side, fin=False)
            + frame(PONG, to=side)
            + frame(CONTINUATION, b"c", to=side)
        )
        assert events(side, stream) == [Event(PING, b"1"), Event(PONG, b""), Event(BINARY, b"abc")]

    def test_a_close_frame_between_fragments_ends_it_all(self, side: Side) -> None:
        stream = (
            frame(BINARY, b"a", to=side, fin=False) + frame(CLOSE, to=side) + frame(CONTINUATION, to=side)
        )
        assert events(side, stream) == [Event(CLOSE, "", 1005)]

    @pytest.mark.parametrize("fin", [True, False])
    def test_a_continuation_of_nothing_is_a_fault(self, side: Side, fin: bool) -> None:
        fails(side, frame(CONTINUATION, b"a", to=side, fin=fin), PROTOCOL_ERROR)

    @pytest.mark.parametrize("fin", [True, False])
    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_a_new_message_inside_another_is_a_fault(self, side: Side, opcode: int, fin: bool) -> None:
        begun = frame(TEXT, b"a", to=side, fin=False)
        fails(side, begun + frame(opcode, b"b", to=side, fin=fin), PROTOCOL_ERROR)

    def test_after_the_last_fragment_there_is_nothing_to_continue(self, side: Side) -> None:
        stream = frame(TEXT, b"a", to=side, fin=False) + frame(CONTINUATION, b"b", to=side)
        got, fault = found(side, stream + frame(CONTINUATION, b"c", to=side))
        assert got == [Event(TEXT, "ab")]
        assert fault is not None

    def test_a_message_that_is_no_text_is_never_checked_as_text(self, side: Side) -> None:
        stream = frame(BINARY, b"\xff", to=side, fin=False) + frame(CONTINUATION, b"\xfe", to=side)
        assert events(side, stream) == [Event(BINARY, b"\xff\xfe")]


@both_sides
class TestControlFrames:
    """Section 5.5: at most 125 bytes, never in fragments."""

    @pytest.mark.parametrize("opcode", [PING, PONG])
    @pytest.mark.parametrize("size", [0, 1, 124, 125])
    def test_pings_and_pongs_carry_any_bytes(self, side: Side, opcode: int, size: int) -> None:
        data = bytes(range(255, 255 - size, -1))
        assert events(side, frame(opcode, data, to=side)) == [Event(opcode, data)]

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_more_than_125_bytes_is_a_fault_that_the_second_byte_shows(self, side: Side, opcode: int) -> None:
        for size in (126, 65_536):
            assert decoded(side, [frame(opcode, bytes(size), to=side)[:1]]) == ([], None)
            _, fault = decoded(side, [frame(opcode, bytes(size), to=side)[:2]])
            assert fault is not None
            assert fault.code == PROTOCOL_ERROR

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_in_fragments_is_a_fault(self, side: Side, opcode: int) -> None:
        fails(side, frame(opcode, to=side, fin=False), PROTOCOL_ERROR)


@both_sides
class TestClose:
    """Sections 5.5.1 and 7.4: a code, then a reason in UTF-8, or nothing."""

    def test_without_a_code_it_is_1005(self, side: Side) -> None:
        assert events(side, frame(CLOSE, to=side)) == [Event(CLOSE, "", 1005)]

    def test_the_reason_follows_the_code(self, side: Side) -> None:
        for reason in ("", "bye", "Auf Wiedersehen, κόσμε", "x" * 123):
            stream = frame(CLOSE, close_payload(1001, reason.encode()), to=side)
            assert events(side, stream) == [Event(CLOSE, reason, 1001)]

    def test_one_byte_is_a_fault(self, side: Side) -> None:
        fails(side, frame(CLOSE, b"\x03", to=side), PROTOCOL_ERROR)

    @pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
    def test_codes_that_may_be_sent(self, side: Side, code: int) -> None:
        assert events(side, frame(CLOSE, close_payload(code), to=side)) == [Event(CLOSE, "", code)]

    @pytest.mark.parametrize(
        "code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 32_768, 65_535]
    )
    def test_codes_that_may_not(self, side: Side, code: int) -> None:
        fails(side, frame(CLOSE, close_payload(code, b"why"), to=side), PROTOCOL_ERROR)

    @pytest.mark.parametrize(
        "reason", [b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xce\xba\xe1\xbd\xb9\xcf\x83\xf4\x90\x80"]
    )
    def test_an_ill_formed_reason_is_bad_data(self, side: Side, reason: bytes) -> None:
        fails(side, frame(CLOSE, close_payload(1000, reason), to=side), BAD_DATA)

    @pytest.mark.parametrize("behind", [b"\xff" * 40, frame(PING), frame(PING, to=Side.CLIENT)])
    def test_whatever_comes_behind_it_is_ignored(self, side: Side, behind: bytes) -> None:
        stream = frame(PING, to=side) + frame(CLOSE, close_payload(1000), to=side) + behind
        assert events(side, stream) == [Event(PING, b""), Event(CLOSE, "", 1000)]


ILL_FORMED = {
    "a continuation of nothing": b"\x80",
    "the last continuation": b"\xbf",
    "overlong in two": b"\xc0\xaf",
    "overlong in two, the last": b"\xc1\xbf",
    "overlong in three": b"\xe0\x9f\xbf",
    "overlong in four": b"\xf0\x8f\xbf\xbf",
    "the first surrogate": b"\xed\xa0\x80",
    "the last surrogate": b"\xed\xbf\xbf",
    "beyond the last character": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "fe": b"\xfe",
    "ff": b"\xff",
    "two, interrupted": b"\xc3a",
    "three, interrupted": b"\xe2\x82a",
    "four, interrupted": b"\xf0\x9f\x91a",
    "two leads": b"\xc3\xc3",
}


@both_sides
class TestUtf8:
    """Section 8.1: text that is not UTF-8 fails the connection, with 1007 (7.4.1), and at once."""

    @pytest.mark.parametrize("bad", ILL_FORMED.values(), ids=ILL_FORMED)
    @pytest.mark.parametrize(
        "before", [b"", b"ascii, more than eight", "é日👋".encode()], ids=["", "ascii", "not"]
    )
    def test_ill_formed_text_is_a_fault(self, side: Side, bad: bytes, before: bytes) -> None:
        fails(side, frame(TEXT, before + bad + b"behind", to=side), BAD_DATA)
        fails(side, frame(TEXT, before + bad, to=side), BAD_DATA)
        fails(side, frame(TEXT, before + bad + b"behind", to=side, fin=False), BAD_DATA)
        for i in range(len(bad)):
            begun = frame(TEXT, before + bad[:i], to=side, fin=False)
            fails(side, begun + frame(CONTINUATION, bad[i:], to=side), BAD_DATA)

    @pytest.mark.parametrize("bad", ILL_FORMED.values(), ids=ILL_FORMED)
    def test_it_is_found_at_its_first_impossible_byte(self, side: Side, bad: bytes) -> None:
        # what may still become a character is no fault, and the first byte after which none can be is one
        possible = max(i for i in range(len(bad)) if any_follows(bad[:i]))
        stream = frame(TEXT, b"in a long frame " + bad + bytes(1_000), to=side)
        header_bytes = 8 if side is Side.SERVER else 4
        end = header_bytes + 16 + possible
        assert decoded(side, [stream[:end]])[1] is None
        assert decoded(side, one_by_one(stream[:end]))[1] is None
        for pieces in ([stream[: end + 1]], one_by_one(stream[: end + 1])):
            assert decoded(side, pieces)[1] == CloseFault(BAD_DATA, "text that is not UTF-8")

    @pytest.mark.parametrize("cut", [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x91"])
    def test_half_a_character_at_the_end_is_a_fault(self, side: Side, cut: bytes) -> None:
        fails(side, frame(TEXT, b"text" + cut, to=side), BAD_DATA)
        begun = frame(TEXT, b"text" + cut, to=side, fin=False)
        assert decoded(side, [begun]) == ([], None)
        fails(side, begun + frame(CONTINUATION, b"", to=side), BAD_DATA)

    def test_characters_may_be_cut_by_fragments_and_by_control_frames(self, side: Side) -> None:
        text = "é日👋\U0010ffff"
        data = text.encode()
        stream = frame(TEXT, to=side, fin=False)
        for i in range(len(data)):
            stream += frame(PING, b"\xff", to=side)
            stream += frame(CONTINUATION, data[i : i + 1], to=side, fin=i == len(data) - 1)
        assert events(side, stream) == [Event(PING, b"\xff")] * len(data) + [Event(TEXT, text)]

    def test_every_message_begins_anew(self, side: Side) -> None:
        stream = frame(TEXT, "é".encode(), to=side) + frame(BINARY, b"\xc3", to=side)
        stream += frame(TEXT, b"a", to=side)
        assert [event.data for event in events(side, stream)] == ["é", b"\xc3", "a"]

    def test_every_character_of_two_and_three_bytes_and_neighbours_of_the_rest(self, side: Side) -> None:
        codes = itertools.chain(
            range(0xD800), range(0xE000, 0x10800), range(0x3FF00, 0x40100), range(0x10FF00, 0x110000)
        )
        text = "".join(map(chr, codes))
        data = text.encode()
        stream = frame(TEXT, data[:5], to=side, fin=False) + frame(CONTINUATION, data[5:], to=side)
        assert decoded(side, [stream]) == ([Event(TEXT, text)], None)
        assert decoded(side, one_by_one(stream)) == ([Event(TEXT, text)], None)

    def test_every_pair_of_bytes_is_judged_as_python_judges_it(self, side: Side) -> None:
        for first in range(0x80, 0x100):
            for second in range(0x100):
                data = bytes([first, second])
                begun = frame(TEXT, data, to=side, fin=False)
                assert (decoded(side, [begun])[1] is None) == any_follows(data), data


def any_follows(data: bytes) -> bool:
    """Whether *data* is the beginning of some UTF-8."""
    for end in (b"", b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\x90\x80\x80", b"\x90\x80", b"\xa0\x80"):
        try:
            (data + end).decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


@both_sides
class TestAfterAFault:
    """Section 7.1.7: what fails the connection is the last thing that is read."""

    def test_nothing_is_read_and_the_fault_stays(self, side: Side) -> None:
        decoder = WebSocketDecoder(side)
        decoder.receive(frame(3, to=side))
        fault = decoder.fault
        assert fault is not None
        assert decoder.receive(frame(PING, to=side)) == []
        assert decoder.receive(frame(4, to=side)) == []
        assert decoder.fault is fault
        assert decoder.buffered_bytes == 0


class TestMisuse:
    """What the caller does wrong is raised at once."""

    @pytest.mark.parametrize("side", ["server", None, 0])
    def test_a_side_is_a_side(self, side: Any) -> None:
        with pytest.raises(TypeError, match=r"side is Side\.CLIENT or Side\.SERVER"):
            WebSocketDecoder(side)

    @pytest.mark.parametrize("limit", [0, -1, 2**61, 2**63 - 1])
    def test_limits_have_limits(self, limit: int) -> None:
        with pytest.raises(ValueError, match="max_message_bytes is from 1 to"):
            WebSocketDecoder(Side.SERVER, limit)
        with pytest.raises(ValueError, match="max_frame_bytes is from 1 to"):
            WebSocketDecoder(Side.SERVER, 10, limit)

    @pytest.mark.parametrize("data", ["text", None, 3, [1]])
    def test_only_bytes_can_be_received(self, data: Any) -> None:
        decoder = WebSocketDecoder(Side.SERVER)
        with pytest.raises(TypeError):
            decoder.receive(data)
        assert decoder.receive(frame(PING)) == [Event(PING, b"")]

    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
    def test_bytes_of_any_kind_are_received(self, make: Any) -> None:
        stream = frame(TEXT, b"Hello") + frame(BINARY, b"x" * 200)[:-1]
        decoder = WebSocketDecoder(Side.SERVER)
        assert decoder.receive(make(stream)) == [Event(TEXT, "Hello")]
        assert decoder.buffered_bytes == 199

    def test_what_was_given_may_be_overwritten_afterwards(self) -> None:
        for stream in (frame(BINARY, b"abcd", to=Side.CLIENT), frame(PING, b"abcd", to=Side.CLIENT)):
            for cut in range(len(stream) + 1):
                decoder = WebSocketDecoder(Side.CLIENT)
                first, second = bytearray(stream[:cut]), bytearray(stream[cut:])
                got = decoder.receive(first)
                first[:] = bytes(len(first))
                got += decoder.receive(second)
                second[:] = bytes(len(second))
                assert [event.data for event in got] == [b"abcd"]


class TestEvent:
    def test_equal_are_those_that_say_the_same(self) -> None:
        assert Event(TEXT, "a") == Event(Opcode.TEXT, "a")
        assert hash(Event(TEXT, "a")) == hash(Event(Opcode.TEXT, "a"))
        different = [
            Event(TEXT, "a"), Event(TEXT, "b"), Event(BINARY, b"a"), Event(PING, b"a"), Event(PONG, b"a"),
            Event(CLOSE, "a", 1000), Event(CLOSE, "a", 1001),
        ]  # fmt: skip
        assert len(set(different)) == len(different)
        assert all(one != two for one, two in itertools.combinations(different, 2))
        assert Event(TEXT, "a") != (1, "a", 0)

    def test_is_shown_as_it_is_made(self) -> None:
        assert repr(Event(TEXT, "a")) == "Event(Opcode.TEXT, 'a')"
        assert repr(Event(CLOSE, "why", 1001)) == "Event(Opcode.CLOSE, 'why', 1001)"

    def test_is_taken_apart_by_match(self) -> None:
        match decoded(Side.SERVER, [frame(CLOSE, close_payload(4001, b"why"))])[0]:
            case [Event(Opcode.CLOSE, reason, code)]:
                assert (reason, code) == ("why", 4001)
            case _:
                pytest.fail("no match")

    def test_does_not_change(self) -> None:
        event: Any = Event(TEXT, "a")
        for name in ("opcode", "data", "code"):
            with pytest.raises(AttributeError):
                setattr(event, name, 1)

    @pytest.mark.parametrize(
        ("opcode", "data"),
        [(TEXT, b"a"), (BINARY, "a"), (CLOSE, b""), (PING, ""), (BINARY, bytearray()), (TEXT, None)],
    )
    def test_has_data_of_its_type(self, opcode: int, data: Any) -> None:
        with pytest.raises(TypeError):
            Event(opcode, data)

    @pytest.mark.parametrize("opcode", [CONTINUATION, 3, 7, 11, 16, 255, 257, -1])
    def test_has_an_opcode_that_there_is(self, opcode: int) -> None:
        with pytest.raises(ValueError, match=r"is not a valid Opcode|a message is TEXT or BINARY"):
            Event(opcode, b"")
