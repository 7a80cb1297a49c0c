# What waits to be sent on each transport, and the turn in which it goes out.

from cpython.object cimport PyObject

from chatproto.wire.prepared cimport Prepared


# One buffer that waits. `topic` is NULL for what must not be dropped.
cdef struct Entry:
    PyObject* data            # owned: bytes, shared with every other queue that has it
    PyObject* topic           # owned
    long long position


cdef class SendQueue:
    # where it goes
    cdef object transport
    cdef object owner         # told of `queueDrained`, `queueStalled`, `queueBroken`, `queueFlushed`
    cdef Turn turn
    cdef public object form   # what makes bytes of what is published
    cdef int fd               # the socket to write to, or -1: `transport.write` is the way
    cdef int carrier_fd       # the socket to ask how far the peer is, or -1

    # what waits, a ring
    cdef Entry* _ring         # `_only` as long as that suffices; memory of its own is not kept empty
    cdef Entry _only
    cdef Py_ssize_t _capacity  # a power of two
    cdef Py_ssize_t _head
    cdef Py_ssize_t _count
    cdef Py_ssize_t _sent_of_head_bytes
    cdef readonly Py_ssize_t queued_bytes
    cdef readonly Py_ssize_t max_queued_bytes

    # where it stands
    cdef unsigned char _in_turn  # flushed at the end of this turn
    cdef unsigned char _held  # what is written now goes out when it is let go
    cdef readonly bint blocked  # the transport takes no more until it says so
    cdef unsigned char _notify  # the owner wants to hear when nothing waits any more
    cdef unsigned char _closing  # the owner wants to hear when everything is flushed
    cdef unsigned char _flushed  # the owner has heard it
    cdef unsigned char _closed  # nothing is taken any more
    cdef long long _taken_bytes  # what the transport took, ever
    cdef long long _progress_mark  # how far the peer was when the sweep last looked
    cdef double _progress_s   # when it was last seen further
    cdef readonly long peer_silence_ms  # before the transport went, if the kernel knows; else 0

    # in
    cpdef write(self, bytes data)
    cpdef bint publish(self, Prepared prepared) except -1
    cpdef dict drop(self)
    # out
    cpdef flush(self)
    cdef bint _hold(self) noexcept
    cdef int _let_go(self) except -1
    cdef int _offer(self) except -1
    cdef int _send(self) except -1
    cdef int _write_to_transport(self) except -1
    cdef int _wait_for_room(self) except -1
    cdef int _after_flush(self) except -1
    cdef int _report_stall(self) except -1
    # the ring
    cdef int _push(self, bytes data, object topic, long long position) except -1
    cdef int _keep_in(self, Entry* ring, Py_ssize_t capacity) noexcept
    cdef int _grow(self) except -1
    cdef object _shift(self)
    cdef object _consume(self, Py_ssize_t size)
    cdef int _clear(self) except -1


cdef enum:
    N_FANOUTS = 14            # how long turns took, in so many classes


cdef class Turn:
    cdef readonly object clock
    cdef list _waiting        # queues that something was added to in this turn
    cdef public object crowded  # called at the end of a turn in which more than that waits
    cdef public Py_ssize_t crowded_bytes
    cdef readonly set blocked  # queues whose transport takes no more
    cdef object _sweep_call
    cdef readonly double stall_timeout_s

    # what is counted, for whoever asks
    cdef readonly Py_ssize_t queued_bytes  # in all its queues
    cdef readonly long long n_delivered
    cdef readonly long long taken_bytes
    cdef readonly double fanout_s
    cdef long long _fanouts[N_FANOUTS]
    cdef bint _fans_out       # something that has a topic was published in this turn
    cdef double _begun_s

    cdef int _enter(self, SendQueue queue) except -1
    cdef int _block(self, SendQueue queue) except -1
    cdef int _unblock(self, SendQueue queue) except -1
    cdef int _observe(self, double seconds) except -1
