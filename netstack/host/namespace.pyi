import os
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

CLONE_NEWNS: int
CLONE_NEWCGROUP: int
CLONE_NEWUTS: int
CLONE_NEWIPC: int
CLONE_NEWUSER: int
CLONE_NEWPID: int
CLONE_NEWNET: int
MS_RDONLY: int
MS_NOSUID: int
MS_NODEV: int
MS_NOEXEC: int
MS_REMOUNT: int
MS_BIND: int
MS_REC: int
MS_PRIVATE: int
MS_SLAVE: int
MNT_DETACH: int
TUN_CSUM: int
TUN_TSO4: int
TUN_TSO6: int
TUN_ECN: int
TUN_USO: int
TUN_VNET_HDR: int
TUN_ALL: int

def unshare(flags: int) -> None: ...
def setns(fd: int, kind: int = 0) -> None: ...
def mount(
    source: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    fstype: str | None = None,
    flags: int = 0,
    data: str | None = None,
) -> None: ...
def umount(target: str | os.PathLike[str], flags: int = 0) -> None: ...
def sethostname(name: str) -> None: ...
def set_parent_death_signal(signal: int) -> None: ...
def set_timer_slack(ns: int) -> None: ...
def map_ids(
    inside_uid: int = 0,
    inside_gid: int = 0,
    outside_uid: int | None = None,
    outside_gid: int | None = None,
    pid: int | str = "self",
) -> None: ...
def open_tap(name: str = "tap%d", want: int = ...) -> tuple[int, str, int]: ...
def adopt_tap(fd: int, want: int = ...) -> int: ...
def interface_index(name: str) -> int: ...
def interface_mac(name: str) -> bytes: ...
def interface_mtu(name: str) -> int: ...
def interface_is_up(name: str) -> bool: ...
def set_interface(
    name: str,
    mac: bytes | None = None,
    mtu: int | None = None,
    up: bool | None = None,
    txqueuelen: int | None = None,
) -> None: ...
def add_address(
    name: str,
    address: str | IPv4Address | IPv6Address | IPv4Interface | IPv6Interface,
    prefix: int | None = None,
) -> None: ...
def add_route(
    destination: str, gateway: str | IPv4Address | IPv6Address | None = None, name: str | None = None
) -> None: ...
def add_default_route(gateway: str | IPv4Address | IPv6Address, name: str | None = None) -> None: ...
def loopback_up() -> None: ...
def delete_interface(name: str) -> None: ...
