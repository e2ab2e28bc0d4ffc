"""What is in a capture, counted: the material of ``netstack dissect --stats``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from netstack.capture.flow_table import PROTOCOLS
from netstack.capture.table import Analysis, Check, Columns, Layer

__all__ = ["NEEDS", "Summary"]

#: The columns that `Summary.add` counts.
NEEDS = (
    "time", "length", "captured", "layers", "ethertype", "vlan", "protocol", "src_port", "dst_port", "ip_checksum",
    "l4_checksum", "dns_name", "dns_flags", "dns_rcode", "dhcp_type", "flow", "tcp_analysis", "rtt",
)  # fmt: skip
SIZES = (64, 128, 256, 512, 1024, 1518)  # upper ends of the groups of frame lengths


@dataclass
class Summary:
    """Counts over any number of chunks and files."""

    frames: int = 0
    bytes: int = 0
    cut: int = 0
    malformed: int = 0
    fragments: int = 0
    first: int = 0  #: ns since 1970
    last: int = 0
    protocols: Counter[str] = field(default_factory=Counter)
    protocol_bytes: Counter[str] = field(default_factory=Counter)
    ports: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)  #: frames by index in SIZES
    checksums: Counter[str] = field(default_factory=Counter)
    analysis: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    rcodes: Counter[int] = field(default_factory=Counter)
    rtt: list[Any] = field(default_factory=list)  #: arrays of samples in ns, bounded by thinning

    def add(self, table: Columns) -> None:
        """Counts the frames of a chunk, which has the columns `NEEDS`."""
        import numpy as np

        if not len(table):
            return
        times = table["time"][table["time"] != 0]
        if len(times):
            low, high = int(times.min()), int(times.max())
            self.first = min(self.first, low) if self.first else low
            self.last = max(self.last, high)
        self.frames += len(table)
        self.bytes += int(table["length"].sum(dtype="i8"))
        for name, layer in (
            ("cut", Layer.CUT),
            ("malformed", Layer.MALFORMED),
            ("fragments", Layer.FRAGMENT),
        ):
            setattr(self, name, getattr(self, name) + int(table.has(layer).sum()))
        for name, mask in self._protocols(table):
            count = int(mask.sum())
            if count:
                self.protocols[name] += count
                self.protocol_bytes[name] += int(table["length"][mask].sum(dtype="i8"))
        ports = table.has(Layer.PORTS)
        lower = np.minimum(table["src_port"][ports], table["dst_port"][ports])
        keys = table["protocol"][ports].astype("u4") << 16 | lower
        for key, count in zip(*np.unique(keys, return_counts=True), strict=True):
            self.ports[f"{PROTOCOLS[int(key) >> 16]} {int(key) & 0xFFFF}"] += int(count)
        for index, count in zip(
            *np.unique(np.searchsorted(SIZES, table["length"]), return_counts=True), strict=True
        ):
            self.sizes[int(index)] += int(count)
        for check in (Check.BAD, Check.PARTIAL):
            for name in ("ip_checksum", "l4_checksum"):
                count = int((table[name] == check).sum())
                if count:
                    which = "IPv4 header" if name == "ip_checksum" else "transport"
                    self.checksums[f"{which} {check.name.lower()}"] += count
        for bit in Analysis:
            count = int((table["tcp_analysis"] & bit != 0).sum())
            if count:
                self.analysis[str(bit.name)] += count
        self.names.update(name for name in table["dns_name"][table.has(Layer.QUESTION)] if name is not None)
        if len(self.names) > 100_000:  # of a scan: the frequent ones are kept
            self.names = Counter(dict(self.names.most_common(10_000)))
        answers = table.has(Layer.DNS) & (table["dns_flags"] & 0x8000 != 0)
        self.rcodes.update(table["dns_rcode"][answers].tolist())
        self.rtt.append(table["rtt"][table.has(Layer.RTT)])
        if len(self.rtt) > 64:
            self.rtt = [np.concatenate(self.rtt)[::2]]

    @staticmethod
    def _protocols(table: Columns) -> list[tuple[str, Any]]:
        ip = table.has(Layer.IPV4 | Layer.IPV6)
        found = [
            ("ARP", table.has(Layer.ARP)),
            ("IPv4", table.has(Layer.IPV4)),
            ("IPv6", table.has(Layer.IPV6)),
            ("VLAN", table.has(Layer.VLAN)),
        ]
        found += [(name, ip & (table["protocol"] == number)) for number, name in PROTOCOLS.items()]
        found += [("DNS", table.has(Layer.DNS)), ("DHCP", table.has(Layer.DHCP4 | Layer.DHCP6))]
        found.append(("other", ~table.has(Layer.ARP | Layer.IPV4 | Layer.IPV6)))
        return found

    def rtt_quantiles(self) -> tuple[int, list[float]]:
        """Samples, and their 5 %, 50 % and 95 % quantiles in ns."""
        import numpy as np

        samples = np.concatenate(self.rtt) if self.rtt else np.empty(0)
        if not len(samples):
            return 0, []
        return len(samples), [float(value) for value in np.quantile(samples, (0.05, 0.5, 0.95))]
