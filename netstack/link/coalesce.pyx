"""Generic receive offload in software: the inverse of framing's segmentation.

A peer without offload sends a TCP stream in frames of the MTU's size. Each costs a walk through the stack, a write to
the host's socket or the TAP, and an acknowledgement. What lies ready in one read and continues one flow is joined to a
super-frame here: the payloads are moved together behind the first frame's headers, and the metadata says how long the
segments were.

Nothing may be lost by it, so the rule is strict: cutting the super-frame gives back the frames that it was made of,
byte for byte (but for the IPv4 identification where DF makes it meaningless, RFC 6864 section 4.1). Frames are joined
when everything before the payload is equal, apart from lengths, checksums, sequence number, identification, PSH and
FIN; when their sequence numbers and, without DF, identifications follow one another; and when both checksums of each
are right: a frame with a wrong one is left for the receiver to find. Never joined are fragments, IPv4 options, IPv6
extension headers, frames without payload or without ACK, and those with SYN, RST, URG or CWR (which belongs to one
segment alone, RFC 3168 section 6.1.2). All are of one length but the last, which may be shorter; PSH, FIN or a shorter
one is the last.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset

from netstack.link.link cimport link_frame
from netstack.storage.frame cimport CSUM_PARTIAL, GSO_TCP4, GSO_TCP6, frame_meta
from netstack.wire.addr cimport addr_from_v4, addr_from_v6, addr_t
from netstack.wire.be cimport be16, be32, put_be16
from netstack.wire.checksum cimport csum_add, csum_finish, csum_fold, csum_ok, csum_pseudo, csum_store

cdef enum:
    ETHERNET = 14
    IPV4 = ETHERNET + 20
    IPV6 = ETHERNET + 40
    TCP = 20                    # bytes without options
    PROTO_TCP = 6
    LARGEST_IP = 65535          # bytes of an IPv4 packet, or of what follows an IPv6 header
    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    CWR = 0x80
    DONT_FRAGMENT = 0x4000


cdef inline uint32_t l4_of(const uint8_t *p, uint32_t length) noexcept nogil:
    """The offset of the TCP header; 0 for a frame that is never joined to another."""
    cdef uint16_t ethertype
    if length <= IPV4 + TCP:
        return 0
    ethertype = be16(p + 12)
    if ethertype == 0x0800:
        if p[ETHERNET] != 0x45 or p[ETHERNET + 9] != PROTO_TCP or be16(p + ETHERNET + 2) != length - ETHERNET \
                or be16(p + ETHERNET + 6) & <uint16_t>~DONT_FRAGMENT:
            return 0
        return IPV4
    if ethertype == 0x86dd:
        if length <= IPV6 + TCP or p[ETHERNET] >> 4 != 6 or p[ETHERNET + 6] != PROTO_TCP \
                or be16(p + ETHERNET + 4) != length - IPV6:
            return 0
        return IPV6
    return 0


cdef inline bint checksums_right(const uint8_t *p, uint32_t l4, uint32_t length) noexcept nogil:
    cdef addr_t src, dst
    if l4 == IPV4:
        if not csum_ok(p + ETHERNET, IPV4 - ETHERNET, 0):
            return False
        src = addr_from_v4(be32(p + ETHERNET + 12))
        dst = addr_from_v4(be32(p + ETHERNET + 16))
    else:
        src = addr_from_v6(p + ETHERNET + 8)
        dst = addr_from_v6(p + ETHERNET + 24)
    return csum_ok(p + l4, length - l4, csum_pseudo(&src, &dst, PROTO_TCP, length - l4))


cdef bint coalesce_begin(coalesce_t *c, uint8_t *frame, uint32_t length, uint32_t mtu) noexcept nogil:
    cdef uint32_t l4
    cdef uint8_t flags
    if length > mtu + ETHERNET:
        return False
    l4 = l4_of(frame, length)
    if l4 == 0:
        return False
    flags = frame[l4 + 13]
    if not flags & ACK or flags & (SYN | RST | URG | CWR | PSH | FIN):
        return False
    c.headers = l4 + (frame[l4 + 12] >> 4) * 4
    if c.headers < l4 + TCP or c.headers >= length:
        return False
    c.head = frame
    c.length = length
    c.l4 = l4
    c.v4 = l4 == IPV4
    c.size = <uint16_t>(length - c.headers)
    c.next_seq = be32(frame + l4 + 4) + c.size
    c.ident = be16(frame + ETHERNET + 4)
    c.frames = 1
    c.closed = 0
    return True


cdef bint coalesce_add(coalesce_t *c, const uint8_t *frame, uint32_t length) noexcept nogil:
    cdef const uint8_t *a = c.head
    cdef const uint8_t *b = frame
    cdef uint32_t l4 = c.l4
    cdef uint32_t payload = length - c.headers
    cdef uint8_t flags
    if c.closed or length <= c.headers or payload > c.size:
        return False
    if c.length + payload - (ETHERNET if c.v4 else IPV6) > LARGEST_IP:
        return False
    # MACs and type; then IP but for lengths, identification and checksum; then TCP but for seq, PSH, FIN and checksum
    if memcmp(a, b, ETHERNET) != 0 or l4_of(b, length) != l4:
        return False
    if c.v4:
        if a[ETHERNET + 1] != b[ETHERNET + 1] or memcmp(a + ETHERNET + 6, b + ETHERNET + 6, 4) != 0 \
                or memcmp(a + ETHERNET + 12, b + ETHERNET + 12, 8) != 0:
            return False
        if not b[ETHERNET + 6] & (DONT_FRAGMENT >> 8) and be16(b + ETHERNET + 4) != <uint16_t>(c.ident + 1):
            return False
    elif memcmp(a + ETHERNET, b + ETHERNET, 4) != 0 or memcmp(a + ETHERNET + 7, b + ETHERNET + 7, 33) != 0:
        return False
    if be32(b + l4 + 4) != c.next_seq or memcmp(a + l4, b + l4, 4) != 0 or memcmp(a + l4 + 8, b + l4 + 8, 5) != 0:
        return False
    flags = b[l4 + 13]
    if (a[l4 + 13] ^ flags) & <uint8_t>~(PSH | FIN):
        return False
    if memcmp(a + l4 + 14, b + l4 + 14, 2) != 0 or memcmp(a + l4 + 18, b + l4 + 18, c.headers - l4 - 18) != 0:
        return False
    if c.frames == 1 and not checksums_right(a, l4, c.length):
        c.closed = 1
        return False
    if not checksums_right(b, l4, length):
        return False
    c.ident = be16(b + ETHERNET + 4)
    memmove(c.head + c.length, b + c.headers, payload)
    c.length += payload
    c.next_seq += payload
    c.frames += 1
    c.head[l4 + 13] |= flags        # PSH and FIN: segmentation gives them to the last
    c.closed = payload < c.size or flags & (PSH | FIN) != 0
    return True


cdef void coalesce_end(const coalesce_t *c, link_frame *out) noexcept nogil:
    cdef uint8_t *ip = c.head + ETHERNET
    cdef uint32_t segment = c.length - c.l4
    cdef addr_t src, dst
    out.data = c.head
    out.length = c.length
    memset(&out.meta, 0, sizeof(frame_meta))
    if c.frames == 1:
        return
    if c.v4:
        put_be16(ip + 2, <uint16_t>(c.length - ETHERNET))
        put_be16(ip + 10, 0)
        csum_store(ip + 10, csum_finish(csum_add(ip, IPV4 - ETHERNET, 0)))
        src = addr_from_v4(be32(ip + 12))
        dst = addr_from_v4(be32(ip + 16))
    else:
        put_be16(ip + 4, <uint16_t>(c.length - IPV6))
        src = addr_from_v6(ip + 8)
        dst = addr_from_v6(ip + 24)
    csum_store(c.head + c.l4 + 16, csum_fold(csum_pseudo(&src, &dst, PROTO_TCP, segment)))
    out.meta.csum = CSUM_PARTIAL
    out.meta.csum_start = <uint16_t>c.l4
    out.meta.csum_offset = 16
    out.meta.gso_type = GSO_TCP4 if c.v4 else GSO_TCP6
    out.meta.gso_size = c.size
    out.meta.hdr_len = <uint16_t>c.headers


def coalesce(frames, uint32_t mtu=1500) -> list:
    """What a link makes of frames that lie ready together: ``[(frame, meta), ...]``, with meta the six numbers of
    frame_meta.

    Args:
        frames: a list of bytes objects, none of them longer than 65549.
        mtu: IP bytes of the link.
    """
    cdef coalesce_t c
    cdef link_frame out
    cdef bytes whole = b"".join(frames)
    cdef uint8_t *memory = <uint8_t *>malloc(len(whole) + 1)
    cdef uint8_t *p = memory
    cdef uint32_t length
    cdef int i = 0, n = <int>len(frames)
    if memory == NULL:
        raise MemoryError
    memcpy(memory, <const char *>whole, len(whole))
    made = []
    while i < n:
        length = <uint32_t>len(frames[i])
        out.data = p
        out.length = length
        memset(&out.meta, 0, sizeof(frame_meta))
        i += 1
        if coalesce_begin(&c, p, length, mtu):
            p += length
            while i < n and coalesce_add(&c, p, <uint32_t>len(frames[i])):
                p += len(frames[i])
                i += 1
            coalesce_end(&c, &out)
        else:
            p += length
        made.append((<bytes>out.data[:out.length], (
            out.meta.csum, out.meta.gso_type, out.meta.gso_size, out.meta.hdr_len, out.meta.csum_start,
            out.meta.csum_offset)))
    free(memory)
    return made
