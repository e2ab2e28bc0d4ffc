"""Ports of the host led into a guest namespace, and a Python program that reaches guests and is a host to them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import os
import resource
import shutil
import socket
import struct
import time
from pathlib import Path

import pytest

import netstack
from netstack.testing.lab import GUEST, HOST_ALIAS, WORLD, WORLD_HOST, Lab
from netstack.testing.namespace import in_thread, unavailable
from netstack.testing.servers import TcpServer

pytestmark = pytest.mark.netns

MIB = 1024 * 1024

NGINX = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log {dir}/access.log;
    client_body_temp_path {dir}/tmp; proxy_temp_path {dir}/tmp; fastcgi_temp_path {dir}/tmp;
    uwsgi_temp_path {dir}/tmp; scgi_temp_path {dir}/tmp;
    server {{ listen 80; root {dir}/www; }}
}}
"""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def served():
    """A laboratory with a world, and a gateway of this process: (lab, world, gateway)."""
    if reason := unavailable():
        pytest.skip(reason)
    with Lab() as lab:
        _, world = lab.world()
        with lab.gateway(netstack.Config(dns=())) as gateway:
            yield lab, world, gateway


@contextlib.contextmanager
def published(served, spec):
    lab, _, gateway = served
    with lab.host.entered():
        port = gateway.publish(spec)
    with port:
        yield port


def read_all(sock):
    data = bytearray()
    while block := sock.recv(1 << 18):
        data += block
    return bytes(data)


def until(test, seconds=20.0):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def no_flows_left(gateway):
    until(lambda: all(f["state"] == "TIME-WAIT" for f in gateway.flows() if f["protocol"] == "tcp"))


def test_see_the_real_client_address(served):
    """nginx in the guest, clients in another namespace and on the host's loopback: its access log."""
    for program in ("nginx", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"the program {program!r} is missing")
    lab, world, _ = served
    directory = lab.directory / "nginx-guest"
    for name in ("tmp", "www"):
        (directory / name).mkdir(parents=True)
    (directory / "www" / "page").write_text("a page")
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(dir=directory))
    server = lab.guest.spawn("nginx", "-e", "stderr", "-c", str(config))
    server.wait_listening(80)
    try:
        with published(served, "8080:80"):
            done = world.run("curl", "-sSf", f"http://{WORLD_HOST}:8080/page")
            assert done.stdout == "a page"
            assert lab.host.run("curl", "-sSf", "http://127.0.0.1:8080/page").stdout == "a page"
            assert lab.host.run("curl", "-sSf", f"http://{WORLD_HOST}:8080/page").stdout == "a page"
        refused = world.run("curl", "-sS", f"http://{WORLD_HOST}:8080/page", check=False)
        assert refused.returncode == 7
        log = directory / "access.log"
        until(lambda: len(log.read_text().splitlines()) == 3)
        assert [line.split()[0] for line in log.read_text().splitlines()] == [WORLD, HOST_ALIAS, WORLD_HOST]
    finally:
        server.stop()


def test_half_closed_sessions(served):
    lab, world, gateway = served
    with lab.guest.listen("0.0.0.0", 7001) as listener, published(served, "7001:7001"):
        listener.settimeout(20)
        client = world.connect(WORLD_HOST, 7001)
        guest, peer = listener.accept()
        assert peer == client.getsockname()
        guest.settimeout(20)
        with client, guest:
            client.sendall(b"up")
            client.shutdown(socket.SHUT_WR)
            assert read_all(guest) == b"up"
            guest.sendall(b"down" * 100_000)
            guest.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"down" * 100_000
    no_flows_left(gateway)


def test_resets_pass_both_ways(served):
    lab, world, _ = served
    with lab.guest.listen("0.0.0.0", 7002) as listener, published(served, "7002:7002"):
        listener.settimeout(20)
        for near in (True, False):
            client = world.connect(WORLD_HOST, 7002)
            guest, _ = listener.accept()
            client.settimeout(20)
            guest.settimeout(20)
            first, second = (client, guest) if near else (guest, client)
            with second:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                first.close()
                with pytest.raises(ConnectionResetError):
                    second.recv(1)


def test_a_listener_that_goes_and_comes_back(served):
    lab, world, _ = served
    with published(served, "7003:7003"):
        for _ in range(3):
            with pytest.raises(ConnectionResetError), world.connect(WORLD_HOST, 7003) as client:
                client.recv(1)  # the reset may also come while it connects
            with lab.guest.listen("0.0.0.0", 7003) as listener:
                listener.settimeout(20)
                with world.connect(WORLD_HOST, 7003) as client:
                    guest, _ = listener.accept()
                    with guest:
                        guest.sendall(b"here")
                    assert read_all(client) == b"here"


