# The NAT as a whole: packets from guests in, host events in, timers in.
from libc.stdint cimport uint32_t, uint64_t
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport polled
from netstack.storage.wheel cimport wheel_timer

cdef nat_t *nat_new() noexcept nogil                        # zeroed, with its buffers; NULL without memory
cdef int nat_configure(nat_t *nat, dict s) except -1        # the settings as netstack.gateway gives them
cdef int nat_make_tables(nat_t *nat) noexcept nogil         # once settings and k0, k1 are set; 0 or -1
cdef void nat_free(nat_t *nat, uint64_t now_ns) noexcept nogil
# What iface_input has sorted (its verdict; all but IFACE_DROPPED, IFACE_REPLY and IFACE_HELD).
cdef void nat_packet(nat_t *nat, int verdict, const packet *p, uint64_t now_ns) noexcept nogil
cdef void nat_host_event(nat_t *nat, polled *what, uint32_t events, uint64_t now_ns) noexcept nogil
cdef void nat_timer(nat_t *nat, wheel_timer *timer, uint64_t now_ns) noexcept nogil
# Datagrams whose fragments have not come in time: dropped, and their senders told.
cdef void nat_expire_fragments(nat_t *nat, uint64_t now_ns) noexcept nogil
# A link that was full has room again: those that waited for it go on with the next nat_flush.
cdef void nat_port_ready(nat_t *nat, int port) noexcept nogil
# The end of a burst: sends what is due. True when work is left that needs no event.
cdef bint nat_flush(nat_t *nat, uint64_t now_ns) noexcept nogil
# The end of a round of events: gives back the memory of flows that have ended.
cdef void nat_reap(nat_t *nat) noexcept nogil
