"""What goes on during a soak: activities, each repeated in a thread of its own, each transfer checked to the byte."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from netstack.control.client import Client
from netstack.testing.lab import GATEWAY, GUEST, HOST_ALIAS, Lab, python_environment
from netstack.testing.namespace import Namespace, Process

from .guests import visit
from .server import PATTERN, PERIOD, PIECE, order

__all__ = ["ACTIVITIES", "Activity", "Place", "Tally", "WrongData", "begin"]

MiB = 1 << 20
DNS_NAMES = tuple(f"host{i}.soak.test" for i in range(200))
NOWHERE = "nowhere.test"  #: a zone without names
SERVED, MORTAL, PUBLISHED, SOCKS, DYNAMIC = 7000, 7001, 7002, 7003, 7010  #: ports
PATIENCE = 60.0  #: seconds for one operation on a machine that does other things as well


class WrongData(AssertionError):
    """Something has arrived that was not sent."""


@dataclass
class Place:
    """Where the traffic is: the laboratory, the service's sockets, and random numbers of the thread that asks."""

    lab: Lab
    visitors: Path  #: the qemu socket
    client: Client
    rng: random.Random = field(default_factory=random.Random)
    number: int = 0  #: of the repetition


@dataclass
class Tally:
    """How often an activity was done, and how often it failed; ``wrong`` is the first wrong data, ``last`` an error."""

    done: int = 0
    failed: int = 0
    wrong: str = ""
    last: str = ""


@dataclass(frozen=True)
class Activity:
    """Something done again and again, ``pause`` seconds apart."""

    name: str
    pause: float
    act: Callable[[Place], None]


# --- pieces


def receive(sock: socket.socket, count: int, at: int = 0) -> int:
    """Reads up to byte ``count`` of the pattern from byte ``at`` on, or to the end; the byte that is next.

    Raises:
        WrongData: they differ from it.
    """
    while at < count and (data := sock.recv(min(PIECE, count - at))):
        if data != PATTERN[at % PERIOD : at % PERIOD + len(data)]:
            raise WrongData(f"bytes {at} to {at + len(data)} are not those that were sent")
        at += len(data)
    return at


