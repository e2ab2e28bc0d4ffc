"""A QEMU virtual machine, given a network and driven from Python: no root, no TAP, no bridge.

    python examples/qemu_machine.py -drive file=debian.qcow2 -m 1024

What stands behind the program's name is QEMU's; a machine that asks for an address by DHCP will do. Its console is
this terminal. As soon as it has its lease, this program pings it, publishes its ssh port, and serves it a page.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import netstack

MAC, ADDRESS = "52:54:00:00:00:01", "192.168.65.7"
config = netstack.Config(leases=((MAC, ADDRESS, "box"),), source_check="held")

with tempfile.TemporaryDirectory() as folder, netstack.Gateway(config) as gateway:
    path = Path(folder) / "qemu.sock"
    gateway.listen_for_guests(f"qemu:{path}")
    ssh = gateway.publish("127.0.0.1:0:box:22")
    machine = subprocess.Popen(
        [
            *("qemu-system-x86_64", "-nographic", *sys.argv[1:]),
            *("-device", f"virtio-net-pci,netdev=n,mac={MAC}"),
            *("-netdev", f"stream,id=n,server=off,addr.type=unix,addr.path={path}"),
        ]
    )
    try:
        while machine.poll() is None and gateway.ping(ADDRESS, timeout=1.0) is None:
            time.sleep(0.2)
        trip = gateway.ping(ADDRESS)
        if trip is None:
            sys.exit("the machine has ended before it answered")
        port = ssh.places[0].rpartition(":")[2]
        print(f"box answers pings in {trip * 1000:.1f} ms; ssh -p {port} 127.0.0.1")
        with gateway.listen("192.168.65.200", 80) as server:  # this program, as a host of the network
            sock, guest = server.accept(timeout=60)
            with sock:
                sock.recv(4096)
                sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello, box\n")
                print(f"{guest[0]} has fetched a page of this program's")
        machine.wait()
    finally:
        machine.kill()
        machine.wait()
