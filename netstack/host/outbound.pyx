"""How outgoing sockets are bound: their marks, interface and address."""
from libc.errno cimport ENOSYS, errno
from libc.stdint cimport uint8_t
from libc.string cimport memset, strlen

from netstack.host.names cimport family_of, is_v4, name_set, name_t
from netstack.host.posix cimport (
    AF_INET, HOST_FRAGMENTS_NO, HOST_FRAGMENTS_YES, HOST_IP_FRAGMENTS, HOST_IP_MTU, HOST_LINUX, IPPROTO_IP,
    IPPROTO_IPV6, IPV6_UNICAST_HOPS, IP_TTL, SOCK_DGRAM, SOL_SOCKET, SO_BINDTODEVICE, SO_MARK, bind, close, connect,
    getsockopt, host_socket, setsockopt, socklen_t,
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


cdef void sock_fragments(int fd, bint allowed) noexcept nogil:
    if HOST_IP_FRAGMENTS >= 0:      # one of a scripted host is no descriptor at all: no harm in asking
        set_int(fd, IPPROTO_IP, HOST_IP_FRAGMENTS, HOST_FRAGMENTS_YES if allowed else HOST_FRAGMENTS_NO)


cdef int sock_path_mtu(const uint8_t *addr, const sock_options *opt) noexcept nogil:
    """Asks a socket that sends nothing (ip(7), IP_MTU): what routers have said and what routes are set to is in it."""
    cdef name_t name
    cdef socklen_t length
    cdef int mtu = 0
    cdef int fd
    if HOST_IP_MTU < 0 or not is_v4(addr) or (opt != NULL and opt.script != NULL):
        return 0
    fd = host_socket(AF_INET, SOCK_DGRAM, 0)
    if fd < 0:
        return 0
    if options_apply(fd, AF_INET, opt) == 0:
        if options_have_source(opt, AF_INET):
            length = name_set(&name, opt.source, 0)
            bind(fd, &name.any, length)
        length = name_set(&name, addr, 9)               # any port: nothing is sent
        if connect(fd, &name.any, length) == 0:
            length = sizeof(int)
            if getsockopt(fd, IPPROTO_IP, HOST_IP_MTU, &mtu, &length) < 0:
                mtu = 0
    close(fd)
    return mtu


cdef bint is_wildcard(const uint8_t *addr) noexcept nogil:
    cdef int i
    for i in range(12 if is_v4(addr) else 0, 16):
        if addr[i]:
            return False
    return True


cdef bint options_have_source(const sock_options *opt, int family) noexcept nogil:
    return opt != NULL and family_of(opt.source) == family and not is_wildcard(opt.source)
