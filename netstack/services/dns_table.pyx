"""The table of names that the gateway answers itself: built in Python, searched in C."""

import ipaddress
import os

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from netstack.storage.siphash cimport siphash_bytes
from netstack.wire.dns cimport (
    DNS_TYPE_A,
    DNS_TYPE_AAAA,
    DNS_TYPE_CNAME,
    DNS_TYPE_NS,
    DNS_TYPE_OPT,
    DNS_TYPE_PTR,
    DNS_TYPE_SOA,
)
from netstack.wire.dns_name cimport dns_name, name_from_text, name_to_text

from netstack.errors import ConfigError
from netstack.wire.dns_data import TYPE_NAMES, rdata_build, type_number

# --------------------------------------------------------------------- search


cdef const dns_table_node *find_node(const dns_table *t, const uint8_t *name, size_t length) noexcept nogil:
    """The node of exactly this name (lower case), or NULL."""
    cdef uint64_t h = siphash_bytes(name, length, t.k0, t.k1)
    cdef uint32_t slot = <uint32_t>h & t.slot_mask
    cdef const dns_table_node *node
    while t.slots[slot] >= 0:
        node = &t.nodes[t.slots[slot]]
        if node.hash == h and node.name_length == length and memcmp(node.name, name, length) == 0:
            return node
        slot = (slot + 1) & t.slot_mask
    return NULL


cdef const dns_table_node *dns_table_closest(const dns_table *t, const dns_name *name,
                                             bint *exact) noexcept nogil:
    """The node of the name or of its longest tail that the table holds (RFC 4592 section 3.3.1), or NULL."""
    cdef uint32_t pos = 0, labels = 0
    cdef const dns_table_node *node
    while name.bytes[pos]:
        labels += 1
        pos += 1 + name.bytes[pos]
    pos = 0
    while True:
        if labels <= t.labels_max:
            node = find_node(t, name.bytes + pos, name.length - pos)
            if node != NULL:
                exact[0] = pos == 0
                return node
        if labels == 0:
            return NULL
        labels -= 1
        pos += 1 + name.bytes[pos]


# --------------------------------------------------------------------- building


