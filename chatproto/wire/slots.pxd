# Instances of small classes with slots, made without calling the class. C only; modules cimport it.

from cpython.object cimport PyObject, PyTypeObject

cdef extern from "Python.h":
    object blank "PyType_GenericAlloc" (PyTypeObject*, Py_ssize_t)  # an instance with empty slots
    void _untrack "PyObject_GC_UnTrack" (PyObject*)

cdef extern from *:
    """
    #include <structmember.h>
    /* Where the instances have what a member descriptor is for; 0, where their type is, if it is for no slot. */
    static Py_ssize_t offset_of(PyObject *descr) {
        PyMemberDef *member = Py_IS_TYPE(descr, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)descr)->d_member : NULL;
        return member && member->type == T_OBJECT_EX ? member->offset : 0;
    }
    /* Fill a slot that is empty. */
    static CYTHON_INLINE void fill_slot(PyObject *instance, Py_ssize_t slot, PyObject *value) {
        Py_INCREF(value);
        *(PyObject **)((char *)instance + slot) = value;
    }
    /* What a slot has, borrowed; NULL if it is empty. */
    static CYTHON_INLINE PyObject *in_slot(PyObject *instance, Py_ssize_t slot) {
        return *(PyObject **)((char *)instance + slot);
    }
    """
    Py_ssize_t offset_of(object descr) noexcept
    void fill_slot(object instance, Py_ssize_t slot, object value) noexcept
    PyObject* in_slot(object instance, Py_ssize_t slot) noexcept


cdef inline Py_ssize_t slot_of(object cls, str name) except 0:
    """Where the instances of *cls* have the slot of that name: what the functions above take."""
    cdef Py_ssize_t slot = offset_of(cls.__dict__[name])
    if not slot:
        raise TypeError(f"{cls.__name__}.{name} is no slot")
    return slot


cdef inline object leaf_of(PyTypeObject* cls):
    """An instance with empty slots that are for numbers and strings only, and that nobody else fills.

    So it is in no cycle, and the garbage collector need not look at it: there may be a great many.
    """
    instance = blank(cls, 0)
    _untrack(<PyObject*>instance)
    return instance
