"""DHCPv4 messages: golden bytes, scapy both ways, options in every shape, damaged input."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from netstack.errors import WireError
from netstack.wire.dhcp4 import DISCOVER, REQUEST, DhcpMessage

MAC = b"\x02\x00\x00\x00\x00\x01"
FIXED = bytes.fromhex(
    "01 01 06 00 3903f326 0000 8000 00000000 00000000 00000000 00000000 020000000001 00000000000000000000"
) + bytes(192)
COOKIE = bytes.fromhex("63825363")
DISCOVER_BYTES = FIXED + COOKIE + bytes.fromhex("350101 3204c0a84109 3702 0103 ff")

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
address = st.ip_addresses(v=4)
codes = st.integers(1, 254).filter(lambda c: c != 52)


def message(options, sname=b"", file=b""):
    """Raw bytes with these bytes as the options field."""
    return FIXED[:44] + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + COOKIE + options


def test_golden_discover():
    m = DhcpMessage.parse(DISCOVER_BYTES)
    assert (m.op, m.htype, m.hops, m.xid, m.secs, m.flags) == (1, 1, 0, 0x3903F326, 0, 0x8000)
    assert m.broadcast
    assert m.chaddr == MAC
    assert m.message_type == DISCOVER
    assert m.requested_address == IPv4Address("192.168.65.9")
    assert m.parameter_list == (1, 3)
    assert m.options == {53: b"\1", 50: bytes([192, 168, 65, 9]), 55: b"\1\3"}
    assert m.build(minimum=0) == DISCOVER_BYTES
    assert m.build() == DISCOVER_BYTES.ljust(300, b"\0")
    for part in ("DISCOVER", "xid=0x3903f326", "chaddr=02:00:00:00:00:01", "50: c0a84109"):
        assert part in repr(m)


@settings(max_examples=60)
@given(u32, u16, address, address, address, u32, st.binary(min_size=6, max_size=6))
def test_reads_what_scapy_writes(xid, secs, ciaddr, yiaddr, giaddr, lease, mac):
    packet = BOOTP(
        op=2,
        xid=xid,
        secs=secs,
        ciaddr=str(ciaddr),
        yiaddr=str(yiaddr),
        giaddr=str(giaddr),
        chaddr=mac,
        sname=b"srv",
    ) / DHCP(
        options=[
            ("message-type", "offer"),
            ("lease_time", lease),
            ("server_id", "10.0.0.1"),
            ("router", "10.0.0.1", "10.0.0.2"),
            ("hostname", b"web"),
            ("interface-mtu", 1400),
            "end",
        ]
    )
    raw = bytearray(bytes(packet))
    raw[2] = 6
    m = DhcpMessage.parse(raw)
    assert (m.op, m.xid, m.secs, m.chaddr, m.sname) == (2, xid, secs, mac, b"srv")
    assert (m.ciaddr, m.yiaddr, m.giaddr) == (ciaddr, yiaddr, giaddr)
    assert (m.message_type, m.lease_time, m.hostname, m.mtu) == (2, lease, "web", 1400)
    assert m.server_id == IPv4Address("10.0.0.1")
    assert m.routers == (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))


@settings(max_examples=60)
@given(u32, address, st.binary(max_size=16), st.dictionaries(codes, st.binary(max_size=200), max_size=12))
def test_round_trip_and_scapy_reads_what_we_write(xid, yiaddr, chaddr, options):
    m = DhcpMessage(2, xid, chaddr, options, yiaddr=yiaddr, siaddr="1.2.3.4", flags=0x8000, file=b"boot")
    raw = m.build()
    assert len(raw) >= 300
    assert DhcpMessage.parse(raw) == m
    packet = BOOTP(raw)
    assert (packet.op, packet.xid, packet.yiaddr, packet.siaddr) == (2, xid, str(yiaddr), "1.2.3.4")
    assert packet.hlen == len(chaddr)


def test_scapy_reads_our_options():
    m = DhcpMessage(1, 1, MAC)
    m.message_type = REQUEST
    m.lease_time = 3600
    m.server_id = "10.0.0.1"
    m.dns_servers = ["10.0.0.1", "10.0.0.2"]
    m.domain = "internal"
    m.mtu = 1500
    m.client_id = b"\1" + MAC
    options = BOOTP(m.build())[DHCP].options
    assert ("message-type", 3) in options
    assert ("lease_time", 3600) in options
    assert ("server_id", "10.0.0.1") in options
    assert ("name_server", "10.0.0.1", "10.0.0.2") in options
    assert ("domain", b"internal") in options
    assert ("interface-mtu", 1500) in options


@pytest.mark.parametrize("size", [0, 1, 255, 256, 510, 511, 1200])
def test_long_options_go_in_pieces_and_are_joined(size):
    data = bytes(i % 251 for i in range(size))
    m = DhcpMessage(options={250: data, 53: b"\1"})
    raw = m.build(minimum=0)
    assert len(raw) == 240 + size + 2 * max(1, -(-size // 255)) + 3 + 1
    assert DhcpMessage.parse(raw).options == {250: data, 53: b"\1"}


def test_pieces_need_not_be_neighbours():
    raw = message(b"\xfa\x02ab\x35\x01\x01\xfa\x01c\xff")
    assert DhcpMessage.parse(raw).options[250] == b"abc"


def test_pad_end_and_no_end():
    assert DhcpMessage.parse(message(b"\0\0\x35\x01\x01\0\x0c\x01h\xff\x0c\x01x")).hostname == "h"
    assert DhcpMessage.parse(message(b"\x0c\x01h")).hostname == "h"
    assert DhcpMessage.parse(message(b"")).options == {}


@pytest.mark.parametrize(
    ("overload", "expected", "sname", "file"),
    [
        (1, b"ofile", b"\x0c\x05sname\xff", b""),
        (2, b"osname", b"", b"\x0c\x04file\xff"),
        (3, b"ofilesname", b"", b""),
    ],
)
def test_overload(overload, expected, sname, file):
    """Options field, then file, then sname (RFC 3396 section 5), each to its own END."""
    raw = message(
        b"\x34\x01" + bytes([overload]) + b"\x0c\x01o\xff", b"\x0c\x05sname\xff", b"\x0c\x04file\xff\x0c\x01z"
    )
    m = DhcpMessage.parse(raw)
    assert m.options == {12: expected}
    assert m.sname == sname
    assert (m.file == b"") == bool(overload & 1)
    if file:
        assert m.file.startswith(file)


@pytest.mark.parametrize(
    "options", [b"\x34\x01\x00", b"\x34\x01\x04", b"\x34\x02\x01\x01", b"\x34\x01\x01\x34\x01\x01"]
)
def test_bad_overload(options):
    with pytest.raises(WireError, match="bad option"):
        DhcpMessage.parse(message(options + b"\xff"))


def test_overload_inside_an_overloaded_field():
    with pytest.raises(WireError, match="bad option"):
        DhcpMessage.parse(message(b"\x34\x01\x01\xff", file=b"\x34\x01\x02\xff"))


@pytest.mark.parametrize("options", [b"\x35", b"\x35\x02\x01", b"\x0c\xff" + b"x" * 254, b"\x35\x01\x01\x0c"])
def test_option_past_its_field(options):
    with pytest.raises(WireError, match="bad option"):
        DhcpMessage.parse(message(options))


def test_option_past_an_overloaded_field():
    with pytest.raises(WireError, match="bad option"):
        DhcpMessage.parse(message(b"\x34\x01\x02\xff", sname=b"\x0c\x3f" + b"x" * 62))


def test_too_many_pieces():
    assert len(DhcpMessage.parse(message(b"\xfa\x01x" * 256)).options[250]) == 256
    with pytest.raises(WireError, match="bad option"):
        DhcpMessage.parse(message(b"\xfa\x01x" * 257))


def test_header_that_cannot_be():
    for at, value, what in (
        (0, 0, "bad value"),
        (0, 3, "bad value"),
        (2, 17, "bad length"),
        (236, 0, "bad value"),
    ):
        raw = bytearray(DISCOVER_BYTES)
        raw[at] = value
        with pytest.raises(WireError, match=what):
            DhcpMessage.parse(raw)
    with pytest.raises(WireError, match="bad length"):
        DhcpMessage.parse(message(bytes(65536)))


def test_every_prefix():
    """Under 240 bytes it is no message; above, an option that is cut is refused and a whole one is read."""
    whole = {240, 243, 249, 253, 254}
    for n in range(len(DISCOVER_BYTES) + 1):
        if n in whole:
            DhcpMessage.parse(DISCOVER_BYTES[:n])
        else:
            with pytest.raises(WireError):
                DhcpMessage.parse(DISCOVER_BYTES[:n])


@settings(max_examples=300)
@given(st.binary(max_size=120), st.integers(0, 3))
def test_noise_in_the_options(noise, overload):
    prefix = b"\x34\x01" + bytes([overload]) if overload else b""
    try:
        m = DhcpMessage.parse(message(prefix + noise, noise[:64], noise))
    except WireError:
        return
    repr(m)
    again = DhcpMessage.parse(m.build())
    assert again.options == m.options


@pytest.mark.parametrize(
    ("name", "code", "good", "bad"),
    [
        ("message_type", 53, b"\1", b""),
        ("message_type", 53, b"\1", b"\1\1"),
        ("lease_time", 51, b"\0\0\0\1", b"\0\0\1"),
        ("max_message_size", 57, b"\2\0", b"\2"),
        ("requested_address", 50, b"\1\2\3\4", b"\1\2\3"),
        ("server_id", 54, b"\1\2\3\4", b"\1\2\3\4\5"),
        ("routers", 3, b"\1\2\3\4", b"\1\2\3\4\5"),
        ("client_id", 61, b"\1x", b"\1"),
    ],
)
def test_typed_options_check_their_length(name, code, good, bad):
    assert getattr(DhcpMessage(options={code: good}), name) is not None
    with pytest.raises(WireError, match="bad option"):
        getattr(DhcpMessage(options={code: bad}), name)


def test_typed_options_absent_set_and_cleared():
    m = DhcpMessage()
    for name, value, raw in (
        ("message_type", 5, {53: b"\5"}),
        ("renewal_time", 1, {58: b"\0\0\0\1"}),
        ("rebinding_time", 2, {59: b"\0\0\0\2"}),
        ("subnet_mask", IPv4Address("255.0.0.0"), {1: b"\xff\0\0\0"}),
        ("broadcast_address", IPv4Address("10.255.255.255"), {28: b"\x0a\xff\xff\xff"}),
        ("message", "no", {56: b"no"}),
        ("client_id", b"\1ab", {61: b"\1ab"}),
    ):
        assert getattr(m, name) is None
        setattr(m, name, value)
        assert m.options == raw
        assert getattr(m, name) == value
        setattr(m, name, None)
        assert m.options == {}
    for name, value in (("routers", (IPv4Address("1.2.3.4"),)), ("parameter_list", (1, 3, 6))):
        assert getattr(m, name) == ()
        setattr(m, name, value)
        assert getattr(m, name) == value
        setattr(m, name, ())
        assert m.options == {}
    assert DhcpMessage(options={12: b"web\0"}).hostname == "web"
    assert DhcpMessage(options={12: b"w\xffb"}).hostname == "w\\xffb"
    m.broadcast = True
    assert m.flags == 0x8000
    m.broadcast = False
    assert m.flags == 0


def test_message_that_cannot_be_written():
    for bad in (
        DhcpMessage(256),
        DhcpMessage(xid=-1),
        DhcpMessage(chaddr=bytes(17)),
        DhcpMessage(sname=bytes(65)),
        DhcpMessage(file=bytes(129)),
        DhcpMessage(options={0: b""}),
        DhcpMessage(options={52: b"\1"}),
        DhcpMessage(options={255: b""}),
        DhcpMessage(options={250: bytes(65536)}),
    ):
        with pytest.raises(WireError):
            bad.build()
    with pytest.raises(WireError):
        DhcpMessage().mtu = 65536
