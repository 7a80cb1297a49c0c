"""Length-prefixed frames of the chat protocol: a decoder for any cut of the bytes, and an encoder.

Both walk the one table of messages (`chatproto.wire.messages`), laid out as C rows when this module is
imported. Nothing here waits, calls back or keeps a reference to what it was given.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport Py_TYPE, PyObject, PyTypeObject
from libc.stdint cimport uint64_t
from libc.string cimport memcpy, memset

from chatproto.wire.slots cimport blank, fill_slot, in_slot, slot_of

from chatproto.wire.errors import ErrorCode, ProtocolError
from chatproto.wire.messages import MAX_U64, MESSAGES, FieldType, Side

__all__ = ["FrameDecoder", "encode_frame"]

cdef extern from *:
    """
    /* Have calls of a class go to `make`. Its __init__ stays what it is, and what subclasses have. */
    typedef PyObject *(*maker)(PyObject *, PyObject *const *, size_t, PyObject *);
    static CYTHON_INLINE void make_by(PyTypeObject *cls, maker make) { cls->tp_vectorcall = make; }
    /* What calls of a class do otherwise: __new__ and __init__. */
    static CYTHON_INLINE PyObject *call_class(PyObject *cls, PyObject *args, PyObject *kwargs) {
        return Py_TYPE(cls)->tp_call(cls, args, kwargs);
    }
    """
    ctypedef object (*maker)(object, PyObject**, size_t, PyObject*)
    void make_by(PyTypeObject* cls, maker make)
    object call_class(object cls, tuple args, dict kwargs)

cdef extern from "Python.h":
    Py_ssize_t PyVectorcall_NARGS(size_t)
    object PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    bint PyUnicode_CheckExact(PyObject*)
    bint PyUnicode_IS_COMPACT_ASCII(PyObject*)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject*)
    void* PyUnicode_DATA(PyObject*)
    bint PyLong_CheckExact(PyObject*)
    long long PyLong_AsLongLongAndOverflow(object, int*) except? -1

cdef uint64_t _MAX_U64 = MAX_U64
cdef Row[256] _rows
cdef Row* _by_class[256]  # see `_place`
cdef list _kept = []  # what the rows borrow

_KINDS = {
    FieldType.U8: FIELD_U8,
    FieldType.U16: FIELD_U16,
    FieldType.U32: FIELD_U32,
    FieldType.U64: FIELD_U64,
    FieldType.STR: FIELD_STR,
    FieldType.STRS: FIELD_STRS,
}


cdef int _lay_out_rows() except -1:
    cdef int kind, i
    cdef Row* row
    memset(_rows, 0, sizeof(_rows))
    memset(_by_class, 0, sizeof(_by_class))
    for kind, cls in MESSAGES.items():
        if len(cls.fields) > MAX_FIELDS:
            raise AssertionError(f"{cls.type} has more fields than a row holds")
        row = &_rows[kind]
        row.cls = <PyTypeObject*>cls
        row.n_fields = len(cls.fields)
        row.kind = kind
        for i, field in enumerate(cls.fields):
            _kept.append(field.name)
            row.fields[i] = _KINDS[field.type]
            row.slots[i] = slot_of(cls, field.name)
            row.names[i] = <void*>field.name
        _by_class[_place(row.cls)] = row
        make_by(row.cls, _make)
    return 0


cdef inline unsigned char _place(PyTypeObject* cls) noexcept:
    """Where in `_by_class` a class is, or the gap where it would be: what its address says, or behind that.

    A dict does the same, in several times as long. There are fewer classes than kinds, so there are gaps.
    """
    cdef unsigned char place = <unsigned char>(<size_t>cls >> 4)  # the rest of it is alignment
    while _by_class[place] is not NULL and _by_class[place].cls is not cls:
        place += 1  # and from the last to the first
    return place


# --- making ----------------------------------------------------------------------------------------------

cdef object _make(object cls, PyObject** args, size_t n_args_and_flag, PyObject* keywords):
    """The message that `cls(...)` is. A frozen dataclass fills each field by a call of its own otherwise.

    Whatever is not just all fields in their order, its `__init__` takes, or refuses.
    """
    cdef Py_ssize_t n_args = PyVectorcall_NARGS(n_args_and_flag)
    cdef Row* row = _by_class[_place(<PyTypeObject*>cls)]
    cdef Py_ssize_t i
    if keywords is NULL and n_args == row.n_fields:
        message = blank(row.cls, 0)
        for i in range(n_args):
            fill_slot(message, row.slots[i], <object>args[i])
        return message
    names = () if keywords is NULL else <tuple>keywords
    positional = tuple([<object>args[i] for i in range(n_args)])
    return call_class(cls, positional, {names[i]: <object>args[n_args + i] for i in range(len(names))})


_lay_out_rows()


cdef inline int _width(FieldKind kind) noexcept:
    """The bytes of a number on the wire."""
    return 8 if kind == FIELD_U64 else 4 if kind == FIELD_U32 else 2 if kind == FIELD_U16 else 1


# --- reading ---------------------------------------------------------------------------------------------

cdef inline const unsigned char* _take(Cursor* cursor, Py_ssize_t size) noexcept:
    """The next *size* bytes, or NULL where the payload has fewer."""
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


cdef inline int _read_number(Cursor* cursor, int size, uint64_t* value) noexcept:
    """False where the payload ends first."""
    cdef const unsigned char* at = _take(cursor, size)
    if at is NULL:
        return False
    value[0] = _big_endian(at, size)
    return True


cdef object _read_str(Cursor* cursor):
    """A string; None where it overruns the payload. Raises UnicodeDecodeError."""
    cdef uint64_t size
    cdef const unsigned char* at
    if not _read_number(cursor, 2, &size):
        return None
    at = _take(cursor, <Py_ssize_t>size)
    if at is NULL:
        return None
    return PyUnicode_DecodeUTF8(<const char*>at, <Py_ssize_t>size, NULL)


cdef object _read_strs(Cursor* cursor):
    cdef uint64_t count
    cdef list strings = []
    if not _read_number(cursor, 2, &count):
        return None
    while count:
        string = _read_str(cursor)
        if string is None:
            return None
        strings.append(string)
        count -= 1
    return tuple(strings)


cdef object _read_field(Cursor* cursor, FieldKind kind):
    """A field's value; None where it overruns the payload. Raises ValueError for one that cannot be."""
    cdef uint64_t value = 0
    if kind == FIELD_STR:
        return _read_str(cursor)
    if kind == FIELD_STRS:
        return _read_strs(cursor)
    if not _read_number(cursor, _width(kind), &value):
        return None
    if value > _MAX_U64:
        raise ValueError("a number of 2^53 or more")
    return value


