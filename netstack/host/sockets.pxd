# The host's sockets. Addresses are 16 bytes (IPv4 mapped as ::ffff:a.b.c.d), ports in host byte order;
# results are >= 0, or -errno. Everything is non-blocking and close-on-exec. An IPv4-mapped address makes an
# AF_INET socket.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from posix.types cimport pid_t
from netstack.host.message cimport UDP_MAX_SEGMENTS, sock_error, udp_message
from netstack.host.outbound cimport sock_options
from netstack.host.posix cimport iovec
from netstack.host.wake cimport wake_clear, wake_open, wake_signal

# TCP
# fd (perhaps still connecting) or -errno; -ECONNREFUSED where it would be connected to itself
cdef int sock_tcp_connect(const uint8_t *addr, uint16_t port, const sock_options *opt) noexcept nogil
cdef int sock_tcp_listen(const uint8_t *addr, uint16_t port, int backlog, uint16_t *bound) noexcept nogil
cdef int sock_accept(int fd, uint8_t *addr, uint16_t *port) noexcept nogil
cdef int sock_error_of(int fd) noexcept nogil                       # SO_ERROR, as a positive errno or 0
cdef int sock_set_abort(int fd) noexcept nogil                      # SO_LINGER 0: close sends RST
cdef int sock_pair(int *a, int *b) noexcept nogil                   # AF_UNIX stream pair
cdef int sock_shutdown_write(int fd) noexcept nogil
cdef int sock_close(int fd) noexcept nogil
# MSG_NOSIGNAL | MSG_DONTWAIT
cdef ssize_t sock_send(int fd, const void *data, size_t length) noexcept nogil
cdef ssize_t sock_sendv(int fd, const iovec *iov, int n) noexcept nogil
cdef ssize_t sock_recvv(int fd, const iovec *iov, int n) noexcept nogil              # 0 = end of file
# Datagrams
# unconnected, IP_RECVERR, UDP_GRO where there is one; a wildcard address is the source of the options
cdef int sock_udp_open(const uint8_t *any_addr, const sock_options *opt) noexcept nogil
# Has sock_udp_recv say to which of the host's addresses a datagram came, for a socket bound to all of them.
cdef void sock_udp_tell_local(int fd) noexcept nogil
cdef int sock_udp_connect(int fd, const uint8_t *addr, uint16_t port) noexcept nogil
# A pending error that an ICMP message left on the socket hinders neither of the next two: sock_recv_error
# gives it.
# recvmmsg: messages received (<= 64)
cdef int sock_udp_recv(int fd, udp_message *out, int n) noexcept nogil
# sendmmsg: messages sent; -errno if the first failed
cdef int sock_udp_send(int fd, const udp_message *msgs, int n) noexcept nogil
# opens a socket to find out: ask once
cdef int sock_udp_has_gso() noexcept nogil
# Unprivileged echo (net.ipv4.ping_group_range); raw as the fall-back of a process with CAP_NET_RAW.
# *ident is what the kernel (or, for a raw socket, chance) chose: write it into the echo requests. -EACCES:
# neither is allowed.
cdef int sock_ping_open(bint ipv6, const sock_options *opt, uint16_t *ident) noexcept nogil
cdef bint sock_ping_is_raw(int fd) noexcept nogil
# Sends an echo request: icmp begins with the ICMP header, has ident in it and a complete checksum (ICMPv6:
# the kernel fills it in). ttl 0 = default. Bytes sent or -errno.
cdef int sock_ping_send(int fd, const uint8_t *addr, const uint8_t *icmp, uint32_t length,
                        uint8_t ttl) noexcept nogil
# Receives one ICMP message, from the ICMP header on; its length or -errno. addr: who sent it; ttl as it came,
# 0 unknown. A ping socket gives echo replies only (ICMP errors: sock_recv_error). A raw socket gives replies
# and ICMP errors about our requests alike, all with our ident: the caller tells them by the type byte, 0
# (ICMP) or 129 (ICMPv6) being a reply.
cdef int sock_ping_recv(int fd, uint8_t *buf, uint32_t room, uint8_t *addr, uint8_t *ttl) noexcept nogil
# 1, 0 when the queue is empty, or -errno
cdef int sock_recv_error(int fd, sock_error *out) noexcept nogil
cdef int sock_local(int fd, uint8_t *addr, uint16_t *port) noexcept nogil            # getsockname
