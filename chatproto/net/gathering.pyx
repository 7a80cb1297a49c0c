"""Many sockets for one call of the reactor.

For each socket that is readable Twisted's reactor makes a logging context and calls `fileno`,
`_doReadOrWrite` and `doRead`: a third of what a small message costs. Here the sockets of ports and of their
connections are in an `epoll` descriptor of our own, which is all that the reactor watches. When anything
happens there it is asked once what, and the sockets have their turn from C; what is read of a TCP connection
is read in C, too.

Ports and transports are Twisted's, and are told what the reactor would tell them: half-closes, errors,
exceptions. Only the logging context is made for errors alone: what `dataReceived` gives to the legacy
`log.msg` is not marked with its connection.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t

import os

from twisted.internet import tcp
from twisted.internet.error import ConnectionDone, ConnectionFdescWentAway, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, ILoggingContext, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.posixbase import PosixReactorBase
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import classImplements, directlyProvides, providedBy

__all__ = ["Gathered", "GatheringReactor", "gathering"]

cdef extern from *:
    """
    #ifdef __linux__
    #define CHATPROTO_HAS_EPOLL 1
    #include <sys/epoll.h>
    #include <sys/socket.h>
    #include <unistd.h>
    #else
    #define CHATPROTO_HAS_EPOLL 0
    #include <stdint.h>
    #define EPOLLIN 1
    #define EPOLLOUT 4
    #define EPOLLERR 8
    #define EPOLLHUP 16
    #define EPOLL_CLOEXEC 0
    #define MSG_DONTWAIT 0
    #define EPOLL_CTL_ADD 1
    #define EPOLL_CTL_DEL 2
    #define EPOLL_CTL_MOD 3
    typedef union { uint64_t u64; } epoll_data_t;
    struct epoll_event { uint32_t events; epoll_data_t data; };
    static int epoll_create1(int flags) { return -1; }
    static int epoll_ctl(int epoll, int op, int fd, struct epoll_event *event) { return -1; }
    static int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms) { return -1; }
    static Py_ssize_t recv(int fd, void *buffer, size_t size, int flags) { return -1; }
    static int close(int fd) { return -1; }
    #endif
    """
    bint HAS_EPOLL "CHATPROTO_HAS_EPOLL"
    uint32_t EPOLLIN
    uint32_t EPOLLOUT
    uint32_t EPOLLERR
    uint32_t EPOLLHUP
    int EPOLL_CLOEXEC
    int EPOLL_CTL_ADD
    int EPOLL_CTL_DEL
    int EPOLL_CTL_MOD
    int MSG_DONTWAIT
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int op, int fd, epoll_event* event)
    int epoll_wait(int epoll, epoll_event* events, int most, int timeout_ms)
    Py_ssize_t recv(int fd, void* buffer, size_t size, int flags)
    int close(int fd)

cdef enum:
    AT_ONCE = 512         # sockets that have their turn before the reactor's timers and other descriptors do
    READ_BYTES = 131_072  # taken of a connection at once: a message of 64 KiB and its header are one read

cdef object _PLAIN = tcp.Server
cdef object _DO_READ = tcp.Connection.doRead
cdef object _DATA_RECEIVED = tcp.Connection._dataReceived
cdef dict _FAILURES = {ConnectionDone: Failure(CONNECTION_DONE), ConnectionLost: Failure(CONNECTION_LOST)}


cdef class _Watched:
    """A descriptor and what it waits for. Its number stands for nothing else ever: no event that is still on
    its way when it is removed can be taken for one of what comes after it, with the same `fileno`."""

    cdef object descriptor
    cdef uint64_t number
    cdef uint32_t interest
    cdef int fd
    cdef bint is_plain


cdef class Gathered:
    """Descriptors which the *reactor*, an `IReactorFDSet`, watches as one. While there are none it watches
    nothing. Raises OSError where no epoll descriptor is to be had, and for files that cannot be waited for."""

    cdef object _reactor
    cdef dict _by_descriptor
    cdef dict _by_number
    cdef uint64_t _last_number
    cdef char* _buffer
    cdef int _epoll

    def __cinit__(self, reactor):
        self._epoll = -1
        self._buffer = <char*>PyMem_Malloc(READ_BYTES)
        if self._buffer is NULL:
            raise MemoryError
        self._epoll = epoll_create1(EPOLL_CLOEXEC)
        if self._epoll < 0:
            _raise_errno()
        self._reactor = reactor
        self._by_descriptor = {}
        self._by_number = {}

    def __dealloc__(self):
        PyMem_Free(self._buffer)
        if self._epoll >= 0:
            close(self._epoll)

    # --- what descriptors ask for (IReactorFDSet) ---------------------------------------------------------

    def addReader(self, reader):
        """Call its `doRead` when it is readable."""
        self._add(reader, EPOLLIN)

    def addWriter(self, writer):
        """Call its `doWrite` when it is writable."""
        self._add(writer, EPOLLOUT)

    def removeReader(self, reader):
        """Do so no more."""
        self._remove(reader, EPOLLIN)

    def removeWriter(self, writer):
        """Do so no more."""
        self._remove(writer, EPOLLOUT)

    cdef int _add(self, descriptor, uint32_t event) except -1:
        cdef _Watched watched = self._by_descriptor.get(descriptor)
        if watched is not None:
            if not watched.interest & event:
                self._control(EPOLL_CTL_MOD, watched, watched.interest | event)
            return 0
        watched = _Watched()
        watched.descriptor = descriptor
        watched.fd = descriptor.fileno()
        watched.is_plain = type(descriptor) is _PLAIN and _reads_plainly(descriptor)
        self._last_number += 1
        watched.number = self._last_number
        self._control(EPOLL_CTL_ADD, watched, event)
        self._by_descriptor[descriptor] = self._by_number[watched.number] = watched
        if len(self._by_number) == 1:
            try:
                self._reactor.addReader(self)
            except BaseException:
                self._forget(watched)  # else none that comes later would be the first
                raise
        return 0

    cdef int _remove(self, descriptor, uint32_t event) except -1:
        cdef _Watched watched = self._by_descriptor.get(descriptor)
        if watched is None or not watched.interest & event:
            return 0
        if watched.interest == event:
            self._forget(watched)
        else:
            self._control(EPOLL_CTL_MOD, watched, watched.interest & ~event)
        return 0

    cdef int _control(self, int op, _Watched watched, uint32_t interest) except -1:
        cdef epoll_event asked
        asked.events = interest
        asked.data.u64 = watched.number
        if epoll_ctl(self._epoll, op, watched.fd, &asked) < 0:
            _raise_errno()
        watched.interest = interest
        return 0

    cdef int _forget(self, _Watched watched) except -1:
        cdef epoll_event unused
        watched.interest = 0
        epoll_ctl(self._epoll, EPOLL_CTL_DEL, watched.fd, &unused)  # fails where it was closed before: as well
        del self._by_descriptor[watched.descriptor]
        del self._by_number[watched.number]
        if not self._by_number:
            self._reactor.removeReader(self)
        return 0

    # --- what the reactor watches (IReadDescriptor) -------------------------------------------------------

    def fileno(self):
        """The epoll descriptor, which is readable when something has happened."""
        return self._epoll

    def logPrefix(self):
        """What the legacy log has before a line (ILoggingContext)."""
        return "gathered"

    def doRead(self):
        """Give their turn to those to which something has happened, at most 512: who is left comes first the
        next time. Nothing that one of them raises reaches the others."""
        cdef epoll_event[AT_ONCE] events
        cdef _Watched watched
        cdef int i
        cdef int n = epoll_wait(self._epoll, events, AT_ONCE, 0)
        if n < 0 and errno != EINTR:
            _raise_errno()
        for i in range(n):
            watched = self._by_number.get(events[i].data.u64)
            if watched is not None:  # else one before it, in this turn, has removed it
                try:
                    self._give_turn(watched, events[i].events)
                except BaseException:  # KeyboardInterrupt too: the reactor would end all of them for it
                    log.err()

    cdef int _give_turn(self, _Watched watched, uint32_t event) except -1:
        descriptor = watched.descriptor
        cdef Py_ssize_t size_bytes
        cdef bint is_read = False
        reason = None
        try:
            if event & (EPOLLHUP | EPOLLERR) and not event & EPOLLIN:
                is_read = watched.interest & EPOLLIN
                reason = CONNECTION_DONE if is_read else CONNECTION_LOST
            elif descriptor.fileno() != watched.fd:
                reason = ConnectionFdescWentAway("File descriptor lost")
            else:
                if event & watched.interest & EPOLLIN:
                    if not watched.is_plain:
                        reason = descriptor.doRead()
                    else:
                        size_bytes = recv(watched.fd, self._buffer, READ_BYTES, MSG_DONTWAIT)
                        if size_bytes > 0:
                            data = PyBytes_FromStringAndSize(self._buffer, size_bytes)
                            descriptor.protocol.dataReceived(data)
                        elif size_bytes == 0:
                            reason = CONNECTION_DONE
                        elif errno != EAGAIN and errno != EINTR:
                            reason = CONNECTION_LOST
                    is_read = True
                if not reason and event & watched.interest & EPOLLOUT:
                    reason = descriptor.doWrite()
                    is_read = False
        except BaseException as error:
            reason = error
            log.callWithLogger(descriptor, log.err)
        if reason:
            log.callWithLogger(descriptor, self._end, descriptor, reason, is_read)
        return 0

    def _end(self, descriptor, reason, is_read):
        self.removeReader(descriptor)
        failure = _FAILURES.get(reason.__class__) or Failure(reason)
        if is_read and failure.type is ConnectionDone and IHalfCloseableDescriptor.providedBy(descriptor):
            descriptor.readConnectionLost(failure)
        else:
            self.removeWriter(descriptor)
            descriptor.connectionLost(failure)

    def connectionLost(self, reason):
        """The reactor ends, and all of them with it."""
        cdef _Watched watched
        lost = list(self._by_number.values())
        for watched in lost:
            if watched.interest:
                self._forget(watched)
        for watched in lost:
            log.callWithLogger(watched.descriptor, watched.descriptor.connectionLost, reason)


classImplements(Gathered, IReadDescriptor, ILoggingContext)


cdef bint _reads_plainly(descriptor) except -1:
    """Whether it is read as Twisted's class says, and nothing of that was set on the object.

    To ask for its `__dict__` would make one, which stays.
    """
    return (
        getattr(descriptor.doRead, "__func__", None) is _DO_READ
        and getattr(descriptor._dataReceived, "__func__", None) is _DATA_RECEIVED
        and descriptor.bufferSize is _PLAIN.bufferSize
    )


cdef int _raise_errno() except -1:
    raise OSError(errno, os.strerror(errno))


class GatheringReactor:
    """*reactor*, but that the sockets of ports, and of connections to them, are gathered into one."""

    def __init__(self, reactor):
        self._reactor = reactor
        directlyProvides(self, providedBy(reactor))
        gathered = Gathered(reactor)
        self.addReader = gathered.addReader
        self.addWriter = gathered.addWriter
        self.removeReader = gathered.removeReader
        self.removeWriter = gathered.removeWriter

    def __getattr__(self, name):
        return getattr(self._reactor, name)

    # They make ports for the reactor that they are a method of, which is then this one.
    listenTCP = PosixReactorBase.listenTCP
    listenSSL = PosixReactorBase.listenSSL
    listenUNIX = PosixReactorBase.listenUNIX
    adoptStreamPort = PosixReactorBase.adoptStreamPort


def gathering(reactor):
    """What to listen with in place of *reactor*, for less work with each read of a connection.

    It is for endpoints that listen: `serverFromString(gathering(reactor), "tcp:9001")`. Where there is no
    `epoll`, or *reactor* is none of Twisted's for POSIX, it is *reactor* itself. Raises OSError where no more
    descriptors are to be had.
    """
    return GatheringReactor(reactor) if HAS_EPOLL and isinstance(reactor, PosixReactorBase) else reactor
