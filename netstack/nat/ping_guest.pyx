"""Echo requests from the gateway to a guest. Only so many replies are passed on as requests were sent: a guest cannot
fill the mailbox with answers that nobody has asked for.
"""
from libc.errno cimport EHOSTUNREACH, EMSGSIZE, ENOBUFS
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from netstack.iface.interface cimport iface_is_guest
from netstack.iface.packet cimport packet
from netstack.nat.context cimport MAIL_ECHO_REPLY, mail_echo, nat_post, nat_t
from netstack.nat.resolve cimport resolve_send
from netstack.storage.counters cimport PING_REPLY_IGNORED, count
from netstack.wire.icmp4 cimport ICMP4_ECHO, icmp4_hdr, icmp4_write
from netstack.wire.ipv4 cimport IPPROTO_ICMP4

cdef enum:
    CREDIT = 1024               # requests without an answer, at most
    LONGEST = 65507


cdef inline uint16_t identifier(const nat_t *nat) noexcept nogil:
    return <uint16_t>(nat.k0 ^ nat.k1)


cdef int ping_guest(nat_t *nat, ping_new *p, uint64_t now_ns) noexcept nogil:
    cdef icmp4_hdr echo
    cdef uint8_t *body = nat.recv_memory
    cdef uint32_t i
    cdef int n
    if not iface_is_guest(nat.iface, p.guest):
        return -EHOSTUNREACH
    if p.length > LONGEST:
        return -EMSGSIZE
    for i in range(p.length):
        body[i] = <uint8_t>i
    echo.type = ICMP4_ECHO
    echo.code = 0
    echo.rest = (<uint32_t>identifier(nat) << 16) | p.sequence
    echo.body = body
    echo.body_length = p.length
    n = icmp4_write(nat.scratch, sizeof(nat.scratch), &echo)
    if n < 0:
        return -EMSGSIZE
    p.sent_ns = now_ns
    if resolve_send(nat, p.guest, nat.iface.gateway, IPPROTO_ICMP4, 0, 0, 0, nat.scratch, <uint32_t>n, now_ns) < 0:
        return -ENOBUFS
    if nat.echo_credit < CREDIT:
        nat.echo_credit += 1
    return 0


cdef void ping_guest_reply(nat_t *nat, const packet *p, uint64_t now_ns) noexcept nogil:
    cdef mail_echo mail
    if nat.echo_credit == 0 or <uint16_t>(p.icmp.rest >> 16) != identifier(nat):
        count(nat.counters, PING_REPLY_IGNORED)
        return
    nat.echo_credit -= 1
    memset(&mail, 0, sizeof(mail))
    mail.now_ns = now_ns
    mail.guest = p.ip.src
    mail.ident = <uint16_t>(p.icmp.rest >> 16)
    mail.sequence = <uint16_t>p.icmp.rest
    mail.length = p.payload_length
    mail.ttl = p.ip.ttl
    nat_post(nat, MAIL_ECHO_REPLY, &mail, sizeof(mail), NULL, 0)
