/* The upper bound for bulk TCP between a TAP and the host's sockets: what the system calls and the kernel's two TCPs
 * allow when everything else is left out. It is a yardstick and must not be used as a network: nothing is ever
 * retransmitted, nothing is checked, addresses are ignored, and a connection that misbehaves takes the program along.
 *
 * usage: limit NETNS-PATH IFNAME MTU [ADDRESS]
 *
 * Opens the TAP IFNAME in that namespace with virtio headers, partial checksums and TCP segmentation offload, then
 * connects every SYN from the guest to ADDRESS (127.0.0.1) at the same port in its own namespace, and copies both ways.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    MAX_CONNECTIONS = 256,
    MAX_PAYLOAD = 65160,        /* of one super-segment: stays below 65535 with every header */
    WINDOW_SHIFT = 10,
    WINDOW = 4096,              /* 4 MiB, scaled */
    FRAMES_PER_WAKEUP = 32,     /* read from the TAP before the sockets get a turn */
    SEGMENTS_PER_WAKEUP = 8,    /* read from one socket before the others get a turn */
    ACK_EVERY = 2,              /* full-sized segments */
};

struct headers {                /* of a segment towards the guest; a SYN-ACK has 8 bytes of options behind it */
    struct virtio_net_hdr_mrg_rxbuf virtio;
    struct ether_header eth;
    struct iphdr ip;
    struct tcphdr tcp;
    uint8_t options[8];
} __attribute__((packed));

struct connection {
    int fd;                     /* -1: the slot is free */
    in_addr_t guest, peer;      /* as on the wire, like the ports */
    in_port_t guest_port, peer_port;
    uint32_t received;          /* next sequence number expected from the guest */
    uint32_t acknowledged;      /* what we last told the guest of it */
    uint32_t sent;              /* next sequence number for the guest */
    uint32_t confirmed;         /* what the guest has acknowledged of it */
    uint32_t window;            /* what the guest takes beyond that */
    int guest_shift;
    int finished;               /* our FIN is sent */
};

