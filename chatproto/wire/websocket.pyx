"""WebSocket frames that come in (RFC 6455, section 5): a decoder for any cut of the bytes.

Nothing here waits, calls back (but to inflate) or keeps a reference to what it was given. Section numbers in
the comments are those of RFC 6455.
"""

from enum import IntEnum
from typing import Protocol

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from chatproto.wire.encoding cimport encode_frame, encode_masked
from chatproto.wire.payload cimport is_utf8, masked

from chatproto.wire.closing import CloseCode, CloseFault, is_valid_close_code
from chatproto.wire.messages import Side

__all__ = ["Event", "Inflate", "Opcode", "WebSocketDecoder", "sort_events"]

cdef extern from "Python.h":
    object PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)
    object PyUnicode_New(Py_ssize_t, Py_UCS4)
    unsigned char* PyUnicode_1BYTE_DATA(object)
    Py_ssize_t PY_SSIZE_T_MAX
    int _PyBytes_Resize(PyObject**, Py_ssize_t) except -1

cdef Py_ssize_t _MAX_LIMIT_BYTES = PY_SSIZE_T_MAX // 4  # so that no sum of two of them overflows
cdef Py_ssize_t _LEAST_ROOM_BYTES = 64


class Opcode(IntEnum):
    """What a frame is (section 5.2)."""

    CONTINUATION = OP_CONTINUATION
    TEXT = OP_TEXT
    BINARY = OP_BINARY
    CLOSE = OP_CLOSE
    PING = OP_PING
    PONG = OP_PONG


class Inflate(Protocol):
    """What a `WebSocketDecoder` asks of an extension that gives RSV1 the meaning "compressed".

    Both methods MUST return at most *max_bytes*, and MUST raise a ValueError that has a `code` (1002, 1007 or
    1009) and a `reason` where the data is at fault. After that, and after a fault of the decoder's own, they
    are not called any more.
    """

    def decompress(self, data: bytes, max_bytes: int) -> bytes:
        """What *data*, the payload of one frame and never empty, inflates to."""

    def finish(self, max_bytes: int) -> bytes:
        """What is still to come at the end of the message."""


cdef (PyObject*)[16] _members  # borrowed: the Opcode of each number; NULL where it is reserved


cdef int _lay_out_members() except -1:
    memset(_members, 0, sizeof(_members))
    for member in Opcode:
        _members[<int>member & OPCODE_BITS] = <PyObject*>member
    return 0


_lay_out_members()


@cython.final
@cython.freelist(64)
@cython.no_gc  # it holds exact str and bytes only, so it is in no cycle
@cython.auto_pickle(False)
cdef class Event:
    """A message, or a control frame.

    *data* is a str in TEXT and CLOSE (the reason), bytes in BINARY, PING and PONG. *code* is the close code,
    1005 where the frame had none, and 0 in everything but CLOSE.
    """

    __match_args__ = ("opcode", "data", "code")

    def __init__(self, opcode, data, int code=0):
        self.opcode = Opcode(opcode)
        self.kind = opcode
        if self.kind == OP_CONTINUATION:
            raise ValueError("a message is TEXT or BINARY, however many frames it came in")
        expected = <object>str if self.kind in (OP_TEXT, OP_CLOSE) else <object>bytes
        if type(data) is not expected:
            raise TypeError(f"data of {self.opcode.name} is {expected.__name__}, not {type(data).__name__}")
        self.data = data
        self.code = code

    def __eq__(self, other):
        cdef Event that
        if type(other) is not Event:
            return NotImplemented
        that = <Event>other
        return self.kind == that.kind and self.code == that.code and self.data == that.data

    def __hash__(self):
        return hash((self.kind, self.code, self.data))

    def __repr__(self):
        code = f", {self.code}" if self.kind == OP_CLOSE else ""
        return f"Event(Opcode.{self.opcode.name}, {self.data!r}{code})"


cdef inline int _append_event(list events, int kind, object data, int code) except -1:
    cdef Event event = <Event>Event.__new__(Event)
    event.opcode = <object>_members[kind & OPCODE_BITS]
    event.kind = kind
    event.data = data
    event.code = code
    events.append(event)
    return 0


cpdef tuple sort_events(list events, bint is_open, bint is_client):
    """What an application gets of *events*, the pongs to all pings among them as bytes, and the close frame.

    The first is a list, the last an `Event` or None. Unless the connection *is_open* there is only the last.
    The pongs are one piece, so that a flood of pings waits as few bytes; a client's are masked.
    """
    cdef list given = [], pongs = []
    cdef Event event
    close = None
    for event in events:
        if event.kind == OP_CLOSE:
            close = event
        elif not is_open:
            continue
        elif event.kind == OP_PING:
            pongs.append(encode_masked(OP_PONG, event.data) if is_client else encode_frame(OP_PONG, event.data))
        else:
            given.append(event)
    return given, b"".join(pongs), close


