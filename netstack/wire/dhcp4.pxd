from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    DHCP4_FIXED_LEN = 240       # header and magic cookie
    DHCP4_PADDED_LEN = 300      # the smallest that every BOOTP relay and client takes (RFC 1542 section 2.1)
    DHCP4_UDP_MIN = 548         # what every client takes: an IP packet of 576 bytes (RFC 2131 section 2)
    DHCP4_OPTIONS_MAX = 256     # pieces of options that one message may hold
    DHCP4_COOKIE = 0x63825363
    DHCP4_SERVER_PORT = 67
    DHCP4_CLIENT_PORT = 68
    DHCP4_BROADCAST = 0x8000    # in flags

ctypedef struct dhcp4_option:   # one piece; pieces of one code belong together (RFC 3396 section 7)
    uint8_t code
    uint8_t length
    uint16_t offset             # of the data, from the start of the message

ctypedef struct dhcp4_hdr:      # RFC 2131 section 2; addresses in host byte order
    uint8_t op                  # 1 request, 2 reply
    uint8_t htype
    uint8_t hlen
    uint8_t hops
    uint32_t xid
    uint16_t secs
    uint16_t flags
    uint32_t ciaddr
    uint32_t yiaddr
    uint32_t siaddr
    uint32_t giaddr
    uint8_t chaddr[16]
    uint8_t sname[64]
    uint8_t file[128]
    uint8_t overload            # option 52: 1 = file, 2 = sname, 3 = both hold options
    uint16_t option_count
    dhcp4_option options[256]   # in the order of RFC 3396 section 5: options field, file, sname

# Both return 240 or a wire_code; write leaves the options to dhcp4_write_option.
cdef int dhcp4_parse(const uint8_t *data, size_t length, dhcp4_hdr *out) noexcept nogil
cdef int dhcp4_write(uint8_t *out, size_t room, const dhcp4_hdr *hdr) noexcept nogil
# One option, in pieces of 255 bytes where it is longer; the bytes written or WIRE_NO_ROOM.
cdef int dhcp4_write_option(uint8_t *out, size_t room, uint8_t code, const uint8_t *data,
                            size_t length) noexcept nogil