cdef class FrameDecoder:
    """The frames of one connection, decoded from bytes in any cut.

    *side* is who decodes. A server takes only what clients send and refuses unknown kinds and surplus
    bytes; a client skips kinds and bytes that it does not know, so that the server may grow.
    *max_frame_bytes* (1 to 2^24 - 1) bounds the length that a frame may announce.

    A peer's fault is data: it is kept in `fault`, and never raised.
    """

    def __cinit__(self, side, Py_ssize_t max_frame_bytes=65_536):
        if not isinstance(side, Side):
            raise TypeError(f"side is Side.CLIENT or Side.SERVER, not {side!r}")
        if not 1 <= max_frame_bytes <= MAX_FRAME_BYTES:
            raise ValueError(f"max_frame_bytes is from 1 to {MAX_FRAME_BYTES}, not {max_frame_bytes}")
        self.max_frame_bytes = max_frame_bytes
        self._strict = side is Side.SERVER

    @property
    def buffered_bytes(self):
        """How many bytes of an unfinished frame are kept."""
        return 0 if self._tail is None else PyByteArray_GET_SIZE(self._tail)

    cpdef list receive(self, object data):
        """Take *data* (bytes, bytearray or memoryview, any cut) and return the messages that it completes.

        MUST return what was complete before a fault, and MUST then have the fault in `fault`; from there on
        it returns nothing. MUST give the same messages and the same fault however the bytes are cut.
        """
        cdef Py_buffer view
        cdef list messages = []
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._walk(<const unsigned char*>view.buf, view.len, messages)
        finally:
            PyBuffer_Release(&view)
        return messages

    cdef int _walk(self, const unsigned char* data, Py_ssize_t size, list messages) except -1:
        cdef Py_ssize_t used, length
        if self._tail is not None:
            used = self._fill(data, size)
            if self._missing_bytes or self.fault is not None:
                return 0
            data += used
            size -= used
            tail, self._tail = self._tail, None
            self._deliver(
                <const unsigned char*>PyByteArray_AS_STRING(tail) + HEADER_BYTES,
                PyByteArray_GET_SIZE(tail) - HEADER_BYTES,
                messages,
            )
        while self.fault is None and size >= HEADER_BYTES:
            length = self._length(data)
            if self.fault is not None:
                return 0
            if length > size - HEADER_BYTES:
                break
            self._deliver(data + HEADER_BYTES, length, messages)
            data += HEADER_BYTES + length
            size -= HEADER_BYTES + length
        if self.fault is None and size:
            self._start(data, size)
        return 0

    cdef int _start(self, const unsigned char* data, Py_ssize_t size) except -1:
        """Keep *data*, less than a frame, as the tail."""
        self._tail = bytearray()
        self._missing_bytes = HEADER_BYTES
        self._fill(data, size)
        return 0

    cdef Py_ssize_t _fill(self, const unsigned char* data, Py_ssize_t size) except -1:
        """Move into the tail what its frame still needs; how many of the bytes that was."""
        cdef Py_ssize_t used = 0
        cdef Py_ssize_t kept, step
        while self._missing_bytes and used < size:
            kept = PyByteArray_GET_SIZE(self._tail)
            step = min(self._missing_bytes, size - used)
            PyByteArray_Resize(self._tail, kept + step)
            memcpy(PyByteArray_AS_STRING(self._tail) + kept, data + used, step)
            used += step
            self._missing_bytes -= step
            if not self._missing_bytes and kept + step == HEADER_BYTES:
                # Only now is there a length, and it is judged before anything is kept for it.
                self._missing_bytes = self._length(<const unsigned char*>PyByteArray_AS_STRING(self._tail))
        return used

    cdef Py_ssize_t _length(self, const unsigned char* header) except -1:
        """The length that a header announces; 0 with `fault` set where it may not be."""
        cdef Py_ssize_t length = <Py_ssize_t>_big_endian(header, HEADER_BYTES)
        if length == 0:
            self._fail(ErrorCode.MALFORMED, "a frame has a length of at least 1")
        elif length > self.max_frame_bytes:
            self._fail(
                ErrorCode.TOO_BIG,
                f"a frame of {length} bytes is announced, and {self.max_frame_bytes} is the most",
            )
            return 0
        return length

    cdef int _deliver(self, const unsigned char* payload, Py_ssize_t size, list messages) except -1:
        """Decode one kind with its payload (*size* >= 1) and append the message."""
        cdef unsigned char kind = payload[0]
        cdef Row* row = &_rows[kind]
        cdef Cursor cursor
        cdef int i
        if row.cls is NULL or (kind < 0x80) != self._strict:
            if self._strict:
                self._fail(ErrorCode.MALFORMED, f"no client sends a message of kind 0x{kind:02x}")
            return 0
        cursor.at = payload + 1
        cursor.end = payload + size
        message = blank(row.cls, 0)
        for i in range(row.n_fields):
            try:
                value = _read_field(&cursor, row.fields[i])
            except ValueError as fault:
                why = "is not UTF-8" if isinstance(fault, UnicodeDecodeError) else "is 2^53 or more"
                return self._fail(ErrorCode.MALFORMED, f"{message.type}: {<object>row.names[i]} {why}")
            if value is None:
                return self._fail(
                    ErrorCode.MALFORMED, f"{message.type}: {<object>row.names[i]} overruns the frame"
                )
            fill_slot(message, row.slots[i], value)
        if self._strict and cursor.at != cursor.end:
            return self._fail(ErrorCode.MALFORMED, f"{message.type}: bytes after the last field")
        messages.append(message)
        return 0

    cdef int _fail(self, object code, str reason) except -1:
        self.fault = ProtocolError(code, reason)
        self._tail = None
        self._missing_bytes = 0
        return 0


