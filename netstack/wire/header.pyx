"""What the value classes of all headers share."""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t

from netstack.wire.code cimport WIRE_NO_ROOM, raise_wire


@cython.auto_pickle(False)
cdef class WireValue:
    """The base of the value classes: two of one class are equal when what makes up their value is."""

    cdef tuple key(self):
        return ()

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        return self.key() == (<WireValue>other).key()

    def __hash__(self):
        return hash(self.key())


@cython.auto_pickle(False)
cdef class WireHeader(WireValue):
    """A header that can be written into a buffer."""

    cdef int write_at(self, uint8_t *out, size_t room):
        return WIRE_NO_ROOM

    def write(self, out):
        """Writes it at the start of a writable buffer; how many bytes that takes.

        TCP options and IPv4 options are written with their header, VLAN tags are not; the checksum of an IPv4 header
        and of an ICMP message is computed, any other is the attribute as it is.

        Raises:
            WireError: no room.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        cdef int code = self.write_at(<uint8_t *>view.buf, <size_t>view.len)
        PyBuffer_Release(&view)
        return raise_wire(code)
