# The map of the frame engine: length-prefixed frames <-> messages (docs/protocol.md, sections 1 and 2).

from cpython.object cimport PyTypeObject
from libc.stdint cimport uint64_t

cdef enum:
    HEADER_BYTES = 4          # length:u32, big-endian; counts the kind and the payload
    MAX_FIELDS = 6
    MAX_FRAME_BYTES = 0xFFFFFF  # so that the first byte of a connection that speaks frames is 0x00


cdef enum FieldKind:          # how a field travels; the values are this module's own
    FIELD_U8
    FIELD_U16
    FIELD_U32
    FIELD_U64
    FIELD_STR
    FIELD_STRS


# One row of the table of messages, as the codec walks it. Rows live as long as the process.
cdef struct Row:
    PyTypeObject* cls         # NULL: there is no such kind
    unsigned char kind
    int n_fields
    FieldKind fields[MAX_FIELDS]
    Py_ssize_t slots[MAX_FIELDS]
    void* names[MAX_FIELDS]   # borrowed: the interned name of each field


# What a field is on the wire. Of an array of strings only how many they are.
cdef struct Piece:
    uint64_t number           # itself, or of how many bytes
    const char* utf8          # those of a string, which they belong to


# A payload being read. All reading goes through `_take`, which checks the bound.
cdef struct Cursor:
    const unsigned char* at
    const unsigned char* end


cdef class FrameDecoder:
    cdef readonly Py_ssize_t max_frame_bytes
    cdef readonly object fault       # None, or the ProtocolError that ended the stream
    cdef bint _strict                # a server: unknown kinds and surplus bytes are faults
    cdef bytearray _tail             # the one frame that has begun and not ended; None between frames
    cdef Py_ssize_t _missing_bytes   # how many bytes the tail needs before it can be looked at again

    # bytes in, messages out
    cpdef list receive(self, object data)

    # one step each
    cdef int _walk(self, const unsigned char* data, Py_ssize_t size, list messages) except -1
    cdef int _start(self, const unsigned char* data, Py_ssize_t size) except -1
    cdef Py_ssize_t _fill(self, const unsigned char* data, Py_ssize_t size) except -1
    cdef Py_ssize_t _length(self, const unsigned char* header) except -1
    cdef int _deliver(self, const unsigned char* payload, Py_ssize_t size, list messages) except -1
    cdef int _fail(self, object code, str reason) except -1


cpdef bytes encode_frame(object message)
