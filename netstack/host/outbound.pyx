"""How outgoing sockets are bound: their marks, interface and address."""
from libc.errno cimport ENOSYS, errno
from libc.stdint cimport uint8_t
from libc.string cimport memset, strlen

from netstack.host.names cimport family_of, is_v4
from netstack.host.posix cimport (
    AF_INET, HOST_LINUX, IPPROTO_IP, IPPROTO_IPV6, IPV6_UNICAST_HOPS, IP_TTL, SOL_SOCKET, SO_BINDTODEVICE, SO_MARK,
    setsockopt, socklen_t,
)


cdef int options_apply(int fd, int family, const sock_options *opt) noexcept nogil:
    cdef int rc
    if opt == NULL:
        return 0
    if opt.ipv4_ttl > 0:
        if family == AF_INET:
            rc = set_int(fd, IPPROTO_IP, IP_TTL, opt.ipv4_ttl)
        else:
            rc = set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, opt.ipv4_ttl)
        if rc < 0:
            return rc
    if opt.mark:
        rc = -ENOSYS
        if HOST_LINUX:
            rc = set_int(fd, SOL_SOCKET, SO_MARK, <int>opt.mark)
        if rc < 0:
            return rc
    if opt.interface_name[0]:
        if not HOST_LINUX:
            return -ENOSYS
        if setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, opt.interface_name,
                      <socklen_t>strlen(opt.interface_name)) < 0:
            return -errno
    return 0


cdef bint sock_is_loopback(const uint8_t *addr) noexcept nogil:
    cdef int i
    if is_v4(addr):
        return addr[12] == 127
    for i in range(15):
        if addr[i]:
            return False
    return addr[15] == 1


cdef sock_options sock_options_near(const sock_options *opt) noexcept nogil:
    cdef sock_options near = opt[0]
    near.interface_name[0] = 0
    memset(near.source, 0, 16)
    return near


cdef bint is_wildcard(const uint8_t *addr) noexcept nogil:
    cdef int i
    for i in range(12 if is_v4(addr) else 0, 16):
        if addr[i]:
            return False
    return True


cdef bint options_have_source(const sock_options *opt, int family) noexcept nogil:
    return opt != NULL and family_of(opt.source) == family and not is_wildcard(opt.source)
