"""The host's sockets: TCP, UDP in batches, echo, error queues, wake-ups.

Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d; ports are in host byte order. Every function returns >= 0 or
-errno, and every descriptor it makes is non-blocking and close-on-exec.
"""
from libc.errno cimport (
    EACCES, EAGAIN, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EINPROGRESS, EINTR, EINVAL, EIO, EMSGSIZE,
    ENETUNREACH, ENOPROTOOPT, EOPNOTSUPP, EPERM, EPROTO, EPROTONOSUPPORT, errno,
)
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from netstack.host.clock cimport random_fill
from netstack.host.names cimport (
    control_t, family_of, get_local_v4, get_local_v6, is_v4, name_get, name_set, name_t, put_control, put_local_v4,
    put_local_v6, ttl_of,
)
from netstack.host.outbound cimport (
    fail, is_wildcard, options_apply, options_have_source, set_int, sock_is_loopback, sock_options_near,
)
from netstack.host.posix cimport (
    AF_INET, AF_INET6, CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, HOST_CMSG_TOS, HOST_CMSG_TTL,
    HOST_DGRAM_ICMP_HEADER, HOST_IP_RECVPKTINFO, HOST_LINUX, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_IP, IPPROTO_IPV6,
    IPPROTO_TCP, IPV6_HOPLIMIT, IPV6_PKTINFO, IPV6_RECVERR, IPV6_RECVHOPLIMIT, IPV6_RECVPKTINFO, IPV6_RECVTCLASS,
    IPV6_TCLASS, IPV6_V6ONLY, IP_BIND_ADDRESS_NO_PORT, IP_PKTINFO, IP_RECVERR, IP_RECVTOS,
    IP_RECVTTL, IP_TOS, IP_TTL, MSG_DONTWAIT, MSG_ERRQUEUE,
    MSG_NOSIGNAL, SHUT_WR, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, SOL_SOCKET, SOL_UDP,
    SO_EE_OFFENDER, SO_ERROR, SO_LINGER, SO_OOBINLINE, SO_RCVBUF, SO_REUSEADDR, SO_TYPE,
    TCP_NODELAY, UDP_GRO, UDP_SEGMENT, bind, close, cmsghdr, connect, getsockname, getsockopt, host_accept,
    host_pair, host_ping_filter, host_recvmmsg, host_sendmmsg, host_socket, linger_t,
    listen, mmsghdr, msghdr, readv, recvmsg, send, sendmsg, setsockopt, shutdown, sock_extended_err,
    sockaddr_in, socklen_t,
)
from netstack.host.scripted cimport (
    SCRIPTED_FD, SCRIPTED_PING, SCRIPTED_UDP, scripted_close, scripted_error_of, scripted_open, scripted_ping_recv,
    scripted_ping_send, scripted_recv_error, scripted_recvv, scripted_send, scripted_sendv, scripted_set_abort,
    scripted_shutdown_write, scripted_tcp_connect, scripted_udp_connect, scripted_udp_recv, scripted_udp_send,
)

cdef enum:
    BATCH = 64                  # messages of one system call
    UDP_BUFFER = 1 << 20        # bytes; the system may grant less


# TCP

cdef inline void tcp_defaults(int fd) noexcept nogil:
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1)        # the guest's own Nagle decides; ours would only add delay
    set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1)        # urgent bytes are part of the stream (RFC 6093)


cdef int sock_tcp_connect(const uint8_t *addr, uint16_t port, const sock_options *opt) noexcept nogil:
    """A socket that is connected or (usually) still connecting; -errno when the attempt failed at once."""
    cdef int family = family_of(addr)
    cdef name_t name, local
    cdef sock_options near
    cdef socklen_t length = name_set(&name, addr, port)
    cdef int fd, rc
    if opt != NULL and opt.script != NULL:
        return scripted_tcp_connect(opt.script, addr, port)
    fd = host_socket(family, SOCK_STREAM, 0)
    if fd < 0:
        return fd
    tcp_defaults(fd)
    if opt != NULL and sock_is_loopback(addr):
        near = sock_options_near(opt)
        opt = &near
    rc = options_apply(fd, family, opt)
    if rc < 0:
        return fail(fd, rc)
    if options_have_source(opt, family):
        if HOST_LINUX:
            set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)     # the port is chosen for the peer, at connect
        if bind(fd, &local.any, name_set(&local, opt.source, 0)) < 0:
            return fail(fd, -errno)
    if connect(fd, &name.any, length) < 0 and errno != EINPROGRESS and errno != EINTR:
        return fail(fd, -errno)
    if meets_itself(fd, addr, port):
        return fail(fd, -ECONNREFUSED)
    return fd


