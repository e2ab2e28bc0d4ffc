"""Measurements side by side: netstack, its yardstick and its peers, all in one run on one machine.

    python -m bench             side by side, every kind of work (bench/compare): --help tells the options
    python -m bench page        docs/performance.md, made anew from the stored run in bench/results
    python -m bench profile     the functions that take the time on each main path, by perf
    python -m bench capture     what recording costs (bench/capture.py)
    python -m bench gil         what a busy or blocked Python program does to the data path (bench/gil.py)
    python -m bench dns         queries a second through the gateway, beside straight to the server (bench/dns.py)
    python -m bench relay       a guest behind netstack relay beside one on a TAP (bench/relay.py)
    python -m bench many        64 guests that transfer at once: how evenly they are served (bench/many.py)
    python -m bench dissect     header columns of a capture, beside struct, NumPy, dpkt and scapy (bench/dissect.py)
    python -m bench ports       published ports beside slirp4netns, requests and bulk (bench/ports.py)
    python -m bench peer        our TCP and Linux's over bad paths, each against Linux (bench/peer.py)
    python -m bench soak        mixed traffic for minutes or hours, and whether memory stays flat (bench/soak)
    python -m bench.replay      frames a second of netstack replay (bench/replay.py)
    ./dev bench micro           single functions (bench/micro)

Numbers of one run compare with each other; numbers of two runs, or of two machines, do not.
"""
