# Linux TUN/TAP devices (/dev/net/tun). Linux only: elsewhere every function returns -ENOSYS.
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    TUN_CSUM = 1            # what was granted: the link may take and give partial checksums,
    TUN_TSO4 = 2            # super-frames of TCP over IPv4,
    TUN_TSO6 = 4
    TUN_ECN = 8
    TUN_USO = 16            # and of UDP (USO4 and USO6, Linux 6.2)
    TUN_VNET_HDR = 32       # IFF_VNET_HDR with a header of 12 bytes

# Opens (creating where it does not exist) the TAP called name (16 bytes, may be "" or "tap%d"; the real name
# is written back) in the caller's network namespace. want is a mask of TUN_*; granted says what there is. fd
# or -errno.
cdef int tun_open_tap(char *name, uint32_t want, uint32_t *granted) noexcept nogil
# the same for a descriptor got from elsewhere
cdef int tun_adopt(int fd, uint32_t want, uint32_t *granted) noexcept nogil
