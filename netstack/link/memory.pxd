from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.link.impair cimport impair_t
from netstack.link.link cimport link_t
from netstack.link.stored cimport stored_frame

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass

ctypedef struct memory_queue:
    stored_frame *first
    stored_frame *last
    uint32_t n
    uint32_t limit
    uint8_t signalled           # its wake-up descriptor is readable
    int read_fd
    int write_fd

ctypedef struct memory_t:
    link_t link
    pthread_mutex_t lock
    memory_queue up             # from the other end to the engine
    memory_queue down           # from the engine to the other end
    impair_t *impair_up         # NULL: nothing happens on the way
    impair_t *impair_down
    uint64_t now_ns             # virtual time, as stepped
    uint8_t real_time           # the clock is read instead
    uint8_t closed
    stored_frame *current       # what recv gave last

cdef class MemoryLink:
    # Python face: MemoryLink(mtu=1500, features=(), queue=1024, impair=None).inject(frame: bytes, meta=None,
    # now=None) puts a frame in as if the guest had sent it; .drain() -> list[(frame, meta)] takes what the
    # stack sent to the guest; .wake_fd is readable when frames wait for the engine, .out_fd when frames wait
    # for the other side. Thread-safe by a mutex that is never held while waiting for the GIL. link.close only
    # marks the link closed: the memory is this object's.
    cdef link_t *link           # the engine's end, owned by this object
    cdef memory_t *memory
    cdef readonly int wake_fd   # for the engine's poller; recv clears it when no frame is left
    cdef readonly int out_fd    # drain clears it
