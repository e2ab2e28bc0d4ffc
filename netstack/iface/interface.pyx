"""Life of the interface and what it takes for its own."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from netstack.iface.fragments cimport fragments_free, fragments_init
from netstack.iface.neighbors cimport neighbors_free, neighbors_init

cdef enum:
    MAX_OWN = 64


cdef iface_t *iface_new(const uint8_t *mac, uint32_t gateway, uint32_t host_alias, uint32_t network, uint32_t netmask,
                        uint32_t mtu, uint64_t k0, uint64_t k1, uint64_t *counters) noexcept nogil:
    cdef iface_t *f = <iface_t *>calloc(1, sizeof(iface_t))
    if f == NULL:
        return NULL
    if neighbors_init(&f.neighbors, 4096, k0, k1) < 0:
        free(f)
        return NULL
    memcpy(f.mac, mac, 6)
    f.gateway = gateway
    f.host_alias = host_alias
    f.network = network
    f.netmask = netmask
    f.broadcast = network | ~netmask
    f.mtu = mtu
    f.next_ident = <uint16_t>k0
    f.counters = counters
    f.icmp_tokens = <uint64_t>ICMP_BURST * ICMP_INTERVAL_NS
    fragments_init(&f.fragments)
    return f


cdef void iface_free(iface_t *f) noexcept nogil:
    if f == NULL:
        return
    neighbors_free(&f.neighbors)
    fragments_free(&f.fragments)
    free(f)


cdef bint iface_is_ours(const iface_t *f, uint32_t v4) noexcept nogil:
    cdef uint32_t i
    if v4 == f.gateway or (f.host_alias != 0 and v4 == f.host_alias):
        return True
    for i in range(f.n_own):
        if f.own[i].addr == v4:
            return True
    return False


cdef int iface_own(iface_t *f, uint32_t v4) noexcept nogil:
    cdef uint32_t i
    for i in range(f.n_own):
        if f.own[i].addr == v4:
            f.own[i].users += 1
            return 0
    if f.n_own == MAX_OWN:
        return -1
    f.own[f.n_own].addr = v4
    f.own[f.n_own].users = 1
    f.n_own += 1
    return 0


cdef void iface_disown(iface_t *f, uint32_t v4) noexcept nogil:
    cdef uint32_t i
    for i in range(f.n_own):
        if f.own[i].addr == v4:
            f.own[i].users -= 1
            if f.own[i].users == 0:
                f.n_own -= 1
                f.own[i] = f.own[f.n_own]
            return


cdef bint iface_is_guest(const iface_t *f, uint32_t v4) noexcept nogil:
    return (v4 & f.netmask) == f.network and v4 != f.network and v4 != f.broadcast and not iface_is_ours(f, v4)
