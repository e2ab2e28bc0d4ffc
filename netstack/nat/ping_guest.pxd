# The gateway's own echo requests to guests.
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from netstack.iface.packet cimport packet
from netstack.nat.context cimport nat_t

ctypedef struct ping_new:
    uint32_t guest
    uint16_t sequence
    uint32_t length         # bytes behind the ICMP header, 0..65507
    uint64_t sent_ns        # out

# Sends an echo request, after ARP where the guest's MAC is not known; 0 or -errno. MAIL_ECHO_REPLY
# follows when the guest answers.
cdef int ping_guest(nat_t *nat, ping_new *p, uint64_t now_ns) noexcept nogil
cdef void ping_guest_reply(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil
