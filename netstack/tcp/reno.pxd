# RFC 5681 with appropriate byte counting (RFC 3465).
from netstack.tcp.block cimport tcp_cc

cdef const tcp_cc *reno_table() noexcept nogil
