"""Something to send to many: each of its forms is encoded once, and every recipient gets the same bytes."""

__all__ = ["Prepared"]


cdef class Prepared:
    """What is sent to many, with its encodings.

    *source* is what is to be sent, *topic* and *position* name its place in something that can be replayed
    (a room and a sequence number). Only what has a topic may be dropped from a full send queue.
    """

    def __cinit__(self, source, topic=None, long long position=0):
        self.source = source
        self.topic = topic
        self.position = position

    cpdef bytes encoded(self, object form):
        """The bytes of the source in *form*, a callable from the source to bytes that is called once."""
        cdef object known
        if form is self._form and self._data is not None:
            return self._data
        if self._others is not None:
            known = self._others.get(form)
            if known is not None:
                return <bytes>known
        if self._data is not None and form == self._form:  # a bound method is another object each time
            return self._data
        data = form(self.source)
        if type(data) is not bytes:
            raise TypeError(f"a form makes bytes, not {type(data).__name__}")
        if self._data is None:
            self._form = form
            self._data = data
        else:
            if self._others is None:
                self._others = {}
            self._others[form] = data
        return <bytes>data
