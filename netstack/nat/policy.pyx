"""The network plan as a decision: gateway, host alias, guests, and everything else."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from netstack.iface.interface cimport iface_is_ours
from netstack.nat.context cimport nat_t
from netstack.wire.addr cimport addr_from_v4, addr_t

cdef enum:
    PORT_DNS = 53
    PORT_DHCP_SERVER = 67
    LOOPBACK = 0x7f000001


cdef void policy_hide(nat_t *nat, uint16_t port, bint tcp, bint hide) noexcept nogil:
    cdef uint8_t *bits = nat.hidden_tcp
    if not tcp:
        bits = nat.hidden_udp
    if hide:
        bits[port >> 3] |= <uint8_t>(1 << (port & 7))
    else:
        bits[port >> 3] &= <uint8_t>~(1 << (port & 7))


cdef verdict policy_of(const nat_t *nat, uint32_t dst, uint16_t port, bint tcp, addr_t *addr) noexcept nogil:
    cdef uint32_t network = nat.iface.network
    cdef const uint8_t *hidden = nat.hidden_tcp
    if not tcp and port == PORT_DHCP_SERVER and (
            dst == nat.iface.gateway or dst == 0xffffffffu or dst == nat.iface.broadcast):
        return TO_DHCP
    if dst == nat.iface.gateway:
        if port == PORT_DNS:
            return TO_CONTROL if tcp else TO_DNS
        return TO_NOBODY
    if nat.iface.host_alias != 0 and dst == nat.iface.host_alias:
        if not tcp:
            hidden = nat.hidden_udp
        if hidden[port >> 3] & (1 << (port & 7)):
            return TO_NOBODY
        addr[0] = addr_from_v4(LOOPBACK)
    elif (dst & nat.iface.netmask) == network or dst == 0xffffffffu:
        return TO_NOBODY if iface_is_ours(nat.iface, dst) else TO_NOWHERE
    else:
        addr[0] = addr_from_v4(dst)
    return TO_CONTROL if tcp and nat.settings.all_pending else TO_HOST
