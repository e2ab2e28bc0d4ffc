"""A capture as frames that can be fed: parsed once, on one monotone clock, with who speaks to whom.

Every link type becomes Ethernet. What a snap length has cut off is filled with zeros where the headers are whole, so
that the conversation around it can still be judged. Times start where the capture does; a step back is taken as no
step, and a gap of more than a day as a day.
"""
cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memset

from netstack.capture.records cimport (
    LINK_COOKED, LINK_COOKED2, LINK_ETHERNET, LINK_IPV4, LINK_IPV6, LINK_LOOP, LINK_NULL, LINK_RAW, LINK_RAW_BSD,
    LINK_RAW_OPENBSD, frame_record, records_end, records_fault_text, records_free, records_new, records_read, records_t,
)
from netstack.capture.source import Source
from netstack.errors import NetstackError
from netstack.storage.table cimport table_free, table_get, table_new, table_put, table_t
from netstack.wire.addr cimport addr_from_v4, addr_t
from netstack.wire.arp cimport arp_hdr, arp_parse
from netstack.wire.be cimport be16, be32
from netstack.wire.checksum cimport csum_fold, csum_ok, csum_pseudo
from netstack.wire.ethernet cimport (
    ETH_HDR_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, eth_hdr, eth_parse,
)
from netstack.wire.icmp4 cimport ICMP4_ECHO, ICMP4_ECHO_REPLY, icmp4_hdr, icmp4_parse
from netstack.wire.ipv4 cimport (
    IPPROTO_ICMP4, IPPROTO_TCP4, IPPROTO_UDP4, ipv4_checksum_ok, ipv4_hdr, ipv4_parse,
)
from netstack.wire.tcp cimport TCP_ACK, TCP_SYN, tcp_hdr, tcp_parse
from netstack.wire.udp cimport UDP_HDR_LEN, udp_hdr, udp_parse

cdef enum:
    MAX_FRAMES = 100000000
    MAX_PAIRS = 1000000
    MAX_PIECES = 256                # datagrams of which fragments are missing
    SECOND = 1000000000
    ETHERNET_MAX = 1518
    BATCH = 64                      # records at a time

cdef uint64_t DAY = 86400 * <uint64_t>1000000000

# A guest without an Ethernet address gets this one, and everything else the gateway's place.
cdef bytes GUEST_MAC = b"\x02\x00\x00\x00\x00\x03"
cdef bytes ROUTER_MAC = b"\x02\x00\x00\x00\x00\x01"


ctypedef struct pair_t:             # of IPv4 addresses that have sent each other something
    uint32_t a, b                   # a < b
    uint32_t frames
    uint32_t first                  # index of the first frame
    uint8_t[2] seen             # a has sent something, b has
    uint32_t from_a, from_b         # signs that this one is a guest: it opens, asks, resolves


cdef bytes ether(bytes body, uint16_t ethertype):
    return ROUTER_MAC + GUEST_MAC + ethertype.to_bytes(2, "big") + body


cdef object as_ethernet(bytes data, object link_type):
    """The frame with an Ethernet header, and how many bytes longer it is now; None where the type is not known."""
    cdef uint16_t kind = 0
    if link_type in (LINK_RAW, LINK_RAW_BSD, LINK_RAW_OPENBSD, LINK_IPV4, LINK_IPV6):
        kind = ETHERTYPE_IPV6 if data and data[0] >> 4 == 6 else ETHERTYPE_IPV4
        return ether(data, kind), 14
    if link_type == LINK_COOKED and len(data) >= 16:
        return ether(data[16:], data[14] << 8 | data[15]), -2
    if link_type == LINK_COOKED2 and len(data) >= 20:
        return ether(data[20:], data[0] << 8 | data[1]), -6
    if link_type in (LINK_NULL, LINK_LOOP) and len(data) >= 5:
        kind = ETHERTYPE_IPV6 if data[4] >> 4 == 6 else ETHERTYPE_IPV4
        return ether(data[4:], kind), 10
    if link_type in (LINK_COOKED, LINK_COOKED2, LINK_NULL, LINK_LOOP):
        return b"", 0                   # shorter than its header
    return None


