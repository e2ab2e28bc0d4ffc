"""The interface that the guests see: the gateway's end of the virtual Ethernet.

Theory of operation
    ``iface_input`` takes one frame with its offload metadata and returns a verdict; what the verdict names
    is parsed into a :c:type:`packet`. On the way every length is checked against the bytes present,
    addresses that no guest may use are refused, and fragments are put together. ``output`` turns what is to
    be said into header bytes; payload is never copied here. Nothing is sent and no clock is read: the
    engine acts on the verdict and passes the time in.

May import
    ``wire`` and ``storage``.

Invariants
    - A frame that is not answered is either held (a fragment) or raises exactly one counter.
    - Replies are bounded by the output buffer; what is quoted or echoed never goes beyond the bytes that
      came.
    - All tables are bounded: neighbours (4096, and no more than the network has addresses), incomplete
      datagrams (64), their bytes (4 MiB) and their age (30 s). Overlapping fragments discard the datagram.
    - Neighbour entries live as long as the interface, so that flows may point at them.

RFCs
    894 (Ethernet), 826 and 5227 (ARP), 791 and 815 (IPv4, reassembly), 1122 section 3 (what to drop and
    what to answer), 1812 section 4.3.2 (ICMP errors and their limit), 6864 (the identification field).

Tests
    ``tests/iface`` drives a whole gateway by hand on virtual time over a link in memory.
"""