cdef bint meets_itself(int fd, const uint8_t *addr, uint16_t port) noexcept nogil:
    """A connect to a closed port of this host is given that very port as its own now and then, and succeeds: two
    ends that open at once (RFC 9293 section 3.5), both this one. Nobody listens there all the same. The port is
    chosen when the connect begins."""
    cdef uint8_t[16] own
    cdef uint16_t own_port
    return sock_local(fd, own, &own_port) == 0 and own_port == port and memcmp(own, addr, 16) == 0


cdef int sock_tcp_listen(const uint8_t *addr, uint16_t port, int backlog, uint16_t *bound) noexcept nogil:
    """A listening socket; bound (may be NULL) gets the port, which the system chooses when port is 0."""
    cdef int family = family_of(addr)
    cdef name_t name
    cdef socklen_t length = name_set(&name, addr, port)
    cdef uint8_t local[16]
    cdef int fd = host_socket(family, SOCK_STREAM, 0)
    cdef int rc
    if fd < 0:
        return fd
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1)
    if family == AF_INET6:
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
    if bind(fd, &name.any, length) < 0 or listen(fd, backlog) < 0:
        return fail(fd, -errno)
    if bound != NULL:
        rc = sock_local(fd, local, bound)
        if rc < 0:
            return fail(fd, rc)
    return fd


cdef int sock_accept(int fd, uint8_t *addr, uint16_t *port) noexcept nogil:
    """The next connection, or -errno (-EAGAIN: none waits). addr is zero for a Unix socket's peer."""
    cdef name_t name
    cdef socklen_t length = sizeof(name_t)
    cdef int got
    memset(&name, 0, sizeof(name))
    got = host_accept(fd, &name.any, &length)
    if got < 0:
        return got
    name_get(&name, length, addr, port)
    if name.any.sa_family == AF_INET or name.any.sa_family == AF_INET6:
        tcp_defaults(got)
    return got


cdef int sock_error_of(int fd) noexcept nogil:
    """Takes SO_ERROR: a positive errno, or 0."""
    cdef int value = 0
    cdef socklen_t length = sizeof(int)
    if fd >= SCRIPTED_FD:
        return scripted_error_of(fd)
    if getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) < 0:
        return errno
    return value


cdef int sock_set_abort(int fd) noexcept nogil:
    """Makes close send RST and throw away what was not sent."""
    cdef linger_t l
    if fd >= SCRIPTED_FD:
        return scripted_set_abort(fd)
    l.l_onoff = 1
    l.l_linger = 0
    return 0 if setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) == 0 else -errno


cdef int sock_pair(int *a, int *b) noexcept nogil:
    """Two connected Unix stream sockets."""
    cdef int fds[2]
    cdef int rc = host_pair(fds)
    if rc == 0:
        a[0] = fds[0]
        b[0] = fds[1]
    return rc


cdef int sock_shutdown_write(int fd) noexcept nogil:
    if fd >= SCRIPTED_FD:
        return scripted_shutdown_write(fd)
    return 0 if shutdown(fd, SHUT_WR) == 0 else -errno


cdef int sock_close(int fd) noexcept nogil:
    if fd >= SCRIPTED_FD:
        return scripted_close(fd)
    # Not repeated after EINTR: Linux has freed the descriptor by then.
    return 0 if close(fd) == 0 else -errno


cdef ssize_t sock_send(int fd, const void *data, size_t length) noexcept nogil:
    """Bytes taken or -errno."""
    cdef ssize_t n
    if fd >= SCRIPTED_FD:
        return scripted_send(fd, data, length)
    while True:
        n = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)
        if n >= 0:
            return n
        if errno != EINTR:
            return -errno


