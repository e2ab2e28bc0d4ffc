"""A capture, as columns, as a picture: python examples/capture_to_plot.py [CAPTURE [PICTURE]]

Without a capture it makes one: a guest downloads 2 MB over a path with loss. Needs numpy and matplotlib (the extra
``captures``).
"""

import sys
import tempfile
import threading
from pathlib import Path

import matplotlib
import numpy as np

import netstack
from netstack.capture import columns
from netstack.capture.table import Analysis
from netstack.link.impair import Impairment
from netstack.testing import memory_guest

matplotlib.use("agg")
import matplotlib.pyplot as plt

SIZE = 2_000_000


def record(path):
    """A download of SIZE bytes that loses one frame in a hundred on its way to the guest."""
    config = netstack.Config(dns=(), pcap=str(path))
    bad = Impairment.parse("seed=1,loss=1%,delay=5ms")
    with netstack.Gateway(config) as gateway, memory_guest(gateway, impair=(None, bad)) as guest:
        guest.dhcp()
        server = gateway.listen("192.168.65.200", 80)
        stream = guest.connect("192.168.65.200", 80)
        with server, server.accept(timeout=5)[0] as sock:
            threading.Thread(target=sock.sendall, args=(bytes(SIZE),)).start()
            left = SIZE
            while left:
                left -= len(stream.recv(65536))


folder = tempfile.TemporaryDirectory()
capture = sys.argv[1] if len(sys.argv) > 1 else Path(folder.name) / "made.pcap"
picture = sys.argv[2] if len(sys.argv) > 2 else "capture.png"
if len(sys.argv) < 2:
    record(capture)

table = columns(capture, "time, length, src_port, tcp_seq, payload, tcp_analysis")
seconds = (table["time"] - table["time"][0]) / 1e9
data = (table["payload"] > 0) & (table["src_port"] == 80)
again = data & ((table["tcp_analysis"] & Analysis.RETRANSMISSION) != 0)
print(f"{len(seconds)} frames, {table['length'].sum():,} bytes, {np.count_nonzero(again)} sent again")
sequence = table["tcp_seq"] - table["tcp_seq"][data].min()
plt.plot(seconds[data], sequence[data], ".", label="data")
plt.plot(seconds[again], sequence[again], "x", label="sent again")
plt.xlabel("seconds")
plt.ylabel("sequence number")
plt.legend()
plt.savefig(picture)
