from libc.stdint cimport uint8_t, uint32_t
from netstack.host.sockets cimport iovec
from netstack.storage.frame cimport frame_meta

ctypedef struct stored_frame:   # a frame that owns its bytes
    stored_frame *next          # the owner's business
    uint32_t length
    frame_meta meta
    uint8_t data[1]             # length bytes

# A copy of a gathered frame; NULL without memory.
cdef stored_frame *stored_new(const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil
cdef void stored_free(stored_frame *f) noexcept nogil
