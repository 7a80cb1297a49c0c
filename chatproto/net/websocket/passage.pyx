"""The hot half of a WebSocket connection: from a read to the application, and from a message to the queue.

What every message passes is here, and compiled; whatever comes once in a connection's life is in its
subclasses. The state of the connection stands in one place, the `WebSocketConnection`, and is asked there.
"""

from collections import deque

from chatproto.net.sendqueue cimport SendQueue
from chatproto.wire.encoding cimport encode_message
from chatproto.wire.framing cimport OP_BINARY, OP_TEXT
from chatproto.wire.prepared cimport Prepared
from chatproto.wire.websocket cimport Event, WebSocketDecoder

from chatproto.wire.connection import WHOLE_BYTES, State

__all__ = ["BEHIND", "BYTES_PER_TURN", "EVENTS_PER_TURN", "Passage", "broadcast"]

EVENTS_PER_TURN = 100
"""Messages of one peer that the application is given before other connections have their turn."""

BYTES_PER_TURN = 1_048_576
"""And about so many bytes of them."""

cdef Py_ssize_t INFLATED_AT_A_TIME = 2_048  # compressed; the application then has what came: a thousandfold

BEHIND = 4
"""The bit of what is paused that says: messages wait for their turn."""

cdef object _OPEN = State.OPEN
cdef Py_ssize_t _WHOLE_BYTES = WHOLE_BYTES


cdef class Passage:
    """What messages of an open connection pass. A subclass is the rest of the connection."""

    @property
    def is_open(self):
        """Whether messages can be sent, for all that is known here."""
        return self._connection.state is _OPEN

    # --- in -----------------------------------------------------------------------------------------------

    def dataReceived(self, data):
        """Take bytes in, in any cut (IProtocol).

        What is sent meanwhile to this peer alone goes out at the end, without waiting for the turn's.
        """
        cdef SendQueue queue = self.queue
        cdef bint is_first
        if queue is None:
            raise RuntimeError("nothing can come before there is a transport")
        is_first = queue._hold()
        try:
            if self.opening is not None:
                self.opening.receive(data)
            else:
                self._heard = True
                self._receive(data)
        finally:
            if is_first:
                queue._let_go()

    cdef int _receive(self, data) except -1:
        cdef list events
        if self._pending is None and not self._inflates and not self._paused:
            events = self._events(data)
            if len(events) == 1:
                self._deliver(<Event>events[0])
            elif events:
                self._pending = deque(events)
                self._work()
                return 0
            return self._after_receiving()
        if self._unread is None:
            self._unread = deque()
        self._unread.append(memoryview(data))
        if not self._paused:
            self._work()
        return 0

    cdef list _events(self, data):
        """What *data* completes, and the application gets."""
        cdef WebSocketDecoder decoder
        cdef list events
        cdef Event event
        connection = self._connection
        if connection.state is not _OPEN or connection.ending is not None:
            return connection.receive(data)
        decoder = connection.decoder
        events = decoder.receive(data)
        if decoder.fault is not None:
            return connection.judge(events)
        for event in events:
            if event.kind > OP_BINARY:
                return connection.judge(events)
        return events

    cpdef _work(self):
        """Give the application what has come, as much as one turn has room for.

        What is inflated takes room too: there may be no message in it, or none that anybody gets.
        """
        cdef Py_ssize_t left_events = EVENTS_PER_TURN, left_bytes = BYTES_PER_TURN
        cdef Event event
        connection = self._connection
        while not self._paused:
            pending = self._pending
            if (left_events <= 0 or left_bytes <= 0) and (pending or self._unread):
                self._pause(BEHIND)
                self._connections.clock.callLater(0, self._go_on)
                break
            if not pending:
                left_bytes += connection.inflated_bytes
                self._pending = self._next_events()
                left_bytes -= connection.inflated_bytes
                if self._pending is None:
                    break
                continue
            event = <Event?>pending.popleft()
            left_events -= 1
            left_bytes -= len(event.data)
            self._deliver(event)
        self._after_receiving()

    cdef object _next_events(self):
        """The events of the next unread bytes, perhaps none; None when all bytes are read."""
        unread = self._unread
        if not unread or self._connection.is_over or self._connection.ending is not None:
            self._unread = None
            return None
        piece = unread.popleft()
        if self._inflates and len(piece) > INFLATED_AT_A_TIME:
            unread.appendleft(piece[INFLATED_AT_A_TIME:])
            piece = piece[:INFLATED_AT_A_TIME]
        return deque(self._events(piece))

    cdef int _deliver(self, Event event) except -1:
        """Tell the application of one message or pong."""
        application = self._application
        if self._silenced or application is None:
            return 0
        try:
            if event.kind == OP_TEXT:
                application.textMessageReceived(event.data)
            elif event.kind == OP_BINARY:
                application.bytesMessageReceived(event.data)
            elif not event.data.startswith(self._connections.ping_mark):
                application.pongReceived(event.data)
            elif self._ping is not None and event.data == self._ping[0]:
                self.rtt_s = self._connections.clock.seconds() - self._ping[1]
                self._ping = b"", self._ping[1]  # measured
        except Exception:
            self._application_raised(f"{event.opcode.name} message")
        return 0

    cdef int _after_receiving(self) except -1:
        connection = self._connection
        if connection.state is _OPEN:
            if connection.ending is not None:
                self._peer_ended()
            elif self.queue.queued_bytes > self._high_water_bytes and not self._filled:
                self._fill()  # of pongs
        elif connection.is_over and not self._pending:
            self._begin_closing()
        return 0

    # --- out ----------------------------------------------------------------------------------------------

    def sendTextMessage(self, text):
        """Send a text message. Raises UnicodeEncodeError for half a surrogate pair."""
        if not isinstance(text, str):
            raise TypeError(f"a text message is a str, not {type(text).__name__}")
        self._send(text)

    def sendBytesMessage(self, data):
        """Send a binary message. Bytes are not copied; what can change is."""
        if isinstance(data, str):
            raise TypeError("a binary message is bytes, not str")
        self._send(data)

    cdef int _send(self, message) except -1:
        if (
            self._sends_plainly
            and (type(message) is bytes or type(message) is str)
            and len(message) <= _WHOLE_BYTES
            and self._connection.state is _OPEN
        ):
            self.queue.write(encode_message(message))
        else:
            self._connection.send(message)
        if self.queue.queued_bytes > self._high_water_bytes:
            self._fill()
        return 0

    cpdef send(self, Prepared message):
        """Send what many are sent; it is encoded, and compressed, once for all of a class (`broadcast`)."""
        cdef SendQueue queue = self.queue
        if self._connection.state is not _OPEN:
            self._connection.send(message.source)  # which is without effect, or too early
        elif queue.form is not None:
            queue.write(message.encoded(queue.form))
        else:
            self._connection.send(message.source if self._content is None else self._content(message.source))
        if queue.queued_bytes > self._high_water_bytes:
            self._fill()


def broadcast(transports, message):
    """Send *message* to all of *transports*; it is encoded once for each class of them, and compressed once.

    It waits for nobody: it goes out at the end of the reactor's turn, and a connection that takes too little
    of it is broken as too slow, by itself. One whose opening handshake is not over is left out.
    """
    cdef Prepared prepared = message if isinstance(message, Prepared) else Prepared(message)
    cdef Passage passage
    for transport in list(transports):
        passage = <Passage?>transport
        if passage._connection.state is _OPEN:
            passage.send(prepared)
