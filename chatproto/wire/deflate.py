"""permessage-deflate: its negotiation, and the two streams (RFC 7692)."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from chatproto.wire.headers import Extension

__all__ = ["Deflate", "Deflater", "InflateError", "Inflater", "agree", "check_answer", "make_offer"]

NAME = "permessage-deflate"

# What a sync flush ends with, and the wire leaves out (RFC 7692, section 7.2.1).
_TAIL = b"\x00\x00\xff\xff"
# The block that says so: it has no compression and nothing in it.
_EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"
# The same with Huffman's codes; it is the last of its stream.
_FINAL_BLOCK = b"\x03\x00"

_SLICE_BYTES = 16_384  # of input at once: zlib copies the rest of it whenever it stops before the end
_PIECE_BYTES = 262_144  # of output at once: a bomb makes one more than it may have
_MAX_FINAL_BLOCKS = 1_000  # of a message: each costs a new stream, and may have only two bytes

_NCT_S, _NCT_C = "server_no_context_takeover", "client_no_context_takeover"
_BITS_S, _BITS_C = "server_max_window_bits", "client_max_window_bits"
_BITS = {str(bits): bits for bits in range(8, 16)}  # decimal, without leading zeros (section 7.1.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deflate:
    """What one side wants, or what both have agreed on. Raises ValueError for what cannot be.

    Windows are in bits, 8 to 15. Messages under *min_message_bytes* are to be sent as they are. *level* and
    *memory_level*, 1 to 9, are zlib's. Without context takeover one compressed message serves any number
    of connections, and a connection keeps no window: a server does so unless *server_no_context_takeover* is
    False. A client demands it of the server where that is True.

    The default *level* is 4 because a peer may choose what is compressed, as in an echo or a chat. From 6 on
    a MiB can be made to take ten times as long as with 4 and more, and all others wait for it meanwhile;
    messages of a KiB are as large as with 6, larger ones by a few percent larger.
    """

    server_no_context_takeover: bool | None = None
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15
    min_message_bytes: int = 256
    level: int = 4
    memory_level: int = 8

    def __post_init__(self) -> None:
        for name in (_BITS_S, _BITS_C):
            if not 8 <= getattr(self, name) <= 15:
                raise ValueError(f"{name} is from 8 to 15, not {getattr(self, name)}")
        for name in ("level", "memory_level"):
            if not 1 <= getattr(self, name) <= 9:
                raise ValueError(f"{name} is from 1 to 9, not {getattr(self, name)}")
        if self.min_message_bytes < 0:
            raise ValueError(f"min_message_bytes is at least 0, not {self.min_message_bytes}")

    def deflater(self, is_client: bool) -> Deflater:
        """What compresses one side's messages; without context takeover the same one for equal settings.

        So two connections can be sent the same compressed bytes if they have the same deflater.
        """
        if is_client:
            window_bits, takes_over = self.client_max_window_bits, not self.client_no_context_takeover
        else:
            window_bits, takes_over = self.server_max_window_bits, self.server_no_context_takeover is False
        if takes_over:
            return Deflater(window_bits, True, self.level, self.memory_level)
        return _shared_deflater(window_bits, self.level, self.memory_level)

    def inflater(self, is_client: bool) -> Inflater:
        """What inflates the messages that come to one side."""
        if is_client:
            return Inflater(self.server_max_window_bits, not self.server_no_context_takeover)
        return Inflater(self.client_max_window_bits, not self.client_no_context_takeover)


class InflateError(ValueError):
    """Compressed data that cannot be taken: `code` to close with, `reason` a phrase for the close frame."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


# --- negotiation (RFC 7692, sections 5 and 7.1) -------------------------------------------------------------


def _parameters(extension: Extension, is_offer: bool) -> dict[str, int | None]:
    """The parameters of an offer or answer, with the bits of those that have them. Raises ValueError."""
    name, given = extension
    if name != NAME:
        raise ValueError(f"the extension is not {NAME}")
    found: dict[str, int | None] = {}
    for key, value in given:
        if key in found:
            raise ValueError(f"{key} comes twice")
        if key in (_NCT_S, _NCT_C):
            if value is not None:
                raise ValueError(f"{key} has no value")
            found[key] = None
        elif key in (_BITS_S, _BITS_C):
            # An offer may leave the client's window to the server (section 7.1.2.2).
            if value is None and not (is_offer and key == _BITS_C):
                raise ValueError(f"{key} has no value")
            if value is not None and value not in _BITS:
                raise ValueError(f"{key} is from 8 to 15")
            found[key] = None if value is None else _BITS[value]
        else:
            raise ValueError(f"{NAME} has a parameter that is unknown")
    return found


