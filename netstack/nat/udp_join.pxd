# Datagrams of one size that follow each other, as one message: one system call, one frame.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from netstack.host.message cimport udp_message

cdef enum:
    UDP_JOINED_MOST = 65000     # bytes of one message: with its headers still an IPv4 packet

# Whether the datagram can be the next one of what last is; length, ttl, tos, addr and port of it as in a message.
cdef bint udp_joins(const udp_message *last, uint32_t length, uint8_t ttl, uint8_t tos, const uint8_t *addr,
                    uint16_t port) noexcept nogil
# Counts length bytes, which the caller has put behind last's, as its next datagram.
cdef void udp_join(udp_message *last, uint32_t length) noexcept nogil
# Joins m[0] with those of the n behind it that can be, in m[0]'s memory of so many bytes: how many it is made of.
cdef int udp_join_run(udp_message *m, int n, uint32_t room, uint32_t longest) noexcept nogil
# Datagrams in a message.
cdef uint32_t udp_datagrams(const udp_message *m) noexcept nogil
