from libc.stdint cimport int64_t, uint64_t
from netstack.link.impair cimport Impairment
from netstack.link.link cimport link_t
from netstack.loop cimport engine_t
from netstack.nat.flow cimport polled

cdef class Engine:
    cdef engine_t *e
    cdef object names           # keeps the table of names alive
    cdef int mail_read, mail_write
    cdef polled *wake
    cdef dict links             # port -> the Python object that owns the link, if any
    cdef object changing        # a lock: one at a time sets the path of links, or captures
    cdef Impairment impair_up, impair_down      # the bad path of every link that is the engine's own, or None
    cdef object recorder        # the capture that runs, or None
    cdef dict last_counters     # what counters() says once the engine is closed
    cdef int64_t call(self, int kind, void *arg, int64_t number) except? -1
    cpdef close(self)
    cdef _wake_token(self)
    cdef _configure(self, dict s, uint64_t k0, uint64_t k1)
    cdef _add(self, link_t *link, int fd, owner, str name)
