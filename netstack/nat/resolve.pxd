# Which guest has an address: what we send first to a guest waits here for its MAC (RFC 826, RFC 1122 section 2.3.2).
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.iface.neighbors cimport neighbor
from netstack.nat.context cimport nat_t
from netstack.storage.wheel cimport wheel_timer

cdef enum:
    TIMER_RESOLVE = 5

# A guest that can be sent to now, or NULL.
cdef neighbor *resolve_known(nat_t *nat, uint32_t v4) noexcept nogil
# Asks by ARP; flows that wait for the address (resolving) go on when the answer comes, or fail. 0, or -1 when
# too many wait.
cdef int resolve_begin(nat_t *nat, uint32_t v4, uint64_t now_ns) noexcept nogil
# Sends a datagram to a guest, now or when its MAC is known (at most eight wait for one address). For UDP data is
# the payload; for any other protocol the whole message with its checksum. 0, or -1 when it was dropped.
cdef int resolve_send(nat_t *nat, uint32_t v4, uint32_t src, uint8_t protocol, uint16_t sport, uint16_t dport,
                      uint8_t tos, const uint8_t *data, uint32_t length, uint64_t now_ns) noexcept nogil
# To be called after packets have been read: answers may have come.
cdef void resolve_look(nat_t *nat, uint64_t now_ns) noexcept nogil
cdef void resolve_timer(nat_t *nat, wheel_timer *timer, uint64_t now_ns) noexcept nogil
cdef void resolve_free_all(nat_t *nat) noexcept nogil
