"""A TCP flow's entry: its name, its initial sequence number (RFC 6528), and what others are told about it."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from netstack.iface.neighbors cimport neighbor
from netstack.nat.context cimport MAIL_DIALED, mail_dialed, nat_post, nat_t
from netstack.nat.flow cimport ORIGIN_DIALED, POLLED_TCP, flow_key, tcp_flow
from netstack.storage.decision cimport DECIDED_DIALED, DECIDED_FAILED, DECIDED_PUBLISHED
from netstack.storage.pool cimport pool_get, pool_put
from netstack.storage.siphash cimport siphash_words
from netstack.storage.table cimport table_del, table_put
from netstack.storage.wheel cimport wheel_timer_init
from netstack.tcp.tcb cimport tcb_free, tcb_init
from netstack.wire.addr cimport addr_t, addr_v4
from netstack.wire.be cimport put_be32
from netstack.wire.ipv4 cimport IPPROTO_TCP4
from netstack.wire.tcp cimport TCP_ACK, TCP_RST, TCP_SYN


cdef uint32_t initial_sequence(nat_t *nat, const flow_key *key, uint64_t now_ns) noexcept nogil:
    """RFC 6528: a clock of 4 microseconds plus a keyed hash of the connection's name."""
    cdef uint64_t[5] words
    memcpy(words, key, 40)
    return <uint32_t>(now_ns // 4096) + <uint32_t>siphash_words(words, 5, nat.k0, nat.k1)


cdef tcp_flow *tcp_entry_make(nat_t *nat, const flow_key *key, neighbor *guest, uint64_t now_ns) noexcept nogil:
    cdef uint64_t[5] words
    cdef uint32_t iss, ts_offset
    cdef tcp_flow *flow = <tcp_flow *>pool_get(nat.tcp_pool)
    if flow == NULL:
        return NULL
    flow.polled.kind = POLLED_TCP
    flow.polled.fd = -1
    flow.next_fd = -1
    flow.key = key[0]
    flow.guest = guest
    flow.opened_ns = now_ns
    nat.next_id += 1
    flow.id = nat.next_id
    wheel_timer_init(&flow.timer, TIMER_TCP, flow)
    memcpy(words, key, 40)
    iss = initial_sequence(nat, key, now_ns)
    ts_offset = <uint32_t>siphash_words(words, 5, nat.k1, nat.k0)
    if nat.sequence != NULL:
        nat.sequence(nat.sequence_context, key, &iss, &ts_offset, now_ns)
    tcb_init(&flow.tcb, &nat.tcp, key.peer_port, key.guest_port, iss, ts_offset)
    if table_put(nat.tcp_table, &flow.key, flow) < 0:
        tcb_free(&flow.tcb)
        pool_put(nat.tcp_pool, flow)
        return NULL
    return flow


cdef void tcp_entry_unmake(nat_t *nat, tcp_flow *flow) noexcept nogil:
    table_del(nat.tcp_table, &flow.key)
    tcb_free(&flow.tcb)
    pool_put(nat.tcp_pool, flow)


cdef void tcp_entry_quote_syn(const tcp_flow *flow, uint8_t *out) noexcept nogil:
    """The guest's SYN as an ICMP error quotes it: its IP header and the first eight bytes of TCP."""
    cdef uint32_t iss = flow.tcb.rcv_nxt - 1
    memset(out, 0, 28)
    out[0] = 0x45
    out[3] = 40
    out[6] = 0x40
    out[8] = 64
    out[9] = IPPROTO_TCP4
    put_be32(out + 12, addr_v4(&flow.key.guest))
    put_be32(out + 16, addr_v4(&flow.key.peer))
    out[20] = <uint8_t>(flow.key.guest_port >> 8)
    out[21] = <uint8_t>flow.key.guest_port
    out[22] = <uint8_t>(flow.key.peer_port >> 8)
    out[23] = <uint8_t>flow.key.peer_port
    put_be32(out + 24, iss)


cdef void tcp_entry_tell(nat_t *nat, const tcp_flow *flow, uint8_t flags) noexcept nogil:
    cdef const addr_t *about = &flow.key.peer
    if flags & TCP_RST and flow.host_error:
        nat.told.kind = DECIDED_FAILED
        nat.told.error = flow.host_error
    elif flags & (TCP_SYN | TCP_ACK) == TCP_SYN:
        nat.told.kind = DECIDED_DIALED if flow.origin == ORIGIN_DIALED else DECIDED_PUBLISHED
        nat.told.port = flow.client_port
        about = &flow.client
    memcpy(nat.told.address, about, 16)


cdef void tcp_entry_tell_dialer(nat_t *nat, const tcp_flow *flow, int error) noexcept nogil:
    cdef mail_dialed mail
    if flow.origin != ORIGIN_DIALED:
        return
    memset(&mail, 0, sizeof(mail))
    mail.id = flow.id
    mail.error = error
    nat_post(nat, MAIL_DIALED, &mail, sizeof(mail), NULL, 0)
