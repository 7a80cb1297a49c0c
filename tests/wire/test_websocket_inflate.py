"""Compressed messages: what a decoder asks of its *inflate*, and does with the answers (RFC 7692, 6)."""

from __future__ import annotations

import random
import sys
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.allocated import traced
from wire.streams import cuts, in_two, one_by_one
from wire.websocket_model import BINARY, CLOSE, CONTINUATION, MIB, PING, TEXT, decoded, frame

from chatproto.wire.closing import CloseFault
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, WebSocketDecoder

RSV1 = 4

both_sides = pytest.mark.parametrize("side", Side, ids=lambda side: side.value)


class BadData(ValueError):
    """What an `Inflate` raises."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Doubling:
    """Every byte inflates to two, every message ends in the count of its pieces; all calls are noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[bytes | None, int]] = []
        self.pieces = 0

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        self.calls.append((data, max_bytes))
        self.pieces += 1
        if b"!" in data:
            raise BadData(1007, "no data of ours")
        if 2 * len(data) > max_bytes:
            raise BadData(1009, "too much")
        return bytes(byte for byte in data for _ in range(2))

    def finish(self, max_bytes: int) -> bytes:
        self.calls.append((None, max_bytes))
        pieces, self.pieces = self.pieces, 0
        return b"%d" % pieces


