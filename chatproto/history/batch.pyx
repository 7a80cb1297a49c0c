"""A batch of messages that are to be kept: what the writer does with each of them.

It is compiled, as the writer has the interpreter while it computes, for which those wait who tell people of
messages.
"""

import cython
from cpython.object cimport PyTypeObject

from chatproto.wire.slots cimport fill_slot, leaf_of, slot_of

from chatproto.history.file import MOST_SEQ, SEQ_BITS
from chatproto.rooms.log import NotStored, Receipt
from chatproto.wire.messages import Chat

__all__ = ["Numbers", "Said", "give_numbers", "recognise"]

cdef long long _MOST_SEQ = MOST_SEQ
cdef int _SEQ_BITS = SEQ_BITS
cdef Py_ssize_t _room = slot_of(Chat, "room")
cdef Py_ssize_t _seq = slot_of(Chat, "seq")
cdef Py_ssize_t _time = slot_of(Chat, "time")
cdef Py_ssize_t _nick = slot_of(Chat, "nick")
cdef Py_ssize_t _text = slot_of(Chat, "text")
cdef Py_ssize_t _receipt_seq = slot_of(Receipt, "seq")
cdef Py_ssize_t _receipt_time_ms = slot_of(Receipt, "time_ms")


@cython.final
@cython.freelist(1024)
@cython.no_gc  # it goes when its outcome is told, so it is in no cycle for long
@cython.auto_pickle(False)
cdef class Said:
    """A message that is to be kept.

    *key* is the nickname's comparison form, *answer* whoever waits for the outcome, and nothing to the writer,
    *cost_bytes* what the message takes in memory meanwhile. Its `handle` is by what it is recognised, and
    `receipt` says where it is kept, once it has a number and that is committed.
    """

    cdef readonly object room
    cdef readonly object nick
    cdef readonly object key
    cdef readonly object id
    cdef readonly object text
    cdef readonly object sender
    cdef readonly long long time_ms
    cdef readonly object answer
    cdef readonly long long cost_bytes
    cdef readonly tuple handle
    cdef readonly object receipt

    def __cinit__(
        self, room, nick, key, id, text, sender, long long time_ms, answer, long long cost_bytes
    ):
        self.room = room
        self.nick = nick
        self.key = key
        self.id = id
        self.text = text
        self.sender = sender
        self.time_ms = time_ms
        self.answer = answer
        self.cost_bytes = cost_bytes
        self.handle = (key, id)


@cython.final
@cython.auto_pickle(False)
cdef class Numbers:
    """What the writer knows of a room: its number, the newest one that it gave out, and which were removed."""

    cdef public long long number
    cdef public long long newest
    cdef public long long removed
    cdef list _values

    def __cinit__(self, long long number, long long newest, long long removed):
        self.number = number
        self.newest = newest
        self.removed = removed


def recognise(list batch not None, dict newest not None, dict free not None, long long remember_ms):
    """Which of *batch* came before, by their handles, and which may have.

    *newest* has receipts by handle; of older messages *free* says for a key between which ids there are none.
    """
    cdef Said said
    cdef tuple run
    cdef dict known = {}
    cdef list asked = []
    for said in batch:
        if not said.id:
            continue
        receipt = newest.get(said.handle)
        if receipt is not None:
            if receipt.time_ms >= said.time_ms - remember_ms:
                known[said.handle] = receipt
            continue
        run = free.get(said.key)
        if run is None or not run[0] <= said.id < run[1]:
            asked.append(said.handle)
    return known, asked


def give_numbers(list batch not None, dict known not None, dict fresh not None, dict rooms not None, find):
    """Give out numbers: what comes of each message of *batch*, and what is to be written.

    Those that are *known* get their receipts. *find* gives the Numbers of a room, which have no number where
    there cannot be another room; they are put into *rooms*, and the receipts into *fresh*, both to be thrown
    away if nothing is written after all. What is to be written is the values of rows, whose places ascend.
    """
    cdef Said said
    cdef Numbers numbers
    cdef list values
    cdef list outcomes = []
    for said in batch:
        if said.id:
            receipt = fresh.get(said.handle)
            if receipt is None:
                receipt = known.get(said.handle)
            if receipt is not None:
                outcomes.append(receipt)
                continue
        numbers = rooms.get(said.room)
        if numbers is None:
            numbers = find(said.room)
            if numbers.number:
                rooms[said.room] = numbers
        if numbers.number == 0 or numbers.newest >= _MOST_SEQ:
            outcomes.append(NotStored("the history has no more numbers to give; nobody saw it"))
            continue
        numbers.newest += 1
        seq = numbers.newest
        time_ms = said.time_ms
        outcomes.append(_chat(said.room, seq, time_ms, said.nick, said.text))
        said.receipt = _receipt(seq, time_ms)
        if said.id:
            fresh[said.handle] = said.receipt
        values = numbers._values
        if values is None:
            values = numbers._values = []
        values.append(numbers.number << _SEQ_BITS | numbers.newest)
        values.append(time_ms)
        values.append(said.nick)
        values.append(said.text)
        values.append("" if said.key == said.nick else said.key)
        values.append(said.id)
    return outcomes, _gathered(rooms)


cdef list _gathered(dict rooms):
    """The values of all rooms. The index of words writes out what it has whenever places do not ascend."""
    cdef Numbers numbers
    cdef list values = []
    cdef list by_number = sorted([(numbers.number, numbers) for numbers in rooms.values()])
    for _, numbers in by_number:
        if numbers._values is not None:
            values += numbers._values
            numbers._values = None
    return values


cdef object _receipt(object seq, object time_ms):
    receipt = leaf_of(<PyTypeObject*>Receipt)
    fill_slot(receipt, _receipt_seq, seq)
    fill_slot(receipt, _receipt_time_ms, time_ms)
    return receipt


cdef object _chat(object room, object seq, object time_ms, object nick, object text):
    chat = leaf_of(<PyTypeObject*>Chat)
    fill_slot(chat, _room, room)
    fill_slot(chat, _seq, seq)
    fill_slot(chat, _time, time_ms)
    fill_slot(chat, _nick, nick)
    fill_slot(chat, _text, text)
    return chat
