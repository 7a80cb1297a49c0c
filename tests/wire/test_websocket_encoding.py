"""WebSocket frames, written: `encode_*` make what RFC 6455 says, and refuse what no peer takes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from wire.websocket_model import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    decoded,
    frame,
    length_field,
    masked,
)

from chatproto.wire.closing import CloseCode
from chatproto.wire.encoding import (
    encode_close,
    encode_frame,
    encode_header,
    encode_masked,
    encode_message,
)
from chatproto.wire.messages import Side
from chatproto.wire.websocket import Event, Opcode

SIZES = [0, 1, 7, 8, 9, 125, 126, 127, 255, 256, 65_535, 65_536, 70_000]


class TestExamples:
    """Section 5.7, byte for byte."""

    def test_they_are_made(self) -> None:
        assert encode_frame(TEXT, b"Hello") == bytes.fromhex("810548656c6c6f")
        assert encode_masked(TEXT, b"Hello", key=KEY) == bytes.fromhex("818537fa213d7f9f4d5158")
        fragments = encode_frame(TEXT, b"Hel", fin=False), encode_frame(CONTINUATION, b"lo")
        assert fragments == (bytes.fromhex("010348656c"), bytes.fromhex("80026c6f"))
        assert encode_frame(PING, b"Hello") == bytes.fromhex("890548656c6c6f")
        assert encode_masked(PONG, b"Hello", key=KEY) == bytes.fromhex("8a8537fa213d7f9f4d5158")
        assert encode_header(BINARY, 256) == bytes.fromhex("827e0100")
        assert encode_header(BINARY, 65_536) == bytes.fromhex("827f0000000000010000")

    def test_they_are_read(self) -> None:
        assert decoded(Side.CLIENT, [bytes.fromhex("010348656c80026c6f890548656c6c6f")]) == (
            [Event(TEXT, "Hello"), Event(PING, b"Hello")],
            None,
        )


class TestFrames:
    """Section 5.2."""

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY])
    @pytest.mark.parametrize("fin", [True, False])
    def test_are_headers_and_payloads(self, opcode: int, size: int, fin: bool) -> None:
        payload = os.urandom(size)
        expected = frame(opcode, payload, to=Side.CLIENT, fin=fin)
        assert encode_frame(opcode, payload, fin) == expected
        assert encode_header(opcode, size, fin) + payload == expected
        assert encode_masked(opcode, payload, fin, key=KEY) == frame(opcode, payload, fin=fin)

    @pytest.mark.parametrize("power", [7, 8, 15, 16, 31, 32, 62])
    def test_headers_have_the_shortest_length(self, power: int) -> None:
        for length in (2**power - 1, 2**power, 2**power + 1, 2**63 - 1):
            seven_bits, extended = length_field(length)
            assert encode_header(BINARY, length) == bytes([0x82, seven_bits]) + extended

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    @pytest.mark.parametrize("size", [0, 1, 125])
    def test_control_frames_too(self, opcode: int, size: int) -> None:
        payload = bytes(size)
        assert encode_frame(opcode, payload) == frame(opcode, payload, to=Side.CLIENT)
        assert encode_masked(opcode, payload, key=KEY) == frame(opcode, payload)

    @pytest.mark.parametrize("opcode", [TEXT, BINARY])
    def test_rsv1_marks_the_first_frame_of_a_compressed_message(self, opcode: int) -> None:
        assert encode_frame(opcode, b"ab", rsv1=True) == frame(opcode, b"ab", to=Side.CLIENT, rsv=4)
        assert (
            encode_header(opcode, 2, False, True)
            == frame(opcode, b"..", to=Side.CLIENT, rsv=4, fin=False)[:2]
        )
        assert encode_masked(opcode, b"ab", True, True, KEY) == frame(opcode, b"ab", rsv=4)

    @pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
    def test_payloads_are_bytes_of_any_kind(self, make: Any) -> None:
        assert encode_frame(BINARY, make(b"abc")) == b"\x82\x03abc"
        assert encode_masked(BINARY, make(b"abc"), key=bytes(4)) == b"\x82\x83\0\0\0\0abc"

    def test_a_slice_of_a_larger_buffer_is_a_payload(self) -> None:
        assert encode_frame(BINARY, memoryview(b"0123456789")[3:6]) == b"\x82\x03345"
        with pytest.raises(BufferError):
            encode_frame(BINARY, memoryview(b"0123456789")[::2])


class TestKeys:
    """Section 5.3: a key for each frame, that nobody can predict."""

    @pytest.mark.parametrize("size", [*range(34), 1_000])
    def test_the_payload_is_masked_with_the_key_that_is_told(self, size: int) -> None:
        payload = os.urandom(size)
        made = encode_masked(BINARY, payload)
        header_bytes = 2 if size < 126 else 4
        key = made[header_bytes : header_bytes + 4]
        assert made[header_bytes + 4 :] == masked(payload, key)

    def test_no_two_frames_have_the_same(self) -> None:
        keys = [encode_masked(PING, b"")[2:] for _ in range(3_000)]
        assert len(set(keys)) > 2_990  # two of 2^32 may be the same by chance, some pairs are not
        assert len({key[0] for key in keys}) == 256

    def test_they_come_from_the_system_many_at_a_time(self) -> None:
        code = (
            "import os\n"
            "asked = []\n"
            "given = os.urandom\n"
            "os.urandom = lambda n: asked.append(given(n)) or asked[-1]\n"
            "from chatproto.wire.encoding import encode_masked\n"
            "keys = b''.join(encode_masked(9, b'')[2:] for _ in range(5_000))\n"
            "assert b''.join(asked).startswith(keys), 'keys of another source'\n"
            "assert 1 < len(asked) < 50, len(asked)\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
    def test_a_forked_process_does_not_mask_with_the_keys_of_its_parent(self) -> None:
        code = (
            "import os\n"
            "from chatproto.wire.encoding import encode_masked\n"
            "encode_masked(9, b'')\n"
            "read, write = os.pipe()\n"
            "if os.fork() == 0:\n"
            "    os.write(write, encode_masked(9, b''))\n"
            "    os._exit(0)\n"
            "assert os.read(read, 6) != encode_masked(9, b''), 'the same key'\n"
            "os.wait()\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    @pytest.mark.parametrize("key", [b"", b"123", b"12345"])
    def test_a_key_has_four_bytes(self, key: bytes) -> None:
        with pytest.raises(ValueError, match="key has 4 bytes"):
            encode_masked(TEXT, b"", key=key)

    @pytest.mark.parametrize("key", ["1234", bytearray(4), 4])
    def test_a_key_is_bytes(self, key: Any) -> None:
        with pytest.raises(TypeError, match="key is bytes"):
            encode_masked(TEXT, b"", key=key)


def all_encoders(opcode: int, size: int, **flags: Any) -> list[Any]:
    """The same frame by each of the three."""
    return [
        lambda: encode_header(opcode, size, **flags),
        lambda: encode_frame(opcode, bytes(size), **flags),
        lambda: encode_masked(opcode, bytes(size), **flags),
    ]


class TestMisuse:
    """A frame that no peer would take is not made."""

    @pytest.mark.parametrize(
        "opcode", [-1, *range(3, 8), *range(11, 18), 128, 129, 256, 257, 2**31 - 1, -(2**31)]
    )
    def test_reserved_opcodes(self, opcode: int) -> None:
        for encode in all_encoders(opcode, 0):
            with pytest.raises(ValueError, match="is no opcode"):
                encode()

    @pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
    def test_control_frames_in_fragments_or_too_long(self, opcode: int) -> None:
        for encode in all_encoders(opcode, 0, fin=False):
            with pytest.raises(ValueError, match="not fragmented"):
                encode()
        for encode in all_encoders(opcode, 126):
            with pytest.raises(ValueError, match="126 bytes, and 125 is the most"):
                encode()

    @pytest.mark.parametrize("opcode", [CONTINUATION, CLOSE, PING, PONG])
    def test_rsv1_on_anything_but_a_first_frame(self, opcode: int) -> None:
        for encode in all_encoders(opcode, 0, rsv1=True):
            with pytest.raises(ValueError, match="RSV1"):
                encode()

    @pytest.mark.parametrize("length", [-1, -(2**63), -(2**64), 2**63, 2**64, 2**64 + 1])
    def test_lengths_that_there_are_not(self, length: int) -> None:
        with pytest.raises(ValueError, match="a length is from 0"):
            encode_header(BINARY, length)

    @pytest.mark.parametrize("length", [1.0, "1", None])
    def test_lengths_that_are_no_numbers(self, length: Any) -> None:
        with pytest.raises(TypeError):
            encode_header(BINARY, length)

    @pytest.mark.parametrize("payload", ["text", None, 3, [1]])
    def test_payloads_that_are_no_bytes(self, payload: Any) -> None:
        with pytest.raises(TypeError):
            encode_frame(TEXT, payload)
        with pytest.raises(TypeError):
            encode_masked(TEXT, payload)


class TestClose:
    """Sections 5.5.1 and 7.4."""

    def test_the_code_is_followed_by_the_reason(self) -> None:
        assert encode_close(1000) == b"\x03\xe8"
        assert encode_close(CloseCode.GOING_AWAY, "κόσμε") == b"\x03\xe9" + "κόσμε".encode()
        assert encode_close(4999, "é" * 61 + "x") == b"\x13\x87" + ("é" * 61 + "x").encode()

    def test_without_a_code_it_is_empty(self) -> None:
        assert encode_close(None) == encode_close(None, "") == b""

    def test_it_comes_back(self) -> None:
        made = encode_masked(Opcode.CLOSE, encode_close(1013, "later"))
        assert decoded(Side.SERVER, [made]) == ([Event(CLOSE, "later", 1013)], None)

    @pytest.mark.parametrize(
        "code", [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_536 + 1000, True]
    )
    def test_codes_that_never_travel(self, code: int) -> None:
        with pytest.raises(ValueError, match="is no code that a close frame carries"):
            encode_close(code)

    @pytest.mark.parametrize("reason", ["x" * 124, "é" * 62])
    def test_reasons_that_are_too_long(self, reason: str) -> None:
        with pytest.raises(ValueError, match="a reason of 124 bytes, and 123 is the most"):
            encode_close(1000, reason)

    def test_a_reason_without_a_code(self) -> None:
        with pytest.raises(ValueError, match="without a code"):
            encode_close(None, "why")

    def test_a_reason_that_is_no_text(self) -> None:
        with pytest.raises(ValueError, match="surrogates"):
            encode_close(1000, "\ud800")
        for reason in (b"why", None, 3):
            with pytest.raises(TypeError):
                encode_close(1000, reason)  # type: ignore[arg-type]

    @pytest.mark.parametrize("code", ["1000", 1000.0, b"1000"])
    def test_a_code_that_is_no_int(self, code: Any) -> None:
        with pytest.raises(TypeError, match="code is an int"):
            encode_close(code)


class TestWholeMessage:
    """`encode_message` makes of a str or bytes what `encode_frame` makes of its payload."""

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("letter", ["a", "é", "€", "🙂"])
    def test_text_is_utf8_in_one_frame(self, letter: str, size: int) -> None:
        text = letter * size
        assert encode_message(text) == encode_frame(TEXT, text.encode())

    @pytest.mark.parametrize("size", SIZES)
    def test_bytes_are_one_binary_frame(self, size: int) -> None:
        assert encode_message(b"\xff" * size) == encode_frame(BINARY, b"\xff" * size)

    @pytest.mark.parametrize("message", [bytearray(b"a"), memoryview(b"a"), None, 1])
    def test_nothing_else_is_a_message(self, message: Any) -> None:
        with pytest.raises(TypeError, match="a message is a str or bytes, not"):
            encode_message(message)

    def test_half_a_surrogate_pair_is_no_text(self) -> None:
        with pytest.raises(UnicodeEncodeError):
            encode_message("a\ud800")
