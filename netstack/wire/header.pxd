from libc.stdint cimport uint8_t

# What the value classes of the headers share: write(), on top of each one's own writer.
cdef class WireHeader:
    # Writes it at the start of room bytes: how many it took, or a wire_code.
    cdef int write_at(self, uint8_t *out, size_t room)
