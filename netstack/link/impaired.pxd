from libc.stdint cimport uint64_t

from netstack.link.impair cimport impair_config
from netstack.link.link cimport link_t

# A link that is another one behind a bad path. It owns inner from then on (and closes it), and counts what it
# drops in counters. NULL: no memory, inner is as it was.
cdef link_t *impaired_link_new(link_t *inner, const impair_config *up, const impair_config *down,
                               uint64_t *counters) noexcept nogil
cdef bint is_impaired(const link_t *link) noexcept nogil
# Other settings from now on; what is held comes to the end of its path now, in its order. whole: a good path, and
# once what is held has gone, impaired_is_over says that the link may be taken off again.
cdef void impaired_change(link_t *link, const impair_config *up, const impair_config *down, bint whole,
                          uint64_t now_ns) noexcept nogil
cdef bint impaired_is_over(const link_t *link) noexcept nogil
# The inner link, as it was before impaired_link_new; link is freed.
cdef link_t *impaired_unwrap(link_t *link) noexcept nogil
