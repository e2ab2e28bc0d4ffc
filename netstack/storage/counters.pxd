# The one list of counters. Every drop increments exactly one of these; their Python names are the members in
# lower case.
from libc.stdint cimport uint64_t

cpdef enum counter:
    # frames refused at the interface
    FRAME_SHORT             # shorter than its headers
    FRAME_OVERSIZED         # longer than the link's MTU allows (super-frames excepted)
    FRAME_VLAN              # carries an 802.1Q tag
    FRAME_NOT_OURS          # unicast to another MAC that is on no port
    FRAME_BAD_SOURCE        # multicast or our own source MAC
    FRAME_SPOOFED           # from a MAC that lives on another guest's link
    FRAME_UNKNOWN_TYPE      # EtherType that nobody here speaks
    FRAME_IPV6              # IPv6, which this network does not carry
    ARP_BAD
    ARP_SPOOFED             # claims an address of the gateway or one outside the network
    # IPv4
    IP_BAD_HEADER
    IP_BAD_CHECKSUM
    IP_TRUNCATED
    IP_BAD_SOURCE           # broadcast, multicast, loopback or zero source
    IP_SPOOFED              # a source that no guest may have
    IP_MULTICAST
    IP_BROADCAST
    IP_BAD_DESTINATION      # loopback, 0/8 or class E
    IP_TTL                  # TTL was 0
    IP_SOURCE_ROUTE
    IP_UNKNOWN_PROTOCOL
    NEIGHBORS_FULL
    FRAGMENT_BAD            # bad length, beyond 65535, or a hole
    FRAGMENT_OVERLAP
    FRAGMENT_DUPLICATE
    FRAGMENT_TIMEOUT
    FRAGMENT_LIMIT          # evicted: too many datagrams or bytes wait
    # transport
    TCP_BAD_HEADER
    TCP_BAD_CHECKSUM
    TCP_BAD_ADDRESS         # a SYN to broadcast or to port 0
    TCP_NO_CONNECTION       # answered by RST where one is due
    TCP_FLOWS_FULL
    TCP_NOT_ALLOWED         # destination closed by policy
    UDP_BAD_HEADER
    UDP_BAD_CHECKSUM
    UDP_NO_PORT             # nothing listens there: port unreachable
    UDP_FLOW_EVICTED
    UDP_SOCKET_FAILED
    UDP_SEND_FAILED
    UDP_REPLY_NOT_ALLOWED   # from an address that the guest may not reach
    ICMP_BAD
    ICMP_IGNORED            # a type that is not translated
    ICMP_RATE_LIMITED       # an error that was due but over the limit
    PING_FORBIDDEN          # the kernel forbids ping sockets
    PING_FLOWS_FULL
    PING_SEND_FAILED
    PING_REPLY_IGNORED
    FORWARD_NO_GUEST        # a client of a published port whose guest is not known or does not answer ARP
    FORWARD_REFUSED         # a client of a published port, or a dial, that the guest refused
    FORWARD_TIMED_OUT       # ... or did not answer
    FORWARD_ABANDONED       # the client had gone before the guest answered
    FORWARD_FAILED          # the host gave no descriptor, or did not take a datagram
    FORWARD_EVICTED         # a client of a published UDP port that made room for another
    SOCKS_NOT_ALLOWED       # a datagram of a SOCKS association that is malformed, another sender's, or for no guest
    DNS_JUNK                # a message to the DNS port that deserves no answer
    DNS_PENDING_FULL
    DNS_REPLY_MISMATCH      # an upstream answer that fits no query
    # links
    LINK_FULL               # a frame to the guest found the link full
    LINK_DOWN
    LINK_REFUSED
    IMPAIR_LOST             # on the bad path that was asked for: by chance,
    IMPAIR_FULL             # its queue or the memory being full,
    IMPAIR_CORRUPTED        # or for a checksum that would have been made from the changed bytes
    SWITCH_FULL
    MAILBOX_FULL            # the control plane did not keep up
    PCAP_LOST
    # what was done
    UP_FRAMES
    UP_BYTES
    DOWN_FRAMES
    DOWN_BYTES
    SWITCHED_FRAMES
    ARP_REPLIES
    ECHO_REPLIES
    ICMP_ERRORS_SENT
    ICMP_ERRORS_RECEIVED
    FRAGMENTS_REASSEMBLED   # datagrams
    FRAGMENTS_SENT
    TCP_OPENED
    TCP_CONNECTED
    TCP_REFUSED
    TCP_UNREACHABLE
    TCP_CLOSED_NORMALLY
    TCP_RESET_BY_GUEST
    TCP_RESET_BY_HOST
    TCP_ADDRESS_GONE        # reset since the host has lost the address they came from
    TCP_TIMED_OUT
    TCP_RETRANSMITS
    TCP_BYTES_UP
    TCP_BYTES_DOWN
    FORWARD_TCP             # connections into guests
    FORWARD_CLIENTS         # clients of published UDP ports
    FORWARD_DOWN            # datagrams
    FORWARD_UP
    ARP_REQUESTS            # of ours
    UDP_FLOWS
    UDP_UP
    UDP_DOWN
    PING_FLOWS
    PING_UP
    PING_DOWN
    DNS_ANSWERED            # from our own names
    DNS_FORWARDED
    DNS_REPLIES
    DNS_CACHED              # from the cache
    DNS_STALE               # from the cache, no server having answered in time
    DNS_TRUNCATED           # answers cut to what the client takes
    DNS_FAILOVERS
    DNS_SERVERS_DOWN        # times that a name server was given up for a while
    DNS_SERVFAIL
    DHCP_REQUESTS
    ENGINE_WAKEUPS
    COUNTERS                # how many there are


cdef inline void count(uint64_t *counters, counter which) noexcept nogil:
    counters[<int>which] += 1