@pytest.mark.parametrize("stalled", ["client", "guest"])
def test_a_stalled_reader_loses_nothing(served, stalled):
    lab, world, gateway = served
    data = os.urandom(MIB) * 24
    with lab.guest.listen("0.0.0.0", 7004) as listener, published(served, "7004:7004"):
        listener.settimeout(20)
        client = world.connect(WORLD_HOST, 7004)
        guest, _ = listener.accept()
        for sock in (client, guest):
            sock.settimeout(60)
        reader, writer = (client, guest) if stalled == "client" else (guest, client)

        def write():
            writer.sendall(data)
            writer.shutdown(socket.SHUT_WR)

        with client, guest:
            writing = in_thread(write)
            time.sleep(1.0)  # all buffers are full
            assert hashlib.sha256(read_all(reader)).digest() == hashlib.sha256(data).digest()
            writing(60)
    no_flows_left(gateway)


def test_two_thousand_sockets_through_one_port(served):
    lab, world, gateway = served
    before = len(os.listdir("/proc/self/fd"))

    async def client(number):
        sock = world.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (WORLD_HOST, 7005))
        reader, writer = await asyncio.open_connection(sock=sock)
        data = b"%05d" % number * 200
        writer.write(data)
        await writer.drain()
        return reader, writer, data

    async def all_of_them():
        ends = await asyncio.gather(*(client(n) for n in range(2000)))
        for reader, _, data in ends:
            assert await reader.readexactly(len(data)) == data
        for _, writer, _ in ends:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for _, w, _ in ends))

    server = TcpServer(lab.guest.listen("0.0.0.0", 7005, 4096))
    with server, published(served, "7005:7005"):
        asyncio.run(asyncio.wait_for(all_of_them(), 100))
        assert server.accepted == 2000
        until(lambda: server.open == 0)
    no_flows_left(gateway)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_publish_a_range_of_a_thousand(served):
    lab, _, _ = served
    with published(served, "127.0.0.1:20000-20999:20000-20999") as ports:
        assert len(ports.addresses) == 1000
        with lab.guest.listen("0.0.0.0", 20777) as listener, lab.host.connect("127.0.0.1", 20777):
            listener.settimeout(20)
            guest, peer = listener.accept()
            guest.close()
            assert peer[0] == HOST_ALIAS


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_thousand_ports_cost_no_process_and_little_memory(lab, protocol):
    """On all addresses, so two thousand sockets; also where the shell allows fewer descriptors at first."""
    resident = []
    for ports in ((), ("-p", f"20000-20999:20000-20999/{protocol}")):
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, soft[1]), soft[1]))
        try:
            process = lab.attach("--ifname", f"tap{len(ports)}", *ports)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, soft)
        resident.append(process.resident())
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        assert not children.exists() or children.read_text() == ""
        if ports:
            assert process.descriptors() > 2000
        assert process.stop() == 0
    assert resident[1] - resident[0] < 20_000_000


def test_two_guests_on_one_port_number_at_two_host_addresses(served):
    lab, _, _ = served
    lab.host.ip("address", "add", "198.51.100.11/32", "dev", "lo")
    lab.guest.ip("address", "add", "192.168.65.9/24", "dev", "tap0")
    with (
        published(served, f"{WORLD_HOST}:7006:{GUEST}:7006"),
        published(served, "198.51.100.11:7006:192.168.65.9:7006"),
        lab.guest.listen(GUEST, 7006) as one,
        lab.guest.listen("192.168.65.9", 7006) as two,
    ):
        for address, listener in ((WORLD_HOST, one), ("198.51.100.11", two)):
            listener.settimeout(20)
            with lab.host.connect(address, 7006):
                guest, _ = listener.accept()
                guest.close()


def test_udp(served):
    lab, world, _ = served
    guest = lab.guest.socket(kind=socket.SOCK_DGRAM)
    guest.bind(("0.0.0.0", 7007))
    guest.settimeout(20)
    with guest, published(served, "7007:7007/udp"):
        for ns, address, seen in ((world, WORLD_HOST, WORLD), (lab.host, "127.0.0.1", HOST_ALIAS)):
            with ns.socket(kind=socket.SOCK_DGRAM) as client:
                client.settimeout(20)
                client.connect((address, 7007))
                for data in (b"", b"hello", os.urandom(9000)):
                    client.send(data)
                    got, peer = guest.recvfrom(65536)
                    assert (got, peer) == (data, (seen, client.getsockname()[1]))
                    guest.sendto(b"re:" + got, peer)
                    assert client.recv(65536) == b"re:" + data


