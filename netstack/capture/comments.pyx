"""Packet comments: the counter that a frame has moved, and what NAT has decided about it.

A frame of a guest is judged by the counters that have moved while it was looked at. Those of drops that concern other
frames (a fragment that has timed out, an answer that does not fit, a link that is full) are left out here: what is sent
is judged when it is sent.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport strerror

from netstack.storage.counters import NAMES
from netstack.storage.counters cimport UP_FRAMES
from netstack.storage.decision cimport (
    DECIDED_CONTROL, DECIDED_DIALED, DECIDED_FAILED, DECIDED_NOTHING, DECIDED_PING, DECIDED_PUBLISHED, DECIDED_TCP,
    DECIDED_UDP, decision_t,
)
from netstack.storage.frame cimport GSO_ECN, GSO_UDP, frame_meta

cdef extern from *:
    """
    #include <string.h>
    #include <arpa/inet.h>
    static inline void comment_address(const uint8_t *a, char *out, size_t room) {
        static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        int v4 = memcmp(a, mapped, sizeof mapped) == 0;
        if (inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? a + 12 : a, out, (socklen_t) room) == NULL) out[0] = 0;
    }
    """
    void comment_address(const uint8_t *address, char *out, size_t room) noexcept nogil

# Drops that are not of the frame that is being looked at.
OTHERS = frozenset({
    "fragment_timeout", "fragment_limit", "udp_flow_evicted", "udp_send_failed", "udp_reply_too_big",
    "udp_reply_not_allowed", "forward_no_guest", "forward_timed_out", "forward_abandoned", "forward_failed",
    "forward_evicted", "socks_not_allowed", "dns_reply_mismatch", "link_full", "link_down", "link_refused",
    "impair_lost", "impair_full", "impair_corrupted", "switch_full", "pcap_lost",
})

# What is no drop and yet says what became of a frame.
DONE = {
    "dns_answered": b"answered from the gateway's names",
    "dns_cached": b"answered from the cache",
    "dns_stale": b"answered from the cache, past its time",
    "dns_forwarded": b"passed on to a name server",
    "dhcp_requests": b"for the DHCP server",
    "echo_replies": b"answered by the gateway",
    "fragments_reassembled": b"the last fragment: the datagram is whole",
}

cdef list texts = [name.encode() for name in NAMES]
cdef const char *names[256]
cdef const char *done[256]
cdef uint16_t[WATCHED] watched
cdef int n_watched = 0


def _fill():
    """The tables in C, once."""
    global n_watched
    cdef int i
    for i, name in enumerate(NAMES):
        names[i] = texts[i]
        done[i] = NULL
        if name in DONE:
            done[i] = DONE[name]
        if (i < <int>UP_FRAMES and name not in OTHERS) or name in DONE:
            watched[n_watched] = <uint16_t>i
            n_watched += 1


_fill()


cdef int comment_counters(uint16_t *numbers) noexcept nogil:
    cdef int i
    for i in range(n_watched):
        numbers[i] = watched[i]
    return n_watched


cdef inline int written(int n) noexcept nogil:
    return n if n < COMMENT else COMMENT - 1


cdef int comment_counter(char *out, uint16_t number) noexcept nogil:
    if done[number] != NULL:
        return written(snprintf(out, COMMENT, "%s (%s)", done[number], names[number]))
    return written(snprintf(out, COMMENT, "dropped: %s", names[number]))


cdef int comment_decision(char *out, const decision_t *d) noexcept nogil:
    cdef char[64] address
    cdef const char *how
    if d.kind == DECIDED_NOTHING:
        return 0
    comment_address(d.address, address, sizeof(address))
    how = " (translated)" if d.diverted else ""
    if d.kind == DECIDED_TCP:
        return written(snprintf(out, COMMENT, "new flow: the host connects to %s port %u%s", <char *>address,
                                <unsigned int>d.port, how))
    if d.kind == DECIDED_CONTROL:
        return written(snprintf(out, COMMENT, "new flow: given to a proxy, a forward or a program of the host"))
    if d.kind == DECIDED_UDP:
        return written(snprintf(out, COMMENT, "new flow: from port %u of the host to %s port %u%s",
                                <unsigned int>d.local, <char *>address, <unsigned int>d.port, how))
    if d.kind == DECIDED_PING:
        return written(snprintf(out, COMMENT, "new flow: the host sends the echo requests on to %s", <char *>address))
    if d.kind == DECIDED_FAILED:
        return written(snprintf(out, COMMENT, "the host's connection: %s", strerror(d.error)))
    if d.kind == DECIDED_PUBLISHED and d.port == 0:
        return written(snprintf(out, COMMENT, "new flow: a client of a published Unix socket"))
    if d.kind == DECIDED_PUBLISHED:
        return written(snprintf(out, COMMENT, "new flow: a client of a published port, %s port %u", <char *>address,
                                <unsigned int>d.port))
    if d.kind == DECIDED_DIALED:
        return written(snprintf(out, COMMENT, "new flow: dialled by a program of the host"))
    return 0


cdef int comment_super(char *out, const frame_meta *meta, uint32_t length) noexcept nogil:
    cdef uint32_t headers = meta.hdr_len if meta.hdr_len else 42
    cdef uint32_t payload
    if not meta.gso_type & <uint8_t>~GSO_ECN or not meta.gso_size or headers >= length:
        return 0
    payload = length - headers
    return written(snprintf(
        out, COMMENT, "super-frame: %u %s of at most %u bytes on the wire",
        (payload + meta.gso_size - 1) // meta.gso_size,
        <const char *>"datagrams" if meta.gso_type & <uint8_t>~GSO_ECN == GSO_UDP else <const char *>"segments",
        <unsigned int>meta.gso_size))


cdef int comment_lost(char *out, uint32_t lost) noexcept nogil:
    return written(snprintf(out, COMMENT, "%u frame%s before this one %s lost: the capture did not keep up", lost,
                            <const char *>"" if lost == 1 else <const char *>"s",
                            <const char *>"was" if lost == 1 else <const char *>"were"))
