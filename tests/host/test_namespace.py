"""Namespaces, TAP devices and interfaces, as root of namespaces that the test makes."""

import errno
import fcntl
import os
import socket
from pathlib import Path

import pytest

from netstack.host import namespace

pytestmark = pytest.mark.netns


def configured_interface():
    fd, name, granted = namespace.open_tap("guest%d", 0)
    assert granted == 0
    namespace.set_interface(name, mac=b"\x02\0\0\0\0\x07", mtu=1400, up=True, txqueuelen=77)
    namespace.add_address(name, "192.168.65.3", 24)
    namespace.add_address(name, "fd00::3/64")
    namespace.add_default_route("192.168.65.1")
    namespace.add_default_route("fd00::1", name)
    namespace.add_route("10.5.0.0/16", name=name)
    namespace.add_route("10.6.0.0/16", "192.168.65.9", name)
    out = {
        "name": name,
        "mac": namespace.interface_mac(name),
        "mtu": namespace.interface_mtu(name),
        "up": namespace.interface_is_up(name),
        "queue": Path(f"/sys/class/net/{name}/tx_queue_len").exists(),
        "routes": [line.split()[:3] for line in Path("/proc/net/route").read_text().splitlines()[1:]],
        "cloexec": bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC),
        "nonblocking": bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK),
        "sources": [],
    }
    for family, there in ((socket.AF_INET, "8.8.8.8"), (socket.AF_INET6, "2001:db8::1")):
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.connect((there, 9))
            out["sources"].append(s.getsockname()[0])
    namespace.set_interface(name, up=False)
    out["down"] = not namespace.interface_is_up(name)
    os.close(fd)
    with pytest.raises(OSError, match="No such device"):
        namespace.interface_index(name)
    return out


def test_interface(isolated):
    got = isolated(configured_interface)
    assert got["name"] == "guest0"
    assert (got["mac"], got["mtu"], got["up"], got["down"]) == (b"\x02\0\0\0\0\x07", 1400, True, True)
    assert got["cloexec"]
    assert got["nonblocking"]
    assert got["sources"] == ["192.168.65.3", "fd00::3"]
    assert ["guest0", "00000000", "0141A8C0"] in got["routes"]
    assert ["guest0", "0000060A", "0941A8C0"] in got["routes"]
    assert ["guest0", "0000050A", "00000000"] in got["routes"]


def refused():
    held, _, _ = namespace.open_tap("tap0", 0)
    said = []
    for name in ("tap0", "lo"):
        try:
            namespace.open_tap(name, 0)
        except OSError as error:
            said.append((error.errno, error.strerror))
    os.close(held)
    return said


def test_a_name_that_is_taken(isolated):
    assert isolated(refused) == [
        (errno.EBUSY, "cannot open TAP device 'tap0': another program has it open"),
        (errno.EINVAL, "cannot open TAP device 'lo': there is an interface of that name, and it is no TAP"),
    ]


def offloads():
    fd, _, granted = namespace.open_tap("tap0", namespace.TUN_ALL)
    adopted = namespace.adopt_tap(fd, namespace.TUN_VNET_HDR | namespace.TUN_CSUM)
    plain, _, none = namespace.open_tap("tap1", 0)
    segments_without_checksums = namespace.open_tap("tap2", namespace.TUN_VNET_HDR | namespace.TUN_TSO4)[2]
    try:
        namespace.open_tap("tap0", 0)
        busy = 0
    except OSError as error:
        busy = error.errno
    return (
        granted,
        adopted,
        none,
        namespace.adopt_tap(plain, namespace.TUN_ALL),
        segments_without_checksums,
        busy,
    )


def test_offloads(isolated):
    granted, adopted, none, adopted_plain, without_checksums, busy = isolated(offloads)
    basic = namespace.TUN_VNET_HDR | namespace.TUN_CSUM | namespace.TUN_TSO4 | namespace.TUN_TSO6
    assert granted & basic == basic
    assert adopted == namespace.TUN_VNET_HDR | namespace.TUN_CSUM
    assert none == adopted_plain == 0
    assert without_checksums == namespace.TUN_VNET_HDR
    assert busy == errno.EBUSY


def mounts(directory):
    namespace.mount(None, "/", None, namespace.MS_REC | namespace.MS_PRIVATE)
    source, target = Path(directory, "source"), Path(directory, "target")
    source.write_text("bound")
    target.write_text("original")
    namespace.mount(source, target, None, namespace.MS_BIND)
    bound = target.read_text()
    namespace.umount(target)
    Path(directory, "tmp").mkdir()
    namespace.mount("tmpfs", Path(directory, "tmp"), "tmpfs", namespace.MS_NOSUID, "size=1m")
    Path(directory, "tmp", "file").write_text("x")
    namespace.umount(Path(directory, "tmp"), namespace.MNT_DETACH)
    gone = not Path(directory, "tmp", "file").exists()
    namespace.unshare(namespace.CLONE_NEWUTS)
    namespace.sethostname("guest")
    return bound, target.read_text(), gone, socket.gethostname()


def test_mounts_and_host_name(isolated, tmp_path):
    assert isolated(mounts, str(tmp_path)) == ("bound", "original", True, "guest")
    assert socket.gethostname() != "guest"


def move():
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    before = os.stat("/proc/self/ns/net").st_ino
    namespace.unshare(namespace.CLONE_NEWNET)
    inside = os.stat("/proc/self/ns/net").st_ino
    namespace.setns(home, namespace.CLONE_NEWNET)
    return before, inside, os.stat("/proc/self/ns/net").st_ino


def test_setns(isolated):
    before, inside, after = isolated(move)
    assert before == after != inside


def errors():
    out = []
    for call in (
        lambda: namespace.setns(-1),
        lambda: namespace.mount("a", "/nonexistent", None, namespace.MS_BIND),
        lambda: namespace.umount("/nonexistent"),
        lambda: namespace.set_interface("nosuch0", up=True),
        lambda: namespace.add_default_route("10.0.0.1"),
        lambda: namespace.adopt_tap(0),
        lambda: namespace.unshare(-1),
    ):
        try:
            call()
            out.append(0)
        except OSError as error:
            out.append(error.errno)
    return out


def test_errors_keep_the_number(isolated):
    got = isolated(errors)
    assert got[:5] == [errno.EBADF, errno.ENOENT, errno.ENOENT, errno.ENODEV, errno.ENETUNREACH]
    assert all(got[5:])


def test_wrong_arguments():
    with pytest.raises(ValueError, match="15 bytes"):
        namespace.open_tap("a" * 16)
    with pytest.raises(ValueError, match="gateway or an interface"):
        namespace.add_route("10.0.0.0/8")