def exactly(sock: socket.socket, count: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def echoed(sock: socket.socket, count: int) -> None:
    """Sends so many bytes and expects them back, then the end."""
    data = PATTERN[:count]
    sock.sendall(order(b"E") + data)
    sock.shutdown(socket.SHUT_WR)
    if receive(sock, count) != count or sock.recv(1):
        raise WrongData(f"an echo of {count} bytes has not come whole")


def reset(sock: socket.socket) -> None:
    """Closes with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def to_host(guest: Namespace, port: int = SERVED) -> socket.socket:
    """A connection of a guest to the host's loopback."""
    return guest.connect(HOST_ALIAS, port, PATIENCE)


def asked(sock: socket.socket, data: bytes, mine: Callable[[bytes], bool]) -> bytes:
    """What comes in answer to a datagram, which bad weather may cost some repetitions."""
    for _ in range(20):
        sock.send(data)
        end = time.monotonic() + PATIENCE / 20
        with contextlib.suppress(TimeoutError):
            while (left := end - time.monotonic()) > 0:
                sock.settimeout(left)
                if mine(answer := sock.recv(1 << 16)):
                    return answer
    raise TimeoutError("a datagram was not answered")


# --- activities


def bulk(place: Place) -> None:
    """Some dozen megabytes up, or down, or both ways at once over two connections."""
    size = place.rng.randrange(4 * MiB, 32 * MiB)
    with to_host(place.lab.guest) as down, to_host(place.lab.guest) as up:
        down.sendall(order(b"S", size))
        if place.number % 3 != 1 and receive(down, size) != size:
            raise WrongData(f"of {size} bytes down not all came")
        if place.number % 3 != 0:
            up.sendall(order(b"R", size))
            for _ in range(size // PIECE):
                up.sendall(PATTERN[:PIECE])
            up.sendall(PATTERN[: size % PIECE])
            if exactly(up, 4) != struct.pack(">I", size):
                raise WrongData(f"of {size} bytes up not all came")


def short(place: Place) -> None:
    """Twenty connections, each ended in another way: by the guest, the server, a reset of either, half a close."""
    for number in range(20):
        with to_host(place.lab.guest) as sock:
            kind, size = number % 5, place.rng.randrange(1, 40_000)
            if kind == 0:
                echoed(sock, size)
            elif kind == 1:
                sock.sendall(order(b"S", size))
                if receive(sock, size + 1) != size:
                    raise WrongData(f"of {size} bytes not all came")
            elif kind == 2:
                sock.sendall(order(b"A", size))
                sock.settimeout(5)  # nobody sends a reset again that bad weather has lost
                with contextlib.suppress(ConnectionResetError, TimeoutError):
                    receive(sock, size)
            elif kind == 3:
                sock.sendall(order(b"S", MiB))
                receive(sock, 1000)
                reset(sock)
            else:
                sock.sendall(order(b"H") + PATTERN[:size])


def refused(place: Place) -> None:
    """Connections to a port where nobody listens, and to one whose server is being killed."""
    for port in (1, MORTAL):
        try:
            with to_host(place.lab.guest, port) as sock:
                sock.sendall(order(b"S", 8 * MiB))
                receive(sock, 8 * MiB)
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            continue
        if port == 1:
            raise WrongData("a connection to a port where nobody listens was accepted")


def datagrams(place: Place) -> None:
    """Echoes from new ports, some of them in fragments, and some to a port where nobody is."""
    for number in range(20):
        with place.lab.guest.socket(kind=socket.SOCK_DGRAM) as sock:
            size = place.rng.randrange(1, 1400) if number % 5 else place.rng.randrange(2000, 20_000)
            sock.connect((HOST_ALIAS, SERVED if number % 10 else 2))
            try:
                if asked(sock, PATTERN[:size], lambda answer: True) != PATTERN[:size]:
                    raise WrongData(f"a datagram of {size} bytes came back as another")
            except ConnectionRefusedError:
                if number % 10:
                    raise


def dns(place: Place) -> None:
    """Names of the gateway's own, of its name server (some of them new, some cached), and of nobody."""
    with place.lab.guest.socket(kind=socket.SOCK_DGRAM) as sock:
        sock.connect((GATEWAY, 53))
        for name in (
            "gateway.internal",
            place.rng.choice(DNS_NAMES),
            f"n{place.rng.getrandbits(40)}.{NOWHERE}",
        ):
            ident = place.rng.randbytes(2)
            labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
            question = ident + struct.pack(">5H", 0x100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"
            answer = asked(sock, question, lambda data, ident=ident: data[:2] == ident)  # type: ignore[misc]
            wanted = 3 if name.endswith(NOWHERE) else 0
            if answer[3] & 15 != wanted:
                raise WrongData(f"the question for {name} was answered with code {answer[3] & 15}")


def pings(place: Place) -> None:
    """Echoes of the gateway and of the host."""
    place.lab.guest.run("ping", "-c", "2", "-i", "0.2", "-W", "20", GATEWAY, timeout=PATIENCE)
    place.lab.guest.run("ping", "-c", "2", "-i", "0.2", "-W", "20", HOST_ALIAS, timeout=PATIENCE)


def published(place: Place) -> None:
    """The host's clients of a guest's server: a port of the command line, one that comes and goes, and SOCKS."""
    made = place.client.ask("POST", "/v1/ports", {"spec": f"127.0.0.1:{DYNAMIC}:{GUEST}:{SERVED}"})
    try:
        for port in (PUBLISHED, DYNAMIC):
            with place.lab.host.connect("127.0.0.1", port, PATIENCE) as sock:
                echoed(sock, place.rng.randrange(1, 60_000))
    finally:
        place.client.ask("DELETE", f"/v1/ports/{made['id']}")
    with place.lab.host.connect("127.0.0.1", SOCKS, PATIENCE) as sock:
        sock.sendall(b"\5\1\0\5\1\0\1" + socket.inet_aton(GUEST) + struct.pack(">H", SERVED))
        if exactly(sock, 12)[:4] != b"\5\0\5\0":
            raise WrongData("SOCKS has refused a connection")
        echoed(sock, place.rng.randrange(1, 60_000))


def visitors(place: Place) -> None:
    """A guest comes, gets an address, works, and goes in the middle of a transfer each way."""
    with contextlib.ExitStack() as after, visit(place.lab, place.visitors, place.number) as visitor:
        with to_host(visitor) as sock:
            echoed(sock, place.rng.randrange(1, 60_000))
        with contextlib.ExitStack() as stack:
            down, up = (stack.enter_context(to_host(visitor)) for _ in range(2))
            udp = stack.enter_context(visitor.socket(kind=socket.SOCK_DGRAM))
            down.sendall(order(b"S", 1 << 30))
            receive(down, 4 * MiB)
            up.sendall(order(b"H"))
            up.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    up.send(PATTERN[:PIECE])
            udp.sendto(b"farewell", (HOST_ALIAS, SERVED))
            if place.number % 2:  # else its kernel ends them while the link still stands
                after.push(stack.pop_all())


def deaths(place: Place) -> None:
    """A server is started, and killed while it serves."""
    argv = (sys.executable, "-m", "bench.soak.server", "127.0.0.1", str(MORTAL))
    process: Process = place.lab.host.spawn(*argv, env=python_environment())
    try:
        process.wait_for("listens", PATIENCE)
        with to_host(place.lab.guest, MORTAL) as sock:
            sock.sendall(order(b"S", 1 << 30))
            at = receive(sock, 2 * MiB)
            process.signal(9)
            sock.settimeout(5)
            with contextlib.suppress(ConnectionResetError, TimeoutError):
                receive(sock, 1 << 30, at)
    finally:
        process.signal(9)
        process.wait(PATIENCE)


def operators(place: Place) -> None:
    """Somebody looks: flows, guests, metrics, a capture to a file, a stream of one, names that come and go."""
    client = place.client
    for path in ("/v1/info", "/v1/guests", "/v1/names", "/v1/leases", "/v1/ports"):
        client.ask("GET", path)
    name = f"n{place.number}.internal"
    client.ask("POST", "/v1/names", {"name": name, "type": "A", "value": "192.168.65.9"})
    client.ask("DELETE", f"/v1/names/{name}")
    if place.number % 2:
        client.ask(
            "POST", "/v1/capture", {"path": str(place.lab.directory / "soak.pcapng"), "bytes": 1 << 30}
        )
        time.sleep(1)
        client.ask("DELETE", "/v1/capture")
    else:
        with contextlib.closing(client.stream("/v1/capture")) as stream:  # type: ignore[type-var]
            if not next(stream).startswith(b"\n\r\r\n"):
                raise WrongData("a capture does not begin as pcapng")


def weather(place: Place) -> None:
    """The path gets bad for some seconds: lost, late and repeated frames."""
    path = "loss=1%,delay=2ms±1ms,duplicate=1%,reorder=1%"
    place.client.ask("PUT", "/v1/impairment", {"up": path, "down": path})
    time.sleep(5)
    place.client.ask("DELETE", "/v1/impairment")


ACTIVITIES = (
    Activity("bulk", 1.0, bulk),
    Activity("short", 0.5, short),
    Activity("refused", 0.5, refused),
    Activity("datagrams", 0.5, datagrams),
    Activity("dns", 0.1, dns),
    Activity("pings", 2.0, pings),
    Activity("published", 0.5, published),
    Activity("visitors", 4.0, visitors),
    Activity("deaths", 5.0, deaths),
    Activity("operators", 5.0, operators),
    Activity("weather", 40.0, weather),
)


def begin(place: Place, stop: threading.Event) -> tuple[dict[str, Tally], Callable[[], list[str]]]:
    """Starts every activity; their tallies, and a call that waits until all have ended and names those that hang."""
    tallies = {activity.name: Tally() for activity in ACTIVITIES}
    threads = []
    for activity in ACTIVITIES:
        mine = Place(place.lab, place.visitors, place.client, random.Random(activity.name))
        thread = threading.Thread(
            target=_repeat,
            args=(activity, mine, tallies[activity.name], stop),
            name=activity.name,
            daemon=True,
        )
        thread.start()
        threads.append(thread)

    def wait() -> list[str]:
        end = time.monotonic() + 2 * PATIENCE
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return [thread.name for thread in threads if thread.is_alive()]

    return tallies, wait


def _repeat(activity: Activity, place: Place, tally: Tally, stop: threading.Event) -> None:
    while not stop.wait(activity.pause * place.rng.uniform(0.5, 1.5)):
        try:
            activity.act(place)
            tally.done += 1
        except WrongData as err:
            tally.wrong = tally.wrong or str(err)
        except Exception as err:
            tally.failed += 1
            tally.last = f"{type(err).__name__}: {err}"
        place.number += 1
