# The engine: one loop over links, host sockets, timers and calls from the control plane; the only reader of the clock.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from netstack.capture.pcap cimport pcap_writer
from netstack.host.poller cimport poller_t
from netstack.iface.interface cimport iface_t
from netstack.link.link cimport link_t
from netstack.nat.context cimport nat_t
from netstack.nat.flow cimport polled
from netstack.storage.wheel cimport wheel_t, wheel_timer
from netstack.switch cimport switch_t

cdef enum:
    MAX_PORTS = 256             # links; the gateway is port 0

ctypedef struct port_t:         # a link on the switch
    polled polled
    link_t *link
    int index
    uint8_t readable            # a read has not come to its end since the last edge
    uint8_t unflushed
    uint8_t closed

ctypedef struct call_t          # a request from another thread, on its stack

ctypedef struct engine_t:
    nat_t *nat
    iface_t *iface
    poller_t *poller
    wheel_t *wheel
    switch_t *switch
    port_t *ports[MAX_PORTS]
    port_t *dead_ports
    int n_ports                 # highest port in use + 1
    int guests                  # links in use
    int wake_read, wake_write
    int stop
    int running
    uint64_t now_ns
    wheel_timer fragments_timer
    pcap_writer *pcap
    uint8_t pcap_dirty
    call_t *calls
    uint64_t counters[256]

cdef class Engine:
    cdef engine_t *e
    cdef object names           # keeps the table of names alive
    cdef int mail_read, mail_write
    cdef polled *wake
    cdef dict links             # port -> the Python object that owns the link, if any
    cdef dict last_counters     # what counters() says once the engine is closed
    cdef int64_t call(self, int kind, void *arg, int64_t number) except? -1
    cpdef close(self)
    cdef _wake_token(self)
    cdef _configure(self, dict s, uint64_t k0, uint64_t k1)
    cdef _add(self, link_t *link, owner)
