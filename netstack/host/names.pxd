# Socket names and control messages, in the terms of 16-byte addresses. Inline: there is no module behind this
# file.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset
from netstack.host.posix cimport (
    AF_INET, AF_INET6, CMSG_DATA, CMSG_LEN, CMSG_SPACE, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, IP_PKTINFO,
    cmsghdr, htons, in6_pktinfo, in_pktinfo, ntohs, sa_family_t, sockaddr,
    sockaddr_in, sockaddr_in6, socklen_t,
)

cdef union name_t:
    sockaddr any
    sockaddr_in v4
    sockaddr_in6 v6

cdef union control_t:           # room for the control messages of one datagram, aligned for the first header
    uint64_t align
    uint8_t bytes[128]


cdef inline bint is_v4(const uint8_t *addr) noexcept nogil:
    return memcmp(addr, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0

cdef inline int family_of(const uint8_t *addr) noexcept nogil:
    return AF_INET if is_v4(addr) else AF_INET6


cdef inline socklen_t name_set(name_t *name, const uint8_t *addr, uint16_t port) noexcept nogil:
    memset(name, 0, sizeof(name_t))
    if is_v4(addr):
        name.v4.sin_family = <sa_family_t>AF_INET
        name.v4.sin_port = htons(port)
        memcpy(&name.v4.sin_addr, addr + 12, 4)
        return sizeof(sockaddr_in)
    name.v6.sin6_family = <sa_family_t>AF_INET6
    name.v6.sin6_port = htons(port)
    memcpy(&name.v6.sin6_addr, addr, 16)
    return sizeof(sockaddr_in6)


cdef inline void name_get(const name_t *name, socklen_t length, uint8_t *addr, uint16_t *port) noexcept nogil:
    """Zeroes where the name is of another family (a Unix socket's) or missing."""
    if length >= sizeof(sockaddr_in) and name.any.sa_family == AF_INET:
        memcpy(addr, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12)
        memcpy(addr + 12, &name.v4.sin_addr, 4)
        port[0] = ntohs(name.v4.sin_port)
    elif length >= sizeof(sockaddr_in6) and name.any.sa_family == AF_INET6:
        memcpy(addr, &name.v6.sin6_addr, 16)
        port[0] = ntohs(name.v6.sin6_port)
    else:
        memset(addr, 0, 16)
        port[0] = 0


cdef inline uint8_t ttl_of(cmsghdr *c) noexcept nogil:
    cdef int value
    if c.cmsg_len < CMSG_LEN(sizeof(int)):      # one byte on BSD
        return CMSG_DATA(c)[0]
    memcpy(&value, CMSG_DATA(c), sizeof(int))
    return <uint8_t>value


# --- to which of our addresses a datagram has come, and from which one leaves (RFC 3542 section 6)

cdef inline void get_local_v4(cmsghdr *c, uint8_t *local) noexcept nogil:
    cdef in_pktinfo info
    memcpy(&info, CMSG_DATA(c), sizeof(info))
    memcpy(local, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", 12)
    memcpy(local + 12, &info.ipi_spec_dst, 4)       # never a broadcast address, unlike ipi_addr


cdef inline void get_local_v6(cmsghdr *c, const uint8_t *peer, uint8_t *local, uint32_t *interface) noexcept nogil:
    cdef in6_pktinfo info
    memcpy(&info, CMSG_DATA(c), sizeof(info))
    if (<uint8_t *>&info.ipi6_addr)[0] != 0xff:     # a multicast address is nobody's source
        memcpy(local, &info.ipi6_addr, 16)
    if peer[0] == 0xfe and peer[1] & 0xc0 == 0x80:  # fe80::/10 means nothing without its interface
        interface[0] = info.ipi6_ifindex


cdef inline size_t put_local_v4(uint8_t *room, size_t at, const uint8_t *local) noexcept nogil:
    cdef in_pktinfo info
    memset(&info, 0, sizeof(info))
    memcpy(&info.ipi_spec_dst, local + 12, 4)
    return put_control(room, at, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info))


cdef inline size_t put_local_v6(uint8_t *room, size_t at, const uint8_t *local, uint32_t interface) noexcept nogil:
    cdef in6_pktinfo info
    memset(&info, 0, sizeof(info))
    memcpy(&info.ipi6_addr, local, 16)
    info.ipi6_ifindex = interface
    return put_control(room, at, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info))


cdef inline size_t put_control(uint8_t *room, size_t at, int level, int kind, const void *value,
                               size_t n) noexcept nogil:
    """Appends a control message at offset at; the new end."""
    cdef cmsghdr *c = <cmsghdr *>(room + at)
    memset(c, 0, CMSG_SPACE(n))
    c.cmsg_level = level
    c.cmsg_type = kind
    c.cmsg_len = CMSG_LEN(n)
    memcpy(CMSG_DATA(c), value, n)
    return at + CMSG_SPACE(n)
