"""The newest messages of rooms in memory, bounded for each room and for all of them together.

Every message passes here, in memory as in a file, so this is compiled.
"""

from collections import OrderedDict
from dataclasses import replace

import cython

__all__ = ["Recent", "Remembered", "cost_bytes", "take_bytes", "text_cost_bytes"]

cdef enum:
    ENVELOPE_BYTES = 400      # what a message takes in memory beside its text


@cython.final
@cython.auto_pickle(False)
cdef class Remembered:
    """The messages of one room: a list whose front is cut off now and then, so that any slice is cheap.

    `last` is the newest sequence number that there was, kept or not; `count` says how many are kept.
    """

    cdef readonly long long last
    cdef readonly long long count
    cdef readonly long long bytes
    cdef list _chats
    cdef Py_ssize_t _start            # of what is kept, in _chats

    def __cinit__(self, long long last):
        self.last = last
        self._chats = []

    @property
    def first(self):
        """The oldest sequence number that is kept; the next to come if none is."""
        return self._first()

    cdef long long _first(self) noexcept:
        return self.last - self.count + 1

    cdef long long add(self, object chat) except -1:
        """Keep the next message; the bytes that this takes."""
        cdef long long added_bytes = cost_bytes(chat)
        self._chats.append(chat)
        self.last = chat.seq
        self.count += 1
        self.bytes += added_bytes
        return added_bytes

    cdef long long forget_oldest(self) except -1:
        """Drop one message; the bytes that this gave back."""
        cdef long long freed_bytes
        chat = self._chats[self._start]
        self._chats[self._start] = None
        self._start += 1
        if self._start * 2 > len(self._chats):
            del self._chats[: self._start]
            self._start = 0
        freed_bytes = cost_bytes(chat)
        self.count -= 1
        self.bytes -= freed_bytes
        return freed_bytes

    cpdef object get(self, long long seq):
        """One message, if it is kept."""
        return self._chats[self._start + seq - self._first()] if self._first() <= seq <= self.last else None

    cdef long long replace(self, object chat) except? -1:
        """Keep *chat* in place of the message of that number; the bytes that this takes, or gives back."""
        cdef Py_ssize_t index = self._start + chat.seq - self._first()
        cdef long long added_bytes = cost_bytes(chat) - cost_bytes(self._chats[index])
        self._chats[index] = chat
        self.bytes += added_bytes
        return added_bytes

    def slice(self, long long first, long long last, long long max_bytes):
        """What is kept from *first* to *last*, cut off past *max_bytes*, but at least one if there is one."""
        cdef long long oldest = self._first()
        cdef long long size_bytes = 0
        cdef Py_ssize_t index
        cdef list found = []
        for index in range(
            self._start + max(first, oldest) - oldest, self._start + min(last, self.last) - oldest + 1
        ):
            chat = self._chats[index]
            found.append(chat)
            size_bytes += cost_bytes(chat)
            if size_bytes >= max_bytes:
                break
        return found


@cython.final
@cython.auto_pickle(False)
cdef class Recent:
    """Keeps the bounds of many rooms; past that of all together the room silent for longest gives way."""

    cdef object _limits
    cdef object _filled               # an OrderedDict, the one silent for longest first
    cdef long long _bytes

    def __cinit__(self, limits):
        self._limits = limits
        self._filled = OrderedDict()

    def add(self, object room, Remembered remembered not None, chat):
        """Keep the next message of *room*."""
        cdef Remembered its
        limits = self._limits
        self._bytes += remembered.add(chat)
        self._filled[room] = remembered
        self._filled.move_to_end(room)
        while remembered.count > limits.max_room_log_messages or (
            remembered.bytes > limits.max_room_log_bytes and remembered.count
        ):
            self._bytes -= remembered.forget_oldest()
        if not remembered.bytes:
            del self._filled[room]
        while self._bytes > limits.max_log_bytes:
            silent = next(iter(self._filled))
            its = self._filled[silent]
            self._bytes -= its.forget_oldest()
            if not its.bytes:
                del self._filled[silent]

    def replace(self, Remembered remembered not None, long long seq, object text):
        """Have *text* in place of a message's; whether that is kept."""
        chat = remembered.get(seq)
        if chat is None:
            return False
        self._bytes += remembered.replace(replace(chat, text=text))
        return True

    def forget_before(self, object room, Remembered remembered not None, long long seq):
        """Drop what *room* has below *seq*."""
        while remembered.count and remembered._first() < seq:
            self._bytes -= remembered.forget_oldest()
        if not remembered.bytes:
            self._filled.pop(room, None)

    def forget(self, object room, Remembered remembered not None):
        """*room* is kept no more."""
        self._bytes -= remembered.bytes
        self._filled.pop(room, None)


cpdef long long text_cost_bytes(object text) except -1:
    """About what a message takes in memory: its text (up to 4 bytes a character), its fields, its place."""
    return ENVELOPE_BYTES + (len(text) if text.isascii() else 4 * len(text))


cpdef long long cost_bytes(object chat) except -1:
    """The same of a message that has its number."""
    return text_cost_bytes(chat.text)


def take_bytes(chats, long long max_bytes):
    """The first of *chats*, cut off past *max_bytes*, but at least one if there is one."""
    cdef list found = []
    cdef long long size_bytes = 0
    for chat in chats:
        found.append(chat)
        size_bytes += cost_bytes(chat)
        if size_bytes >= max_bytes:
            break
    return found
