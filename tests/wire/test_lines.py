"""Lines from `nc` and `telnet`: any cut, any bytes, telnet's options (docs/protocol.md, section 7)."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Iterable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.allocated import traced
from wire.streams import cuts, in_two, one_by_one

from chatproto.wire.lines import LineDecoder, LineFault, Signal

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
NOP, GA, DM = 241, 249, 242
LIMIT = 16
"""A small `max_line_bytes`, so that few bytes reach it."""

TOO_LONG = LineFault(f"a line has at most {LIMIT} bytes; yours was not sent")
NOT_UTF8 = LineFault("that line is not UTF-8; it was not sent")

PIECES = st.one_of(
    st.sampled_from(
        [b"\n", b"\r", b"\r\n", b"\r\0", b"\0", b"\r\r\n", b"x" * LIMIT, b"\xc3\xa9", b"\xf0\x9f\x98\x80"]
    ),
    st.sampled_from([b"\x08", b"\x7f", b"\x15", b"\x08" * LIMIT]),
    st.lists(st.sampled_from([IAC, DONT, DO, WONT, WILL, SB, SE, NOP, 1, 10, 13, 0]), max_size=4).map(bytes),
    st.lists(st.sampled_from([IAC, 236, 238, 244, 246, 247, 248, 6, 31, 239]), max_size=4).map(bytes),
    st.binary(max_size=LIMIT + 2),
    st.text(max_size=LIMIT).map(lambda text: text.encode("utf-8", "replace")),
)
STREAMS = st.lists(PIECES, max_size=10).map(b"".join)
"""Bytes in which line ends, options and limits are frequent."""

Heard = list[str | LineFault | Signal]


def heard(pieces: Iterable[bytes], max_line_bytes: int = LIMIT) -> tuple[Heard, bytes]:
    """What a new decoder makes of *pieces*, the end of the input included: the lines and the replies."""
    decoder = LineDecoder(max_line_bytes)
    lines = [line for piece in pieces for line in decoder.receive(piece)]
    return lines + decoder.finish(), decoder.take_replies()


def lines_of(*pieces: bytes) -> Heard:
    """The lines in *pieces*, without the end of the input."""
    decoder = LineDecoder(LIMIT)
    return [line for piece in pieces for line in decoder.receive(piece)]


class TestLineEnds:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\0", b"\r"])
    def test_a_line_ends_as_every_terminal_ends_it(self, end: bytes) -> None:
        assert lines_of(b"one" + end + b"two" + end) == ["one", "two"]

    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r\0", b"\r"])
    def test_an_empty_line_is_a_line(self, end: bytes) -> None:
        assert lines_of(end + end) == ["", ""]

    def test_nothing_comes_before_the_end_of_the_line(self) -> None:
        assert lines_of(b"one") == []

    def test_a_carriage_return_and_what_belongs_to_it_are_one_end(self) -> None:
        assert lines_of(b"one\r\r\ntwo\r\0\r\nthree\n\r\n") == ["one", "", "two", "", "three", ""]

    def test_only_the_first_nul_or_line_feed_belongs_to_it(self) -> None:
        assert lines_of(b"one\r\0\0two\r\n\n") == ["one", "\0two", ""]

    def test_a_nul_within_a_line_stays(self) -> None:
        assert lines_of(b"o\0ne\n") == ["o\0ne"]

    def test_the_return_key_of_a_raw_terminal_waits_for_nothing(self) -> None:
        decoder = LineDecoder()
        assert decoder.receive(b"one\r") == ["one"]
        assert decoder.receive(b"\n") == []
        assert decoder.receive(b"two\r") == ["two"]
        assert decoder.receive(b"\0") == []
        assert decoder.receive(b"three\r") == ["three"]
        assert decoder.receive(b"four\r") == ["four"]

    def test_telnet_between_a_carriage_return_and_its_line_feed_does_not_part_them(self) -> None:
        data = b"one\r" + bytes([IAC, NOP]) + b"\ntwo\n"
        for first, second in in_two(data):
            assert lines_of(first, second) == ["one", "two"]

    def test_lines_of_utf8_are_text(self) -> None:
        assert lines_of("grüß 😀\n".encode()) == ["grüß 😀"]


class TestFinish:
    def test_a_last_line_without_its_end_is_a_line(self) -> None:
        assert heard([b"one\ntwo"])[0] == ["one", "two"]

    def test_no_line_is_invented(self) -> None:
        assert heard([b"one\n"])[0] == ["one"]
        assert heard([])[0] == []

    def test_a_carriage_return_at_the_end_is_the_end_of_the_last_line(self) -> None:
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


class TestEditing:
    """For terminals in raw mode, which send every key as it is pressed."""

    @pytest.mark.parametrize("key", [b"\x08", b"\x7f", bytes([IAC, 247])])
    def test_a_character_is_taken_back_whole(self, key: bytes) -> None:
        data = b"helx" + key + b"lo, " + "ü€😀".encode() + key * 3 + b"you\n"
        for first, second in in_two(data):
            assert lines_of(first, second) == ["hello, you"], (first, second)

    @pytest.mark.parametrize("key", [b"\x15", bytes([IAC, 248])])
    def test_the_line_is_taken_back(self, key: bytes) -> None:
        for first, second in in_two(b"one\nno, " + key + b"two\n"):
            assert lines_of(first, second) == ["one", "two"], (first, second)

    def test_there_is_nothing_before_the_beginning_of_the_line(self) -> None:
        assert lines_of(b"one\n\x08\x7f\x15two\n") == ["one", "two"]

    def test_ill_formed_characters_can_be_taken_back(self) -> None:
        assert lines_of(b"a\x80\x80\x08\x08b\n") == ["b"]
        assert lines_of(b"ab\xff\x08c\n") == ["abc"]

    def test_what_is_too_long_stays_so(self) -> None:
        data = b"x" * (LIMIT + 1) + b"\x08\x08\x15fine\nreally\n"
        for first, second in in_two(data):
            assert lines_of(first, second) == [TOO_LONG, "really"], (first, second)


ASKED_FOR_SIZE = bytes([IAC, DO, 31])


class TestTelnet:
    @pytest.mark.parametrize(("verb", "refusal"), [(DO, WONT), (WILL, DONT)])
    def test_every_option_but_the_window_s_size_and_the_timing_mark_is_refused(
        self, verb: int, refusal: int
    ) -> None:
        for option in range(256):
            if (verb, option) not in ((WILL, 31), (DO, 6)):
                replies = ASKED_FOR_SIZE + bytes([IAC, refusal, option])
                assert heard([bytes([IAC, verb, option])]) == ([], replies)

    def test_a_client_that_begins_with_all_it_can_is_left_with_its_window_s_size(self) -> None:
        """As PuTTY does: it then edits and echoes by itself."""
        offered = [(WILL, 31), (WILL, 32), (WILL, 24), (WILL, 39), (DO, 1), (WILL, 3), (DO, 3)]
        opening = b"".join(bytes([IAC, verb, option]) for verb, option in offered)
        answers = [(DO, 31), (DONT, 32), (DONT, 24), (DONT, 39), (WONT, 1), (DONT, 3), (WONT, 3)]
        assert heard([opening]) == ([], b"".join(bytes([IAC, verb, option]) for verb, option in answers))

    @pytest.mark.parametrize("verb", [DONT, WONT])
    def test_an_option_that_is_declined_is_not_answered(self, verb: int) -> None:
        assert heard([bytes([IAC, verb, option]) for option in range(256)]) == ([], b"")

    def test_an_option_is_refused_once(self) -> None:
        """RFC 1143: two sides that answer answers do so forever."""
        assert heard([bytes([IAC, DO, 1]) * 5 + bytes([IAC, WILL, 1]) * 5]) == (
            [],
            ASKED_FOR_SIZE + bytes([IAC, WONT, 1, IAC, DONT, 1]),
        )

    def test_replies_are_given_out_once(self) -> None:
        decoder = LineDecoder()
        decoder.receive(bytes([IAC, DO, 1]))
        assert decoder.take_replies() == ASKED_FOR_SIZE + bytes([IAC, WONT, 1])
        assert decoder.take_replies() == b""

    def test_replies_to_a_flood_are_bounded(self) -> None:
        verbs = (DO, WILL, WONT, DONT)
        flood = bytes(byte for verb in verbs for option in range(256) for byte in (IAC, verb, option))
        assert len(heard([flood] * 20)[1]) <= 2 * 256 * 3 + 2 * 3

    @pytest.mark.parametrize(
        "sent",
        [
            b"hello\n",
            b"\xff\xfe" + "utf-16\n".encode("utf-16-le"),
            "latin-1: ÿ\n".encode("latin-1"),
            bytes([IAC, 246]) + bytes([IAC, 244]),
            bytes(byte for byte in range(256) if byte not in (DO, WILL)),
        ],
    )
    def test_whoever_has_not_begun_to_negotiate_never_sees_any_of_it(self, sent: bytes) -> None:
        assert heard([sent])[1] == b""

    @pytest.mark.parametrize(
        "sequence",
        [
            [IAC, NOP],
            [IAC, GA],
            [IAC, DM],
            [IAC, DO, 1],
            [IAC, WONT, 31],
            [IAC, SB, 31, 0, 80, 0, 24, IAC, SE],
            [IAC, SB, 24, IAC, IAC, ord("x"), IAC, SE],
            [IAC, SB, 1, 10, 13, 0, IAC, SE],
            [IAC, SB, 201, *b"Core.Hello {}", IAC, SE],  # GMCP, from a client for games
            [IAC, DO, 86, IAC, DO, 201, IAC, WILL, 201],  # compression, and GMCP
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

    @pytest.mark.parametrize("byte", [0, 10, 13, 32, 65, 128, 235])
    def test_what_no_telnet_sends_is_text_that_is_not_utf8(self, byte: int) -> None:
        """Another encoding's letter is told of and not swallowed together with the next."""
        for first, second in in_two(b"a" + bytes([IAC, byte]) + b"b\nfine\n"):
            assert lines_of(first, second)[0] == NOT_UTF8
            assert lines_of(first, second)[-1] == "fine"

    def test_an_unfinished_sequence_is_not_text(self) -> None:
        for start in ([IAC], [IAC, DO], [IAC, SB], [IAC, SB, 1, 2, IAC]):
            assert heard([b"one" + bytes(start)]) == (["one"], b"")

    def test_a_subnegotiation_that_lacks_its_end_does_not_swallow_what_follows_it(self) -> None:
        data = bytes([IAC, SB, 24, 0, *b"xterm", IAC, WILL, 31]) + b"one\n"
        for first, second in in_two(data):
            assert lines_of(first, second) == ["one"]


