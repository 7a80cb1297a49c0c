# The map of a WebSocket connection's hot half: what stands between a read and the application, and back.

from chatproto.net.sendqueue cimport SendQueue
from chatproto.wire.prepared cimport Prepared
from chatproto.wire.websocket cimport Event


cdef class Passage:
    cdef public SendQueue queue       # what waits for the peer; None before there is a transport
    cdef public object opening        # of the opening handshake; None once that is over
    cdef public object _application
    cdef public object _connection    # WebSocketConnection
    cdef public object _connections   # what it has in common with others
    cdef public object _content       # makes a message of what a Prepared holds; None: it is one
    cdef public object _pending       # a deque of events that are not delivered yet, or None
    cdef public object _unread        # a deque of the bytes that come behind them, or None
    cdef public object _ping          # the one that is to be answered, and when it was sent
    cdef public object rtt_s
    cdef public Py_ssize_t _high_water_bytes
    cdef public unsigned char _paused  # why nothing is read, as bits
    cdef public bint _filled
    cdef public bint _heard           # anything, since the last look
    cdef public bint _inflates
    cdef public bint _sends_plainly   # a server's frames, not compressed
    cdef public bint _silenced        # the application is to get no more messages

    # in
    cdef int _receive(self, data) except -1
    cdef list _events(self, data)
    cpdef _work(self)
    cdef object _next_events(self)
    cdef int _deliver(self, Event event) except -1
    cdef int _after_receiving(self) except -1
    # out
    cdef int _send(self, message) except -1
    cpdef send(self, Prepared message)
