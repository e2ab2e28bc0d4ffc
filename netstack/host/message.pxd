# What a datagram and an error are, for sockets of the system and of a scripted host alike.
# Declarations only: there is no module behind this file.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    UDP_MAX_SEGMENTS = 64           # datagrams of one joined message (of Linux before 6.9; more since)

ctypedef struct udp_message:
    uint8_t *data
    uint32_t length                 # in: bytes to send or room; out: bytes received
    # send: > 0 asks for UDP_SEGMENT; receive: > 0 when the kernel joined datagrams (UDP_GRO)
    uint16_t gso_size
    uint8_t ttl                     # send: 0 = default. receive: as it came, 0 unknown
    uint8_t tos
    uint8_t addr[16]                # peer
    uint16_t port                   # send: 0 = to the connected peer
    # our own address that the peer has used, zero unless sock_udp_tell_local was called; send: the source, zero = the
    # system's choice. interface goes with it where the peer's address is a link's own (IPv6), and is 0 otherwise.
    uint32_t interface
    uint8_t local[16]

ctypedef struct sock_error:         # one entry of the error queue (IP_RECVERR, IPV6_RECVERR)
    int error                       # errno
    uint8_t origin                  # SO_EE_ORIGIN_*: 1 local, 2 ICMP, 3 ICMPv6
    uint8_t type
    uint8_t code
    uint32_t info                   # the MTU for EMSGSIZE
    uint8_t offender[16]            # who sent the ICMP error (zero when local)
    uint8_t peer[16]                # where the datagram that failed went
    uint16_t peer_port
    uint8_t *payload                # room given by the caller for the datagram that failed ...
    uint32_t payload_length         # in: its size; out: bytes returned