# --- writing ---------------------------------------------------------------------------------------------

cdef inline unsigned char* _put_number(unsigned char* at, uint64_t value, int size) noexcept:
    cdef int i
    for i in range(size - 1, -1, -1):
        at[i] = value & 0xFF
        value >>= 8
    return at + size


cdef inline unsigned char* _put_width(unsigned char* at, uint64_t value, FieldKind kind) noexcept:
    """Write a number as wide as its field is: of a known width the compiler makes one store."""
    if kind == FIELD_U64:
        return _put_number(at, value, 8)
    if kind == FIELD_U32:
        return _put_number(at, value, 4)
    if kind == FIELD_U16:
        return _put_number(at, value, 2)
    return _put_number(at, value, 1)


cdef inline unsigned char* _put_str(unsigned char* at, Piece* piece) noexcept:
    at = _put_number(at, piece.number, 2)
    memcpy(at, piece.utf8, piece.number)
    return at + piece.number


cdef inline int _take_str(Piece* piece, PyObject* string, void* name) except -1:
    """The bytes of a string. They are its own, and stay as long as it does."""
    cdef Py_ssize_t size
    if PyUnicode_CheckExact(string) and PyUnicode_IS_COMPACT_ASCII(string):  # it lies there as it is sent
        size = PyUnicode_GET_LENGTH(string)
        piece.utf8 = <const char*>PyUnicode_DATA(string)
    elif isinstance(<object>string, str):
        # UnicodeEncodeError, a ValueError, for half a surrogate pair
        piece.utf8 = PyUnicode_AsUTF8AndSize(<object>string, &size)
    else:
        raise TypeError(f"{<object>name} is a str, not {type(<object>string).__name__}")
    if size > 0xFFFF:
        raise ValueError(f"{<object>name} has {size} bytes of UTF-8, and 65535 is the most")
    piece.number = size
    return 0


