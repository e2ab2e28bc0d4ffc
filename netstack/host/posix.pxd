# The C library's socket functions and the differences between systems, declared once. Inline: no module
# behind this file.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef extern from "<sys/uio.h>" nogil:
    ctypedef struct iovec "struct iovec":
        void *iov_base
        size_t iov_len

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #ifdef __APPLE__
    #define __APPLE_USE_RFC_3542
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <string.h>
    #include <unistd.h>
    #include <sys/types.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <arpa/inet.h>
    #ifdef __linux__
    #include <linux/errqueue.h>
    #include <linux/filter.h>
    #include <sys/eventfd.h>
    #define HOST_LINUX 1
    #else
    #define HOST_LINUX 0
    #define MSG_ERRQUEUE 0
    #define SO_MARK (-1)
    #define SO_BINDTODEVICE (-1)
    #define IP_RECVERR (-1)
    #define IPV6_RECVERR (-1)
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    struct sock_extended_err {
        uint32_t ee_errno; uint8_t ee_origin; uint8_t ee_type; uint8_t ee_code; uint8_t ee_pad;
        uint32_t ee_info; uint32_t ee_data;
    };
    #define SO_EE_OFFENDER(e) ((struct sockaddr *)((e) + 1))
    #endif
    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0
    #endif
    #ifndef IP_BIND_ADDRESS_NO_PORT
    #define IP_BIND_ADDRESS_NO_PORT 24
    #endif
    #if defined(__linux__)
    #define HOST_IP_FRAGMENTS IP_MTU_DISCOVER
    #define HOST_FRAGMENTS_YES IP_PMTUDISC_DONT
    #define HOST_FRAGMENTS_NO IP_PMTUDISC_DO
    #define HOST_IP_MTU IP_MTU
    #else
    #ifdef IP_DONTFRAG
    #define HOST_IP_FRAGMENTS IP_DONTFRAG
    #else
    #define HOST_IP_FRAGMENTS -1
    #endif
    #define HOST_FRAGMENTS_YES 0
    #define HOST_FRAGMENTS_NO 1
    #define HOST_IP_MTU -1
    #endif
    #ifndef UDP_SEGMENT
    #define UDP_SEGMENT 103
    #endif
    #ifndef UDP_GRO
    #define UDP_GRO 104
    #endif
    #ifndef SOL_UDP
    #define SOL_UDP 17
    #endif
    #ifndef IP_RECVTTL
    #define IP_RECVTTL (-1)
    #endif
    #ifndef IP_RECVTOS
    #define IP_RECVTOS (-1)
    #endif
    #ifdef IP_RECVPKTINFO
    #define HOST_IP_RECVPKTINFO IP_RECVPKTINFO
    #else
    #define HOST_IP_RECVPKTINFO IP_PKTINFO
    #endif
    #ifdef __APPLE__        /* the control message that carries it has the option's name there */
    #define HOST_CMSG_TTL IP_RECVTTL
    #define HOST_CMSG_TOS IP_RECVTOS
    #define HOST_DGRAM_ICMP_HEADER 1
    #else
    #define HOST_CMSG_TTL IP_TTL
    #define HOST_CMSG_TOS IP_TOS
    #define HOST_DGRAM_ICMP_HEADER 0
    #endif

    static inline int host_fresh(int fd) {     /* non-blocking, close-on-exec, no SIGPIPE */
        int e;
        if (fd < 0) return -errno;
    #ifdef SO_NOSIGPIPE
        { int one = 1; setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one); }
    #endif
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
            e = errno;
            close(fd);
            return -e;
        }
        return fd;
    }
    static inline int host_socket(int family, int type, int protocol) {
    #ifdef __linux__
        int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
        return fd < 0 ? -errno : fd;
    #else
        return host_fresh(socket(family, type, protocol));
    #endif
    }
    static inline int host_accept(int fd, struct sockaddr *name, socklen_t *length) {
    #ifdef __linux__
        int got = accept4(fd, name, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        return got < 0 ? -errno : got;
    #else
        return host_fresh(accept(fd, name, length));
    #endif
    }
    static inline int host_pair(int *fds) {
    #ifdef __linux__
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
    #else
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) return -errno;
        host_fresh(fds[0]);
        host_fresh(fds[1]);
        return 0;
    #endif
    }
    static inline int host_recvmmsg(int fd, struct mmsghdr *m, unsigned n) {
    #ifdef __linux__
        return recvmmsg(fd, m, n, MSG_DONTWAIT, NULL);
    #else
        unsigned i;
        for (i = 0; i < n; i++) {
            ssize_t k = recvmsg(fd, &m[i].msg_hdr, MSG_DONTWAIT);
            if (k < 0) return i ? (int)i : -1;
            m[i].msg_len = (unsigned)k;
        }
        return (int)n;
    #endif
    }
    static inline int host_sendmmsg(int fd, struct mmsghdr *m, unsigned n) {
    #ifdef __linux__
        return sendmmsg(fd, m, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    #else
        unsigned i;
        for (i = 0; i < n; i++) {
            ssize_t k = sendmsg(fd, &m[i].msg_hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (k < 0) return i ? (int)i : -1;
            m[i].msg_len = (unsigned)k;
        }
        return (int)n;
    #endif
    }
    static inline int host_wake_open(int *r, int *w) {
    #ifdef __linux__
        *r = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (*r < 0) return -errno;
        *w = fcntl(*r, F_DUPFD_CLOEXEC, 0);
        if (*w < 0) { int e = errno; close(*r); return -e; }
        return 0;
    #else
        int fds[2];
        if (pipe(fds) < 0) return -errno;
        *r = host_fresh(fds[0]);
        *w = host_fresh(fds[1]);
        return 0;
    #endif
    }
    /* Makes two descriptors (perhaps one and the same) fit for the engine and gives a duplicate of out, above the
       standard three, which can be polled apart from in. */
    static inline int host_link_prepare(int in, int out, int buffer) {
        int fds[2], i, copy;
        fds[0] = in;
        fds[1] = out;
        for (i = 0; i < 2; i++) {
            int flags = fcntl(fds[i], F_GETFL);
            if (flags < 0 || fcntl(fds[i], F_SETFL, flags | O_NONBLOCK) < 0) return -errno;
        }
        setsockopt(out, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);     /* a pipe refuses, and keeps its own */
        setsockopt(in, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    #ifdef SO_NOSIGPIPE
        { int one = 1; setsockopt(out, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one); }
    #endif
        copy = fcntl(out, F_DUPFD_CLOEXEC, 3);
        return copy < 0 ? -errno : copy;
    }
    /* Lets through what concerns echo requests with our ident: replies, and ICMP errors that quote one. */
    static inline int host_ping_filter(int fd, int ipv6, uint16_t ident) {
    #ifdef __linux__
        struct sock_filter v4[] = {
            BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),             /* X = header length */
            BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0),              /* ICMP type */
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 16, 0),      /* echo reply: compare its ident */
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 3, 3, 0),       /* unreachable, */
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 11, 2, 0),      /* time exceeded, */
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 12, 1, 0),      /* parameter problem: look at the quotation */
            BPF_STMT(BPF_RET | BPF_K, 0),
            BPF_STMT(BPF_LD | BPF_B | BPF_IND, 8 + 9),          /* quoted protocol */
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 9),
            BPF_STMT(BPF_LD | BPF_B | BPF_IND, 8),
            BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 15),
            BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 2),
            BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),
            BPF_STMT(BPF_MISC | BPF_TAX, 0),            /* X = both headers; + 8: the quoted ICMP header */
            BPF_STMT(BPF_LD | BPF_B | BPF_IND, 8),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 8, 0, 2),       /* a quoted echo request */
            BPF_STMT(BPF_LD | BPF_H | BPF_IND, 8 + 4),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ident, 3, 0),
            BPF_STMT(BPF_RET | BPF_K, 0),
            BPF_STMT(BPF_LD | BPF_H | BPF_IND, 4),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ident, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, 0x40000),
            BPF_STMT(BPF_RET | BPF_K, 0),
        };
        struct sock_filter v6[] = {
            BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 0),              /* ICMPv6 type */
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 129, 8, 0),     /* echo reply */
            BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 5, 6, 0),       /* 1 to 4 are the errors */
            BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8 + 6),          /* quoted next header */
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 58, 0, 4),
            BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 8 + 40),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 128, 0, 2),
            BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 8 + 40 + 4),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ident, 3, 0),
            BPF_STMT(BPF_RET | BPF_K, 0),
            BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 4),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ident, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, 0x40000),
            BPF_STMT(BPF_RET | BPF_K, 0),
        };
        struct sock_fprog prog;
        prog.len = ipv6 ? sizeof v6 / sizeof *v6 : sizeof v4 / sizeof *v4;
        prog.filter = ipv6 ? v6 : v4;
        return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof prog) < 0 ? -errno : 0;
    #else
        (void)fd; (void)ipv6; (void)ident;
        return 0;
    #endif
    }
    """
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    ctypedef struct sockaddr "struct sockaddr":
        sa_family_t sa_family
    ctypedef struct in_addr "struct in_addr":
        uint32_t s_addr
    ctypedef struct in6_addr "struct in6_addr":
        uint8_t s6_addr[16]
    ctypedef struct sockaddr_in "struct sockaddr_in":
        sa_family_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    ctypedef struct sockaddr_in6 "struct sockaddr_in6":
        sa_family_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
    ctypedef struct msghdr "struct msghdr":
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    ctypedef struct mmsghdr "struct mmsghdr":
        msghdr msg_hdr
        unsigned int msg_len
    ctypedef struct cmsghdr "struct cmsghdr":
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    ctypedef struct linger_t "struct linger":
        int l_onoff
        int l_linger
    ctypedef struct sock_extended_err "struct sock_extended_err":
        uint32_t ee_errno
        uint8_t ee_origin
        uint8_t ee_type
        uint8_t ee_code
        uint32_t ee_info
    int HOST_LINUX, HOST_IP_RECVPKTINFO, HOST_CMSG_TTL, HOST_CMSG_TOS, HOST_DGRAM_ICMP_HEADER
    int host_socket(int family, int type, int protocol)
    int host_accept(int fd, sockaddr *name, socklen_t *length)
    int host_pair(int *fds)
    int host_recvmmsg(int fd, mmsghdr *m, unsigned int n)
    int host_sendmmsg(int fd, mmsghdr *m, unsigned int n)
    int host_wake_open(int *r, int *w)
    int host_link_prepare(int in_fd, int out_fd, int buffer)
    int host_ping_filter(int fd, int ipv6, uint16_t ident)
    cmsghdr *CMSG_FIRSTHDR(msghdr *m)
    cmsghdr *CMSG_NXTHDR(msghdr *m, cmsghdr *c)
    uint8_t *CMSG_DATA(cmsghdr *c)
    size_t CMSG_SPACE(size_t n)
    size_t CMSG_LEN(size_t n)
    sockaddr *SO_EE_OFFENDER(sock_extended_err *e)

cdef extern from "<sys/socket.h>" nogil:
    int AF_INET, AF_INET6
    int SOCK_STREAM, SOCK_DGRAM, SOCK_RAW
    int SOL_SOCKET, SO_ERROR, SO_LINGER, SO_REUSEADDR, SO_TYPE, SO_MARK
    int SO_BINDTODEVICE, SO_OOBINLINE, SO_RCVBUF
    int MSG_NOSIGNAL, MSG_DONTWAIT, MSG_ERRQUEUE, MSG_TRUNC
    int SHUT_WR
    int bind(int fd, const sockaddr *name, socklen_t length)
    int connect(int fd, const sockaddr *name, socklen_t length)
    int listen(int fd, int backlog)
    int getpeername(int fd, sockaddr *name, socklen_t *length)
    int getsockname(int fd, sockaddr *name, socklen_t *length)
    int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
    int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
    int shutdown(int fd, int how)
    ssize_t send(int fd, const void *data, size_t length, int flags)
    ssize_t sendmsg(int fd, const msghdr *m, int flags)
    ssize_t recvmsg(int fd, msghdr *m, int flags)

cdef extern from "<netinet/in.h>" nogil:
    int IPPROTO_IP, IPPROTO_IPV6, IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_ICMPV6, SOL_UDP
    int TCP_NODELAY, UDP_SEGMENT, UDP_GRO
    int HOST_IP_FRAGMENTS, HOST_FRAGMENTS_YES, HOST_FRAGMENTS_NO, HOST_IP_MTU
    int IP_TTL, IP_TOS, IP_RECVTTL, IP_RECVTOS, IP_BIND_ADDRESS_NO_PORT, IP_RECVERR
    int IPV6_V6ONLY, IPV6_UNICAST_HOPS, IPV6_HOPLIMIT, IPV6_TCLASS
    int IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_RECVERR
    int IP_PKTINFO, IPV6_PKTINFO, IPV6_RECVPKTINFO
    ctypedef struct in_pktinfo "struct in_pktinfo":
        unsigned int ipi_ifindex
        in_addr ipi_spec_dst
        in_addr ipi_addr
    ctypedef struct in6_pktinfo "struct in6_pktinfo":
        in6_addr ipi6_addr
        unsigned int ipi6_ifindex
    uint16_t htons(uint16_t v)
    uint16_t ntohs(uint16_t v)

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t read(int fd, void *p, size_t n)
    ssize_t write(int fd, const void *p, size_t n)
    ssize_t readv(int fd, const iovec *iov, int n)
