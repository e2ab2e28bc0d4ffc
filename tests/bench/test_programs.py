"""What the load programs report, and what is no report."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from bench.programs import bulk_of, read_dnsperf, read_iperf, read_load, read_wrk
from netstack.testing.namespace import ProgramError


def stream(count: int, sender: bool = True) -> dict[str, Any]:
    return {"sender": {"bytes": count + 9, "sender": sender}, "receiver": {"bytes": count, "sender": sender}}


ONE_WAY: dict[str, Any] = {
    "end": {
        "streams": [stream(1_000_000), stream(3_000_000)],
        "sum_sent": {"bytes": 4_000_018, "bits_per_second": 9e9, "retransmits": 3},
        "sum_received": {"bytes": 4_000_000, "bits_per_second": 8e9},
    }
}
BOTH_WAYS: dict[str, Any] = {
    "end": {
        "streams": [stream(5), stream(5), stream(1, False), stream(3, False)],
        "sum_sent": {"bytes": 10, "bits_per_second": 3e9, "retransmits": 3},
        "sum_received": {"bytes": 10, "bits_per_second": 2e9},
        "sum_sent_bidir_reverse": {"bytes": 4, "bits_per_second": 1e9, "retransmits": 4},
        "sum_received_bidir_reverse": {"bytes": 4, "bits_per_second": 1e9},
    }
}


def test_iperf_one_way() -> None:
    bulk = bulk_of(read_iperf(json.dumps(ONE_WAY)))
    assert (bulk.gbit_s, bulk.bytes, bulk.retransmits) == (8.0, 4_000_000, 3)
    assert bulk.fairness == pytest.approx(0.8)


def test_iperf_both_ways_is_the_sum_and_the_less_fair_way() -> None:
    bulk = bulk_of(read_iperf(json.dumps(BOTH_WAYS)))
    assert (bulk.gbit_s, bulk.bytes, bulk.retransmits) == (3.0, 14, 7)
    assert bulk.fairness == pytest.approx(0.8)


def test_iperf_that_failed_is_no_figure() -> None:
    with pytest.raises(ProgramError, match="unable to connect"):
        read_iperf('{"error": "unable to connect to server"}')
    with pytest.raises(ProgramError, match="did not report"):
        read_iperf("", "iperf3: killed")


@pytest.mark.parametrize("key", ["streams", "sum_received", "sum_sent"])
def test_iperf_that_reports_half(key: str) -> None:
    report = copy.deepcopy(ONE_WAY)
    del report["end"][key]
    with pytest.raises(ProgramError, match=f"without '{key}'"):
        bulk_of(report)
    report["end"][key] = []
    with pytest.raises(ProgramError, match="iperf3 reported something else"):
        bulk_of(report)


WRK = """Running 1s test @ http://127.0.0.1:8080/page
  1 threads and 10 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   303.75us  255.98us   6.62ms   97.52%
    Req/Sec    34.91k     3.05k   38.30k    90.91%
  38188 requests in 1.10s, 27.09MB read
Requests/sec:  34720.31
Transfer/sec:     24.63MB
"""


def test_wrk() -> None:
    assert read_wrk(WRK) == 34720.31


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("unable to connect to 127.0.0.1:8080 Connection refused", "did not report"),
        (WRK.replace("Transfer", "  Non-2xx or 3xx responses: 12\nTransfer"), "12 answers were errors"),
        (WRK.replace("34720.31", "0.00"), "no request was answered"),
    ],
)
def test_wrk_that_failed_is_no_figure(text: str, why: str) -> None:
    with pytest.raises(ProgramError, match=why):
        read_wrk(text)


DNSPERF = """Statistics:

  Queries sent:         61302
  Queries completed:    61302 (100.00%)
  Queries lost:         0 (0.00%)

  Response codes:       NOERROR 61302 (100.00%)
  Average packet size:  request 29, response 45
  Run time (s):         1.000918
  Queries per second:   61245.776378

  Average Latency (s):  0.001583 (min 0.000050, max 0.005917)
"""


def test_dnsperf() -> None:
    assert read_dnsperf(DNSPERF) == 61245.776378


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Error: unable to read", "did not report"),
        (DNSPERF.replace("61302 (100.00%)\n  Queries lost", "6 (99.80%)\n  Queries lost"), "99.80 %"),
        (
            DNSPERF.replace("NOERROR 61302 (100.00%)", "NOERROR 61300 (99.99%), SERVFAIL 2 (0.01%)"),
            "SERVFAIL",
        ),
        (DNSPERF.replace("NOERROR", "NXDOMAIN"), "NXDOMAIN"),
    ],
)
def test_dnsperf_that_failed_is_no_figure(text: str, why: str) -> None:
    with pytest.raises(ProgramError, match=why):
        read_dnsperf(text)


def test_load_reports_in_its_last_line() -> None:
    assert read_load('ready\n{"count": 5, "seconds": 0.5}\n') == {"count": 5, "seconds": 0.5}


@pytest.mark.parametrize("text", ["", "ready\n", "[1]\n", '{"count": 5'])
def test_load_that_failed_is_no_figure(text: str) -> None:
    with pytest.raises(ProgramError, match="load did not report"):
        read_load(text)