cdef inline int _take_number(Piece* piece, PyObject* number, void* name, FieldKind kind) except -1:
    """A number that its field can carry."""
    cdef long long most = <long long>_MAX_U64 if kind == FIELD_U64 else (<long long>1 << (8 * _width(kind))) - 1
    cdef long long value
    cdef int overflow = 0
    # bool is an int to Python, but JSON would carry it as no number
    if not PyLong_CheckExact(number) and (
        not isinstance(<object>number, int) or isinstance(<object>number, bool)
    ):
        raise TypeError(f"{<object>name} is an int, not {type(<object>number).__name__}")
    value = PyLong_AsLongLongAndOverflow(<object>number, &overflow)
    if overflow or not 0 <= value <= most:
        raise ValueError(f"{<object>name} is from 0 to {most}")
    piece.number = value
    return 0


cdef Py_ssize_t _take_strs(Piece* piece, PyObject* strings, void* name) except -1:
    """How many strings there are; returns how many bytes they take on the wire, their lengths included."""
    cdef Py_ssize_t size = 0
    cdef Piece one
    if not isinstance(<object>strings, tuple):
        raise TypeError(f"{<object>name} is a tuple of str, not {type(<object>strings).__name__}")
    piece.number = len(<tuple>strings)
    if piece.number > 0xFFFF:
        raise ValueError(f"{<object>name} has {piece.number} strings, and 65535 is the most")
    for string in <tuple>strings:
        _take_str(&one, <PyObject*>string, name)
        size += 2 + <Py_ssize_t>one.number
    return size


cdef unsigned char* _put_strs(unsigned char* at, Piece* piece, PyObject* strings, void* name) except NULL:
    cdef Piece one
    at = _put_number(at, piece.number, 2)
    for string in <tuple>strings:
        _take_str(&one, <PyObject*>string, name)
        at = _put_str(at, &one)
    return at


cpdef bytes encode_frame(object message):
    """*message* as one frame. Every message of `MESSAGES` can be encoded, whoever sends it.

    Raises TypeError for what is no message or has a field of the wrong type, and ValueError for a number
    that does not fit its field, a string of more than 65,535 bytes, half a surrogate pair, more than 65,535
    strings, or a frame of more than 2^24 - 1 bytes.
    """
    cdef Row* row = _by_class[_place(Py_TYPE(message))]
    cdef Piece[MAX_FIELDS] pieces
    cdef PyObject* values[MAX_FIELDS]  # borrowed: nothing runs until they are written that could change one
    cdef Py_ssize_t length = 1
    cdef FieldKind kind
    cdef unsigned char* at
    cdef int i
    if row is NULL:
        raise TypeError(f"only a message can be encoded, not {type(message).__name__}")
    for i in range(row.n_fields):
        kind = row.fields[i]
        values[i] = in_slot(message, row.slots[i])
        if values[i] is NULL:
            raise AttributeError(f"{message.type}: {<object>row.names[i]} was never set")
        if kind == FIELD_STR:
            _take_str(&pieces[i], values[i], row.names[i])
            length += 2 + <Py_ssize_t>pieces[i].number
        elif kind == FIELD_STRS:
            length += 2 + _take_strs(&pieces[i], values[i], row.names[i])
        else:
            _take_number(&pieces[i], values[i], row.names[i], kind)
            length += _width(kind)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes, and {MAX_FRAME_BYTES} is the most")

    frame = PyBytes_FromStringAndSize(NULL, HEADER_BYTES + length)
    at = _put_number(<unsigned char*>PyBytes_AS_STRING(frame), length, HEADER_BYTES)
    at = _put_number(at, row.kind, 1)
    for i in range(row.n_fields):
        kind = row.fields[i]
        if kind == FIELD_STR:
            at = _put_str(at, &pieces[i])
        elif kind == FIELD_STRS:
            at = _put_strs(at, &pieces[i], values[i], row.names[i])
        else:
            at = _put_width(at, pieces[i].number, kind)
    return frame