static int tap, poller, mss;
static struct in_addr server;
static uint8_t guest_mac[ETH_ALEN];
static const uint8_t our_mac[ETH_ALEN] = {0x02, 0, 0, 0, 0, 0x01};
static struct connection connections[MAX_CONNECTIONS];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The Internet checksum's sum, folded to 16 bits and not inverted. */
static uint16_t folded_sum(const void *data, size_t length, uint32_t sum)
{
    const uint8_t *p = data;
    for (; length > 1; p += 2, length -= 2)
        sum += (uint32_t)p[0] << 8 | p[1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void send_segment(struct connection *c, int flags, const void *payload, size_t length)
{
    const int syn = flags & TH_SYN;
    const size_t tcp_length = sizeof(struct tcphdr) + (syn ? 8 : 0);
    const size_t l2_to_l4 = sizeof(struct ether_header) + sizeof(struct iphdr) + tcp_length;
    struct headers h = {0};

    h.virtio.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    h.virtio.hdr.csum_start = sizeof h.eth + sizeof h.ip;
    h.virtio.hdr.csum_offset = offsetof(struct tcphdr, th_sum);
    if (length > (size_t)mss) {
        h.virtio.hdr.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        h.virtio.hdr.gso_size = (uint16_t)mss;
        h.virtio.hdr.hdr_len = (uint16_t)l2_to_l4;
    }
    memcpy(h.eth.ether_dhost, guest_mac, ETH_ALEN);
    memcpy(h.eth.ether_shost, our_mac, ETH_ALEN);
    h.eth.ether_type = htons(ETHERTYPE_IP);

    h.ip.version = 4;
    h.ip.ihl = 5;
    h.ip.tot_len = htons((uint16_t)(sizeof h.ip + tcp_length + length));
    h.ip.frag_off = htons(IP_DF);
    h.ip.ttl = 64;
    h.ip.protocol = IPPROTO_TCP;
    h.ip.saddr = c->peer;
    h.ip.daddr = c->guest;
    h.ip.check = htons((uint16_t)~folded_sum(&h.ip, sizeof h.ip, 0));

    h.tcp.th_sport = c->peer_port;
    h.tcp.th_dport = c->guest_port;
    h.tcp.th_seq = htonl(c->sent);
    h.tcp.th_ack = htonl(c->received);
    h.tcp.th_off = tcp_length / 4;
    h.tcp.th_flags = (uint8_t)flags;
    h.tcp.th_win = htons(syn ? 65535 : WINDOW);
    if (syn) {
        const uint8_t options[8] = {TCPOPT_MAXSEG, 4, (uint8_t)(mss >> 8), (uint8_t)mss,
                                    TCPOPT_NOP, TCPOPT_WINDOW, 3, WINDOW_SHIFT};
        memcpy(h.options, options, sizeof options);
    }
    /* The kernel completes the checksum, if anybody ever looks at it: only the pseudo-header's sum is due. */
    h.tcp.th_sum = htons(folded_sum(&h.ip.saddr, 8, (uint32_t)(IPPROTO_TCP + tcp_length + length)));

    struct iovec iov[2] = {{&h, sizeof h.virtio + l2_to_l4}, {(void *)payload, length}};
    if (writev(tap, iov, length ? 2 : 1) < 0)
        perror("writing to the TAP");
    c->acknowledged = c->received;
}

/* From the host to the guest, as much as the guest's window takes. */
static void pump_down(struct connection *c)
{
    static uint8_t payload[MAX_PAYLOAD];
    const uint32_t biggest = mss < MAX_PAYLOAD ? (uint32_t)(MAX_PAYLOAD / mss * mss) : MAX_PAYLOAD;

    for (int i = 0; i < SEGMENTS_PER_WAKEUP && !c->finished; i++) {
        const uint32_t in_flight = c->sent - c->confirmed;
        if (in_flight + 1 >= c->window)
            return;                                 /* an acknowledgement will bring us back here */
        const uint32_t room = c->window - in_flight;
        const ssize_t n = recv(c->fd, payload, room < biggest ? room : biggest, MSG_DONTWAIT);
        if (n < 0)
            return;
        if (n == 0) {
            send_segment(c, TH_FIN | TH_ACK, NULL, 0);
            c->sent++;
            c->finished = 1;
            epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
            return;
        }
        send_segment(c, TH_PUSH | TH_ACK, payload, (size_t)n);
        c->sent += (uint32_t)n;
    }
}

static void send_all(int fd, const uint8_t *data, size_t length)
{
    while (length) {
        const ssize_t n = send(fd, data, length, MSG_NOSIGNAL);
        if (n >= 0) {
            data += n;
            length -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd writable = {fd, POLLOUT, 0};
            poll(&writable, 1, 1000);
        } else {
            return;
        }
    }
}

static struct connection *find(in_port_t guest_port, in_port_t peer_port)
{
    for (int i = 0; i < MAX_CONNECTIONS; i++) {
        struct connection *c = &connections[i];
        if (c->fd >= 0 && c->guest_port == guest_port && c->peer_port == peer_port)
            return c;
    }
    return NULL;
}

static void close_connection(struct connection *c)
{
    close(c->fd);
    c->fd = -1;
}

static void open_connection(struct connection *c, const struct iphdr *ip, const struct tcphdr *tcp)
{
    if (c)
        close_connection(c);
    else
        for (c = connections; c->fd >= 0; c++)
            if (c == &connections[MAX_CONNECTIONS - 1])
                return;
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in host = {.sin_family = AF_INET, .sin_port = tcp->th_dport,
                               .sin_addr = server};
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&host, sizeof host)) {
        perror("connecting");
        if (c->fd >= 0)
            close_connection(c);
        c->fd = -1;
        return;
    }
    const int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->guest = ip->saddr;
    c->peer = ip->daddr;
    c->guest_port = tcp->th_sport;
    c->peer_port = tcp->th_dport;
    c->received = ntohl(tcp->th_seq) + 1;
    c->sent = c->confirmed = 1000;
    c->window = 65535;
    const uint8_t *option = (const uint8_t *)(tcp + 1), *end = (const uint8_t *)tcp + tcp->th_off * 4;
    while (option + 2 < end && *option != TCPOPT_EOL) {
        if (*option == TCPOPT_NOP) {
            option++;
            continue;
        }
        if (*option == TCPOPT_WINDOW)
            c->guest_shift = option[2];
        option += option[1] >= 2 ? option[1] : 2;
    }
    send_segment(c, TH_SYN | TH_ACK, NULL, 0);
    c->sent++;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
}

static void segment_arrives(const struct iphdr *ip, const struct tcphdr *tcp, size_t length)
{
    const uint8_t *payload = (const uint8_t *)tcp + tcp->th_off * 4;
    struct connection *c = find(tcp->th_sport, tcp->th_dport);

    if (tcp->th_flags & TH_SYN) {
        open_connection(c, ip, tcp);
        return;
    }
    if (!c)
        return;
    if (tcp->th_flags & TH_RST) {
        close_connection(c);
        return;
    }
    c->confirmed = ntohl(tcp->th_ack);
    c->window = (uint32_t)ntohs(tcp->th_win) << c->guest_shift;
    if (length) {
        if (ntohl(tcp->th_seq) != c->received) {
            send_segment(c, TH_ACK, NULL, 0);
            return;
        }
        send_all(c->fd, payload, length);
        c->received += (uint32_t)length;
        if (c->received - c->acknowledged > (uint32_t)(ACK_EVERY * mss) || tcp->th_flags & TH_PUSH)
            send_segment(c, TH_ACK, NULL, 0);
    }
    if (tcp->th_flags & TH_FIN) {
        c->received++;
        shutdown(c->fd, SHUT_WR);
        send_segment(c, TH_ACK, NULL, 0);
    }
    if (c->finished && c->confirmed == c->sent && tcp->th_flags & TH_FIN)
        close_connection(c);
    else
        pump_down(c);
}

