"""Linux TAP devices (/dev/net/tun) and what they offload.

A granted offload works both ways: the kernel hands us such frames, and takes them from us. What the kernel
does not know is given up step by step: first UDP segmentation (Linux 6.2), then ECN, TCP segmentation,
checksums.
"""
from libc.errno cimport EINTR, EINVAL, errno
from libc.stdint cimport uint32_t
from libc.string cimport memcpy, memset

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <limits.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/ioctl.h>
    #include <sys/socket.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <net/if.h>
    #include <linux/if_tun.h>
    #define HOST_HAS_TUN 1
    #else
    #include <net/if.h>
    #define HOST_HAS_TUN 0
    #define TUNSETIFF 0
    #define TUNGETIFF 0
    #define TUNSETVNETHDRSZ 0
    #define TUNSETOFFLOAD 0
    #define TUNSETSNDBUF 0
    #define IFF_TAP 0
    #define IFF_NO_PI 0
    #define IFF_VNET_HDR 0
    #define TUN_F_CSUM 1
    #define TUN_F_TSO4 2
    #define TUN_F_TSO6 4
    #define TUN_F_TSO_ECN 8
    #endif
    #ifndef TUN_F_USO4
    #define TUN_F_USO4 0x20
    #define TUN_F_USO6 0x40
    #endif
    """
    int HOST_HAS_TUN
    unsigned long TUNSETIFF, TUNGETIFF, TUNSETVNETHDRSZ, TUNSETOFFLOAD, TUNSETSNDBUF
    int IFF_TAP, IFF_NO_PI, IFF_VNET_HDR
    int TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6
    int O_RDWR, O_NONBLOCK, O_CLOEXEC, F_GETFL, F_SETFL, F_SETFD, FD_CLOEXEC
    int ENOSYS, INT_MAX
    ctypedef struct ifreq "struct ifreq":
        char ifr_name[16]
        short ifr_flags
    int open(const char *path, int flags)
    int close(int fd)
    int fcntl(int fd, int command, int value)
    int ioctl_value "ioctl"(int fd, unsigned long request, unsigned long value)
    int ioctl_pointer "ioctl"(int fd, unsigned long request, void *value)

cdef enum:
    VNET_HDR = 12
    SEGMENTATION = TUN_TSO4 | TUN_TSO6 | TUN_ECN | TUN_USO


cdef inline unsigned long kernel_mask(uint32_t features) noexcept nogil:
    cdef unsigned long mask = 0
    if features & TUN_CSUM:
        mask |= TUN_F_CSUM
    if features & TUN_TSO4:
        mask |= TUN_F_TSO4
    if features & TUN_TSO6:
        mask |= TUN_F_TSO6
    if features & TUN_ECN:
        mask |= TUN_F_TSO_ECN
    if features & TUN_USO:
        mask |= TUN_F_USO4 | TUN_F_USO6
    return mask


cdef uint32_t negotiate(int fd, uint32_t want) noexcept nogil:
    """Asks for the offloads of want and takes what there is."""
    cdef uint32_t less[5]
    cdef uint32_t features = want & (TUN_CSUM | SEGMENTATION)
    cdef int i
    if not features & TUN_CSUM:
        features = 0                    # segments need their checksums made
    if not features & (TUN_TSO4 | TUN_TSO6):
        features &= ~<uint32_t>TUN_ECN
    less[0] = 0
    less[1] = TUN_USO
    less[2] = TUN_USO | TUN_ECN
    less[3] = SEGMENTATION
    less[4] = SEGMENTATION | TUN_CSUM
    for i in range(5):
        if ioctl_value(fd, TUNSETOFFLOAD, kernel_mask(features & ~less[i])) == 0:
            return features & ~less[i]
    return 0


cdef uint32_t settle(int fd, uint32_t want, bint vnet_hdr) noexcept nogil:
    """Header size, offloads and send buffer of a TAP that is attached; what was granted."""
    cdef int size = VNET_HDR
    cdef int buffer = INT_MAX
    cdef uint32_t granted = 0
    if vnet_hdr and ioctl_pointer(fd, TUNSETVNETHDRSZ, &size) == 0:
        granted = TUN_VNET_HDR | negotiate(fd, want)
    ioctl_pointer(fd, TUNSETSNDBUF, &buffer)        # a full queue drops in the guest instead of blocking us
    return granted


cdef int tun_open_tap(char *name, uint32_t want, uint32_t *granted) noexcept nogil:
    """A TAP descriptor (non-blocking, close-on-exec), or -errno.

    EPERM without CAP_NET_ADMIN, EBUSY when it is in use.
    """
    cdef ifreq f
    cdef int fd, e
    granted[0] = 0
    if not HOST_HAS_TUN:
        return -ENOSYS
    while True:
        fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)
        if fd >= 0:
            break
        if errno != EINTR:
            return -errno
    memset(&f, 0, sizeof(f))
    memcpy(f.ifr_name, name, 15)
    f.ifr_flags = <short>(IFF_TAP | IFF_NO_PI)
    if want & TUN_VNET_HDR:
        f.ifr_flags |= <short>IFF_VNET_HDR
    if ioctl_pointer(fd, TUNSETIFF, &f) < 0:
        e = errno
        close(fd)
        return -e
    memcpy(name, f.ifr_name, 16)
    granted[0] = settle(fd, want, (want & TUN_VNET_HDR) != 0)
    if want & TUN_VNET_HDR and not granted[0] & TUN_VNET_HDR:
        close(fd)                       # its frames would carry a header of an unknown size
        return -EINVAL
    return fd


cdef int tun_adopt(int fd, uint32_t want, uint32_t *granted) noexcept nogil:
    """Prepares a TAP descriptor that somebody else has attached (its flags decide about the header); fd or
    -errno.
    """
    cdef ifreq f
    cdef bint vnet_hdr
    granted[0] = 0
    if not HOST_HAS_TUN:
        return -ENOSYS
    memset(&f, 0, sizeof(f))
    if ioctl_pointer(fd, TUNGETIFF, &f) < 0:
        return -errno
    if not f.ifr_flags & IFF_TAP or not f.ifr_flags & IFF_NO_PI:
        return -EINVAL
    if fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) | O_NONBLOCK) < 0 or fcntl(fd, F_SETFD, FD_CLOEXEC) < 0:
        return -errno
    vnet_hdr = (f.ifr_flags & IFF_VNET_HDR) != 0
    granted[0] = settle(fd, want, vnet_hdr)
    if vnet_hdr and not granted[0] & TUN_VNET_HDR:
        return -EINVAL
    return fd
