"""chatproto.wire.deflate: the streams (RFC 7692, section 7.2)."""

from __future__ import annotations

import gc
import random
import tracemalloc
import zlib
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire.allocated import traced
from wire.deflation import BITS_C, BITS_S, NCT_C, NCT_S, PLAIN, WINDOWS, accepted, agreed, spelled
from wire.streams import cuts

from chatproto.wire.deflate import Deflate, Deflater, InflateError, Inflater, agree, check_answer, make_offer
from chatproto.wire.headers import parse_extensions

MIB = 2**20

TEXT = b"And what is the use of a book, thought Alice, without pictures or conversations? " * 40
NOISE = random.Random(1).randbytes(5_000)
LONG_RUN = b"\0" * 300_000  # inflates in pieces, and ends in the middle of a match
MESSAGES = [b"", b"Hello", b"Hello", TEXT, b"", b"", NOISE, TEXT, LONG_RUN, NOISE * 30 + TEXT, b"x"]


def inflated(inflater: Inflater, pieces: Iterable[bytes], max_bytes: int = 2 * MIB) -> bytes:
    """One message, as the decoder has it inflated."""
    message = b""
    for piece in pieces:
        message += inflater.decompress(piece, max_bytes - len(message))
    return message + inflater.finish(max_bytes - len(message))


def inflated_as_kept(inflater: Inflater, pieces: Iterable[bytes], max_bytes: int) -> bytearray:
    """The same in one buffer that grows, so that what it takes is what the inflater takes."""
    message = bytearray()
    for piece in pieces:
        message += inflater.decompress(piece, max_bytes - len(message))
    return message