cdef class DnsTable:
    """An immutable table of names.

    ``names`` maps a name (``"web.internal"``, or ``"*.dev.internal"`` for every name below that the table does not
    hold) to what it stands for: an address, a ``(type, value)`` pair such as ``("CNAME", "web.internal")`` with
    values as :func:`netstack.wire.dns.rdata_build` takes them, or an iterable of both. Case does not matter. Below
    ``zones`` a name that is not in the table does not exist (NXDOMAIN) instead of being asked upstream. ``ttl``
    (seconds) is that of every record; 0 lets a change of names show at once. ``server`` is the name of the server
    in SOA and NS records. With ``reverse`` each address that a name stands for gets a PTR record, unless the table
    has one, to the first such name.

    An alias whose target is not in the table is answered by its CNAME record alone.

    Raises:
        ConfigError: a name or value cannot be used, an alias beside other records, aliases in a circle.
    """

    def __cinit__(self):
        memset(&self.table, 0, sizeof(dns_table))

    def __init__(
        self, names=(), *, zones=(), unsigned int ttl=0, server="gateway.internal", bint reverse=False
    ):
        if self.table.nodes != NULL:
            raise RuntimeError("a DnsTable cannot be filled twice")
        cdef dict nodes = {}
        for text, values in dict(names).items():
            wire = _owner(text)
            for kind, value in _pairs(text, values):
                _add(nodes, wire, text, kind, value)
        if reverse:
            _add_reverse(nodes)
        self.zones = tuple(dict.fromkeys(_owner(zone) for zone in zones))
        host = _owner(server)
        soa = rdata_build("SOA", (name_to_text(host), _mailbox(host), 1, 3600, 600, 86400, ttl))
        for zone in self.zones:
            records = nodes.setdefault(zone, [])
            if any(kind == DNS_TYPE_CNAME for kind, _ in records):
                raise ConfigError(f"DNS zone {name_to_text(zone)} cannot be an alias")
            records += [(DNS_TYPE_SOA, soa), (DNS_TYPE_NS, host)]
        for wire in list(nodes):    # the tails of a name exist too, though nothing may stand there
            tail = wire
            while tail[0] and tail not in self.zones:
                tail = tail[1 + tail[0]:]
                if tail[0]:
                    nodes.setdefault(tail, [])
        _check_aliases(nodes)
        self._fill(nodes, soa, ttl)
        self.names = {
            name_to_text(wire): tuple((TYPE_NAMES.get(kind, f"TYPE{kind}"), data) for kind, data in records)
            for wire, records in nodes.items() if records
        }
        self.zones = tuple(name_to_text(zone) for zone in self.zones)

    cdef int _fill(self, dict nodes, bytes soa, uint32_t ttl) except -1:
        cdef dns_table *t = &self.table
        cdef dns_table_node *node
        cdef uint8_t *p
        cdef uint32_t size = 8, slot, i = 0, r = 0, labels
        cdef size_t total = len(soa)
        cdef size_t records = 0
        cdef bytes wire, data, tail
        cdef int kind
        for wire, listed in nodes.items():
            records += len(listed)
            total += len(wire) + sum(len(data) for _, data in listed)
        while size < 2 * <uint32_t>len(nodes) + 2:
            size *= 2
        t.node_count = <uint32_t>len(nodes)
        t.nodes = <dns_table_node *>calloc(t.node_count + 1, sizeof(dns_table_node))
        t.records = <dns_table_record *>calloc(records + 1, sizeof(dns_table_record))
        t.bytes = <uint8_t *>malloc(total)
        t.slots = <int32_t *>malloc(size * sizeof(int32_t))
        if t.nodes == NULL or t.records == NULL or t.bytes == NULL or t.slots == NULL:
            raise MemoryError("no memory for a DNS table")
        memset(t.slots, 0xff, size * sizeof(int32_t))
        t.slot_mask = size - 1
        secret = os.urandom(16)
        t.k0 = int.from_bytes(secret[:8], "little")
        t.k1 = int.from_bytes(secret[8:], "little")
        p = t.bytes
        _put_record(&t.soa, DNS_TYPE_SOA, ttl, soa, &p)
        numbers = {}
        for wire, listed in nodes.items():
            node = &t.nodes[i]
            numbers[wire] = i
            memcpy(p, <const uint8_t *>wire, len(wire))
            node.name = p
            node.name_length = <uint8_t>len(wire)
            p += len(wire)
            node.hash = siphash_bytes(node.name, node.name_length, t.k0, t.k1)
            node.wildcard = -1
            node.first = r
            node.count = <uint32_t>len(listed)
            for kind, data in listed:
                _put_record(&t.records[r], <uint16_t>kind, ttl, data, &p)
                r += 1
            labels = 0
            tail = wire
            while True:
                if node.zone_length == 0 and tail in self.zones:
                    node.zone_length = <uint8_t>len(tail)
                if tail[0] == 0:
                    break
                labels += 1
                tail = tail[1 + tail[0]:]
            t.labels_max = max(t.labels_max, labels)
            slot = <uint32_t>node.hash & t.slot_mask
            while t.slots[slot] >= 0:
                slot = (slot + 1) & t.slot_mask
            t.slots[slot] = <int32_t>i
            i += 1
        for wire, number in numbers.items():
            if wire[:2] == b"\x01*":
                parent = numbers.get(wire[2:])
                if parent is not None:
                    t.nodes[<uint32_t>parent].wildcard = <int32_t>number
        return 0

    cdef const dns_table *pointer(self) noexcept:
        return &self.table

    def __dealloc__(self):
        free(self.table.nodes)
        free(self.table.records)
        free(self.table.bytes)
        free(self.table.slots)

    def __len__(self):
        return len(self.names)

    def __contains__(self, name):
        return isinstance(name, str) and name_to_text(_owner(name)) in self.names

    def __repr__(self):
        return f"<DnsTable of {len(self.names)} names, zones {', '.join(self.zones) or 'none'}>"


