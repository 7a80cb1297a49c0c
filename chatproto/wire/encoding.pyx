"""WebSocket frames to send (RFC 6455, section 5): headers, whole frames, masked ones, payloads of close frames.

Section numbers in the comments are those of RFC 6455.
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from chatproto.wire.framing cimport (
    FIN,
    KEY_BYTES,
    LENGTH_IN_2_BYTES,
    LENGTH_IN_8_BYTES,
    MASK,
    MAX_CONTROL_BYTES,
    MAX_HEADER_BYTES,
    OP_BINARY,
    OP_CLOSE,
    OP_TEXT,
    RSV1,
    is_opcode,
)
from chatproto.wire.payload cimport masked

from chatproto.wire.closing import is_valid_close_code

__all__ = ["encode_close", "encode_frame", "encode_header", "encode_masked", "encode_message"]

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int*) except? -1
    bint PyUnicode_IS_ASCII(object)
    const char* PyUnicode_DATA(object)

cdef Py_ssize_t _MAX_REASON_BYTES = MAX_CONTROL_BYTES - 2
cdef Py_ssize_t _KEYS_BYTES = 4_096

cdef bytes _keys = b""  # random bytes, got many at once
cdef Py_ssize_t _used_key_bytes = 0


def _forget_keys():
    """A forked process must not mask with the keys of its parent."""
    global _keys, _used_key_bytes
    _keys = b""
    _used_key_bytes = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_keys)


cdef int _put_key(unsigned char* at, object key) except -1:
    """Write *key*, or one from the system's random source (5.3)."""
    global _keys, _used_key_bytes
    if key is not None:
        if not isinstance(key, bytes):
            raise TypeError(f"key is bytes, not {type(key).__name__}")
        if PyBytes_GET_SIZE(key) != KEY_BYTES:
            raise ValueError(f"key has {KEY_BYTES} bytes, not {PyBytes_GET_SIZE(key)}")
        memcpy(at, PyBytes_AS_STRING(key), KEY_BYTES)
        return 0
    if PyBytes_GET_SIZE(_keys) - _used_key_bytes < KEY_BYTES:
        _keys = os.urandom(_KEYS_BYTES)
        _used_key_bytes = 0
    memcpy(at, PyBytes_AS_STRING(_keys) + _used_key_bytes, KEY_BYTES)
    _used_key_bytes += KEY_BYTES
    return 0


cdef int _check_frame(int opcode, uint64_t length, bint fin, bint rsv1) except -1:
    """Raise ValueError for a frame that no peer would take."""
    if not is_opcode(opcode):
        raise ValueError(f"{opcode} is no opcode")
    if rsv1 and opcode not in (OP_TEXT, OP_BINARY):
        raise ValueError("RSV1 is for the first frame of a message")
    if opcode & OP_CLOSE:
        if not fin:
            raise ValueError("a control frame is not fragmented")
        if length > MAX_CONTROL_BYTES:
            raise ValueError(f"a control frame of {length} bytes, and {MAX_CONTROL_BYTES} is the most")
    return 0


cdef int _put_header(
    unsigned char* at, int opcode, uint64_t length, bint fin, bint rsv1, bint mask
) noexcept:
    """Write a header without its key, at most 10 bytes; how many they are."""
    cdef int width = 0 if length < LENGTH_IN_2_BYTES else 2 if length < 0x10000 else 8
    cdef int said = <int>length if not width else LENGTH_IN_2_BYTES if width == 2 else LENGTH_IN_8_BYTES
    cdef int i
    at[0] = (FIN if fin else 0) | (RSV1 if rsv1 else 0) | opcode
    at[1] = (MASK if mask else 0) | said
    for i in range(width):
        at[2 + i] = (length >> (8 * (width - 1 - i))) & 0xFF
    return 2 + width


cpdef bytes encode_header(int opcode, object length, bint fin=True, bint rsv1=False):
    """The header of a server's frame, to be sent before a payload of *length* bytes, which is not copied.

    *rsv1* marks the first frame of a compressed message. Raises ValueError for a frame that no peer would
    take: a reserved opcode, a control frame in fragments or of more than 125 bytes, RSV1 on anything but a
    first frame, a length that is negative or of 2^63 and more.
    """
    cdef unsigned char[MAX_HEADER_BYTES] header
    cdef int overflow = 0
    cdef long long size = PyLong_AsLongLongAndOverflow(length, &overflow)
    if overflow or size < 0:
        raise ValueError(f"a length is from 0 to 2^63 - 1, not {length}")
    _check_frame(opcode, size, fin, rsv1)
    return PyBytes_FromStringAndSize(<char*>header, _put_header(header, opcode, size, fin, rsv1, False))