def cut_every(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def raw(message: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """*message* as zlib compresses it, with what ends it."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(message) + stream.flush(flush)


class Strict:
    """A reader that has just the window it says.

    zlib lets a stream refer to all that it makes in one call, so this has it make little at once.
    """

    def __init__(self, bits: int, takes_over: bool) -> None:
        self.bits = bits
        self.takes_over = takes_over
        self.stream = zlib.decompressobj(-bits)
        self.piece_bytes = 1 if bits < 10 else 200

    def inflated(self, data: bytes) -> bytes:
        if not self.takes_over:
            self.stream = zlib.decompressobj(-self.bits)
        data += b"\0\0\xff\xff"
        message = b""
        while piece := self.stream.decompress(data, self.piece_bytes):
            message += piece
            data = self.stream.unconsumed_tail
        return message


@pytest.mark.parametrize("bits", [8, 9])
def test_a_strict_reader_finds_what_is_beyond_its_window(bits: int) -> None:
    assert Strict(bits, True).inflated(raw(NOISE[: 2**bits] * 2)[:-4]) == NOISE[: 2**bits] * 2
    with pytest.raises(zlib.error, match="too far back"):
        Strict(bits, True).inflated(raw(NOISE[: 2**bits + 1] * 2)[:-4])


@pytest.mark.parametrize("takes_over", [False, True])
@pytest.mark.parametrize("bits", WINDOWS)
class TestRoundTrip:
    def test_gives_the_message(self, bits: int, takes_over: bool) -> None:
        deflater, inflater = Deflater(bits, takes_over), Inflater(bits, takes_over)
        for message in MESSAGES:
            assert inflated(inflater, [deflater.compress(message)]) == message

    def test_gives_the_message_in_fragments(self, bits: int, takes_over: bool) -> None:
        deflater, inflater = Deflater(bits, takes_over), Inflater(bits, takes_over)
        for message in MESSAGES:
            data = deflater.compress(memoryview(message))
            assert inflated(inflater, cut_every(data, 1 if len(data) < 5_000 else 1_000)) == message

    def test_stays_within_its_window_at_every_level(self, bits: int, takes_over: bool) -> None:
        source = random.Random(bits)
        for level in range(1, 10):
            deflater, reader = (
                Deflater(bits, takes_over, level, source.randrange(1, 10)),
                Strict(bits, takes_over),
            )
            for distance in (249, 250, 251, 255, 256, 257, 300, 2**bits - 263, 2**bits - 262, 2**bits + 1):
                piece = source.randbytes(max(distance, 1))
                message = piece * 2 + piece[:50] + source.randbytes(20) + piece
                assert reader.inflated(deflater.compress(message)) == message


class TestDeflater:
    def test_refers_to_earlier_messages_only_with_takeover(self) -> None:
        taking, leaving = Deflater(15, True), Deflater(15, False)
        first = [deflater.compress(NOISE) for deflater in (taking, leaving)]
        second = [deflater.compress(NOISE) for deflater in (taking, leaving)]
        assert first[0] == first[1] == second[1]
        assert len(second[0]) < 100

    def test_gives_what_a_stream_for_each_message_would(self) -> None:
        deflater = Deflater(15, False)
        for message in MESSAGES:
            data = deflater.compress(message)
            assert zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff") == message
            assert len(data) <= len(raw(message)[:-4]) + 8

    def test_makes_one_byte_of_an_empty_message(self) -> None:
        for takes_over in (False, True):
            deflater = Deflater(15, takes_over)
            assert [deflater.compress(b"") for _ in range(3)] == [b"\0"] * 3  # section 7.2.3.6

    def test_is_one_for_all_connections_without_takeover(self) -> None:
        first, second = (Deflate(client_max_window_bits=bits) for bits in (15, 9))
        assert first.deflater(is_client=False) is second.deflater(is_client=False)
        assert first.deflater(is_client=False) is not Deflate(level=1).deflater(is_client=False)
        assert PLAIN.deflater(is_client=False) is not PLAIN.deflater(is_client=False)
        assert first.deflater(is_client=True) is not first.deflater(is_client=True)

    def test_makes_one_message_that_serves_any_number_of_connections(self) -> None:
        connections = [Deflate() for _ in range(100)]
        inflaters = [connection.inflater(is_client=True) for connection in connections]
        for message in MESSAGES:
            (data,) = {connection.deflater(is_client=False).compress(message) for connection in connections}
            assert {inflated(inflater, [data]) for inflater in inflaters} == {message}

    def test_sends_no_half_message_with_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Failing:
            def __init__(self, *settings: Any) -> None:
                self.stream = zlib_compressobj(*settings)

            def compress(self, data: bytes) -> bytes:
                return self.stream.compress(data)

            def flush(self, mode: int) -> bytes:
                raise MemoryError

        zlib_compressobj = zlib.compressobj
        deflater = Deflater(15, False)
        with monkeypatch.context() as patch:
            patch.setattr(zlib, "compressobj", Failing)
            with pytest.raises(MemoryError):
                deflater.compress(b"somebody's secret")
        assert inflated(Inflater(15, False), [deflater.compress(b"hello")]) == b"hello"


class TestInflater:
    @pytest.mark.parametrize(
        "data",
        [
            # The examples of section 7.2.3: one block, one that is stored, with BFINAL, two blocks.
            bytes.fromhex("f248cdc9c90700"),
            bytes.fromhex("000500faff48656c6c6f00"),
            bytes.fromhex("f348cdc9c9070000"),
            bytes.fromhex("f248050000 00ffffcac9c90700"),
        ],
    )
    @pytest.mark.parametrize("takes_over", [False, True])
    def test_reads_the_examples_of_the_rfc(self, data: bytes, takes_over: bool) -> None:
        inflater = Inflater(15, takes_over)
        assert [inflated(inflater, [data]) for _ in range(2)] == [b"Hello"] * 2
        assert inflated(inflater, cut_every(data, 1)) == b"Hello"

    def test_reads_an_example_that_takes_over(self) -> None:
        inflater = Inflater(15, True)
        assert inflated(inflater, [bytes.fromhex("f248cdc9c90700")]) == b"Hello"
        assert inflated(inflater, [bytes.fromhex("f200110000")]) == b"Hello"

    @pytest.mark.parametrize("takes_over", [False, True])
    def test_takes_final_blocks_anywhere_in_a_message(self, takes_over: bool) -> None:
        inflater = Inflater(15, takes_over)
        final = raw(b"one ", zlib.Z_FINISH)
        for data, message in [
            (final + b"\0", b"one "),
            (final * 3 + b"\0", b"one " * 3),
            (final + raw(b"two")[:-4], b"one two"),
            (raw(b"zero ") + final + raw(TEXT)[:-4], b"zero one " + TEXT),
            (b"\3\0" + b"\1\0\0\xff\xff" + b"\0", b""),
        ]:
            for size in (len(data), 1, 2, 3):
                assert inflated(inflater, cut_every(data, size)) == message

    @pytest.mark.parametrize("takes_over", [False, True])
    def test_takes_an_empty_message_in_each_form(self, takes_over: bool) -> None:
        inflater = Inflater(15, takes_over)
        for pieces in ([b"\0"], [], [b""], [b"\2\0"], [b"", b"\0"], [b"\0\0\0\xff\xff\0"]):
            assert inflated(inflater, pieces) == b""
            assert inflated(inflater, [raw(TEXT)[:-4]]) == TEXT

    @pytest.mark.parametrize("takes_over", [False, True])
    @pytest.mark.parametrize("message", [TEXT, NOISE, LONG_RUN, b"x", NOISE * 70], ids=len)
    def test_bounds_what_comes_out_to_the_byte(self, message: bytes, takes_over: bool) -> None:
        data = raw(message)[:-4]
        for pieces in ([data], cut_every(data, 1_000), cut_every(data, 16_384)):
            assert inflated(Inflater(15, takes_over), pieces, len(message)) == message
            with pytest.raises(InflateError) as caught:
                inflated(Inflater(15, takes_over), pieces, len(message) - 1)
            assert caught.value.code == 1009

    @pytest.mark.parametrize(
        ("frame_bytes", "most_mib"),
        [
            pytest.param(2 * MIB, 1.6, id="in one frame"),
            pytest.param(4_096, 1.6, id="in frames that are too much each"),
            pytest.param(500, 2.6, id="in frames that are not"),  # what fits is joined to be given
        ],
    )
    @pytest.mark.parametrize("takes_over", [False, True])
    def test_stops_a_bomb_before_it_is_memory(
        self, frame_bytes: int, most_mib: float, takes_over: bool
    ) -> None:
        stream = zlib.compressobj(9, zlib.DEFLATED, -15)
        block = stream.compress(b"\0" * MIB) + stream.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it
        bomb = block * 1024
        assert len(bomb) < 1.1 * MIB  # for 1 GiB
        frames = cut_every(bomb, frame_bytes)
        inflater = Inflater(15, takes_over)
        gc.collect()
        with traced():
            before_bytes = tracemalloc.get_traced_memory()[0]
            with pytest.raises(InflateError) as caught:
                inflated_as_kept(inflater, frames, MIB)
            peak_bytes = tracemalloc.get_traced_memory()[1] - before_bytes
        assert caught.value.code == 1009
        assert peak_bytes < most_mib * MIB

    @pytest.mark.parametrize("pattern", [b"\0", b"ab", b"abcdefghij"])
    def test_gives_the_end_that_did_not_fit_into_a_piece(self, pattern: bytes) -> None:
        # Its last match goes past 256 KiB, with all of the input taken.
        message = pattern * (263_000 // len(pattern))
        for length in range(262_140, 262_410):
            data = raw(message[:length])[:-4]
            assert inflated(Inflater(15, True), [data]) == message[:length]

    def test_gives_a_large_message_without_many_copies(self) -> None:
        data = Deflater(15, False).compress(NOISE * 3_000)
        assert len(data) < MIB
        gc.collect()
        with traced():
            message = Inflater(15, False).decompress(data, 16 * MIB)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        assert message == NOISE * 3_000
        assert peak_bytes < 2 * len(message) + MIB

    @pytest.mark.parametrize("block", [b"\3\0", b"\1\0\0\xff\xff"])
    def test_ends_a_message_of_final_blocks_that_never_ends(self, block: bytes) -> None:
        for frame_bytes in (MIB, 1_000, 1):
            inflater = Inflater(15, True)
            with pytest.raises(InflateError) as caught:
                inflated(inflater, cut_every(block * 1_001, frame_bytes), 0)
            assert caught.value.code == 1009

    def test_counts_final_blocks_for_each_message(self) -> None:
        inflater = Inflater(15, True)
        for _ in range(3):
            assert inflated(inflater, [b"\3\0" * 1_000 + b"\0"]) == b""

    @pytest.mark.parametrize("takes_over", [False, True])
    @pytest.mark.parametrize(
        "data",
        [
            *(raw(message) for message in (b"Hello", b"x" * 100, TEXT, NOISE[:300], bytes(1_000))),
            raw(bytes(range(256)) * 3),
            raw(TEXT, zlib.Z_FINISH) + b"\0" + b"\0\0\xff\xff",
            raw(b"Hello", zlib.Z_FINISH) + b"\0" + b"\0\0\xff\xff",
        ],
        ids=len,
    )
    def test_finds_that_a_message_was_cut_wherever_it_was(self, data: bytes, takes_over: bool) -> None:
        for used in (False, True):
            for length in range(1, len(data) - 4):
                if data[:length] == b"\0":
                    continue  # an empty message, as it should be
                inflater = Inflater(15, takes_over)
                if used:
                    inflated(inflater, [raw(NOISE)[:-4]])
                with pytest.raises(InflateError) as caught:
                    inflated(inflater, [data[:length]])
                assert caught.value.code == 1007

    @pytest.mark.parametrize("takes_over", [False, True])
    @pytest.mark.parametrize(
        "data",
        [
            b"\7",  # a block of the reserved kind
            b"\xff" * 20,
            b"\0\1\0\0\0x",  # a stored block whose length does not match its complement
            b"\x4b\x04\x42\x00",  # refers back before the beginning
            raw(TEXT),  # with the tail that should be left out
            raw(TEXT, zlib.Z_FINISH),  # without the byte that section 7.2.3.4 adds
            zlib.compress(TEXT)[:-4],  # with zlib's header
        ],
    )
    def test_faults_what_is_not_deflate(self, data: bytes, takes_over: bool) -> None:
        for pieces in ([data], cut_every(data, 1)):
            with pytest.raises(InflateError) as caught:
                inflated(Inflater(15, takes_over), pieces)
            assert caught.value.code == 1007
            assert caught.value.reason == str(caught.value) != ""

    def test_faults_what_refers_further_back_than_was_agreed(self) -> None:
        # In a later message: within one zlib takes as its window all that it has just made.
        deflater, wide, narrow = Deflater(15, True), Inflater(10, True), Inflater(9, True)
        first, second = deflater.compress(NOISE[:1_000]), deflater.compress(NOISE[:1_000])
        assert [inflated(wide, [data]) for data in (first, second)] == [NOISE[:1_000]] * 2
        assert inflated(narrow, [first]) == NOISE[:1_000]
        with pytest.raises(InflateError) as caught:
            inflated(narrow, [second])
        assert caught.value.code == 1007

    def test_faults_what_refers_to_an_earlier_message_without_takeover(self) -> None:
        deflater, inflater = Deflater(15, True), Inflater(15, False)
        assert inflated(inflater, [deflater.compress(NOISE)]) == NOISE
        with pytest.raises(InflateError) as caught:
            inflated(inflater, [deflater.compress(NOISE)])
        assert caught.value.code == 1007

    def test_gives_bytes_or_a_fault_for_every_flipped_bit(self) -> None:
        data = raw(TEXT[:200])[:-4]
        codes = set()
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            try:
                assert len(inflated(Inflater(15, True), [bytes(flipped)], 300)) <= 300
            except InflateError as fault:
                codes.add(fault.code)
        assert codes == {1007, 1009}

    @given(st.data(), st.booleans())
    def test_gives_the_same_in_any_cut(self, data: st.DataObject, takes_over: bool) -> None:
        message = data.draw(st.binary(max_size=60) | st.just(TEXT) | st.just(LONG_RUN))
        compressed = raw(message)[:-4] if data.draw(st.booleans()) else data.draw(st.binary(max_size=60))
        max_bytes = data.draw(st.sampled_from([0, 10, len(message), 2 * MIB]))

        def outcome(pieces: list[bytes]) -> bytes | None:
            try:
                return inflated(Inflater(15, takes_over), pieces, max_bytes)
            except InflateError:
                return None  # which it is depends on the cut, where it is both too big and ill-formed

        assert outcome(data.draw(cuts(compressed))) == outcome([compressed])

    @given(st.lists(st.binary(max_size=200)), st.booleans(), st.sampled_from(WINDOWS))
    def test_gives_any_messages(self, messages: list[bytes], takes_over: bool, bits: int) -> None:
        deflater, inflater = Deflater(bits, takes_over), Inflater(bits, takes_over)
        assert [inflated(inflater, [deflater.compress(message)]) for message in messages] == messages


class TestIdleConnection:
    N_CONNECTIONS = 100

    def kept_bytes(self, agreement: Deflate, messages: list[bytes]) -> float:
        """What the streams of one connection keep after *messages* have gone to and fro.

        The least of some measurements: zlib works without the interpreter's lock, and other threads then add
        what they allocate.
        """
        deflated = [Deflater(15, False).compress(message) for message in messages]
        agreement.deflater(is_client=False).compress(TEXT)  # what is shared is there before
        least_bytes = float("inf")
        for _ in range(3):
            gc.collect()
            with traced():
                before_bytes = tracemalloc.get_traced_memory()[0]
                connections = []
                for _ in range(self.N_CONNECTIONS):
                    deflater = agreement.deflater(is_client=False)
                    inflater = agreement.inflater(is_client=False)
                    for message, data in zip(messages, deflated, strict=True):
                        deflater.compress(message)
                        inflated(inflater, [data])
                    connections.append((deflater, inflater))
                kept_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
            least_bytes = min(least_bytes, kept_bytes / self.N_CONNECTIONS)
        return least_bytes

    def test_keeps_no_stream_without_takeover(self) -> None:
        assert self.kept_bytes(Deflate(client_no_context_takeover=True), [TEXT, NOISE]) < 256

    def test_keeps_no_stream_before_the_first_message(self) -> None:
        assert self.kept_bytes(PLAIN, []) < 512

    def test_keeps_the_window_of_its_peer_with_takeover(self) -> None:
        # The measure works.
        assert self.kept_bytes(Deflate(), [TEXT, NOISE]) > 7_000


# What Autobahn's group 13 asks for as a client, and agrees to as a server:
# (no context takeover, window bits; 0: not said). Some releases have 8, others 9.
GROUP_13 = [(False, 0), (True, 0), (False, 8), (False, 9), (False, 15), (True, 8), (True, 9), (True, 15)]


@pytest.mark.parametrize(("no_takeover", "bits"), GROUP_13)
class TestGroup13:
    def talk(self, server: Deflate, client: Deflate) -> None:
        for one, other in ((server, client), (client, server)):
            deflater, inflater = one.deflater(one is client), other.inflater(other is client)
            for message in MESSAGES:
                assert inflated(inflater, [deflater.compress(message)]) == message

    def test_is_served(self, no_takeover: bool, bits: int) -> None:
        offer: dict[str, str | None] = {NCT_C: None, BITS_C: None}
        offer |= {NCT_S: None} if no_takeover else {}
        offer |= {BITS_S: str(bits)} if bits else {}
        agreement = agree(parse_extensions([spelled(offer)]), PLAIN)
        assert agreement is not None
        answer = dict(agreement[1][1])
        assert (NCT_S in answer, answer.get(BITS_S)) == (no_takeover, str(bits) if bits else None)
        self.talk(agreement[0], accepted(spelled(answer), Deflate(server_no_context_takeover=no_takeover)))

    def test_is_accepted(self, no_takeover: bool, bits: int) -> None:
        assert BITS_C in dict(make_offer(PLAIN)[1])  # else it would not be asked
        answer: dict[str, str | None] = {NCT_C: None} if no_takeover else {}
        answer |= {BITS_C: str(bits)} if bits else {}
        client = accepted(spelled(answer))
        assert agreed(client) == (False, no_takeover, 15, bits or 15)
        self.talk(client, client)


@pytest.mark.parametrize("bits", WINDOWS)
@pytest.mark.parametrize("takes_over", [False, True])
class TestWebsockets:
    """The `websockets` library understands what is compressed here, and the other way round."""

    def peer(self, *, reads: tuple[bool, int], writes: tuple[bool, int]) -> Any:
        module = pytest.importorskip(
            "websockets.extensions.permessage_deflate", reason="websockets is not installed"
        )
        return module.PerMessageDeflate(not reads[0], not writes[0], reads[1], writes[1])

    def frame(self, data: bytes, compressed: bool) -> Any:
        frames = pytest.importorskip("websockets.frames", reason="websockets is not installed")
        return frames.Frame(frames.Opcode.BINARY, data, fin=True, rsv1=compressed)

    def test_reads_what_is_written_here(self, takes_over: bool, bits: int) -> None:
        peer = self.peer(reads=(takes_over, bits), writes=(False, 15))
        deflater = Deflater(bits, takes_over)
        for message in MESSAGES:
            assert peer.decode(self.frame(deflater.compress(message), True), max_size=2 * MIB).data == message

    def test_writes_what_is_read_here(self, takes_over: bool, bits: int) -> None:
        peer = self.peer(reads=(False, 15), writes=(takes_over, max(9, bits)))
        inflater = Inflater(max(9, bits), takes_over)
        for message in MESSAGES:
            if message:  # a second flush makes no bytes: it sends an empty message as it is, or fails
                data = bytes(peer.encode(self.frame(message, False)).data)
                assert inflated(inflater, cut_every(data, 700)) == message

    def test_agrees_on_the_same(self, takes_over: bool, bits: int) -> None:
        module = pytest.importorskip(
            "websockets.extensions.permessage_deflate", reason="websockets is not installed"
        )
        want = Deflate(
            server_no_context_takeover=not takes_over,
            client_no_context_takeover=not takes_over,
            server_max_window_bits=max(9, bits),
            client_max_window_bits=max(9, bits),
        )
        server = module.ServerPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=10)
        answer, extension = server.process_request_params(make_offer(want)[1], [])
        found = check_answer(("permessage-deflate", tuple(answer)), want)
        assert agreed(found) == (
            extension.local_no_context_takeover,
            extension.remote_no_context_takeover,
            extension.local_max_window_bits,
            extension.remote_max_window_bits,
        )
        client = module.ClientPerMessageDeflateFactory(server_max_window_bits=12, client_max_window_bits=10)
        agreement = agree([("permessage-deflate", tuple(client.get_request_params()))], want)
        assert agreement is not None
        extension = client.process_response_params(agreement[1][1], [])
        assert agreed(agreement[0]) == (
            extension.remote_no_context_takeover,
            extension.local_no_context_takeover,
            extension.remote_max_window_bits,
            extension.local_max_window_bits,
        )
