"""Frames that own their bytes: what a link in memory, a bad path and a test's link hold."""
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from netstack.host.sockets cimport iovec
from netstack.storage.frame cimport frame_meta


cdef stored_frame *stored_new(const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil:
    cdef size_t length = 0
    cdef stored_frame *f
    cdef int i
    for i in range(iovcnt):
        length += iov[i].iov_len
    f = <stored_frame *>malloc(sizeof(stored_frame) + length)
    if f == NULL:
        return NULL
    f.next = NULL
    f.length = 0
    f.meta = meta[0]
    for i in range(iovcnt):
        memcpy(f.data + f.length, iov[i].iov_base, iov[i].iov_len)
        f.length += <uint32_t>iov[i].iov_len
    return f


cdef void stored_free(stored_frame *f) noexcept nogil:
    free(f)
