# How outgoing sockets are bound: their marks, interface and address.
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint32_t
from netstack.host.posix cimport close, setsockopt

ctypedef struct sock_options:
    int ipv4_ttl                    # 0 = the system's
    uint32_t mark                   # SO_MARK, 0 = none
    char interface_name[16]         # SO_BINDTODEVICE, "" = none
    void *script                    # sockets are those of this scripted host (host/scripted); NULL = the system's
    uint8_t source[16]              # bound to before the first packet, zero = the system's choice

# Whether an address is of the machine's loopback: then neither interface nor source of sock_options apply.
cdef bint sock_is_loopback(const uint8_t *addr) noexcept nogil
cdef sock_options sock_options_near(const sock_options *opt) noexcept nogil     # the options for such a peer
# Sets what opt (may be NULL) asks for, its source apart; 0 or -errno.
cdef int options_apply(int fd, int family, const sock_options *opt) noexcept nogil
# Whether the options name a source of this family.
cdef bint options_have_source(const sock_options *opt, int family) noexcept nogil
# Whether an IPv4 socket's datagrams may be sent in fragments; else they have DF, and above the path's MTU it is
# -EMSGSIZE.
cdef void sock_fragments(int fd, bint allowed) noexcept nogil
# The MTU of the path to an address, as this system knows it, in bytes; 0 where it does not say.
cdef int sock_path_mtu(const uint8_t *addr, const sock_options *opt) noexcept nogil
cdef bint is_wildcard(const uint8_t *addr) noexcept nogil


cdef inline int set_int(int fd, int level, int name, int value) noexcept nogil:
    return 0 if setsockopt(fd, level, name, &value, sizeof(int)) == 0 else -errno


cdef inline int fail(int fd, int rc) noexcept nogil:
    close(fd)
    return rc
