# What is said once, when a dialled connection is there and before any other byte: a proxy's reply to its client, and
# what the proxy has to tell the guest.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from netstack.nat.flow cimport opening_t, tcp_flow

cdef enum:
    OPENING_MAX = 65536             # bytes each way

# NULL without memory.
cdef opening_t *opening_new(const uint8_t *to_host, uint32_t n_host, const uint8_t *to_guest,
                            uint32_t n_guest) noexcept nogil
# Says it and forgets it: 0, or -errno where the host's client or the connection does not take it.
cdef int opening_say(tcp_flow *flow, uint64_t now_ns) noexcept nogil
# Forgets what was not said.
cdef void opening_drop(tcp_flow *flow) noexcept nogil
