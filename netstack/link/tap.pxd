from netstack.link.link cimport link_t

# Takes over fd (a TAP, see host/tun); on success the link owns it. NULL: errno.
cdef link_t *tap_link_new(int fd, unsigned int granted, unsigned int mtu) noexcept nogil