cdef bytes _encoded(int opcode, object payload, bint fin, bint rsv1, bint mask, object key):
    cdef unsigned char[MAX_HEADER_BYTES] header
    cdef int header_bytes
    cdef unsigned char* out
    cdef Py_buffer view
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        _check_frame(opcode, view.len, fin, rsv1)
        header_bytes = _put_header(header, opcode, view.len, fin, rsv1, mask)
        if mask:
            _put_key(header + header_bytes, key)
            header_bytes += KEY_BYTES
        frame = PyBytes_FromStringAndSize(NULL, header_bytes + view.len)
        out = <unsigned char*>PyBytes_AS_STRING(frame)
        memcpy(out, header, header_bytes)
        if mask:
            masked(
                out + header_bytes,
                <const unsigned char*>view.buf,
                view.len,
                header + header_bytes - KEY_BYTES,
                0,
            )
        elif view.len:
            memcpy(out + header_bytes, view.buf, view.len)
    finally:
        PyBuffer_Release(&view)
    return frame


cpdef bytes encode_frame(int opcode, object payload, bint fin=True, bint rsv1=False):
    """A server's frame: `encode_header` and *payload* (bytes, bytearray or memoryview) behind it.

    That a text is UTF-8 is the caller's to know. Raises ValueError as `encode_header`.
    """
    return _encoded(opcode, payload, fin, rsv1, False, None)


cpdef bytes encode_message(object message):
    """A server's frame that is a whole message: TEXT of a str, BINARY of bytes.

    Raises UnicodeEncodeError for half a surrogate pair, TypeError for anything else.
    """
    if type(message) is bytes:
        return _put_together(OP_BINARY, PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
    if not isinstance(message, str):
        raise TypeError(f"a message is a str or bytes, not {type(message).__name__}")
    if PyUnicode_IS_ASCII(message):  # it lies there as it is sent
        return _put_together(OP_TEXT, PyUnicode_DATA(message), len(<str>message))
    utf8 = (<str>message).encode()
    return _put_together(OP_TEXT, PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8))


cdef bytes _put_together(int opcode, const char* payload, Py_ssize_t size):
    cdef unsigned char[MAX_HEADER_BYTES] header
    cdef int header_bytes = _put_header(header, opcode, size, True, False, False)
    frame = PyBytes_FromStringAndSize(NULL, header_bytes + size)
    memcpy(PyBytes_AS_STRING(frame), header, header_bytes)
    memcpy(PyBytes_AS_STRING(frame) + header_bytes, payload, size)
    return frame


cpdef bytes encode_masked(int opcode, object payload, bint fin=True, bint rsv1=False, object key=None):
    """A client's frame, masked with *key* (4 bytes), or with one that nobody can predict where it is None.

    Raises ValueError as `encode_header`, and for a key of another length.
    """
    return _encoded(opcode, payload, fin, rsv1, True, key)


cpdef bytes encode_close(object code, str reason=""):
    """The payload of a close frame; empty where *code* is None.

    Raises ValueError for a code that never travels, a reason without a code, and a reason of more than 123
    bytes of UTF-8 or with half a surrogate pair; TypeError for a code that is no int or a reason that is no
    str.
    """
    cdef bytes utf8
    if reason is None:
        raise TypeError("reason is a str, not None")
    utf8 = reason.encode()
    if code is None:
        if utf8:
            raise ValueError("a reason without a code")
        return b""
    if not isinstance(code, int):
        raise TypeError(f"code is an int, not {type(code).__name__}")
    if not is_valid_close_code(code):
        raise ValueError(f"{int(code)} is no code that a close frame carries")
    if len(utf8) > _MAX_REASON_BYTES:
        raise ValueError(f"a reason of {len(utf8)} bytes, and {_MAX_REASON_BYTES} is the most")
    return int(code).to_bytes(2, "big") + utf8
