"""Lines from `nc` and `telnet`: any cut, any bytes, telnet's options (docs/protocol.md, section 7)."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.streams import PROPERTY, cuts, in_two, one_by_one

from chatproto.wire.lines import LineDecoder, LineFault

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
NOP, GA, AYT = 241, 249, 246
LIMIT = 16
"""A small `max_line_bytes`, so that few bytes reach it."""

TOO_LONG = LineFault(f"a line has at most {LIMIT} bytes; yours was not sent")
NOT_UTF8 = LineFault("that line is not UTF-8; it was not sent")

PIECES = st.one_of(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"\r\0", b"\0", b"\r\r\n", b"x" * LIMIT, b"\xc3\xa9", b"\xf0\x9f\x98\x80"]
    ),
    st.lists(st.sampled_from([IAC, DONT, DO, WONT, WILL, SB, SE, NOP, 1, 10, 13, 0]), max_size=4).map(bytes),
    st.binary(max_size=LIMIT + 2),
    st.text(max_size=LIMIT).map(lambda text: text.encode("utf-8", "replace")),
)
STREAMS = st.lists(PIECES, max_size=10).map(b"".join)
"""Bytes in which line ends, options and limits are frequent."""


def heard(pieces: Iterable[bytes], max_line_bytes: int = LIMIT) -> tuple[list[str | LineFault], bytes]:
    """What a new decoder makes of *pieces*, the end of the input included: the lines and the replies."""
    decoder = LineDecoder(max_line_bytes)
    lines = [line for piece in pieces for line in decoder.receive(piece)]
    return lines + decoder.finish(), decoder.take_replies()


def lines_of(*pieces: bytes) -> list[str | LineFault]:
    """The lines in *pieces*, without the end of the input."""
    decoder = LineDecoder(LIMIT)
    return [line for piece in pieces for line in decoder.receive(piece)]


class TestLineEnds:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\0"])
    def test_a_line_ends_with_lf_cr_lf_or_cr_nul(self, end: bytes) -> None:
        assert lines_of(b"one" + end + b"two" + end) == ["one", "two"]

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\0"])
    def test_an_empty_line_is_a_line(self, end: bytes) -> None:
        assert lines_of(end + end) == ["", ""]

    def test_nothing_comes_before_the_end_of_the_line(self) -> None:
        assert lines_of(b"one") == []

    def test_a_carriage_return_within_a_line_stays(self) -> None:
        assert lines_of(b"o\rne\n") == ["o\rne"]

    def test_only_the_one_carriage_return_before_the_line_feed_is_its_end(self) -> None:
        assert lines_of(b"one\r\r\n") == ["one\r"]
        assert lines_of(b"one\r\r\0") == ["one\r"]

    def test_a_nul_within_a_line_stays(self) -> None:
        assert lines_of(b"o\0ne\n") == ["o\0ne"]

    def test_a_held_carriage_return_keeps_nobody_waiting_for_a_line_feed(self) -> None:
        decoder = LineDecoder()
        assert decoder.receive(b"one\r") == []
        assert decoder.receive(b"\n") == ["one"]
        assert decoder.receive(b"two\r") == []
        assert decoder.receive(b"\0") == ["two"]
        assert decoder.receive(b"three\r") == []
        assert decoder.receive(b"more\n") == ["three\rmore"]

    def test_lines_of_utf8_are_text(self) -> None:
        assert lines_of("grüß 😀\n".encode()) == ["grüß 😀"]


class TestFinish:
    def test_a_last_line_without_its_end_is_a_line(self) -> None:
        assert heard([b"one\ntwo"])[0] == ["one", "two"]

    def test_no_line_is_invented(self) -> None:
        assert heard([b"one\n"])[0] == ["one"]
        assert heard([])[0] == []

    def test_a_held_carriage_return_is_the_end_of_the_last_line(self) -> None:
        assert heard([b"one\r"])[0] == ["one"]

    def test_a_last_line_that_is_too_long_is_refused_once(self) -> None:
        assert heard([b"x" * 100])[0] == [TOO_LONG]

    def test_a_last_line_that_is_not_utf8_is_refused(self) -> None:
        assert heard([b"\xc3"])[0] == [NOT_UTF8]


class TestFaults:
    def test_a_line_of_the_limit_is_taken_whatever_its_end(self) -> None:
        full = b"x" * LIMIT
        for end in (b"\n", b"\r\n", b"\r\0"):
            for first, second in in_two(full + end):
                assert lines_of(first, second) == [full.decode()], (first, second)

    def test_a_line_over_the_limit_is_refused_and_the_next_is_fine(self) -> None:
        for end in (b"\n", b"\r\n", b"\r\0"):
            for first, second in in_two(b"x" * (LIMIT + 1) + end + b"fine\n"):
                assert lines_of(first, second) == [TOO_LONG, "fine"], (first, second)

    def test_the_limit_is_in_bytes(self) -> None:
        assert lines_of("é".encode() * (LIMIT // 2) + b"\n") == ["é" * (LIMIT // 2)]
        assert lines_of("é".encode() * (LIMIT // 2) + b"x\n") == [TOO_LONG]

    def test_a_line_that_is_not_utf8_is_refused_and_the_next_is_fine(self) -> None:
        assert lines_of(b"\xc3(\nfine\n") == [NOT_UTF8, "fine"]

    def test_a_surrogate_is_not_utf8(self) -> None:
        assert lines_of(b"\xed\xa0\x80\n") == [NOT_UTF8]

    def test_a_fault_repeats_nothing_of_the_line(self) -> None:
        for fault in lines_of(b"q" * 100 + b"\n" + b"q\xff\xff\n"):
            assert isinstance(fault, LineFault)
            assert "qq" not in fault.reason
            assert "\n" not in fault.reason


class TestTelnet:
    @pytest.mark.parametrize(("verb", "refusal"), [(DO, WONT), (WILL, DONT)])
    def test_every_option_is_refused(self, verb: int, refusal: int) -> None:
        for option in range(256):
            assert heard([bytes([IAC, verb, option])]) == ([], bytes([IAC, refusal, option]))

    @pytest.mark.parametrize("verb", [DONT, WONT])
    def test_an_option_that_is_declined_is_not_answered(self, verb: int) -> None:
        assert heard([bytes([IAC, verb, option]) for option in range(256)]) == ([], b"")

    def test_an_option_is_refused_once(self) -> None:
        """RFC 1143: two sides that answer answers do so forever."""
        assert heard([bytes([IAC, DO, 1]) * 5 + bytes([IAC, WILL, 1]) * 5]) == (
            [],
            bytes([IAC, WONT, 1, IAC, DONT, 1]),
        )

    def test_replies_are_given_out_once(self) -> None:
        decoder = LineDecoder()
        decoder.receive(bytes([IAC, DO, 1]))
        assert decoder.take_replies() == bytes([IAC, WONT, 1])
        assert decoder.take_replies() == b""

    def test_replies_to_a_flood_are_bounded(self) -> None:
        flood = bytes(byte for verb in (DO, WILL) for option in range(256) for byte in (IAC, verb, option))
        assert len(heard([flood] * 20)[1]) == 2 * 256 * 3

    @pytest.mark.parametrize(
        "sequence",
        [
            [IAC, NOP],
            [IAC, GA],
            [IAC, AYT],
            [IAC, DO, 1],
            [IAC, WONT, 31],
            [IAC, SB, 31, 0, 80, 0, 24, IAC, SE],
            [IAC, SB, 24, IAC, IAC, ord("x"), IAC, SE],
            [IAC, SB, 1, 10, 13, 0, IAC, SE],
            [IAC, SE],
        ],
    )
    def test_a_sequence_is_never_text_wherever_it_stands_and_is_cut(self, sequence: list[int]) -> None:
        line = "aé\r\nb\n".encode()
        for place in range(len(line) + 1):
            data = line[:place] + bytes(sequence) + line[place:]
            for first, second in in_two(data):
                assert lines_of(first, second) == ["aé", "b"], (first, second)

    def test_a_doubled_iac_is_the_byte_255_which_no_utf8_has(self) -> None:
        assert lines_of(bytes([IAC, IAC]) + b"\nfine\n") == [NOT_UTF8, "fine"]

    def test_an_unfinished_sequence_is_not_text(self) -> None:
        for start in ([IAC], [IAC, DO], [IAC, SB], [IAC, SB, 1, 2, IAC]):
            assert heard([b"one" + bytes(start)]) == (["one"], b"")


class TestAnyBytes:
    @PROPERTY
    @given(st.data())
    def test_any_cut_gives_the_same_lines_and_replies(self, data: st.DataObject) -> None:
        stream = data.draw(STREAMS)
        whole = heard([stream])
        assert heard(data.draw(cuts(stream))) == whole
        assert heard(one_by_one(stream)) == whole

    @PROPERTY
    @given(st.lists(st.text(st.characters(exclude_characters="\r\n"), max_size=LIMIT // 4), max_size=8))
    def test_lines_come_back_as_they_were_written(self, lines: list[str]) -> None:
        lines = [line.encode("utf-8", "replace").decode() for line in lines]
        for end in ("\n", "\r\n", "\r\0"):
            assert lines_of("".join(line + end for line in lines).encode()) == lines

    @PROPERTY
    @given(st.lists(STREAMS, max_size=5))
    def test_what_is_kept_is_bounded(self, pieces: list[bytes]) -> None:
        decoder = LineDecoder(LIMIT)
        for piece in pieces:
            decoder.receive(piece)
            assert 0 <= decoder.buffered_bytes <= LIMIT

    def test_a_line_without_end_is_not_kept(self) -> None:
        decoder = LineDecoder(4_096)
        found = [line for _ in range(1_000) for line in decoder.receive(b"x" * 1_000)]
        assert len(found) == 1
        assert decoder.buffered_bytes == 0

    def test_twenty_thousand_random_inputs(self) -> None:
        """Whatever comes: lines and faults, no exception, and the same in another cut."""
        chance = random.Random(20_000)
        telling = [IAC, IAC, DO, WILL, SB, SE, 13, 13, 10, 10, 0, 0xC3, 0xA9, 65]
        for _ in range(20_000):
            data = bytes(
                chance.choice(telling) if chance.random() < 0.7 else chance.randrange(256)
                for _ in range(chance.randrange(24))
            )
            place = chance.randint(0, len(data))
            whole = heard([data], 4)
            assert heard([data[:place], data[place:]], 4) == whole, (data, place)
            assert all(isinstance(line, str | LineFault) for line in whole[0])
            assert not any("\n" in line for line in whole[0] if isinstance(line, str))


class TestWork:
    def test_text_between_telnet_sequences_is_not_gone_through_byte_by_byte(self) -> None:
        executed = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal executed
            executed += event == "line"
            return trace

        decoder = LineDecoder()
        data = (b"x" * 1_000 + bytes([IAC, NOP])) * 100
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            decoder.receive(data)
        finally:
            sys.settrace(before)
        assert executed < len(data) / 20
