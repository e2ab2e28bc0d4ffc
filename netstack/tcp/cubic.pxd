# RFC 9438.
from netstack.tcp.block cimport tcp_cc

cdef const tcp_cc *cubic_table() noexcept nogil
