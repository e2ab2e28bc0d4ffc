"""Which kind of flow a packet, an event or a timer belongs to."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset, strncpy

from netstack.host.sockets cimport sock_udp_has_gso
from netstack.iface.fragments cimport fragments_expire
from netstack.iface.input cimport (
    IFACE_ECHO, IFACE_ECHO_REPLY, IFACE_ICMP_ERROR, IFACE_TCP, IFACE_UDP, IFACE_UNREACHABLE,
)
from netstack.iface.neighbors cimport neighbor, neighbors_find
from netstack.iface.packet cimport packet
from netstack.nat.context cimport (
    MAIL_DHCP, UDP_BATCH_BYTES, UDP_RECV_BATCH, UDP_RECV_ROOM, divert_key, mail_dhcp, nat_post, nat_send_icmp_error,
    nat_t,
)
from netstack.nat.divert cimport divert, divert_free_all
from netstack.nat.dns_flow cimport (
    TIMER_DNS, TIMER_DNS_SOCKET, dns_flow_packet, dns_flow_timer, dns_flows_flush, dns_flows_free_all, dns_flows_reap,
    dns_socket_event, dns_socket_timer,
)
from netstack.nat.dns_cache cimport dns_cache_new
from netstack.nat.dns_servers cimport dns_upstreams_new
from netstack.nat.flow cimport (
    POLLED_DNS, POLLED_FORWARD, POLLED_PING, POLLED_TCP, POLLED_UDP, client_key, dns_query, dns_socket, flow_key,
    forward_t, polled, tcp_flow, udp_flow, udp_key,
)
from netstack.nat.forward cimport (
    TIMER_FORWARD, forward_host_event, forward_timer, forwards_free_all, forwards_reap,
)
from netstack.nat.forward_udp cimport TIMER_CLIENT, forward_udp_packet, forward_udp_timer
from netstack.nat.ping_flow cimport (
    TIMER_PING, ping_flow_host_event, ping_flow_packet, ping_flow_timer, ping_flows_free_all,
)
from netstack.nat.ping_guest cimport ping_guest_reply
from netstack.nat.policy cimport TO_DHCP, TO_DNS, policy_of, verdict as policy_verdict
from netstack.nat.resolve cimport TIMER_RESOLVE, resolve_free_all, resolve_look, resolve_timer
from netstack.nat.tcp_entry cimport TIMER_TCP
from netstack.nat.tcp_flow cimport (
    tcp_flow_host_event, tcp_flow_icmp_error, tcp_flow_packet, tcp_flow_timer, tcp_flows_flush,
    tcp_flows_free_all, tcp_flows_port_ready, tcp_flows_reap,
)
from netstack.nat.udp_flow cimport (
    TIMER_UDP, udp_flow_host_event, udp_flow_packet, udp_flow_timer, udp_flows_flush, udp_flows_free_all,
    udp_flows_reap,
)
from netstack.storage.blocks cimport blocks_free, blocks_new
from netstack.storage.counters cimport DHCP_REQUESTS, IP_BROADCAST, count
from netstack.storage.mailbox cimport mailbox_free, mailbox_init
from netstack.storage.pool cimport pool_free, pool_new
from netstack.storage.table cimport table_free, table_new, table_new_inside
from netstack.storage.wheel cimport wheel_timer
from netstack.wire.addr cimport addr_from_object, addr_from_v4, addr_t
from netstack.wire.be cimport be32
from netstack.wire.icmp4 cimport ICMP4_PROTOCOL_UNREACHABLE, ICMP4_TIME_EXCEEDED, ICMP4_UNREACHABLE
from netstack.wire.ipv4 cimport IPPROTO_UDP4

cdef enum:
    MAILBOX_BYTES = 1048576
    MAX_RESOLUTIONS = 1024          # guests whose MAC is being asked for
    MAX_DIVERSIONS = 4096
    SLACK = 1024                    # dead flows that wait for the end of a round


cdef nat_t *nat_new() noexcept nogil:
    cdef nat_t *nat = <nat_t *>calloc(1, sizeof(nat_t))
    if nat == NULL:
        return NULL
    nat.mail_fd = -1
    nat.udp_gso = sock_udp_has_gso() > 0
    nat.batch_memory = <unsigned char *>malloc(UDP_BATCH_BYTES)
    nat.recv_memory = <unsigned char *>malloc(UDP_RECV_BATCH * UDP_RECV_ROOM)
    if nat.batch_memory == NULL or nat.recv_memory == NULL or mailbox_init(&nat.mailbox, MAILBOX_BYTES) < 0:
        nat_free(nat, 0)
        return NULL
    return nat


cdef int nat_configure(nat_t *nat, dict s) except -1:
    cdef bytes interface_name = s["outbound_interface"].encode()
    cdef addr_t source
    nat.settings.udp_one_way_ns = s["udp_one_way_ns"]
    nat.settings.udp_two_way_ns = s["udp_two_way_ns"]
    nat.settings.dns_timeout_ns = s["dns_timeout_ns"]
    nat.settings.ping_timeout_ns = s["ping_timeout_ns"]
    nat.settings.connect_timeout_ns = s["connect_timeout_ns"]
    nat.settings.max_tcp = s["max_tcp"]
    nat.settings.max_udp = s["max_udp"]
    nat.settings.max_ping = s["max_ping"]
    nat.settings.max_dns = s["max_dns"]
    nat.settings.dns_cache = s["dns_cache"]
    nat.settings.all_pending = s["all_pending"]
    nat.options.mark = s["outbound_mark"]
    strncpy(nat.options.interface_name, interface_name, 15)
    if s["outbound_address"]:
        source = addr_from_object(s["outbound_address"])
        memcpy(nat.options.source, &source, 16)
    nat.memory.limit = s["tcp_memory"]
    nat.memory.blocks = blocks_new()    # without memory: rings come from the allocator
    nat.tcp.mss = s["mtu"] - 40
    nat.tcp.max_gso = 65535 - 20 - 60
    nat.tcp.rcv_buf_initial = s["tcp_buffer_initial"]
    nat.tcp.rcv_buf_max = s["tcp_buffer_max"]
    nat.tcp.snd_buf_initial = s["tcp_buffer_initial"]
    nat.tcp.snd_buf_max = s["tcp_buffer_max"]
    nat.tcp.congestion = s["congestion"]
    nat.tcp.timestamps = 1
    nat.tcp.sack = 1
    nat.tcp.ecn = 1
    nat.tcp.nagle = 0               # the host's sender has decided already
    nat.tcp.delayed_ack_ns = 40000000
    nat.tcp.rto_min_ns = 200000000
    nat.tcp.rto_max_ns = 120 * <uint64_t>1000000000
    nat.tcp.rto_initial_ns = 1000000000
    nat.tcp.keepalive_idle_ns = s["keepalive_ns"]
    nat.tcp.keepalive_interval_ns = 75 * <uint64_t>1000000000
    nat.tcp.keepalive_probes = 9
    nat.tcp.user_timeout_ns = 0
    nat.tcp.syn_timeout_ns = 180 * <uint64_t>1000000000
    nat.tcp.time_wait_ns = s["time_wait_ns"]
    nat.tcp.fin_wait_2_ns = 0
    nat.tcp.burst_packets = 0
    nat.tcp.challenge_interval_ns = 500000000
    nat.tcp.memory = &nat.memory
    return 0


cdef int nat_make_tables(nat_t *nat) noexcept nogil:
    cdef tcp_flow any
    nat.tcp_table = table_new_inside(sizeof(flow_key), <uint32_t>(<uint8_t *>&any.key - <uint8_t *>&any), 64,
                                     nat.settings.max_tcp, nat.k0, nat.k1)
    nat.udp_table = table_new(sizeof(udp_key), 64, nat.settings.max_udp, nat.k0, nat.k1)
    nat.ping_table = table_new(sizeof(udp_key), 16, nat.settings.max_ping, nat.k0, nat.k1)
    nat.dns_queries = table_new(sizeof(udp_key), 16, nat.settings.max_dns, nat.k0, nat.k1)
    nat.resolutions = table_new(sizeof(addr_t), 16, MAX_RESOLUTIONS, nat.k0, nat.k1)
    nat.clients = table_new(sizeof(client_key), 16, nat.settings.max_udp, nat.k0, nat.k1)
    nat.client_keys = table_new(sizeof(flow_key), 16, nat.settings.max_udp, nat.k0, nat.k1)
    nat.diversions = table_new(sizeof(divert_key), 16, MAX_DIVERSIONS, nat.k0, nat.k1)
    nat.upstreams = dns_upstreams_new(nat.settings.max_dns, nat.k0, nat.k1)
    if nat.settings.dns_cache:
        nat.cache = dns_cache_new(nat.settings.dns_cache, nat.k0, nat.k1)
        if nat.cache == NULL:
            return -1
    nat.tcp_pool = pool_new(sizeof(tcp_flow), 64, nat.settings.max_tcp + SLACK)
    nat.udp_pool = pool_new(sizeof(udp_flow), 64, nat.settings.max_udp + nat.settings.max_ping + SLACK)
    nat.dns_pool = pool_new(sizeof(dns_query), 16, nat.settings.max_dns + SLACK)
    if (nat.upstreams == NULL or nat.resolutions == NULL or nat.clients == NULL or nat.client_keys == NULL
            or nat.diversions == NULL):
        return -1
    if (nat.tcp_table == NULL or nat.udp_table == NULL or nat.ping_table == NULL or nat.dns_queries == NULL
            or nat.tcp_pool == NULL or nat.udp_pool == NULL or nat.dns_pool == NULL):
        return -1
    return 0


cdef void nat_free(nat_t *nat, uint64_t now_ns) noexcept nogil:
    if nat == NULL:
        return
    if nat.dns_pool != NULL:            # the last that nat_make_tables makes
        forwards_free_all(nat)
        tcp_flows_free_all(nat, now_ns)
        resolve_free_all(nat)
        divert_free_all(nat)
        ping_flows_free_all(nat)
        udp_flows_free_all(nat)
        dns_flows_free_all(nat)
    table_free(nat.tcp_table)
    table_free(nat.udp_table)
    table_free(nat.ping_table)
    table_free(nat.dns_queries)
    table_free(nat.resolutions)
    table_free(nat.clients)
    table_free(nat.client_keys)
    table_free(nat.diversions)
    blocks_free(nat.memory.blocks)
    pool_free(nat.tcp_pool)
    pool_free(nat.udp_pool)
    pool_free(nat.dns_pool)
    mailbox_free(&nat.mailbox)
    free(nat.batch_memory)
    free(nat.recv_memory)
    free(nat)


cdef void to_dhcp(nat_t *nat, const packet *p) noexcept nogil:
    cdef mail_dhcp mail
    memset(&mail, 0, sizeof(mail))
    mail.port = p.port
    memcpy(mail.mac, p.eth.src, 6)
    mail.src = p.ip.src
    mail.dst = p.ip.dst
    count(nat.counters, DHCP_REQUESTS)
    nat_post(nat, MAIL_DHCP, &mail, sizeof(mail), p.payload, p.payload_length)


cdef void nat_packet(nat_t *nat, int verdict, const packet *p, uint64_t now_ns) noexcept nogil:
    cdef policy_verdict where
    cdef addr_t target
    cdef uint16_t port
    cdef bint diverted
    if verdict == IFACE_TCP:
        tcp_flow_packet(nat, p, now_ns)
    elif verdict == IFACE_UDP:
        if forward_udp_packet(nat, p, now_ns):
            return
        port = p.udp.dport
        diverted = divert(nat, p.ip.dst, &port, IPPROTO_UDP4, &where, &target)
        if not diverted:
            where = policy_of(nat, p.ip.dst, p.udp.dport, False, &target)
        if where == TO_DHCP:
            to_dhcp(nat, p)
        elif (p.ip.src == 0 or p.ip.dst == 0xffffffffu or p.ip.dst == nat.iface.broadcast
              or p.ip.dst == nat.iface.network):
            count(nat.counters, IP_BROADCAST)
        elif where == TO_DNS:
            dns_flow_packet(nat, p, now_ns)
        else:
            udp_flow_packet(nat, p, where, &target, port, diverted, now_ns)
    elif verdict == IFACE_ECHO:
        ping_flow_packet(nat, p, now_ns)
    elif verdict == IFACE_ECHO_REPLY:
        ping_guest_reply(nat, p, now_ns)
    elif verdict == IFACE_ICMP_ERROR:
        tcp_flow_icmp_error(nat, p, now_ns)
    elif verdict == IFACE_UNREACHABLE:
        nat_send_icmp_error(nat, p.guest, 0, ICMP4_UNREACHABLE, ICMP4_PROTOCOL_UNREACHABLE, 0, p.l3,
                            p.ip.header_length + p.l4_length, now_ns)


cdef void nat_host_event(nat_t *nat, polled *what, uint32_t events, uint64_t now_ns) noexcept nogil:
    if what.kind == POLLED_TCP:
        tcp_flow_host_event(nat, <tcp_flow *>what, events, now_ns)
    elif what.kind == POLLED_UDP:
        udp_flow_host_event(nat, <udp_flow *>what, events, now_ns)
    elif what.kind == POLLED_DNS:
        dns_socket_event(nat, <dns_socket *>what, events, now_ns)
    elif what.kind == POLLED_PING:
        ping_flow_host_event(nat, <udp_flow *>what, events, now_ns)
    elif what.kind == POLLED_FORWARD:
        forward_host_event(nat, <forward_t *>what, events, now_ns)


cdef void nat_timer(nat_t *nat, wheel_timer *timer, uint64_t now_ns) noexcept nogil:
    if timer.kind == TIMER_TCP:
        tcp_flow_timer(nat, <tcp_flow *>timer.owner, now_ns)
    elif timer.kind == TIMER_UDP:
        udp_flow_timer(nat, <udp_flow *>timer.owner, now_ns)
    elif timer.kind == TIMER_PING:
        ping_flow_timer(nat, <udp_flow *>timer.owner, now_ns)
    elif timer.kind == TIMER_DNS:
        dns_flow_timer(nat, <dns_query *>timer.owner, now_ns)
    elif timer.kind == TIMER_DNS_SOCKET:
        dns_socket_timer(nat, <dns_socket *>timer.owner)
    elif timer.kind == TIMER_FORWARD:
        forward_timer(nat, timer, now_ns)
    elif timer.kind == TIMER_CLIENT:
        forward_udp_timer(nat, timer, now_ns)
    elif timer.kind == TIMER_RESOLVE:
        resolve_timer(nat, timer, now_ns)


cdef void nat_expire_fragments(nat_t *nat, uint64_t now_ns) noexcept nogil:
    cdef uint8_t[68] quote
    cdef uint32_t n = 0
    cdef addr_t src
    cdef neighbor *to
    while fragments_expire(&nat.iface.fragments, now_ns, nat.counters, quote, &n) > 0:
        if n == 0:
            break
        src = addr_from_v4(be32(quote + 12))
        to = neighbors_find(&nat.iface.neighbors, &src)
        if to != NULL:
            nat_send_icmp_error(nat, to, 0, ICMP4_TIME_EXCEEDED, 1, 0, quote, n, now_ns)


cdef void nat_port_ready(nat_t *nat, int port) noexcept nogil:
    tcp_flows_port_ready(nat, port)


cdef bint nat_flush(nat_t *nat, uint64_t now_ns) noexcept nogil:
    udp_flows_flush(nat, now_ns)
    dns_flows_flush(nat, now_ns)
    resolve_look(nat, now_ns)
    if nat.touched != NULL:
        tcp_flows_flush(nat, now_ns)
    return nat.touched != NULL


cdef void nat_reap(nat_t *nat) noexcept nogil:
    if nat.dead_tcp != NULL:
        tcp_flows_reap(nat)
    if nat.dead_forwards != NULL:
        forwards_reap(nat)
    if nat.dead_udp != NULL:
        udp_flows_reap(nat)
    if nat.dead_dns != NULL or nat.upstreams.dead != NULL:
        dns_flows_reap(nat)