def agree(offers: Iterable[Extension], want: Deflate) -> tuple[Deflate, Extension] | None:
    """A server's choice: the first of the client's *offers* that can be accepted, with the answer to send.

    None where there is none. What an offer leaves open is as in *want*.
    """
    for offer in offers:
        try:
            given = _parameters(offer, is_offer=True)
        except ValueError:
            continue  # another extension, or one that section 7.1 says to decline
        agreed = replace(
            want,
            server_no_context_takeover=want.server_no_context_takeover is not False or _NCT_S in given,
            client_no_context_takeover=want.client_no_context_takeover or _NCT_C in given,
            server_max_window_bits=min(want.server_max_window_bits, given.get(_BITS_S) or 15),
            # Only a client that says so can be told to use a smaller window (section 7.1.2.2).
            client_max_window_bits=min(want.client_max_window_bits, given[_BITS_C] or 15)
            if _BITS_C in given
            else 15,
        )
        answer: list[tuple[str, str | None]] = []
        if agreed.server_no_context_takeover:
            answer.append((_NCT_S, None))
        if agreed.client_no_context_takeover:
            answer.append((_NCT_C, None))
        if _BITS_S in given or agreed.server_max_window_bits < 15:
            answer.append((_BITS_S, str(agreed.server_max_window_bits)))
        if agreed.client_max_window_bits < 15:
            answer.append((_BITS_C, str(agreed.client_max_window_bits)))
        return agreed, (NAME, tuple(answer))
    return None


def make_offer(want: Deflate) -> Extension:
    """A client's offer."""
    offer: list[tuple[str, str | None]] = []
    if want.server_no_context_takeover:
        offer.append((_NCT_S, None))
    if want.client_no_context_takeover:
        offer.append((_NCT_C, None))
    if want.server_max_window_bits < 15:
        offer.append((_BITS_S, str(want.server_max_window_bits)))
    offer.append((_BITS_C, str(want.client_max_window_bits) if want.client_max_window_bits < 15 else None))
    return NAME, tuple(offer)


def check_answer(answer: Extension, want: Deflate) -> Deflate:
    """What a server has agreed on to the offer of *want*.

    Raises ValueError where the client must fail (section 7.1).
    """
    given = _parameters(answer, is_offer=False)
    if want.server_no_context_takeover and _NCT_S not in given:
        raise ValueError(f"the server did not agree to {_NCT_S}")
    server_bits = given.get(_BITS_S) or 15
    if server_bits > want.server_max_window_bits:
        raise ValueError(f"the server did not agree to {_BITS_S}={want.server_max_window_bits}")
    client_bits = given.get(_BITS_C) or want.client_max_window_bits
    if client_bits > want.client_max_window_bits:
        raise ValueError(f"the server asks for more than {_BITS_C}={want.client_max_window_bits}")
    return replace(
        want,
        server_no_context_takeover=_NCT_S in given,
        client_no_context_takeover=want.client_no_context_takeover or _NCT_C in given,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )


# --- the streams (RFC 7692, section 7.2) --------------------------------------------------------------------


class Deflater:
    """Compresses messages within a window of 2^*window_bits* bytes.

    With *takes_over* a message may refer to earlier ones. For one thread at a time.
    """

    __slots__ = ("_flush", "_settings", "_stream")

    def __init__(self, window_bits: int, takes_over: bool, level: int = 4, memory_level: int = 8) -> None:
        # zlib cannot be told to write for a window of 2^8 bytes. But it refers back by its window less 262
        # bytes, so what it writes with 2^9 can be read with 2^8; browsers do the same.
        self._settings = (level, zlib.DEFLATED, -max(9, window_bits), memory_level)
        # After a full flush zlib refers to nothing before it: a stream for each message would say the same,
        # and cost ten times as much, since it has 256 KiB to get and to give back.
        self._flush = zlib.Z_SYNC_FLUSH if takes_over else zlib.Z_FULL_FLUSH
        self._stream: zlib._Compress | None = None

    def compress(self, payload: bytes | bytearray | memoryview) -> bytes:
        """The payload of a frame with RSV1 set, for the whole message *payload*."""
        stream = self._stream
        if stream is None:  # a connection that is sent nothing costs nothing
            stream = self._stream = zlib.compressobj(*self._settings)
        try:
            data = stream.compress(payload) + stream.flush(self._flush)
        except BaseException:
            self._stream = None  # half a message must not go out with the next, perhaps to somebody else
            raise
        # A second flush without anything between makes no bytes (section 7.2.3.6).
        return data[: -len(_TAIL)] or b"\x00"