def test_udp_answers_come_from_the_address_that_was_asked(served):
    """A port on all addresses of a host that has several: also where the way back would choose another."""
    lab, world, _ = served
    for address in ("198.51.100.12/24", "198.51.100.13/32", "2001:db8::12/64", "2001:db8::13/64"):
        nodad = ("nodad",) if ":" in address else ()
        lab.host.ip("address", "add", address, "dev", "up0", *nodad)
    guest = lab.guest.socket(kind=socket.SOCK_DGRAM)
    guest.bind(("0.0.0.0", 7010))
    guest.settimeout(20)
    with guest, published(served, "7010:7010/udp"):
        for ns, addresses in (
            (world, [WORLD_HOST, "198.51.100.12", "198.51.100.13"]),
            (lab.host, ["127.0.0.1", "127.0.0.9", WORLD_HOST, "198.51.100.13"]),
            (lab.host, ["::1", "2001:db8::12", "2001:db8::13"]),
        ):
            family = socket.AF_INET6 if ":" in addresses[0] else socket.AF_INET
            with ns.socket(family, socket.SOCK_DGRAM) as client:
                client.settimeout(20)
                client.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
                peers = set()
                for address in addresses * 2:
                    client.sendto(address.encode(), (address, 7010))
                    data, peer = guest.recvfrom(100)
                    peers.add(peer)
                    guest.sendto(data, peer)
                    assert client.recvfrom(100)[1][:2] == (address, 7010)
                assert len(peers) == len(addresses)  # each a mapping of its own


def test_reach_a_guest_by_its_own_address(served):
    """gw.dial, with http.client and asyncio."""
    lab, _, gateway = served
    server = lab.guest.spawn("python3", "-m", "http.server", "7008", cwd=None)
    server.wait_listening(7008)
    try:
        connection = http.client.HTTPConnection(GUEST, 7008)
        connection.sock = gateway.dial(GUEST, 7008, timeout=20)
        connection.request("HEAD", "/")
        assert connection.getresponse().status == 200
        connection.close()

        async def ask():
            reader, writer = await gateway.open_connection(GUEST, 7008)
            writer.write(b"HEAD / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer

        assert b"200" in asyncio.run(asyncio.wait_for(ask(), 20))
    finally:
        server.stop()
    with pytest.raises(ConnectionRefusedError):
        gateway.dial(GUEST, 7009, timeout=20)
    with pytest.raises(OSError, match="No route"):
        gateway.dial("192.168.65.99", 80, timeout=20)
    no_flows_left(gateway)


def test_be_a_host_of_the_network(served):
    lab, _, gateway = served
    with gateway.listen("192.168.65.200", 80) as listener:
        with lab.guest.connect("192.168.65.200", 80) as guest:
            sock, peer = listener.accept(20)
            assert peer == guest.getsockname()
            with sock:
                sock.sendall(b"welcome")
            assert read_all(guest) == b"welcome"
        with pytest.raises(ConnectionRefusedError):
            lab.guest.connect("192.168.65.200", 81)

    async def serve():
        async def upper(reader, writer):
            writer.write((await reader.read()).upper())
            await writer.drain()

        async with await gateway.start_server(upper, "192.168.65.201", 80):

            def ask():
                with lab.guest.connect("192.168.65.201", 80) as guest:
                    guest.sendall(b"hello")
                    guest.shutdown(socket.SHUT_WR)
                    return read_all(guest)

            return await asyncio.to_thread(ask)

    assert asyncio.run(asyncio.wait_for(serve(), 30)) == b"HELLO"


def test_ping_a_guest_from_the_host(served):
    _, _, gateway = served
    rtt = gateway.ping(GUEST, 5)
    assert rtt is not None
    assert 0 < rtt < 5
    assert gateway.ping(GUEST, 5, size=20000) is not None
    assert gateway.ping("192.168.65.99", 0.2) is None


def test_the_command(lab):
    """-p of netstack attach, and its one sentence when the port is taken."""
    with lab.guest.listen("0.0.0.0", 80) as listener:
        listener.settimeout(20)
        process = lab.attach("-p", "127.0.0.1:8080:80", "--publish-source", "gateway")
        with lab.host.connect("127.0.0.1", 8080) as client:
            guest, peer = listener.accept()
            assert peer[0] == "192.168.65.1"
            with guest:
                guest.sendall(b"through")
            assert read_all(client) == b"through"
        assert process.stop() == 0
    with (
        lab.host.listen("127.0.0.1", 8081),
        pytest.raises(netstack.SandboxError, match=r"8081 is in use: choose"),
    ):
        lab.attach("--ifname", "tap9", "-p", "127.0.0.1:8081:80")
