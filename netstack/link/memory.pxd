# A link inside the process: a pair of bounded frame queues. The other end is Python (tests, the in-memory guest).
from netstack.link.link cimport link_t

cdef class MemoryLink:
    # Python face: MemoryLink(mtu=1500, features=(), queue=1024, impair=None).inject(frame: bytes, meta=None, now=None) puts
    # a frame in as if the guest had sent it; .drain() -> list[(frame, meta)] takes what the stack sent to the guest;
    # .wake_fd is readable when frames wait for the engine, .out_fd when frames wait for the other side. Thread-safe by a mutex
    # that is never held while waiting for the GIL.
    cdef link_t *link       # the engine's end, owned by this object
