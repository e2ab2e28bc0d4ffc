"""IPv4, IPv6 and Ethernet addresses between C and Python."""

import ipaddress

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

cdef object IPv4Address = ipaddress.IPv4Address
cdef object IPv6Address = ipaddress.IPv6Address
cdef object ip_address = ipaddress.ip_address


cdef addr_t addr_from_object(object value) except *:
    cdef bytes packed
    if isinstance(value, str):
        value = ip_address(value)
    if isinstance(value, (IPv4Address, IPv6Address)):
        packed = value.packed
    elif isinstance(value, (bytes, bytearray, memoryview)):
        packed = bytes(value)
        if len(packed) != 4 and len(packed) != 16:
            raise ValueError(f"an address has 4 or 16 bytes, not {len(packed)}")
    elif isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= 0xffffffff:
            raise ValueError(f"{value} is not an IPv4 address: it does not fit 32 bits")
        return addr_from_v4(<uint32_t>value)
    else:
        raise TypeError(
            f"an address is a str, an ipaddress object, an int (IPv4) or bytes, not {type(value).__name__}"
        )
    return addr_from_bytes(packed)


cdef addr_t addr_from_bytes(bytes packed) noexcept:
    """packed has 4 or 16 bytes."""
    cdef const uint8_t *p = packed
    if len(packed) == 4:
        return addr_from_v4((<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3])
    return addr_from_v6(p)


cdef object addr_to_object(const addr_t *a):
    if addr_is_v4(a):
        return IPv4Address(addr_v4(a))
    return addr_to_v6_object(a)


cdef object addr_to_v6_object(const addr_t *a):
    return IPv6Address(PyBytes_FromStringAndSize(<const char *>a, 16))


cdef uint32_t v4_from_object(object value) except? 0xffffffff:
    cdef addr_t a = addr_from_object(value)
    if not addr_is_v4(&a):
        raise ValueError(f"{value} is not an IPv4 address")
    return addr_v4(&a)


cdef object v4_to_object(uint32_t v4):
    return IPv4Address(v4)


cdef int mac_from_object(object value, uint8_t *out) except -1:
    cdef bytes packed
    cdef list parts
    if isinstance(value, str):
        parts = value.replace("-", ":").split(":")
        try:
            if len(parts) != 6:
                raise ValueError
            packed = bytes([int(part, 16) for part in parts])
        except ValueError:
            raise ValueError(f"{value!r} is not an Ethernet address such as 02:00:00:00:00:01") from None
    elif isinstance(value, (bytes, bytearray, memoryview)):
        packed = bytes(value)
        if len(packed) != 6:
            raise ValueError(f"an Ethernet address has 6 bytes, not {len(packed)}")
    else:
        raise TypeError(f"an Ethernet address is a str or 6 bytes, not {type(value).__name__}")
    memcpy(out, <const char *>packed, 6)
    return 0


cdef str mac_to_str(const uint8_t *mac):
    return "%02x:%02x:%02x:%02x:%02x:%02x" % (mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])


def parse_address(value):
    """The ipaddress object for a str, an int (IPv4), 4 or 16 bytes or an ipaddress object.

    An IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) is its IPv4 address: that is how netstack holds
    IPv4.

    Raises:
        ValueError: the value is no address.
        TypeError: it is of another type.
    """
    cdef addr_t a = addr_from_object(value)
    return addr_to_object(&a)


def parse_mac(value):
    """The usual text (``02:00:00:00:00:01``) of an Ethernet address given as str or 6 bytes.

    Raises:
        ValueError: the value is no Ethernet address.
        TypeError: it is of another type.
    """
    cdef uint8_t mac[6]
    mac_from_object(value, mac)
    return mac_to_str(mac)