@cython.auto_pickle(False)
cdef class Trace:
    """The frames of one capture file.

    Args:
        path: pcap or pcapng, plain or packed with gzip or zstd; Ethernet, raw IP, Linux cooked (both), or loopback.

    Attributes:
        fault: in words why reading ended before the file did; "" where it did not.
        start_ns: the time of the first frame, ns since 1970.
        gaps: steps of time that were shortened to a day.

    Raises:
        OSError: the file cannot be read. NetstackError: it is no capture, or of a link type that is not known.
        ConfigError: it is packed with zstd, and zstandard is not installed.
    """

    def __cinit__(self, path):
        self.path = str(path)
        self.fault = ""
        self.start_ns = 0
        self.kept = []
        self.pieces = {}
        self.dhcp = []
        self.macs = {}
        self.pairs = table_new(8, 64, MAX_PAIRS, 1, 2)
        if self.pairs == NULL:
            raise MemoryError
        self.read(path)
        self.pieces.clear()

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.n_pairs):
            free(self.pair_list[i])
        free(self.pair_list)
        table_free(<table_t *>self.pairs)
        free(self.frames)

    def __len__(self):
        return self.n

    cdef int read(self, path) except -1:
        cdef records_t *records
        cdef frame_record[BATCH] found
        cdef const uint8_t[::1] whole
        cdef const uint8_t *start = NULL
        cdef size_t taken = 0, length
        cdef int i, n = BATCH
        with Source(path) as source:
            whole = source.keep()
            packing = source.fault
        self.kept.append(whole)
        length = <size_t>whole.shape[0]
        if length:
            start = &whole[0]
        records = records_new()
        if records == NULL:
            raise MemoryError
        try:
            while n == BATCH:
                taken += records_read(records, start + taken, length - taken, found, BATCH, &n)
                for i in range(n):
                    self.add(&found[i])
            records_end(records, length - taken)
            self.fault = packing or records_fault_text(records)
        finally:
            records_free(records)
        if self.fault and self.n == 0:
            raise NetstackError(f"{path} is not a capture that can be read: {self.fault}")
        return 0

    cdef int add(self, const frame_record *record) except -1:
        cdef bytes data
        cdef uint32_t original = record.length
        cdef frame_t *f
        cdef void *memory
        cdef uint64_t now, before, when
        cdef int64_t since
        cdef uint32_t room
        if self.n == MAX_FRAMES:
            raise NetstackError(f"{self.path} has more than {MAX_FRAMES} frames: split it")
        if self.n == self.room:
            room = self.room * 2 if self.room else 256
            memory = realloc(self.frames, room * sizeof(frame_t))
            if memory == NULL:
                raise MemoryError
            self.frames = <frame_t *>memory
            self.room = room
        f = &self.frames[self.n]
        memset(f, 0, sizeof(frame_t))
        when = <uint64_t>record.time_ns & 0x7fffffffffffffff     # a capture may claim any time
        if self.n == 0:
            self.start_ns = when
            self.start = when
            now = SECOND
        else:
            before = self.frames[self.n - 1].time_ns
            now = before
            since = <int64_t>(when - self.start) + SECOND
            if since > <int64_t>before:
                now = <uint64_t>since
                if now > before + DAY:          # what follows stays as far apart as it was
                    now = before + DAY
                    self.gaps += 1
                    self.start = when - now + SECOND
        f.time_ns = now
        self.n += 1
        f.number = self.n
        f.wscale = -1
        f.flow = -1
        if record.link_type == LINK_ETHERNET:
            return self.parse(f, record.data, record.captured, original)
        made = as_ethernet(<bytes>record.data[:record.captured], record.link_type)
        if made is None:
            raise NetstackError(
                f"{self.path}: link type {record.link_type} is not known "
                "(Ethernet, raw IP, Linux cooked and loopback are)"
            )
        data, longer = made
        self.kept.append(data)
        # A record may claim any length, the largest as well, and an Ethernet header is longer than some others.
        return self.parse(f, data, <uint32_t>len(data), <uint32_t>min(max(0, original + longer), 0xffffffff))

    cdef int parse(self, frame_t *f, const uint8_t *d, uint32_t length, uint32_t original) except -1:
        cdef eth_hdr eth
        cdef ipv4_hdr ip
        cdef arp_hdr arp
        cdef bytes data
        cdef uint32_t total
        cdef int n, h
        cdef bint cut = original > length
        n = eth_parse(d, length, &eth)
        if n > 0 and not eth.vlan_tags and eth.ethertype == ETHERTYPE_IPV4 and cut and length >= <uint32_t>n + 20:
            total = be16(d + n + 2)
            h = (d[n] & 15) * 4
            if n + total > length and n + total <= original and h >= 20 and n + h + 8 <= <int>length and \
                    ipv4_checksum_ok(d + n, h):
                data = <bytes>d[:length] + bytes(n + total - length)
                self.kept.append(data)
                d = data
                length = n + total
                f.flags |= FRAME_CUT
        f.data = d
        f.length = length
        if n < 0:
            f.kind = KIND_BAD
            return 0
        if eth.vlan_tags:
            f.kind = KIND_VLAN
            return 0
        if eth.ethertype == ETHERTYPE_ARP:
            f.kind = KIND_BAD
            if arp_parse(d + n, length - n, &arp) >= 0:
                f.kind = KIND_ARP
                f.src = arp.spa
                f.dst = arp.tpa
                f.type = <uint8_t>arp.op
                self.note_pair(f)
            return 0
        if eth.ethertype == ETHERTYPE_IPV6:
            f.kind = KIND_IPV6
            return 0
        if eth.ethertype != ETHERTYPE_IPV4:
            f.kind = KIND_OTHER
            return 0
        f.kind = KIND_BAD
        h = ipv4_parse(d + n, length - n, &ip)
        if h < 0:
            if length >= <uint32_t>n + 20:      # whom it claims to come from
                f.src = be32(d + n + 12)
                f.dst = be32(d + n + 16)
            return 0
        f.src = ip.src
        f.dst = ip.dst
        f.ttl = ip.ttl
        f.tos = ip.tos
        if not ipv4_checksum_ok(d + n, h):
            f.flags |= FRAME_WRONG_SUM
            return 0
        if ip.more_fragments or ip.frag_offset:
            f.kind = KIND_FRAGMENT
            self.reassemble(f, n)
            if f.kind == KIND_FRAGMENT:
                self.note_pair(f)
            return 0
        if length > ETHERNET_MAX and ip.protocol == IPPROTO_TCP4:
            f.flags |= FRAME_SUPER
        self.parse_transport(f, ip.protocol, d + n + h, ip.total_length - h, True)
        self.note_pair(f)
        return 0

    cdef int parse_transport(self, frame_t *f, uint8_t protocol, const uint8_t *l4, uint32_t length,
                             bint sums) except -1:
        cdef tcp_hdr tcp
        cdef udp_hdr udp
        cdef icmp4_hdr icmp
        cdef addr_t src = addr_from_v4(f.src), dst = addr_from_v4(f.dst)
        cdef const uint8_t *field
        cdef uint16_t pseudo
        cdef int n
        f.kind = KIND_BAD
        if protocol == IPPROTO_TCP4:
            n = tcp_parse(l4, length, &tcp)
            if n < 0:
                return 0
            f.kind = KIND_TCP
            f.sport, f.dport = tcp.sport, tcp.dport
            f.seq, f.ack = tcp.seq, tcp.ack
            f.tcp_flags = tcp.flags
            f.window = tcp.window
            f.mss = tcp.mss
            f.wscale = tcp.wscale
            f.sack_permitted = tcp.sack_permitted
            f.has_timestamps = tcp.has_timestamps
            f.tsval = tcp.tsval
            f.payload = l4 + n
            f.payload_length = length - n
            field = l4 + 16
        elif protocol == IPPROTO_UDP4:
            n = udp_parse(l4, length, &udp)
            if n < 0 or udp.length < UDP_HDR_LEN or udp.length > length:
                return 0
            f.kind = KIND_UDP
            length = udp.length
            f.sport, f.dport = udp.sport, udp.dport
            f.payload = l4 + 8
            f.payload_length = length - 8
            field = l4 + 6
            if udp.sport in (67, 68) or udp.dport in (67, 68):
                self.dhcp.append(f.number - 1)
        elif protocol == IPPROTO_ICMP4:
            if icmp4_parse(l4, length, &icmp) < 0:
                return 0
            f.kind = KIND_ICMP
            f.type, f.code = icmp.type, icmp.code
            f.rest = icmp.rest
            if icmp.type == ICMP4_ECHO or icmp.type == ICMP4_ECHO_REPLY:
                f.sport = f.dport = <uint16_t>(icmp.rest >> 16)
            f.payload = icmp.body
            f.payload_length = icmp.body_length
            if sums and not f.flags & FRAME_CUT and not csum_ok(l4, length, 0):
                f.flags |= FRAME_WRONG_SUM
            return 0
        else:
            f.kind = KIND_IP
            return 0
        if not sums or f.flags & FRAME_CUT or (protocol == IPPROTO_UDP4 and be16(field) == 0):
            return 0
        if csum_ok(l4, length, csum_pseudo(&src, &dst, protocol, length)):
            return 0
        pseudo = csum_fold(csum_pseudo(&src, &dst, protocol, length))
        if memcmp(field, &pseudo, 2) == 0 or f.flags & FRAME_SUPER or be16(field) == 0:
            f.flags |= FRAME_OFFLOAD
        else:
            f.flags |= FRAME_WRONG_SUM
        return 0

    cdef int reassemble(self, frame_t *f, uint32_t at) except -1:
        """Notes a fragment; where it completes its datagram the frame gets that one's transport fields."""
        cdef ipv4_hdr ip
        cdef const uint8_t *d = f.data
        cdef const uint8_t *l4
        cdef uint32_t start
        ipv4_parse(d + at, f.length - at, &ip)
        key = (ip.src, ip.dst, ip.ident, ip.protocol)
        parts = self.pieces.setdefault(key, {})
        start = at + ip.header_length
        piece = <bytes>d[start:at + ip.total_length]
        parts.setdefault(ip.frag_offset, (piece, bool(ip.more_fragments)))
        whole, reached, last = [], 0, False
        for offset in sorted(parts):
            body, more = parts[offset]
            if offset > reached:
                return 0
            if offset < reached:                # they overlap: who takes them, takes them in its own way
                return 0
            whole.append(body)
            reached += len(body)
            last = not more
        if not last:
            while len(self.pieces) > MAX_PIECES:
                del self.pieces[next(iter(self.pieces))]
            return 0
        del self.pieces[key]
        if reached > 65535:
            return 0
        joined = b"".join(whole)
        self.kept.append(joined)
        l4 = joined
        f.flags |= FRAME_WHOLE
        self.parse_transport(f, ip.protocol, l4, <uint32_t>len(joined), True)
        self.note_pair(f)
        return 0

    cdef int note_pair(self, frame_t *f) except -1:
        cdef uint32_t[2] key
        cdef pair_t *p
        cdef void *memory
        cdef uint32_t room, score_src = 0, score_dst = 0
        cdef bint swapped = f.dst < f.src
        if f.src == 0 or f.kind == KIND_ARP and f.src == f.dst:
            return 0
        key[0] = f.dst if swapped else f.src
        key[1] = f.src if swapped else f.dst
        p = <pair_t *>table_get(<table_t *>self.pairs, key)
        if p == NULL:
            if self.n_pairs == self.pair_room:
                room = self.pair_room * 2 if self.pair_room else 64
                memory = realloc(self.pair_list, room * sizeof(void *))
                if memory == NULL:
                    raise MemoryError
                self.pair_list = <void **>memory
                self.pair_room = room
            p = <pair_t *>calloc(1, sizeof(pair_t))
            if p == NULL:
                raise MemoryError
            if table_put(<table_t *>self.pairs, key, p) < 0:
                free(p)
                return 0                        # too many to be told apart
            p.a, p.b = key[0], key[1]
            p.first = f.number - 1
            self.pair_list[self.n_pairs] = p
            self.n_pairs += 1
        p.frames += 1
        if not p.seen[swapped]:
            p.seen[swapped] = 1
            self.macs.setdefault(f.src, f.data[6:12])
        if f.kind == KIND_TCP and f.tcp_flags & TCP_SYN:
            if f.tcp_flags & TCP_ACK:
                score_dst = 8
            else:
                score_src = 8
        elif f.kind == KIND_UDP and (f.dport < 1024) != (f.sport < 1024):
            if f.dport < 1024:
                score_src = 2
            else:
                score_dst = 2
        elif f.kind == KIND_ICMP and f.type == ICMP4_ECHO:
            score_src = 4
        elif f.kind == KIND_ICMP and f.type == ICMP4_ECHO_REPLY:
            score_dst = 4
        elif f.kind == KIND_ARP and f.type == 1:
            score_src = 1
        elif f.kind == KIND_TCP and p.frames == 1 and f.dport < f.sport:
            score_src = 1
        elif f.kind == KIND_TCP and p.frames == 1:
            score_dst = 1
        p.from_a += score_dst if swapped else score_src
        p.from_b += score_src if swapped else score_dst
        return 0

    # --- for netstack.replay.plan and its like

    def conversations(self) -> list:
        """(address, address, frames, signs that the first is a guest, that the second is) of each pair, IPv4 as
        integers, in the order in which they began."""
        cdef uint32_t i
        cdef pair_t *p
        out = []
        for i in range(self.n_pairs):
            p = <pair_t *>self.pair_list[i]
            out.append((p.a, p.b, p.frames, p.from_a, p.from_b))
        return out

    def hardware(self, uint32_t address) -> bytes | None:
        """The MAC of the first frame from an address."""
        return self.macs.get(address)

    def station(self) -> bytes | None:
        """The MAC that sent the first frame with a unicast source, None where there is none."""
        cdef uint32_t i
        for i in range(self.n):
            if self.frames[i].length >= 14 and not self.frames[i].data[6] & 1:
                return <bytes>self.frames[i].data[6:12]
        return None

    def dhcp_messages(self) -> list:
        """(index, source, destination, payload, MAC of the sender) of each frame from or to the DHCP ports."""
        cdef frame_t *f
        out = []
        for i in self.dhcp:
            f = &self.frames[<uint32_t>i]
            out.append((i, f.src, f.dst, <bytes>f.payload[:f.payload_length], <bytes>f.data[6:12]))
        return out

    def largest(self, uint32_t guest) -> int:
        """Bytes of IP in the longest packet from or to a guest that no card has joined."""
        cdef uint32_t i, most = 0
        cdef frame_t *f
        for i in range(self.n):
            f = &self.frames[i]
            if (f.src == guest or f.dst == guest) and not f.flags & FRAME_SUPER and f.kind >= KIND_FRAGMENT:
                if f.length - ETH_HDR_LEN > most:
                    most = f.length - ETH_HDR_LEN
                if f.kind == KIND_TCP and f.mss and f.mss + 40u > most:
                    most = f.mss + 40u
        return min(most, 65535)

    def questions(self, uint32_t guest) -> dict:
        """Whom a guest has asked for DNS over UDP: address -> queries."""
        cdef uint32_t i
        cdef frame_t *f
        out = {}
        for i in range(self.n):
            f = &self.frames[i]
            if f.src == guest and f.kind == KIND_UDP and f.dport == 53:
                out[f.dst] = out.get(f.dst, 0) + 1
        return out

    def sought(self, uint32_t guest) -> dict:
        """Which addresses a guest has asked for by ARP, and how often."""
        cdef uint32_t i
        cdef frame_t *f
        out = {}
        for i in range(self.n):
            f = &self.frames[i]
            if f.src == guest and f.kind == KIND_ARP and f.type == 1 and f.dst != guest:
                out[f.dst] = out.get(f.dst, 0) + 1
        return out

    def row(self, uint32_t index) -> dict:
        """What is known of one frame, as a dict."""
        cdef frame_t *f
        if index >= self.n:
            raise IndexError(index)
        f = &self.frames[index]
        return {
            "number": f.number, "time_ns": f.time_ns, "length": f.length, "kind": f.kind, "flags": f.flags,
            "role": f.role, "src": f.src, "dst": f.dst, "sport": f.sport, "dport": f.dport, "type": f.type,
            "code": f.code, "flow": f.flow, "result": f.result, "ttl": f.ttl,
        }

    def frame(self, uint32_t index) -> bytes:
        """The bytes of one frame."""
        if index >= self.n:
            raise IndexError(index)
        return <bytes>self.frames[index].data[:self.frames[index].length]

    def payload(self, uint32_t index) -> bytes:
        """The transport's payload of one frame."""
        if index >= self.n or self.frames[index].payload == NULL:
            return b""
        return <bytes>self.frames[index].payload[:self.frames[index].payload_length]