cdef ssize_t sock_sendv(int fd, const iovec *iov, int n) noexcept nogil:
    """Bytes taken or -errno."""
    cdef msghdr m
    cdef ssize_t k
    if fd >= SCRIPTED_FD:
        return scripted_sendv(fd, iov, n)
    memset(&m, 0, sizeof(m))
    m.msg_iov = <iovec *>iov
    m.msg_iovlen = n
    while True:
        k = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT)
        if k >= 0:
            return k
        if errno != EINTR:
            return -errno


cdef ssize_t sock_recvv(int fd, const iovec *iov, int n) noexcept nogil:
    """Bytes received, 0 at the end of the stream, or -errno."""
    cdef ssize_t k
    if fd >= SCRIPTED_FD:
        return scripted_recvv(fd, iov, n)
    while True:
        k = readv(fd, iov, n)
        if k >= 0:
            return k
        if errno != EINTR:
            return -errno


# Datagrams

cdef int sock_udp_open(const uint8_t *any_addr, const sock_options *opt) noexcept nogil:
    """A UDP socket bound to any_addr (mostly the wildcard of the family) and a port that the system chooses.
    """
    cdef int family = family_of(any_addr)
    cdef name_t name
    cdef socklen_t length = name_set(&name, any_addr, 0)
    cdef int fd, rc
    if opt != NULL and opt.script != NULL:
        return scripted_open(opt.script, SCRIPTED_UDP, NULL)
    fd = host_socket(family, SOCK_DGRAM, 0)
    if fd < 0:
        return fd
    rc = options_apply(fd, family, opt)
    if rc < 0:
        return fail(fd, rc)
    set_int(fd, SOL_SOCKET, SO_RCVBUF, UDP_BUFFER)
    if family == AF_INET:
        set_int(fd, IPPROTO_IP, IP_RECVTTL, 1)
        set_int(fd, IPPROTO_IP, IP_RECVTOS, 1)
    else:
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1)
        set_int(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
        set_int(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1)
    if HOST_LINUX:
        set_int(fd, SOL_UDP, UDP_GRO, 1)            # Linux 5.0; without it datagrams come one by one
        if family == AF_INET:
            set_int(fd, IPPROTO_IP, IP_RECVERR, 1)
        else:
            set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 1)
    if is_wildcard(any_addr) and options_have_source(opt, family):
        length = name_set(&name, opt.source, 0)
    if bind(fd, &name.any, length) < 0:
        return fail(fd, -errno)
    return fd