class Zlib:
    """permessage-deflate at its simplest: no context is kept from one message to the next."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(-15)

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        try:
            inflated = self._zlib.decompress(data, max_bytes + 1)
        except zlib.error:
            raise BadData(1007, "data that cannot be inflated") from None
        if len(inflated) > max_bytes:
            raise BadData(1009, "a message that inflates to too much")
        return inflated

    def finish(self, max_bytes: int) -> bytes:
        inflated = self.decompress(b"\0\0\xff\xff", max_bytes)
        self._zlib = zlib.decompressobj(-15)
        return inflated


def deflated(data: bytes, level: int = 6) -> bytes:
    """*data* as a message's payload (RFC 7692, section 7.2.1)."""
    compressing = zlib.compressobj(level, wbits=-15)
    return (compressing.compress(data) + compressing.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


@both_sides
class TestReservedBits:
    """RFC 7692, section 6: RSV1 on the first frame of a message, and nowhere else."""

    def test_a_marked_message_is_inflated_and_another_is_not(self, side: Side) -> None:
        stream = (
            frame(TEXT, b"ab", to=side, rsv=RSV1)
            + frame(TEXT, b"ab", to=side)
            + frame(BINARY, to=side, rsv=RSV1)
        )
        expected = [Event(TEXT, "aabb1"), Event(TEXT, "ab"), Event(BINARY, b"0")]
        assert decoded(side, [stream], inflate=Doubling()) == (expected, None)
        assert decoded(side, one_by_one(stream), inflate=Doubling()) == (expected, None)

    @pytest.mark.parametrize("opcode", [CLOSE, PING])
    def test_a_marked_control_frame_is_a_fault(self, side: Side, opcode: int) -> None:
        _, fault = decoded(side, [frame(opcode, to=side, rsv=RSV1)], inflate=Doubling())
        assert fault is not None
        assert fault.code == 1002

    @pytest.mark.parametrize("first", [0, RSV1])
    def test_a_marked_continuation_is_a_fault(self, side: Side, first: int) -> None:
        stream = frame(TEXT, b"a", to=side, rsv=first, fin=False) + frame(
            CONTINUATION, b"b", to=side, rsv=RSV1
        )
        _, fault = decoded(side, [stream], inflate=Doubling())
        assert fault is not None
        assert fault.code == 1002

    @pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
    def test_the_other_bits_still_mean_nothing(self, side: Side, rsv: int) -> None:
        _, fault = decoded(side, [frame(TEXT, to=side, rsv=rsv)], inflate=Doubling())
        assert fault is not None
        assert fault.code == 1002


@both_sides
class TestCalls:
    """`Inflate`: each payload once and whole, then the end; with what room there is."""

    def test_each_frame_is_handed_over_whole_however_it_is_cut(self, side: Side) -> None:
        stream = (
            frame(BINARY, b"abc", to=side, rsv=RSV1, fin=False)
            + frame(PING, b"between", to=side)
            + frame(CONTINUATION, b"", to=side, fin=False)
            + frame(CONTINUATION, b"de", to=side)
        )
        expected = [Event(PING, b"between"), Event(BINARY, b"aabbccddee2")]
        for pieces in [*in_two(stream), tuple(one_by_one(stream))]:
            inflate = Doubling()
            assert decoded(side, pieces, 20, inflate=inflate) == (expected, None)
            assert inflate.calls == [(b"abc", 20), (b"de", 14), (None, 10)]

    def test_an_empty_message_is_only_ended(self, side: Side) -> None:
        inflate = Doubling()
        assert decoded(side, [frame(TEXT, to=side, rsv=RSV1)], 9, inflate=inflate)[0] == [Event(TEXT, "0")]
        assert inflate.calls == [(None, 9)]

    def test_after_a_fault_it_is_not_called(self, side: Side) -> None:
        inflate = Doubling()
        stream = frame(TEXT, b"!", to=side, rsv=RSV1) + frame(TEXT, b"a", to=side, rsv=RSV1)
        assert decoded(side, [stream], inflate=inflate) == ([], CloseFault(1007, "no data of ours"))
        assert inflate.calls == [(b"!", MIB)]

    def test_a_frame_whose_message_is_at_fault_is_not_ended(self, side: Side) -> None:
        inflate = Doubling()
        decoded(side, [frame(TEXT, b"\xff", to=side, rsv=RSV1)], inflate=inflate)
        assert inflate.calls == [(b"\xff", MIB)]

    def test_it_is_let_go_with_the_fault(self, side: Side) -> None:
        inflate = Doubling()
        decoder = WebSocketDecoder(side, inflate=inflate)
        before = sys.getrefcount(inflate)
        decoder.receive(frame(3, to=side))
        assert sys.getrefcount(inflate) == before - 1


@both_sides
class TestFaults:
    def test_the_code_and_the_reason_are_those_of_inflate(self, side: Side) -> None:
        stream = frame(TEXT, b"ab", to=side) + frame(TEXT, b"a!", to=side, rsv=RSV1)
        expected = ([Event(TEXT, "ab")], CloseFault(1007, "no data of ours"))
        assert decoded(side, [stream], inflate=Doubling()) == expected
        assert decoded(side, one_by_one(stream), inflate=Doubling()) == expected

    def test_text_is_checked_when_it_is_inflated(self, side: Side) -> None:
        bad = frame(TEXT, b"\xff", to=side, rsv=RSV1, fin=False)
        assert decoded(side, [bad], inflate=Doubling()) == ([], CloseFault(1007, "text that is not UTF-8"))
        half = frame(TEXT, deflated(b"a\xc3"), to=side, rsv=RSV1, fin=False)
        assert decoded(side, [half], inflate=Zlib()) == ([], None)
        ended = half + frame(CONTINUATION, b"", to=side)
        assert decoded(side, [ended], inflate=Zlib()) == ([], CloseFault(1007, "text that is not UTF-8"))

    def test_the_limit_is_for_what_it_inflates_to(self, side: Side) -> None:
        for size in (999, 1_000):
            whole = frame(BINARY, deflated(bytes(size)), to=side, rsv=RSV1)
            assert decoded(side, [whole], 1_000, inflate=Zlib()) == ([Event(BINARY, bytes(size))], None)
        for pieces in (1, 2, 5):
            data = deflated(bytes(1_001))
            stream, step = b"", -(-len(data) // pieces)
            for i in range(0, len(data), step):
                first, last = i == 0, i + step >= len(data)
                stream += frame(
                    BINARY if first else CONTINUATION,
                    data[i : i + step],
                    to=side,
                    rsv=RSV1 if first else 0,
                    fin=last,
                )
            _, fault = decoded(side, [stream], 1_000, inflate=Zlib())
            assert fault == CloseFault(1009, "a message that inflates to too much")

    def test_what_inflate_gives_beyond_the_limit_is_too_big(self, side: Side) -> None:
        stream = frame(BINARY, to=side, rsv=RSV1)
        inflate: Any = Doubling()
        inflate.finish = lambda max_bytes: bytes(max_bytes + 1)
        assert decoded(side, [stream], 5, inflate=inflate) == (
            [],
            CloseFault(1009, "a message of more than 5 bytes"),
        )

    def test_a_bomb_is_a_fault_before_it_is_memory(self, side: Side) -> None:
        stream = frame(BINARY, deflated(bytes(64 * MIB)), to=side, rsv=RSV1)
        with traced():
            _, fault = decoded(side, [stream], inflate=Zlib())
            peak = tracemalloc.get_traced_memory()[1]
        assert fault is not None
        assert fault.code == 1009
        assert peak < 4 * MIB


@both_sides
class TestCompressedLength:
    """What cannot be made smaller becomes a little larger, and is legal; more than that is not."""

    def test_incompressible_messages_of_the_limit_are_taken(self, side: Side) -> None:
        for size in (1, 5, 100, 10_000, 200_000):
            data = random.Random(size).randbytes(size)
            for level in (0, 1, 9):
                payload = deflated(data, level)
                assert len(payload) > size
                stream = frame(BINARY, payload, to=side, rsv=RSV1)
                assert decoded(side, [stream], size, inflate=Zlib()) == ([Event(BINARY, data)], None)

    def test_more_is_too_big_before_it_is_there(self, side: Side) -> None:
        header = frame(BINARY, to=side, rsv=RSV1, length=1_204 + 1)[:4]
        assert decoded(side, [header], 1_000, inflate=Doubling())[1] == CloseFault(
            1009, "a frame of more than 1000 bytes"
        )
        header = frame(BINARY, to=side, rsv=RSV1, length=1_204)[:4]
        assert decoded(side, [header], 1_000, inflate=Doubling()) == ([], None)

    def test_fragments_count_together(self, side: Side) -> None:
        # empty blocks: bytes that inflate to nothing, without end
        nothing = b"\0\0\0\xff\xff" * 100
        stream = frame(BINARY, nothing, to=side, rsv=RSV1, fin=False)
        stream += frame(CONTINUATION, nothing, to=side, fin=False) * 10
        assert decoded(side, [stream], 1_000, inflate=Zlib())[1] == CloseFault(
            1009, "a message of more than 1000 bytes"
        )


@both_sides
class TestDefects:
    """What *inflate* does wrong is raised, and is the end of the decoder."""

    @pytest.mark.parametrize("given_back", ["text", bytearray(b"a"), None])
    def test_it_gives_bytes(self, side: Side, given_back: Any) -> None:
        inflate: Any = Doubling()
        inflate.decompress = lambda data, max_bytes: given_back
        decoder = WebSocketDecoder(side, inflate=inflate)
        with pytest.raises(TypeError, match="inflate gives bytes"):
            decoder.receive(frame(PING, to=side) + frame(TEXT, b"a", to=side, rsv=RSV1))
        assert decoder.receive(frame(PING, to=side)) == []

    @pytest.mark.parametrize(
        "raised", [ValueError("of another kind"), ZeroDivisionError(), KeyboardInterrupt()]
    )
    def test_other_exceptions_are_not_taken_for_faults(self, side: Side, raised: BaseException) -> None:
        class Defective:
            def decompress(self, data: bytes, max_bytes: int) -> bytes:
                raise raised

            finish: Any = None

        decoder = WebSocketDecoder(side, inflate=Defective())
        with pytest.raises(type(raised)):
            decoder.receive(frame(TEXT, b"a", to=side, rsv=RSV1))
        assert decoder.fault is None
        assert decoder.receive(frame(PING, to=side)) == []
        assert decoder.buffered_bytes == 0

    def test_it_does_not_call_back_into_the_decoder(self, side: Side) -> None:
        class Entering(Doubling):
            decoder: WebSocketDecoder

            def decompress(self, data: bytes, max_bytes: int) -> bytes:
                self.decoder.receive(frame(CONTINUATION, b"x" * 300, to=side))
                return super().decompress(data, max_bytes)

        inflate = Entering()
        inflate.decoder = decoder = WebSocketDecoder(side, inflate=inflate)
        with pytest.raises(RuntimeError, match="inside itself"):
            decoder.receive(frame(TEXT, b"a", to=side, rsv=RSV1, fin=False))
        assert decoder.receive(frame(PING, to=side)) == []
        assert decoder.buffered_bytes == 0


@st.composite
def messages(draw: st.DrawFn) -> tuple[int, bytes, bool, list[bytes]]:
    """Opcode, data, whether it is compressed, and its payload in fragments."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    data = draw(st.text(max_size=60).map(str.encode) if opcode == TEXT else st.binary(max_size=60))
    data *= draw(st.integers(1, 20))
    compressed = draw(st.booleans())
    return opcode, data, compressed, draw(cuts(deflated(data) if compressed else data))


@given(st.data(), st.sampled_from(Side), st.lists(messages(), max_size=5))
def test_messages_come_out_however_they_are_compressed_fragmented_and_cut(
    data: st.DataObject, side: Side, sent: list[tuple[int, bytes, bool, list[bytes]]]
) -> None:
    stream = b""
    for opcode, _, compressed, fragments in sent:
        for i, fragment in enumerate(fragments):
            stream += frame(
                CONTINUATION if i else opcode,
                fragment,
                to=side,
                rsv=RSV1 if compressed and not i else 0,
                fin=i == len(fragments) - 1,
            )
    expected = [
        Event(opcode, payload.decode() if opcode == TEXT else payload) for opcode, payload, _, _ in sent
    ]
    assert decoded(side, data.draw(cuts(stream)), inflate=Zlib()) == (expected, None)


@given(st.data(), st.sampled_from(Side), st.binary(max_size=40), st.sampled_from([20, 1_000]))
def test_any_compressed_bytes_give_the_same_in_any_cut(
    data: st.DataObject, side: Side, payload: bytes, limit: int
) -> None:
    stream = frame(TEXT, payload, to=side, rsv=RSV1, fin=False) + frame(CONTINUATION, payload, to=side)
    whole = decoded(side, [stream], limit, inflate=Zlib())
    assert decoded(side, data.draw(cuts(stream)), limit, inflate=Zlib()) == whole
    assert decoded(side, one_by_one(stream), limit, inflate=Zlib()) == whole
