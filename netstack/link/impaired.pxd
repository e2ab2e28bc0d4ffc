from libc.stdint cimport uint64_t

from netstack.link.impair cimport impair_config
from netstack.link.link cimport link_t

# A link that is another one behind a bad path. It owns inner from then on (and closes it), and counts what it
# drops in counters. NULL: no memory, inner is as it was.
cdef link_t *impaired_link_new(link_t *inner, const impair_config *up, const impair_config *down,
                               uint64_t *counters) noexcept nogil