# --- reading ---------------------------------------------------------------------------------------------

cdef inline const unsigned char* _take(Cursor* cursor, Py_ssize_t size) noexcept:
    """The next *size* bytes, or NULL where there are fewer."""
    cdef const unsigned char* at = cursor.at
    if size > cursor.end - at:
        return NULL
    cursor.at = at + size
    return at


cdef inline uint64_t _big_endian(const unsigned char* at, int size) noexcept:
    cdef uint64_t value = 0
    cdef int i
    for i in range(size):
        value = (value << 8) | at[i]
    return value


cdef inline int _width(unsigned char second) noexcept:
    """How many bytes of length follow the first two of a frame."""
    cdef int said = second & LENGTH_BITS
    return 8 if said == LENGTH_IN_8_BYTES else 2 if said == LENGTH_IN_2_BYTES else 0


cdef str _decoded(const unsigned char* at, Py_ssize_t size):
    """The text; None where it is not UTF-8."""
    try:
        return PyUnicode_DecodeUTF8(<const char*>at, size, NULL)
    except UnicodeDecodeError:
        return None


# --- gathering -------------------------------------------------------------------------------------------

cdef unsigned char* _room(Growing* growing, Py_ssize_t size, Py_ssize_t most) except NULL:
    """Room for *size* bytes more, which the caller fills; *most* is all that will ever be gathered.

    It grows by as much as there is, so that gathering costs the same for each byte however they come.
    """
    cdef Py_ssize_t needed = growing.used_bytes + size
    cdef Py_ssize_t roomy = max(needed, min(max(2 * needed, _LEAST_ROOM_BYTES), most))
    cdef unsigned char* room
    if growing.data is NULL:
        gathered = PyBytes_FromStringAndSize(NULL, roomy)
        Py_INCREF(gathered)
        growing.data = <PyObject*>gathered
    elif needed > PyBytes_GET_SIZE(<object>growing.data):
        _PyBytes_Resize(&growing.data, roomy)
    room = <unsigned char*>PyBytes_AS_STRING(<object>growing.data) + growing.used_bytes
    growing.used_bytes = needed
    return room


cdef bytes _taken(Growing* growing):
    """What was gathered; nothing of it is kept."""
    cdef bytes gathered
    if growing.data is NULL:
        return b""
    if growing.used_bytes != PyBytes_GET_SIZE(<object>growing.data):
        _PyBytes_Resize(&growing.data, growing.used_bytes)
    gathered = <bytes>growing.data
    _forget(growing)
    return gathered


cdef int _forget(Growing* growing) noexcept:
    Py_CLEAR(growing.data)
    growing.used_bytes = 0
    return 0


# --- decoding --------------------------------------------------------------------------------------------

cdef inline Py_ssize_t _compressed_bytes(Py_ssize_t size) noexcept:
    """How long *size* bytes may be when they are compressed: what cannot be made smaller becomes larger."""
    return size + size // 8 + size // 64 + 64