@cache  # windows have 8 sizes, and few applications more than one level
def _shared_deflater(window_bits: int, level: int, memory_level: int) -> Deflater:
    return Deflater(window_bits, False, level, memory_level)


class Inflater:
    """Inflates the messages of one peer; what comes out is bounded before it is made.

    Without *takes_over* nothing is kept between messages. After an InflateError it is of no more use.

    `inflated_bytes` is all that it has made.
    """

    __slots__ = ("_final_blocks", "_has_data", "_stream", "_takes_over", "_window_bits", "inflated_bytes")

    def __init__(self, window_bits: int, takes_over: bool) -> None:
        self._window_bits = window_bits
        self._takes_over = takes_over
        self._stream: zlib._Decompress | None = None
        self._has_data = False
        self._final_blocks = 0
        self.inflated_bytes = 0

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        """What a piece of a message stands for, at most *max_bytes*.

        Raises InflateError: 1007 for a fault in the data, 1009 for what would be more.
        """
        self._has_data = self._has_data or bool(data)
        pieces: list[bytes] = []
        if len(data) <= _SLICE_BYTES:
            self._inflate(data, max_bytes, pieces)
        else:
            view = memoryview(data)
            for start in range(0, len(view), _SLICE_BYTES):
                max_bytes -= self._inflate(view[start : start + _SLICE_BYTES], max_bytes, pieces)
        return b"".join(pieces)

    def _inflate(self, data: bytes | memoryview, max_bytes: int, pieces: list[bytes]) -> int:
        """Add to *pieces* what comes of *data*, at most *max_bytes*; how many bytes it is."""
        made_bytes = 0
        is_drained = not data
        while not is_drained:
            stream = self._stream
            if stream is None:
                stream = self._stream = zlib.decompressobj(-self._window_bits)
            room_bytes = min(_PIECE_BYTES, max_bytes - made_bytes + 1)  # one byte too many is enough to know
            try:
                piece = stream.decompress(data, room_bytes)
            except zlib.error:
                raise InflateError(1007, "compressed data that is not deflate") from None
            made_bytes += len(piece)
            if made_bytes > max_bytes:
                raise InflateError(1009, "a message that is too big when inflated")
            pieces.append(piece)
            data = stream.unconsumed_tail
            # zlib may hold something back that there was no room for.
            is_drained = not data and len(piece) < room_bytes
            if stream.eof:
                # The message may go on behind a final block, as another stream (section 7.2.3.4).
                data = stream.unused_data
                is_drained = not data
                self._stream = None
                self._final_blocks += 1
                if self._final_blocks > _MAX_FINAL_BLOCKS:
                    raise InflateError(1009, f"a message of more than {_MAX_FINAL_BLOCKS} deflate streams")
        self.inflated_bytes += made_bytes
        return made_bytes

    def finish(self, max_bytes: int) -> bytes:
        """End a message after its last piece; nothing more can come of it. Raises InflateError: 1007."""
        if self._has_data:  # else it is empty: some send no byte where section 7.2.3.6 has one
            self._end_message()
        self._has_data = False
        self._final_blocks = 0
        return b""

    def _end_message(self) -> None:
        """See that the message ends with a block: else it was cut, and its end would be a guess."""
        stream = self._stream
        if stream is None:
            raise InflateError(1007, "a compressed message without its end")
        # Of the tail no data may come. Then, in its right place, a final block ends the stream, and empty
        # ones change nothing; elsewhere, amid codes or their tables, they would be a fault or data.
        probe = _TAIL + (_EMPTY_BLOCK * 64 if self._takes_over else _FINAL_BLOCK)
        try:
            data = stream.decompress(probe, 1)
        except zlib.error:
            data = b"?"
        if data or stream.eof is self._takes_over or stream.unused_data:
            raise InflateError(1007, "a compressed message without its end")
        if not self._takes_over:
            self._stream = None
