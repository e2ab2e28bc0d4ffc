from libc.stdint cimport uint8_t

# What the value classes of the headers share: equality and hash, of what each one's key() names.
cdef class WireValue:
    cdef tuple key(self)

# And write(), on top of each one's own writer.
cdef class WireHeader(WireValue):
    # Writes it at the start of room bytes: how many it took, or a wire_code.
    cdef int write_at(self, uint8_t *out, size_t room)
