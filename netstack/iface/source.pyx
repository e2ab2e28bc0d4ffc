"""Ingress filtering between guests (the idea of RFC 2827 on one Ethernet): an IPv4 source address, in a
packet or in ARP, belongs to one MAC on one link. Frames with a VLAN tag are refused, since nothing behind the
tag is looked at."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp

from netstack.iface.interface cimport iface_is_guest, iface_is_ours, iface_t
from netstack.iface.neighbors cimport neighbor, neighbors_find, neighbors_learn
from netstack.storage.counters cimport ARP_SPOOFED, FRAME_BAD_SOURCE, FRAME_VLAN, IP_SPOOFED, NEIGHBORS_FULL
from netstack.wire.addr cimport addr_from_v4, addr_t
from netstack.wire.be cimport be16, be32

cdef enum:
    ETHERNET = 14
    ARP_LENGTH = 28
    TYPE_IPV4 = 0x0800
    TYPE_ARP = 0x0806
    TYPE_VLAN = 0x8100
    TYPE_SERVICE_VLAN = 0x88a8


cdef int admit(iface_t *f, int rule, uint32_t address, const uint8_t *source, int port, const uint8_t *own, int reason,
               uint64_t now_ns) noexcept nogil:
    cdef addr_t key
    cdef neighbor *entry
    if not iface_is_guest(f, address):
        return reason
    key = addr_from_v4(address)
    entry = neighbors_find(&f.neighbors, &key)
    if entry == NULL or (not entry.held and entry.port < 0):
        if rule == SOURCE_HELD:
            return reason
        return 0 if neighbors_learn(&f.neighbors, &key, source, port, now_ns) != NULL else <int>NEIGHBORS_FULL
    if not entry.held and rule == SOURCE_HELD:
        return reason
    if memcmp(entry.mac, source, 6) != 0:
        return reason
    if entry.port != port:
        # it may move when its link is gone, or to the link that was given this MAC
        if entry.port >= 0 and memcmp(own, source, 6) != 0:
            return reason
        entry.port = port
    entry.last_seen_ns = now_ns
    return 0


cdef int source_check(iface_t *f, int rule, const uint8_t *frame, uint32_t length, int port, const uint8_t *mac,
                      uint64_t now_ns) noexcept nogil:
    """See the contract in source.pxd. Frames too short to say anything are left to iface_input, which drops them."""
    cdef uint32_t address
    cdef uint16_t kind
    if length < ETHERNET:
        return 0
    if frame[6] & 1 or memcmp(frame + 6, f.mac, 6) == 0:
        return <int>FRAME_BAD_SOURCE
    kind = be16(frame + 12)
    if kind == TYPE_VLAN or kind == TYPE_SERVICE_VLAN:
        return <int>FRAME_VLAN
    if kind == TYPE_IPV4:
        if length < ETHERNET + 20:
            return 0
        address = be32(frame + ETHERNET + 12)
        if address == 0 and memcmp(frame, b"\xff\xff\xff\xff\xff\xff", 6) == 0:
            return 0                    # it asks for an address
        return admit(f, rule, address, frame + 6, port, mac, <int>IP_SPOOFED, now_ns)
    if kind == TYPE_ARP:
        if length < ETHERNET + ARP_LENGTH:
            return 0
        if memcmp(frame + ETHERNET + 8, frame + 6, 6) != 0:
            return <int>ARP_SPOOFED
        address = be32(frame + ETHERNET + 14)
        if address == 0:
            return 0                    # a probe (RFC 5227)
        return admit(f, rule, address, frame + 6, port, mac, <int>ARP_SPOOFED, now_ns)
    return 0


cdef int source_hold(iface_t *f, uint32_t address, const uint8_t *mac, int port, uint64_t now_ns) noexcept nogil:
    """0, or -1 when the table is full."""
    cdef addr_t key = addr_from_v4(address)
    cdef neighbor *entry = neighbors_find(&f.neighbors, &key)
    if iface_is_ours(f, address):
        return -1
    if mac == NULL:
        if entry != NULL:
            entry.held = 0
        return 0
    if port < 0 and entry != NULL and memcmp(entry.mac, mac, 6) == 0:
        port = entry.port
    entry = neighbors_learn(&f.neighbors, &key, mac, port, now_ns)
    if entry == NULL:
        return -1
    entry.held = 1
    return 0
