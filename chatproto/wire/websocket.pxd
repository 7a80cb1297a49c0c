# The map of the WebSocket engine: frames <-> messages (RFC 6455, section 5).

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from chatproto.wire.framing cimport (
    FIN,
    KEY_BYTES,
    LENGTH_BITS,
    LENGTH_IN_2_BYTES,
    LENGTH_IN_8_BYTES,
    MASK,
    MAX_CONTROL_BYTES,
    MAX_HEADER_BYTES,
    OPCODE_BITS,
    OP_BINARY,
    OP_CLOSE,
    OP_CONTINUATION,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    RSV1,
    RSV2_RSV3,
    is_opcode,
)
from chatproto.wire.payload cimport Utf8

# Bytes being read. All reading goes through `_take` and `_peek`, which check the bound.
cdef struct Cursor:
    const unsigned char* at
    const unsigned char* end


# Bytes being gathered: a bytes object with room to spare, which nobody sees before it is cut to size.
cdef struct Growing:
    PyObject* data            # owned: bytes; NULL while nothing is gathered
    Py_ssize_t used_bytes


cdef class Event:
    cdef readonly object opcode      # a member of Opcode
    cdef readonly object data        # str of TEXT and CLOSE, bytes of all others
    cdef readonly int code           # of CLOSE, 1005 where the frame had none; 0 for all others
    cdef unsigned char kind          # the opcode, for C


cdef class WebSocketDecoder:
    cdef readonly Py_ssize_t max_message_bytes
    cdef readonly Py_ssize_t max_frame_bytes
    cdef readonly object fault       # None, or the CloseFault that ended the stream
    cdef object _inflate             # None: RSV1 has no meaning

    # the message: from the first frame of it to the last
    cdef Growing _message            # what came of it, inflated
    cdef Py_ssize_t _announced_bytes  # the lengths of its frames, up to the present one
    cdef Utf8 _utf8                  # where its text stands
    cdef unsigned char _opcode       # TEXT or BINARY; CONTINUATION between messages
    cdef unsigned char _compressed

    # the frame
    cdef unsigned char[MAX_HEADER_BYTES] _header
    cdef unsigned char _kept_bytes   # how much of a cut header is in `_header`
    cdef unsigned char _first        # its first byte: FIN, RSV1 and the opcode
    cdef unsigned char[KEY_BYTES] _key
    cdef unsigned char _key_offset   # the byte of the key that comes next
    cdef unsigned char _in_payload   # the header is read, the payload is not
    cdef Growing _payload            # of a control frame or a compressed one, which are read whole
    cdef Py_ssize_t _missing_bytes   # of its payload

    cdef unsigned char _masked       # frames must be masked; else they must not
    cdef unsigned char _receiving    # inside `receive`, which may call *inflate*
    cdef unsigned char _ended        # by a fault or a close frame: nothing is read any more

    # bytes in, events out
    cpdef list receive(self, object data)

    # one step each
    cdef int _walk(self, Cursor* cursor, list events) except -1
    cdef bint _read_header(self, Cursor* cursor) except -1
    cdef const unsigned char* _peek(self, Cursor* cursor, int size) noexcept
    cdef str _wrong_start(self, unsigned char first, unsigned char second)
    cdef bint _judge_length(self, unsigned char first, int width, uint64_t length) except -1
    cdef int _open_frame(self, const unsigned char* header, int key_at, Py_ssize_t length) except -1
    cdef bint _read_payload(self, Cursor* cursor, list events) except -1

    # payload
    cdef bint _unmask(self, unsigned char* out, const unsigned char* at, Py_ssize_t size) noexcept
    cdef bytes _binary(self, const unsigned char* at, Py_ssize_t size)
    cdef str _text(self, const unsigned char* at, Py_ssize_t size)
    cdef bytes _gather(self, const unsigned char* at, Py_ssize_t size)
    cdef int _stream(self, const unsigned char* at, Py_ssize_t size) except -1
    cdef int _check_text(self, const unsigned char* at, Py_ssize_t size) except -1

    # frames and messages that are complete
    cdef int _deliver_control(self, int opcode, bytes payload, list events) except -1
    cdef int _deliver_close(self, bytes payload, list events) except -1
    cdef int _deliver(self, object data, list events) except -1
    cdef int _deliver_message(self, list events) except -1
    cdef int _inflate_frame(self, bytes payload) except -1
    cdef int _take_inflated(self, object inflated) except -1

    # the end
    cdef int _fail(self, object code, str reason) except -1
    cdef int _end(self) except -1