cdef void _put_record(dns_table_record *rr, uint16_t type, uint32_t ttl, bytes data, uint8_t **p):
    rr.type = type
    rr.ttl = ttl
    rr.rdlength = <uint16_t>len(data)
    rr.rdata = p[0]
    memcpy(p[0], <const uint8_t *>data, len(data))
    p[0] += len(data)


cdef bytes _owner(text):
    """Wire bytes of a name in lower case."""
    try:
        return name_from_text(text).lower()
    except (ValueError, TypeError) as err:
        raise ConfigError(f"{text!r} is not a DNS name: {err}") from None


cdef str _mailbox(bytes host):
    """The mailbox of a SOA record: hostmaster of the server, or just that where the name would be too long."""
    label = b"\x0ahostmaster"
    return name_to_text(label + host) if len(host) + len(label) <= 255 else "hostmaster"


def _pairs(text, values):
    """(type number, value) of everything that a name stands for."""
    if isinstance(values, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        values = (values,)
    elif isinstance(values, tuple) and len(values) == 2 and _is_type(values[0]):
        values = (values,)
    for value in values:
        if isinstance(value, tuple) and len(value) == 2:
            try:
                yield type_number(value[0]), value[1]
            except (ValueError, AttributeError) as err:
                raise ConfigError(f"DNS name {text}: {err}") from None
        else:
            try:
                address = ipaddress.ip_address(value)
            except ValueError:
                raise ConfigError(
                    f"DNS name {text}: {value!r} is neither an address nor (type, value)"
                ) from None
            yield (DNS_TYPE_A if address.version == 4 else DNS_TYPE_AAAA), address


cdef bint _is_type(value):
    try:
        type_number(value)
    except (ValueError, AttributeError):
        return False
    return True


cdef int _add(dict nodes, bytes wire, str text, int kind, value) except -1:
    if kind == 0 or kind in (DNS_TYPE_OPT, DNS_TYPE_SOA) or 128 <= kind <= 255:
        raise ConfigError(f"DNS name {text}: type {TYPE_NAMES.get(kind, kind)} cannot stand in a table")
    try:
        data = rdata_build(kind, value)
    except ValueError as err:
        raise ConfigError(f"DNS name {text}: {err}") from None
    if len(data) > 0xffff - 300:
        raise ConfigError(f"DNS name {text}: the data of a record are too long")
    if kind == DNS_TYPE_CNAME and isinstance(value, bytes):
        try:
            name_to_text(data)
        except ValueError as err:
            raise ConfigError(f"DNS name {text}: an alias must be a whole name: {err}") from None
    records = nodes.setdefault(wire, [])
    if (kind, data) not in records:
        records.append((kind, data))
    return 0


cdef int _add_reverse(dict nodes) except -1:
    for wire, records in list(nodes.items()):
        if wire[:2] == b"\x01*":
            continue
        for kind, data in records:
            if kind in (DNS_TYPE_A, DNS_TYPE_AAAA):
                pointer = name_from_text(ipaddress.ip_address(data).reverse_pointer)
                if pointer not in nodes:
                    nodes[pointer] = [(DNS_TYPE_PTR, wire)]
    return 0


cdef list _found(dict nodes, bytes wire):
    """What the table answers for a name, wildcards included."""
    tail = wire
    while tail not in nodes and tail[0]:
        tail = tail[1 + tail[0]:]
    return nodes.get(wire if tail == wire else b"\x01*" + tail, [])


cdef int _check_aliases(dict nodes) except -1:
    for wire, records in nodes.items():
        if not any(kind == DNS_TYPE_CNAME for kind, _ in records):
            continue
        if len(records) > 1:
            raise ConfigError(f"DNS name {name_to_text(wire)}: an alias must be the only record of its name")
        seen = {wire}
        at = wire
        while True:
            targets = [data.lower() for kind, data in _found(nodes, at) if kind == DNS_TYPE_CNAME]
            if not targets:
                break
            at = targets[0]
            if at in seen:
                raise ConfigError(f"DNS name {name_to_text(wire)}: its aliases run in a circle")
            seen.add(at)
            if len(seen) > CHAIN_MAX:
                raise ConfigError(f"DNS name {name_to_text(wire)}: more than {CHAIN_MAX} aliases in a row")
    return 0
