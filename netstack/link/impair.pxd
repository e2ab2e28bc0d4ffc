# A bad path, as a pure queue model: frames go in with a time and come out with a later one, or not at all. No
# clock, no threads, no file descriptors: the same model serves virtual time, the link in memory and the box
# between two TAPs.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.link.stored cimport stored_frame

ctypedef struct impair_config:
    double loss                 # chances, 0..1
    double reorder
    double duplicate
    double corrupt
    uint64_t delay_ns           # one way
    uint64_t jitter_ns          # the delay varies evenly by as much up and down
    # bits per second, 0 = unlimited; 24 bytes of preamble, FCS and gap count with each frame
    uint64_t rate
    uint32_t queue              # frames of 1514 bytes that may wait for the rate
    uint8_t ordered             # jitter does not reorder
    uint64_t seed

ctypedef struct impair_stats:   # frames
    uint64_t pushed, popped, lost, full, reordered, duplicated, corrupted

ctypedef struct impair_entry:
    uint64_t due
    uint64_t order              # of frames due at the same instant, the first in comes out first
    stored_frame *frame

ctypedef struct impair_t:
    impair_config config
    impair_stats stats
    uint64_t random[4]          # xoshiro256++
    uint64_t link_free          # when the rate lets the next frame begin
    uint64_t last_due
    uint64_t order
    impair_entry *heap          # by (due, order)
    uint32_t n
    uint32_t room

cdef enum:
    IMPAIR_LIMIT = 65536        # frames held at most

# NULL: no memory
cdef impair_t *impair_new(const impair_config *config) noexcept nogil       # NULL: no memory
cdef void impair_free(impair_t *m) noexcept nogil                           # and every frame it holds
# Other settings from now on, seed included; what is held is due now, in the order it would have come out in.
cdef void impair_change(impair_t *m, const impair_config *config, uint64_t now_ns) noexcept nogil
# Takes over f (NULL, for want of memory, counts as full). 1 = it will come out, 0 = it was lost, dropped or
# full.
cdef int impair_push(impair_t *m, stored_frame *f, uint64_t now_ns) noexcept nogil
# the next frame due; NULL: none. The caller's then.
cdef stored_frame *impair_pop(impair_t *m, uint64_t now_ns) noexcept nogil
# when the next one is due, UINT64_MAX: none
cdef uint64_t impair_next(const impair_t *m) noexcept nogil

cdef dict stats_dict(const impair_stats *s)

cdef class Impairment:
    cdef impair_config config