static void answer_arp(const struct ether_arp *question)
{
    struct {
        struct virtio_net_hdr_mrg_rxbuf virtio;
        struct ether_header eth;
        struct ether_arp arp;
    } __attribute__((packed)) answer = {.eth.ether_type = htons(ETHERTYPE_ARP), .arp = *question};

    memcpy(guest_mac, question->arp_sha, ETH_ALEN);
    memcpy(answer.eth.ether_dhost, guest_mac, ETH_ALEN);
    memcpy(answer.eth.ether_shost, our_mac, ETH_ALEN);
    answer.arp.arp_op = htons(ARPOP_REPLY);
    memcpy(answer.arp.arp_sha, our_mac, ETH_ALEN);
    memcpy(answer.arp.arp_spa, question->arp_tpa, 4);
    memcpy(answer.arp.arp_tha, question->arp_sha, ETH_ALEN);
    memcpy(answer.arp.arp_tpa, question->arp_spa, 4);
    if (write(tap, &answer, sizeof answer) < 0)
        perror("writing to the TAP");
}

static void frame_arrives(const uint8_t *frame, size_t length)
{
    const struct ether_header *eth = (const void *)frame;
    if (length >= sizeof *eth + sizeof(struct ether_arp) && eth->ether_type == htons(ETHERTYPE_ARP))
        answer_arp((const void *)(eth + 1));
    if (length < sizeof *eth + sizeof(struct iphdr) + sizeof(struct tcphdr) || eth->ether_type != htons(ETHERTYPE_IP))
        return;
    const struct iphdr *ip = (const void *)(eth + 1);
    if (ip->protocol != IPPROTO_TCP)
        return;
    const struct tcphdr *tcp = (const void *)((const uint8_t *)ip + ip->ihl * 4);
    const size_t headers = sizeof *eth + ip->ihl * 4u + tcp->th_off * 4u;
    if (length >= headers)
        segment_arrives(ip, tcp, length - headers);
}

static void open_tap(const char *netns, const char *ifname)
{
    const int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    const int there = open(netns, O_RDONLY | O_CLOEXEC);
    if (there < 0 || setns(there, CLONE_NEWNET))
        die(netns);
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    strncpy(request.ifr_name, ifname, IFNAMSIZ - 1);
    const int header_size = sizeof(struct virtio_net_hdr_mrg_rxbuf), unlimited = 1 << 30;
    tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (tap < 0 || ioctl(tap, TUNSETIFF, &request) || ioctl(tap, TUNSETVNETHDRSZ, &header_size) ||
        ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) || ioctl(tap, TUNSETSNDBUF, &unlimited))
        die("opening the TAP");
    if (setns(home, CLONE_NEWNET))
        die("setns");
}

int main(int argc, char **argv)
{
    static uint8_t buffer[sizeof(struct virtio_net_hdr_mrg_rxbuf) + 70000];
    if ((argc != 4 && argc != 5) || !inet_aton(argc == 5 ? argv[4] : "127.0.0.1", &server)) {
        fprintf(stderr, "usage: limit NETNS-PATH IFNAME MTU [ADDRESS]\n");
        return 2;
    }
    mss = atoi(argv[3]) - (int)(sizeof(struct iphdr) + sizeof(struct tcphdr));
    for (int i = 0; i < MAX_CONNECTIONS; i++)
        connections[i].fd = -1;
    open_tap(argv[1], argv[2]);
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, tap, &event);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[64];
        const int n = epoll_wait(poller, events, 64, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (c) {
                if (c->fd >= 0)
                    pump_down(c);
                continue;
            }
            for (int k = 0; k < FRAMES_PER_WAKEUP; k++) {
                const ssize_t got = read(tap, buffer, sizeof buffer);
                if (got < (ssize_t)sizeof(struct virtio_net_hdr_mrg_rxbuf))
                    break;
                frame_arrives(buffer + sizeof(struct virtio_net_hdr_mrg_rxbuf),
                              (size_t)got - sizeof(struct virtio_net_hdr_mrg_rxbuf));
            }
        }
    }
}
