"""Counters and gauges of an instance in Prometheus' text format. prometheus_client is imported when first asked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from netstack import __version__
from netstack.errors import NetstackError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netstack.gateway import Gateway

__all__ = ["exposition"]


class _Collector:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        gw = self._gateway
        for name, value in sorted(gw.stats().items()):
            yield CounterMetricFamily(f"netstack_{name}", f"The counter {name}.", value=value)
        flows = GaugeMetricFamily("netstack_flows", "Flows at this moment.", labels=["protocol"])
        now = Counter(flow["protocol"] for flow in gw.flows())
        for protocol in ("icmp", "tcp", "udp"):
            flows.add_metric([protocol], now[protocol])
        yield flows
        yield GaugeMetricFamily("netstack_links", "Connected links.", value=len(gw.links()))
        yield GaugeMetricFamily("netstack_ports", "Publications of ports.", value=len(gw.published()))
        info = GaugeMetricFamily("netstack_info", "The instance's version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info


def exposition(gateway: Gateway) -> bytes:
    """All of them, as text.

    Raises:
        NetstackError: prometheus_client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError:
        raise NetstackError(
            "metrics need prometheus_client: install it with pip install 'netstack[api]'"
        ) from None
    registry: Any = CollectorRegistry()
    registry.register(_Collector(gateway))
    text: bytes = generate_latest(registry)
    return text
