# Generic receive offload: consecutive TCP frames of a flow become one super-frame, in place.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from netstack.link.link cimport link_frame

ctypedef struct coalesce_t:     # a super-frame that grows
    uint8_t *head               # its first frame, in memory that may be written to as far as the last frame's end
    uint32_t length             # bytes so far
    uint32_t l4                 # offset of the TCP header
    uint32_t headers            # bytes of all headers
    uint32_t next_seq           # what the next frame must begin with
    uint16_t size               # payload bytes of each segment
    uint16_t ident              # IPv4 identification of the last frame
    uint16_t frames
    uint8_t v4
    uint8_t closed              # takes no more: a segment was short, or had PSH or FIN

# Whether frame, of length bytes and at most mtu + 14, may be the first of a super-frame; c is filled then.
# Nothing is changed yet.
cdef bint coalesce_begin(coalesce_t *c, uint8_t *frame, uint32_t length, uint32_t mtu) noexcept nogil
# Appends the payload of frame, which lies behind all that c has, when it continues the flow; False, and nothing
# is changed, when it does not.
cdef bint coalesce_add(coalesce_t *c, const uint8_t *frame, uint32_t length) noexcept nogil
# The super-frame, or the first frame as it was when nothing was appended.
cdef void coalesce_end(const coalesce_t *c, link_frame *out) noexcept nogil
