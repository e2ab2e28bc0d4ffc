# Who may speak from which address: checked before a frame is switched or looked at.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.iface.interface cimport iface_t

cdef enum source_rule:
    SOURCE_ANY = 0          # whoever speaks has the address
    SOURCE_FIRST = 1        # who spoke first keeps it while its link lives, unless the gateway gave it to another
    SOURCE_HELD = 2         # only addresses that the gateway has given out, or was told of

# 0, or the counter of the reason why the frame is refused. mac is the one that the link's own handshake gave it
# (6 bytes, zero: none).
cdef int source_check(iface_t *f, int rule, const uint8_t *frame, uint32_t length, int port, const uint8_t *mac,
                      uint64_t now_ns) noexcept nogil
# An address is given to a MAC (its port is not known yet where port < 0), or taken back with mac = NULL.
cdef int source_hold(iface_t *f, uint32_t address, const uint8_t *mac, int port, uint64_t now_ns) noexcept nogil
