"""What waits to be sent on one transport: bounded, shared, and written once for each reactor turn.

Publishing appends a reference. At the end of the reactor turn each queue that has something goes out in one
write, straight to the socket; vectored, if what waits is large. That is allowed because of two promises of
Twisted's: a transport whose buffer is empty does not touch the socket for writing, and a pull producer is
called back exactly when the buffer has become empty. So whatever the kernel does not take is given to the
transport in small pieces, and between two pieces the socket is ours again. Where the transport is not a
plain stream socket (TLS, another wrapper, no `sendmsg`), everything goes through `transport.write` with a
push producer.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.time cimport monotonic
from libc.errno cimport EAGAIN, EINTR, ENOBUFS, ENOMEM, errno
from libc.limits cimport LLONG_MIN
from libc.string cimport memcpy, memset

from twisted.internet.interfaces import IPullProducer, IPushProducer
from twisted.logger import Logger
from zope.interface import classImplements

from chatproto.wire.prepared cimport Prepared

__all__ = ["ENTRY_COST_BYTES", "FANOUT_BOUNDS_S", "SendQueue", "Turn"]

cdef extern from *:
    """
    #if defined(_WIN32)
    #define CHATPROTO_HAS_SENDMSG 0
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr { struct iovec *msg_iov; size_t msg_iovlen; };
    #define MSG_DONTWAIT 0
    #define MSG_NOSIGNAL 0
    static Py_ssize_t sendmsg(int fd, const struct msghdr *m, int flags) { return -1; }
    static Py_ssize_t send_bytes(int fd, const void *start, size_t size, int flags) { return -1; }
    static Py_ssize_t unacknowledged_bytes(int fd) { return 0; }
    static long silence_ms(int fd) { return 0; }
    static long round_trip_us(int fd) { return -1; }
    #else
    #define CHATPROTO_HAS_SENDMSG 1
    #include <sys/types.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <sys/ioctl.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    #ifdef __linux__
    #include <linux/sockios.h>
    #endif
    #define send_bytes send
    /* Bytes that the kernel holds for the peer; 0 where it does not say. */
    static Py_ssize_t unacknowledged_bytes(int fd) {
        int waiting = 0;
    #ifdef SIOCOUTQ
        if (ioctl(fd, SIOCOUTQ, &waiting) < 0) waiting = 0;
    #endif
        return waiting;
    }
    /* Since when the peer has acknowledged nothing; 0 where the kernel does not say. */
    static long silence_ms(int fd) {
    #ifdef __linux__
        struct tcp_info info;
        socklen_t size = sizeof(info);
        memset(&info, 0, sizeof(info));
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) return info.tcpi_last_ack_recv;
    #endif
        return 0;
    }
    /* How long a round trip to the peer's machine takes, smoothed; -1 where the kernel does not say. */
    static long round_trip_us(int fd) {
    #ifdef __linux__
        struct tcp_info info;
        socklen_t size = sizeof(info);
        memset(&info, 0, sizeof(info));
        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_rtt) return info.tcpi_rtt;
    #endif
        return -1;
    }
    #endif
    """
    bint HAS_SENDMSG "CHATPROTO_HAS_SENDMSG"
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    Py_ssize_t sendmsg(int fd, const msghdr* message, int flags)
    Py_ssize_t send_bytes(int fd, const void* start, size_t size, int flags)
    Py_ssize_t unacknowledged_bytes(int fd)
    long silence_ms(int fd)
    long round_trip_us(int fd)

cdef enum:
    IOV_MOST = 1024           # IOV_MAX of Linux, and of every system that has sendmsg
    JOINED_BYTES = 65_536     # joined for one write to the socket, at most,
    SMALL_BYTES = 512         # and if they are no larger than that on average: copying is cheaper than a vector
    PIECE_BYTES = 16_384      # given to the transport at a time: little to copy, enough to be woken by
    CHUNK_BYTES = 65_536      # joined for one transport.write
    ENTRY_BYTES = 64          # what an entry costs beside its bytes: the ring's share, the bytes object's head

ENTRY_COST_BYTES = ENTRY_BYTES
"""By so much `SendQueue.queued_bytes` is more, for each entry, than the bytes that will be sent."""

cdef long long NOT_LOOKED = LLONG_MIN  # no mark of any peer's

cdef double[N_FANOUTS - 1] _fanout_bounds_s = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0
]

FANOUT_BOUNDS_S = tuple([_fanout_bounds_s[i] for i in range(N_FANOUTS - 1)])
"""What `Turn.fanouts` is classed by: up to and including each of these seconds, and beyond the last."""

# Used by one flush at a time, under the GIL.
cdef iovec[IOV_MOST] _vector
cdef char[JOINED_BYTES] _joined

_log = Logger(namespace="chatproto.net.sendqueue")


cdef class SendQueue:
    """The send queue of one transport.

    *owner* is told `queueDrained()` when nothing waits any more, if it asked by `notify`; `queueStalled()`
    when the peer took nothing for the turn's `stall_timeout_s`; `queueBroken()` when it can take nothing any
    more, from within whatever was called; `queueFlushed()` once everything is sent after `close`. *form* makes
    bytes of what is published (see `Prepared.encoded`). *handle* is the plain stream socket under the
    transport, or None where it must not be written to directly. *carrier* is then the socket at the bottom, if
    there is one; it is only asked how far the peer is.

    `queued_bytes` counts what waits, with a fixed cost for each entry, so that the bound holds for memory.
    """

    def __cinit__(
        self, transport, owner, Turn turn not None, form, Py_ssize_t max_queued_bytes, handle=None, carrier=None
    ):
        self.transport = transport
        self.owner = owner
        self.turn = turn
        self.form = form
        self.max_queued_bytes = max_queued_bytes
        self.fd = handle.fileno() if handle is not None and HAS_SENDMSG else -1
        self.carrier_fd = carrier.fileno() if carrier is not None else self.fd
        self._ring = &self._only
        self._capacity = 1
        # A pull producer is called at once, which is harmless: nothing waits yet.
        transport.registerProducer(self, self.fd < 0)

    def __dealloc__(self):
        self._clear()  # after which the ring has no memory of its own

    def __len__(self):
        return self._count

    @property
    def direct(self):
        """Whether it writes to the socket itself."""
        return self.fd >= 0

    @property
    def undelivered_bytes(self):
        """What waits, and what the kernel holds until the peer has it."""
        return self.queued_bytes + (unacknowledged_bytes(self.carrier_fd) if self.carrier_fd >= 0 else 0)

    @property
    def delivered_bytes(self):
        """How far the peer is: it grows whenever the peer takes something."""
        return self._taken_bytes - (unacknowledged_bytes(self.carrier_fd) if self.carrier_fd >= 0 else 0)

    @property
    def round_trip_us(self):
        """How long the kernel sees a round trip to the peer take, in microseconds; -1 where it does not say."""
        return round_trip_us(self.carrier_fd) if self.carrier_fd >= 0 else -1

    # --- in -----------------------------------------------------------------------------------------------

    cpdef write(self, bytes data):
        """Queue *data* for this transport alone. It is never dropped, and not refused for the bound."""
        if data and not self._closed:
            self._push(data, None, 0)

    cpdef bint publish(self, Prepared prepared) except -1:
        """Queue what many get, in this queue's form. False, with nothing queued, past the bound.

        A closed queue takes everything and keeps nothing.
        """
        cdef bytes data
        cdef Py_ssize_t cost_bytes
        if prepared is None:
            raise TypeError("there is nothing to publish")
        if self._closed:
            return True
        data = prepared.encoded(self.form)
        if not data or self._closed:  # a form may do anything
            return True
        cost_bytes = PyBytes_GET_SIZE(data) + ENTRY_BYTES
        if self.queued_bytes + cost_bytes > self.max_queued_bytes:
            # A burst within one turn is no slow reader: only what the transport does not take counts.
            if not self.blocked:
                self._offer()
                if self._closed:
                    return True
            if self.queued_bytes + cost_bytes > self.max_queued_bytes:
                return False
        self._push(data, prepared.topic, prepared.position)
        if prepared.topic is not None:
            self.turn._fans_out = True
        return True

    cpdef dict drop(self):
        """Drop what waits and has a topic; the lowest position dropped of each topic.

        What has begun to be sent stays.
        """
        cdef dict firsts = {}
        cdef bint begun = self._sent_of_head_bytes > 0
        cdef Py_ssize_t i, head, mask, count, capacity = 1, kept = 0
        cdef Entry only
        cdef Entry* old
        cdef Entry* ring = &self._only
        cdef Entry* entry
        # What hashes a topic may raise, and what gives one up may run any code. So nothing is touched before
        # the one is done, and everything is in its place before the other begins.
        i = 1 if begun else 0
        while i < self._count:
            entry = &self._ring[(self._head + i) & (self._capacity - 1)]
            if entry.topic is not NULL:
                # Not always the first: after leaving and coming back, older ones may wait behind newer ones.
                lowest = firsts.get(<object>entry.topic)
                if lowest is None or entry.position < lowest:
                    firsts[<object>entry.topic] = entry.position
            i += 1
        if not firsts:
            return firsts
        old, head, mask, count = self._ring, self._head, self._capacity - 1, self._count
        if old is &self._only:  # which is filled anew, perhaps, before it is given up
            only = self._only
            old = &only
        for i in range(count):
            kept += old[(head + i) & mask].topic is NULL or (i == 0 and begun)
        if kept:
            capacity = 4
            while capacity < kept:
                capacity *= 2
            ring = <Entry*>PyMem_Malloc(capacity * sizeof(Entry))
            if ring is NULL:
                raise MemoryError()
        kept = 0
        for i in range(count):
            entry = &old[(head + i) & mask]
            if entry.topic is NULL or (i == 0 and begun):
                ring[kept] = entry[0]
                kept += 1
            else:
                self.queued_bytes -= PyBytes_GET_SIZE(<object>entry.data) + ENTRY_BYTES
                self.turn.queued_bytes -= PyBytes_GET_SIZE(<object>entry.data) + ENTRY_BYTES
        self._ring = ring
        self._capacity = capacity
        self._head = 0
        self._count = kept
        for i in range(count):
            entry = &old[(head + i) & mask]
            if not (entry.topic is NULL or (i == 0 and begun)):
                Py_DECREF(<object>entry.data)
                Py_DECREF(<object>entry.topic)
        if old is not &only:
            PyMem_Free(old)
        return firsts

    def notify(self):
        """Have the owner's `queueDrained` called as soon as nothing waits, in a turn of its own."""
        self._notify = True
        if self._count == 0 and not self.blocked:
            self.turn._enter(self)

    def follow(self):
        """Go on behind what somebody else has written to the transport, and may wait in its buffer.

        To be called as soon as something waits here: the transport takes it, and says when all is out.
        """
        if self.fd >= 0 and self._count and not self.blocked:
            self._wait_for_room()

    def close(self):
        """Take nothing more; the owner's `queueFlushed` is called once everything is sent."""
        if not self._closing:
            self._closing = self._closed = True
            self.turn._enter(self)

    def discard(self):
        """The transport is gone, or is to go at once: forget everything and call nobody any more."""
        self._closed = True
        self._closing = self._notify = False
        self._clear()
        self.fd = self.carrier_fd = -1
        self.turn._unblock(self)
        self.transport = self.owner = None

    # --- out ----------------------------------------------------------------------------------------------

    cpdef flush(self):
        """Give the transport what it takes. The turn calls this; nobody else need."""
        self._in_turn = False
        if self.blocked or self.owner is None:
            return
        self._offer()
        if self._count == 0 and not self.blocked and self.owner is not None:
            self._after_flush()

    cdef bint _hold(self) noexcept:
        """Let what is written from here on wait for `_let_go`, not for the turn; False if it does already."""
        if self._held:
            return False
        self._held = True
        return True

    cdef int _let_go(self) except -1:
        """Write what was written since `_hold`: an answer to who has just been heard, as a rule.

        With others' that wait for the turn's end it waits as well: there may be more to come for it. So does
        what the transport does not take, for what is looked at then.
        """
        self._held = False
        if not self._count or self._in_turn or self.blocked:
            return 0
        if not (self.turn._waiting or self._closing or self._notify):
            try:
                self.flush()
            except Exception:
                _log.failure("a connection could not be written to")
        if self._count:
            self.turn._enter(self)
        return 0

    cdef int _offer(self) except -1:
        if self.fd >= 0:
            self._send()
        elif self.transport is not None:
            self._write_to_transport()
        return 0

    cdef int _send(self) except -1:
        """Writes to the socket until nothing waits or it takes no more."""
        cdef Py_ssize_t i, n, sent, offered
        cdef Entry* entry
        while self._count and not self.blocked:
            n = min(self._count, IOV_MOST)
            offered = 0
            for i in range(n):
                entry = &self._ring[(self._head + i) & (self._capacity - 1)]
                _vector[i].iov_base = PyBytes_AS_STRING(<object>entry.data)
                _vector[i].iov_len = PyBytes_GET_SIZE(<object>entry.data)
                offered += PyBytes_GET_SIZE(<object>entry.data)
            _vector[0].iov_base = <char*>_vector[0].iov_base + self._sent_of_head_bytes
            _vector[0].iov_len -= self._sent_of_head_bytes
            offered -= self._sent_of_head_bytes
            sent = _write_vector(self.fd, n, offered)
            if sent < 0:
                if errno == EINTR:
                    continue
                if errno != EAGAIN and errno != ENOBUFS and errno != ENOMEM:
                    # It ends by itself when the reactor has read what the peer sent before, which it only
                    # does as fast as the owner wants to.
                    self._closed = True
                    self._clear()
                    self.owner.queueBroken()
                    return 0
                sent = 0
            given_up = self._consume(sent)
            if sent < offered:
                return self._wait_for_room()
            given_up = None
        return 0

    cdef int _wait_for_room(self) except -1:
        """Give the transport a piece, so that it says when the socket takes bytes again."""
        cdef Py_ssize_t size
        cdef Entry* head = &self._ring[self._head]
        size = PyBytes_GET_SIZE(<object>head.data) - self._sent_of_head_bytes
        if self._sent_of_head_bytes == 0 and size <= PIECE_BYTES:
            piece = <object>head.data
        else:
            size = min(size, PIECE_BYTES)
            piece = PyBytes_FromStringAndSize(
                PyBytes_AS_STRING(<object>head.data) + self._sent_of_head_bytes, size
            )
        given_up = self._consume(size)
        self.turn._block(self)
        self.transport.write(piece)
        return 0

    cdef int _write_to_transport(self) except -1:
        """Joined chunks to the transport until it says that it has enough."""
        cdef bytes data
        cdef list chunk
        cdef Py_ssize_t size
        while self._count and not self.blocked:
            data = <bytes>self._ring[self._head].data
            size = PyBytes_GET_SIZE(data)
            given_up = self._consume(size)
            if self._count and size < CHUNK_BYTES:
                chunk, given_up = [data], [given_up]
                while self._count and size < CHUNK_BYTES:
                    data = <bytes>self._ring[self._head].data
                    chunk.append(data)
                    size += PyBytes_GET_SIZE(data)
                    given_up.append(self._consume(PyBytes_GET_SIZE(data)))
                data = b"".join(chunk)
            self.transport.write(data)
            given_up = None
        return 0

    cdef int _after_flush(self) except -1:
        if self._closing:
            if not self._flushed:
                self._flushed = True
                self.transport.unregisterProducer()
                if self.owner is not None:
                    self.owner.queueFlushed()
        elif self._notify:
            self._notify = False
            self.owner.queueDrained()
        return 0

    def pauseProducing(self):
        """The transport's buffer is full (IPushProducer)."""
        if self.owner is not None:
            self.turn._block(self)

    def resumeProducing(self):
        """The transport's buffer is empty (IPullProducer, IPushProducer)."""
        if self.owner is None:
            return
        self.blocked = False
        self.turn._unblock(self)
        if self._count or self._closing or self._notify:
            self.flush()

    def stopProducing(self):
        """The transport is gone (IProducer), and the number of its socket may soon be another's."""
        if self.carrier_fd >= 0:
            self.peer_silence_ms = silence_ms(self.carrier_fd)
        self.discard()

    def stalled(self, double now_s, double timeout_s):
        """Whether the peer has taken nothing for *timeout_s*. The turn's sweep calls this."""
        cdef long long mark = self.delivered_bytes
        if mark != self._progress_mark:
            self._progress_mark = mark
            self._progress_s = now_s
            return False
        return now_s - self._progress_s >= timeout_s

    cdef int _report_stall(self) except -1:
        if self.owner is not None:
            self.owner.queueStalled()
        return 0

    # --- the ring -----------------------------------------------------------------------------------------

    cdef int _push(self, bytes data, object topic, long long position) except -1:
        cdef Entry* entry
        if self._count == self._capacity:
            self._grow()
        entry = &self._ring[(self._head + self._count) & (self._capacity - 1)]
        Py_INCREF(data)
        entry.data = <PyObject*>data
        entry.topic = NULL
        if topic is not None:
            Py_INCREF(topic)
            entry.topic = <PyObject*>topic
        entry.position = position
        self._count += 1
        self.queued_bytes += PyBytes_GET_SIZE(data) + ENTRY_BYTES
        self.turn.queued_bytes += PyBytes_GET_SIZE(data) + ENTRY_BYTES
        if not self._in_turn and not self.blocked and not (self._held and topic is None):
            self.turn._enter(self)
        return 0

    cdef int _grow(self) except -1:
        cdef Py_ssize_t i, capacity = max(4, self._capacity * 2)
        cdef Entry* ring = <Entry*>PyMem_Malloc(capacity * sizeof(Entry))
        if ring is NULL:
            raise MemoryError()
        for i in range(self._count):
            ring[i] = self._ring[(self._head + i) & (self._capacity - 1)]
        self._keep_in(ring, capacity)
        return 0

    cdef int _keep_in(self, Entry* ring, Py_ssize_t capacity) noexcept:
        """Let *ring* be the ring, and give up the one before."""
        if self._ring is not &self._only:
            PyMem_Free(self._ring)
        self._ring = ring
        self._capacity = capacity
        self._head = 0
        return 0

    cdef object _shift(self):
        """Remove the head; its topic."""
        cdef object topic = None
        cdef Entry entry = self._ring[self._head]
        self._head = (self._head + 1) & (self._capacity - 1)
        self._count -= 1
        self._sent_of_head_bytes = 0
        self.queued_bytes -= PyBytes_GET_SIZE(<object>entry.data) + ENTRY_BYTES
        if self.turn is not None:  # the collector may have taken it before this
            self.turn.queued_bytes -= PyBytes_GET_SIZE(<object>entry.data) + ENTRY_BYTES
        Py_DECREF(<object>entry.data)
        if entry.topic is not NULL:
            topic = <object>entry.topic
            Py_DECREF(topic)
        if self._count == 0 and self._capacity > 1:
            self._keep_in(&self._only, 1)  # most connections are idle, most of the time
        return topic

    cdef object _consume(self, Py_ssize_t size):
        """*size* bytes from the front are the transport's now; the topics of what is gone.

        Those are to be kept until everything is in its place: what gives one up may run any code.
        """
        cdef Py_ssize_t rest
        cdef object topic
        cdef list topics = None
        self._taken_bytes += size
        self.turn.taken_bytes += size
        while size:
            rest = PyBytes_GET_SIZE(<object>self._ring[self._head].data) - self._sent_of_head_bytes
            if size < rest:
                self._sent_of_head_bytes += size
                break
            size -= rest
            self.turn.n_delivered += self._ring[self._head].topic is not NULL
            topic = self._shift()
            if topics is not None:
                topics.append(topic)
            elif size:
                topics = [topic]
            else:
                return topic
        return topics

    cdef int _clear(self) except -1:
        while self._count:
            self._shift()
        return 0