cdef void sock_udp_tell_local(int fd) noexcept nogil:
    cdef uint8_t[16] addr
    cdef uint16_t port = 0
    if sock_local(fd, addr, &port) < 0 or port == 0:
        return
    if is_v4(addr) and addr[12] == 0:
        set_int(fd, IPPROTO_IP, HOST_IP_RECVPKTINFO, 1)
    elif memcmp(addr, b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16) == 0:
        set_int(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


cdef int sock_udp_connect(int fd, const uint8_t *addr, uint16_t port) noexcept nogil:
    """Fixes the peer; 0 or -errno."""
    cdef name_t name
    cdef socklen_t length = name_set(&name, addr, port)
    if fd >= SCRIPTED_FD:
        return scripted_udp_connect(fd, addr, port)
    return 0 if connect(fd, &name.any, length) == 0 else -errno


cdef int sock_udp_recv(int fd, udp_message *out, int n) noexcept nogil:
    """Fills up to n messages (at most 64 a call) whose data and length give the room; their number or -errno.

    A joined message (gso_size > 0) holds datagrams of gso_size bytes each, the last perhaps shorter: give 64
    KiB of room.
    """
    cdef mmsghdr m[BATCH]
    cdef iovec iov[BATCH]
    cdef name_t names[BATCH]
    cdef control_t controls[BATCH]
    cdef cmsghdr *c
    cdef int i, got, value, tries = 0
    if fd >= SCRIPTED_FD:
        return scripted_udp_recv(fd, out, n)
    if n > BATCH:
        n = BATCH
    for i in range(n):
        memset(&m[i], 0, sizeof(mmsghdr))
        iov[i].iov_base = out[i].data
        iov[i].iov_len = out[i].length
        m[i].msg_hdr.msg_name = &names[i]
        m[i].msg_hdr.msg_namelen = sizeof(name_t)
        m[i].msg_hdr.msg_iov = &iov[i]
        m[i].msg_hdr.msg_iovlen = 1
        m[i].msg_hdr.msg_control = &controls[i]
        m[i].msg_hdr.msg_controllen = sizeof(control_t)
    while True:
        got = host_recvmmsg(fd, m, <unsigned int>n)
        if got >= 0:
            break
        if stale(errno) and tries < 3:      # the error queue has it
            tries += 1
        elif errno != EINTR:
            return -errno
    for i in range(got):
        out[i].length = m[i].msg_len
        out[i].gso_size = 0
        out[i].ttl = 0
        out[i].tos = 0
        out[i].interface = 0
        memset(out[i].local, 0, 16)
        name_get(&names[i], m[i].msg_hdr.msg_namelen, out[i].addr, &out[i].port)
        c = CMSG_FIRSTHDR(&m[i].msg_hdr)
        while c != NULL:
            if c.cmsg_level == IPPROTO_IP and c.cmsg_type == HOST_CMSG_TTL:
                out[i].ttl = ttl_of(c)
            elif c.cmsg_level == IPPROTO_IP and c.cmsg_type == HOST_CMSG_TOS:
                out[i].tos = CMSG_DATA(c)[0]
            elif c.cmsg_level == IPPROTO_IPV6 and c.cmsg_type == IPV6_HOPLIMIT:
                out[i].ttl = ttl_of(c)
            elif c.cmsg_level == IPPROTO_IPV6 and c.cmsg_type == IPV6_TCLASS:
                memcpy(&value, CMSG_DATA(c), sizeof(int))
                out[i].tos = <uint8_t>value
            elif c.cmsg_level == IPPROTO_IP and c.cmsg_type == IP_PKTINFO:
                get_local_v4(c, out[i].local)
            elif c.cmsg_level == IPPROTO_IPV6 and c.cmsg_type == IPV6_PKTINFO:
                get_local_v6(c, out[i].addr, out[i].local, &out[i].interface)
            elif HOST_LINUX and c.cmsg_level == SOL_UDP and c.cmsg_type == UDP_GRO:
                memcpy(&value, CMSG_DATA(c), sizeof(int))
                if value > 0 and <uint32_t>value < out[i].length:
                    out[i].gso_size = <uint16_t>value
            c = CMSG_NXTHDR(&m[i].msg_hdr, c)
    return got


cdef void prepare(mmsghdr *m, iovec *iov, name_t *name, control_t *control, const udp_message *msg,
                  uint8_t *data,
                  uint32_t length, uint16_t gso_size) noexcept nogil:
    """One message header for length bytes of msg at data."""
    cdef size_t at = 0
    cdef int value
    cdef bint v4 = is_v4(msg.addr)
    memset(m, 0, sizeof(mmsghdr))
    iov.iov_base = data
    iov.iov_len = length
    m.msg_hdr.msg_iov = iov
    m.msg_hdr.msg_iovlen = 1
    if msg.port:
        m.msg_hdr.msg_namelen = name_set(name, msg.addr, msg.port)
        m.msg_hdr.msg_name = name
    if msg.ttl:
        value = msg.ttl
        if v4:
            at = put_control(control.bytes, at, IPPROTO_IP, IP_TTL, &value, sizeof(int))
        else:
            at = put_control(control.bytes, at, IPPROTO_IPV6, IPV6_HOPLIMIT, &value, sizeof(int))
    if msg.tos:
        value = msg.tos
        if v4:
            at = put_control(control.bytes, at, IPPROTO_IP, IP_TOS, &value, sizeof(int))
        else:
            at = put_control(control.bytes, at, IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof(int))
    if v4 and msg.local[10]:
        at = put_local_v4(control.bytes, at, msg.local)
    elif not v4 and (msg.local[0] or msg.local[15]):
        at = put_local_v6(control.bytes, at, msg.local, msg.interface)
    if gso_size:
        at = put_control(control.bytes, at, SOL_UDP, UDP_SEGMENT, &gso_size, sizeof(uint16_t))
    if at:
        m.msg_hdr.msg_control = control
        m.msg_hdr.msg_controllen = at


cdef inline bint stale(int error) noexcept nogil:
    """True for an errno that an ICMP error about an earlier datagram may have left on the socket."""
    return error == ECONNREFUSED or error == EHOSTUNREACH or error == ENETUNREACH or error == EHOSTDOWN or \
        error == EPROTO or error == EACCES or error == EOPNOTSUPP or error == ENOPROTOOPT or error == EMSGSIZE


cdef int send_batch(int fd, mmsghdr *m, int n) noexcept nogil:
    """sendmmsg; a left-over error is reported once by the kernel instead of sending, so then it is tried
    again.
    """
    cdef int got, tries = 0
    while True:
        got = host_sendmmsg(fd, m, <unsigned int>n)
        if got >= 0:
            return got
        if errno == EINTR:
            continue
        if not stale(errno) or tries == (1 if errno == EMSGSIZE else 3):
            return -errno           # EMSGSIZE a second time is about this very datagram
        tries += 1


cdef int send_joined(int fd, const udp_message *msg) noexcept nogil:
    """Sends one joined message as single datagrams: 1 when at least one went out, else -errno."""
    cdef mmsghdr m[BATCH]
    cdef iovec iov[BATCH]
    cdef name_t names[BATCH]
    cdef control_t controls[BATCH]
    cdef uint32_t begin = 0         # what has gone out so far
    cdef uint32_t at, n
    cdef int k, got
    while begin < msg.length:
        at = begin
        k = 0
        while k < BATCH and at < msg.length:
            n = msg.length - at
            if n > msg.gso_size:
                n = msg.gso_size
            prepare(&m[k], &iov[k], &names[k], &controls[k], msg, msg.data + at, n, 0)
            at += n
            k += 1
        got = send_batch(fd, m, k)
        if got < 0:
            return 1 if begin else got
        if got < k:         # the rest met an error or a full buffer: datagrams may be lost, and these are
            return 1
        begin = at
    return 1


cdef int sock_udp_send(int fd, const udp_message *msgs, int n) noexcept nogil:
    """Sends up to n messages (at most 64 a call): the number taken, or -errno when the first failed.

    A message with gso_size goes out as datagrams of that size. Where the kernel or the route refuses to do
    that (no UDP_SEGMENT before Linux 4.18, no checksum offload, segments above the path's MTU) they are sent
    one by one.
    """
    cdef mmsghdr m[BATCH]
    cdef iovec iov[BATCH]
    cdef name_t names[BATCH]
    cdef control_t controls[BATCH]
    cdef int i, got
    cdef uint16_t gso_size
    if fd >= SCRIPTED_FD:
        return scripted_udp_send(fd, msgs, n)
    if n > BATCH:
        n = BATCH
    for i in range(n):
        gso_size = msgs[i].gso_size if msgs[i].gso_size < msgs[i].length else 0
        if gso_size and (not HOST_LINUX or msgs[i].length > <uint32_t>UDP_MAX_SEGMENTS * gso_size):
            if i == 0:
                return send_joined(fd, &msgs[0])
            n = i                   # those before it now, this one with the next call
            break
        prepare(&m[i], &iov[i], &names[i], &controls[i], &msgs[i], msgs[i].data, msgs[i].length, gso_size)
    if n <= 0:
        return 0
    got = send_batch(fd, m, n)
    if (got == -EINVAL or got == -EIO or got == -EMSGSIZE) and 0 < msgs[0].gso_size < msgs[0].length:
        return send_joined(fd, &msgs[0])
    return got


cdef int sock_udp_has_gso() noexcept nogil:
    """1 when the kernel knows UDP_SEGMENT, else 0."""
    cdef int value = 0
    cdef socklen_t length = sizeof(int)
    cdef int fd, known
    if not HOST_LINUX:
        return 0
    fd = host_socket(AF_INET, SOCK_DGRAM, 0)
    if fd < 0:
        fd = host_socket(AF_INET6, SOCK_DGRAM, 0)
        if fd < 0:
            return 0
    known = getsockopt(fd, SOL_UDP, UDP_SEGMENT, &value, &length) == 0
    close(fd)
    return known


cdef int sock_local(int fd, uint8_t *addr, uint16_t *port) noexcept nogil:
    """The socket's own address and port (zero for a Unix socket); 0 or -errno."""
    cdef name_t name
    cdef socklen_t length = sizeof(name_t)
    memset(&name, 0, sizeof(name))
    if getsockname(fd, &name.any, &length) < 0:
        return -errno
    name_get(&name, length, addr, port)
    return 0


# Echo

cdef int sock_ping_open(bint ipv6, const sock_options *opt, uint16_t *ident) noexcept nogil:
    """An echo socket: unprivileged where net.ipv4.ping_group_range allows it, else raw (CAP_NET_RAW), else
    -EACCES.
    """
    cdef int family = AF_INET6 if ipv6 else AF_INET
    cdef int protocol = IPPROTO_ICMPV6 if ipv6 else IPPROTO_ICMP
    cdef name_t name
    cdef uint8_t any_addr[16]
    cdef uint8_t local[16]
    cdef bint raw = False
    cdef int rc, fd
    if opt != NULL and opt.script != NULL:
        return scripted_open(opt.script, SCRIPTED_PING, ident)
    fd = host_socket(family, SOCK_DGRAM, protocol)
    if fd == -EACCES or fd == -EPERM or fd == -EPROTONOSUPPORT:
        raw = True
        fd = host_socket(family, SOCK_RAW, protocol)
        if fd == -EPERM or fd == -EACCES:
            return -EACCES
    if fd < 0:
        return fd
    rc = options_apply(fd, family, opt)
    if rc < 0:
        return fail(fd, rc)
    if ipv6:
        set_int(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1)
    else:
        set_int(fd, IPPROTO_IP, IP_RECVTTL, 1)
    if raw or not HOST_LINUX:
        rc = random_fill(ident, sizeof(uint16_t))
        if rc == 0 and raw:
            rc = host_ping_filter(fd, ipv6, ident[0])
        return fd if rc == 0 else fail(fd, rc)
    if ipv6:
        set_int(fd, IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        set_int(fd, IPPROTO_IP, IP_RECVERR, 1)
    memset(any_addr, 0, 16)
    if not ipv6:
        any_addr[10] = any_addr[11] = 0xff
    if options_have_source(opt, family):
        memcpy(any_addr, opt.source, 16)
    if bind(fd, &name.any, name_set(&name, any_addr, 0)) < 0:
        return fail(fd, -errno)
    rc = sock_local(fd, local, ident)
    return fd if rc == 0 else fail(fd, rc)


cdef bint sock_ping_is_raw(int fd) noexcept nogil:
    """True when sock_ping_open had to take a raw socket."""
    cdef int value = 0
    cdef socklen_t length = sizeof(int)
    if fd >= SCRIPTED_FD:
        return False
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length) == 0 and value == SOCK_RAW


cdef int sock_ping_send(int fd, const uint8_t *addr, const uint8_t *icmp, uint32_t length,
                        uint8_t ttl) noexcept nogil:
    """Sends one echo request; see the contract for who fills in ident and checksum."""
    cdef mmsghdr m
    cdef iovec iov
    cdef name_t name
    cdef control_t control
    cdef udp_message msg
    cdef int got
    if fd >= SCRIPTED_FD:
        return scripted_ping_send(fd, addr, icmp, length, ttl)
    memset(&msg, 0, sizeof(msg))
    memcpy(msg.addr, addr, 16)
    msg.ttl = ttl
    prepare(&m, &iov, &name, &control, &msg, <uint8_t *>icmp, length, 0)
    m.msg_hdr.msg_namelen = name_set(&name, addr, 0)
    m.msg_hdr.msg_name = &name
    got = send_batch(fd, &m, 1)
    return got if got < 0 else <int>m.msg_len


cdef int sock_ping_recv(int fd, uint8_t *buf, uint32_t room, uint8_t *addr, uint8_t *ttl) noexcept nogil:
    """One ICMP message from its header on; its length (at most room) or -errno.

    A message that makes no sense is -EAGAIN.
    """
    cdef msghdr m
    cdef iovec iov[2]
    cdef name_t name
    cdef control_t control
    cdef uint8_t header[20]
    cdef cmsghdr *c
    cdef uint16_t port
    cdef ssize_t n
    cdef int skip, tries = 0
    cdef bint has_header
    cdef uint8_t local[16]
    if fd >= SCRIPTED_FD:
        return scripted_ping_recv(fd, buf, room, addr, ttl)
    # An IPv4 raw socket (and any IPv4 echo socket of macOS) puts the IP header in front.
    has_header = sock_ping_is_raw(fd) or HOST_DGRAM_ICMP_HEADER
    has_header = has_header and sock_local(fd, local, &port) == 0 and is_v4(local)
    memset(&m, 0, sizeof(m))
    memset(&name, 0, sizeof(name))
    iov[0].iov_base = header
    iov[0].iov_len = 20
    iov[1].iov_base = buf
    iov[1].iov_len = room
    m.msg_name = &name
    m.msg_namelen = sizeof(name_t)
    m.msg_iov = &iov[0 if has_header else 1]
    m.msg_iovlen = 2 if has_header else 1
    m.msg_control = &control
    m.msg_controllen = sizeof(control_t)
    while True:
        n = recvmsg(fd, &m, MSG_DONTWAIT)
        if n >= 0:
            break
        if stale(errno) and tries < 3:
            tries += 1
        elif errno != EINTR:
            return -errno
    name_get(&name, m.msg_namelen, addr, &port)
    ttl[0] = 0
    c = CMSG_FIRSTHDR(&m)
    while c != NULL:
        if (c.cmsg_level == IPPROTO_IP and c.cmsg_type == HOST_CMSG_TTL) or (
                c.cmsg_level == IPPROTO_IPV6 and c.cmsg_type == IPV6_HOPLIMIT):
            ttl[0] = ttl_of(c)
        c = CMSG_NXTHDR(&m, c)
    if not has_header:
        return <int>n
    skip = (header[0] & 15) * 4 - 20            # options, which lie at the beginning of buf
    if n < 20 or skip < 0 or n < 20 + skip or <uint32_t>skip > room:
        return -EAGAIN
    n -= 20
    if skip:
        memmove(buf, buf + skip, n - skip)
    ttl[0] = header[8]
    return <int>n - skip


cdef int sock_recv_error(int fd, sock_error *out) noexcept nogil:
    """Takes one entry of the error queue: 1, 0 when it is empty, or -errno."""
    cdef msghdr m
    cdef iovec iov
    cdef name_t name
    if fd >= SCRIPTED_FD:
        return scripted_recv_error(fd, out)
    # the error, the offender's address and the RECVTTL and RECVTOS messages
    cdef uint64_t room[64]
    cdef cmsghdr *c
    cdef sock_extended_err *e
    cdef name_t *offender
    cdef socklen_t room_left
    cdef uint16_t port
    cdef ssize_t n
    cdef int found = 0
    if not HOST_LINUX:
        return 0
    memset(&m, 0, sizeof(m))
    memset(&name, 0, sizeof(name))
    iov.iov_base = out.payload
    iov.iov_len = out.payload_length
    m.msg_name = &name
    m.msg_namelen = sizeof(name_t)
    m.msg_iov = &iov
    m.msg_iovlen = 1
    m.msg_control = room
    m.msg_controllen = sizeof(room)
    while True:
        n = recvmsg(fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT)
        if n >= 0:
            break
        if errno == EAGAIN:
            return 0
        if errno != EINTR:
            return -errno
    out.error = out.origin = out.type = out.code = 0
    out.info = 0
    memset(out.offender, 0, 16)
    out.payload_length = <uint32_t>n
    name_get(&name, m.msg_namelen, out.peer, &out.peer_port)
    c = CMSG_FIRSTHDR(&m)
    while c != NULL:
        if (c.cmsg_level == IPPROTO_IP and c.cmsg_type == IP_RECVERR) or (
                c.cmsg_level == IPPROTO_IPV6 and c.cmsg_type == IPV6_RECVERR):
            e = <sock_extended_err *>CMSG_DATA(c)
            out.error = <int>e.ee_errno
            out.origin = e.ee_origin
            out.type = e.ee_type
            out.code = e.ee_code
            out.info = e.ee_info
            offender = <name_t *>SO_EE_OFFENDER(e)
            room_left = <socklen_t>(c.cmsg_len - CMSG_LEN(sizeof(sock_extended_err)))
            if room_left >= sizeof(sockaddr_in) and offender.any.sa_family:
                name_get(offender, room_left, out.offender, &port)
            found = 1
        c = CMSG_NXTHDR(&m, c)
    return 1 if found else -EIO