@cython.final
cdef class WebSocketDecoder:
    """The frames of one connection, decoded from bytes in any cut; messages come out whole.

    *side* is who decodes: a server demands masked frames, a client refuses them. *max_message_bytes* bounds a
    message, before and after it is inflated; *max_frame_bytes* bounds the length that a frame of it may
    announce, and is *max_message_bytes* where it is None. *inflate* takes compressed messages (`Inflate`);
    without it RSV1 is a fault.

    A peer's fault is data: it is kept in `fault`, and never raised.
    """

    def __cinit__(self, side, Py_ssize_t max_message_bytes=1_048_576, max_frame_bytes=None, inflate=None):
        if not isinstance(side, Side):
            raise TypeError(f"side is Side.CLIENT or Side.SERVER, not {side!r}")
        self.max_message_bytes = max_message_bytes
        self.max_frame_bytes = max_message_bytes if max_frame_bytes is None else max_frame_bytes
        for name in ("max_message_bytes", "max_frame_bytes"):
            if not 1 <= getattr(self, name) <= _MAX_LIMIT_BYTES:
                raise ValueError(f"{name} is from 1 to {_MAX_LIMIT_BYTES}, not {getattr(self, name)}")
        self._inflate = inflate
        self._masked = side is Side.SERVER

    def __dealloc__(self):
        _forget(&self._message)
        _forget(&self._payload)

    @property
    def buffered_bytes(self):
        """How many bytes of an unfinished message or frame are kept."""
        return self._message.used_bytes + self._payload.used_bytes + self._kept_bytes

    cpdef list receive(self, object data):
        """Take *data* (bytes, bytearray or memoryview, any cut) and return the events that it completes.

        MUST return what was complete before a fault, and MUST then have the fault in `fault`; from there on,
        and after a close frame, it returns nothing. MUST give the same events and the same fault however the
        bytes are cut. Where it raises (no memory, an *inflate* with a defect) the decoder is at its end.
        """
        cdef Py_buffer view
        cdef Cursor cursor
        cdef list events = []
        cdef bint done = False
        if self._ended:
            return events
        if self._receiving:
            raise RuntimeError("receive is called from inside itself")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        self._receiving = True
        cursor.at = <const unsigned char*>view.buf
        cursor.end = cursor.at + view.len
        try:
            self._walk(&cursor, events)
            done = True
        finally:
            PyBuffer_Release(&view)
            self._receiving = False
            if not done:
                self._end()
        return events

    cdef int _walk(self, Cursor* cursor, list events) except -1:
        while self._in_payload or self._read_header(cursor):
            if not self._read_payload(cursor, events) or self._ended:
                return 0
        return 0

    # headers

    cdef bint _read_header(self, Cursor* cursor) except -1:
        """Open the frame whose header comes next; False where more bytes are needed, or at a fault.

        What a cut header has is judged again with each piece: it is 14 bytes at most.
        """
        cdef unsigned char first, second
        cdef int width, size
        cdef uint64_t length
        cdef const unsigned char* header = self._peek(cursor, 2)
        if header is NULL:
            return False
        first = header[0]
        second = header[1]
        wrong = self._wrong_start(first, second)
        if wrong is not None:
            self._fail(CloseCode.PROTOCOL_ERROR, wrong)
            return False
        width = _width(second)
        header = self._peek(cursor, 2 + width)
        if header is NULL:
            return False
        length = _big_endian(header + 2, width) if width else second & LENGTH_BITS
        # Only control frames are free of limits: they are short.
        if not first & OP_CLOSE and not self._judge_length(first, width, length):
            return False
        size = 2 + width + (KEY_BYTES if self._masked else 0)
        header = self._peek(cursor, size)
        if header is NULL:
            return False
        self._open_frame(header, 2 + width, <Py_ssize_t>length)
        if self._kept_bytes:
            self._kept_bytes = 0
        else:
            _take(cursor, size)
        return True

    cdef const unsigned char* _peek(self, Cursor* cursor, int size) noexcept:
        """The first *size* bytes (at most 14) of a header, where they lie or, if it is cut, in `_header`.

        NULL where there are not so many yet: all there are are kept.
        """
        cdef Py_ssize_t step
        if not self._kept_bytes and size <= cursor.end - cursor.at:
            return cursor.at
        step = min(max(size - self._kept_bytes, 0), cursor.end - cursor.at)
        if step:
            memcpy(self._header + self._kept_bytes, _take(cursor, step), step)
            self._kept_bytes += step
        return self._header if self._kept_bytes >= size else NULL

    cdef str _wrong_start(self, unsigned char first, unsigned char second):
        """What is wrong with the two bytes that a frame begins with; None if nothing is."""
        cdef int opcode = first & OPCODE_BITS
        if first & RSV2_RSV3:
            return "a reserved bit is set that has no meaning here"  # 5.2
        if first & RSV1 and (self._inflate is None or opcode not in (OP_TEXT, OP_BINARY)):
            return "a reserved bit is set that has no meaning here"  # 5.2; RFC 7692, 6
        if not is_opcode(opcode):
            return "a frame with a reserved opcode"  # 5.2
        if opcode & OP_CLOSE:
            if not first & FIN:
                return "a control frame in fragments"  # 5.5
            if second & LENGTH_BITS > MAX_CONTROL_BYTES:
                return f"a control frame of more than {MAX_CONTROL_BYTES} bytes"  # 5.5
        elif opcode == OP_CONTINUATION:
            if self._opcode == OP_CONTINUATION:
                return "a continuation where no message has begun"  # 5.4
        elif self._opcode != OP_CONTINUATION:
            return "a new message before the end of the last"  # 5.4
        if (second & MASK != 0) != self._masked:
            if self._masked:
                return "a client's frame that is not masked"  # 5.1
            return "a server's frame that is masked"  # 5.1
        return None

    cdef bint _judge_length(self, unsigned char first, int width, uint64_t length) except -1:
        """Whether a data frame may be so long; False with `fault` set, before anything is kept for it."""
        cdef Py_ssize_t max_frame_bytes = self.max_frame_bytes
        cdef Py_ssize_t max_message_bytes = self.max_message_bytes
        if length >> 63:
            self._fail(CloseCode.PROTOCOL_ERROR, "a length of 2^63 or more")  # 5.2
            return False
        if width and length < (LENGTH_IN_2_BYTES if width == 2 else 0x10000):
            self._fail(CloseCode.PROTOCOL_ERROR, "a length that is not in its shortest form")  # 5.2
            return False
        if first & RSV1 or (self._compressed and not first & OPCODE_BITS):
            max_frame_bytes = _compressed_bytes(max_frame_bytes)
            max_message_bytes = _compressed_bytes(max_message_bytes)
        if length > <uint64_t>max_frame_bytes:
            self._fail(CloseCode.TOO_BIG, f"a frame of more than {self.max_frame_bytes} bytes")
            return False
        if length > <uint64_t>(max_message_bytes - self._announced_bytes):
            self._fail(CloseCode.TOO_BIG, f"a message of more than {self.max_message_bytes} bytes")
            return False
        return True

    cdef int _open_frame(self, const unsigned char* header, int key_at, Py_ssize_t length) except -1:
        cdef int opcode = header[0] & OPCODE_BITS
        self._first = header[0]
        if self._masked:
            memcpy(self._key, header + key_at, KEY_BYTES)
            self._key_offset = 0
        self._missing_bytes = length
        self._in_payload = True
        if opcode & OP_CLOSE:
            return 0
        if opcode != OP_CONTINUATION:
            self._opcode = opcode
            self._compressed = header[0] & RSV1
        self._announced_bytes += length
        return 0

    # payloads

    cdef bint _read_payload(self, Cursor* cursor, list events) except -1:
        """Take what there is of a payload; whether that was all of it."""
        cdef Py_ssize_t size = min(self._missing_bytes, cursor.end - cursor.at)
        cdef const unsigned char* at = _take(cursor, size)
        cdef int opcode = self._first & OPCODE_BITS
        self._missing_bytes -= size
        self._in_payload = self._missing_bytes != 0
        if opcode & OP_CLOSE:
            payload = self._gather(at, size)
            if payload is not None:
                self._deliver_control(opcode, payload, events)
        elif self._compressed:
            payload = self._gather(at, size)
            if payload is not None:
                self._inflate_frame(payload)
                self._deliver_message(events)
        elif opcode and self._first & FIN and not self._in_payload and self._message.data is NULL:
            # The whole message lies here: it is made of these bytes, and nothing is gathered.
            self._deliver(self._text(at, size) if opcode == OP_TEXT else self._binary(at, size), events)
        else:
            if size:
                self._stream(at, size)
            if not self._in_payload:
                self._deliver_message(events)
        return not self._in_payload

    cdef bint _unmask(self, unsigned char* out, const unsigned char* at, Py_ssize_t size) noexcept:
        """Write *size* bytes of payload as they were before masking; False only if all are ASCII."""
        cdef bint high = True
        if self._masked:
            high = masked(out, at, size, self._key, self._key_offset)
            self._key_offset = (self._key_offset + size) & 3
        elif size:
            memcpy(out, at, size)
        return high

    cdef bytes _binary(self, const unsigned char* at, Py_ssize_t size):
        payload = PyBytes_FromStringAndSize(NULL, size)
        self._unmask(<unsigned char*>PyBytes_AS_STRING(payload), at, size)
        return payload

    cdef str _text(self, const unsigned char* at, Py_ssize_t size):
        """A whole text; None where it is not UTF-8."""
        cdef unsigned char* room
        if not size:
            return ""
        if not self._masked:
            return _decoded(at, size)
        # Most text is ASCII: it is unmasked into a str. Anything else only stays there until it is decoded.
        text = PyUnicode_New(size, 127)
        room = PyUnicode_1BYTE_DATA(text)
        if self._unmask(room, at, size):
            return _decoded(room, size)
        return text

    cdef bytes _gather(self, const unsigned char* at, Py_ssize_t size):
        """The payload of a frame that is read whole; None where more of it is to come."""
        if self._payload.data is NULL and not self._in_payload:
            return self._binary(at, size)
        if size:
            self._unmask(
                _room(&self._payload, size, self._payload.used_bytes + size + self._missing_bytes), at, size
            )
        return None if self._in_payload else _taken(&self._payload)

    cdef int _stream(self, const unsigned char* at, Py_ssize_t size) except -1:
        """Move payload into the message, checking text as it comes."""
        cdef Py_ssize_t most = self.max_message_bytes
        cdef unsigned char* room
        if self._first & FIN:
            most = self._announced_bytes
        room = _room(&self._message, size, most)
        if self._unmask(room, at, size) or self._utf8.missing:
            self._check_text(room, size)
        return 0

    cdef int _check_text(self, const unsigned char* at, Py_ssize_t size) except -1:
        """Fail at the first byte of a text that cannot be UTF-8 (8.1)."""
        if self._opcode == OP_TEXT and not is_utf8(&self._utf8, at, size):
            self._fail(CloseCode.BAD_DATA, "text that is not UTF-8")
        return 0

    # what is complete

    cdef int _deliver_control(self, int opcode, bytes payload, list events) except -1:
        if opcode == OP_CLOSE:
            return self._deliver_close(payload, events)
        return _append_event(events, opcode, payload, 0)

    cdef int _deliver_close(self, bytes payload, list events) except -1:
        cdef const unsigned char* at = <const unsigned char*>PyBytes_AS_STRING(payload)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef int code = CloseCode.NO_CODE
        cdef str reason = ""
        if size == 1:
            return self._fail(CloseCode.PROTOCOL_ERROR, "a close frame with half a code")  # 5.5.1
        if size:
            code = <int>_big_endian(at, 2)
            if not is_valid_close_code(code):
                return self._fail(CloseCode.PROTOCOL_ERROR, "a close code that never travels")  # 7.4
            reason = _decoded(at + 2, size - 2)
            if reason is None:
                return self._fail(CloseCode.BAD_DATA, "a reason to close that is not UTF-8")  # 5.5.1, 8.1
        _append_event(events, OP_CLOSE, reason, code)
        return self._end()  # what comes behind it is discarded: 1.4

    cdef int _deliver(self, object data, list events) except -1:
        """Append the message and be ready for the next; *data* is None for text that is not UTF-8."""
        if data is None:
            return self._fail(CloseCode.BAD_DATA, "text that is not UTF-8")  # 8.1
        _append_event(events, self._opcode, data, 0)
        self._opcode = OP_CONTINUATION
        self._announced_bytes = 0
        return 0

    cdef int _deliver_message(self, list events) except -1:
        """Append the message that was gathered, if this was its last frame."""
        if self._ended or not self._first & FIN:
            return 0
        data = _taken(&self._message)
        if self._opcode == OP_TEXT:  # checked, but for a character that has no end
            data = _decoded(<const unsigned char*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return self._deliver(data, events)

    # compressed messages

    cdef int _inflate_frame(self, bytes payload) except -1:
        """Add what a frame inflates to to the message.

        Frames are inflated whole, so that a fault does not depend on the cut.
        """
        try:
            if payload:
                room_bytes = self.max_message_bytes - self._message.used_bytes
                self._take_inflated(self._inflate.decompress(payload, room_bytes))
            if self._first & FIN and not self._ended:
                room_bytes = self.max_message_bytes - self._message.used_bytes
                self._take_inflated(self._inflate.finish(room_bytes))
        except ValueError as fault:
            if not hasattr(fault, "code"):
                raise
            self._fail(fault.code, fault.reason)
        return 0

    cdef int _take_inflated(self, object inflated) except -1:
        cdef Py_ssize_t size
        cdef unsigned char* room
        if not isinstance(inflated, bytes):
            raise TypeError(f"inflate gives bytes, not {type(inflated).__name__}")
        size = PyBytes_GET_SIZE(inflated)
        if size > self.max_message_bytes - self._message.used_bytes:
            return self._fail(CloseCode.TOO_BIG, f"a message of more than {self.max_message_bytes} bytes")
        if not size:
            return 0
        room = _room(&self._message, size, self.max_message_bytes)
        memcpy(room, PyBytes_AS_STRING(inflated), size)
        return self._check_text(room, size)

    # the end

    cdef int _fail(self, object code, str reason) except -1:
        self.fault = CloseFault(code, reason)
        return self._end()

    cdef int _end(self) except -1:
        """Read nothing any more, and keep nothing."""
        self._ended = True
        self._in_payload = False
        self._kept_bytes = 0
        self._missing_bytes = 0
        self._inflate = None
        _forget(&self._message)
        _forget(&self._payload)
        return 0