class TestSignals:
    @pytest.mark.parametrize(
        ("sequence", "signal"),
        [
            ([246], Signal.ARE_YOU_THERE),
            ([244], Signal.INTERRUPT),
            ([238], Signal.INTERRUPT),
            ([236], Signal.INTERRUPT),
            ([DO, 6], Signal.TIMING_MARK),
        ],
    )
    def test_each_stands_at_its_place_between_the_lines(self, sequence: list[int], signal: Signal) -> None:
        data = b"one\ntw" + bytes([IAC, *sequence]) + b"o\n"
        for first, second in in_two(data):
            assert lines_of(first, second) == ["one", signal, "two"], (first, second)

    def test_the_timing_mark_is_asked_for_anew_each_time(self) -> None:
        """A telnet shows nothing after an interrupt until it has its mark: the second as well."""
        assert lines_of(bytes([IAC, DO, 6]) * 3) == [Signal.TIMING_MARK] * 3


def size(columns: int, rows: int = 24) -> bytes:
    """The subnegotiation that tells a window's size."""
    told = columns.to_bytes(2, "big") + rows.to_bytes(2, "big")
    return bytes([IAC, SB, 31]) + told.replace(b"\xff", b"\xff\xff") + bytes([IAC, SE])


class TestWindowSize:
    OFFER = bytes([IAC, WILL, 31])

    def test_an_offer_is_accepted_once(self) -> None:
        assert heard([self.OFFER * 5]) == ([], ASKED_FOR_SIZE)

    @pytest.mark.parametrize("columns", [0, 1, 40, 80, 255, 256, 65_280, 65_535])
    def test_the_width_is_known_in_any_cut(self, columns: int) -> None:
        for first, second in in_two(self.OFFER + size(columns)):
            decoder = LineDecoder()
            decoder.receive(first)
            decoder.receive(second)
            assert decoder.columns == columns

    def test_a_window_may_change_its_size(self) -> None:
        decoder = LineDecoder()
        assert decoder.receive(self.OFFER + size(80) + b"one\n" + size(132) + b"two\n") == ["one", "two"]
        assert decoder.columns == 132

    @pytest.mark.parametrize(
        "data",
        [
            size(132),  # never offered
            OFFER + bytes([IAC, SB, 31, 0, 132, 0, IAC, SE]),
            OFFER + bytes([IAC, SB, 31, 0, 132, 0, 24, 0, IAC, SE]),
            OFFER + bytes([IAC, SB, 32, 0, 132, 0, 24, IAC, SE]),
            OFFER + bytes([IAC, SB, 31, 0, 132, 0, 24, IAC, NOP]),
            OFFER + bytes([IAC, SB, IAC, SE]),
        ],
    )
    def test_what_is_no_size_is_passed_over(self, data: bytes) -> None:
        decoder = LineDecoder()
        assert decoder.receive(data + b"one\n") == ["one"]
        assert decoder.columns == 0

    def test_a_client_may_take_its_offer_back_and_that_is_confirmed_once(self) -> None:
        decoder = LineDecoder()
        withdrawn = bytes([IAC, WONT, 31])
        decoder.receive(self.OFFER + size(132) + withdrawn)
        assert decoder.columns == 0
        assert decoder.take_replies() == ASKED_FOR_SIZE + bytes([IAC, DONT, 31])
        decoder.receive((self.OFFER + withdrawn) * 100)
        assert decoder.take_replies() == bytes([IAC, DONT, 31])


