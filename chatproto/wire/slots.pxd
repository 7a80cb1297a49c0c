# Instances of small classes with slots, made without calling the class. C only; modules cimport it.

from cpython.object cimport PyObject, PyTypeObject

cdef extern from "Python.h":
    object blank "PyType_GenericAlloc" (PyTypeObject*, Py_ssize_t)  # an instance with empty slots
    void _untrack "PyObject_GC_UnTrack" (PyObject*)

cdef extern from *:
    """
    /* A member descriptor's own setter: what setattr() would find after looking it up by name. */
    static CYTHON_INLINE int set_slot(PyObject *instance, PyObject *descr, PyObject *value) {
        return Py_TYPE(descr)->tp_descr_set(descr, instance, value);
    }
    /* And its getter. */
    static CYTHON_INLINE PyObject *get_slot(PyObject *instance, PyObject *descr) {
        return Py_TYPE(descr)->tp_descr_get(descr, instance, (PyObject *)Py_TYPE(instance));
    }
    """
    object get_slot(object instance, object descr)
    int set_slot(object instance, object descr, object value) except -1


cdef inline object leaf_of(PyTypeObject* cls):
    """An instance with empty slots that are for numbers and strings only, and that nobody else fills.

    So it is in no cycle, and the garbage collector need not look at it: there may be a great many.
    """
    instance = blank(cls, 0)
    _untrack(<PyObject*>instance)
    return instance
