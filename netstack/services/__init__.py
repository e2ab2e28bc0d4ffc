"""What the gateway itself answers: addresses by DHCP, names by DNS.

Purpose
    A guest asks the gateway for an address (:mod:`.dhcp4`, :mod:`.dhcp4_options`) and for names (:mod:`.dns` over UDP,
    :mod:`.dns_stream` over TCP, names in a :class:`~.dns_table.DnsTable`, which :mod:`.dns_lookup` reads for the
    gateway itself). A table is made of names as users write them (:mod:`.dns_names`, :mod:`.added_names`,
    :mod:`.hosts_file`); who a DHCP client is and what it has say :mod:`.dhcp4_clients` and :mod:`.dhcp4_leases`.
    Which servers know the names that are not ours says the user (:mod:`.dns_servers`) or the host
    (:mod:`.resolv_conf`, :mod:`.host_resolvers`); some are asked over TLS (:mod:`.dns_tls`), and some are functions of
    a program (:mod:`.dns_hook`).
    Programs of the host ask for connections into the network (:mod:`.socks`).

Imports
    ``wire``, the keyed hash of ``storage.siphash``, and :mod:`netstack.errors`. Nothing of ours above, and no other
    service's insides.

Invariants
    - Sans-IO: messages and the time go in, replies come out, and what files and programs say comes as text
      (``hosts_file``, ``host_resolvers``). Exceptions, by name: ``resolv_conf`` reads one file, ``dns_stream`` and
      ``dns_tls`` drive asyncio streams, ``dns_hook`` calls a function.
    - The engine's thread answers DNS over UDP in C, without the GIL, from an immutable table; a change is a
      new table. DHCP and DNS over TCP are policy and live in the control plane.
    - A query that is not ours goes upstream byte for byte, and so does the answer on its way back. Where no
      upstream answers, the guest hears SERVFAIL. A response, and what is shorter than a header, is never
      answered.
    - Every table is bounded, every reply fits what the client says it takes, and every DHCP message moves
      exactly one named counter.

RFCs
    1035, 2181 (section 9), 2308, 4592, 6303, 6891, 7766, 7858, 9619 for DNS; 2131, 2132, 3046 (echo), 3396, 3442, 6842,
    8910 for DHCP; 1928, 9110 and 9112 for proxies.

Tests
    ``tests/services``: golden exchanges, walks through the states of a DHCP client, DNS over a socket pair
    against a server made for the test, damaged input byte by byte.
"""
