"""What stands at an address and port of the virtual network instead of what the network plan would say.

A diversion is one address, port and protocol: either a server of the host (the gateway's forwards), or a listener of a
Python program. An address that is nobody's yet becomes one of the interface's own while something stands there, so that
ARP is answered for it. Prefixes name outgoing TCP whose descriptor the control plane gives (a Unix
socket's, or a proxy's), and UDP that would go past it and is refused.
"""
from libc.errno cimport EADDRNOTAVAIL, EEXIST, ENOENT, ENOMEM
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free

from netstack.iface.interface cimport iface_disown, iface_is_ours, iface_own
from netstack.iface.neighbors cimport neighbor, neighbors_find
from netstack.nat.context cimport divert_key, divert_prefix_t, nat_t
from netstack.nat.policy cimport TO_CONTROL, TO_HOST, TO_NOBODY, verdict
from netstack.storage.table cimport table_del, table_get, table_len, table_next, table_put
from netstack.wire.addr cimport addr_eq, addr_from_v4, addr_t
from netstack.wire.ipv4 cimport IPPROTO_TCP4

cdef enum:
    MAX_PREFIXES = 256


ctypedef struct entry_t:
    divert_key key
    diversion what
    uint8_t owns                    # the address is the interface's on account of a diversion


cdef bint divert(const nat_t *nat, uint32_t dst, uint16_t *port, uint16_t protocol, verdict *where,
                 addr_t *target) noexcept nogil:
    cdef divert_key key
    cdef entry_t *entry
    cdef uint32_t i
    if table_len(nat.diversions):
        key.addr = dst
        key.port = port[0]
        key.protocol = protocol
        entry = <entry_t *>table_get(nat.diversions, &key)
        if entry != NULL:
            where[0] = TO_CONTROL if entry.what.to_control else TO_HOST
            target[0] = entry.what.target
            if not entry.what.to_control:
                port[0] = entry.what.target_port
            return True
    if nat.n_prefixes and not iface_is_ours(nat.iface, dst):
        for i in range(nat.n_prefixes):
            if (dst & nat.prefixes[i].mask == nat.prefixes[i].addr and nat.prefixes[i].protocol == protocol
                    and (nat.prefixes[i].port == 0 or nat.prefixes[i].port == port[0])):
                where[0] = TO_CONTROL if protocol == IPPROTO_TCP4 else TO_NOBODY
                return True
    return False


cdef bint diverted_from(const nat_t *nat, const addr_t *addr, uint16_t *port, uint16_t protocol,
                        uint32_t *v4) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef entry_t *entry
    if table_len(nat.diversions) == 0:
        return False
    entry = <entry_t *>table_next(nat.diversions, &cursor)
    while entry != NULL:
        if (not entry.what.to_control and entry.what.protocol == protocol and entry.what.target_port == port[0]
                and addr_eq(&entry.what.target, addr)):
            v4[0] = entry.what.addr
            port[0] = entry.what.port
            return True
        entry = <entry_t *>table_next(nat.diversions, &cursor)
    return False


cdef int divert_add(nat_t *nat, const diversion *d) noexcept nogil:
    cdef entry_t *entry
    cdef neighbor *guest
    cdef addr_t address = addr_from_v4(d.addr)
    cdef bint owns = ((d.addr & nat.iface.netmask) == nat.iface.network and d.addr != nat.iface.gateway
                      and d.addr != nat.iface.host_alias)
    if owns and not iface_is_ours(nat.iface, d.addr):
        guest = neighbors_find(&nat.iface.neighbors, &address)
        if guest != NULL and guest.port >= 0:
            return -EADDRNOTAVAIL               # a guest has it
    entry = <entry_t *>calloc(1, sizeof(entry_t))
    if entry == NULL:
        return -ENOMEM
    entry.key.addr = d.addr
    entry.key.port = d.port
    entry.key.protocol = d.protocol
    entry.what = d[0]
    if table_get(nat.diversions, &entry.key) != NULL:
        free(entry)
        return -EEXIST
    if owns and iface_own(nat.iface, d.addr) < 0:
        free(entry)
        return -ENOMEM
    if table_put(nat.diversions, &entry.key, entry) < 0:
        if owns:
            iface_disown(nat.iface, d.addr)
        free(entry)
        return -ENOMEM
    entry.owns = owns
    return 0


cdef int divert_remove(nat_t *nat, const diversion *d) noexcept nogil:
    cdef divert_key key
    cdef entry_t *entry
    key.addr = d.addr
    key.port = d.port
    key.protocol = d.protocol
    entry = <entry_t *>table_del(nat.diversions, &key)
    if entry == NULL:
        return -ENOENT
    if entry.owns:
        iface_disown(nat.iface, d.addr)
    free(entry)
    return 0


cdef void divert_prefixes(nat_t *nat, const divert_prefix_t *prefixes, uint32_t n) noexcept nogil:
    cdef uint32_t i
    nat.n_prefixes = n if n < MAX_PREFIXES else MAX_PREFIXES
    for i in range(nat.n_prefixes):
        nat.prefixes[i] = prefixes[i]
        nat.prefixes[i].addr &= prefixes[i].mask


cdef void divert_free_all(nat_t *nat) noexcept nogil:
    cdef uint32_t cursor = 0
    cdef entry_t *entry = <entry_t *>table_next(nat.diversions, &cursor)
    while entry != NULL:
        table_del(nat.diversions, &entry.key)
        free(entry)
        entry = <entry_t *>table_next(nat.diversions, &cursor)
