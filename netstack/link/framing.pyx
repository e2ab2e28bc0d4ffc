"""Segmentation and checksums in software, for links that lack the offload.

Only headers are copied (into one buffer on the stack that is edited from segment to segment); payload is
gathered from where it lies. RFC 9293 for TCP, RFC 768 for UDP, RFC 791 and RFC 8200 for the lengths; CWR goes
with the first segment and FIN and PSH with the last, as RFC 3168 and Linux's GSO have it.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.host.sockets cimport iovec
from netstack.link.link cimport LINK_BAD_FRAME, LINK_CSUM, LINK_OK, link_needs, link_t
from netstack.link.stored cimport stored_frame, stored_free, stored_new
from netstack.storage.frame cimport (
    CSUM_FULL, CSUM_PARTIAL, GSO_ECN, GSO_NONE, GSO_TCP4, GSO_TCP6, GSO_UDP, frame_meta,
)
from netstack.wire.addr cimport addr_from_v4, addr_from_v6, addr_t
from netstack.wire.be cimport be16, be32, put_be16, put_be32
from netstack.wire.checksum cimport csum_add, csum_finish, csum_fold, csum_pseudo, csum_store

cdef enum:
    MAX_IOV = 8
    HEADERS = 512               # bytes of Ethernet, IP and transport headers at most
    ETHERNET = 14
    PROTO_TCP = 6
    PROTO_UDP = 17
    FIN = 0x01
    PSH = 0x08
    CWR = 0x80

ctypedef struct super_t:        # a super-frame, taken apart
    uint32_t l4                 # offset of the transport header
    uint32_t headers            # bytes of all headers
    uint32_t check              # offset of the transport checksum
    uint8_t protocol
    bint v4
    addr_t src
    addr_t dst


cdef inline uint64_t sum_iov(const iovec *iov, int n, uint64_t total) noexcept nogil:
    """Adds the pieces to a partial sum, as if they lay in one: behind an odd number of bytes a piece's sum is
    swapped.
    """
    cdef bint odd = False
    cdef uint16_t folded
    cdef int i
    for i in range(n):
        if odd:
            folded = csum_fold(csum_add(<const uint8_t *>iov[i].iov_base, iov[i].iov_len, 0))
            total += <uint16_t>(folded << 8 | folded >> 8)
        else:
            total += csum_fold(csum_add(<const uint8_t *>iov[i].iov_base, iov[i].iov_len, 0))
        odd ^= iov[i].iov_len & 1
    return total


cdef inline uint16_t finished(uint64_t total, uint8_t protocol) noexcept nogil:
    """The checksum; a UDP one of zero is sent as all ones (RFC 768)."""
    cdef uint16_t check = csum_finish(total)
    return 0xffff if check == 0 and protocol == PROTO_UDP else check


cdef int send_completed(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil:
    """Sends a frame with a partial checksum after completing it in a copy of the headers."""
    cdef uint8_t header[HEADERS]
    cdef iovec parts[MAX_IOV]
    cdef frame_meta plain
    cdef uint32_t start = meta.csum_start
    cdef uint32_t end = start + meta.csum_offset + 2
    cdef uint8_t protocol
    cdef int i, n = 1
    if iov[0].iov_len < end or end > HEADERS or start < ETHERNET:
        return LINK_BAD_FRAME
    memcpy(header, iov[0].iov_base, end)
    parts[0].iov_base = header + start
    parts[0].iov_len = end - start
    if iov[0].iov_len > end:
        if iovcnt == MAX_IOV:
            return LINK_BAD_FRAME           # the split would make nine pieces
        parts[1].iov_base = <uint8_t *>iov[0].iov_base + end
        parts[1].iov_len = iov[0].iov_len - end
        n = 2
    for i in range(1, iovcnt):
        parts[n] = iov[i]
        n += 1
    protocol = PROTO_UDP if meta.csum_offset == 6 else PROTO_TCP
    csum_store(header + end - 2, finished(sum_iov(parts, n, 0), protocol))
    parts[0].iov_base = header
    parts[0].iov_len = end
    memset(&plain, 0, sizeof(plain))
    plain.csum = CSUM_FULL
    return link.send(link, &plain, parts, n)


cdef bint dissect(const uint8_t *p, uint32_t have, const frame_meta *meta, super_t *s) noexcept nogil:
    """Finds the headers of a super-frame in its first have bytes.

    False when they are not what the metadata says.
    """
    cdef uint16_t ethertype
    cdef uint8_t gso = meta.gso_type & ~<uint8_t>GSO_ECN
    cdef uint8_t following
    if have < ETHERNET + 20 or meta.gso_size == 0:
        return False
    ethertype = be16(p + 12)
    s.v4 = ethertype == 0x0800
    if s.v4:
        if gso == GSO_TCP6 or p[ETHERNET] >> 4 != 4 or p[ETHERNET] & 15 < 5:
            return False
        following = p[ETHERNET + 9]
        s.l4 = ETHERNET + (p[ETHERNET] & 15) * 4
        s.src = addr_from_v4(be32(p + ETHERNET + 12))
        s.dst = addr_from_v4(be32(p + ETHERNET + 16))
    elif ethertype == 0x86dd:
        if gso == GSO_TCP4 or have < ETHERNET + 40 or p[ETHERNET] >> 4 != 6:
            return False
        s.src = addr_from_v6(p + ETHERNET + 8)
        s.dst = addr_from_v6(p + ETHERNET + 24)
        following = p[ETHERNET + 6]
        s.l4 = ETHERNET + 40
        while following == 0 or following == 60:        # hop-by-hop and destination options
            if s.l4 + 8 > have:
                return False
            following = p[s.l4]
            s.l4 += (<uint32_t>p[s.l4 + 1] + 1) * 8
    else:
        return False
    if gso == GSO_UDP:
        s.protocol = PROTO_UDP
        s.headers = s.l4 + 8
        s.check = s.l4 + 6
    else:
        s.protocol = PROTO_TCP
        if s.l4 + 20 > have or p[s.l4 + 12] >> 4 < 5:
            return False
        s.headers = s.l4 + (p[s.l4 + 12] >> 4) * 4
        s.check = s.l4 + 16
    return following == s.protocol and s.headers <= have and s.headers <= HEADERS


cdef int send_segments(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt,
                       uint32_t *sent) noexcept nogil:
    """Cuts a super-frame into frames of gso_size bytes of payload and sends them."""
    cdef uint8_t header[HEADERS]
    cdef iovec parts[MAX_IOV]
    cdef frame_meta out
    cdef super_t s
    cdef uint32_t left = 0
    cdef uint32_t n, want, piece, seq = 0
    cdef uint32_t offset
    cdef int source = 0
    cdef int i, k, rc
    cdef uint16_t ident
    cdef uint8_t flags = 0
    cdef uint64_t pseudo
    cdef uint8_t *ip = header + ETHERNET
    cdef uint8_t *l4
    if not dissect(<const uint8_t *>iov[0].iov_base, <uint32_t>iov[0].iov_len, meta, &s):
        return LINK_BAD_FRAME
    if iovcnt == MAX_IOV and iov[0].iov_len > s.headers:
        return LINK_BAD_FRAME               # the split would make nine pieces
    memcpy(header, iov[0].iov_base, s.headers)
    l4 = header + s.l4
    for i in range(iovcnt):
        left += <uint32_t>iov[i].iov_len
    left -= s.headers
    offset = s.headers
    ident = be16(ip + 4)
    if s.protocol == PROTO_TCP:
        seq = be32(l4 + 4)
        flags = l4[13]
    memset(&out, 0, sizeof(out))
    out.csum = CSUM_FULL
    if link.features & LINK_CSUM:
        out.csum = CSUM_PARTIAL
        out.csum_start = <uint16_t>s.l4
        out.csum_offset = <uint16_t>(s.check - s.l4)
    while True:
        n = left if left < meta.gso_size else meta.gso_size
        left -= n
        # the payload's pieces
        k = 1
        want = n
        while want:
            piece = <uint32_t>iov[source].iov_len - offset
            if piece == 0:
                source += 1
                offset = 0
                continue
            if piece > want:
                piece = want
            parts[k].iov_base = <uint8_t *>iov[source].iov_base + offset
            parts[k].iov_len = piece
            k += 1
            offset += piece
            want -= piece
        # the headers
        if s.v4:
            put_be16(ip + 2, <uint16_t>(s.headers - ETHERNET + n))
            put_be16(ip + 4, ident)
            ident += 1
            put_be16(ip + 10, 0)
            csum_store(ip + 10, csum_finish(csum_add(ip, s.l4 - ETHERNET, 0)))
        else:
            put_be16(ip + 4, <uint16_t>(s.headers - ETHERNET - 40 + n))
        if s.protocol == PROTO_TCP:
            put_be32(l4 + 4, seq)
            seq += n
            l4[13] = flags if left == 0 else flags & ~<uint8_t>(FIN | PSH)
            flags &= ~<uint8_t>CWR
        else:
            put_be16(l4 + 4, <uint16_t>(8 + n))
        pseudo = csum_pseudo(&s.src, &s.dst, s.protocol, s.headers - s.l4 + n)
        if out.csum == CSUM_PARTIAL:
            csum_store(header + s.check, csum_fold(pseudo))
        else:
            put_be16(header + s.check, 0)
            parts[0].iov_base = l4
            parts[0].iov_len = s.headers - s.l4
            csum_store(header + s.check, finished(sum_iov(parts, k, pseudo), s.protocol))
        parts[0].iov_base = header
        parts[0].iov_len = s.headers
        rc = link.send(link, &out, parts, k)
        if rc != LINK_OK:
            return rc
        sent[0] += 1
        if left == 0:
            return LINK_OK


cdef int framing_send(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt,
                      uint32_t *sent) noexcept nogil:
    """Sends a frame or super-frame over any link; see the contract in framing.pxd.

    When link.send fails in the middle of a super-frame, *sent says how many frames had gone out before.
    """
    cdef int rc
    sent[0] = 0
    if iovcnt < 1 or iovcnt > MAX_IOV:
        return LINK_BAD_FRAME
    if link_needs(meta) & ~link.features == 0:
        rc = link.send(link, meta, iov, iovcnt)
    elif meta.gso_type & ~GSO_ECN != GSO_NONE:
        return send_segments(link, meta, iov, iovcnt, sent)
    else:
        rc = send_completed(link, meta, iov, iovcnt)
    if rc == LINK_OK:
        sent[0] = 1
    return rc


# The Python face: a link that keeps what it is given.

ctypedef struct keeper_t:
    link_t link
    stored_frame *first
    stored_frame *last
    uint32_t n
    uint32_t limit


cdef int keeper_send(link_t *link, const frame_meta *meta, const iovec *iov, int iovcnt) noexcept nogil:
    cdef keeper_t *k = <keeper_t *>link.impl
    cdef stored_frame *f
    if k.n == k.limit:
        return -1
    f = stored_new(meta, iov, iovcnt)
    if f == NULL:
        return -1
    if k.last != NULL:
        k.last.next = f
    else:
        k.first = f
    k.last = f
    k.n += 1
    return LINK_OK


def segment(pieces, meta, uint32_t features=0, uint32_t limit=1 << 16) -> tuple:
    """What framing makes of a frame for a link with ``features`` (LINK_* bits) that takes at most ``limit``
    frames.

    ``pieces`` is a list of 1..8 bytes objects, the first with all headers; ``meta`` six numbers as in
    frame_meta. Gives ``(result, sent, [(frame, meta), ...])`` with the result as LINK_OK 0, LINK_AGAIN -1,
    LINK_BAD_FRAME -3.
    """
    cdef keeper_t keeper
    cdef frame_meta m
    cdef iovec iov[MAX_IOV]
    cdef uint32_t sent = 0
    cdef stored_frame *f
    cdef int i, rc
    cdef bytes piece
    if not 1 <= len(pieces) <= MAX_IOV:
        raise ValueError("1 to 8 pieces")
    memset(&keeper, 0, sizeof(keeper))
    keeper.limit = limit
    keeper.link.features = features
    keeper.link.mtu = 65535
    keeper.link.impl = &keeper
    keeper.link.send = keeper_send
    m.csum, m.gso_type, m.gso_size, m.hdr_len, m.csum_start, m.csum_offset = meta
    for i, piece in enumerate(pieces):
        iov[i].iov_base = <char *>piece
        iov[i].iov_len = len(piece)
    rc = framing_send(&keeper.link, &m, iov, <int>len(pieces), &sent)
    out = []
    while keeper.first != NULL:
        f = keeper.first
        out.append((<bytes>f.data[:f.length], (
            f.meta.csum, f.meta.gso_type, f.meta.gso_size, f.meta.hdr_len, f.meta.csum_start,
            f.meta.csum_offset)))
        keeper.first = f.next
        stored_free(f)
    return rc, sent, out
