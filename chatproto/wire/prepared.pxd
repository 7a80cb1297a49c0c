# Something to send to many people: the seam between the hub, which makes one, and the send queues, which
# hold its bytes.

cdef class Prepared:
    cdef readonly object source      # what is to be sent, e.g. a Message
    cdef readonly object topic       # what can be replayed later; None: nothing, it must not be dropped
    cdef readonly long long position  # its place in the topic
    cdef object _form                # the form asked for first, and its bytes
    cdef bytes _data
    cdef dict _others                # all other forms; None until there is a second one

    cpdef bytes encoded(self, object form)