classImplements(SendQueue, IPullProducer, IPushProducer)


cdef Py_ssize_t _write_vector(int fd, Py_ssize_t n, Py_ssize_t size) noexcept:
    """Write the *n* pieces of the vector, of *size* bytes in all, to *fd*; how many of them, or -1 and errno."""
    cdef msghdr message
    cdef Py_ssize_t i
    cdef char* end = _joined
    if n == 1:
        return send_bytes(fd, _vector[0].iov_base, size, MSG_DONTWAIT | MSG_NOSIGNAL)
    if size <= JOINED_BYTES and size <= n * SMALL_BYTES:
        for i in range(n):
            memcpy(end, _vector[i].iov_base, _vector[i].iov_len)
            end += _vector[i].iov_len
        return send_bytes(fd, _joined, size, MSG_DONTWAIT | MSG_NOSIGNAL)
    memset(&message, 0, sizeof(message))
    message.msg_iov = _vector
    message.msg_iovlen = n
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)


cdef class Turn:
    """Flushes queues once for each reactor turn, and finds those whose peer takes nothing any more.

    One object serves all queues of a reactor. *clock* is an `IReactorTime`; a peer that has taken nothing
    for *stall_timeout_s* while something waits for it is reported to its queue's owner. It looks ten times in
    that time, and not at all while no queue is blocked.

    Where more than `crowded_bytes` wait in all its queues together when a turn ends, `crowded` is called, if
    there is one; `queued_bytes` are as many.

    It counts: `taken_bytes` went to transports, `n_delivered` entries with a topic among them, each once.
    """

    def __cinit__(self, clock, double stall_timeout_s):
        self.clock = clock
        self.stall_timeout_s = stall_timeout_s
        self._waiting = []
        self.blocked = set()

    cdef int _enter(self, SendQueue queue) except -1:
        if queue._in_turn:
            return 0
        if not self._waiting:
            self.clock.callLater(0, self._end)
            self._fans_out = False
            self._begun_s = monotonic()
        queue._in_turn = True
        self._waiting.append(queue)
        return 0

    cdef int _block(self, SendQueue queue) except -1:
        queue.blocked = True
        queue._progress_mark = NOT_LOOKED
        self.blocked.add(queue)
        if self._sweep_call is None:
            self._sweep_call = self.clock.callLater(self.stall_timeout_s / 10, self._sweep)
        return 0

    cdef int _unblock(self, SendQueue queue) except -1:
        self.blocked.discard(queue)
        if not self.blocked and self._sweep_call is not None:
            self._sweep_call.cancel()
            self._sweep_call = None
        return 0

    def _end(self):
        cdef list waiting = self._waiting
        cdef SendQueue queue
        self._waiting = []
        for queue in waiting:
            try:
                queue.flush()
            except Exception:
                _log.failure("a connection could not be written to")
        if self._fans_out:
            self._observe(monotonic() - self._begun_s)
        if self.queued_bytes > self.crowded_bytes and self.crowded is not None:
            self.crowded()

    cdef int _observe(self, double seconds) except -1:
        cdef int i = 0
        while i < N_FANOUTS - 1 and seconds > _fanout_bounds_s[i]:
            i += 1
        self._fanouts[i] += 1
        self.fanout_s += seconds
        return 0

    @property
    def fanouts(self):
        """Turns in which something with a topic was published, in the classes of `FANOUT_BOUNDS_S`: by the
        time from the first entry to when all queues were flushed. `fanout_s` is the sum of these times."""
        return tuple([self._fanouts[i] for i in range(N_FANOUTS)])

    def _sweep(self):
        self._sweep_call = None
        now_s = self.clock.seconds()
        for queue in list(self.blocked):
            try:
                if queue in self.blocked and (<SendQueue>queue).stalled(now_s, self.stall_timeout_s):
                    (<SendQueue>queue)._report_stall()
            except Exception:
                _log.failure("a connection that takes nothing could not be ended")
        if self.blocked and self._sweep_call is None:
            self._sweep_call = self.clock.callLater(self.stall_timeout_s / 10, self._sweep)
