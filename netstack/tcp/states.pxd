# The states of RFC 9293 section 3.3.2 and the transitions allowed between them, as data.
from libc.stdint cimport uint8_t

cdef enum tcp_state:
    TCP_CLOSED = 0
    # only between tcp_accept and the user's tcp_established_ok: SYN seen, SYN-ACK held back
    TCP_LISTEN = 1
    TCP_SYN_SENT = 2
    TCP_SYN_RECEIVED = 3
    TCP_ESTABLISHED = 4
    TCP_FIN_WAIT_1 = 5
    TCP_FIN_WAIT_2 = 6
    TCP_CLOSE_WAIT = 7
    TCP_CLOSING = 8
    TCP_LAST_ACK = 9
    TCP_TIME_WAIT = 10

# True when the table has a line from -> to.
cdef bint tcp_transition_allowed(uint8_t source, uint8_t target) noexcept nogil
