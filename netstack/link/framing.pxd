# Segmentation and checksums for links without offload: "at the edge, and nowhere else".
from libc.stdint cimport uint8_t, uint32_t
from netstack.host.sockets cimport iovec
from netstack.link.link cimport link_t
from netstack.storage.frame cimport frame_meta

# Sends a frame that may be a super-frame or have a partial checksum over any link: passes it as it is where
# the link has the offload, else segments it (TCP: seq, flags PSH/FIN/CWR, IP id and lengths per RFC 9293 /
# Linux GSO; UDP: one header each) and completes checksums. Returns what link.send returns; *sent counts the
# frames that went out.
cdef int framing_send(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt,
                      uint32_t *sent) noexcept nogil
