"""Namespaces, mounts and network interfaces, for a sandbox that needs neither root nor external programs.

Interfaces are configured by rtnetlink, in the network namespace of the calling thread. Everything raises
OSError with the kernel's errno. Linux only: elsewhere every function raises OSError(ENOSYS).
"""
import errno as _errno
import ipaddress
import os
import struct

from libc.errno cimport errno
from libc.string cimport memcpy, memset

from netstack.host.tun cimport (
    TUN_CSUM as C_CSUM, TUN_ECN as C_ECN, TUN_TSO4 as C_TSO4, TUN_TSO6 as C_TSO6, TUN_USO as C_USO,
    TUN_VNET_HDR as C_VNET_HDR, tun_adopt, tun_open_tap,
)

cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <net/if.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sched.h>
    #include <sys/mount.h>
    #include <sys/prctl.h>
    static int host_unshare(int flags) { return unshare(flags); }
    static int host_setns(int fd, int kind) { return setns(fd, kind); }
    static int host_mount(const char *s, const char *t, const char *k, unsigned long f, const char *d) {
        return mount(s, t, k, f, d);
    }
    static int host_umount(const char *t, int f) { return umount2(t, f); }
    static int host_sethostname(const char *n, size_t l) { return sethostname(n, l); }
    static int host_death_signal(int s) { return prctl(PR_SET_PDEATHSIG, (unsigned long)s, 0, 0, 0); }
    static int host_timer_slack(unsigned long ns) { return prctl(PR_SET_TIMERSLACK, ns, 0, 0, 0); }
    #else
    static int host_missing(void) { errno = ENOSYS; return -1; }
    static int host_unshare(int flags) { (void)flags; return host_missing(); }
    static int host_setns(int fd, int kind) { (void)fd; (void)kind; return host_missing(); }
    static int host_mount(const char *s, const char *t, const char *k, unsigned long f, const char *d) {
        (void)s; (void)t; (void)k; (void)f; (void)d; return host_missing();
    }
    static int host_umount(const char *t, int f) { (void)t; (void)f; return host_missing(); }
    static int host_sethostname(const char *n, size_t l) { (void)n; (void)l; return host_missing(); }
    static int host_death_signal(int s) { (void)s; return host_missing(); }
    static int host_timer_slack(unsigned long ns) { (void)ns; return host_missing(); }
    #endif
    """
    int host_unshare(int flags)
    int host_setns(int fd, int kind)
    int host_mount(const char *source, const char *target, const char *kind, unsigned long flags,
                   const char *data)
    int host_umount(const char *target, int flags)
    int host_sethostname(const char *name, size_t length)
    int host_death_signal(int signal)
    int host_timer_slack(unsigned long ns)

# From <sched.h> and <sys/mount.h>; the numbers are the Linux ABI.
CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_NOSUID = 2
MS_NODEV = 4
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MNT_DETACH = 2

# What open_tap can be asked for, and what it says it got.
TUN_CSUM = C_CSUM
TUN_TSO4 = C_TSO4
TUN_TSO6 = C_TSO6
TUN_ECN = C_ECN
TUN_USO = C_USO
TUN_VNET_HDR = C_VNET_HDR
TUN_ALL = C_CSUM | C_TSO4 | C_TSO6 | C_ECN | C_USO | C_VNET_HDR

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_NEWROUTE = 16, 17, 18, 20, 24
_F_REQUEST, _F_ACK, _F_REPLACE, _F_CREATE = 1, 4, 0x100, 0x400
_NLMSG_ERROR = 2
_IFF_UP = 1


cdef object failure(str what, object path=None):
    cdef int e = errno
    if path is None:
        return OSError(e, f"{what}: {os.strerror(e)}")
    return OSError(e, f"{what}: {os.strerror(e)}", path)


def unshare(int flags) -> None:
    """Move the calling process into new namespaces (CLONE_NEW*); see unshare(2).

    A new user namespace needs one thread.
    """
    if host_unshare(flags) < 0:
        raise failure("unshare")


def setns(int fd, int kind=0) -> None:
    """Move the calling thread into the namespace of fd; kind 0 takes any, CLONE_NEW* insists; see setns(2).
    """
    if host_setns(fd, kind) < 0:
        raise failure("setns")


def mount(source, target, fstype=None, unsigned long flags=0, data=None) -> None:
    """mount(2): source, fstype and data may be None."""
    cdef bytes s = os.fsencode(source) if source is not None else b"none"
    cdef bytes t = os.fsencode(target)
    cdef bytes k = os.fsencode(fstype) if fstype is not None else b""
    cdef bytes d = os.fsencode(data) if data is not None else b""
    if host_mount(s, t, <const char *>k if fstype is not None else NULL, flags,
                  <const char *>d if data is not None else NULL) < 0:
        raise failure("mount", target)


def umount(target, int flags=0) -> None:
    """umount2(2): flags may be MNT_DETACH."""
    cdef bytes t = os.fsencode(target)
    if host_umount(t, flags) < 0:
        raise failure("umount", target)


def sethostname(str name) -> None:
    """Set the host name of the UTS namespace."""
    cdef bytes n = name.encode()
    if host_sethostname(n, len(n)) < 0:
        raise failure("sethostname")


def set_parent_death_signal(int signal) -> None:
    """Have the kernel send signal to this process when the thread that created it ends (0: never)."""
    if host_death_signal(signal) < 0:
        raise failure("prctl")


def set_timer_slack(unsigned long ns) -> None:
    """Let time-outs of the calling thread be late by at most ns nanoseconds (the default is 50,000)."""
    if host_timer_slack(ns) < 0:
        raise failure("prctl")


def map_ids(int inside_uid=0, int inside_gid=0, outside_uid=None, outside_gid=None, pid="self") -> None:
    """Write the id maps of a fresh user namespace: one user and one group, setgroups denied first.

    ``outside_*`` default to the caller's own ids, which must be taken before unshare when ``pid`` is "self"
    (afterwards they read as the overflow id). ``pid`` may be another process that has unshared.
    """
    if outside_uid is None:
        outside_uid = os.geteuid()
    if outside_gid is None:
        outside_gid = os.getegid()
    for name, text in (("setgroups", "deny"), ("uid_map", f"{inside_uid} {outside_uid} 1"),
                       ("gid_map", f"{inside_gid} {outside_gid} 1")):
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def open_tap(str name="tap%d", unsigned int want=TUN_ALL) -> tuple:
    """Open (creating it where there is none) a TAP device in the caller's network namespace.

    ``want`` is a mask of TUN_*. Gives ``(fd, name, granted)``; the descriptor is non-blocking and
    close-on-exec. OSError: EPERM without CAP_NET_ADMIN there, ENOENT without /dev/net/tun, EBUSY when
    somebody has it open, EINVAL when an interface of that name is no TAP.
    """
    cdef char buf[16]
    cdef bytes n = name.encode()
    cdef unsigned int granted = 0
    cdef int fd
    if len(n) > 15:
        raise ValueError(f"an interface name has at most 15 bytes: {name!r}")
    memset(buf, 0, 16)
    memcpy(buf, <const char *>n, len(n))
    fd = tun_open_tap(buf, want, &granted)
    if fd < 0:
        raise OSError(-fd, f"cannot open TAP device {name!r}: {_why_not_open(-fd, name)}")
    buf[15] = 0
    return fd, (<bytes>(<char *>buf)).decode(), granted


def _why_not_open(int error, str name) -> str:
    import socket               # not at the start of every command

    if error == _errno.EBUSY:
        return "another program has it open"
    if error == _errno.EINVAL and name in (there for _, there in socket.if_nameindex()):
        return "there is an interface of that name, and it is no TAP"
    return os.strerror(error)


def adopt_tap(int fd, unsigned int want=TUN_ALL) -> int:
    """Prepare a TAP descriptor that came from elsewhere; the mask of what was granted.

    OSError when it is not a TAP.
    """
    cdef unsigned int granted = 0
    cdef int rc = tun_adopt(fd, want, &granted)
    if rc < 0:
        raise OSError(-rc, f"descriptor {fd} is not a usable TAP: {os.strerror(-rc)}")
    return granted


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) & 3)


def _request(kind: int, flags: int, body: bytes) -> bytes:
    """One rtnetlink request: its answer's body (after the netlink header), or OSError."""
    import socket

    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(_errno.ENOSYS, os.strerror(_errno.ENOSYS))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as s:
        s.bind((0, 0))
        s.send(struct.pack("=IHHII", 16 + len(body), kind, flags | _F_REQUEST, 1, 0) + body)
        answer = s.recv(65536)
    length, got, _, _, _ = struct.unpack_from("=IHHII", answer)
    if got == _NLMSG_ERROR:
        code = struct.unpack_from("=i", answer, 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))
    return answer[16:length]


