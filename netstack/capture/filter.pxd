# Classic BPF programs, as libpcap makes them of pcap-filter expressions, run here.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

ctypedef struct bpf_step:       # one instruction
    uint16_t code
    uint8_t jt, jf
    uint32_t k

# Bytes of the frame that pass, 0 = none. captured bytes are at data, length were on the wire. A checked program
# only: Filter has no other.
cdef uint32_t bpf_run(
    const bpf_step *program, const uint8_t *data, uint32_t captured, uint32_t length
) noexcept nogil


cdef class Filter:
    cdef bpf_step *program
    cdef readonly object expression
    cdef readonly int link_type
    cdef int n
    cdef uint32_t reach         # bytes of a frame that the program looks at, at most
    cdef uint32_t _reach(self)
    cdef bpf_step *copy(self) except NULL