class TestAnyBytes:
    @given(st.data())
    def test_any_cut_gives_the_same_lines_and_replies(self, data: st.DataObject) -> None:
        stream = data.draw(STREAMS)
        whole = heard([stream])
        assert heard(data.draw(cuts(stream))) == whole
        assert heard(one_by_one(stream)) == whole

    @given(
        st.lists(
            st.text(st.characters(exclude_characters="\0\r\n\x08\x7f\x15"), max_size=LIMIT // 4), max_size=8
        )
    )
    def test_lines_come_back_as_they_were_written(self, lines: list[str]) -> None:
        lines = [line.encode("utf-8", "replace").decode() for line in lines]
        for end in ("\n", "\r\n", "\r\0", "\r"):
            assert lines_of("".join(line + end for line in lines).encode()) == lines

    @given(st.lists(STREAMS, max_size=5))
    def test_what_is_kept_is_bounded(self, pieces: list[bytes]) -> None:
        decoder = LineDecoder(LIMIT)
        for piece in pieces:
            decoder.receive(piece)
            assert 0 <= decoder.buffered_bytes <= LIMIT

    def test_a_subnegotiation_without_end_is_not_kept(self) -> None:
        decoder = LineDecoder(4_096)
        decoder.receive(bytes([IAC, WILL, 31, IAC, SB]))
        with traced():
            for _ in range(1_000):
                decoder.receive(b"x" * 1_000)
            kept_bytes = tracemalloc.get_traced_memory()[0]
        assert kept_bytes < 10_000

    def test_a_line_without_end_is_not_kept(self) -> None:
        decoder = LineDecoder(4_096)
        found = [line for _ in range(1_000) for line in decoder.receive(b"x" * 1_000)]
        assert len(found) == 1
        assert decoder.buffered_bytes == 0

    def test_twenty_thousand_random_inputs(self) -> None:
        """Whatever comes: lines and faults, no exception, and the same in another cut."""
        chance = random.Random(20_000)
        telling = [
            IAC,
            IAC,
            DO,
            WILL,
            SB,
            SE,
            244,
            246,
            247,
            248,
            6,
            31,
            8,
            21,
            13,
            13,
            10,
            10,
            0,
            0xC3,
            0xA9,
            65,
        ]
        for _ in range(20_000):
            data = bytes(
                chance.choice(telling) if chance.random() < 0.7 else chance.randrange(256)
                for _ in range(chance.randrange(24))
            )
            place = chance.randint(0, len(data))
            whole = heard([data], 4)
            assert heard([data[:place], data[place:]], 4) == whole, (data, place)
            assert all(isinstance(line, str | LineFault | Signal) for line in whole[0])
            assert not any(
                end in line for line in whole[0] if isinstance(line, str) for end in "\r\n\b\x7f\x15"
            )


class TestWork:
    @pytest.mark.parametrize("data", [(b"x" * 1_000 + bytes([IAC, NOP])) * 100, bytes([IAC, NOP]) * 30_000])
    def test_nothing_is_gone_through_byte_by_byte(self, data: bytes) -> None:
        executed = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal executed
            executed += event == "line"
            return trace

        decoder = LineDecoder()
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            decoder.receive(data)
        finally:
            sys.settrace(before)
        assert executed < len(data) / 20