def interface_index(str name) -> int:
    """The index of an interface; OSError(ENODEV) when there is none of that name."""
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(3, name.encode() + b"\0")
    return struct.unpack_from("=i", _request(_RTM_GETLINK, 0, body), 4)[0]


def _link_attributes(name: str) -> tuple[int, dict[int, bytes]]:
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + _attribute(3, name.encode() + b"\0")
    answer = _request(_RTM_GETLINK, 0, body)
    flags = struct.unpack_from("=I", answer, 8)[0]
    out, at = {}, 16
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if length < 4:
            break
        out[kind & 0x3FFF] = answer[at + 4:at + length]
        at += (length + 3) & ~3
    return flags, out


def interface_mac(str name) -> bytes:
    """The hardware address."""
    return _link_attributes(name)[1].get(1, b"")


def interface_mtu(str name) -> int:
    """The MTU in bytes of IP."""
    return struct.unpack("=I", _link_attributes(name)[1][4])[0]


def interface_is_up(str name) -> bool:
    """True when the interface is administratively up."""
    return bool(_link_attributes(name)[0] & _IFF_UP)


def set_interface(str name, mac=None, mtu=None, up=None, txqueuelen=None) -> None:
    """Change a link: ``mac`` (6 bytes), ``mtu`` (bytes), ``up`` (bool), ``txqueuelen`` (frames).

    None leaves as it is.
    """
    flags = change = 0
    if up is not None:
        change, flags = _IFF_UP, _IFF_UP if up else 0
    body = struct.pack("=BxHiII", 0, 0, interface_index(name), flags, change)
    if mac is not None:
        if len(mac) != 6:
            raise ValueError("a hardware address has 6 bytes")
        body += _attribute(1, bytes(mac))
    if mtu is not None:
        body += _attribute(4, struct.pack("=I", mtu))
    if txqueuelen is not None:
        body += _attribute(13, struct.pack("=I", txqueuelen))
    _request(_RTM_NEWLINK, _F_ACK, body)


