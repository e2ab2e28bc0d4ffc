# The interface the guests see: the gateway's end of the virtual Ethernet.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from netstack.iface.fragments cimport fragments_t
from netstack.iface.neighbors cimport neighbors_t

ctypedef struct own_address:    # one more address of the interface, as long as somebody uses it
    uint32_t addr
    uint32_t users

ctypedef struct iface_t:
    uint8_t mac[6]
    uint32_t gateway            # IPv4 addresses in host byte order
    uint32_t host_alias         # 0 = switched off
    uint32_t network
    uint32_t netmask
    uint32_t broadcast
    uint32_t mtu                # IP bytes
    uint16_t next_ident         # of datagrams that may be fragmented (RFC 6864)
    own_address own[64]         # that programs have taken
    uint32_t n_own
    uint64_t *counters
    neighbors_t neighbors
    fragments_t fragments
    uint64_t icmp_tokens        # of the ICMP error limit, in nanoseconds of credit
    uint64_t icmp_refill_ns
    uint8_t reply[128]          # an ARP reply (IFACE_REPLY)
    uint32_t reply_length

cdef enum:
    ICMP_INTERVAL_NS = 1000000      # sustained rate of ICMP errors: 1,000 a second ...
    ICMP_BURST = 100                # ... and that many at once

cdef iface_t *iface_new(const uint8_t *mac, uint32_t gateway, uint32_t host_alias, uint32_t network, uint32_t netmask,
                        uint32_t mtu, uint64_t k0, uint64_t k1, uint64_t *counters) noexcept nogil
cdef void iface_free(iface_t *f) noexcept nogil
# Takes an address for the interface (counted), and lets go of it. 0, or -1 when there are too many.
cdef int iface_own(iface_t *f, uint32_t v4) noexcept nogil
cdef void iface_disown(iface_t *f, uint32_t v4) noexcept nogil
# One of the interface's own addresses: gateway, host alias, or one that was taken.
cdef bint iface_is_ours(const iface_t *f, uint32_t v4) noexcept nogil
# An address that a guest may have.
cdef bint iface_is_guest(const iface_t *f, uint32_t v4) noexcept nogil
