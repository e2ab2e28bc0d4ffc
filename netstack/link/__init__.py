"""Links: how Ethernet frames reach us and leave us.

Purpose
    Every kind of attachment gives the same five functions (``link.pxd``): recv, send, room, flush, close.
    Frames travel with their offload metadata (``storage/frame.pxd``), so that 64 KiB super-frames and partial
    checksums pass through the program untouched; ``framing`` segments and completes them at the edge of a
    link that cannot carry them, and nowhere else.

    * ``tap``: a TAP device, one system call a frame, a virtio header in front.
    * ``stream``: frames behind their lengths on a socket or two pipes (HyperKit, QEMU, and with metadata between
      our relay and serve): many in one read and one write.
    * ``coalesce``: the inverse of ``framing``: frames of a TCP stream that lie ready together become one
      super-frame.
    * ``datagram``: a frame in each message (unixgram, UDP, seqpacket), in batches.
    * ``hyperkit``: the handshake in front of HyperKit's frames, and its table of UUIDs, without I/O; ``spec``:
      where links come from, as text.
    * ``vnet``: the virtio header in front of a TAP's frames, and of those between relay and serve.
    * ``pump``: a TAP joined to another link (``netstack relay``).
    * ``memory``: two queues inside the process, on virtual or real time.
    * ``impair``: a bad path as a pure queue model, used by ``memory``, ``impaired`` and by the box in
      ``netstack/testing``.
    * ``impaired``: any other link behind a bad path, each way with its own.
    * ``stored``: frames that own their bytes, for those three. ``face``: any link as Python sees it.

May import
    ``host`` and ``storage``; ``framing`` and ``coalesce`` also ``wire`` (checksums).

Invariants
    * A frame given by recv stays valid until the next recv on that link. send takes its bytes before it
      returns.
    * A link refuses (LINK_BAD_FRAME) what it cannot carry; it never cuts, pads or passes it on hoping.
    * What ``coalesce`` joins, ``framing`` cuts into the same frames again, byte for byte.
    * A frame is taken whole or not at all: a full stream says LINK_AGAIN between frames only. What waits goes out
      by flush, when the descriptor for writing is ready or, where polling does not tell, after a short time.
    * Every frame that is not passed on is counted once: rx_bad, tx_full, or in the impairment's counters.

RFCs
    RFC 9293, 768, 791, 8200 (segments), 1071 (checksums), 3168 (CWR), virtio 1.1 section 5.1.6 (metadata).

How it is tested
    ``tests/link``: segments are rebuilt with scapy, byte for byte and checksum for checksum; the impairment
    against its own arithmetic on virtual time; TAPs in a namespace of their own, against the kernel's stack.
"""