def add_address(str name, address, prefix=None) -> None:
    """Give an interface an address: ``address`` may be "a.b.c.d/n" or an address with ``prefix`` (bits)
    beside it.

    IPv6 addresses are usable at once (no duplicate address detection).
    """
    text = str(address) if prefix is None else f"{address}/{prefix}"
    net = ipaddress.ip_interface(text)
    family = 2 if net.version == 4 else 10
    flags = 0 if net.version == 4 else 2        # IFA_F_NODAD
    body = struct.pack("=BBBBI", family, net.network.prefixlen, flags, 0, interface_index(name))
    body += _attribute(2, net.ip.packed) + _attribute(1, net.ip.packed)
    if net.version == 4 and net.network.prefixlen < 31:
        body += _attribute(4, net.network.broadcast_address.packed)
    _request(_RTM_NEWADDR, _F_ACK | _F_CREATE | _F_REPLACE, body)


def add_route(destination, gateway=None, name=None) -> None:
    """Add a route to ``destination`` ("a.b.c.d/n", "::/0"), by a gateway, an interface's name, or both."""
    net = ipaddress.ip_network(destination)
    family = 2 if net.version == 4 else 10
    if gateway is None and name is None:
        raise ValueError("a route needs a gateway or an interface")
    scope = 0 if gateway is not None else 253       # universe, link
    body = struct.pack("=BBBBBBBBI", family, net.prefixlen, 0, 0, 254, 3, scope, 1, 0)
    if net.prefixlen:
        body += _attribute(1, net.network_address.packed)
    if gateway is not None:
        body += _attribute(5, ipaddress.ip_address(gateway).packed)
    if name is not None:
        body += _attribute(4, struct.pack("=i", interface_index(name)))
    _request(_RTM_NEWROUTE, _F_ACK | _F_CREATE | _F_REPLACE, body)


def add_default_route(gateway, name=None) -> None:
    """Send everything that has no better route to ``gateway`` (IPv4 or IPv6)."""
    add_route("0.0.0.0/0" if ipaddress.ip_address(gateway).version == 4 else "::/0", gateway, name)


def loopback_up() -> None:
    """Raise lo, which is down in a fresh network namespace."""
    set_interface("lo", up=True)


def delete_interface(str name) -> None:
    """Remove an interface (a persistent TAP, one end of a veth pair)."""
    _request(_RTM_DELLINK, _F_ACK, struct.pack("=BxHiII", 0, 0, interface_index(name), 0, 0))
