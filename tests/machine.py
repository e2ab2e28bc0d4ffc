"""A virtual machine for tests: QEMU without acceleration, Debian's cloud kernel, busybox in an initramfs made here.

Nothing of it is installed: the kernel is unpacked from its package into build/kernel. Where something is missing,
:func:`missing` says what.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from netstack.testing.namespace import Namespace

ROOT = Path(__file__).resolve().parents[1]
UNPACKED = ROOT / "build" / "kernel"
PACKAGE = "linux-image-cloud-amd64"
BUSYBOX = ("/usr/bin/busybox", "/bin/busybox")
MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "failover",
    "net_failover", "virtio_net",
)  # fmt: skip

INIT = """#!/bin/sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /etc /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for m in MODULES; do insmod /modules/$m.ko; done
ip link set lo up
ip link set eth0 up
cd /tmp
stty -echo
echo '@@up@@'
exec setsid cttyhack sh
""".replace("MODULES", " ".join(MODULES))

UDHCPC = """#!/bin/sh
case $1 in
bound|renew)
    ip addr flush dev $interface
    ip addr add $ip/$mask dev $interface
    ip link set $interface mtu ${mtu:-1500}
    ip route replace default via $router
    : > /etc/resolv.conf
    for d in $dns; do echo nameserver $d >> /etc/resolv.conf; done
    echo lease $ip $lease
esac
"""


def static_busybox() -> Path | None:
    """A busybox that needs no libraries."""
    for name in BUSYBOX:
        path = Path(name)
        if path.exists() and not interpreted(path.read_bytes()):
            return path
    return None


def interpreted(elf: bytes) -> bool:
    """Whether a 64-bit ELF program wants a dynamic linker (a PT_INTERP header)."""
    (offset,) = struct.unpack_from("<Q", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 54)
    return any(struct.unpack_from("<I", elf, offset + i * size)[0] == 3 for i in range(count))


@lru_cache(maxsize=1)
def kernel() -> tuple[Path, Path] | None:
    """The kernel and the folder with its modules, unpacked from Debian's package when it is not there yet."""

    def found() -> tuple[Path, Path] | None:
        for folder in (UNPACKED, Path("/")):
            for image in sorted((folder / "boot").glob("vmlinuz-*-cloud-amd64")):
                modules = folder / "lib/modules" / image.name.removeprefix("vmlinuz-")
                if modules.is_dir():
                    return image, modules
        return None

    if found() is None and shutil.which("apt-get") and not os.environ.get("NETSTACK_NO_APT"):
        UNPACKED.mkdir(parents=True, exist_ok=True)
        depends = subprocess.run(["apt-cache", "depends", PACKAGE], capture_output=True, text=True).stdout
        for name in re.findall(r"Depends: (linux-image-\S+)", depends)[:1]:
            subprocess.run(["apt-get", "-q", "download", name], cwd=UNPACKED, capture_output=True)
        for package in UNPACKED.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(UNPACKED)], capture_output=True)
            package.unlink()
    return found()


def missing() -> str | None:
    """Why no machine can be run here; None when it can."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "the virtual machine is an x86-64 one under Linux"
    if shutil.which("qemu-system-x86_64") is None:
        return "qemu-system-x86_64 is missing: install qemu-system-x86"
    if static_busybox() is None:
        return "a static busybox is missing: install busybox-static"
    if kernel() is None:
        return f"no kernel for the virtual machine: {PACKAGE} could not be fetched with apt-get"
    return None


def cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """A newc archive of folders (mode 040755, no data), files and links."""
    out = io.BytesIO()
    for number, (name, (mode, data)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        out.write(b"070701" + b"".join(b"%08X" % f for f in fields) + raw)
        out.write(bytes(-out.tell() % 4))
        out.write(data)
        out.write(bytes(-out.tell() % 4))
    return out.getvalue()


@lru_cache(maxsize=1)
def initramfs() -> bytes:
    """The root file system, compressed."""
    found, busybox = kernel(), static_busybox()
    assert found is not None
    assert busybox is not None
    files: dict[str, tuple[int, bytes]] = {
        "bin": (0o40755, b""),
        "etc": (0o40755, b""),
        "dev": (0o40755, b""),
        "modules": (0o40755, b""),
        "bin/busybox": (0o100755, busybox.read_bytes()),
        "bin/sh": (0o120777, b"busybox"),
        "init": (0o100755, INIT.encode()),
        "lease": (0o100755, UDHCPC.encode()),
    }
    for name in MODULES:
        path = next(found[1].rglob(f"{name}.ko"))
        files[f"modules/{name}.ko"] = (0o100644, path.read_bytes())
    return gzip.compress(cpio(files), 1)


class Machine:
    """A running machine with a root shell on its serial line.

    Args:
        host: the namespace that QEMU runs in.
        folder: for its files.
        netdev: the value of -netdev without its id.
        mac: of its network card.
        memory: MiB.
    """

    def __init__(
        self, host: Namespace, folder: Path, netdev: str, mac: str = "52:54:00:00:00:01", memory: int = 384
    ) -> None:
        found = kernel()
        assert found is not None
        image = folder / "initramfs"
        if not image.exists():
            image.write_bytes(initramfs())
        kind, comma, rest = netdev.partition(",")
        self._text = b""
        self._process = subprocess.Popen(
            [
                *("nsenter", f"--net={host.path}", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max"),
                *("-m", str(memory), "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"),
                *("-kernel", str(found[0]), "-initrd", str(image)),
                *("-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"),
                *("-netdev", f"{kind},id=n{comma}{rest}", "-device", f"virtio-net-pci,netdev=n,mac={mac}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """Pulls the plug."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def boot(self, timeout: float = 60.0) -> None:
        """Waits for the shell."""
        self._until(rb"@@up@@", timeout)

    def sh(self, command: str, timeout: float = 60.0, check: bool = True) -> str:
        """What a command prints (both streams); asserts that it succeeds."""
        self.begin(f"{command}\necho @@$?@@")
        text, status = self._until(rb"@@(\d+)@@", timeout)
        output = re.sub(r"(?m)^.*# ", "", text.replace("\r", ""))
        assert not check or status == "0", f"{command} ended with {status}:\n{output}"
        return output

    def begin(self, command: str) -> None:
        """Types a command and does not wait."""
        assert self._process.stdin is not None
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()

    def dhcp(self) -> str:
        """Gets a lease by busybox udhcpc; the address."""
        output = self.sh("udhcpc -i eth0 -n -q -f -t 8 -T 1 -s /lease")
        match = re.search(r"lease ([\d.]+) \d+", output)
        assert match, output
        return match[1]

    def _until(self, pattern: bytes, timeout: float) -> tuple[str, str]:
        end = time.monotonic() + timeout
        for piece in self._pieces(end):
            self._text += piece
            match = re.search(pattern, self._text)
            if match:
                before, self._text = self._text[: match.start()], self._text[match.end() :]
                return before.decode(errors="replace"), (match[1].decode() if match.groups() else "")
        raise AssertionError(
            f"the machine did not say {pattern!r} in {timeout} s:\n{self._text.decode(errors='replace')}"
        )

    def _pieces(self, end: float) -> Iterator[bytes]:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        yield b""
        while (left := end - time.monotonic()) > 0:
            if select.select([fd], [], [], left)[0]:
                piece = os.read(fd, 65536)
                if not piece:
                    return
                yield piece
