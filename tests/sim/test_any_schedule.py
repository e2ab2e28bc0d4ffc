"""Whatever the network does: the stream arrives whole, in order, once, or both sides know that it did not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from netstack.tcp import Settings
from tests.sim.network import Host, Network, Path, pair, ramp

paths = st.builds(
    Path,
    delay=st.sampled_from([0.00005, 0.001, 0.02, 0.15]),
    jitter=st.sampled_from([0.0, 0.0, 0.003]),
    rate=st.sampled_from([0.0, 1e5, 1e7]),
    queue=st.sampled_from([5, 50, 1000]),
    loss=st.sampled_from([0.0, 0.01, 0.1, 0.25]),
    reorder=st.sampled_from([0.0, 0.1, 0.4]),
    duplicate=st.sampled_from([0.0, 0.1]),
    corrupt=st.sampled_from([0.0, 0.05]),
    blackhole_above=st.sampled_from([0, 0, 0, 700]),
)
variants = st.builds(
    Settings,
    mss=st.sampled_from([536, 1460, 9000]),
    max_gso=st.sampled_from([0, 20000, 65536]),
    receive_buffer=st.sampled_from([2000, 65536]),
    receive_buffer_max=st.sampled_from([2000, 1 << 20]),
    send_buffer=st.sampled_from([3000, 65536]),
    send_buffer_max=st.sampled_from([3000, 1 << 20]),
    congestion=st.sampled_from(["cubic", "reno", "none"]),
    timestamps=st.booleans(),
    sack=st.booleans(),
    ecn=st.booleans(),
    nagle=st.booleans(),
    delayed_ack=st.sampled_from([0.0, 0.04, 0.4]),
    burst_packets=st.sampled_from([0, 10]),
    keepalive_idle=st.just(100.0),  # otherwise a side that only waits never learns that the other is gone
    keepalive_interval=st.just(10.0),
)


def check(net: Network, sent: tuple[bytes, bytes]) -> None:
    a, b = net.hosts
    for host, data in ((a, sent[1]), (b, sent[0])):
        got = bytes(host.received)
        assert got == data[: len(got)], "not a prefix of what was sent"
        if host.ended:
            assert got == data, "an end of stream that comes too early"
        assert not host.tcp.info()["bad_transition"]
    if not (a.ended and b.ended):
        for host in (a, b):  # it knows, or it never heard of the connection
            assert host.reset or host.timed_out or host.tcp.state == "CLOSED", host.tcp.info()


@settings(max_examples=60)
@given(
    up=paths,
    down=paths,
    client=variants,
    server=variants,
    sizes=st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)),
    seed=st.integers(0, 1 << 30),
)
def test_whole_in_order_once_or_known(
    up: Path, down: Path, client: Settings, server: Settings, sizes: tuple[int, int], seed: int
) -> None:
    sent = (ramp(sizes[0]), ramp(sizes[1], 1 << 20))
    net = pair(
        *sent, replace(up, waiting=[]), replace(down, waiting=[]), client=client, server=server, seed=seed
    )
    net.run(20_000.0)
    check(net, sent)


class SlowReader(Host):
    """Reads a little now and then."""

    def __init__(self, connection: object, data: bytes, every: float) -> None:
        super().__init__(connection, data)  # type: ignore[arg-type]
        self.every = every
        self.next_read = 0.0

    def write(self, now: float) -> None:
        if now >= self.next_read:
            self.received += self.tcp.read(3000, now)
            self.next_read = now + self.every
        super().write(now)


@settings(max_examples=20)
@given(
    up=paths,
    down=paths,
    client=variants,
    server=variants,
    size=st.integers(1, 60_000),
    seed=st.integers(0, 1 << 30),
)
def test_a_slow_reader_loses_nothing(
    up: Path, down: Path, client: Settings, server: Settings, size: int, seed: int
) -> None:
    net = pair(
        ramp(size),
        b"",
        replace(up, waiting=[]),
        replace(down, waiting=[]),
        client=client,
        server=server,
        seed=seed,
    )
    a, b = net.hosts
    b.tcp.autoread = False
    slow = SlowReader(b.tcp, b"", 0.03)
    slow.close_when_sent = False
    net.hosts = (a, slow)
    ticks = 0
    while net.now < 5000 and ticks < 400_000:
        ticks += 1
        if not net.step():
            break
        if slow.ended and not slow.tcp.readable:
            break
    while slow.tcp.readable:
        slow.received += slow.tcp.read(1 << 20, net.now)
    got = bytes(slow.received)
    assert got == ramp(size)[: len(got)]
    if slow.ended:
        assert got == ramp(size)
    else:
        assert (
            a.timed_out
            or a.reset
            or slow.reset
            or slow.timed_out
            or a.closed
            or slow.tcp.readable
            or net.now >= 5000
        )
