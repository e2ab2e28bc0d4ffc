"""Headers of the wire: bytes to values and back.

Purpose. One module for each protocol turns bytes into a C struct (``x_parse``) and a struct into bytes
(``x_write``), and gives Python the same thing as an immutable value class (``IPv4Header.parse(data)``,
``.build(payload)``). There is no state and no I/O here; what a header means is the business of the layers
above.

Imports. Nothing of ours outside this folder, except ``netstack.errors`` from the Python faces.

Invariants.

- A parser never reads a byte that is not present and trusts no length that it has not compared with the bytes
  there are. It returns how many bytes the header takes, or a negative ``wire_code`` (``code.pxd``).
- A writer never writes behind ``room``: it returns how many bytes it wrote, or a negative code, and then the
  contents of the buffer mean nothing.
- Structs are in host byte order; checksum sums are in memory byte order until ``csum_store``.
- Parsers of TCP, UDP and ICMP do not verify checksums, since a frame whose checksum was offloaded has none
  yet and a quotation inside an ICMP error is cut short: ``csum_ok`` does it where the caller knows that there
  is one. The Python faces verify on request (``verify=True``, or ``src=`` and ``dst=`` where the sum covers a
  pseudo header).
- Every address is 16 bytes (``addr.pxd``); IPv4 is its mapped form. IPv6 packets that carry mapped addresses
  on the wire are for the interface to refuse: ``csum_pseudo`` would take them for IPv4.
- An extension of a protocol that is recognised and not carried (802.1Q, jumbograms, source routing) has a
  name: ``WIRE_UNSUPPORTED``, or a field that says so.

Standards. IEEE 802.3 and 802.1Q, RFC 826 (ARP), 791 (IPv4), 8200 (IPv6), 792 (ICMP), 4443 and 4861 (ICMPv6),
768 (UDP), 9293, 7323 and 2018 (TCP), 1071 and 1624 (checksums), 2131 and 2132 (DHCP), 1035 and 6891 (DNS),
1928 section 7 (SOCKS).

Tests. ``tests/wire`` compares every module with scapy in both directions, holds golden bytes, provokes every
code, feeds every prefix of valid packets and random bytes; ``bench/micro/test_wire.py`` measures.
"""
