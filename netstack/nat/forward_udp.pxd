# Published UDP ports: one socket of the host for all clients of a port, each client a mapping with a
# time-out (RFC 4787).
from libc.stdint cimport uint64_t
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport forward_t
from netstack.storage.wheel cimport wheel_timer

cdef enum:
    TIMER_CLIENT = 7

# Passes on what the socket holds. True when only its turn is over.
cdef bint forward_udp_readable(nat_t *nat, forward_t *f, uint64_t now_ns) noexcept nogil
# A guest's datagram, when it answers a client of a published port. False when it is none.
cdef bint forward_udp_packet(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil
cdef void forward_udp_timer(nat_t *nat, wheel_timer *timer, uint64_t now_ns) noexcept nogil
# Ends the mappings of a socket's clients.
cdef void forward_udp_forget(nat_t *nat, forward_t *f) noexcept nogil
